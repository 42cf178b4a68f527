//! Packet sockets, with a classic filter in the kernel.

use crate::socket::{SockFilter, attach_classic};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A socket that receives the packets of an interface.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

/// What the kernel counted (`PACKET_STATISTICS`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Statistics {
    /// Packets the filter accepted, those dropped among them.
    pub received: u32,
    /// Packets dropped for want of room.
    pub dropped: u32,
}

/// What happened on a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// A packet came.
    Packet {
        /// Bytes stored.
        stored: usize,
        /// Bytes of the packet.
        length: usize,
    },
    /// None came in time.
    Nothing,
    /// The other descriptor is readable.
    Stop,
}

fn result(code: libc::c_int) -> io::Result<libc::c_int> {
    if code < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(code)
    }
}

/// Index of an interface.
///
/// # Errors
/// If there is none of this name.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: `name` is a string that ends in NUL and lives during the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

impl PacketSocket {
    /// Opens a socket that lets nothing through yet, attaches `filter`, and only then binds it to the interface: no
    /// packet comes in unfiltered.
    ///
    /// # Errors
    /// If a call fails; without CAP_NET_RAW the first does.
    pub fn open(index: u32, filter: &[SockFilter]) -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = result(unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0)
        })?;
        // SAFETY: the descriptor was just opened and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = Self { fd };
        attach_classic(socket.fd.as_fd(), filter)?;
        let mut address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            sll_ifindex: index.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the address is a whole sockaddr_ll and its size is given.
        result(unsafe {
            libc::bind(
                socket.fd.as_raw_fd(),
                (&raw mut address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        })?;
        Ok(socket)
    }

    /// Waits for a packet and receives it, unless `stop` becomes readable before.
    ///
    /// # Errors
    /// If poll(2) or recv(2) fails.
    pub fn receive(&self, buffer: &mut [u8], stop: RawFd, timeout_ms: i32) -> io::Result<Received> {
        let poll = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let mut polls = [poll(self.fd.as_raw_fd()), poll(stop)];
        // SAFETY: two pollfds, as the count says.
        match result(unsafe { libc::poll(polls.as_mut_ptr(), 2, timeout_ms) }) {
            Ok(0) => return Ok(Received::Nothing),
            Ok(_) if polls[1].revents != 0 => return Ok(Received::Stop),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(Received::Nothing),
            Err(e) => return Err(e),
        }
        // SAFETY: the buffer is valid for writes of its length.
        let length = unsafe {
            libc::recv(
                self.fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_TRUNC | libc::MSG_DONTWAIT,
            )
        };
        match usize::try_from(length) {
            Ok(length) => Ok(Received::Packet {
                stored: length.min(buffer.len()),
                length,
            }),
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
                e => Err(e),
            },
        }
    }

    /// What the kernel counted since the last call.
    ///
    /// # Errors
    /// If getsockopt(2) fails.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let mut stats = [0u32; 2];
        let mut size = size_of_val(&stats) as u32;
        // SAFETY: tpacket_stats is two 32-bit numbers, and so is the buffer.
        result(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                stats.as_mut_ptr().cast(),
                &raw mut size,
            )
        })?;
        Ok(Statistics {
            received: stats[0],
            dropped: stats[1],
        })
    }
}
