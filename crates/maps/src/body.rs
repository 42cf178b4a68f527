//! The process-private parts of each map type.

/// What a header knows beyond its numbers.
#[derive(Debug)]
pub(crate) enum Body {
    /// Array or per-CPU array.
    Array,
}
