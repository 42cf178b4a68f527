//! Passes over the SSA form, each in a file of its own, and their order.

pub(crate) mod bits;
mod cfg;
mod constants;
pub(crate) mod hash;
mod idiom;
mod loops;
mod motion;
mod promote;
mod simplify;
mod switch;

use super::ir::Graph;
use super::source::Source;
use skep_verifier::Caps;

/// Rounds of simplification before what is left is good enough.
const ROUNDS: usize = 4;

/// Improves a graph and leaves it ready for instruction selection: no critical edges, loops with preheaders.
pub(crate) fn run(g: &mut Graph, src: Source<'_>, vectors: bool) {
    settle(g);
    promote::run(g, src);
    settle(g);
    if cfg::if_convert(g) {
        settle(g);
    }
    // A jump table is an indirect jump, which a mispredicted index could misdirect.
    if src.caps == Caps::All {
        switch::form(g);
        cfg::clean(g);
    }
    loops::make_preheaders(g);
    if vectors {
        idiom::run(g, src);
        settle(g);
        loops::make_preheaders(g);
    }
    loops::normalise_exits(g);
    settle(g);
    loops::make_preheaders(g);
    motion::hoist(g);
    cfg::split_critical_edges(g);
    motion::sink(g);
    cfg::drop_dead(g);
}

/// Simplifies until nothing changes, within reason.
fn settle(g: &mut Graph) {
    for _ in 0..ROUNDS {
        let changed = simplify::run(g);
        cfg::clean(g);
        cfg::drop_dead(g);
        if !changed {
            break;
        }
    }
}
