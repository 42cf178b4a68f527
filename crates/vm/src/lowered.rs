//! The form of a program that both engines consume.
//!
//! An [`Op`] is close to a [`skep_isa::Insn`], but everything that depends on the environment is resolved: jump targets are
//! absolute op indexes, map operands are indexes of the program's map table, calls name a function or an entry of
//! [`Lowered::callees`], context accesses are plain loads and stores on the native context structures of [`crate::ctx`],
//! and instructions that the verifier never reached are gone. [`mod@crate::lower`] makes it.
//!
//! Registers are the eleven of BPF, 64 bits each. Memory operands are host addresses. What an engine must know beyond the
//! op (which memory, constant offsets, branch facts) is in [`Lowered::fact`], by op.

use crate::helpers::HelperFn;
use crate::proof::Proof;
use skep_isa::{AluOp, AtomicOp, EndOp, Extend, JmpOp, Reg, Size, Src, Width};
use skep_verifier::{InsnFact, PointerLimit};

/// Index into [`Lowered::ops`].
pub type OpIdx = u32;

/// How an access behaves when the address is bad.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Space {
    /// Proven memory: cannot fault.
    Plain,
    /// The address may be anything; a load that faults yields zero (typed kernel pointers, probed memory).
    Probe,
    /// The base register's lower 32 bits are an offset into the arena; a load that faults yields zero, a store is dropped.
    Arena,
}

/// A memory operand: `base + offset`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mem {
    /// Register that holds the address.
    pub base: Reg,
    /// Bytes to add; context conversion may leave the 16 bits of the encoding.
    pub offset: i32,
    /// What a bad address does.
    pub space: Space,
}

/// To which view of the arena an address is cast.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ArenaView {
    /// As accesses take it: the lower 32 bits.
    Program,
    /// As user space sees it: `user base | lower 32 bits`, and zero stays zero.
    User,
}

/// In which direction an offset moves a pointer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MoveOp {
    /// `+`
    Add,
    /// `-`
    Sub,
}

/// `distance` if it is `0..=limit`, else 0, without a branch.
#[must_use]
pub const fn confined(distance: u64, limit: u32) -> u64 {
    let beyond = ((limit as u64).wrapping_sub(distance) | distance).cast_signed() >> 63;
    distance & !beyond.cast_unsigned()
}

/// In which direction the distance, which is not negative, moves the pointer.
#[must_use]
pub const fn direction(op: MoveOp, limit: PointerLimit) -> MoveOp {
    match (op, limit.negative) {
        (MoveOp::Add, false) | (MoveOp::Sub, true) => MoveOp::Add,
        (MoveOp::Add, true) | (MoveOp::Sub, false) => MoveOp::Sub,
    }
}

/// What [`Op::MovePointer`] computes.
#[must_use]
pub const fn moved(op: MoveOp, dst: u64, src: u64, limit: PointerLimit) -> u64 {
    let (pointer, offset) = if limit.pointer_is_dst {
        (dst, src)
    } else {
        (src, dst)
    };
    let distance = if limit.negative {
        offset.wrapping_neg()
    } else {
        offset
    };
    let distance = confined(distance, limit.limit);
    match direction(op, limit) {
        MoveOp::Add => pointer.wrapping_add(distance),
        MoveOp::Sub => pointer.wrapping_sub(distance),
    }
}

/// A lowered instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "field names are those of RFC 9669")]
pub enum Op {
    /// `dst op= src`; an immediate is sign-extended to the width. Division by zero yields 0, modulo keeps `dst`; shifts are masked.
    Alu {
        width: Width,
        op: AluOp,
        dst: Reg,
        src: Src,
    },
    /// Moves a pointer as far as `limit` allows (`--caps bpf`): `dst = pointer op offset`, where one of `dst` and `src` is the
    /// pointer and the other the offset. The offset counts as 0 if it is out of `limit`, which happens in mispredicted code
    /// only; see [`moved`].
    MovePointer {
        op: MoveOp,
        dst: Reg,
        src: Reg,
        limit: PointerLimit,
    },
    /// `dst = -dst`
    Neg { width: Width, dst: Reg },
    /// `dst = src`; constants are [`Op::Const`] instead.
    Mov { width: Width, dst: Reg, src: Reg },
    /// `dst = (sN)src`
    Movsx {
        width: Width,
        from: Size,
        dst: Reg,
        src: Reg,
    },
    /// Byte order.
    End { op: EndOp, size: Size, dst: Reg },
    /// `dst = value`: moves of immediates and wide loads.
    Const { dst: Reg, value: u64 },
    /// `dst =` the address of the [`MapHeader`](skep_maps::MapHeader) of map `map`, as helpers take it.
    MapAddr { dst: Reg, map: u32 },
    /// `dst =` the address of byte `offset` of the only value of array `map`.
    MapValueAddr { dst: Reg, map: u32, offset: u32 },
    /// `dst =` the engine's handle of function `func`, as [`crate::env::RunEnv::call_back`] takes it.
    FuncAddr { dst: Reg, func: u32 },
    /// `dst =` `src` as the arena address of the given view.
    ArenaCast { view: ArenaView, dst: Reg, src: Reg },
    /// `dst = *(size *)mem`
    Load {
        size: Size,
        extend: Extend,
        dst: Reg,
        mem: Mem,
    },
    /// `*(size *)mem = src`
    Store { size: Size, src: Src, mem: Mem },
    /// `lock *(size *)mem op= src`, sequentially consistent; fetching forms write `src` (`r0` for `cmpxchg`).
    Atomic {
        size: Size,
        op: AtomicOp,
        src: Reg,
        mem: Mem,
    },
    /// `dst = load_acquire((size *)mem)`
    LoadAcquire { size: Size, dst: Reg, mem: Mem },
    /// `store_release((size *)mem, src)`
    StoreRelease { size: Size, src: Reg, mem: Mem },
    /// Legacy packet load: `r0 =` big-endian `size` at `index + imm` of the packet of the context in `r6`. Out of bounds the
    /// function returns 0. Clobbers `r1`–`r5`. Engines call [`crate::helpers::load_packet`].
    LoadPacket {
        size: Size,
        index: Option<Reg>,
        imm: i32,
    },
    /// `goto`
    Jump { target: OpIdx },
    /// `if dst op src goto`
    JumpIf {
        width: Width,
        op: JmpOp,
        dst: Reg,
        src: Src,
        target: OpIdx,
    },
    /// Takes one from the function's iteration budget ([`BPF_MAX_LOOPS`](skep_abi::limits::BPF_MAX_LOOPS) at function entry), or
    /// jumps when it is spent.
    MayGoto { target: OpIdx },
    /// Calls `callees[callee]` with the run environment and `r1`–`r5`; `r0` is its result.
    Call { callee: u32 },
    /// Calls function `func` with a fresh frame; `r6`–`r10` are preserved.
    CallFunc { func: u32 },
    /// `r1` context, `r2` prog array, `r3` index. If [`crate::helpers::tail_call_target`] finds a program, the function returns
    /// what that program returns; else `r0` is a negative error and execution goes on.
    TailCall,
    /// Throws `r1`: unwinds all functions of the program (see [`Lowered::throws`]).
    Throw,
    /// Returns `r0` from the function.
    Exit,
    /// Stops speculation (`lfence`, `sb`).
    Barrier,
    /// Cannot be reached if the proof is right: engines end the run.
    Unreachable,
}

/// A function: the entry, a subprog or a callback.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Func {
    /// First op.
    pub start: OpIdx,
    /// First op that comes from an instruction: those before it fill stack that may be read before it is written.
    pub body: OpIdx,
    /// Op after the last one.
    pub end: OpIdx,
    /// Bytes of stack its frame needs, a multiple of 8; `r10` points to its end.
    pub stack_bytes: u32,
    /// Helpers call it, through [`crate::env::RunEnv::call_back`].
    pub is_callback: bool,
    /// It, or what it calls, makes tail calls.
    pub has_tail_call: bool,
    /// It has [`Op::MayGoto`]s.
    pub has_may_goto: bool,
}

/// What a [`Callee`] is in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CalleeId {
    /// A helper by number.
    Helper(u32),
    /// A kfunc by name.
    Kfunc(&'static str),
}

/// A function of the run-time library that the program calls.
#[derive(Clone, Copy, Debug)]
pub struct Callee {
    /// What it is in the kernel.
    pub id: CalleeId,
    /// Its code, specialised for the map type where that is known.
    pub func: HelperFn,
    /// It may run callbacks (and so throw, or call tail calls) before it returns.
    pub calls_back: bool,
}

/// A program ready for an engine.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The ops of all functions, the entry first.
    pub ops: Vec<Op>,
    /// The functions, ordered by `start`; the first is the entry. Same indexes as [`Proof::subprogs`].
    pub funcs: Vec<Func>,
    /// What [`Op::Call`] calls.
    pub callees: Vec<Callee>,
    /// Per op, the slot it came from.
    pub slots: Vec<u32>,
    /// Index of the program's arena in its map table.
    pub arena: Option<u32>,
    /// Some path throws: after each call that may have thrown ([`Op::CallFunc`], [`Callee::calls_back`]) engines test
    /// [`crate::env::RunEnv::thrown`] and return at once if it is set.
    pub throws: bool,
    /// Index of the function that receives a thrown value; without one the entry returns that value.
    pub exception_callback: Option<u32>,
    /// The proof this came from.
    pub verified: Proof,
}

impl Lowered {
    /// What the verifier knows of the instruction behind an op.
    ///
    /// Regions, offsets and branches hold in every run. Constants of scalars do not: see [`mod@crate::lower`].
    #[must_use]
    pub fn fact(&self, op: OpIdx) -> &InsnFact {
        &self.verified.facts()[self.slots[op as usize] as usize]
    }

    /// The function that contains an op.
    #[must_use]
    pub fn func_of(&self, op: OpIdx) -> usize {
        self.funcs.partition_point(|f| f.start <= op) - 1
    }
}
