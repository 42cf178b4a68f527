//! Meaning of the tree: each primitive becomes conditions on bytes, for one link type.
//!
//! Some primitives (`vlan`, `mpls`, `pppoes`, `geneve`) move the headers that the rest of the expression, read from left
//! to right, is about; [`Expander`] holds where they are now. The order in which alternatives are evaluated is libpcap's,
//! since a load past the end of the packet rejects it whatever the rest would say.

mod arith;
mod host;
mod link;
mod pf;
mod port;
mod proto;
mod signalling;
mod tunnel;
mod walk;
mod wlan;

use super::draft::{Cond, Draft, Words, code};
use super::error::{FilterError, Span};
use super::lexer::Sign;
use super::lift::Prologue;
use super::link::{Layer, LinkType, Naming};
use super::parse::{Join, Node, What};
use super::{Source, Target};
use crate::insn::{AluOp, Ancillary, Insn, Relation, Size};
use alloc::vec::Vec;
use skep_isa::opcode::{IMM, LDX};

/// What an offset counts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Base {
    /// The innermost link header.
    Header,
    /// The field that names the link layer's payload.
    LinkType,
    /// The link layer's payload.
    Payload,
    /// The transport header after an IPv4 header; `k` counts as if the latter had no length.
    Transport,
}

/// An offset in the packet, from a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Offset {
    base: Base,
    k: u32,
}

impl Offset {
    const HEADER: Self = Self::new(Base::Header, 0);
    const LINK_TYPE: Self = Self::new(Base::LinkType, 0);
    const PAYLOAD: Self = Self::new(Base::Payload, 0);

    const fn new(base: Base, k: u32) -> Self {
        Self { base, k }
    }

    const fn plus(self, by: u32) -> Self {
        Self::new(self.base, self.k.wrapping_add(by))
    }
}

/// Where a header is: at `k`, or at `k` after what a scratch word holds, which is chosen when first needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    variable: bool,
    word: Option<u32>,
    k: u32,
}

impl Place {
    const fn fixed(k: u32) -> Self {
        Self {
            variable: false,
            word: None,
            k,
        }
    }

    const fn variable(word: Option<u32>, k: u32) -> Self {
        Self {
            variable: true,
            word,
            k,
        }
    }
}

/// A few instructions.
struct Short {
    insns: [Insn; 6],
    length: usize,
}

impl Short {
    fn new(insns: &[Insn]) -> Self {
        let mut all = [Insn::new(0, 0); 6];
        all[..insns.len()].copy_from_slice(insns);
        Self {
            insns: all,
            length: insns.len(),
        }
    }
}

impl core::ops::Deref for Short {
    type Target = [Insn];

    fn deref(&self) -> &[Insn] {
        &self.insns[..self.length]
    }
}

/// Which way a packet goes.
#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

/// Expands one expression.
pub(crate) struct Expander<'t> {
    pub(crate) draft: Draft,
    /// Code of the arithmetic at hand.
    computation: Vec<Insn>,
    target: &'t Target<'t>,
    /// The innermost link layer.
    layer: Layer,
    /// Start of its header.
    header: Place,
    /// Where it names its payload.
    type_at: Place,
    /// Start of its payload.
    payload: Place,
    /// From there to the network header, and the same without a SNAP header.
    network: u32,
    network_without_snap: u32,
    vlans: u32,
    labels: u32,
    /// After `geneve`: there may be no inner Ethernet header.
    tunnelled: bool,
    /// After `lane`: where a packet that controls the emulated network says so.
    emulated: Option<u32>,
    words: Words,
    /// The payload of a frame is read that may not be a data frame.
    pub(crate) unchecked: bool,
    /// Code that libpcap does not optimise: an expression that rejects everything is not refused then.
    pub(crate) unoptimised: bool,
    /// Code that is left as it is: it jumps inside blocks, or keeps in words what depends on the way.
    pub(crate) as_is: bool,
    /// The words being expanded, for messages.
    span: Span,
}

type Expanded = Result<Cond, FilterError>;

impl<'t> Expander<'t> {
    /// An expander for a target; fails for a link type that filters do not know.
    pub(crate) fn new(target: &'t Target<'t>) -> Result<Self, FilterError> {
        let Some(layer) = target.link.layer() else {
            return Err(FilterError::new(
                Span::default(),
                alloc::format!("there is no link type {}", target.link.0),
            ));
        };
        let mut expander = Self {
            draft: Draft::new(),
            computation: Vec::new(),
            target,
            layer,
            header: Place::fixed(0),
            type_at: Place::fixed(0),
            payload: Place::fixed(0),
            network: 0,
            network_without_snap: 0,
            vlans: 0,
            labels: 0,
            tunnelled: false,
            emulated: None,
            words: Words::default(),
            unchecked: false,
            as_is: false,
            unoptimised: false,
            span: Span::default(),
        };
        expander.set_up();
        Ok(expander)
    }

    /// The condition of a whole expression.
    pub(crate) fn expand(&mut self, node: &Node<'_>) -> Expanded {
        self.node(node)
    }

    /// Code to run before all else: it finds where the headers are that the expression reads.
    pub(crate) fn prologue(&mut self) -> Result<(Vec<Insn>, Prologue), FilterError> {
        let none = Prologue {
            length: 0,
            header: None,
            payload: None,
            padded: false,
        };
        let link = self.target.link;
        let payload = self.payload.word;
        let mut insns = Vec::new();
        if link == LinkType::PFLOG {
            if let Some(word) = payload {
                insns.extend(walk::pflog_length(word));
            }
            return Ok((insns, none));
        }
        if self
            .target
            .link
            .layer()
            .is_none_or(|l| l.naming != Naming::Wlan)
        {
            return Ok((insns, none));
        }
        let headed = link != LinkType::IEEE802_11;
        if headed && payload.is_some() {
            self.word_of(Base::Header)?;
        }
        if headed && let Some(word) = self.header.word {
            insns = walk::header_length(link, word);
        }
        if link == LinkType::PRISM {
            // The way to the frame has jumps.
            self.leave_as_is();
        }
        let radiotap = self.layer.link == LinkType::IEEE802_11_RADIOTAP;
        if let Some(word) = payload {
            // The prologue sets its words before all else; arithmetic that used one of them overwrites it.
            let reused = |word: u32| self.words.is_reused(word);
            self.unchecked |= reused(word) || self.header.word.is_some_and(reused);
            self.unoptimised = true;
            // What the others put before the frame is not told from its code.
            self.as_is |= headed && link != LinkType::IEEE802_11_RADIOTAP;
            if insns.is_empty() {
                insns.push(Insn::new(LDX | IMM, 0));
            }
            insns.extend(walk::wlan_payload(word, radiotap));
        }
        let prologue = Prologue {
            length: if payload.is_some() {
                insns.len() as u32
            } else {
                0
            },
            header: self
                .header
                .word
                .filter(|_| link == LinkType::IEEE802_11_RADIOTAP),
            payload,
            padded: payload.is_some() && radiotap,
        };
        Ok((insns, prologue))
    }

    /// What must hold before all else, prologue included: that a header for packets of any kind announces 802.11.
    pub(crate) fn gate(&mut self) -> Result<Option<Cond>, FilterError> {
        /// Link type 105 in the byte order of that header.
        const WLAN: u32 = 0x6900_0000;
        if self.target.link != LinkType::PPI {
            return Ok(None);
        }
        self.draft.extend(&[code::load(Size::W, 4)]);
        Ok(Some(self.draft.compare(Relation::Eq, WLAN)))
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
                        (Some(before), Join::And) => self.draft.and(before, next),
                        (Some(before), Join::Or) => self.draft.or(before, next),
                    });
                }
                Ok(whole.unwrap_or_else(|| self.draft.truth(true)))
            }
            What::Not(inner) => {
                let cond = self.node(inner)?;
                Ok(self.draft.not(cond))
            }
            What::Id(id, qualifiers) => self.id(*id, *qualifiers),
            What::Protocol(protocol) => self.protocol(*protocol),
            What::Compare(comparison, left, right) => self.compare(*comparison, left, right),
            What::Broadcast(proto) => self.broadcast(*proto),
            What::Multicast(proto) => self.multicast(*proto),
            What::Less(length) => {
                let longer = self.length(Relation::Gt, *length);
                Ok(self.draft.not(longer))
            }
            What::Greater(length) => Ok(self.length(Relation::Ge, *length)),
            What::Byte(offset, sign, value) => self.byte(*offset, *sign, *value),
            What::Inbound => self.direction(Way::In),
            What::Outbound => self.direction(Way::Out),
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
            What::Pf(field, word) => self.pf(*field, *word),
            What::Atm(kind) => self.atm(*kind),
            What::AtmField(field, values) => self.atm_field(*field, values),
            What::Mtp(kind, speed) => self.mtp(*kind, *speed),
            What::MtpField(field, speed, values) => self.mtp_field(*field, *speed, values),
        }
    }

    /// Leaves the code of the expression as it is.
    fn leave_as_is(&mut self) {
        self.unoptimised = true;
        self.as_is = true;
    }

    /// The scratch word of a place that has one.
    fn word_of(&mut self, base: Base) -> Result<Option<u32>, FilterError> {
        let place = *self.place(base);
        if !place.variable {
            return Ok(None);
        }
        if place.word.is_none() {
            let word = self.take_word()?;
            self.place(base).word = Some(word);
        }
        Ok(self.place(base).word)
    }

    fn place(&mut self, base: Base) -> &mut Place {
        match base {
            Base::Header => &mut self.header,
            Base::LinkType => &mut self.type_at,
            Base::Payload | Base::Transport => &mut self.payload,
        }
    }

    fn take_word(&mut self) -> Result<u32, FilterError> {
        match self.words.take() {
            Some(word) => Ok(word),
            None => self.error("the arithmetic needs more than 16 intermediate results"),
        }
    }

    /// Code that puts the start of the transport header after IPv4 into X, less what an offset from it counts.
    fn transport_to_x(&mut self) -> Result<Short, FilterError> {
        let k = self.payload.k.wrapping_add(self.network);
        Ok(match self.word_of(Base::Payload)? {
            None => Short::new(&[code::x_header(k)]),
            Some(word) => Short::new(&[
                code::x_word(word),
                code::load_at_x(Size::B, k),
                code::alu(AluOp::And, 0xf),
                code::alu(AluOp::Lsh, 2),
                code::alu_x(AluOp::Add),
                code::tax(),
            ]),
        })
    }

    /// Adds code that loads a field into A.
    fn load(&mut self, at: Offset, size: Size) -> Result<(), FilterError> {
        let k = self.place(at.base).k.wrapping_add(at.k);
        if at.base == Base::Transport {
            let to_x = self.transport_to_x()?;
            self.draft.extend(&to_x);
            self.draft.extend(&[code::load_at_x(size, k)]);
            return Ok(());
        }
        match self.word_of(at.base)? {
            None => self.draft.extend(&[code::load(size, k)]),
            Some(word) => self
                .draft
                .extend(&[code::x_word(word), code::load_at_x(size, k)]),
        }
        Ok(())
    }

    /// A field compared with a number.
    fn relate(&mut self, at: Offset, size: Size, relation: Relation, k: u32) -> Expanded {
        self.load(at, size)?;
        Ok(self.draft.compare(relation, k))
    }

    /// A field equals a number.
    fn field(&mut self, at: Offset, size: Size, k: u32) -> Expanded {
        self.relate(at, size, Relation::Eq, k)
    }

    /// The masked bits of a field equal a number.
    fn masked(&mut self, at: Offset, size: Size, mask: u32, k: u32) -> Expanded {
        self.load(at, size)?;
        if mask != u32::MAX {
            self.draft.extend(&[code::alu(AluOp::And, mask)]);
        }
        Ok(self.draft.compare(Relation::Eq, k))
    }

    /// A bit of a field is set.
    fn bit(&mut self, at: Offset, mask: u32) -> Expanded {
        self.relate(at, Size::B, Relation::Set, mask)
    }

    /// Bytes equal the given ones; compared from the end, four at a time, as libpcap does.
    fn bytes(&mut self, at: Offset, bytes: &[u8]) -> Expanded {
        let mut whole: Option<Cond> = None;
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
            let cond = self.field(at.plus(end as u32), size, number)?;
            whole = Some(self.draft.and_after(whole, cond));
        }
        Ok(whole.unwrap_or_else(|| self.draft.truth(true)))
    }

    fn length(&mut self, relation: Relation, k: u32) -> Cond {
        self.draft.extend(&[code::len()]);
        self.draft.compare(relation, k)
    }

    /// A test that does not hold.
    fn fails(&mut self, cond: Expanded) -> Expanded {
        let cond = cond?;
        Ok(self.draft.not(cond))
    }

    fn all(&mut self, first: Cond, more: &[Cond]) -> Cond {
        more.iter().fold(first, |a, b| self.draft.and(a, *b))
    }

    fn byte(&mut self, offset: u32, sign: Sign, value: u32) -> Expanded {
        let at = Offset::HEADER.plus(offset);
        match sign {
            Sign::Less => {
                let cond = self.relate(at, Size::B, Relation::Ge, value);
                self.fails(cond)
            }
            Sign::Greater => self.relate(at, Size::B, Relation::Gt, value),
            Sign::Ampersand | Sign::Bar => {
                let op = if sign == Sign::Bar {
                    AluOp::Or
                } else {
                    AluOp::And
                };
                self.load(at, Size::B)?;
                self.draft.extend(&[code::alu(op, value)]);
                let zero = self.draft.compare(Relation::Eq, 0);
                Ok(self.draft.not(zero))
            }
            _ => self.field(at, Size::B, value),
        }
    }

    fn direction(&mut self, way: Way) -> Expanded {
        /// `PACKET_OUTGOING`.
        const OUTGOING: u32 = 4;
        let pick = |inbound: u32, outbound: u32| match way {
            Way::In => inbound,
            Way::Out => outbound,
        };
        let link = self.layer.link;
        let outgoing = match (link, self.layer.naming, self.target.source) {
            (LinkType::LINUX_SLL, ..) => self.field(Offset::HEADER, Size::H, OUTGOING)?,
            (LinkType::LINUX_SLL2, ..) => self.field(Offset::HEADER.plus(10), Size::B, OUTGOING)?,
            (LinkType::IPNET, ..) => {
                return self.field(Offset::HEADER.plus(2), Size::H, pick(2, 1));
            }
            (LinkType::PFLOG, ..) => {
                return self.field(Offset::HEADER.plus(60), Size::B, pick(1, 2));
            }
            (LinkType::PPP_PPPD, ..) => return self.field(Offset::HEADER, Size::B, pick(0, 1)),
            (LinkType::SLIP, ..) => {
                let inbound = self.first_byte_is_zero()?;
                self.draft.not(inbound)
            }
            (_, Naming::Magic(..), _) if link != LinkType::BACNET => {
                return self.masked(Offset::HEADER.plus(3), Size::B, 1, pick(1, 0));
            }
            (_, _, Source::Live | Source::Unknown) => {
                let kind = code::load(Size::H, Ancillary::PktType.offset());
                self.draft.extend(&[kind]);
                self.draft.compare(Relation::Eq, OUTGOING)
            }
            (_, _, Source::File { .. }) => {
                return self.error(alloc::format!(
                    "a capture file of {} does not tell the direction",
                    link.description()
                ));
            }
        };
        Ok(match way {
            Way::In => self.draft.not(outgoing),
            Way::Out => outgoing,
        })
    }

    fn interface(&mut self, index: u32) -> Expanded {
        match (self.layer.link, self.target.source) {
            (LinkType::LINUX_SLL2, _) => self.field(Offset::HEADER.plus(4), Size::W, index),
            (_, Source::Live | Source::Unknown) => {
                let value = code::load(Size::W, Ancillary::IfIndex.offset());
                self.draft.extend(&[value]);
                Ok(self.draft.compare(Relation::Eq, index))
            }
            (link, Source::File { .. }) => self.error(alloc::format!(
                "a capture file of {} does not tell the interface",
                link.description()
            )),
        }
    }
}
