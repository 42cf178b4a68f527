//! Slots to instructions.
//!
//! The rules for reserved fields are those of RFC 9669 §3 to §5 as Linux 6.18 applies them.

use crate::insn::{
    AluOp, AtomicOp, Call, EndOp, Extend, Imm64, Insn, JmpOp, Reg, Size, Src, Width,
};
use crate::opcode as op;
use crate::slot::Slot;

/// Why a slot is not an instruction.
///
/// ```
/// use skep_isa::{DecodeError, Slot, decode};
///
/// let unknown = [Slot::new(0xff, 0, 0, 0, 0)];
/// assert_eq!(decode(&unknown, 0), Err(DecodeError::UnknownOpcode { code: 0xff }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// No instruction has this opcode.
    UnknownOpcode {
        /// The opcode byte.
        code: u8,
    },
    /// A field that must be zero, or has few legal values, holds something else.
    ReservedField {
        /// The opcode byte.
        code: u8,
        /// Name of the offending field: `dst`, `src`, `offset`, `imm` or `next slot`.
        field: &'static str,
    },
    /// A register number above 10.
    InvalidRegister {
        /// The number.
        number: u8,
    },
    /// The program ends inside a wide instruction, or `at` is past its end.
    Truncated,
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::UnknownOpcode { code } => write!(f, "unknown opcode {code:#04x}"),
            Self::ReservedField { code, field } => {
                write!(f, "reserved value in field `{field}` of opcode {code:#04x}")
            }
            Self::InvalidRegister { number } => write!(f, "r{number} does not exist"),
            Self::Truncated => write!(f, "program ends inside an instruction"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Decodes the instruction at `slots[at]`; [`Insn::slots`] tells how many slots it takes.
///
/// # Errors
/// Every malformed instruction, with the field that is wrong; [`DecodeError::Truncated`] if `at`, or the second slot of
/// a wide instruction, is past the end.
pub fn decode(slots: &[Slot], at: usize) -> Result<Insn, DecodeError> {
    let s = *slots.get(at).ok_or(DecodeError::Truncated)?;
    match s.code & op::CLASS_MASK {
        op::ALU | op::ALU64 => alu(s),
        op::JMP | op::JMP32 => jump(s),
        op::LD => load_legacy(s, slots.get(at + 1).copied()),
        op::LDX => load(s),
        op::ST => store_imm(s),
        _ => store_reg(s),
    }
}

fn reg(number: u8) -> Result<Reg, DecodeError> {
    Reg::new(number).ok_or(DecodeError::InvalidRegister { number })
}

/// Reports `field` unless its value is one of those the opcode allows.
fn reserved(s: Slot, is_allowed: bool, field: &'static str) -> Result<(), DecodeError> {
    if is_allowed { Ok(()) } else { bad(s, field) }
}

/// Of these opcodes only the form with [`op::K`] exists.
fn constant_source(s: Slot) -> Result<(), DecodeError> {
    if s.code & op::X == 0 {
        Ok(())
    } else {
        unknown(s)
    }
}

fn bad<T>(s: Slot, field: &'static str) -> Result<T, DecodeError> {
    Err(DecodeError::ReservedField {
        code: s.code,
        field,
    })
}

fn unknown<T>(s: Slot) -> Result<T, DecodeError> {
    Err(DecodeError::UnknownOpcode { code: s.code })
}

fn size(code: u8) -> Size {
    match code & op::SIZE_MASK {
        op::B => Size::B,
        op::H => Size::H,
        op::W => Size::W,
        _ => Size::DW,
    }
}

/// The second operand; the field that is not used must be zero.
fn operand(s: Slot) -> Result<Src, DecodeError> {
    if s.code & op::X != 0 {
        reserved(s, s.imm == 0, "imm")?;
        Ok(Src::Reg(reg(s.src())?))
    } else {
        reserved(s, s.src() == 0, "src")?;
        Ok(Src::Imm(s.imm))
    }
}

fn alu(s: Slot) -> Result<Insn, DecodeError> {
    let width = if s.code & op::CLASS_MASK == op::ALU64 {
        Width::W64
    } else {
        Width::W32
    };
    let alu_op = match s.code & op::CODE_MASK {
        op::ADD => AluOp::Add,
        op::SUB => AluOp::Sub,
        op::MUL => AluOp::Mul,
        op::DIV if s.offset == op::OFFSET_SIGNED => AluOp::Sdiv,
        op::DIV => AluOp::Div,
        op::OR => AluOp::Or,
        op::AND => AluOp::And,
        op::LSH => AluOp::Lsh,
        op::RSH => AluOp::Rsh,
        op::MOD if s.offset == op::OFFSET_SIGNED => AluOp::Smod,
        op::MOD => AluOp::Mod,
        op::XOR => AluOp::Xor,
        op::ARSH => AluOp::Arsh,
        op::NEG => return negate(s, width),
        op::MOV => return mov(s, width),
        op::END => return byte_order(s),
        _ => return unknown(s),
    };
    let src = operand(s)?;
    let signed = matches!(alu_op, AluOp::Sdiv | AluOp::Smod);
    reserved(s, s.offset == 0 || signed, "offset")?;
    Ok(Insn::Alu {
        width,
        op: alu_op,
        dst: reg(s.dst())?,
        src,
    })
}

fn negate(s: Slot, width: Width) -> Result<Insn, DecodeError> {
    constant_source(s)?;
    reserved(s, s.src() == 0, "src")?;
    reserved(s, s.offset == 0, "offset")?;
    reserved(s, s.imm == 0, "imm")?;
    Ok(Insn::Neg {
        width,
        dst: reg(s.dst())?,
    })
}

fn mov(s: Slot, width: Width) -> Result<Insn, DecodeError> {
    if s.code & op::X == 0 {
        reserved(s, s.offset == 0, "offset")?;
        let src = operand(s)?;
        return Ok(Insn::Mov {
            width,
            dst: reg(s.dst())?,
            src,
        });
    }
    let (dst, src) = (s.dst(), s.src());
    match (s.offset, width) {
        (0, _) => {
            let src = operand(s)?;
            Ok(Insn::Mov {
                width,
                dst: reg(dst)?,
                src,
            })
        }
        (op::OFFSET_ADDR_SPACE_CAST, Width::W64) => {
            let imm = s.imm.cast_unsigned();
            Ok(Insn::AddrSpaceCast {
                dst: reg(dst)?,
                src: reg(src)?,
                dst_as: (imm >> 16) as u16,
                src_as: imm as u16,
            })
        }
        (8 | 16, _) | (32, Width::W64) => {
            reserved(s, s.imm == 0, "imm")?;
            let from = match s.offset {
                8 => Size::B,
                16 => Size::H,
                _ => Size::W,
            };
            Ok(Insn::Movsx {
                width,
                from,
                dst: reg(dst)?,
                src: reg(src)?,
            })
        }
        _ => bad(s, "offset"),
    }
}

fn byte_order(s: Slot) -> Result<Insn, DecodeError> {
    let end = match (s.code & op::CLASS_MASK, s.code & op::X) {
        (op::ALU, op::K) => EndOp::ToLe,
        (op::ALU, _) => EndOp::ToBe,
        (_, op::K) => EndOp::Bswap,
        _ => return unknown(s),
    };
    reserved(s, s.src() == 0, "src")?;
    reserved(s, s.offset == 0, "offset")?;
    let size = match s.imm {
        16 => Size::H,
        32 => Size::W,
        64 => Size::DW,
        _ => {
            return bad(s, "imm");
        }
    };
    Ok(Insn::End {
        op: end,
        size,
        dst: reg(s.dst())?,
    })
}

fn jump(s: Slot) -> Result<Insn, DecodeError> {
    let is64 = s.code & op::CLASS_MASK == op::JMP;
    let jmp_op = match s.code & op::CODE_MASK {
        op::JEQ => JmpOp::Eq,
        op::JGT => JmpOp::Gt,
        op::JGE => JmpOp::Ge,
        op::JSET => JmpOp::Set,
        op::JNE => JmpOp::Ne,
        op::JSGT => JmpOp::Sgt,
        op::JSGE => JmpOp::Sge,
        op::JLT => JmpOp::Lt,
        op::JLE => JmpOp::Le,
        op::JSLT => JmpOp::Slt,
        op::JSLE => JmpOp::Sle,
        op::JA => return goto(s, is64),
        op::CALL if is64 => return call(s),
        op::EXIT if is64 => return exit(s),
        op::JCOND if is64 => return may_goto(s),
        _ => return unknown(s),
    };
    let width = if is64 { Width::W64 } else { Width::W32 };
    let src = operand(s)?;
    Ok(Insn::JumpIf {
        width,
        op: jmp_op,
        dst: reg(s.dst())?,
        src,
        offset: s.offset,
    })
}

fn goto(s: Slot, is64: bool) -> Result<Insn, DecodeError> {
    constant_source(s)?;
    reserved(s, s.dst() == 0, "dst")?;
    reserved(s, s.src() == 0, "src")?;
    if is64 {
        reserved(s, s.imm == 0, "imm")?;
        Ok(Insn::Jump {
            offset: i32::from(s.offset),
            long: false,
        })
    } else {
        reserved(s, s.offset == 0, "offset")?;
        Ok(Insn::Jump {
            offset: s.imm,
            long: true,
        })
    }
}

fn may_goto(s: Slot) -> Result<Insn, DecodeError> {
    constant_source(s)?;
    reserved(s, s.dst() == 0, "dst")?;
    reserved(s, s.src() == 0, "src")?;
    reserved(s, s.imm == 0, "imm")?;
    Ok(Insn::MayGoto { offset: s.offset })
}

fn call(s: Slot) -> Result<Insn, DecodeError> {
    if s.code & op::X != 0 {
        reserved(s, s.src() == 0, "src")?;
        reserved(s, s.offset == 0, "offset")?;
        reserved(s, s.imm == 0, "imm")?;
        return Ok(Insn::CallReg { dst: reg(s.dst())? });
    }
    reserved(s, s.dst() == 0, "dst")?;
    match s.src() {
        0 => {
            reserved(s, s.offset == 0, "offset")?;
            Ok(Insn::Call(Call::Helper(s.imm)))
        }
        op::PSEUDO_CALL => {
            reserved(s, s.offset == 0, "offset")?;
            Ok(Insn::Call(Call::Subprog(s.imm)))
        }
        op::PSEUDO_KFUNC_CALL => Ok(Insn::Call(Call::Kfunc {
            id: s.imm,
            module: s.offset,
        })),
        _ => bad(s, "src"),
    }
}

fn exit(s: Slot) -> Result<Insn, DecodeError> {
    constant_source(s)?;
    reserved(s, s.imm == 0, "imm")?;
    reserved(s, s.src() == 0, "src")?;
    reserved(s, s.dst() == 0, "dst")?;
    reserved(s, s.offset == 0, "offset")?;
    Ok(Insn::Exit)
}

fn load_legacy(s: Slot, next: Option<Slot>) -> Result<Insn, DecodeError> {
    match s.code & op::MODE_MASK {
        op::IMM if s.code == op::LDDW => wide(s, next.ok_or(DecodeError::Truncated)?),
        mode @ (op::ABS | op::IND) if s.code & op::SIZE_MASK != op::DW => {
            reserved(s, s.dst() == 0, "dst")?;
            reserved(s, s.offset == 0, "offset")?;
            if mode == op::IND {
                return Ok(Insn::LoadInd {
                    size: size(s.code),
                    src: reg(s.src())?,
                    imm: s.imm,
                });
            }
            reserved(s, s.src() == 0, "src")?;
            Ok(Insn::LoadAbs {
                size: size(s.code),
                imm: s.imm,
            })
        }
        _ => unknown(s),
    }
}

fn wide(s: Slot, next: Slot) -> Result<Insn, DecodeError> {
    reserved(s, s.offset == 0, "offset")?;
    reserved(
        s,
        next.code == 0 && next.regs == 0 && next.offset == 0,
        "next slot",
    )?;
    let next_imm = next.imm;
    let no_next_imm = || reserved(s, next_imm == 0, "next_imm");
    let imm = match s.src() {
        0 => {
            let (low, high) = (s.imm.cast_unsigned(), next_imm.cast_unsigned());
            Imm64::Value(u64::from(low) | u64::from(high) << 32)
        }
        op::PSEUDO_MAP_FD => {
            no_next_imm()?;
            Imm64::MapFd(s.imm)
        }
        op::PSEUDO_MAP_IDX => {
            no_next_imm()?;
            Imm64::MapIdx(s.imm)
        }
        op::PSEUDO_MAP_VALUE => Imm64::MapFdValue {
            fd: s.imm,
            offset: next_imm.cast_unsigned(),
        },
        op::PSEUDO_MAP_IDX_VALUE => Imm64::MapIdxValue {
            index: s.imm,
            offset: next_imm.cast_unsigned(),
        },
        op::PSEUDO_BTF_ID => Imm64::BtfId {
            id: s.imm,
            fd: next_imm,
        },
        op::PSEUDO_FUNC => {
            no_next_imm()?;
            Imm64::Func(s.imm)
        }
        _ => {
            return bad(s, "src");
        }
    };
    Ok(Insn::LoadImm64 {
        dst: reg(s.dst())?,
        imm,
    })
}

fn load(s: Slot) -> Result<Insn, DecodeError> {
    let extend = match s.code & op::MODE_MASK {
        op::MEM => Extend::Zero,
        op::MEMSX if s.code & op::SIZE_MASK != op::DW => Extend::Sign,
        _ => return unknown(s),
    };
    reserved(s, s.imm == 0, "imm")?;
    Ok(Insn::Load {
        size: size(s.code),
        extend,
        dst: reg(s.dst())?,
        src: reg(s.src())?,
        offset: s.offset,
    })
}

fn store_imm(s: Slot) -> Result<Insn, DecodeError> {
    if s.code & op::MODE_MASK != op::MEM {
        return unknown(s);
    }
    reserved(s, s.src() == 0, "src")?;
    Ok(Insn::Store {
        size: size(s.code),
        dst: reg(s.dst())?,
        src: Src::Imm(s.imm),
        offset: s.offset,
    })
}

fn store_reg(s: Slot) -> Result<Insn, DecodeError> {
    match s.code & op::MODE_MASK {
        op::MEM => {
            reserved(s, s.imm == 0, "imm")?;
            let src = Src::Reg(reg(s.src())?);
            Ok(Insn::Store {
                size: size(s.code),
                dst: reg(s.dst())?,
                src,
                offset: s.offset,
            })
        }
        op::ATOMIC => atomic(s),
        _ => unknown(s),
    }
}

fn atomic(s: Slot) -> Result<Insn, DecodeError> {
    let (size, dst, src, offset) = (size(s.code), reg(s.dst())?, reg(s.src())?, s.offset);
    match s.imm {
        op::LOAD_ACQ => {
            return Ok(Insn::LoadAcquire {
                size,
                dst,
                src,
                offset,
            });
        }
        op::STORE_REL => {
            return Ok(Insn::StoreRelease {
                size,
                dst,
                src,
                offset,
            });
        }
        _ => {}
    }
    if matches!(size, Size::B | Size::H) {
        return bad(s, "imm");
    }
    let fetch = s.imm & op::FETCH != 0;
    let op = match s.imm {
        op::XCHG => AtomicOp::Xchg,
        op::CMPXCHG => AtomicOp::Cmpxchg,
        imm => match u8::try_from(imm & !op::FETCH) {
            Ok(op::ADD) => AtomicOp::Add { fetch },
            Ok(op::OR) => AtomicOp::Or { fetch },
            Ok(op::AND) => AtomicOp::And { fetch },
            Ok(op::XOR) => AtomicOp::Xor { fetch },
            _ => return bad(s, "imm"),
        },
    };
    Ok(Insn::Atomic {
        size,
        op,
        dst,
        src,
        offset,
    })
}

/// The instructions of a program, each with the index of its first slot. After a malformed slot the next one is tried.
pub fn insns(slots: &[Slot]) -> impl Iterator<Item = (usize, Result<Insn, DecodeError>)> + '_ {
    let mut next = 0;
    core::iter::from_fn(move || {
        let at = next;
        slots.get(at)?;
        let insn = decode(slots, at);
        next += insn.as_ref().map_or(1, Insn::slots);
        Some((at, insn))
    })
}
