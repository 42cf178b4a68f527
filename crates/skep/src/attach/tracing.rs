//! Tracepoints, raw tracepoints, and programs that were loaded for one kernel function.

use super::{Ends, Link, elf, perf, refused};
use crate::kernel::tracefs::Tracefs;
use skep_abi::AttachType;
use skep_bpf::{Backend, Errno, Error, Handle, LinkCreate, LinkTarget, Result};
use std::sync::Arc;

/// Attaches to `category:name` through a perf event.
pub(super) fn tracepoint(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    category: &str,
    name: &str,
    cookie: u64,
) -> Result<Link> {
    let what = format!("perf_event_open of tracepoint \"{category}:{name}\"");
    let id = Tracefs::open()
        .and_then(|t| t.tracepoint_id(category, name))
        .map_err(|e| refused(&what, &e))?;
    let scope = skep_sys::perf::Scope::of_process(None);
    let event = skep_sys::perf::tracepoint(id, scope).map_err(|e| refused(&what, &e))?;
    perf::link(backend, prog, event, cookie)
}

/// Attaches to a raw tracepoint by name.
pub(super) fn raw_tracepoint(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    name: &str,
    cookie: u64,
) -> Result<Link> {
    let target = LinkTarget::RawTracepoint {
        name: name.to_owned(),
        cookie,
    };
    let create = LinkCreate {
        prog,
        attach_type: AttachType::TraceRawTp,
        target,
        flags: 0,
    };
    Link::of(backend, &create, None)
}

/// Attaches to what the program was loaded for.
pub(super) fn loaded(backend: &Arc<dyn Backend>, prog: Handle, cookie: u64) -> Result<Link> {
    let target = LinkTarget::Loaded { cookie };
    let create = LinkCreate {
        prog,
        attach_type: AttachType::TraceFentry,
        target,
        flags: 0,
    };
    Link::of(backend, &create, None)
}

/// Attaches to a function of another program.
pub(super) fn function(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    other: Handle,
    name: &str,
    cookie: u64,
) -> Result<Link> {
    let found = crate::load::function_id(backend.as_ref(), other, name)?;
    let btf_id = found.ok_or_else(|| Error {
        errno: Errno::ENOENT,
        what: "BPF_LINK_CREATE".to_owned(),
        detail: format!("the other program has no function \"{name}\""),
        log: String::new(),
    })?;
    let create = LinkCreate {
        prog,
        // Programs that replace functions have no attach type; this is its number.
        attach_type: AttachType::CgroupInetIngress,
        target: LinkTarget::Function {
            prog: other,
            btf_id,
            cookie,
        },
        flags: 0,
    };
    Link::of(backend, &create, None)
}

/// Attaches to several kernel functions with one link; names may be patterns.
pub(super) fn kprobe_multi(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    names: &[String],
    ends: Ends,
    cookie: u64,
) -> Result<Link> {
    let mut symbols = Vec::new();
    for name in names {
        if elf::is_pattern(name) {
            symbols.extend(matching(name)?);
        } else {
            symbols.push(name.clone());
        }
    }
    let cookies = if cookie == 0 {
        Vec::new()
    } else {
        vec![cookie; symbols.len()]
    };
    let target = LinkTarget::KprobeMulti {
        symbols,
        cookies,
        ret: ends == Ends::Return,
    };
    let attach_type = match ends {
        Ends::Session => AttachType::TraceKprobeSession,
        Ends::Entry | Ends::Return => AttachType::TraceKprobeMulti,
    };
    let create = LinkCreate {
        prog,
        attach_type,
        target,
        flags: 0,
    };
    Link::of(backend, &create, None)
}

/// Functions of the kernel that match a pattern: those that can be traced, where the kernel lists them.
fn matching(pattern: &str) -> Result<Vec<String>> {
    let what = format!("functions of the kernel that match \"{pattern}\"");
    let traceable =
        Tracefs::open().and_then(|t| std::fs::read_to_string(t.path("available_filter_functions")));
    let (text, column) = match traceable {
        Ok(text) => (text, 0),
        Err(_) => {
            let symbols = std::fs::read_to_string("/proc/kallsyms");
            (symbols.map_err(|e| refused(&what, &e))?, 2)
        }
    };
    let mut found: Vec<String> = text
        .lines()
        .filter(|l| {
            column == 0
                || l.split_whitespace()
                    .nth(1)
                    .is_some_and(|t| "tT".contains(t))
        })
        .filter_map(|l| l.split_whitespace().nth(column))
        .filter(|name| elf::matches(pattern.as_bytes(), name.as_bytes()))
        .map(str::to_owned)
        .collect();
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        let none = std::io::Error::from_raw_os_error(Errno::ENOENT.0);
        return Err(refused(&what, &none));
    }
    Ok(found)
}
