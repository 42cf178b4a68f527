//! BPF Type Format: parse, validate, build, dump.
#![forbid(unsafe_code)]

pub mod record;

pub use record::{Field, FieldKind, KptrTag, Record};

/// Parsed BTF.
#[derive(Clone, Debug)]
pub struct Btf {}
