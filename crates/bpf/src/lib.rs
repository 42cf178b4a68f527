//! The waist: the command set of `bpf(2)` as one dyn-safe trait over typed commands.
//!
//! Everything above speaks to [`Backend`]; the kernel backend (crate `skep`) and the user backend (crate `skep-user`)
//! implement it with the same names, flags and errno. Objects are plain data, [`Handle`]s are opaque (the kernel's file
//! descriptors, or entries of a user universe's table) and must be given back with [`Backend::close`].
#![forbid(unsafe_code)]

mod command;
mod event;
mod info;
mod memory;

pub use command::{
    BatchCursor, LinkCreate, LinkTarget, MapCreate, ProgLoad, TestRun, TestRunResult,
};
pub use event::{Event, EventReader, Fill, SampleWriter};
pub use info::{BtfInfo, LinkDetail, LinkInfo, MapInfo, ObjKind, ProgInfo};
pub use memory::{MapAccess, MapMemory};
pub use skep_abi::Errno;

use std::path::Path;

/// An open object of a backend.
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend) -> Result<()> {
///     let map: Handle = backend.map_create(&MapCreate::new(MapType::Array, 4, 8, 1))?;
///     backend.close(map); // nothing closes it otherwise
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Handle(pub i32);

/// Which implementation answers.
///
/// ```
/// use skep_bpf::{Backend, BackendKind};
///
/// fn is_simulated(backend: &dyn Backend) -> bool {
///     backend.kind() == BackendKind::User
/// }
/// assert_eq!(BackendKind::Kernel.to_string(), "kernel");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BackendKind {
    /// The system call.
    Kernel,
    /// skep's own.
    User,
}

impl std::fmt::Display for BackendKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::User => "user",
        })
    }
}

/// A command was refused.
///
/// ```
/// use skep_bpf::{Errno, Error};
///
/// let error = Error::unsupported("BPF_LINK_CREATE for tcx");
/// assert_eq!(error.errno, Errno::EOPNOTSUPP);
/// assert!(error.to_string().starts_with("bpf(BPF_LINK_CREATE) for tcx: EOPNOTSUPP"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// What the system call would have returned.
    pub errno: Errno,
    /// Command and object, `BPF_MAP_CREATE for map "conns"`.
    pub what: String,
    /// What is known beyond the errno, may be empty. Verifier logs are in [`Error::log`].
    pub detail: String,
    /// The verifier's log or our rendered rejection, may be empty.
    pub log: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (command, object) = self.what.split_once(' ').unwrap_or((&self.what, ""));
        // Other system calls name themselves.
        if command.starts_with("BPF_") {
            write!(f, "bpf({command})")?;
        } else {
            f.write_str(command)?;
        }
        if !object.is_empty() {
            write!(f, " {object}")?;
        }
        write!(f, ": {}", self.errno)?;
        if self.detail.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.detail)
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// `EOPNOTSUPP` for something this backend does not have.
    #[must_use]
    pub fn unsupported(what: &str) -> Self {
        Self {
            errno: Errno::EOPNOTSUPP,
            what: what.to_owned(),
            detail: String::new(),
            log: String::new(),
        }
    }
}

/// Result of a command.
pub type Result<T> = std::result::Result<T, Error>;

/// The commands of `bpf(2)`.
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend) -> Result<()> {
///     let map = backend.map_create(&MapCreate::new(MapType::Hash, 4, 8, 1024))?;
///     backend.map_update(map, &1u32.to_ne_bytes(), &2u64.to_ne_bytes(), 0)?;
///     let mut value = [0; 8];
///     backend.map_lookup(map, &1u32.to_ne_bytes(), &mut value, 0)?;
///     assert_eq!(u64::from_ne_bytes(value), 2);
///     backend.close(map);
///     Ok(())
/// }
/// ```
pub trait Backend: Send + Sync {
    /// Which implementation this is.
    fn kind(&self) -> BackendKind;
    /// `CPU`s that per-CPU values have (`num_possible_cpus`).
    fn possible_cpus(&self) -> usize;

    /// `BPF_MAP_CREATE`
    fn map_create(&self, spec: &MapCreate) -> Result<Handle>;
    /// `BPF_MAP_LOOKUP_ELEM`; per-CPU maps fill `possible_cpus × round_up(value_size, 8)` bytes.
    fn map_lookup(&self, map: Handle, key: &[u8], value: &mut [u8], flags: u64) -> Result<()>;
    /// `BPF_MAP_UPDATE_ELEM`
    fn map_update(&self, map: Handle, key: &[u8], value: &[u8], flags: u64) -> Result<()>;
    /// `BPF_MAP_DELETE_ELEM`
    fn map_delete(&self, map: Handle, key: &[u8]) -> Result<()>;
    /// `BPF_MAP_GET_NEXT_KEY`; `None` asks for the first key.
    fn map_next_key(&self, map: Handle, key: Option<&[u8]>, next: &mut [u8]) -> Result<()>;
    /// `BPF_MAP_LOOKUP_AND_DELETE_ELEM` (an empty key for queues and stacks).
    fn map_lookup_and_delete(
        &self,
        map: Handle,
        key: &[u8],
        value: &mut [u8],
        flags: u64,
    ) -> Result<()>;
    /// `BPF_MAP_LOOKUP_BATCH` / `…_AND_DELETE_BATCH`: fills whole keys and values, returns how many.
    fn map_lookup_batch(
        &self,
        map: Handle,
        cursor: &mut BatchCursor,
        keys: &mut [u8],
        values: &mut [u8],
        delete: bool,
        flags: u64,
    ) -> Result<u32>;
    /// `BPF_MAP_UPDATE_BATCH`: how many were done, and why it stopped.
    fn map_update_batch(
        &self,
        map: Handle,
        keys: &[u8],
        values: &[u8],
        flags: u64,
    ) -> (u32, Result<()>);
    /// `BPF_MAP_DELETE_BATCH`: how many were done, and why it stopped.
    fn map_delete_batch(&self, map: Handle, keys: &[u8], flags: u64) -> (u32, Result<()>);
    /// `BPF_MAP_FREEZE`
    fn map_freeze(&self, map: Handle) -> Result<()>;
    /// `mmap(2)` of an array made with `BPF_F_MMAPABLE`: all its values, each rounded up to 8 bytes.
    ///
    /// # Errors
    /// `EINVAL` and `ENOTSUPP` for other maps, `EPERM` for writing to a frozen one, `EACCES` to one that is read-only for
    /// programs.
    fn map_memory(&self, map: Handle, access: MapAccess) -> Result<Box<dyn MapMemory>> {
        let _ = (map, access);
        Err(Error::unsupported("memory of a map"))
    }

    /// `BPF_BTF_LOAD`
    fn btf_load(&self, data: &[u8]) -> Result<Handle>;

    /// `BPF_PROG_LOAD`; a rejection's log is in the error.
    fn prog_load(&self, spec: &ProgLoad) -> Result<Handle>;
    /// `BPF_PROG_TEST_RUN`
    fn prog_test_run(&self, prog: Handle, run: &TestRun) -> Result<TestRunResult>;
    /// `BPF_PROG_BIND_MAP`
    fn prog_bind_map(&self, prog: Handle, map: Handle) -> Result<()>;

    /// `BPF_LINK_CREATE` and `BPF_RAW_TRACEPOINT_OPEN`
    fn link_create(&self, link: &LinkCreate) -> Result<Handle>;
    /// `BPF_LINK_UPDATE`: swaps the program atomically; with `expect`, only if that one is attached.
    fn link_update(&self, link: Handle, new: Handle, expect: Option<Handle>) -> Result<()>;
    /// `BPF_LINK_DETACH`
    fn link_detach(&self, link: Handle) -> Result<()>;

    /// `BPF_OBJ_PIN`
    fn obj_pin(&self, object: Handle, path: &Path) -> Result<()>;
    /// `BPF_OBJ_GET`
    fn obj_get(&self, path: &Path) -> Result<Handle>;
    /// `BPF_*_GET_NEXT_ID`; `None` after the last one.
    fn next_id(&self, kind: ObjKind, after: u32) -> Result<Option<u32>>;
    /// `BPF_*_GET_FD_BY_ID`
    fn by_id(&self, kind: ObjKind, id: u32) -> Result<Handle>;
    /// `BPF_OBJ_GET_INFO_BY_FD` of a map
    fn map_info(&self, map: Handle) -> Result<MapInfo>;
    /// `BPF_OBJ_GET_INFO_BY_FD` of a program
    fn prog_info(&self, prog: Handle) -> Result<ProgInfo>;
    /// `BPF_OBJ_GET_INFO_BY_FD` of a link
    fn link_info(&self, link: Handle) -> Result<LinkInfo>;
    /// `BPF_OBJ_GET_INFO_BY_FD` of a BTF object
    fn btf_info(&self, btf: Handle) -> Result<BtfInfo>;
    /// `BPF_ENABLE_STATS` (`BPF_STATS_RUN_TIME`), until the handle is closed.
    fn enable_stats(&self) -> Result<Handle>;

    /// Writes `bytes` to the beginning of an arena that no program uses yet: the variables that an object keeps there.
    ///
    /// # Errors
    /// `E2BIG` if the arena is smaller, `EOPNOTSUPP` where a backend has none.
    fn arena_init(&self, map: Handle, bytes: &[u8]) -> Result<()> {
        let _ = (map, bytes);
        Err(Error::unsupported("variables in an arena"))
    }

    /// Opens the stream of a ring buffer or perf event array. Closing the reader ends it; a map has one reader.
    ///
    /// # Errors
    /// `EINVAL` for other maps, `EOPNOTSUPP` where a backend has no such maps.
    fn events_open(&self, map: Handle) -> Result<Box<dyn EventReader>> {
        let _ = map;
        Err(Error::unsupported("events of a map"))
    }
    /// Opens a user ring buffer for writing; a map has one writer at a time.
    ///
    /// # Errors
    /// `EINVAL` for other maps, `EOPNOTSUPP` where a backend has no such maps.
    fn samples_open(&self, map: Handle) -> Result<Box<dyn SampleWriter>> {
        let _ = map;
        Err(Error::unsupported("samples for a map"))
    }
    /// Opens the stream of `bpf_trace_printk` lines from now on.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where a backend has none.
    fn trace_open(&self) -> Result<Box<dyn EventReader>> {
        Err(Error::unsupported("the trace stream"))
    }

    /// Gives a handle back; closing one twice does nothing.
    fn close(&self, handle: Handle);
}
