//! The interpreter's pre-decoded form: 16 bytes an op, one code for each kind of instruction.
//!
//! Instructions correspond one to one to the ops of [`crate::lowered::Lowered`], so that op indexes stay valid; a fused pair
//! leaves its second half in place for jumps.

use crate::lowered::{ArenaView, Lowered, Mem, MoveOp, Op, Space};
use crate::program::MapSlot;
use skep_isa::{AtomicOp, EndOp, Extend, Reg, Size, Src, Width};
use skep_verifier::PointerLimit;

/// What an instruction does. `R` takes a register as second operand, `K` an immediate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[rustfmt::skip] // one family per line
pub(super) enum Code {
    Add64R, Add64K, Add32R, Add32K, Sub64R, Sub64K, Sub32R, Sub32K, Mul64R, Mul64K, Mul32R, Mul32K,
    Div64R, Div64K, Div32R, Div32K, Sdiv64R, Sdiv64K, Sdiv32R, Sdiv32K,
    Or64R, Or64K, Or32R, Or32K, And64R, And64K, And32R, And32K,
    Lsh64R, Lsh64K, Lsh32R, Lsh32K, Rsh64R, Rsh64K, Rsh32R, Rsh32K,
    Mod64R, Mod64K, Mod32R, Mod32K, Smod64R, Smod64K, Smod32R, Smod32K,
    Xor64R, Xor64K, Xor32R, Xor32K, Arsh64R, Arsh64K, Arsh32R, Arsh32K,
    MovePointer, Neg64, Neg32, Mov64, Mov32, Const,
    Movsx64B, Movsx64H, Movsx64W, Movsx32B, Movsx32H,
    Be16, Be32, Be64, Le16, Le32, Nop,
    LoadB, LoadH, LoadW, LoadD, LoadSB, LoadSH, LoadSW, LoadGuarded,
    StoreBR, StoreHR, StoreWR, StoreDR, StoreBK, StoreHK, StoreWK, StoreDK, StoreGuarded,
    AtomicW, AtomicD, AtomicArena, LoadAcquire, StoreRelease,
    Jump,
    Jeq64R, Jeq64K, Jeq32R, Jeq32K, Jne64R, Jne64K, Jne32R, Jne32K,
    Jgt64R, Jgt64K, Jgt32R, Jgt32K, Jge64R, Jge64K, Jge32R, Jge32K,
    Jlt64R, Jlt64K, Jlt32R, Jlt32K, Jle64R, Jle64K, Jle32R, Jle32K,
    Jset64R, Jset64K, Jset32R, Jset32K,
    Jsgt64R, Jsgt64K, Jsgt32R, Jsgt32K, Jsge64R, Jsge64K, Jsge32R, Jsge32K,
    Jslt64R, Jslt64K, Jslt32R, Jslt32K, Jsle64R, Jsle64K, Jsle32R, Jsle32K,
    MayGoto, Call, CallFunc, TailCall, LoadPacket, ArenaToUser, Throw, Exit, Barrier, Unreachable,
}

/// A pre-decoded instruction. Which fields mean what depends on the code; register fields are at most 10.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Inst {
    pub(super) code: Code,
    pub(super) dst: u8,
    pub(super) src: u8,
    /// Sizes and kinds of the rarer codes.
    pub(super) kind: u8,
    /// Jump target, function index or memory offset.
    pub(super) offset: i32,
    /// Immediate, already extended; a function pointer for calls.
    pub(super) imm: u64,
}

/// Codes of an operation: 64-bit register and immediate, 32-bit register and immediate.
type Quad = [Code; 4];

/// By `AluOp as usize`.
#[rustfmt::skip] // one operation per line
const ALU: [Quad; 13] = {
    use Code::*;
    [
        [Add64R, Add64K, Add32R, Add32K],
        [Sub64R, Sub64K, Sub32R, Sub32K],
        [Mul64R, Mul64K, Mul32R, Mul32K],
        [Div64R, Div64K, Div32R, Div32K],
        [Sdiv64R, Sdiv64K, Sdiv32R, Sdiv32K],
        [Or64R, Or64K, Or32R, Or32K],
        [And64R, And64K, And32R, And32K],
        [Lsh64R, Lsh64K, Lsh32R, Lsh32K],
        [Rsh64R, Rsh64K, Rsh32R, Rsh32K],
        [Mod64R, Mod64K, Mod32R, Mod32K],
        [Smod64R, Smod64K, Smod32R, Smod32K],
        [Xor64R, Xor64K, Xor32R, Xor32K],
        [Arsh64R, Arsh64K, Arsh32R, Arsh32K],
    ]
};

/// By `JmpOp as usize`.
#[rustfmt::skip] // one condition per line
const JMP: [Quad; 11] = {
    use Code::*;
    [
        [Jeq64R, Jeq64K, Jeq32R, Jeq32K],
        [Jne64R, Jne64K, Jne32R, Jne32K],
        [Jgt64R, Jgt64K, Jgt32R, Jgt32K],
        [Jge64R, Jge64K, Jge32R, Jge32K],
        [Jlt64R, Jlt64K, Jlt32R, Jlt32K],
        [Jle64R, Jle64K, Jle32R, Jle32K],
        [Jset64R, Jset64K, Jset32R, Jset32K],
        [Jsgt64R, Jsgt64K, Jsgt32R, Jsgt32K],
        [Jsge64R, Jsge64K, Jsge32R, Jsge32K],
        [Jslt64R, Jslt64K, Jslt32R, Jslt32K],
        [Jsle64R, Jsle64K, Jsle32R, Jsle32K],
    ]
};

/// Kinds of atomic operation, in [`Inst::kind`].
pub(super) mod atomic {
    pub(in crate::interp) const ADD: u8 = 0;
    pub(in crate::interp) const OR: u8 = 1;
    pub(in crate::interp) const AND: u8 = 2;
    pub(in crate::interp) const XOR: u8 = 3;
    pub(in crate::interp) const XCHG: u8 = 4;
    pub(in crate::interp) const CMPXCHG: u8 = 5;
    /// The operation is 64 bits wide (where the code does not say).
    pub(in crate::interp) const WIDE: u8 = 0x40;
    /// The old value goes to the source register.
    pub(in crate::interp) const FETCH: u8 = 0x80;
}

/// Bits of [`Inst::kind`] for guarded and ordered accesses; the low bits are `Size as u8`.
pub(super) mod guarded {
    /// Mask of the size.
    pub(in crate::interp) const SIZE: u8 = 3;
    /// The value is sign-extended.
    pub(in crate::interp) const SIGN: u8 = 4;
    /// The address is an arena offset.
    pub(in crate::interp) const ARENA: u8 = 8;
    /// The stored value is the immediate.
    pub(in crate::interp) const IMM: u8 = 16;
}

/// Bits of [`Inst::kind`] for limited moves of pointers.
pub(super) mod moving {
    /// It is a subtraction.
    pub(in crate::interp) const SUB: u8 = 1;
    /// The offset is a negative number.
    pub(in crate::interp) const NEGATIVE: u8 = 2;
    /// The pointer is in `dst`.
    pub(in crate::interp) const POINTER_IS_DST: u8 = 4;
}

impl Inst {
    fn new(code: Code, dst: u8, src: u8, offset: i32, imm: u64) -> Self {
        Self {
            code,
            dst,
            src,
            kind: 0,
            offset,
            imm,
        }
    }

    fn with_kind(self, kind: u8) -> Self {
        Self { kind, ..self }
    }
}

/// Pre-decodes every op of a program whose maps are linked.
pub(super) fn encode(lowered: &Lowered, maps: &[MapSlot]) -> Box<[Inst]> {
    lowered
        .ops
        .iter()
        .map(|op| one(op, lowered, maps))
        .collect()
}

fn one(op: &Op, lowered: &Lowered, maps: &[MapSlot]) -> Inst {
    match *op {
        Op::Alu {
            width,
            op,
            dst,
            src,
        } => with_operand(ALU[op as usize], width, dst, src, 0),
        Op::JumpIf {
            width,
            op,
            dst,
            src,
            target,
        } => with_operand(JMP[op as usize], width, dst, src, target.cast_signed()),
        Op::MovePointer {
            op,
            dst,
            src,
            limit,
        } => move_pointer(op, dst, src, limit),
        Op::Neg { width, dst } => unary(pick(width, Code::Neg64, Code::Neg32), dst),
        Op::Mov { width, dst, src } => binary(pick(width, Code::Mov64, Code::Mov32), dst, src),
        Op::Movsx {
            width,
            from,
            dst,
            src,
        } => binary(movsx(width, from), dst, src),
        Op::End { op, size, dst } => unary(end(op, size), dst),
        Op::Const { dst, value } => constant(dst, value),
        Op::MapAddr { dst, map } => constant(dst, maps[map as usize].handle()),
        Op::MapValueAddr { dst, map, offset } => {
            constant(dst, maps[map as usize].value_base() + u64::from(offset))
        }
        Op::FuncAddr { dst, func } => constant(dst, u64::from(func)),
        Op::ArenaCast { view, dst, src } => match view {
            ArenaView::Program => binary(Code::Mov32, dst, src),
            ArenaView::User => binary(Code::ArenaToUser, dst, src),
        },
        Op::Load { .. }
        | Op::Store { .. }
        | Op::Atomic { .. }
        | Op::LoadAcquire { .. }
        | Op::StoreRelease { .. } => memory(op),
        Op::LoadPacket { size, index, imm } => {
            let (src, has_index) = index.map_or((0, 0), |r| (r.number(), 1));
            Inst::new(
                Code::LoadPacket,
                has_index,
                src,
                imm,
                u64::from(size.bytes()),
            )
        }
        Op::Jump { target } => Inst::new(Code::Jump, 0, 0, target.cast_signed(), 0),
        Op::MayGoto { target } => Inst::new(Code::MayGoto, 0, 0, target.cast_signed(), 0),
        Op::Call { callee } => {
            let func = lowered.callees[callee as usize].func;
            Inst::new(Code::Call, 0, 0, callee.cast_signed(), func as usize as u64)
        }
        Op::CallFunc { func } => Inst::new(Code::CallFunc, 0, 0, func.cast_signed(), 0),
        Op::TailCall => Inst::new(Code::TailCall, 0, 0, 0, 0),
        Op::Throw => Inst::new(Code::Throw, 0, 0, 0, 0),
        Op::Exit => Inst::new(Code::Exit, 0, 0, 0, 0),
        Op::Barrier => Inst::new(Code::Barrier, 0, 0, 0, 0),
        Op::Unreachable => Inst::new(Code::Unreachable, 0, 0, 0, 0),
    }
}

/// Accesses of memory.
fn memory(op: &Op) -> Inst {
    match *op {
        Op::Load {
            size,
            extend,
            dst,
            mem,
        } => load(size, extend, dst, mem),
        Op::Store { size, src, mem } => store(size, src, mem),
        Op::Atomic { size, op, src, mem } => atomic_op(size, op, src, mem),
        Op::LoadAcquire { size, dst, mem } => {
            access(Code::LoadAcquire, dst, mem.base, mem).with_kind(size as u8 | arena_bit(mem))
        }
        Op::StoreRelease { size, src, mem } => {
            access(Code::StoreRelease, mem.base, src, mem).with_kind(size as u8 | arena_bit(mem))
        }
        _ => Inst::new(Code::Unreachable, 0, 0, 0, 0),
    }
}

fn pick(width: Width, wide: Code, narrow: Code) -> Code {
    match width {
        Width::W64 => wide,
        Width::W32 => narrow,
    }
}

fn unary(code: Code, dst: Reg) -> Inst {
    Inst::new(code, dst.number(), 0, 0, 0)
}

fn binary(code: Code, dst: Reg, src: Reg) -> Inst {
    Inst::new(code, dst.number(), src.number(), 0, 0)
}

fn move_pointer(op: MoveOp, dst: Reg, src: Reg, limit: PointerLimit) -> Inst {
    let mut kind = 0;
    if op == MoveOp::Sub {
        kind |= moving::SUB;
    }
    if limit.negative {
        kind |= moving::NEGATIVE;
    }
    if limit.pointer_is_dst {
        kind |= moving::POINTER_IS_DST;
    }
    let limit = u64::from(limit.limit);
    Inst::new(Code::MovePointer, dst.number(), src.number(), 0, limit).with_kind(kind)
}

fn constant(dst: Reg, value: u64) -> Inst {
    Inst::new(Code::Const, dst.number(), 0, 0, value)
}

fn with_operand(codes: Quad, width: Width, dst: Reg, src: Src, offset: i32) -> Inst {
    let base = match width {
        Width::W64 => 0,
        Width::W32 => 2,
    };
    match src {
        Src::Reg(src) => Inst::new(codes[base], dst.number(), src.number(), offset, 0),
        Src::Imm(imm) => {
            let imm = i64::from(imm).cast_unsigned();
            Inst::new(codes[base + 1], dst.number(), 0, offset, imm)
        }
    }
}

fn movsx(width: Width, from: Size) -> Code {
    match (width, from) {
        (Width::W64, Size::B) => Code::Movsx64B,
        (Width::W64, Size::H) => Code::Movsx64H,
        (Width::W64, Size::W) => Code::Movsx64W,
        (Width::W64, Size::DW) => Code::Mov64,
        (Width::W32, Size::B) => Code::Movsx32B,
        (Width::W32, Size::H) => Code::Movsx32H,
        (Width::W32, Size::W | Size::DW) => Code::Mov32,
    }
}

fn end(op: EndOp, size: Size) -> Code {
    let swaps = match op {
        EndOp::Bswap => true,
        EndOp::ToBe => cfg!(target_endian = "little"),
        EndOp::ToLe => cfg!(target_endian = "big"),
    };
    match (swaps, size) {
        (true, Size::H) => Code::Be16,
        (true, Size::W) => Code::Be32,
        (true, Size::DW | Size::B) => Code::Be64,
        (false, Size::H) => Code::Le16,
        (false, Size::W) => Code::Le32,
        (false, Size::DW | Size::B) => Code::Nop,
    }
}

fn arena_bit(mem: Mem) -> u8 {
    if mem.space == Space::Arena {
        guarded::ARENA
    } else {
        0
    }
}

fn access(code: Code, dst: Reg, src: Reg, mem: Mem) -> Inst {
    Inst::new(code, dst.number(), src.number(), mem.offset, 0)
}

fn load(size: Size, extend: Extend, dst: Reg, mem: Mem) -> Inst {
    if mem.space != Space::Plain {
        let sign = match extend {
            Extend::Sign => guarded::SIGN,
            Extend::Zero => 0,
        };
        let kind = size as u8 | sign | arena_bit(mem);
        return access(Code::LoadGuarded, dst, mem.base, mem).with_kind(kind);
    }
    let code = match (extend, size) {
        (Extend::Zero, Size::B) => Code::LoadB,
        (Extend::Zero, Size::H) => Code::LoadH,
        (Extend::Zero, Size::W) => Code::LoadW,
        (Extend::Sign, Size::B) => Code::LoadSB,
        (Extend::Sign, Size::H) => Code::LoadSH,
        (Extend::Sign, Size::W) => Code::LoadSW,
        (_, Size::DW) => Code::LoadD,
    };
    access(code, dst, mem.base, mem)
}

fn store(size: Size, src: Src, mem: Mem) -> Inst {
    let (register, imm) = match src {
        Src::Reg(r) => (Some(r), 0),
        Src::Imm(imm) => (None, i64::from(imm).cast_unsigned()),
    };
    let number = register.map_or(0, Reg::number);
    if mem.space != Space::Plain {
        let from = if register.is_none() { guarded::IMM } else { 0 };
        let inst = Inst::new(
            Code::StoreGuarded,
            mem.base.number(),
            number,
            mem.offset,
            imm,
        );
        return inst.with_kind(size as u8 | from | arena_bit(mem));
    }
    let code = match (register.is_some(), size) {
        (true, Size::B) => Code::StoreBR,
        (true, Size::H) => Code::StoreHR,
        (true, Size::W) => Code::StoreWR,
        (true, Size::DW) => Code::StoreDR,
        (false, Size::B) => Code::StoreBK,
        (false, Size::H) => Code::StoreHK,
        (false, Size::W) => Code::StoreWK,
        (false, Size::DW) => Code::StoreDK,
    };
    Inst::new(code, mem.base.number(), number, mem.offset, imm)
}

fn atomic_op(size: Size, op: AtomicOp, src: Reg, mem: Mem) -> Inst {
    let kind = match op {
        AtomicOp::Add { .. } => atomic::ADD,
        AtomicOp::Or { .. } => atomic::OR,
        AtomicOp::And { .. } => atomic::AND,
        AtomicOp::Xor { .. } => atomic::XOR,
        AtomicOp::Xchg => atomic::XCHG,
        AtomicOp::Cmpxchg => atomic::CMPXCHG,
    };
    let fetch = if op.fetches() { atomic::FETCH } else { 0 };
    let wide = if size == Size::DW { atomic::WIDE } else { 0 };
    let code = match (mem.space, size) {
        (Space::Arena, _) => Code::AtomicArena,
        (_, Size::DW) => Code::AtomicD,
        _ => Code::AtomicW,
    };
    access(code, mem.base, src, mem).with_kind(kind | fetch | wide)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_isa::{AluOp, JmpOp};

    #[test]
    fn an_instruction_is_16_bytes() {
        assert_eq!(size_of::<Inst>(), 16);
    }

    #[test]
    fn tables_follow_the_order_of_the_operations() {
        let alu = [
            (AluOp::Add, Code::Add64R),
            (AluOp::Sdiv, Code::Sdiv64R),
            (AluOp::Mod, Code::Mod64R),
            (AluOp::Smod, Code::Smod64R),
            (AluOp::Xor, Code::Xor64R),
            (AluOp::Arsh, Code::Arsh64R),
        ];
        for (op, code) in alu {
            assert_eq!(ALU[op as usize][0], code);
        }
        let jmp = [
            (JmpOp::Eq, Code::Jeq64R),
            (JmpOp::Lt, Code::Jlt64R),
            (JmpOp::Set, Code::Jset64R),
            (JmpOp::Sle, Code::Jsle64R),
        ];
        for (op, code) in jmp {
            assert_eq!(JMP[op as usize][0], code);
        }
    }
}
