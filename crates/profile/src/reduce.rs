//! A kernel's BTF in two layers, with nothing that programs cannot name.

use skep_btf::dedup::copy;
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
    let words: Vec<u32> = ty.words().collect();
    ty.type_words().map(|at| words[at]).collect()
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
        if ty.kind() == Kind::FuncProto && self.params == Params::Unnamed {
            let params = ty.params().flat_map(|p| [0, self.id(p.type_id)]);
            let params: Vec<u32> = params.collect();
            let result = self.id(ty.size_or_type());
            self.builder.add(ty.name(), ty.info(), result, &params);
        } else {
            let ids = &self.ids;
            copy(ty, &mut self.builder, |old| {
                ids.get(&old).copied().unwrap_or(0)
            });
        }
    }
}
