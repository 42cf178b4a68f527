//! Instructions as text, with the names of what they call and load.

use super::names;
use crate::request::{MapDesc, Request};
use skep_abi::helper;
use skep_isa::{Call, Imm64, Insn};

/// The instruction at slot `at`: `call bpf_map_lookup_elem#1`, `r2 = table ll`; `None` if there is none.
#[must_use]
pub fn instruction_text(req: &Request<'_>, at: usize) -> Option<String> {
    let insn = skep_isa::decode(req.insns, at).ok()?;
    let named = match &insn {
        Insn::Call(call) => callee(req, at, call),
        Insn::LoadImm64 { dst, imm } => {
            loaded(req, at, imm).map(|name| format!("{dst} = {name} ll"))
        }
        _ => None,
    };
    Some(named.unwrap_or_else(|| insn.to_string()))
}

fn callee(req: &Request<'_>, at: usize, call: &Call) -> Option<String> {
    match call {
        Call::Helper(number) => {
            let proto = helper::by_id(u32::try_from(*number).ok()?)?;
            Some(format!("call {}#{number}", proto.name))
        }
        // The number is the kernel's BTF id: another on every kernel.
        Call::Kfunc { id, module: 0 } => {
            let func = req.kernel_btf?.get(u32::try_from(*id).ok()?)?;
            Some(format!("call {}", func.name()))
        }
        Call::Subprog(offset) => {
            let target = (at + 1).checked_add_signed(*offset as isize)?;
            Some(format!("call {}", function_name(req, target)?))
        }
        Call::Kfunc { .. } => None,
    }
}

fn loaded(req: &Request<'_>, at: usize, imm: &Imm64) -> Option<String> {
    let map = |index: i32| req.maps.get(usize::try_from(index).ok()?);
    match *imm {
        Imm64::MapFd(index) | Imm64::MapIdx(index) => Some(map(index)?.name.clone()),
        Imm64::MapFdValue { fd: index, offset } | Imm64::MapIdxValue { index, offset } => {
            Some(value(req, map(index)?, offset))
        }
        Imm64::Func(offset) => {
            let target = (at + 1).checked_add_signed(offset as isize)?;
            Some(function_name(req, target)?.to_owned())
        }
        Imm64::BtfId { id, fd: 0 } => {
            let variable = req.kernel_btf?.get(u32::try_from(id).ok()?)?;
            Some(variable.name().to_owned())
        }
        Imm64::Value(_) | Imm64::BtfId { .. } => None,
    }
}

/// A place in a data section or other map with one value.
fn value(req: &Request<'_>, map: &MapDesc, offset: u32) -> String {
    let variable =
        names::section_of(map).and_then(|section| names::variable(req.btf?, section, offset));
    let (name, inside) = match variable {
        Some(v) => (v.name, offset - v.offset),
        None => (map.name.clone(), offset),
    };
    if inside == 0 {
        name
    } else {
        format!("{name}+{inside}")
    }
}

/// Name of the function that starts at slot `start`.
fn function_name<'a>(req: &Request<'a>, start: usize) -> Option<&'a str> {
    let info = req.func_info.iter().find(|f| f.insn as usize == start)?;
    Some(req.btf?.get(info.type_id)?.name())
}
