//! Program tags: the first 8 bytes of SHA-256 over the instructions, map operands left out (`bpf_prog_calc_tag`
//! of Linux 6.18; kernels before took SHA-1).

use sha2::{Digest, Sha256};
use skep_isa::Slot;
use skep_isa::opcode as op;

/// The tag of a program as it was given to load.
pub(crate) fn of(insns: &[Slot]) -> [u8; 8] {
    let mut hash = Sha256::new();
    let mut in_map_operand = false;
    for slot in insns {
        let first = slot.code == op::LDDW
            && matches!(slot.src(), op::PSEUDO_MAP_FD | op::PSEUDO_MAP_VALUE)
            && !in_map_operand;
        let mut bytes = slot.to_le_bytes();
        if first || in_map_operand {
            bytes[4..].fill(0);
        }
        in_map_operand = first;
        hash.update(bytes);
    }
    let mut tag = [0u8; 8];
    tag.copy_from_slice(&hash.finalize()[..8]);
    tag
}
