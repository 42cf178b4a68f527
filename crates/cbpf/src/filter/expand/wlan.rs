//! IEEE 802.11: addresses whose place depends on the frame, frame types, and the way to the payload.
//!
//! In a capture with radiotap everything is after a header whose length is in its bytes 2 and 3, little-endian.

use super::{Expanded, Expander, Offset};
use crate::filter::expr::Cond;
use crate::filter::link::LinkType;
use crate::filter::parse::{Dir, Word};
use crate::insn::{AluOp, Relation, Size};
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
    pub(super) fn set_up_wlan(&mut self) {
        self.network = 8;
        self.network_without_snap = 3;
        if self.link == LinkType::IEEE802_11_RADIOTAP {
            let (low, high) = (
                self.load(Offset::at(2), Size::B),
                self.load(Offset::at(3), Size::B),
            );
            let eight = self.arena.constant(8);
            let high = self.arena.bin(AluOp::Lsh, high, eight);
            let base = self.arena.bin(AluOp::Or, high, low);
            self.header = Offset {
                base: Some(base),
                k: 0,
            };
            self.payload = Offset {
                base: Some(self.arena.radiotap_payload(base)),
                k: 0,
            };
        } else {
            // 24 bytes, and two more for quality of service, which a bit of the subtype tells.
            let control = self.load(Offset::at(0), Size::B);
            let (six, two) = (self.arena.constant(6), self.arena.constant(2));
            let shifted = self.arena.bin(AluOp::Rsh, control, six);
            let extra = self.arena.bin(AluOp::And, shifted, two);
            self.payload = Offset {
                base: Some(extra),
                k: 24,
            };
        }
    }

    /// Notes that the link header is read: its place is computed before all else.
    pub(super) fn header_loads(&mut self) {
        if let (None, LinkType::IEEE802_11_RADIOTAP) = (self.prologue, self.target.link) {
            self.prologue = self.header.base;
        }
    }

    /// Notes that the payload is read: its place is computed before all else.
    pub(super) fn wlan_payload_loads(&mut self) {
        let wlan = [LinkType::IEEE802_11, LinkType::IEEE802_11_RADIOTAP];
        if wlan.contains(&self.link) {
            self.prologue = Some(self.load(self.header, Size::B));
        }
    }

    fn control_bit(&mut self, byte: u32, mask: u32) -> Cond {
        self.header_loads();
        self.bit(self.header.plus(byte), mask)
    }

    fn control_not(&mut self, byte: u32, mask: u32) -> Cond {
        let cond = self.control_bit(byte, mask);
        self.arena.not(cond)
    }

    /// A data frame: its type is data, not reserved.
    pub(super) fn wlan_data_frame(&mut self) -> Cond {
        let other = self.control_not(0, TYPE_CONTROL);
        let data = self.control_bit(0, TYPE_DATA);
        self.arena.and(other, data)
    }

    fn all(&mut self, conds: &[Cond]) -> Cond {
        let truth = self.arena.truth(true);
        conds.iter().fold(truth, |a, b| self.arena.and(a, *b))
    }

    fn is_address(&mut self, offset: u32, mac: [u8; 6]) -> Cond {
        self.bytes(self.header.plus(offset), &mac)
    }

    /// A MAC address in the role that `dir` says.
    pub(super) fn wlan_address(&mut self, mac: [u8; 6], dir: Dir) -> Cond {
        self.header_loads();
        match dir {
            Dir::Src => self.wlan_source(mac),
            Dir::Dst => self.wlan_destination(mac),
            Dir::SrcAndDst => {
                let (src, dst) = (self.wlan_source(mac), self.wlan_destination(mac));
                self.arena.and(src, dst)
            }
            Dir::Default | Dir::SrcOrDst => {
                let (src, dst) = (self.wlan_source(mac), self.wlan_destination(mac));
                self.arena.or(src, dst)
            }
            Dir::Addr1 => self.is_address(ADDRESS1, mac),
            Dir::Ra => {
                let data = self.control_bit(0, TYPE_DATA);
                let address = self.is_address(ADDRESS1, mac);
                self.arena.and(data, address)
            }
            Dir::Addr2 => {
                let present = self.has_second_address();
                let address = self.is_address(ADDRESS2, mac);
                self.arena.and(present, address)
            }
            Dir::Ta => {
                let data = self.control_bit(0, TYPE_DATA);
                let present = self.has_second_address();
                let address = self.is_address(ADDRESS2, mac);
                self.all(&[data, present, address])
            }
            Dir::Addr3 => {
                let control = self.masked(self.header, Size::B, TYPE_MASK, TYPE_CONTROL);
                let other = self.arena.not(control);
                let address = self.is_address(ADDRESS3, mac);
                self.arena.and(other, address)
            }
            Dir::Addr4 => {
                let both =
                    self.masked(self.header.plus(1), Size::B, DIRECTION_MASK, DIRECTION_MASK);
                let address = self.is_address(ADDRESS4, mac);
                self.arena.and(both, address)
            }
        }
    }

    /// No control frame without a second address: clear to send, acknowledgement.
    fn has_second_address(&mut self) -> Cond {
        let control = self.masked(self.header, Size::B, TYPE_MASK, TYPE_CONTROL);
        let clear = self.masked(self.header, Size::B, SUBTYPE_MASK, 0xc0);
        let acknowledged = self.masked(self.header, Size::B, SUBTYPE_MASK, 0xd0);
        let short = self.arena.or(clear, acknowledged);
        let short = self.arena.and(control, short);
        self.arena.not(short)
    }

    fn wlan_source(&mut self, mac: [u8; 6]) -> Cond {
        let management = {
            let is = self.control_not(0, TYPE_DATA);
            let address = self.is_address(ADDRESS2, mac);
            self.arena.and(is, address)
        };
        let direct = {
            let is = self.control_not(1, FROM_DS);
            let address = self.is_address(ADDRESS2, mac);
            self.arena.and(is, address)
        };
        let distributed = {
            let relayed = self.control_bit(1, FROM_DS);
            let single = self.control_not(1, TO_DS);
            let third = self.is_address(ADDRESS3, mac);
            let third = self.arena.and(single, third);
            let double = self.control_bit(1, TO_DS);
            let fourth = self.is_address(ADDRESS4, mac);
            let fourth = self.arena.and(double, fourth);
            let either = self.arena.or(third, fourth);
            self.arena.and(relayed, either)
        };
        self.wlan_role(management, direct, distributed)
    }

    pub(super) fn wlan_destination(&mut self, mac: [u8; 6]) -> Cond {
        let management = {
            let is = self.control_not(0, TYPE_DATA);
            let address = self.is_address(ADDRESS1, mac);
            self.arena.and(is, address)
        };
        let direct = {
            let is = self.control_not(1, TO_DS);
            let address = self.is_address(ADDRESS1, mac);
            self.arena.and(is, address)
        };
        let distributed = {
            let is = self.control_bit(1, TO_DS);
            let address = self.is_address(ADDRESS3, mac);
            self.arena.and(is, address)
        };
        self.wlan_role(management, direct, distributed)
    }

    /// The address of a role, by kind of frame; control frames have none.
    fn wlan_role(&mut self, management: Cond, direct: Cond, distributed: Cond) -> Cond {
        let not_control = self.control_not(0, TYPE_CONTROL);
        let data = self.control_bit(0, TYPE_DATA);
        let address = self.arena.or(direct, distributed);
        let data = self.arena.and(data, address);
        let either = self.arena.or(management, data);
        self.arena.and(not_control, either)
    }

    pub(super) fn wlan_multicast(&mut self) -> Cond {
        let group = |this: &mut Self, offset: u32| this.bit(this.header.plus(offset), 1);
        let management = {
            let is = self.control_not(0, TYPE_DATA);
            let group = group(self, ADDRESS1);
            self.arena.and(is, group)
        };
        let direct = {
            let is = self.control_not(1, TO_DS);
            let group = group(self, ADDRESS1);
            self.arena.and(is, group)
        };
        let distributed = {
            let is = self.control_bit(1, TO_DS);
            let group = group(self, ADDRESS3);
            self.arena.and(is, group)
        };
        self.wlan_role(management, direct, distributed)
    }

    fn wlan_only(&self) -> Result<(), crate::filter::FilterError> {
        match self.link {
            LinkType::IEEE802_11 | LinkType::IEEE802_11_RADIOTAP => Ok(()),
            _ => self.error("frame types and directions exist on 802.11 only"),
        }
    }

    fn control_masked(&mut self, byte: u32, mask: u32, value: u32) -> Cond {
        self.header_loads();
        self.masked(self.header.plus(byte), Size::B, mask, value)
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
        Ok(self.control_masked(0, mask, value))
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
        Ok(self.control_masked(0, TYPE_MASK | SUBTYPE_MASK, value))
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
        let value = self.load(self.header.plus(1), Size::B);
        self.header_loads();
        let mask = self.arena.constant(DIRECTION_MASK);
        let value = self.arena.bin(AluOp::And, value, mask);
        Ok(self.relate(Relation::Eq, value, number))
    }
}
