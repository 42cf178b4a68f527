//! `cargo xtask probe`: the tables of `abi` against the running kernel, cell by cell (root; nothing is attached).
//!
//! Each cell is one load of two or three instructions. Helpers: `call N`. Context: one load or store of `r1` at each offset.
//! Kfuncs: one call. Return values: a random `r0`. What this kernel does not load at all is skipped and counted.

use crate::TaskError;
use skep::Kernel;
use skep::feature::ask::{EXIT, HELPERS_END, Subject, call, call_kfunc, set, subjects};
use skep::target::running_btf;
use skep_abi::ctx::{self, Access};
use skep_abi::helper::{self, Unavailable};
use skep_abi::prog::{self, TargetReturns};
use skep_abi::{AttachType, kfunc};
use skep_btf::{Btf, Kind};
use skep_isa::Slot;

/// Offsets of the context that are tried.
const OFFSETS: core::ops::Range<i16> = -24..408;
/// Differences that are printed.
const PRINTED_MAX: usize = 40;

/// Cells compared so far.
#[derive(Default)]
struct Tally {
    /// Cells.
    cells: usize,
    /// Cells where table and kernel differ.
    differences: usize,
}

impl Tally {
    /// Counts one cell; `what` is said if the two differ.
    fn compare(&mut self, table: &str, kernel: &str, what: impl FnOnce() -> String) {
        self.cells += 1;
        if table != kernel {
            self.differences += 1;
            if self.differences <= PRINTED_MAX {
                println!("{}: table {table}, kernel {kernel}", what());
            }
        }
    }
}

/// The word for an answer.
fn word(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "refused" }
}

/// Says which subject a difference is about.
fn place(subject: &Subject) -> String {
    let attach = subject.attach.map_or("-", AttachType::name);
    format!("{} {attach} {}", subject.prog_type, subject.target.1)
}

/// Availability of every helper.
fn helpers(kernel: &Kernel, subject: &Subject, tally: &mut Tally) {
    for id in 0..HELPERS_END {
        let log = subject
            .load(kernel, &[call(id), EXIT])
            .err()
            .map_or_else(String::new, |e| e.log);
        let said = if log.contains("invalid func") {
            "unknown"
        } else if log.contains("program of this type cannot use helper") {
            "type"
        } else if log.contains("not allowed in probe") {
            "target"
        } else {
            "available"
        };
        let ours = match helper::lookup(&subject.env(), id) {
            Ok(_) => "available",
            Err(Unavailable::Unknown) => "unknown",
            Err(Unavailable::Target) => "target",
            Err(_) => "type",
        };
        tally.compare(ours, said, || {
            format!("{} helper {}", place(subject), helper::kernel_name(id))
        });
    }
}

/// Reads and writes of every offset of the context.
fn context(kernel: &Kernel, subject: &Subject, tally: &mut Tally) {
    if matches!(ctx::layout(&subject.env()), ctx::Layout::Btf) {
        return;
    }
    for offset in OFFSETS {
        for (size, code) in [(1u32, 0x10u8), (2, 0x08), (4, 0x00), (8, 0x18)] {
            let read = [Slot::new(0x61 | code, 0, 1, offset, 0), set(0), EXIT];
            let write = [set(0), Slot::new(0x63 | code, 1, 0, offset, 0), EXIT];
            for (kind, insns) in [(Access::Read, read), (Access::Write, write)] {
                let result = subject.load(kernel, &insns);
                let allowed = result
                    .err()
                    .is_none_or(|e| !e.log.contains("invalid bpf_context access"));
                let ours = ctx::access(&subject.env(), i32::from(offset), size, kind).is_ok();
                tally.compare(word(ours), word(allowed), || {
                    format!("{} {kind:?} {size} bytes at {offset}", place(subject))
                });
            }
        }
    }
}

/// Availability of every kfunc.
fn kfuncs(kernel: &Kernel, btf: &Btf, subject: &Subject, tally: &mut Tally) {
    for row in kfunc::KFUNCS {
        let Some(id) = btf.find_by_name_kind(row.name, Kind::Func) else {
            continue;
        };
        let result = subject.load(kernel, &[call_kfunc(id), set(0), EXIT]);
        let allowed = result
            .err()
            .is_none_or(|e| !e.log.contains("is not allowed"));
        tally.compare(word(row.available(&subject.env())), word(allowed), || {
            format!("{} kfunc {}", place(subject), row.name)
        });
    }
}

/// The range of return values.
fn returns(kernel: &Kernel, subject: &Subject, tally: &mut Tally) {
    let result = subject.load(kernel, &[call(helper::id::GET_PRANDOM_U32), EXIT]);
    let log = result.err().map_or_else(String::new, |e| e.log);
    let said = log
        .split("should have been in ")
        .nth(1)
        .and_then(|text| text.split(']').next());
    let ours = prog::ret_range(&subject.env(), TargetReturns::Value)
        .map(|r| format!("[{}, {}", r.min, r.max));
    tally.compare(
        ours.as_deref().unwrap_or("any"),
        said.unwrap_or("any"),
        || format!("{} return value", place(subject)),
    );
}

/// Runs the task.
pub(crate) fn run(_arguments: &[String]) -> Result<(), TaskError> {
    let kernel = Kernel::new();
    let btf = running_btf().map_err(|e| e.to_string())?;
    let (mut tally, mut skipped) = (Tally::default(), Vec::new());
    for subject in subjects(&btf) {
        if !subject.loads(&kernel) {
            skipped.push(place(&subject));
            continue;
        }
        helpers(&kernel, &subject, &mut tally);
        context(&kernel, &subject, &mut tally);
        kfuncs(&kernel, &btf, &subject, &mut tally);
        returns(&kernel, &subject, &mut tally);
    }
    println!("not loaded by this kernel: {}", skipped.join(", "));
    println!(
        "{}",
        serde_json::json!({"probe": "abi", "cells": tally.cells, "differences": tally.differences})
    );
    if tally.differences == 0 {
        Ok(())
    } else {
        Err(format!("{} differences", tally.differences))
    }
}
