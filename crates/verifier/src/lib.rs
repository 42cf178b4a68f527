//! The eBPF verifier: [`Request`] → [`Verified`] or [`Rejection`], with the verdict of Linux.
//!
//! No OS, no I/O, no ELF: programs arrive as instructions, BTF and map descriptors. A [`Verified`] can only be made by
//! [`verify`]; engines rest on it.
#![forbid(unsafe_code)]

mod domain;
mod rejection;
mod request;
mod verified;

pub use rejection::{Class, Rejection};
pub use request::{Caps, FuncInfo, LineInfo, MapDesc, ProgArrayOwner, Request};
pub use verified::{
    AccessFact, Branch, CallFact, InsnFact, Region, SockKind, Stats, Subprog, Verified,
};
