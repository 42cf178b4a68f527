//! BPF Type Format: parse, validate, build, dump.
//!
//! [`Btf`] is a cheap handle over the raw bytes of one BTF blob: parsing only finds where each type starts, everything else is
//! read in place when asked for. Split BTF (of modules) holds its base. A type is named by its id, a `u32` as in the
//! kernel; 0 is `void`. [`Type`] is a view of one.
//!
//! Parsing accepts what can be read without ambiguity; [`Btf::validate`] asks what `BPF_BTF_LOAD` asks. No accessor panics on
//! BTF that was parsed but not validated: an id or string offset out of range reads as absent or empty.
#![forbid(unsafe_code)]

pub mod build;
pub mod c;
pub mod dedup;
mod error;
pub mod ext;
mod fields;
mod index;
mod parsed;
pub mod raw;
pub mod record;
mod types;
mod validate;

pub use build::Builder;
pub use error::{BtfError, BtfProblem};
pub use ext::{CoreRelo, Ext, FuncInfo, LineInfo};
pub use index::essential_name;
pub use parsed::{Btf, Kept};
pub use raw::Order;
pub use record::{Field, FieldKind, KptrTag, Record};
pub use types::{Array, DeclTag, EnumValue, Int, Kind, Linkage, Member, Param, Type, VarSecInfo};
