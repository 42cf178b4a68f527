//! Facts as text and JSON.

pub(crate) mod element;
pub(crate) mod time;
pub(crate) mod value;
