//! What a conditional jump tells: whether it is decided already, and what each side learns.

use super::scalar::Scalar;
use super::tnum::Tnum;
use skep_isa::{JmpOp, Width};

/// Decides `a op b`, if the sets allow only one answer.
///
/// Sound: `Some(t)` only if every pair of members compares to `t`.
pub(crate) fn decide(width: Width, op: JmpOp, a: &Scalar, b: &Scalar) -> Option<bool> {
    match op {
        JmpOp::Eq => decide_equal(width, a, b),
        JmpOp::Ne => decide_equal(width, a, b).map(|equal| !equal),
        JmpOp::Set => decide_set(width, a, b),
        JmpOp::Lt | JmpOp::Le | JmpOp::Slt | JmpOp::Sle => decide(width, op.mirrored(), b, a),
        JmpOp::Gt | JmpOp::Ge => {
            let (amin, amax) = unsigned(width, a);
            let (bmin, bmax) = unsigned(width, b);
            if op == JmpOp::Gt {
                greater(amin, amax, bmin, bmax)
            } else {
                greater(bmin, bmax, amin, amax).map(|g| !g)
            }
        }
        JmpOp::Sgt | JmpOp::Sge => {
            let (amin, amax) = signed(width, a);
            let (bmin, bmax) = signed(width, b);
            if op == JmpOp::Sgt {
                greater(amin, amax, bmin, bmax)
            } else {
                greater(bmin, bmax, amin, amax).map(|g| !g)
            }
        }
    }
}

fn greater<T: Ord + Copy>(amin: T, amax: T, bmin: T, bmax: T) -> Option<bool> {
    if amin > bmax {
        Some(true)
    } else if amax <= bmin {
        Some(false)
    } else {
        None
    }
}

fn unsigned(width: Width, s: &Scalar) -> (u64, u64) {
    match width {
        Width::W32 => (u64::from(s.u32_min), u64::from(s.u32_max)),
        Width::W64 => (s.umin, s.umax),
    }
}

fn signed(width: Width, s: &Scalar) -> (i64, i64) {
    match width {
        Width::W32 => (i64::from(s.s32_min), i64::from(s.s32_max)),
        Width::W64 => (s.smin, s.smax),
    }
}

fn bits(width: Width, s: &Scalar) -> Tnum {
    if width == Width::W32 {
        s.bits.low()
    } else {
        s.bits
    }
}

fn decide_equal(width: Width, a: &Scalar, b: &Scalar) -> Option<bool> {
    let (abits, bbits) = (bits(width, a), bits(width, b));
    if abits.is_const() && bbits.is_const() {
        return Some(abits.value == bbits.value);
    }
    if !abits.overlaps(bbits) || disjoint(width, a, b) {
        return Some(false);
    }
    if width == Width::W64 && disjoint(Width::W32, a, b) {
        return Some(false);
    }
    None
}

fn disjoint(width: Width, a: &Scalar, b: &Scalar) -> bool {
    let ((amin, amax), (bmin, bmax)) = (unsigned(width, a), unsigned(width, b));
    let ((asmin, asmax), (bsmin, bsmax)) = (signed(width, a), signed(width, b));
    amin > bmax || amax < bmin || asmin > bsmax || asmax < bsmin
}

fn decide_set(width: Width, a: &Scalar, b: &Scalar) -> Option<bool> {
    let (a, b) = (bits(width, a), bits(width, b));
    let (other, constant) = match (a.is_const(), b.is_const()) {
        (_, true) => (a, b.value),
        (true, _) => (b, a.value),
        _ => return None,
    };
    if other.value & constant != 0 {
        Some(true)
    } else if (other.value | other.mask) & constant == 0 {
        Some(false)
    } else {
        None
    }
}

/// Tightens `a` and `b` by the knowledge that `a op b` is `outcome`.
///
/// Sound: pairs for which the comparison has that outcome stay in the sets.
pub(crate) fn refine(width: Width, op: JmpOp, outcome: bool, a: &mut Scalar, b: &mut Scalar) {
    let holds = if outcome { Some(op) } else { op.inverse() };
    match holds {
        Some(op @ (JmpOp::Gt | JmpOp::Ge | JmpOp::Sgt | JmpOp::Sge)) => {
            refine_holds(width, op.mirrored(), b, a);
        }
        Some(op) => refine_holds(width, op, a, b),
        None => refine_not_set(width, a, b),
    }
    a.sync();
    b.sync();
}

/// As [`refine`], for a number compared with itself.
///
/// On the side that can be taken nothing is learned. What the kernel makes of the other side decides verdicts too: each
/// operand learns from the other, and both are the same number.
pub(crate) fn refine_self(width: Width, op: JmpOp, outcome: bool, a: &mut Scalar) {
    let Some(op) = (if outcome { Some(op) } else { op.inverse() }) else {
        return;
    };
    match (op, width) {
        (JmpOp::Lt | JmpOp::Gt, Width::W32) => {
            a.u32_max = a.u32_max.min(a.u32_max.wrapping_sub(1));
            a.u32_min = a.u32_min.wrapping_add(1).max(a.u32_min);
        }
        (JmpOp::Lt | JmpOp::Gt, Width::W64) => {
            a.umax = a.umax.min(a.umax.wrapping_sub(1));
            a.umin = a.umin.wrapping_add(1).max(a.umin);
        }
        (JmpOp::Slt | JmpOp::Sgt, Width::W32) => {
            a.s32_max = a.s32_max.min(a.s32_max.wrapping_sub(1));
            a.s32_min = a.s32_min.wrapping_add(1).max(a.s32_min);
        }
        (JmpOp::Slt | JmpOp::Sgt, Width::W64) => {
            a.smax = a.smax.min(a.smax.wrapping_sub(1));
            a.smin = a.smin.wrapping_add(1).max(a.smin);
        }
        _ => {}
    }
    a.sync();
}

fn refine_holds(width: Width, op: JmpOp, a: &mut Scalar, b: &mut Scalar) {
    match (op, width) {
        (JmpOp::Eq, Width::W32) => meet32(a, b),
        (JmpOp::Eq, Width::W64) => meet64(a, b),
        (JmpOp::Ne, _) => {
            if let Some(value) = constant(width, b) {
                exclude(width, a, value);
            } else if let Some(value) = constant(width, a) {
                exclude(width, b, value);
            }
        }
        (JmpOp::Set, _) => {
            if let Some(value) = constant(width, b) {
                require_bit(width, a, value);
            } else if let Some(value) = constant(width, a) {
                require_bit(width, b, value);
            }
        }
        (JmpOp::Le, Width::W32) => {
            a.u32_max = a.u32_max.min(b.u32_max);
            b.u32_min = a.u32_min.max(b.u32_min);
        }
        (JmpOp::Le, Width::W64) => {
            a.umax = a.umax.min(b.umax);
            b.umin = a.umin.max(b.umin);
        }
        (JmpOp::Lt, Width::W32) => {
            a.u32_max = a.u32_max.min(b.u32_max.wrapping_sub(1));
            b.u32_min = a.u32_min.wrapping_add(1).max(b.u32_min);
        }
        (JmpOp::Lt, Width::W64) => {
            a.umax = a.umax.min(b.umax.wrapping_sub(1));
            b.umin = a.umin.wrapping_add(1).max(b.umin);
        }
        (JmpOp::Sle, Width::W32) => {
            a.s32_max = a.s32_max.min(b.s32_max);
            b.s32_min = a.s32_min.max(b.s32_min);
        }
        (JmpOp::Sle, Width::W64) => {
            a.smax = a.smax.min(b.smax);
            b.smin = a.smin.max(b.smin);
        }
        (JmpOp::Slt, Width::W32) => {
            a.s32_max = a.s32_max.min(b.s32_max.wrapping_sub(1));
            b.s32_min = a.s32_min.wrapping_add(1).max(b.s32_min);
        }
        (JmpOp::Slt, Width::W64) => {
            a.smax = a.smax.min(b.smax.wrapping_sub(1));
            b.smin = a.smin.wrapping_add(1).max(b.smin);
        }
        (JmpOp::Gt | JmpOp::Ge | JmpOp::Sgt | JmpOp::Sge, _) => {}
    }
}

fn constant(width: Width, s: &Scalar) -> Option<u64> {
    if width == Width::W32 {
        s.as_const32().map(u64::from)
    } else {
        s.as_const()
    }
}

fn meet32(a: &mut Scalar, b: &mut Scalar) {
    a.u32_min = a.u32_min.max(b.u32_min);
    a.u32_max = a.u32_max.min(b.u32_max);
    a.s32_min = a.s32_min.max(b.s32_min);
    a.s32_max = a.s32_max.min(b.s32_max);
    (b.u32_min, b.u32_max, b.s32_min, b.s32_max) = (a.u32_min, a.u32_max, a.s32_min, a.s32_max);
    let low = a.bits.low().intersect(b.bits.low());
    a.bits = a.bits.with_low(low);
    b.bits = b.bits.with_low(low);
}

fn meet64(a: &mut Scalar, b: &mut Scalar) {
    a.umin = a.umin.max(b.umin);
    a.umax = a.umax.min(b.umax);
    a.smin = a.smin.max(b.smin);
    a.smax = a.smax.min(b.smax);
    (b.umin, b.umax, b.smin, b.smax) = (a.umin, a.umax, a.smin, a.smax);
    a.bits = a.bits.intersect(b.bits);
    b.bits = a.bits;
}

/// Takes `value` away from the ends of the ranges.
fn exclude(width: Width, s: &mut Scalar, value: u64) {
    if width == Width::W32 {
        let value = value as u32;
        s.u32_min = s.u32_min.wrapping_add(u32::from(s.u32_min == value));
        s.u32_max = s.u32_max.wrapping_sub(u32::from(s.u32_max == value));
        let value = value.cast_signed();
        s.s32_min = s.s32_min.wrapping_add(i32::from(s.s32_min == value));
        s.s32_max = s.s32_max.wrapping_sub(i32::from(s.s32_max == value));
    } else {
        s.umin = s.umin.wrapping_add(u64::from(s.umin == value));
        s.umax = s.umax.wrapping_sub(u64::from(s.umax == value));
        let value = value.cast_signed();
        s.smin = s.smin.wrapping_add(i64::from(s.smin == value));
        s.smax = s.smax.wrapping_sub(i64::from(s.smax == value));
    }
}

/// `s & value` is not zero: with one bit in `value`, that bit is set.
fn require_bit(width: Width, s: &mut Scalar, value: u64) {
    if value.is_power_of_two() {
        let known = bits(width, s).or(Tnum::constant(value));
        s.bits = if width == Width::W32 {
            s.bits.with_low(known)
        } else {
            known
        };
    }
}

/// `a & b` is zero: the bits of a constant side are clear in the other.
///
/// The kernel forgets the ranges here, so that they cannot contradict the bits on a side that is never taken.
fn refine_not_set(width: Width, a: &mut Scalar, b: &mut Scalar) {
    let (s, value) = match (constant(width, a), constant(width, b)) {
        (_, Some(value)) => (a, value),
        (Some(value), _) => (b, value),
        _ => return,
    };
    s.forget_range64();
    s.forget_range32();
    let clear = |t: Tnum| t.and(Tnum::constant(!value));
    s.bits = if width == Width::W32 {
        s.bits.with_low(clear(s.bits.low()))
    } else {
        clear(s.bits)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPS: [JmpOp; 11] = [
        JmpOp::Eq,
        JmpOp::Ne,
        JmpOp::Gt,
        JmpOp::Ge,
        JmpOp::Lt,
        JmpOp::Le,
        JmpOp::Set,
        JmpOp::Sgt,
        JmpOp::Sge,
        JmpOp::Slt,
        JmpOp::Sle,
    ];

    pub(crate) fn concrete(width: Width, op: JmpOp, x: u64, y: u64) -> bool {
        let (x, y) = if width == Width::W32 {
            (
                i64::from(x as i32).cast_unsigned(),
                i64::from(y as i32).cast_unsigned(),
            )
        } else {
            (x, y)
        };
        let (s, t) = (x.cast_signed(), y.cast_signed());
        match op {
            JmpOp::Eq => x == y,
            JmpOp::Ne => x != y,
            JmpOp::Gt => x > y,
            JmpOp::Ge => x >= y,
            JmpOp::Lt => x < y,
            JmpOp::Le => x <= y,
            JmpOp::Set => x & y != 0,
            JmpOp::Sgt => s > t,
            JmpOp::Sge => s >= t,
            JmpOp::Slt => s < t,
            JmpOp::Sle => s <= t,
        }
    }

    /// Scalars around the edges of the domain, each with some of its members.
    fn samples() -> Vec<(Scalar, Vec<u64>)> {
        let edges = [
            0u64,
            1,
            5,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            1 << 32,
            i64::MAX as u64,
            1 << 63,
            u64::MAX - 1,
            u64::MAX,
        ];
        let mut out = Vec::new();
        for (i, &a) in edges.iter().enumerate() {
            out.push((Scalar::constant(a), vec![a]));
            for &b in &edges[i + 1..] {
                let mut s = Scalar::UNKNOWN;
                (s.umin, s.umax) = (a, b);
                s.sync();
                out.push((
                    s,
                    edges.iter().copied().filter(|&x| s.contains(x)).collect(),
                ));
                let (lo, hi) = ((a as i64).min(b as i64), (a as i64).max(b as i64));
                let s = Scalar::signed_range(lo, hi);
                out.push((
                    s,
                    edges.iter().copied().filter(|&x| s.contains(x)).collect(),
                ));
            }
        }
        out
    }

    #[test]
    fn decisions_and_refinements_keep_every_concrete_pair() {
        let samples = samples();
        for width in [Width::W32, Width::W64] {
            for op in OPS {
                for (a, xs) in &samples {
                    for (b, ys) in &samples {
                        let decided = decide(width, op, a, b);
                        let refined = [false, true].map(|outcome| {
                            let (mut a, mut b) = (*a, *b);
                            refine(width, op, outcome, &mut a, &mut b);
                            (a, b)
                        });
                        for &x in xs {
                            for &y in ys {
                                let outcome = concrete(width, op, x, y);
                                assert!(
                                    decided.is_none_or(|d| d == outcome),
                                    "{op:?} {a:?} {b:?} {x:#x} {y:#x}"
                                );
                                let (ra, rb) = &refined[usize::from(outcome)];
                                assert!(
                                    ra.contains(x) && rb.contains(y),
                                    "{op:?} {width:?} {a:?} {b:?} {x:#x} {y:#x}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}
