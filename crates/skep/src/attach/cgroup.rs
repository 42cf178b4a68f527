//! Hooks of a control group or network namespace: a link to the open folder or file.

use super::{Link, refused};
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
) -> Result<Link> {
    let what = format!("open of \"{}\"", path.display());
    let file = std::fs::File::open(path).map_err(|e| refused(&what, &e))?;
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
