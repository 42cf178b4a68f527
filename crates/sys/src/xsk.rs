//! AF_XDP sockets: packets of one queue of a device, in memory that the kernel and this process share.
//!
//! A socket has memory of its own, with as many frames as its rings for receiving and for sending have slots together: a frame
//! is on one side or the other, free, or in the hands of the caller, and neither side can starve the other. Source:
//! Documentation/networking/af_xdp.rst, include/uapi/linux/if_xdp.h.

mod frames;
mod ring;

use crate::socket::get;
use frames::Frames;
use ring::{Description, Places, Ring};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Bytes that the kernel leaves free in front of a received packet (`XDP_PACKET_HEADROOM`).
pub const HEADROOM_BYTES: u32 = 256;
/// Bytes of an Ethernet header: no packet that is sent is shorter.
pub const PACKET_BYTES_MIN: u32 = 14;
/// Packets that one call sends at most in copy mode (`TX_BATCH_SIZE`).
const SEND_BATCH: u32 = 32;

/// Whether packets are copied between the device and the frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Transfer {
    /// Not copied if the driver can do without.
    #[default]
    Any,
    /// Copied.
    Copy,
    /// Not copied.
    ZeroCopy,
}

impl Transfer {
    fn flags(self) -> u16 {
        match self {
            Self::Any => 0,
            Self::Copy => libc::XDP_COPY,
            Self::ZeroCopy => libc::XDP_ZEROCOPY,
        }
    }
}

/// Sizes of a socket's memory; all powers of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Bytes of a frame.
    pub frame_bytes: u32,
    /// Packets that may wait to be received.
    pub receive_slots: u32,
    /// Packets that may wait to be sent.
    pub send_slots: u32,
}

/// What becomes of a packet that was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Its frame receives another one.
    Done,
    /// Its first bytes, so many, go out on the same queue. Fewer than [`PACKET_BYTES_MIN`], or more than it has, go nowhere.
    Send(u32),
}

/// What the kernel counted (`struct xdp_statistics`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Statistics {
    /// Packets dropped for other reasons, as being too long for a frame.
    pub receive_dropped: u64,
    /// Places to receive that were no frames.
    pub receive_invalid: u64,
    /// Places to send from that were no frames.
    pub send_invalid: u64,
    /// Packets dropped because too many waited to be received.
    pub receive_ring_full: u64,
    /// Packets that found no frame to be received in.
    pub fill_ring_empty: u64,
    /// Looks at a ring with nothing to send.
    pub send_ring_empty: u64,
}

/// Which call of several refused.
#[derive(Debug)]
pub struct Refused {
    /// The call.
    pub call: &'static str,
    /// Its error.
    pub error: io::Error,
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn set<T>(fd: BorrowedFd<'_>, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the value is live and as long as said.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })
}

/// An option that is a structure of numbers.
///
/// # Errors
/// Those of `getsockopt`; `EOPNOTSUPP` if the structure of this kernel has fewer.
fn numbers<const COUNT: usize>(
    fd: BorrowedFd<'_>,
    option: libc::c_int,
) -> io::Result<[u64; COUNT]> {
    let mut value = [0; COUNT];
    let mut len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            option,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    if len as usize == size_of_val(&value) {
        Ok(value)
    } else {
        Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }
}

/// An open socket.
#[derive(Debug)]
pub struct Socket {
    // Before the memory: the kernel lets go of the frames when the socket is closed.
    fd: OwnedFd,
    fill: Ring<u64>,
    received: Ring<Description>,
    send: Ring<Description>,
    sent: Ring<u64>,
    /// Frames that the kernel has to receive into, or has filled.
    receiving: u32,
    /// Frames that the kernel has to send from.
    sending: u32,
    sizes: Sizes,
    frames: Frames,
}

impl Socket {
    /// Opens a socket and binds it to a queue of a device; all frames of the receiving side wait for packets then.
    ///
    /// # Errors
    /// The call that failed.
    pub fn open(
        ifindex: u32,
        queue: u32,
        transfer: Transfer,
        sizes: Sizes,
    ) -> Result<Self, Refused> {
        let at = |call| move |error| Refused { call, error };
        // SAFETY: numbers only.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        check(fd).map_err(at("socket"))?;
        // SAFETY: the kernel has just made it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let count = sizes.receive_slots.saturating_add(sizes.send_slots);
        let frames = Frames::new(sizes.frame_bytes, count).map_err(at("mmap"))?;
        register(fd.as_fd(), &frames, sizes).map_err(at("setsockopt"))?;
        let [fill, sent, received, send] = places(fd.as_fd()).map_err(at("getsockopt"))?;
        let own = fd.as_fd();
        let map = at("mmap");
        let fill = Ring::map(
            own,
            libc::XDP_UMEM_PGOFF_FILL_RING,
            fill,
            sizes.receive_slots,
        )
        .map_err(map)?;
        let sent = Ring::map(
            own,
            libc::XDP_UMEM_PGOFF_COMPLETION_RING,
            sent,
            sizes.send_slots,
        )
        .map_err(map)?;
        let received = Ring::map(
            own,
            libc::XDP_PGOFF_RX_RING as u64,
            received,
            sizes.receive_slots,
        )
        .map_err(map)?;
        let send =
            Ring::map(own, libc::XDP_PGOFF_TX_RING as u64, send, sizes.send_slots).map_err(map)?;
        let mut socket = Self {
            fd,
            fill,
            received,
            send,
            sent,
            receiving: 0,
            sending: 0,
            sizes,
            frames,
        };
        socket.refill();
        socket.bind(ifindex, queue, transfer).map_err(at("bind"))?;
        Ok(socket)
    }

    fn bind(&self, ifindex: u32, queue: u32, transfer: Transfer) -> io::Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: transfer.flags() | libc::XDP_USE_NEED_WAKEUP,
            sxdp_ifindex: ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        // SAFETY: the address is a whole sockaddr_xdp and its size is given.
        check(unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_xdp>() as libc::socklen_t,
            )
        })
    }

    /// Gives the receiving side the frames that it lacks.
    fn refill(&mut self) {
        while self.receiving < self.sizes.receive_slots {
            let Some(frame) = self.frames.take() else {
                return;
            };
            if !self.fill.push(frame.address()) {
                self.frames.give_back(frame);
                return;
            }
            self.receiving += 1;
        }
        if self.fill.sleeps() {
            self.call_receiver();
        }
    }

    /// Takes back the frames whose packets have been sent.
    fn reap(&mut self) {
        while let Some(address) = self.sent.pop() {
            // SAFETY: the kernel has just given it back.
            if let Some((frame, _)) = unsafe { self.frames.returned(address) } {
                self.frames.give_back(frame);
                self.sending = self.sending.saturating_sub(1);
            }
        }
    }

    /// Hands every packet that waits to `each`, oldest first, at most as many as fit into the ring; returns how many there
    /// were. Ends early when there is no room for another packet to be sent, as `each` may ask for that.
    ///
    /// # Errors
    /// As [`Self::flush`], after the packets were handed over.
    pub fn receive(&mut self, each: &mut dyn FnMut(&mut [u8]) -> Verdict) -> io::Result<usize> {
        let mut count = 0;
        self.reap();
        while count < self.sizes.receive_slots as usize && self.sending < self.sizes.send_slots {
            let Some(packet) = self.received.pop() else {
                break;
            };
            // SAFETY: the kernel has just given it back.
            let Some((mut frame, into)) = (unsafe { self.frames.returned(packet.address) }) else {
                continue;
            };
            self.receiving = self.receiving.saturating_sub(1);
            let bytes = self.frames.bytes(&mut frame, into, packet.length);
            let verdict = bytes.map_or(Verdict::Done, &mut *each);
            count += 1;
            match verdict {
                Verdict::Send(length) if (PACKET_BYTES_MIN..=packet.length).contains(&length) => {
                    self.send_frame(frame, into, length);
                }
                _ => self.frames.give_back(frame),
            }
            self.refill();
        }
        if self.sending > 0 {
            self.flush()?;
        }
        Ok(count)
    }

    /// Puts a frame into the ring of those to be sent, which has room.
    fn send_frame(&mut self, frame: frames::Frame, into: u32, length: u32) {
        let description = Description {
            address: frame.address() + u64::from(into),
            length,
            options: 0,
        };
        if self.send.push(description) {
            self.sending += 1;
        } else {
            self.frames.give_back(frame);
        }
    }

    /// Has `write` make a packet of `length` bytes and puts it into the ring of those to be sent; [`Self::flush`] sends. False
    /// without calling it if there is no room, or a frame cannot be a packet of so many bytes.
    pub fn send(&mut self, length: u32, write: &mut dyn FnMut(&mut [u8])) -> bool {
        self.reap();
        let lengths = PACKET_BYTES_MIN..=self.sizes.frame_bytes;
        if self.sending == self.sizes.send_slots || !lengths.contains(&length) {
            return false;
        }
        let Some(mut frame) = self.frames.take() else {
            return false;
        };
        if let Some(bytes) = self.frames.bytes(&mut frame, 0, length) {
            write(bytes);
        }
        self.send_frame(frame, 0, length);
        true
    }

    /// Has the kernel send what is in the ring; what the device has no room for now stays there for the next call. Returns how
    /// many packets stay.
    ///
    /// # Errors
    /// `ENETDOWN` if the device is down, `ENXIO` if it is gone; what is in the ring stays there.
    pub fn flush(&mut self) -> io::Result<u32> {
        // Each call takes a batch or says that the device is busy.
        for _ in 0..=self.sizes.send_slots / SEND_BATCH {
            let before = self.send.outstanding();
            if before == 0 || !self.send.sleeps() {
                break;
            }
            self.call_sender()?;
            if self.send.outstanding() == before {
                break;
            }
        }
        self.reap();
        Ok(self.send.outstanding())
    }

    /// Packets that the kernel has not sent yet, or not said so.
    #[must_use]
    pub fn sending(&self) -> u32 {
        self.sending
    }

    /// The call that makes the kernel look at the ring of packets to be sent. That the device is busy, or has taken its share
    /// for one call, shows in what stays in the ring.
    fn call_sender(&self) -> io::Result<()> {
        // SAFETY: no bytes and no address.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        if sent >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => Ok(()),
            _ => Err(error),
        }
    }

    /// The call that makes the kernel look at the ring of frames to receive into.
    fn call_receiver(&self) {
        // SAFETY: no bytes and no address.
        unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }

    /// Waits until a packet can be received; false if none came in time.
    ///
    /// # Errors
    /// Those of `poll`; `ENETDOWN`, once, if the device is gone.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut poll = libc::pollfd {
            fd: self.fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one pollfd, as the count says.
        match check(unsafe { libc::poll(&raw mut poll, 1, timeout_ms) }) {
            Ok(()) if poll.revents & libc::POLLIN != 0 => Ok(true),
            Ok(()) => match get::<4>(self.fd.as_raw_fd(), libc::SO_ERROR)? {
                [0, 0, 0, 0] => Ok(false),
                error => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(error))),
            },
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// What the kernel counted.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let [
            receive_dropped,
            receive_invalid,
            send_invalid,
            receive_ring_full,
            fill_ring_empty,
            send_ring_empty,
        ] = numbers(self.fd.as_fd(), libc::XDP_STATISTICS)?;
        Ok(Statistics {
            receive_dropped,
            receive_invalid,
            send_invalid,
            receive_ring_full,
            fill_ring_empty,
            send_ring_empty,
        })
    }

    /// True if packets are not copied (`XDP_OPTIONS_ZEROCOPY`).
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn is_zero_copy(&self) -> io::Result<bool> {
        let mut flags = 0u32;
        let mut len = size_of_val(&flags) as libc::socklen_t;
        // SAFETY: `struct xdp_options` is one number of this size.
        check(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_XDP,
                libc::XDP_OPTIONS,
                (&raw mut flags).cast(),
                &raw mut len,
            )
        })?;
        Ok(flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Tells the kernel of the memory and the sizes of the rings.
fn register(fd: BorrowedFd<'_>, frames: &Frames, sizes: Sizes) -> io::Result<()> {
    let (addr, len) = frames.memory();
    let memory = libc::xdp_umem_reg_v1 {
        addr,
        len,
        chunk_size: sizes.frame_bytes,
        headroom: 0,
    };
    set(fd, libc::XDP_UMEM_REG, &memory)?;
    for (option, slots) in [
        (libc::XDP_UMEM_FILL_RING, sizes.receive_slots),
        (libc::XDP_UMEM_COMPLETION_RING, sizes.send_slots),
        (libc::XDP_RX_RING, sizes.receive_slots),
        (libc::XDP_TX_RING, sizes.send_slots),
    ] {
        set(fd, option, &slots)?;
    }
    Ok(())
}

/// Places of the parts of the rings (`struct xdp_mmap_offsets`): fill, completion, receive, send.
fn places(fd: BorrowedFd<'_>) -> io::Result<[Places; 4]> {
    let numbers = numbers::<16>(fd, libc::XDP_MMAP_OFFSETS)?;
    let ring = |at: usize| Places {
        producer: numbers[at],
        consumer: numbers[at + 1],
        entries: numbers[at + 2],
        flags: numbers[at + 3],
    };
    let (received, send, fill, sent) = (ring(0), ring(4), ring(8), ring(12));
    Ok([fill, sent, received, send])
}
