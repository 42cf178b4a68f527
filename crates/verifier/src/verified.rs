//! What was proven.

use crate::request::{Caps, MapDesc};
use skep_abi::ctx::CtxAccess;
use skep_abi::{AttachType, ProgType};
use skep_isa::Slot;

/// A program that was proven safe, and what the proof knows of each instruction.
///
/// Only [`crate::verify`] makes one.
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::verify_memory;
///
/// let insns = assemble_insns("r0 = *(u8 *)(r1 + 3)\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let verified = verify_memory(&insns, "byte", 4).map_err(|no| no.message())?;
/// assert_eq!(verified.insns(), insns);
/// assert!(verify_memory(&insns, "byte", 3).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::verify_memory;
///
/// let text = "call f\nexit\nf:\n*(u64 *)(r10 - 8) = 0\nr0 = 0\nexit";
/// let insns = assemble_insns(text, &NoFacts).map_err(|e| e[0].to_string())?;
/// let verified = verify_memory(&insns, "calls", 0).map_err(|no| no.message())?;
/// let f = &verified.subprogs()[1];
/// assert_eq!((f.start, f.end, f.stack_bytes), (2, 5, 8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::verify_memory;
///
/// let text = "r0 = 1\nif r0 == 1 goto +1\nr0 = 2\nexit";
/// let insns = assemble_insns(text, &NoFacts).map_err(|e| e[0].to_string())?;
/// let verified = verify_memory(&insns, "one", 0).map_err(|no| no.message())?;
/// let reached: Vec<bool> = verified.facts().iter().map(|fact| fact.reached).collect();
/// assert_eq!(reached, [true, true, false, true]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_isa::opcode::PSEUDO_MAP_FD;
/// use skep_verifier::{Caps, PointerLimit, Request, verify};
///
/// // value[ctx->len & 7] of a map whose values have eight bytes.
/// # let map = skep_verifier::MapDesc {
/// #     name: "counts".to_owned(),
/// #     map_type: skep_abi::MapType::Array,
/// #     key_size: 4,
/// #     value_size: 8,
/// #     max_entries: 1,
/// #     map_flags: 0,
/// #     map_extra: 0,
/// #     record: std::sync::Arc::default(),
/// #     has_btf: false,
/// #     btf: None,
/// #     inner: None,
/// #     frozen: None,
/// #     owner: None,
/// #     id: 0,
/// # };
/// let text = "r6 = *(u32 *)(r1 + 0)\nr6 &= 7\n*(u32 *)(r10 - 4) = 0\nr2 = r10\nr2 += -4\nr1 = 0 ll\n\
///     call 1\nif r0 == 0 goto +2\nr0 += r6\nr0 = *(u8 *)(r0 + 0)\nr0 = 0\nexit";
/// let mut insns = assemble_insns(text, &NoFacts).map_err(|e| e[0].to_string())?;
/// insns[5].regs |= PSEUDO_MAP_FD << 4;
/// let request = Request {
///     caps: Caps::Bpf,
///     maps: &[map],
///     ..Request::plain("pick", ProgType::SocketFilter, &insns)
/// };
/// let verified = verify(&request).map_err(|no| no.message())?;
/// let limit: PointerLimit = verified.facts()[9].pointer_limit.ok_or("no limit")?;
/// assert!(limit.limit == 7 && limit.pointer_is_dst && !limit.negative);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Often, verify_memory};
///
/// // Nothing here comes from a map.
/// let insns = assemble_insns("r0 = *(u64 *)(r1 + 0)\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let verified = verify_memory(&insns, "word", 8).map_err(|no| no.message())?;
/// assert_eq!(verified.facts()[0].stored_pointer, Often::Never);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Branch, verify_memory};
///
/// let text = "r0 = *(u8 *)(r1 + 0)\nif r0 > 255 goto +1\nr0 = 0\nexit";
/// let insns = assemble_insns(text, &NoFacts).map_err(|e| e[0].to_string())?;
/// let verified = verify_memory(&insns, "byte", 1).map_err(|no| no.message())?;
/// assert_eq!(verified.facts()[1].branch, Some(Branch::NotTaken));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{AccessFact, Region, verify_memory};
///
/// let insns = assemble_insns("*(u64 *)(r10 - 16) = 0\nr0 = 0\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let verified = verify_memory(&insns, "store", 0).map_err(|no| no.message())?;
/// let stack = AccessFact { region: Region::Stack { up: 0 }, offset: Some(-16) };
/// assert_eq!(verified.facts()[0].access, Some(stack));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccessFact {
    /// Which memory.
    pub region: Region,
    /// Byte offset from the start of the region (top of the frame for stacks: negative), if always the same.
    pub offset: Option<i64>,
}

/// Kinds of memory.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Region, Request, verify};
///
/// let insns = assemble_insns("r0 = *(u32 *)(r1 + 0)\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let request = Request::plain("length", ProgType::SocketFilter, &insns);
/// let verified = verify(&request).map_err(|no| no.message())?;
/// let region = verified.facts()[0].access.map(|access| access.region);
/// assert!(matches!(region, Some(Region::Ctx(access)) if access.field == "len"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use skep_verifier::{MapDesc, MapField, Region};
///
/// // What an engine reads instead of the kernel's structure.
/// fn read(map: &MapDesc, region: Region) -> Option<u32> {
///     match region {
///         Region::Map(MapField::KeySize) => Some(map.key_size),
///         Region::Map(MapField::ValueSize) => Some(map.value_size),
///         _ => None,
///     }
/// }
/// # let map = skep_verifier::MapDesc {
/// #     name: "counts".to_owned(),
/// #     map_type: skep_abi::MapType::Array,
/// #     key_size: 4,
/// #     value_size: 8,
/// #     max_entries: 1,
/// #     map_flags: 0,
/// #     map_extra: 0,
/// #     record: std::sync::Arc::default(),
/// #     has_btf: false,
/// #     btf: None,
/// #     inner: None,
/// #     frozen: None,
/// #     owner: None,
/// #     id: 0,
/// # };
/// assert_eq!(read(&map, Region::Map(MapField::KeySize)), Some(4));
/// ```
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
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Region, Request, SockKind, verify};
///
/// // ctx->sk->family
/// let text = "r1 = *(u64 *)(r1 + 168)\nif r1 == 0 goto +1\nr1 = *(u32 *)(r1 + 4)\nr0 = 0\nexit";
/// let insns = assemble_insns(text, &NoFacts).map_err(|e| e[0].to_string())?;
/// let request = Request::plain("family", ProgType::SchedCls, &insns);
/// let verified = verify(&request).map_err(|no| no.message())?;
/// let region = verified.facts()[2].access.map(|access| access.region);
/// assert_eq!(region, Some(Region::Sock(SockKind::Sock)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_isa::opcode::PSEUDO_MAP_FD;
/// use skep_verifier::{Request, verify};
///
/// # let map = skep_verifier::MapDesc {
/// #     name: "counts".to_owned(),
/// #     map_type: skep_abi::MapType::Array,
/// #     key_size: 4,
/// #     value_size: 8,
/// #     max_entries: 1,
/// #     map_flags: 0,
/// #     map_extra: 0,
/// #     record: std::sync::Arc::default(),
/// #     has_btf: false,
/// #     btf: None,
/// #     inner: None,
/// #     frozen: None,
/// #     owner: None,
/// #     id: 0,
/// # };
/// let text = "*(u32 *)(r10 - 4) = 0\nr2 = r10\nr2 += -4\nr1 = 0 ll\ncall 1\nr0 = 0\nexit";
/// let mut insns = assemble_insns(text, &NoFacts).map_err(|e| e[0].to_string())?;
/// insns[3].regs |= PSEUDO_MAP_FD << 4;
/// let request = Request { maps: &[map], ..Request::plain("look", ProgType::Xdp, &insns) };
/// let verified = verify(&request).map_err(|no| no.message())?;
/// // An engine can do the lookup in place: it is always in this map.
/// let call = verified.facts()[5].call.as_ref().ok_or("no call")?;
/// assert_eq!(call.map, Some(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CallFact {
    /// The map argument is always `maps()[map]`.
    pub map: Option<u32>,
    /// Subprogs that are passed as callback, by index, if always the same one.
    pub callback: Option<u32>,
    /// Name of the kfunc called.
    pub kfunc: Option<String>,
    /// Of `bpf_obj_new` and its kin: bytes of the type, if it is always the same one.
    pub alloc_bytes: Option<u32>,
    /// Of these: the type, in the program's BTF.
    pub alloc_type: Option<u32>,
    /// Of lists and trees: where the node lies in its object, if always at the same place.
    pub node_offset: Option<u32>,
    /// Of `bpf_refcount_acquire`: on some path the program owns the object, or holds the lock of what does, and the result is
    /// not NULL.
    pub owning: bool,
    /// Of `bpf_kptr_xchg`: the types in the kernel's BTF that its slots hold pointers to.
    pub kernel_kptrs: Vec<u32>,
}

/// What a proof cost.
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::verify_memory;
///
/// // Either way is walked: two instructions, and then one or two.
/// let text = "r0 = *(u8 *)(r1 + 0)\nif r0 == 0 goto +1\nr0 = 1\nexit";
/// let insns = assemble_insns(text, &NoFacts).map_err(|e| e[0].to_string())?;
/// let verified = verify_memory(&insns, "bool", 1).map_err(|no| no.message())?;
/// assert_eq!(verified.stats().insns_processed, 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
