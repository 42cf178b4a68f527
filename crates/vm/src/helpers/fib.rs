//! Routes: `bpf_fib_lookup` as the host's tables answer it.

use super::{Args, Row, helpers};
use crate::ctx::skb::ETH_HLEN;
use crate::routes::{INET, INET6, Question, Routes, Way};
use skep_abi::{Errno, ProgType};
use std::net::IpAddr;

pub(super) const HELPERS: &[Row] = helpers! {
    69 "bpf_fib_lookup" fib_lookup;
};

/// Bytes of `struct bpf_fib_lookup`, and offsets of its fields.
const PARAMS_BYTES: usize = 64;
mod at {
    pub(super) const FAMILY: usize = 0;
    pub(super) const PROTOCOL: usize = 1;
    pub(super) const PORTS: [usize; 2] = [2, 4];
    /// Length of the packet; the MTU afterwards.
    pub(super) const LENGTH: usize = 6;
    pub(super) const IFINDEX: usize = 8;
    /// Type of service; the metric afterwards.
    pub(super) const TOS: usize = 12;
    pub(super) const SOURCE: usize = 16;
    pub(super) const DESTINATION: usize = 32;
    /// Table; the VLAN afterwards.
    pub(super) const TABLE: usize = 48;
    /// Mark; the link addresses afterwards.
    pub(super) const MARK: usize = 52;
    pub(super) const TO_LINK: usize = 58;
}

/// `BPF_FIB_LOOKUP_*`
mod flag {
    pub(super) const DIRECT: u32 = 1;
    pub(super) const OUTPUT: u32 = 1 << 1;
    pub(super) const SKIP_NEIGH: u32 = 1 << 2;
    pub(super) const TBID: u32 = 1 << 3;
    pub(super) const SRC: u32 = 1 << 4;
    pub(super) const MARK: u32 = 1 << 5;
    pub(super) const KNOWN: u32 = 0x3f;
}

/// `BPF_FIB_LKUP_RET_*`
mod answer {
    pub(super) const SUCCESS: i64 = 0;
    pub(super) const FORWARDING_DISABLED: i64 = 5;
    pub(super) const UNSUPPORTED_TUNNEL: i64 = 6;
    pub(super) const NO_NEIGHBOUR: i64 = 7;
    pub(super) const FRAG_NEEDED: i64 = 8;
    pub(super) const NO_SOURCE: i64 = 9;
}

/// The parameters of a call.
struct Params([u8; PARAMS_BYTES]);

impl Params {
    fn word(&self, at: usize) -> u32 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|n| self.0[at + n]);
        u32::from_ne_bytes([a, b, c, d])
    }

    fn half(&self, at: usize) -> u16 {
        u16::from_ne_bytes([self.0[at], self.0[at + 1]])
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn address(&self, at: usize) -> IpAddr {
        let mut long = [0; 16];
        long.copy_from_slice(&self.0[at..at + 16]);
        match self.0[at::FAMILY] {
            INET6 => long.into(),
            _ => [long[0], long[1], long[2], long[3]].into(),
        }
    }

    fn set_address(&mut self, at: usize, address: IpAddr) {
        match address {
            IpAddr::V4(a) => self.set(at, &a.octets()),
            IpAddr::V6(a) => self.set(at, &a.octets()),
        }
    }

    fn question(&self, flags: u32) -> Question {
        const DSCP: u8 = 0xfc;
        const LOOPBACK: u32 = 1;
        let device = self.word(at::IFINDEX);
        let has = |flag| flags & flag != 0;
        let port = |at| u16::from_be(self.half(at));
        Question {
            to: self.address(at::DESTINATION),
            from: self.address(at::SOURCE),
            input: if has(flag::OUTPUT) { LOOPBACK } else { device },
            output: if has(flag::OUTPUT) { device } else { 0 },
            tos: match self.0[at::FAMILY] {
                INET => self.0[at::TOS] & DSCP,
                _ => 0,
            },
            protocol: self.0[at::PROTOCOL],
            ports: at::PORTS.map(port),
            mark: match has(flag::MARK) {
                true => self.word(at::MARK),
                false => 0,
            },
            table: has(flag::DIRECT).then(|| match has(flag::TBID) {
                true => self.word(at::TABLE),
                false => 0,
            }),
        }
    }
}

/// ctx, parameters, their size, flags
fn fib_lookup(a: &Args) -> Result<i64, Errno> {
    let (len, flags) = (a.get32(3) as usize, a.get32(4));
    if len < PARAMS_BYTES || flags & !flag::KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let given = a.bytes(2, PARAMS_BYTES);
    if !matches!(given.first(), Some(&(INET | INET6))) {
        return Err(Errno::EAFNOSUPPORT);
    }
    let mut params = Params([0; PARAMS_BYTES]);
    params.set(0, given);
    // Without netlink there is no device either.
    let kept = a.world().routes.take();
    let routes = Routes::current(kept).map_err(|_| Errno::ENODEV)?;
    let result = answer(a, &routes, &mut params, flags);
    a.world().routes = Some(routes);
    if result.is_ok() {
        a.write(2, &params.0);
    }
    result
}

fn answer(a: &Args, routes: &Routes, params: &mut Params, flags: u32) -> Result<i64, Errno> {
    let device = params.word(at::IFINDEX);
    let to = params.address(at::DESTINATION);
    routes.link(device).ok_or(Errno::ENODEV)?;
    if !routes.forwards(device, to) {
        return Ok(answer::FORWARDING_DISABLED);
    }
    let question = params.question(flags);
    if flags & flag::DIRECT != 0 && flags & flag::TBID != 0 {
        params.set(at::TABLE, &[0; 4]);
    }
    let way = match routes.way(&question) {
        Ok(way) => way,
        Err(why) => return Ok(why as i64),
    };
    let len = params.half(at::LENGTH);
    let mtu = routes.mtu(way);
    if len != 0 && u32::from(len) > mtu {
        params.set(at::LENGTH, &(mtu as u16).to_ne_bytes());
        return Ok(answer::FRAG_NEEDED);
    }
    if way.hop.is_tunnel {
        return Ok(answer::UNSUPPORTED_TUNNEL);
    }
    let found = fill(routes, params, way, flags);
    if found != answer::SUCCESS {
        return Ok(found);
    }
    params.set(at::TABLE, &[0; 4]);
    if len == 0 && a.prog_type() != ProgType::Xdp {
        return Ok(fits_device(a, routes, params, way));
    }
    params.set(at::LENGTH, &(mtu as u16).to_ne_bytes());
    Ok(found)
}

/// Writes where the way leads.
fn fill(routes: &Routes, params: &mut Params, way: Way<'_>, flags: u32) -> i64 {
    let to = params.address(at::DESTINATION);
    let ifindex = way.hop.ifindex;
    let next = way.hop.gateway.unwrap_or(to);
    params.set(at::TOS, &way.route.metric.to_ne_bytes());
    params.set(at::IFINDEX, &ifindex.to_ne_bytes());
    if flags & flag::SRC != 0 {
        match routes.source(way, to) {
            Some(source) => params.set_address(at::SOURCE, source),
            None => return answer::NO_SOURCE,
        }
    }
    if way.hop.gateway.is_some() {
        params.set_address(at::DESTINATION, next);
        params.0[at::FAMILY] = if next.is_ipv4() { INET } else { INET6 };
    }
    if flags & flag::SKIP_NEIGH != 0 {
        return answer::SUCCESS;
    }
    let Some(neighbour) = routes.neighbour(ifindex, next) else {
        return answer::NO_NEIGHBOUR;
    };
    let own = routes.link(ifindex).map_or([0; 6], |l| l.address);
    params.set(at::MARK, &own);
    params.set(at::TO_LINK, &neighbour);
    answer::SUCCESS
}

/// Whether the packet itself fits the device, if the call named no length.
fn fits_device(a: &Args, routes: &Routes, params: &mut Params, way: Way<'_>) -> i64 {
    const TAG_BYTES: u32 = 4;
    let mtu = routes.link(way.hop.ifindex).map_or(0, |l| l.mtu);
    params.set(at::LENGTH, &(mtu as u16).to_ne_bytes());
    let skb = a.skb(1);
    let fits = skb.len <= mtu + ETH_HLEN as u32 + TAG_BYTES;
    if fits || super::skb_room::is_gso(skb) {
        answer::SUCCESS
    } else {
        answer::FRAG_NEEDED
    }
}
