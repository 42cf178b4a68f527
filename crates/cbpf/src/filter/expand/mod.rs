//! Meaning of the tree: each primitive becomes conditions on bytes, for one link type.
//!
//! Some primitives (`vlan`, `mpls`, `pppoes`, `geneve`) move the headers that the rest of the expression, read from left
//! to right, is about; [`Expander`] holds where they are now. The order in which alternatives are evaluated is libpcap's,
//! since a load past the end of the packet rejects it whatever the rest would say.

mod arith;
mod host;
mod link;
mod port;
mod proto;
mod tunnel;
mod wlan;

use super::error::{FilterError, Span};
use super::expr::{Arena, Cond, CondKind, Value};
use super::lexer::Sign;
use super::link::LinkType;
use super::parse::{Join, Node, What};
use super::{Source, Target};
use crate::insn::{AluOp, Ancillary, Relation, Size};

/// Where a header is: at `base + k`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Offset {
    base: Option<Value>,
    k: u32,
}

impl Offset {
    const fn at(k: u32) -> Self {
        Self { base: None, k }
    }

    const fn plus(self, by: u32) -> Self {
        Self {
            base: self.base,
            k: self.k.wrapping_add(by),
        }
    }
}

/// Expands one expression.
pub(crate) struct Expander<'t> {
    pub(crate) arena: Arena,
    target: &'t Target<'t>,
    /// Type of the innermost link layer.
    link: LinkType,
    /// Start of its header.
    header: Offset,
    /// Where it names its payload; `None` if it does not.
    link_type: Option<Offset>,
    /// Start of its payload.
    payload: Offset,
    /// From there to the network header, and the same without a SNAP header.
    network: u32,
    network_without_snap: u32,
    vlans: u32,
    labels: u32,
    /// After `geneve`: whether there is an inner Ethernet header.
    inner_ethernet: Option<Cond>,
    /// Loads that libpcap makes before anything else.
    prologue: Option<Value>,
    /// Code that libpcap does not optimise: an expression that rejects everything is not refused then.
    pub(crate) unoptimised: bool,
    /// The words being expanded, for messages.
    span: Span,
}

type Expanded = Result<Cond, FilterError>;

impl<'t> Expander<'t> {
    /// An expander for a target; fails for a link type that filters do not know.
    pub(crate) fn new(target: &'t Target<'t>) -> Result<Self, FilterError> {
        if target.link.name().is_none() {
            return Err(FilterError::new(
                Span::default(),
                alloc::format!("link type {} has no filters", target.link.0),
            ));
        }
        let mut expander = Self {
            arena: Arena::new(),
            target,
            link: target.link,
            header: Offset::at(0),
            link_type: None,
            payload: Offset::at(0),
            network: 0,
            network_without_snap: 0,
            vlans: 0,
            labels: 0,
            inner_ethernet: None,
            prologue: None,
            unoptimised: false,
            span: Span::default(),
        };
        expander.set_up();
        Ok(expander)
    }

    /// The condition of a whole expression.
    pub(crate) fn expand(&mut self, node: &Node<'_>) -> Expanded {
        let cond = self.node(node)?;
        if let Some(value) = self.prologue {
            let touch = self.arena.cond(CondKind::Touch(value));
            return Ok(match self.arena.cond_kind(cond) {
                CondKind::True | CondKind::False => cond,
                _ => self.arena.and(touch, cond),
            });
        }
        Ok(cond)
    }

    fn error<T>(&self, message: impl Into<alloc::string::String>) -> Result<T, FilterError> {
        Err(FilterError::new(self.span, message))
    }

    fn node(&mut self, node: &Node<'_>) -> Expanded {
        self.span = node.span;
        match &node.what {
            What::List(list) => {
                let mut whole: Option<Cond> = None;
                for (join, node) in list {
                    let next = self.node(node)?;
                    whole = Some(match (whole, join) {
                        (None, _) => next,
                        (Some(before), Join::And) => self.arena.and(before, next),
                        (Some(before), Join::Or) => self.arena.or(before, next),
                    });
                }
                Ok(whole.unwrap_or_else(|| self.arena.truth(true)))
            }
            What::Not(inner) => {
                let cond = self.node(inner)?;
                Ok(self.arena.not(cond))
            }
            What::Id(id, qualifiers) => self.id(*id, *qualifiers),
            What::Protocol(protocol) => self.protocol(*protocol),
            What::Compare(comparison, left, right) => self.compare(*comparison, left, right),
            What::Broadcast(proto) => self.broadcast(*proto),
            What::Multicast(proto) => self.multicast(*proto),
            What::Less(length) => {
                let longer = self.length(Relation::Gt, *length);
                Ok(self.arena.not(longer))
            }
            What::Greater(length) => Ok(self.length(Relation::Ge, *length)),
            What::Byte(offset, sign, value) => Ok(self.byte(*offset, *sign, *value)),
            What::Inbound => {
                let outbound = self.outbound()?;
                Ok(self.arena.not(outbound))
            }
            What::Outbound => self.outbound(),
            What::IfIndex(index) => self.interface(*index),
            What::Vlan(id) => self.vlan(*id),
            What::Mpls(label) => self.mpls(*label),
            What::Pppoed => self.link_type(link::ETHERTYPE_PPPOED),
            What::Pppoes(session) => self.pppoes(*session),
            What::Geneve(vni) => self.geneve(*vni),
            What::Llc(kind) => self.llc(*kind),
            What::WlanType(kind, subtype) => self.wlan_type(*kind, *subtype),
            What::WlanSubtype(name) => self.wlan_subtype(name),
            What::WlanDir(dir) => self.wlan_dir(*dir),
            What::Elsewhere(link) => {
                self.error(alloc::format!("this is supported only for {link}"))
            }
        }
    }

    fn load(&mut self, at: Offset, size: Size) -> Value {
        self.arena.load(size, at.base, at.k)
    }

    fn relate(&mut self, relation: Relation, value: Value, k: u32) -> Cond {
        let k = self.arena.constant(k);
        self.arena.test(relation, value, k)
    }

    /// A field equals a number.
    fn field(&mut self, at: Offset, size: Size, k: u32) -> Cond {
        let value = self.load(at, size);
        self.relate(Relation::Eq, value, k)
    }

    /// The masked bits of a field equal a number.
    fn masked(&mut self, at: Offset, size: Size, mask: u32, k: u32) -> Cond {
        let value = self.load(at, size);
        self.masked_value(value, mask, k)
    }

    fn masked_value(&mut self, value: Value, mask: u32, k: u32) -> Cond {
        let mask = self.arena.constant(mask);
        let value = self.arena.bin(AluOp::And, value, mask);
        self.relate(Relation::Eq, value, k)
    }

    /// A bit of a byte is set.
    fn bit(&mut self, at: Offset, mask: u32) -> Cond {
        let value = self.load(at, Size::B);
        self.relate(Relation::Set, value, mask)
    }

    /// Bytes equal the given ones; compared from the end, four at a time, as libpcap does.
    fn bytes(&mut self, at: Offset, bytes: &[u8]) -> Cond {
        let mut whole = self.arena.truth(true);
        let mut end = bytes.len();
        while end > 0 {
            let (size, length) = match end {
                1 => (Size::B, 1),
                2 | 3 => (Size::H, 2),
                _ => (Size::W, 4),
            };
            let chunk = &bytes[end - length..end];
            let number = chunk.iter().fold(0, |n, b| (n << 8) | u32::from(*b));
            end -= length;
            // Offsets inside a comparison are a few bytes.
            let cond = self.field(at.plus(end as u32), size, number);
            whole = self.arena.and(whole, cond);
        }
        whole
    }

    fn length(&mut self, relation: Relation, k: u32) -> Cond {
        let len = self.arena.len();
        self.relate(relation, len, k)
    }

    fn byte(&mut self, offset: u32, sign: Sign, value: u32) -> Cond {
        let byte = self.load(self.header.plus(offset), Size::B);
        match sign {
            Sign::Less => {
                let cond = self.relate(Relation::Ge, byte, value);
                self.arena.not(cond)
            }
            Sign::Greater => self.relate(Relation::Gt, byte, value),
            Sign::Ampersand | Sign::Bar => {
                let op = if sign == Sign::Bar {
                    AluOp::Or
                } else {
                    AluOp::And
                };
                let value = self.arena.constant(value);
                let result = self.arena.bin(op, byte, value);
                let zero = self.relate(Relation::Eq, result, 0);
                self.arena.not(zero)
            }
            _ => self.relate(Relation::Eq, byte, value),
        }
    }

    fn outbound(&mut self) -> Expanded {
        /// `PACKET_OUTGOING`.
        const OUTGOING: u32 = 4;
        match (self.link, self.target.source) {
            (LinkType::LINUX_SLL, _) => Ok(self.field(self.header, Size::H, OUTGOING)),
            (LinkType::LINUX_SLL2, _) => Ok(self.field(self.header.plus(10), Size::B, OUTGOING)),
            (_, Source::Live) => {
                let kind = self.arena.ancillary(Size::H, Ancillary::PktType.offset());
                Ok(self.relate(Relation::Eq, kind, OUTGOING))
            }
            (link, Source::File { .. }) => self.error(alloc::format!(
                "a capture file of {} does not tell the direction",
                link.description()
            )),
        }
    }

    fn interface(&mut self, index: u32) -> Expanded {
        match (self.link, self.target.source) {
            (LinkType::LINUX_SLL2, _) => Ok(self.field(self.header.plus(4), Size::W, index)),
            (_, Source::Live) => {
                let value = self.arena.ancillary(Size::W, Ancillary::IfIndex.offset());
                Ok(self.relate(Relation::Eq, value, index))
            }
            (link, Source::File { .. }) => self.error(alloc::format!(
                "a capture file of {} does not tell the interface",
                link.description()
            )),
        }
    }
}
