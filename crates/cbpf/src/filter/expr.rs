//! What a filter computes: values, each stored once and named by an index.
//!
//! Values are pure: the same index is the same value wherever it is evaluated in one run, so facts about an index hold
//! along a whole path. Loads past the end of the packet end the run with "reject"; that is why the order of conditions
//! matters and no load is ever moved or dropped silently.

use crate::insn::{AluOp, Relation, Size};
use crate::interp::{LongShift, alu};
use alloc::vec::Vec;
use core::num::NonZeroU32;

/// A value, by index plus one: no value takes no more room.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) struct Value(NonZeroU32);

impl Value {
    /// The value at an index.
    fn at(index: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(index))
    }

    /// The index, plus one.
    fn number(self) -> u32 {
        self.0.get()
    }
}

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Expr {
    Const(u32),
    /// Bytes on the wire.
    Len,
    /// A big-endian load at `base + offset`.
    Load {
        size: Size,
        base: Option<Value>,
        offset: u32,
    },
    /// An ancillary load at this absolute offset, of the size libpcap uses.
    Ancillary(Size, u32),
    /// `4 * (packet[offset] & 0xf)`, the length of an IPv4 header.
    Msh(u32),
    Bin(AluOp, Value, Value),
    /// Offset after the 802.11 header of a data frame at `header`, in a capture with radiotap: padded as its flags say.
    RadiotapPayload(Value),
}

/// A comparison, constants to the right.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Test {
    pub(crate) relation: Relation,
    pub(crate) left: Value,
    pub(crate) right: Value,
}

/// What a comparison of two values comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Compared {
    /// The outcome is known whatever the packet.
    Known(bool),
    /// It is that of a test, negated or not.
    Test(Test, bool),
}

impl Compared {
    const fn not(self) -> Self {
        match self {
            Self::Known(outcome) => Self::Known(!outcome),
            Self::Test(test, negated) => Self::Test(test, !negated),
        }
    }
}

/// All values of one expression.
#[derive(Debug)]
pub(crate) struct Arena {
    exprs: Vec<Expr>,
    /// Open-addressed table of the indexes of `exprs`, a power of two long.
    table: Vec<u32>,
}

const EMPTY: u32 = u32::MAX;
/// Slots of the first table; it doubles when half full.
const TABLE_START: usize = 128;

fn hash(expr: &Expr) -> usize {
    let mix = |a: u32, b: u32, c: u32| {
        a.wrapping_mul(0x9e37_79b1)
            .rotate_left(7)
            .wrapping_add(b)
            .wrapping_mul(0x85eb_ca6b)
            .rotate_left(11)
            .wrapping_add(c)
            .wrapping_mul(0xc2b2_ae35)
    };
    let h = match *expr {
        Expr::Const(k) => mix(1, k, 0),
        Expr::Len => mix(2, 0, 0),
        Expr::Load { size, base, offset } => mix(
            3 + 16 * size.bytes(),
            base.map_or(EMPTY, Value::number),
            offset,
        ),
        Expr::Ancillary(_, k) => mix(4, k, 0),
        Expr::Msh(k) => mix(5, k, 0),
        Expr::Bin(op, a, b) => mix(6 + u32::from(op.code()) * 16, a.number(), b.number()),
        Expr::RadiotapPayload(v) => mix(8, v.number(), 0),
    };
    (h ^ (h >> 15)) as usize
}

impl Arena {
    pub(crate) fn new() -> Self {
        Self {
            exprs: Vec::with_capacity(64),
            table: alloc::vec![EMPTY; TABLE_START],
        }
    }

    /// Number of values.
    pub(crate) fn values(&self) -> usize {
        self.exprs.len()
    }

    /// What a value is.
    pub(crate) fn get(&self, v: Value) -> Expr {
        self.exprs[Self::index(v)]
    }

    /// Position of a value, for tables indexed by value.
    pub(crate) fn index(v: Value) -> usize {
        v.number() as usize - 1
    }

    fn intern(&mut self, expr: Expr) -> Value {
        if self.exprs.len() * 2 >= self.table.len() {
            self.table = alloc::vec![EMPTY; self.table.len() * 2];
            for (i, e) in self.exprs.iter().enumerate() {
                let mask = self.table.len() - 1;
                let mut at = hash(e) & mask;
                while self.table[at] != EMPTY {
                    at = (at + 1) & mask;
                }
                // An expression has far fewer values than a u32 counts: its text is limited.
                self.table[at] = i as u32;
            }
        }
        let mask = self.table.len() - 1;
        let mut at = hash(&expr) & mask;
        while self.table[at] != EMPTY {
            if self.exprs[self.table[at] as usize] == expr {
                return Value::at(self.table[at]);
            }
            at = (at + 1) & mask;
        }
        self.table[at] = self.exprs.len() as u32;
        self.exprs.push(expr);
        Value::at(self.table[at])
    }

    pub(crate) fn constant(&mut self, k: u32) -> Value {
        self.intern(Expr::Const(k))
    }

    /// The constant a value is, if it is one.
    pub(crate) fn as_const(&self, v: Value) -> Option<u32> {
        match self.get(v) {
            Expr::Const(k) => Some(k),
            _ => None,
        }
    }

    pub(crate) fn len(&mut self) -> Value {
        self.intern(Expr::Len)
    }

    pub(crate) fn msh(&mut self, offset: u32) -> Value {
        self.intern(Expr::Msh(offset))
    }

    pub(crate) fn ancillary(&mut self, size: Size, offset: u32) -> Value {
        self.intern(Expr::Ancillary(size, offset))
    }

    pub(crate) fn radiotap_payload(&mut self, header: Value) -> Value {
        self.intern(Expr::RadiotapPayload(header))
    }

    /// A load; a constant base is added to the offset, and so is a constant summand of a base too small to wrap.
    pub(crate) fn load(&mut self, size: Size, base: Option<Value>, offset: u32) -> Value {
        let (mut base, mut offset) = (base, offset);
        while let Some(b) = base {
            let (rest, k) = match self.get(b) {
                Expr::Const(k) => (None, k),
                Expr::Bin(AluOp::Add, rest, k) => match self.get(k) {
                    Expr::Const(k) => (Some(rest), k),
                    _ => break,
                },
                _ => break,
            };
            let most = rest.map_or(0, |rest| self.max(rest));
            if u64::from(most) + u64::from(k) + u64::from(offset) > SUM_MAX {
                break;
            }
            offset += k;
            base = rest;
        }
        self.intern(Expr::Load { size, base, offset })
    }

    /// An upper bound of a value, from its form alone.
    pub(crate) fn max(&self, v: Value) -> u32 {
        match self.get(v) {
            Expr::Const(k) => k,
            Expr::Load { size, .. } => size.max(),
            Expr::Msh(_) => 60,
            Expr::Bin(AluOp::And, a, b) => self.max(a).min(self.max(b)),
            Expr::Bin(AluOp::Or | AluOp::Xor, a, b) => {
                let bits = 32 - (self.max(a) | self.max(b)).leading_zeros();
                1u32.checked_shl(bits).map_or(u32::MAX, |m| m - 1)
            }
            Expr::Bin(AluOp::Rsh, a, b) => match self.as_const(b) {
                Some(k) => self.max(a).checked_shr(k).unwrap_or(0),
                None => self.max(a),
            },
            Expr::Bin(AluOp::Div | AluOp::Mod, a, _) => self.max(a),
            Expr::Bin(op @ (AluOp::Add | AluOp::Mul | AluOp::Lsh), a, b) => {
                let (a, b) = (u64::from(self.max(a)), u64::from(self.max(b)));
                let max = match op {
                    AluOp::Add => a + b,
                    AluOp::Mul => a * b,
                    _ => a << b.min(31),
                };
                u32::try_from(max).unwrap_or(u32::MAX)
            }
            _ => u32::MAX,
        }
    }

    /// An operation, folded where libpcap folds it: `x & 0` and `x * 0` lose the loads of `x`.
    pub(crate) fn bin(&mut self, op: AluOp, a: Value, b: Value) -> Value {
        let (ka, kb) = (self.as_const(a), self.as_const(b));
        if let (Some(x), Some(y)) = (ka, kb)
            && let Some(k) = alu(op, x, y, LongShift::Zero)
        {
            return self.constant(k);
        }
        if let Some(k) = kb {
            match (op, k) {
                (AluOp::And | AluOp::Mul, 0) => return b,
                (AluOp::Add | AluOp::Sub | AluOp::Or | AluOp::Xor | AluOp::Lsh | AluOp::Rsh, 0)
                | (AluOp::Mul | AluOp::Div, 1) => return a,
                (AluOp::And, mask) if self.all_bits(a) & !mask == 0 => return a,
                (AluOp::Mul, k) if k.is_power_of_two() => {
                    let by = self.constant(k.trailing_zeros());
                    return self.bin(AluOp::Lsh, a, by);
                }
                (AluOp::Sub, k) => {
                    let by = self.constant(k.wrapping_neg());
                    return self.bin(AluOp::Add, a, by);
                }
                _ => {}
            }
            if let Expr::Bin(inner, x, c) = self.get(a)
                && let Some(c) = self.as_const(c)
                && let Some(folded) = fold_twice(op, inner, c, k)
            {
                let by = self.constant(folded);
                return self.bin(inner, x, by);
            }
        } else if ka.is_some() && commutes(op) {
            return self.bin(op, b, a);
        }
        self.intern(Expr::Bin(op, a, b))
    }

    /// The bits a value may have.
    fn all_bits(&self, v: Value) -> u32 {
        let max = self.max(v);
        match 32 - max.leading_zeros() {
            32 => u32::MAX,
            bits => (1 << bits) - 1,
        }
    }

    /// A comparison in its one form: a constant is at the right, `Gt` with a constant is `Ge`, a masked comparison with
    /// zero or with its only bit is `Set`, a difference compared with zero is a comparison of two values.
    pub(crate) fn compare(&mut self, relation: Relation, left: Value, right: Value) -> Compared {
        let (kl, kr) = (self.as_const(left), self.as_const(right));
        if let (Some(a), Some(b)) = (kl, kr) {
            return Compared::Known(relation.holds(a, b));
        }
        if kl.is_some() {
            return match relation {
                Relation::Eq | Relation::Set => self.compare(relation, right, left),
                // k > x is not x >= k, k >= x is not x > k.
                Relation::Gt => self.compare(Relation::Ge, right, left).not(),
                Relation::Ge => self.compare(Relation::Gt, right, left).not(),
            };
        }
        let Some(k) = kr else {
            // One form for equal pairs, so that they are recognised.
            let swap = matches!(relation, Relation::Eq | Relation::Set) && right < left;
            return if swap {
                test(relation, right, left)
            } else {
                test(relation, left, right)
            };
        };
        match (relation, k) {
            (Relation::Gt, u32::MAX) | (Relation::Set, 0) => Compared::Known(false),
            (Relation::Gt, k) => {
                let k = self.constant(k + 1);
                self.compare(Relation::Ge, left, k)
            }
            (Relation::Ge, 0) => Compared::Known(true),
            (Relation::Ge, 1) => self.equal(left, 0).not(),
            (Relation::Ge, k) if k > self.max(left) => Compared::Known(false),
            (Relation::Eq, k) if k > self.max(left) => Compared::Known(false),
            (Relation::Eq, k) => self.equal(left, k),
            (Relation::Set, k) => {
                // Bits that are masked out never are set.
                if let Expr::Bin(AluOp::And, inner, mask) = self.get(left)
                    && let Some(mask) = self.as_const(mask)
                {
                    let both = self.constant(k & mask);
                    return self.compare(Relation::Set, inner, both);
                }
                test(relation, left, right)
            }
            _ => test(relation, left, right),
        }
    }

    fn equal(&mut self, left: Value, k: u32) -> Compared {
        let constant = |this: &Self, v: Value| this.as_const(v);
        match self.get(left) {
            Expr::Bin(AluOp::And, inner, mask) => {
                if let Some(mask) = constant(self, mask)
                    && (k == 0 || (k == mask && mask.is_power_of_two()))
                {
                    let mask = self.constant(mask);
                    let set = test(Relation::Set, inner, mask);
                    return if k == 0 { set.not() } else { set };
                }
            }
            // x + c == k is x == k - c, x ^ c == k is x == k ^ c.
            Expr::Bin(AluOp::Add, inner, c) => {
                if let Some(c) = constant(self, c) {
                    let k = self.constant(k.wrapping_sub(c));
                    return self.compare(Relation::Eq, inner, k);
                }
            }
            Expr::Bin(AluOp::Xor, inner, c) => {
                if let Some(c) = constant(self, c) {
                    let k = self.constant(k ^ c);
                    return self.compare(Relation::Eq, inner, k);
                }
                if k == 0 {
                    return self.compare(Relation::Eq, inner, c);
                }
            }
            // a - b == 0 is a == b.
            Expr::Bin(AluOp::Sub, a, b) if k == 0 => return self.compare(Relation::Eq, a, b),
            _ => {}
        }
        let right = self.constant(k);
        test(Relation::Eq, left, right)
    }
}

const fn test(relation: Relation, left: Value, right: Value) -> Compared {
    let test = Test {
        relation,
        left,
        right,
    };
    Compared::Test(test, false)
}

/// Offsets are folded up to here, far below where 32 bits wrap.
const SUM_MAX: u64 = 0x3fff_ffff;

fn commutes(op: AluOp) -> bool {
    matches!(
        op,
        AluOp::Add | AluOp::Mul | AluOp::And | AluOp::Or | AluOp::Xor
    )
}

/// `(x inner c) op k` as `x inner folded`.
fn fold_twice(op: AluOp, inner: AluOp, c: u32, k: u32) -> Option<u32> {
    match (inner, op) {
        (AluOp::Add, AluOp::Add) => Some(c.wrapping_add(k)),
        (AluOp::And, AluOp::And) => Some(c & k),
        (AluOp::Or, AluOp::Or) => Some(c | k),
        (AluOp::Xor, AluOp::Xor) => Some(c ^ k),
        (AluOp::Lsh, AluOp::Lsh) | (AluOp::Rsh, AluOp::Rsh) => {
            c.checked_add(k).filter(|sum| *sum < 32)
        }
        _ => None,
    }
}

impl Arena {
    /// The value at a position.
    pub(crate) fn at(&self, index: usize) -> Value {
        debug_assert!(index < self.exprs.len(), "values are counted");
        Value::at(index as u32)
    }

    /// The value of an expression, if it occurs.
    pub(crate) fn find(&self, expr: Expr) -> Option<Value> {
        let mask = self.table.len() - 1;
        let mut at = hash(&expr) & mask;
        while self.table[at] != EMPTY {
            if self.exprs[self.table[at] as usize] == expr {
                return Some(Value::at(self.table[at]));
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// The value zero, if it occurs.
    pub(crate) fn zero(&self) -> Option<Value> {
        self.find(Expr::Const(0))
    }
}
