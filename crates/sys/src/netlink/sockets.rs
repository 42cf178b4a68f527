//! Sockets of this network namespace as the kernel tells everybody (sock_diag(7)).

use super::{F_REQUEST, Message, Socket, number16, number32};
use std::io;
use std::net::SocketAddr;

/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;
/// `INET_DIAG_NOCOOKIE`: whatever the cookie.
const ANY_COOKIE: [u8; 8] = [0xff; 8];
/// Bytes of `struct inet_diag_sockid` before the cookie, and of `struct inet_diag_msg`.
const MESSAGE_BYTES: usize = 72;
/// Offset of `struct inet_diag_sockid` in it.
const ID_AT: usize = 4;

/// What lies in an `inet_diag_msg`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketInfo {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// `TCP_*`
    pub state: u8,
    /// Own and other port, in host order.
    pub ports: [u16; 2],
    /// Own and other address, four bytes of each for `AF_INET`.
    pub addresses: [[u8; 16]; 2],
    /// Device that it is bound to, 0 for none.
    pub ifindex: u32,
    /// `SO_COOKIE`
    pub cookie: u64,
}

fn bytes16(bytes: &[u8], at: usize) -> [u8; 16] {
    let part = bytes.get(at..at + 16).and_then(|b| b.try_into().ok());
    part.unwrap_or_default()
}

fn info(body: &[u8]) -> Option<SocketInfo> {
    let body = body.get(..MESSAGE_BYTES)?;
    let id = &body[ID_AT..];
    let port = |at| u16::from_be(number16(id, at));
    Some(SocketInfo {
        family: body[0],
        state: body[1],
        ports: [port(0), port(2)],
        addresses: [bytes16(id, 4), bytes16(id, 20)],
        ifindex: number32(id, 36),
        cookie: u64::from(number32(id, 40)) | u64::from(number32(id, 44)) << 32,
    })
}

impl Socket {
    /// Opens one that answers questions about sockets.
    ///
    /// # Errors
    /// Those of `socket`.
    pub fn open_diag() -> io::Result<Self> {
        Self::open_for(libc::NETLINK_SOCK_DIAG)
    }

    /// The socket that a packet from `remote` to `local` would reach; of the same family both.
    ///
    /// # Errors
    /// `ENOENT` if there is none.
    pub fn socket_of(
        &mut self,
        protocol: u8,
        remote: SocketAddr,
        local: SocketAddr,
        ifindex: u32,
    ) -> io::Result<SocketInfo> {
        let family = if remote.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        // struct inet_diag_req_v2
        let mut body = vec![family as u8, protocol, 0, 0];
        body.extend([0xff; 4]);
        // Of UDP sockets the kernel takes source and destination for those of the packet.
        let is_udp = i32::from(protocol) == libc::IPPROTO_UDP;
        let ends = if is_udp {
            [remote, local]
        } else {
            [local, remote]
        };
        ends.iter()
            .for_each(|end| body.extend(end.port().to_be_bytes()));
        for end in ends {
            let mut address = [0; 16];
            match end.ip() {
                std::net::IpAddr::V4(a) => address[..4].copy_from_slice(&a.octets()),
                std::net::IpAddr::V6(a) => address = a.octets(),
            }
            body.extend(address);
        }
        body.extend(ifindex.to_ne_bytes());
        body.extend(ANY_COOKIE);
        let request = Message::new(BY_FAMILY, F_REQUEST, &body).finish();
        let mut found = None;
        self.answer(&request, &mut |body| found = info(body))?;
        found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn sockets_of_this_process_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let client = TcpStream::connect(at).unwrap();
        let from = client.local_addr().unwrap();
        let mut diag = Socket::open_diag().unwrap();
        let server = diag.socket_of(6, from, at, 1).unwrap();
        assert_eq!((server.state, server.ports), (1, [at.port(), from.port()]));
        let stranger = "127.0.0.1:1".parse().unwrap();
        assert_eq!(diag.socket_of(6, stranger, at, 1).unwrap().state, 10);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = udp.local_addr().unwrap();
        let found = diag.socket_of(17, stranger, at, 1).unwrap();
        assert_eq!(found.ports[0], at.port());
        // The port that was used is no example: a child of another test may still hold the socket when it is closed.
        assert!(diag.socket_of(17, at, stranger, 1).is_err());
    }
}
