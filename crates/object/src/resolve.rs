//! Extern kernel functions and variables: their BTF ids and addresses in the target.

use crate::core::{poison, types_are_compatible};
use crate::externs::{Extern, ExternKind};
use crate::linked::FailureCause;
use crate::object::Object;
use crate::target::Target;
use skep_btf::{Btf, Kind, essential_name};
use skep_isa::Slot;
use skep_isa::opcode::{CALL, JMP, LDDW, PSEUDO_BTF_ID, PSEUDO_KFUNC_CALL};

/// Immediate of calls of weak kfuncs that the kernel does not have (libbpf's value), plus the place of the extern.
const POISON_KFUNC: i32 = 2_002_000_000;

/// What each extern symbol of an object is in the target.
pub(crate) struct Externs(Vec<Found>);

/// What was found of one symbol.
enum Found {
    /// BTF id; the module counts from 1, 0 is the kernel itself.
    Btf {
        id: u32,
        module: usize,
    },
    Address(u64),
    Incompatible,
    Nothing,
}

impl Externs {
    pub(crate) fn resolve(object: &Object, target: &Target) -> Self {
        let local = object.file_btf.as_ref();
        let all = object.externs.iter().map(|e| match e.kind {
            ExternKind::Kfunc { proto } => {
                find_btf(local, target, essential_name(&e.name), Kind::Func, proto)
            }
            ExternKind::TypedVar { type_id } => {
                find_btf(local, target, &e.name, Kind::Var, type_id)
            }
            ExternKind::Address => {
                let known = target.addresses.iter().find(|(name, _)| *name == e.name);
                known.map_or(Found::Nothing, |&(_, address)| Found::Address(address))
            }
            ExternKind::Config { .. } => Found::Nothing,
        });
        Self(all.collect())
    }

    /// Writes symbol `index` into the instruction at the front of `insns`; says what is missing.
    pub(crate) fn apply(
        &self,
        index: usize,
        external: &Extern,
        insns: &mut [Slot],
        code: u8,
    ) -> Option<FailureCause> {
        let name = external.name.clone();
        let is_call = code == JMP | CALL;
        let dst = insns[0].dst();
        match self.0[index] {
            Found::Btf { id, module } if is_call => {
                let offset = i16::try_from(module).unwrap_or(i16::MAX);
                insns[0] = Slot::new(code, 0, PSEUDO_KFUNC_CALL, offset, id.cast_signed());
            }
            Found::Btf { id, module } => {
                let module = i32::try_from(module).unwrap_or(i32::MAX);
                set_wide(insns, dst, PSEUDO_BTF_ID, id.cast_signed(), module);
            }
            Found::Address(address) => {
                let (low, high) = (address as u32, (address >> 32) as u32);
                set_wide(insns, dst, 0, low.cast_signed(), high.cast_signed());
            }
            Found::Incompatible | Found::Nothing if external.weak => {
                if is_call {
                    let index = i32::try_from(index).unwrap_or(i32::MAX);
                    insns[0] = poison(POISON_KFUNC.saturating_add(index));
                } else {
                    set_wide(insns, dst, 0, 0, 0);
                }
            }
            Found::Incompatible => {
                let incompatible = true;
                return Some(FailureCause::Kfunc { name, incompatible });
            }
            Found::Nothing if is_call => {
                let incompatible = false;
                return Some(FailureCause::Kfunc { name, incompatible });
            }
            Found::Nothing => {
                let typed = matches!(external.kind, ExternKind::TypedVar { .. });
                return Some(FailureCause::Symbol { name, typed });
            }
        }
        None
    }
}

fn set_wide(insns: &mut [Slot], dst: u8, src: u8, imm: i32, next_imm: i32) {
    insns[0] = Slot::new(LDDW, dst, src, 0, imm);
    if let Some(second) = insns.get_mut(1) {
        *second = Slot::new(0, 0, 0, 0, next_imm);
    }
}

/// Finds a function or variable of the kernel or a module, and checks it against the local declaration.
fn find_btf(
    local: Option<&Btf>,
    target: &Target,
    name: &str,
    kind: Kind,
    local_type: u32,
) -> Found {
    let modules = target.modules.iter().map(|(_, btf)| btf);
    let all = target.btf.iter().chain(modules).enumerate();
    let mut found = all.filter_map(|(module, btf)| {
        let ty = btf.find(name, kind)?;
        Some((module, ty))
    });
    let Some((module, ty)) = found.next() else {
        return Found::Nothing;
    };
    let declared = local.and_then(|b| b.get(local_type));
    let same = match (declared, ty.target()) {
        (Some(declared), Some(there)) => types_are_compatible(declared, there).unwrap_or(false),
        _ => false,
    };
    if !same {
        return Found::Incompatible;
    }
    Found::Btf {
        id: ty.id(),
        module,
    }
}
