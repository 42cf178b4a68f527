//! Names of things as the source has them.

use crate::request::{MapDesc, Request};
use skep_abi::MapType;
use skep_btf::{Btf, Kind, Param, Type};

/// A variable in a data section.
pub(super) struct Variable {
    pub name: String,
    /// Where it starts in the section.
    pub offset: u32,
}

/// The data section whose variables the only value of `map` holds.
pub(super) fn section_of(map: &MapDesc) -> Option<&str> {
    let is_data = map.map_type == MapType::Array
        && [".data", ".bss", ".rodata"]
            .iter()
            .any(|s| map.name.contains(s));
    let name = map.name.as_str();
    is_data.then(|| name.find('.').and_then(|at| name.get(at..)).unwrap_or(name))
}

/// The variable of a data section that byte `offset` belongs to.
pub(super) fn variable(btf: &Btf, section: &str, offset: u32) -> Option<Variable> {
    let section = btf.find(section, Kind::Datasec)?;
    // struct btf_var_secinfo: type, offset, size.
    (0..section.vlen() as usize).find_map(|i| {
        let (var, start, size) = (
            section.extra(3 * i),
            section.extra(3 * i + 1),
            section.extra(3 * i + 2),
        );
        let inside = start <= offset && offset - start < size.max(1);
        let name = btf.get(var).filter(|_| inside)?.name().to_owned();
        Some(Variable {
            name,
            offset: start,
        })
    })
}

/// The type of a map's values, from the map's definition in the section `.maps`.
pub(super) fn value_type<'a>(req: &Request<'a>, map: &str) -> Option<Type<'a>> {
    let btf = req.btf?;
    let definition = btf.find(map, Kind::Var)?.target()?.resolve();
    member_type(definition, "value")?
        .target()
        .map(Type::resolve)
}

/// The type of member `name`.
fn member_type<'a>(of: Type<'a>, name: &str) -> Option<Type<'a>> {
    let member = of.members().find(|m| m.name == name)?;
    of.btf().get(member.type_id).map(Type::resolve)
}

/// A type as C names it: `struct bins`; `None` for nameless ones.
pub(super) fn type_name(t: Type<'_>) -> Option<String> {
    let name = t.name();
    if name.is_empty() {
        return None;
    }
    Some(match t.kind() {
        Kind::Struct => format!("struct {name}"),
        Kind::Union => format!("union {name}"),
        _ => name.to_owned(),
    })
}

/// The parameters of a prototype as C writes them: `struct task_struct *p`, the type alone where there is no name.
pub(super) fn parameters(proto: Type<'_>) -> Vec<String> {
    let parameter = |p: Param<'_>| {
        let of = proto.btf().get(p.type_id).and_then(c_type);
        match (of, p.name) {
            (Some(of), "") => of,
            (Some(of), name) if of.ends_with('*') => format!("{of}{name}"),
            (Some(of), name) => format!("{of} {name}"),
            (None, name) => name.to_owned(),
        }
    };
    proto.params().map(parameter).collect()
}

/// A type as C writes it, as far as parameters need it.
pub(super) fn c_type(t: Type<'_>) -> Option<String> {
    match t.kind() {
        Kind::Ptr => {
            let to = t
                .target()
                .and_then(c_type)
                .unwrap_or_else(|| "void".to_owned());
            let space = if to.ends_with('*') { "" } else { " " };
            Some(format!("{to}{space}*"))
        }
        Kind::Const => Some(format!("const {}", t.target().and_then(c_type)?)),
        Kind::Volatile | Kind::Restrict | Kind::TypeTag => c_type(t.target()?),
        Kind::Typedef => Some(t.name().to_owned()),
        Kind::Enum | Kind::Enum64 => Some(format!("enum {}", t.name())),
        _ => type_name(t),
    }
}
