//! Headers inside headers: `vlan`, `mpls`, `pppoes`, `geneve`. Each moves where the rest of the expression looks.

use super::link::{ETHERTYPE_MPLS, ETHERTYPE_PPPOES};
use super::{Expanded, Expander, Offset};
use crate::filter::Source;
use crate::filter::expr::{Cond, CondKind};
use crate::filter::link::LinkType;
use crate::insn::{AluOp, Ancillary, Relation, Size};
use alloc::format;

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
const GENEVE_HEADER: u32 = 8;

impl Expander<'_> {
    pub(super) fn vlan(&mut self, id: Option<u32>) -> Expanded {
        if self.labels > 0 {
            return self.error("there is no VLAN tag inside MPLS");
        }
        if id.is_some_and(|id| id > VLAN_ID_MAX) {
            return self.error("a VLAN id is at most 4095");
        }
        let cond = match self.link {
            LinkType::ETHERNET if self.target.source == Source::Live && self.vlans == 0 => {
                self.vlan_live(id)?
            }
            LinkType::ETHERNET | LinkType::IEEE802_11 | LinkType::IEEE802_11_RADIOTAP => {
                self.vlan_in_packet(id)?
            }
            link => return self.error(format!("{} has no VLAN tags", link.description())),
        };
        self.vlans += 1;
        Ok(cond)
    }

    fn any_vlan_type(&mut self) -> Expanded {
        let [first, second, third] = VLAN_TYPES;
        let (first, second) = (self.link_type(first)?, self.link_type(second)?);
        let early = self.arena.or(first, second);
        let third = self.link_type(third)?;
        Ok(self.arena.or(early, third))
    }

    fn vlan_in_packet(&mut self, id: Option<u32>) -> Expanded {
        let mut cond = self.any_vlan_type()?;
        if let Some(id) = id {
            let tag = self.masked(self.payload, Size::H, VLAN_ID_MAX, id);
            cond = self.arena.and(cond, tag);
        }
        self.payload = self.payload.plus(4);
        self.link_type = self.link_type.map(|at| at.plus(4));
        Ok(cond)
    }

    /// The kernel takes the outer tag off received packets: it is in the ancillary data, or else still in the packet.
    fn vlan_live(&mut self, id: Option<u32>) -> Expanded {
        let present = self
            .arena
            .ancillary(Size::B, Ancillary::VlanTagPresent.offset());
        let present = self.relate(Relation::Eq, present, 1);
        let shift = self.arena.var();
        let mut stripped = present;
        let mut inside = self.any_vlan_type()?;
        if let Some(id) = id {
            let tag = self.arena.ancillary(Size::H, Ancillary::VlanTag.offset());
            let tag = self.masked_value(tag, VLAN_ID_MAX, id);
            stripped = self.arena.and(stripped, tag);
            let tag = self.masked(self.payload, Size::H, VLAN_ID_MAX, id);
            inside = self.arena.and(inside, tag);
        }
        let (zero, four) = (self.arena.constant(0), self.arena.constant(4));
        let none = self.arena.cond(CondKind::Assign(shift, zero));
        let some = self.arena.cond(CondKind::Assign(shift, four));
        let stripped = self.arena.and(stripped, none);
        let absent = self.arena.not(present);
        let inside = self.arena.and(inside, some);
        let inside = self.arena.and(absent, inside);
        let base = self.arena.var_value(shift);
        let base = Some(base);
        self.payload = Offset {
            base,
            ..self.payload
        };
        self.link_type = self.link_type.map(|at| Offset { base, ..at });
        Ok(self.arena.or(stripped, inside))
    }

    pub(super) fn mpls(&mut self, label: Option<u32>) -> Expanded {
        let mut cond = if self.labels > 0 {
            // The label before is not the last one.
            let at = self.network_at(2u32.wrapping_sub(4));
            let last = self.bit(at, 1);
            self.arena.not(last)
        } else {
            match self.link {
                LinkType::ETHERNET => self.link_type(ETHERTYPE_MPLS)?,
                LinkType::PPP => self.link_type(PPP_MPLS)?,
                link => return self.error(format!("{} has no MPLS", link.description())),
            }
        };
        if let Some(label) = label {
            if label > LABEL_MAX {
                return self.error("an MPLS label is at most 1048575");
            }
            let is = self.masked(self.network_at(0), Size::W, 0xffff_f000, label << 12);
            cond = self.arena.and(cond, is);
        }
        self.network += 4;
        self.network_without_snap += 4;
        self.labels += 1;
        Ok(cond)
    }

    pub(super) fn pppoes(&mut self, session: Option<u32>) -> Expanded {
        let mut cond = self.link_type(ETHERTYPE_PPPOES)?;
        if let Some(session) = session {
            if session > SESSION_MAX {
                return self.error("a PPPoE session is at most 65535");
            }
            let is = self.masked(self.network_at(0), Size::W, 0xffff, session);
            cond = self.arena.and(cond, is);
        }
        // Six bytes of PPPoE, then two of the PPP protocol.
        let header = self.network_at(6);
        self.link = LinkType::PPP;
        self.header = header;
        self.link_type = Some(header);
        self.payload = header.plus(2);
        self.network = 0;
        self.network_without_snap = 0;
        Ok(cond)
    }

    pub(super) fn geneve(&mut self, vni: Option<u32>) -> Expanded {
        if vni.is_some_and(|vni| vni > VNI_MAX) {
            return self.error("a Geneve VNI is at most 16777215");
        }
        self.unoptimised = true;
        let outer = self.arena.var();
        let four = self.geneve_over(vni, outer, false)?;
        let six = self.geneve_over(vni, outer, true)?;
        let either = self.arena.or(four, six);
        let inner = self.enter_geneve(outer);
        Ok(self.arena.and(either, inner))
    }

    /// The outer headers; sets `outer` to the offset of the UDP header.
    fn geneve_over(&mut self, vni: Option<u32>, outer: u32, six: bool) -> Expanded {
        let udp = self.udp_to(GENEVE_PORT, six)?;
        let start = if six {
            self.network_at(40)
        } else {
            self.transport4(0)
        };
        let version = self.masked(start.plus(UDP_HEADER), Size::B, 0xc0, 0);
        let mut cond = self.arena.and(udp, version);
        if let Some(vni) = vni {
            let is = self.masked(start.plus(UDP_HEADER + 4), Size::W, 0xffff_ff00, vni << 8);
            cond = self.arena.and(cond, is);
        }
        let k = self.arena.constant(start.k);
        let value = match start.base {
            Some(base) => self.arena.bin(AluOp::Add, base, k),
            None => k,
        };
        let set = self.arena.cond(CondKind::Assign(outer, value));
        Ok(self.arena.and(cond, set))
    }

    /// Moves on to what the tunnel carries: an Ethernet frame, or a packet of the type in its header.
    fn enter_geneve(&mut self, outer: u32) -> Cond {
        let outer = self.arena.var_value(outer);
        let header = |k| Offset {
            base: Some(outer),
            k: UDP_HEADER + k,
        };
        let first = self.load(header(0), Size::B);
        let (mask, two) = (self.arena.constant(0x3f), self.arena.constant(2));
        let words = self.arena.bin(AluOp::And, first, mask);
        let options = self.arena.bin(AluOp::Lsh, words, two);
        let end = self.arena.bin(AluOp::Add, options, outer);
        let length = self.arena.constant(UDP_HEADER + GENEVE_HEADER);
        let payload = self.arena.bin(AluOp::Add, end, length);
        let kind = self.load(header(2), Size::H);
        let bridged = self.relate(Relation::Eq, kind, ETHERTYPE_TEB);
        let (link_var, type_var, payload_var) =
            (self.arena.var(), self.arena.var(), self.arena.var());
        let mut arm = |link_type: (crate::filter::expr::Value, u32), skip: u32| {
            let mut cond = self.arena.cond(CondKind::Assign(link_var, payload));
            for (var, (base, k)) in [(type_var, link_type), (payload_var, (payload, skip))] {
                let k = self.arena.constant(k);
                let value = self.arena.bin(AluOp::Add, base, k);
                let set = self.arena.cond(CondKind::Assign(var, value));
                cond = self.arena.and(cond, set);
            }
            cond
        };
        let ethernet = arm((payload, 12), 14);
        let plain = arm((outer, UDP_HEADER + 2), 0);
        let ethernet = self.arena.and(bridged, ethernet);
        let inner = self.arena.or(ethernet, plain);
        let at = |this: &mut Self, var: u32| Offset {
            base: Some(this.arena.var_value(var)),
            k: 0,
        };
        self.link = LinkType::ETHERNET;
        self.header = at(self, link_var);
        self.link_type = Some(at(self, type_var));
        self.payload = at(self, payload_var);
        self.network = 0;
        self.network_without_snap = 0;
        self.inner_ethernet = Some(bridged);
        // Both the type and the length of the options are read before anything inside.
        let touch = self.arena.cond(CondKind::Touch(first));
        self.arena.and(touch, inner)
    }
}
