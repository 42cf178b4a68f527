//! Where packets go from this host: the kernel's tables, read as any process can, and the kernel's way to look in them.
//!
//! What was read is kept until the kernel tells of a change, or the thread is in another network namespace. Differs from the
//! kernel: of several equally good ways the first is taken (there a hash decides), and addresses of neighbours are not asked for.

use skep_sys::netlink::{
    Hop, Link, Neighbour, OwnAddress, Prefix, RouteEntry, Rule, Socket as Netlink,
};
use std::io;
use std::net::IpAddr;

/// `AF_INET`, `AF_INET6`
pub(crate) const INET: u8 = 2;
pub(crate) const INET6: u8 = 10;
/// `RT_TABLE_MAIN`
const MAIN_TABLE: u32 = 254;
/// `NUD_VALID`: states of neighbours whose link address can be used.
const VALID: u16 = 0xde;
/// Rules that are followed at most.
const RULES_MAX: usize = 1 << 16;

/// `RTN_*`
mod kind {
    pub(super) const UNICAST: u8 = 1;
    pub(super) const BLACKHOLE: u8 = 6;
    pub(super) const UNREACHABLE: u8 = 7;
    pub(super) const PROHIBIT: u8 = 8;
    pub(super) const THROW: u8 = 9;
}

/// `FR_ACT_*`
mod action {
    pub(super) const TO_TABLE: u8 = 1;
    pub(super) const GOTO: u8 = 2;
    pub(super) const NOTHING: u8 = 3;
    pub(super) const BLACKHOLE: u8 = 6;
    pub(super) const PROHIBIT: u8 = 8;
}

/// Why a packet goes nowhere: `BPF_FIB_LKUP_RET_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoWay {
    Blackhole = 1,
    Unreachable = 2,
    Prohibit = 3,
    NotForwarded = 4,
}

/// Which way is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) to: IpAddr,
    pub(crate) from: IpAddr,
    /// Device the packet came in on.
    pub(crate) input: u32,
    /// Device it has to leave by, 0 for any.
    pub(crate) output: u32,
    pub(crate) tos: u8,
    pub(crate) protocol: u8,
    /// Source and destination port.
    pub(crate) ports: [u16; 2],
    pub(crate) mark: u32,
    /// `Some` asks this table alone, 0 for the main one.
    pub(crate) table: Option<u32>,
}

/// A way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'a> {
    pub(crate) route: &'a RouteEntry,
    pub(crate) hop: &'a Hop,
}

/// What concerns one address family.
#[derive(Debug, Default)]
struct Family {
    rules: Vec<Rule>,
    routes: Vec<RouteEntry>,
    neighbours: Vec<Neighbour>,
    addresses: Vec<OwnAddress>,
    forwarding: Vec<u32>,
}

/// The tables of one network namespace.
#[derive(Debug)]
pub(crate) struct Routes {
    news: Netlink,
    namespace: Option<u64>,
    links: Vec<Link>,
    v4: Family,
    v6: Family,
}

impl Routes {
    /// The tables as they are now: `kept` if nothing changed.
    pub(crate) fn current(kept: Option<Self>) -> io::Result<Self> {
        let namespace = skep_sys::ids::network_namespace();
        if let Some(mut kept) = kept
            && kept.namespace == namespace
            && !kept.news.has_news()
        {
            return Ok(kept);
        }
        let mut news = Netlink::open()?;
        news.listen_to_routing()?;
        let mut ask = Netlink::open()?;
        Ok(Self {
            news,
            namespace,
            links: ask.links()?,
            v4: Family::read(&mut ask, INET)?,
            // A kernel may be without.
            v6: Family::read(&mut ask, INET6).unwrap_or_default(),
        })
    }

    fn family(&self, of: IpAddr) -> &Family {
        if of.is_ipv4() { &self.v4 } else { &self.v6 }
    }

    /// The device with this number.
    pub(crate) fn link(&self, ifindex: u32) -> Option<&Link> {
        self.links.iter().find(|l| l.ifindex == ifindex)
    }

    /// Does the device pass packets of the family of `address` on?
    pub(crate) fn forwards(&self, ifindex: u32, address: IpAddr) -> bool {
        self.family(address).forwarding.contains(&ifindex)
    }

    /// The way of a packet.
    pub(crate) fn way(&self, question: &Question) -> Result<Way<'_>, NoWay> {
        let family = self.family(question.to);
        if let Some(table) = question.table {
            let table = if table == 0 { MAIN_TABLE } else { table };
            return family.in_table(table, question)?.ok_or(NoWay::NotForwarded);
        }
        let mut at = 0;
        for _ in 0..RULES_MAX {
            let Some(rule) = family.rules.get(at) else {
                break;
            };
            at += 1;
            if !self.holds(rule, question) {
                continue;
            }
            match rule.action {
                action::TO_TABLE => {
                    if let Some(way) = family.in_table(rule.table, question)? {
                        return Ok(way);
                    }
                }
                action::GOTO => {
                    let target = |r: &Rule| r.priority == rule.target;
                    at = family.rules.iter().position(target).unwrap_or(at);
                }
                action::NOTHING => {}
                action::BLACKHOLE => return Err(NoWay::Blackhole),
                action::PROHIBIT => return Err(NoWay::Prohibit),
                _ => return Err(NoWay::NotForwarded),
            }
        }
        Err(NoWay::NotForwarded)
    }

    fn holds(&self, rule: &Rule, q: &Question) -> bool {
        let is_device = |name: &str, ifindex: u32| {
            name.is_empty() || self.link(ifindex).is_some_and(|l| l.name == name)
        };
        let in_range = |range: Option<(u16, u16)>, port: u16| {
            range.is_none_or(|(first, last)| (first..=last).contains(&port))
        };
        // Packets of this host have no source yet for rules of IPv6.
        if rule.from.len != 0 && q.to.is_ipv6() && q.output != 0 {
            return false;
        }
        let (mark, mask) = rule.mark;
        let holds = is_device(&rule.input, q.input)
            && is_device(&rule.output, q.output)
            && (q.mark ^ mark) & mask == 0
            && contains(rule.to, q.to)
            && contains(rule.from, q.from)
            && (rule.tos == 0 || rule.tos == q.tos)
            && (rule.protocol == 0 || rule.protocol == q.protocol)
            && in_range(rule.ports[0], q.ports[0])
            && in_range(rule.ports[1], q.ports[1]);
        holds != rule.is_inverted
    }

    /// Bytes of the largest packet on a way.
    pub(crate) fn mtu(&self, way: Way<'_>) -> u32 {
        let device = self.link(way.hop.ifindex).map_or(0, |l| l.mtu);
        match way.route.mtu {
            // Only IPv6 takes one that is not fixed.
            Some((mtu, fixed)) if fixed || way.route.to.address.is_ipv6() => mtu,
            _ => device,
        }
    }

    /// The link address of a neighbour, if it is known.
    pub(crate) fn neighbour(&self, ifindex: u32, address: IpAddr) -> Option<[u8; 6]> {
        let all = &self.family(address).neighbours;
        let found = all
            .iter()
            .find(|n| n.ifindex == ifindex && n.address == address)?;
        (found.state & VALID != 0).then_some(found.link_address)
    }

    /// The address that packets of this host to `to` have on a way.
    pub(crate) fn source(&self, way: Way<'_>, to: IpAddr) -> Option<IpAddr> {
        if way.route.source.is_some() {
            return way.route.source;
        }
        let of_device = |a: &&OwnAddress| a.ifindex == way.hop.ifindex;
        let next = way.hop.gateway.unwrap_or(to);
        let mut all = self.family(to).addresses.iter().filter(of_device);
        let first = all.clone().next();
        let near = all.find(|a| a.network.contains(next));
        near.or(first).map(|a| a.address)
    }
}

/// As [`Prefix::contains`]; the empty prefix of another family contains all.
fn contains(prefix: Prefix, address: IpAddr) -> bool {
    prefix.len == 0 || prefix.contains(address)
}

impl Family {
    fn read(ask: &mut Netlink, family: u8) -> io::Result<Self> {
        Ok(Self {
            rules: ask.rules(family)?,
            routes: ask.routes(family)?,
            neighbours: ask.neighbours(family)?,
            addresses: ask.addresses(family)?,
            forwarding: ask.forwarding(family)?,
        })
    }

    /// The way in one table: `None` if it does not say.
    fn in_table(&self, table: u32, q: &Question) -> Result<Option<Way<'_>>, NoWay> {
        let fits = |r: &&RouteEntry| {
            r.table == table
                && r.to.contains(q.to)
                && contains(r.from, q.from)
                && (r.tos == 0 || r.tos == q.tos)
        };
        let mut all: Vec<&RouteEntry> = self.routes.iter().filter(fits).collect();
        // IPv6 takes the device for a wish: that packets come in on, or go out by.
        let is_wish = q.to.is_ipv6();
        let wish = if q.output == 0 { q.input } else { q.output };
        let goes_by = |r: &RouteEntry| r.hops.iter().any(|hop| hop.ifindex == wish);
        // The longest prefix first, then the most special service, then the best metric.
        all.sort_by_key(|r| {
            let special = std::cmp::Reverse((r.to.len, r.from.len, r.tos));
            (special, r.metric, is_wish && !goes_by(r))
        });
        for route in all {
            match route.kind {
                kind::BLACKHOLE => return Err(NoWay::Blackhole),
                kind::UNREACHABLE => return Err(NoWay::Unreachable),
                kind::PROHIBIT => return Err(NoWay::Prohibit),
                kind::THROW => return Ok(None),
                _ => {}
            }
            let usable =
                |hop: &&Hop| !hop.is_dead && (is_wish || q.output == 0 || hop.ifindex == q.output);
            match route.hops.iter().find(usable) {
                Some(hop) if route.kind == kind::UNICAST => return Ok(Some(Way { route, hop })),
                // This host, or many.
                Some(_) => return Err(NoWay::NotForwarded),
                None => {}
            }
        }
        Ok(None)
    }
}
