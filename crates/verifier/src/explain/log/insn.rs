//! Instructions as the kernel's log writes them.

use crate::explain::scene::Scene;
use skep_isa::disasm::jmp_symbol;
use skep_isa::{AtomicOp, Call, Extend, Imm64, Insn, Reg, Size, Src, Width};

/// A place in memory.
fn memory(sign: char, size: Size, base: Reg, offset: i16) -> String {
    format!("*({sign}{} *)({base} {offset:+})", size.bits())
}

fn named(width: Width, reg: Reg) -> String {
    let letter = if width == Width::W32 { 'w' } else { 'r' };
    format!("{letter}{}", reg.index())
}

/// The instruction at slot `at`.
pub(super) fn text(scene: &Scene<'_>, at: usize, insn: &Insn) -> String {
    match *insn {
        Insn::Load {
            size,
            extend,
            dst,
            src,
            offset,
        } => {
            let sign = if extend == Extend::Sign { 's' } else { 'u' };
            format!("{dst} = {}", memory(sign, size, src, offset))
        }
        Insn::Store {
            size,
            dst,
            src,
            offset,
        } => {
            let value = match src {
                Src::Reg(src) => src.to_string(),
                Src::Imm(imm) => imm.to_string(),
            };
            format!("{} = {value}", memory('u', size, dst, offset))
        }
        Insn::LoadAcquire {
            size,
            dst,
            src,
            offset,
        } => {
            format!(
                "{dst} = load_acquire(({})",
                &memory('u', size, src, offset)[2..]
            )
        }
        Insn::StoreRelease {
            size,
            dst,
            src,
            offset,
        } => {
            format!(
                "store_release(({}, {src})",
                &memory('u', size, dst, offset)[2..]
            )
        }
        Insn::Atomic {
            size,
            op,
            dst,
            src,
            offset,
        } => atomic(size, op, dst, (src, offset)),
        Insn::LoadInd { size, src, imm } => format!("r0 = *(u{} *)skb[{src} + {imm}]", size.bits()),
        Insn::Jump { offset, long } => format!("goto{} pc{offset:+}", if long { "l" } else { "" }),
        Insn::MayGoto { offset } => format!("may_goto pc{offset:+}"),
        Insn::JumpIf {
            width,
            op,
            dst,
            src,
            offset,
        } => {
            let operand = match src {
                Src::Reg(src) => named(width, src),
                Src::Imm(imm) => format!("{imm:#x}"),
            };
            format!(
                "if {} {} {operand} goto pc{offset:+}",
                named(width, dst),
                jmp_symbol(op)
            )
        }
        Insn::LoadImm64 { dst, imm } => format!("{dst} = {}", wide(scene, at, imm)),
        Insn::Call(call) => called(scene, at, call),
        _ => insn.to_string(),
    }
}

fn atomic(size: Size, op: AtomicOp, dst: Reg, (src, offset): (Reg, i16)) -> String {
    let place = memory('u', size, dst, offset);
    let (name, symbol) = match op {
        AtomicOp::Add { .. } => ("add", '+'),
        AtomicOp::Or { .. } => ("or", '|'),
        AtomicOp::And { .. } => ("and", '&'),
        AtomicOp::Xor { .. } => ("xor", '^'),
        AtomicOp::Xchg => ("xchg", ' '),
        AtomicOp::Cmpxchg => ("cmpxchg", ' '),
    };
    let wide = if size == Size::DW { "64" } else { "" };
    // `*(u64 *)(r1 +0)` without its star is the pointer.
    let pointer = format!("({}", &place[2..]);
    match op {
        AtomicOp::Cmpxchg => format!("r0 = atomic{wide}_cmpxchg({pointer}, r0, {src})"),
        AtomicOp::Xchg => format!("{src} = atomic{wide}_xchg({pointer}, {src})"),
        _ if op.fetches() => format!("{src} = atomic{wide}_fetch_{name}({pointer}, {src})"),
        _ => format!("lock {place} {symbol}= {src}"),
    }
}

/// What a wide instruction loads. Addresses are not known before the program is loaded: maps are given by name.
fn wide(scene: &Scene<'_>, at: usize, imm: Imm64) -> String {
    let map = |index: i32| {
        let index = usize::try_from(index).ok()?;
        Some(scene.req.maps.get(index)?.name.as_str())
    };
    match imm {
        Imm64::Value(value) => format!("{value:#x}"),
        Imm64::MapFd(index) | Imm64::MapIdx(index) => map(index).unwrap_or("0").to_owned(),
        Imm64::MapFdValue { fd: index, offset } | Imm64::MapIdxValue { index, offset } => {
            format!("{}+{offset}", map(index).unwrap_or("0"))
        }
        Imm64::BtfId { id, .. } => format!("{id:#x}"),
        Imm64::Func(offset) => {
            let start = (at + 1).wrapping_add_signed(offset as isize);
            let known = scene.path.program.func_at(start);
            format!("{:#x}", known.map_or(0, |_| offset))
        }
    }
}

fn called(scene: &Scene<'_>, at: usize, call: Call) -> String {
    match call {
        Call::Subprog(offset) => format!("call pc{offset:+}"),
        Call::Helper(number) => match scene.callee(at) {
            Some(name) => format!("call {name}#{number}"),
            None => format!("call unknown#{number}"),
        },
        Call::Kfunc { id, .. } => match scene.callee(at) {
            Some(name) => format!("call {name}#{id}"),
            None => format!("call kernel-function#{id}"),
        },
    }
}
