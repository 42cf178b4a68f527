//! Messages of ICMP and ICMPv6.

use super::{Text, ip6_address, u16_at, u32_at};
use std::fmt::Write;
use std::net::Ipv4Addr;

/// Messages by name: whether of ICMPv6, type, name.
#[rustfmt::skip] // one message per line
const MESSAGES: &[(bool, u8, &str)] = &[
    (false, 0,   "echo reply"),
    (false, 4,   "source quench"),
    (false, 8,   "echo request"),
    (false, 9,   "router advertisement"),
    (false, 10,  "router solicitation"),
    (false, 12,  "parameter problem"),
    (false, 13,  "time stamp query"),
    (false, 14,  "time stamp reply"),
    (false, 15,  "information request"),
    (false, 16,  "information reply"),
    (false, 17,  "address mask request"),
    (false, 18,  "address mask reply"),
    (true,  2,   "packet too big"),
    (true,  3,   "time exceeded in-transit"),
    (true,  4,   "parameter problem"),
    (true,  128, "echo request"),
    (true,  129, "echo reply"),
    (true,  130, "multicast listener query"),
    (true,  131, "multicast listener report"),
    (true,  132, "multicast listener done"),
    (true,  133, "router solicitation"),
    (true,  134, "router advertisement"),
    (true,  135, "neighbor solicitation"),
    (true,  136, "neighbor advertisement"),
    (true,  137, "redirect"),
    (true,  143, "multicast listener report v2"),
];

const IPV4_HEADER: usize = 20;
/// Bytes of a message before the packet it is about.
const HEADER: usize = 8;

/// Prints a message; `None` if the packet ends too early.
pub(super) fn message(out: &mut Text<'_>, six: bool, data: &[u8]) -> Option<()> {
    let (kind, code) = (*data.first()?, *data.get(1)?);
    out.push_str(if six { "ICMP6, " } else { "ICMP " });
    match (six, kind) {
        (false, 3) => return unreachable4(out, code, data),
        (true, 1) => return unreachable6(out, code, data),
        (false, 5) => return redirect4(out, code, data),
        (false, 11) => {
            out.push_str(match code {
                0 => "time exceeded in-transit",
                1 => "ip reassembly time exceeded",
                _ => "time exceeded",
            });
            return Some(());
        }
        _ => {}
    }
    let row = MESSAGES.iter().find(|m| (m.0, m.1) == (six, kind));
    let Some((_, _, name)) = row else {
        let _ = match six {
            true => write!(out, "type {kind}, code {code}"),
            false => write!(out, "type-#{kind}"),
        };
        return Some(());
    };
    out.push_str(name);
    match (six, kind) {
        (false, 0 | 8) | (true, 128 | 129) => {
            let _ = write!(out, ", id {}, seq {}", u16_at(data, 4)?, u16_at(data, 6)?);
        }
        (true, 2) => {
            let _ = write!(out, ", mtu {}", u32_at(data, 4)?);
        }
        (true, 135) => {
            let _ = write!(out, ", who has {}", ip6_address(data, HEADER)?);
        }
        (true, 136) => {
            let _ = write!(out, ", tgt is {}", ip6_address(data, HEADER)?);
        }
        (true, 143) => {
            let _ = write!(out, ", {} group record(s)", u16_at(data, 6)?);
        }
        _ => {}
    }
    Some(())
}

fn protocol_name(protocol: u8) -> Option<&'static str> {
    match protocol {
        6 => Some("tcp"),
        17 => Some("udp"),
        _ => None,
    }
}

fn unreachable4(out: &mut Text<'_>, code: u8, data: &[u8]) -> Option<()> {
    let inner = data.get(HEADER..)?;
    let dst = Ipv4Addr::from(u32_at(inner, 16)?);
    let protocol = *inner.get(9)?;
    let _ = match code {
        0 => write!(out, "net {dst} unreachable"),
        1 => write!(out, "host {dst} unreachable"),
        2 => write!(out, "{dst} protocol {protocol} unreachable"),
        3 => {
            let header = usize::from(inner[0] & 0xf) * 4;
            let port = u16_at(inner, header.max(IPV4_HEADER) + 2)?;
            match protocol_name(protocol) {
                Some(name) => write!(out, "{dst} {name} port {port} unreachable"),
                None => write!(out, "{dst} protocol {protocol} port {port} unreachable"),
            }
        }
        4 => match u16_at(data, 6)? {
            0 => write!(out, "{dst} unreachable - need to frag"),
            mtu => write!(out, "{dst} unreachable - need to frag (mtu {mtu})"),
        },
        9 => write!(out, "net {dst} unreachable - admin prohibited"),
        10 => write!(out, "host {dst} unreachable - admin prohibited"),
        13 => write!(out, "host {dst} unreachable - admin prohibited filter"),
        _ => write!(out, "{dst} unreachable - #{code}"),
    };
    Some(())
}

fn unreachable6(out: &mut Text<'_>, code: u8, data: &[u8]) -> Option<()> {
    let inner = data.get(HEADER..)?;
    let dst = ip6_address(inner, 24)?;
    let _ = match code {
        0 => write!(out, "destination unreachable, unreachable route {dst}"),
        1 => write!(out, "destination unreachable, unreachable prohibited {dst}"),
        3 => write!(out, "destination unreachable, unreachable address {dst}"),
        4 => {
            let port = u16_at(inner, 42)?;
            match protocol_name(*inner.get(6)?) {
                Some(name) => write!(
                    out,
                    "destination unreachable, unreachable port, {dst} {name} port {port}"
                ),
                None => write!(
                    out,
                    "destination unreachable, unreachable port, {dst} protocol {} port {port}",
                    inner[6]
                ),
            }
        }
        _ => write!(out, "destination unreachable, unreachable code-#{code}"),
    };
    Some(())
}

fn redirect4(out: &mut Text<'_>, code: u8, data: &[u8]) -> Option<()> {
    let gateway = Ipv4Addr::from(u32_at(data, 4)?);
    let dst = Ipv4Addr::from(u32_at(data, HEADER + 16)?);
    let _ = match code {
        0 => write!(out, "redirect {dst} to net {gateway}"),
        1 => write!(out, "redirect {dst} to host {gateway}"),
        2 => write!(out, "redirect-tos {dst} to net {gateway}"),
        3 => write!(out, "redirect-tos {dst} to host {gateway}"),
        _ => write!(out, "redirect-#{code} {dst} to net {gateway}"),
    };
    Some(())
}
