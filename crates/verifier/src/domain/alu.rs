//! What arithmetic does to scalars (RFC 9669 §4.1), as precisely as Linux 6.18 tracks it.

use super::scalar::Scalar;
use skep_isa::{AluOp, EndOp, Width};

/// Abstract `dst op= src`.
///
/// Sound: for all `x` in `dst` and `y` in `src`, the concrete result is in the returned scalar. Of divisions and of shifts by
/// unknown distances nothing is known, not even that a 32-bit one clears the upper half.
#[must_use]
pub(crate) fn binary(width: Width, op: AluOp, dst: &Scalar, src: &Scalar) -> Scalar {
    let bits = if width == Width::W32 { 32 } else { 64 };
    let mut r = *dst;
    let shift = match op {
        // The whole operand must be below the width, also where only its lower half is used.
        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => match (src.as_const32(), src.as_const()) {
            (Some(n), _) if width == Width::W32 && src.umax < 32 => n as u8,
            (_, Some(n)) if width == Width::W64 && n < 64 => n as u8,
            _ => return Scalar::UNKNOWN,
        },
        AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod => return Scalar::UNKNOWN,
        _ => 0,
    };
    match op {
        AluOp::Add => add(&mut r, src),
        AluOp::Sub => sub(&mut r, src),
        AluOp::Mul => mul(&mut r, src),
        AluOp::And => and(&mut r, src),
        AluOp::Or => or(&mut r, src),
        AluOp::Xor => xor(&mut r, src),
        AluOp::Lsh if bits == 32 => shl32(&mut r, shift),
        AluOp::Lsh => shl64(&mut r, shift),
        AluOp::Rsh if bits == 32 => shr32(&mut r, shift),
        AluOp::Rsh => shr64(&mut r, shift),
        AluOp::Arsh if bits == 32 => sar32(&mut r, shift),
        _ => sar64(&mut r, shift),
    }
    if bits == 32 {
        r.zero_upper();
    }
    r.sync();
    r
}

/// Abstract `dst = -dst`.
#[must_use]
pub(crate) fn negate(width: Width, dst: &Scalar) -> Scalar {
    binary(width, AluOp::Sub, &Scalar::constant(0), dst)
}

/// Abstract byte order operation on the lowest `bytes` bytes, on a little-endian machine.
#[must_use]
pub(crate) fn byte_order(op: EndOp, bytes: u32, dst: &Scalar) -> Scalar {
    let mut r = *dst;
    if op != EndOp::ToLe {
        r = Scalar {
            bits: r.bits.swap(bytes),
            ..Scalar::UNKNOWN
        };
    }
    r.truncate(bytes);
    r.sync();
    r
}

fn add(d: &mut Scalar, s: &Scalar) {
    (d.smin, d.smax) = match (d.smin.checked_add(s.smin), d.smax.checked_add(s.smax)) {
        (Some(min), Some(max)) => (min, max),
        _ => (i64::MIN, i64::MAX),
    };
    (d.s32_min, d.s32_max) = match (
        d.s32_min.checked_add(s.s32_min),
        d.s32_max.checked_add(s.s32_max),
    ) {
        (Some(min), Some(max)) => (min, max),
        _ => (i32::MIN, i32::MAX),
    };
    // If all sums wrap, or none does, the range moves as a whole.
    let ((min, min_wraps), (max, max_wraps)) = (
        d.umin.overflowing_add(s.umin),
        d.umax.overflowing_add(s.umax),
    );
    (d.umin, d.umax) = if min_wraps == max_wraps {
        (min, max)
    } else {
        (0, u64::MAX)
    };
    let ((min, min_wraps), (max, max_wraps)) = (
        d.u32_min.overflowing_add(s.u32_min),
        d.u32_max.overflowing_add(s.u32_max),
    );
    (d.u32_min, d.u32_max) = if min_wraps == max_wraps {
        (min, max)
    } else {
        (0, u32::MAX)
    };
    d.bits = d.bits.add(s.bits);
}

fn sub(d: &mut Scalar, s: &Scalar) {
    (d.smin, d.smax) = match (d.smin.checked_sub(s.smax), d.smax.checked_sub(s.smin)) {
        (Some(min), Some(max)) => (min, max),
        _ => (i64::MIN, i64::MAX),
    };
    (d.s32_min, d.s32_max) = match (
        d.s32_min.checked_sub(s.s32_max),
        d.s32_max.checked_sub(s.s32_min),
    ) {
        (Some(min), Some(max)) => (min, max),
        _ => (i32::MIN, i32::MAX),
    };
    let ((min, min_wraps), (max, max_wraps)) = (
        d.umin.overflowing_sub(s.umax),
        d.umax.overflowing_sub(s.umin),
    );
    (d.umin, d.umax) = if min_wraps == max_wraps {
        (min, max)
    } else {
        (0, u64::MAX)
    };
    let ((min, min_wraps), (max, max_wraps)) = (
        d.u32_min.overflowing_sub(s.u32_max),
        d.u32_max.overflowing_sub(s.u32_min),
    );
    (d.u32_min, d.u32_max) = if min_wraps == max_wraps {
        (min, max)
    } else {
        (0, u32::MAX)
    };
    d.bits = d.bits.sub(s.bits);
}

fn mul(d: &mut Scalar, s: &Scalar) {
    (d.smin, d.smax) = extremes(
        [
            d.smin.checked_mul(s.smin),
            d.smin.checked_mul(s.smax),
            d.smax.checked_mul(s.smin),
            d.smax.checked_mul(s.smax),
        ],
        (i64::MIN, i64::MAX),
    );
    (d.s32_min, d.s32_max) = extremes(
        [
            d.s32_min.checked_mul(s.s32_min),
            d.s32_min.checked_mul(s.s32_max),
            d.s32_max.checked_mul(s.s32_min),
            d.s32_max.checked_mul(s.s32_max),
        ],
        (i32::MIN, i32::MAX),
    );
    (d.umin, d.umax) = match (d.umin.checked_mul(s.umin), d.umax.checked_mul(s.umax)) {
        (Some(min), Some(max)) => (min, max),
        _ => (0, u64::MAX),
    };
    (d.u32_min, d.u32_max) = match (
        d.u32_min.checked_mul(s.u32_min),
        d.u32_max.checked_mul(s.u32_max),
    ) {
        (Some(min), Some(max)) => (min, max),
        _ => (0, u32::MAX),
    };
    d.bits = d.bits.mul(s.bits);
}

/// Least and greatest of four products, or `all` if any of them overflows.
fn extremes<T: Ord + Copy>(products: [Option<T>; 4], all: (T, T)) -> (T, T) {
    let [Some(a), Some(b), Some(c), Some(d)] = products else {
        return all;
    };
    (a.min(b).min(c.min(d)), a.max(b).max(c.max(d)))
}

/// The signed ranges after a bitwise operation: those of the unsigned results where these do not cross the sign.
fn signed_from_unsigned(d: &mut Scalar) {
    let (min, max) = (d.umin.cast_signed(), d.umax.cast_signed());
    (d.smin, d.smax) = if min <= max {
        (min, max)
    } else {
        (i64::MIN, i64::MAX)
    };
    let (min, max) = (d.u32_min.cast_signed(), d.u32_max.cast_signed());
    (d.s32_min, d.s32_max) = if min <= max {
        (min, max)
    } else {
        (i32::MIN, i32::MAX)
    };
}

fn and(d: &mut Scalar, s: &Scalar) {
    let bits = d.bits.and(s.bits);
    d.bits = bits;
    d.umin = bits.value;
    d.umax = d.umax.min(s.umax);
    d.u32_min = bits.value as u32;
    d.u32_max = d.u32_max.min(s.u32_max);
    settle_bitwise(d);
}

fn or(d: &mut Scalar, s: &Scalar) {
    let bits = d.bits.or(s.bits);
    d.bits = bits;
    d.umin = d.umin.max(s.umin);
    d.umax = bits.value | bits.mask;
    d.u32_min = d.u32_min.max(s.u32_min);
    d.u32_max = (bits.value | bits.mask) as u32;
    settle_bitwise(d);
}

fn xor(d: &mut Scalar, s: &Scalar) {
    let bits = d.bits.xor(s.bits);
    d.bits = bits;
    d.umin = bits.value;
    d.umax = bits.value | bits.mask;
    d.u32_min = bits.value as u32;
    d.u32_max = (bits.value | bits.mask) as u32;
    settle_bitwise(d);
}

fn settle_bitwise(d: &mut Scalar) {
    if let Some(value) = d.as_const() {
        *d = Scalar::constant(value);
        return;
    }
    if let Some(low) = d.as_const32() {
        (d.u32_min, d.u32_max) = (low, low);
    }
    signed_from_unsigned(d);
    d.ranges_from_bits();
}

fn shl32_range(d: &mut Scalar, shift: u8) {
    (d.s32_min, d.s32_max) = (i32::MIN, i32::MAX);
    if u64::from(d.u32_max) > 1u64 << (31 - shift) {
        (d.u32_min, d.u32_max) = (0, u32::MAX);
    } else {
        d.u32_min <<= shift;
        d.u32_max <<= shift;
    }
}

fn shl32(d: &mut Scalar, shift: u8) {
    shl32_range(d, shift);
    d.bits = d.bits.low().shl(shift).low();
    d.forget_range64();
    d.ranges_from_bits();
}

fn shl64(d: &mut Scalar, shift: u8) {
    // `<< 32` is the first half of a sign extension (`<< 32`, `s>> 32`): the lower half's range survives it.
    (d.smin, d.smax) = if shift == 32 {
        (i64::from(d.s32_min) << 32, i64::from(d.s32_max) << 32)
    } else {
        (i64::MIN, i64::MAX)
    };
    if d.umax > 1u64 << (63 - shift) {
        (d.umin, d.umax) = (0, u64::MAX);
    } else {
        d.umin <<= shift;
        d.umax <<= shift;
    }
    if shift < 32 {
        shl32_range(d, shift);
    } else {
        d.forget_range32();
    }
    d.bits = d.bits.shl(shift);
    d.ranges_from_bits();
}

fn shr32(d: &mut Scalar, shift: u8) {
    (d.s32_min, d.s32_max) = (i32::MIN, i32::MAX);
    d.bits = d.bits.low().shr(shift);
    d.u32_min >>= shift;
    d.u32_max >>= shift;
    d.forget_range64();
    d.ranges_from_bits();
}

fn shr64(d: &mut Scalar, shift: u8) {
    (d.smin, d.smax) = (i64::MIN, i64::MAX);
    d.bits = d.bits.shr(shift);
    d.umin >>= shift;
    d.umax >>= shift;
    d.forget_range32();
    d.ranges_from_bits();
}

fn sar32(d: &mut Scalar, shift: u8) {
    d.s32_min >>= shift;
    d.s32_max >>= shift;
    d.bits = d.bits.low().sar(shift, 32);
    (d.u32_min, d.u32_max) = (0, u32::MAX);
    d.forget_range64();
    d.ranges_from_bits();
}

fn sar64(d: &mut Scalar, shift: u8) {
    d.smin >>= shift;
    d.smax >>= shift;
    d.bits = d.bits.sar(shift, 64);
    (d.umin, d.umax) = (0, u64::MAX);
    d.forget_range32();
    d.ranges_from_bits();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Tnum;

    const OPS: [AluOp; 9] = [
        AluOp::Add,
        AluOp::Sub,
        AluOp::Mul,
        AluOp::And,
        AluOp::Or,
        AluOp::Xor,
        AluOp::Lsh,
        AluOp::Rsh,
        AluOp::Arsh,
    ];

    fn concrete(width: Width, op: AluOp, x: u64, y: u64) -> u64 {
        let narrow = |v: u64| {
            if width == Width::W32 {
                u64::from(v as u32)
            } else {
                v
            }
        };
        let (x, shift) = (
            narrow(x),
            y as u32 % if width == Width::W32 { 32 } else { 64 },
        );
        narrow(match op {
            AluOp::Add => x.wrapping_add(y),
            AluOp::Sub => x.wrapping_sub(y),
            AluOp::Mul => x.wrapping_mul(y),
            AluOp::And => x & y,
            AluOp::Or => x | y,
            AluOp::Xor => x ^ y,
            AluOp::Lsh => x << shift,
            AluOp::Rsh => x >> shift,
            _ if width == Width::W32 => ((x as i32) >> shift) as u32 as u64,
            _ => ((x as i64) >> shift) as u64,
        })
    }

    /// A small deterministic generator (xorshift).
    fn next(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    /// A random scalar and a member of it.
    fn sample(seed: &mut u64) -> (Scalar, u64) {
        let shift = next(seed) % 64;
        let x = (next(seed) >> shift).wrapping_mul(if next(seed) & 1 == 0 { 1 } else { u64::MAX });
        let mut s = Scalar::UNKNOWN;
        let spread = |seed: &mut u64| next(seed) >> (next(seed) % 64);
        if next(seed) & 1 == 0 {
            let mask = spread(seed);
            s.bits = Tnum {
                value: x & !mask,
                mask,
            };
        }
        if next(seed) & 1 == 0 {
            (s.umin, s.umax) = (
                x.saturating_sub(spread(seed)),
                x.saturating_add(spread(seed)),
            );
        }
        if next(seed) & 1 == 0 {
            let x = x as i64;
            (s.smin, s.smax) = (
                x.saturating_sub_unsigned(spread(seed)),
                x.saturating_add_unsigned(spread(seed)),
            );
        }
        if next(seed) & 1 == 0 {
            let x = x as u32;
            (s.u32_min, s.u32_max) = (
                x.saturating_sub(spread(seed) as u32),
                x.saturating_add(spread(seed) as u32),
            );
        }
        s.sync();
        assert!(s.contains(x), "sync lost {x:#x} of {s:?}");
        (s, x)
    }

    #[test]
    fn results_contain_every_concrete_result() {
        let mut seed = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..200_000 {
            let ((a, x), (b, y)) = (sample(&mut seed), sample(&mut seed));
            let width = if next(&mut seed) & 1 == 0 {
                Width::W32
            } else {
                Width::W64
            };
            for op in OPS {
                let (b, y) = match op {
                    AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => (Scalar::constant(y % 64), y % 64),
                    _ => (b, y),
                };
                let r = binary(width, op, &a, &b);
                let z = concrete(width, op, x, y);
                assert!(
                    r.contains(z),
                    "{op:?} {width:?}\n{a:?} {x:#x}\n{b:?} {y:#x}\n{r:?} {z:#x}"
                );
            }
        }
    }

    /// Every range of up to five numbers around each edge of the domain, and every set of three unknown bits at each of
    /// them, with all members.
    fn small_scalars() -> Vec<(Scalar, Vec<u64>)> {
        let mut out = Vec::new();
        for edge in [0, 1 << 31, 1 << 32, 1u64 << 63] {
            let first = edge.wrapping_sub(2);
            for from in 0..5 {
                for to in from..5 {
                    let members: Vec<u64> = (from..=to).map(|i| first.wrapping_add(i)).collect();
                    let (low, high) = (members[0], members[members.len() - 1]);
                    let mut s = Scalar::UNKNOWN;
                    if low <= high {
                        (s.umin, s.umax) = (low, high);
                    } else {
                        (s.smin, s.smax) = (low as i64, high as i64);
                    }
                    s.sync();
                    out.push((s, members));
                }
            }
        }
        for at in [0, 30, 61] {
            for (value, mask) in (0..8u64).flat_map(|v| (0..8u64).map(move |m| (v, m))) {
                if value & mask == 0 {
                    let bits = Tnum {
                        value: value << at,
                        mask: mask << at,
                    };
                    let mut s = Scalar {
                        bits,
                        ..Scalar::UNKNOWN
                    };
                    s.sync();
                    let all = (0..8u64).map(|x| x << at);
                    out.push((s, all.filter(|&x| bits.contains(x)).collect()));
                }
            }
        }
        out
    }

    #[test]
    fn every_pair_of_small_sets_holds_every_result() {
        let small = small_scalars();
        for (a, xs) in &small {
            assert!(xs.iter().all(|&x| a.contains(x)), "{a:?} {xs:x?}");
            for (b, ys) in &small {
                for width in [Width::W32, Width::W64] {
                    for op in OPS {
                        if matches!(op, AluOp::Lsh | AluOp::Rsh | AluOp::Arsh) && !b.is_const() {
                            continue;
                        }
                        let r = binary(width, op, a, b);
                        for (&x, &y) in xs.iter().flat_map(|x| ys.iter().map(move |y| (x, y))) {
                            let z = concrete(width, op, x, y);
                            assert!(r.contains(z), "{op:?} {width:?} {a:?} {b:?} {x:#x} {y:#x}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn truncation_and_sign_extension_keep_members() {
        let mut seed = 0x1234_5678_9abc_def1;
        for _ in 0..200_000 {
            let (a, x) = sample(&mut seed);
            for bytes in [1u32, 2, 4] {
                let bits = bytes * 8;
                let mut r = a;
                r.truncate(bytes);
                assert!(
                    r.contains(x & ((1 << bits) - 1)),
                    "truncate {bytes} {a:?} {x:#x} {r:?}"
                );
                let mut r = a;
                r.sign_extend(bytes);
                assert!(
                    r.contains((((x << (64 - bits)) as i64) >> (64 - bits)) as u64),
                    "{bytes} {a:?} {x:#x} {r:?}"
                );
                if bytes < 4 {
                    let mut r = a;
                    r.sign_extend32(bytes);
                    r.zero_upper();
                    r.sync();
                    let y = (((x as u32) << (32 - bits)) as i32) >> (32 - bits);
                    assert!(
                        r.contains(u64::from(y as u32)),
                        "{bytes} {a:?} {x:#x} {r:?}"
                    );
                }
            }
        }
    }
}
