//! System calls; the only crate that makes them.
//!
//! Thin: a function a call, `io::Result` out, descriptors owned. What a call means is decided above.

pub mod attr;
pub mod bpf;
pub mod bpf_link;
pub mod bpf_map;
pub mod bpf_obj;
pub mod bpf_prog;
pub mod cgroup;
pub mod child;
pub mod clock;
pub mod cpus;
pub mod epoll;
pub mod exec;
pub mod fault;
pub mod filelock;
pub mod futex;
pub mod ids;
pub mod mem;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod notified;
pub mod owner;
pub mod packet;
pub mod perf;
pub mod process;
pub mod random;
pub mod ringbuf;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod status;
pub mod task;
pub mod vmas;
pub mod xsk;
