//! One function a kind of instruction: the reference semantics (RFC 9669 §4, §5).

use super::inst::{Inst, atomic, guarded, moving};
use crate::lowered::{MoveOp, moved};
use skep_verifier::PointerLimit;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// The registers `r0`–`r10`.
pub type Regs = [u64; 11];

/// Reads a register.
#[inline(always)]
pub(super) fn get(r: &Regs, n: u8) -> u64 {
    debug_assert!(n <= 10, "pre-decoding only writes register numbers");
    // SAFETY: pre-decoding writes register fields from `Reg`, which is at most 10.
    unsafe { *r.get_unchecked(usize::from(n)) }
}

/// Writes a register.
#[inline(always)]
pub(super) fn set(r: &mut Regs, n: u8, value: u64) {
    debug_assert!(n <= 10, "pre-decoding only writes register numbers");
    // SAFETY: as in `get`.
    unsafe { *r.get_unchecked_mut(usize::from(n)) = value }
}

/// 64-bit `dst = f(dst, src)`.
#[inline(always)]
pub(super) fn alu64r(r: &mut Regs, i: &Inst, f: impl Fn(u64, u64) -> u64) {
    set(r, i.dst, f(get(r, i.dst), get(r, i.src)));
}

/// 64-bit `dst = f(dst, imm)`.
#[inline(always)]
pub(super) fn alu64k(r: &mut Regs, i: &Inst, f: impl Fn(u64, u64) -> u64) {
    set(r, i.dst, f(get(r, i.dst), i.imm));
}

/// 32-bit `dst = f(dst, src)`, zero-extended.
#[inline(always)]
pub(super) fn alu32r(r: &mut Regs, i: &Inst, f: impl Fn(u32, u32) -> u32) {
    set(
        r,
        i.dst,
        u64::from(f(get(r, i.dst) as u32, get(r, i.src) as u32)),
    );
}

/// 32-bit `dst = f(dst, imm)`, zero-extended.
#[inline(always)]
pub(super) fn alu32k(r: &mut Regs, i: &Inst, f: impl Fn(u32, u32) -> u32) {
    set(r, i.dst, u64::from(f(get(r, i.dst) as u32, i.imm as u32)));
}

/// `dst = f(src)`.
#[inline(always)]
pub(super) fn mov(r: &mut Regs, i: &Inst, f: impl Fn(u64) -> u64) {
    set(r, i.dst, f(get(r, i.src)));
}

/// `dst = f(dst)`.
#[inline(always)]
pub(super) fn unary(r: &mut Regs, i: &Inst, f: impl Fn(u64) -> u64) {
    set(r, i.dst, f(get(r, i.dst)));
}

/// A limited move of a pointer.
pub(super) fn move_pointer(r: &mut Regs, i: &Inst) {
    let is = |bit: u8| i.kind & bit != 0;
    let op = if is(moving::SUB) {
        MoveOp::Sub
    } else {
        MoveOp::Add
    };
    let limit = PointerLimit {
        limit: i.imm as u32,
        negative: is(moving::NEGATIVE),
        constant: false,
        pointer_is_dst: is(moving::POINTER_IS_DST),
    };
    set(r, i.dst, moved(op, get(r, i.dst), get(r, i.src), limit));
}

/// Operations of both widths; division by zero and shifts as the RFC defines them.
macro_rules! arithmetic {
    ($module:ident, $u:ty, $s:ty) => {
        pub(super) mod $module {
            pub(in crate::interp) fn div(a: $u, b: $u) -> $u {
                a.checked_div(b).unwrap_or(0)
            }
            pub(in crate::interp) fn rem(a: $u, b: $u) -> $u {
                a.checked_rem(b).unwrap_or(a)
            }
            pub(in crate::interp) fn sdiv(a: $u, b: $u) -> $u {
                let (a, b) = (a.cast_signed(), b.cast_signed());
                if b == 0 {
                    0
                } else {
                    a.wrapping_div(b).cast_unsigned()
                }
            }
            pub(in crate::interp) fn srem(a: $u, b: $u) -> $u {
                let (x, y) = (a.cast_signed(), b.cast_signed());
                if y == 0 {
                    a
                } else {
                    x.wrapping_rem(y).cast_unsigned()
                }
            }
            pub(in crate::interp) fn lsh(a: $u, b: $u) -> $u {
                a.wrapping_shl(b as u32)
            }
            pub(in crate::interp) fn rsh(a: $u, b: $u) -> $u {
                a.wrapping_shr(b as u32)
            }
            pub(in crate::interp) fn arsh(a: $u, b: $u) -> $u {
                a.cast_signed().wrapping_shr(b as u32).cast_unsigned()
            }
        }
    };
}
arithmetic!(w64, u64, i64);
arithmetic!(w32, u32, i32);

/// 64-bit comparison with a register.
#[inline(always)]
pub(super) fn cmp64r(r: &Regs, i: &Inst, f: impl Fn(u64, u64) -> bool) -> bool {
    f(get(r, i.dst), get(r, i.src))
}

/// 64-bit comparison with an immediate.
#[inline(always)]
pub(super) fn cmp64k(r: &Regs, i: &Inst, f: impl Fn(u64, u64) -> bool) -> bool {
    f(get(r, i.dst), i.imm)
}

/// 32-bit comparison with a register.
#[inline(always)]
pub(super) fn cmp32r(r: &Regs, i: &Inst, f: impl Fn(u32, u32) -> bool) -> bool {
    f(get(r, i.dst) as u32, get(r, i.src) as u32)
}

/// 32-bit comparison with an immediate.
#[inline(always)]
pub(super) fn cmp32k(r: &Regs, i: &Inst, f: impl Fn(u32, u32) -> bool) -> bool {
    f(get(r, i.dst) as u32, i.imm as u32)
}

/// The address of a memory operand.
#[inline(always)]
pub(super) fn address(r: &Regs, base: u8, i: &Inst) -> u64 {
    get(r, base).wrapping_add(i64::from(i.offset).cast_unsigned())
}

/// `dst = extend(*(T *)(src + offset))`.
///
/// # Safety
/// The instruction must come from a verified program whose registers hold what the proof says.
#[inline(always)]
pub(super) unsafe fn load<T>(r: &mut Regs, i: &Inst, extend: impl Fn(T) -> u64) {
    let from = address(r, i.src, i) as *const T;
    // SAFETY: the verifier proved the access in bounds; alignment is not assumed.
    let value = unsafe { from.read_unaligned() };
    set(r, i.dst, extend(value));
}

/// `*(T *)(dst + offset) = cut(src)`.
///
/// # Safety
/// As for [`load`].
#[inline(always)]
pub(super) unsafe fn store_reg<T>(r: &Regs, i: &Inst, cut: impl Fn(u64) -> T) {
    let to = address(r, i.dst, i) as *mut T;
    // SAFETY: as in `load`.
    unsafe { to.write_unaligned(cut(get(r, i.src))) }
}

/// `*(T *)(dst + offset) = cut(imm)`.
///
/// # Safety
/// As for [`load`].
#[inline(always)]
pub(super) unsafe fn store_imm<T>(r: &Regs, i: &Inst, cut: impl Fn(u64) -> T) {
    let to = address(r, i.dst, i) as *mut T;
    // SAFETY: as in `load`.
    unsafe { to.write_unaligned(cut(i.imm)) }
}

/// The register that an atomic operation writes.
pub(super) fn atomic_result(i: &Inst) -> Option<u8> {
    match i.kind & 0x0f {
        atomic::ADD | atomic::OR | atomic::AND | atomic::XOR | atomic::XCHG => {
            (i.kind & atomic::FETCH != 0).then_some(i.src)
        }
        _ => Some(0),
    }
}

/// The operation that all widths of atomics share.
macro_rules! atomic_rmw {
    ($name:ident, $atomic:ty, $t:ty) => {
        /// A sequentially consistent read-modify-write at `at`.
        ///
        /// # Safety
        /// `at` must be valid and aligned.
        pub(super) unsafe fn $name(r: &mut Regs, i: &Inst, at: u64) {
            // SAFETY: promised by the caller.
            let cell = unsafe { <$atomic>::from_ptr(at as *mut $t) };
            let operand = get(r, i.src) as $t;
            let order = Ordering::SeqCst;
            let old = match i.kind & 0x0f {
                atomic::ADD => cell.fetch_add(operand, order),
                atomic::OR => cell.fetch_or(operand, order),
                atomic::AND => cell.fetch_and(operand, order),
                atomic::XOR => cell.fetch_xor(operand, order),
                atomic::XCHG => cell.swap(operand, order),
                _ => {
                    let expected = r[0] as $t;
                    let old = match cell.compare_exchange(expected, operand, order, order) {
                        Ok(old) | Err(old) => old,
                    };
                    r[0] = u64::from(old);
                    return;
                }
            };
            if i.kind & atomic::FETCH != 0 {
                set(r, i.src, u64::from(old));
            }
        }
    };
}
atomic_rmw!(atomic_u32, AtomicU32, u32);
atomic_rmw!(atomic_u64, AtomicU64, u64);

/// Loads `1 << size` bytes with acquire order.
///
/// # Safety
/// `at` must be valid and aligned.
pub(super) unsafe fn load_acquire(at: u64, size: u8) -> u64 {
    let order = Ordering::Acquire;
    // SAFETY: promised by the caller.
    unsafe {
        match size & guarded::SIZE {
            0 => u64::from(AtomicU8::from_ptr(at as *mut u8).load(order)),
            1 => u64::from(AtomicU16::from_ptr(at as *mut u16).load(order)),
            2 => u64::from(AtomicU32::from_ptr(at as *mut u32).load(order)),
            _ => AtomicU64::from_ptr(at as *mut u64).load(order),
        }
    }
}

/// Stores `1 << size` bytes with release order.
///
/// # Safety
/// `at` must be valid and aligned.
pub(super) unsafe fn store_release(at: u64, size: u8, value: u64) {
    let order = Ordering::Release;
    // SAFETY: promised by the caller.
    unsafe {
        match size & guarded::SIZE {
            0 => AtomicU8::from_ptr(at as *mut u8).store(value as u8, order),
            1 => AtomicU16::from_ptr(at as *mut u16).store(value as u16, order),
            2 => AtomicU32::from_ptr(at as *mut u32).store(value as u32, order),
            _ => AtomicU64::from_ptr(at as *mut u64).store(value, order),
        }
    }
}

/// Extends a value of `1 << (kind & 3)` bytes as `kind` says.
pub(super) fn extend(value: u64, kind: u8) -> u64 {
    let bits = 64 - (8 << (kind & guarded::SIZE));
    if kind & guarded::SIGN != 0 {
        ((value << bits).cast_signed() >> bits).cast_unsigned()
    } else {
        value << bits >> bits
    }
}
