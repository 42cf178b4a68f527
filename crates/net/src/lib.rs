//! Packet captures.
#![forbid(unsafe_code)]

pub mod capture;
pub mod line;
pub mod pcap;
pub mod stream;
