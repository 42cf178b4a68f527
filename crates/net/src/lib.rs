//! Packet captures.
#![forbid(unsafe_code)]

pub mod pcap;
