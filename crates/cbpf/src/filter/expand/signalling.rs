//! Cells of ATM, and signal units of MTP2 with the MTP3 messages in them.

use super::{Expanded, Expander, Offset, Place};
use crate::filter::draft::{Cond, code};
use crate::filter::lexer::{Atm, AtmField, Mtp, MtpField, Speed};
use crate::filter::link::LinkType;
use crate::filter::parse::Values;
use crate::insn::{AluOp, Relation, Size};
use alloc::format;
use alloc::vec::Vec;

/// Message types of a Q.2931 connection, in the order they are asked for; the third is not in meta signalling.
const CONNECT_MESSAGES: [u32; 6] = [0x5a, 0x4d, 0x0f, 0x07, 0x05, 0x02];
/// What SunATM puts before a packet.
const SUN_HEADER: u32 = 4;
/// Where a signalling message has its type.
const MESSAGE_TYPE: u32 = SUN_HEADER + 5;

const META: u32 = 1;
const BROADCAST: u32 = 2;
const OAM_SEGMENT: u32 = 3;
const OAM_END: u32 = 4;
const SIGNALLING: u32 = 5;
const ILMI: u32 = 16;

/// A field of a message: its place, on fast links too, its size and mask, its greatest value, and how it is written.
struct Field {
    offset: u32,
    size: Size,
    mask: u32,
    max: u32,
    written: fn(u32) -> u32,
}

/// The point codes of an MTP3 message lie across its bytes.
#[rustfmt::skip] // one field per line
fn mtp_layout(field: MtpField) -> Field {
    match field {
        MtpField::Sio => Field { offset: 3, size: Size::B, mask: u32::MAX,    max: 255,    written: |v| v },
        MtpField::Opc => Field { offset: 4, size: Size::W, mask: 0x00c0_ff0f, max: 16_383, written: |v| (v & 0x3c00) >> 10 | (v & 0x3fc) << 6 | (v & 3) << 22 },
        MtpField::Dpc => Field { offset: 4, size: Size::W, mask: 0xff3f_0000, max: 16_383, written: |v| (v & 0xff) << 24 | (v & 0x3f00) << 8 },
        MtpField::Sls => Field { offset: 7, size: Size::B, mask: 0xf0,        max: 15,     written: |v| v << 4 },
    }
}

impl Expander<'_> {
    /// A masked field compared with each of some values, of which one must hold.
    fn any_value(
        &mut self,
        at: Offset,
        size: Size,
        mask: u32,
        values: &Values,
        written: fn(u32) -> u32,
    ) -> Expanded {
        let mut whole: Option<Cond> = None;
        for number in &values.numbers {
            self.load(at, size)?;
            if mask != u32::MAX {
                self.draft.extend(&[code::alu(AluOp::And, mask)]);
            }
            let relation = values.comparison.relation;
            let mut cond = self.draft.compare(relation, written(*number));
            // As in libpcap, "!=" means "=" here.
            if values.comparison.negated && relation != Relation::Eq {
                cond = self.draft.not(cond);
            }
            whole = Some(self.draft.or_after(whole, cond));
        }
        Ok(whole.unwrap_or_else(|| self.draft.truth(false)))
    }

    fn atm_only(&self) -> Result<(), crate::filter::FilterError> {
        match self.target.link {
            LinkType::SUNATM => Ok(()),
            _ => self.error("this is supported only for raw ATM"),
        }
    }

    pub(super) fn atm_field(&mut self, field: AtmField, values: &Values) -> Expanded {
        self.atm_only()?;
        let (offset, size) = match field {
            AtmField::Vpi => (1, Size::B),
            AtmField::Vci => (2, Size::H),
        };
        self.any_value(Offset::HEADER.plus(offset), size, u32::MAX, values, |v| v)
    }

    pub(super) fn atm(&mut self, kind: Atm) -> Expanded {
        self.atm_only()?;
        match kind {
            Atm::Lane => self.lane(),
            Atm::Oam => self.channel(&[OAM_SEGMENT, OAM_END]),
            Atm::OamEnd => self.channel(&[OAM_END]),
            Atm::OamSegment => self.channel(&[OAM_SEGMENT]),
            Atm::Meta => self.channel(&[META]),
            Atm::Broadcast => self.channel(&[BROADCAST]),
            Atm::Signalling => self.channel(&[SIGNALLING]),
            Atm::Ilmi => self.channel(&[ILMI]),
            Atm::Connect => self.connects(SIGNALLING, &CONNECT_MESSAGES),
            Atm::MetaConnect => {
                let [first, second, _, rest @ ..] = CONNECT_MESSAGES;
                let messages: Vec<u32> = [first, second].into_iter().chain(rest).collect();
                self.connects(META, &messages)
            }
        }
    }

    /// One of these channels of the path 0.
    fn channel(&mut self, channels: &[u32]) -> Expanded {
        let path = self.field(Offset::HEADER.plus(1), Size::B, 0)?;
        let mut any: Option<Cond> = None;
        for channel in channels {
            let is = self.field(Offset::HEADER.plus(2), Size::H, *channel)?;
            any = Some(self.draft.or_after(any, is));
        }
        Ok(match any {
            Some(any) => self.draft.and(path, any),
            None => path,
        })
    }

    fn connects(&mut self, channel: u32, messages: &[u32]) -> Expanded {
        let channel = self.channel(&[channel])?;
        let mut any: Option<Cond> = None;
        for message in messages.iter().rev() {
            let at = Offset::HEADER.plus(MESSAGE_TYPE);
            let is = self.field(at, Size::B, *message)?;
            any = Some(match any {
                Some(later) => self.draft.or(is, later),
                None => is,
            });
        }
        Ok(match any {
            Some(any) => self.draft.and(channel, any),
            None => channel,
        })
    }

    /// LAN emulation: from here on the expression is about the Ethernet frame in the cell.
    fn lane(&mut self) -> Expanded {
        /// Protocol of LAN emulation.
        const PT_LANE: u32 = 1;
        /// After SunATM's header and the identifier of the client; then the parts of an Ethernet header.
        const HEADER: u32 = SUN_HEADER + 2;
        const TYPE: u32 = HEADER + 12;
        const PAYLOAD: u32 = HEADER + 14;
        let is = self.masked(Offset::HEADER, Size::B, 0x0f, PT_LANE)?;
        // Of a frame inside another, libpcap does not ask whether it is one.
        self.emulated = (self.layer.link == LinkType::SUNATM).then_some(SUN_HEADER);
        self.enter(LinkType::ETHERNET);
        self.header = Place::fixed(HEADER);
        self.type_at = Place::fixed(TYPE);
        self.payload = Place::fixed(PAYLOAD);
        self.network = self.layer.network;
        self.network_without_snap = self.layer.without_snap;
        Ok(is)
    }

    /// How far the fields of an MTP2 link are from the start of the packet.
    fn mtp_start(&self) -> Result<u32, crate::filter::FilterError> {
        match self.layer.link {
            LinkType::MTP2 => Ok(0),
            LinkType::MTP2_WITH_PHDR => Ok(4),
            _ => self.error("this is supported only for MTP2"),
        }
    }

    pub(super) fn mtp(&mut self, kind: Mtp, speed: Speed) -> Expanded {
        let start = self.mtp_start()?;
        // The length indicator tells the kinds apart: 0, 1 or 2, more.
        let (offset, size, mask, few) = match speed {
            Speed::Low => (2, Size::B, 0x3f, 2),
            Speed::High => (4, Size::H, 0xff80, 0x100),
        };
        let mut compare = |relation: Relation, k: u32| -> Expanded {
            self.load(Offset::HEADER.plus(start + offset), size)?;
            self.draft.extend(&[code::alu(AluOp::And, mask)]);
            Ok(self.draft.compare(relation, k))
        };
        match kind {
            Mtp::Fisu => compare(Relation::Eq, 0),
            Mtp::Msu => compare(Relation::Gt, few),
            Mtp::Lssu => {
                let some = compare(Relation::Gt, 0)?;
                let many = compare(Relation::Gt, few)?;
                let not_many = self.draft.not(many);
                Ok(self.draft.and(some, not_many))
            }
        }
    }

    pub(super) fn mtp_field(&mut self, field: MtpField, speed: Speed, values: &Values) -> Expanded {
        let start = self.mtp_start()?;
        let row = mtp_layout(field);
        if let Some(number) = values.numbers.iter().find(|n| **n > row.max) {
            let max = row.max;
            return self.error(format!("{number} is too large: at most {max}"));
        }
        let fast = match speed {
            Speed::Low => 0,
            Speed::High => 3,
        };
        let at = Offset::HEADER.plus(start + row.offset + fast);
        self.any_value(at, row.size, row.mask, values, row.written)
    }
}
