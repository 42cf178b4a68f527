//! Attaching programs: one file a family of hooks.
//!
//! A [`Link`] is the attachment; dropping it detaches. Hooks that are events of `perf_event_open(2)` keep the event open
//! for as long as the link lives.
//!
//! ```no_run
//! use skep::attach::{Hook, Link, XdpMode, attach};
//! # fn replace(
//! #     kernel: std::sync::Arc<dyn skep_bpf::Backend>,
//! #     loaded: skep::load::Loaded,
//! #     newer: skep::load::Loaded,
//! # ) -> Result<(), skep_bpf::Error> {
//! let hook = Hook::Xdp { ifindex: 2, mode: XdpMode::Any };
//! let link: Link = attach(&kernel, loaded.programs[0].handle, &hook)?;
//! link.replace(newer.programs[0].handle)?; // no packet goes by unseen
//! link.pin("/sys/fs/bpf/my_link".as_ref())?; // stays when this process ends
//! # Ok(())
//! # }
//! ```

mod cgroup;
mod elf;
mod order;
mod perf;
mod section;
mod socket;
mod tc;
mod tracing;
mod uprobe;
mod usdt;
mod xdp;

pub use self::order::{Order, Other};
pub use self::section::{Where, hook, minds_pid};
pub use self::tc::Direction;
pub use self::uprobe::{Place, Probe};
pub use self::usdt::{Usdt, UsdtProbe, UsdtSpecs, usdt_probes};
pub use self::xdp::XdpMode;
pub use skep_sys::netlink::{LwtHook, Route};
pub use skep_sys::perf::{End, Rate, Watch, WatchFor};

use skep_abi::AttachType;
use skep_bpf::{Backend, BackendKind, Errno, Error, Handle, LinkCreate, LinkTarget, Result};
use skep_sys::attr::ProgAttach;
use skep_sys::bpf_prog;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which ends of several functions one link probes.
///
/// ```no_run
/// # use skep::attach::*;
/// # fn example(kernel: std::sync::Arc<dyn skep_bpf::Backend>, prog: skep_bpf::Handle) -> Result<(), skep_bpf::Error> {
/// let symbols = vec!["tcp_sendmsg".to_owned(), "tcp_recvmsg".to_owned()];
/// let hook = Hook::KprobeMulti { symbols, ends: Ends::Return };
/// let link = attach(&kernel, prog, &hook)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ends {
    /// Their first instructions.
    Entry,
    /// Their returns.
    Return,
    /// Both; what the program returns at the entry decides whether it runs at the return.
    Session,
}

/// Where a program is attached.
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
/// let ifindex = universe.add_device("eth0")?; // with `Kernel`: skep::net::ifindex("eth0")
/// let hook = Hook::Xdp { ifindex, mode: XdpMode::Any };
/// let link = attach(&backend, loaded.programs[0].handle, &hook)?;
/// assert_eq!(universe.receive(ifindex, &[0; 64])?.runs.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// A function of another program than the one that a `freplace` program was loaded for.
    Function {
        /// The other program.
        prog: Handle,
        /// Its function, which must take the same arguments.
        name: String,
    },
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
    /// A statically defined probe of an executable or library.
    Usdt(Usdt),
    /// Accesses to some bytes of a process's memory.
    Watchpoint {
        /// The process.
        pid: u32,
        /// The bytes and what is done to them.
        watch: Watch,
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
        /// Place among the programs there.
        order: Order,
    },
    /// Packets of a netkit device.
    Netkit {
        /// Number of its primary device.
        ifindex: u32,
        /// Those of the peer instead of those of the primary device.
        peer: bool,
        /// Place among the programs there.
        order: Order,
    },
    /// Packets of a route (a lightweight tunnel), which is made for it.
    Lwt {
        /// The route.
        route: Route,
        /// Which of its packets.
        hook: LwtHook,
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
        /// Place among the programs there.
        order: Order,
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
        /// The functions, or patterns with `*` and `?`.
        symbols: Vec<String>,
        /// At their entry or return.
        ends: Ends,
        /// Only this process.
        pid: Option<u32>,
    },
    /// Several functions of the kernel, with one link.
    KprobeMulti {
        /// The functions, or patterns with `*` and `?`.
        symbols: Vec<String>,
        /// At their entry or return.
        ends: Ends,
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
        /// Packets in fragments are put together first.
        defrag: bool,
    },
    /// The kernel calls the programs of a structure of operations; see [`crate::load::Loaded::struct_ops`]. The program that is
    /// attached with it does not matter.
    StructOps {
        /// The map.
        map: Handle,
        /// Its value, with programs in place.
        value: Vec<u8>,
        /// It is registered by a link (`.struct_ops.link`), not by setting the value.
        by_link: bool,
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
    /// A route.
    Route(Route),
    /// The element of a map whose value is in use.
    Element(Handle),
    /// An attachment without link.
    Plain(ProgAttach),
    /// Several attachments that belong together; they let go themselves.
    Many(Vec<Link>),
}

/// An attachment; dropping it detaches.
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
/// let hook = Hook::Xdp { ifindex, mode: XdpMode::Any };
/// let program = loaded.programs[0].handle;
/// let link = attach(&backend, program, &hook)?;
/// let busy = attach(&backend, program, &hook).unwrap_err();
/// assert_eq!(busy.errno, skep_bpf::Errno::EBUSY);
/// link.replace(program)?; // no packet goes by unseen
/// drop(link); // detaches
/// assert!(universe.receive(ifindex, &[0; 64])?.runs.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
            _ => None,
        }
    }

    /// The links that it is made of: several for sampling and USDT probes, one or none for other hooks.
    #[must_use]
    pub fn handles(&self) -> Vec<Handle> {
        match &self.hold {
            Hold::Many(links) => links.iter().flat_map(Self::handles).collect(),
            _ => self.handle().into_iter().collect(),
        }
    }

    /// Detaches; the same as dropping it, but also where the link is pinned or open elsewhere.
    ///
    /// # Errors
    /// Those of `BPF_LINK_DETACH`; `EOPNOTSUPP` of links that the kernel only detaches when nobody holds them.
    pub fn detach(self) -> Result<()> {
        self.handles()
            .into_iter()
            .try_for_each(|handle| self.backend.link_detach(handle))
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
            Hold::Route(route) => {
                // The device may be gone; then so is the route.
                let _ = skep_sys::netlink::Socket::open().and_then(|mut s| s.route_delete(*route));
            }
            // A structure that is in use elsewhere stays until it is not.
            Hold::Element(map) => drop(self.backend.map_delete(*map, &[0; 4])),
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
/// What the backend answers; `EOPNOTSUPP` on the user backend for all but XDP and tcx on devices of its own.
pub fn attach(backend: &Arc<dyn Backend>, prog: Handle, hook: &Hook) -> Result<Link> {
    attach_with(backend, prog, hook, 0)
}

/// Attaches a loaded program, which reads `cookie` with `bpf_get_attach_cookie`. Hooks without cookies leave it out.
///
/// # Errors
/// As [`attach`].
pub fn attach_with(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    hook: &Hook,
    cookie: u64,
) -> Result<Link> {
    if backend.kind() == BackendKind::User {
        return attach_in_user(backend, prog, hook);
    }
    match hook {
        Hook::Tracepoint { .. }
        | Hook::RawTracepoint { .. }
        | Hook::Loaded
        | Hook::Function { .. }
        | Hook::Uprobe(_)
        | Hook::Usdt(_)
        | Hook::Kprobe { .. }
        | Hook::UprobeMulti { .. }
        | Hook::KprobeMulti { .. }
        | Hook::Watchpoint { .. }
        | Hook::PerfEvent { .. } => trace(backend, prog, hook, cookie),
        _ => network(backend, prog, hook),
    }
}

/// Hooks of a universe: those of its own devices.
fn attach_in_user(backend: &Arc<dyn Backend>, prog: Handle, hook: &Hook) -> Result<Link> {
    match hook {
        Hook::Xdp { ifindex, mode } => xdp::attach(backend, prog, *ifindex, *mode),
        Hook::Tc {
            ifindex,
            direction,
            order,
        } => order::attach(backend, prog, *ifindex, direction.tcx(), *order),
        _ => Err(Error {
            errno: Errno::EOPNOTSUPP,
            what: "BPF_LINK_CREATE".to_owned(),
            detail: "the user backend has no such live hook; use --backend kernel, or --pcap"
                .to_owned(),
            log: String::new(),
        }),
    }
}

/// Hooks in code, of the kernel and of processes.
fn trace(backend: &Arc<dyn Backend>, prog: Handle, hook: &Hook, cookie: u64) -> Result<Link> {
    match hook {
        Hook::Tracepoint { category, name } => {
            tracing::tracepoint(backend, prog, category, name, cookie)
        }
        Hook::RawTracepoint { name } => tracing::raw_tracepoint(backend, prog, name, cookie),
        Hook::Function { prog: other, name } => {
            tracing::function(backend, prog, *other, name, cookie)
        }
        Hook::Uprobe(probe) => uprobe::attach(backend, prog, probe, cookie),
        Hook::Usdt(probe) => usdt::attach(backend, prog, probe),
        Hook::Kprobe {
            symbol,
            offset,
            end,
        } => perf::kprobe(backend, prog, (symbol, *offset), *end, cookie),
        Hook::UprobeMulti {
            file,
            symbols,
            ends,
            pid,
        } => uprobe::attach_multi(backend, prog, file, symbols, *ends, *pid, cookie),
        Hook::KprobeMulti { symbols, ends } => {
            tracing::kprobe_multi(backend, prog, symbols, *ends, cookie)
        }
        Hook::PerfEvent {
            kind,
            config,
            rate,
            pid,
        } => perf::sampling(backend, prog, (*kind, *config), *rate, *pid, cookie),
        Hook::Watchpoint { pid, watch } => perf::watchpoint(backend, prog, *pid, *watch, cookie),
        _ => tracing::loaded(backend, prog, cookie),
    }
}

/// Hooks of devices, sockets, groups and namespaces, and structures of operations.
fn network(backend: &Arc<dyn Backend>, prog: Handle, hook: &Hook) -> Result<Link> {
    match hook {
        Hook::Xdp { ifindex, mode } => xdp::attach(backend, prog, *ifindex, *mode),
        Hook::Tc {
            ifindex,
            direction,
            order,
        } => tc::attach(backend, prog, *ifindex, *direction, *order),
        Hook::TcFilter { ifindex, direction } => tc::filter(backend, prog, *ifindex, *direction),
        Hook::Netkit {
            ifindex,
            peer,
            order,
        } => {
            let attach_type = if *peer {
                AttachType::NetkitPeer
            } else {
                AttachType::NetkitPrimary
            };
            order::attach(backend, prog, *ifindex, attach_type, *order)
        }
        Hook::Lwt { route, hook } => lwt(backend, prog, *route, *hook),
        Hook::Cgroup {
            path,
            attach_type,
            order,
        } => cgroup::attach(backend, prog, path, *attach_type, *order),
        Hook::Netns { path, attach_type } => {
            cgroup::attach(backend, prog, path, *attach_type, Order::Last)
        }
        Hook::Socket { socket } => socket::attach(backend, prog, *socket, socket::Kind::Filter),
        Hook::Reuseport { socket } => {
            socket::attach(backend, prog, *socket, socket::Kind::Reuseport)
        }
        Hook::Sockmap { map, attach_type } => socket::attach_map(backend, prog, *map, *attach_type),
        Hook::StructOps {
            map,
            value,
            by_link,
        } => struct_ops(backend, *map, value, *by_link),
        Hook::Netfilter {
            family,
            hook,
            priority,
            defrag,
        } => {
            let target = LinkTarget::Netfilter {
                family: *family,
                hook: *hook,
                priority: *priority,
                flags: u32::from(*defrag),
            };
            let create = LinkCreate {
                prog,
                attach_type: AttachType::Netfilter,
                target,
                flags: 0,
            };
            Link::of(backend, &create, None)
        }
        _ => Err(Error::unsupported("BPF_LINK_CREATE of this hook")),
    }
}

/// Makes a route with a program.
fn lwt(backend: &Arc<dyn Backend>, prog: Handle, route: Route, hook: LwtHook) -> Result<Link> {
    const WHAT: &str = "netlink for a route with a program";
    let mut socket = skep_sys::netlink::Socket::open().map_err(|e| refused(WHAT, &e))?;
    let added = socket.route_add(route, hook, prog.0, "skep");
    added.map_err(|e| refused(WHAT, &e))?;
    Ok(Link {
        backend: Arc::clone(backend),
        hold: Hold::Route(route),
        _event: None,
    })
}

/// Registers a structure of operations.
fn struct_ops(
    backend: &Arc<dyn Backend>,
    map: Handle,
    value: &[u8],
    by_link: bool,
) -> Result<Link> {
    let set = backend.map_update(map, &[0; 4], value, 0);
    match set {
        // A structure for links that was set before.
        Err(error) if by_link && error.errno == Errno::EBUSY => {}
        other => other?,
    }
    if !by_link {
        return Ok(Link {
            backend: Arc::clone(backend),
            hold: Hold::Element(map),
            _event: None,
        });
    }
    let create = LinkCreate {
        prog: map,
        attach_type: AttachType::StructOps,
        target: LinkTarget::StructOps(map),
        flags: 0,
    };
    Link::of(backend, &create, None)
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
