//! Every hook: attach, make it fire, read its counter, detach, see that it counts no more.

use skep::attach::{Direction, Ends, Hook, Link, Rate, Where, attach, hook};
use skep::cgroup::Group;
use skep::child::Child;
use skep::iterator::Over;
use skep::load::{LoadOptions, Loaded, load};
use skep::{Kernel, iterator};
use skep_abi::{AttachType, MapType};
use skep_bpf::{Backend, Errno, Handle, MapCreate, ObjKind};
use skep_sys::namespace::enter_new_network;
use skep_sys::netlink;
use skep_tests::need::{Need, met};
use skep_tests::objects::linked;
use skep_tests::table::{refused, works};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Places in `hits`, in the order of the object's enumeration.
#[rustfmt::skip] // as in the enumeration
const PLACES: &[&str] = &[
    "tracepoint", "raw_tracepoint", "tp_btf", "fentry", "lsm", "uprobe", "uretprobe", "uprobe_multi", "kprobe",
    "perf_event", "iterator", "xdp", "tcx_ingress", "tcx_egress", "clsact", "netfilter", "socket", "sk_lookup",
    "flow_dissector", "sk_msg", "sk_skb", "uprobe_session", "kprobe_multi", "kprobe_session", "fmod_ret", "watchpoint",
    "xdp_frags", "lwt_xmit", "sk_reuseport", "syscall", "netkit", "usdt",
    "fexit", "kretprobe", "ksyscall", "kretprobe_multi", "uprobe_s", "lsm_s", "raw_tracepoint_w",
    "iter_task_file", "iter_task_vma", "iter_bpf_map", "iter_bpf_prog", "iter_bpf_link", "iter_tcp", "iter_udp", "iter_unix",
    "iter_netlink", "iter_ksym", "iter_element", "iter_cgroup",
    "lsm_cgroup", "cgroup_ingress", "cgroup_egress", "sock_create", "sock_release", "connect4",
    "bind4", "post_bind4", "sendmsg4", "recvmsg4", "getpeername4", "getsockname4", "getsockopt", "setsockopt", "sysctl",
    "device", "sockops", "connect_unix",
];

/// How long a hook may take to fire.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// Where `getppid` is: in the C library, or in this program if it is linked into it.
pub(crate) fn getppid_file() -> std::path::PathBuf {
    let libraries = [
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib/aarch64-linux-gnu/libc.so.6",
        "/lib64/libc.so.6",
    ];
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    match libraries
        .iter()
        .find(|l| maps.contains("libc.so") && std::path::Path::new(l).exists())
    {
        Some(_) => "libc.so.6".into(),
        None => std::env::current_exe().unwrap(),
    }
}

/// One program of the object, in the kernel.
pub(crate) struct Case {
    pub(crate) backend: Arc<dyn Backend>,
    kernel: Arc<Kernel>,
    pub(crate) loaded: Loaded,
    place: u32,
}

impl Case {
    /// Loads one program; `None` if this kernel refuses it, which is then said.
    pub(crate) fn load(name: &str) -> Option<Self> {
        let kernel = Arc::new(Kernel::new());
        let linked = linked("attach", kernel.as_ref());
        let backend: Arc<dyn Backend> = Arc::clone(&kernel) as Arc<dyn Backend>;
        let options = LoadOptions {
            program: Some(format!("on_{name}")),
            ..LoadOptions::default()
        };
        match load(&linked, &backend, &options) {
            Ok(loaded) => {
                let place = PLACES.iter().position(|p| *p == name).unwrap();
                Some(Self {
                    backend,
                    kernel,
                    loaded,
                    place: u32::try_from(place).unwrap(),
                })
            }
            Err(error) => {
                refused(name, &error);
                None
            }
        }
    }

    /// Says that it works here.
    pub(crate) fn works(&self) {
        works(self.name());
    }

    fn name(&self) -> &'static str {
        PLACES[self.place as usize]
    }

    pub(crate) fn prog(&self) -> Handle {
        self.loaded.programs[0].handle
    }

    pub(crate) fn hits(&self) -> u64 {
        let map = self.loaded.map("hits").unwrap().handle;
        let mut value = [0; 8];
        self.backend
            .map_lookup(map, &self.place.to_ne_bytes(), &mut value, 0)
            .unwrap();
        u64::from_ne_bytes(value)
    }

    /// The hook that the section name means.
    pub(crate) fn hook(&self, place: &Where) -> Hook {
        hook(&self.loaded.programs[0].spec, place).unwrap()
    }

    /// Attaches, fires until the counter moves, detaches, and sees that firing moves it no more.
    pub(crate) fn run(&self, hook: &Hook, mut fire: impl FnMut()) {
        let link = match attach(&self.backend, self.prog(), hook) {
            Ok(link) => link,
            Err(error) if is_missing_here(hook, error.errno) => {
                refused(self.name(), &error);
                return;
            }
            Err(error) => panic!("{}: {error}", self.name()),
        };
        self.fires_until_dropped(link, &mut fire);
    }

    fn fires_until_dropped(&self, link: Link, fire: &mut impl FnMut()) {
        let name = self.name();
        let deadline = Instant::now() + PATIENCE;
        while self.hits() == 0 {
            assert!(Instant::now() < deadline, "{name} did not fire");
            fire();
        }
        self.answers(&link, name);
        drop(link);
        // Runs under way may still count.
        std::thread::sleep(Duration::from_millis(5));
        let before = self.hits();
        fire();
        assert_eq!(
            self.hits(),
            before,
            "{name} still fires after it was detached"
        );
        self.works();
    }
}

/// Kinds of link whose program can be swapped; the kernel refuses it to others.
const SWAPPED: &[&str] = &["xdp", "tcx", "netkit", "cgroup", "netns"];

impl Case {
    /// The link tells what it is, is found by its id and at a path, and swaps its program where it can.
    fn answers(&self, link: &Link, name: &str) {
        let (backend, path) = (
            &self.backend,
            format!("/sys/fs/bpf/skep-{}-{name}", std::process::id()),
        );
        if link.handles().is_empty() {
            let refused = link.pin(path.as_ref()).unwrap_err();
            assert_eq!(refused.errno, Errno::EOPNOTSUPP, "{name}");
            return;
        }
        let program = backend.prog_info(self.prog()).unwrap();
        for handle in link.handles() {
            let info = backend.link_info(handle).unwrap();
            assert_eq!(info.prog_id, program.id, "{name}");
            let same = backend.by_id(ObjKind::Link, info.id).unwrap();
            assert_eq!(backend.link_info(same).unwrap(), info, "{name}");
            backend.close(same);
            backend.obj_pin(handle, path.as_ref()).unwrap();
            let pinned = backend.obj_get(path.as_ref());
            std::fs::remove_file(&path).unwrap();
            let pinned = pinned.unwrap();
            assert_eq!(backend.link_info(pinned).unwrap().id, info.id, "{name}");
            backend.close(pinned);
            let swapped = backend.link_update(handle, self.prog(), None);
            match swapped {
                Ok(()) => {}
                Err(error) => {
                    assert!(!SWAPPED.contains(&info.link_type), "{name}: {error}");
                    let refused = [Errno::EINVAL, Errno::EOPNOTSUPP];
                    assert!(refused.contains(&error.errno), "{name}: {error}");
                }
            }
        }
    }
}

/// What this kernel was built without.
fn is_missing_here(hook: &Hook, errno: Errno) -> bool {
    matches!(
        (hook, errno),
        (
            Hook::Kprobe { .. } | Hook::KprobeMulti { .. },
            Errno::ENOENT
        ) | (Hook::UprobeMulti { .. }, Errno::EINVAL)
            | (Hook::KprobeMulti { .. }, Errno::EINVAL | Errno::EOPNOTSUPP)
    )
}

pub(crate) fn needs() -> bool {
    met(&[Need::Root, Need::Bpf])
}

/// A network of our own with a loopback device that is on; for this thread.
pub(crate) fn own_network() -> Where {
    enter_new_network().unwrap();
    netlink::Socket::open().unwrap().up(1).unwrap();
    Where {
        ifindex: Some(1),
        ..Where::default()
    }
}

pub(crate) fn datagram() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender
        .send_to(b"hello", receiver.local_addr().unwrap())
        .unwrap();
    let _ = receiver.recv_from(&mut [0; 16]);
}

fn parent() {
    let _ = std::os::unix::process::parent_id();
}

#[test]
fn tracing_hooks_fire() {
    if !needs() {
        return;
    }
    let everyone = Where::default();
    let read = || drop(std::fs::read("/etc/hostname"));
    let burn = || {
        let until = Instant::now() + Duration::from_millis(30);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    };
    let cases: &[(&str, &dyn Fn())] = &[
        ("tracepoint", &parent),
        ("uprobe", &parent),
        ("uretprobe", &parent),
        ("uprobe_s", &parent),
        ("kprobe", &read),
        ("kretprobe", &read),
        ("ksyscall", &parent),
        ("perf_event", &burn),
    ];
    for (name, fire) in cases {
        let Some(case) = Case::load(name) else {
            continue;
        };
        let pid = matches!(*name, "perf_event" | "uprobe" | "uretprobe" | "uprobe_s")
            .then(std::process::id);
        let mut hook = case.hook(&Where {
            pid,
            ..everyone.clone()
        });
        if let Hook::Uprobe(probe) = &mut hook {
            probe.file = getppid_file();
        }
        case.run(&hook, fire);
    }
    // PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK
    let task_clock = Hook::PerfEvent {
        kind: 1,
        config: 1,
        rate: Rate::Hertz(1000),
        pid: Some(std::process::id()),
    };
    Case::load("perf_event").unwrap().run(&task_clock, burn);
    works("task_clock");
    for (name, ends, symbol) in [
        ("uprobe_multi", Ends::Entry, "getppid"),
        ("uprobe_multi", Ends::Return, "getppi*"),
        ("uprobe_session", Ends::Session, "getppid"),
    ] {
        let Some(case) = Case::load(name) else {
            continue;
        };
        let hook = Hook::UprobeMulti {
            file: getppid_file(),
            symbols: vec![symbol.to_owned()],
            ends,
            pid: None,
        };
        case.run(&hook, parent);
    }
    for name in ["kprobe_multi", "kretprobe_multi", "kprobe_session"] {
        let Some(case) = Case::load(name) else {
            continue;
        };
        case.run(&case.hook(&everyone), read);
    }
    // These see every system call of the machine: they cannot be seen to stop.
    for name in [
        "raw_tracepoint",
        "tp_btf",
        "fentry",
        "fexit",
        "fmod_ret",
        "lsm",
        "lsm_s",
    ] {
        let Some(case) = Case::load(name) else {
            continue;
        };
        let link = attach(&case.backend, case.prog(), &case.hook(&everyone)).unwrap();
        parent();
        read();
        assert!(case.hits() > 0, "{name}");
        drop(link);
        case.works();
    }
    if let (Some(case), Some(run)) = (Case::load("raw_tracepoint_w"), Case::load("syscall")) {
        let link = attach(&case.backend, case.prog(), &case.hook(&everyone)).unwrap();
        let answer = run.backend.prog_test_run(run.prog(), &Default::default());
        assert_eq!((answer.is_ok(), run.hits()), (true, 1));
        let xdp = Case::load("xdp").unwrap();
        let input = skep_bpf::TestRun {
            data_in: Some(vec![0; 64]),
            ..Default::default()
        };
        xdp.backend.prog_test_run(xdp.prog(), &input).unwrap();
        assert!(case.hits() > 0, "raw_tracepoint_w");
        drop(link);
        case.works();
    }
}

#[test]
fn iterators_walk() {
    if !needs() {
        return;
    }
    own_network();
    // What there is to walk over: sockets of each kind, beside what every kernel has.
    let _tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let _udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let _unix = std::os::unix::net::UnixStream::pair().unwrap();
    let _netlink = netlink::Socket::open().unwrap();
    let link = Case::load("raw_tracepoint").unwrap();
    let _link = attach(&link.backend, link.prog(), &link.hook(&Where::default())).unwrap();
    let first = PLACES.iter().position(|p| *p == "iter_task_file").unwrap();
    let last = PLACES.iter().position(|p| *p == "iter_cgroup").unwrap();
    for name in ["iterator"].iter().chain(&PLACES[first..=last]) {
        let Some(case) = Case::load(name) else {
            continue;
        };
        let group = (*name == "iter_cgroup").then(|| Group::create().unwrap());
        let over = match (*name, &group) {
            ("iter_element", _) => Over::Map(case.loaded.map("hits").unwrap().handle),
            (_, Some(group)) => Over::Group(group.path().to_owned()),
            _ => Over::All,
        };
        iterator::read_over(&case.kernel, case.prog(), over).unwrap();
        // The last call, after all elements, is one too.
        assert!(case.hits() > 1, "{name}: {} calls", case.hits());
        case.works();
    }
}

#[test]
fn network_hooks_fire() {
    if !needs() {
        return;
    }
    let place = own_network();
    for name in ["xdp", "xdp_frags", "tcx_ingress", "tcx_egress", "sk_lookup"] {
        let Some(case) = Case::load(name) else {
            continue;
        };
        case.run(&case.hook(&place), datagram);
    }
    if let Some(case) = Case::load("clsact") {
        case.run(
            &Hook::TcFilter {
                ifindex: 1,
                direction: Direction::Egress,
            },
            datagram,
        );
        case.run(
            &Hook::TcFilter {
                ifindex: 1,
                direction: Direction::Ingress,
            },
            datagram,
        );
        assert_eq!(
            netlink::Socket::open()
                .unwrap()
                .filters(1, netlink::Side::Ingress)
                .unwrap_or_default(),
            vec![]
        );
    }
    if let Some(case) = Case::load("netfilter") {
        // NFPROTO_IPV4, NF_INET_LOCAL_IN
        case.run(
            &Hook::Netfilter {
                family: 2,
                hook: 1,
                priority: -10,
                defrag: false,
            },
            datagram,
        );
    }
    if let Some(case) = Case::load("flow_dissector") {
        // Nothing on a loopback device asks for a dissection.
        drop(attach(&case.backend, case.prog(), &case.hook(&place)).unwrap());
        case.works();
    }
}

#[test]
fn socket_hooks_fire() {
    if !needs() {
        return;
    }
    own_network();
    if let Some(case) = Case::load("socket") {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let address = receiver.local_addr().unwrap();
        case.run(
            &Hook::Socket {
                socket: receiver.as_raw_fd(),
            },
            || {
                UdpSocket::bind("127.0.0.1:0")
                    .unwrap()
                    .send_to(b"hello", address)
                    .unwrap();
                let _ = receiver.recv_from(&mut [0; 16]);
            },
        );
    }
    for (name, attach_type) in [
        ("sk_msg", AttachType::SkMsgVerdict),
        ("sk_skb", AttachType::SkSkbStreamVerdict),
    ] {
        for map_type in [MapType::Sockmap, MapType::Sockhash] {
            if let Some(case) = Case::load(name) {
                let create = MapCreate::new(map_type, 4, 4, 4);
                let map = case.backend.map_create(&create).unwrap();
                case.sees_streams(map, attach_type);
            }
        }
    }
}

impl Case {
    /// The program of a map of sockets sees what goes through one of them.
    fn sees_streams(&self, map: Handle, attach_type: AttachType) {
        let name = self.name();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let hook = Hook::Sockmap { map, attach_type };
        let link = attach(&self.backend, self.prog(), &hook).unwrap();
        let in_map = if attach_type == AttachType::SkMsgVerdict {
            client.as_raw_fd()
        } else {
            server.as_raw_fd()
        };
        self.backend
            .map_update(map, &[0; 4], &in_map.to_ne_bytes(), 0)
            .unwrap();
        let mut talk = || {
            client.write_all(b"hello").unwrap();
            let _ = server.read(&mut [0; 64]);
        };
        let deadline = Instant::now() + PATIENCE;
        while self.hits() == 0 {
            assert!(Instant::now() < deadline, "{name} did not fire");
            talk();
        }
        drop(link);
        // A socket keeps the program that its map had when it came in, for as long as it stays.
        self.backend.map_delete(map, &[0; 4]).unwrap();
        let before = self.hits();
        talk();
        let after = self.hits();
        assert_eq!(after, before, "{name} still fires after it was detached");
        self.works();
    }
}

/// Not a test of its own: what the child in the control group does.
#[test]
#[ignore = "the child of cgroup_hooks_fire"]
fn traffic_of_the_child() {
    let _ = std::fs::read("/proc/sys/kernel/ostype");
    drop(std::fs::File::open("/dev/null"));
    let path = std::env::temp_dir().join(format!("skep-{}.sock", std::process::id()));
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    drop(unix);
    std::fs::remove_file(&path).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap(); // also sets SO_REUSEADDR
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.take_error().unwrap(); // SO_ERROR
    client.peer_addr().unwrap();
    client.local_addr().unwrap();
    datagram();
}

#[test]
fn cgroup_hooks_fire() {
    if !needs() {
        return;
    }
    let Ok(group) = Group::create() else {
        println!("skipped: root");
        return;
    };
    own_network();
    let place = Where {
        cgroup: Some(group.path().to_owned()),
        ..Where::default()
    };
    let this = std::env::current_exe().unwrap();
    let fire = || {
        let words = [
            this.to_str().unwrap(),
            "--exact",
            "attach::traffic_of_the_child",
            "--ignored",
            "--quiet",
        ];
        let procs = group.procs().unwrap();
        let mut child = Child::hold(&words, Some(procs.as_raw_fd())).unwrap();
        child.release().unwrap();
        assert_eq!(child.wait().unwrap(), 0);
    };
    let first = PLACES.iter().position(|p| *p == "lsm_cgroup").unwrap();
    let mut cases: Vec<(Case, Link)> = Vec::new();
    for name in &PLACES[first..] {
        let Some(case) = Case::load(name) else {
            continue;
        };
        match attach(&case.backend, case.prog(), &case.hook(&place)) {
            Ok(link) => cases.push((case, link)),
            // Sockets of this family have the hook since Linux 6.7.
            Err(error) if *name == "connect_unix" && error.errno == Errno::EINVAL => {
                refused(name, &error);
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
    fire();
    let silent: Vec<_> = cases
        .iter()
        .filter(|(c, _)| c.hits() == 0)
        .map(|(c, _)| c.name())
        .collect();
    assert_eq!(silent, Vec::<&str>::new(), "hooks that did not fire");
    let cases: Vec<Case> = cases.into_iter().map(|(case, _)| case).collect();
    let before: Vec<u64> = cases.iter().map(Case::hits).collect();
    fire();
    assert_eq!(
        cases.iter().map(Case::hits).collect::<Vec<_>>(),
        before,
        "hooks that fire after they were detached"
    );
    cases.iter().for_each(Case::works);
}
