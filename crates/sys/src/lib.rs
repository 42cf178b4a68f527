//! System calls; the only crate that makes them.
