//! AF_XDP: packets of a device's queue that an XDP program redirects go to user space past the stack, and packets from there
//! go out the same way.
//!
//! An [`XdpSocket`] has one queue of one device, and memory of its own that the kernel shares. What comes in on the queue reaches
//! it if an XDP program there returns `bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS)` and the socket is in the
//! `BPF_MAP_TYPE_XSKMAP` at that index ([`XdpSocket::insert`]). Sending needs no program.
//!
//! ```no_run
//! use skep::attach::{Where, attach, hook};
//! use skep::xsk::{Config, Verdict, XdpSocket};
//! use std::time::Duration;
//! # fn answer(loaded: &skep::load::Loaded, ifindex: u32) -> Result<(), Box<dyn std::error::Error>> {
//! // An object with a program that redirects to the map `xsks`.
//! let map = loaded.map("xsks").ok_or("a map")?.handle;
//! let mut socket = XdpSocket::open(ifindex, 0, &Config::default())?;
//! socket.insert(loaded.backend().as_ref(), map, 0)?;
//! let place = Where { ifindex: Some(ifindex), ..Where::default() };
//! let program = &loaded.programs[0];
//! let _link = attach(loaded.backend(), program.handle, &hook(&program.spec, &place)?)?;
//! while socket.wait(Duration::from_secs(10))? {
//!     socket.receive(|packet| {
//!         // The addresses exchanged, every packet goes back where it came from, without being copied.
//!         if let Some((to, from)) = packet.get_mut(..12).map(|ends| ends.split_at_mut(6)) {
//!             to.swap_with_slice(from);
//!         }
//!         Verdict::Send(packet.len())
//!     })?;
//! }
//! println!("{:?}", socket.statistics()?);
//! # Ok(())
//! # }
//! ```
//!
//! One socket has one queue and its own memory: memory shared by several sockets, packets in several frames, and offload of
//! checksums are not here.

use crate::kernel::errno;
use skep_abi::MapType;
use skep_bpf::{Backend, Errno, Error, Handle, Result};
use skep_sys::xsk::{self, Refused, Sizes};
pub use skep_sys::xsk::{HEADROOM_BYTES, PACKET_BYTES_MIN, Statistics, Transfer};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// Frames may have this many bytes, and twice as many. Source: the kernel's `XDP_UMEM_MIN_CHUNK_SIZE` and page size.
pub const FRAME_BYTES_MIN: u32 = 2048;
/// See [`FRAME_BYTES_MIN`].
pub const FRAME_BYTES_MAX: u32 = 4096;
/// Slots that a ring may have here: with both rings and the longest frames half a gibibyte of memory.
pub const SLOTS_MAX: u32 = 1 << 16;

/// What a socket is opened with.
///
/// ```
/// use skep::xsk::{Config, Transfer, XdpSocket};
///
/// let config = Config { transfer: Transfer::Copy, receive_slots: 64, ..Config::default() };
/// assert_eq!(config.frame_bytes, 4096);
/// // Rings have a power of two of slots.
/// let refused = XdpSocket::open(1, 0, &Config { send_slots: 100, ..config }).unwrap_err();
/// assert_eq!(refused.errno, skep_bpf::Errno::EINVAL);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Whether packets are copied.
    pub transfer: Transfer,
    /// Bytes of a frame, 2048 or 4096: a packet that is sent may have so many, one that is received [`HEADROOM_BYTES`] fewer.
    pub frame_bytes: u32,
    /// Packets that may wait to be received, a power of two up to [`SLOTS_MAX`].
    pub receive_slots: u32,
    /// Packets that may wait to be sent, a power of two up to [`SLOTS_MAX`].
    pub send_slots: u32,
}

impl Default for Config {
    /// 2048 slots for each direction and frames of 4096 bytes: 16 MiB.
    fn default() -> Self {
        Self {
            transfer: Transfer::Any,
            frame_bytes: FRAME_BYTES_MAX,
            receive_slots: 2048,
            send_slots: 2048,
        }
    }
}

impl Config {
    fn sizes(&self) -> Result<Sizes> {
        let invalid = |detail: String| error("AF_XDP socket", Errno::EINVAL, detail);
        let bytes = self.frame_bytes;
        if bytes != FRAME_BYTES_MIN && bytes != FRAME_BYTES_MAX {
            let detail =
                format!("a frame has {FRAME_BYTES_MIN} or {FRAME_BYTES_MAX} bytes, not {bytes}");
            return Err(invalid(detail));
        }
        for slots in [self.receive_slots, self.send_slots] {
            if !slots.is_power_of_two() || slots > SLOTS_MAX {
                let detail =
                    format!("a ring has a power of two of slots, at most {SLOTS_MAX}, not {slots}");
                return Err(invalid(detail));
            }
        }
        Ok(Sizes {
            frame_bytes: bytes,
            receive_slots: self.receive_slots,
            send_slots: self.send_slots,
        })
    }
}

/// What becomes of a packet that was received.
///
/// ```
/// use skep::xsk::{Verdict, XdpSocket};
///
/// // Sends every packet back where it came from.
/// fn reflect(socket: &mut XdpSocket) -> skep_bpf::Result<usize> {
///     socket.receive(|packet| match packet.get_mut(..12).map(|ends| ends.split_at_mut(6)) {
///         Some((to, from)) => {
///             to.swap_with_slice(from);
///             Verdict::Send(packet.len())
///         }
///         None => Verdict::Done,
///     })
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It has been dealt with.
    Done,
    /// Its first bytes, so many, are sent on the same queue, without being copied. What is no length of a packet
    /// ([`PACKET_BYTES_MIN`] to all it has) goes nowhere.
    Send(usize),
}

fn error(what: &str, errno: Errno, detail: String) -> Error {
    Error {
        errno,
        what: what.to_owned(),
        detail,
        log: String::new(),
    }
}

/// A call for an open socket was refused.
fn failed(call: &str, refusal: &std::io::Error) -> Error {
    let errno = errno(refusal);
    let detail = match errno {
        Errno::ENXIO => "the device is gone",
        Errno::ENETDOWN => "the device is down, or gone",
        _ => "",
    };
    error(
        &format!("{call} of an AF_XDP socket"),
        errno,
        detail.to_owned(),
    )
}

/// Why a call that opens a socket is refused, as far as that is known.
fn reason(call: &str, errno: Errno, config: &Config) -> &'static str {
    match (call, errno) {
        ("socket", Errno::EPERM) => "needs CAP_NET_RAW",
        ("socket", Errno::EAFNOSUPPORT) => "this kernel is built without CONFIG_XDP_SOCKETS",
        ("setsockopt", Errno::ENOBUFS) => {
            "the memory is more than the process may lock: fewer slots, a higher RLIMIT_MEMLOCK, or CAP_IPC_LOCK"
        }
        ("getsockopt", Errno::EOPNOTSUPP) => "needs Linux 5.4",
        ("bind", Errno::EBUSY) => {
            "another socket has the queue, or one that was just closed and is not gone yet"
        }
        ("bind", Errno::EINVAL) => "the device has no such queue",
        ("bind", Errno::ENODEV) => "no such device in this network namespace",
        ("bind", Errno::ENETDOWN) => "the device is down",
        ("bind", Errno::EOPNOTSUPP) if config.transfer == Transfer::ZeroCopy => {
            "the driver cannot do without copying"
        }
        _ => "",
    }
}

/// A socket that sends and receives the packets of one queue of a device. Closing it takes it out of the maps it is in.
///
/// ```no_run
/// use skep::xsk::{Config, XdpSocket};
///
/// # fn send(ifindex: u32, packets: &[Vec<u8>]) -> skep_bpf::Result<()> {
/// let mut socket = XdpSocket::open(ifindex, 0, &Config::default())?;
/// // Many packets with one call.
/// for packet in packets {
///     socket.queue(packet)?;
/// }
/// let waiting = socket.flush()?;
/// println!("{waiting} packets wait for the next call: the device is busy");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct XdpSocket {
    socket: xsk::Socket,
    frame_bytes: u32,
}

impl XdpSocket {
    /// Opens a socket on a queue of a device, in the caller's network namespace.
    ///
    /// # Errors
    /// `EINVAL` for a configuration that no socket has; what a call refused, with the reason where it is known: among them
    /// `EBUSY` for a queue that has a socket, also for a fraction of a second after that was closed.
    pub fn open(ifindex: u32, queue: u32, config: &Config) -> Result<Self> {
        let sizes = config.sizes()?;
        let refused = |Refused {
                           call,
                           error: refusal,
                       }| {
            let errno = errno(&refusal);
            let what = format!("{call} for queue {queue} of device {ifindex} (AF_XDP)");
            error(&what, errno, reason(call, errno, config).to_owned())
        };
        let socket = xsk::Socket::open(ifindex, queue, config.transfer, sizes).map_err(refused)?;
        Ok(Self {
            socket,
            frame_bytes: config.frame_bytes,
        })
    }

    /// Puts the socket into an XSKMAP, where programs redirect packets to it.
    ///
    /// # Errors
    /// `EINVAL` for a map of another type; those of `BPF_MAP_UPDATE_ELEM`: `E2BIG` for an index that the map does not have.
    pub fn insert(&self, backend: &dyn Backend, map: Handle, index: u32) -> Result<()> {
        let map_type = backend.map_info(map)?.map_type;
        if map_type != MapType::Xskmap {
            let detail = format!("AF_XDP sockets go into maps of type xskmap, not {map_type}");
            return Err(error("BPF_MAP_UPDATE_ELEM", Errno::EINVAL, detail));
        }
        let descriptor = self.socket.as_fd().as_raw_fd();
        backend.map_update(map, &index.to_ne_bytes(), &descriptor.to_ne_bytes(), 0)
    }

    /// Waits until a packet can be received; false if none came in time, or a signal did.
    ///
    /// # Errors
    /// Those of `poll`; `ENETDOWN`, once, if the device is gone.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        let waited = self.socket.wait(timeout);
        waited.map_err(|e| failed("poll", &e))
    }

    /// Hands every packet that waits to `each`, oldest first, without blocking, and returns how many there were. At most as many
    /// as may wait at a time, so that a fast sender cannot keep it; fewer if there is no room for what `each` sends.
    ///
    /// # Errors
    /// As [`Self::flush`], if something is on its way; the packets were handed over before.
    pub fn receive(&mut self, mut each: impl FnMut(&mut [u8]) -> Verdict) -> Result<usize> {
        let received = self.socket.receive(&mut |packet| match each(packet) {
            Verdict::Done => xsk::Verdict::Done,
            Verdict::Send(length) => xsk::Verdict::Send(u32::try_from(length).unwrap_or(u32::MAX)),
        });
        received.map_err(|e| failed("sendto", &e))
    }

    /// Sends a packet, whole with its Ethernet header: queues it, and has the kernel send what is queued.
    ///
    /// # Errors
    /// As [`Self::queue`] and [`Self::flush`].
    pub fn send(&mut self, packet: &[u8]) -> Result<()> {
        self.queue(packet)?;
        self.flush().map(drop)
    }

    /// Queues a packet to be sent by [`Self::flush`]: many at a time cost fewer calls.
    ///
    /// # Errors
    /// As [`Self::queue_with`].
    pub fn queue(&mut self, packet: &[u8]) -> Result<()> {
        self.queue_with(packet.len(), |frame| frame.copy_from_slice(packet))
    }

    /// Has `write` make a packet of `length` bytes in place, and queues it. The bytes are those of some earlier packet before.
    ///
    /// # Errors
    /// `EMSGSIZE` for a length that no frame holds, or shorter than an Ethernet header; `EAGAIN` if as many packets as may wait
    /// are on their way.
    pub fn queue_with(&mut self, length: usize, mut write: impl FnMut(&mut [u8])) -> Result<()> {
        const WHAT: &str = "AF_XDP packet";
        let fits = u32::try_from(length).ok();
        let fits = fits.filter(|l| (PACKET_BYTES_MIN..=self.frame_bytes).contains(l));
        let Some(bytes) = fits else {
            let most = self.frame_bytes;
            let detail = format!("{length} bytes; a packet has {PACKET_BYTES_MIN} to {most}");
            return Err(error(WHAT, Errno::EMSGSIZE, detail));
        };
        if self.socket.send(bytes, &mut write) {
            Ok(())
        } else {
            let detail = "as many packets as may wait are on their way".to_owned();
            Err(error(WHAT, Errno::EAGAIN, detail))
        }
    }

    /// Has the kernel send what is queued; returns how many packets stay because the device is busy, for the next call.
    ///
    /// # Errors
    /// `ENETDOWN` if the device is down, `ENXIO` if it is gone; what is queued stays.
    pub fn flush(&mut self) -> Result<u32> {
        self.socket.flush().map_err(|e| failed("sendto", &e))
    }

    /// Packets that are queued or that the device has not said to have sent.
    #[must_use]
    pub fn sending(&self) -> u32 {
        self.socket.sending()
    }

    /// What the kernel counted.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn statistics(&self) -> Result<Statistics> {
        let found = self.socket.statistics();
        found.map_err(|e| failed("getsockopt", &e))
    }

    /// True if packets go between device and frames without being copied.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn is_zero_copy(&self) -> Result<bool> {
        let found = self.socket.is_zero_copy();
        found.map_err(|e| failed("getsockopt", &e))
    }
}

/// Polls readable when packets wait.
impl AsFd for XdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
