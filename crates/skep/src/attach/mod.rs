//! Attaching programs: one file a family of hooks.
//!
//! A [`Link`] is the attachment; dropping it detaches. Hooks that are events of `perf_event_open(2)` keep the event open
//! for as long as the link lives.

mod cgroup;
mod perf;
mod section;
mod socket;
mod tc;
mod tracing;
mod uprobe;
mod xdp;

pub use self::section::{Where, hook, minds_pid};
pub use self::tc::Direction;
pub use self::uprobe::{Place, Probe};
pub use self::xdp::XdpMode;
pub use skep_sys::perf::{End, Rate};

use skep_abi::AttachType;
use skep_bpf::{Backend, BackendKind, Errno, Error, Handle, LinkCreate, LinkTarget, Result};
use skep_sys::attr::ProgAttach;
use skep_sys::bpf_prog;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a program is attached.
#[derive(Clone, PartialEq, Debug)]
pub enum Hook {
    /// A tracepoint of tracefs.
    Tracepoint {
        /// `syscalls`
        category: String,
        /// `sys_enter_openat`
        name: String,
    },
    /// A raw tracepoint.
    RawTracepoint {
        /// `sys_enter`
        name: String,
    },
    /// What the program was loaded for: fentry, fexit, LSM, typed tracepoints.
    Loaded,
    /// A function of an executable or library.
    Uprobe(Probe),
    /// A function of the kernel.
    Kprobe {
        /// Its name.
        symbol: String,
        /// Bytes into it.
        offset: u64,
        /// At its entry or return.
        end: End,
    },
    /// A sampling event, as in `perf_event_open(2)`.
    PerfEvent {
        /// `PERF_TYPE_*`
        kind: u32,
        /// The event of that type.
        config: u64,
        /// How often.
        rate: Rate,
        /// Only this process.
        pid: Option<u32>,
    },
    /// Incoming packets of a device, before the stack.
    Xdp {
        /// Number of the device.
        ifindex: u32,
        /// By whom it is run.
        mode: XdpMode,
    },
    /// Packets of a device.
    Tc {
        /// Number of the device.
        ifindex: u32,
        /// Incoming or outgoing.
        direction: Direction,
    },
    /// Packets of a device, through a filter of its clsact discipline, as before links for traffic control.
    TcFilter {
        /// Number of the device.
        ifindex: u32,
        /// Incoming or outgoing.
        direction: Direction,
    },
    /// A control group.
    Cgroup {
        /// Its folder in the v2 hierarchy.
        path: PathBuf,
        /// Which of its hooks.
        attach_type: AttachType,
    },
    /// A network namespace (`sk_lookup`, flow dissector).
    Netns {
        /// Its file, `/proc/self/ns/net`.
        path: PathBuf,
        /// Which of its hooks.
        attach_type: AttachType,
    },
    /// Several functions of an executable or library, with one link.
    UprobeMulti {
        /// The file.
        file: PathBuf,
        /// The functions.
        symbols: Vec<String>,
        /// At their entry or return.
        end: End,
        /// Only this process.
        pid: Option<u32>,
    },
    /// Several functions of the kernel, with one link.
    KprobeMulti {
        /// The functions.
        symbols: Vec<String>,
        /// At their entry or return.
        end: End,
    },
    /// What a socket receives.
    Socket {
        /// The socket, which must stay open.
        socket: RawFd,
    },
    /// Which socket of a reuseport group gets a connection or packet.
    Reuseport {
        /// One of its sockets, which must stay open.
        socket: RawFd,
    },
    /// The sockets in a sockmap or sockhash.
    Sockmap {
        /// The map.
        map: Handle,
        /// Message verdict, stream parser, stream verdict or verdict.
        attach_type: AttachType,
    },
    /// A netfilter hook.
    Netfilter {
        /// `NFPROTO_*`
        family: u32,
        /// `NF_INET_*`
        hook: u32,
        /// Order among others.
        priority: i32,
    },
}

/// How a link lets go.
enum Hold {
    /// A link of the backend.
    Link(Handle),
    /// A filter of the traffic control system.
    Filter(tc::Filter),
    /// An option of a socket.
    Socket(socket::Held),
    /// An attachment without link.
    Plain(ProgAttach),
    /// Several attachments that belong together; they let go themselves.
    Many(Vec<Link>),
}

/// An attachment; dropping it detaches.
pub struct Link {
    backend: Arc<dyn Backend>,
    hold: Hold,
    /// The event behind it.
    _event: Option<OwnedFd>,
}

impl Link {
    fn of(backend: &Arc<dyn Backend>, create: &LinkCreate, event: Option<OwnedFd>) -> Result<Self> {
        let handle = backend.link_create(create)?;
        Ok(Self {
            backend: Arc::clone(backend),
            hold: Hold::Link(handle),
            _event: event,
        })
    }

    /// The backend's link, where there is one.
    #[must_use]
    pub fn handle(&self) -> Option<Handle> {
        match self.hold {
            Hold::Link(handle) => Some(handle),
            Hold::Filter(_) | Hold::Socket(_) | Hold::Plain(_) | Hold::Many(_) => None,
        }
    }

    /// Keeps the attachment at `path` of a bpf filesystem beyond this process.
    ///
    /// # Errors
    /// Those of `BPF_OBJ_PIN`; `EOPNOTSUPP` for hooks without links.
    pub fn pin(&self, path: &Path) -> Result<()> {
        match self.handle() {
            Some(handle) => self.backend.obj_pin(handle, path),
            None => Err(Error::unsupported("BPF_OBJ_PIN of a hook without a link")),
        }
    }

    /// Swaps the program in one step.
    ///
    /// # Errors
    /// Those of `BPF_LINK_UPDATE`; `EOPNOTSUPP` for hooks without links.
    pub fn replace(&self, prog: Handle) -> Result<()> {
        match self.handle() {
            Some(handle) => self.backend.link_update(handle, prog, None),
            None => Err(Error::unsupported(
                "BPF_LINK_UPDATE of a hook without a link",
            )),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        match &self.hold {
            Hold::Link(handle) => self.backend.close(*handle),
            Hold::Filter(filter) => filter.remove(),
            Hold::Socket(held) => held.remove(),
            // A map that is gone has no program any more.
            Hold::Plain(attached) => drop(bpf_prog::detach(attached)),
            Hold::Many(links) => debug_assert!(!links.is_empty(), "there is one at least"),
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}

/// Attaches a loaded program.
///
/// # Errors
/// What the backend answers; `EOPNOTSUPP` for hooks of a kernel on the user backend.
pub fn attach(backend: &Arc<dyn Backend>, prog: Handle, hook: &Hook) -> Result<Link> {
    if backend.kind() == BackendKind::User {
        return Err(Error {
            errno: Errno::EOPNOTSUPP,
            what: "BPF_LINK_CREATE".to_owned(),
            detail: "the user backend has no live hooks; use --backend kernel, or --pcap"
                .to_owned(),
            log: String::new(),
        });
    }
    match hook {
        Hook::Tracepoint { category, name } => tracing::tracepoint(backend, prog, category, name),
        Hook::RawTracepoint { name } => tracing::raw_tracepoint(backend, prog, name),
        Hook::Loaded => tracing::loaded(backend, prog),
        Hook::Uprobe(probe) => uprobe::attach(backend, prog, probe),
        Hook::Kprobe {
            symbol,
            offset,
            end,
        } => perf::kprobe(backend, prog, symbol, *offset, *end),
        Hook::PerfEvent {
            kind,
            config,
            rate,
            pid,
        } => perf::sampling(backend, prog, (*kind, *config), *rate, *pid),
        Hook::Xdp { ifindex, mode } => xdp::attach(backend, prog, *ifindex, *mode),
        Hook::Tc { ifindex, direction } => tc::attach(backend, prog, *ifindex, *direction),
        Hook::TcFilter { ifindex, direction } => tc::filter(backend, prog, *ifindex, *direction),
        Hook::Cgroup { path, attach_type } => cgroup::attach(backend, prog, path, *attach_type),
        Hook::Netns { path, attach_type } => cgroup::attach(backend, prog, path, *attach_type),
        Hook::UprobeMulti {
            file,
            symbols,
            end,
            pid,
        } => uprobe::attach_multi(backend, prog, file, symbols, *end, *pid),
        Hook::KprobeMulti { symbols, end } => {
            let target = LinkTarget::KprobeMulti {
                symbols: symbols.clone(),
                cookies: Vec::new(),
                ret: *end == End::Return,
            };
            let create = LinkCreate {
                prog,
                attach_type: AttachType::TraceKprobeMulti,
                target,
                flags: 0,
            };
            Link::of(backend, &create, None)
        }
        Hook::Socket { socket } => socket::attach(backend, prog, *socket, socket::Kind::Filter),
        Hook::Reuseport { socket } => {
            socket::attach(backend, prog, *socket, socket::Kind::Reuseport)
        }
        Hook::Sockmap { map, attach_type } => socket::attach_map(backend, prog, *map, *attach_type),
        Hook::Netfilter {
            family,
            hook,
            priority,
        } => {
            let target = LinkTarget::Netfilter {
                family: *family,
                hook: *hook,
                priority: *priority,
            };
            let create = LinkCreate {
                prog,
                attach_type: AttachType::Netfilter,
                target,
                flags: 0,
            };
            Link::of(backend, &create, None)
        }
    }
}

/// A system call beside `bpf(2)` was refused.
fn refused(what: &str, error: &std::io::Error) -> Error {
    Error {
        errno: crate::kernel::errno(error),
        what: what.to_owned(),
        detail: match error.raw_os_error() {
            Some(_) => String::new(),
            None => error.to_string(),
        },
        log: String::new(),
    }
}
