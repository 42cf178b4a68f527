//! Numbers for values: two registers with one number hold the same value.

use alloc::vec::Vec;
use skep_isa::opcode::{IMM, LD};

/// A value that is not known.
pub(super) const UNKNOWN: u32 = 0;

/// What a number stands for: an opcode with its operand and the number of its argument.
type Value = (u16, u32, u32);

/// The opcode of no value.
const NO_CODE: u16 = u16::MAX;

/// The values of one round, in an open-addressed table: a number is a place in it, plus one.
#[derive(Debug)]
pub(super) struct Values {
    /// A power of two long.
    table: Vec<Value>,
}

fn hash(code: u16, a: u32, b: u32) -> usize {
    let h = u32::from(code)
        .wrapping_mul(0x9e37_79b1)
        .wrapping_add(a)
        .wrapping_mul(0x85eb_ca6b)
        .wrapping_add(b)
        .wrapping_mul(0xc2b2_ae35);
    (h ^ (h >> 15)) as usize
}

impl Values {
    /// Room for what `insns` instructions compute: at most one new value each, and its operand.
    pub(super) fn new(insns: usize) -> Self {
        let size = (insns * 3 + 8).next_power_of_two();
        Self {
            table: alloc::vec![(NO_CODE, 0, 0); size],
        }
    }

    pub(super) fn clear(&mut self) {
        self.table.fill((NO_CODE, 0, 0));
    }

    /// The number of what an instruction computes.
    pub(super) fn number(&mut self, code: u16, a: u32, b: u32) -> u32 {
        let mask = self.table.len() - 1;
        let mut at = hash(code, a, b) & mask;
        let value = (code, a, b);
        loop {
            let here = &mut self.table[at];
            if here.0 == NO_CODE {
                *here = value;
            }
            if *here == value {
                return at as u32 + 1;
            }
            at = (at + 1) & mask;
        }
    }

    pub(super) fn constant(&mut self, k: u32) -> u32 {
        self.number(u16::from(LD | IMM), k, 0)
    }

    /// The constant a number stands for, if it is one.
    pub(super) fn as_constant(&self, number: u32) -> Option<u32> {
        let (code, k, _) = *self.table.get((number as usize).checked_sub(1)?)?;
        (code == u16::from(LD | IMM)).then_some(k)
    }
}
