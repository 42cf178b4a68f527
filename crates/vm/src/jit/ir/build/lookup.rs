//! Helper calls that become instructions, or calls of code that is made for the map.

use super::{Builder, Instance, LOW};
use crate::jit::image::{MapOp, Runtime, Symbol};
use crate::jit::ir::{BinOp, Cmp, Inst, Place, Target, Value};
use crate::jit::layout::{ENV_PID_TGID, ENV_RUNNER};
use skep_abi::MapType;
use skep_isa::{Extend, JmpOp, Reg, Size, Width};
use skep_verifier::{Caps, MapDesc};

// Numbers of helpers.
const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const KTIME_GET_NS: u32 = 5;
const GET_SMP_PROCESSOR_ID: u32 = 8;
const GET_CURRENT_PID_TGID: u32 = 14;
const GET_NUMA_NODE_ID: u32 = 42;
/// Alignment of the elements of an array.
const ELEMENT_ALIGN: u32 = 8;

impl Builder<'_> {
    /// Emits a helper call as instructions, if that is known to be the same; true if it did.
    pub(super) fn call_as_instructions(&mut self, i: &Instance, helper: Option<u32>) -> bool {
        let v = match helper {
            Some(MAP_LOOKUP_ELEM) => self.lookup(i),
            Some(MAP_UPDATE_ELEM) => self.map_call(i, MapOp::Update),
            Some(MAP_DELETE_ELEM) => self.map_call(i, MapOp::Delete),
            Some(GET_SMP_PROCESSOR_ID) => Some(self.cpu()),
            Some(GET_CURRENT_PID_TGID) => Some(self.push(Inst::EnvField(ENV_PID_TGID))),
            Some(KTIME_GET_NS) => Some(self.push(Inst::Call {
                target: Target::Runtime(Runtime::KtimeGetNs),
                args: Vec::new(),
            })),
            Some(GET_NUMA_NODE_ID) => Some(self.constant(0)),
            _ => None,
        };
        if let Some(v) = v {
            self.set(Reg::R0, v);
        }
        v.is_some()
    }

    /// The CPU that the run leased: the lower half of the runner.
    fn cpu(&mut self) -> Value {
        let runner = self.push(Inst::EnvField(ENV_RUNNER));
        self.and(runner, LOW)
    }

    /// The map of the call about to be translated, if it is the same in every run.
    fn known_map(&self) -> Option<(u32, &MapDesc)> {
        let fact = self.src.fact(self.at)?;
        let map = fact.call.as_ref()?.map?;
        Some((map, self.src.maps.get(map as usize)?))
    }

    fn lookup(&mut self, i: &Instance) -> Option<Value> {
        let (map, desc) = self.known_map()?;
        let shape = Array {
            map,
            entries: desc.max_entries,
            bytes: desc.value_size.next_multiple_of(ELEMENT_ALIGN),
        };
        match (desc.map_type, desc.key_size) {
            (MapType::Array, 4) => Some(self.array_lookup(i, &shape)),
            (MapType::PercpuArray, 4) => Some(self.percpu_array_lookup(i, &shape)),
            _ => self.map_call(i, MapOp::Lookup),
        }
    }

    /// A call of the map's own code, which knows type and key size.
    fn map_call(&mut self, i: &Instance, op: MapOp) -> Option<Value> {
        let (map, _) = self.known_map()?;
        let header = self.push(Inst::Symbol(Symbol::Map(map)));
        let runner = self.push(Inst::EnvField(ENV_RUNNER));
        let mut args = vec![header, self.reg(i, Reg::R2)];
        if op == MapOp::Update {
            args.push(self.reg(i, Reg::R3));
            args.push(self.reg(i, Reg::R4));
        }
        args.push(runner);
        let target = Target::Map { map, op };
        Some(self.push(Inst::Call { target, args }))
    }

    /// The address of element `*key`, or null beyond the last one.
    fn array_lookup(&mut self, i: &Instance, array: &Array) -> Value {
        let key = self.key(i);
        let element = self.element(array, key);
        let entries = self.constant(u64::from(array.entries));
        self.if_below(key, entries, element)
    }

    /// The same of the CPU's own array; null if the map was made for fewer CPUs.
    fn percpu_array_lookup(&mut self, i: &Instance, array: &Array) -> Value {
        let key = self.key(i);
        let element = self.element(array, key);
        let cpu = self.cpu();
        let stride = self.push(Inst::Symbol(Symbol::MapStride(array.map)));
        let distance = self.bin(BinOp::Mul, Width::W64, cpu, stride);
        let element = self.bin(BinOp::Add, Width::W64, element, distance);
        let cpus = self.push(Inst::Symbol(Symbol::MapCpus(array.map)));
        let here = self.if_below(cpu, cpus, element);
        let entries = self.constant(u64::from(array.entries));
        self.if_below(key, entries, here)
    }

    /// The key of an array.
    fn key(&mut self, i: &Instance) -> Value {
        let place = Place {
            base: self.reg(i, Reg::R2),
            offset: 0,
            may_fault: false,
            ordered: false,
        };
        self.push(Inst::Load {
            size: Size::W,
            extend: Extend::Zero,
            place,
        })
    }

    /// The address of an element, of the first CPU. Where the processor may go on with a key that is none, as the kernel's
    /// code does, the key is confined.
    fn element(&mut self, array: &Array, mut key: Value) -> Value {
        if self.src.caps == Caps::Bpf {
            key = self.push(Inst::Confine {
                value: key,
                limit: array.entries.saturating_sub(1),
            });
        }
        let stride = self.constant(u64::from(array.bytes));
        let offset = self.bin(BinOp::Mul, Width::W64, key, stride);
        let base = self.push(Inst::Symbol(Symbol::MapValue {
            map: array.map,
            offset: 0,
        }));
        self.bin(BinOp::Add, Width::W64, base, offset)
    }

    /// `then` if `a < b`, else null.
    fn if_below(&mut self, a: Value, b: Value, then: Value) -> Value {
        let other = self.constant(0);
        let cmp = Cmp {
            op: JmpOp::Lt,
            width: Width::W32,
            a,
            b,
        };
        self.push(Inst::Select { cmp, then, other })
    }
}

/// An array map.
struct Array {
    map: u32,
    entries: u32,
    bytes: u32,
}
