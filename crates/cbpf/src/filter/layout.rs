//! Order of the nodes in the program, and jumps within reach.
//!
//! Classic jumps go forward by at most 255 instructions; farther ones go through an island: a `ja`, or a copy of the
//! `ret` they lead to.

use super::emit::{Emitted, Final, Item, Way, leaf};
use super::graph::{ACCEPT, Graph, NONE, NodeId, REJECT};
use crate::insn::{Insn, Relation};
use alloc::vec::Vec;
use skep_isa::opcode::{JA, JMP, K};

/// Farthest a conditional jump reaches.
const JUMP_MAX: usize = 255;

/// A program under construction, from its end to its start. Places are counted from the end.
struct Backward<'a> {
    emitted: &'a Emitted,
    snaplen: u32,
    code: Vec<Insn>,
    /// Place of the first instruction of each node, in the program.
    starts: Vec<usize>,
    /// Latest island to each place.
    islands: Vec<(usize, usize)>,
    /// Conditional jumps put down: code, operand, both targets, place.
    jumps: Vec<(u8, u32, usize, usize, usize)>,
}

/// The program of all nodes.
pub(super) fn lay_out(graph: &Graph, emitted: &Emitted, snaplen: u32) -> Vec<Insn> {
    let order = order(graph, emitted);
    let mut b = Backward {
        emitted,
        snaplen,
        code: Vec::with_capacity(emitted.code.len() + graph.nodes.len() + 2),
        starts: alloc::vec![usize::MAX; graph.nodes.len()],
        islands: Vec::new(),
        jumps: Vec::new(),
    };
    let used = |leaf: NodeId| {
        graph.root == leaf
            || emitted.items.iter().flatten().any(|item| {
                item.yes.to == leaf || item.no.to == leaf && !matches!(item.last, Final::Goto)
            })
    };
    for id in [REJECT, ACCEPT] {
        if used(id) {
            b.starts[id as usize] = b.code.len();
            b.code.push(leaf(id, snaplen));
        }
    }
    for id in order.iter().rev() {
        if let Some(item) = emitted.items[*id as usize] {
            b.item(*id, item);
        }
    }
    if graph.root > REJECT {
        let way = Way {
            to: graph.root,
            entry: emitted.root_entry,
        };
        b.fall_to(way);
    }
    b.code.reverse();
    b.code
}

/// Nodes from the root down; a node that goes on to one other only stands before it where possible.
fn order(graph: &Graph, emitted: &Emitted) -> Vec<NodeId> {
    let count = graph.nodes.len();
    // The node that falls into each node, and whether a node falls into another.
    let mut before: Vec<NodeId> = alloc::vec![NONE; count];
    let mut falls = alloc::vec![false; count];
    for (id, item) in emitted.items.iter().enumerate() {
        let Some(item) = item else { continue };
        let to = resolve(emitted, item.yes).to;
        if matches!(item.last, Final::Goto)
            && item.start < item.end
            && to > REJECT
            && before[to as usize] == NONE
        {
            before[to as usize] = id as NodeId;
            falls[id] = true;
        }
    }
    let mut done = alloc::vec![false; count];
    let mut order: Vec<NodeId> = Vec::with_capacity(count);
    // Depth first, on an explicit stack; a unit is a node with those that fall into it, and is named by its last node.
    let last_of = |id: NodeId| {
        let mut id = id;
        while falls[id as usize]
            && let Some(item) = emitted.items[id as usize]
        {
            id = resolve(emitted, item.yes).to;
        }
        id
    };
    let mut stack: Vec<(NodeId, u8)> = Vec::new();
    let enter = |to: NodeId, done: &mut Vec<bool>, stack: &mut Vec<(NodeId, u8)>| {
        if to > REJECT {
            let unit = last_of(to);
            if !done[unit as usize] {
                done[unit as usize] = true;
                stack.push((unit, 0));
            }
        }
    };
    let root = Way {
        to: graph.root,
        entry: emitted.root_entry,
    };
    enter(resolve(emitted, root).to, &mut done, &mut stack);
    while let Some((unit, stage)) = stack.pop() {
        let item = emitted.items[unit as usize];
        let Some(item) = item else { continue };
        match stage {
            0 => {
                stack.push((unit, 1));
                enter(resolve(emitted, item.no).to, &mut done, &mut stack);
            }
            1 => {
                stack.push((unit, 2));
                enter(resolve(emitted, item.yes).to, &mut done, &mut stack);
            }
            _ => {
                let mut at = unit;
                while at != NONE {
                    order.push(at);
                    at = before[at as usize];
                }
            }
        }
    }
    order.reverse();
    order
}

/// The way past nodes that have no code where it enters them.
fn resolve(emitted: &Emitted, way: Way) -> Way {
    let mut way = way;
    while let Some(Some(item)) = emitted.items.get(way.to as usize)
        && matches!(item.last, Final::Goto)
        && way.entry == item.end - item.start
    {
        way = item.yes;
    }
    way
}

impl Backward<'_> {
    /// Place of the instruction a way leads to.
    fn place(&self, way: Way) -> usize {
        let way = resolve(self.emitted, way);
        self.starts[way.to as usize].wrapping_sub(way.entry as usize)
    }

    /// Makes the instruction before what comes next lead there.
    fn fall_to(&mut self, way: Way) {
        let place = self.place(way);
        if place + 1 != self.code.len() {
            self.island(place);
        }
    }

    /// An instruction that goes to a place, however far.
    fn island(&mut self, place: usize) {
        let insn = match self.ret_at(place) {
            Some(ret) => ret,
            None => Insn::new(JMP | JA, (self.code.len() - 1 - place) as u32),
        };
        self.islands.retain(|(to, _)| *to != place);
        self.islands.push((place, self.code.len()));
        self.code.push(insn);
    }

    /// The `ret` at a place, if one is there.
    fn ret_at(&self, place: usize) -> Option<Insn> {
        [REJECT, ACCEPT]
            .into_iter()
            .find(|id| self.starts[*id as usize] == place)
            .map(|id| leaf(id, self.snaplen))
    }

    /// A place within reach of a jump that is put down next, from which `place` is reached.
    fn near(&self, place: usize) -> Option<usize> {
        let reaches = |to: usize| self.code.len() - 1 - to <= JUMP_MAX;
        if reaches(place) {
            return Some(place);
        }
        self.islands
            .iter()
            .find(|(to, at)| *to == place && reaches(*at))
            .map(|(_, at)| *at)
    }

    fn jump(&mut self, code: u8, k: u32, yes: usize, no: usize) {
        // Two islands at most; each may push the other target out of reach, hence the second look.
        for place in [no, yes, no] {
            if self.near(place).is_none() {
                self.island(place);
            }
        }
        let skip = |place: usize| {
            let near = self.near(place).unwrap_or(place);
            (self.code.len() - 1 - near) as u8
        };
        let (jt, jf) = (skip(yes), skip(no));
        self.jumps.push((code, k, yes, no, self.code.len()));
        self.code.push(Insn::jump(code, k, jt, jf));
    }

    /// A jump put down before that does the same, near enough to be used instead.
    fn same_jump(&self, code: u8, k: u32, yes: usize, no: usize) -> Option<usize> {
        let same = |j: &&(u8, u32, usize, usize, usize)| (j.0, j.1, j.2, j.3) == (code, k, yes, no);
        let (.., place) = self.jumps.iter().rev().find(same)?;
        (self.code.len() - place < JUMP_MAX / 2).then_some(*place)
    }

    /// A node that is a conditional jump and nothing else.
    fn bare_jump(&mut self, id: NodeId, code: u8, k: u32, yes: usize, no: usize) -> bool {
        let Some(place) = self.same_jump(code, k, yes, no) else {
            return false;
        };
        self.starts[id as usize] = place;
        true
    }

    fn item(&mut self, id: NodeId, item: Item) {
        match item.last {
            Final::Goto => self.fall_to(item.yes),
            Final::Jump { code, k, negated } => {
                let (yes, no) = (self.place(item.yes), self.place(item.no));
                let (yes, no) = if negated { (no, yes) } else { (yes, no) };
                if item.start == item.end && self.bare_jump(id, JMP | code, k, yes, no) {
                    return;
                }
                self.jump(JMP | code, k, yes, no);
            }
            Final::Range { low, end } => {
                let (yes, no) = (self.place(item.yes), self.place(item.no));
                let above = match self.same_jump(JMP | Relation::Ge.code() | K, end, no, yes) {
                    Some(place) => place,
                    None => {
                        self.jump(JMP | Relation::Ge.code() | K, end, no, yes);
                        self.code.len() - 1
                    }
                };
                self.jump(JMP | Relation::Ge.code() | K, low, above, no);
            }
        }
        let code = &self.emitted.code[item.start as usize..item.end as usize];
        self.starts[id as usize] = self.code.len() + code.len() - 1;
        self.code.extend(code.iter().rev());
    }
}
