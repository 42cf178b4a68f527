//! What is known of a number: bits and four ranges, kept in step.

use super::tnum::Tnum;

/// A set of 64-bit numbers: those that satisfy the bits and all four ranges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Scalar {
    /// Known bits.
    pub bits: Tnum,
    /// Unsigned minimum.
    pub umin: u64,
    /// Unsigned maximum.
    pub umax: u64,
    /// Signed minimum.
    pub smin: i64,
    /// Signed maximum.
    pub smax: i64,
    /// Unsigned minimum of the lower half.
    pub u32_min: u32,
    /// Unsigned maximum of the lower half.
    pub u32_max: u32,
    /// Signed minimum of the lower half.
    pub s32_min: i32,
    /// Signed maximum of the lower half.
    pub s32_max: i32,
}

impl Scalar {
    /// Any number.
    pub(crate) const UNKNOWN: Self = Self {
        bits: Tnum::UNKNOWN,
        umin: 0,
        umax: u64::MAX,
        smin: i64::MIN,
        smax: i64::MAX,
        u32_min: 0,
        u32_max: u32::MAX,
        s32_min: i32::MIN,
        s32_max: i32::MAX,
    };

    /// Exactly `value`.
    pub(crate) const fn constant(value: u64) -> Self {
        Self {
            bits: Tnum::constant(value),
            umin: value,
            umax: value,
            smin: value as i64,
            smax: value as i64,
            u32_min: value as u32,
            u32_max: value as u32,
            s32_min: value as i32,
            s32_max: value as i32,
        }
    }

    /// The number, if there is only one.
    pub(crate) const fn as_const(&self) -> Option<u64> {
        if self.bits.is_const() {
            Some(self.bits.value)
        } else {
            None
        }
    }

    /// True if only one number is in the set.
    pub(crate) const fn is_const(&self) -> bool {
        self.bits.is_const()
    }

    /// The lower half, if it is known.
    pub(crate) const fn as_const32(&self) -> Option<u32> {
        if self.bits.low().is_const() {
            Some(self.bits.value as u32)
        } else {
            None
        }
    }

    /// True if `x` satisfies the bits and every range.
    pub(crate) const fn contains(&self, x: u64) -> bool {
        let (s, u32_, s32) = (x as i64, x as u32, x as i32);
        self.bits.contains(x)
            && self.umin <= x
            && x <= self.umax
            && self.smin <= s
            && s <= self.smax
            && self.u32_min <= u32_
            && u32_ <= self.u32_max
            && self.s32_min <= s32
            && s32 <= self.s32_max
    }

    /// True if the ranges contradict each other: no number can be meant.
    pub(crate) const fn is_broken(&self) -> bool {
        self.umin > self.umax
            || self.smin > self.smax
            || self.u32_min > self.u32_max
            || self.s32_min > self.s32_max
            || (self.bits.is_const()
                && (self.bits.value != self.umin
                    || self.umin != self.umax
                    || self.smin != self.smax))
            || (self.bits.low().is_const()
                && (self.u32_min != self.u32_max || self.s32_min != self.s32_max))
    }

    /// True if the ranges of the whole contradict each other or known bits: the path cannot be taken.
    pub(crate) const fn contradicts_itself(&self) -> bool {
        self.smin > self.smax
            || self.umin > self.umax
            || (self.bits.is_const() && (self.smin != self.smax || self.umin != self.umax))
    }

    /// True if every range of `cur` lies within the range of `self`.
    pub(crate) const fn range_includes(&self, cur: &Self) -> bool {
        self.umin <= cur.umin
            && self.umax >= cur.umax
            && self.smin <= cur.smin
            && self.smax >= cur.smax
            && self.u32_min <= cur.u32_min
            && self.u32_max >= cur.u32_max
            && self.s32_min <= cur.s32_min
            && self.s32_max >= cur.s32_max
    }

    /// Forgets the 64-bit ranges.
    pub(crate) const fn forget_range64(&mut self) {
        (self.umin, self.umax, self.smin, self.smax) = (0, u64::MAX, i64::MIN, i64::MAX);
    }

    /// Forgets the ranges of the lower half.
    pub(crate) const fn forget_range32(&mut self) {
        (self.u32_min, self.u32_max, self.s32_min, self.s32_max) =
            (0, u32::MAX, i32::MIN, i32::MAX);
    }

    /// The lower half is exactly `low`.
    pub(crate) const fn set_half(&mut self, low: u32) {
        self.bits = self.bits.with_low(Tnum::constant(low as u64));
        (self.u32_min, self.u32_max) = (low, low);
        (self.s32_min, self.s32_max) = (low.cast_signed(), low.cast_signed());
    }

    /// Lets each part learn from the others: bits → ranges → each other → bits → ranges.
    ///
    /// Sound: no member of `self` is lost.
    pub(crate) fn sync(&mut self) {
        self.ranges_from_bits();
        for _ in 0..DEDUCTION_ROUNDS {
            self.deduce_half();
            self.deduce_whole();
            self.deduce_across();
        }
        self.bits_from_ranges();
        self.ranges_from_bits();
    }

    /// Tightens the ranges by the known bits.
    pub(crate) fn ranges_from_bits(&mut self) {
        let low = self.bits.low();
        let (value, mask) = (low.value as u32, low.mask as u32);
        self.s32_min = self.s32_min.max((value | (mask & SIGN32)).cast_signed());
        self.s32_max = self.s32_max.min((value | (mask & !SIGN32)).cast_signed());
        self.u32_min = self.u32_min.max(value);
        self.u32_max = self.u32_max.min(value | mask);
        let Tnum { value, mask } = self.bits;
        self.smin = self.smin.max((value | (mask & SIGN64)).cast_signed());
        self.smax = self.smax.min((value | (mask & !SIGN64)).cast_signed());
        self.umin = self.umin.max(value);
        self.umax = self.umax.min(value | mask);
        if let Some(only) = self.only_member() {
            *self = Self::constant(only);
        }
    }

    /// The number that the bits and the unsigned range have in common, if there is only one.
    ///
    /// Where they have none in common no number is meant, and the answer may be any.
    const fn only_member(&self) -> Option<u64> {
        let bits = self.bits;
        if bits.is_const() && self.umin == bits.value && self.umax == bits.value {
            return None;
        }
        let next = bits.next_after(self.umin);
        if bits.contains(self.umin) {
            return if next > self.umax {
                Some(self.umin)
            } else {
                None
            };
        }
        if next == bits.max() || (next <= self.umax && bits.next_after(next) > self.umax) {
            Some(next)
        } else {
            None
        }
    }

    /// Tightens the bits by the ranges.
    fn bits_from_ranges(&mut self) {
        let whole = self.bits.intersect(Tnum::range(self.umin, self.umax));
        let half = whole.low().intersect(Tnum::range(
            u64::from(self.u32_min),
            u64::from(self.u32_max),
        ));
        self.bits = whole.clear_low().or(half);
    }

    /// Tightens the ranges of the lower half, from the whole and from each other.
    fn deduce_half(&mut self) {
        let (umin, umax) = (self.umin, self.umax);
        if umin >> 32 == umax >> 32 {
            self.u32_min = self.u32_min.max(umin as u32);
            self.u32_max = self.u32_max.min(umax as u32);
            self.meet_s32_if_ordered(umin as i32, umax as i32);
        }
        let (smin, smax) = (self.smin.cast_unsigned(), self.smax.cast_unsigned());
        if smin >> 32 == smax >> 32 {
            if smin as u32 <= smax as u32 {
                self.u32_min = self.u32_min.max(smin as u32);
                self.u32_max = self.u32_max.min(smax as u32);
            }
            self.meet_s32_if_ordered(smin as i32, smax as i32);
        }
        // One step of the upper half, taken while the lower half goes from negative to not negative.
        if ((umin >> 32) as u32).wrapping_add(1) == (umax >> 32) as u32
            && (umin as i32) < 0
            && umax as i32 >= 0
        {
            self.meet_s32_if_ordered(umin as i32, umax as i32);
        }
        if ((smin >> 32) as u32).wrapping_add(1) == (smax >> 32) as u32
            && (smin as i32) < 0
            && smax as i32 >= 0
        {
            self.meet_s32_if_ordered(smin as i32, smax as i32);
        }
        self.meet_s32_if_ordered(self.u32_min.cast_signed(), self.u32_max.cast_signed());
        let (low, high) = (self.s32_min.cast_unsigned(), self.s32_max.cast_unsigned());
        if low <= high {
            self.u32_min = self.u32_min.max(low);
            self.u32_max = self.u32_max.min(high);
        } else if self.u32_max < low {
            // As for the whole: the signed range has two parts as unsigned numbers.
            self.s32_min = self.u32_min.cast_signed();
            self.u32_max = self.u32_max.min(high);
        } else if high < self.u32_min {
            self.s32_max = self.u32_max.cast_signed();
            self.u32_min = self.u32_min.max(low);
        }
    }

    fn meet_s32_if_ordered(&mut self, min: i32, max: i32) {
        if min <= max {
            self.s32_min = self.s32_min.max(min);
            self.s32_max = self.s32_max.min(max);
        }
    }

    /// Tightens the signed and unsigned ranges of the whole by each other.
    fn deduce_whole(&mut self) {
        let (low, high) = (self.umin.cast_signed(), self.umax.cast_signed());
        if low <= high {
            self.smin = self.smin.max(low);
            self.smax = self.smax.min(high);
        }
        let (low, high) = (self.smin.cast_unsigned(), self.smax.cast_unsigned());
        if low <= high {
            self.umin = self.umin.max(low);
            self.umax = self.umax.min(high);
        } else if self.umax < low {
            // The signed range has two parts as unsigned numbers; only the not-negative one can be meant.
            self.smin = self.umin.cast_signed();
            self.umax = self.umax.min(high);
        } else if high < self.umin {
            self.smax = self.umax.cast_signed();
            self.umin = self.umin.max(low);
        }
    }

    /// Tightens the ranges of the whole by those of the lower half.
    fn deduce_across(&mut self) {
        const UPPER: u64 = !0xffff_ffff;
        let (low, high) = (u64::from(self.u32_min), u64::from(self.u32_max));
        self.umin = self.umin.max((self.umin & UPPER) | low);
        self.umax = self.umax.min((self.umax & UPPER) | high);
        self.smin = self
            .smin
            .max(((self.smin.cast_unsigned() & UPPER) | low).cast_signed());
        self.smax = self
            .smax
            .min(((self.smax.cast_unsigned() & UPPER) | high).cast_signed());
        if self.s32_min >= 0 && self.smin >= i64::from(i32::MIN) && self.smax <= i64::from(i32::MAX)
        {
            // The number is its own lower half. The kernel replaces the ranges here, even where that forgets something.
            (self.smin, self.smax) = (self.s32_min.into(), self.s32_max.into());
            (self.umin, self.umax) = (self.smin.cast_unsigned(), self.smax.cast_unsigned());
            self.bits = self.bits.intersect(Tnum::range(self.umin, self.umax));
        }
    }

    /// After a 32-bit operation: the upper half is zero.
    pub(crate) fn zero_upper(&mut self) {
        self.bits = self.bits.low();
        self.umin = u64::from(self.u32_min);
        self.umax = u64::from(self.u32_max);
        // The signed range only carries over if the lower half cannot be negative.
        if self.s32_min >= 0 && self.s32_max >= 0 {
            (self.smin, self.smax) = (i64::from(self.s32_min), i64::from(self.s32_max));
        } else {
            (self.smin, self.smax) = (0, i64::from(u32::MAX));
        }
    }

    /// The lowest `bytes` bytes, zero-extended, as a load of that size gives them.
    pub(crate) fn truncate(&mut self, bytes: u32) {
        if bytes >= 8 {
            return;
        }
        self.bits = self.bits.truncate(bytes);
        let keep = (1u64 << (bytes * 8)) - 1;
        if self.umin & !keep == self.umax & !keep {
            self.umin &= keep;
            self.umax &= keep;
        } else {
            (self.umin, self.umax) = (0, keep);
        }
        self.smin = self.umin.cast_signed();
        self.smax = self.umax.cast_signed();
        // The halves follow from the whole; below four bytes the old ones no longer hold.
        if bytes < 4 {
            self.forget_range32();
        }
        self.sync();
    }

    /// Sign-extends the lowest `bytes` bytes (1, 2 or 4) to 64 bits.
    pub(crate) fn sign_extend(&mut self, bytes: u32) {
        let shift = 64 - bytes * 8;
        let extend = |x: u64| ((x << shift).cast_signed()) >> shift;
        if let Some(value) = self.as_const() {
            *self = Self::constant(extend(value).cast_unsigned());
            return;
        }
        let sign_only = |s: &mut Self| {
            *s = Self::signed_range(-(1i64 << (bytes * 8 - 1)), (1i64 << (bytes * 8 - 1)) - 1);
        };
        let (top_min, top_max) = (self.smin >> (bytes * 8), self.smax >> (bytes * 8));
        if top_min != top_max {
            return sign_only(self);
        }
        let (a, b) = (
            extend(self.smin.cast_unsigned()),
            extend(self.smax.cast_unsigned()),
        );
        let (min, max) = (a.min(b), a.max(b));
        // Both ends on one side of the sign: the range is kept.
        if (min < 0) == (max < 0) {
            *self = Self::signed_range(min, max);
        } else {
            sign_only(self);
        }
    }

    /// Sign-extends the lowest `bytes` bytes (1 or 2) to 32 bits; the caller zeroes the upper half.
    pub(crate) fn sign_extend32(&mut self, bytes: u32) {
        let shift = 32 - bytes * 8;
        let extend = |x: u32| ((x << shift).cast_signed()) >> shift;
        if let Some(value) = self.as_const() {
            *self = Self::constant(u64::from(extend(value as u32).cast_unsigned()));
            return;
        }
        let limit = 1i32 << (bytes * 8 - 1);
        let (mut min, mut max) = (-limit, limit - 1);
        if self.s32_min >> (bytes * 8) == self.s32_max >> (bytes * 8) {
            let (a, b) = (
                extend(self.s32_min.cast_unsigned()),
                extend(self.s32_max.cast_unsigned()),
            );
            if (a < 0) == (b < 0) {
                (min, max) = (a.min(b), a.max(b));
            }
        }
        let mut s = Self::UNKNOWN;
        (s.s32_min, s.s32_max) = (min, max);
        (s.u32_min, s.u32_max) = if min.cast_unsigned() <= max.cast_unsigned() {
            (min.cast_unsigned(), max.cast_unsigned())
        } else {
            (0, u32::MAX)
        };
        s.bits = Tnum::range(u64::from(s.u32_min), u64::from(s.u32_max)).low();
        *self = s;
    }

    /// All numbers from `min` to `max`, signed.
    pub(crate) fn signed_range(min: i64, max: i64) -> Self {
        let mut s = Self::UNKNOWN;
        (s.smin, s.smax) = (min, max);
        s.sync();
        s
    }
}

/// Rounds after which further deduction finds nothing that matters (as many as the kernel makes).
const DEDUCTION_ROUNDS: usize = 3;
const SIGN32: u32 = 1 << 31;
const SIGN64: u64 = 1 << 63;
