//! From blocks to a graph of values: what each comparison compares, whatever registers and words carry it there.
//!
//! Every load of the blocks becomes a step of its own, for a load past the end of the packet rejects it. Later stages
//! drop those that another load on the same way implies.

use super::blocks::{self, BlockId, Blocks, Walker};
use super::expr::{Arena, Compared, Value};
use super::graph::{ACCEPT, Graph, NodeId, REJECT, Step};
use crate::insn::{AluOp, Ancillary, BPF_MEMWORDS, Insn, Op, Relation, SKF_LL_OFF, Size};
use alloc::vec::Vec;
use core::ops::Range;

/// What runs before the blocks: code at the start of the root's, which finds the headers of 802.11.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prologue {
    /// Instructions.
    pub(crate) length: u32,
    /// The word for the length of the radiotap header.
    pub(crate) header: Option<u32>,
    /// The word for the offset of the payload.
    pub(crate) payload: Option<u32>,
    /// Whether the payload may be padded.
    pub(crate) padded: bool,
}

const WORDS: usize = BPF_MEMWORDS as usize;

/// Values of registers and words; `None` where ways differ.
#[derive(Clone, Copy)]
struct State {
    a: Option<Value>,
    x: Option<Value>,
    words: [Option<Value>; WORDS],
}

impl State {
    fn meet(&mut self, other: &Self) {
        let meet = |one: &mut Option<Value>, other: Option<Value>| {
            if *one != other {
                *one = None;
            }
        };
        meet(&mut self.a, other.a);
        meet(&mut self.x, other.x);
        for (one, other) in self.words.iter_mut().zip(other.words) {
            meet(one, other);
        }
    }
}

/// How a block ends.
#[derive(Clone, Copy)]
enum End {
    /// One way is taken always: `yes`, or else `no`.
    Always(bool),
    /// A division by zero.
    Rejects,
    Test(super::expr::Test, bool),
}

/// A block, lifted.
#[derive(Clone)]
struct Lifted {
    /// Places in the steps of all blocks.
    steps: Range<usize>,
    end: End,
}

struct Lifter<'a> {
    arena: Arena,
    blocks: &'a Blocks,
    prologue: Prologue,
}

/// Lifts blocks; `None` if a register or word is read whose value depends on the way.
pub(crate) fn lift(
    blocks: &Blocks,
    prologue: Prologue,
    walker: &mut Walker,
) -> Option<(Arena, Graph)> {
    let mut lifter = Lifter {
        arena: Arena::new(),
        blocks,
        prologue,
    };
    let order = walker.leaves_up(blocks);
    let mut before: Vec<Option<State>> = alloc::vec![None; blocks.list.len()];
    let mut lifted: Vec<Option<Lifted>> = alloc::vec![None; blocks.list.len()];
    let mut steps = Vec::with_capacity(blocks.insns.len());
    let zero = Some(lifter.arena.constant(0));
    before[blocks.root as usize] = Some(State {
        a: zero,
        x: zero,
        words: [zero; WORDS],
    });
    for id in order.iter().rev() {
        let block = blocks.block(*id);
        if block.is_leaf() {
            continue;
        }
        let mut state = before[*id as usize]?;
        lifted[*id as usize] = {
            let start = steps.len();
            let end = lifter.block(*id, &mut state, &mut steps)?;
            Some(Lifted {
                steps: start..steps.len(),
                end,
            })
        };
        for to in [block.yes, block.no] {
            match &mut before[to as usize] {
                Some(other) => other.meet(&state),
                none => *none = Some(state),
            }
        }
    }
    let graph = lifter.graph(order, &lifted, &steps);
    Some((lifter.arena, graph))
}

impl Lifter<'_> {
    /// Adds the steps of a block; how it ends.
    fn block(&mut self, id: BlockId, state: &mut State, steps: &mut Vec<Step>) -> Option<End> {
        let block = self.blocks.block(id);
        let mut insns = self.blocks.insns_of(id);
        if id == self.blocks.root && self.prologue.length > 0 {
            insns = insns.get(self.prologue.length as usize..)?;
            self.prologue(state, steps);
        }
        for insn in insns {
            if insn.code != blocks::NOP && !self.insn(*insn, state, steps)? {
                return Some(End::Rejects);
            }
        }
        let (relation, right) = match Insn::new(block.code, block.k).op()? {
            Op::JumpK(relation) => (relation, self.arena.constant(block.k)),
            Op::JumpX(relation) => (relation, state.x?),
            _ => return None,
        };
        let end = match self.arena.compare(relation, state.a?, right) {
            Compared::Known(outcome) => End::Always(outcome),
            Compared::Test(test, negated) => End::Test(test, negated),
        };
        Some(end)
    }

    /// What the prologue computes, without its jumps.
    fn prologue(&mut self, state: &mut State, steps: &mut Vec<Step>) {
        let mut header = self.arena.constant(0);
        if let Some(word) = self.prologue.header {
            let low = self.arena.load(Size::B, None, 2);
            let high = self.arena.load(Size::B, None, 3);
            steps.extend([Step::Touch(high), Step::Touch(low)]);
            let eight = self.arena.constant(8);
            let high = self.arena.bin(AluOp::Lsh, high, eight);
            header = self.arena.bin(AluOp::Or, high, low);
            state.words[word as usize & 15] = Some(header);
        }
        if let Some(word) = self.prologue.payload {
            let control = self.arena.load(Size::B, Some(header), 0);
            steps.push(Step::Touch(control));
            let payload = if self.prologue.padded {
                self.arena.radiotap_payload(header)
            } else {
                let (six, two) = (self.arena.constant(6), self.arena.constant(2));
                let quality = self.arena.bin(AluOp::Rsh, control, six);
                let quality = self.arena.bin(AluOp::And, quality, two);
                let fixed = self.arena.constant(24);
                let length = self.arena.bin(AluOp::Add, quality, fixed);
                self.arena.bin(AluOp::Add, length, header)
            };
            state.words[word as usize & 15] = Some(payload);
        }
    }

    /// One instruction; false if it rejects every packet, `None` if what it reads depends on the way.
    fn insn(&mut self, insn: Insn, state: &mut State, steps: &mut Vec<Step>) -> Option<bool> {
        let k = insn.k;
        let word = k as usize & 15;
        match insn.op()? {
            Op::LoadAbs(size) => {
                let value = match Ancillary::of_offset(k) {
                    Some(_) => self.arena.ancillary(size, k),
                    None if k >= SKF_LL_OFF => return None,
                    None => self.arena.load(size, None, k),
                };
                steps.push(Step::Touch(value));
                state.a = Some(value);
            }
            Op::LoadInd(size) => {
                let value = self.arena.load(size, Some(state.x?), k);
                steps.push(Step::Touch(value));
                state.a = Some(value);
            }
            Op::LoadXMsh => {
                let value = self.arena.msh(k);
                steps.push(Step::Touch(value));
                state.x = Some(value);
            }
            Op::LoadImm => state.a = Some(self.arena.constant(k)),
            Op::LoadXImm => state.x = Some(self.arena.constant(k)),
            Op::LoadLen => state.a = Some(self.arena.len()),
            Op::LoadXLen => state.x = Some(self.arena.len()),
            Op::LoadMem => state.a = Some(state.words[word]?),
            Op::LoadXMem => state.x = Some(state.words[word]?),
            Op::Store | Op::StoreX => {
                let value = if insn.op() == Some(Op::Store) {
                    state.a?
                } else {
                    state.x?
                };
                state.words[word] = Some(value);
            }
            Op::AluK(op) => {
                let right = self.arena.constant(k);
                state.a = Some(self.operation(op, state.a?, right, steps)?);
            }
            Op::AluX(AluOp::Div | AluOp::Mod) if self.arena.as_const(state.x?) == Some(0) => {
                return Some(false);
            }
            Op::AluX(op) => state.a = Some(self.operation(op, state.a?, state.x?, steps)?),
            Op::Neg => {
                let zero = self.arena.constant(0);
                state.a = Some(self.arena.bin(AluOp::Sub, zero, state.a?));
            }
            Op::Tax => state.x = state.a,
            Op::Txa => state.a = state.x,
            Op::Jump | Op::JumpK(_) | Op::JumpX(_) | Op::RetK | Op::RetA => return None,
        }
        Some(true)
    }

    fn operation(&mut self, op: AluOp, a: Value, b: Value, steps: &mut Vec<Step>) -> Option<Value> {
        match (op, self.arena.as_const(b)) {
            (AluOp::Div | AluOp::Mod, Some(0)) => None,
            (AluOp::Lsh | AluOp::Rsh, Some(by)) if by > 31 => Some(self.arena.constant(0)),
            (AluOp::Div | AluOp::Mod, None) => {
                let value = self.arena.bin(op, a, b);
                steps.push(Step::Touch(value));
                Some(value)
            }
            _ => Some(self.arena.bin(op, a, b)),
        }
    }

    /// The nodes of all blocks, from the leaves up.
    fn graph(&mut self, order: &[BlockId], lifted: &[Option<Lifted>], all: &[Step]) -> Graph {
        let mut graph = Graph::with_capacity(order.len() + all.len());
        let mut nodes: Vec<NodeId> = alloc::vec![REJECT; lifted.len()];
        nodes[blocks::ACCEPT as usize] = ACCEPT;
        for id in order {
            let block = self.blocks.block(*id);
            let Some(lifted) = &lifted[*id as usize] else {
                continue;
            };
            let (yes, no) = (nodes[block.yes as usize], nodes[block.no as usize]);
            let mut node = match lifted.end {
                End::Always(outcome) => {
                    if outcome {
                        yes
                    } else {
                        no
                    }
                }
                End::Rejects => REJECT,
                End::Test(test, false) => graph.make(Step::Test(test), yes, no),
                End::Test(test, true) => graph.make(Step::Test(test), no, yes),
            };
            let own = &all[lifted.steps.clone()];
            let mut steps = own.iter();
            if *id == self.blocks.root {
                node = self.checked_root(&mut graph, own, node, &mut steps);
            }
            for step in steps.rev() {
                node = graph.make(*step, node, node);
            }
            nodes[*id as usize] = node;
        }
        graph.root = nodes[self.blocks.root as usize];
        graph
    }

    /// The root with a prologue that looks for padding, which it does for data frames alone.
    fn checked_root<'s>(
        &mut self,
        graph: &mut Graph,
        steps: &'s [Step],
        node: NodeId,
        rest: &mut core::slice::Iter<'s, Step>,
    ) -> NodeId {
        const CONTROL: u32 = 0x04;
        const DATA: u32 = 0x08;
        /// Steps of the prologue: both bytes of the length, and the frame's first byte.
        const STEPS: usize = 3;
        let (true, Some(Step::Touch(control))) = (self.prologue.padded, steps.get(STEPS - 1))
        else {
            return node;
        };
        let super::expr::Expr::Load {
            base: Some(header), ..
        } = self.arena.get(*control)
        else {
            return node;
        };
        let (first, own) = steps.split_at(STEPS);
        *rest = first.iter();
        let after = own
            .iter()
            .rev()
            .fold(node, |node, step| graph.make(*step, node, node));
        let payload = self.arena.radiotap_payload(header);
        let looks = graph.make(Step::Touch(payload), after, after);
        let mut bit = |this: &mut Self, mask: u32, yes: NodeId, no: NodeId| {
            let mask = this.arena.constant(mask);
            match this.arena.compare(Relation::Set, *control, mask) {
                Compared::Test(test, _) => graph.make(Step::Test(test), yes, no),
                Compared::Known(_) => yes,
            }
        };
        let not_control = bit(self, CONTROL, after, looks);
        bit(self, DATA, not_control, after)
    }
}
