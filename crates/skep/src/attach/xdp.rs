//! XDP through links.

use super::Link;
use skep_abi::AttachType;
use skep_bpf::{Backend, Handle, LinkCreate, LinkTarget, Result};
use std::sync::Arc;

/// Who runs an XDP program.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../examples/packets.bpf.o")?, "packets.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::attach::{Hook, XdpMode, attach};
///
/// let ifindex = universe.add_device("eth0")?;
/// let hook = |mode| Hook::Xdp { ifindex, mode };
/// let program = loaded.programs[0].handle;
/// let link = attach(&backend, program, &hook(XdpMode::Generic))?;
/// // The stack and the driver do not both run one.
/// let both = attach(&backend, program, &hook(XdpMode::Native)).unwrap_err();
/// assert_eq!(both.errno, skep_bpf::Errno::EEXIST);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
