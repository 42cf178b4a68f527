//! Indexes that hold under misprediction.

/// `index` if it is below `len`, which the caller has tested, else 0.
///
/// A processor that guesses the outcome of the caller's test would go on with any index, and what it then touches can be
/// found out (Spectre variant 1). This computes the answer again, without a branch and where no compiler sees that it is
/// known.
#[inline(always)]
#[must_use]
pub fn confine(index: u32, len: u32) -> u32 {
    let mut hidden = index;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: there is no instruction in it.
    unsafe {
        core::arch::asm!("/* {0:e} */", inout(reg) hidden, options(pure, nomem, nostack, preserves_flags));
    }
    // The sign of the difference of two numbers of 32 bits.
    let below = (i64::from(hidden) - i64::from(len)) >> 63;
    hidden & below as u32
}

#[cfg(test)]
mod tests {
    use super::confine;

    #[test]
    fn an_index_below_the_end_stays_and_others_become_zero() {
        for len in [0, 1, 2, 1 << 31, u32::MAX] {
            for index in [0, 1, 2, (1 << 31) - 1, 1 << 31, u32::MAX - 1, u32::MAX] {
                let expected = if index < len { index } else { 0 };
                assert_eq!(confine(index, len), expected, "{index} of {len}");
            }
        }
    }
}
