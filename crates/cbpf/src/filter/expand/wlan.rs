//! IEEE 802.11: addresses whose place depends on the frame, frame types, and the way to the payload.
//!
//! In a capture with radiotap everything is after a header whose length is in its bytes 2 and 3, little-endian.

use super::{Expanded, Expander, Offset};
use crate::filter::draft::Cond;
use crate::filter::link::{LinkType, Naming};
use crate::filter::parse::{Dir, Word};
use crate::insn::Size;
use alloc::format;

/// Bits of the frame control field.
const TYPE_CONTROL: u32 = 0x04;
const TYPE_DATA: u32 = 0x08;
const TYPE_MASK: u32 = 0x0c;
const SUBTYPE_MASK: u32 = 0xf0;
const TO_DS: u32 = 0x01;
const FROM_DS: u32 = 0x02;
const DIRECTION_MASK: u32 = 0x03;

/// Offsets of the addresses.
const ADDRESS1: u32 = 4;
const ADDRESS2: u32 = 10;
const ADDRESS3: u32 = 16;
const ADDRESS4: u32 = 24;

const TYPES: &[(&str, u32)] = &[("mgt", 0x00), ("ctl", 0x04), ("data", 0x08)];

/// Subtypes by type; where a name is in several types the first is meant.
#[rustfmt::skip] // families of subtypes
const SUBTYPES: &[(u32, &[(&str, u32)])] = &[
    (0x00, &[
        ("assoc-req", 0x00), ("assocreq", 0x00), ("assoc-resp", 0x10), ("assocresp", 0x10),
        ("reassoc-req", 0x20), ("reassocreq", 0x20), ("reassoc-resp", 0x30), ("reassocresp", 0x30),
        ("probe-req", 0x40), ("probereq", 0x40), ("probe-resp", 0x50), ("proberesp", 0x50),
        ("beacon", 0x80), ("atim", 0x90), ("disassoc", 0xa0), ("disassociation", 0xa0),
        ("auth", 0xb0), ("authentication", 0xb0), ("deauth", 0xc0), ("deauthentication", 0xc0),
    ]),
    (0x04, &[
        ("ps-poll", 0xa0), ("pspoll", 0xa0), ("rts", 0xb0), ("cts", 0xc0), ("ack", 0xd0),
        ("cf-end", 0xe0), ("cfend", 0xe0), ("cf-end-ack", 0xf0), ("cfendack", 0xf0),
    ]),
    (0x08, &[
        ("data", 0x00), ("data-cf-ack", 0x10), ("data-cf-poll", 0x20), ("data-cf-ack-poll", 0x30),
        ("null", 0x40), ("cf-ack", 0x50), ("cf-poll", 0x60), ("cf-ack-poll", 0x70),
        ("qos-data", 0x80), ("qos-data-cf-ack", 0x90), ("qos-data-cf-poll", 0xa0), ("qos-data-cf-ack-poll", 0xb0),
        ("qos", 0xc0), ("qos-cf-poll", 0xe0), ("qos-cf-ack-poll", 0xf0),
    ]),
];

const DIRECTIONS: &[(&str, u32)] = &[("nods", 0), ("tods", 1), ("fromds", 2), ("dstods", 3)];

impl Expander<'_> {
    fn control_bit(&mut self, byte: u32, mask: u32) -> Expanded {
        self.bit(Offset::HEADER.plus(byte), mask)
    }

    fn control_not(&mut self, byte: u32, mask: u32) -> Expanded {
        let cond = self.control_bit(byte, mask);
        self.fails(cond)
    }

    /// A data frame: its type is data, not reserved.
    pub(super) fn wlan_data_frame(&mut self) -> Expanded {
        let other = self.control_not(0, TYPE_CONTROL)?;
        let data = self.control_bit(0, TYPE_DATA)?;
        Ok(self.draft.and(other, data))
    }

    fn is_address(&mut self, offset: u32, mac: [u8; 6]) -> Expanded {
        self.bytes(Offset::HEADER.plus(offset), &mac)
    }

    /// A MAC address in the role that `dir` says.
    pub(super) fn wlan_address(&mut self, mac: [u8; 6], dir: Dir) -> Expanded {
        match dir {
            Dir::Src => self.wlan_source(mac),
            Dir::Dst => self.wlan_destination(mac),
            Dir::SrcAndDst => {
                let (src, dst) = (self.wlan_source(mac)?, self.wlan_destination(mac)?);
                Ok(self.draft.and(src, dst))
            }
            Dir::Default | Dir::SrcOrDst => {
                let (src, dst) = (self.wlan_source(mac)?, self.wlan_destination(mac)?);
                Ok(self.draft.or(src, dst))
            }
            Dir::Addr1 => self.is_address(ADDRESS1, mac),
            Dir::Ra => {
                let data = self.control_bit(0, TYPE_DATA)?;
                let address = self.is_address(ADDRESS1, mac)?;
                Ok(self.draft.and(data, address))
            }
            Dir::Addr2 => {
                let present = self.has_second_address()?;
                let address = self.is_address(ADDRESS2, mac)?;
                Ok(self.draft.and(present, address))
            }
            Dir::Ta => {
                let data = self.control_bit(0, TYPE_DATA)?;
                let present = self.has_second_address()?;
                let address = self.is_address(ADDRESS2, mac)?;
                Ok(self.all(data, &[present, address]))
            }
            Dir::Addr3 => {
                let control = self.masked(Offset::HEADER, Size::B, TYPE_MASK, TYPE_CONTROL)?;
                let other = self.draft.not(control);
                let address = self.is_address(ADDRESS3, mac)?;
                Ok(self.draft.and(other, address))
            }
            Dir::Addr4 => {
                let both = self.masked(
                    Offset::HEADER.plus(1),
                    Size::B,
                    DIRECTION_MASK,
                    DIRECTION_MASK,
                )?;
                let address = self.is_address(ADDRESS4, mac)?;
                Ok(self.draft.and(both, address))
            }
        }
    }

    /// No control frame without a second address: clear to send, acknowledgement.
    fn has_second_address(&mut self) -> Expanded {
        let control = self.masked(Offset::HEADER, Size::B, TYPE_MASK, TYPE_CONTROL)?;
        let clear = self.masked(Offset::HEADER, Size::B, SUBTYPE_MASK, 0xc0)?;
        let acknowledged = self.masked(Offset::HEADER, Size::B, SUBTYPE_MASK, 0xd0)?;
        let short = self.draft.or(clear, acknowledged);
        let short = self.draft.and(control, short);
        Ok(self.draft.not(short))
    }

    fn wlan_source(&mut self, mac: [u8; 6]) -> Expanded {
        let management = {
            let is = self.control_not(0, TYPE_DATA)?;
            let address = self.is_address(ADDRESS2, mac)?;
            self.draft.and(is, address)
        };
        let direct = {
            let is = self.control_not(1, FROM_DS)?;
            let address = self.is_address(ADDRESS2, mac)?;
            self.draft.and(is, address)
        };
        let distributed = {
            let relayed = self.control_bit(1, FROM_DS)?;
            let single = self.control_not(1, TO_DS)?;
            let third = self.is_address(ADDRESS3, mac)?;
            let third = self.draft.and(single, third);
            let double = self.control_bit(1, TO_DS)?;
            let fourth = self.is_address(ADDRESS4, mac)?;
            let fourth = self.draft.and(double, fourth);
            let either = self.draft.or(third, fourth);
            self.draft.and(relayed, either)
        };
        self.wlan_role(management, direct, distributed)
    }

    pub(super) fn wlan_destination(&mut self, mac: [u8; 6]) -> Expanded {
        let management = {
            let is = self.control_not(0, TYPE_DATA)?;
            let address = self.is_address(ADDRESS1, mac)?;
            self.draft.and(is, address)
        };
        let direct = {
            let is = self.control_not(1, TO_DS)?;
            let address = self.is_address(ADDRESS1, mac)?;
            self.draft.and(is, address)
        };
        let distributed = {
            let is = self.control_bit(1, TO_DS)?;
            let address = self.is_address(ADDRESS3, mac)?;
            self.draft.and(is, address)
        };
        self.wlan_role(management, direct, distributed)
    }

    /// The address of a role, by kind of frame; control frames have none.
    fn wlan_role(&mut self, management: Cond, direct: Cond, distributed: Cond) -> Expanded {
        let not_control = self.control_not(0, TYPE_CONTROL)?;
        let data = self.control_bit(0, TYPE_DATA)?;
        let address = self.draft.or(direct, distributed);
        let data = self.draft.and(data, address);
        let either = self.draft.or(management, data);
        Ok(self.draft.and(not_control, either))
    }

    pub(super) fn wlan_multicast(&mut self) -> Expanded {
        let group = |this: &mut Self, offset: u32| this.bit(Offset::HEADER.plus(offset), 1);
        let management = {
            let is = self.control_not(0, TYPE_DATA)?;
            let group = group(self, ADDRESS1)?;
            self.draft.and(is, group)
        };
        let direct = {
            let is = self.control_not(1, TO_DS)?;
            let group = group(self, ADDRESS1)?;
            self.draft.and(is, group)
        };
        let distributed = {
            let is = self.control_bit(1, TO_DS)?;
            let group = group(self, ADDRESS3)?;
            self.draft.and(is, group)
        };
        self.wlan_role(management, direct, distributed)
    }

    fn wlan_only(&self) -> Result<(), crate::filter::FilterError> {
        match self.layer.naming {
            Naming::Wlan if self.layer.link != LinkType::PPI => Ok(()),
            _ => self.error("frame types and directions exist on 802.11 only"),
        }
    }

    fn control_masked(&mut self, byte: u32, mask: u32, value: u32) -> Expanded {
        self.masked(Offset::HEADER.plus(byte), Size::B, mask, value)
    }

    pub(super) fn wlan_type(&mut self, kind: Word<'_>, subtype: Option<Word<'_>>) -> Expanded {
        let number = match kind {
            Word::Number(n) if n & !TYPE_MASK != 0 => {
                return self.error("a frame type by number has no bits outside 0x0c");
            }
            Word::Number(n) => n,
            Word::Name(name) => match TYPES.iter().find(|(n, _)| *n == name) {
                Some((_, n)) => *n,
                None => return self.error("a frame type is mgt, ctl or data"),
            },
        };
        let (mask, value) = match subtype {
            None => (TYPE_MASK, number),
            Some(Word::Number(n)) if n & !SUBTYPE_MASK != 0 => {
                return self.error("a frame subtype by number has no bits outside 0xf0");
            }
            Some(Word::Number(n)) => (TYPE_MASK | SUBTYPE_MASK, number | n),
            Some(Word::Name(name)) => {
                let of_type = SUBTYPES.iter().find(|(t, _)| *t == number);
                let row = of_type.and_then(|(_, rows)| rows.iter().find(|(n, _)| *n == name));
                match row {
                    Some((_, n)) => (TYPE_MASK | SUBTYPE_MASK, number | n),
                    None => {
                        return self.error(format!("{name:?} is no subtype of this frame type"));
                    }
                }
            }
        };
        self.wlan_only()?;
        self.control_masked(0, mask, value)
    }

    pub(super) fn wlan_subtype(&mut self, name: &str) -> Expanded {
        let found = SUBTYPES.iter().find_map(|(kind, rows)| {
            let row = rows.iter().find(|(n, _)| *n == name)?;
            Some(kind | row.1)
        });
        let Some(value) = found else {
            return self.error(format!("{name:?} is no frame subtype"));
        };
        self.wlan_only()?;
        self.control_masked(0, TYPE_MASK | SUBTYPE_MASK, value)
    }

    pub(super) fn wlan_dir(&mut self, dir: Word<'_>) -> Expanded {
        let number = match dir {
            Word::Number(n) => n,
            Word::Name(name) => match DIRECTIONS.iter().find(|(n, _)| *n == name) {
                Some((_, n)) => *n,
                None => return self.error("a frame direction is nods, tods, fromds or dstods"),
            },
        };
        self.wlan_only()?;
        self.control_masked(1, DIRECTION_MASK, number)
    }
}
