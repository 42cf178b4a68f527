//! Instructions to slots: the inverse of [`crate::decode()`].

use crate::insn::{
    AluOp, AtomicOp, Call, EndOp, Extend, Imm64, Insn, JmpOp, Reg, Size, Src, Width,
};
use crate::opcode as op;
use crate::slot::Slot;

/// The encoded form of one instruction: one slot, or two for `lddw`. Dereferences to a slice.
///
/// ```
/// use skep_isa::{Imm64, Insn, Reg, encode};
///
/// let wide = Insn::LoadImm64 { dst: Reg::R1, imm: Imm64::Value(1 << 40) };
/// let slots = encode(&wide);
/// assert_eq!(slots.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slots {
    slots: [Slot; 2],
    len: usize,
}

impl Slots {
    const fn one(slot: Slot) -> Self {
        let slots = [slot, Slot::new(0, 0, 0, 0, 0)];
        Self { slots, len: 1 }
    }
}

impl core::ops::Deref for Slots {
    type Target = [Slot];

    fn deref(&self) -> &[Slot] {
        &self.slots[..self.len]
    }
}

impl IntoIterator for Slots {
    type Item = Slot;
    type IntoIter = core::iter::Take<core::array::IntoIter<Slot, 2>>;

    fn into_iter(self) -> Self::IntoIter {
        self.slots.into_iter().take(self.len)
    }
}

/// Encodes an instruction. `decode(encode(x)) = x` for every `x` that [`crate::decode()`] can return.
///
/// Other values (a `movsx` from 64 bits, a one-byte exchange) give slots which `decode` refuses; a short jump whose
/// offset needs more than 16 bits becomes the long form.
#[must_use]
pub fn encode(insn: &Insn) -> Slots {
    match *insn {
        Insn::LoadImm64 { dst, imm } => wide(dst, imm),
        ref basic => Slots::one(slot(basic)),
    }
}

/// The slot of a basic instruction; arithmetic here, the rest by kind.
fn slot(insn: &Insn) -> Slot {
    match *insn {
        Insn::Alu {
            width,
            op,
            dst,
            src,
        } => alu(width, op, dst, src),
        Insn::Neg { width, dst } => Slot::new(alu_class(width) | op::NEG, dst.number(), 0, 0, 0),
        Insn::Mov { width, dst, src } => {
            with_operand(alu_class(width) | op::MOV, dst.number(), src, 0)
        }
        Insn::Movsx {
            width,
            from,
            dst,
            src,
        } => {
            let offset = [8, 16, 32, 64][from as usize];
            regs(alu_class(width) | op::MOV | op::X, dst, src, offset, 0)
        }
        Insn::AddrSpaceCast {
            dst,
            src,
            dst_as,
            src_as,
        } => {
            let imm = u32::from(dst_as) << 16 | u32::from(src_as);
            let code = op::ALU64 | op::MOV | op::X;
            regs(
                code,
                dst,
                src,
                op::OFFSET_ADDR_SPACE_CAST,
                imm.cast_signed(),
            )
        }
        Insn::End { op, size, dst } => byte_order(op, size, dst),
        _ => access_slot(insn),
    }
}

/// The slot of an instruction that touches memory.
fn access_slot(insn: &Insn) -> Slot {
    match *insn {
        Insn::LoadAbs { size, imm } => Slot::new(op::LD | op::ABS | size_code(size), 0, 0, 0, imm),
        Insn::LoadInd { size, src, imm } => {
            let code = op::LD | op::IND | size_code(size);
            Slot::new(code, 0, src.number(), 0, imm)
        }
        Insn::Load {
            size,
            extend,
            dst,
            src,
            offset,
        } => {
            let mode = match extend {
                Extend::Zero => op::MEM,
                Extend::Sign => op::MEMSX,
            };
            regs(op::LDX | mode | size_code(size), dst, src, offset, 0)
        }
        Insn::Store {
            size,
            dst,
            src,
            offset,
        } => store(size, dst, src, offset),
        Insn::Atomic {
            size,
            op,
            dst,
            src,
            offset,
        } => atomic(size, dst, src, offset, atomic_imm(op)),
        Insn::LoadAcquire {
            size,
            dst,
            src,
            offset,
        } => atomic(size, dst, src, offset, op::LOAD_ACQ),
        Insn::StoreRelease {
            size,
            dst,
            src,
            offset,
        } => atomic(size, dst, src, offset, op::STORE_REL),
        _ => control_slot(insn),
    }
}

/// The slot of a jump, call or exit. Every other instruction has its arm before.
fn control_slot(insn: &Insn) -> Slot {
    match *insn {
        Insn::Jump { offset, long } => jump(offset, long),
        Insn::JumpIf {
            width,
            op,
            dst,
            src,
            offset,
        } => jump_if(width, op, dst, src, offset),
        Insn::MayGoto { offset } => Slot::new(op::JMP | op::JCOND, 0, 0, offset, 0),
        Insn::Call(call) => self::call(call),
        Insn::CallReg { dst } => Slot::new(op::JMP | op::CALL | op::X, dst.number(), 0, 0, 0),
        Insn::Exit => Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0),
        _ => Slot::new(0, 0, 0, 0, 0),
    }
}

fn regs(code: u8, dst: Reg, src: Reg, offset: i16, imm: i32) -> Slot {
    Slot::new(code, dst.number(), src.number(), offset, imm)
}

fn with_operand(code: u8, dst: u8, src: Src, offset: i16) -> Slot {
    match src {
        Src::Reg(src) => Slot::new(code | op::X, dst, src.number(), offset, 0),
        Src::Imm(imm) => Slot::new(code | op::K, dst, 0, offset, imm),
    }
}

const fn alu_class(width: Width) -> u8 {
    match width {
        Width::W32 => op::ALU,
        Width::W64 => op::ALU64,
    }
}

const fn size_code(size: Size) -> u8 {
    match size {
        Size::B => op::B,
        Size::H => op::H,
        Size::W => op::W,
        Size::DW => op::DW,
    }
}

fn alu(width: Width, alu_op: AluOp, dst: Reg, src: Src) -> Slot {
    let (code, offset) = match alu_op {
        AluOp::Add => (op::ADD, 0),
        AluOp::Sub => (op::SUB, 0),
        AluOp::Mul => (op::MUL, 0),
        AluOp::Div => (op::DIV, 0),
        AluOp::Sdiv => (op::DIV, op::OFFSET_SIGNED),
        AluOp::Or => (op::OR, 0),
        AluOp::And => (op::AND, 0),
        AluOp::Lsh => (op::LSH, 0),
        AluOp::Rsh => (op::RSH, 0),
        AluOp::Mod => (op::MOD, 0),
        AluOp::Smod => (op::MOD, op::OFFSET_SIGNED),
        AluOp::Xor => (op::XOR, 0),
        AluOp::Arsh => (op::ARSH, 0),
    };
    with_operand(alu_class(width) | code, dst.number(), src, offset)
}

fn byte_order(end: EndOp, size: Size, dst: Reg) -> Slot {
    let code = match end {
        EndOp::ToLe => op::ALU | op::END | op::K,
        EndOp::ToBe => op::ALU | op::END | op::X,
        EndOp::Bswap => op::ALU64 | op::END | op::K,
    };
    Slot::new(code, dst.number(), 0, 0, [8, 16, 32, 64][size as usize])
}

fn store(size: Size, dst: Reg, src: Src, offset: i16) -> Slot {
    let code = op::MEM | size_code(size);
    match src {
        Src::Reg(src) => regs(op::STX | code, dst, src, offset, 0),
        Src::Imm(imm) => Slot::new(op::ST | code, dst.number(), 0, offset, imm),
    }
}

fn atomic(size: Size, dst: Reg, src: Reg, offset: i16, imm: i32) -> Slot {
    regs(
        op::STX | op::ATOMIC | size_code(size),
        dst,
        src,
        offset,
        imm,
    )
}

fn atomic_imm(atomic_op: AtomicOp) -> i32 {
    let (code, fetch) = match atomic_op {
        AtomicOp::Add { fetch } => (op::ADD, fetch),
        AtomicOp::Or { fetch } => (op::OR, fetch),
        AtomicOp::And { fetch } => (op::AND, fetch),
        AtomicOp::Xor { fetch } => (op::XOR, fetch),
        AtomicOp::Xchg => return op::XCHG,
        AtomicOp::Cmpxchg => return op::CMPXCHG,
    };
    i32::from(code) | if fetch { op::FETCH } else { 0 }
}

fn jump(offset: i32, long: bool) -> Slot {
    match i16::try_from(offset) {
        Ok(offset) if !long => Slot::new(op::JMP | op::JA, 0, 0, offset, 0),
        _ => Slot::new(op::JMP32 | op::JA, 0, 0, 0, offset),
    }
}

fn jump_if(width: Width, jmp_op: JmpOp, dst: Reg, src: Src, offset: i16) -> Slot {
    let class = match width {
        Width::W32 => op::JMP32,
        Width::W64 => op::JMP,
    };
    let code = match jmp_op {
        JmpOp::Eq => op::JEQ,
        JmpOp::Ne => op::JNE,
        JmpOp::Gt => op::JGT,
        JmpOp::Ge => op::JGE,
        JmpOp::Lt => op::JLT,
        JmpOp::Le => op::JLE,
        JmpOp::Set => op::JSET,
        JmpOp::Sgt => op::JSGT,
        JmpOp::Sge => op::JSGE,
        JmpOp::Slt => op::JSLT,
        JmpOp::Sle => op::JSLE,
    };
    with_operand(class | code, dst.number(), src, offset)
}

fn call(call: Call) -> Slot {
    let (src, offset, imm) = match call {
        Call::Helper(id) => (0, 0, id),
        Call::Subprog(distance) => (op::PSEUDO_CALL, 0, distance),
        Call::Kfunc { id, module } => (op::PSEUDO_KFUNC_CALL, module, id),
    };
    Slot::new(op::JMP | op::CALL, 0, src, offset, imm)
}

/// `src`, `imm` and `next_imm` of a wide load.
pub(crate) const fn wide_fields(imm: Imm64) -> (u8, i32, i32) {
    match imm {
        Imm64::Value(value) => (
            0,
            (value as u32).cast_signed(),
            ((value >> 32) as u32).cast_signed(),
        ),
        Imm64::MapFd(fd) => (op::PSEUDO_MAP_FD, fd, 0),
        Imm64::MapIdx(index) => (op::PSEUDO_MAP_IDX, index, 0),
        Imm64::MapFdValue { fd, offset } => (op::PSEUDO_MAP_VALUE, fd, offset.cast_signed()),
        Imm64::MapIdxValue { index, offset } => {
            (op::PSEUDO_MAP_IDX_VALUE, index, offset.cast_signed())
        }
        Imm64::BtfId { id, fd } => (op::PSEUDO_BTF_ID, id, fd),
        Imm64::Func(distance) => (op::PSEUDO_FUNC, distance, 0),
    }
}

fn wide(dst: Reg, imm: Imm64) -> Slots {
    let (src, imm, next_imm) = wide_fields(imm);
    let first = Slot::new(op::LDDW, dst.number(), src, 0, imm);
    let slots = [first, Slot::new(0, 0, 0, 0, next_imm)];
    Slots { slots, len: 2 }
}
