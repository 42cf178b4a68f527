//! Improvement of the graph: ways that skip tests whose outcome is known, and tests of one value brought together.

use super::expr::Arena;
use super::facts::{FactId, Facts, NOTHING, Need, Needs};
use super::graph::{ACCEPT, Graph, NONE, NodeId, REJECT, Step};
use alloc::vec::Vec;

/// Most rounds; each shortens at least one way, and two or three are usual.
const ROUNDS_MAX: usize = 12;

/// Improves a graph until nothing changes.
pub(crate) fn simplify(arena: &Arena, graph: Graph) -> Graph {
    let Some(needs) = Needs::of_all(arena) else {
        return graph;
    };
    let mut graph = settle(arena, &needs, graph);
    for _ in 0..2 {
        match drop_all_touches(&needs, &graph) {
            Some(fewer) => graph = settle(arena, &needs, fewer),
            None => break,
        }
    }
    graph
}

fn settle(arena: &Arena, needs: &Needs, graph: Graph) -> Graph {
    let mut graph = graph;
    for _ in 0..ROUNDS_MAX {
        match thread(arena, needs, &graph) {
            Some(shorter) => graph = shorter,
            None => break,
        }
    }
    graph
}

/// Lets every way skip the tests whose outcome it decides; `None` if there is none.
fn thread(arena: &Arena, needs: &Needs, graph: &Graph) -> Option<Graph> {
    let count = graph.nodes.len();
    let mut facts = Facts::with_capacity(count);
    let mut known: Vec<FactId> = alloc::vec![NONE; count];
    let mut ways: Vec<(NodeId, NodeId)> = graph.nodes.iter().map(|n| (n.yes, n.no)).collect();
    let root = skip(arena, needs, graph, &facts, NOTHING, graph.root);
    known[root as usize] = NOTHING;
    let mut changed = root != graph.root;
    for id in (2..=root as usize).rev() {
        let before = known[id];
        if before == NONE {
            continue;
        }
        let node = graph.nodes[id];
        let mut follow = |to: NodeId, outcome: bool| {
            let fact = facts.learn(before, node.step, outcome);
            let target = skip(arena, needs, graph, &facts, fact, to);
            let at = &mut known[target as usize];
            *at = if *at == NONE {
                fact
            } else {
                facts.meet(*at, fact)
            };
            changed |= target != to;
            target
        };
        let yes = follow(node.yes, true);
        let no = match node.step {
            Step::Test(_) => follow(node.no, false),
            _ => yes,
        };
        ways[id] = (yes, no);
    }
    changed.then(|| rebuild(graph, root, |id| ways[id as usize]))
}

/// The first node from `to` on that what is known does not decide.
fn skip(
    arena: &Arena,
    needs: &Needs,
    graph: &Graph,
    facts: &Facts,
    known: FactId,
    to: NodeId,
) -> NodeId {
    let mut to = to;
    loop {
        let node = graph.node(to);
        to = match node.step {
            Step::Test(test) => {
                let outcome = facts.decide(arena, known, test).filter(|_| {
                    // A test that is skipped may be the one that reads so far into the packet.
                    facts.covers(needs, known, test.left) && facts.covers(needs, known, test.right)
                });
                match outcome {
                    Some(true) => node.yes,
                    Some(false) => node.no,
                    None => return to,
                }
            }
            Step::Touch(value) if facts.covers(needs, known, value) => node.yes,
            _ => return to,
        };
    }
}

/// The graph with other ways.
fn rebuild(graph: &Graph, root: NodeId, ways: impl Fn(NodeId) -> (NodeId, NodeId)) -> Graph {
    let mut wanted = alloc::vec![false; graph.nodes.len()];
    wanted[root as usize] = true;
    for id in (2..=root).rev() {
        if wanted[id as usize] {
            let (yes, no) = ways(id);
            wanted[yes as usize] = true;
            wanted[no as usize] = true;
        }
    }
    let mut new = Graph::with_capacity(graph.nodes.len());
    let mut map: Vec<NodeId> = alloc::vec![NONE; graph.nodes.len()];
    map[ACCEPT as usize] = ACCEPT;
    map[REJECT as usize] = REJECT;
    for id in 2..=root {
        if wanted[id as usize] {
            let (yes, no) = ways(id);
            let step = graph.node(id).step;
            let (yes, no) = (map[yes as usize], map[no as usize]);
            map[id as usize] = new.make(step, yes, no);
        }
    }
    new.root = map[root as usize];
    new
}

fn drop_all_touches(needs: &Needs, graph: &Graph) -> Option<Graph> {
    let mut fewer = drop_touches(needs, graph)?;
    for _ in 1..ROUNDS_MAX {
        match drop_touches(needs, &fewer) {
            Some(even_fewer) => fewer = even_fewer,
            None => break,
        }
    }
    Some(fewer)
}

/// Leaves out loads made for their own sake that every way to acceptance makes anyway; `None` if there are none.
fn drop_touches(needs: &Needs, graph: &Graph) -> Option<Graph> {
    let mut drop = alloc::vec![false; graph.nodes.len()];
    let mut any = false;
    let mut walk = Walk::default();
    for (id, node) in graph.nodes.iter().enumerate().skip(2) {
        if let Step::Touch(value) = node.step {
            let mut all = needs.of(value).iter();
            let all = all.all(|need| walk.anticipates(needs, graph, node.yes, *need));
            drop[id] = all;
            any |= all;
        }
    }
    any.then(|| {
        let real = |to: NodeId| {
            let mut to = to;
            while drop[to as usize] {
                to = graph.node(to).yes;
            }
            to
        };
        let mut new = rebuild(graph, graph.root, |id| {
            let node = graph.node(id);
            (real(node.yes), real(node.no))
        });
        if drop[graph.root as usize] {
            // The root itself goes: what it leads to is the last node made before it.
            new.root = new.node(new.root).yes;
        }
        new
    })
}

/// A search along the ways from a node, with memory that is used again.
#[derive(Default)]
struct Walk {
    seen: Vec<bool>,
    stack: Vec<NodeId>,
}

impl Walk {
    /// Whether every way from a node to acceptance does what is needed.
    fn anticipates(&mut self, needs: &Needs, graph: &Graph, from: NodeId, need: Need) -> bool {
        self.seen.clear();
        self.seen.resize(from as usize + 1, false);
        self.stack.clear();
        self.stack.push(from);
        while let Some(id) = self.stack.pop() {
            if id == ACCEPT {
                return false;
            }
            if id == REJECT || core::mem::replace(&mut self.seen[id as usize], true) {
                continue;
            }
            let node = graph.node(id);
            if !needs.met_by(node.step, need) {
                self.stack.extend([node.yes, node.no]);
            }
        }
        true
    }
}
