//! C types as Rust types of the same layout.

use crate::layout::{self, Layout, Piece};
use crate::names::{Scope, part};
use crate::{DEPTH_MAX, GenError, TYPES_MAX};
use skep_btf::{Btf, Int, Kind, Member, Type};
use std::collections::HashMap;
use std::fmt::Write as _;

/// What every structure of bytes derives.
const DERIVES: &str = "Clone, Copy, Debug, PartialEq, skep::zerocopy::FromBytes, skep::zerocopy::IntoBytes, \
    skep::zerocopy::Immutable, skep::zerocopy::KnownLayout";

/// A Rust type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RustType {
    /// As it is written inside of module `types`.
    pub(crate) text: String,
    /// Its bytes.
    pub(crate) size: u32,
    align: u32,
    /// It can be compared exactly and hashed.
    exact: bool,
}

impl RustType {
    fn plain(text: &str, size: u32) -> Self {
        Self {
            text: text.to_owned(),
            size,
            align: size.max(1),
            exact: true,
        }
    }
}

/// The types of an object that were asked for so far.
pub(crate) struct Types<'a> {
    btf: &'a Btf,
    known: HashMap<u32, RustType>,
    scope: Scope,
    text: String,
}

impl<'a> Types<'a> {
    pub(crate) fn new(btf: &'a Btf) -> Self {
        Self {
            btf,
            known: HashMap::new(),
            scope: Scope::default(),
            text: String::new(),
        }
    }

    /// The definitions, to stand in module `types`.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Defines a type that the user names.
    pub(crate) fn by_name(&mut self, name: &str) -> Result<(), GenError> {
        let wanted = [
            Kind::Struct,
            Kind::Union,
            Kind::Enum,
            Kind::Enum64,
            Kind::Typedef,
        ];
        let found = wanted.iter().find_map(|kind| self.btf.find(name, *kind));
        let found = found.ok_or_else(|| GenError::NoType(name.to_owned()))?;
        self.of(found.id(), name).map(|_| ())
    }

    /// The Rust type of a BTF type; `hint` names it if it has no name.
    pub(crate) fn of(&mut self, id: u32, hint: &str) -> Result<RustType, GenError> {
        self.at(id, hint, DEPTH_MAX)
    }

    fn at(&mut self, id: u32, hint: &str, depth: u32) -> Result<RustType, GenError> {
        if let Some(known) = self.known.get(&id) {
            return Ok(known.clone());
        }
        let no = |why| GenError::Type {
            name: format!("[{id}] {hint}"),
            why,
        };
        let depth = depth
            .checked_sub(1)
            .ok_or_else(|| no("it is nested too deeply"))?;
        if self.known.len() >= TYPES_MAX {
            return Err(no("the object has too many types"));
        }
        let ty = self.btf.get(id).ok_or_else(|| no("it does not exist"))?;
        let found = match ty.kind() {
            Kind::Int => ty.int().and_then(|int| integer(ty, int)),
            Kind::Ptr => Some(RustType::plain("u64", 8)),
            Kind::Float => match ty.size() {
                Some(size @ (4 | 8)) => Some(RustType {
                    exact: false,
                    ..RustType::plain(if size == 4 { "f32" } else { "f64" }, size)
                }),
                _ => None,
            },
            Kind::Typedef => return self.typedef(ty, depth),
            Kind::Enum | Kind::Enum64 => self.enumeration(ty),
            Kind::Struct => return self.structure(ty, hint, depth),
            Kind::Union => return self.union(ty, hint, depth),
            Kind::Array => return self.array(ty, hint, depth),
            kind if kind.is_modifier() => {
                let target = ty.type_id().ok_or_else(|| no("it has no target"))?;
                return self.at(target, hint, depth);
            }
            _ => None,
        };
        let found = found.ok_or_else(|| no("it has no values"))?;
        self.known.insert(id, found.clone());
        Ok(found)
    }

    /// A type definition is what it stands for, except that it gives a name and may say "network order".
    fn typedef(&mut self, ty: Type<'a>, depth: u32) -> Result<RustType, GenError> {
        let network = match ty.name() {
            "__be16" => Some(("skep::zerocopy::network_endian::U16", 2)),
            "__be32" => Some(("skep::zerocopy::network_endian::U32", 4)),
            "__be64" => Some(("skep::zerocopy::network_endian::U64", 8)),
            _ => None,
        };
        if let Some((text, size)) = network.filter(|(_, s)| self.btf.size_of(ty.id()) == Ok(*s)) {
            return Ok(RustType {
                align: 1,
                ..RustType::plain(text, size)
            });
        }
        self.at(ty.type_id().unwrap_or(0), ty.name(), depth)
    }

    fn array(&mut self, ty: Type<'a>, hint: &str, depth: u32) -> Result<RustType, GenError> {
        let no = |why| GenError::Type {
            name: hint.to_owned(),
            why,
        };
        let array = ty.array().ok_or_else(|| no("it is no array"))?;
        let element = self.at(array.element, hint, depth)?;
        let size = element.size.checked_mul(array.len);
        Ok(RustType {
            text: format!("[{}; {}]", element.text, array.len),
            size: size.ok_or_else(|| no("it is larger than 4 GiB"))?,
            ..element
        })
    }

    fn enumeration(&mut self, ty: Type<'a>) -> Option<RustType> {
        let size = ty.size()?;
        let number = number(size, ty.flag())?;
        if ty.name().is_empty() {
            return Some(RustType::plain(number, size));
        }
        let name = self.scope.take(ty.name());
        let _ = writeln!(
            self.text,
            "/// `enum {}`\n#[derive({DERIVES}, Eq, Hash, Default)]\n#[zerocopy(crate = \"skep::zerocopy\")]\n\
             #[repr(transparent)]\npub struct {name}(pub {number});\n\nimpl {name} {{",
            ty.name()
        );
        let mut constants = Scope::default();
        for value in ty.enum_values() {
            let constant = constants.take(value.name);
            let shown = enum_number(value.value, size, ty.flag());
            let _ = writeln!(
                self.text,
                "    /// {shown}\n    pub const {constant}: Self = Self({shown});"
            );
        }
        self.text.push_str("}\n\n");
        Some(RustType::plain(&name, size))
    }

    /// The types of the members that lie on whole bytes, by type id.
    fn members(
        &mut self,
        ty: Type<'a>,
        name: &str,
        depth: u32,
    ) -> Result<HashMap<u32, RustType>, GenError> {
        let mut types = HashMap::new();
        for (at, member) in ty.members().enumerate().filter(|(_, m)| m.bit_size == 0) {
            let hint = format!("{}_{}", part(name), part(&member_name(&member, at)));
            types.insert(member.type_id, self.at(member.type_id, &hint, depth)?);
        }
        Ok(types)
    }

    fn structure(&mut self, ty: Type<'a>, hint: &str, depth: u32) -> Result<RustType, GenError> {
        let wanted = if ty.name().is_empty() {
            hint
        } else {
            ty.name()
        };
        let no = |why| GenError::Type {
            name: wanted.to_owned(),
            why,
        };
        let types = self.members(ty, wanted, depth)?;
        let measure = &mut |id: u32| types.get(&id).map(|t| (t.size, t.align));
        let layout = layout::of(ty, measure).ok_or_else(|| no("its members overlap"))?;
        let name = self.scope.take(wanted);
        let size = ty.size().unwrap_or(0);
        let exact = types.values().all(|t| t.exact);
        self.head(&format!("struct {}", ty.name()), size, exact, layout.packed);
        let _ = writeln!(self.text, "pub struct {name} {{");
        self.fields(ty, &layout, &types);
        self.text.push_str("}\n\n");
        self.bit_fields(&name, &layout);
        self.foot(&name, size);
        let aligns = types.values().map(|t| t.align).max().unwrap_or(1);
        let found = RustType {
            text: name,
            size,
            align: if layout.packed { 1 } else { aligns },
            exact,
        };
        self.known.insert(ty.id(), found.clone());
        Ok(found)
    }

    fn head(&mut self, what: &str, size: u32, exact: bool, packed: bool) {
        let also = if exact { ", Eq, Hash" } else { "" };
        let repr = if packed { "C, packed" } else { "C" };
        let _ = writeln!(
            self.text,
            "/// `{}`, {size} bytes.\n#[derive({DERIVES}{also})]\n#[zerocopy(crate = \"skep::zerocopy\")]\n#[repr({repr})]",
            what.trim_end()
        );
    }

    fn fields(&mut self, ty: Type<'a>, layout: &Layout<'_>, types: &HashMap<u32, RustType>) {
        let mut scope = Scope::default();
        let names: HashMap<u32, String> = ty
            .members()
            .enumerate()
            .filter(|(_, m)| m.bit_size == 0)
            .map(|(at, m)| (at as u32, scope.take(&member_name(&m, at))))
            .collect();
        let mut names = (0..ty.vlen()).filter_map(|at| names.get(&at));
        for piece in &layout.pieces {
            let _ = match piece {
                Piece::Member(member) => writeln!(
                    self.text,
                    "    #[expect(missing_docs, reason = \"a member of the C structure\")]\n    pub {}: {},",
                    names.next().map_or("", String::as_str),
                    types.get(&member.type_id).map_or("", |t| t.text.as_str()),
                ),
                Piece::Bytes(count) => writeln!(
                    self.text,
                    "    #[doc(hidden)]\n    pub {}: [u8; {count}],",
                    scope.take("_hole")
                ),
            };
        }
    }

    /// Readers and writers of bit fields.
    fn bit_fields(&mut self, name: &str, layout: &Layout<'_>) {
        if layout.bit_fields.iter().all(|m| m.name.is_empty()) {
            return;
        }
        let _ = writeln!(self.text, "impl {name} {{");
        let mut scope = Scope::default();
        for member in layout.bit_fields.iter().filter(|m| !m.name.is_empty()) {
            let (at, count) = (member.bit_offset, member.bit_size);
            let reader = scope.take(member.name);
            let writer = scope.take(&format!("set_{}", member.name));
            let _ = writeln!(
                self.text,
                "    /// A bit field of {count} bits.\n    #[must_use]\n    pub fn {reader}(&self) -> u64 {{\n        \
                 skep::typed::bits(skep::zerocopy::IntoBytes::as_bytes(self), {at}, {count})\n    }}\n\n    \
                 /// Sets it to the lower {count} bits of `value`.\n    pub fn {writer}(&mut self, value: u64) {{\n        \
                 skep::typed::set_bits(skep::zerocopy::IntoBytes::as_mut_bytes(self), {at}, {count}, value);\n    }}\n"
            );
        }
        self.text.push_str("}\n\n");
    }

    /// Zeroes as the default, and the proof that the layout is the C one.
    fn foot(&mut self, name: &str, size: u32) {
        let _ = writeln!(
            self.text,
            "impl Default for {name} {{\n    fn default() -> Self {{\n        skep::zerocopy::FromZeros::new_zeroed()\n    }}\n}}\n\n\
             const _: () = assert!(size_of::<{name}>() == {size});\n"
        );
    }

    fn union(&mut self, ty: Type<'a>, hint: &str, depth: u32) -> Result<RustType, GenError> {
        let wanted = if ty.name().is_empty() {
            hint
        } else {
            ty.name()
        };
        let types = self.members(ty, wanted, depth)?;
        let size = ty.size().unwrap_or(0);
        let align = types.values().map(|t| t.align).max().unwrap_or(1);
        let (align, word) = match align {
            a @ (2 | 4 | 8) if size.is_multiple_of(a) => (a, format!("u{}", a * 8)),
            _ => (1, "u8".to_owned()),
        };
        let name = self.scope.take(wanted);
        self.head(&format!("union {}", ty.name()), size, true, false);
        let _ = writeln!(
            self.text,
            "pub struct {name} {{\n    #[doc(hidden)]\n    pub _raw: [{word}; {}],\n}}\n\nimpl {name} {{",
            size / align
        );
        let mut scope = Scope::default();
        for (at, member) in ty.members().enumerate().filter(|(_, m)| m.bit_size == 0) {
            let Some(of) = types
                .get(&member.type_id)
                .filter(|t| t.size > 0 && t.size <= size)
            else {
                continue;
            };
            let reader = scope.take(&member_name(&member, at));
            let writer = scope.take(&format!("set_{}", part(&member_name(&member, at))));
            let of = &of.text;
            let _ = writeln!(
                self.text,
                "    /// The union read as this member.\n    #[must_use]\n    pub fn {reader}(&self) -> {of} {{\n        \
                 skep::typed::member(skep::zerocopy::IntoBytes::as_bytes(self))\n    }}\n\n    \
                 /// Writes this member; bytes beyond it stay.\n    pub fn {writer}(&mut self, value: {of}) {{\n        \
                 skep::typed::set_member(skep::zerocopy::IntoBytes::as_mut_bytes(self), &value);\n    }}\n"
            );
        }
        self.text.push_str("}\n\n");
        self.foot(&name, size);
        let found = RustType {
            text: name,
            size,
            align,
            exact: true,
        };
        self.known.insert(ty.id(), found.clone());
        Ok(found)
    }

    /// The variables of a data section as a structure; `None` if the section has none.
    pub(crate) fn section(
        &mut self,
        section: Type<'a>,
        size: u32,
        name: &str,
    ) -> Result<Option<RustType>, GenError> {
        let (mut fields, mut end, mut align) = (String::new(), 0u32, 1u32);
        let mut packed = false;
        let (mut scope, mut exact) = (Scope::default(), true);
        let mut vars: Vec<_> = section.vars().collect();
        vars.sort_by_key(|v| v.offset);
        let hole = |fields: &mut String, scope: &mut Scope, bytes: u32| {
            if bytes > 0 {
                let hole = scope.take("_hole");
                let _ = writeln!(fields, "    #[doc(hidden)]\n    pub {hole}: [u8; {bytes}],");
            }
        };
        for var in vars {
            let Some(declared) = self.btf.get(var.type_id) else {
                continue;
            };
            let ty = self.of(declared.type_id().unwrap_or(0), declared.name());
            // What has no values (a variable of an unknown type) is a hole.
            let Ok(ty) = ty else { continue };
            let Some(bytes) = var.offset.checked_sub(end) else {
                continue;
            };
            if var.offset.checked_add(ty.size).is_none_or(|e| e > size) {
                continue;
            }
            hole(&mut fields, &mut scope, bytes);
            let field = scope.take(declared.name());
            let _ = writeln!(
                fields,
                "    /// Global variable `{}`.\n    pub {field}: {},",
                declared.name(),
                ty.text
            );
            end = var.offset + ty.size;
            exact &= ty.exact;
            align = align.max(ty.align);
            packed |= !var.offset.is_multiple_of(ty.align);
        }
        if end == 0 {
            return Ok(None);
        }
        // Values are copied, so that the structure may end later than the section.
        let size = if packed {
            size
        } else {
            size.checked_next_multiple_of(align).unwrap_or(size)
        };
        hole(&mut fields, &mut scope, size - end);
        let name = self.scope.take(name);
        self.head(&format!("section {}", section.name()), size, exact, packed);
        let _ = writeln!(self.text, "pub struct {name} {{\n{fields}}}\n");
        self.foot(&name, size);
        Ok(Some(RustType {
            text: name,
            size,
            align: 1,
            exact,
        }))
    }
}

/// A member's name; those without one are numbered.
fn member_name(member: &Member<'_>, at: usize) -> String {
    if member.name.is_empty() {
        format!("anon_{at}")
    } else {
        member.name.to_owned()
    }
}

fn integer(ty: Type<'_>, int: Int) -> Option<RustType> {
    let size = ty.size()?;
    // C leaves the sign of `char` open; text is bytes.
    let signed = int.is_signed() && !int.is_char() && ty.name() != "char";
    Some(RustType::plain(number(size, signed)?, size))
}

/// A value of an enumeration as Rust writes it.
fn enum_number(value: i64, size: u32, signed: bool) -> String {
    if signed {
        return value.to_string();
    }
    let bits = value.cast_unsigned();
    let mask = u64::MAX >> (64 - 8 * size.clamp(1, 8));
    (bits & mask).to_string()
}

/// The number type of this many bytes.
fn number(size: u32, signed: bool) -> Option<&'static str> {
    Some(match (size, signed) {
        (1, false) => "u8",
        (1, true) => "i8",
        (2, false) => "u16",
        (2, true) => "i16",
        (4, false) => "u32",
        (4, true) => "i32",
        (8, false) => "u64",
        (8, true) => "i64",
        (16, false) => "u128",
        (16, true) => "i128",
        _ => return None,
    })
}
