//! Hooks of a universe: network devices, and the links that attach programs to them.
//!
//! A device has a place for one XDP program and two rows of tcx programs, as a device of Linux that runs XDP natively. What is
//! refused, and with which errno, is the kernel's.

use crate::load::ProgObject;
use skep_abi::AttachType;
use skep_bpf::Errno;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Programs of one row (`BPF_MPROG_MAX`).
const ROW_MAX: usize = 64;
/// Devices of one universe.
const DEVICES_MAX: usize = 1 << 16;
/// Bytes of a device's name, with its end (`IFNAMSIZ`).
const NAME_BYTES: usize = 16;

/// `XDP_FLAGS_*`: the stack, the driver, the hardware.
const XDP_GENERIC: u32 = 1 << 1;
const XDP_NATIVE: u32 = 1 << 2;
const XDP_HARDWARE: u32 = 1 << 3;
const XDP_MODES: u32 = XDP_GENERIC | XDP_NATIVE | XDP_HARDWARE;

pub(crate) const BPF_F_REPLACE: u32 = 1 << 2;
pub(crate) const BPF_F_BEFORE: u32 = 1 << 3;
pub(crate) const BPF_F_AFTER: u32 = 1 << 4;
pub(crate) const BPF_F_ID: u32 = 1 << 5;
pub(crate) const BPF_F_LINK: u32 = 1 << 13;

/// Devices and links.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    devices: BTreeMap<u32, Device>,
    links: BTreeMap<u32, Attached>,
    last_ifindex: u32,
}

#[derive(Debug, Default)]
struct Device {
    name: String,
    /// The link, and whether the stack runs its program.
    xdp: Option<(u32, bool)>,
    ingress: Row,
    egress: Row,
}

/// Links in the order in which their programs run.
#[derive(Debug)]
struct Row {
    links: Vec<u32>,
    /// Counts changes, from 1.
    revision: u64,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            links: Vec::new(),
            revision: 1,
        }
    }
}

/// Where a link is, and its program; the program stays with the link when it is detached.
#[derive(Clone, Debug)]
pub(crate) struct Attached {
    pub(crate) attach_type: AttachType,
    /// 0 once it is detached.
    pub(crate) ifindex: u32,
    pub(crate) prog: Arc<ProgObject>,
}

/// Something in a row that a new link is placed by.
#[derive(Clone, Debug)]
pub(crate) struct Relative {
    pub(crate) prog: Arc<ProgObject>,
    /// That link of the program, if a link was named.
    pub(crate) link: Option<u32>,
}

/// Where in a row.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    pub(crate) flags: u32,
    pub(crate) relative: Option<Relative>,
    /// The row must be this old; 0 if it does not matter.
    pub(crate) revision: u64,
}

impl Hooks {
    /// Makes a device.
    pub(crate) fn add_device(&mut self, name: &str) -> Result<u32, Errno> {
        if name.is_empty() || name.len() >= NAME_BYTES {
            return Err(Errno::EINVAL);
        }
        if self.devices.values().any(|d| d.name == name) {
            return Err(Errno::EEXIST);
        }
        if self.devices.len() >= DEVICES_MAX {
            return Err(Errno::ENOSPC);
        }
        let ifindex = self.last_ifindex.checked_add(1).ok_or(Errno::ENOSPC)?;
        self.last_ifindex = ifindex;
        let name = name.to_owned();
        let device = Device {
            name,
            ..Device::default()
        };
        self.devices.insert(ifindex, device);
        Ok(ifindex)
    }

    /// Removes a device; its links stay, detached.
    pub(crate) fn remove_device(&mut self, ifindex: u32) -> Result<(), Errno> {
        self.devices.remove(&ifindex).ok_or(Errno::ENODEV)?;
        for attached in self.links.values_mut().filter(|a| a.ifindex == ifindex) {
            attached.ifindex = 0;
        }
        Ok(())
    }

    pub(crate) fn has_device(&self, ifindex: u32) -> bool {
        self.devices.contains_key(&ifindex)
    }

    /// Whether a row would take a program, wherever: it must be as old as somebody thinks (0 if that does not matter), and not
    /// have it.
    pub(crate) fn check_row(
        &self,
        (ifindex, attach_type): (u32, AttachType),
        prog: &ProgObject,
        revision: u64,
    ) -> Result<(), Errno> {
        let device = self.devices.get(&ifindex).ok_or(Errno::ENODEV)?;
        let row = match attach_type {
            AttachType::TcxIngress => &device.ingress,
            _ => &device.egress,
        };
        if revision != 0 && revision != row.revision {
            return Err(Errno::ESTALE);
        }
        let mut others = row.links.iter().filter_map(|id| self.links.get(id));
        if others.any(|other| other.prog.id == prog.id) {
            return Err(Errno::EEXIST);
        }
        Ok(())
    }

    /// The links at a hook, in the order in which their programs run.
    pub(crate) fn links_at(&self, ifindex: u32, attach_type: AttachType) -> Vec<u32> {
        let Some(device) = self.devices.get(&ifindex) else {
            return Vec::new();
        };
        match attach_type {
            AttachType::Xdp => device.xdp.iter().map(|(link, _)| *link).collect(),
            AttachType::TcxIngress => device.ingress.links.clone(),
            AttachType::TcxEgress => device.egress.links.clone(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn attached(&self, link: u32) -> Option<&Attached> {
        self.links.get(&link)
    }

    /// Attaches link `link` as the device's XDP program.
    pub(crate) fn attach_xdp(
        &mut self,
        link: u32,
        prog: Arc<ProgObject>,
        ifindex: u32,
        flags: u32,
    ) -> Result<(), Errno> {
        let device = self.devices.get_mut(&ifindex).ok_or(Errno::EINVAL)?;
        if flags & !XDP_MODES != 0 || flags.count_ones() > 1 {
            return Err(Errno::EINVAL);
        }
        let is_generic = flags & XDP_GENERIC != 0;
        match device.xdp {
            _ if flags & XDP_HARDWARE != 0 => return Err(Errno::EINVAL),
            Some((_, generic)) if generic == is_generic => return Err(Errno::EBUSY),
            Some(_) => return Err(Errno::EEXIST),
            None => {}
        }
        // Programs of device and CPU maps run behind a redirect only.
        if !matches!(
            prog.loaded.expected_attach_type,
            None | Some(AttachType::Xdp)
        ) {
            return Err(Errno::EINVAL);
        }
        device.xdp = Some((link, is_generic));
        self.insert(link, AttachType::Xdp, ifindex, prog);
        Ok(())
    }

    fn insert(&mut self, link: u32, attach_type: AttachType, ifindex: u32, prog: Arc<ProgObject>) {
        let attached = Attached {
            attach_type,
            ifindex,
            prog,
        };
        self.links.insert(link, attached);
    }

    fn row(&mut self, ifindex: u32, attach_type: AttachType) -> Option<&mut Row> {
        let device = self.devices.get_mut(&ifindex)?;
        match attach_type {
            AttachType::TcxIngress => Some(&mut device.ingress),
            AttachType::TcxEgress => Some(&mut device.egress),
            _ => None,
        }
    }

    /// Attaches link `link` in a row of the device.
    pub(crate) fn attach_in_row(
        &mut self,
        link: u32,
        prog: Arc<ProgObject>,
        (ifindex, attach_type): (u32, AttachType),
        placement: &Placement,
    ) -> Result<(), Errno> {
        self.check_row((ifindex, attach_type), &prog, placement.revision)?;
        let row: Vec<(u32, u32)> = self
            .links_at(ifindex, attach_type)
            .into_iter()
            .filter_map(|id| Some((id, self.links.get(&id)?.prog.id)))
            .collect();
        let at = place(&row, placement)?;
        let row = self.row(ifindex, attach_type).ok_or(Errno::ENODEV)?;
        row.links.insert(at, link);
        row.revision += 1;
        self.insert(link, attach_type, ifindex, prog);
        Ok(())
    }

    /// Gives an attached link another program; with `expect`, only if it has that one. Gives back the one it had.
    pub(crate) fn update(
        &mut self,
        link: u32,
        new: Arc<ProgObject>,
        expect: Option<u32>,
    ) -> Result<Option<Arc<ProgObject>>, Errno> {
        let attached = self.links.get(&link).ok_or(Errno::ENOLINK)?;
        let (attach_type, ifindex) = (attached.attach_type, attached.ifindex);
        if ifindex == 0 {
            return Err(Errno::ENOLINK);
        }
        let old = &attached.prog;
        if expect.is_some_and(|id| id != old.id) {
            return Err(Errno::EPERM);
        }
        let (a, b) = (&old.loaded, &new.loaded);
        let is_xdp = attach_type == AttachType::Xdp;
        if a.prog_type != b.prog_type || is_xdp && a.expected_attach_type != b.expected_attach_type
        {
            return Err(Errno::EINVAL);
        }
        if old.id == new.id {
            return Ok(None);
        }
        if !is_xdp {
            self.check_row((ifindex, attach_type), &new, 0)?;
        }
        if let Some(row) = self.row(ifindex, attach_type) {
            row.revision += 1;
        }
        let attached = self.links.get_mut(&link).ok_or(Errno::ENOLINK)?;
        Ok(Some(std::mem::replace(&mut attached.prog, new)))
    }

    /// Detaches a link; one that is detached stays so.
    pub(crate) fn detach(&mut self, link: u32) {
        let Some(attached) = self.links.get_mut(&link) else {
            return;
        };
        let (ifindex, attach_type) = (attached.ifindex, attached.attach_type);
        attached.ifindex = 0;
        if let Some(row) = self.row(ifindex, attach_type) {
            row.links.retain(|id| *id != link);
            row.revision += 1;
            if row.links.is_empty() {
                // The kernel gives an empty row back, and begins anew.
                *row = Row::default();
            }
        } else if let Some(device) = self.devices.get_mut(&ifindex) {
            device.xdp = None;
        }
    }

    /// Forgets a link, and gives back what it was.
    pub(crate) fn remove(&mut self, link: u32) -> Option<Attached> {
        self.detach(link);
        self.links.remove(&link)
    }
}

/// The place of a new link in a row of (link, program).
fn place(row: &[(u32, u32)], placement: &Placement) -> Result<usize, Errno> {
    let Placement {
        flags, relative, ..
    } = placement;
    let found = relative.as_ref().map(|r| {
        let is_it = |(link, prog): &(u32, u32)| {
            *prog == r.prog.id && r.link.is_none_or(|wanted| wanted == *link)
        };
        row.iter().position(is_it).ok_or(Errno::ENOENT)
    });
    let found = found.transpose();
    let before = flags & BPF_F_BEFORE != 0;
    let after = flags & BPF_F_AFTER != 0;
    if flags & BPF_F_REPLACE != 0 {
        // A link is never put in place of another.
        return Err(found.err().unwrap_or(Errno::ENOENT));
    }
    let at = match (before, after) {
        (true, true) => {
            found?;
            return Err(Errno::ERANGE);
        }
        (true, false) => found?.unwrap_or(0),
        (false, true) => found?.map_or(row.len(), |at| at + 1),
        (false, false) if relative.is_some() || *flags != 0 => return Err(Errno::EINVAL),
        (false, false) => row.len(),
    };
    if row.len() >= ROW_MAX {
        return Err(Errno::ERANGE);
    }
    Ok(at)
}
