//! Declarations: types around names, bodies of structs.

use super::{Writer, identifier, tabs};
use crate::{Kind, Type};
use std::fmt::Write;

/// Names of numbers that C has itself.
const C_NUMBERS: &[&str] = &[
    "_Bool",
    "__int128",
    "__int128 unsigned",
    "char",
    "double",
    "float",
    "int",
    "long",
    "long double",
    "long int",
    "long long",
    "long long int",
    "long long unsigned int",
    "long unsigned int",
    "short",
    "short int",
    "short unsigned int",
    "signed char",
    "unsigned __int128",
    "unsigned char",
    "unsigned int",
    "unsigned long",
    "unsigned long long",
    "unsigned short",
];

pub(super) fn is_c_number(name: &str) -> bool {
    C_NUMBERS.contains(&name)
}

/// C's number of the size and sign of one that C does not know.
pub(super) fn c_number(ty: Type<'_>) -> String {
    let size = ty.size().unwrap_or(4);
    if ty.kind() == Kind::Float {
        return match size {
            8 => "double",
            16 => "long double",
            _ => "float",
        }
        .to_owned();
    }
    let int = ty.int();
    if int.is_some_and(crate::Int::is_bool) {
        return "_Bool".to_owned();
    }
    let word = match size {
        1 => "char",
        2 => "short",
        8 => "long long",
        16 => "__int128",
        _ => "int",
    };
    let sign = if int.is_some_and(crate::Int::is_signed) {
        "signed"
    } else {
        "unsigned"
    };
    format!("{sign} {word}")
}

/// The keyword before a tag.
pub(super) fn tag_word(ty: Type<'_>) -> &'static str {
    match ty.kind() {
        Kind::Union => "union",
        Kind::Enum | Kind::Enum64 => "enum",
        Kind::Fwd if ty.flag() => "union",
        _ => "struct",
    }
}

/// Type and name with a space between them, where there is a name.
fn join(ty: &str, name: &str) -> String {
    if name.is_empty() {
        ty.to_owned()
    } else {
        format!("{ty} {name}")
    }
}

impl<'a> Writer<'a> {
    /// `name` declared as a `ty`. C writes types around names, so the name grows while the type is taken apart.
    pub(super) fn declaration(
        &mut self,
        ty: Type<'a>,
        name: &str,
        indent: usize,
        depth: usize,
    ) -> String {
        let (Some(depth), true) = (depth.checked_sub(1), self.spend(ty)) else {
            return join("void", name);
        };
        let Some(target) = ty.target().filter(|_| ty.kind() != Kind::Typedef) else {
            return self.innermost(ty, name, indent, depth);
        };
        match ty.kind() {
            Kind::Ptr => {
                let name = match target.skip_modifiers().kind() {
                    Kind::Array | Kind::FuncProto => format!("(*{name})"),
                    _ => format!("*{name}"),
                };
                self.declaration(target, &name, indent, depth)
            }
            kind => {
                // A modified array is an array of modified elements, which a pointer's modifier is not: it stands with the
                // name.
                let behind = target.skip_modifiers().kind();
                let word = match kind {
                    Kind::Const => "const".to_owned(),
                    Kind::Volatile => "volatile".to_owned(),
                    Kind::Restrict => "restrict".to_owned(),
                    _ if ty.flag() => format!("__attribute__(({}))", ty.name()),
                    _ => format!("__attribute__((btf_type_tag(\"{}\")))", ty.name()),
                };
                match behind {
                    Kind::Array | Kind::FuncProto => self.declaration(target, name, indent, depth),
                    Kind::Ptr => {
                        let name = join(&word, name);
                        self.declaration(target, &name, indent, depth)
                    }
                    _ if kind == Kind::TypeTag => {
                        self.declaration(target, &join(&word, name), indent, depth)
                    }
                    _ => format!("{word} {}", self.declaration(target, name, indent, depth)),
                }
            }
        }
    }

    /// A type that is not made of another one by pointers and modifiers.
    fn innermost(&mut self, ty: Type<'a>, name: &str, indent: usize, depth: usize) -> String {
        match ty.kind() {
            Kind::Array => {
                let array = ty.array();
                let name = format!("{name}[{}]", array.map_or(0, |a| a.len));
                match array.and_then(|a| self.btf.get(a.element)) {
                    Some(element) => self.declaration(element, &name, indent, depth),
                    None => join("char", &name),
                }
            }
            Kind::FuncProto => {
                let name = format!("{name}({})", self.params(ty, indent, depth));
                match self.btf.get(ty.size_or_type()) {
                    Some(result) => self.declaration(result, &name, indent, depth),
                    None => join("void", &name),
                }
            }
            Kind::Struct | Kind::Union if ty.name().is_empty() => {
                join(&self.composite(ty, indent, depth), name)
            }
            Kind::Enum | Kind::Enum64 if ty.name().is_empty() => {
                join(&self.enumeration(ty, indent), name)
            }
            Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Fwd => {
                join(&self.tag(ty), name)
            }
            Kind::Typedef => join(&self.identifier_of(ty), name),
            Kind::Int | Kind::Float if !is_c_number(ty.name()) => {
                join(&self.identifier_of(ty), name)
            }
            Kind::Int | Kind::Float => join(ty.name(), name),
            _ => join("void", name),
        }
    }

    fn params(&mut self, ty: Type<'a>, indent: usize, depth: usize) -> String {
        let mut texts = Vec::new();
        for param in ty.params() {
            let name = identifier(param.name);
            texts.push(match self.btf.get(param.type_id) {
                _ if param.type_id == 0 && name.is_empty() => "...".to_owned(),
                Some(ty) => self.declaration(ty, &name, indent, depth),
                None => join("void", &name),
            });
        }
        match texts.as_slice() {
            [] => "void".to_owned(),
            // C knows no function with nothing but further parameters.
            [only] if only == "..." => String::new(),
            all => all.join(", "),
        }
    }

    /// `struct name { … }` with its layout.
    pub(super) fn composite(&mut self, ty: Type<'a>, indent: usize, depth: usize) -> String {
        let mut text = if ty.name().is_empty() {
            tag_word(ty).to_owned()
        } else {
            self.tag(ty)
        };
        let Some(depth) = depth.checked_sub(1) else {
            return text + " {}";
        };
        let layout = self.layouts.of(ty);
        text += " {\n";
        let inside = tabs(indent + 1);
        for (member, gap) in ty.members().zip(&layout.gaps) {
            for padding in gap {
                let _ = writeln!(text, "{inside}{padding};");
            }
            let mut name = identifier(member.name);
            if let Some(bits) = super::layout::bitfield(self.btf, &member) {
                let _ = write!(name, ": {bits}");
            }
            let line = match self.btf.get(member.type_id) {
                Some(inner) => self.declaration(inner, &name, indent + 1, depth),
                None => join("char", &name),
            };
            let _ = writeln!(text, "{inside}{line};");
        }
        for padding in &layout.tail {
            let _ = writeln!(text, "{inside}{padding};");
        }
        text += &tabs(indent);
        text.push('}');
        if layout.packed {
            text += " __attribute__((packed))";
        }
        if let Some(bytes) = layout.aligned {
            let _ = write!(text, " __attribute__((aligned({bytes})))");
        }
        text
    }
}
