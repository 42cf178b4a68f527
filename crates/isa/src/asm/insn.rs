//! One instruction from its tokens, in the syntax that clang and llvm-objdump print.

use alloc::string::{String, ToString};

use super::cursor::{Cursor, WrittenReg, fit};
use super::error::{Located, Problem};
use super::lex::Tok;
use crate::insn::{
    AluOp, AtomicOp, Call, EndOp, Extend, Imm64, Insn, JmpOp, Reg, Size, Src, Width,
};
use crate::opcode as op;

/// A symbol plus a constant; a numeric label until the assembler names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SymbolRef {
    pub(super) name: SymbolName,
    pub(super) addend: i64,
    pub(super) column: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SymbolName {
    Named(String),
    Local { number: u32, forward: bool },
}

/// An instruction; with a symbol, the field it stands in is zero.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) insn: Insn,
    pub(super) symbol: Option<SymbolRef>,
}

impl From<Insn> for Statement {
    fn from(insn: Insn) -> Self {
        Self { insn, symbol: None }
    }
}

pub(super) fn statement(c: &mut Cursor<'_, '_>) -> Located<Statement> {
    let start = c.column();
    if let Some(dst) = c.try_reg()? {
        return after_reg(c, dst);
    }
    let unknown = Problem::UnknownInstruction(c.peek().quote());
    let insn = match c.bump() {
        Tok::Punct("*") => store(c)?,
        Tok::Name("if") => return jump_if(c),
        Tok::Name("goto") => return jump(c, false),
        Tok::Name("gotol") => return jump(c, true),
        Tok::Name("may_goto") => {
            let (offset, symbol) = target::<i16>(c)?;
            let insn = Insn::MayGoto { offset };
            return Ok(Statement { insn, symbol });
        }
        Tok::Name("call") => return call(c),
        Tok::Name("callx") => Insn::CallReg {
            dst: c.reg(Width::W64)?,
        },
        Tok::Name("exit") => Insn::Exit,
        Tok::Name("lock") => lock(c)?,
        Tok::Name("store_release") => store_release(c)?,
        Tok::Name("ld_pseudo") => ld_pseudo(c)?,
        _ => return Err((start, unknown)),
    };
    Ok(insn.into())
}

/// What follows `dst`: `= …` or an operation.
fn after_reg(c: &mut Cursor<'_, '_>, dst: WrittenReg) -> Located<Statement> {
    if c.eat("=") {
        return assign(c, dst);
    }
    let signed = c.eat("s");
    let op = match (c.peek(), signed) {
        (Tok::Punct("+="), false) => AluOp::Add,
        (Tok::Punct("-="), false) => AluOp::Sub,
        (Tok::Punct("*="), false) => AluOp::Mul,
        (Tok::Punct("/="), false) => AluOp::Div,
        (Tok::Punct("/="), true) => AluOp::Sdiv,
        (Tok::Punct("%="), false) => AluOp::Mod,
        (Tok::Punct("%="), true) => AluOp::Smod,
        (Tok::Punct("|="), false) => AluOp::Or,
        (Tok::Punct("&="), false) => AluOp::And,
        (Tok::Punct("^="), false) => AluOp::Xor,
        (Tok::Punct("<<="), false) => AluOp::Lsh,
        (Tok::Punct(">>="), false) => AluOp::Rsh,
        (Tok::Punct(">>="), true) => AluOp::Arsh,
        _ => return c.expected("`=` or an operation such as `+=`"),
    };
    c.bump();
    let (width, dst) = (dst.width, dst.reg);
    let src = operand(c, width)?;
    Ok(Insn::Alu {
        width,
        op,
        dst,
        src,
    }
    .into())
}

/// A register of the width, or an immediate; the immediate of a 32-bit operation may also be written unsigned.
fn operand(c: &mut Cursor<'_, '_>, width: Width) -> Located<Src> {
    if c.at_int() {
        let unsigned = width == Width::W32;
        return immediate(c, unsigned).map(Src::Imm);
    }
    match c.peek() {
        Tok::Name(_) => c.reg(width).map(Src::Reg),
        _ => c.expected("a register or a number"),
    }
}

fn immediate(c: &mut Cursor<'_, '_>, or_unsigned: bool) -> Located<i32> {
    let column = c.column();
    let value = c.int()?;
    match u32::try_from(value) {
        Ok(value) if or_unsigned => Ok(value.cast_signed()),
        _ => fit(value, "imm").map_err(|problem| (column, problem)),
    }
}

/// What follows `dst =`.
fn assign(c: &mut Cursor<'_, '_>, dst: WrittenReg) -> Located<Statement> {
    let WrittenReg { width, reg } = dst;
    if c.at_int() {
        return constant(c, dst);
    }
    let column = c.column();
    if let Some(src) = c.try_reg()? {
        let width = mov_width(dst, src).map_err(|problem| (column, problem))?;
        let src = Src::Reg(src.reg);
        return Ok(Insn::Mov {
            width,
            dst: reg,
            src,
        }
        .into());
    }
    let insn = match *c.peek() {
        Tok::Punct("-") => {
            c.bump();
            c.repeat(dst)?;
            Insn::Neg { width, dst: reg }
        }
        Tok::Punct("(") => movsx(c, dst)?,
        Tok::Punct("*") => {
            c.bump();
            load(c, dst)?
        }
        Tok::Name(name) if *c.peek_at(1) == Tok::Punct("(") => function(c, dst, name)?,
        Tok::Name(name) if end_op(name).is_some() && !matches!(c.peek_at(1), Tok::Name("ll")) => {
            byte_order(c, dst, name)?
        }
        Tok::Name(_) | Tok::Str(_) | Tok::Local { .. } => return wide_symbol(c, dst),
        _ => return c.expected("a value"),
    };
    Ok(insn.into())
}

/// Clang writes `r1 = w2` for a 32-bit move whose zero-extended result it uses.
fn mov_width(dst: WrittenReg, src: WrittenReg) -> Result<Width, Problem> {
    if dst.width == Width::W32 && src.width == Width::W64 {
        let (width, reg) = (Width::W32, src.reg);
        return Err(Problem::WidthMismatch {
            found: src.to_string(),
            wanted: WrittenReg { width, reg }.to_string(),
        });
    }
    Ok(src.width)
}

/// `dst = 5` and `dst = 5 ll`
fn constant(c: &mut Cursor<'_, '_>, dst: WrittenReg) -> Located<Statement> {
    let WrittenReg { width, reg: dst } = dst;
    let is_wide = (1..=2).any(|ahead| *c.peek_at(ahead) == Tok::Name("ll"));
    if !is_wide {
        let src = Src::Imm(immediate(c, width == Width::W32)?);
        return Ok(Insn::Mov { width, dst, src }.into());
    }
    only_whole(c, width, dst)?;
    let column = c.column();
    let value = c.int()?;
    c.expect("ll", "`ll`")?;
    let value = u64::try_from(value)
        .or_else(|_| fit::<i64>(value, "imm64").map(i64::cast_unsigned))
        .map_err(|problem| (column, problem))?;
    let imm = Imm64::Value(value);
    Ok(Insn::LoadImm64 { dst, imm }.into())
}

fn only_whole(c: &Cursor<'_, '_>, width: Width, reg: Reg) -> Located<()> {
    if width == Width::W64 {
        return Ok(());
    }
    let problem = Problem::WidthMismatch {
        found: WrittenReg { width, reg }.to_string(),
        wanted: reg.to_string(),
    };
    Err((c.column(), problem))
}

/// `dst = symbol ll` and `dst = symbol + 8 ll`
fn wide_symbol(c: &mut Cursor<'_, '_>, dst: WrittenReg) -> Located<Statement> {
    let symbol = symbol(c)?;
    c.expect("ll", "`ll` after a symbol")?;
    only_whole(c, dst.width, dst.reg)?;
    let imm = Imm64::Value(0);
    let insn = Insn::LoadImm64 { dst: dst.reg, imm };
    let symbol = Some(symbol);
    Ok(Statement { insn, symbol })
}

/// A symbol with an optional constant.
fn symbol(c: &mut Cursor<'_, '_>) -> Located<SymbolRef> {
    let column = c.column();
    let name = match *c.peek() {
        Tok::Local { number, forward } => {
            c.bump();
            SymbolName::Local { number, forward }
        }
        _ => SymbolName::Named(c.quoted_name("a symbol")?),
    };
    let addend = if c.at_int() { c.field("addend")? } else { 0 };
    Ok(SymbolRef {
        name,
        addend,
        column,
    })
}

/// `dst = (s8)src`
fn movsx(c: &mut Cursor<'_, '_>, dst: WrittenReg) -> Located<Insn> {
    c.expect("(", "`(`")?;
    let from = match (c.peek(), dst.width) {
        (Tok::Name("s8"), _) => Size::B,
        (Tok::Name("s16"), _) => Size::H,
        (Tok::Name("s32"), Width::W64) => Size::W,
        (_, Width::W64) => return c.expected("`s8`, `s16` or `s32`"),
        (_, Width::W32) => return c.expected("`s8` or `s16`"),
    };
    c.bump();
    c.expect(")", "`)`")?;
    Ok(Insn::Movsx {
        width: dst.width,
        from,
        dst: dst.reg,
        src: c.reg(dst.width)?,
    })
}

fn end_op(name: &str) -> Option<(EndOp, Size)> {
    let (op, bits) = if let Some(bits) = name.strip_prefix("bswap") {
        (EndOp::Bswap, bits)
    } else if let Some(bits) = name.strip_prefix("be") {
        (EndOp::ToBe, bits)
    } else {
        (EndOp::ToLe, name.strip_prefix("le")?)
    };
    let size = match bits {
        "16" => Size::H,
        "32" => Size::W,
        "64" => Size::DW,
        _ => return None,
    };
    Some((op, size))
}

/// `dst = be16 dst`
fn byte_order(c: &mut Cursor<'_, '_>, dst: WrittenReg, name: &str) -> Located<Insn> {
    let Some((op, size)) = end_op(name) else {
        return c.expected("a byte order operation");
    };
    only_whole(c, dst.width, dst.reg)?;
    c.bump();
    c.repeat(dst)?;
    Ok(Insn::End {
        op,
        size,
        dst: dst.reg,
    })
}

/// `(u32 *)` as size and sign.
fn pointer_type(c: &mut Cursor<'_, '_>) -> Located<(Size, Extend)> {
    c.expect("(", "`(`")?;
    let found = match c.peek() {
        Tok::Name("u8") => (Size::B, Extend::Zero),
        Tok::Name("u16") => (Size::H, Extend::Zero),
        Tok::Name("u32") => (Size::W, Extend::Zero),
        Tok::Name("u64") => (Size::DW, Extend::Zero),
        Tok::Name("s8") => (Size::B, Extend::Sign),
        Tok::Name("s16") => (Size::H, Extend::Sign),
        Tok::Name("s32") => (Size::W, Extend::Sign),
        _ => return c.expected("a type: u8, u16, u32, u64, s8, s16 or s32"),
    };
    c.bump();
    c.expect("*", "`*`")?;
    c.expect(")", "`)`")?;
    Ok(found)
}

fn unsigned_pointer(c: &mut Cursor<'_, '_>) -> Located<Size> {
    let column = c.column();
    match pointer_type(c)? {
        (size, Extend::Zero) => Ok(size),
        (_, Extend::Sign) => {
            let (what, found) = ("an unsigned type", "a signed one".to_string());
            Err((column, Problem::Expected { what, found }))
        }
    }
}

/// `r1 + 0x4`, with the offset optional.
fn address(c: &mut Cursor<'_, '_>) -> Located<(Reg, i16)> {
    let base = c.reg(Width::W64)?;
    let offset = match c.peek() {
        Tok::Punct("+" | "-") => c.field("offset")?,
        _ => 0,
    };
    Ok((base, offset))
}

/// `(r1 + 0x4)`
fn bracketed(c: &mut Cursor<'_, '_>) -> Located<(Reg, i16)> {
    c.expect("(", "`(`")?;
    let found = address(c)?;
    c.expect(")", "`)`")?;
    Ok(found)
}

/// A register that a `size` access reads or writes: `w` only for up to four bytes.
fn sized_reg(c: &mut Cursor<'_, '_>, size: Size) -> Located<Reg> {
    let column = c.column();
    let reg = c.any_reg()?;
    fits_size(reg, size).map_err(|problem| (column, problem))
}

fn fits_size(reg: WrittenReg, size: Size) -> Result<Reg, Problem> {
    if reg.width == Width::W64 || size != Size::DW {
        return Ok(reg.reg);
    }
    Err(Problem::WidthMismatch {
        found: reg.to_string(),
        wanted: reg.reg.to_string(),
    })
}

/// What follows `dst = *`.
fn load(c: &mut Cursor<'_, '_>, dst: WrittenReg) -> Located<Insn> {
    let column = c.column();
    let (size, extend) = pointer_type(c)?;
    if c.eat("skb") {
        return legacy_load(c, dst, size, extend);
    }
    let access = if extend == Extend::Sign {
        Size::DW
    } else {
        size
    };
    let dst = fits_size(dst, access).map_err(|problem| (column, problem))?;
    let (src, offset) = bracketed(c)?;
    Ok(Insn::Load {
        size,
        extend,
        dst,
        src,
        offset,
    })
}

/// `r0 = *(u8 *)skb[imm]`, `skb[src]` or `skb[src + imm]`
fn legacy_load(
    c: &mut Cursor<'_, '_>,
    dst: WrittenReg,
    size: Size,
    extend: Extend,
) -> Located<Insn> {
    let r0 = WrittenReg {
        width: Width::W64,
        reg: Reg::R0,
    };
    if dst != r0 || extend == Extend::Sign || size == Size::DW {
        let what = "`r0 = *(u8 *)skb`, or u16 or u32";
        let found = "another form".to_string();
        return Err((c.column(), Problem::Expected { what, found }));
    }
    c.expect("[", "`[`")?;
    let insn = if c.at_int() {
        let imm = c.field("imm")?;
        Insn::LoadAbs { size, imm }
    } else {
        let src = c.reg(Width::W64)?;
        let imm = if c.at_int() { c.field("imm")? } else { 0 };
        Insn::LoadInd { size, src, imm }
    };
    c.expect("]", "`]`")?;
    Ok(insn)
}

/// What follows the `*` of a store.
fn store(c: &mut Cursor<'_, '_>) -> Located<Insn> {
    let size = unsigned_pointer(c)?;
    let (dst, offset) = bracketed(c)?;
    c.expect("=", "`=`")?;
    let src = if c.at_int() {
        Src::Imm(immediate(c, size != Size::DW)?)
    } else {
        Src::Reg(sized_reg(c, size)?)
    };
    Ok(Insn::Store {
        size,
        dst,
        src,
        offset,
    })
}

/// `lock *(u32 *)(r1 + 0x0) += w2`
fn lock(c: &mut Cursor<'_, '_>) -> Located<Insn> {
    c.expect("*", "`*`")?;
    let size = atomic_pointer(c)?;
    let (dst, offset) = bracketed(c)?;
    let fetch = false;
    let op = match c.peek() {
        Tok::Punct("+=") => AtomicOp::Add { fetch },
        Tok::Punct("|=") => AtomicOp::Or { fetch },
        Tok::Punct("&=") => AtomicOp::And { fetch },
        Tok::Punct("^=") => AtomicOp::Xor { fetch },
        _ => return c.expected("`+=`, `|=`, `&=` or `^=`"),
    };
    c.bump();
    let src = sized_reg(c, size)?;
    Ok(Insn::Atomic {
        size,
        op,
        dst,
        src,
        offset,
    })
}

fn atomic_pointer(c: &mut Cursor<'_, '_>) -> Located<Size> {
    match c.peek_at(1) {
        Tok::Name("u32" | "u64") => unsigned_pointer(c),
        _ => c.expected("`(u32 *)` or `(u64 *)`"),
    }
}

/// `dst = name(…)`
fn function(c: &mut Cursor<'_, '_>, dst: WrittenReg, name: &str) -> Located<Insn> {
    let fetch = true;
    let op = match name {
        "load_acquire" => return load_acquire(c, dst),
        "addr_space_cast" => return addr_space_cast(c, dst),
        "atomic_fetch_add" => AtomicOp::Add { fetch },
        "atomic_fetch_or" => AtomicOp::Or { fetch },
        "atomic_fetch_and" => AtomicOp::And { fetch },
        "atomic_fetch_xor" => AtomicOp::Xor { fetch },
        "xchg_64" => return exchange(c, dst, Size::DW, AtomicOp::Xchg),
        "xchg32_32" => return exchange(c, dst, Size::W, AtomicOp::Xchg),
        "cmpxchg_64" => return exchange(c, dst, Size::DW, AtomicOp::Cmpxchg),
        "cmpxchg32_32" => return exchange(c, dst, Size::W, AtomicOp::Cmpxchg),
        _ => return Err((c.column(), Problem::UnknownInstruction(c.peek().quote()))),
    };
    c.bump();
    c.expect("(", "`(`")?;
    let size = atomic_pointer(c)?;
    let (base, offset) = bracketed(c)?;
    c.expect(",", "`,`")?;
    let src = result_again(c, dst, size)?;
    c.expect(")", "`)`")?;
    Ok(Insn::Atomic {
        size,
        op,
        dst: base,
        src,
        offset,
    })
}

/// The register that is both result and operand.
fn result_again(c: &mut Cursor<'_, '_>, dst: WrittenReg, size: Size) -> Located<Reg> {
    let column = c.column();
    c.repeat(dst)?;
    fits_size(dst, size).map_err(|problem| (column, problem))
}

/// `r2 = xchg_64(r1 + 0x8, r2)` and `r0 = cmpxchg_64(r1 + 0x8, r0, r2)`
fn exchange(c: &mut Cursor<'_, '_>, dst: WrittenReg, size: Size, op: AtomicOp) -> Located<Insn> {
    c.bump();
    c.expect("(", "`(`")?;
    let (base, offset) = address(c)?;
    c.expect(",", "`,`")?;
    let mut src = result_again(c, dst, size)?;
    if op == AtomicOp::Cmpxchg {
        if src != Reg::R0 {
            let r0 = WrittenReg {
                width: dst.width,
                reg: Reg::R0,
            };
            return Err((c.column(), Problem::MustRepeat(r0.to_string())));
        }
        c.expect(",", "`,`")?;
        src = sized_reg(c, size)?;
    }
    c.expect(")", "`)`")?;
    Ok(Insn::Atomic {
        size,
        op,
        dst: base,
        src,
        offset,
    })
}

fn load_acquire(c: &mut Cursor<'_, '_>, dst: WrittenReg) -> Located<Insn> {
    let column = c.column();
    c.bump();
    c.expect("(", "`(`")?;
    let size = unsigned_pointer(c)?;
    let (src, offset) = bracketed(c)?;
    c.expect(")", "`)`")?;
    let dst = fits_size(dst, size).map_err(|problem| (column, problem))?;
    Ok(Insn::LoadAcquire {
        size,
        dst,
        src,
        offset,
    })
}

/// `store_release((u32 *)(r1 + 0x0), w2)`
fn store_release(c: &mut Cursor<'_, '_>) -> Located<Insn> {
    c.expect("(", "`(`")?;
    let size = unsigned_pointer(c)?;
    let (dst, offset) = bracketed(c)?;
    c.expect(",", "`,`")?;
    let src = sized_reg(c, size)?;
    c.expect(")", "`)`")?;
    Ok(Insn::StoreRelease {
        size,
        dst,
        src,
        offset,
    })
}

fn addr_space_cast(c: &mut Cursor<'_, '_>, dst: WrittenReg) -> Located<Insn> {
    only_whole(c, dst.width, dst.reg)?;
    c.bump();
    c.expect("(", "`(`")?;
    let src = c.reg(Width::W64)?;
    c.expect(",", "`,`")?;
    let dst_as = c.field("address space")?;
    c.expect(",", "`,`")?;
    let src_as = c.field("address space")?;
    c.expect(")", "`)`")?;
    Ok(Insn::AddrSpaceCast {
        dst: dst.reg,
        src,
        dst_as,
        src_as,
    })
}

/// `ld_pseudo r1, 0x1, 0x5`: `src` and the 64-bit immediate of a wide load, raw.
fn ld_pseudo(c: &mut Cursor<'_, '_>) -> Located<Insn> {
    let dst = c.reg(Width::W64)?;
    c.expect(",", "`,`")?;
    let kind_column = c.column();
    let kind: u8 = c.field("src")?;
    c.expect(",", "`,`")?;
    let column = c.column();
    let value = c.int()?;
    let value = u64::try_from(value)
        .or_else(|_| fit::<i64>(value, "imm64").map(i64::cast_unsigned))
        .map_err(|problem| (column, problem))?;
    let (low, high) = ((value as u32).cast_signed(), (value >> 32) as u32);
    let imm = match kind {
        0 => Imm64::Value(value),
        op::PSEUDO_MAP_FD if high == 0 => Imm64::MapFd(low),
        op::PSEUDO_MAP_IDX if high == 0 => Imm64::MapIdx(low),
        op::PSEUDO_FUNC if high == 0 => Imm64::Func(low),
        op::PSEUDO_MAP_VALUE => Imm64::MapFdValue {
            fd: low,
            offset: high,
        },
        op::PSEUDO_MAP_IDX_VALUE => Imm64::MapIdxValue {
            index: low,
            offset: high,
        },
        op::PSEUDO_BTF_ID => Imm64::BtfId {
            id: low,
            fd: high.cast_signed(),
        },
        op::PSEUDO_MAP_FD | op::PSEUDO_MAP_IDX | op::PSEUDO_FUNC => {
            let problem = fit::<u32>(value.into(), "imm").err();
            return Err((column, problem.unwrap_or(Problem::Misaligned)));
        }
        _ => {
            let problem = Problem::OutOfRange {
                field: "src",
                value: kind.into(),
                min: 0,
                max: op::PSEUDO_MAP_IDX_VALUE.into(),
            };
            return Err((kind_column, problem));
        }
    };
    Ok(Insn::LoadImm64 { dst, imm })
}

/// A distance in slots (what stands in `<…>` behind it is for the reader), or a label.
fn target<T: super::cursor::Field + Default>(
    c: &mut Cursor<'_, '_>,
) -> Located<(T, Option<SymbolRef>)> {
    if !c.at_int() {
        return match c.peek() {
            Tok::Name(_) | Tok::Str(_) | Tok::Local { .. } => Ok((T::default(), Some(symbol(c)?))),
            _ => c.expected("a label or a distance"),
        };
    }
    let distance = c.field("distance")?;
    if c.eat("<") {
        while !c.eat(">") {
            if c.is_done() {
                return c.expected("`>`");
            }
            c.bump();
        }
    }
    Ok((distance, None))
}

fn jump(c: &mut Cursor<'_, '_>, long: bool) -> Located<Statement> {
    let (offset, symbol) = if long {
        target(c)?
    } else {
        let (offset, symbol) = target::<i16>(c)?;
        (offset.into(), symbol)
    };
    let insn = Insn::Jump { offset, long };
    Ok(Statement { insn, symbol })
}

/// What follows `if`.
fn jump_if(c: &mut Cursor<'_, '_>) -> Located<Statement> {
    let WrittenReg { width, reg: dst } = c.any_reg()?;
    let signed = c.eat("s");
    let op = match (c.peek(), signed) {
        (Tok::Punct("=="), false) => JmpOp::Eq,
        (Tok::Punct("!="), false) => JmpOp::Ne,
        (Tok::Punct("&"), false) => JmpOp::Set,
        (Tok::Punct(">"), false) => JmpOp::Gt,
        (Tok::Punct(">="), false) => JmpOp::Ge,
        (Tok::Punct("<"), false) => JmpOp::Lt,
        (Tok::Punct("<="), false) => JmpOp::Le,
        (Tok::Punct(">"), true) => JmpOp::Sgt,
        (Tok::Punct(">="), true) => JmpOp::Sge,
        (Tok::Punct("<"), true) => JmpOp::Slt,
        (Tok::Punct("<="), true) => JmpOp::Sle,
        _ => return c.expected("a comparison"),
    };
    c.bump();
    let src = operand(c, width)?;
    c.expect("goto", "`goto`")?;
    let (offset, symbol) = target(c)?;
    let insn = Insn::JumpIf {
        width,
        op,
        dst,
        src,
        offset,
    };
    Ok(Statement { insn, symbol })
}

/// What follows `call`: a helper's number, `pc+N`, `kfunc(ID, MODULE)`, a symbol, or a register (`callx`).
fn call(c: &mut Cursor<'_, '_>) -> Located<Statement> {
    if c.at_int() {
        return Ok(Insn::Call(Call::Helper(c.field("imm")?)).into());
    }
    match (c.peek(), c.peek_at(1)) {
        (Tok::Name("pc"), Tok::Punct("+" | "-")) => {
            c.bump();
            Ok(Insn::Call(Call::Subprog(c.field("distance")?)).into())
        }
        (Tok::Name("kfunc"), Tok::Punct("(")) => {
            c.bump();
            c.bump();
            let id = c.field("kfunc id")?;
            let module = if c.eat(",") { c.field("module")? } else { 0 };
            c.expect(")", "`)`")?;
            Ok(Insn::Call(Call::Kfunc { id, module }).into())
        }
        (Tok::Name(_) | Tok::Str(_) | Tok::Local { .. }, _) => {
            let symbol = Some(symbol(c)?);
            let insn = Insn::Call(Call::Subprog(0));
            Ok(Statement { insn, symbol })
        }
        _ => c.expected("a function"),
    }
}
