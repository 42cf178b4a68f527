//! Tracepoints, raw tracepoints, and programs that were loaded for one kernel function.

use super::{Link, perf, refused};
use crate::kernel::tracefs::Tracefs;
use skep_abi::AttachType;
use skep_bpf::{Backend, Handle, LinkCreate, LinkTarget, Result};
use std::sync::Arc;

/// Attaches to `category:name` through a perf event.
pub(super) fn tracepoint(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    category: &str,
    name: &str,
) -> Result<Link> {
    let what = format!("perf_event_open of tracepoint \"{category}:{name}\"");
    let id = Tracefs::open()
        .and_then(|t| t.tracepoint_id(category, name))
        .map_err(|e| refused(&what, &e))?;
    let scope = skep_sys::perf::Scope::of_process(None);
    let event = skep_sys::perf::tracepoint(id, scope).map_err(|e| refused(&what, &e))?;
    perf::link(backend, prog, event, 0)
}

/// Attaches to a raw tracepoint by name.
pub(super) fn raw_tracepoint(backend: &Arc<dyn Backend>, prog: Handle, name: &str) -> Result<Link> {
    let target = LinkTarget::RawTracepoint {
        name: name.to_owned(),
        cookie: 0,
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
pub(super) fn loaded(backend: &Arc<dyn Backend>, prog: Handle) -> Result<Link> {
    let target = LinkTarget::Loaded { cookie: 0 };
    let create = LinkCreate {
        prog,
        attach_type: AttachType::TraceFentry,
        target,
        flags: 0,
    };
    Link::of(backend, &create, None)
}
