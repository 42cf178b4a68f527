//! Traffic control: tcx links, and filters of a clsact queueing discipline on kernels without them.

use super::{Link, Order, refused};
use skep_abi::AttachType;
use skep_bpf::{Backend, Errno, Handle, Result};
use skep_sys::netlink;
use std::sync::Arc;

/// Which packets of a device.
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
/// let direction = Direction::Egress;
/// let hook = Hook::Tc { ifindex, direction, order: Order::Last };
/// let link = attach(&backend, one, &hook)?;
/// assert_eq!(universe.send(ifindex, &[0; 64])?.runs.len(), 1);
/// assert_eq!(universe.receive(ifindex, &[0; 64])?.runs.len(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Those that come in.
    Ingress,
    /// Those that go out.
    Egress,
}

impl Direction {
    /// The attach type of tcx.
    pub(super) fn tcx(self) -> AttachType {
        match self {
            Self::Ingress => AttachType::TcxIngress,
            Self::Egress => AttachType::TcxEgress,
        }
    }
}

/// A filter that is to be removed.
pub(super) struct Filter {
    ifindex: u32,
    side: netlink::Side,
    handle: netlink::FilterHandle,
    /// We made the discipline, and remove it too.
    owns_discipline: bool,
}

impl Filter {
    pub(super) fn remove(&self) {
        // The device may be gone; then so is the filter.
        let Ok(mut socket) = netlink::Socket::open() else {
            return;
        };
        let _ = socket.filter_delete(self.ifindex, self.side, self.handle);
        if self.owns_discipline {
            let _ = socket.clsact_delete(self.ifindex);
        }
    }
}

/// Attaches to a device.
pub(super) fn attach(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    ifindex: u32,
    direction: Direction,
    order: Order,
) -> Result<Link> {
    match super::order::attach(backend, prog, ifindex, direction.tcx(), order) {
        Err(error) if error.errno == Errno::EINVAL && order == Order::Last => {
            filter(backend, prog, ifindex, direction).map_err(|_| error)
        }
        done => done,
    }
}

/// Attaches as a filter; the program's handle is its descriptor in the kernel backend.
pub(super) fn filter(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    ifindex: u32,
    direction: Direction,
) -> Result<Link> {
    const WHAT: &str = "netlink for a clsact filter";
    let side = match direction {
        Direction::Ingress => netlink::Side::Ingress,
        Direction::Egress => netlink::Side::Egress,
    };
    let mut socket = netlink::Socket::open().map_err(|e| refused(WHAT, &e))?;
    let owns_discipline = match socket.clsact_add(ifindex) {
        Ok(()) => true,
        Err(e) if e.raw_os_error() == Some(Errno::EEXIST.0) => false,
        Err(e) => return Err(refused(WHAT, &e)),
    };
    match socket.filter_add(ifindex, side, prog.0, "skep") {
        Ok(handle) => Ok(Link {
            backend: Arc::clone(backend),
            hold: super::Hold::Filter(Filter {
                ifindex,
                side,
                handle,
                owns_discipline,
            }),
            _event: None,
        }),
        Err(e) => {
            if owns_discipline {
                let _ = socket.clsact_delete(ifindex);
            }
            Err(refused(WHAT, &e))
        }
    }
}
