//! Hooks of a control group or network namespace: a link to the open folder or file.

use super::{Link, Order, refused};
use skep_abi::AttachType;
use skep_bpf::{Backend, Handle, LinkCreate, LinkTarget, Result};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

/// Attaches to the group or namespace at `path`.
pub(super) fn attach(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    path: &Path,
    attach_type: AttachType,
    order: Order,
) -> Result<Link> {
    let what = format!("open of \"{}\"", path.display());
    let file = std::fs::File::open(path).map_err(|e| refused(&what, &e))?;
    if order != Order::Last {
        let target = file.as_raw_fd().cast_unsigned();
        return super::order::attach(backend, prog, target, attach_type, order);
    }
    let target = LinkTarget::Fd {
        fd: file.as_raw_fd(),
        cookie: 0,
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
