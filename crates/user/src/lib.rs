//! bpf(2) in user space.
