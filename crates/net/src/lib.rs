//! Packet captures.
#![forbid(unsafe_code)]

pub mod capture;
pub mod error;
pub mod line;
pub mod stream;
pub mod write;
