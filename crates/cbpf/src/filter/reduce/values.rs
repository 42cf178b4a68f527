//! Numbers for values: two registers with one number hold the same value.

use alloc::vec::Vec;
use skep_isa::opcode::{IMM, LD};

/// A value that is not known.
pub(super) const UNKNOWN: u32 = 0;

/// What a number stands for: an opcode, its operand and the number of its argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Value {
    code: u16,
    /// How often all values had been forgotten before, plus one.
    age: u16,
    a: u32,
    b: u32,
}

/// A place in the table.
#[derive(Clone, Copy, Debug)]
struct Slot {
    value: Value,
    holders: Holders,
}

/// How many blocks have a value in A at their end: when that was found, and in the lowest bit whether they are several.
#[derive(Clone, Copy, Debug, Default)]
struct Holders(u32);

/// The values of a few rounds, in an open-addressed table: a number is a place in it, plus one.
#[derive(Debug)]
pub(super) struct Values {
    /// A power of two long; older values are as good as none.
    table: Vec<Slot>,
    age: u16,
    /// Holders of what is not known.
    of_unknown: Holders,
    /// How often holders were forgotten, times two.
    turn: u32,
    /// Values there are.
    count: usize,
    /// Most new values of a round.
    round_max: usize,
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
        let round_max = 2 * insns;
        let size = (3 * insns + 8).next_power_of_two();
        let none = Slot {
            value: Value {
                code: 0,
                age: 0,
                a: 0,
                b: 0,
            },
            holders: Holders(0),
        };
        Self {
            table: alloc::vec![none; size],
            age: 1,
            of_unknown: Holders(0),
            turn: 0,
            count: 0,
            round_max,
        }
    }

    /// Whether there is no room for what another round may add.
    pub(super) fn is_crowded(&self) -> bool {
        self.count + self.round_max >= self.table.len()
    }

    /// Forgets all values. There are far fewer rounds than ages.
    pub(super) fn clear(&mut self) {
        self.age += 1;
        self.count = 0;
    }

    /// The number of what an instruction computes.
    pub(super) fn number(&mut self, code: u16, a: u32, b: u32) -> u32 {
        let mask = self.table.len() - 1;
        let mut at = hash(code, a, b) & mask;
        let value = Value {
            code,
            age: self.age,
            a,
            b,
        };
        loop {
            let here = &mut self.table[at];
            if here.value.age != self.age {
                here.value = value;
                self.count += 1;
            }
            if here.value == value {
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
        let value = self.table.get((number as usize).checked_sub(1)?)?.value;
        (value.code == u16::from(LD | IMM)).then_some(value.a)
    }

    /// Forgets which values blocks have in A at their end.
    pub(super) fn forget_holders(&mut self) {
        self.turn += 2;
    }

    fn holders(&mut self, number: u32) -> &mut Holders {
        match number {
            UNKNOWN => &mut self.of_unknown,
            number => &mut self.table[number as usize - 1].holders,
        }
    }

    /// Notes that a block has a value in A at its end.
    pub(super) fn hold(&mut self, number: u32) {
        let turn = self.turn;
        let holders = self.holders(number);
        let others = holders.0 & !1 == turn;
        *holders = Holders(turn | u32::from(others));
    }

    /// Whether several blocks have a value in A at their end.
    pub(super) fn is_shared(&self, number: u32) -> bool {
        let holders = match number {
            UNKNOWN => self.of_unknown,
            number => self.table[number as usize - 1].holders,
        };
        holders.0 == self.turn | 1
    }
}
