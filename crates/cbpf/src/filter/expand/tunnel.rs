//! Headers inside headers: `vlan`, `mpls`, `pppoes`, `geneve`. Each moves where the rest of the expression looks.

use super::link::{ETHERTYPE_MPLS, ETHERTYPE_PPPOES};
use super::{Base, Expanded, Expander, Offset, Place, Short};
use crate::filter::Source;
use crate::filter::draft::{Cond, code};
use crate::filter::link::{LinkType, Naming};
use crate::insn::{AluOp, Ancillary, Insn, Relation, Size};
use alloc::format;
use skep_isa::opcode::{STX, X};

/// Ethernet types of VLAN tags.
const VLAN_TYPES: [u32; 3] = [0x8100, 0x88a8, 0x9100];
const VLAN_ID_MAX: u32 = 0x0fff;
const LABEL_MAX: u32 = 0xf_ffff;
const SESSION_MAX: u32 = 0xffff;
const VNI_MAX: u32 = 0xff_ffff;

const PPP_MPLS: u32 = 0x0281;
/// UDP port of Geneve.
const GENEVE_PORT: u32 = 6081;
/// Ethernet type of bridged Ethernet inside Geneve.
const ETHERTYPE_TEB: u32 = 0x6558;
const UDP_HEADER: u32 = 8;
const IPV6_HEADER: u32 = 40;
const PPPOE_HEADER: u32 = 6;
const GENEVE_HEADER: u32 = 8;

impl Expander<'_> {
    pub(super) fn vlan(&mut self, id: Option<u32>) -> Expanded {
        if self.labels > 0 {
            return self.error("there is no VLAN tag inside MPLS");
        }
        if id.is_some_and(|id| id > VLAN_ID_MAX) {
            return self.error("a VLAN id is at most 4095");
        }
        let link = self.layer.link;
        let cond = match self.layer.naming {
            Naming::Ethernet if self.target.source == Source::Live && self.vlans == 0 => {
                self.vlan_live(id)?
            }
            Naming::Ethernet | Naming::Wlan if link != LinkType::PPI => self.vlan_in_packet(id)?,
            _ => return self.error(format!("{} has no VLAN tags", link.description())),
        };
        self.vlans += 1;
        Ok(cond)
    }

    fn any_vlan_type(&mut self) -> Expanded {
        let [first, second, third] = VLAN_TYPES;
        let (first, second) = (self.link_type(first)?, self.link_type(second)?);
        let early = self.draft.or(first, second);
        let third = self.link_type(third)?;
        Ok(self.draft.or(early, third))
    }

    fn vlan_in_packet(&mut self, id: Option<u32>) -> Expanded {
        let mut cond = self.any_vlan_type()?;
        if let Some(id) = id {
            let tag = self.masked(self.network_at(0), Size::H, VLAN_ID_MAX, id)?;
            cond = self.draft.and(cond, tag);
        }
        self.payload.k = self.payload.k.wrapping_add(4);
        self.type_at.k = self.type_at.k.wrapping_add(4);
        Ok(cond)
    }

    /// The kernel takes the outer tag off received packets: it is in the ancillary data, or else still in the packet.
    fn vlan_live(&mut self, id: Option<u32>) -> Expanded {
        self.leave_as_is();
        let word = self.take_word()?;
        let present = self.ancillary_is(Ancillary::VlanTagPresent, u32::MAX, 1);
        let mut stripped = present;
        if let Some(id) = id {
            let tag = self.ancillary_is(Ancillary::VlanTag, VLAN_ID_MAX, id);
            stripped = self.draft.and(stripped, tag);
        }
        let none = self.sets(word, 0);
        let stripped = self.draft.and(stripped, none);
        let present = self.ancillary_is(Ancillary::VlanTagPresent, u32::MAX, 1);
        let absent = self.draft.not(present);
        let mut inside = self.any_vlan_type()?;
        if let Some(id) = id {
            let tag = self.masked(self.network_at(0), Size::H, VLAN_ID_MAX, id)?;
            inside = self.draft.and(inside, tag);
        }
        let some = self.sets(word, 4);
        let inside = self.draft.and(inside, some);
        let inside = self.draft.and(absent, inside);
        self.payload = Place::variable(Some(word), self.payload.k);
        self.type_at = Place::variable(Some(word), self.type_at.k);
        Ok(self.draft.or(stripped, inside))
    }

    fn ancillary_is(&mut self, datum: Ancillary, mask: u32, k: u32) -> Cond {
        self.draft.extend(&[code::load(Size::B, datum.offset())]);
        if mask != u32::MAX {
            self.draft.extend(&[code::alu(AluOp::And, mask)]);
        }
        self.draft.compare(Relation::Eq, k)
    }

    /// Sets a word; always holds.
    fn sets(&mut self, word: u32, k: u32) -> Cond {
        self.draft.extend(&[code::constant(k), code::store(word)]);
        self.draft.compare(Relation::Eq, k)
    }

    pub(super) fn mpls(&mut self, label: Option<u32>) -> Expanded {
        let mut cond = if self.labels > 0 {
            // The label before is not the last one.
            let at = self.network_at(2u32.wrapping_sub(4));
            self.masked(at, Size::B, 1, 0)?
        } else {
            let link = self.layer.link;
            match self.layer.naming {
                Naming::Ethernet | Naming::CiscoHdlc => self.link_type(ETHERTYPE_MPLS)?,
                Naming::Ppp if link == LinkType::PPP => self.link_type(PPP_MPLS)?,
                _ => return self.error(format!("{} has no MPLS", link.description())),
            }
        };
        if let Some(label) = label {
            if label > LABEL_MAX {
                return self.error("an MPLS label is at most 1048575");
            }
            let is = self.masked(self.network_at(0), Size::W, 0xffff_f000, label << 12)?;
            cond = self.draft.and(cond, is);
        }
        self.network = self.network.wrapping_add(4);
        self.network_without_snap = self.network_without_snap.wrapping_add(4);
        self.labels += 1;
        Ok(cond)
    }

    pub(super) fn pppoes(&mut self, session: Option<u32>) -> Expanded {
        let mut cond = self.link_type(ETHERTYPE_PPPOES)?;
        if let Some(session) = session {
            if session > SESSION_MAX {
                return self.error("a PPPoE session is at most 65535");
            }
            let is = self.masked(self.network_at(0), Size::W, 0xffff, session)?;
            cond = self.draft.and(cond, is);
        }
        // Six bytes of PPPoE, then two of the PPP protocol.
        let header = Place {
            k: self
                .payload
                .k
                .wrapping_add(self.network)
                .wrapping_add(PPPOE_HEADER),
            ..self.payload
        };
        self.enter(LinkType::PPP);
        self.header = header;
        self.type_at = header;
        self.payload.k = header.k.wrapping_add(2);
        self.network = 0;
        self.network_without_snap = 0;
        Ok(cond)
    }

    /// The rest of the expression is about a link layer inside another.
    pub(super) fn enter(&mut self, link: LinkType) {
        if let Some(layer) = link.layer() {
            self.layer = layer;
        }
    }

    pub(super) fn geneve(&mut self, vni: Option<u32>) -> Expanded {
        if vni.is_some_and(|vni| vni > VNI_MAX) {
            return self.error("a Geneve VNI is at most 16777215");
        }
        self.leave_as_is();
        let four = self.geneve_over(vni, false)?;
        let six = self.geneve_over(vni, true)?;
        let either = self.draft.or(four, six);
        let inner = self.enter_geneve()?;
        Ok(self.draft.and(either, inner))
    }

    /// The outer headers; leaves the offset of the UDP header in A and X.
    fn geneve_over(&mut self, vni: Option<u32>, six: bool) -> Expanded {
        let udp = self.udp_to(GENEVE_PORT, six)?;
        let start = if six {
            self.network_at(IPV6_HEADER)
        } else {
            Offset::new(Base::Transport, self.network)
        };
        let version = self.masked(start.plus(UDP_HEADER), Size::B, 0xc0, 0)?;
        let mut cond = self.draft.and(udp, version);
        if let Some(vni) = vni {
            let at = start.plus(UDP_HEADER + 4);
            let is = self.masked(at, Size::W, 0xffff_ff00, vni << 8)?;
            cond = self.draft.and(cond, is);
        }
        let insns = if six {
            match self.word_of(Base::Payload)? {
                None => Short::new(&[code::constant(IPV6_HEADER), code::tax()]),
                Some(word) => Short::new(&[
                    code::x_word(word),
                    code::constant(IPV6_HEADER),
                    code::alu_x(AluOp::Add),
                    code::tax(),
                ]),
            }
        } else {
            self.transport_to_x()?
        };
        self.draft.extend(&insns);
        if !six {
            self.draft.extend(&[code::txa()]);
        }
        let outer = self.draft.end(Relation::Eq.code() | X, 0);
        Ok(self.draft.and(cond, outer))
    }

    /// Moves on to what the tunnel carries: an Ethernet frame, or a packet of the type in its header.
    fn enter_geneve(&mut self) -> Expanded {
        let start = self.payload.k.wrapping_add(self.network);
        let start = start.wrapping_add(UDP_HEADER);
        let link_type = self.take_word()?;
        let header = self.take_word()?;
        let payload = self.take_word()?;
        self.draft.extend(&[
            code::alu(AluOp::Add, start),
            code::tax(),
            code::alu(AluOp::Add, 2),
            code::store(link_type),
            code::load_at_x(Size::B, 0),
            code::alu(AluOp::And, 0x3f),
            code::alu(AluOp::Mul, 4),
            code::alu(AluOp::Add, GENEVE_HEADER),
            code::alu_x(AluOp::Add),
            code::store(header),
            code::load_at_x(Size::H, 2),
            code::x_word(header),
            code::jump(Relation::Eq, ETHERTYPE_TEB, 0, 5),
            code::txa(),
            code::alu(AluOp::Add, 12),
            code::store(link_type),
            code::alu(AluOp::Add, 2),
            code::tax(),
            Insn::new(STX, payload),
            code::constant(0),
        ]);
        let entered = self.draft.compare(Relation::Eq, 0);
        self.enter(LinkType::ETHERNET);
        self.header = Place::variable(Some(header), 0);
        self.type_at = Place::variable(Some(link_type), 0);
        self.payload = Place::variable(Some(payload), 0);
        self.network = 0;
        self.network_without_snap = 0;
        self.tunnelled = true;
        Ok(entered)
    }
}
