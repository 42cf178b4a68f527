//! Runs verified eBPF programs: interpreter and JIT.
