//! Instructions to text.
//!
//! [`Style::Objdump`] is the text of `llvm-objdump`, letter for letter, and for the instructions that it does not know
//! (fetching 32-bit atomics, `load_acquire`) that of later LLVM versions. [`Style::Source`] is what one would write:
//! decimal numbers, and calls whose kind is visible. The assembler reads both.

use alloc::borrow::Cow;
use core::fmt::{self, Display, Formatter};

use crate::encode::wide_fields;
use crate::insn::{
    AluOp, AtomicOp, Call, EndOp, Extend, Imm64, Insn, JmpOp, Reg, Size, Src, Width,
};

/// How an instruction is written.
///
/// ```
/// use skep_isa::disasm::{Style, Text};
/// use skep_isa::{Insn, Reg, Src, Width};
///
/// let insn = Insn::Mov { width: Width::W64, dst: Reg::R0, src: Src::Imm(2) };
/// assert_eq!(Text::new(&insn, Style::Source).to_string(), "r0 = 2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Style {
    /// As `llvm-objdump` prints it: hexadecimal, and `call N` whatever the call's kind.
    Objdump,
    /// As one would write it: decimal, `call pc+N` for a subprog, `call kfunc(ID, MODULE)`, names instead of numbers
    /// where there are any.
    #[default]
    Source,
}

/// Where names for the numbers in an instruction come from; every one is optional.
///
/// ```
/// use skep_isa::disasm::{Names, Style, Text};
/// use skep_isa::Insn;
/// use std::borrow::Cow;
///
/// struct Labels;
/// impl Names for Labels {
///     fn place(&self, target: i64) -> Option<Cow<'_, str>> {
///         Some(format!("L{target}").into())
///     }
/// }
/// let insn = Insn::Jump { offset: 3, long: false };
/// assert_eq!(Text::new(&insn, Style::Source).named(0, &Labels).to_string(), "goto L4");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Names {
    /// The label at slot `target`, which may lie outside the program (it wraps below zero).
    fn place(&self, target: i64) -> Option<Cow<'_, str>> {
        let _ = target;
        None
    }

    /// The name of a helper.
    fn helper(&self, id: i32) -> Option<Cow<'_, str>> {
        let _ = id;
        None
    }

    /// The symbol which a relocation will put into the call or wide load at slot `at`.
    fn relocation(&self, at: usize) -> Option<Cow<'_, str>> {
        let _ = at;
        None
    }
}

/// No names at all.
///
/// ```
/// use skep_isa::disasm::{NoNames, Style, Text};
/// use skep_isa::Insn;
///
/// let insn = Insn::Jump { offset: 3, long: false };
/// let plain = Text::new(&insn, Style::Source).to_string();
/// assert_eq!(Text::new(&insn, Style::Source).named(0, &NoNames).to_string(), plain);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Names for NoNames {}

/// An instruction as text, through [`Display`].
///
/// ```
/// use skep_isa::disasm::{Style, Text};
/// use skep_isa::Insn;
///
/// assert_eq!(Text::new(&Insn::Exit, Style::Source).to_string(), "exit");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Text<'a> {
    insn: &'a Insn,
    style: Style,
    at: usize,
    names: &'a dyn Names,
}

impl<'a> Text<'a> {
    /// The text without names.
    #[must_use]
    pub const fn new(insn: &'a Insn, style: Style) -> Self {
        Self {
            insn,
            style,
            at: 0,
            names: &NoNames,
        }
    }

    /// Takes names from `names`, for the instruction at slot `at`.
    #[must_use]
    pub const fn named(self, at: usize, names: &'a dyn Names) -> Self {
        Self { at, names, ..self }
    }
}

impl Display for Insn {
    /// The instruction in [`Style::Source`], without names.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Text::new(self, Style::Source).fmt(f)
    }
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self.insn {
            Insn::Alu {
                width,
                op,
                dst,
                src,
            } => {
                let (dst, src) = (named_reg(width, dst), self.operand(width, src));
                write!(f, "{dst} {}= {src}", alu_symbol(op))
            }
            Insn::Neg { width, dst } => {
                let dst = named_reg(width, dst);
                write!(f, "{dst} = -{dst}")
            }
            Insn::Mov { width, dst, src } => {
                let (dst, src) = (named_reg(width, dst), self.operand(width, src));
                write!(f, "{dst} = {src}")
            }
            Insn::Movsx {
                width,
                from,
                dst,
                src,
            } => {
                let (dst, src) = (named_reg(width, dst), named_reg(width, src));
                write!(f, "{dst} = (s{}){src}", from.bits())
            }
            Insn::AddrSpaceCast {
                dst,
                src,
                dst_as,
                src_as,
            } => {
                let (to, from) = (self.number(dst_as.into()), self.number(src_as.into()));
                write!(f, "{dst} = addr_space_cast({src}, {to}, {from})")
            }
            Insn::End { op, size, dst } => {
                write!(f, "{dst} = {}{} {dst}", end_name(op), size.bits())
            }
            _ => self.access(f),
        }
    }
}

impl<'a> Text<'a> {
    /// Instructions that touch memory, and wide loads.
    fn access(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self.insn {
            Insn::LoadImm64 { dst, imm } => self.wide(f, dst, imm),
            Insn::LoadAbs { size, imm } => {
                let imm = self.number(imm.into());
                write!(f, "r0 = *(u{} *)skb[{imm}]", size.bits())
            }
            Insn::LoadInd { size, src, imm } => self.load_ind(f, size, src, imm),
            Insn::Load {
                size,
                extend,
                dst,
                src,
                offset,
            } => {
                let sign = if extend == Extend::Sign { 's' } else { 'u' };
                let address = self.address(src, offset);
                write!(f, "{dst} = *({sign}{} *)({address})", size.bits())
            }
            Insn::Store {
                size,
                dst,
                src,
                offset,
            } => {
                let (address, src) = (self.address(dst, offset), self.operand(Width::W64, src));
                write!(f, "*(u{} *)({address}) = {src}", size.bits())
            }
            Insn::Atomic {
                size,
                op,
                dst,
                src,
                offset,
            } => self.atomic(f, size, op, self.address(dst, offset), src),
            Insn::LoadAcquire {
                size,
                dst,
                src,
                offset,
            } => {
                let (dst, address) = (sized_reg(size, dst), self.address(src, offset));
                write!(f, "{dst} = load_acquire((u{} *)({address}))", size.bits())
            }
            Insn::StoreRelease {
                size,
                dst,
                src,
                offset,
            } => {
                let (src, address) = (sized_reg(size, src), self.address(dst, offset));
                write!(f, "store_release((u{} *)({address}), {src})", size.bits())
            }
            _ => self.control(f),
        }
    }

    /// Jumps, calls and exits.
    fn control(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self.insn {
            Insn::Jump { offset, long } => {
                let target = self.target(offset);
                write!(f, "goto{} {target}", if long { "l" } else { "" })
            }
            Insn::JumpIf {
                width,
                op,
                dst,
                src,
                offset,
            } => {
                let (dst, src) = (named_reg(width, dst), self.operand(width, src));
                let target = self.target(offset.into());
                write!(f, "if {dst} {} {src} goto {target}", jmp_symbol(op))
            }
            Insn::MayGoto { offset } => write!(f, "may_goto {}", self.target(offset.into())),
            Insn::Call(call) => self.call(f, call),
            Insn::CallReg { dst } => write!(f, "callx {dst}"),
            Insn::Exit => f.write_str("exit"),
            _ => Err(fmt::Error),
        }
    }

    fn number(&self, value: i64) -> Number {
        Number {
            style: self.style,
            value,
        }
    }

    fn operand(&self, width: Width, src: Src) -> Operand {
        match src {
            Src::Reg(reg) => Operand::Reg(named_reg(width, reg)),
            Src::Imm(imm) => Operand::Imm(self.number(imm.into())),
        }
    }

    fn address(&self, base: Reg, offset: i16) -> Address {
        Address {
            base,
            offset: i64::from(offset),
            style: self.style,
        }
    }

    fn target(&self, distance: i32) -> Target<'a> {
        Target {
            text: *self,
            distance,
        }
    }

    /// The slot that is `distance` slots after the next one; never overflows.
    fn place(&self, distance: i32) -> Option<Cow<'a, str>> {
        let here = i64::try_from(self.at).ok()?;
        let names: &'a dyn Names = self.names;
        names.place(here.checked_add(1)?.checked_add(distance.into())?)
    }

    fn wide(&self, f: &mut Formatter<'_>, dst: Reg, imm: Imm64) -> fmt::Result {
        if self.style == Style::Source
            && let Some(symbol) = self.names.relocation(self.at)
        {
            return write!(f, "{dst} = {symbol} ll");
        }
        let (kind, low, high) = wide_fields(imm);
        let value = u64::from(low.cast_unsigned()) | u64::from(high.cast_unsigned()) << 32;
        let value = self.number(value.cast_signed());
        match imm {
            Imm64::Value(_) => write!(f, "{dst} = {value} ll"),
            _ => write!(f, "ld_pseudo\t{dst}, {}, {value}", self.number(kind.into())),
        }
    }

    /// `llvm-objdump` knows no immediate here; ours is left out when it is zero.
    fn load_ind(&self, f: &mut Formatter<'_>, size: Size, src: Reg, imm: i32) -> fmt::Result {
        let bits = size.bits();
        if imm == 0 {
            return write!(f, "r0 = *(u{bits} *)skb[{src}]");
        }
        let address = Address {
            base: src,
            offset: imm.into(),
            style: self.style,
        };
        write!(f, "r0 = *(u{bits} *)skb[{address}]")
    }

    fn atomic(
        &self,
        f: &mut Formatter<'_>,
        size: Size,
        op: AtomicOp,
        address: Address,
        src: Reg,
    ) -> fmt::Result {
        let bits = size.bits();
        let narrow = if size == Size::W { "32" } else { "" };
        let (name, symbol) = match op {
            AtomicOp::Add { .. } => ("add", '+'),
            AtomicOp::Or { .. } => ("or", '|'),
            AtomicOp::And { .. } => ("and", '&'),
            AtomicOp::Xor { .. } => ("xor", '^'),
            AtomicOp::Xchg => {
                let src = sized_reg(size, src);
                return write!(f, "{src} = xchg{narrow}_{bits}({address}, {src})");
            }
            AtomicOp::Cmpxchg => {
                let (r0, src) = (sized_reg(size, Reg::R0), sized_reg(size, src));
                return write!(f, "{r0} = cmpxchg{narrow}_{bits}({address}, {r0}, {src})");
            }
        };
        if op.fetches() {
            let src = sized_reg(size, src);
            write!(
                f,
                "{src} = atomic_fetch_{name}((u{bits} *)({address}), {src})"
            )
        } else {
            // llvm-objdump writes the whole register here, clang the half.
            let src = match self.style {
                Style::Objdump => named_reg(Width::W64, src),
                Style::Source => sized_reg(size, src),
            };
            write!(f, "lock *(u{bits} *)({address}) {symbol}= {src}")
        }
    }

    fn call(&self, f: &mut Formatter<'_>, call: Call) -> fmt::Result {
        let (Call::Helper(imm) | Call::Subprog(imm) | Call::Kfunc { id: imm, .. }) = call;
        let imm = self.number(imm.into());
        if self.style == Style::Objdump {
            return write!(f, "call {imm}");
        }
        let name = match call {
            Call::Helper(id) => self.names.helper(id),
            Call::Subprog(distance) => self
                .names
                .relocation(self.at)
                .or_else(|| self.place(distance)),
            Call::Kfunc { .. } => self.names.relocation(self.at),
        };
        match (call, name) {
            (_, Some(name)) => write!(f, "call {name}"),
            (Call::Helper(_), None) => write!(f, "call {imm}"),
            (Call::Subprog(distance), None) => write!(f, "call pc{distance:+}"),
            (Call::Kfunc { id, module }, None) => write!(f, "call kfunc({id}, {module})"),
        }
    }
}

/// A number in the style's radix.
#[derive(Clone, Copy)]
struct Number {
    style: Style,
    value: i64,
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sign = if self.value < 0 { "-" } else { "" };
        match self.style {
            Style::Objdump => write!(f, "{sign}{:#x}", self.value.unsigned_abs()),
            Style::Source => write!(f, "{}", self.value),
        }
    }
}

#[derive(Clone, Copy)]
enum Operand {
    Reg(NamedReg),
    Imm(Number),
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reg(reg) => reg.fmt(f),
            Self::Imm(imm) => imm.fmt(f),
        }
    }
}

/// A register as `r3` or `w3`.
#[derive(Clone, Copy)]
struct NamedReg {
    letter: char,
    number: u8,
}

const fn named_reg(width: Width, reg: Reg) -> NamedReg {
    let letter = match width {
        Width::W32 => 'w',
        Width::W64 => 'r',
    };
    let number = reg.number();
    NamedReg { letter, number }
}

/// The half for accesses of up to four bytes, else the whole register.
fn sized_reg(size: Size, reg: Reg) -> NamedReg {
    let width = match size {
        Size::DW => Width::W64,
        _ => Width::W32,
    };
    named_reg(width, reg)
}

impl Display for NamedReg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.letter, self.number)
    }
}

/// `r1 + 0x4`
#[derive(Clone, Copy)]
struct Address {
    base: Reg,
    offset: i64,
    style: Style,
}

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sign = if self.offset < 0 { '-' } else { '+' };
        let value = Number {
            style: self.style,
            value: self.offset.abs(),
        };
        write!(f, "{} {sign} {value}", self.base)
    }
}

/// `+0x4 <label>`, or in [`Style::Source`] only the label.
struct Target<'a> {
    text: Text<'a>,
    distance: i32,
}

impl Display for Target<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let label = self.text.place(self.distance);
        if self.text.style == Style::Source
            && let Some(label) = label
        {
            return f.write_str(&label);
        }
        let sign = if self.distance < 0 { "" } else { "+" };
        write!(f, "{sign}{}", self.text.number(self.distance.into()))?;
        match label {
            Some(label) => write!(f, " <{label}>"),
            None => Ok(()),
        }
    }
}

/// The symbol of an arithmetic operation, without the `=`.
#[must_use]
pub const fn alu_symbol(op: AluOp) -> &'static str {
    match op {
        AluOp::Add => "+",
        AluOp::Sub => "-",
        AluOp::Mul => "*",
        AluOp::Div => "/",
        AluOp::Sdiv => "s/",
        AluOp::Or => "|",
        AluOp::And => "&",
        AluOp::Lsh => "<<",
        AluOp::Rsh => ">>",
        AluOp::Mod => "%",
        AluOp::Smod => "s%",
        AluOp::Xor => "^",
        AluOp::Arsh => "s>>",
    }
}

/// The symbol of a comparison.
#[must_use]
pub const fn jmp_symbol(op: JmpOp) -> &'static str {
    match op {
        JmpOp::Eq => "==",
        JmpOp::Ne => "!=",
        JmpOp::Gt => ">",
        JmpOp::Ge => ">=",
        JmpOp::Lt => "<",
        JmpOp::Le => "<=",
        JmpOp::Set => "&",
        JmpOp::Sgt => "s>",
        JmpOp::Sge => "s>=",
        JmpOp::Slt => "s<",
        JmpOp::Sle => "s<=",
    }
}

/// The start of a byte order instruction's name; the number of bits follows.
#[must_use]
pub const fn end_name(op: EndOp) -> &'static str {
    match op {
        EndOp::ToLe => "le",
        EndOp::ToBe => "be",
        EndOp::Bswap => "bswap",
    }
}
