//! The rings that user space and the kernel hand frames to each other with.
//!
//! A ring is memory of the kernel: two counters that only grow (and wrap), a word of flags, and a power of two of entries.
//! One side puts entries in and moves the producer's counter, the other takes them out and moves the consumer's. Source:
//! Documentation/networking/af_xdp.rst, include/uapi/linux/if_xdp.h.

use crate::mem::{Access, Mapping};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the parts of a ring lie in its mapping (`struct xdp_ring_offset`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) producer: u64,
    pub(super) consumer: u64,
    pub(super) entries: u64,
    pub(super) flags: u64,
}

/// A run of bytes in the memory of frames (`struct xdp_desc`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(super) struct Description {
    pub(super) address: u64,
    pub(super) length: u32,
    pub(super) options: u32,
}

/// What a ring may hold: any bytes are a valid value.
///
/// # Safety
/// Every bit pattern must be a valid value, without padding.
pub(super) unsafe trait Entry: Copy {}

// SAFETY: a number.
unsafe impl Entry for u64 {}
// SAFETY: numbers without padding between or behind them.
unsafe impl Entry for Description {}

/// One ring, seen from user space.
#[derive(Debug)]
pub(super) struct Ring<T> {
    mapping: Mapping,
    /// Bytes from the start of the mapping; [`Self::map`] has checked that each part is inside and aligned.
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
    slots: u32,
    /// Our side's counter, which nobody else moves.
    position: u32,
    entry: std::marker::PhantomData<T>,
}

impl<T: Entry> Ring<T> {
    /// Maps the ring of `slots` entries that the socket has at `offset`.
    ///
    /// # Errors
    /// Those of `mmap`; `EINVAL` if the kernel's places make no ring.
    pub(super) fn map(
        socket: BorrowedFd<'_>,
        offset: u64,
        places: Places,
        slots: u32,
    ) -> io::Result<Self> {
        let wrong = || io::Error::from_raw_os_error(libc::EINVAL);
        let place = |at: u64, align: usize| {
            let at = usize::try_from(at).ok().filter(|at| at % align == 0);
            at.ok_or_else(wrong)
        };
        let counters = [places.producer, places.consumer, places.flags];
        let [producer, consumer, flags] = [
            place(counters[0], align_of::<AtomicU32>())?,
            place(counters[1], align_of::<AtomicU32>())?,
            place(counters[2], align_of::<AtomicU32>())?,
        ];
        let entries = place(places.entries, align_of::<T>())?;
        let bytes = (slots as usize)
            .checked_mul(size_of::<T>())
            .and_then(|b| b.checked_add(entries))
            .ok_or_else(wrong)?;
        let inside = |at: usize| at.checked_add(4).is_some_and(|end| end <= bytes);
        if !slots.is_power_of_two() || ![producer, consumer, flags].into_iter().all(inside) {
            return Err(wrong());
        }
        let mapping = Mapping::of_file(&socket, offset, bytes, Access::ReadWrite)?;
        Ok(Self {
            mapping,
            producer,
            consumer,
            flags,
            entries,
            slots,
            position: 0,
            entry: std::marker::PhantomData,
        })
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: `at` is one of the three places that `map` found aligned and inside the mapping, which lives as long as
        // `self`; both sides access the word atomically.
        unsafe { &*self.mapping.base().add(at).cast() }
    }

    fn entry(&self, position: u32) -> *mut T {
        let index = (position & (self.slots - 1)) as usize;
        let at = self.entries + index * size_of::<T>();
        self.mapping.base().wrapping_add(at).cast()
    }

    /// Entries that the kernel has not taken out yet; of a ring that we put into.
    pub(super) fn outstanding(&self) -> u32 {
        let consumed = self.word(self.consumer).load(Ordering::Acquire);
        self.position.wrapping_sub(consumed).min(self.slots)
    }

    /// Puts an entry in; false if there is no room.
    pub(super) fn push(&mut self, entry: T) -> bool {
        if self.outstanding() == self.slots {
            return false;
        }
        // SAFETY: `entry()` stays inside the mapping and is aligned, as `map` checked; the kernel reads the place only after
        // the counter below says so, and has read what was there before, as its counter says.
        unsafe { self.entry(self.position).write(entry) };
        self.position = self.position.wrapping_add(1);
        self.word(self.producer)
            .store(self.position, Ordering::Release);
        true
    }

    /// Takes an entry out; of a ring that the kernel puts into.
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.word(self.producer).load(Ordering::Acquire) == self.position {
            return None;
        }
        // SAFETY: as in `push`, with the sides exchanged; any bytes are a `T`.
        let entry = unsafe { self.entry(self.position).read() };
        self.position = self.position.wrapping_add(1);
        self.word(self.consumer)
            .store(self.position, Ordering::Release);
        Some(entry)
    }

    /// The kernel waits for a call before it looks at the ring again (`XDP_RING_NEED_WAKEUP`).
    pub(super) fn sleeps(&self) -> bool {
        self.word(self.flags).load(Ordering::Acquire) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::anonymous_file;
    use std::os::fd::AsFd;

    const SLOTS: u32 = 4;
    const PLACES: Places = Places {
        producer: 0,
        consumer: 64,
        entries: 192,
        flags: 128,
    };

    /// Both sides of a ring.
    fn sides() -> (Ring<u64>, Ring<u64>) {
        let file = anonymous_file(c"ring", 4096).unwrap();
        let side = || Ring::map(file.as_fd(), 0, PLACES, SLOTS).unwrap();
        (side(), side())
    }

    #[test]
    fn entries_come_out_as_they_went_in() {
        let (mut producer, mut consumer) = sides();
        assert_eq!(consumer.pop(), None);
        let (mut next_in, mut next_out) = (0, 0);
        // More than fit at a time, so that the ring wraps.
        for round in 0..20 {
            while producer.push(next_in) {
                next_in += 1;
            }
            assert_eq!(producer.outstanding(), SLOTS);
            for _ in 0..=(round % SLOTS) {
                assert_eq!(consumer.pop(), Some(next_out));
                next_out += 1;
            }
        }
        assert!(next_out > u64::from(4 * SLOTS));
    }

    #[test]
    fn counters_wrap() {
        let (mut producer, mut consumer) = sides();
        for (ring, place) in [
            (&mut producer, PLACES.producer),
            (&mut consumer, PLACES.consumer),
        ] {
            ring.position = u32::MAX - 1;
            ring.word(place as usize)
                .store(u32::MAX - 1, Ordering::Relaxed);
        }
        for n in 0..u64::from(SLOTS) {
            assert!(producer.push(n));
        }
        assert!(!producer.push(9));
        let found: Vec<u64> = std::iter::from_fn(|| consumer.pop()).collect();
        assert_eq!(found, [0, 1, 2, 3]);
    }

    #[test]
    fn places_that_make_no_ring_are_refused() {
        let file = anonymous_file(c"ring", 4096).unwrap();
        let refused = |places, slots| {
            let made = Ring::<u64>::map(file.as_fd(), 0, places, slots);
            made.unwrap_err().raw_os_error() == Some(libc::EINVAL)
        };
        assert!(refused(PLACES, 3));
        assert!(refused(
            Places {
                producer: 1,
                ..PLACES
            },
            SLOTS
        ));
        assert!(refused(
            Places {
                entries: 196,
                ..PLACES
            },
            SLOTS
        ));
        assert!(refused(
            Places {
                flags: 4096,
                ..PLACES
            },
            SLOTS
        ));
        assert!(refused(
            Places {
                consumer: u64::MAX - 3,
                ..PLACES
            },
            SLOTS
        ));
    }
}
