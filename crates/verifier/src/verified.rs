//! What was proven.

use crate::request::{Caps, MapDesc};
use skep_abi::ctx::CtxAccess;
use skep_abi::{AttachType, ProgType};
use skep_isa::Slot;

/// A program that was proven safe, and what the proof knows of each instruction.
///
/// Only [`crate::verify`] makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    pub(crate) insns: Vec<Slot>,
    pub(crate) facts: Vec<InsnFact>,
    pub(crate) subprogs: Vec<Subprog>,
    pub(crate) maps: Vec<MapDesc>,
    pub(crate) prog_type: ProgType,
    pub(crate) attach: Option<AttachType>,
    pub(crate) caps: Caps,
    pub(crate) sleepable: bool,
    pub(crate) memory: Option<u32>,
    pub(crate) stats: Stats,
}

impl Verified {
    /// The instructions, as in the request.
    #[must_use]
    pub fn insns(&self) -> &[Slot] {
        &self.insns
    }
    /// One fact a slot.
    #[must_use]
    pub fn facts(&self) -> &[InsnFact] {
        &self.facts
    }
    /// The functions, ordered by start; the first is the entry.
    #[must_use]
    pub fn subprogs(&self) -> &[Subprog] {
        &self.subprogs
    }
    /// The maps as they were when the proof was made; engines must run with maps of the same description.
    #[must_use]
    pub fn maps(&self) -> &[MapDesc] {
        &self.maps
    }
    /// Program type.
    #[must_use]
    pub fn prog_type(&self) -> ProgType {
        self.prog_type
    }
    /// Expected attach type.
    #[must_use]
    pub fn attach(&self) -> Option<AttachType> {
        self.attach
    }
    /// For which loader it was proven.
    #[must_use]
    pub fn caps(&self) -> Caps {
        self.caps
    }
    /// May the program sleep.
    #[must_use]
    pub fn sleepable(&self) -> bool {
        self.sleepable
    }
    /// Bytes of the memory that is its context, if it is a program of [`crate::verify_memory`].
    #[must_use]
    pub fn memory(&self) -> Option<u32> {
        self.memory
    }
    /// What the proof cost.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

/// A function of the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subprog {
    /// First slot.
    pub start: u32,
    /// Slot after the last one.
    pub end: u32,
    /// Bytes of stack its own frame uses, a multiple of 8 (at most 512).
    pub stack_bytes: u32,
    /// Stack slots that may be read before they were written (a privileged loader's affair): bit n is the eight bytes at
    /// `-8 (n + 1)`. All others are written first, on every path.
    pub unwritten: u64,
    /// It is called through a function pointer by a helper.
    pub is_callback: bool,
    /// It runs when an exception is thrown.
    pub is_exception_callback: bool,
    /// It, or what it calls, makes tail calls.
    pub has_tail_call: bool,
}

/// What the proof knows of one slot. Facts hold on every path that reaches it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct InsnFact {
    /// Some path gets here; other instructions are dead and must not be emitted.
    pub reached: bool,
    /// What a load, store or atomic touches.
    pub access: Option<AccessFact>,
    /// It is a load whose value nothing reads.
    pub unused: bool,
    /// It loads a pointer to an object that is stored in a value of a map.
    pub stored_pointer: Often,
    /// What a call knows of its arguments.
    pub call: Option<Box<CallFact>>,
    /// Which ways a conditional jump can go.
    pub branch: Option<Branch>,
    /// A speculation barrier must precede it (`--caps bpf`).
    pub barrier: bool,
    /// Speculation must stop behind it: it writes stack that a later load must not see as it was before.
    pub barrier_after: bool,
    /// How far this addition or subtraction may move its pointer, whatever the processor guesses (`--caps bpf`).
    pub pointer_limit: Option<PointerLimit>,
}

/// A bound on pointer arithmetic that must hold under misprediction too: the engine has to mask the offset.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PointerLimit {
    /// Most bytes that the pointer moves.
    pub limit: u32,
    /// The offset is a number below zero.
    pub negative: bool,
    /// The offset is always the same: `limit` bytes, or as many below zero.
    pub constant: bool,
    /// The pointer is in the destination register; else the offset is.
    pub pointer_is_dst: bool,
}

/// On how many of the paths something is so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Often {
    /// On none.
    #[default]
    Never,
    /// On all.
    Always,
    /// On some.
    Sometimes,
}

/// Which ways a conditional jump was seen to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Branch {
    /// Always jumps.
    Taken,
    /// Never jumps.
    NotTaken,
    /// Either.
    Both,
}

/// The memory a load, store or atomic touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccessFact {
    /// Which memory.
    pub region: Region,
    /// Byte offset from the start of the region (top of the frame for stacks: negative), if always the same.
    pub offset: Option<i64>,
}

/// Kinds of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// The stack of the frame `up` frames above the current one (0 is its own).
    Stack {
        /// Frames up the call chain.
        up: u8,
    },
    /// The program's context: the access is converted by table.
    Ctx(CtxAccess),
    /// A value of `maps()[map]`.
    MapValue {
        /// Index into the maps.
        map: u32,
    },
    /// Packet data.
    Packet,
    /// Other plain memory: ring buffer records, helper buffers, global function arguments.
    Memory,
    /// A field of a socket structure whose layout is converted (`sock_common`, `bpf_sock`, `bpf_tcp_sock`, `bpf_xdp_sock`).
    Sock(SockKind),
    /// `struct bpf_flow_keys`.
    FlowKeys,
    /// A typed kernel structure; the load may fault and then yields zero.
    Btf {
        /// BTF id of the structure in the kernel's BTF.
        type_id: u32,
    },
    /// A field of the structure behind a map: it is converted.
    Map(MapField),
    /// An object of the program that may be gone: the load may fault and then yields zero.
    Object,
    /// An arena: a fault yields zero.
    Arena,
    /// Different kinds of plain memory on different paths (no conversion, no fault).
    Mixed,
}

/// Fields of `struct bpf_map` that say what a map is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapField {
    /// `map_type`
    Type,
    /// `key_size`
    KeySize,
    /// `value_size`
    ValueSize,
    /// `max_entries`
    MaxEntries,
    /// `map_extra`
    Extra,
    /// `map_flags`
    Flags,
    /// `id`
    Id,
}

/// Socket structures that programs see converted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SockKind {
    /// `PTR_TO_SOCK_COMMON` and `PTR_TO_SOCKET`: fields of `struct bpf_sock`.
    Sock,
    /// `struct bpf_tcp_sock`
    TcpSock,
    /// `struct bpf_xdp_sock`
    XdpSock,
}

/// What a call knows of its arguments.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CallFact {
    /// The map argument is always `maps()[map]`.
    pub map: Option<u32>,
    /// Subprogs that are passed as callback, by index, if always the same one.
    pub callback: Option<u32>,
    /// Name of the kfunc called.
    pub kfunc: Option<String>,
    /// Of `bpf_obj_new` and its kin: bytes of the type.
    pub alloc_bytes: Option<u32>,
    /// Of these: the type, in the program's BTF.
    pub alloc_type: Option<u32>,
    /// Of lists and trees: where the node lies in its object.
    pub node_offset: Option<u32>,
    /// Of `bpf_kptr_xchg`: the types in the kernel's BTF that its slots hold pointers to.
    pub kernel_kptrs: Vec<u32>,
}

/// What a proof cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Instructions walked, over all paths.
    pub insns_processed: u32,
    /// States kept at most at one time.
    pub peak_states: u32,
    /// States made in all.
    pub total_states: u32,
    /// Bytes of stack of the deepest call chain.
    pub stack_depth: u32,
}
