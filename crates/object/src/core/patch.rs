//! Puts a relocation's value into its instruction.

use super::{CoreError, Resolved};
use skep_btf::{Int, Kind, Type};
use skep_isa::Slot;
use skep_isa::opcode::{
    ALU, ALU64, B, CALL, CLASS_MASK, DW, H, JMP, LDDW, LDX, SIZE_MASK, ST, STX, W, X,
};

/// Immediate of the call that stands for an instruction whose relocation failed (libbpf's value).
pub const POISON: i32 = 195_896_080;

/// The call of a helper that does not exist, in place of an instruction that must not be reached.
pub(crate) const fn poison(imm: i32) -> Slot {
    Slot::new(JMP | CALL, 0, 0, 0, imm)
}

/// Patches the instruction at `at`; true if it could not be and was replaced by a poisoned call.
pub(crate) fn patch(
    insns: &mut [Slot],
    at: usize,
    resolved: &Resolved<'_>,
) -> Result<bool, CoreError> {
    let insn = *insns.get(at).ok_or(CoreError::Instruction)?;
    let Some(target) = resolved.target else {
        poison_at(insns, at);
        return Ok(true);
    };
    let (old, new) = (resolved.local.number, target.number);
    let check = |held: u64| {
        if resolved.local.checked && held != old {
            return Err(CoreError::Unexpected { held, old });
        }
        Ok(())
    };
    let low = (new & 0xffff_ffff) as u32;
    match insn.code & CLASS_MASK {
        ALU | ALU64 if insn.code & X == 0 => {
            check(i64::from(insn.imm).cast_unsigned())?;
            insns[at].imm = low.cast_signed();
        }
        LDX | ST | STX => {
            check(i64::from(insn.offset).cast_unsigned())?;
            let offset = i16::try_from(new).map_err(|_| CoreError::TooFar(new))?;
            let Some(size) = access_size(resolved) else {
                poison_at(insns, at);
                return Ok(true);
            };
            insns[at].offset = offset;
            if let Some(size) = size {
                insns[at].code = insn.code & !SIZE_MASK | size;
            }
        }
        _ if insn.code == LDDW && insn.src() == 0 && at + 1 < insns.len() => {
            let high = insns[at + 1].imm.cast_unsigned();
            check(u64::from(insn.imm.cast_unsigned()) | u64::from(high) << 32)?;
            insns[at].imm = low.cast_signed();
            let high = (new >> 32) as u32;
            insns[at + 1].imm = high.cast_signed();
        }
        _ => return Err(CoreError::Instruction),
    }
    Ok(false)
}

fn poison_at(insns: &mut [Slot], at: usize) {
    if insns[at].code == LDDW && at + 1 < insns.len() {
        insns[at + 1] = poison(POISON);
    }
    insns[at] = poison(POISON);
}

/// The size bits of the load or store: `Some(None)` keeps them, `None` means that another size would be wrong.
fn access_size(resolved: &Resolved<'_>) -> Option<Option<u8>> {
    let fields = (resolved.local.field, resolved.target.and_then(|t| t.field));
    let (Some((local, old)), Some((target, new))) = fields else {
        return Some(None);
    };
    if old == new {
        return Some(None);
    }
    let unsigned = |ty: Type<'_>| ty.int().is_some_and(|i| i.encoding() & Int::SIGNED == 0);
    let pointers = local.kind() == Kind::Ptr && target.kind() == Kind::Ptr;
    let adjustable = pointers || unsigned(local) && unsigned(target);
    if !adjustable {
        return None;
    }
    let size = match new {
        1 => B,
        2 => H,
        4 => W,
        8 => DW,
        _ => return None,
    };
    Some(Some(size))
}
