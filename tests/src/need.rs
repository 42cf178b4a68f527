//! What tests need of the machine, and how they find out. `tests/skips.txt` lists the same for readers.

use skep::Kernel;
use skep::xsk::{Config, XdpSocket};
use skep_abi::MapType;
use skep_bpf::{Backend, Errno, MapCreate};
use skep_sys::namespace::enter_new_network;
use skep_sys::netlink;
use std::process::{Command, Stdio};

/// Something a machine may lack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// Full capabilities.
    Root,
    /// The kernel lets us create maps.
    Bpf,
    /// The tracing filesystem.
    Tracefs,
    /// clang-19 and llvm-strip-19.
    Clang,
    /// Network namespaces and veth pairs.
    Netns,
    /// The same, without ip(8).
    Veth,
    /// AF_XDP sockets.
    Xsk,
}

fn has_veth() -> bool {
    let made =
        enter_new_network().and_then(|()| netlink::Socket::open()?.device_add("veth", "skepveth"));
    made.is_ok()
}

fn has_xsk() -> bool {
    let smallest = Config {
        receive_slots: 1,
        send_slots: 1,
        ..Config::default()
    };
    // There is no device 0.
    let refused = XdpSocket::open(0, 0, &smallest);
    refused.is_err_and(|e| e.errno == Errno::ENODEV)
}

/// Whether a program is there and succeeds with these arguments.
#[must_use]
pub fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|s| s.success())
}

impl Need {
    /// The word in `tests/skips.txt`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Bpf => "bpf",
            Self::Tracefs => "tracefs",
            Self::Clang => "clang",
            Self::Netns => "netns",
            Self::Veth => "veth",
            Self::Xsk => "xsk",
        }
    }

    /// Asks the machine.
    #[must_use]
    pub fn is_met(self) -> bool {
        match self {
            Self::Root => std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
                let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
                let caps = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
                caps.is_some_and(|c| c >> 21 & 1 == 1) // CAP_SYS_ADMIN
            }),
            Self::Bpf => {
                let kernel = Kernel::new();
                let map = kernel.map_create(&MapCreate::new(MapType::Array, 4, 4, 1));
                map.map(|handle| kernel.close(handle)).is_ok()
            }
            Self::Tracefs => Self::Root.is_met(),
            Self::Clang => {
                runs("clang-19", &["--version"]) && runs("llvm-strip-19", &["--version"])
            }
            Self::Netns => Self::Root.is_met() && runs("ip", &["netns", "list"]),
            // A thread of its own: the namespace goes with it.
            Self::Veth => std::thread::spawn(has_veth).join().unwrap_or(false),
            Self::Xsk => has_xsk(),
        }
    }
}

/// True if every need is met; otherwise says what the test is skipped for.
#[must_use]
pub fn met(needs: &[Need]) -> bool {
    match needs.iter().find(|n| !n.is_met()) {
        None => true,
        Some(missing) => {
            println!("skipped: {}", missing.name());
            false
        }
    }
}
