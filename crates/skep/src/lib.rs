//! The whole eBPF system as a library.
//!
//! [`Kernel`] drives the running kernel through `bpf(2)`; `skep_user` has the other implementation of the same trait,
//! [`skep_bpf::Backend`]. Everything else here works on either.

pub mod attach;
pub mod btf_file;
pub mod cgroup;
pub mod check;
pub mod counters;
pub mod diagnose;
pub mod dump;
pub mod element;
pub mod events;
pub mod feature;
pub mod filter;
pub mod iterator;
mod kernel;
pub mod load;
pub mod net;
#[cfg(feature = "tokio")]
pub mod stream;
pub mod target;
pub mod test_run;
pub mod time;
pub mod typed;
pub mod value;
pub mod variable;

pub use kernel::{CodeKind, Kernel};
pub use zerocopy;

/// Commands that start with what watches them.
pub mod child {
    pub use skep_sys::child::Child;
}

/// Waiting for events, signals and children.
pub mod wait {
    pub use skep_sys::epoll::Epoll;
    pub use skep_sys::signal::Interrupts;
}
