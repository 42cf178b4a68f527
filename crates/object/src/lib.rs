//! BPF object files: ELF, CO-RE, linking.
//!
//! [`Object::parse`] reads what a file says; [`Object::relocate`] fits it to a [`Target`] and gives [`Linked`], which is plain
//! data: programs whose map operands index a list of maps to create. Nothing here asks the machine it runs on.
#![forbid(unsafe_code)]

pub mod combine;
mod core;
mod data;
pub mod debug;
mod elf;
mod error;
mod externs;
mod fixup;
mod function;
pub mod image;
mod kconfig;
mod link;
mod linked;
mod mapdef;
mod object;
mod resolve;
pub mod sanitize;
mod spec;
mod struct_ops;
mod target;
pub mod write;

pub use core::{CoreError, POISON, RelocKind, reduce};
pub use elf::btf_section;
pub use error::ObjectError;
pub use externs::{ConfigForm, Extern, ExternKind};
pub use linked::{AttachBtf, Failure, FailureCause, Linked, Program};
pub use object::{Needs, Object, Options};
pub use spec::{MapKind, MapSpec, SlotInit, kernel_name};
pub use target::Target;
