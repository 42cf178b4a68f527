//! Classic BPF, whole: instructions, the kernel's checks, an interpreter, translation to eBPF, text, and the compiler of
//! the packet filter language (pcap-filter(7)).
//!
//! ```
//! use skep_cbpf::filter::{Filter, LinkType, Target};
//! let filter = Filter::compile("tcp port 80", &Target::file(LinkType::ETHERNET))?;
//! assert!(!filter.matches(&[0; 60], 60));
//! # Ok::<(), skep_cbpf::filter::FilterError>(())
//! ```
//!
//! `insn` has the facts, `check` the rules, `interp` the meaning, `translate` the eBPF of it, `text` the forms of
//! tcpdump's `-d`, `filter` the language, `seccomp` the system call policies. No OS, no `std`.
#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod check;
pub mod filter;
pub mod insn;
pub mod interp;
pub mod seccomp;
pub mod text;
pub mod translate;

pub use check::{CheckError, check, check_seccomp};
pub use insn::Insn;
pub use interp::{LongShift, Packet, Program};
