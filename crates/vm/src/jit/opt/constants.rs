//! What operations and comparisons of constants come to.

use crate::jit::ir::BinOp;
use skep_isa::{JmpOp, Width};

/// The lower half.
const LOW: u64 = 0xffff_ffff;

/// The part of a value that a width looks at.
pub(crate) fn cut(width: Width, v: u64) -> u64 {
    match width {
        Width::W32 => v & LOW,
        Width::W64 => v,
    }
}

/// The value of an operation on constants.
pub(crate) fn evaluate(op: BinOp, width: Width, a: u64, b: u64) -> u64 {
    let (a, b) = (cut(width, a), cut(width, b));
    let (sa, sb) = signed_pair(width, a, b);
    let n = (b & if width == Width::W64 { 63 } else { 31 }) as u32;
    let v = match op {
        BinOp::Add => a.wrapping_add(b),
        BinOp::Sub => a.wrapping_sub(b),
        BinOp::Mul => a.wrapping_mul(b),
        BinOp::Div => a.checked_div(b).unwrap_or(0),
        BinOp::Mod => a.checked_rem(b).unwrap_or(a),
        BinOp::Sdiv if sb == 0 => 0,
        BinOp::Sdiv => sa.wrapping_div(sb).cast_unsigned(),
        BinOp::Smod if sb == 0 => a,
        BinOp::Smod => sa.wrapping_rem(sb).cast_unsigned(),
        BinOp::And => a & b,
        BinOp::Or => a | b,
        BinOp::Xor => a ^ b,
        BinOp::Shl => a << n,
        BinOp::Shr => a >> n,
        BinOp::Sar => (sa >> n).cast_unsigned(),
        BinOp::Rotl if width == Width::W64 => a.rotate_left(n),
        BinOp::Rotl => u64::from((a as u32).rotate_left(n)),
    };
    cut(width, v)
}

fn signed_pair(width: Width, a: u64, b: u64) -> (i64, i64) {
    match width {
        Width::W64 => (a.cast_signed(), b.cast_signed()),
        Width::W32 => (
            i64::from((a as u32).cast_signed()),
            i64::from((b as u32).cast_signed()),
        ),
    }
}

/// Whether a comparison of constants holds.
pub(crate) fn holds(op: JmpOp, width: Width, a: u64, b: u64) -> bool {
    let (a, b) = (cut(width, a), cut(width, b));
    let (sa, sb) = signed_pair(width, a, b);
    match op {
        JmpOp::Eq => a == b,
        JmpOp::Ne => a != b,
        JmpOp::Gt => a > b,
        JmpOp::Ge => a >= b,
        JmpOp::Lt => a < b,
        JmpOp::Le => a <= b,
        JmpOp::Set => a & b != 0,
        JmpOp::Sgt => sa > sb,
        JmpOp::Sge => sa >= sb,
        JmpOp::Slt => sa < sb,
        JmpOp::Sle => sa <= sb,
    }
}

pub(super) fn is_signed(op: JmpOp) -> bool {
    matches!(op, JmpOp::Sgt | JmpOp::Sge | JmpOp::Slt | JmpOp::Sle)
}

pub(super) fn unsigned(op: JmpOp) -> JmpOp {
    match op {
        JmpOp::Sgt => JmpOp::Gt,
        JmpOp::Sge => JmpOp::Ge,
        JmpOp::Slt => JmpOp::Lt,
        JmpOp::Sle => JmpOp::Le,
        other => other,
    }
}
