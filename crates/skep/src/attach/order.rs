//! The place of a program among others at the same hook.

use skep_abi::AttachType;
use skep_bpf::{Backend, Handle, LinkCreate, LinkTarget, Result};
use std::sync::Arc;

/// Where among the programs of a device or control group.
///
/// ```
/// # use skep::attach::{Direction, Hook, Link, Order, Other, attach};
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let code = || vec![skep_isa::Slot::new(0xb7, 0, 0, 0, -1), skep_isa::Slot::new(0x95, 0, 0, 0, 0)];
/// # let load = || backend.prog_load(&skep_bpf::ProgLoad::plain(skep_abi::ProgType::SchedCls, code()));
/// # let (one, two) = (load()?, load()?);
/// # let ifindex = universe.add_device("eth0")?;
/// let direction = Direction::Ingress;
/// let hook = |order| Hook::Tc { ifindex, direction, order };
/// let last: Link = attach(&backend, one, &hook(Order::Last))?;
/// let first: Link = attach(&backend, two, &hook(Order::First))?;
/// let runs = universe.receive(ifindex, &[0; 64])?.runs;
/// let ids = |link: &Link| link.handle().and_then(|h| backend.link_info(h).ok()).map(|i| i.id);
/// assert_eq!(Some(runs[0].0), ids(&first));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// Behind all others.
    #[default]
    Last,
    /// Before all others.
    First,
    /// Before another one.
    Before(Other),
    /// Behind another one.
    After(Other),
}

/// Another program at the hook.
///
/// ```
/// # use skep::attach::{Direction, Hook, Link, Order, Other, attach};
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let code = || vec![skep_isa::Slot::new(0xb7, 0, 0, 0, -1), skep_isa::Slot::new(0x95, 0, 0, 0, 0)];
/// # let load = || backend.prog_load(&skep_bpf::ProgLoad::plain(skep_abi::ProgType::SchedCls, code()));
/// # let (one, two) = (load()?, load()?);
/// # let ifindex = universe.add_device("eth0")?;
/// let direction = Direction::Ingress;
/// let hook = |order| Hook::Tc { ifindex, direction, order };
/// let link = attach(&backend, one, &hook(Order::Last))?;
/// let other = Other::Link(link.handle().ok_or("no link")?);
/// let before = attach(&backend, two, &hook(Order::Before(other)))?;
/// assert_eq!(universe.receive(ifindex, &[0; 64])?.runs.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Other {
    /// An open program.
    Program(Handle),
    /// A program by id.
    ProgramId(u32),
    /// An open link.
    Link(Handle),
    /// A link by id.
    LinkId(u32),
}

const BPF_F_BEFORE: u32 = 1 << 3;
const BPF_F_AFTER: u32 = 1 << 4;
const BPF_F_ID: u32 = 1 << 5;
const BPF_F_LINK: u32 = 1 << 13;

impl Other {
    /// Flags and number of the command.
    fn parts(self) -> (u32, u32) {
        match self {
            Self::Program(handle) => (0, handle.0.cast_unsigned()),
            Self::ProgramId(id) => (BPF_F_ID, id),
            Self::Link(handle) => (BPF_F_LINK, handle.0.cast_unsigned()),
            Self::LinkId(id) => (BPF_F_LINK | BPF_F_ID, id),
        }
    }
}

impl Order {
    /// Flags and number of the command; handles are descriptors in the kernel backend.
    #[must_use]
    pub fn parts(self) -> (u32, u32) {
        let with = |flag, other: Other| {
            let (flags, number) = other.parts();
            (flags | flag, number)
        };
        match self {
            Self::Last => (0, 0),
            Self::First => (BPF_F_BEFORE, 0),
            Self::Before(other) => with(BPF_F_BEFORE, other),
            Self::After(other) => with(BPF_F_AFTER, other),
        }
    }
}

/// Attaches at a place in the row of a device or control group.
pub(super) fn attach(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    target: u32,
    attach_type: AttachType,
    order: Order,
) -> Result<super::Link> {
    let (flags, relative) = order.parts();
    let target = LinkTarget::Ordered {
        target,
        relative,
        revision: 0,
    };
    let create = LinkCreate {
        prog,
        attach_type,
        target,
        flags,
    };
    super::Link::of(backend, &create, None)
}
