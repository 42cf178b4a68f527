//! Facts as text and JSON.

pub(crate) mod btf;
pub(crate) mod digest;
pub(crate) mod disasm;
pub(crate) mod element;
pub(crate) mod rejection;
pub(crate) mod reports;
pub(crate) mod sarif;
pub(crate) mod time;
pub(crate) mod value;
