//! Stack slots become values.
//!
//! A slot is a range of the frame that every access reads and writes whole. It can be promoted if no pointer that leaves
//! the plain loads and stores can reach it. What such a pointer can reach: a helper touches memory from its argument
//! upwards; everything else (indexing, callbacks, other functions, copies in memory) may roam through its frame, which
//! the verifier never lets it leave.

use super::hash::FastMap;
use crate::jit::ir::{BinOp, Block, Graph, Inst, Target, Value};
use crate::jit::source::Source;
use crate::lowered::OpIdx;
use skep_isa::{Extend, Size, Width};

/// A slot: offset from the lower end of the frame, and size.
type Slot = (i32, Size);

/// Promotes what can be.
pub(crate) fn run(g: &mut Graph, src: Source<'_>) {
    let slots = promotable(g, src);
    if slots.is_empty() {
        return;
    }
    let mut p = Promotion {
        with: (0..g.insts.len() as u32).map(Value).collect(),
        at_end: FastMap::default(),
        at_start: FastMap::default(),
        wanted: Vec::new(),
        pending: Vec::new(),
        slots,
        g,
    };
    for b in p.g.all_blocks() {
        p.scan(b);
    }
    for (load, b, slot) in std::mem::take(&mut p.wanted) {
        let v = p.read_start(b, slot);
        p.complete_phis();
        p.satisfy(load, v);
    }
    let with = std::mem::take(&mut p.with);
    let resolved: Vec<Value> = (0..g.insts.len() as u32)
        .map(|i| resolve(&with, Value(i)))
        .collect();
    g.rewrite(&resolved);
}

fn resolve(with: &[Value], mut v: Value) -> Value {
    while let Some(&next) = with.get(v.index())
        && next != v
    {
        v = next;
    }
    v
}

/// The slot that a plain access touches.
fn slot_of(g: &Graph, inst: &Inst) -> Option<Slot> {
    let (size, place) = match *inst {
        Inst::Load { size, place, .. } | Inst::Store { size, place, .. } => (size, place),
        _ => return None,
    };
    match *g.inst(place.base) {
        Inst::FrameAddr(at) if !place.may_fault && !place.ordered => {
            Some((at + place.offset, size))
        }
        _ => None,
    }
}

fn end(slot: Slot) -> i32 {
    slot.0 + slot.1.bytes().cast_signed()
}

/// The slots that can be promoted.
fn promotable(g: &Graph, src: Source<'_>) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::new();
    let mut taken: Vec<(i32, i32)> = Vec::new();
    for b in &g.blocks {
        for &v in &b.insts {
            let inst = g.inst(v);
            slots.extend(slot_of(g, inst));
            escapes(g, src, inst, &mut taken);
        }
        b.term.each_arg(|a| {
            if let Inst::FrameAddr(at) = *g.inst(a) {
                taken.push(frame_around(g, at));
            }
        });
    }
    slots.sort_unstable();
    slots.dedup();
    let free = |s: &&Slot| taken.iter().all(|t| end(**s) <= t.0 || t.1 <= s.0);
    let alone = |s: &&Slot| {
        slots
            .iter()
            .all(|o| o == *s || end(*o) <= s.0 || end(**s) <= o.0)
    };
    slots.iter().filter(free).filter(alone).copied().collect()
}

/// Adds the ranges of the frame that `inst` lets out of sight.
fn escapes(g: &Graph, src: Source<'_>, inst: &Inst, taken: &mut Vec<(i32, i32)>) {
    let plain_base = match (slot_of(g, inst), inst) {
        (Some(_), Inst::Load { .. }) => return,
        (Some(_), Inst::Store { value, .. }) => {
            if let Inst::FrameAddr(at) = *g.inst(*value) {
                taken.push(frame_around(g, at));
            }
            return;
        }
        _ => match inst {
            Inst::Call {
                target: Target::Callee(n),
                ..
            } => !src.callees[*n as usize].calls_back,
            Inst::Call {
                target: Target::Map { .. },
                ..
            } => true,
            _ => false,
        },
    };
    inst.each_arg(|a| {
        if let Inst::FrameAddr(at) = *g.inst(a) {
            let (start, end) = frame_around(g, at);
            taken.push((if plain_base { at } else { start }, end));
        }
    });
}

/// The frame that contains an address (or ends at it).
fn frame_around(g: &Graph, at: i32) -> (i32, i32) {
    let around = |f: &&(i32, i32)| f.0 <= at && at < f.1;
    let inside = g.frames.iter().find(around);
    let ends = || g.frames.iter().find(|f| f.1 == at);
    // An address between frames belongs to the one that ends there, or to both: take both.
    match (inside, ends()) {
        (Some(i), Some(e)) => (e.0.min(i.0), i.1.max(e.1)),
        (Some(f), None) | (None, Some(f)) => *f,
        (None, None) => (i32::MIN, i32::MAX),
    }
}

struct Promotion<'a> {
    g: &'a mut Graph,
    slots: Vec<Slot>,
    with: Vec<Value>,
    /// What a block leaves in a slot, if it writes it.
    at_end: FastMap<(Block, Slot), Value>,
    /// What a slot holds when a block begins.
    at_start: FastMap<(Block, Slot), Value>,
    /// Loads of what their block began with.
    wanted: Vec<(Value, Block, Slot)>,
    /// Phis without operands. In a list, since a chain of them may be long.
    pending: Vec<(Block, Slot, Value)>,
}

impl Promotion<'_> {
    fn scan(&mut self, b: Block) {
        let insts = std::mem::take(&mut self.g.block_mut(b).insts);
        let mut out = Vec::with_capacity(insts.len());
        for v in insts {
            let inst = self.g.inst(v).clone();
            let slot = slot_of(self.g, &inst).filter(|s| self.slots.binary_search(s).is_ok());
            match (slot, inst) {
                (Some(slot), Inst::Store { value, .. }) => {
                    let kept = self.masked(value, slot.1, self.g.origin[v.index()], &mut out);
                    self.at_end.insert((b, slot), kept);
                }
                (Some(slot), Inst::Load { .. }) => {
                    // Stays in place for now: it may become an extension.
                    match self.at_end.get(&(b, slot)) {
                        Some(&known) => self.satisfy(v, known),
                        None => self.wanted.push((v, b, slot)),
                    }
                    out.push(v);
                }
                _ => out.push(v),
            }
        }
        self.g.block_mut(b).insts = out;
    }

    /// The part of a value that a store of `size` keeps.
    fn masked(&mut self, value: Value, size: Size, origin: OpIdx, out: &mut Vec<Value>) -> Value {
        if size == Size::DW {
            return value;
        }
        let mask = self.add(Inst::Const((1 << size.bits()) - 1), origin);
        let v = self.add(Inst::Bin(BinOp::And, Width::W64, value, mask), origin);
        out.extend([mask, v]);
        v
    }

    fn add(&mut self, inst: Inst, origin: OpIdx) -> Value {
        let v = self.g.add(inst, origin);
        self.with.push(v);
        v
    }

    /// A load yields `v`.
    fn satisfy(&mut self, load: Value, v: Value) {
        let Inst::Load { size, extend, .. } = *self.g.inst(load) else {
            return;
        };
        if extend == Extend::Sign {
            self.g.insts[load.index()] = Inst::Sext {
                from: size,
                width: Width::W64,
                value: v,
            };
        } else {
            self.g.insts[load.index()] = Inst::Nop;
            self.with[load.index()] = v;
        }
    }

    /// What a slot holds when a block begins; leaves phis pending.
    fn read_start(&mut self, block: Block, slot: Slot) -> Value {
        let mut way = vec![block];
        let mut b = block;
        let v = loop {
            if let Some(&v) = self.at_start.get(&(b, slot)) {
                break v;
            }
            let [only] = self.g.block(b).preds[..] else {
                break self.join(b, slot);
            };
            if let Some(&v) = self.at_end.get(&(only, slot)) {
                break v;
            }
            b = only;
            way.push(b);
        };
        self.at_start
            .extend(way.into_iter().map(|b| ((b, slot), v)));
        v
    }

    /// A phi, or what is there before anything was written.
    fn join(&mut self, b: Block, slot: Slot) -> Value {
        let is_first = self.g.block(b).preds.is_empty();
        let inst = if is_first {
            Inst::Const(0)
        } else {
            Inst::Phi(Vec::new())
        };
        let v = self.add(inst, 0);
        if !is_first {
            self.pending.push((b, slot, v));
        }
        self.g.block_mut(b).insts.insert(0, v);
        v
    }

    fn complete_phis(&mut self) {
        while let Some((b, slot, phi)) = self.pending.pop() {
            let preds = self.g.block(b).preds.clone();
            let args = preds.into_iter().map(|p| self.read_end(p, slot));
            self.g.insts[phi.index()] = Inst::Phi(args.collect());
        }
    }

    fn read_end(&mut self, b: Block, slot: Slot) -> Value {
        match self.at_end.get(&(b, slot)) {
            Some(&v) => v,
            None => self.read_start(b, slot),
        }
    }
}
