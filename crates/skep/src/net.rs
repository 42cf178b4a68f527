//! Which programs sit on which network devices.
//!
//! ```no_run
//! let overview = skep::net::overview()?;
//! for attached in overview.xdp.iter().chain(&overview.tc) {
//!     println!("{} {}: program {}", attached.device, attached.kind, attached.prog_id);
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

use skep_abi::AttachType;
use skep_sys::netlink::{Side, Socket};
use skep_sys::{bpf_prog, netlink};
use std::io;

/// A program on a device.
///
/// ```no_run
/// for program in skep::net::overview()?.xdp {
///     println!("{}: {} with program {}", program.device, program.kind, program.prog_id);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    /// Name of the device.
    pub device: String,
    /// Number of the device.
    pub ifindex: u32,
    /// How: `driver`, `generic`, `offload`, `multi`; `tcx/ingress`, `clsact/ingress` and so on.
    pub kind: &'static str,
    /// Name of the filter, of clsact filters.
    pub filter: String,
    /// Id of the program.
    pub prog_id: u32,
}

/// The programs on the devices of this network namespace.
///
/// ```no_run
/// let overview = skep::net::overview()?;
/// println!("{} XDP and {} tc programs", overview.xdp.len(), overview.tc.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Overview {
    /// Before the stack.
    pub xdp: Vec<Attached>,
    /// In traffic control, and netkit.
    pub tc: Vec<Attached>,
    /// Ids of the flow dissectors.
    pub flow_dissectors: Vec<u32>,
}

/// Words for `XDP_ATTACHED_*`.
const XDP_MODES: &[&str] = &["none", "driver", "generic", "offload", "multi"];

/// Hooks of a device that `BPF_PROG_QUERY` knows.
const QUERIES: &[(AttachType, &str)] = &[
    (AttachType::TcxIngress, "tcx/ingress"),
    (AttachType::TcxEgress, "tcx/egress"),
    (AttachType::NetkitPrimary, "netkit/primary"),
    (AttachType::NetkitPeer, "netkit/peer"),
];

/// Hooks of clsact.
const SIDES: &[(Side, &str)] = &[
    (Side::Ingress, "clsact/ingress"),
    (Side::Egress, "clsact/egress"),
];

/// The number of a device.
///
/// # Errors
/// `ENODEV` if there is none of this name.
pub fn ifindex(name: &str) -> io::Result<u32> {
    netlink::ifindex(name)
}

/// Numbers and names of all devices of this network namespace.
///
/// # Errors
/// Those of netlink.
pub fn devices() -> io::Result<Vec<(u32, String)>> {
    let devices = Socket::open()?.devices()?;
    Ok(devices.into_iter().map(|d| (d.ifindex, d.name)).collect())
}

/// Asks the kernel.
///
/// # Errors
/// Those of netlink. Hooks that this kernel does not know have no programs.
pub fn overview() -> io::Result<Overview> {
    let mut socket = Socket::open()?;
    let mut found = Overview::default();
    for device in socket.devices()? {
        let row = |kind, prog_id, filter| Attached {
            device: device.name.clone(),
            ifindex: device.ifindex,
            kind,
            filter,
            prog_id,
        };
        if device.xdp_attached != 0 {
            let mode = XDP_MODES
                .get(usize::from(device.xdp_attached))
                .copied()
                .unwrap_or("unknown");
            found.xdp.push(row(mode, device.xdp_prog_id, String::new()));
        }
        for (attach_type, kind) in QUERIES {
            let (ids, _) = bpf_prog::query(device.ifindex, attach_type.id(), 0).unwrap_or_default();
            found
                .tc
                .extend(ids.into_iter().map(|id| row(kind, id, String::new())));
        }
        for (side, kind) in SIDES {
            for filter in socket.filters(device.ifindex, *side).unwrap_or_default() {
                found.tc.push(row(kind, filter.prog_id, filter.name));
            }
        }
    }
    if let Ok(namespace) = std::fs::File::open("/proc/self/ns/net") {
        let number = std::os::fd::AsRawFd::as_raw_fd(&namespace).cast_unsigned();
        found.flow_dissectors = bpf_prog::query(number, AttachType::FlowDissector.id(), 0)
            .unwrap_or_default()
            .0;
    }
    Ok(found)
}
