//! System calls; the only crate that makes them.
//!
//! Thin: a function a call, `io::Result` out, descriptors owned. What a call means is decided above.

pub mod attr;
pub mod bpf;
pub mod mem;
pub mod task;
