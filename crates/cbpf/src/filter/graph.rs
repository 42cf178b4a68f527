//! The decision graph: tests with two ways on, equal subgraphs shared.
//!
//! Nodes are created after the nodes they lead to, so descending index is an order from the root down, and ascending
//! index one from the leaves up.

use super::expr::{Arena, Test, Value};
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
    /// Computes a value for its loads, then goes on.
    Touch(Value),
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
    /// Open-addressed table of node indexes, a power of two long; it doubles when half full.
    table: Vec<u32>,
}

fn hash(node: &Node) -> usize {
    let step = match node.step {
        Step::Leaf => 0,
        Step::Test(t) => {
            (u32::from(t.relation.code()) * 0x101)
                ^ (Arena::index(t.left) as u32).wrapping_mul(0x9e37_79b1)
                ^ (Arena::index(t.right) as u32).wrapping_mul(0x85eb_ca6b)
        }
        Step::Touch(v) => Arena::index(v) as u32 ^ 0x3333,
    };
    let h = step
        .wrapping_add(node.yes.wrapping_mul(0xc2b2_ae35))
        .rotate_left(13)
        .wrapping_add(node.no.wrapping_mul(0x27d4_eb2f));
    (h ^ (h >> 15)) as usize
}

impl Graph {
    /// A graph of the two leaves, with room for about so many more nodes.
    pub(crate) fn with_capacity(nodes: usize) -> Self {
        let leaf = Node {
            step: Step::Leaf,
            yes: NONE,
            no: NONE,
        };
        let table = (nodes * 2 + 8).next_power_of_two();
        let mut nodes = Vec::with_capacity(nodes + 2);
        nodes.extend([leaf, leaf]);
        Self {
            nodes,
            root: ACCEPT,
            table: alloc::vec![NONE; table],
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

    /// The node with this content. A test whose ways lead to the same node is made for its loads alone; whatever only
    /// leads to a rejection is left out.
    pub(crate) fn make(&mut self, step: Step, yes: NodeId, no: NodeId) -> NodeId {
        match step {
            _ if yes == REJECT && no == REJECT => REJECT,
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
}
