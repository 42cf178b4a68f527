//! Constant folding, algebra, common subexpressions, redundant masks and phis.
//!
//! One pass over the blocks in reverse postorder; every operand has been simplified before its uses but for those that come
//! round a loop, which the next pass sees.

use super::bits;
use super::constants::{cut, evaluate, holds, is_signed, unsigned};
use super::hash::FastMap;
use crate::jit::image::Symbol;
use crate::jit::ir::dom::Shape;
use crate::jit::ir::{BinOp, Block, Cmp, Graph, Inst, Place, Term, Value};
use crate::lowered::{OpIdx, confined};
use skep_isa::{JmpOp, Size, Width};

/// The lower half.
const LOW: u64 = 0xffff_ffff;
/// Rewrites of one instruction before it is taken as it is.
const REWRITES: usize = 8;

/// Simplifies a graph; true if anything changed.
pub(crate) fn run(g: &mut Graph) -> bool {
    let shape = Shape::of(g);
    let zeros = bits::known_zero(g, &shape);
    let identity = (0..g.insts.len() as u32).map(Value).collect();
    let homes = g.homes();
    let mut s = Simplifier {
        g,
        shape: &shape,
        zeros,
        with: identity,
        homes,
        table: FastMap::default(),
        roots: FastMap::default(),
        changed: false,
    };
    for &b in &shape.order {
        s.block(b);
    }
    let (with, changed) = (s.with, s.changed);
    let resolved: Vec<Value> = (0..with.len())
        .map(|i| resolve(&with, Value(i as u32)))
        .collect();
    g.rewrite(&resolved);
    changed
}

fn resolve(with: &[Value], mut v: Value) -> Value {
    while with[v.index()] != v {
        v = with[v.index()];
    }
    v
}

/// What becomes of an instruction.
enum Fold {
    Keep,
    /// It is another value.
    Same(Value),
    /// It is a simpler instruction.
    Into(Inst),
}

struct Simplifier<'a> {
    g: &'a mut Graph,
    shape: &'a Shape,
    zeros: Vec<u64>,
    /// What each value was replaced by.
    with: Vec<Value>,
    homes: Vec<Block>,
    /// Pure instructions seen.
    table: FastMap<Inst, Vec<Value>>,
    /// Constants and the like, which live in the entry block.
    roots: FastMap<Inst, Value>,
    changed: bool,
}

impl Simplifier<'_> {
    fn block(&mut self, b: Block) {
        let insts = std::mem::take(&mut self.g.block_mut(b).insts);
        let mut out = Vec::with_capacity(insts.len());
        for v in insts {
            if matches!(self.g.inst(v), Inst::Nop) {
                continue;
            }
            if let Some(v) = self.inst(b, v) {
                out.push(v);
            }
        }
        // Roots may have been put here meanwhile.
        let data = self.g.block_mut(b);
        let roots = std::mem::take(&mut data.insts);
        data.insts = roots.into_iter().chain(out).collect();
        self.term(b);
    }

    /// Simplifies `v`. `None` if it is another value now.
    fn inst(&mut self, b: Block, v: Value) -> Option<Value> {
        let mut inst = std::mem::replace(&mut self.g.insts[v.index()], Inst::Nop);
        inst.each_arg_mut(|a| *a = resolve(&self.with, *a));
        for _ in 0..REWRITES {
            match self.fold(v, &inst) {
                Fold::Keep => break,
                Fold::Same(other) => return self.replace(v, other),
                Fold::Into(new) => {
                    self.changed = true;
                    inst = new;
                }
            }
        }
        if is_root(&inst) {
            let root = self.root(inst, v);
            return if root == v {
                None
            } else {
                self.replace(v, root)
            };
        }
        let is_phi = matches!(inst, Inst::Phi(_));
        if inst.is_pure() || is_phi {
            let known = self.table.entry(inst.clone()).or_default();
            let dominating = known.iter().copied().find(|k| match is_phi {
                true => self.homes[k.index()] == b,
                false => self.shape.dominates(self.homes[k.index()], b),
            });
            if let Some(k) = dominating {
                return self.replace(v, k);
            }
            known.push(v);
        }
        self.g.insts[v.index()] = inst;
        self.homes[v.index()] = b;
        Some(v)
    }

    fn replace(&mut self, v: Value, other: Value) -> Option<Value> {
        self.with[v.index()] = other;
        self.changed = true;
        None
    }

    /// The one instance of a root instruction; `v` itself becomes it if there is none.
    fn root(&mut self, inst: Inst, v: Value) -> Value {
        if let Some(&known) = self.roots.get(&inst) {
            return known;
        }
        self.roots.insert(inst.clone(), v);
        self.g.insts[v.index()] = inst;
        self.homes[v.index()] = Block::ENTRY;
        self.g.block_mut(Block::ENTRY).insts.insert(0, v);
        v
    }

    fn constant(&mut self, c: u64, origin: OpIdx) -> Value {
        let inst = Inst::Const(c);
        if let Some(&known) = self.roots.get(&inst) {
            return known;
        }
        let v = self.fresh(Inst::Nop, origin, !c);
        self.root(inst, v)
    }

    fn fresh(&mut self, inst: Inst, origin: OpIdx, zeros: u64) -> Value {
        let v = self.g.add(inst, origin);
        self.with.push(v);
        self.zeros.push(zeros);
        self.homes.push(Block::ENTRY);
        v
    }

    fn term(&mut self, b: Block) {
        let mut term = std::mem::replace(&mut self.g.block_mut(b).term, Term::Unreachable);
        term.each_arg_mut(|a| *a = resolve(&self.with, *a));
        let origin = self
            .g
            .block(b)
            .insts
            .last()
            .map_or(0, |v| self.g.origin[v.index()]);
        if let Term::Branch { cmp, then, other } = term {
            let cmp = self.compare(cmp, origin);
            term = match self.decide(&cmp) {
                Some(taken) => {
                    let (to, not) = if taken { (then, other) } else { (other, then) };
                    self.g.remove_edge(b, not);
                    self.changed = true;
                    Term::Jump(to)
                }
                None if then == other => {
                    self.g.remove_edge(b, other);
                    self.changed = true;
                    Term::Jump(then)
                }
                None => Term::Branch { cmp, then, other },
            };
        }
        if let Term::Switch { value, targets } = &term
            && let Some(c) = self.g.constant(*value)
        {
            let to = targets[c as usize];
            for (i, &t) in targets.iter().enumerate() {
                if i != c as usize {
                    self.g.remove_edge(b, t);
                }
            }
            self.changed = true;
            term = Term::Jump(to);
        }
        self.g.block_mut(b).term = term;
    }

    // Rules.

    fn fold(&mut self, v: Value, inst: &Inst) -> Fold {
        let origin = self.g.origin[v.index()];
        match *inst {
            Inst::Phi(ref args) => self.phi(v, args),
            Inst::Bin(op, width, x, y) => self.bin(v, op, width, x, y),
            Inst::Neg(width, x) => match self.g.constant(x) {
                Some(c) => Fold::Into(Inst::Const(cut(width, c.wrapping_neg()))),
                None => Fold::Keep,
            },
            Inst::Sext { from, width, value } => self.sext(from, width, value, origin),
            Inst::Confine { value, limit } => match self.g.constant(value) {
                Some(c) => Fold::Into(Inst::Const(confined(c, limit))),
                None => Fold::Keep,
            },
            Inst::Bswap(size, x) => match self.g.constant(x) {
                Some(c) => Fold::Into(Inst::Const(c.swap_bytes() >> (64 - size.bits()))),
                None => Fold::Keep,
            },
            Inst::Select { cmp, then, other } => self.select(cmp, then, other, origin),
            Inst::Load {
                size,
                extend,
                place,
            } => match self.place(place, origin) {
                Some(place) => Fold::Into(Inst::Load {
                    size,
                    extend,
                    place,
                }),
                None => Fold::Keep,
            },
            Inst::Acquire { size, place, old } => match self.place(place, origin) {
                Some(place) => Fold::Into(Inst::Acquire { size, place, old }),
                None => Fold::Keep,
            },
            Inst::Store { size, place, value } => self.store(size, place, value, origin),
            Inst::Atomic {
                size,
                op,
                place,
                value,
                expected,
            } => match self.place(place, origin) {
                Some(place) => Fold::Into(Inst::Atomic {
                    size,
                    op,
                    place,
                    value,
                    expected,
                }),
                None => Fold::Keep,
            },
            _ => Fold::Keep,
        }
    }

    fn phi(&self, v: Value, args: &[Value]) -> Fold {
        let mut only = None;
        for &a in args {
            if a != v && only.is_some_and(|o| o != a) {
                return Fold::Keep;
            }
            if a != v {
                only = Some(a);
            }
        }
        only.map_or(Fold::Keep, Fold::Same)
    }

    /// `x` at a width: itself, or its lower half.
    fn copy(&mut self, width: Width, x: Value, origin: OpIdx) -> Fold {
        if width == Width::W64 || self.zeros[x.index()] | LOW == u64::MAX {
            return Fold::Same(x);
        }
        let mask = self.constant(LOW, origin);
        Fold::Into(Inst::Bin(BinOp::And, Width::W64, x, mask))
    }

    fn bin(&mut self, v: Value, op: BinOp, width: Width, x: Value, y: Value) -> Fold {
        let origin = self.g.origin[v.index()];
        if width == Width::W32 {
            let (sx, sy) = (self.strip(x, LOW), self.strip(y, LOW));
            if (sx, sy) != (x, y) {
                return Fold::Into(Inst::Bin(op, width, sx, sy));
            }
        }
        let (cx, cy) = (self.g.constant(x), self.g.constant(y));
        if let (Some(a), Some(b)) = (cx, cy) {
            return Fold::Into(Inst::Const(evaluate(op, width, a, b)));
        }
        if cx.is_some() && op.commutes() {
            return Fold::Into(Inst::Bin(op, width, y, x));
        }
        if x == y {
            match op {
                BinOp::Xor | BinOp::Sub => return Fold::Into(Inst::Const(0)),
                BinOp::And | BinOp::Or => return self.copy(width, x, origin),
                _ => {}
            }
        }
        if let Some(c) = cy {
            return self.bin_constant(op, width, x, cut(width, c), origin);
        }
        match op {
            BinOp::Sub => self.sub(width, x, y, origin),
            BinOp::Add => self.add(width, x, y, origin),
            BinOp::Or | BinOp::Xor => self.rotate(width, x, y, origin),
            _ => Fold::Keep,
        }
    }

    /// Rules for a constant second operand, which has been cut to the width.
    fn bin_constant(&mut self, op: BinOp, width: Width, x: Value, c: u64, origin: OpIdx) -> Fold {
        let all = cut(width, u64::MAX);
        let bits = if width == Width::W64 { 64 } else { 32 };
        match (op, c) {
            (BinOp::Add | BinOp::Sub | BinOp::Or | BinOp::Xor, 0)
            | (BinOp::Mul | BinOp::Div | BinOp::Sdiv, 1) => self.copy(width, x, origin),
            (BinOp::Shl | BinOp::Shr | BinOp::Sar | BinOp::Rotl, c) if c & (bits - 1) == 0 => {
                self.copy(width, x, origin)
            }
            (BinOp::Mod, 0) | (BinOp::Smod, 0) => self.copy(width, x, origin),
            (BinOp::Mul | BinOp::And | BinOp::Div | BinOp::Sdiv, 0)
            | (BinOp::Mod | BinOp::Smod, 1) => Fold::Into(Inst::Const(0)),
            (BinOp::Or, c) if c == all => Fold::Into(Inst::Const(all)),
            (BinOp::Sub, c) => {
                self.with_constant(BinOp::Add, width, x, cut(width, c.wrapping_neg()), origin)
            }
            (BinOp::Mul, c) if c.is_power_of_two() => {
                self.with_constant(BinOp::Shl, width, x, u64::from(c.trailing_zeros()), origin)
            }
            (BinOp::Div, c) if c.is_power_of_two() => {
                self.with_constant(BinOp::Shr, width, x, u64::from(c.trailing_zeros()), origin)
            }
            (BinOp::Mod, c) if c.is_power_of_two() => {
                self.with_constant(BinOp::And, width, x, c - 1, origin)
            }
            (BinOp::And, c) => self.and(width, x, c, origin),
            (BinOp::Add | BinOp::Or | BinOp::Xor, c) => self.reassociate(op, width, x, c, origin),
            (BinOp::Shl | BinOp::Shr, c) => self.shift_twice(op, width, x, c, origin),
            _ => Fold::Keep,
        }
    }

    fn with_constant(&mut self, op: BinOp, width: Width, x: Value, c: u64, origin: OpIdx) -> Fold {
        let c = self.constant(c, origin);
        Fold::Into(Inst::Bin(op, width, x, c))
    }

    fn and(&mut self, width: Width, x: Value, c: u64, origin: OpIdx) -> Fold {
        // Bits that are zero anyway need no mask.
        let zeros = self.zeros[x.index()];
        if width == Width::W32 {
            return self.with_constant(BinOp::And, Width::W64, x, c, origin);
        }
        if zeros | c == u64::MAX {
            return Fold::Same(x);
        }
        if !zeros & c == 0 {
            return Fold::Into(Inst::Const(0));
        }
        if let Inst::Bin(BinOp::And, Width::W64, inner, m) = *self.g.inst(x)
            && let Some(m) = self.g.constant(m)
        {
            return self.with_constant(BinOp::And, Width::W64, inner, m & c, origin);
        }
        let stripped = self.strip(x, c);
        if stripped != x {
            let c = self.constant(c, origin);
            return Fold::Into(Inst::Bin(BinOp::And, Width::W64, stripped, c));
        }
        Fold::Keep
    }

    /// `(x op c1) op c2` is `x op (c1 op c2)`; frame addresses absorb additions.
    fn reassociate(&mut self, op: BinOp, width: Width, x: Value, c: u64, origin: OpIdx) -> Fold {
        match *self.g.inst(x) {
            Inst::FrameAddr(at) if op == BinOp::Add && width == Width::W64 => {
                let sum = i32::try_from(c.cast_signed())
                    .ok()
                    .and_then(|c| at.checked_add(c));
                sum.map_or(Fold::Keep, |at| Fold::Into(Inst::FrameAddr(at)))
            }
            Inst::Bin(inner, w, y, k) if inner == op && (w == width || width == Width::W32) => {
                match self.g.constant(k) {
                    Some(k) => {
                        let c = evaluate(op, width, k, c);
                        self.with_constant(op, width, y, c, origin)
                    }
                    None => Fold::Keep,
                }
            }
            _ => Fold::Keep,
        }
    }

    fn shift_twice(&mut self, op: BinOp, width: Width, x: Value, c: u64, origin: OpIdx) -> Fold {
        let bits = if width == Width::W64 { 64 } else { 32 };
        if let Inst::Bin(inner, w, y, k) = *self.g.inst(x)
            && inner == op
            && w == width
            && let Some(k) = self.g.constant(k)
            && (k & (bits - 1)) + (c & (bits - 1)) < bits
        {
            return self.with_constant(op, width, y, (k & (bits - 1)) + (c & (bits - 1)), origin);
        }
        Fold::Keep
    }

    fn sub(&mut self, width: Width, x: Value, y: Value, origin: OpIdx) -> Fold {
        // (a + y) - y
        if let Inst::Bin(BinOp::Add, w, a, b) = *self.g.inst(x)
            && (w == width || width == Width::W32)
        {
            if b == y {
                return self.copy(width, a, origin);
            }
            if a == y {
                return self.copy(width, b, origin);
            }
        }
        Fold::Keep
    }

    fn add(&mut self, width: Width, x: Value, y: Value, origin: OpIdx) -> Fold {
        for (x, y) in [(x, y), (y, x)] {
            // (a - y) + y
            if let Inst::Bin(BinOp::Sub, w, a, b) = *self.g.inst(x)
                && (w == width || width == Width::W32)
                && b == y
            {
                return self.copy(width, a, origin);
            }
        }
        self.rotate(width, x, y, origin)
    }

    /// `x << k | x >> (bits - k)`
    fn rotate(&mut self, width: Width, x: Value, y: Value, origin: OpIdx) -> Fold {
        for (left, right) in [(x, y), (y, x)] {
            if let Inst::Bin(BinOp::Shl, wl, a, k) = *self.g.inst(left)
                && let Inst::Bin(BinOp::Shr, wr, b, n) = *self.g.inst(right)
                && wl == wr
                && let (Some(k), Some(n)) = (self.g.constant(k), self.g.constant(n))
                && k > 0
                && n > 0
                && k + n == if wl == Width::W64 { 64 } else { 32 }
                && (a == b || wl == Width::W32 && self.strip(a, LOW) == self.strip(b, LOW))
                && (wl == width || wl == Width::W32)
            {
                return self.with_constant(BinOp::Rotl, wl, a, k, origin);
            }
        }
        Fold::Keep
    }

    /// A value with the same bits in `mask`, reached by dropping masks.
    fn strip(&self, mut v: Value, mask: u64) -> Value {
        while let Inst::Bin(BinOp::And, Width::W64, x, c) = *self.g.inst(v)
            && self.g.constant(c).is_some_and(|c| c & mask == mask)
        {
            v = x;
        }
        v
    }

    fn sext(&mut self, from: Size, width: Width, value: Value, origin: OpIdx) -> Fold {
        let sign = 1_u64 << (from.bits() - 1);
        if let Some(c) = self.g.constant(value) {
            let shift = 64 - from.bits();
            let c = ((c << shift).cast_signed() >> shift).cast_unsigned();
            return Fold::Into(Inst::Const(cut(width, c)));
        }
        if self.zeros[value.index()] & sign != 0 {
            return self.with_constant(BinOp::And, Width::W64, value, sign - 1, origin);
        }
        let stripped = self.strip(value, 2 * sign - 1);
        if stripped == value {
            return Fold::Keep;
        }
        Fold::Into(Inst::Sext {
            from,
            width,
            value: stripped,
        })
    }

    fn select(&mut self, cmp: Cmp, then: Value, other: Value, origin: OpIdx) -> Fold {
        if then == other {
            return Fold::Same(then);
        }
        let new = self.compare(cmp, origin);
        match self.decide(&new) {
            Some(true) => Fold::Same(then),
            Some(false) => Fold::Same(other),
            None if new != cmp => Fold::Into(Inst::Select {
                cmp: new,
                then,
                other,
            }),
            None => Fold::Keep,
        }
    }

    /// Moves a constant addition from the base into the offset.
    fn place(&mut self, place: Place, origin: OpIdx) -> Option<Place> {
        match *self.g.inst(place.base) {
            Inst::Bin(BinOp::Add, Width::W64, x, c) => {
                let c = i32::try_from(self.g.constant(c)?.cast_signed()).ok()?;
                let offset = place.offset.checked_add(c)?;
                Some(Place {
                    base: x,
                    offset,
                    ..place
                })
            }
            Inst::FrameAddr(at) if at != 0 => {
                let offset = place.offset.checked_add(at)?;
                let base = self.frame_bottom(origin);
                Some(Place {
                    base,
                    offset,
                    ..place
                })
            }
            _ => None,
        }
    }

    fn frame_bottom(&mut self, origin: OpIdx) -> Value {
        if let Some(&known) = self.roots.get(&Inst::FrameAddr(0)) {
            return known;
        }
        let v = self.fresh(Inst::Nop, origin, 0);
        self.root(Inst::FrameAddr(0), v)
    }

    fn store(&mut self, size: Size, place: Place, value: Value, origin: OpIdx) -> Fold {
        let stripped = self.strip(value, !bits::above(size));
        let moved = self.place(place, origin);
        if stripped == value && moved.is_none() {
            return Fold::Keep;
        }
        Fold::Into(Inst::Store {
            size,
            place: moved.unwrap_or(place),
            value: stripped,
        })
    }

    /// A comparison in its simplest form: constants second, narrow, unsigned where the sign is known.
    fn compare(&mut self, mut c: Cmp, origin: OpIdx) -> Cmp {
        if self.g.constant(c.a).is_some() && self.g.constant(c.b).is_none() {
            c = Cmp {
                op: c.op.mirrored(),
                a: c.b,
                b: c.a,
                ..c
            };
        }
        if c.width == Width::W32 {
            c.a = self.strip(c.a, LOW);
            c.b = self.strip(c.b, LOW);
        }
        let (za, zb) = (self.zeros[c.a.index()], self.zeros[c.b.index()]);
        let both = za & zb;
        let sign = if c.width == Width::W64 {
            1 << 63
        } else {
            1 << 31
        };
        if both & sign != 0 {
            c.op = unsigned(c.op);
        }
        let narrow = both | LOW == u64::MAX && !is_signed(c.op);
        if c.width == Width::W64 && narrow {
            c.width = Width::W32;
        }
        if matches!(c.op, JmpOp::Ne | JmpOp::Gt)
            && self.g.constant(c.b) == Some(0)
            && let Inst::Bin(BinOp::And, Width::W64, x, y) = *self.g.inst(c.a)
            && (c.width == Width::W64 || za | LOW == u64::MAX)
        {
            let width = if za | LOW == u64::MAX {
                Width::W32
            } else {
                Width::W64
            };
            c = Cmp {
                op: JmpOp::Set,
                width,
                a: x,
                b: y,
            };
        }
        let c = self.null_check(c);
        self.compare_to_one(c, origin)
    }

    /// A test of a lookup's result for null is the test that the lookup made.
    fn null_check(&self, c: Cmp) -> Cmp {
        let zero = |v: Value| self.g.constant(v) == Some(0);
        let Inst::Select { cmp, then, other } = *self.g.inst(c.a) else {
            return c;
        };
        if c.width != Width::W64 || !zero(c.b) || !zero(other) || !self.is_address(then) {
            return c;
        }
        match c.op {
            JmpOp::Ne => cmp,
            JmpOp::Eq => cmp.op.inverse().map_or(c, |op| Cmp { op, ..cmp }),
            _ => c,
        }
    }

    /// True if a value is an address inside a map, which is never null.
    fn is_address(&self, v: Value) -> bool {
        let symbol = |v| {
            matches!(
                self.g.inst(v),
                Inst::Symbol(Symbol::Map(_) | Symbol::MapValue { .. })
            )
        };
        match *self.g.inst(v) {
            Inst::Symbol(_) => symbol(v),
            Inst::Bin(BinOp::Add, Width::W64, a, b) => {
                let small = |v: Value| self.zeros[v.index()].leading_ones() >= 16;
                symbol(a) && small(b) || symbol(b) && small(a)
            }
            _ => false,
        }
    }

    /// `x < 1` is `x == 0`, `x >= 1` and `x > 0` are `x != 0`.
    fn compare_to_one(&mut self, mut c: Cmp, origin: OpIdx) -> Cmp {
        let one = self.g.constant(c.b).map(|b| cut(c.width, b));
        match (c.op, one) {
            (JmpOp::Lt, Some(1)) => {
                c.op = JmpOp::Eq;
                c.b = self.constant(0, origin);
            }
            (JmpOp::Ge, Some(1)) => {
                c.op = JmpOp::Ne;
                c.b = self.constant(0, origin);
            }
            (JmpOp::Gt, Some(0)) => c.op = JmpOp::Ne,
            (JmpOp::Le, Some(0)) => c.op = JmpOp::Eq,
            _ => {}
        }
        c
    }

    /// The outcome of a comparison, if it is always the same.
    fn decide(&self, c: &Cmp) -> Option<bool> {
        if let (Some(a), Some(b)) = (self.g.constant(c.a), self.g.constant(c.b)) {
            return Some(holds(c.op, c.width, a, b));
        }
        if c.a == c.b {
            return match c.op {
                JmpOp::Eq | JmpOp::Ge | JmpOp::Le | JmpOp::Sge | JmpOp::Sle => Some(true),
                JmpOp::Ne | JmpOp::Gt | JmpOp::Lt | JmpOp::Sgt | JmpOp::Slt => Some(false),
                JmpOp::Set => None,
            };
        }
        let b = cut(c.width, self.g.constant(c.b)?);
        let max = cut(c.width, !self.zeros[c.a.index()]);
        match c.op {
            JmpOp::Eq if b & !max != 0 => Some(false),
            JmpOp::Ne if b & !max != 0 => Some(true),
            JmpOp::Gt if max <= b => Some(false),
            JmpOp::Ge if max < b => Some(false),
            JmpOp::Lt if max < b => Some(true),
            JmpOp::Le if max <= b => Some(true),
            JmpOp::Set if max & b == 0 => Some(false),
            _ => None,
        }
    }
}

/// Instructions of which the entry block holds one instance.
fn is_root(inst: &Inst) -> bool {
    matches!(
        inst,
        Inst::Const(_)
            | Inst::Symbol(_)
            | Inst::FuncAddr(_)
            | Inst::FrameAddr(_)
            | Inst::Arg(_)
            | Inst::EnvField(_)
    )
}
