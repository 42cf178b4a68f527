//! The memory of an AF_XDP socket (UMEM), cut into frames, and who has each of them.

use crate::mem::Mapping;
use std::io;

/// A frame that is ours: neither in a ring nor with the kernel. There is one value a frame, made when the memory is and handed
/// on; so nobody else looks at its bytes.
#[derive(Debug)]
pub(super) struct Frame {
    /// Bytes from the start of the memory.
    base: u64,
}

impl Frame {
    /// The address that the kernel calls it by.
    pub(super) fn address(&self) -> u64 {
        self.base
    }
}

/// The memory, and the frames that are free.
#[derive(Debug)]
pub(super) struct Frames {
    memory: Mapping,
    frame_bytes: u32,
    free: Vec<Frame>,
}

impl Frames {
    /// `count` frames of `frame_bytes`, a power of two, all of them free.
    ///
    /// # Errors
    /// Those of `mmap`.
    pub(super) fn new(frame_bytes: u32, count: u32) -> io::Result<Self> {
        let wrong = || io::Error::from_raw_os_error(libc::EINVAL);
        let len = (frame_bytes as usize)
            .checked_mul(count as usize)
            .filter(|len| *len > 0 && frame_bytes.is_power_of_two());
        let len = len.ok_or_else(wrong)?;
        let memory = Mapping::reserve(len)?;
        memory.blank(0, len)?;
        let base = |n| u64::from(n) * u64::from(frame_bytes);
        let free = (0..count).rev().map(|n| Frame { base: base(n) }).collect();
        Ok(Self {
            memory,
            frame_bytes,
            free,
        })
    }

    /// Where the memory is, for the kernel.
    pub(super) fn memory(&self) -> (u64, u64) {
        let base = self.memory.base().expose_provenance() as u64;
        (base, self.memory.len() as u64)
    }

    pub(super) fn take(&mut self) -> Option<Frame> {
        self.free.pop()
    }

    pub(super) fn give_back(&mut self, frame: Frame) {
        self.free.push(frame);
    }

    /// The frame of an address that the kernel gave back, and how far into it that is; `None` for an address outside.
    ///
    /// # Safety
    /// The kernel must have given the frame back with this address, once: nobody else has it.
    pub(super) unsafe fn returned(&self, address: u64) -> Option<(Frame, u32)> {
        let into = address & u64::from(self.frame_bytes - 1);
        let inside = address < self.memory.len() as u64;
        inside.then_some((
            Frame {
                base: address - into,
            },
            into as u32,
        ))
    }

    /// `length` bytes of a frame from `into` it; `None` if it has not as many.
    pub(super) fn bytes<'a>(
        &'a self,
        frame: &'a mut Frame,
        into: u32,
        length: u32,
    ) -> Option<&'a mut [u8]> {
        let fits = into.checked_add(length)? <= self.frame_bytes;
        let at = self
            .memory
            .base()
            .wrapping_add(frame.base as usize + into as usize);
        // SAFETY: a frame lies in the memory of its `Frames` whole; the bytes asked for lie in the frame. Who has the only
        // `Frame` of this place borrows it for as long as the bytes; the kernel does not touch frames that it gave back.
        fits.then(|| unsafe { std::slice::from_raw_parts_mut(at, length as usize) })
    }
}

#[cfg(test)]
mod tests {
    use super::Frames;

    #[test]
    fn frames_are_apart_and_keep_their_bounds() {
        let mut frames = Frames::new(2048, 3).unwrap();
        let mut taken: Vec<_> = std::iter::from_fn(|| frames.take()).collect();
        assert_eq!(
            taken.iter().map(super::Frame::address).collect::<Vec<_>>(),
            [0, 2048, 4096]
        );
        for (n, frame) in taken.iter_mut().enumerate() {
            frames.bytes(frame, 0, 2048).unwrap().fill(n as u8);
        }
        for (n, frame) in taken.iter_mut().enumerate() {
            assert!(
                frames
                    .bytes(frame, 0, 2048)
                    .unwrap()
                    .iter()
                    .all(|b| usize::from(*b) == n)
            );
            assert!(frames.bytes(frame, 1, 2048).is_none());
            assert!(frames.bytes(frame, u32::MAX, 2).is_none());
        }
        let address = taken.pop().unwrap().address() + 256;
        // SAFETY: the only frame of this address is gone.
        let (again, into) = unsafe { frames.returned(address) }.unwrap();
        assert_eq!((again.address(), into), (4096, 256));
        // SAFETY: there is no such frame.
        assert!(unsafe { frames.returned(6144) }.is_none());
        assert!(Frames::new(0, 1).is_err() && Frames::new(2048, 0).is_err());
    }
}
