//! Facts about Linux eBPF as tables: types, helpers, context fields, section names, limits. Lookup only, no logic.
#![forbid(unsafe_code)]

pub mod ctx;
mod errno;
pub mod helper;
pub mod kernel;
pub mod kfunc;
pub mod limits;
pub mod lsm;
pub mod map;
pub mod map_flags;
pub mod prog;
pub mod prog_flags;
pub mod section;
pub mod since;
pub mod struct_ops;
pub mod tracing;
pub mod trust;
pub mod types;

pub use errno::Errno;
pub use types::{AttachType, MapType, ProgType};
