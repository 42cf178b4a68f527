//! What helpers need beyond the fixed part of the run environment.

use std::sync::Arc;

/// What a universe does for its running programs.
pub trait Host: Send + Sync {
    /// `bpf_trace_printk`: one formatted line.
    fn trace(&self, line: &str);
    /// `num_possible_cpus`
    fn possible_cpus(&self) -> u32;
}

/// Per-worker state of the helpers.
pub struct World {
    /// The universe.
    pub host: Arc<dyn Host>,
    /// State of the pseudo-random generator.
    pub random_state: u64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

impl World {
    /// Fresh state.
    #[must_use]
    pub fn new(host: Arc<dyn Host>) -> Self {
        Self {
            host,
            random_state: 0,
        }
    }
}
