//! Helper calls that become instructions.

use super::{Builder, Instance};
use crate::jit::image::Symbol;
use crate::jit::ir::{BinOp, Cmp, Inst, Place};
use skep_abi::MapType;
use skep_isa::{Extend, JmpOp, Reg, Size, Width};

/// `bpf_map_lookup_elem`
const MAP_LOOKUP_ELEM: u32 = 1;
/// Alignment of the elements of an array.
const ELEMENT_ALIGN: u32 = 8;

impl Builder<'_> {
    /// Emits a helper call as instructions, if that is known to be the same; true if it did.
    pub(super) fn call_as_instructions(&mut self, i: &Instance, helper: Option<u32>) -> bool {
        match helper {
            Some(MAP_LOOKUP_ELEM) => self.array_lookup(i),
            _ => false,
        }
    }

    /// A lookup in an array: the address of element `*key`, or null beyond the last one.
    fn array_lookup(&mut self, i: &Instance) -> bool {
        let fact = self.src.fact(self.at).and_then(|f| f.call.as_ref());
        let Some(map) = fact.and_then(|c| c.map) else {
            return false;
        };
        let Some(desc) = self.src.maps.get(map as usize) else {
            return false;
        };
        if desc.map_type != MapType::Array || desc.key_size != 4 {
            return false;
        }
        let (entries, bytes) = (
            desc.max_entries,
            desc.value_size.next_multiple_of(ELEMENT_ALIGN),
        );
        let place = Place {
            base: self.reg(i, Reg::R2),
            offset: 0,
            may_fault: false,
            ordered: false,
        };
        let key = self.push(Inst::Load {
            size: Size::W,
            extend: Extend::Zero,
            place,
        });
        let stride = self.constant(u64::from(bytes));
        let offset = self.bin(BinOp::Mul, Width::W64, key, stride);
        let base = self.push(Inst::Symbol(Symbol::MapValue { map, offset: 0 }));
        let element = self.bin(BinOp::Add, Width::W64, base, offset);
        let entries = self.constant(u64::from(entries));
        let null = self.constant(0);
        let cmp = Cmp {
            op: JmpOp::Lt,
            width: Width::W32,
            a: key,
            b: entries,
        };
        let found = self.push(Inst::Select {
            cmp,
            then: element,
            other: null,
        });
        self.set(Reg::R0, found);
        true
    }
}
