//! `bpf(2)` in user space: the object model over skep's own verifier, engines and maps.
//!
//! A [`Universe`] is one world of objects with ids, handles and reference counts; it implements
//! [`Backend`](skep_bpf::Backend) with the kernel's names, checks and errno. It is an explicit value: two of them share
//! nothing but what is pinned in the same directory.

mod backend;
mod deferred;
mod device;
mod elements;
mod error;
mod events;
mod fields;
mod heap;
mod hooks;
mod host;
mod inner;
mod link;
pub mod listing;
mod load;
mod map_object;
mod memory;
mod names;
mod objects;
mod pin;
pub mod profile;
pub mod registry;
mod run;
mod state;
mod storage;
mod tag;
mod universe;

pub use device::{Delivery, Fate};
pub use universe::{Options, Universe};
