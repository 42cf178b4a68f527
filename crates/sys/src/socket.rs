//! Programs on sockets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

fn set(socket: BorrowedFd<'_>, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the value is live and as long as said.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// An option of a socket, a number of so many bytes.
pub(crate) fn get<const BYTES: usize>(fd: RawFd, option: i32) -> io::Result<[u8; BYTES]> {
    let mut value = [0; BYTES];
    let mut len = BYTES as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes.
    let rc = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            option,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(value)
    }
}

/// `struct sock_filter`: code, jt, jf, k.
pub type SockFilter = (u16, u8, u8, u32);

/// A classic program as the kernel takes it.
pub(crate) fn classic_code(filter: &[SockFilter]) -> Vec<libc::sock_filter> {
    let insn = |&(code, jt, jf, k): &SockFilter| libc::sock_filter { code, jt, jf, k };
    filter.iter().map(insn).collect()
}

/// What names `code` to the kernel, which only reads it.
pub(crate) fn classic_program(code: &[libc::sock_filter]) -> io::Result<libc::sock_fprog> {
    Ok(libc::sock_fprog {
        len: u16::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: code.as_ptr().cast_mut(),
    })
}

/// Filters what the socket receives by a classic program (`SO_ATTACH_FILTER`).
///
/// # Errors
/// Those of `setsockopt`; `EINVAL` if the program breaks a rule.
pub fn attach_classic(socket: BorrowedFd<'_>, filter: &[SockFilter]) -> io::Result<()> {
    set_classic(socket, libc::SO_ATTACH_FILTER, filter)
}

/// Chooses among the sockets of a reuseport group by a classic program, which returns a socket's number in the group
/// (`SO_ATTACH_REUSEPORT_CBPF`).
///
/// # Errors
/// Those of `setsockopt`; `EINVAL` if the program breaks a rule.
pub fn attach_classic_reuseport(socket: BorrowedFd<'_>, filter: &[SockFilter]) -> io::Result<()> {
    set_classic(socket, libc::SO_ATTACH_REUSEPORT_CBPF, filter)
}

fn set_classic(socket: BorrowedFd<'_>, option: i32, filter: &[SockFilter]) -> io::Result<()> {
    let code = classic_code(filter);
    let program = classic_program(&code)?;
    // SAFETY: the option value is a whole sock_fprog, whose pointer and length describe `code`.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Filters what the socket receives (`SO_ATTACH_BPF`).
///
/// # Errors
/// Those of `setsockopt`.
pub fn attach_filter(socket: BorrowedFd<'_>, prog: i32) -> io::Result<()> {
    set(socket, libc::SO_ATTACH_BPF, prog)
}

/// Takes the filter off.
///
/// # Errors
/// Those of `setsockopt`.
pub fn detach_filter(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SO_DETACH_FILTER, 0)
}

/// Chooses among the sockets of a reuseport group (`SO_ATTACH_REUSEPORT_EBPF`).
///
/// # Errors
/// Those of `setsockopt`.
pub fn attach_reuseport(socket: BorrowedFd<'_>, prog: i32) -> io::Result<()> {
    set(socket, libc::SO_ATTACH_REUSEPORT_EBPF, prog)
}

/// Takes the chooser off.
///
/// # Errors
/// Those of `setsockopt`.
pub fn detach_reuseport(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SO_DETACH_REUSEPORT_BPF, 0)
}

/// Lets several sockets share an address (`SO_REUSEPORT`).
///
/// # Errors
/// Those of `setsockopt`.
pub fn share_port(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SO_REUSEPORT, 1)
}

/// Chooses the congestion control of a TCP socket by name (`TCP_CONGESTION`).
///
/// # Errors
/// `ENOENT` if the kernel has none of this name.
pub fn set_congestion(socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    // SAFETY: `name` is readable for its length.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            name.len() as libc::socklen_t,
        )
    };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The address family of a socket.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn family(fd: i32) -> io::Result<i32> {
    get(fd, libc::SO_DOMAIN).map(i32::from_ne_bytes)
}

/// The name of the network device with this number.
fn device_name(ifindex: u32) -> Option<String> {
    let mut name = [0u8; libc::IF_NAMESIZE];
    // SAFETY: there is room for a name.
    let found = !unsafe { libc::if_indextoname(ifindex, name.as_mut_ptr().cast()) }.is_null();
    let end = name.iter().position(|&b| b == 0)?;
    let name = std::str::from_utf8(name.get(..end)?).ok()?;
    found.then(|| name.to_owned())
}

/// Is there a network device with this number?
#[must_use]
pub fn has_device(ifindex: u32) -> bool {
    device_name(ifindex).is_some()
}

/// The address of a network device, and the one that means all; zeros if it has none of six bytes. `None` without device.
#[must_use]
pub fn device_addresses(ifindex: u32) -> Option<[[u8; 6]; 2]> {
    let name = device_name(ifindex)?;
    let read = |file: &str| -> Option<[u8; 6]> {
        let text = std::fs::read_to_string(format!("/sys/class/net/{name}/{file}")).ok()?;
        let bytes = text
            .trim()
            .split(':')
            .map(|b| u8::from_str_radix(b, 16).ok());
        bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
    };
    Some(["address", "broadcast"].map(|file| read(file).unwrap_or_default()))
}

/// A UDP socket that others may share its address with (`SO_REUSEPORT`), bound to a port of 127.0.0.1; 0 means a free one.
///
/// # Errors
/// Those of `socket`, `setsockopt` and `bind`.
pub fn shared_udp(port: u16) -> io::Result<std::net::UdpSocket> {
    // SAFETY: numbers only.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let on: libc::c_int = 1;
    // SAFETY: `on` is readable for its size.
    let rc = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_REUSEPORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes([127, 0, 0, 1]),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: `address` is readable for its size.
    let rc = unsafe {
        libc::bind(
            fd,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_in>() as libc::socklen_t,
        )
    };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket.into())
}
