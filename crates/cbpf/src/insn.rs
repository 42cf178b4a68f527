//! The classic instruction (`struct sock_filter`) and its opcode fields.

use skep_isa::opcode::{
    ABS, ADD, ALU, AND, DIV, IMM, IND, JA, JEQ, JGE, JGT, JMP, JSET, K, LD, LDX, LSH, MEM, MOD,
    MUL, NEG, OR, RSH, ST, STX, SUB, X, XOR,
};

/// Words of scratch memory (`BPF_MEMWORDS`).
pub const BPF_MEMWORDS: u32 = 16;
/// Longest program the kernel takes (`BPF_MAXINSNS`).
pub const BPF_MAXINSNS: usize = 4096;

/// Return class.
pub const RET: u8 = 0x06;
/// Register transfer class.
pub const MISC: u8 = 0x07;
/// Load mode: length of the packet.
pub const LEN: u8 = 0x80;
/// Load mode: four times the low nibble of a byte.
pub const MSH: u8 = 0xa0;
/// `X = A` (with [`MISC`]).
pub const TAX: u8 = 0x00;
/// `A = X` (with [`MISC`]).
pub const TXA: u8 = 0x80;
/// Returned value: the accumulator (with [`RET`]).
pub const RVAL_A: u8 = 0x10;

/// Start of the ancillary offsets (`SKF_AD_OFF`, linux/filter.h).
pub const SKF_AD_OFF: u32 = 0xffff_f000;
/// Start of offsets from the network header (`SKF_NET_OFF`).
pub const SKF_NET_OFF: u32 = 0xfff0_0000;
/// Start of offsets from the link header (`SKF_LL_OFF`).
pub const SKF_LL_OFF: u32 = 0xffe0_0000;

/// One classic instruction.
///
/// ```
/// use skep_cbpf::insn::{Insn, RET, Size};
/// use skep_cbpf::{LongShift, Packet, Program};
/// use skep_isa::opcode::{ABS, JEQ, JMP, K, LD};
///
/// // IPv4 alone, whole packets of it.
/// let program = [
///     Insn::new(LD | ABS | Size::H.code(), 12),
///     Insn::jump(JMP | JEQ | K, 0x0800, 0, 1),
///     Insn::new(RET | K, 0xffff),
///     Insn::new(RET | K, 0),
/// ];
/// let program = Program::new(&program, LongShift::Modulo)?;
/// let mut packet = [0; 60];
/// packet[12..14].copy_from_slice(&[0x08, 0x00]);
/// assert_eq!(program.run(&Packet::of_file(&packet, 60)), 0xffff);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct Insn {
    /// Opcode: class, and code + source or mode + size.
    pub code: u16,
    /// Instructions to skip if the test holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Immediate, offset or scratch index.
    pub k: u32,
}

impl Insn {
    /// An instruction without jump offsets.
    #[must_use]
    pub const fn new(code: u8, k: u32) -> Self {
        Self::jump(code, k, 0, 0)
    }

    /// A conditional jump.
    #[must_use]
    pub const fn jump(code: u8, k: u32, jt: u8, jf: u8) -> Self {
        Self {
            code: code as u16,
            jt,
            jf,
            k,
        }
    }

    /// The opcode, if this is one the kernel knows.
    #[must_use]
    pub fn op(self) -> Option<Op> {
        *OPS.get(usize::from(self.code))?
    }

    /// The ancillary datum an absolute load reads, if it reads one.
    #[must_use]
    pub fn ancillary(self) -> Option<Ancillary> {
        matches!(self.op(), Some(Op::LoadAbs(_)))
            .then(|| Ancillary::of_offset(self.k))
            .flatten()
    }
}

/// Bytes of a packet load.
///
/// ```
/// use skep_cbpf::insn::{Op, Size};
///
/// let ldh = skep_cbpf::text::parse("(000) ldh [12]\n")?[0];
/// assert_eq!(ldh.op(), Some(Op::LoadAbs(Size::H)));
/// assert_eq!((Size::H.bytes(), Size::H.max()), (2, 0xffff));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Size {
    /// One byte.
    B,
    /// Two bytes, big-endian.
    H,
    /// Four bytes, big-endian.
    W,
}

impl Size {
    /// Number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Self::B => 1,
            Self::H => 2,
            Self::W => 4,
        }
    }

    /// The greatest value such a load gives.
    #[must_use]
    pub const fn max(self) -> u32 {
        match self {
            Self::B => 0xff,
            Self::H => 0xffff,
            Self::W => u32::MAX,
        }
    }

    /// The size field of the opcode.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::W => skep_isa::opcode::W,
            Self::H => skep_isa::opcode::H,
            Self::B => skep_isa::opcode::B,
        }
    }
}

/// Arithmetic on the accumulator.
///
/// ```
/// use skep_cbpf::insn::{AluOp, Insn, Op};
/// use skep_isa::opcode::{ALU, K};
///
/// let shift = Insn::new(ALU | AluOp::Lsh.code() | K, 2);
/// assert_eq!(shift.op(), Some(Op::AluK(AluOp::Lsh)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the operators")]
pub enum AluOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    And,
    Or,
    Xor,
    Lsh,
    Rsh,
}

impl AluOp {
    /// The code field of the opcode.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Add => ADD,
            Self::Sub => SUB,
            Self::Mul => MUL,
            Self::Div => DIV,
            Self::Mod => MOD,
            Self::And => AND,
            Self::Or => OR,
            Self::Xor => XOR,
            Self::Lsh => LSH,
            Self::Rsh => RSH,
        }
    }
}

/// Comparison of the accumulator, unsigned.
///
/// ```
/// use skep_cbpf::insn::{Insn, Op, Relation};
/// use skep_isa::opcode::{JMP, K};
///
/// let jset = Insn::jump(JMP | Relation::Set.code() | K, 0x1fff, 1, 0);
/// assert_eq!(jset.op(), Some(Op::JumpK(Relation::Set)));
/// assert!(Relation::Set.holds(0x2001, 0x1fff) && !Relation::Set.holds(0x2000, 0x1fff));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Relation {
    /// Equal.
    Eq,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// A common bit is set.
    Set,
}

impl Relation {
    /// The code field of the opcode.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Eq => JEQ,
            Self::Gt => JGT,
            Self::Ge => JGE,
            Self::Set => JSET,
        }
    }

    /// Whether it holds between two values.
    #[must_use]
    pub const fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Self::Eq => a == b,
            Self::Gt => a > b,
            Self::Ge => a >= b,
            Self::Set => a & b != 0,
        }
    }
}

/// What an instruction does; operands are in [`Insn`].
///
/// ```
/// use skep_cbpf::filter::{Filter, LinkType, Target};
/// use skep_cbpf::insn::Op;
///
/// // The bytes that a filter of one packet type looks at.
/// let filter = Filter::compile("arp", &Target::file(LinkType::ETHERNET))?;
/// let loads = filter.code().iter().filter_map(|insn| match insn.op()? {
///     Op::LoadAbs(size) => Some((insn.k, size.bytes())),
///     _ => None,
/// });
/// assert_eq!(loads.collect::<Vec<_>>(), [(12, 2)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// `A = packet[k]`, or an ancillary datum.
    LoadAbs(Size),
    /// `A = packet[X + k]`.
    LoadInd(Size),
    /// `A = k`.
    LoadImm,
    /// `A = length`.
    LoadLen,
    /// `A = M[k]`.
    LoadMem,
    /// `X = k`.
    LoadXImm,
    /// `X = length`.
    LoadXLen,
    /// `X = M[k]`.
    LoadXMem,
    /// `X = 4 * (packet[k] & 0xf)`.
    LoadXMsh,
    /// `M[k] = A`.
    Store,
    /// `M[k] = X`.
    StoreX,
    /// `A = A op k`.
    AluK(AluOp),
    /// `A = A op X`.
    AluX(AluOp),
    /// `A = -A`.
    Neg,
    /// Skips `k` instructions.
    Jump,
    /// Compares `A` with `k`.
    JumpK(Relation),
    /// Compares `A` with `X`.
    JumpX(Relation),
    /// Ends with `k`.
    RetK,
    /// Ends with `A`.
    RetA,
    /// `X = A`.
    Tax,
    /// `A = X`.
    Txa,
}

/// Every opcode the kernel takes (`chk_code_allowed`), with its meaning.
#[rustfmt::skip] // one opcode per line
pub const OPCODES: &[(u8, Op)] = &[
    (LD | ABS, Op::LoadAbs(Size::W)),
    (LD | ABS | 0x08, Op::LoadAbs(Size::H)),
    (LD | ABS | 0x10, Op::LoadAbs(Size::B)),
    (LD | IND, Op::LoadInd(Size::W)),
    (LD | IND | 0x08, Op::LoadInd(Size::H)),
    (LD | IND | 0x10, Op::LoadInd(Size::B)),
    (LD | IMM, Op::LoadImm),
    (LD | LEN, Op::LoadLen),
    (LD | MEM, Op::LoadMem),
    (LDX | IMM, Op::LoadXImm),
    (LDX | LEN, Op::LoadXLen),
    (LDX | MEM, Op::LoadXMem),
    (LDX | MSH | 0x10, Op::LoadXMsh),
    (ST, Op::Store),
    (STX, Op::StoreX),
    (ALU | ADD | K, Op::AluK(AluOp::Add)),
    (ALU | SUB | K, Op::AluK(AluOp::Sub)),
    (ALU | MUL | K, Op::AluK(AluOp::Mul)),
    (ALU | DIV | K, Op::AluK(AluOp::Div)),
    (ALU | MOD | K, Op::AluK(AluOp::Mod)),
    (ALU | AND | K, Op::AluK(AluOp::And)),
    (ALU | OR | K, Op::AluK(AluOp::Or)),
    (ALU | XOR | K, Op::AluK(AluOp::Xor)),
    (ALU | LSH | K, Op::AluK(AluOp::Lsh)),
    (ALU | RSH | K, Op::AluK(AluOp::Rsh)),
    (ALU | ADD | X, Op::AluX(AluOp::Add)),
    (ALU | SUB | X, Op::AluX(AluOp::Sub)),
    (ALU | MUL | X, Op::AluX(AluOp::Mul)),
    (ALU | DIV | X, Op::AluX(AluOp::Div)),
    (ALU | MOD | X, Op::AluX(AluOp::Mod)),
    (ALU | AND | X, Op::AluX(AluOp::And)),
    (ALU | OR | X, Op::AluX(AluOp::Or)),
    (ALU | XOR | X, Op::AluX(AluOp::Xor)),
    (ALU | LSH | X, Op::AluX(AluOp::Lsh)),
    (ALU | RSH | X, Op::AluX(AluOp::Rsh)),
    (ALU | NEG, Op::Neg),
    (JMP | JA, Op::Jump),
    (JMP | JEQ | K, Op::JumpK(Relation::Eq)),
    (JMP | JGT | K, Op::JumpK(Relation::Gt)),
    (JMP | JGE | K, Op::JumpK(Relation::Ge)),
    (JMP | JSET | K, Op::JumpK(Relation::Set)),
    (JMP | JEQ | X, Op::JumpX(Relation::Eq)),
    (JMP | JGT | X, Op::JumpX(Relation::Gt)),
    (JMP | JGE | X, Op::JumpX(Relation::Ge)),
    (JMP | JSET | X, Op::JumpX(Relation::Set)),
    (RET | K, Op::RetK),
    (RET | RVAL_A, Op::RetA),
    (MISC | TAX, Op::Tax),
    (MISC | TXA, Op::Txa),
];

/// [`OPCODES`] by opcode.
static OPS: [Option<Op>; 256] = {
    let mut ops = [None; 256];
    let mut row = 0;
    while row < OPCODES.len() {
        ops[OPCODES[row].0 as usize] = Some(OPCODES[row].1);
        row += 1;
    }
    ops
};

/// What an ancillary load reads (`SKF_AD_*`).
///
/// ```
/// use skep_cbpf::insn::Ancillary;
///
/// let mark = skep_cbpf::text::parse("(000) ld [mark]\n")?[0];
/// assert_eq!(mark.ancillary(), Some(Ancillary::Mark));
/// assert_eq!(mark.k, Ancillary::Mark.offset());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ancillary {
    /// Ethernet type of the packet, host byte order.
    Protocol,
    /// Direction and address class (`PACKET_HOST`, …).
    PktType,
    /// Index of the interface.
    IfIndex,
    /// Offset of the netlink attribute of type `X` after offset `A`.
    NlAttr,
    /// The same inside the attribute at `A`.
    NlAttrNest,
    /// The socket buffer's mark.
    Mark,
    /// Queue number.
    Queue,
    /// Hardware type of the interface.
    HaType,
    /// Receive hash.
    RxHash,
    /// The processor.
    Cpu,
    /// `A ^= X`.
    AluXorX,
    /// VLAN tag control information.
    VlanTag,
    /// Whether there is a VLAN tag.
    VlanTagPresent,
    /// Offset of the payload.
    PayOffset,
    /// A random number.
    Random,
    /// VLAN protocol.
    VlanTpid,
}

/// Ancillary offsets relative to [`SKF_AD_OFF`], ordered.
#[rustfmt::skip] // one datum per line
pub const ANCILLARY: &[(u32, Ancillary, &str)] = &[
    (0,  Ancillary::Protocol,       "proto"),
    (4,  Ancillary::PktType,        "type"),
    (8,  Ancillary::IfIndex,        "ifidx"),
    (12, Ancillary::NlAttr,         "nla"),
    (16, Ancillary::NlAttrNest,     "nlan"),
    (20, Ancillary::Mark,           "mark"),
    (24, Ancillary::Queue,          "queue"),
    (28, Ancillary::HaType,         "hatype"),
    (32, Ancillary::RxHash,         "rxhash"),
    (36, Ancillary::Cpu,            "cpu"),
    (40, Ancillary::AluXorX,        "xor_x"),
    (44, Ancillary::VlanTag,        "vlan_tci"),
    (48, Ancillary::VlanTagPresent, "vlanp"),
    (52, Ancillary::PayOffset,      "poff"),
    (56, Ancillary::Random,         "rand"),
    (60, Ancillary::VlanTpid,       "vlan_tpid"),
];

impl Ancillary {
    /// The datum at an absolute offset.
    #[must_use]
    pub fn of_offset(offset: u32) -> Option<Self> {
        let relative = offset.checked_sub(SKF_AD_OFF)?;
        let row = ANCILLARY.iter().find(|(o, _, _)| *o == relative)?;
        Some(row.1)
    }

    /// The absolute offset that reads it.
    #[must_use]
    pub fn offset(self) -> u32 {
        ANCILLARY
            .iter()
            .find(|(_, a, _)| *a == self)
            .map_or(SKF_AD_OFF, |(o, _, _)| SKF_AD_OFF + o)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opcodes_are_distinct() {
        for (i, (code, _)) in OPCODES.iter().enumerate() {
            assert!(OPCODES[..i].iter().all(|(c, _)| c != code), "{code:#x}");
        }
        assert_eq!(OPCODES.len(), 49);
    }

    #[test]
    fn ancillary_offsets_go_both_ways() {
        for (relative, datum, _) in ANCILLARY {
            assert_eq!(Ancillary::of_offset(SKF_AD_OFF + relative), Some(*datum));
            assert_eq!(datum.offset(), SKF_AD_OFF + relative);
        }
        assert_eq!(Ancillary::of_offset(12), None);
    }
}
