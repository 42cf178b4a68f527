//! What helpers need beyond the fixed part of the run environment.

/// Per-worker state of the helpers.
#[derive(Debug, Default)]
pub struct World {
    /// State of the pseudo-random generator.
    pub random_state: u64,
}
