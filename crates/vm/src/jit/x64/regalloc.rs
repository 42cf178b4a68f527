//! Register allocation by graph colouring (Chaitin, Briggs; coalescing tests of Briggs and George).
//!
//! Two registers interfere if one is written while the other is alive, but for a copy of one to the other. Copies between
//! registers that do not interfere are coalesced if that keeps the graph colourable; what then cannot be coloured lives in a
//! stack slot around its uses (or is computed again, for constants), and the allocation starts over.

use super::asm::Bytes;
use super::asm::Gpr;
use super::mach::{Base, MFunc, MInst, Mem, Operand, Role, VReg};
use crate::jit::ir::Block;

/// Registers of the allocator: all but the stack pointer.
const COLOURS: usize = 15;
/// Registers above which a function is left to the template compiler: the interference matrix is quadratic.
pub(super) const MAX_VREGS: u32 = 8192;
/// Rounds of spilling after which something is wrong.
const MAX_ROUNDS: usize = 12;
/// Cost of a register that must not be spilled again.
const NEVER: f64 = f64::INFINITY;

/// Order of preference: registers that calls clobber first, then those that the prologue must save.
const PREFERENCE: [Gpr; COLOURS] = [
    Gpr::RAX,
    Gpr::RCX,
    Gpr::RDX,
    Gpr::RSI,
    Gpr::RDI,
    Gpr::R8,
    Gpr::R9,
    Gpr::R10,
    Gpr::R11,
    Gpr::RBX,
    Gpr::RBP,
    Gpr::R14,
    Gpr::R15,
    Gpr::R12,
    Gpr::R13,
];

/// The function needs more registers than the allocator handles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooLarge;

/// Gives every register of `f` a hardware register: the result is indexed by [`VReg`].
pub(super) fn allocate(f: &mut MFunc) -> Result<Vec<Gpr>, TooLarge> {
    let mut unspillable_from = u32::MAX;
    for _ in 0..MAX_ROUNDS {
        if f.vregs > MAX_VREGS {
            return Err(TooLarge);
        }
        let mut a = Allocator::new(f, unspillable_from);
        a.build(f);
        a.coalesce();
        let spilled = a.colour();
        if spilled.is_empty() {
            return Ok((0..f.vregs).map(|v| a.colour_of(v)).collect());
        }
        unspillable_from = unspillable_from.min(f.vregs);
        let spilled: Vec<bool> = (0..f.vregs).map(|v| spilled.contains(&a.find(v))).collect();
        spill(f, &spilled, &a);
    }
    Err(TooLarge)
}

/// A set of registers.
#[derive(Clone, PartialEq)]
struct Set(Vec<u64>);

impl Set {
    fn new(n: u32) -> Self {
        Self(vec![0; n.div_ceil(64) as usize])
    }

    fn insert(&mut self, v: u32) {
        self.0[v as usize / 64] |= 1 << (v % 64);
    }

    fn remove(&mut self, v: u32) {
        self.0[v as usize / 64] &= !(1 << (v % 64));
    }

    fn each(&self, mut f: impl FnMut(u32)) {
        for (i, &word) in self.0.iter().enumerate() {
            let mut w = word;
            while w != 0 {
                f(i as u32 * 64 + w.trailing_zeros());
                w &= w - 1;
            }
        }
    }
}

/// What is alive at the end of each block.
fn live_out(f: &MFunc) -> Vec<Set> {
    let n = f.vregs;
    let mut uses = vec![Set::new(n); f.blocks.len()];
    let mut defs = vec![Set::new(n); f.blocks.len()];
    for &b in &f.order {
        let (uses, defs) = (&mut uses[b.index()], &mut defs[b.index()]);
        for inst in f.blocks[b.index()].insts.iter().rev() {
            inst.each_reg(|r, role| {
                if role != Role::Use {
                    uses.remove(r.0);
                    defs.insert(r.0);
                }
            });
            inst.each_reg(|r, role| {
                if matches!(role, Role::Use | Role::Both) {
                    uses.insert(r.0);
                }
            });
        }
    }
    let mut live_in = uses.clone();
    let mut out = vec![Set::new(n); f.blocks.len()];
    let mut changed = true;
    while changed {
        changed = false;
        for &b in f.order.iter().rev() {
            let at = b.index();
            for s in &f.blocks[at].succs {
                for (o, i) in out[at].0.iter_mut().zip(&live_in[s.index()].0) {
                    *o |= i;
                }
            }
            for i in 0..out[at].0.len() {
                let new = uses[at].0[i] | out[at].0[i] & !defs[at].0[i];
                changed |= new != live_in[at].0[i];
                live_in[at].0[i] = new;
            }
        }
    }
    out
}

/// A copy that would vanish if both registers were one.
#[derive(Clone, Copy)]
struct Copy {
    dst: u32,
    src: u32,
    weight: f64,
}

struct Allocator {
    n: u32,
    words: usize,
    /// Square bit matrix of interference.
    matrix: Vec<u64>,
    adjacent: Vec<Vec<u32>>,
    copies: Vec<Copy>,
    cost: Vec<f64>,
    /// The register that each one was coalesced into.
    alias: Vec<u32>,
    colours: Vec<Option<Gpr>>,
    /// Per register, those it is copied from or to, the most frequent copies first.
    partners: Vec<Vec<u32>>,
    /// Hardware registers given to anybody.
    used: [bool; 16],
}

impl Allocator {
    fn new(f: &MFunc, unspillable_from: u32) -> Self {
        let n = f.vregs;
        let words = n.div_ceil(64) as usize;
        let mut cost = vec![0.0; n as usize];
        for (v, c) in cost.iter_mut().enumerate() {
            if (v as u32) < VReg::FIRST_VIRTUAL || v as u32 >= unspillable_from {
                *c = NEVER;
            }
        }
        Self {
            n,
            words,
            matrix: vec![0; words * n as usize],
            adjacent: vec![Vec::new(); n as usize],
            copies: Vec::new(),
            cost,
            alias: (0..n).collect(),
            colours: (0..n).map(|v| VReg(v).hardware()).collect(),
            partners: vec![Vec::new(); n as usize],
            used: [false; 16],
        }
    }

    fn interferes(&self, a: u32, b: u32) -> bool {
        self.matrix[a as usize * self.words + b as usize / 64] >> (b % 64) & 1 != 0
    }

    fn add_edge(&mut self, a: u32, b: u32) {
        if a == b || self.interferes(a, b) {
            return;
        }
        self.matrix[a as usize * self.words + b as usize / 64] |= 1 << (b % 64);
        self.matrix[b as usize * self.words + a as usize / 64] |= 1 << (a % 64);
        self.adjacent[a as usize].push(b);
        self.adjacent[b as usize].push(a);
    }

    fn build(&mut self, f: &MFunc) {
        // Hardware registers differ from each other; the stack pointer is nobody's.
        for a in 0..VReg::FIRST_VIRTUAL {
            for b in 0..a {
                self.add_edge(a, b);
            }
        }
        let out = live_out(f);
        for &b in &f.order {
            let block = &f.blocks[b.index()];
            let weight = 10_f64.powi(block.depth.min(6).cast_signed());
            let mut live = out[b.index()].clone();
            for inst in block.insts.iter().rev() {
                self.visit(inst, &mut live, weight);
            }
        }
        self.copies.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    }

    /// Adds the interferences of one instruction; `live` is what is alive after it, then before it.
    fn visit(&mut self, inst: &MInst, live: &mut Set, weight: f64) {
        let copy = match inst {
            MInst::Mov { dst, src } => {
                self.copies.push(Copy {
                    dst: dst.0,
                    src: src.0,
                    weight,
                });
                Some(src.0)
            }
            _ => None,
        };
        let mut uses = Vec::new();
        let mut defs = Vec::new();
        inst.each_reg(|r, role| {
            self.cost[r.index()] += weight;
            if role != Role::Use {
                defs.push((r.0, role));
            }
            if matches!(role, Role::Use | Role::Both) {
                uses.push(r.0);
            }
        });
        for &(d, _) in &defs {
            live.insert(d);
        }
        for &(d, role) in &defs {
            let mut others = Vec::new();
            live.each(|l| {
                if copy != Some(l) {
                    others.push(l);
                }
            });
            for l in others {
                self.add_edge(d, l);
            }
            if role == Role::EarlyDef {
                for &u in &uses {
                    self.add_edge(d, u);
                }
            }
        }
        for &(d, _) in &defs {
            live.remove(d);
        }
        for u in uses {
            live.insert(u);
        }
    }

    fn find(&self, mut v: u32) -> u32 {
        while self.alias[v as usize] != v {
            v = self.alias[v as usize];
        }
        v
    }

    fn degree(&self, v: u32) -> usize {
        if v < VReg::FIRST_VIRTUAL {
            usize::MAX
        } else {
            self.adjacent[v as usize].len()
        }
    }

    fn coalesce(&mut self) {
        let mut changed = true;
        while changed {
            changed = false;
            for c in self.copies.clone() {
                let (mut a, mut b) = (self.find(c.dst), self.find(c.src));
                if a == b || self.interferes(a, b) {
                    continue;
                }
                // A hardware register stays.
                if b < VReg::FIRST_VIRTUAL {
                    std::mem::swap(&mut a, &mut b);
                }
                let safe = if a < VReg::FIRST_VIRTUAL {
                    self.george(a, b)
                } else {
                    self.briggs(a, b) || self.george(a, b)
                };
                if b >= VReg::FIRST_VIRTUAL && a != u32::from(Gpr::RSP.0) && safe {
                    self.merge(a, b);
                    changed = true;
                }
            }
        }
    }

    /// Every neighbour of `b` already interferes with `a` or is easy to colour.
    fn george(&self, a: u32, b: u32) -> bool {
        self.adjacent[b as usize]
            .iter()
            .all(|&t| self.degree(t) < COLOURS || self.interferes(t, a))
    }

    /// The union has few neighbours that are hard to colour.
    fn briggs(&self, a: u32, b: u32) -> bool {
        let hard = |v: &&u32| self.degree(**v) >= COLOURS;
        let of_a = self.adjacent[a as usize].iter().filter(hard).count();
        let of_b = self.adjacent[b as usize]
            .iter()
            .filter(|v| hard(v) && !self.interferes(**v, a))
            .count();
        of_a + of_b < COLOURS
    }

    /// Makes `b` the same register as `a`.
    fn merge(&mut self, a: u32, b: u32) {
        self.alias[b as usize] = a;
        self.cost[a as usize] += self.cost[b as usize];
        for t in std::mem::take(&mut self.adjacent[b as usize]) {
            self.matrix[t as usize * self.words + b as usize / 64] &= !(1 << (b % 64));
            self.adjacent[t as usize].retain(|x| *x != b);
            self.add_edge(a, t);
        }
        for w in &mut self.matrix[b as usize * self.words..(b as usize + 1) * self.words] {
            *w = 0;
        }
    }

    /// Colours the graph; returns the registers that got none.
    fn colour(&mut self) -> Vec<u32> {
        for i in 0..self.copies.len() {
            let Copy { dst, src, .. } = self.copies[i];
            let (dst, src) = (self.find(dst), self.find(src));
            if dst != src {
                self.partners[dst as usize].push(src);
                self.partners[src as usize].push(dst);
            }
        }
        let mut degree: Vec<usize> = (0..self.n).map(|v| self.degree(v)).collect();
        let mut left: Vec<u32> = (VReg::FIRST_VIRTUAL..self.n)
            .filter(|&v| self.alias[v as usize] == v)
            .collect();
        let mut gone = vec![false; self.n as usize];
        let mut stack = Vec::with_capacity(left.len());
        let mut easy: Vec<u32> = left
            .iter()
            .copied()
            .filter(|&v| degree[v as usize] < COLOURS)
            .collect();
        loop {
            let v = match easy.pop() {
                Some(v) => v,
                None => match self.cheapest(&mut left, &gone, &degree) {
                    Some(v) => v,
                    None => break,
                },
            };
            if std::mem::replace(&mut gone[v as usize], true) {
                continue;
            }
            stack.push(v);
            for &t in &self.adjacent[v as usize] {
                let d = &mut degree[t as usize];
                if t >= VReg::FIRST_VIRTUAL && !gone[t as usize] {
                    *d -= 1;
                    if *d == COLOURS - 1 {
                        easy.push(t);
                    }
                }
            }
        }
        let mut spilled = Vec::new();
        while let Some(v) = stack.pop() {
            match self.pick(v) {
                Some(r) => {
                    self.colours[v as usize] = Some(r);
                    self.used[usize::from(r.0)] = true;
                }
                None => spilled.push(v),
            }
        }
        spilled
    }

    /// The register whose spilling costs least for what it frees.
    fn cheapest(&self, left: &mut Vec<u32>, gone: &[bool], degree: &[usize]) -> Option<u32> {
        left.retain(|v| !gone[*v as usize]);
        let price = |v: u32| self.cost[v as usize] / (degree[v as usize] as f64 + 1.0);
        left.iter()
            .copied()
            .min_by(|a, b| price(*a).total_cmp(&price(*b)))
    }

    fn pick(&self, v: u32) -> Option<Gpr> {
        let mut free = [true; 16];
        free[usize::from(Gpr::RSP.0)] = false;
        for &t in &self.adjacent[v as usize] {
            if let Some(r) = self.colours[t as usize] {
                free[usize::from(r.0)] = false;
            }
        }
        let hint = self.partners[v as usize]
            .iter()
            .find_map(|p| self.colours[self.find(*p) as usize].filter(|r| free[usize::from(r.0)]));
        let used = |r: &Gpr| self.used[usize::from(r.0)];
        let is_free = |r: &&Gpr| free[usize::from(r.0)];
        hint.or_else(|| PREFERENCE[..9].iter().find(is_free).copied())
            .or_else(|| {
                PREFERENCE[9..]
                    .iter()
                    .filter(is_free)
                    .find(|r| used(r))
                    .copied()
            })
            .or_else(|| PREFERENCE[9..].iter().find(is_free).copied())
    }

    fn colour_of(&self, v: u32) -> Gpr {
        self.colours[self.find(v) as usize].unwrap_or(Gpr::RAX)
    }
}

/// How a spilled register gets its value back.
#[derive(Clone, PartialEq)]
enum Home {
    Slot(u32),
    /// It is computed again.
    Again(MInst),
}

impl Home {
    /// Gets the value into `dst`.
    fn load(&self, dst: VReg) -> MInst {
        match self {
            Self::Slot(n) => MInst::Load {
                size: Bytes::B8,
                dst,
                mem: slot(*n),
                may_fault: false,
            },
            Self::Again(inst) => inst.constant_into(dst).unwrap_or(MInst::Trap),
        }
    }
}

/// Gives each spilled register a home and rewrites its uses.
fn spill(f: &mut MFunc, spilled: &[bool], a: &Allocator) {
    let homes = homes(f, spilled, a);
    for b in f.order.clone() {
        let block = &mut f.blocks[b.index()];
        let insts = std::mem::take(&mut block.insts);
        let origin = std::mem::take(&mut block.origin);
        for (inst, op) in insts.into_iter().zip(origin) {
            rewrite(f, b, inst, op, &homes, a);
        }
    }
}

fn homes(f: &mut MFunc, spilled: &[bool], a: &Allocator) -> Vec<Option<Home>> {
    let mut homes: Vec<Option<Home>> = vec![None; spilled.len()];
    let mut again: Vec<Option<MInst>> = vec![None; spilled.len()];
    let mut defs = vec![0; spilled.len()];
    for &b in &f.order {
        for inst in &f.blocks[b.index()].insts {
            inst.each_reg(|r, role| {
                let v = a.find(r.0) as usize;
                if role != Role::Use {
                    defs[v] += 1;
                    again[v] = inst.constant_into(r);
                }
            });
        }
    }
    for v in 0..spilled.len() {
        if spilled[v] && a.alias[v] == v as u32 {
            let constant = again[v].take().filter(|_| defs[v] == 1);
            homes[v] = Some(constant.map_or_else(
                || {
                    f.spill_slots += 1;
                    Home::Slot(f.spill_slots - 1)
                },
                Home::Again,
            ));
        }
    }
    homes
}

const fn slot(n: u32) -> Mem {
    Mem {
        base: Base::Spill(n),
        index: None,
        disp: 0,
    }
}

/// Emits `inst` with its spilled registers replaced by short-lived ones.
fn rewrite(
    f: &mut MFunc,
    b: Block,
    mut inst: MInst,
    op: u32,
    homes: &[Option<Home>],
    a: &Allocator,
) {
    let home = |r: VReg| homes[a.find(r.0) as usize].as_ref();
    use_slot_directly(&mut inst, home);
    if inst
        .constant()
        .is_some_and(|dst| matches!(home(dst), Some(Home::Again(_))))
    {
        return;
    }
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut known: Vec<(u32, VReg)> = Vec::new();
    let mut next = f.vregs;
    inst.each_reg_mut(|r, role| {
        if r.hardware().is_some() {
            return;
        }
        let Some(h) = home(*r) else { return };
        let v = a.find(r.0);
        let tmp = match known.iter().find(|(k, _)| *k == v) {
            Some((_, t)) => *t,
            None => {
                let t = VReg(next);
                next += 1;
                known.push((v, t));
                t
            }
        };
        if matches!(role, Role::Use | Role::Both) {
            let load = h.load(tmp);
            if !before.contains(&load) {
                before.push(load);
            }
        }
        if role != Role::Use
            && let Home::Slot(n) = h
        {
            let store = MInst::Store {
                size: Bytes::B8,
                mem: slot(*n),
                src: tmp,
                may_fault: false,
            };
            if !after.contains(&store) {
                after.push(store);
            }
        }
        *r = tmp;
    });
    f.vregs = next;
    let block = &mut f.blocks[b.index()];
    for i in before.into_iter().chain([inst]).chain(after) {
        block.insts.push(i);
        block.origin.push(op);
    }
}

/// Source operands and copies take the slot as memory operand.
fn use_slot_directly<'a>(inst: &mut MInst, home: impl Fn(VReg) -> Option<&'a Home>) {
    let slot_of = |r: VReg| match home(r) {
        Some(Home::Slot(n)) if r.hardware().is_none() => Some(slot(*n)),
        _ => None,
    };
    let new = match inst {
        MInst::Mov { dst, src } => match (slot_of(*dst), slot_of(*src)) {
            (None, Some(mem)) => MInst::Load {
                size: Bytes::B8,
                dst: *dst,
                mem,
                may_fault: false,
            },
            (Some(mem), None) => MInst::Store {
                size: Bytes::B8,
                mem,
                src: *src,
                may_fault: false,
            },
            _ => return,
        },
        MInst::Alu { src, .. } | MInst::Cmp { b: src, .. } => {
            if let Operand::Reg(r) = src
                && let Some(mem) = slot_of(*r)
            {
                *src = Operand::Mem(mem);
            }
            return;
        }
        _ => return,
    };
    *inst = new;
}
