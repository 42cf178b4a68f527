//! Hooks that are events of `perf_event_open(2)`.

use super::{End, Link, Rate, refused};
use skep_abi::AttachType;
use skep_bpf::{Backend, Handle, LinkCreate, LinkTarget, Result};
use skep_sys::perf::{self, Scope};
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
    symbol: &str,
    offset: u64,
    end: End,
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
    link(backend, prog, event, 0)
}

/// Attaches to a sampling event on every CPU, or of one process.
pub(super) fn sampling(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    (kind, config): (u32, u64),
    rate: Rate,
    pid: Option<u32>,
) -> Result<Link> {
    let event = perf::sampling(kind, config, rate, Scope::of_process(pid))
        .map_err(|e| refused("perf_event_open of a sampling event", &e))?;
    link(backend, prog, event, 0)
}
