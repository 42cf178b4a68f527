//! eBPF maps in memory that processes share, with the semantics of Linux.
//!
//! Two sides use a [`Map`]:
//!
//! * **Programs** hold a `*const` [`MapHeader`] (what `r1` of a map helper is) and call its function pointers, or its
//!   methods, which cost one indirect call at most. No heap, no panics, no system calls but for [`task`](skep_sys::task)
//!   questions while waiting for a lock whose owner seems dead.
//! * **User space** (the commands of `bpf(2)`) calls the methods of [`Map`] in `elem.rs`: slices, [`Errno`], the kernel's checks.
//!
//! Memory: one file a map, mapped `MAP_SHARED`: data first (at the kernel's `mmap` offsets), then control words, the
//! describing page last. It is position independent: it holds indexes and ids, never addresses; only maps whose values own
//! objects, and the [`Heap`] of these, lie at the same address in every process. Sizes and bases come from
//! the process-private [`MapHeader`]; every index read from shared memory is checked before it is used, so a peer that
//! scribbles over the file corrupts values and nothing else. Elements never move, are never unmapped while a map lives, and
//! a deleted element may come back for another key, as in the kernel's preallocated maps.
//!
//! Whoever calls says who it is: a [`Runner`] has the per-CPU slot it leased and the token of its thread, which locks carry
//! so that others can take them over from the dead.

mod arena;
mod array;
mod bloom;
mod body;
mod calls;
mod check;
mod confine;
mod elem;
mod fields;
mod hash;
mod header;
mod heap;
mod lease;
mod lock;
mod lpm;
mod map;
#[cfg(all(test, feature = "loom"))]
mod model;
mod objects;
mod queue;
mod region;
mod ring;
mod spec;
mod stacks;
#[cfg(feature = "loom")]
mod stepped;
mod sync;
mod target;

pub use arena::{ArenaFault, ArenaHole, arena_fault};
pub use calls::{ForEach, RecordEnd, ringbuf_commit};
pub use confine::confine;
pub use elem::{holds_objects, is_storage};
pub use fields::{FieldHook, FieldOwner, spin_lock_offset};
pub use header::{DeleteFn, LookupFn, MapHeader, Runner, Told, UpdateFn};
pub use heap::Heap;
pub use lease::{Lease, LeaseTable, USER_SLOTS};
pub use lock::{Got, spin_lock, spin_unlock};
pub use map::Map;
pub use objects::ObjectTable;
pub use region::Memory;
pub use skep_abi::Errno;
pub use spec::MapSpec;
