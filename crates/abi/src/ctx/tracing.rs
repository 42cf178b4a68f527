//! Contexts of tracing programs: registers, perf events, tracepoints, raw tracepoints; and of syscall programs.

use super::{Access, CtxAccess, CtxDenied, Yields};

/// Bytes of `struct pt_regs` on x86-64.
pub(super) const PT_REGS_SIZE: u32 = 168;
/// Bytes of `struct bpf_perf_event_data`: the registers, `sample_period`, `addr`.
const PERF_EVENT_SIZE: u32 = PT_REGS_SIZE + 16;
/// `PERF_MAX_TRACE_SIZE`
const TRACEPOINT_SIZE: i32 = 8192;
/// Bytes of a tracepoint record that are not for programs.
const TRACEPOINT_HIDDEN: i32 = 8;
/// Arguments of a raw tracepoint (`MAX_BPF_FUNC_ARGS`), in bytes.
const RAW_TRACEPOINT_SIZE: u32 = 12 * 8;
/// Largest context of a syscall program (`U16_MAX`).
pub(super) const SYSCALL_CTX_MAX: u32 = 0xffff;

/// Names of the registers in `struct pt_regs` on x86-64, 8 bytes each.
const REGISTERS: [&str; 21] = [
    "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di",
    "orig_ax", "ip", "cs", "flags", "sp", "ss",
];

/// A number that lies at `at`.
fn scalar(field: &'static str, offset: u32, size: u32) -> CtxAccess {
    CtxAccess {
        field,
        offset,
        size,
        yields: Yields::Scalar,
    }
}

/// Checks bounds and alignment of a read of plain bytes; yields the offset.
fn plain(
    name: &'static str,
    limit: u32,
    offset: i32,
    size: u32,
    kind: Access,
) -> Result<u32, CtxDenied> {
    let at = u32::try_from(offset).map_err(|_| CtxDenied::NoField)?;
    if at >= limit {
        return Err(CtxDenied::NoField);
    }
    if kind == Access::Write {
        return Err(CtxDenied::ReadOnly(name));
    }
    if !at.is_multiple_of(size) || at + size > limit {
        return Err(CtxDenied::Size(name));
    }
    Ok(at)
}

/// `struct pt_regs`. Source: `kprobe_prog_is_valid_access`.
pub(super) fn registers(offset: i32, size: u32, kind: Access) -> Result<CtxAccess, CtxDenied> {
    let at = plain("pt_regs", PT_REGS_SIZE, offset, size, kind)?;
    Ok(register(at))
}

/// The register that byte `at` belongs to.
fn register(at: u32) -> CtxAccess {
    let name = REGISTERS
        .get(usize::try_from(at / 8).unwrap_or(usize::MAX))
        .copied()
        .unwrap_or("pt_regs");
    scalar(name, at / 8 * 8, 8)
}

/// `struct bpf_perf_event_data`: registers only whole, the two fields behind them also in pieces. Source:
/// `pe_prog_is_valid_access`.
pub(super) fn perf_event(offset: i32, size: u32, kind: Access) -> Result<CtxAccess, CtxDenied> {
    let at = plain("bpf_perf_event_data", PERF_EVENT_SIZE, offset, size, kind)?;
    if at < PT_REGS_SIZE {
        return if size == 8 {
            Ok(register(at))
        } else {
            Err(CtxDenied::Size("regs"))
        };
    }
    let name = if at < PT_REGS_SIZE + 8 {
        "sample_period"
    } else {
        "addr"
    };
    Ok(scalar(name, at / 8 * 8, 8))
}

/// The record of a tracepoint. The kernel compares the offset with an unsigned size, so that negative offsets pass. Source:
/// `tp_prog_is_valid_access`.
pub(super) fn tracepoint(offset: i32, size: u32, kind: Access) -> Result<CtxAccess, CtxDenied> {
    if (0..TRACEPOINT_HIDDEN).contains(&offset) || offset >= TRACEPOINT_SIZE {
        return Err(CtxDenied::NoField);
    }
    if kind == Access::Write {
        return Err(CtxDenied::ReadOnly("record"));
    }
    if !offset.unsigned_abs().is_multiple_of(size) {
        return Err(CtxDenied::Size("record"));
    }
    Ok(scalar("record", 0, TRACEPOINT_SIZE.unsigned_abs()))
}

/// Arguments of a raw tracepoint. Source: `raw_tp_prog_is_valid_access`, `raw_tp_writable_prog_is_valid_access`.
pub(super) fn raw_tracepoint(
    writable: bool,
    offset: i32,
    size: u32,
    kind: Access,
) -> Result<CtxAccess, CtxDenied> {
    let at = plain("args", RAW_TRACEPOINT_SIZE, offset, size, kind)?;
    if !(writable && at == 0) {
        return Ok(scalar("args", at / 8 * 8, 8));
    }
    if size != 8 {
        return Err(CtxDenied::Size("args"));
    }
    Ok(CtxAccess {
        field: "args",
        offset: 0,
        size: 8,
        yields: Yields::TpBuffer,
    })
}

/// Plain memory that may be written. Source: `syscall_prog_is_valid_access`.
pub(super) fn memory(limit: u32, offset: i32, size: u32) -> Result<CtxAccess, CtxDenied> {
    let at = u32::try_from(offset).map_err(|_| CtxDenied::NoField)?;
    if at >= limit {
        return Err(CtxDenied::NoField);
    }
    if !at.is_multiple_of(size) {
        return Err(CtxDenied::Size("ctx"));
    }
    Ok(scalar("ctx", 0, limit))
}
