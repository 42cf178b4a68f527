//! Names of hosts, nets, ports and protocols, from files of the usual form. Nothing is asked of a resolver.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

/// Transport of a service.
///
/// ```
/// use skep_cbpf::filter::{Filter, LinkType, Names, Target};
///
/// // A services file names the port of one transport.
/// let names = Names::empty().with_services("ntp 123/udp\n");
/// let target = Target { names: &names, ..Target::file(LinkType::ETHERNET) };
/// assert!(Filter::compile("udp port ntp", &target).is_ok());
/// assert!(Filter::compile("tcp port ntp", &target).is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP, protocol 6.
    Tcp,
    /// UDP, protocol 17.
    Udp,
    /// SCTP, protocol 132.
    Sctp,
}

/// Names read from files; empty unless filled.
///
/// ```
/// use skep_cbpf::filter::Names;
///
/// let names = Names::empty().with_hosts("192.0.2.1 gateway gw # of the lab\n2001:db8::1 gateway\n");
/// assert_eq!(names.host("gateway").len(), 2);
/// assert_eq!(names.host("GW"), ["192.0.2.1".parse::<std::net::IpAddr>()?]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Names {
    hosts: BTreeMap<String, Vec<IpAddr>>,
    networks: BTreeMap<String, u32>,
    services: BTreeMap<String, Vec<(u16, Transport)>>,
    protocols: BTreeMap<String, u8>,
    ethers: BTreeMap<String, [u8; 6]>,
}

/// The fields of each line, without comments.
fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .map(|line| {
            line.split('#')
                .next()
                .unwrap_or("")
                .split_whitespace()
                .collect()
        })
        .filter(|fields: &Vec<&str>| !fields.is_empty())
}

impl Names {
    /// No names at all.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            hosts: BTreeMap::new(),
            networks: BTreeMap::new(),
            services: BTreeMap::new(),
            protocols: BTreeMap::new(),
            ethers: BTreeMap::new(),
        }
    }

    /// Adds the text of a hosts file: `ADDRESS NAME...`. Lines that do not fit are skipped, as the C library does.
    #[must_use]
    pub fn with_hosts(mut self, text: &str) -> Self {
        for fields in lines(text) {
            let Ok(address) = fields[0].parse::<IpAddr>() else {
                continue;
            };
            for name in &fields[1..] {
                let known = self.hosts.entry(name.to_ascii_lowercase()).or_default();
                if !known.contains(&address) {
                    known.push(address);
                }
            }
        }
        self
    }

    /// Adds the text of a networks file: `NAME ADDRESS ALIAS...`.
    #[must_use]
    pub fn with_networks(mut self, text: &str) -> Self {
        for fields in lines(text) {
            let Some(number) = fields.get(1).and_then(|a| network(a)) else {
                continue;
            };
            for name in fields[..1].iter().chain(&fields[2..]) {
                self.networks.entry((*name).to_owned()).or_insert(number);
            }
        }
        self
    }

    /// Adds the text of a services file: `NAME PORT/TRANSPORT ALIAS...`.
    #[must_use]
    pub fn with_services(mut self, text: &str) -> Self {
        for fields in lines(text) {
            let Some((port, transport)) = fields.get(1).and_then(|f| f.split_once('/')) else {
                continue;
            };
            let transport = match transport {
                "tcp" => Transport::Tcp,
                "udp" => Transport::Udp,
                "sctp" => Transport::Sctp,
                _ => continue,
            };
            let Ok(port) = port.parse() else { continue };
            for name in fields[..1].iter().chain(&fields[2..]) {
                self.services
                    .entry((*name).to_owned())
                    .or_default()
                    .push((port, transport));
            }
        }
        self
    }

    /// Adds the text of a protocols file: `NAME NUMBER ALIAS...`.
    #[must_use]
    pub fn with_protocols(mut self, text: &str) -> Self {
        for fields in lines(text) {
            let Some(number) = fields.get(1).and_then(|n| n.parse().ok()) else {
                continue;
            };
            for name in fields[..1].iter().chain(&fields[2..]) {
                self.protocols.entry((*name).to_owned()).or_insert(number);
            }
        }
        self
    }

    /// Adds the text of an ethers file: `MAC NAME`.
    #[must_use]
    pub fn with_ethers(mut self, text: &str) -> Self {
        for fields in lines(text) {
            let mut mac = [0; 6];
            let parts = fields[0].split(':').map(|p| u8::from_str_radix(p, 16));
            if parts.clone().count() != 6 || parts.clone().any(|p| p.is_err()) {
                continue;
            }
            for (byte, part) in mac.iter_mut().zip(parts.flatten()) {
                *byte = part;
            }
            if let Some(name) = fields.get(1) {
                self.ethers.entry((*name).to_owned()).or_insert(mac);
            }
        }
        self
    }

    /// Addresses of a host, in the order of the file.
    #[must_use]
    pub fn host(&self, name: &str) -> &[IpAddr] {
        self.hosts
            .get(&name.to_ascii_lowercase())
            .map_or(&[], Vec::as_slice)
    }

    /// Number of a network; zero if there is none.
    pub(crate) fn network(&self, name: &str) -> u32 {
        self.networks.get(name).copied().unwrap_or(0)
    }

    /// Port of a service for one transport.
    pub(crate) fn port(&self, name: &str, transport: Transport) -> Option<u16> {
        self.services
            .get(name)?
            .iter()
            .find(|(_, t)| *t == transport)
            .map(|(port, _)| *port)
    }

    /// Number of an IP protocol.
    pub(crate) fn protocol(&self, name: &str) -> Option<u8> {
        self.protocols.get(name).copied()
    }

    /// MAC address of a host.
    pub(crate) fn ether(&self, name: &str) -> Option<[u8; 6]> {
        self.ethers.get(name).copied()
    }
}

/// A network number: up to four numbers, without trailing zero bytes as the C library gives it.
fn network(text: &str) -> Option<u32> {
    let mut number: u32 = 0;
    let mut parts = 0;
    for part in text.split('.') {
        number = (number << 8) | u32::from(part.parse::<u8>().ok()?);
        parts += 1;
    }
    (1..=4).contains(&parts).then_some(number)
}

/// An address of a host that is written as one.
pub(crate) fn numeric(name: &str) -> Option<Ipv4Addr> {
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_usual_form() {
        let names = Names::default()
            .with_hosts("127.0.0.1 localhost loop # comment\n::1 localhost\nbad line\n")
            .with_networks("default 0.0.0.0\nlink-local 169.254.0.0 ll\nten 10\n")
            .with_services("domain 53/tcp\ndomain 53/udp dns\nbroken\n")
            .with_protocols("tcp 6 TCP\nudp 17\n")
            .with_ethers("0:1:2:3:4:ff box\nx y\n");
        assert_eq!(names.host("LOCALHOST").len(), 2);
        assert_eq!(names.network("ll"), 0xa9fe_0000);
        assert_eq!(names.network("ten"), 10);
        assert_eq!(names.port("dns", Transport::Udp), Some(53));
        assert_eq!(names.port("dns", Transport::Tcp), None);
        assert_eq!(names.protocol("TCP"), Some(6));
        assert_eq!(names.ether("box"), Some([0, 1, 2, 3, 4, 255]));
        assert_eq!(names.host("nobody"), &[] as &[IpAddr]);
    }
}
