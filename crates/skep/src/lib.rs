//! The whole eBPF system as a library.
//!
//! [`Kernel`] drives the running kernel through `bpf(2)`; `skep_user` has the other implementation of the same trait,
//! [`skep_bpf::Backend`]. Everything else here works on either.
//!
//! An object on a packet, in the user backend; with [`Kernel`] instead of `Universe` the same runs in the kernel.
//!
//! ```
//! use skep::load::{LoadOptions, load};
//! use skep_bpf::{Backend, TestRun};
//! use skep_object::{Object, Options};
//! use std::sync::Arc;
//!
//! let bytes = std::fs::read("../../examples/packets.bpf.o")?;
//! let object = Object::parse(&bytes, &Options { name: "packets.bpf.o".to_owned() })?;
//! let universe = skep_user::Universe::new(skep_user::Options::default())?;
//! let backend: Arc<dyn Backend> = Arc::new(universe);
//! let target = skep::target::of(backend.as_ref(), &object.needs())?;
//! let loaded = load(&object.relocate(&target)?, &backend, &LoadOptions::default())?;
//! let run = TestRun { data_in: Some(vec![0; 64]), ..TestRun::default() };
//! let verdict = backend.prog_test_run(loaded.programs[0].handle, &run)?.retval;
//! assert_eq!(verdict, 2, "XDP_PASS");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod assembly;
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
mod locals;
pub mod net;
pub mod pins;
#[cfg(feature = "tokio")]
pub mod stream;
pub mod target;
pub mod test_run;
pub mod time;
pub mod typed;
pub mod value;
pub mod variable;
pub mod xsk;

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
