//! Functions of executables and libraries.

use super::elf::{self, Executable};
use super::{End, Ends, Link, perf, refused};
use skep_abi::AttachType;
use skep_bpf::{Backend, Handle, LinkCreate, LinkTarget, Result};
use skep_sys::perf::Scope;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place in an executable.
///
/// ```no_run
/// # use skep::attach::*;
/// # fn example(kernel: std::sync::Arc<dyn skep_bpf::Backend>, prog: skep_bpf::Handle) -> Result<(), skep_bpf::Error> {
/// let place = Place::Symbol("malloc".to_owned(), 0);
/// let file = "/lib/x86_64-linux-gnu/libc.so.6".into();
/// let hook = Hook::Uprobe(Probe { file, place, end: End::Entry, pid: None });
/// let link = attach(&kernel, prog, &hook)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A function, and bytes into it.
    Symbol(String, u64),
    /// A byte of the file.
    Offset(u64),
}

/// A probe on an executable or library.
///
/// ```no_run
/// # use skep::attach::*;
/// # fn example(kernel: std::sync::Arc<dyn skep_bpf::Backend>, prog: skep_bpf::Handle) -> Result<(), skep_bpf::Error> {
/// let probe = Probe {
///     file: "/usr/bin/bash".into(),
///     place: Place::Symbol("readline".to_owned(), 0),
///     end: End::Return,
///     pid: Some(std::process::id()),
/// };
/// let link = attach(&kernel, prog, &Hook::Uprobe(probe))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// The file; a name without `/` is searched as the loader does, or among what the process has mapped.
    pub file: PathBuf,
    /// Where in it.
    pub place: Place,
    /// At the entry or the return.
    pub end: End,
    /// Only this process.
    pub pid: Option<u32>,
}

/// Attaches to a place in an executable.
pub(super) fn attach(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    probe: &Probe,
    cookie: u64,
) -> Result<Link> {
    let file = elf::find(&probe.file, probe.pid);
    let offset = match &probe.place {
        Place::Symbol(symbol, into) => {
            let bytes = elf::read(&file)?;
            Executable::parse(&bytes, &file)?
                .function(symbol)?
                .wrapping_add(*into)
        }
        Place::Offset(offset) => *offset,
    };
    let what = format!(
        "perf_event_open of uprobe \"{}\"+{offset:#x}",
        file.display()
    );
    let path = skep_sys::bpf::path_text(&file).map_err(|e| refused(&what, &e))?;
    let scope = Scope::of_process(probe.pid);
    let event = skep_sys::perf::uprobe(&path, offset, 0, probe.end, scope)
        .map_err(|e| refused(&what, &e))?;
    perf::link(backend, prog, event, cookie)
}

/// Attaches to several functions of one file with one link; names may be patterns.
pub(super) fn attach_multi(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    file: &Path,
    symbols: &[String],
    ends: Ends,
    pid: Option<u32>,
    cookie: u64,
) -> Result<Link> {
    let path = elf::find(file, pid);
    let bytes = elf::read(&path)?;
    let executable = Executable::parse(&bytes, &path)?;
    let mut offsets = Vec::new();
    for symbol in symbols {
        if elf::is_pattern(symbol) {
            offsets.extend(executable.matching(symbol)?);
        } else {
            offsets.push(executable.function(symbol)?);
        }
    }
    let cookies = if cookie == 0 {
        Vec::new()
    } else {
        vec![cookie; offsets.len()]
    };
    let target = LinkTarget::UprobeMulti {
        path,
        offsets,
        counters: Vec::new(),
        cookies,
        pid: pid.unwrap_or(0),
        ret: ends == Ends::Return,
    };
    let attach_type = match ends {
        Ends::Session => AttachType::TraceUprobeSession,
        Ends::Entry | Ends::Return => AttachType::TraceUprobeMulti,
    };
    Link::of(
        backend,
        &LinkCreate {
            prog,
            attach_type,
            target,
            flags: 0,
        },
        None,
    )
}
