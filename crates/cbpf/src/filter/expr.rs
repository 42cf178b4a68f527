//! What a filter computes: values and conditions, each stored once and named by an index.
//!
//! Values are pure: the same index is the same value wherever it is evaluated in one run, so facts about an index hold
//! along a whole path. Loads past the end of the packet end the run with "reject"; that is why the order of conditions
//! matters and no load is ever moved or dropped silently.

use crate::insn::{AluOp, Relation, Size};
use crate::interp::{LongShift, alu};
use alloc::vec::Vec;

/// A value, by index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) struct Value(u32);

/// A condition, by index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) struct Cond(u32);

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
    /// Set by an assignment on every path to its use.
    Var(u32),
    /// Offset after the 802.11 header of a data frame at `header`, in a capture with radiotap: padded as its flags say.
    RadiotapPayload(Value),
}

/// A comparison, constants to the right.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Test {
    pub(crate) relation: Relation,
    pub(crate) left: Value,
    pub(crate) right: Value,
    /// Written as arithmetic: libpcap sees what it says too late to skip other loads because of it.
    pub(crate) late: bool,
}

/// Which headers `protochain` walks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Chain {
    pub(crate) six: bool,
    pub(crate) offset: u32,
    pub(crate) protocol: u32,
}

/// What a condition is. `And` and `Or` evaluate the left side first and the right side only if it matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CondKind {
    True,
    False,
    Test(Test),
    /// True; the value is computed for its loads alone.
    Touch(Value),
    /// True; sets a variable.
    Assign(u32, Value),
    Chain(Chain),
    Not(Cond),
    And(Cond, Cond),
    Or(Cond, Cond),
}

/// All values and conditions of one expression.
#[derive(Debug)]
pub(crate) struct Arena {
    exprs: Vec<Expr>,
    /// Open-addressed table of the indexes of `exprs`, a power of two long.
    table: Vec<u32>,
    conds: Vec<CondKind>,
    vars: u32,
    /// Whether new tests come from arithmetic.
    pub(crate) late: bool,
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
        Expr::Load { size, base, offset } => {
            mix(3 + 16 * size.bytes(), base.map_or(EMPTY, |b| b.0), offset)
        }
        Expr::Ancillary(_, k) => mix(4, k, 0),
        Expr::Msh(k) => mix(5, k, 0),
        Expr::Bin(op, a, b) => mix(6 + u32::from(op.code()) * 16, a.0, b.0),
        Expr::Var(v) => mix(7, v, 0),
        Expr::RadiotapPayload(v) => mix(8, v.0, 0),
    };
    (h ^ (h >> 15)) as usize
}

impl Arena {
    pub(crate) fn new() -> Self {
        Self {
            exprs: Vec::with_capacity(64),
            table: alloc::vec![EMPTY; TABLE_START],
            conds: Vec::with_capacity(64),
            vars: 0,
            late: false,
        }
    }

    /// Number of values.
    pub(crate) fn values(&self) -> usize {
        self.exprs.len()
    }

    /// What a value is.
    pub(crate) fn get(&self, v: Value) -> Expr {
        self.exprs[v.0 as usize]
    }

    /// Position of a value, for tables indexed by value.
    pub(crate) fn index(v: Value) -> usize {
        v.0 as usize
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
                return Value(self.table[at]);
            }
            at = (at + 1) & mask;
        }
        self.table[at] = self.exprs.len() as u32;
        self.exprs.push(expr);
        Value(self.table[at])
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

    /// A new variable.
    pub(crate) fn var(&mut self) -> u32 {
        self.vars += 1;
        self.vars - 1
    }

    pub(crate) fn var_value(&mut self, var: u32) -> Value {
        self.intern(Expr::Var(var))
    }

    /// A load; a constant base is added to the offset, and so is a constant summand of a base too small to wrap.
    pub(crate) fn load(&mut self, size: Size, base: Option<Value>, offset: u32) -> Value {
        let (mut base, mut offset) = (base, offset);
        while let Some(b) = base {
            match self.get(b) {
                Expr::Const(k) => {
                    offset = offset.wrapping_add(k);
                    base = None;
                }
                Expr::Bin(AluOp::Add, rest, k) => {
                    let Expr::Const(k) = self.get(k) else { break };
                    let limit = u64::from(self.max(rest)) + u64::from(k) + u64::from(offset);
                    // A constant index into a transport header is folded by libpcap, too, however it wraps.
                    if limit > SUM_MAX && !matches!(self.get(rest), Expr::Msh(_)) {
                        break;
                    }
                    offset = offset.wrapping_add(k);
                    base = Some(rest);
                }
                _ => break,
            }
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

    pub(crate) fn cond(&mut self, kind: CondKind) -> Cond {
        self.conds.push(kind);
        Cond(self.conds.len() as u32 - 1)
    }

    pub(crate) fn cond_kind(&self, c: Cond) -> CondKind {
        self.conds[c.0 as usize]
    }

    pub(crate) fn truth(&mut self, value: bool) -> Cond {
        self.cond(if value {
            CondKind::True
        } else {
            CondKind::False
        })
    }

    pub(crate) fn not(&mut self, c: Cond) -> Cond {
        match self.cond_kind(c) {
            CondKind::Not(inner) => inner,
            CondKind::True => self.truth(false),
            CondKind::False => self.truth(true),
            _ => self.cond(CondKind::Not(c)),
        }
    }

    /// Both, in this order. An alternative that cannot change the answer is not evaluated at all, as in libpcap.
    pub(crate) fn and(&mut self, a: Cond, b: Cond) -> Cond {
        match (self.cond_kind(a), self.cond_kind(b)) {
            (CondKind::True, _) | (_, CondKind::False) => b,
            (_, CondKind::True) | (CondKind::False, _) => a,
            _ => self.cond(CondKind::And(a, b)),
        }
    }

    pub(crate) fn or(&mut self, a: Cond, b: Cond) -> Cond {
        match (self.cond_kind(a), self.cond_kind(b)) {
            (CondKind::False, _) | (_, CondKind::True) => b,
            (_, CondKind::False) | (CondKind::True, _) => a,
            _ => self.cond(CondKind::Or(a, b)),
        }
    }

    /// A comparison in its one form: a constant is at the right, `Gt` with a constant is `Ge`, a masked comparison with
    /// zero or with its only bit is `Set`.
    pub(crate) fn test(&mut self, relation: Relation, left: Value, right: Value) -> Cond {
        let (kl, kr) = (self.as_const(left), self.as_const(right));
        if let (Some(a), Some(b)) = (kl, kr) {
            return self.truth(relation.holds(a, b));
        }
        if kl.is_some() {
            return match relation {
                Relation::Eq | Relation::Set => self.test(relation, right, left),
                // k > x is not x >= k, k >= x is not x > k.
                Relation::Gt => {
                    let c = self.test(Relation::Ge, right, left);
                    self.not(c)
                }
                Relation::Ge => {
                    let c = self.test(Relation::Gt, right, left);
                    self.not(c)
                }
            };
        }
        let Some(k) = kr else {
            return self.test_two(relation, left, right);
        };
        match (relation, k) {
            (Relation::Gt, u32::MAX) => {
                let all = self.always(left);
                self.not(all)
            }
            (Relation::Gt, k) => {
                let k = self.constant(k + 1);
                self.test(Relation::Ge, left, k)
            }
            (Relation::Ge, 0) => self.always(left),
            (Relation::Ge, 1) => {
                let zero = self.constant(0);
                let c = self.test(Relation::Eq, left, zero);
                self.not(c)
            }
            (Relation::Eq, k) => self.test_equal(left, k),
            _ => self.cond(CondKind::Test(Test {
                relation,
                left,
                right,
                late: self.late,
            })),
        }
    }

    /// A comparison that holds for every value, but whose loads count.
    fn always(&mut self, left: Value) -> Cond {
        let right = self.constant(0);
        self.cond(CondKind::Test(Test {
            relation: Relation::Ge,
            left,
            right,
            late: self.late,
        }))
    }

    /// An outcome that libpcap learns too late to skip loads because of it.
    pub(crate) fn late_truth(&mut self, outcome: bool) -> Cond {
        let zero = self.constant(0);
        let cond = self.cond(CondKind::Test(Test {
            relation: Relation::Eq,
            left: zero,
            right: zero,
            late: true,
        }));
        if outcome { cond } else { self.not(cond) }
    }

    fn test_two(&mut self, relation: Relation, left: Value, right: Value) -> Cond {
        // One form for equal pairs, so that they are recognised.
        let swap = matches!(relation, Relation::Eq | Relation::Set) && right < left;
        let (left, right) = if swap { (right, left) } else { (left, right) };
        self.cond(CondKind::Test(Test {
            relation,
            left,
            right,
            late: self.late,
        }))
    }

    fn test_equal(&mut self, left: Value, k: u32) -> Cond {
        if let Expr::Bin(AluOp::And, inner, mask) = self.get(left)
            && let Some(mask) = self.as_const(mask)
            && (k == 0 || (k == mask && mask.is_power_of_two()))
        {
            let right = self.constant(mask);
            let set = self.cond(CondKind::Test(Test {
                relation: Relation::Set,
                left: inner,
                right,
                late: self.late,
            }));
            return if k == 0 { self.not(set) } else { set };
        }
        // x + c == k is x == k - c, x ^ c == k is x == k ^ c.
        if let Expr::Bin(op @ (AluOp::Add | AluOp::Xor), inner, c) = self.get(left)
            && let Some(c) = self.as_const(c)
        {
            let k = if op == AluOp::Add {
                k.wrapping_sub(c)
            } else {
                k ^ c
            };
            return self.test_equal(inner, k);
        }
        let right = self.constant(k);
        self.cond(CondKind::Test(Test {
            relation: Relation::Eq,
            left,
            right,
            late: self.late,
        }))
    }
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
        Value(index as u32)
    }

    /// The value of an expression, if it occurs.
    pub(crate) fn find(&self, expr: Expr) -> Option<Value> {
        let mask = self.table.len() - 1;
        let mut at = hash(&expr) & mask;
        while self.table[at] != EMPTY {
            if self.exprs[self.table[at] as usize] == expr {
                return Some(Value(self.table[at]));
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
