//! Hashing and comparing keys, specialised by size.

/// Odd constant with no structure (from the digits of the golden ratio).
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
/// A second one (from the digits of π).
const MIX2: u64 = 0x2432_3f6a_8885_a309;

/// Multiplies and folds: every bit of the result depends on every bit of both.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a).wrapping_mul(u128::from(b));
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// Keys of one size (or of any).
pub(crate) trait Key: Copy {
    /// Bytes that a key takes in an element, if all keys of the kind take as many.
    const STRIDE: Option<usize>;
    /// Reads a key of `len` bytes.
    ///
    /// # Safety
    /// `at` is valid for `len` bytes as long as the result is used.
    unsafe fn read(at: *const u8, len: usize) -> Self;
    /// Hash under `seed`.
    fn hash(self, seed: u64) -> u64;
    /// Equal to the key of an element? That may be changing: then any answer is right.
    ///
    /// # Safety
    /// `at` is aligned to 8 and valid for reads of the key's size.
    unsafe fn is_at(self, at: *const u8) -> bool;
    /// Stores the key into an element that nobody else writes.
    ///
    /// # Safety
    /// `at` is aligned to 8 and valid for writes of the key's size.
    unsafe fn store(self, at: *mut u8);
}

/// 4 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Key4(u32);

impl Key for Key4 {
    const STRIDE: Option<usize> = Some(8);
    #[inline(always)]
    unsafe fn read(at: *const u8, _: usize) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { at.cast::<u32>().read_unaligned() })
    }
    #[inline(always)]
    fn hash(self, seed: u64) -> u64 {
        fold(u64::from(self.0) ^ seed, MIX)
    }
    #[inline(always)]
    unsafe fn is_at(self, at: *const u8) -> bool {
        // SAFETY: the caller's promise.
        unsafe { at.cast::<u32>().read_volatile() == self.0 }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { at.cast::<u32>().write_volatile(self.0) }
    }
}

/// 8 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Key8(u64);

impl Key for Key8 {
    const STRIDE: Option<usize> = Some(8);
    #[inline(always)]
    unsafe fn read(at: *const u8, _: usize) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { at.cast::<u64>().read_unaligned() })
    }
    #[inline(always)]
    fn hash(self, seed: u64) -> u64 {
        fold(self.0 ^ seed, MIX)
    }
    #[inline(always)]
    unsafe fn is_at(self, at: *const u8) -> bool {
        // SAFETY: the caller's promise.
        unsafe { at.cast::<u64>().read_volatile() == self.0 }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { at.cast::<u64>().write_volatile(self.0) }
    }
}

/// 16 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Key16(u64, u64);

impl Key for Key16 {
    const STRIDE: Option<usize> = Some(16);
    #[inline(always)]
    unsafe fn read(at: *const u8, _: usize) -> Self {
        // SAFETY: the caller's promise.
        let [a, b] = unsafe { at.cast::<[u64; 2]>().read_unaligned() };
        Self(a, b)
    }
    #[inline(always)]
    fn hash(self, seed: u64) -> u64 {
        fold(fold(self.0 ^ seed, MIX) ^ self.1, MIX2)
    }
    #[inline(always)]
    unsafe fn is_at(self, at: *const u8) -> bool {
        let at = at.cast::<u64>();
        // SAFETY: the caller's promise.
        unsafe { (at.read_volatile() ^ self.0) | (at.add(1).read_volatile() ^ self.1) == 0 }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut u8) {
        let at = at.cast::<u64>();
        // SAFETY: the caller's promise.
        unsafe {
            at.write_volatile(self.0);
            at.add(1).write_volatile(self.1);
        }
    }
}

/// Any size.
#[derive(Clone, Copy)]
pub(crate) struct KeyN {
    at: *const u8,
    len: usize,
}

impl KeyN {
    /// Word `i`; bytes past the key are zero.
    #[inline(always)]
    fn word(self, i: usize) -> u64 {
        let left = self.len - i * 8;
        // SAFETY: `i * 8 < len`, and `read` promised `len` bytes.
        unsafe {
            let at = self.at.add(i * 8);
            if left >= 8 {
                return at.cast::<u64>().read_unaligned();
            }
            let mut bytes = [0u8; 8];
            std::ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), left);
            u64::from_ne_bytes(bytes)
        }
    }

    fn words(self) -> usize {
        self.len.div_ceil(8)
    }
}

impl Key for KeyN {
    const STRIDE: Option<usize> = None;
    #[inline(always)]
    unsafe fn read(at: *const u8, len: usize) -> Self {
        Self { at, len }
    }
    #[inline]
    fn hash(self, seed: u64) -> u64 {
        let mut h = seed ^ self.len as u64;
        for i in 0..self.words() {
            h = fold(h ^ self.word(i), MIX).wrapping_add(MIX2);
        }
        fold(h, MIX2)
    }
    #[inline]
    unsafe fn is_at(self, at: *const u8) -> bool {
        // SAFETY: elements keep keys in whole words, the last one filled with zeros.
        (0..self.words())
            .all(|i| unsafe { at.cast::<u64>().add(i).read_volatile() } == self.word(i))
    }
    #[inline]
    unsafe fn store(self, at: *mut u8) {
        for i in 0..self.words() {
            // SAFETY: as in `is_at`.
            unsafe { at.cast::<u64>().add(i).write_volatile(self.word(i)) };
        }
    }
}
