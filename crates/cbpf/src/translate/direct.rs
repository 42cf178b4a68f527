//! Translation for programs that reach the packet through pointers: XDP, and matching in this process.
//!
//! Every load is preceded by a comparison with `data_end`, unless all ways to it made one that reaches as far. Loads at X
//! go through one pointer, made where X is first used as an index.

use super::{A, CTX, DATA, DATA_END, INDEX, Label, TMP2, TranslateError, Translator};
use crate::insn::{Insn, Op, Size};
use alloc::vec;
use alloc::vec::Vec;
use skep_isa::opcode::{
    ADD, ALU, ALU64, AND, END, JGT, JMP, JMP32, K, LDX, LSH, MEM, MOV, SUB, W, X,
};

/// The pointer to `packet[X]`.
const AT_X: u8 = CTX;
/// Greatest X and greatest end of a load at X: together they stay below what the verifier follows (`MAX_PACKET_OFF`).
const INDEX_MAX: u32 = 0x7fff;

/// What all ways to an instruction have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Proven {
    /// Bytes of the packet known to be there.
    bytes: u32,
    /// Bytes known to be there from X on, if the pointer is made.
    from_x: Option<u32>,
    /// Greatest value of X.
    x_max: u32,
}

impl Proven {
    const START: Self = Self {
        bytes: 0,
        from_x: None,
        x_max: 0,
    };

    fn meet(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.min(other.bytes),
            from_x: self.from_x.zip(other.from_x).map(|(a, b)| a.min(b)),
            x_max: self.x_max.max(other.x_max),
        }
    }
}

/// What is known before each instruction.
pub(super) struct Flow {
    before: Vec<Option<Proven>>,
    pub(super) now: Proven,
}

impl Flow {
    pub(super) fn new(insns: usize) -> Self {
        let mut before = vec![None; insns + 1];
        before[0] = Some(Proven::START);
        Self {
            before,
            now: Proven::START,
        }
    }

    /// Goes to an instruction; what no way leads to is as good as the start.
    pub(super) fn enter(&mut self, at: usize) {
        self.now = self.before[at].unwrap_or(Proven::START);
    }

    /// Notes that a way leads from here to an instruction.
    fn join(&mut self, to: usize) {
        let now = self.now;
        let at = &mut self.before[to];
        *at = Some(at.map_or(now, |before| before.meet(now)));
    }

    /// Notes the ways on after an instruction.
    pub(super) fn leave(&mut self, at: usize, insn: Insn) {
        match insn.op() {
            Some(Op::LoadXImm) => self.new_x(insn.k),
            Some(Op::LoadXMsh) => self.new_x(60),
            Some(Op::LoadXLen | Op::LoadXMem | Op::Tax) => self.new_x(u32::MAX),
            _ => {}
        }
        match insn.op() {
            Some(Op::Jump) => self.join(at + 1 + insn.k as usize),
            Some(Op::JumpK(_) | Op::JumpX(_)) => {
                self.join(at + 1 + usize::from(insn.jt));
                self.join(at + 1 + usize::from(insn.jf));
            }
            Some(Op::RetK | Op::RetA) => {}
            _ => self.join(at + 1),
        }
    }

    fn new_x(&mut self, max: u32) {
        self.now.from_x = None;
        self.now.x_max = max;
    }
}

impl Translator<'_> {
    /// Loads the ends of the packet.
    pub(super) fn direct_prologue(&mut self) {
        self.push(LDX | MEM | W, DATA, 1, 0, 0);
        self.push(LDX | MEM | W, DATA_END, 1, 4, 0);
    }

    pub(super) fn direct_length(&mut self, dst: u8) {
        self.push(ALU64 | MOV | X, dst, DATA_END, 0, 0);
        self.push(ALU64 | SUB | X, dst, DATA, 0, 0);
    }

    pub(super) fn direct_abs(&mut self, size: Size, k: u32, dst: u8) -> Result<(), TranslateError> {
        let (offset, end) = self.reach(size, k)?;
        if self.flow.now.bytes < end {
            self.require(DATA, end);
            self.flow.now.bytes = end;
        }
        self.load_from(DATA, offset, size, dst);
        Ok(())
    }

    pub(super) fn direct_ind(&mut self, size: Size, k: u32) -> Result<(), TranslateError> {
        let (offset, end) = self.reach(size, k)?;
        if self.flow.now.from_x.is_none() {
            if self.flow.now.x_max > INDEX_MAX {
                let limit = INDEX_MAX.cast_signed();
                self.jump(JMP32 | JGT | K, INDEX, 0, limit, Label::Reject);
            }
            self.push(ALU | MOV | X, AT_X, INDEX, 0, 0);
            self.push(ALU64 | ADD | X, AT_X, DATA, 0, 0);
            self.flow.now.from_x = Some(0);
        }
        if self.flow.now.from_x.is_none_or(|proven| proven < end) {
            self.require(AT_X, end);
            self.flow.now.from_x = Some(end);
        }
        self.load_from(AT_X, offset, size, A);
        Ok(())
    }

    pub(super) fn direct_msh(&mut self, k: u32) -> Result<(), TranslateError> {
        self.direct_abs(Size::B, k, INDEX)?;
        self.push(ALU | AND | K, INDEX, 0, 0, 0xf);
        self.push(ALU | LSH | K, INDEX, 0, 0, 2);
        Ok(())
    }

    /// Offset and end of a load, if an instruction can name them.
    fn reach(&self, size: Size, k: u32) -> Result<(i16, u32), TranslateError> {
        let end = k.saturating_add(size.bytes());
        match i16::try_from(k) {
            Ok(offset) if end <= INDEX_MAX => Ok((offset, end)),
            _ => Err(TranslateError::Offset(self.at, k)),
        }
    }

    /// Rejects packets that end before `end` bytes after `from`.
    fn require(&mut self, from: u8, end: u32) {
        self.push(ALU64 | MOV | X, TMP2, from, 0, 0);
        self.push(ALU64 | ADD | K, TMP2, 0, 0, end.cast_signed());
        self.jump(JMP | JGT | X, TMP2, DATA_END, 0, Label::Reject);
    }

    fn load_from(&mut self, from: u8, offset: i16, size: Size, dst: u8) {
        self.push(LDX | MEM | size.code(), dst, from, offset, 0);
        match size {
            Size::B => {}
            Size::H => self.push(ALU | END | X, dst, 0, 0, 16),
            Size::W => self.push(ALU | END | X, dst, 0, 0, 32),
        }
    }
}
