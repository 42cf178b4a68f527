//! Routing netlink: network devices with their XDP programs, and filters of the clsact queueing discipline.
//!
//! Source: rtnetlink(7), include/uapi/linux/{rtnetlink,if_link,pkt_sched,pkt_cls}.h.

mod routing;
mod sockets;

pub use routing::{Hop, Link, Neighbour, OwnAddress, Prefix, RouteEntry, Rule};
pub use sockets::SocketInfo;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_DELLINK: u16 = 17;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const F_REQUEST: u16 = 1;
const F_ACK: u16 = 4;
const F_ECHO: u16 = 8;
const F_DUMP: u16 = 0x300;
const F_EXCL: u16 = 0x200;
const F_CREATE: u16 = 0x400;
const F_NESTED: u16 = 1 << 15;

/// `IFF_UP`
const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
/// `LWTUNNEL_ENCAP_BPF`
const ENCAP_BPF: u16 = 6;
const LWT_BPF_PROG_FD: u16 = 1;
const LWT_BPF_PROG_NAME: u16 = 2;
/// `RT_TABLE_MAIN`, `RTPROT_STATIC`, `RT_SCOPE_LINK`, `RTN_UNICAST`
const MAIN_STATIC_LINK_UNICAST: [u8; 4] = [254, 4, 253, 1];
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
/// `TCA_BPF_FLAG_ACT_DIRECT`
const ACT_DIRECT: u32 = 1;
/// `TC_H_CLSACT`
const CLSACT: u32 = 0xffff_fff1;
/// The handle of a device's clsact discipline.
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// `ETH_P_ALL`
const ETH_P_ALL: u16 = 3;
/// Bytes of one answer.
const ANSWER_BYTES: usize = 1 << 16;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `struct tcmsg`.
const TCMSG: usize = 20;
/// Bytes of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;

/// The two hooks of clsact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Incoming packets.
    Ingress,
    /// Outgoing packets.
    Egress,
}

impl Side {
    fn parent(self) -> u32 {
        match self {
            Self::Ingress => 0xffff_fff2,
            Self::Egress => 0xffff_fff3,
        }
    }
}

/// Which packets of a route a lightweight tunnel's program sees (`LWT_BPF_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LwtHook {
    /// Those that come in on it.
    In = 1,
    /// Those that go out on it, before fragmentation.
    Out = 2,
    /// Those that go out on it, before the device.
    Xmit = 3,
}

/// A route to one IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The address.
    pub to: std::net::Ipv4Addr,
    /// The device.
    pub ifindex: u32,
}

/// What names a filter on its hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FilterHandle {
    /// Number within the priority.
    pub handle: u32,
    /// Priority (upper half) and protocol.
    pub info: u32,
}

/// A bpf filter of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilterInfo {
    /// What names it.
    pub handle: FilterHandle,
    /// Name given when it was made.
    pub name: String,
    /// Id of its program.
    pub prog_id: u32,
}

/// A network device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its number.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// `XDP_ATTACHED_*`: 0 none, 1 driver, 2 generic, 3 offloaded, 4 several.
    pub xdp_attached: u8,
    /// Id of its XDP program.
    pub xdp_prog_id: u32,
}

/// A request under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | F_REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        Self(bytes)
    }

    fn attribute(&mut self, kind: u16, data: &[u8]) {
        self.0.extend(((data.len() + 4) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.attribute(kind | F_NESTED, &[]);
        fill(self);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

fn tcmsg(ifindex: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, ifindex, handle, parent, info]
        .iter()
        .flat_map(|n| n.to_ne_bytes())
        .collect()
}

fn ifinfomsg(ifindex: u32) -> Vec<u8> {
    [0, ifindex, 0, 0]
        .iter()
        .flat_map(|n| n.to_ne_bytes())
        .collect()
}

fn route_message(kind: u16, flags: u16, route: Route) -> Message {
    // struct rtmsg: family, bits of the destination, of the source, tos; table, protocol, scope, type; flags.
    let mut body = vec![libc::AF_INET as u8, 32, 0, 0];
    body.extend(MAIN_STATIC_LINK_UNICAST);
    body.extend([0; 4]);
    let mut message = Message::new(kind, flags, &body);
    message.attribute(RTA_DST, &route.to.octets());
    message.attribute(RTA_OIF, &route.ifindex.to_ne_bytes());
    message
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    let part = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    part.map_or(0, u32::from_ne_bytes)
}

fn number16(bytes: &[u8], at: usize) -> u16 {
    let part = bytes.get(at..at + 2).and_then(|b| b.try_into().ok());
    part.map_or(0, u16::from_ne_bytes)
}

/// The attribute of a kind among `bytes`.
fn find(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    while bytes.len() >= 4 {
        let length = usize::from(number16(bytes, 0));
        let data = bytes.get(4..length)?;
        if number16(bytes, 2) & !F_NESTED == kind {
            return Some(data);
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

/// A routing netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Opens one in the caller's network namespace.
    ///
    /// # Errors
    /// Those of `socket`.
    pub fn open() -> io::Result<Self> {
        Self::open_for(libc::NETLINK_ROUTE)
    }

    fn open_for(protocol: i32) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: numbers only.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// Sends a request and hands each message of the answer to `each`: type and body.
    fn talk(&mut self, request: &[u8], each: &mut dyn FnMut(u16, &[u8])) -> io::Result<()> {
        // SAFETY: the request is readable for its length.
        let sent = unsafe {
            libc::send(
                self.fd.as_raw_fd(),
                request.as_ptr().cast(),
                request.len(),
                0,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut buffer = vec![0u8; ANSWER_BYTES];
        loop {
            // SAFETY: the buffer is writable for its length.
            let length = unsafe {
                libc::recv(
                    self.fd.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                )
            };
            let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
            let mut rest = &buffer[..length];
            while rest.len() >= HEADER {
                let size = (number32(rest, 0) as usize).clamp(HEADER, rest.len());
                let body = &rest[HEADER..size];
                match number16(rest, 4) {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        return match number32(body, 0).cast_signed() {
                            0 => Ok(()),
                            error => Err(io::Error::from_raw_os_error(-error)),
                        };
                    }
                    kind => each(kind, body),
                }
                rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    /// Sends a request that has an answer of one message, or an error.
    fn answer(&mut self, request: &[u8], each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let acknowledged = {
            let mut with_ack = request.to_vec();
            with_ack[6..8].copy_from_slice(&(F_REQUEST | F_ACK).to_ne_bytes());
            with_ack
        };
        self.talk(&acknowledged, &mut |_, body| each(body))
    }

    fn command(&mut self, message: Message) -> io::Result<()> {
        self.talk(&message.finish(), &mut |_, _| {})
    }

    /// All devices.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn devices(&mut self) -> io::Result<Vec<Device>> {
        let mut devices = Vec::new();
        let request = Message::new(RTM_GETLINK, F_DUMP, &ifinfomsg(0)).finish();
        self.talk(&request, &mut |kind, body| {
            if kind != RTM_NEWLINK {
                return;
            }
            let attributes = body.get(IFINFOMSG..).unwrap_or_default();
            let xdp = find(attributes, IFLA_XDP).unwrap_or_default();
            devices.push(Device {
                ifindex: number32(body, 4),
                name: crate::bpf::field_text(find(attributes, IFLA_IFNAME).unwrap_or_default()),
                xdp_attached: find(xdp, IFLA_XDP_ATTACHED)
                    .and_then(|d| d.first().copied())
                    .unwrap_or(0),
                xdp_prog_id: find(xdp, IFLA_XDP_PROG_ID).map_or(0, |d| number32(d, 0)),
            });
        })?;
        Ok(devices)
    }

    /// Switches a device on.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn up(&mut self, ifindex: u32) -> io::Result<()> {
        let body: Vec<u8> = [0, ifindex, IFF_UP, IFF_UP]
            .iter()
            .flat_map(|n| n.to_ne_bytes())
            .collect();
        self.command(Message::new(RTM_SETLINK, F_ACK, &body))
    }

    /// Sets how many bytes behind their headers the packets of a device may have.
    ///
    /// # Errors
    /// Those of the kernel: `EINVAL` for more than the device can.
    pub fn set_mtu(&mut self, ifindex: u32, bytes: u32) -> io::Result<()> {
        let mut message = Message::new(RTM_SETLINK, F_ACK, &ifinfomsg(ifindex));
        message.attribute(IFLA_MTU, &bytes.to_ne_bytes());
        self.command(message)
    }

    /// Makes a pair of devices, or one, of a kind that needs no more than its name (`veth`, `netkit`, `dummy`).
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a kind that the kernel does not have; `EEXIST` for a name that is taken.
    pub fn device_add(&mut self, kind: &str, name: &str) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, F_ACK | F_CREATE | F_EXCL, &ifinfomsg(0));
        message.attribute(IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
        message.nested(IFLA_LINKINFO, |m| {
            m.attribute(IFLA_INFO_KIND, kind.as_bytes());
        });
        self.command(message)
    }

    /// Removes a device; the other one of a pair goes with it.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn device_delete(&mut self, ifindex: u32) -> io::Result<()> {
        self.command(Message::new(RTM_DELLINK, F_ACK, &ifinfomsg(ifindex)))
    }

    /// Adds a route whose packets a program of a lightweight tunnel sees.
    ///
    /// # Errors
    /// `EOPNOTSUPP` without `CONFIG_LWTUNNEL_BPF`; those of the kernel.
    pub fn route_add(
        &mut self,
        route: Route,
        hook: LwtHook,
        prog_fd: i32,
        name: &str,
    ) -> io::Result<()> {
        let mut message = route_message(RTM_NEWROUTE, F_ACK | F_CREATE | F_EXCL, route);
        message.attribute(RTA_ENCAP_TYPE, &ENCAP_BPF.to_ne_bytes());
        message.nested(RTA_ENCAP, |m| {
            m.nested(hook as u16, |m| {
                m.attribute(LWT_BPF_PROG_FD, &prog_fd.to_ne_bytes());
                m.attribute(LWT_BPF_PROG_NAME, &[name.as_bytes(), &[0]].concat());
            });
        });
        self.command(message)
    }

    /// Removes a route.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn route_delete(&mut self, route: Route) -> io::Result<()> {
        self.command(route_message(RTM_DELROUTE, F_ACK, route))
    }

    /// Puts an XDP program on a device without a link, or takes it off (`fd` -1); `flags` are `XDP_FLAGS_*`.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn xdp_set(&mut self, ifindex: u32, fd: i32, flags: u32) -> io::Result<()> {
        let mut message = Message::new(RTM_SETLINK, F_ACK, &ifinfomsg(ifindex));
        message.nested(IFLA_XDP, |m| {
            m.attribute(IFLA_XDP_FD, &fd.to_ne_bytes());
            m.attribute(IFLA_XDP_FLAGS, &flags.to_ne_bytes());
        });
        self.command(message)
    }

    /// Gives a device the clsact discipline.
    ///
    /// # Errors
    /// `EEXIST` if it has it; those of the kernel.
    pub fn clsact_add(&mut self, ifindex: u32) -> io::Result<()> {
        let body = tcmsg(ifindex, CLSACT_HANDLE, CLSACT, 0);
        let mut message = Message::new(RTM_NEWQDISC, F_ACK | F_CREATE | F_EXCL, &body);
        message.attribute(TCA_KIND, b"clsact\0");
        self.command(message)
    }

    /// Takes the clsact discipline, with all its filters, off a device.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn clsact_delete(&mut self, ifindex: u32) -> io::Result<()> {
        let body = tcmsg(ifindex, CLSACT_HANDLE, CLSACT, 0);
        let mut message = Message::new(RTM_DELQDISC, F_ACK, &body);
        message.attribute(TCA_KIND, b"clsact\0");
        self.command(message)
    }

    /// Adds a direct-action filter behind the others; the kernel chooses what names it.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn filter_add(
        &mut self,
        ifindex: u32,
        side: Side,
        prog_fd: i32,
        name: &str,
    ) -> io::Result<FilterHandle> {
        let body = tcmsg(ifindex, 0, side.parent(), u32::from(ETH_P_ALL.to_be()));
        let mut message = Message::new(RTM_NEWTFILTER, F_ACK | F_CREATE | F_EXCL | F_ECHO, &body);
        message.attribute(TCA_KIND, b"bpf\0");
        message.nested(TCA_OPTIONS, |m| {
            m.attribute(TCA_BPF_FD, &prog_fd.to_ne_bytes());
            m.attribute(TCA_BPF_NAME, &[name.as_bytes(), &[0]].concat());
            m.attribute(TCA_BPF_FLAGS, &ACT_DIRECT.to_ne_bytes());
        });
        let mut made = None;
        self.talk(&message.finish(), &mut |kind, body| {
            if kind == RTM_NEWTFILTER {
                made = Some(FilterHandle {
                    handle: number32(body, 8),
                    info: number32(body, 16),
                });
            }
        })?;
        made.ok_or_else(|| io::Error::other("the kernel did not name the new filter"))
    }

    /// Removes a filter.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn filter_delete(
        &mut self,
        ifindex: u32,
        side: Side,
        filter: FilterHandle,
    ) -> io::Result<()> {
        let body = tcmsg(ifindex, filter.handle, side.parent(), filter.info);
        let mut message = Message::new(RTM_DELTFILTER, F_ACK, &body);
        message.attribute(TCA_KIND, b"bpf\0");
        self.command(message)
    }

    /// The bpf filters of one side of a device; none if it has no clsact.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn filters(&mut self, ifindex: u32, side: Side) -> io::Result<Vec<FilterInfo>> {
        let mut filters = Vec::new();
        let request =
            Message::new(RTM_GETTFILTER, F_DUMP, &tcmsg(ifindex, 0, side.parent(), 0)).finish();
        self.talk(&request, &mut |kind, body| {
            let attributes = body.get(TCMSG..).unwrap_or_default();
            let handle = FilterHandle {
                handle: number32(body, 8),
                info: number32(body, 16),
            };
            if kind != RTM_NEWTFILTER
                || handle.handle == 0
                || find(attributes, TCA_KIND) != Some(b"bpf\0")
            {
                return;
            }
            let options = find(attributes, TCA_OPTIONS).unwrap_or_default();
            filters.push(FilterInfo {
                handle,
                name: crate::bpf::field_text(find(options, TCA_BPF_NAME).unwrap_or_default()),
                prog_id: find(options, TCA_BPF_ID).map_or(0, |d| number32(d, 0)),
            });
        })?;
        Ok(filters)
    }
}

/// The number of a device.
///
/// # Errors
/// `ENODEV` if there is none of this name.
pub fn ifindex(name: &str) -> io::Result<u32> {
    let name = crate::bpf::text(name.as_bytes())?;
    // SAFETY: a terminated string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

#[cfg(test)]
mod tests {
    use super::{Message, find, number32};

    #[test]
    fn attributes_nest_and_are_found() {
        let mut message = Message::new(1, 0, &[0; 4]);
        message.attribute(3, b"abc\0\0");
        message.nested(43, |m| m.attribute(4, &7u32.to_ne_bytes()));
        let bytes = message.finish();
        assert_eq!(number32(&bytes, 0) as usize, bytes.len());
        let attributes = &bytes[20..];
        assert_eq!(find(attributes, 3), Some(&b"abc\0\0"[..]));
        let inner = find(attributes, 43).unwrap();
        assert_eq!(find(inner, 4).map(|d| number32(d, 0)), Some(7));
        assert_eq!(find(attributes, 9), None);
    }

    #[test]
    fn loopback_is_device_1() {
        assert_eq!(super::ifindex("lo").unwrap(), 1);
        let devices = super::Socket::open().unwrap().devices().unwrap();
        assert!(devices.iter().any(|d| d.ifindex == 1 && d.name == "lo"));
    }
}
