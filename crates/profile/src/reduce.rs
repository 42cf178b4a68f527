//! A kernel's BTF in two layers, with nothing that programs cannot name.

use skep_btf::raw::Info;
use skep_btf::{Btf, BtfError, Builder, Kind, Type};
use std::collections::HashMap;

/// Functions that programs name without tracing them.
const HOOKS: &[&str] = &["bpf_lsm_", "bpf_iter_"];
const KFUNC_TAG: &str = "bpf_kfunc";

/// The two layers of `btf`: types, kfuncs and hooks; and, as split BTF on top of it, all other functions.
///
/// # Errors
/// [`BtfError`] if what was written cannot be read, which would be our mistake.
pub fn layers(btf: &Btf) -> Result<(Vec<u8>, Vec<u8>), BtfError> {
    let mut first = vec![false; btf.type_count() as usize];
    let mut second = first.clone();
    for ty in btf.types() {
        match ty.kind() {
            Kind::Func if is_named(btf, ty) => mark(ty, &mut first),
            Kind::Func => mark(ty, &mut second),
            Kind::FuncProto | Kind::DeclTag => {}
            kind if kind.is_modifier() || kind == Kind::Ptr || kind == Kind::Array => {}
            _ => mark(ty, &mut first),
        }
    }
    for ty in btf.types().filter(|t| t.kind() == Kind::DeclTag) {
        first[ty.id() as usize] = first[ty.size_or_type() as usize];
    }
    let mut layer = Layer {
        btf,
        builder: Builder::new(btf.order()),
        ids: HashMap::from([(0, 0)]),
        params: Params::Named,
    };
    let types = layer.write(&first);
    let base = Btf::parse(types.clone())?;
    layer.builder = Builder::split(&base);
    layer.params = Params::Unnamed;
    let only_second: Vec<bool> = first.iter().zip(&second).map(|(a, b)| *b && !a).collect();
    let functions = layer.write(&only_second);
    Btf::parse_split(functions.clone(), &base)?;
    Ok((types, functions))
}

fn is_named(btf: &Btf, function: Type<'_>) -> bool {
    let name = function.name();
    HOOKS.iter().any(|h| name.starts_with(h))
        || skep_abi::kfunc::by_name(name).is_some()
        || btf
            .decl_tags(function.id())
            .any(|(_, tag)| tag == KFUNC_TAG)
}

/// Marks a type and everything it refers to.
fn mark(ty: Type<'_>, marked: &mut [bool]) {
    let mut waiting = vec![ty.id()];
    while let Some(id) = waiting.pop() {
        if std::mem::replace(&mut marked[id as usize], true) {
            continue;
        }
        waiting.extend(ty.btf().get(id).iter().flat_map(references));
    }
}

fn references(ty: &Type<'_>) -> Vec<u32> {
    let mut ids: Vec<u32> = ty.type_id().into_iter().collect();
    ids.extend(ty.array().iter().flat_map(|a| [a.element, a.index]));
    ids.extend(ty.members().map(|m| m.type_id));
    ids.extend(ty.params().map(|p| p.type_id));
    ids.extend(ty.vars().map(|v| v.type_id));
    ids
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Params {
    Named,
    Unnamed,
}

struct Layer<'a> {
    btf: &'a Btf,
    builder: Builder,
    /// Old id → new id.
    ids: HashMap<u32, u32>,
    params: Params,
}

impl Layer<'_> {
    fn write(&mut self, marked: &[bool]) -> Vec<u8> {
        let chosen: Vec<Type<'_>> = self
            .btf
            .types()
            .filter(|t| marked[t.id() as usize])
            .collect();
        // Ids first, since types refer forwards as well. Without names many prototypes are equal: one is enough.
        let mut next = self.builder.type_count();
        let mut protos: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut written = Vec::new();
        for ty in chosen {
            if ty.kind() == Kind::FuncProto && self.params == Params::Unnamed {
                let same = *protos.entry(references(&ty)).or_insert(next);
                if same != next {
                    self.ids.insert(ty.id(), same);
                    continue;
                }
            }
            self.ids.insert(ty.id(), next);
            written.push(ty);
            next += 1;
        }
        for ty in written {
            self.add(ty);
        }
        self.builder.finish()
    }

    fn id(&self, old: u32) -> u32 {
        self.ids.get(&old).copied().unwrap_or(0)
    }

    fn add(&mut self, ty: Type<'_>) {
        let third = ty.type_id().map_or(ty.size_or_type(), |id| self.id(id));
        let mut extra = Vec::new();
        match ty.kind() {
            Kind::Array => {
                let array = ty.array().into_iter();
                extra.extend(array.flat_map(|a| [self.id(a.element), self.id(a.index), a.len]));
            }
            Kind::Struct | Kind::Union => {
                for m in ty.members() {
                    let place = m.bit_offset | (m.bit_size << 24);
                    extra.extend([self.builder.add_str(m.name), self.id(m.type_id), place]);
                }
            }
            Kind::FuncProto => {
                for p in ty.params() {
                    let name = match self.params {
                        Params::Named => self.builder.add_str(p.name),
                        Params::Unnamed => 0,
                    };
                    extra.extend([name, self.id(p.type_id)]);
                }
            }
            Kind::Datasec => {
                let vars = ty.vars();
                extra.extend(vars.flat_map(|v| [self.id(v.type_id), v.offset, v.size]));
            }
            Kind::Enum => {
                for v in ty.enum_values() {
                    let low = (v.value & 0xffff_ffff) as u32;
                    extra.extend([self.builder.add_str(v.name), low]);
                }
            }
            Kind::Enum64 => {
                for v in ty.enum_values() {
                    let (low, high) = (v.value as u32, (v.value >> 32) as u32);
                    extra.extend([self.builder.add_str(v.name), low, high]);
                }
            }
            Kind::Int | Kind::Var | Kind::DeclTag => extra.push(ty.extra(0)),
            _ => {}
        }
        let info: Info = ty.info();
        self.builder.add(ty.name(), info, third, &extra);
    }
}
