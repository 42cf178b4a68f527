//! The whole eBPF system as a library.
