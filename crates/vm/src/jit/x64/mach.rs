//! Machine instructions before register allocation.
//!
//! Two-operand forms read and write their destination. Registers below [`VReg::FIRST_VIRTUAL`] are the hardware's.

use super::asm::{Alu, Bytes, Cond, Gpr, Shift, W};
use crate::jit::image::Symbol;
use crate::jit::ir::Block;
use crate::lowered::OpIdx;
use skep_isa::{Size, Width};

/// A register, virtual or hardware.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct VReg(pub(super) u32);

impl VReg {
    pub(super) const FIRST_VIRTUAL: u32 = 16;

    pub(super) const fn fixed(r: Gpr) -> Self {
        Self(r.0 as u32)
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    /// The hardware register, if it is one.
    pub(super) fn hardware(self) -> Option<Gpr> {
        u8::try_from(self.0).ok().filter(|n| *n < 16).map(Gpr)
    }
}

/// How an instruction touches a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Use,
    Def,
    /// Read and written.
    Both,
    /// Written before the uses are read.
    EarlyDef,
}

/// The base of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Base {
    Reg(VReg),
    /// The lower end of the BPF frame.
    Frame,
    /// A spill slot.
    Spill(u32),
}

/// An address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mem {
    pub(super) base: Base,
    pub(super) index: Option<(VReg, u8)>,
    pub(super) disp: i32,
}

impl Mem {
    pub(super) const fn reg(r: VReg, disp: i32) -> Self {
        Self {
            base: Base::Reg(r),
            index: None,
            disp,
        }
    }

    fn each_reg(&mut self, f: &mut impl FnMut(&mut VReg, Role)) {
        if let Base::Reg(r) = &mut self.base {
            f(r, Role::Use);
        }
        if let Some((r, _)) = &mut self.index {
            f(r, Role::Use);
        }
    }
}

/// A source operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operand {
    Reg(VReg),
    Imm(i32),
    Mem(Mem),
}

impl Operand {
    fn each_reg(&mut self, f: &mut impl FnMut(&mut VReg, Role)) {
        match self {
            Self::Reg(r) => f(r, Role::Use),
            Self::Imm(_) => {}
            Self::Mem(m) => m.each_reg(f),
        }
    }
}

/// What a call calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Callee {
    Symbol(Symbol),
    Func(u32),
}

/// A machine instruction.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum MInst {
    Mov {
        dst: VReg,
        src: VReg,
    },
    Imm {
        dst: VReg,
        value: u64,
    },
    Symbol {
        dst: VReg,
        symbol: Symbol,
    },
    FuncAddr {
        dst: VReg,
        func: u32,
    },
    Lea {
        w: W,
        dst: VReg,
        mem: Mem,
    },
    Load {
        size: Bytes,
        dst: VReg,
        mem: Mem,
        may_fault: bool,
    },
    /// Sign-extends to 64 bits.
    LoadSigned {
        size: Bytes,
        dst: VReg,
        mem: Mem,
        may_fault: bool,
    },
    /// Clears the upper bits; keeps `dst` if it faults.
    LoadOver {
        size: Bytes,
        dst: VReg,
        mem: Mem,
    },
    Store {
        size: Bytes,
        mem: Mem,
        src: VReg,
        may_fault: bool,
    },
    StoreImm {
        size: Bytes,
        mem: Mem,
        imm: i32,
        may_fault: bool,
    },
    Alu {
        op: Alu,
        w: W,
        dst: VReg,
        src: Operand,
    },
    /// `op [mem], src`
    AluMem {
        op: Alu,
        w: W,
        mem: Mem,
        src: Operand,
    },
    Cmp {
        w: W,
        a: VReg,
        b: Operand,
    },
    Test {
        w: W,
        a: VReg,
        b: Operand,
    },
    /// The carry flag becomes a bit.
    Bit {
        a: VReg,
        bit: u8,
    },
    Mul {
        w: W,
        dst: VReg,
        src: VReg,
    },
    MulImm {
        w: W,
        dst: VReg,
        src: VReg,
        imm: i32,
    },
    ShiftImm {
        op: Shift,
        w: W,
        dst: VReg,
        count: u8,
    },
    /// By `cl`.
    ShiftCl {
        op: Shift,
        w: W,
        dst: VReg,
    },
    ShiftX {
        op: Shift,
        w: W,
        dst: VReg,
        src: VReg,
        count: VReg,
    },
    Neg {
        w: W,
        dst: VReg,
    },
    Not {
        w: W,
        dst: VReg,
    },
    Bswap {
        w: W,
        dst: VReg,
    },
    Swap16 {
        dst: VReg,
    },
    Movzx {
        size: Bytes,
        dst: VReg,
        src: VReg,
    },
    Movsx {
        size: Bytes,
        w: W,
        dst: VReg,
        src: VReg,
    },
    Cmov {
        cond: Cond,
        w: W,
        dst: VReg,
        src: VReg,
    },
    /// `rax`, `rdx` = quotient and remainder of `rax`, with BPF's rules where `checked`.
    Div {
        w: W,
        signed: bool,
        checked: bool,
        remainder: bool,
        src: VReg,
    },
    LockAlu {
        op: Alu,
        w: W,
        mem: Mem,
        src: VReg,
        may_fault: bool,
    },
    Xadd {
        w: W,
        mem: Mem,
        src: VReg,
        may_fault: bool,
    },
    Xchg {
        w: W,
        mem: Mem,
        src: VReg,
        may_fault: bool,
    },
    /// `rax` is compared, and becomes the old value, at 32 bits without an upper half; a fault keeps it.
    Cmpxchg {
        w: W,
        mem: Mem,
        src: VReg,
        may_fault: bool,
    },
    /// `rax` becomes the old value.
    FetchLoop {
        op: Alu,
        w: W,
        mem: Mem,
        src: VReg,
        tmp: VReg,
        may_fault: bool,
    },
    /// `args` of the C argument registers are read.
    Call {
        callee: Callee,
        args: u8,
    },
    Fence,
    Poll {
        env: VReg,
        tmp: VReg,
    },
    TestThrown {
        env: VReg,
    },
    Throw {
        env: VReg,
        value: VReg,
    },
    Sum {
        size: Size,
        width: Width,
        dst: VReg,
        addr: VReg,
        tmp: VReg,
        tmp2: VReg,
        count: u32,
    },
    Copy {
        dst: VReg,
        src: VReg,
        tmp: VReg,
        bytes: u32,
    },
    Mismatch {
        dst: VReg,
        a: VReg,
        b: VReg,
        tmp: VReg,
        count: u32,
    },
    Jcc {
        cond: Cond,
        target: Block,
    },
    Jmp {
        target: Block,
    },
    /// The address of the jump table at the end of a block.
    TableAddr {
        dst: VReg,
        block: Block,
    },
    /// Goes to `targets[index]`.
    Table {
        index: VReg,
        table: VReg,
        entry: VReg,
        targets: Vec<Block>,
    },
    /// Returns `rax`.
    Ret,
    /// Goes to `rax` with `rdi` and `rsi`.
    TailJump,
    Abandon,
    Trap,
}

/// The C argument registers.
pub(super) const ARGS: [Gpr; 6] = [Gpr::RDI, Gpr::RSI, Gpr::RDX, Gpr::RCX, Gpr::R8, Gpr::R9];
/// The registers that calls do not preserve.
pub(super) const CALLER_SAVED: [Gpr; 9] = [
    Gpr::RAX,
    Gpr::RCX,
    Gpr::RDX,
    Gpr::RSI,
    Gpr::RDI,
    Gpr::R8,
    Gpr::R9,
    Gpr::R10,
    Gpr::R11,
];

impl MInst {
    /// Calls `f` for each register and how it is touched. Several may be the same.
    #[rustfmt::skip] // one kind of operands a line
    pub(super) fn each_reg_mut(&mut self, mut f: impl FnMut(&mut VReg, Role)) {
        use Role::{Both, Def, EarlyDef, Use};
        let fixed = |r: Gpr, role, f: &mut dyn FnMut(&mut VReg, Role)| f(&mut VReg::fixed(r), role);
        match self {
            Self::Mov { dst, src } | Self::MulImm { dst, src, .. }
            | Self::Movzx { dst, src, .. } | Self::Movsx { dst, src, .. } => { f(src, Use); f(dst, Def); }
            Self::Imm { dst, .. } | Self::Symbol { dst, .. } | Self::FuncAddr { dst, .. } | Self::TableAddr { dst, .. } => f(dst, Def),
            Self::Lea { dst, mem, .. } | Self::Load { dst, mem, .. } | Self::LoadSigned { dst, mem, .. } => { mem.each_reg(&mut f); f(dst, Def); }
            Self::LoadOver { dst, mem, .. } => { mem.each_reg(&mut f); f(dst, Both); }
            Self::Store { mem, src, .. } | Self::LockAlu { mem, src, .. } => { mem.each_reg(&mut f); f(src, Use); }
            Self::StoreImm { mem, .. } => mem.each_reg(&mut f),
            Self::Alu { dst, src, .. } => { src.each_reg(&mut f); f(dst, Both); }
            Self::AluMem { mem, src, .. } => { mem.each_reg(&mut f); src.each_reg(&mut f); }
            Self::Cmp { a, b, .. } | Self::Test { a, b, .. } => { f(a, Use); b.each_reg(&mut f); }
            Self::Bit { a, .. } => f(a, Use),
            Self::Mul { dst, src, .. } | Self::Cmov { dst, src, .. } => { f(src, Use); f(dst, Both); }
            Self::ShiftImm { dst, .. } | Self::Neg { dst, .. } | Self::Not { dst, .. } | Self::Bswap { dst, .. } | Self::Swap16 { dst } => f(dst, Both),
            Self::ShiftCl { dst, .. } => { fixed(Gpr::RCX, Use, &mut f); f(dst, Both); }
            Self::ShiftX { dst, src, count, .. } => { f(src, Use); f(count, Use); f(dst, Def); }
            Self::Div { src, .. } => { f(src, Use); fixed(Gpr::RAX, Both, &mut f); fixed(Gpr::RDX, EarlyDef, &mut f); }
            Self::Xadd { mem, src, .. } | Self::Xchg { mem, src, .. } => { mem.each_reg(&mut f); f(src, Both); }
            Self::Cmpxchg { mem, src, .. } => { mem.each_reg(&mut f); f(src, Use); fixed(Gpr::RAX, Both, &mut f); }
            Self::FetchLoop { mem, src, tmp, .. } => { mem.each_reg(&mut f); f(src, Use); f(tmp, EarlyDef); fixed(Gpr::RAX, EarlyDef, &mut f); }
            Self::Call { args, .. } => {
                for &r in &ARGS[..usize::from(*args)] { fixed(r, Use, &mut f); }
                for r in CALLER_SAVED { fixed(r, Def, &mut f); }
            }
            Self::Poll { env, tmp } => { f(env, Use); f(tmp, EarlyDef); }
            Self::TestThrown { env } => f(env, Use),
            Self::Throw { env, value } => { f(env, Use); f(value, Use); }
            Self::Sum { dst, addr, tmp, tmp2, .. } => { f(addr, Use); f(dst, EarlyDef); f(tmp, EarlyDef); f(tmp2, EarlyDef); }
            Self::Copy { dst, src, tmp, .. } => { f(dst, Use); f(src, Use); f(tmp, EarlyDef); }
            Self::Mismatch { dst, a, b, tmp, .. } => { f(a, Use); f(b, Use); f(dst, EarlyDef); f(tmp, EarlyDef); }
            Self::Table { index, table, entry, .. } => { f(index, Use); f(table, Use); f(entry, EarlyDef); }
            Self::Ret => fixed(Gpr::RAX, Use, &mut f),
            Self::TailJump => { for r in [Gpr::RAX, Gpr::RDI, Gpr::RSI] { fixed(r, Use, &mut f); } }
            Self::Fence | Self::Jcc { .. } | Self::Jmp { .. } | Self::Abandon | Self::Trap => {}
        }
    }

    /// Calls `f` for each register and how it is touched.
    pub(super) fn each_reg(&self, mut f: impl FnMut(VReg, Role)) {
        self.clone().each_reg_mut(|r, role| f(*r, role));
    }

    /// The register it makes a constant in, if that may be made again anywhere.
    pub(super) fn constant(&self) -> Option<VReg> {
        match *self {
            Self::Imm { dst, .. } | Self::Symbol { dst, .. } | Self::TableAddr { dst, .. } => {
                Some(dst)
            }
            _ => None,
        }
    }

    /// The same constant in another register, if it is one.
    pub(super) fn constant_into(&self, dst: VReg) -> Option<Self> {
        match *self {
            Self::Imm { value, .. } => Some(Self::Imm { dst, value }),
            Self::Symbol { symbol, .. } => Some(Self::Symbol { dst, symbol }),
            Self::TableAddr { block, .. } => Some(Self::TableAddr { dst, block }),
            _ => None,
        }
    }

    /// True if it changes the flags, or leaves them undefined.
    pub(super) fn sets_flags(&self) -> bool {
        !matches!(
            self,
            Self::Mov { .. }
                | Self::Imm { .. }
                | Self::Symbol { .. }
                | Self::FuncAddr { .. }
                | Self::TableAddr { .. }
                | Self::Lea { .. }
                | Self::Load { .. }
                | Self::LoadSigned { .. }
                | Self::LoadOver { .. }
                | Self::Store { .. }
                | Self::StoreImm { .. }
                | Self::ShiftX { .. }
                | Self::Not { .. }
                | Self::Bswap { .. }
                | Self::Movzx { .. }
                | Self::Movsx { .. }
                | Self::Cmov { .. }
                | Self::Jcc { .. }
                | Self::Jmp { .. }
        )
    }

    /// True if it reads the flags.
    pub(super) fn reads_flags(&self) -> bool {
        matches!(self, Self::Cmov { .. } | Self::Jcc { .. })
    }
}

/// A block of machine instructions.
#[derive(Clone, Debug, Default)]
pub(super) struct MBlock {
    pub(super) insts: Vec<MInst>,
    /// Per instruction, the op it came from.
    pub(super) origin: Vec<OpIdx>,
    pub(super) succs: Vec<Block>,
    /// Loops it is in.
    pub(super) depth: u32,
    /// Alignment of its code, if it is the first block of a loop.
    pub(super) align: Option<usize>,
}

/// A function of machine instructions.
#[derive(Clone, Debug)]
pub(super) struct MFunc {
    /// Indexed by [`Block`].
    pub(super) blocks: Vec<MBlock>,
    /// The blocks in the order of the code, the entry first.
    pub(super) order: Vec<Block>,
    pub(super) vregs: u32,
    pub(super) spill_slots: u32,
    pub(super) frame_bytes: u32,
}
