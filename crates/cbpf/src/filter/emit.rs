//! Code for each node: which instructions put its value into A (and X), given what is there already.
//!
//! A node's code may be entered past its start: a way that brings the value along skips the loads. What a node leaves in
//! A, X and scratch memory is what all ways through it have in common.

use super::draft::Chain;
use super::expand::chain_code;
use super::expr::{Arena, Expr, Test, Value};
use super::graph::{ACCEPT, Graph, NodeId, Step};
use super::layout;
use crate::insn::{AluOp, BPF_MEMWORDS, Insn, LEN, MISC, MSH, RET, Relation, Size, TAX, TXA};
use alloc::vec::Vec;
use skep_isa::opcode::{ABS, ADD, ALU, AND, IMM, IND, JA, JMP, K, LD, LDX, MEM, NEG, ST, STX, X};

/// What registers and scratch words hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    a: Option<Value>,
    x: Option<Value>,
    /// Scratch words whose value is there, by slot.
    words: u16,
}

impl State {
    fn meet(self, other: Self) -> Self {
        Self {
            a: self.a.filter(|a| other.a == Some(*a)),
            x: self.x.filter(|x| other.x == Some(*x)),
            words: self.words & other.words,
        }
    }
}

/// How a node ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Final {
    /// Goes on to `yes`.
    Goto,
    /// One comparison; `negated` exchanges the ways.
    Jump { code: u8, k: u32, negated: bool },
    /// `yes` for values from `low` to before `end`.
    Range { low: u32, end: u32 },
}

/// A way from a node: where to, and where its code is entered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) to: NodeId,
    pub(super) entry: u32,
}

/// Code of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    /// Place in [`Emitted::code`].
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) last: Final,
    pub(super) yes: Way,
    pub(super) no: Way,
}

/// Code of all nodes, not yet in order.
#[derive(Debug)]
pub(super) struct Emitted {
    pub(super) code: Vec<Insn>,
    pub(super) items: Vec<Option<Item>>,
    pub(super) root_entry: u32,
    /// Scratch words to store A, which is zero, in at the start.
    pub(super) zeroed: u16,
}

/// Why there is no code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EmitError {
    /// A variable is used where X does not hold it: it needs a scratch word.
    NeedsWord(u32),
    /// More scratch words are needed than there are.
    OutOfWords,
}

/// A way into a node, while its code is made.
struct Incoming {
    from: NodeId,
    yes: bool,
    state: State,
}

struct Emitter<'a> {
    arena: &'a Arena,
    graph: &'a Graph,
    code: Vec<Insn>,
    /// State before each instruction of the node at hand.
    trace: Vec<State>,
    state: State,
    /// Values that have a scratch word of their own, by slot.
    words: Vec<Value>,
    /// First slot for passing needs of one node.
    passing: u32,
    /// How often each value was computed.
    computed: Vec<u16>,
}

type Emit = Result<(), EmitError>;

/// Compiles a graph: the shortest of a few ways to use the scratch words.
pub(crate) fn compile(arena: &Arena, graph: &Graph, snaplen: u32) -> Result<Vec<Insn>, EmitError> {
    let mut words: Vec<Value> = Vec::new();
    let mut zeroed = 0u16;
    let (plain, computed) = loop {
        match emit(arena, graph, &words, zeroed) {
            Ok((emitted, computed)) => break (layout::lay_out(graph, &emitted, snaplen), computed),
            Err(EmitError::NeedsWord(var)) => {
                let value = (0..arena.values())
                    .map(|i| arena.at(i))
                    .find(|v| arena.get(*v) == Expr::Var(var));
                match value.map(|v| (v, words.iter().position(|w| *w == v))) {
                    Some((value, None)) => words.push(value),
                    // Some way sets it and another does not: it starts as zero.
                    Some((_, Some(slot))) if zeroed & (1 << slot) == 0 => zeroed |= 1 << slot,
                    _ => return Err(EmitError::OutOfWords),
                }
            }
            Err(error) => return Err(error),
        }
    };
    let mut frequent: Vec<(u32, Value)> = Vec::new();
    for (i, times) in computed.iter().enumerate() {
        let value = arena.at(i);
        let (times, cost) = (u32::from(*times), cost(arena, value));
        if times > 1 && cost > 1 && cost * times > cost + times {
            frequent.push((cost * times - cost - times, value));
        }
    }
    if frequent.is_empty() {
        return Ok(plain);
    }
    frequent.sort_by(|a, b| b.cmp(a));
    let room = (BPF_MEMWORDS / 2) as usize;
    let mut best = plain;
    for keep in [room, 1] {
        let mut words = words.clone();
        words.extend(frequent.iter().take(keep).map(|(_, v)| *v));
        words.truncate(room.max(words.len().min(BPF_MEMWORDS as usize)));
        if let Ok((emitted, _)) = emit(arena, graph, &words, zeroed) {
            let other = layout::lay_out(graph, &emitted, snaplen);
            if other.len() < best.len() {
                best = other;
            }
        }
        if frequent.len() == 1 {
            break;
        }
    }
    Ok(best)
}

/// Instructions that compute a value from nothing, roughly.
fn cost(arena: &Arena, value: Value) -> u32 {
    match arena.get(value) {
        Expr::Load {
            base: Some(base), ..
        } => 1 + cost(arena, base),
        Expr::Bin(_, a, b) if arena.as_const(b).is_some() => 1 + cost(arena, a),
        Expr::Bin(_, a, b) => 2 + cost(arena, a) + cost(arena, b),
        Expr::RadiotapPayload(header) => 16 + cost(arena, header),
        Expr::Const(_)
        | Expr::Len
        | Expr::Load { .. }
        | Expr::Ancillary(..)
        | Expr::Msh(_)
        | Expr::Var(_) => 1,
    }
}

fn emit(
    arena: &Arena,
    graph: &Graph,
    words: &[Value],
    zeroed: u16,
) -> Result<(Emitted, Vec<u16>), EmitError> {
    let start = State {
        a: None,
        x: None,
        words: 0,
    };
    let mut emitter = Emitter {
        arena,
        graph,
        code: Vec::with_capacity(graph.nodes.len() * 2),
        trace: Vec::new(),
        state: start,
        words: words.to_vec(),
        passing: words.len() as u32,
        computed: alloc::vec![0; arena.values()],
    };
    let mut items: Vec<Option<Item>> = alloc::vec![None; graph.nodes.len()];
    let mut incoming: Vec<Vec<Incoming>> = Vec::new();
    incoming.resize_with(graph.nodes.len(), Vec::new);
    // The kernel and libpcap start with A and X zero.
    let zero = arena.zero();
    let first = State {
        a: zero,
        x: zero,
        words: zeroed,
    };
    let mut root_entry = 0;
    incoming[graph.root as usize].push(Incoming {
        from: super::graph::NONE,
        yes: true,
        state: first,
    });
    for id in (2..=graph.root).rev() {
        let ways = core::mem::take(&mut incoming[id as usize]);
        if ways.is_empty() {
            continue;
        }
        let (item, entries, out) = emitter.node(id, &ways)?;
        for (way, entry) in ways.iter().zip(entries) {
            match items.get_mut(way.from as usize) {
                Some(Some(item)) if way.yes => item.yes.entry = entry,
                Some(Some(item)) => item.no.entry = entry,
                _ => root_entry = entry,
            }
        }
        let node = graph.node(id);
        items[id as usize] = Some(item);
        let branches = !matches!(item.last, Final::Goto);
        for (to, yes) in [(node.yes, true), (node.no, false)] {
            if to > super::graph::REJECT && (yes || branches) {
                incoming[to as usize].push(Incoming {
                    from: id,
                    yes,
                    state: out,
                });
            }
        }
    }
    let emitted = Emitted {
        code: emitter.code,
        items,
        root_entry,
        zeroed,
    };
    Ok((emitted, emitter.computed))
}

impl Emitter<'_> {
    /// The code of a node, where each way enters it, and what it leaves behind.
    fn node(
        &mut self,
        id: NodeId,
        ways: &[Incoming],
    ) -> Result<(Item, Vec<u32>, State), EmitError> {
        let node = self.graph.node(id);
        let common = ways[1..]
            .iter()
            .fold(ways[0].state, |state, way| state.meet(way.state));
        self.state = common;
        self.trace.clear();
        let start = self.code.len();
        let last = match node.step {
            Step::Test(test) => self.test(test, node.yes, node.no)?,
            Step::Chain(chain) => self.chain(chain),
            Step::Touch(value) => {
                self.touch(value)?;
                Final::Goto
            }
            Step::Assign(var, value) => {
                self.assign(var, value)?;
                Final::Goto
            }
            Step::Leaf => Final::Goto,
        };
        let (entries, out) = self.enter(start, last, ways);
        let way = |to| Way { to, entry: 0 };
        let item = Item {
            start: start as u32,
            end: self.code.len() as u32,
            last,
            yes: way(node.yes),
            no: way(node.no),
        };
        Ok((item, entries, out))
    }

    /// Where each way enters the code from `start` on: as late as what it brings along allows.
    fn enter(&self, start: usize, last: Final, ways: &[Incoming]) -> (Vec<u32>, State) {
        let code = &self.code[start..];
        let end = self.state;
        let needs = needs(code, last);
        let mut out: Option<State> = None;
        let mut entries = Vec::with_capacity(ways.len());
        for way in ways {
            let brings = |at: usize| {
                let here = self.trace.get(at).copied().unwrap_or(end);
                let (a, x, words) = needs[at];
                let same = |need: bool, has: Option<Value>, want: Option<Value>| {
                    !need || has.is_some() && has == want
                };
                same(a, way.state.a, here.a)
                    && same(x, way.state.x, here.x)
                    && words & !way.state.words == 0
            };
            // A step that does not branch is there for what it does on the way.
            let at = match last {
                Final::Goto => 0,
                _ => (0..=code.len()).rev().find(|at| brings(*at)).unwrap_or(0),
            };
            entries.push(at as u32);
            let after = leaves(&code[at..], way.state, end);
            out = Some(out.map_or(after, |o| o.meet(after)));
        }
        (entries, out.unwrap_or(end))
    }

    fn push(&mut self, insn: Insn) {
        self.trace.push(self.state);
        self.code.push(insn);
    }

    fn op(&mut self, code: u8, k: u32) {
        self.push(Insn::new(code, k));
    }

    fn word_of(&self, value: Value) -> Option<u32> {
        self.words
            .iter()
            .position(|w| *w == value)
            .map(|i| i as u32)
    }

    /// The scratch word that holds a value now.
    fn stored(&self, value: Value) -> Option<u32> {
        self.word_of(value)
            .filter(|slot| self.state.words & (1 << slot) != 0)
    }

    /// Stores A, which holds `value`, if the value has a word.
    fn keep_a(&mut self, value: Value) {
        if let Some(slot) = self.word_of(value)
            && self.state.words & (1 << slot) == 0
        {
            self.op(ST, slot);
            self.state.words |= 1 << slot;
        }
    }

    fn set_a(&mut self, value: Value) {
        self.state.a = Some(value);
        let count = &mut self.computed[Arena::index(value)];
        *count = count.saturating_add(1);
        self.keep_a(value);
    }

    /// Puts a value into A. X may change.
    fn load_a(&mut self, value: Value) -> Emit {
        if self.state.a == Some(value) {
            return Ok(());
        }
        if self.state.x == Some(value) {
            self.op(MISC | TXA, 0);
            self.state.a = Some(value);
            return Ok(());
        }
        if let Some(slot) = self.stored(value) {
            self.op(LD | MEM, slot);
            self.state.a = Some(value);
            return Ok(());
        }
        match self.arena.get(value) {
            Expr::Const(k) => self.op(LD | IMM, k),
            Expr::Len => self.op(LD | LEN, 0),
            Expr::Ancillary(size, k) => self.op(LD | ABS | size.code(), k),
            Expr::Load {
                size,
                base: None,
                offset,
            } => self.op(LD | ABS | size.code(), offset),
            Expr::Load {
                size,
                base: Some(base),
                offset,
            } => {
                self.load_x(base)?;
                self.op(LD | IND | size.code(), offset);
            }
            Expr::Msh(_) | Expr::RadiotapPayload(_) => {
                self.load_x(value)?;
                self.op(MISC | TXA, 0);
            }
            Expr::Var(var) => return Err(EmitError::NeedsWord(var)),
            Expr::Bin(op, a, b) => match self.arena.as_const(b) {
                Some(k) => {
                    self.load_a(a)?;
                    self.op(ALU | op.code() | K, k);
                }
                None if op == AluOp::Sub && self.arena.as_const(a) == Some(0) => {
                    self.load_a(b)?;
                    self.op(ALU | NEG, 0);
                }
                None => {
                    let swapped = self.operands(a, b, commutes(op))?;
                    debug_assert!(!swapped || commutes(op), "operands keep their order");
                    self.op(ALU | op.code() | X, 0);
                }
            },
        }
        self.set_a(value);
        Ok(())
    }

    /// Computes a value for its loads, into the register that takes fewer instructions.
    fn touch(&mut self, value: Value) -> Emit {
        match self.arena.get(value) {
            Expr::Msh(_) | Expr::RadiotapPayload(_) => self.load_x(value),
            _ => self.load_a(value),
        }
    }

    /// Puts a value into X. A may change.
    fn load_x(&mut self, value: Value) -> Emit {
        if self.state.x == Some(value) {
            return Ok(());
        }
        if self.x_directly(value) {
            return Ok(());
        }
        if let Expr::RadiotapPayload(header) = self.arena.get(value) {
            return self.radiotap_payload(value, header);
        }
        self.load_a(value)?;
        self.op(MISC | TAX, 0);
        self.state.x = Some(value);
        Ok(())
    }

    /// Puts a value into X without A, if one instruction can.
    fn x_directly(&mut self, value: Value) -> bool {
        if self.state.x == Some(value) {
            return true;
        }
        match (self.stored(value), self.arena.get(value)) {
            (Some(slot), _) => self.op(LDX | MEM, slot),
            (None, Expr::Const(k)) => self.op(LDX | IMM, k),
            (None, Expr::Len) => self.op(LDX | LEN, 0),
            (None, Expr::Msh(offset)) => self.op(LDX | MSH | Size::B.code(), offset),
            _ => return false,
        }
        self.state.x = Some(value);
        true
    }

    /// Whether one instruction puts a value into X without A.
    fn is_x_direct(&self, value: Value) -> bool {
        self.state.x == Some(value)
            || self.stored(value).is_some()
            || matches!(
                self.arena.get(value),
                Expr::Const(_) | Expr::Len | Expr::Msh(_)
            )
    }

    /// Whether computing a value into A leaves X alone.
    fn spares_x(&self, value: Value) -> bool {
        if self.state.a == Some(value) || self.stored(value).is_some() {
            return true;
        }
        match self.arena.get(value) {
            Expr::Const(_) | Expr::Len | Expr::Ancillary(..) | Expr::Load { base: None, .. } => {
                true
            }
            Expr::Load {
                base: Some(base), ..
            } => self.state.x == Some(base),
            Expr::Bin(_, a, b) => self.arena.as_const(b).is_some() && self.spares_x(a),
            Expr::Msh(_) | Expr::Var(_) | Expr::RadiotapPayload(_) => false,
        }
    }

    /// Puts `left` into A and `right` into X, or the other way round if `either` allows it; says which.
    fn operands(&mut self, left: Value, right: Value, either: bool) -> Result<bool, EmitError> {
        if left == right {
            self.load_a(left)?;
            self.x_from_a(left);
            return Ok(false);
        }
        // The first of these that applies costs least: X can be loaded last, X is already right, X is loaded first.
        for swapped in [false, true] {
            let (a, x) = if swapped {
                (right, left)
            } else {
                (left, right)
            };
            if (!swapped || either) && self.is_x_direct(x) && !self.is_x_direct_from_a(x) {
                self.load_a(a)?;
                if self.x_directly(x) {
                    return Ok(swapped);
                }
            }
        }
        for swapped in [false, true] {
            let (a, x) = if swapped {
                (right, left)
            } else {
                (left, right)
            };
            if (!swapped || either) && self.spares_x_after(a, x) {
                self.load_a(x)?;
                self.x_from_a(x);
                self.load_a(a)?;
                return Ok(swapped);
            }
        }
        self.load_a(right)?;
        let slot = self.passing;
        if slot >= BPF_MEMWORDS {
            return Err(EmitError::OutOfWords);
        }
        self.passing += 1;
        self.op(ST, slot);
        let result = self.load_a(left);
        self.passing -= 1;
        result?;
        self.op(LDX | MEM, slot);
        self.state.x = Some(right);
        Ok(false)
    }

    fn x_from_a(&mut self, value: Value) {
        if self.state.x != Some(value) {
            self.op(MISC | TAX, 0);
            self.state.x = Some(value);
        }
    }

    /// Whether X could only be loaded from A, which is about to change.
    fn is_x_direct_from_a(&self, value: Value) -> bool {
        self.state.x == Some(value)
            && self.stored(value).is_none()
            && !matches!(
                self.arena.get(value),
                Expr::Const(_) | Expr::Len | Expr::Msh(_)
            )
    }

    /// Whether `a` can be computed into A while X holds `x`.
    fn spares_x_after(&self, a: Value, x: Value) -> bool {
        match self.arena.get(a) {
            Expr::Load {
                base: Some(base), ..
            } => base == x,
            Expr::Bin(_, inner, k) => {
                self.arena.as_const(k).is_some() && self.spares_x_after(inner, x)
            }
            _ => a == x || self.state.a != Some(a) && self.spares_x(a),
        }
    }

    fn assign(&mut self, var: u32, value: Value) -> Emit {
        let Some(target) = self.arena.find(Expr::Var(var)) else {
            // Nobody reads it.
            return Ok(());
        };
        if let Some(slot) = self.word_of(target) {
            if self.state.x == Some(value) {
                self.op(STX, slot);
                self.state.x = Some(target);
            } else {
                self.load_a(value)?;
                self.op(ST, slot);
                self.state.a = Some(target);
            }
            self.state.words |= 1 << slot;
            return Ok(());
        }
        self.load_x(value)?;
        self.state.x = Some(target);
        Ok(())
    }

    /// A comparison.
    fn test(&mut self, test: Test, yes: NodeId, no: NodeId) -> Result<Final, EmitError> {
        let Some(k) = self.arena.as_const(test.right) else {
            let either = matches!(test.relation, Relation::Eq | Relation::Set);
            self.operands(test.left, test.right, either)?;
            return Ok(Final::Jump {
                code: test.relation.code() | X,
                k: 0,
                negated: false,
            });
        };
        if test.relation == Relation::Eq
            && let Expr::Bin(AluOp::And, inner, mask) = self.arena.get(test.left)
            && let Some(mask) = self.arena.as_const(mask)
            && self.state.a != Some(test.left)
            && let Some(last) = self.prefix(inner, mask, k, yes, no)
        {
            self.load_a(inner)?;
            return Ok(last);
        }
        self.load_a(test.left)?;
        Ok(Final::Jump {
            code: test.relation.code() | K,
            k,
            negated: false,
        })
    }

    /// `value & mask == k` as a range, if that is shorter here or leaves a value in A that the next test wants.
    fn prefix(&self, value: Value, mask: u32, k: u32, yes: NodeId, no: NodeId) -> Option<Final> {
        let max = self.arena.max(value);
        let low_bits = max & !mask;
        if k & !mask != 0 || k > max || low_bits & low_bits.wrapping_add(1) != 0 {
            return None;
        }
        let last = k | low_bits;
        if last == max {
            return Some(Final::Jump {
                code: Relation::Ge.code() | K,
                k,
                negated: false,
            });
        }
        if k == 0 {
            return Some(Final::Jump {
                code: Relation::Ge.code() | K,
                k: last + 1,
                negated: true,
            });
        }
        let wants = |id: NodeId| match self.graph.node(id).step {
            Step::Test(t) if t.left == value => true,
            Step::Test(t) => match self.arena.get(t.left) {
                Expr::Bin(AluOp::And, v, m) => {
                    v == value && self.arena.as_const(m).is_some_and(|m| m != mask)
                }
                _ => false,
            },
            _ => false,
        };
        (wants(yes) || wants(no)).then_some(Final::Range {
            low: k,
            end: last + 1,
        })
    }

    /// The offset after a data frame's 802.11 header at `header`, into X.
    fn radiotap_payload(&mut self, value: Value, header: Value) -> Emit {
        self.load_x(header)?;
        let unknown = State {
            a: None,
            x: None,
            ..self.state
        };
        let load = |size: Size, k| Insn::new(LD | ABS | size.code(), k);
        let jset = |k, jt, jf| Insn::jump(JMP | Relation::Set.code() | K, k, jt, jf);
        // Bit 7 of the subtype adds two bytes of quality of service. A flag of the radiotap header tells whether the
        // whole is padded to a multiple of four; the flags come after a timestamp, if there is one.
        let code = [
            Insn::new(LD | IND | Size::B.code(), 0),
            Insn::new(ALU | AluOp::Rsh.code() | K, 6),
            Insn::new(ALU | AND | K, 2),
            Insn::new(ALU | ADD | X, 0),
            Insn::new(ALU | ADD | K, 24),
            Insn::new(MISC | TAX, 0),
            load(Size::W, 4),
            jset(0x0200_0000, 0, 10),
            jset(0x0000_0080, 9, 0),
            jset(0x0100_0000, 0, 2),
            load(Size::B, 16),
            Insn::new(JMP | JA, 1),
            load(Size::B, 8),
            jset(0x20, 0, 4),
            Insn::new(MISC | TXA, 0),
            Insn::new(ALU | ADD | K, 3),
            Insn::new(ALU | AND | K, 0xffff_fffc),
            Insn::new(MISC | TAX, 0),
        ];
        self.push(code[0]);
        self.state = unknown;
        for insn in &code[1..] {
            self.push(*insn);
        }
        self.state.x = Some(value);
        let count = &mut self.computed[Arena::index(value)];
        *count = count.saturating_add(1);
        if let Some(slot) = self.word_of(value) {
            self.op(STX, slot);
            self.state.words |= 1 << slot;
        }
        Ok(())
    }

    /// Walks the headers from IPv4 or IPv6 on; leaves the protocol of the last one in A.
    fn chain(&mut self, chain: Chain) -> Final {
        let body = chain_code(chain, self.passing.min(BPF_MEMWORDS - 1));
        self.push(body[0]);
        self.state.a = None;
        self.state.x = None;
        for insn in &body[1..] {
            self.push(*insn);
        }
        Final::Jump {
            code: Relation::Eq.code() | K,
            k: chain.protocol,
            negated: false,
        }
    }
}

fn commutes(op: AluOp) -> bool {
    matches!(
        op,
        AluOp::Add | AluOp::Mul | AluOp::And | AluOp::Or | AluOp::Xor
    )
}

/// What an instruction reads and writes: A, X, and a scratch word.
struct Effect {
    reads: (bool, bool, u16),
    writes: (bool, bool, u16),
}

fn effect(insn: Insn) -> Effect {
    use crate::insn::Op;
    let word = 1u16 << (insn.k & 15);
    let none = (false, false, 0);
    let (a, x) = ((true, false, 0), (false, true, 0));
    let (reads, writes) = match insn.op() {
        Some(Op::LoadAbs(_) | Op::LoadImm | Op::LoadLen) => (none, a),
        Some(Op::LoadInd(_)) => (x, a),
        Some(Op::LoadMem) => ((false, false, word), a),
        Some(Op::LoadXImm | Op::LoadXLen | Op::LoadXMsh) => (none, x),
        Some(Op::LoadXMem) => ((false, false, word), x),
        Some(Op::Store) => (a, (false, false, word)),
        Some(Op::StoreX) => (x, (false, false, word)),
        Some(Op::AluK(_) | Op::Neg) => (a, a),
        Some(Op::AluX(_)) => ((true, true, 0), a),
        Some(Op::JumpK(_) | Op::RetA) => (a, none),
        Some(Op::JumpX(_)) => ((true, true, 0), none),
        Some(Op::Tax) => (a, x),
        Some(Op::Txa) => (x, a),
        Some(Op::Jump | Op::RetK) | None => (none, none),
    };
    Effect { reads, writes }
}

/// What is read from each place on before it is written: before every instruction, and at the end.
fn needs(code: &[Insn], last: Final) -> Vec<(bool, bool, u16)> {
    let mut need = match last {
        Final::Goto => (false, false, 0),
        Final::Jump { code, .. } => (true, code & X != 0, 0),
        Final::Range { .. } => (true, false, 0),
    };
    let mut all = alloc::vec![need; code.len() + 1];
    for (at, insn) in code.iter().enumerate().rev() {
        let Effect { reads, writes } = effect(*insn);
        need = (
            need.0 && !writes.0 || reads.0,
            need.1 && !writes.1 || reads.1,
            need.2 & !writes.2 | reads.2,
        );
        all[at] = need;
    }
    all
}

/// The state after `code`, entered with `state`; `end` is what a run from the start leaves.
fn leaves(code: &[Insn], state: State, end: State) -> State {
    let mut after = state;
    for insn in code {
        let Effect { writes, .. } = effect(*insn);
        if writes.0 {
            after.a = end.a;
        }
        if writes.1 {
            after.x = end.x;
        }
        after.words |= writes.2 & end.words;
    }
    after
}

/// Instructions that end a program.
pub(super) fn leaf(id: NodeId, snaplen: u32) -> Insn {
    Insn::new(RET | K, if id == ACCEPT { snaplen } else { 0 })
}
