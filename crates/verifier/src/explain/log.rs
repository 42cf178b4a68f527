//! The failing path in the form of the kernel's log.

use super::record;
use super::record::PathStep;
use super::scene::Scene;
use crate::reg::{Flags, Kind, Reg};
use crate::rejection::Rejection;
use crate::request::Request;
use std::fmt::Write;

/// The failing path as the kernel logs it: at level 1 what each instruction changed, at level 2 every register too.
#[must_use]
pub fn kernel_log(req: &Request<'_>, rejection: &Rejection, level: u32) -> String {
    let mut log = String::new();
    let Some((program, steps)) = record::failing_path(req, rejection.insns_processed, &[]) else {
        return log;
    };
    let scene = Scene::new(req, rejection, &program, &steps);
    let mut last_line = 0;
    for (i, step) in steps.iter().enumerate() {
        // Writing to a string cannot fail.
        if i == 0 {
            let _ = writeln!(log, "{}: {}", step.insn, all(step));
        }
        if let Some(line) = scene.line(step.insn).filter(|l| l.number != last_line) {
            last_line = line.number;
            let file = scene.file(step.insn).unwrap_or_default();
            let _ = writeln!(log, "; {} @ {file}:{}", line.text.trim(), line.number);
        }
        let Some(Ok(insn)) = program.insns.get(step.insn) else {
            continue;
        };
        let code = program.slots[step.insn].code;
        let text = format!("{}: ({code:02x}) {insn}", step.insn);
        let after = steps
            .get(i + 1)
            .map_or_else(String::new, |next| match level {
                2 => all(next),
                _ => changed(step, next),
            });
        let _ = if after.is_empty() {
            writeln!(log, "{text}")
        } else {
            writeln!(log, "{text:<37} ; {after}")
        };
    }
    log
}

/// Every register of the innermost frame that has a value.
fn all(step: &PathStep) -> String {
    let Some(frame) = step.frames.last() else {
        return String::new();
    };
    let regs = frame
        .regs
        .iter()
        .enumerate()
        .filter(|(_, r)| r.kind != Kind::NotInit);
    let texts: Vec<String> = regs.map(|(i, r)| format!("R{i}={}", value(r))).collect();
    texts.join(" ")
}

/// The registers that an instruction changed.
fn changed(before: &PathStep, after: &PathStep) -> String {
    let (Some(old), Some(new)) = (before.frames.last(), after.frames.last()) else {
        return String::new();
    };
    if before.frames.len() != after.frames.len() {
        return all(after);
    }
    let regs = new
        .regs
        .iter()
        .enumerate()
        .filter(|(i, r)| **r != old.regs[*i] && r.kind != Kind::NotInit);
    let texts: Vec<String> = regs.map(|(i, r)| format!("R{i}={}", value(r))).collect();
    texts.join(" ")
}

/// A register's value as the kernel abbreviates it.
fn value(r: &Reg) -> String {
    let null = if r.flags.has(Flags::NULLABLE) {
        "_or_null"
    } else {
        ""
    };
    let name = match r.kind {
        Kind::NotInit => "?",
        Kind::Scalar => return scalar(r),
        Kind::Ctx => "ctx",
        Kind::ConstMap => "map_ptr",
        Kind::MapValue => "map_value",
        Kind::MapKey => "map_key",
        Kind::Stack => return format!("fp{}", r.fixed_offset().unwrap_or(0)),
        Kind::PktMeta => "pkt_meta",
        Kind::Pkt => return format!("pkt(off={},r={})", r.off, r.aux.cast_signed()),
        Kind::PktEnd => "pkt_end",
        Kind::FlowKeys => "flow_keys",
        Kind::Socket => "sock",
        Kind::SockCommon => "sock_common",
        Kind::TcpSock => "tcp_sock",
        Kind::XdpSock => "xdp_sock",
        Kind::TpBuffer => "tp_buffer",
        Kind::Btf => "ptr_",
        Kind::Mem if r.flags.has(Flags::RINGBUF) => "ringbuf_mem",
        Kind::Mem => "mem",
        Kind::Func => "func",
        Kind::Arena => "arena",
        Kind::Dynptr => "dynptr_ptr",
        Kind::Iter => "iter",
        Kind::IrqFlag => "irq_flag",
    };
    let reference = if r.ref_id == 0 {
        String::new()
    } else {
        format!("ref_obj_id={}", r.ref_id)
    };
    format!("{name}{null}({reference})")
}

fn scalar(r: &Reg) -> String {
    let s = &r.var;
    if let Some(value) = s.as_const() {
        return value.cast_signed().to_string();
    }
    let mut parts = Vec::new();
    if s.smin != i64::MIN && s.smin != 0 {
        parts.push(format!("smin={}", s.smin));
    }
    if s.smax != i64::MAX {
        parts.push(format!("smax={}", s.smax));
    }
    if s.umin != 0 {
        parts.push(format!("umin={}", s.umin));
    }
    if s.umax != u64::MAX {
        parts.push(format!("umax={}", s.umax));
    }
    if s.bits.mask != u64::MAX {
        parts.push(format!(
            "var_off=(0x{:x}; 0x{:x})",
            s.bits.value, s.bits.mask
        ));
    }
    format!("scalar({})", parts.join(","))
}
