//! eBPF maps in shared memory.
