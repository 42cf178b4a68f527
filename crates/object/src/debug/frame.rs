//! Where a stack frame begins.
//!
//! LLVM gives places on the stack as distances from the lowest byte of the frame, while it names r10 - the byte above the
//! highest one - as the base. How large the frame is stands nowhere: it follows from the lowest byte that the code refers to.

use super::{Place, Variable};
use crate::function::slots;
use skep_isa::{AluOp, Insn, Src, insns};
use std::collections::BTreeSet;

/// Frames are as large as a multiple of this many bytes.
const ALIGNMENT: i64 = 8;
/// Number of the register that holds the address of the frame.
const FRAME_POINTER: usize = 10;

/// Makes places on the stack count from r10; those that the code does not refer to are left out.
pub(super) fn settle(variables: &mut Vec<Variable>, code: &[u8]) {
    let referenced = referenced(code);
    let lowest = referenced.first().copied().unwrap_or(0);
    // Rounded towards lower addresses.
    let bottom = lowest.div_euclid(ALIGNMENT) * ALIGNMENT;
    let mut fits = true;
    for variable in &mut *variables {
        let bytes = variable.shape.as_ref().map_or(1, |s| s.bytes);
        for (_, place) in &mut variable.places {
            let Place::Stack(from_bottom @ 0..) = *place else {
                continue;
            };
            let start = bottom.saturating_add(from_bottom);
            let end = start.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
            fits &= end <= 0;
            *place = Place::Stack(start);
        }
    }
    for variable in &mut *variables {
        variable.places.retain(|(_, place)| match place {
            Place::Register(_) => true,
            Place::Stack(start) => fits && referenced.contains(start),
        });
    }
    variables.retain(|v| !v.places.is_empty());
}

/// The bytes of the stack that the code accesses or takes the address of, from r10.
fn referenced(code: &[u8]) -> BTreeSet<i64> {
    let slots = slots(code);
    let mut found = BTreeSet::new();
    // Registers that hold a copy of r10.
    let mut copies = [false; FRAME_POINTER + 1];
    for (_, insn) in insns(&slots) {
        let Ok(insn) = insn else { continue };
        match insn {
            Insn::Load { src, offset, .. } if src.index() == FRAME_POINTER => {
                found.insert(i64::from(offset));
            }
            Insn::Store { dst, offset, .. } | Insn::Atomic { dst, offset, .. }
                if dst.index() == FRAME_POINTER =>
            {
                found.insert(i64::from(offset));
            }
            Insn::Mov { dst, src, .. } => {
                copies[dst.index()] = matches!(src, Src::Reg(src) if src.index() == FRAME_POINTER);
            }
            Insn::Alu {
                op: AluOp::Add,
                dst,
                src: Src::Imm(imm),
                ..
            } if copies[dst.index()] => {
                copies[dst.index()] = false;
                found.insert(i64::from(imm));
            }
            _ => {}
        }
    }
    found
}
