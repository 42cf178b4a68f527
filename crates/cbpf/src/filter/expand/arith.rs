//! Arithmetic on fields of the packet.
//!
//! Every operand is kept in a scratch word. A field implies that its protocol is there; libpcap keeps that implication
//! only for the leftmost field of a side of a comparison, and so does this.

use super::link::ETHERTYPE_IPV6;
use super::proto::IPPROTO_ICMPV6;
use super::{Base, Expanded, Expander, Offset, Short};
use crate::filter::FilterError;
use crate::filter::draft::{Cond, code};
use crate::filter::lexer::Protocol;
use crate::filter::link::LinkType;
use crate::filter::parse::{Arith, Comparison};
use crate::insn::{AluOp, Insn, Relation, Size};
use skep_isa::opcode::{ALU, IMM, LD, NEG, X};

/// A value that code computes into a word, and what must hold for it to mean anything.
#[derive(Clone, Copy)]
struct Computed {
    /// Where its code begins in [`Expander::computation`].
    start: usize,
    word: u32,
    implied: Option<Cond>,
}

/// Link types with a header of what the radio received.
const RADIO: [LinkType; 3] = [
    LinkType::IEEE802_11_RADIOTAP,
    LinkType::IEEE802_11_AVS,
    LinkType::PRISM,
];

type Computation = Result<Computed, FilterError>;

impl Expander<'_> {
    pub(super) fn compare(
        &mut self,
        comparison: Comparison,
        left: &Arith,
        right: &Arith,
    ) -> Expanded {
        self.computation.clear();
        let left = self.arith(left)?;
        let right = self.arith(right)?;
        self.draft.extend(&self.computation);
        self.draft
            .extend(&[code::x_word(right.word), code::word(left.word)]);
        let mut cond = if comparison.relation == Relation::Eq {
            self.draft.extend(&[code::alu_x(AluOp::Sub)]);
            self.draft.compare(Relation::Eq, 0)
        } else {
            let code = comparison.relation.code() | X;
            self.draft.end(code, 0)
        };
        if comparison.negated {
            cond = self.draft.not(cond);
        }
        self.words.give_back(left.word);
        self.words.give_back(right.word);
        let implied = self.both(left.implied, right.implied);
        Ok(self.draft.and_after(implied, cond))
    }

    /// The first byte of the packet is zero; as arithmetic, which is how libpcap asks for the direction on SLIP.
    pub(super) fn first_byte_is_zero(&mut self) -> Expanded {
        self.computation.clear();
        let right = self.take_word()?;
        let index = self.kept(code::constant(0))?;
        let left = self.field_of(Protocol::Link, index, Size::B)?;
        let zero = [code::constant(0), code::store(right)];
        self.computation.extend(zero);
        self.draft.extend(&self.computation);
        let compared = [
            code::x_word(right),
            code::word(left.word),
            code::alu_x(AluOp::Sub),
        ];
        self.draft.extend(&compared);
        self.words.give_back(left.word);
        self.words.give_back(right);
        Ok(self.draft.compare(Relation::Eq, 0))
    }

    fn both(&mut self, a: Option<Cond>, b: Option<Cond>) -> Option<Cond> {
        match (a, b) {
            (Some(a), Some(b)) => Some(self.draft.and(a, b)),
            (one, None) | (None, one) => one,
        }
    }

    /// Code that keeps A in a new word.
    fn kept(&mut self, first: Insn) -> Computation {
        let word = self.take_word()?;
        let start = self.computation.len();
        self.computation.extend([first, code::store(word)]);
        Ok(Computed {
            start,
            word,
            implied: None,
        })
    }

    fn arith(&mut self, tree: &Arith) -> Computation {
        match tree {
            Arith::Number(k) => self.kept(code::constant(*k)),
            Arith::Len => self.kept(code::len()),
            Arith::Neg(inner) => {
                let value = self.arith(inner)?;
                self.computation.extend([
                    code::word(value.word),
                    Insn::new(ALU | NEG, 0),
                    code::store(value.word),
                ]);
                Ok(value)
            }
            Arith::Bin(op, left, right, span) => {
                let left = self.arith(left)?;
                let right = self.arith(right)?;
                self.span = *span;
                self.binary(*op, left, right)
            }
            Arith::Load {
                proto,
                index,
                size,
                span,
            } => {
                let index = self.arith(index)?;
                self.span = *span;
                let size = match size {
                    1 => Size::B,
                    2 => Size::H,
                    4 => Size::W,
                    _ => return self.error("a field is of 1, 2 or 4 bytes"),
                };
                self.field_of(*proto, index, size)
            }
        }
    }

    /// Whether the code of a value begins with a constant for which this holds.
    fn begins_with(&self, value: Computed, wanted: impl Fn(u32) -> bool) -> bool {
        let constant = u16::from(LD | IMM);
        let first = self.computation.get(value.start);
        first.is_some_and(|i| i.code == constant && wanted(i.k))
    }

    fn binary(&mut self, op: AluOp, left: Computed, right: Computed) -> Computation {
        match op {
            // As in libpcap, a right side whose code begins with zero counts as zero, such as any field.
            AluOp::Div | AluOp::Mod if self.begins_with(right, |k| k == 0) => {
                return self.error("division by zero");
            }
            AluOp::Lsh | AluOp::Rsh if self.begins_with(right, |k| k > 31) => {
                return self.error("a shift is by at most 31 bits");
            }
            _ => {}
        }
        // What the right side implies is lost.
        self.unchecked |= right.implied.is_some();
        self.words.give_back(left.word);
        self.words.give_back(right.word);
        let word = self.take_word()?;
        self.computation.extend([
            code::x_word(right.word),
            code::word(left.word),
            code::alu_x(op),
            code::store(word),
        ]);
        Ok(Computed { word, ..left })
    }

    /// Code that loads the field at an offset plus the index, and keeps it.
    fn indexed(&mut self, at: Offset, index: Computed, size: Size, word: u32) -> Computation {
        let base = match at.base {
            Base::Transport => self.transport_to_x()?,
            base => match self.word_of(base)? {
                Some(word) => Short::new(&[code::x_word(word)]),
                None => Short::new(&[]),
            },
        };
        let k = self.place(at.base).k.wrapping_add(at.k);
        let computation = &mut self.computation;
        if base.is_empty() {
            computation.push(code::x_word(index.word));
        } else {
            computation.extend_from_slice(&base);
            computation.extend([code::word(index.word), code::alu_x(AluOp::Add), code::tax()]);
        }
        computation.extend([code::load_at_x(size, k), code::store(word)]);
        Ok(Computed { word, ..index })
    }

    /// `PROTOCOL[index:size]`.
    fn field_of(&mut self, proto: Protocol, index: Computed, size: Size) -> Computation {
        let word = self.take_word()?;
        self.words.give_back(index.word);
        match proto {
            Protocol::Radio => {
                if !RADIO.contains(&self.target.link) {
                    return self
                        .error("only captures of 802.11 with a header of the radio have one");
                }
                self.computation.extend([
                    code::x_word(index.word),
                    code::load_at_x(size, 0),
                    code::store(word),
                ]);
                Ok(Computed { word, ..index })
            }
            Protocol::Link => self.indexed(Offset::HEADER, index, size, word),
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
                let mut value = self.indexed(self.network_at(0), index, size, word)?;
                let is = self.protocol(proto)?;
                value.implied = self.both(value.implied, Some(is));
                Ok(value)
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
                let at = Offset::new(Base::Transport, self.network);
                let mut value = self.indexed(at, index, size, word)?;
                let is = self.protocol(proto)?;
                let first = self.first_fragment()?;
                let is = self.draft.and(is, first);
                let is = self.draft.and_after(value.implied, is);
                let ip = self.protocol(Protocol::Ip)?;
                value.implied = Some(self.draft.and(ip, is));
                Ok(value)
            }
            Protocol::Icmp6 => {
                let ip6 = self.link_type(ETHERTYPE_IPV6)?;
                let implied = self.both(index.implied, Some(ip6));
                let is = self.field(self.network_at(6), Size::B, IPPROTO_ICMPV6)?;
                let implied = self.both(implied, Some(is));
                let mut value = self.indexed(self.network_at(40), index, size, word)?;
                value.implied = implied;
                Ok(value)
            }
            _ => self.error("this protocol has no fields to index"),
        }
    }
}
