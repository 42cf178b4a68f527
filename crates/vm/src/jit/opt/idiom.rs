//! Loops that are one operation on memory: sums, copies, searches for a difference.
//!
//! The operations become vector code, or whatever the machine does best. Each recogniser states what it demands; a loop that
//! shows anything else stays as it is.

use super::loops::{Induction, SimpleLoop};
use crate::jit::image::Symbol;
use crate::jit::ir::dom::Shape;
use crate::jit::ir::{BinOp, Block, Graph, Inst, Place, Term, Value};
use crate::jit::source::Source;
use crate::lowered::OpIdx;
use skep_isa::{Extend, JmpOp, Size, Width};
use skep_verifier::Region;

/// Iterations below which a loop stays a loop.
const MIN_COUNT: u64 = 8;
/// Elements of which 32-bit lanes can hold the sum of 16-bit ones (four lanes at least).
const MAX_ELEMENTS: u64 = 1 << 16;
/// Pairs of loads and stores of a copying loop.
const MAX_PAIRS: usize = 64;

/// Recognises what it can.
pub(crate) fn run(g: &mut Graph, src: Source<'_>) {
    let shape = Shape::of(g);
    for l in &shape.loops {
        let Some(l) = SimpleLoop::of(g, &shape, l) else {
            continue;
        };
        match l.body.len() {
            1 => {
                let _ = sum(g, &l).or_else(|| copy(g, &l));
            }
            2 => {
                let _ = mismatch(g, &l, src);
            }
            _ => {}
        }
    }
}

/// An address that moves with an induction variable: its value in the first iteration is `invariant + init + offset`.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Moving {
    phi: Value,
    invariant: Option<Value>,
    offset: i32,
}

struct Body<'a> {
    g: &'a Graph,
    l: &'a SimpleLoop,
    ivs: Vec<Induction>,
    homes: Vec<Block>,
}

impl<'a> Body<'a> {
    fn of(g: &'a Graph, l: &'a SimpleLoop) -> Self {
        let ivs = g
            .phis(l.header)
            .into_iter()
            .filter_map(|p| l.induction(g, p))
            .collect();
        let homes = g.homes();
        Self { g, l, ivs, homes }
    }

    fn inside(&self, v: Value) -> bool {
        self.l.contains(self.homes[v.index()])
    }

    fn iv(&self, phi: Value) -> Option<&Induction> {
        self.ivs.iter().find(|iv| iv.phi == phi)
    }

    /// A place as a moving address.
    fn moving(&self, place: Place) -> Option<Moving> {
        if place.may_fault || place.ordered {
            return None;
        }
        let offset = place.offset;
        if self.iv(place.base).is_some() {
            return Some(Moving {
                phi: place.base,
                invariant: None,
                offset,
            });
        }
        let Inst::Bin(BinOp::Add, Width::W64, a, b) = *self.g.inst(place.base) else {
            return None;
        };
        for (phi, other) in [(a, b), (b, a)] {
            if self.iv(phi).is_some() && !self.inside(other) {
                return Some(Moving {
                    phi,
                    invariant: Some(other),
                    offset,
                });
            }
        }
        None
    }

    /// True if no value of the loop but those in `known` and induction variables is used outside.
    fn only_known_leave(&self, known: &[Value]) -> bool {
        let fine = |v: Value| {
            !self.inside(v)
                || known.contains(&v)
                || self.ivs.iter().any(|iv| iv.phi == v || iv.next == v)
        };
        self.g
            .all_blocks()
            .filter(|b| !self.l.contains(*b))
            .all(|b| {
                let data = self.g.block(b);
                let mut ok = true;
                for &v in &data.insts {
                    self.g.inst(v).each_arg(|a| ok &= fine(a));
                }
                data.term.each_arg(|a| ok &= fine(a));
                ok
            })
    }

    /// True if every phi of the header is an induction variable or one of `known`.
    fn phis_are(&self, known: &[Value]) -> bool {
        self.g
            .phis(self.l.header)
            .into_iter()
            .all(|p| known.contains(&p) || self.iv(p).is_some())
    }
}

/// The address of a moving access in the first iteration, computed at the end of `at`.
fn first_address(g: &mut Graph, at: Block, m: Moving, init: Value, origin: OpIdx) -> Value {
    let mut v = init;
    if let Some(i) = m.invariant {
        v = g.push(at, Inst::Bin(BinOp::Add, Width::W64, i, v), origin);
    }
    if m.offset != 0 {
        let offset = g.push(at, Inst::Const(i64::from(m.offset).cast_unsigned()), origin);
        v = g.push(at, Inst::Bin(BinOp::Add, Width::W64, v, offset), origin);
    }
    v
}

/// `init + step * count` at the end of `at`.
fn advanced(g: &mut Graph, at: Block, iv: &Induction, count: u64, origin: OpIdx) -> Value {
    let by = iv.step.cast_unsigned().wrapping_mul(count);
    let by = g.push(at, Inst::Const(by), origin);
    g.push(at, Inst::Bin(BinOp::Add, iv.width, iv.init, by), origin)
}

/// Takes the loop out: the preheader goes to the exit, `finals` replace values of the loop.
fn remove_loop(
    g: &mut Graph,
    l: &SimpleLoop,
    exit: Block,
    ivs: &[Induction],
    count: u64,
    mut finals: Vec<(Value, Value)>,
) {
    for iv in ivs {
        let origin = g.origin[iv.phi.index()];
        finals.push((iv.phi, advanced(g, l.preheader, iv, count - 1, origin)));
        finals.push((iv.next, advanced(g, l.preheader, iv, count, origin)));
    }
    for p in &mut g.block_mut(exit).preds {
        if *p == l.latch {
            *p = l.preheader;
        }
    }
    g.block_mut(l.preheader).term = Term::Jump(exit);
    for &b in &l.body {
        let data = g.block_mut(b);
        data.preds.clear();
        data.insts.clear();
        data.term = Term::Unreachable;
    }
    let mut with: Vec<Value> = (0..g.insts.len() as u32).map(Value).collect();
    for (old, new) in finals {
        with[old.index()] = new;
    }
    g.rewrite(&with);
}

/// `for each element: total += element`: one load a round whose address moves by its size, added to one phi.
fn sum(g: &mut Graph, l: &SimpleLoop) -> Option<()> {
    let body = Body::of(g, l);
    let (_, _, exit) = l.exit(g)?;
    let mut loads = Vec::new();
    for &v in &g.block(l.header).insts {
        match g.inst(v) {
            Inst::Load { .. } => loads.push(v),
            other if other.has_effect() => return None,
            _ => {}
        }
    }
    let [load] = loads[..] else { return None };
    let Inst::Load {
        size,
        extend: Extend::Zero,
        place,
    } = *g.inst(load)
    else {
        return None;
    };
    let moving = body.moving(place)?;
    let iv = *body.iv(moving.phi)?;
    if iv.step != i64::from(size.bytes()) {
        return None;
    }
    let (acc, next, width) = accumulator(g, l, load)?;
    let uses = g.use_counts();
    if uses[load.index()] != 1
        || uses[acc.index()] != 1
        || !body.phis_are(&[acc])
        || !body.only_known_leave(&[next])
    {
        return None;
    }
    let count = l
        .count(g)
        .filter(|n| (MIN_COUNT..=MAX_ELEMENTS).contains(n))?;
    let (init, _) = l.phi_ends(g, acc)?;
    let ivs = body.ivs.clone();
    let origin = g.origin[load.index()];
    let addr = first_address(g, l.preheader, moving, iv.init, origin);
    let total = g.push(
        l.preheader,
        Inst::Sum {
            size,
            width,
            addr,
            count: count as u32,
        },
        origin,
    );
    let total = g.push(
        l.preheader,
        Inst::Bin(BinOp::Add, width, init, total),
        origin,
    );
    remove_loop(g, l, exit, &ivs, count, vec![(next, total)]);
    Some(())
}

/// The phi to which a value is added each round, its next value, and the width of the addition.
fn accumulator(g: &Graph, l: &SimpleLoop, added: Value) -> Option<(Value, Value, Width)> {
    g.phis(l.header).into_iter().find_map(|phi| {
        let (_, next) = l.phi_ends(g, phi)?;
        match *g.inst(next) {
            Inst::Bin(BinOp::Add, width, a, b)
                if (a, b) == (phi, added) || (b, a) == (phi, added) =>
            {
                Some((phi, next, width))
            }
            _ => None,
        }
    })
}

/// Loads that are stored at once, together moving a contiguous block to another place that does not overlap the source.
fn copy(g: &mut Graph, l: &SimpleLoop) -> Option<()> {
    let body = Body::of(g, l);
    let (_, _, exit) = l.exit(g)?;
    let uses = g.use_counts();
    let mut pairs = Vec::new();
    for &v in &g.block(l.header).insts {
        let Inst::Store { size, place, value } = *g.inst(v) else {
            let plain = matches!(g.inst(v), Inst::Load { .. }) || !g.inst(v).has_effect();
            if plain {
                continue;
            }
            return None;
        };
        let Inst::Load {
            size: read,
            place: from,
            ..
        } = *g.inst(value)
        else {
            return None;
        };
        if read != size || uses[value.index()] != 1 || !body.inside(value) {
            return None;
        }
        pairs.push((body.moving(place)?, body.moving(from)?, size.bytes()));
    }
    let loads = |v: &&Value| matches!(g.inst(**v), Inst::Load { .. });
    let loaded = g.block(l.header).insts.iter().filter(loads).count();
    if pairs.is_empty()
        || pairs.len() > MAX_PAIRS
        || loaded != pairs.len()
        || !body.phis_are(&[])
        || !body.only_known_leave(&[])
    {
        return None;
    }
    pairs.sort_by_key(|p| p.0.offset);
    let stride = contiguous(&pairs)?;
    let (to, from, _) = pairs[0];
    let (iv_to, iv_from) = (*body.iv(to.phi)?, *body.iv(from.phi)?);
    if iv_to.step != i64::from(stride) || iv_from.step != i64::from(stride) {
        return None;
    }
    let count = l
        .count(g)
        .filter(|n| n * u64::from(stride) <= MAX_ELEMENTS)?;
    let bytes = count as u32 * stride;
    let distance = distance(g, (to, iv_to), (from, iv_from))?;
    if distance.unsigned_abs() < u64::from(bytes) {
        return None;
    }
    let ivs = body.ivs.clone();
    let origin = g.origin[g.block(l.header).insts[0].index()];
    let dst = first_address(g, l.preheader, to, iv_to.init, origin);
    let src = first_address(g, l.preheader, from, iv_from.init, origin);
    g.push(l.preheader, Inst::Copy { dst, src, bytes }, origin);
    remove_loop(g, l, exit, &ivs, count, Vec::new());
    Some(())
}

/// The bytes that the pairs cover without gap, all with the same bases and the same distance.
fn contiguous(pairs: &[(Moving, Moving, u32)]) -> Option<u32> {
    let (to, from, _) = pairs[0];
    let mut at = to.offset;
    for (t, f, bytes) in pairs {
        let same = t.phi == to.phi
            && t.invariant == to.invariant
            && f.phi == from.phi
            && f.invariant == from.invariant;
        if !same || t.offset != at || t.offset - f.offset != to.offset - from.offset {
            return None;
        }
        at += bytes.cast_signed();
    }
    u32::try_from(at - to.offset).ok()
}

/// Bytes from one moving address to another, if always the same.
fn distance(
    g: &Graph,
    (a, iv_a): (Moving, Induction),
    (b, iv_b): (Moving, Induction),
) -> Option<i64> {
    let (base_a, add_a) = anchor(g, a, iv_a.init)?;
    let (base_b, add_b) = anchor(g, b, iv_b.init)?;
    (base_a == base_b).then(|| add_a.wrapping_sub(add_b))
}

/// The first address as a value plus a number.
fn anchor(g: &Graph, m: Moving, init: Value) -> Option<(Value, i64)> {
    let mut sum = i64::from(m.offset);
    let mut base = None;
    for part in [Some(init), m.invariant].into_iter().flatten() {
        let (v, c) = split(g, part);
        sum = sum.wrapping_add(c);
        if let Some(v) = v {
            if base.is_some() {
                return None;
            }
            base = Some(v);
        }
    }
    Some((base?, sum))
}

/// A value as another one plus a constant.
fn split(g: &Graph, v: Value) -> (Option<Value>, i64) {
    match *g.inst(v) {
        Inst::Const(c) => (None, c.cast_signed()),
        Inst::Bin(BinOp::Add, Width::W64, a, c) => match g.constant(c) {
            Some(c) => (Some(a), c.cast_signed()),
            None => (Some(v), 0),
        },
        _ => (Some(v), 0),
    }
}

/// `while a[i] == b[i] and i < n`: the loop keeps its form but starts at the last equal element.
///
/// Two blocks: the header loads two bytes and leaves if they differ; the latch counts. All phis are induction variables, so
/// iterations before the first difference do nothing but count. Reading ahead is safe because the verifier let both loads
/// run in every iteration: what was loaded from maps or packets is any number to it, so it followed "equal" to the end.
fn mismatch(g: &mut Graph, l: &SimpleLoop, src: Source<'_>) -> Option<()> {
    let body = Body::of(g, l);
    let Term::Branch { cmp, then, other } = g.block(l.header).term else {
        return None;
    };
    let leaves_if_different = match cmp.op {
        JmpOp::Ne => other == l.latch && !l.contains(then),
        JmpOp::Eq => then == l.latch && !l.contains(other),
        _ => false,
    };
    let effects = |b: Block| g.block(b).insts.iter().any(|v| g.inst(*v).has_effect());
    if !leaves_if_different
        || l.header == l.latch
        || effects(l.header)
        || effects(l.latch)
        || !body.phis_are(&[])
    {
        return None;
    }
    let (a, b) = (byte_load(&body, src, cmp.a)?, byte_load(&body, src, cmp.b)?);
    let (iv_a, iv_b) = (*body.iv(a.phi)?, *body.iv(b.phi)?);
    if iv_a.step != 1 || iv_b.step != 1 || body.ivs.iter().any(|iv| iv.width != Width::W64) {
        return None;
    }
    let count = l
        .count(g)
        .filter(|n| (2 * MIN_COUNT..=MAX_ELEMENTS).contains(n))?;
    let ivs = body.ivs.clone();
    let origin = g.origin[cmp.a.index()];
    let pre = l.preheader;
    let a = first_address(g, pre, a, iv_a.init, origin);
    let b = first_address(g, pre, b, iv_b.init, origin);
    let equal = g.push(
        pre,
        Inst::Mismatch {
            a,
            b,
            count: count as u32 - 1,
        },
        origin,
    );
    for iv in ivs {
        let step = g.push(pre, Inst::Const(iv.step.cast_unsigned()), origin);
        let skipped = g.push(pre, Inst::Bin(BinOp::Mul, Width::W64, equal, step), origin);
        let start = g.push(
            pre,
            Inst::Bin(BinOp::Add, Width::W64, iv.init, skipped),
            origin,
        );
        if let Inst::Phi(args) = &mut g.insts[iv.phi.index()] {
            args[l.at_init] = start;
        }
    }
    Some(())
}

/// A byte load from memory whose contents the verifier does not know.
fn byte_load(body: &Body<'_>, src: Source<'_>, v: Value) -> Option<Moving> {
    let Inst::Load {
        size: Size::B,
        extend: Extend::Zero,
        place,
    } = *body.g.inst(v)
    else {
        return None;
    };
    let m = body.moving(place)?;
    let region = src
        .fact(body.g.origin[v.index()])
        .and_then(|f| f.access)
        .map(|a| a.region);
    let opaque = match region {
        Some(Region::Packet) => true,
        Some(Region::MapValue { map }) => src.maps.get(map as usize)?.frozen.is_none(),
        _ => within_value(body, src, m),
    };
    (opaque && body.inside(v)).then_some(m)
}

/// True if a moving address stays in the value of an array map for the whole loop.
fn within_value(body: &Body<'_>, src: Source<'_>, m: Moving) -> bool {
    let in_value = || {
        let iv = body.iv(m.phi)?;
        let (base, start) = anchor(body.g, m, iv.init)?;
        let Inst::Symbol(Symbol::MapValue { map, offset }) = *body.g.inst(base) else {
            return None;
        };
        let start = start.checked_add(i64::from(offset))?;
        let end = start.checked_add(i64::try_from(body.l.count(body.g)?).ok()?)?;
        Some(start >= 0 && end <= i64::from(src.array_value_bytes(map)?))
    };
    in_value().unwrap_or(false)
}
