//! Code for each node: which instructions put its value into A (and X), given what is there already.
//!
//! A node's code may be entered past its start: a way that brings the value along skips the loads. What a node leaves in
//! A, X and scratch memory is what all ways through it have in common.

mod effects;
mod endings;
mod values;

use super::expr::{Arena, Expr, Value};
use super::graph::{ACCEPT, Graph, NONE, NodeId, Step};
use super::layout;
use crate::insn::{BPF_MEMWORDS, Insn, RET};
use alloc::vec::Vec;
use effects::{leaves, needs};
use skep_isa::opcode::K;

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
}

/// There is no code: it needs more scratch words than there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OutOfWords;

/// A way into a node, while its code is made.
#[derive(Clone, Copy)]
struct Incoming {
    from: NodeId,
    yes: bool,
    state: State,
    /// The next way into the same node, by index.
    next: u32,
}

/// The ways into all nodes, as lists.
struct Ways {
    all: Vec<Incoming>,
    /// The first and the last way into each node, by index.
    ends: Vec<(u32, u32)>,
}

impl Ways {
    fn new(nodes: usize) -> Self {
        Self {
            all: Vec::with_capacity(2 * nodes),
            ends: alloc::vec![(NONE, NONE); nodes],
        }
    }

    fn add(&mut self, to: NodeId, from: NodeId, yes: bool, state: State) {
        let this = self.all.len() as u32;
        let (first, last) = &mut self.ends[to as usize];
        match self.all.get_mut(*last as usize) {
            Some(last) => last.next = this,
            None => *first = this,
        }
        *last = this;
        self.all.push(Incoming {
            from,
            yes,
            state,
            next: NONE,
        });
    }

    /// Puts the ways into a node into a list.
    fn list(&self, node: NodeId, into: &mut Vec<Incoming>) {
        into.clear();
        let mut at = self.ends[node as usize].0;
        while let Some(way) = self.all.get(at as usize) {
            into.push(*way);
            at = way.next;
        }
    }
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

type Emit = Result<(), OutOfWords>;

/// Compiles a graph: the shortest of a few ways to use the scratch words.
pub(crate) fn compile(arena: &Arena, graph: &Graph, snaplen: u32) -> Result<Vec<Insn>, OutOfWords> {
    let (emitted, computed) = emit(arena, graph, &[])?;
    let plain = layout::lay_out(graph, &emitted, snaplen);
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
        let words: Vec<Value> = frequent.iter().take(keep).map(|(_, v)| *v).collect();
        if let Ok((emitted, _)) = emit(arena, graph, &words) {
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
        Expr::Const(_) | Expr::Len | Expr::Load { .. } | Expr::Ancillary(..) | Expr::Msh(_) => 1,
    }
}

fn emit(arena: &Arena, graph: &Graph, words: &[Value]) -> Result<(Emitted, Vec<u16>), OutOfWords> {
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
    let mut incoming = Ways::new(graph.nodes.len());
    let (mut ways, mut entries) = (Vec::with_capacity(8), Vec::with_capacity(8));
    // The kernel and libpcap start with A and X zero.
    let zero = arena.zero();
    let first = State {
        a: zero,
        x: zero,
        words: 0,
    };
    let mut root_entry = 0;
    incoming.add(graph.root, NONE, true, first);
    for id in (2..=graph.root).rev() {
        incoming.list(id, &mut ways);
        if ways.is_empty() {
            continue;
        }
        let (item, out) = emitter.node(id, &ways, &mut entries)?;
        for (way, entry) in ways.iter().zip(&entries) {
            let entry = *entry;
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
                incoming.add(to, id, yes, out);
            }
        }
    }
    let emitted = Emitted {
        code: emitter.code,
        items,
        root_entry,
    };
    Ok((emitted, emitter.computed))
}

impl Emitter<'_> {
    /// The code of a node, where each way enters it, and what it leaves behind.
    fn node(
        &mut self,
        id: NodeId,
        ways: &[Incoming],
        entries: &mut Vec<u32>,
    ) -> Result<(Item, State), OutOfWords> {
        let node = self.graph.node(id);
        self.state = meet(ways);
        self.trace.clear();
        let start = self.code.len();
        let last = match node.step {
            Step::Test(test) => self.test(test, node.yes, node.no)?,
            Step::Touch(value) => {
                self.touch(value)?;
                Final::Goto
            }
            Step::Leaf => Final::Goto,
        };
        let out = self.enter(start, last, ways, entries);
        let way = |to| Way { to, entry: 0 };
        let item = Item {
            start: start as u32,
            end: self.code.len() as u32,
            last,
            yes: way(node.yes),
            no: way(node.no),
        };
        Ok((item, out))
    }

    /// Where each way enters the code from `start` on: as late as what it brings along allows. What the node leaves.
    fn enter(&self, start: usize, last: Final, ways: &[Incoming], entries: &mut Vec<u32>) -> State {
        entries.clear();
        let code = &self.code[start..];
        let end = self.state;
        if code.is_empty() {
            entries.resize(ways.len(), 0);
            return meet(ways);
        }
        let needs = needs(code, last);
        let mut out: Option<State> = None;
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
        out.unwrap_or(end)
    }
}

/// What all ways have in common; there is at least one.
fn meet(ways: &[Incoming]) -> State {
    let others = ways[1..].iter();
    others.fold(ways[0].state, |state, way| state.meet(way.state))
}

/// Instructions that end a program.
pub(super) fn leaf(id: NodeId, snaplen: u32) -> Insn {
    Insn::new(RET | K, if id == ACCEPT { snaplen } else { 0 })
}
