//! Ports of TCP, UDP and SCTP over IPv4 and IPv6.

use super::link::{ETHERTYPE_IP, ETHERTYPE_IPV6};
use super::proto::{IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP};
use super::{Base, Expanded, Expander, Offset};
use crate::filter::FilterError;
use crate::filter::lexer::Protocol;
use crate::filter::names::Transport;
use crate::filter::parse::{Dir, Kind, Qualifiers};
use crate::insn::{Relation, Size};
use alloc::format;

/// One port or several, in packets of one transport protocol or of all that have ports.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    first: u32,
    last: u32,
    /// Written as a range, even if of one port.
    range: bool,
    protocol: Option<u32>,
}

impl Expander<'_> {
    /// The transport protocol that the qualifiers ask for.
    fn transport(&self, q: Qualifiers) -> Result<Option<u32>, FilterError> {
        match q.proto {
            None => Ok(None),
            Some(Protocol::Tcp) => Ok(Some(IPPROTO_TCP)),
            Some(Protocol::Udp) => Ok(Some(IPPROTO_UDP)),
            Some(Protocol::Sctp) => Ok(Some(IPPROTO_SCTP)),
            Some(_) => self.error("a port goes with tcp, udp or sctp only"),
        }
    }

    fn ports(&mut self, ports: Ports, dir: Dir) -> Expanded {
        if ports.first.max(ports.last) > 0xffff {
            return self.error("a port is at most 65535");
        }
        let (first, last) = (ports.first.min(ports.last), ports.first.max(ports.last));
        let ports = Ports {
            first,
            last,
            ..ports
        };
        let six = self.ports6(ports, dir)?;
        let four = self.ports4(ports, dir)?;
        Ok(self.draft.or(six, four))
    }

    pub(super) fn port_number(&mut self, port: u32, q: Qualifiers) -> Expanded {
        let protocol = self.transport(q)?;
        let ports = Ports {
            first: port,
            last: port,
            protocol,
            range: q.kind == Kind::PortRange,
        };
        self.ports(ports, q.dir)
    }

    /// The port of a service and the protocol it has there; `None` if it has the same port in TCP and UDP.
    fn service(&self, name: &str) -> Result<(u32, Option<u32>), FilterError> {
        let names = self.target.names;
        let port = |t| names.port(name, t).map(u32::from);
        match (port(Transport::Tcp), port(Transport::Udp)) {
            // The greater of two unequal ports is nobody's: both protocols are asked for the one of TCP.
            (Some(tcp), Some(_)) => Ok((tcp, None)),
            (Some(tcp), None) => Ok((tcp, Some(IPPROTO_TCP))),
            (None, Some(udp)) => Ok((udp, Some(IPPROTO_UDP))),
            (None, None) => match port(Transport::Sctp) {
                Some(sctp) => Ok((sctp, Some(IPPROTO_SCTP))),
                None => self.error(format!("no port is named {name:?} in the services file")),
            },
        }
    }

    /// The protocol both the qualifiers and the service allow.
    fn agreed(
        &self,
        name: &str,
        asked: Option<u32>,
        real: Option<u32>,
    ) -> Result<Option<u32>, FilterError> {
        match (asked, real) {
            (None, real) => Ok(real),
            (Some(asked), None) => Ok(Some(asked)),
            (Some(asked), Some(real)) if asked == real => Ok(Some(asked)),
            _ => self.error(format!("port {name:?} is of another protocol")),
        }
    }

    pub(super) fn port_name(&mut self, name: &str, q: Qualifiers) -> Expanded {
        let asked = self.transport(q)?;
        let (port, real) = self.service(name)?;
        let protocol = self.agreed(name, asked, real)?;
        let ports = Ports {
            first: port,
            last: port,
            protocol,
            range: false,
        };
        self.ports(ports, q.dir)
    }

    pub(super) fn port_range_name(&mut self, name: &str, q: Qualifiers) -> Expanded {
        let asked = self.transport(q)?;
        let end = |this: &Self, text: &str| -> Result<(u32, Option<u32>), FilterError> {
            match text.parse::<u32>() {
                Ok(number) => Ok((number, None)),
                Err(_) => this.service(text),
            }
        };
        // A service may have a hyphen in its name; the last one that leaves a known end splits the range.
        let Some((low, high)) = name.split_once('-') else {
            let (port, real) = end(self, name)?;
            let protocol = self.agreed(name, asked, real)?;
            let ports = Ports {
                first: port,
                last: port,
                protocol,
                range: true,
            };
            return self.ports(ports, q.dir);
        };
        let (first, low_protocol) = end(self, low)?;
        let (last, high_protocol) = end(self, high)?;
        let real = if low_protocol == high_protocol {
            low_protocol
        } else {
            None
        };
        let protocol = self.agreed(name, asked, real)?;
        let ports = Ports {
            first,
            last,
            protocol,
            range: true,
        };
        self.ports(ports, q.dir)
    }

    /// The condition of `one` for the protocol asked for, or for each that has ports.
    fn each_protocol(
        &mut self,
        ports: Ports,
        mut one: impl FnMut(&mut Self, u32) -> Expanded,
    ) -> Expanded {
        if let Some(protocol) = ports.protocol {
            return one(self, protocol);
        }
        let sctp = one(self, IPPROTO_SCTP)?;
        let tcp = one(self, IPPROTO_TCP)?;
        let udp = one(self, IPPROTO_UDP)?;
        let later = self.draft.or(tcp, udp);
        Ok(self.draft.or(sctp, later))
    }

    fn ports4(&mut self, ports: Ports, dir: Dir) -> Expanded {
        self.directed(dir)?;
        let link = self.link_type(ETHERTYPE_IP)?;
        let (src, dst) = (
            Offset::new(Base::Transport, self.network),
            Offset::new(Base::Transport, self.network.wrapping_add(2)),
        );
        let protocol_at = self.network_at(9);
        let any = self.each_protocol(ports, |this, protocol| {
            let is = this.field(protocol_at, Size::B, protocol)?;
            let first = this.first_fragment()?;
            let is = this.draft.and(is, first);
            let port = this.port_fields(ports, dir, src, dst)?;
            Ok(this.draft.and(is, port))
        })?;
        Ok(self.draft.and(link, any))
    }

    fn ports6(&mut self, ports: Ports, dir: Dir) -> Expanded {
        self.directed(dir)?;
        let link = self.link_type(ETHERTYPE_IPV6)?;
        let (src, dst) = (self.network_at(40), self.network_at(42));
        let protocol_at = self.network_at(6);
        let any = self.each_protocol(ports, |this, protocol| {
            let is = this.field(protocol_at, Size::B, protocol)?;
            let port = this.port_fields(ports, dir, src, dst)?;
            Ok(this.draft.and(is, port))
        })?;
        Ok(self.draft.and(link, any))
    }

    fn directed(&self, dir: Dir) -> Result<(), FilterError> {
        match dir {
            Dir::Default | Dir::Src | Dir::Dst | Dir::SrcOrDst | Dir::SrcAndDst => Ok(()),
            _ => self.error("ra, ta and addr1 to addr4 go with 802.11 MAC addresses only"),
        }
    }

    /// The IPv4 packet is no later fragment.
    pub(super) fn first_fragment(&mut self) -> Expanded {
        let later = self.relate(self.network_at(6), Size::H, Relation::Set, 0x1fff);
        self.fails(later)
    }

    fn port_fields(&mut self, ports: Ports, dir: Dir, src: Offset, dst: Offset) -> Expanded {
        let one = |this: &mut Self, at: Offset| -> Expanded {
            if !ports.range {
                return this.field(at, Size::H, ports.first);
            }
            let low = this.relate(at, Size::H, Relation::Ge, ports.first)?;
            let above = this.relate(at, Size::H, Relation::Gt, ports.last);
            let high = this.fails(above)?;
            Ok(this.draft.and(low, high))
        };
        match dir {
            Dir::Src => one(self, src),
            Dir::Dst => one(self, dst),
            Dir::SrcAndDst => {
                let (src, dst) = (one(self, src)?, one(self, dst)?);
                Ok(self.draft.and(src, dst))
            }
            _ => {
                let (src, dst) = (one(self, src)?, one(self, dst)?);
                Ok(self.draft.or(src, dst))
            }
        }
    }

    /// UDP to one port, over IPv4 or IPv6: the shell of a tunnel.
    pub(super) fn udp_to(&mut self, port: u32, six: bool) -> Expanded {
        let ports = Ports {
            first: port,
            last: port,
            protocol: Some(IPPROTO_UDP),
            range: false,
        };
        if six {
            self.ports6(ports, Dir::Dst)
        } else {
            self.ports4(ports, Dir::Dst)
        }
    }
}
