//! Whole loops as vector code (AVX2): sums, copies, searches.
//!
//! Vector registers are used nowhere else, so each sequence takes what it needs.

use super::asm::{Addr, Alu, Asm, Bytes, Cond, Gpr, VexOp, W, Xmm};
use skep_isa::{Size, Width};

/// Bytes of a vector.
const VECTOR: u32 = 32;
/// Vectors a round of a long loop.
const UNROLL: u32 = 4;

#[rustfmt::skip] // one instruction a line
mod op {
    use super::VexOp;
    const fn op(map: u8, pp: u8, opcode: u8) -> VexOp { VexOp { map, pp, opcode, w: false, long: true } }
    const fn half(map: u8, pp: u8, opcode: u8) -> VexOp { VexOp { long: false, ..op(map, pp, opcode) } }
    pub(super) const VMOVDQU_LOAD: VexOp = op(1, 2, 0x6f);
    pub(super) const VMOVDQU_STORE: VexOp = op(1, 2, 0x7f);
    pub(super) const VMOVDQU_LOAD_HALF: VexOp = half(1, 2, 0x6f);
    pub(super) const VMOVDQU_STORE_HALF: VexOp = half(1, 2, 0x7f);
    pub(super) const VPXOR: VexOp = op(1, 1, 0xef);
    pub(super) const VPADDD: VexOp = op(1, 1, 0xfe);
    pub(super) const VPADDQ: VexOp = op(1, 1, 0xd4);
    pub(super) const VPSADBW: VexOp = op(1, 1, 0xf6);
    pub(super) const VPMOVZXWD: VexOp = op(2, 1, 0x33);
    pub(super) const VPMOVZXDQ: VexOp = op(2, 1, 0x35);
    pub(super) const VEXTRACTI128: VexOp = op(3, 1, 0x39);
    pub(super) const VPSHUFD: VexOp = op(1, 1, 0x70);
    pub(super) const VMOVQ_TO_GPR: VexOp = VexOp { w: true, ..half(1, 1, 0x7e) };
    pub(super) const VPCMPEQB: VexOp = op(1, 1, 0x74);
    pub(super) const VPMOVMSKB: VexOp = op(1, 1, 0xd7);
}

/// For two-operand forms.
const NONE: Xmm = Xmm(0);

/// Registers of a sum.
#[derive(Clone, Copy)]
pub(super) struct SumRegs {
    pub(super) dst: Gpr,
    pub(super) addr: Gpr,
    pub(super) tmp: Gpr,
    pub(super) tmp2: Gpr,
}

/// How one vector's worth of elements joins an accumulator.
#[derive(Clone, Copy, PartialEq)]
enum Lanes {
    /// Differences of bytes from zero, summed to 64 bits.
    Bytes,
    /// 16 to 32 bits.
    Words,
    /// 32 bits as they are, modulo 2³².
    Wrapping,
    /// 32 to 64 bits.
    Doubles,
    /// 64 bits.
    Quads,
}

/// `dst =` the sum of `count` unsigned elements at `addr`, modulo 2³² if the width is 32.
pub(super) fn sum(a: &mut Asm, (size, width): (Size, Width), r: SumRegs, count: u32) {
    let lanes = match (size, width) {
        (Size::B, _) => Lanes::Bytes,
        (Size::H, _) => Lanes::Words,
        (Size::W, Width::W32) => Lanes::Wrapping,
        (Size::W, Width::W64) => Lanes::Doubles,
        (Size::DW, _) => Lanes::Quads,
    };
    let total = count * size.bytes();
    let vectors = total / VECTOR;
    let rounds = vectors / UNROLL;
    for n in 0..=UNROLL {
        a.v_rrr(op::VPXOR, Xmm(n as u8), Xmm(n as u8), Xmm(n as u8));
    }
    a.mov_rr(W::Q, r.tmp, r.addr);
    if rounds > 0 {
        let round = (UNROLL * VECTOR).cast_signed();
        a.lea(
            W::Q,
            r.dst,
            Addr::base(r.addr, rounds.cast_signed() * round),
        );
        let top = a.new_label();
        a.align(32);
        a.bind(top);
        for n in 0..UNROLL {
            accumulate(a, lanes, n as u8, r.tmp, (n * VECTOR).cast_signed());
        }
        a.alu_ri(Alu::Sub, W::Q, r.tmp, -round);
        a.alu_rr(Alu::Cmp, W::Q, r.tmp, r.dst);
        a.jcc(Cond::Ne, top);
    }
    for n in 0..vectors % UNROLL {
        accumulate(a, lanes, n as u8, r.tmp, (n * VECTOR).cast_signed());
    }
    combine(a, lanes, r.dst);
    rest(a, size, r, (vectors % UNROLL * VECTOR, total % VECTOR));
    if width == Width::W32 {
        a.mov_rr(W::D, r.dst, r.dst);
    }
}

/// Adds the vector at `[base + disp]` to accumulator `n`; register 4 is zero, 5 and 6 are free.
fn accumulate(a: &mut Asm, lanes: Lanes, n: u8, base: Gpr, disp: i32) {
    let (acc, zero, x) = (Xmm(n), Xmm(4), Xmm(5));
    let m = Addr::base(base, disp);
    let upper = Addr::base(base, disp + 16);
    match lanes {
        Lanes::Wrapping => a.v_rrm(op::VPADDD, acc, acc, m),
        Lanes::Quads => a.v_rrm(op::VPADDQ, acc, acc, m),
        Lanes::Bytes => {
            a.v_rrm(op::VPSADBW, x, zero, m);
            a.v_rrr(op::VPADDQ, acc, acc, x);
        }
        Lanes::Words | Lanes::Doubles => {
            let (widen, add) = match lanes {
                Lanes::Words => (op::VPMOVZXWD, op::VPADDD),
                _ => (op::VPMOVZXDQ, op::VPADDQ),
            };
            for m in [m, upper] {
                a.v_rrm(widen, x, NONE, m);
                a.v_rrr(add, acc, acc, x);
            }
        }
    }
}

/// `dst =` the sum of all lanes of the accumulators.
fn combine(a: &mut Asm, lanes: Lanes, dst: Gpr) {
    let narrow = matches!(lanes, Lanes::Words | Lanes::Wrapping);
    let add = if narrow { op::VPADDD } else { op::VPADDQ };
    a.v_rrr(add, Xmm(0), Xmm(0), Xmm(1));
    a.v_rrr(add, Xmm(2), Xmm(2), Xmm(3));
    a.v_rrr(add, Xmm(0), Xmm(0), Xmm(2));
    // VEXTRACTI128 and VMOVQ name the destination in the second operand of the encoding.
    a.v_rrri(op::VEXTRACTI128, Xmm(0), NONE, Xmm(1), 1);
    a.v_rrr(add, Xmm(0), Xmm(0), Xmm(1));
    if narrow {
        // Four lanes of 32 bits: two sums of 64 bits.
        a.v_rrr(op::VPMOVZXDQ, Xmm(0), NONE, Xmm(0));
        a.v_rrri(op::VEXTRACTI128, Xmm(0), NONE, Xmm(1), 1);
        a.v_rrr(op::VPADDQ, Xmm(0), Xmm(0), Xmm(1));
    }
    a.v_rrri(op::VPSHUFD, Xmm(1), NONE, Xmm(0), 0xee);
    a.v_rrr(op::VPADDQ, Xmm(0), Xmm(0), Xmm(1));
    a.v_gpr(op::VMOVQ_TO_GPR, 0, dst.0);
    a.vzeroupper();
}

/// Adds the elements behind the vectors: from `at` bytes behind the pointer in `tmp`.
fn rest(a: &mut Asm, size: Size, r: SumRegs, (at, bytes): (u32, u32)) {
    let load = super::baseline::bytes(size);
    let n = bytes / size.bytes();
    for i in 0..n {
        let m = Addr::base(r.tmp, (at + i * size.bytes()).cast_signed());
        if size == Size::DW {
            a.alu_rm(Alu::Add, W::Q, r.dst, m);
            continue;
        }
        a.load(load, r.tmp2, m);
        a.alu_rr(Alu::Add, W::Q, r.dst, r.tmp2);
    }
}

/// Copies `bytes` bytes between places that do not overlap.
pub(super) fn copy(a: &mut Asm, dst: Gpr, src: Gpr, tmp: Gpr, bytes: u32) {
    let round = UNROLL * VECTOR;
    let rounds = bytes / round;
    let mut done = 0;
    if rounds > 4 {
        // Counts up to zero, so that the index is also the loop test.
        let end = rounds * round;
        a.mov_ri(tmp, u64::from(end).wrapping_neg());
        let top = a.new_label();
        a.align(32);
        a.bind(top);
        for n in 0..UNROLL {
            let at = (end + n * VECTOR).cast_signed();
            a.v_rrm(
                op::VMOVDQU_LOAD,
                Xmm(n as u8),
                NONE,
                Addr::indexed(src, tmp, 0, at),
            );
        }
        for n in 0..UNROLL {
            let at = (end + n * VECTOR).cast_signed();
            a.v_rrm(
                op::VMOVDQU_STORE,
                Xmm(n as u8),
                NONE,
                Addr::indexed(dst, tmp, 0, at),
            );
        }
        a.alu_ri(Alu::Sub, W::Q, tmp, -round.cast_signed());
        a.jcc(Cond::Ne, top);
        done = end;
    }
    while bytes - done >= VECTOR {
        let at = done.cast_signed();
        a.v_rrm(op::VMOVDQU_LOAD, Xmm(0), NONE, Addr::base(src, at));
        a.v_rrm(op::VMOVDQU_STORE, Xmm(0), NONE, Addr::base(dst, at));
        done += VECTOR;
    }
    if bytes - done >= 16 {
        let at = done.cast_signed();
        a.v_rrm(op::VMOVDQU_LOAD_HALF, Xmm(0), NONE, Addr::base(src, at));
        a.v_rrm(op::VMOVDQU_STORE_HALF, Xmm(0), NONE, Addr::base(dst, at));
        done += 16;
    }
    a.vzeroupper();
    for (size, n) in [
        (Bytes::B8, 8),
        (Bytes::B4, 4),
        (Bytes::B2, 2),
        (Bytes::B1, 1),
    ] {
        while bytes - done >= n {
            a.load(size, tmp, Addr::base(src, done.cast_signed()));
            a.store(size, Addr::base(dst, done.cast_signed()), tmp);
            done += n;
        }
    }
}

/// `dst =` a number of leading bytes that are equal at `x` and `y`: all up to the first difference in `count`, but for a rest
/// shorter than a vector where `count` is.
pub(super) fn mismatch(a: &mut Asm, (dst, tmp): (Gpr, Gpr), (x, y): (Gpr, Gpr), count: u32) {
    a.zero(dst);
    if count < VECTOR {
        return;
    }
    let whole = (count / VECTOR * VECTOR).cast_signed();
    let (top, found, done) = (a.new_label(), a.new_label(), a.new_label());
    a.align(32);
    a.bind(top);
    compare_vectors(a, dst, tmp, (x, y));
    a.jcc(Cond::Ne, found);
    a.alu_ri(Alu::Sub, W::Q, dst, -VECTOR.cast_signed());
    a.alu_ri(Alu::Cmp, W::D, dst, whole);
    a.jcc(Cond::Ne, top);
    if whole.cast_unsigned() < count {
        // The last vector overlaps the one before.
        a.mov_ri(dst, u64::from(count - VECTOR));
        compare_vectors(a, dst, tmp, (x, y));
        a.jcc(Cond::Ne, found);
        a.mov_ri(dst, u64::from(count));
    }
    a.jmp(done);
    a.bind(found);
    a.tzcnt(W::D, tmp, tmp);
    a.alu_rr(Alu::Add, W::Q, dst, tmp);
    a.bind(done);
    a.vzeroupper();
}

/// `tmp =` a bit for each byte that differs in the vectors at `x + at` and `y + at`; the flags say whether there is any.
fn compare_vectors(a: &mut Asm, at: Gpr, tmp: Gpr, (x, y): (Gpr, Gpr)) {
    a.v_rrm(op::VMOVDQU_LOAD, Xmm(0), NONE, Addr::indexed(x, at, 0, 0));
    a.v_rrm(op::VPCMPEQB, Xmm(0), Xmm(0), Addr::indexed(y, at, 0, 0));
    a.v_gpr(op::VPMOVMSKB, tmp.0, 0);
    a.alu_ri(Alu::Xor, W::D, tmp, -1);
}
