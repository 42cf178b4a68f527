//! Classic programs as eBPF, with the kernel's meaning: loads past the end reject, a division by zero rejects.
//!
//! Two ways to reach the packet: [`Access::Socket`] keeps the legacy loads of eBPF (`ld_abs`, `ld_ind`) and reads
//! ancillary data from `struct __sk_buff`; [`Access::Direct`] is for XDP and for test runs over plain bytes: every load
//! is preceded by a comparison with `data_end`, and the length is that of the packet's bytes.
//!
//! Registers: `r0` = A, `r7` = X, `r6` = ctx (or the packet at X), `r8` = data, `r9` = data_end; scratch words are the
//! lower stack.

mod direct;

use crate::check::{CheckError, check};
use crate::insn::{AluOp, Ancillary, BPF_MEMWORDS, Insn, Op, Relation, SKF_LL_OFF, Size};
use crate::interp::LongShift;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use direct::Flow;
use skep_isa::Slot;
use skep_isa::opcode::{
    ABS, ALU, ALU64, AND, CALL, END, EXIT, IND, JA, JEQ, JGE, JLE, JMP, JMP32, JNE, JSET, K, LD,
    LDX, LSH, MEM, MOV, NEG, RSH, STX, W, X, XOR,
};

/// How the program reaches the packet.
///
/// ```
/// use skep_cbpf::LongShift;
/// use skep_cbpf::translate::{Access, Options, TranslateError, translate};
///
/// // The socket buffer has a mark, XDP comes before there is one.
/// let mark = skep_cbpf::text::parse("(000) ld [mark]\n(001) ret\n")?;
/// let options = |access| Options { access, long_shift: LongShift::Modulo, verdicts: None };
/// assert!(translate(&mark, &options(Access::Socket)).is_ok());
/// let refused = translate(&mark, &options(Access::Direct));
/// assert!(matches!(refused, Err(TranslateError::Ancillary(0, _))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A socket filter: `ctx` is `struct __sk_buff`.
    Socket,
    /// An XDP program: `ctx` is `struct xdp_md`.
    Direct,
}

/// How a program is translated.
///
/// ```
/// use skep_cbpf::LongShift;
/// use skep_cbpf::filter::{Filter, LinkType, Target};
/// use skep_cbpf::translate::{Access, Options, translate};
///
/// // An XDP program that lets ARP alone pass.
/// const XDP_DROP: i32 = 1;
/// const XDP_PASS: i32 = 2;
/// let filter = Filter::compile("arp", &Target::file(LinkType::ETHERNET))?;
/// let options = Options {
///     access: Access::Direct,
///     long_shift: LongShift::Zero,
///     verdicts: Some((XDP_PASS, XDP_DROP)),
/// };
/// let slots = translate(filter.code(), &options)?;
/// assert!(skep_isa::insns(&slots).all(|(_, insn)| insn.is_ok()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How the packet is reached.
    pub access: Access,
    /// What long shifts by X give.
    pub long_shift: LongShift,
    /// Values returned instead of non-zero and zero, if any: `XDP_PASS` and `XDP_DROP`, say.
    pub verdicts: Option<(i32, i32)>,
}

/// Why a program has no translation.
///
/// ```
/// use skep_cbpf::translate::{Access, Options, TranslateError, translate};
/// use skep_cbpf::{Insn, LongShift};
///
/// let options = Options { access: Access::Socket, long_shift: LongShift::Modulo, verdicts: None };
/// let error = translate(&[Insn::default()], &options).unwrap_err();
/// assert!(matches!(error, TranslateError::Check(_)));
/// assert_eq!(error.to_string(), "insn 0: the last instruction must return");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TranslateError {
    /// The program breaks a rule of [`check`].
    Check(CheckError),
    /// eBPF offers no way to read this datum.
    Ancillary(usize, Ancillary),
    /// The offset counts from a header that this context does not know, or is past 64 KiB.
    Offset(usize, u32),
    /// A jump is longer than 32,767 slots.
    Distance(usize),
}

impl fmt::Display for TranslateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(error) => error.fmt(f),
            Self::Ancillary(at, datum) => write!(f, "insn {at}: eBPF cannot read {datum:?} here"),
            Self::Offset(at, k) => {
                write!(f, "insn {at}: offset {k:#x} cannot be reached from here")
            }
            Self::Distance(at) => write!(f, "insn {at}: the jump is too long for eBPF"),
        }
    }
}

impl core::error::Error for TranslateError {}

const A: u8 = 0;
const TMP: u8 = 2;
const TMP2: u8 = 3;
const CTX: u8 = 6;
const INDEX: u8 = 7;
const DATA: u8 = 8;
const DATA_END: u8 = 9;
const STACK: u8 = 10;

/// `bpf_get_smp_processor_id`.
const HELPER_CPU: i32 = 8;
/// `bpf_get_prandom_u32`.
const HELPER_RANDOM: i32 = 7;

/// Ancillary data that are fields of `struct __sk_buff`: offset in it, and whether the value is big-endian 16 bits.
#[rustfmt::skip] // one datum per line
const SK_BUFF_FIELDS: &[(Ancillary, i16, bool)] = &[
    (Ancillary::PktType,        4,  false),
    (Ancillary::Mark,           8,  false),
    (Ancillary::Queue,          12, false),
    (Ancillary::Protocol,       16, true),
    (Ancillary::VlanTagPresent, 20, false),
    (Ancillary::VlanTag,        24, false),
    (Ancillary::VlanTpid,       28, true),
    (Ancillary::IfIndex,        40, false),
    (Ancillary::RxHash,         52, false),
];

/// Where a jump of the translation goes.
#[derive(Clone, Copy)]
enum Label {
    Insn(usize),
    Reject,
}

struct Translator<'a> {
    options: &'a Options,
    slots: Vec<Slot>,
    /// Slot of each classic instruction, and one more for the end.
    starts: Vec<usize>,
    /// Jumps to fill in: slot, target, classic instruction.
    jumps: Vec<(usize, Label, usize)>,
    at: usize,
    /// What is known of the packet, with [`Access::Direct`].
    flow: Flow,
}

/// Translates a program.
///
/// # Errors
/// [`TranslateError`]: the program is not valid, or reads what eBPF does not offer.
pub fn translate(program: &[Insn], options: &Options) -> Result<Vec<Slot>, TranslateError> {
    check(program).map_err(TranslateError::Check)?;
    let mut t = Translator {
        options,
        slots: Vec::with_capacity(program.len() * 3 + 8),
        starts: vec![0; program.len() + 1],
        jumps: Vec::new(),
        at: 0,
        flow: Flow::new(program.len()),
    };
    t.prologue(program);
    for (at, insn) in program.iter().enumerate() {
        t.at = at;
        t.starts[at] = t.slots.len();
        t.flow.enter(at);
        t.insn(*insn)?;
        t.flow.leave(at, *insn);
    }
    t.finish()
}

impl Translator<'_> {
    fn push(&mut self, code: u8, dst: u8, src: u8, offset: i16, imm: i32) {
        self.slots.push(Slot::new(code, dst, src, offset, imm));
    }

    fn jump(&mut self, code: u8, dst: u8, src: u8, imm: i32, to: Label) {
        self.jumps.push((self.slots.len(), to, self.at));
        self.push(code, dst, src, 0, imm);
    }

    fn prologue(&mut self, program: &[Insn]) {
        let reads = |wanted: fn(Op) -> bool| program.iter().filter_map(|i| i.op()).any(wanted);
        let uses_x = reads(|op| {
            matches!(
                op,
                Op::LoadInd(_) | Op::StoreX | Op::AluX(_) | Op::JumpX(_) | Op::Txa
            )
        }) || program
            .iter()
            .any(|i| i.ancillary() == Some(Ancillary::AluXorX));
        match self.options.access {
            Access::Socket => self.push(ALU64 | MOV | X, CTX, 1, 0, 0),
            Access::Direct => self.direct_prologue(),
        }
        self.push(ALU64 | MOV | K, A, 0, 0, 0);
        if uses_x {
            self.push(ALU64 | MOV | K, INDEX, 0, 0, 0);
        }
    }

    fn insn(&mut self, insn: Insn) -> Result<(), TranslateError> {
        let imm = insn.k.cast_signed();
        let Some(op) = insn.op() else { return Ok(()) };
        match op {
            Op::LoadAbs(size) => match insn.ancillary() {
                Some(datum) => self.ancillary(datum)?,
                None => self.load_abs(size, insn.k)?,
            },
            Op::LoadInd(size) => self.load_ind(size, insn.k)?,
            Op::LoadImm => self.push(ALU | MOV | K, A, 0, 0, imm),
            Op::LoadXImm => self.push(ALU | MOV | K, INDEX, 0, 0, imm),
            Op::LoadLen => self.length(A),
            Op::LoadXLen => self.length(INDEX),
            Op::LoadMem => self.push(LDX | MEM | W, A, STACK, scratch(insn.k), 0),
            Op::LoadXMem => self.push(LDX | MEM | W, INDEX, STACK, scratch(insn.k), 0),
            Op::Store => self.push(STX | MEM | W, STACK, A, scratch(insn.k), 0),
            Op::StoreX => self.push(STX | MEM | W, STACK, INDEX, scratch(insn.k), 0),
            Op::LoadXMsh => self.load_msh(insn.k)?,
            Op::AluK(op) => self.push(ALU | op.code() | K, A, 0, 0, imm),
            Op::AluX(op) => self.alu_x(op),
            Op::Neg => self.push(ALU | NEG | K, A, 0, 0, 0),
            Op::Jump => self.jump(
                JMP | JA,
                0,
                0,
                0,
                Label::Insn(self.at + 1 + insn.k as usize),
            ),
            Op::JumpK(relation) => self.branch(relation, K, imm, insn),
            Op::JumpX(relation) => self.branch(relation, X, 0, insn),
            Op::RetK => self.return_constant(imm),
            Op::RetA => self.return_a(),
            Op::Tax => self.push(ALU | MOV | X, INDEX, A, 0, 0),
            Op::Txa => self.push(ALU | MOV | X, A, INDEX, 0, 0),
        }
        Ok(())
    }

    /// A conditional jump: one slot if one branch is the next instruction, else two.
    fn branch(&mut self, relation: Relation, source: u8, imm: i32, insn: Insn) {
        let src = if source == X { INDEX } else { 0 };
        let to = |skip: u8| Label::Insn(self.at + 1 + usize::from(skip));
        let (jt, jf) = (to(insn.jt), to(insn.jf));
        let inverse = match relation {
            Relation::Eq => Some(JNE),
            Relation::Gt => Some(JLE),
            Relation::Ge => Some(skep_isa::opcode::JLT),
            Relation::Set => None,
        };
        if insn.jt == insn.jf {
            if insn.jt != 0 {
                self.jump(JMP | JA, 0, 0, 0, jt);
            }
        } else if let (0, Some(code)) = (insn.jt, inverse) {
            self.jump(JMP32 | code | source, A, src, imm, jf);
        } else {
            self.jump(JMP32 | relation.code() | source, A, src, imm, jt);
            if insn.jf != 0 {
                self.jump(JMP | JA, 0, 0, 0, jf);
            }
        }
    }

    fn alu_x(&mut self, op: AluOp) {
        match op {
            AluOp::Div | AluOp::Mod => {
                self.jump(JMP32 | JEQ | K, INDEX, 0, 0, Label::Reject);
                self.push(ALU | op.code() | X, A, INDEX, 0, 0);
            }
            AluOp::Lsh | AluOp::Rsh if self.options.long_shift == LongShift::Zero => {
                // Shifted as 64 bits the value is right up to 63; from 64 on the count is replaced by 63.
                self.push(ALU | MOV | X, TMP, INDEX, 0, 0);
                self.push(JMP32 | JLE | K, TMP, 0, 1, 63);
                self.push(ALU | MOV | K, TMP, 0, 0, 63);
                self.push(ALU64 | op.code() | X, A, TMP, 0, 0);
                self.push(ALU | MOV | X, A, A, 0, 0);
            }
            _ => self.push(ALU | op.code() | X, A, INDEX, 0, 0),
        }
    }

    fn length(&mut self, dst: u8) {
        match self.options.access {
            Access::Socket => self.push(LDX | MEM | W, dst, CTX, 0, 0),
            Access::Direct => self.direct_length(dst),
        }
    }

    fn load_abs(&mut self, size: Size, k: u32) -> Result<(), TranslateError> {
        match self.options.access {
            Access::Socket if k < SKF_LL_OFF && k.cast_signed() < 0 => {
                self.jump(JMP | JA, 0, 0, 0, Label::Reject);
            }
            Access::Socket => self.push(LD | ABS | size.code(), 0, 0, 0, k.cast_signed()),
            Access::Direct => self.direct_abs(size, k, A)?,
        }
        Ok(())
    }

    fn load_ind(&mut self, size: Size, k: u32) -> Result<(), TranslateError> {
        match self.options.access {
            Access::Socket => self.push(LD | IND | size.code(), 0, INDEX, 0, k.cast_signed()),
            Access::Direct => self.direct_ind(size, k)?,
        }
        Ok(())
    }

    fn load_msh(&mut self, k: u32) -> Result<(), TranslateError> {
        match self.options.access {
            Access::Socket => {
                // The load clobbers A and the argument registers; r8 is free here.
                self.push(ALU64 | MOV | X, DATA, A, 0, 0);
                self.load_abs(Size::B, k)?;
                self.push(ALU | MOV | X, INDEX, A, 0, 0);
                self.push(ALU64 | MOV | X, A, DATA, 0, 0);
            }
            Access::Direct => return self.direct_msh(k),
        }
        self.push(ALU | AND | K, INDEX, 0, 0, 0xf);
        self.push(ALU | LSH | K, INDEX, 0, 0, 2);
        Ok(())
    }

    fn ancillary(&mut self, datum: Ancillary) -> Result<(), TranslateError> {
        let unknown = TranslateError::Ancillary(self.at, datum);
        match datum {
            Ancillary::AluXorX => self.push(ALU | XOR | X, A, INDEX, 0, 0),
            Ancillary::Cpu => self.push(JMP | CALL, 0, 0, 0, HELPER_CPU),
            Ancillary::Random => self.push(JMP | CALL, 0, 0, 0, HELPER_RANDOM),
            _ if self.options.access == Access::Direct => return Err(unknown),
            _ => {
                let row = SK_BUFF_FIELDS.iter().find(|(d, _, _)| *d == datum);
                let (_, offset, big_endian) = row.ok_or(unknown)?;
                if datum == Ancillary::IfIndex {
                    self.interface(*offset);
                    return Ok(());
                }
                self.push(LDX | MEM | W, A, CTX, *offset, 0);
                if *big_endian {
                    self.push(ALU | END | X, A, 0, 0, 16);
                }
            }
        }
        Ok(())
    }

    /// The interface; without one the program ends with what the accumulator holds.
    fn interface(&mut self, offset: i16) {
        self.push(LDX | MEM | W, TMP2, CTX, offset, 0);
        let over = self.slots.len();
        self.push(JMP32 | JNE | K, TMP2, 0, 0, 0);
        self.return_a();
        // At most five slots.
        self.slots[over].offset = (self.slots.len() - over - 1) as i16;
        self.push(ALU | MOV | X, A, TMP2, 0, 0);
    }

    fn return_constant(&mut self, value: i32) {
        let value = match self.options.verdicts {
            Some((accept, reject)) => {
                if value == 0 {
                    reject
                } else {
                    accept
                }
            }
            None => value,
        };
        self.push(ALU | MOV | K, A, 0, 0, value);
        self.push(JMP | EXIT, 0, 0, 0, 0);
    }

    fn return_a(&mut self) {
        if let Some((accept, reject)) = self.options.verdicts {
            self.push(ALU64 | MOV | X, TMP, A, 0, 0);
            self.push(ALU | MOV | K, A, 0, 0, accept);
            self.push(JMP32 | JNE | K, TMP, 0, 1, 0);
            self.push(ALU | MOV | K, A, 0, 0, reject);
        }
        self.push(JMP | EXIT, 0, 0, 0, 0);
    }

    /// Adds the end that rejects, and fills in the jumps.
    fn finish(mut self) -> Result<Vec<Slot>, TranslateError> {
        let reject = self.slots.len();
        if self
            .jumps
            .iter()
            .any(|(_, to, _)| matches!(to, Label::Reject))
        {
            self.return_constant(0);
        }
        for (slot, to, at) in &self.jumps {
            let target = match to {
                Label::Insn(insn) => self.starts[*insn],
                Label::Reject => reject,
            };
            let offset =
                i16::try_from(target - slot - 1).map_err(|_| TranslateError::Distance(*at))?;
            self.slots[*slot].offset = offset;
        }
        Ok(without_unreachable(&self.slots))
    }
}

/// The slots that the first one can reach: eBPF refuses others, classic BPF allows them. Jumps only go forward, and no
/// instruction takes two slots.
fn without_unreachable(slots: &[Slot]) -> Vec<Slot> {
    let mut reached = vec![false; slots.len()];
    reached[0] = true;
    for at in 0..slots.len() {
        if reached[at] {
            for next in successors(slots, at).into_iter().flatten() {
                reached[next] = true;
            }
        }
    }
    // How many slots are kept in front of each.
    let mut places = Vec::with_capacity(slots.len());
    let mut kept = 0;
    for is_reached in &reached {
        places.push(kept);
        kept += usize::from(*is_reached);
    }
    let mut out = Vec::with_capacity(slots.len());
    for (at, slot) in slots.iter().enumerate().filter(|(at, _)| reached[*at]) {
        let mut slot = *slot;
        if let [_, Some(target)] = successors(slots, at) {
            // Not more than the distance before.
            slot.offset = (places[target] - places[at] - 1) as i16;
        }
        out.push(slot);
    }
    out
}

/// The slot behind, and the target of a jump.
fn successors(slots: &[Slot], at: usize) -> [Option<usize>; 2] {
    let slot = slots[at];
    let behind = Some(at + 1);
    if !matches!(slot.code & 7, JMP | JMP32) {
        return [behind, None];
    }
    let target = Some((at + 1).wrapping_add_signed(isize::from(slot.offset)));
    match slot.code & 0xf0 {
        EXIT => [None, None],
        CALL => [behind, None],
        JA => [None, target],
        _ => [behind, target],
    }
}

/// Stack offset of a scratch word.
fn scratch(k: u32) -> i16 {
    let below = (BPF_MEMWORDS - (k % BPF_MEMWORDS)) * 4;
    -i16::try_from(below).unwrap_or(0)
}

/// Opcode codes the branches rely on: they are the same in both instruction sets.
const _: () = assert!(JGE == 0x30 && JSET == 0x40 && RSH == 0x70);

#[cfg(test)]
mod tests {
    use super::*;

    fn options(access: Access) -> Options {
        Options {
            access,
            long_shift: LongShift::Modulo,
            verdicts: None,
        }
    }

    #[test]
    fn every_jump_lands_inside() {
        let program = [
            Insn::new(0x28, 12),
            Insn::jump(0x15, 0x800, 0, 3),
            Insn::new(0xb1, 14),
            Insn::new(0x48, 14),
            Insn::jump(0x15, 80, 1, 0),
            Insn::new(0x06, 0),
            Insn::new(0x06, 262_144),
        ];
        for access in [Access::Socket, Access::Direct] {
            let slots = translate(&program, &options(access)).unwrap();
            for (at, slot) in slots.iter().enumerate() {
                let class = slot.code & 7;
                if (class == JMP || class == JMP32) && !matches!(slot.code & 0xf0, CALL | EXIT) {
                    let to = at.wrapping_add_signed(isize::from(slot.offset) + 1);
                    assert!(to < slots.len() && to > at);
                }
            }
            assert_eq!(slots.last().map(|s| s.code), Some(JMP | EXIT));
        }
    }

    #[test]
    fn what_nothing_reaches_is_left_out() {
        let program = [
            Insn::jump(0x15, 7, 1, 2),
            Insn::new(0x16, 0),
            Insn::new(0x06, 3),
            Insn::new(0x06, 5),
        ];
        let slots = translate(&program, &options(Access::Socket)).unwrap();
        let returned: Vec<i32> = slots
            .windows(2)
            .filter(|w| w[1].code == JMP | EXIT)
            .map(|w| w[0].imm)
            .collect();
        assert_eq!(returned, [3, 5]);
        let always_rejects = [Insn::new(0xb1, 0x8000_0000), Insn::new(0x06, 3)];
        let slots = translate(&always_rejects, &options(Access::Socket)).unwrap();
        assert_eq!(slots.iter().filter(|s| s.code == JMP | EXIT).count(), 1);
    }

    #[test]
    fn what_ebpf_cannot_read_is_refused() {
        let read = |datum: Ancillary| [Insn::new(0x20, datum.offset()), Insn::new(0x16, 0)];
        let socket = options(Access::Socket);
        assert!(translate(&read(Ancillary::Cpu), &socket).is_ok());
        assert!(translate(&read(Ancillary::VlanTag), &socket).is_ok());
        assert_eq!(
            translate(&read(Ancillary::PayOffset), &socket),
            Err(TranslateError::Ancillary(0, Ancillary::PayOffset))
        );
    }
}
