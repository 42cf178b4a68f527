//! Hooks that are events of `perf_event_open(2)`.

use super::{End, Hold, Link, Rate, Watch, refused};
use skep_abi::AttachType;
use skep_bpf::{Backend, Handle, LinkCreate, LinkTarget, Result};
use skep_sys::perf::{self, Scope};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Runs the program when the event fires.
pub(super) fn link(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    event: OwnedFd,
    cookie: u64,
) -> Result<Link> {
    let target = LinkTarget::Fd {
        fd: event.as_raw_fd(),
        cookie,
    };
    let create = LinkCreate {
        prog,
        attach_type: AttachType::PerfEvent,
        target,
        flags: 0,
    };
    // The link enables the event.
    Link::of(backend, &create, Some(event))
}

/// Attaches to a kernel function.
pub(super) fn kprobe(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    (symbol, offset): (&str, u64),
    end: End,
    cookie: u64,
) -> Result<Link> {
    let what = format!("perf_event_open of kprobe \"{symbol}\"");
    let name = skep_sys::bpf::text(symbol.as_bytes()).map_err(|e| refused(&what, &e))?;
    let event = perf::kprobe(&name, offset, end).map_err(|e| {
        let mut error = refused(&what, &e);
        if !std::path::Path::new("/sys/bus/event_source/devices/kprobe").exists() {
            "this kernel was built without CONFIG_KPROBES".clone_into(&mut error.detail);
        }
        error
    })?;
    link(backend, prog, event, cookie)
}

/// Attaches to accesses to a process's memory.
pub(super) fn watchpoint(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    pid: u32,
    watch: Watch,
    cookie: u64,
) -> Result<Link> {
    let what = format!("perf_event_open of a watchpoint at {:#x}", watch.address);
    let event = perf::watchpoint(watch, Scope::of_process(Some(pid)));
    link(
        backend,
        prog,
        event.map_err(|e| refused(&what, &e))?,
        cookie,
    )
}

/// What to sample: each thread of a process, or each CPU.
fn scopes(pid: Option<u32>) -> io::Result<Vec<Scope>> {
    match pid {
        Some(pid) => {
            let threads = std::fs::read_dir(format!("/proc/{pid}/task"))?;
            let ids = threads
                .flatten()
                .filter_map(|t| t.file_name().to_str()?.parse().ok());
            Ok(ids.map(|tid: i32| Scope { pid: tid, cpu: -1 }).collect())
        }
        None => {
            let online = skep_sys::cpus::online()?;
            Ok(online
                .into_iter()
                .map(|cpu| Scope {
                    pid: -1,
                    cpu: cpu.cast_signed(),
                })
                .collect())
        }
    }
}

/// Attaches to a sampling event on every CPU, or of every thread that a process has.
pub(super) fn sampling(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    (kind, config): (u32, u64),
    rate: Rate,
    pid: Option<u32>,
    cookie: u64,
) -> Result<Link> {
    const WHAT: &str = "perf_event_open of a sampling event";
    let mut links = Vec::new();
    for scope in scopes(pid).map_err(|e| refused(WHAT, &e))? {
        let event = perf::sampling(kind, config, rate, scope).map_err(|e| refused(WHAT, &e))?;
        links.push(link(backend, prog, event, cookie)?);
    }
    Ok(Link {
        backend: Arc::clone(backend),
        hold: Hold::Many(links),
        _event: None,
    })
}
