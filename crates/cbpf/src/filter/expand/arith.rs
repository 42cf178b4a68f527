//! Arithmetic on fields of the packet.
//!
//! A field implies that its protocol is there. libpcap keeps that implication only for the leftmost field of a side of a
//! comparison, and so does this.

use super::link::ETHERTYPE_IPV6;
use super::proto::IPPROTO_ICMPV6;
use super::{Expanded, Expander, Offset};
use crate::filter::FilterError;
use crate::filter::expr::{Cond, CondKind, Value};
use crate::filter::lexer::Protocol;
use crate::filter::link::LinkType;
use crate::filter::parse::{Arith, Comparison};
use crate::insn::{AluOp, Size};

/// A value, and what must hold for it to mean anything.
type Computed = Result<(Value, Option<Cond>), FilterError>;

impl Expander<'_> {
    pub(super) fn compare(
        &mut self,
        comparison: Comparison,
        left: &Arith,
        right: &Arith,
    ) -> Expanded {
        let plain = matches!((left, right), (Arith::Number(_), Arith::Number(_)));
        let (left, first) = self.arith(left)?;
        let (right, second) = self.arith(right)?;
        self.arena.late = true;
        let mut cond = self.arena.test(comparison.relation, left, right);
        self.arena.late = false;
        if !plain && let CondKind::True | CondKind::False = self.arena.cond_kind(cond) {
            let outcome = self.arena.cond_kind(cond) == CondKind::True;
            cond = self.arena.late_truth(outcome);
        }
        if comparison.negated {
            cond = self.arena.not(cond);
        }
        let implied = self.both(first, second);
        Ok(match implied {
            Some(implied) => self.arena.and(implied, cond),
            None => cond,
        })
    }

    fn both(&mut self, a: Option<Cond>, b: Option<Cond>) -> Option<Cond> {
        match (a, b) {
            (Some(a), Some(b)) => Some(self.arena.and(a, b)),
            (one, None) | (None, one) => one,
        }
    }

    fn arith(&mut self, tree: &Arith) -> Computed {
        match tree {
            Arith::Number(k) => Ok((self.arena.constant(*k), None)),
            Arith::Len => Ok((self.arena.len(), None)),
            Arith::Neg(inner) => {
                let (value, implied) = self.arith(inner)?;
                let zero = self.arena.constant(0);
                Ok((self.arena.bin(AluOp::Sub, zero, value), implied))
            }
            Arith::Bin(op, left, right_tree, span) => {
                let (left, implied) = self.arith(left)?;
                let (right, _) = self.arith(right_tree)?;
                self.span = *span;
                if let Arith::Number(k) = **right_tree {
                    match op {
                        AluOp::Div | AluOp::Mod if k == 0 => {
                            return self.error("division by zero");
                        }
                        AluOp::Lsh | AluOp::Rsh if k > 31 => {
                            return self.error("a shift is by at most 31 bits");
                        }
                        _ => {}
                    }
                }
                Ok((self.arena.bin(*op, left, right), implied))
            }
            Arith::Load {
                proto,
                index,
                size,
                span,
            } => {
                let (index, implied) = self.arith(index)?;
                self.span = *span;
                let size = match size {
                    1 => Size::B,
                    2 => Size::H,
                    4 => Size::W,
                    _ => return self.error("a field is of 1, 2 or 4 bytes"),
                };
                let (value, own) = self.field_of(*proto, index, size, implied)?;
                Ok((value, own))
            }
        }
    }

    /// A load at `header + index`.
    fn indexed(&mut self, at: Offset, index: Value, size: Size) -> Value {
        let base = match at.base {
            Some(base) => self.arena.bin(AluOp::Add, base, index),
            None => index,
        };
        self.arena.load(size, Some(base), at.k)
    }

    /// `PROTOCOL[index:size]`.
    fn field_of(
        &mut self,
        proto: Protocol,
        index: Value,
        size: Size,
        implied: Option<Cond>,
    ) -> Computed {
        match proto {
            Protocol::Radio => {
                if self.target.link != LinkType::IEEE802_11_RADIOTAP {
                    return self.error("only captures of 802.11 with radiotap have a radio header");
                }
                Ok((self.indexed(Offset::at(0), index, size), implied))
            }
            Protocol::Link => {
                self.header_loads();
                Ok((self.indexed(self.header, index, size), implied))
            }
            Protocol::Ip
            | Protocol::Ip6
            | Protocol::Arp
            | Protocol::Rarp
            | Protocol::Atalk
            | Protocol::Decnet
            | Protocol::Lat
            | Protocol::Sca
            | Protocol::Moprc
            | Protocol::Mopdl => {
                let is = self.protocol(proto)?;
                let implied = self.both(implied, Some(is));
                Ok((self.indexed(self.network_at(0), index, size), implied))
            }
            Protocol::Tcp
            | Protocol::Udp
            | Protocol::Sctp
            | Protocol::Icmp
            | Protocol::Igmp
            | Protocol::Igrp
            | Protocol::Pim
            | Protocol::Vrrp
            | Protocol::Carp => {
                let is = self.protocol(proto)?;
                let first = self.first_fragment();
                let is = self.arena.and(is, first);
                let is = match implied {
                    Some(implied) => self.arena.and(implied, is),
                    None => is,
                };
                let ip = self.protocol(Protocol::Ip)?;
                let is = self.arena.and(ip, is);
                let at = self.transport4(0);
                Ok((self.indexed(at, index, size), Some(is)))
            }
            Protocol::Icmp6 => {
                let ip6 = self.link_type(ETHERTYPE_IPV6)?;
                let implied = self.both(implied, Some(ip6));
                let is = self.field(self.network_at(6), Size::B, IPPROTO_ICMPV6);
                let implied = self.both(implied, Some(is));
                Ok((self.indexed(self.network_at(40), index, size), implied))
            }
            _ => self.error("this protocol has no fields to index"),
        }
    }
}
