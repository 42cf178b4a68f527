//! Which bits of a value are known to be zero.

use crate::jit::ir::dom::Shape;
use crate::jit::ir::{BinOp, Graph, Inst, Value};
use skep_isa::{Extend, Size, Width};

/// The upper half.
const HIGH: u64 = !0xffff_ffff;
/// Rounds after which loops that still change are given up.
const ROUNDS: usize = 6;

/// Per value, a mask of bits that are zero whenever the value exists.
///
/// Sound: starts from "all zero" and only removes bits until nothing changes, so every cycle is justified by its entries.
pub(crate) fn known_zero(g: &Graph, shape: &Shape) -> Vec<u64> {
    let mut zeros = vec![u64::MAX; g.insts.len()];
    for round in 0.. {
        let mut changed = false;
        for &b in &shape.order {
            for &v in &g.block(b).insts {
                let give_up = round >= ROUNDS && matches!(g.inst(v), Inst::Phi(_));
                let new = if give_up { 0 } else { transfer(g, &zeros, v) };
                let new = new & zeros[v.index()];
                changed |= new != zeros[v.index()];
                zeros[v.index()] = new;
            }
        }
        if !changed {
            break;
        }
    }
    zeros
}

/// Bits that are zero in the result, given those of the operands.
fn transfer(g: &Graph, zeros: &[u64], v: Value) -> u64 {
    let of = |v: Value| zeros[v.index()];
    match g.inst(v) {
        Inst::Const(c) => !c,
        Inst::Phi(args) => args.iter().fold(u64::MAX, |z, a| z & of(*a)),
        Inst::Bin(op, width, a, b) => {
            let (za, zb) = match width {
                Width::W32 => (of(*a) | HIGH, of(*b) | HIGH),
                Width::W64 => (of(*a), of(*b)),
            };
            let z = bin(*op, *width, (za, zb), g.constant(*b));
            if *width == Width::W32 { z | HIGH } else { z }
        }
        Inst::Neg(Width::W32, _) => HIGH,
        Inst::Sext { from, width, value } => {
            let sign = 1_u64 << (from.bits() - 1);
            let high = if *width == Width::W32 { HIGH } else { 0 };
            match of(*value) & sign {
                0 => high | of(*value) & (sign - 1),
                _ => of(*value) | !(2 * sign - 1),
            }
        }
        Inst::Confine { value, limit } => of(*value) | top(limit.leading_zeros() + u32::BITS),
        Inst::Bswap(size, _) => above(*size),
        Inst::Select { then, other, .. } => of(*then) & of(*other),
        Inst::Load {
            size,
            extend: Extend::Zero,
            ..
        } => above(*size),
        Inst::Atomic { size, .. } | Inst::Acquire { size, .. } => above(*size),
        Inst::Sum {
            width: Width::W32, ..
        }
        | Inst::Mismatch { .. } => HIGH,
        _ => 0,
    }
}

/// The bits above a part of that size.
pub(crate) const fn above(size: Size) -> u64 {
    match size {
        Size::DW => 0,
        _ => !((1 << size.bits()) - 1),
    }
}

fn bin(op: BinOp, width: Width, (za, zb): (u64, u64), b: Option<u64>) -> u64 {
    let mask = if width == Width::W64 { 63 } else { 31 };
    let count = b.map(|c| (c & mask) as u32);
    match op {
        BinOp::And => za | zb,
        BinOp::Or | BinOp::Xor => za & zb,
        BinOp::Add => {
            // A sum has at most one bit more than the wider operand.
            let leading = za.leading_ones().min(zb.leading_ones());
            top(leading.saturating_sub(1)) | low(za.trailing_ones().min(zb.trailing_ones()))
        }
        BinOp::Mul => {
            let leading = (za.leading_ones() + zb.leading_ones()).saturating_sub(64);
            top(leading) | low((za.trailing_ones() + zb.trailing_ones()).min(64))
        }
        BinOp::Div => top(za.leading_ones()),
        // By zero the dividend stays.
        BinOp::Mod => top(za.leading_ones()),
        BinOp::Shl => count.map_or(0, |n| za << n | low(n)),
        BinOp::Shr => count.map_or(top(za.leading_ones()), |n| za >> n | top(n)),
        BinOp::Sar if width == Width::W64 && za >> 63 == 1 => {
            count.map_or(top(za.leading_ones()), |n| za >> n | top(n))
        }
        BinOp::Sub | BinOp::Sdiv | BinOp::Smod | BinOp::Sar | BinOp::Rotl => 0,
    }
}

/// The `n` highest bits.
fn top(n: u32) -> u64 {
    match n {
        0 => 0,
        1..64 => u64::MAX << (64 - n),
        _ => u64::MAX,
    }
}

/// The `n` lowest bits.
fn low(n: u32) -> u64 {
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}
