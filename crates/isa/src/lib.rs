//! The BPF instruction set (RFC 9669, and what Linux 6.18 executes beyond it).
//!
//! A program is a slice of [`Slot`]s, 8 bytes each, exactly as `bpf(2)` takes it; an index into a program is always a
//! slot index. [`Insn`] is the decoded form: [`decode()`] checks every reserved field, so whoever matches on `Insn` need not.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod asm;
pub mod decode;
pub mod disasm;
pub mod encode;
pub mod insn;
pub mod opcode;
pub mod slot;

pub use decode::{DecodeError, decode, insns};
pub use disasm::{Names, NoNames, Style, Text};
pub use encode::{Slots, encode};
pub use insn::{AluOp, AtomicOp, Call, EndOp, Extend, Imm64, Insn, JmpOp, Reg, Size, Src, Width};
pub use slot::Slot;
