//! Numbers for values: two registers with one number hold the same value.

use alloc::vec::Vec;
use skep_isa::opcode::{IMM, LD};

/// A value that is not known.
pub(super) const UNKNOWN: u32 = 0;

/// The values of one round.
#[derive(Debug)]
pub(super) struct Values {
    /// What each number stands for: an opcode with its operand and the number of its argument.
    all: Vec<(u16, u32, u32)>,
    /// Open-addressed table of numbers, a power of two long.
    table: Vec<u32>,
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
    /// Room for what `insns` instructions compute: two values each.
    pub(super) fn new(insns: usize) -> Self {
        let size = (insns * 4 + 16).next_power_of_two();
        Self {
            all: Vec::with_capacity(insns * 2 + 1),
            table: alloc::vec![UNKNOWN; size],
        }
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.all.push((0, 0, 0));
        self.table.fill(UNKNOWN);
    }

    /// The number of what an instruction computes.
    pub(super) fn number(&mut self, code: u16, a: u32, b: u32) -> u32 {
        let mask = self.table.len() - 1;
        let mut at = hash(code, a, b) & mask;
        while self.table[at] != UNKNOWN {
            if self.all[self.table[at] as usize] == (code, a, b) {
                return self.table[at];
            }
            at = (at + 1) & mask;
        }
        self.table[at] = self.all.len() as u32;
        self.all.push((code, a, b));
        self.table[at]
    }

    pub(super) fn constant(&mut self, k: u32) -> u32 {
        self.number(u16::from(LD | IMM), k, 0)
    }

    /// The constant a number stands for, if it is one.
    pub(super) fn as_constant(&self, number: u32) -> Option<u32> {
        let (code, k, _) = self.all[number as usize];
        (number != UNKNOWN && code == u16::from(LD | IMM)).then_some(k)
    }
}
