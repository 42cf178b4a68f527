//! Improvement of the graph: ways that skip tests whose outcome is known, and tests of one value brought together.

use super::expr::{Arena, Test, Value};
use super::facts::{FactId, Facts, NOTHING, loads, step_covers};
use super::graph::{ACCEPT, Graph, NONE, Node, NodeId, REJECT, Step};
use crate::insn::Relation;
use alloc::vec::Vec;

/// Most rounds; each shortens at least one way, and two or three are usual.
const ROUNDS_MAX: usize = 12;

/// How much is understood of what is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wit {
    /// As much as libpcap does; loads are skipped where it skips them.
    Libpcap,
    /// All that follows; every load that might end the run is kept.
    Full,
}

/// An improved graph.
pub(crate) struct Simplified {
    /// With all that follows from what is known.
    pub(crate) full: Graph,
    /// As libpcap would have it; its code may be shorter, since a skipped test is sometimes a skipped load.
    pub(crate) plain: Graph,
    /// Whether libpcap would see that it accepts nothing.
    pub(crate) accepts_nothing: bool,
}

/// Improves a graph until nothing changes.
pub(crate) fn simplify(arena: &Arena, graph: Graph) -> Simplified {
    let mut graph = settle(arena, graph, Wit::Libpcap);
    if let Some(grouped) = group(&graph) {
        graph = settle(arena, grouped, Wit::Libpcap);
    }
    let accepts_nothing = graph.root == REJECT;
    let full = rebuild(arena, &graph, graph.root, Wit::Full, |id| {
        (graph.node(id).yes, graph.node(id).no)
    });
    let full = settle(arena, full, Wit::Full);
    Simplified {
        full: drop_touches(arena, &full).unwrap_or(full),
        plain: drop_touches(arena, &graph).unwrap_or(graph),
        accepts_nothing,
    }
}

fn settle(arena: &Arena, graph: Graph, wit: Wit) -> Graph {
    let mut graph = graph;
    for _ in 0..ROUNDS_MAX {
        match thread(arena, &graph, wit) {
            Some(shorter) => graph = shorter,
            None => break,
        }
    }
    graph
}

/// Lets every way skip the tests whose outcome it decides; `None` if there is none.
fn thread(arena: &Arena, graph: &Graph, wit: Wit) -> Option<Graph> {
    let count = graph.nodes.len();
    let mut facts = Facts::new();
    let mut known: Vec<FactId> = alloc::vec![NONE; count];
    let mut ways: Vec<(NodeId, NodeId)> = graph.nodes.iter().map(|n| (n.yes, n.no)).collect();
    let root = skip(arena, graph, &facts, NOTHING, graph.root, wit);
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
            let target = skip(arena, graph, &facts, fact, to, wit);
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
            Step::Test(_) | Step::Chain(_) => follow(node.no, false),
            _ => yes,
        };
        ways[id] = (yes, no);
    }
    changed.then(|| rebuild(arena, graph, root, wit, |id| ways[id as usize]))
}

/// The first node from `to` on that what is known does not decide.
fn skip(
    arena: &Arena,
    graph: &Graph,
    facts: &Facts,
    known: FactId,
    to: NodeId,
    wit: Wit,
) -> NodeId {
    let mut to = to;
    loop {
        let node = graph.node(to);
        to = match node.step {
            Step::Test(test) => {
                let outcome = match wit {
                    Wit::Libpcap => facts.decide_as_libpcap(arena, known, test),
                    Wit::Full => facts.decide(arena, known, test),
                };
                match outcome {
                    Some(true) => node.yes,
                    Some(false) => node.no,
                    None => return to,
                }
            }
            Step::Touch(value) if facts.covers(arena, known, value) => node.yes,
            _ => return to,
        };
    }
}

/// The graph with other ways.
fn rebuild(
    arena: &Arena,
    graph: &Graph,
    root: NodeId,
    wit: Wit,
    ways: impl Fn(NodeId) -> (NodeId, NodeId),
) -> Graph {
    let mut wanted = alloc::vec![false; graph.nodes.len()];
    wanted[root as usize] = true;
    for id in (2..=root).rev() {
        if wanted[id as usize] {
            let (yes, no) = ways(id);
            wanted[yes as usize] = true;
            wanted[no as usize] = true;
        }
    }
    let mut new = Graph::new(wit == Wit::Libpcap);
    let mut map: Vec<NodeId> = alloc::vec![NONE; graph.nodes.len()];
    map[ACCEPT as usize] = ACCEPT;
    map[REJECT as usize] = REJECT;
    for id in 2..=root {
        if wanted[id as usize] {
            let (yes, no) = ways(id);
            let step = match graph.node(id).step {
                Step::Test(test) if wit == Wit::Full => Step::Test(Test {
                    late: false,
                    ..test
                }),
                step => step,
            };
            let (yes, mut no) = (map[yes as usize], map[no as usize]);
            if wit == Wit::Full && always(arena, step) {
                no = yes;
            }
            map[id as usize] = new.make(step, yes, no);
        }
    }
    new.root = map[root as usize];
    new
}

/// Whether a test holds whatever its value.
fn always(arena: &Arena, step: Step) -> bool {
    matches!(step, Step::Test(t) if t.relation == Relation::Ge && arena.as_const(t.right) == Some(0))
}

/// A run of tests that all leave for the same node if they hold (or do not), else go on to the next.
struct Run {
    nodes: Vec<NodeId>,
    exit: NodeId,
    end: NodeId,
}

/// Brings the tests of one value together in every run of alternatives; `None` if all are.
///
/// A test moved before another one's load changes what happens to packets that end between them; libpcap moves the same
/// tests, and packets shall fare as they do there.
fn group(graph: &Graph) -> Option<Graph> {
    let ways_in = graph.ways_in();
    let mut heads: Vec<Option<Run>> = Vec::new();
    heads.resize_with(graph.nodes.len(), || None);
    let mut inside = alloc::vec![false; graph.nodes.len()];
    let brought = brought(graph, &ways_in);
    let mut any = false;
    for id in (2..=graph.root).rev() {
        if ways_in[id as usize] == 0 && id != graph.root || inside[id as usize] {
            continue;
        }
        let node = graph.node(id);
        let runs = [node.yes, node.no].map(|exit| run(graph, &ways_in, id, exit));
        let [one, other] = runs;
        let longer = if one.nodes.len() >= other.nodes.len() {
            one
        } else {
            other
        };
        let brought = brought[id as usize];
        if longer.nodes.len() < if brought.is_some() { 2 } else { 3 } {
            continue;
        }
        let ordered = grouped(graph, &longer.nodes, brought);
        for inner in &longer.nodes[1..] {
            inside[*inner as usize] = true;
        }
        if ordered != longer.nodes {
            any = true;
            heads[id as usize] = Some(Run {
                nodes: ordered,
                ..longer
            });
        }
    }
    any.then(|| regroup(graph, &heads))
}

/// The longest run from `head` with this exit.
fn run(graph: &Graph, ways_in: &[u32], head: NodeId, exit: NodeId) -> Run {
    let mut nodes = Vec::new();
    let mut at = head;
    loop {
        let node = graph.node(at);
        let alternative =
            matches!(node.step, Step::Test(_)) && (nodes.is_empty() || ways_in[at as usize] == 1);
        let next = match (alternative, node.yes == exit, node.no == exit) {
            (true, true, false) => node.no,
            (true, false, true) => node.yes,
            _ => {
                return Run {
                    nodes,
                    exit,
                    end: at,
                };
            }
        };
        nodes.push(at);
        at = next;
    }
}

/// The value a node tests.
fn tested(node: Node) -> Option<Value> {
    match node.step {
        Step::Test(test) => Some(test.left),
        _ => None,
    }
}

/// For each node that one way leads to: the value tested before it, which is at hand.
fn brought(graph: &Graph, ways_in: &[u32]) -> Vec<Option<Value>> {
    let mut brought = alloc::vec![None; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate().skip(2) {
        for to in [node.yes, node.no] {
            if ways_in[id] > 0 && ways_in[to as usize] == 1 {
                brought[to as usize] = tested(*node);
            }
        }
    }
    brought
}

/// The nodes with those of one value after the first of that value, and those of the value at hand before all.
fn grouped(graph: &Graph, nodes: &[NodeId], brought: Option<Value>) -> Vec<NodeId> {
    let mut ordered: Vec<NodeId> = Vec::with_capacity(nodes.len());
    let mut groups: Vec<(Option<Value>, Vec<NodeId>)> = Vec::new();
    for id in nodes {
        let value = tested(graph.node(*id));
        match groups.iter_mut().rev().find(|(v, _)| *v == value) {
            Some((_, group)) => group.push(*id),
            None => groups.push((value, alloc::vec![*id])),
        }
    }
    groups.sort_by_key(|(value, _)| value.is_none() || *value != brought);
    for (_, group) in groups {
        ordered.extend(group);
    }
    ordered
}

fn regroup(graph: &Graph, heads: &[Option<Run>]) -> Graph {
    let mut new = Graph::new(true);
    let mut map: Vec<NodeId> = alloc::vec![NONE; graph.nodes.len()];
    map[ACCEPT as usize] = ACCEPT;
    map[REJECT as usize] = REJECT;
    for id in 2..=graph.root {
        let node = graph.node(id);
        map[id as usize] = match &heads[id as usize] {
            None => new.make(node.step, map[node.yes as usize], map[node.no as usize]),
            Some(run) => run
                .nodes
                .iter()
                .rev()
                .fold(map[run.end as usize], |next, at| {
                    let node = graph.node(*at);
                    let out = map[run.exit as usize];
                    if node.yes == run.exit {
                        new.make(node.step, out, next)
                    } else {
                        new.make(node.step, next, out)
                    }
                }),
        };
    }
    new.root = map[graph.root as usize];
    new
}

/// Leaves out loads made for their own sake that every way to acceptance makes anyway; `None` if there are none.
fn drop_touches(arena: &Arena, graph: &Graph) -> Option<Graph> {
    let mut drop = alloc::vec![false; graph.nodes.len()];
    let mut any = false;
    for (id, node) in graph.nodes.iter().enumerate().skip(2) {
        if let Step::Touch(value) = node.step {
            let mut all = true;
            loads(arena, value, &mut |base, end| {
                all &= anticipated(arena, graph, node.yes, base, end);
            });
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
        let mut new = rebuild(arena, graph, graph.root, Wit::Full, |id| {
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

/// Whether every way from a node to acceptance loads from this base at least as far.
fn anticipated(arena: &Arena, graph: &Graph, from: NodeId, base: Option<Value>, end: u32) -> bool {
    let mut answer = alloc::vec![false; from as usize + 2];
    answer[REJECT as usize] = true;
    for id in 2..=from as usize {
        let node = graph.nodes[id];
        answer[id] = step_covers(arena, node.step, base, end)
            || answer[node.yes as usize] && answer[node.no as usize];
    }
    answer[from as usize]
}
