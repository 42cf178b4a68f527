//! The process-private parts of each map type.

/// What a header knows beyond its numbers.
#[derive(Debug)]
pub(crate) enum Body {
    /// Array or per-CPU array.
    Array,
    /// One of the hash maps.
    Hash(crate::hash::Hash),
    /// Queue or stack.
    Queue(crate::queue::Queue),
    /// Bloom filter.
    Bloom(crate::bloom::Bloom),
    /// Elements that name other objects.
    Objects(crate::objects::Objects),
    /// Longest-prefix-match trie.
    Lpm(crate::lpm::Lpm),
    /// Ring buffer or user ring buffer.
    Ring(crate::ring::Ring),
    /// Arena.
    Arena(crate::arena::Arena),
    /// Stack traces.
    Stacks(crate::stacks::Stacks),
}
