//! Sets of numbers as intervals.

use crate::insn::Relation;
use alloc::vec::Vec;

/// Numbers up to a greatest one: intervals in order that neither overlap nor touch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Set {
    most: u64,
    parts: Vec<(u64, u64)>,
}

impl Set {
    pub(super) fn full(most: u64) -> Self {
        Self::of(most, 0, most)
    }

    /// The numbers from `first` to `last`.
    pub(super) fn of(most: u64, first: u64, last: u64) -> Self {
        let parts = alloc::vec![(first, last)];
        Self { most, parts }
    }

    /// The numbers of which a comparison with `k` holds, which must be one for equality or order.
    pub(super) fn where_holds(relation: Relation, k: u64, most: u64) -> Self {
        let none = Self {
            most,
            parts: Vec::new(),
        };
        match relation {
            Relation::Eq => Self::of(most, k, k),
            Relation::Ge => Self::of(most, k, most),
            Relation::Gt if k < most => Self::of(most, k + 1, most),
            Relation::Gt | Relation::Set => none,
        }
    }

    pub(super) fn parts(&self) -> &[(u64, u64)] {
        &self.parts
    }

    pub(super) fn most(&self) -> u64 {
        self.most
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.parts == [(0, self.most)]
    }

    /// The only number, if there is one.
    pub(super) fn single(&self) -> Option<u64> {
        match self.parts[..] {
            [(first, last)] if first == last => Some(first),
            _ => None,
        }
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        let holds = |(first, last): &(u64, u64)| (*first..=*last).contains(&number);
        self.parts.iter().any(holds)
    }

    /// All other numbers.
    pub(super) fn complement(&self) -> Self {
        let mut parts = Vec::new();
        let mut next = Some(0);
        for (first, last) in &self.parts {
            if let Some(start) = next.filter(|start| start < first) {
                parts.push((start, first - 1));
            }
            next = last.checked_add(1).filter(|n| *n <= self.most);
        }
        parts.extend(next.map(|start| (start, self.most)));
        Self {
            most: self.most,
            parts,
        }
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut all: Vec<(u64, u64)> = self.parts.iter().chain(&other.parts).copied().collect();
        all.sort_unstable();
        let mut parts: Vec<(u64, u64)> = Vec::new();
        for (first, last) in all {
            match parts.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => parts.push((first, last)),
            }
        }
        Self {
            most: self.most,
            parts,
        }
    }

    pub(super) fn intersect(&self, other: &Self) -> Self {
        let outside = self.complement().union(&other.complement());
        outside.complement()
    }
}

#[cfg(test)]
mod tests {
    use super::Set;
    use alloc::vec::Vec;

    #[test]
    fn sets_hold_what_they_should() {
        let most = 9;
        let all: Vec<Set> = (0..=9)
            .flat_map(|a| (a..=9).map(move |b| Set::of(most, a, b)))
            .collect();
        for a in &all {
            for b in &all {
                let holes = a.complement().union(b);
                let (both, either) = (holes.intersect(a), holes.union(a));
                for n in 0..=most {
                    let in_holes = !a.contains(n) || b.contains(n);
                    assert_eq!(holes.contains(n), in_holes);
                    assert_eq!(both.contains(n), in_holes && a.contains(n));
                    assert_eq!(either.contains(n), in_holes || a.contains(n));
                }
            }
        }
        assert!(Set::full(u64::MAX).complement().is_empty());
        assert!(Set::full(u64::MAX).complement().complement().is_full());
    }
}
