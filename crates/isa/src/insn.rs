//! Decoded instructions.

/// A register number, 0–10. `r10` is the read-only frame pointer.
///
/// ```
/// use skep_isa::Reg;
///
/// assert_eq!(Reg::new(10), Some(Reg::R10));
/// assert_eq!(Reg::new(11), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Reg(u8);

impl Reg {
    /// The return value, and the result of every call.
    pub const R0: Self = Self(0);
    /// First argument, and the context at program entry.
    pub const R1: Self = Self(1);
    /// The second argument.
    pub const R2: Self = Self(2);
    /// The third argument.
    pub const R3: Self = Self(3);
    /// The fourth argument.
    pub const R4: Self = Self(4);
    /// The fifth argument.
    pub const R5: Self = Self(5);
    /// The first register that calls preserve.
    pub const R6: Self = Self(6);
    /// The second register that calls preserve.
    pub const R7: Self = Self(7);
    /// The third register that calls preserve.
    pub const R8: Self = Self(8);
    /// The fourth register that calls preserve.
    pub const R9: Self = Self(9);
    /// The frame pointer.
    pub const R10: Self = Self(10);
    /// How many registers there are.
    pub const COUNT: usize = 11;

    /// `None` for 11 and above.
    #[must_use]
    pub const fn new(n: u8) -> Option<Self> {
        if n <= 10 { Some(Self(n)) } else { None }
    }

    /// The number, as an array index below [`Self::COUNT`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl core::fmt::Display for Reg {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// Operand width of arithmetic and jumps.
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_isa::{Insn, Reg, Src, Width, decode};
///
/// let slots = assemble_insns("w0 = 2", &NoFacts).map_err(|e| e[0].to_string())?;
/// assert_eq!(decode(&slots, 0)?, Insn::Mov { width: Width::W32, dst: Reg::R0, src: Src::Imm(2) });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Width {
    /// The lower half (`w0`–`w10`); results are zero-extended.
    W32,
    /// The whole register.
    W64,
}

/// Size of a memory access.
///
/// ```
/// use skep_isa::Size;
///
/// assert_eq!((Size::H.bytes(), Size::DW.bits()), (2, 64));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Size {
    /// One byte (`u8`).
    B,
    /// Two bytes (`u16`).
    H,
    /// Four bytes (`u32`).
    W,
    /// Eight bytes (`u64`).
    DW,
}

impl Size {
    /// The size in bytes: 1, 2, 4 or 8.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Self::B => 1,
            Self::H => 2,
            Self::W => 4,
            Self::DW => 8,
        }
    }

    /// The size in bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.bytes() * 8
    }
}

/// Second operand.
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_isa::{Insn, Reg, Src, Width, decode};
///
/// let slots = assemble_insns("r0 = r1", &NoFacts).map_err(|e| e[0].to_string())?;
/// assert_eq!(decode(&slots, 0)?, Insn::Mov { width: Width::W64, dst: Reg::R0, src: Src::Reg(Reg::R1) });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Src {
    /// A register (source `X`).
    Reg(Reg),
    /// An immediate (source `K`), sign-extended to the operand width.
    Imm(i32),
}

/// Binary arithmetic (RFC 9669 §4.1); `mov`, `neg` and byte swaps are instructions of their own.
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_isa::{AluOp, Insn, decode};
///
/// let slots = assemble_insns("r0 += 2", &NoFacts).map_err(|e| e[0].to_string())?;
/// let Insn::Alu { op, .. } = decode(&slots, 0)? else { return Err("no ALU".into()) };
/// assert_eq!(op, AluOp::Add);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum AluOp {
    Add,
    Sub,
    Mul,
    Div,
    Sdiv,
    Or,
    And,
    Lsh,
    Rsh,
    Mod,
    Smod,
    Xor,
    Arsh,
}

/// Conditions of jumps (RFC 9669 §4.3); the `S` forms compare signed.
///
/// ```
/// use skep_isa::JmpOp;
///
/// assert_eq!(JmpOp::Gt.inverse(), Some(JmpOp::Le)); // not a > b
/// assert_eq!(JmpOp::Gt.mirrored(), JmpOp::Lt); // b < a
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum JmpOp {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    Set,
    Sgt,
    Sge,
    Slt,
    Sle,
}

impl JmpOp {
    /// The condition that holds when this one does not; `None` for `Set`, which has no counterpart.
    #[must_use]
    pub const fn inverse(self) -> Option<Self> {
        Some(match self {
            Self::Eq => Self::Ne,
            Self::Ne => Self::Eq,
            Self::Gt => Self::Le,
            Self::Ge => Self::Lt,
            Self::Lt => Self::Ge,
            Self::Le => Self::Gt,
            Self::Sgt => Self::Sle,
            Self::Sge => Self::Slt,
            Self::Slt => Self::Sge,
            Self::Sle => Self::Sgt,
            Self::Set => return None,
        })
    }

    /// The condition with its operands exchanged.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        match self {
            Self::Gt => Self::Lt,
            Self::Ge => Self::Le,
            Self::Lt => Self::Gt,
            Self::Le => Self::Ge,
            Self::Sgt => Self::Slt,
            Self::Sge => Self::Sle,
            Self::Slt => Self::Sgt,
            Self::Sle => Self::Sge,
            Self::Eq | Self::Ne | Self::Set => self,
        }
    }
}

/// Byte order instructions (RFC 9669 §4.2).
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_isa::{EndOp, Insn, Reg, Size, decode};
///
/// let slots = assemble_insns("r0 = be16 r0", &NoFacts).map_err(|e| e[0].to_string())?;
/// assert_eq!(decode(&slots, 0)?, Insn::End { op: EndOp::ToBe, size: Size::H, dst: Reg::R0 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EndOp {
    /// Host to little-endian: only truncates on a little-endian host.
    ToLe,
    /// Host to big-endian.
    ToBe,
    /// Unconditional swap.
    Bswap,
}

/// How a load fills the upper bits.
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_isa::{Extend, Insn, decode};
///
/// let slots = assemble_insns("r0 = *(s16 *)(r1 + 0)", &NoFacts).map_err(|e| e[0].to_string())?;
/// let Insn::Load { extend, .. } = decode(&slots, 0)? else { return Err("no load".into()) };
/// assert_eq!(extend, Extend::Sign);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Extend {
    /// With zeros (`MEM`).
    Zero,
    /// With the sign (`MEMSX`).
    Sign,
}

/// Read-modify-write operations (RFC 9669 §5.3).
///
/// ```
/// use skep_isa::AtomicOp;
///
/// assert!(AtomicOp::Xchg.fetches() && !AtomicOp::Add { fetch: false }.fetches());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum AtomicOp {
    Add {
        fetch: bool,
    },
    Or {
        fetch: bool,
    },
    And {
        fetch: bool,
    },
    Xor {
        fetch: bool,
    },
    /// `src` and memory change places.
    Xchg,
    /// `r0` is compared with memory and receives the old value.
    Cmpxchg,
}

impl AtomicOp {
    /// True if the old value is written to a register (`src`, or `r0` for `cmpxchg`).
    #[must_use]
    pub const fn fetches(self) -> bool {
        match self {
            Self::Add { fetch }
            | Self::Or { fetch }
            | Self::And { fetch }
            | Self::Xor { fetch } => fetch,
            Self::Xchg | Self::Cmpxchg => true,
        }
    }
}

/// What a wide load loads (`src` of `lddw`).
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_isa::{Imm64, Insn, Reg, decode};
///
/// let slots = assemble_insns("r1 = 1099511627776 ll", &NoFacts).map_err(|e| e[0].to_string())?;
/// assert_eq!(decode(&slots, 0)?, Insn::LoadImm64 { dst: Reg::R1, imm: Imm64::Value(1 << 40) });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Imm64 {
    /// A plain 64-bit constant.
    Value(u64),
    /// The map behind a file descriptor.
    MapFd(i32),
    /// The map at an index of the load's `fd_array`.
    MapIdx(i32),
    /// The address of byte `offset` of the value of a map with one value.
    MapFdValue {
        /// File descriptor of the map.
        fd: i32,
        /// Byte within the value.
        offset: u32,
    },
    /// As [`Imm64::MapFdValue`], by index of the load's `fd_array`.
    MapIdxValue {
        /// Index into `fd_array`.
        index: i32,
        /// Byte within the value.
        offset: u32,
    },
    /// The address of a kernel variable.
    BtfId {
        /// BTF id of the variable.
        id: i32,
        /// File descriptor of the module BTF, 0 for vmlinux.
        fd: i32,
    },
    /// The address of a subprog: slot distance from the next instruction slot, as in a call.
    Func(i32),
}

impl Imm64 {
    /// The place of a map, where map operands are places in a list; `None` for other constants.
    #[must_use]
    pub fn map_place(&self) -> Option<usize> {
        match *self {
            Self::MapFd(place)
            | Self::MapIdx(place)
            | Self::MapFdValue { fd: place, .. }
            | Self::MapIdxValue { index: place, .. } => usize::try_from(place).ok(),
            Self::Value(_) | Self::BtfId { .. } | Self::Func(_) => None,
        }
    }
}

/// What a call calls (`src` of `call`).
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_isa::{Call, Insn, decode};
///
/// let slots = assemble_insns("call 5", &NoFacts).map_err(|e| e[0].to_string())?;
/// assert_eq!(decode(&slots, 0)?, Insn::Call(Call::Helper(5)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Call {
    /// A helper by number.
    Helper(i32),
    /// A subprog: slot distance from the slot after the call.
    Subprog(i32),
    /// A kfunc by BTF id; `module` indexes the load's `fd_array`, 0 is vmlinux.
    Kfunc {
        /// BTF id of the function.
        id: i32,
        /// Index into `fd_array`, 0 for vmlinux.
        module: i16,
    },
}

/// A decoded instruction. Jump offsets count slots from the slot after the instruction.
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_isa::{Insn, insns};
///
/// let slots = assemble_insns("r0 = 2\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let code: Result<Vec<Insn>, _> = insns(&slots).map(|(_, insn)| insn).collect();
/// assert_eq!(code?[1], Insn::Exit);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "field names are those of RFC 9669")]
pub enum Insn {
    /// `dst op= src`
    Alu {
        width: Width,
        op: AluOp,
        dst: Reg,
        src: Src,
    },
    /// `dst = -dst`
    Neg { width: Width, dst: Reg },
    /// `dst = src`
    Mov { width: Width, dst: Reg, src: Src },
    /// `dst = (sN)src`; `from` is `B`, `H` or, 64-bit only, `W`.
    Movsx {
        width: Width,
        from: Size,
        dst: Reg,
        src: Reg,
    },
    /// `dst = addr_space_cast(src, dst_as, src_as)`
    AddrSpaceCast {
        dst: Reg,
        src: Reg,
        dst_as: u16,
        src_as: u16,
    },
    /// Byte order; `size` is `H`, `W` or `DW`.
    End { op: EndOp, size: Size, dst: Reg },
    /// `dst = imm64 ll`, two slots.
    LoadImm64 { dst: Reg, imm: Imm64 },
    /// Legacy packet load `r0 = *(size *)skb[imm]`, big-endian to host.
    LoadAbs { size: Size, imm: i32 },
    /// Legacy packet load `r0 = *(size *)skb[src + imm]`.
    LoadInd { size: Size, src: Reg, imm: i32 },
    /// `dst = *(size *)(src + offset)`
    Load {
        size: Size,
        extend: Extend,
        dst: Reg,
        src: Reg,
        offset: i16,
    },
    /// `*(size *)(dst + offset) = src`
    Store {
        size: Size,
        dst: Reg,
        src: Src,
        offset: i16,
    },
    /// `lock *(size *)(dst + offset) op= src`; `size` is `W` or `DW`.
    Atomic {
        size: Size,
        op: AtomicOp,
        dst: Reg,
        src: Reg,
        offset: i16,
    },
    /// `dst = load_acquire((size *)(src + offset))`
    LoadAcquire {
        size: Size,
        dst: Reg,
        src: Reg,
        offset: i16,
    },
    /// `store_release((size *)(dst + offset), src)`
    StoreRelease {
        size: Size,
        dst: Reg,
        src: Reg,
        offset: i16,
    },
    /// `goto` (16-bit offset) and, with `long`, `gotol` (32-bit).
    Jump { offset: i32, long: bool },
    /// `if dst op src goto`
    JumpIf {
        width: Width,
        op: JmpOp,
        dst: Reg,
        src: Src,
        offset: i16,
    },
    /// `may_goto`: jumps once the run's budget of iterations is spent.
    MayGoto { offset: i16 },
    /// `call`
    Call(Call),
    /// `callx dst`: an indirect call, which clang emits and Linux refuses.
    CallReg { dst: Reg },
    /// `exit`
    Exit,
}

impl Insn {
    /// Slots the instruction takes: 2 for `lddw`, else 1.
    #[must_use]
    pub const fn slots(&self) -> usize {
        if matches!(self, Self::LoadImm64 { .. }) {
            2
        } else {
            1
        }
    }
}
