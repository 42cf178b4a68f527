//! Compiled code before it has an address.

use crate::lowered::OpIdx;

/// What a relocation stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Symbol {
    /// The code of `callees[n]`.
    Callee(u32),
    /// The handle of map `n`, as helpers take it.
    Map(u32),
    /// The address of byte `offset` of the only value of array `map`.
    MapValue {
        /// Index of the map.
        map: u32,
        /// Byte of the value.
        offset: u32,
    },
    /// The number of CPUs of per-CPU map `n`.
    MapCpus(u32),
    /// Bytes between the values of two CPUs in per-CPU array `n`.
    MapStride(u32),
    /// The code of an operation on map `map`, which is made for its type and key size.
    MapCode {
        /// Index of the map.
        map: u32,
        /// The operation.
        op: MapOp,
    },
    /// A function of the engine's own run time.
    Runtime(Runtime),
}

/// Operations that maps have code of their own for: `(map, key, …, runner)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MapOp {
    /// `(map, key, runner)`: the value, or null.
    Lookup,
    /// `(map, key, value, flags, runner)`: 0 or a negative errno.
    Update,
    /// `(map, key, runner)`: 0 or a negative errno.
    Delete,
}

/// The functions of the engine that compiled code calls.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Runtime {
    /// [`crate::helpers::load_packet`]
    LoadPacket,
    /// [`super::runtime::tail_call_entry`]
    TailCallEntry,
    /// [`super::runtime::make_current`]
    MakeCurrent,
    /// [`super::runtime::ktime_get_ns`]
    KtimeGetNs,
}

/// Eight bytes of the code that the linker fills with an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reloc {
    /// Offset of the eight bytes.
    pub at: u32,
    /// Whose address it is.
    pub symbol: Symbol,
}

/// A row of the line table: the code from `code` on comes from op `op`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// Offset into the code.
    pub code: u32,
    /// The op.
    pub op: OpIdx,
}

/// A row of the exception table: a fault at `at` continues at `resume`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Offset of the access.
    pub at: u32,
    /// Offset of the code that takes the fault's consequences.
    pub resume: u32,
}

/// Code of one function, and how to unwind it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FuncCode {
    /// Index of the function in the program.
    pub func: u32,
    /// First byte.
    pub start: u32,
    /// Byte after the last one.
    pub end: u32,
    /// Steps of the prologue, ordered by offset.
    pub unwind: Vec<UnwindStep>,
}

/// A step of a prologue: from `code` on the frame looks like this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnwindStep {
    /// Offset of the instruction after the step.
    pub code: u32,
    /// Bytes between the stack pointer and the caller's one (return address included).
    pub frame_bytes: u32,
    /// A register (DWARF number) that was saved by this step, at the stack pointer.
    pub saved: Option<u8>,
}

/// Which compiler made an image.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tier {
    /// One template an op: compiled in microseconds.
    Baseline,
    /// SSA, loops, register allocation.
    Optimised,
}

/// Compiled code, independent of its address: bytes, relocations, tables.
///
/// Linking ([`super::link`]) copies it to executable memory. The same image can be linked many times, in different processes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CodeImage {
    /// Machine code, the entry at offset 0.
    pub code: Vec<u8>,
    /// What depends on the address space.
    pub relocs: Vec<Reloc>,
    /// The functions, ordered by start.
    pub funcs: Vec<FuncCode>,
    /// Where code comes from, ordered by code offset.
    pub lines: Vec<Line>,
    /// Accesses that may fault, ordered by offset.
    pub faults: Vec<Fault>,
    /// Who made it.
    pub tier: Tier,
}
