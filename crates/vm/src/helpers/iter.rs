//! Open-coded iterators.

use super::{Args, Row, helpers};
use skep_abi::Errno;
use skep_abi::limits::BPF_MAX_LOOPS;

pub(super) const KFUNCS: &[Row] = helpers! {
    0 "bpf_iter_num_new" num_new;
    0 "bpf_iter_num_next" num_next;
    0 "bpf_iter_num_destroy" num_destroy;
    0 "bpf_iter_bits_new" bits_new;
    0 "bpf_iter_bits_next" bits_next;
    0 "bpf_iter_bits_destroy" bits_destroy;
};

/// `struct bpf_iter_num`
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Num {
    current: i32,
    end: i32,
}

/// The state that `r1` points to.
fn load<T: Copy>(a: &Args) -> T {
    // SAFETY: the verifier proved an iterator of this type on the stack.
    unsafe { (a.ptr(1) as *const T).read_unaligned() }
}

fn store<T>(a: &Args, state: T) {
    // SAFETY: as in `load`.
    unsafe { a.ptr(1).cast::<T>().write_unaligned(state) }
}

/// iterator, start, end
fn num_new(a: &Args) -> Result<i64, Errno> {
    let (start, end) = (a.get(2) as i32, a.get(3) as i32);
    store(a, Num::default());
    if start > end {
        return Err(Errno::EINVAL);
    }
    if i64::from(end) - i64::from(start) > i64::from(BPF_MAX_LOOPS) {
        return Err(Errno::E2BIG);
    }
    store(
        a,
        Num {
            current: start.wrapping_sub(1),
            end,
        },
    );
    Ok(0)
}

/// The address of the next number, or NULL.
fn num_next(a: &Args) -> u64 {
    let Num { current, end } = load(a);
    // From the lowest number the one before it is the highest.
    if current.wrapping_add(1) >= end {
        store(a, Num::default());
        return 0;
    }
    store(
        a,
        Num {
            current: current.wrapping_add(1),
            end,
        },
    );
    a.get(1)
}

fn num_destroy(a: &Args) {
    store(a, Num::default());
}

/// Words of an iterator over bits (`BITS_ITER_NR_WORDS_MAX`).
const MAX_WORDS: u32 = 511;

/// `struct bpf_iter_bits`: the words, or their only one, and the position.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Bits {
    words: u64,
    count: u32,
    at: i32,
}

/// iterator, address of the words (may be bad), their count
fn bits_new(a: &Args) -> Result<i64, Errno> {
    let count = a.get32(3);
    store(a, Bits::default());
    if a.get(2) == 0 || count == 0 {
        return Err(Errno::EINVAL);
    }
    if count > MAX_WORDS {
        return Err(Errno::E2BIG);
    }
    let mut bytes = vec![0; count as usize * 8];
    if !crate::fault::read(a.get(2), &mut bytes) {
        return Err(Errno::EFAULT);
    }
    let words: Box<[u64]> = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|c| u64::from_ne_bytes(*c))
        .collect();
    let words = if let [word] = *words {
        word
    } else {
        Box::into_raw(words).cast::<u64>() as u64
    };
    store(
        a,
        Bits {
            words,
            count,
            at: -1,
        },
    );
    Ok(0)
}

/// The address of the number of the next set bit, or NULL.
fn bits_next(a: &Args) -> u64 {
    let mut bits: Bits = load(a);
    let end = bits.count.saturating_mul(64).cast_signed();
    let is_set = |at: i32| {
        let (word, bit) = ((at / 64) as usize, at % 64);
        let word = if bits.count == 1 {
            bits.words
        } else {
            // SAFETY: `bits_new` allocated `count` words.
            unsafe { *(bits.words as *const u64).add(word) }
        };
        word >> bit & 1 != 0
    };
    let next = (bits.at + 1..end).find(|&at| is_set(at));
    bits.at = next.unwrap_or(end);
    store(a, bits);
    if next.is_none() {
        return 0;
    }
    a.get(1) + std::mem::offset_of!(Bits, at) as u64
}

fn bits_destroy(a: &Args) {
    let bits: Bits = load(a);
    if bits.count > 1 {
        let words = std::ptr::slice_from_raw_parts_mut(bits.words as *mut u64, bits.count as usize);
        // SAFETY: `bits_new` made this box; the verifier proved that it is destroyed once.
        drop(unsafe { Box::from_raw(words) });
    }
    store(a, Bits::default());
}
