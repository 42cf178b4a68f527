//! XDP through links.

use super::Link;
use skep_abi::AttachType;
use skep_bpf::{Backend, Handle, LinkCreate, LinkTarget, Result};
use std::sync::Arc;

/// Who runs an XDP program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum XdpMode {
    /// The driver if it can, else the stack.
    #[default]
    Any,
    /// The driver.
    Native,
    /// The stack.
    Generic,
}

impl XdpMode {
    /// `XDP_FLAGS_*`
    fn flags(self) -> u32 {
        match self {
            Self::Any => 0,
            Self::Generic => 1 << 1,
            Self::Native => 1 << 2,
        }
    }
}

/// Attaches to a device.
pub(super) fn attach(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    ifindex: u32,
    mode: XdpMode,
) -> Result<Link> {
    let target = LinkTarget::Ifindex(ifindex);
    let create = LinkCreate {
        prog,
        attach_type: AttachType::Xdp,
        target,
        flags: mode.flags(),
    };
    Link::of(backend, &create, None)
}
