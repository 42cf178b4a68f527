//! What bindings made by `skep gen` stand on: maps, variables and programs with the types of the C source.
//!
//! [`bindings!`](crate::bindings) includes what a build script made with `skep_gen::Builder`. Keys and values are plain structures
//! ([`Plain`]): any bytes are a valid one, so that reading is a copy.

mod bytes;
mod events;
mod map;
mod object;
mod program;

pub use bytes::{bits, member, set_bits, set_member};
pub use events::{Events, TypedEvent, TypedReader};
pub use map::{Global, Map, MapHandle, PerCpuMap, Queue, RawMap, map};
pub use object::{BindingError, load, open, section, set_section};
pub use program::{AttachError, Program};
pub use skep_bpf::Backend;
pub use skep_object::Object;

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A value that is its bytes: no padding, every bit pattern valid.
pub trait Plain: FromBytes + IntoBytes + Immutable + Copy + 'static {}

impl<T: FromBytes + IntoBytes + Immutable + Copy + 'static> Plain for T {}

/// Includes the bindings that the build script made for an object: `skep::bindings!(packets);` for `packets.bpf.o`.
#[macro_export]
macro_rules! bindings {
    ($module:ident) => {
        include!(concat!(env!("OUT_DIR"), "/", stringify!($module), ".rs"));
    };
}
