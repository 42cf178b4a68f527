//! BTF as C declarations, in an order that compiles.
//!
//! A definition needs the types of its members defined; what stands behind a pointer needs a declaration only. Structs
//! without a name are written where they are used. Names that occur twice get `___2`, `___3`, …, which CO-RE takes for
//! flavours of one name. Layout that the members alone do not give (packing, gaps) is written out, see [`layout`].

mod declare;
mod layout;

use crate::{Btf, EnumValue, Kind, Type};
use std::collections::HashMap;
use std::fmt::Write;

/// Nesting of types behind each other and within each other; deeper BTF is written incompletely.
const DEPTH_MAX: usize = 256;

/// Steps and bytes of names that are spent at most: for each byte of BTF, and for any. The kernel's BTF takes a twentieth of it.
const BUDGET_PER_BYTE: usize = 64;
const BUDGET_MIN: usize = 1 << 16;

/// A type that compilers have built in, whatever the machine makes it of; and the typedef of it in their headers.
const BUILTIN_VA_LIST: &str = "__builtin_va_list";
const VA_LIST: &str = "__gnuc_va_list";

/// C declarations of `roots` and all they need; of every type without roots.
#[must_use]
pub fn declarations(btf: &Btf, roots: Option<&[u32]>) -> String {
    let mut writer = Writer::new(btf);
    match roots {
        Some(ids) => {
            for ty in ids.iter().filter_map(|id| btf.get(*id)) {
                writer.root(ty);
            }
        }
        None => {
            for ty in btf.types().filter(|t| t.id() != 0) {
                writer.root(ty);
            }
        }
    }
    writer.out
}

/// As [`declarations`], with what a header for CO-RE programs has around it.
#[must_use]
pub fn header(btf: &Btf, roots: Option<&[u32]>) -> String {
    format!(
        "#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\n\n\
         #ifndef BPF_NO_PRESERVE_ACCESS_INDEX\n\
         #pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)\n#endif\n\n\
         {}#ifndef BPF_NO_PRESERVE_ACCESS_INDEX\n#pragma clang attribute pop\n#endif\n\n\
         #endif /* __VMLINUX_H__ */\n",
        declarations(btf, roots)
    )
}

/// How much of a type must be known where it is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Need {
    /// That it exists.
    Declared,
    /// All of it.
    Defined,
}

/// How far a type is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Progress {
    #[default]
    Nothing,
    Declared,
    /// Its members are being looked at.
    Busy,
    Defined,
}

struct Writer<'a> {
    btf: &'a Btf,
    out: String,
    progress: Vec<Progress>,
    /// Types that are written inside of others.
    inline: Vec<bool>,
    names: Names,
    layouts: layout::Cache,
    /// What is left to spend; types without names may multiply.
    budget: usize,
}

/// Names that are taken: tags of structs, unions and enums on the one side, all other identifiers on the other.
#[derive(Default)]
struct Names {
    of_type: HashMap<u32, String>,
    tags: HashMap<String, u32>,
    identifiers: HashMap<String, u32>,
}

/// `name`, or with a number behind if it is taken.
fn unique(taken: &mut HashMap<String, u32>, name: &str) -> String {
    let count = taken.entry(name.to_owned()).or_default();
    *count += 1;
    if *count == 1 {
        name.to_owned()
    } else {
        format!("{name}___{count}")
    }
}

/// A name as C takes it: other compilers' names have more letters than C knows.
fn identifier(name: &str) -> String {
    let letter = |(at, c): (usize, char)| match c {
        'a'..='z' | 'A'..='Z' | '_' => c,
        '0'..='9' if at > 0 => c,
        _ => '_',
    };
    name.chars().enumerate().map(letter).collect()
}

impl<'a> Writer<'a> {
    fn new(btf: &'a Btf) -> Self {
        let count = btf.type_count() as usize;
        let bytes = btf.bytes().len() + btf.base().map_or(0, |b| b.bytes().len());
        let mut writer = Self {
            btf,
            out: String::new(),
            progress: vec![Progress::default(); count],
            inline: vec![false; count],
            names: Names::default(),
            layouts: layout::Cache::new(count),
            budget: BUDGET_PER_BYTE * bytes + BUDGET_MIN,
        };
        for ty in btf.types() {
            writer.mark_inline(ty);
        }
        writer
    }

    /// Pays for a look at a type; false if nothing is left.
    fn spend(&mut self, ty: Type<'_>) -> bool {
        let cost = 1 + ty.name().len();
        let left = self.budget.checked_sub(cost);
        self.budget = left.unwrap_or(0);
        left.is_some()
    }

    /// Marks the types without name that `ty` refers to: they are written there.
    fn mark_inline(&mut self, ty: Type<'_>) {
        let mut mark = |id: u32| {
            if let Some(place) = self.inline.get_mut(id as usize) {
                *place = true;
            }
        };
        ty.type_id().into_iter().for_each(&mut mark);
        ty.array().into_iter().for_each(|a| mark(a.element));
        ty.members().for_each(|m| mark(m.type_id));
        ty.params().for_each(|p| mark(p.type_id));
        if ty.kind() == Kind::FuncProto {
            mark(ty.size_or_type());
        }
    }

    /// Writes a type at the top level, if it is one that stands there.
    fn root(&mut self, ty: Type<'a>) {
        match ty.kind() {
            Kind::Struct | Kind::Union if !ty.name().is_empty() => {
                self.need(ty, Need::Defined, DEPTH_MAX);
            }
            Kind::Enum | Kind::Enum64 => {
                let written_elsewhere = ty.name().is_empty() && self.inline[ty.id() as usize];
                if !written_elsewhere {
                    self.define_enum(ty);
                }
            }
            Kind::Typedef => self.need(ty, Need::Declared, DEPTH_MAX),
            Kind::Fwd => self.declare(ty),
            _ => {}
        }
    }

    /// Writes what must stand before a use of `ty`.
    fn need(&mut self, ty: Type<'a>, need: Need, depth: usize) {
        let (Some(depth), true) = (depth.checked_sub(1), self.spend(ty)) else {
            return;
        };
        let behind = |ty: Type<'a>| ty.target();
        match ty.kind() {
            Kind::Ptr => {
                behind(ty)
                    .into_iter()
                    .for_each(|t| self.need(t, Need::Declared, depth));
            }
            Kind::Const | Kind::Volatile | Kind::Restrict | Kind::TypeTag => {
                behind(ty)
                    .into_iter()
                    .for_each(|t| self.need(t, need, depth));
            }
            Kind::Array => {
                let element = ty.array().and_then(|a| self.btf.get(a.element));
                element
                    .into_iter()
                    .for_each(|t| self.need(t, Need::Defined, depth));
            }
            Kind::FuncProto => {
                let result = self.btf.get(ty.size_or_type());
                let params = ty.params().filter_map(|p| self.btf.get(p.type_id));
                for used in params.chain(result).collect::<Vec<_>>() {
                    self.need(used, Need::Declared, depth);
                }
            }
            Kind::Typedef => self.typedef(ty, need, depth),
            Kind::Struct | Kind::Union if ty.name().is_empty() => self.members(ty, depth),
            Kind::Struct | Kind::Union => match need {
                Need::Declared => self.declare(ty),
                Need::Defined => self.define(ty, depth),
            },
            Kind::Enum | Kind::Enum64 if !ty.name().is_empty() => self.define_enum(ty),
            Kind::Fwd => self.declare(ty),
            Kind::Int | Kind::Float => self.base_type(ty),
            _ => {}
        }
    }

    fn members(&mut self, ty: Type<'a>, depth: usize) {
        for member in ty.members() {
            if let Some(inner) = self.btf.get(member.type_id) {
                self.need(inner, Need::Defined, depth);
            }
        }
    }

    /// `struct name;`
    fn declare(&mut self, ty: Type<'a>) {
        if self.progress[ty.id() as usize] != Progress::Nothing {
            return;
        }
        self.progress[ty.id() as usize] = Progress::Declared;
        let tag = self.tag(ty);
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "{tag};\n");
    }

    fn define(&mut self, ty: Type<'a>, depth: usize) {
        let id = ty.id() as usize;
        if matches!(self.progress[id], Progress::Busy | Progress::Defined) {
            return;
        }
        self.progress[id] = Progress::Busy;
        self.members(ty, depth);
        self.progress[id] = Progress::Defined;
        let body = self.composite(ty, 0, depth);
        self.out += &body;
        self.out += ";\n\n";
    }

    fn define_enum(&mut self, ty: Type<'a>) {
        let id = ty.id() as usize;
        if self.progress[id] == Progress::Defined {
            return;
        }
        self.progress[id] = Progress::Defined;
        let body = self.enumeration(ty, 0);
        self.out += &body;
        self.out += ";\n\n";
    }

    fn typedef(&mut self, ty: Type<'a>, need: Need, depth: usize) {
        let id = ty.id() as usize;
        let target = ty.target();
        if self.progress[id] == Progress::Nothing {
            self.progress[id] = Progress::Defined;
            if ty.name() == BUILTIN_VA_LIST {
                return;
            }
            target
                .into_iter()
                .for_each(|t| self.need(t, Need::Declared, depth));
            self.progress[id] = Progress::Declared;
            let name = self.identifier_of(ty);
            let text = match target {
                _ if ty.name() == VA_LIST => format!("{BUILTIN_VA_LIST} {name}"),
                Some(target) => self.declaration(target, &name, 0, depth),
                None => format!("void {name}"),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(self.out, "typedef {text};\n");
        }
        if need == Need::Defined && self.progress[id] == Progress::Declared {
            self.progress[id] = Progress::Defined;
            target
                .into_iter()
                .for_each(|t| self.need(t, Need::Defined, depth));
        }
    }

    /// Integers of other languages have names that C does not know.
    fn base_type(&mut self, ty: Type<'a>) {
        let id = ty.id() as usize;
        if self.progress[id] != Progress::Nothing || declare::is_c_number(ty.name()) {
            return;
        }
        self.progress[id] = Progress::Defined;
        let name = self.identifier_of(ty);
        let _ = writeln!(self.out, "typedef {} {name};\n", declare::c_number(ty));
    }

    /// `struct name`, with the name that this type got.
    fn tag(&mut self, ty: Type<'a>) -> String {
        let word = declare::tag_word(ty);
        // A type that another unit only declares is the one of that name.
        if ty.kind() == Kind::Fwd {
            return format!("{word} {}", identifier(ty.name()));
        }
        let Names { of_type, tags, .. } = &mut self.names;
        let name = of_type
            .entry(ty.id())
            .or_insert_with(|| unique(tags, &identifier(ty.name())));
        format!("{word} {name}")
    }

    /// The name that a typedef or foreign number got.
    fn identifier_of(&mut self, ty: Type<'a>) -> String {
        let Names {
            of_type,
            identifiers,
            ..
        } = &mut self.names;
        let name = of_type
            .entry(ty.id())
            .or_insert_with(|| unique(identifiers, &identifier(ty.name())));
        name.clone()
    }

    /// `enum name { A = 0 }`
    fn enumeration(&mut self, ty: Type<'a>, indent: usize) -> String {
        let mut text = if ty.name().is_empty() {
            "enum".to_owned()
        } else {
            self.tag(ty)
        };
        if ty.vlen() == 0 {
            return text;
        }
        text += " {\n";
        for value in ty.enum_values() {
            let name = unique(&mut self.names.identifiers, &identifier(value.name));
            let _ = writeln!(text, "{}{name} = {},", tabs(indent + 1), number(ty, value));
        }
        text += &tabs(indent);
        text.push('}');
        match ty.size_or_type() {
            1 => text += " __attribute__((mode(byte)))",
            2 => text += " __attribute__((mode(HI)))",
            // Values that fit fewer bytes do not make an enum of eight.
            8 if ty.enum_values().all(|v| i32::try_from(v.value).is_ok()) => {
                text += " __attribute__((mode(word)))";
            }
            _ => {}
        }
        text
    }
}

/// An enum's value as C writes it.
fn number(ty: Type<'_>, value: EnumValue<'_>) -> String {
    match (ty.kind(), ty.flag()) {
        (Kind::Enum64, true) => format!("{}LL", value.value),
        (Kind::Enum64, false) => format!("{}ULL", value.value.cast_unsigned()),
        (_, true) => value.value.to_string(),
        (_, false) => value.value.cast_unsigned().to_string(),
    }
}

fn tabs(count: usize) -> String {
    "\t".repeat(count)
}
