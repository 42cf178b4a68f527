//! Network devices that exist in a universe alone: packets are given to them, and run what is attached.

use crate::error::{Named, refused};
use crate::load::ProgObject;
use crate::universe::Universe;
use skep_abi::AttachType;
use skep_bpf::{Errno, Result, TestRun};
use std::sync::Arc;

/// `XDP_*`
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;
/// `TCX_*`
const TCX_NEXT: u32 = u32::MAX;
const TCX_DROP: u32 = 2;
const TCX_REDIRECT: u32 = 7;

/// What became of a packet at a device.
///
/// ```
/// use skep_user::{Fate, Options, Universe};
/// # use skep_bpf::{Backend, LinkCreate, LinkTarget, ProgLoad};
/// # use skep_abi::{AttachType, ProgType};
/// # use skep_isa::Slot;
/// # let universe = Universe::new(Options::default())?;
/// # // r0 = XDP_PASS; exit
/// // r0 = XDP_DROP; exit
/// let code = vec![Slot::new(0xb7, 0, 0, 0, 1), Slot::new(0x95, 0, 0, 0, 0)];
/// let prog = universe.prog_load(&ProgLoad::plain(ProgType::Xdp, code))?;
/// # let ifindex = universe.add_device("eth0")?;
/// # let target = LinkTarget::Ifindex(ifindex);
/// # let create = LinkCreate { prog, attach_type: AttachType::Xdp, target, flags: 0 };
/// # let link = universe.link_create(&create)?;
/// assert_eq!(universe.receive(ifindex, &[0; 64])?.fate, Fate::Dropped);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The stack, or the wire, gets it.
    Passed,
    /// Nobody gets it.
    Dropped,
    /// It goes out of the device it came in by (`XDP_TX`).
    Returned,
    /// A program sent it elsewhere.
    Redirected,
}

/// A packet behind the programs of a device.
///
/// ```
/// use skep_user::{Fate, Options, Universe};
/// # use skep_bpf::{Backend, LinkCreate, LinkTarget, ProgLoad};
/// # use skep_abi::{AttachType, ProgType};
/// # use skep_isa::Slot;
/// # let universe = Universe::new(Options::default())?;
/// # // r0 = XDP_PASS; exit
/// # let code = vec![Slot::new(0xb7, 0, 0, 0, 2), Slot::new(0x95, 0, 0, 0, 0)];
/// # let prog = universe.prog_load(&ProgLoad::plain(ProgType::Xdp, code))?;
/// let ifindex = universe.add_device("eth0")?;
/// let target = LinkTarget::Ifindex(ifindex);
/// let create = LinkCreate { prog, attach_type: AttachType::Xdp, target, flags: 0 };
/// let link = universe.link_create(&create)?;
/// let delivery = universe.receive(ifindex, &[0; 64])?;
/// assert_eq!((delivery.fate, delivery.data.len()), (Fate::Passed, 64));
/// assert_eq!(delivery.runs, [(universe.link_info(link)?.id, 2)]); // XDP_PASS
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// What became of it.
    pub fate: Fate,
    /// Its bytes, as the programs left them.
    pub data: Vec<u8>,
    /// The links whose programs ran, in order, and what these returned.
    pub runs: Vec<(u32, u32)>,
}

impl Universe {
    /// Makes a network device that exists in this universe alone, and gives its number: a place for XDP and tcx programs, which
    /// [`Self::receive`] and [`Self::send`] run.
    ///
    /// # Errors
    /// `EINVAL` for a name of no or more than 15 bytes, `EEXIST`, `ENOSPC`.
    pub fn add_device(&self, name: &str) -> Result<u32> {
        self.shared.hooks().add_device(name).named("new device")
    }

    /// Removes a device. Its links stay, detached.
    ///
    /// # Errors
    /// `ENODEV`
    pub fn remove_device(&self, ifindex: u32) -> Result<()> {
        let removed = self.shared.hooks().remove_device(ifindex);
        removed.named("removal of a device")
    }

    /// Ids of the links at a hook of a device, in the order in which their programs run.
    #[must_use]
    pub fn links_at(&self, ifindex: u32, attach_type: AttachType) -> Vec<u32> {
        self.shared.hooks().links_at(ifindex, attach_type)
    }

    /// Gives a device a packet from its wire: its XDP program runs, then those of tcx ingress, each on what the one before left.
    ///
    /// Each program has a context of its own: marks and metadata do not go from one to the next.
    ///
    /// # Errors
    /// `ENODEV`; those of a test run, `EINVAL` for packets shorter than an Ethernet header.
    pub fn receive(&self, ifindex: u32, packet: &[u8]) -> Result<Delivery> {
        self.deliver(ifindex, packet, &[AttachType::Xdp, AttachType::TcxIngress])
    }

    /// Gives a device a packet of the stack's: the programs of tcx egress run, each on what the one before left.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn send(&self, ifindex: u32, packet: &[u8]) -> Result<Delivery> {
        self.deliver(ifindex, packet, &[AttachType::TcxEgress])
    }

    fn deliver(&self, ifindex: u32, packet: &[u8], hooks: &[AttachType]) -> Result<Delivery> {
        let mut delivery = Delivery {
            fate: Fate::Passed,
            data: packet.to_vec(),
            runs: Vec::new(),
        };
        for hook in hooks {
            for (link, prog) in self.programs_at(ifindex, *hook)? {
                let retval = self.run_on(&prog, &mut delivery.data)?;
                delivery.runs.push((link, retval));
                let (fate, goes_on) = match hook {
                    AttachType::Xdp => (xdp_fate(retval), retval == XDP_PASS),
                    _ => (tcx_fate(retval), retval == TCX_NEXT),
                };
                delivery.fate = fate;
                if !goes_on {
                    return Ok(delivery);
                }
            }
        }
        Ok(delivery)
    }

    /// The links at a hook with their programs, as they are at one moment.
    fn programs_at(
        &self,
        ifindex: u32,
        attach_type: AttachType,
    ) -> Result<Vec<(u32, Arc<ProgObject>)>> {
        let hooks = self.shared.hooks();
        if !hooks.has_device(ifindex) {
            let why = format!("there is no device {ifindex} in this universe");
            return Err(refused(Errno::ENODEV, "packet for a device", &why));
        }
        let links = hooks.links_at(ifindex, attach_type).into_iter();
        let programs = links.filter_map(|id| {
            let attached = hooks.attached(id)?;
            Some((id, Arc::clone(&attached.prog)))
        });
        Ok(programs.collect())
    }

    /// Runs a program on a packet, which becomes what the program leaves.
    fn run_on(&self, prog: &ProgObject, data: &mut Vec<u8>) -> Result<u32> {
        let run = TestRun {
            data_in: Some(std::mem::take(data)),
            data_size_out: u32::MAX,
            ..TestRun::default()
        };
        let result = self.shared.prog_test_run(prog, &run)?;
        *data = result.data_out;
        Ok(result.retval)
    }
}

/// What an XDP program says. Values that mean nothing drop the packet.
fn xdp_fate(retval: u32) -> Fate {
    match retval {
        XDP_PASS => Fate::Passed,
        XDP_TX => Fate::Returned,
        XDP_REDIRECT => Fate::Redirected,
        _ => Fate::Dropped,
    }
}

/// What a tcx program says. Values that mean nothing end the row, and the packet goes on.
fn tcx_fate(retval: u32) -> Fate {
    match retval {
        TCX_DROP => Fate::Dropped,
        TCX_REDIRECT => Fate::Redirected,
        _ => Fate::Passed,
    }
}
