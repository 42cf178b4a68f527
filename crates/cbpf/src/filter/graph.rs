//! The decision graph: tests with two ways on, equal subgraphs shared.
//!
//! Nodes are created after the nodes they lead to, so descending index is an order from the root down, and ascending
//! index one from the leaves up.

use super::expr::{Arena, Chain, Cond, CondKind, Test, Value};
use alloc::vec::Vec;

/// A node, by index.
pub(crate) type NodeId = u32;

/// The leaf that accepts.
pub(crate) const ACCEPT: NodeId = 0;
/// The leaf that rejects.
pub(crate) const REJECT: NodeId = 1;
/// No node.
pub(crate) const NONE: u32 = u32::MAX;

/// What a node does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Step {
    Leaf,
    Test(Test),
    /// Walks protocol headers; then a test.
    Chain(Chain),
    /// Computes a value for its loads, then goes on.
    Touch(Value),
    /// Sets a variable, then goes on.
    Assign(u32, Value),
}

/// A node. Steps that do not branch have the same target twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Node {
    pub(crate) step: Step,
    pub(crate) yes: NodeId,
    pub(crate) no: NodeId,
}

/// A graph under construction, or whole.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) root: NodeId,
    /// Whether a test whose ways lead to the same node is left out with its loads.
    drops_loads: bool,
    /// Open-addressed table of node indexes, a power of two long.
    table: Vec<u32>,
}

/// Slots of the first table; it doubles when half full.
const TABLE_START: usize = 128;

fn hash(node: &Node) -> usize {
    let step = match node.step {
        Step::Leaf => 0,
        Step::Test(t) => {
            (u32::from(t.relation.code()) * 0x101)
                ^ (Arena::index(t.left) as u32).wrapping_mul(0x9e37_79b1)
                ^ (Arena::index(t.right) as u32).wrapping_mul(0x85eb_ca6b)
        }
        Step::Chain(c) => c.protocol ^ 0x5555,
        Step::Touch(v) => Arena::index(v) as u32 ^ 0x3333,
        Step::Assign(var, v) => var.wrapping_mul(77) ^ Arena::index(v) as u32 ^ 0x7777,
    };
    let h = step
        .wrapping_add(node.yes.wrapping_mul(0xc2b2_ae35))
        .rotate_left(13)
        .wrapping_add(node.no.wrapping_mul(0x27d4_eb2f));
    (h ^ (h >> 15)) as usize
}

impl Graph {
    /// A graph of the two leaves. A test whose ways lead to the same node is left out; `drops_loads` says whether its
    /// loads are, too, as libpcap does.
    pub(crate) fn new(drops_loads: bool) -> Self {
        let leaf = Node {
            step: Step::Leaf,
            yes: NONE,
            no: NONE,
        };
        let mut nodes = Vec::with_capacity(64);
        nodes.extend([leaf, leaf]);
        Self {
            nodes,
            root: ACCEPT,
            drops_loads,
            table: alloc::vec![NONE; TABLE_START],
        }
    }

    pub(crate) fn node(&self, id: NodeId) -> Node {
        self.nodes[id as usize]
    }

    fn slot(&self, node: &Node) -> usize {
        let mask = self.table.len() - 1;
        let mut at = hash(node) & mask;
        while self.table[at] != NONE && self.nodes[self.table[at] as usize] != *node {
            at = (at + 1) & mask;
        }
        at
    }

    /// The node with this content.
    pub(crate) fn make(&mut self, step: Step, yes: NodeId, no: NodeId) -> NodeId {
        match step {
            Step::Test(_) if yes == no && self.drops_loads => yes,
            Step::Test(test) if yes == no => {
                let second = self.make(Step::Touch(test.right), yes, yes);
                self.make(Step::Touch(test.left), second, second)
            }
            _ => self.insert(Node { step, yes, no }),
        }
    }

    fn insert(&mut self, node: Node) -> NodeId {
        if self.nodes.len() * 2 >= self.table.len() {
            self.table = alloc::vec![NONE; self.table.len() * 2];
            for id in 2..self.nodes.len() {
                let slot = self.slot(&self.nodes[id]);
                self.table[slot] = id as u32;
            }
        }
        let slot = self.slot(&node);
        if self.table[slot] == NONE {
            self.table[slot] = self.nodes.len() as u32;
            self.nodes.push(node);
        }
        self.table[slot]
    }

    /// The graph of a condition.
    pub(crate) fn of_cond(arena: &Arena, cond: Cond) -> Self {
        let mut graph = Self::new(true);
        graph.root = graph.build(arena, cond, ACCEPT, REJECT);
        graph
    }

    fn build(&mut self, arena: &Arena, cond: Cond, yes: NodeId, no: NodeId) -> NodeId {
        let (mut cond, mut yes, mut no) = (cond, yes, no);
        loop {
            // Lists lean to the left: recursion is only into parentheses, whose depth the parser limits.
            match arena.cond_kind(cond) {
                CondKind::True => return yes,
                CondKind::False => return no,
                CondKind::Test(test) => return self.make(Step::Test(test), yes, no),
                CondKind::Touch(value) => return self.make(Step::Touch(value), yes, yes),
                CondKind::Assign(var, value) => {
                    return self.make(Step::Assign(var, value), yes, yes);
                }
                CondKind::Chain(chain) => return self.make(Step::Chain(chain), yes, no),
                CondKind::Not(inner) => {
                    cond = inner;
                    core::mem::swap(&mut yes, &mut no);
                }
                CondKind::And(a, b) => {
                    yes = self.build(arena, b, yes, no);
                    cond = a;
                }
                CondKind::Or(a, b) => {
                    no = self.build(arena, b, yes, no);
                    cond = a;
                }
            }
        }
    }

    /// Which nodes the root leads to.
    pub(crate) fn reachable(&self) -> Vec<bool> {
        let mut found = alloc::vec![false; self.nodes.len()];
        found[self.root as usize] = true;
        for id in (2..self.nodes.len()).rev() {
            if found[id] {
                found[self.nodes[id].yes as usize] = true;
                found[self.nodes[id].no as usize] = true;
            }
        }
        found
    }

    /// Ways that lead to each node from nodes that the root leads to; a step that does not branch has one way.
    pub(crate) fn ways_in(&self) -> Vec<u32> {
        let found = self.reachable();
        let mut ways = alloc::vec![0; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate().skip(2) {
            if found[id] {
                ways[node.yes as usize] += 1;
                if node.no != node.yes {
                    ways[node.no as usize] += 1;
                }
            }
        }
        ways
    }
}
