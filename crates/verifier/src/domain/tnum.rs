//! Tristate numbers: for each bit, known 0, known 1, or unknown.
//!
//! A [`Tnum`] stands for the set of all `x` with `x & !mask == value`. `value & mask` is always 0.

/// Known bits of a 64-bit number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tnum {
    /// The known bits.
    pub value: u64,
    /// Set where a bit is unknown.
    pub mask: u64,
}

impl Tnum {
    /// Nothing is known.
    pub(crate) const UNKNOWN: Self = Self {
        value: 0,
        mask: u64::MAX,
    };

    /// Exactly `value`.
    pub(crate) const fn constant(value: u64) -> Self {
        Self { value, mask: 0 }
    }

    /// The tightest set that holds all numbers `min..=max`; needs `min <= max`.
    pub(crate) const fn range(min: u64, max: u64) -> Self {
        let differing = 64 - (min ^ max).leading_zeros();
        if differing > 63 {
            return Self::UNKNOWN;
        }
        let mask = (1u64 << differing) - 1;
        Self {
            value: min & !mask,
            mask,
        }
    }

    /// True if only one number is in the set.
    pub(crate) const fn is_const(self) -> bool {
        self.mask == 0
    }

    /// True if `x` is in the set.
    pub(crate) const fn contains(self, x: u64) -> bool {
        x & !self.mask == self.value
    }

    /// The greatest member.
    pub(crate) const fn max(self) -> u64 {
        self.value | self.mask
    }

    /// The least member greater than `x`; the greatest one if there is none.
    pub(crate) const fn next_after(self, x: u64) -> u64 {
        if x >= self.max() {
            return self.max();
        }
        // The highest known bit that `x` has otherwise, and everything below it.
        let wrong = (x ^ self.value) & !self.mask;
        let below = match wrong {
            0 => 0,
            _ => u64::MAX >> wrong.leading_zeros(),
        };
        let x_is_below = self.value & wrong & !(below >> 1) != 0;
        let free_above = if x_is_below {
            x
        } else {
            // Counts up in the unknown bits: the known ones pass the carry on.
            (x | !self.mask | below).wrapping_add(1)
        };
        (free_above & self.mask & !below) | self.value
    }

    /// True if every member of `other` is in `self`.
    pub(crate) const fn includes(self, other: Self) -> bool {
        other.mask & !self.mask == 0 && self.value == other.value & !self.mask
    }

    /// True if some number may be in both sets.
    pub(crate) const fn overlaps(self, other: Self) -> bool {
        let known_in_both = !(self.mask | other.mask);
        self.value & known_in_both == other.value & known_in_both
    }

    /// True if every member is a multiple of `size` (a power of two).
    pub(crate) const fn is_aligned(self, size: u64) -> bool {
        (self.value | self.mask) & (size - 1) == 0
    }

    /// All `x << shift`.
    pub(crate) const fn shl(self, shift: u8) -> Self {
        Self {
            value: self.value << shift,
            mask: self.mask << shift,
        }
    }

    /// All `x >> shift`.
    pub(crate) const fn shr(self, shift: u8) -> Self {
        Self {
            value: self.value >> shift,
            mask: self.mask >> shift,
        }
    }

    /// All `x s>> shift`, on the lower half only if `bits` is 32 (the upper half is then zero).
    pub(crate) const fn sar(self, shift: u8, bits: u32) -> Self {
        if bits == 32 {
            let value = ((self.value as i32) >> shift) as u32;
            let mask = ((self.mask as i32) >> shift) as u32;
            Self {
                value: value as u64,
                mask: mask as u64,
            }
        } else {
            Self {
                value: ((self.value as i64) >> shift) as u64,
                mask: ((self.mask as i64) >> shift) as u64,
            }
        }
    }

    /// All `x + y`. A bit is unknown if it, or a carry into it, differs between the extreme sums.
    pub(crate) const fn add(self, rhs: Self) -> Self {
        let mask_sum = self.mask.wrapping_add(rhs.mask);
        let low = self.value.wrapping_add(rhs.value);
        let mask = (low.wrapping_add(mask_sum) ^ low) | self.mask | rhs.mask;
        Self {
            value: low & !mask,
            mask,
        }
    }

    /// All `x - y`.
    pub(crate) const fn sub(self, rhs: Self) -> Self {
        let diff = self.value.wrapping_sub(rhs.value);
        let high = diff.wrapping_add(self.mask);
        let low = diff.wrapping_sub(rhs.mask);
        let mask = (high ^ low) | self.mask | rhs.mask;
        Self {
            value: diff & !mask,
            mask,
        }
    }

    /// All `x & y`.
    pub(crate) const fn and(self, rhs: Self) -> Self {
        let can_be_one = (self.value | self.mask) & (rhs.value | rhs.mask);
        let value = self.value & rhs.value;
        Self {
            value,
            mask: can_be_one & !value,
        }
    }

    /// All `x | y`.
    pub(crate) const fn or(self, rhs: Self) -> Self {
        let value = self.value | rhs.value;
        Self {
            value,
            mask: (self.mask | rhs.mask) & !value,
        }
    }

    /// All `x ^ y`.
    pub(crate) const fn xor(self, rhs: Self) -> Self {
        let mask = self.mask | rhs.mask;
        Self {
            value: (self.value ^ rhs.value) & !mask,
            mask,
        }
    }

    /// All `x * y`: long multiplication that joins both outcomes wherever a bit of `self` is unknown.
    pub(crate) const fn mul(self, rhs: Self) -> Self {
        let (mut left, mut shifted, mut sum) = (self, rhs, Self::constant(0));
        while left.value != 0 || left.mask != 0 {
            if left.value & 1 != 0 {
                sum = sum.add(shifted);
            } else if left.mask & 1 != 0 {
                sum = sum.union(sum.add(shifted));
            }
            left = left.shr(1);
            shifted = shifted.shl(1);
        }
        sum
    }

    /// The tightest set that holds both sets.
    pub(crate) const fn union(self, other: Self) -> Self {
        let mask = self.mask | other.mask | (self.value ^ other.value);
        Self {
            value: self.value & !mask,
            mask,
        }
    }

    /// What is in both sets; if they contradict each other the result is merely well-formed.
    pub(crate) const fn intersect(self, other: Self) -> Self {
        let mask = self.mask & other.mask;
        Self {
            value: (self.value | other.value) & !mask,
            mask,
        }
    }

    /// The lowest `bytes` bytes in reverse order, zero-extended.
    pub(crate) const fn swap(self, bytes: u32) -> Self {
        let shift = 64 - bytes * 8;
        Self {
            value: self.value.swap_bytes() >> shift,
            mask: self.mask.swap_bytes() >> shift,
        }
    }

    /// The lowest `bytes` bytes, zero-extended.
    pub(crate) const fn truncate(self, bytes: u32) -> Self {
        if bytes >= 8 {
            return self;
        }
        let keep = (1u64 << (bytes * 8)) - 1;
        Self {
            value: self.value & keep,
            mask: self.mask & keep,
        }
    }

    /// The lower half, zero-extended.
    pub(crate) const fn low(self) -> Self {
        self.truncate(4)
    }

    /// `self` with its lower half cleared.
    pub(crate) const fn clear_low(self) -> Self {
        Self {
            value: self.value >> 32 << 32,
            mask: self.mask >> 32 << 32,
        }
    }

    /// The upper half of `self` with the lower half of `low`.
    pub(crate) const fn with_low(self, low: Self) -> Self {
        self.clear_low().or(low.low())
    }
}

#[cfg(test)]
mod tests {
    use super::Tnum;

    /// Every tnum of 4 bits.
    fn all() -> impl Iterator<Item = Tnum> {
        (0..16u64).flat_map(|mask| {
            (0..16u64)
                .filter(move |v| v & mask == 0)
                .map(move |value| Tnum { value, mask })
        })
    }

    fn members(t: Tnum) -> impl Iterator<Item = u64> {
        (0..16u64).filter(move |&x| t.contains(x))
    }

    #[test]
    fn binary_operations_contain_every_concrete_result() {
        type Op = (fn(Tnum, Tnum) -> Tnum, fn(u64, u64) -> u64);
        let ops: [Op; 6] = [
            (Tnum::add, u64::wrapping_add),
            (Tnum::sub, u64::wrapping_sub),
            (Tnum::and, |x, y| x & y),
            (Tnum::or, |x, y| x | y),
            (Tnum::xor, |x, y| x ^ y),
            (Tnum::mul, u64::wrapping_mul),
        ];
        for (abstract_op, concrete) in ops {
            for a in all() {
                for b in all() {
                    let r = abstract_op(a, b);
                    assert_eq!(r.value & r.mask, 0);
                    for x in members(a) {
                        for y in members(b) {
                            assert!(r.contains(concrete(x, y)), "{a:?} {b:?} {x} {y}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn sets_relate_as_their_members_do() {
        for a in all() {
            for b in all() {
                let both = members(a).filter(|&x| b.contains(x)).count();
                assert_eq!(a.overlaps(b), both > 0);
                assert_eq!(a.includes(b), both == members(b).count());
                assert!(members(a).chain(members(b)).all(|x| a.union(b).contains(x)));
                assert!(
                    members(a)
                        .filter(|&x| b.contains(x))
                        .all(|x| a.intersect(b).contains(x))
                );
            }
        }
    }

    #[test]
    fn the_next_member_is_found() {
        for t in all() {
            for x in 0..16 {
                let next = members(t).find(|&m| m > x).unwrap_or(t.max());
                assert_eq!(t.next_after(x), next, "{t:?} {x}");
            }
        }
    }

    #[test]
    fn ranges_hold_what_lies_between() {
        for min in 0..64u64 {
            for max in min..64 {
                assert!((min..=max).all(|x| Tnum::range(min, max).contains(x)));
            }
        }
        assert_eq!(Tnum::range(0, u64::MAX), Tnum::UNKNOWN);
    }
}
