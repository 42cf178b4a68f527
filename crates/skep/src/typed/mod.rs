//! What bindings made by `skep gen` stand on: maps, variables and programs with the types of the C source.
//!
//! [`bindings!`](crate::bindings) includes what a build script made with `skep_gen::Builder`. Keys and values are plain structures
//! ([`Plain`]): any bytes are a valid one, so that reading is a copy.
//!
//! They can be used without generated code, too:
//!
//! ```
//! use skep::typed::{Events, Map, Program, RawMap, map};
//!
//! # let bytes = std::fs::read("../../examples/packets.bpf.o")?;
//! # let options = skep_object::Options { name: "packets.bpf.o".to_owned() };
//! # let object = skep_object::Object::parse(&bytes, &options)?;
//! # let backend: std::sync::Arc<dyn skep_bpf::Backend> =
//! #     std::sync::Arc::new(skep_user::Universe::new(skep_user::Options::default())?);
//! # let target = skep::target::of(backend.as_ref(), &object.needs())?;
//! # let linked = object.relocate(&target)?;
//! let loaded = skep::load::load(&linked, &backend, &skep::load::LoadOptions::default())?;
//! let services: Map<'_, u32, [u64; 2]> = map(&loaded, "services").ok_or("no such map")?;
//! services.insert(&7, &[1, 2])?;
//! assert_eq!(services.get(&7)?, Some([1, 2]));
//! assert_eq!(services.iter().count(), 1);
//! let program = Program::of(&loaded, "packets").ok_or("no such program")?;
//! program.test_run(&skep::test_run::Input { data: Some(vec![0; 64]), ..Default::default() })?;
//! let raw: RawMap<'_> = map(&loaded, "new_flows").ok_or("no such map")?;
//! let mut reader = Events::<[u8; 40]>::from(raw).open()?;
//! reader.drain(|event| println!("{event:?}"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bytes;
mod events;
mod map;
mod object;
mod program;
mod samples;

pub use bytes::{bits, member, set_bits, set_member};
pub use events::{Events, TypedEvent, TypedReader};
pub use map::{Global, Map, MapHandle, PerCpuMap, Queue, RawMap, map};
pub use object::{BindingError, load, open, section, set_section};
pub use program::{AttachError, Program};
pub use samples::{Samples, TypedWriter};
pub use skep_bpf::Backend;
pub use skep_object::Object;

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A value that is its bytes: no padding, every bit pattern valid.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../examples/packets.bpf.o")?, "packets.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::typed::{Map, map};
/// use skep::zerocopy::{FromBytes, Immutable, IntoBytes};
///
/// #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
/// #[zerocopy(crate = "skep::zerocopy")]
/// #[repr(C)]
/// struct Traffic {
///     packets: u64,
///     bytes: u64,
/// }
///
/// let services: Map<'_, u32, Traffic> = map(&loaded, "services").ok_or("no such map")?;
/// services.insert(&7, &Traffic { packets: 1, bytes: 64 })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Plain: FromBytes + IntoBytes + Immutable + Copy + 'static {}

impl<T: FromBytes + IntoBytes + Immutable + Copy + 'static> Plain for T {}

/// Includes the bindings that the build script made for an object: `skep::bindings!(packets);` for `packets.bpf.o`.
#[macro_export]
macro_rules! bindings {
    ($module:ident) => {
        include!(concat!(env!("OUT_DIR"), "/", stringify!($module), ".rs"));
    };
}
