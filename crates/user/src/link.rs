//! Link objects: programs attached to the hooks of a universe.

use crate::error::{Named, refused};
use crate::hooks::{Attached, BPF_F_ID, BPF_F_LINK, Hooks, Placement, Relative};
use crate::load::ProgObject;
use crate::objects::Object;
use crate::state::Mode;
use crate::universe::{Shared, Universe, lock};
use skep_abi::{AttachType, Errno, ProgType};
use skep_bpf::{Handle, LinkCreate, LinkInfo, LinkTarget, ObjKind, Result};
use std::sync::{Arc, MutexGuard, Weak};

/// A link; dropping the last reference detaches.
#[derive(Debug)]
pub(crate) struct LinkObject {
    pub(crate) id: u32,
    shared: Weak<Shared>,
}

impl Drop for LinkObject {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let was = shared.hooks().remove(self.id);
        // Outside the lock, as it may be the last reference to the program.
        drop(was);
        shared.state().links.free(self.id);
    }
}

/// The type of the programs that have this attach type; `None` for hooks that a universe does not have.
fn prog_type(attach_type: AttachType) -> Option<ProgType> {
    match attach_type {
        AttachType::Xdp => Some(ProgType::Xdp),
        AttachType::TcxIngress | AttachType::TcxEgress => Some(ProgType::SchedCls),
        _ => None,
    }
}

/// The type of the links with this attach type; `None` as above.
pub(crate) fn link_type(attach_type: AttachType) -> Option<&'static str> {
    match prog_type(attach_type)? {
        ProgType::Xdp => Some("xdp"),
        _ => Some("tcx"),
    }
}

impl Shared {
    pub(crate) fn hooks(&self) -> MutexGuard<'_, Hooks> {
        lock(&self.hooks)
    }
}

impl Universe {
    /// `BPF_LINK_CREATE`
    pub(crate) fn create_link(&self, create: &LinkCreate) -> Result<Handle> {
        const WHAT: &str = "BPF_LINK_CREATE";
        let prog = self.prog(create.prog, WHAT)?;
        let Some(expected) = prog_type(create.attach_type) else {
            let why = "the user backend has the hooks of packets: XDP and tcx";
            return Err(refused(Errno::EOPNOTSUPP, WHAT, why));
        };
        let found = prog.loaded.prog_type;
        if found != expected {
            let why = format!("the program is {found}, the hook takes {expected}");
            return Err(refused(Errno::EINVAL, WHAT, &why));
        }
        let (ifindex, relative, revision) = match create.target {
            LinkTarget::Ifindex(ifindex) => (ifindex, 0, 0),
            LinkTarget::Ordered {
                target,
                relative,
                revision,
            } => (target, relative, revision),
            _ => return Err(refused(Errno::EINVAL, WHAT, "the hook is of a device")),
        };
        let shared = &self.shared;
        let id = shared.state().links.allocate().named(WHAT)?;
        let link = Arc::new(LinkObject {
            id,
            shared: Arc::downgrade(shared),
        });
        let done = if create.attach_type == AttachType::Xdp {
            shared.hooks().attach_xdp(id, prog, ifindex, create.flags)
        } else {
            self.attach_in_row(id, prog, (ifindex, create), (relative, revision))
        };
        done.named(WHAT)?;
        shared.state().links.set(id, Arc::downgrade(&link));
        shared.open(Object::Link(link), Mode::FULL).named(WHAT)
    }

    fn attach_in_row(
        &self,
        id: u32,
        prog: Arc<ProgObject>,
        (ifindex, create): (u32, &LinkCreate),
        (relative, revision): (u32, u64),
    ) -> std::result::Result<(), Errno> {
        let hook = (ifindex, create.attach_type);
        self.shared.hooks().check_row(hook, &prog, revision)?;
        let placement = Placement {
            flags: create.flags,
            relative: self.relative(create.flags, relative)?,
            revision,
        };
        self.shared
            .hooks()
            .attach_in_row(id, prog, hook, &placement)
    }

    /// The program or link that a number of the command means.
    fn relative(&self, flags: u32, number: u32) -> std::result::Result<Option<Relative>, Errno> {
        if flags & (BPF_F_LINK | BPF_F_ID) == 0 && number == 0 {
            return Ok(None);
        }
        let kind = if flags & BPF_F_LINK != 0 {
            ObjKind::Link
        } else {
            ObjKind::Prog
        };
        let state = self.shared.state();
        let object = if flags & BPF_F_ID != 0 {
            state.by_id(kind, number).ok_or(Errno::ENOENT)?
        } else {
            state.entry(Handle(number.cast_signed()))?.object
        };
        drop(state);
        let relative = match (kind, &object) {
            (ObjKind::Prog, Object::Prog(prog)) => Relative {
                prog: Arc::clone(prog),
                link: None,
            },
            (ObjKind::Link, Object::Link(link)) => Relative {
                prog: self.attached(link)?.prog,
                link: Some(link.id),
            },
            _ => return Err(Errno::EINVAL),
        };
        if relative.prog.loaded.prog_type != ProgType::SchedCls {
            return Err(Errno::EINVAL);
        }
        Ok(Some(relative))
    }

    fn attached(&self, link: &LinkObject) -> std::result::Result<Attached, Errno> {
        let hooks = self.shared.hooks();
        hooks.attached(link.id).cloned().ok_or(Errno::ENOENT)
    }

    fn link(&self, handle: Handle, what: &str) -> Result<Arc<LinkObject>> {
        match self.entry(handle, what)?.object {
            Object::Link(link) => Ok(link),
            _ => Err(refused(Errno::EINVAL, what, "the handle is not of a link")),
        }
    }

    /// `BPF_LINK_UPDATE`
    pub(crate) fn update_link(
        &self,
        link: Handle,
        new: Handle,
        expect: Option<Handle>,
    ) -> Result<()> {
        const WHAT: &str = "BPF_LINK_UPDATE";
        let (link, new) = (self.link(link, WHAT)?, self.prog(new, WHAT)?);
        let expect = expect.map(|handle| self.prog(handle, WHAT)).transpose()?;
        let expect = expect.map(|prog| prog.id);
        let replaced = self.shared.hooks().update(link.id, new, expect);
        if let Some(old) = replaced.named(WHAT)? {
            self.shared.release_later(old);
        }
        Ok(())
    }

    /// `BPF_LINK_DETACH`
    pub(crate) fn detach_link(&self, link: Handle) -> Result<()> {
        let link = self.link(link, "BPF_LINK_DETACH")?;
        self.shared.hooks().detach(link.id);
        Ok(())
    }

    /// `BPF_OBJ_GET_INFO_BY_FD` of a link
    pub(crate) fn info_of_link(&self, link: Handle) -> Result<LinkInfo> {
        const WHAT: &str = "BPF_OBJ_GET_INFO_BY_FD";
        let link = self.link(link, WHAT)?;
        let attached = self.attached(&link).named(WHAT)?;
        let is_xdp = attached.attach_type == AttachType::Xdp;
        Ok(LinkInfo {
            id: link.id,
            prog_id: attached.prog.id,
            link_type: link_type(attached.attach_type).unwrap_or_default(),
            attach_type: (!is_xdp).then_some(attached.attach_type),
            ifindex: attached.ifindex,
            details: Vec::new(),
        })
    }
}
