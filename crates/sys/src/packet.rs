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

/// Bytes of packets that may wait.
const RECEIVE_BYTES: libc::c_int = 8 << 20;
/// Room for ancillary data: a header and a `struct tpacket_auxdata`, in words of eight bytes.
const CONTROL_WORDS: usize = 16;
/// Both addresses of an Ethernet frame, behind which a VLAN tag is.
const ADDRESSES_BYTES: usize = 12;

/// Puts a tag into the frame of `stored` bytes at the start of a buffer; how many bytes there are then.
fn put_back(buffer: &mut [u8], stored: usize, tag: [u8; 4]) -> usize {
    let end = (stored + tag.len()).min(buffer.len());
    let moved = ADDRESSES_BYTES + tag.len();
    if end < moved {
        return stored;
    }
    buffer.copy_within(ADDRESSES_BYTES..end - tag.len(), moved);
    buffer[ADDRESSES_BYTES..moved].copy_from_slice(&tag);
    end
}

/// The VLAN tag of a received packet as it was in the frame, if the kernel took one off (`struct tpacket_auxdata`).
///
/// # Safety
/// The message was filled in by recvmsg(2), and its control data is still there.
unsafe fn vlan_tag(message: &libc::msghdr) -> Option<[u8; 4]> {
    const VALID: u32 = 1 << 4;
    const TYPE_VALID: u32 = 1 << 6;
    /// The usual type of a tag.
    const ETHERTYPE_VLAN: u16 = 0x8100;
    // SAFETY: the caller promises a whole message.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !at.is_null() {
        // SAFETY: the pointer is to a header inside the control data.
        let header = unsafe { *at };
        if (header.cmsg_level, header.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            // SAFETY: ancillary data of this type is a tpacket_auxdata.
            let data = unsafe {
                libc::CMSG_DATA(at)
                    .cast::<libc::tpacket_auxdata>()
                    .read_unaligned()
            };
            let kind = match data.tp_status & TYPE_VALID {
                0 => ETHERTYPE_VLAN,
                _ => data.tp_vlan_tpid,
            };
            let ([a, b], [c, d]) = (kind.to_be_bytes(), data.tp_vlan_tci.to_be_bytes());
            return (data.tp_status & VALID != 0).then_some([a, b, c, d]);
        }
        // SAFETY: as above.
        at = unsafe { libc::CMSG_NXTHDR(message, at) };
    }
    None
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
        socket.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        // Bursts shall not be lost; who may not have so much gets what the system allows.
        let _ = socket
            .set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BYTES)
            .or_else(|_| socket.set(libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BYTES));
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
        match self.receive_now(buffer) {
            Ok((stored, length)) => Ok(Received::Packet { stored, length }),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(e) => Err(e),
        }
    }

    /// Receives a packet that is there; a VLAN tag that the kernel took off is put back. Bytes stored, and of the packet.
    fn receive_now(&self, buffer: &mut [u8]) -> io::Result<(usize, usize)> {
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let mut control = [0u64; CONTROL_WORDS];
        // SAFETY: all fields of a msghdr may be zero.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
        // SAFETY: the message names the buffer and the control words, both valid for writes of their lengths.
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, flags) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        let stored = length.min(buffer.len());
        // SAFETY: recvmsg(2) filled the message in, and its control words live.
        let tag = unsafe { vlan_tag(&message) };
        Ok(match tag {
            Some(tag) if stored >= ADDRESSES_BYTES => {
                (put_back(buffer, stored, tag), length + tag.len())
            }
            _ => (stored, length),
        })
    }

    /// Sends a packet, whole with its header, out of the interface.
    ///
    /// # Errors
    /// Those of send(2): `EMSGSIZE` if it is longer than the interface takes.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        let (start, length) = (packet.as_ptr().cast(), packet.len());
        // SAFETY: the packet is readable for its length.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), start, length, 0) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Sets an option of the socket.
    fn set(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the value is a number of four bytes, as the size says.
        result(unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of_val(&value) as u32,
            )
        })?;
        Ok(())
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
