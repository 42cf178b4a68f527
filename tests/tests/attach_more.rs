//! Hooks that need more than an object and a place: structures of operations, programs that replace functions, routes,
//! watchpoints, statically defined probes, and the order of programs.

use crate::attach::{Case, PATIENCE, datagram, needs, own_network};
use skep::Kernel;
use skep::attach::{Hook, LwtHook, Order, Other, Route, Usdt, UsdtSpecs, Watch, WatchFor, attach};
use skep::load::{LoadOptions, Loaded, load};
use skep_bpf::{Backend, Errno, TestRun};
use skep_sys::{netlink, socket};
use skep_tests::objects::linked;
use skep_tests::table::{refused, works};
use skep_tests::usdt;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

fn kernel() -> Arc<dyn Backend> {
    Arc::new(Kernel::new())
}

/// Connects a socket with this congestion control.
fn connect(congestion: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    socket::set_congestion(listener.as_fd(), congestion)?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    drop(listener.accept()?);
    drop(client);
    Ok(())
}

fn inits(loaded: &Loaded) -> u64 {
    let map = loaded.map(".bss").unwrap().handle;
    let mut value = [0; 8];
    loaded
        .backend()
        .map_lookup(map, &[0; 4], &mut value, 0)
        .unwrap();
    u64::from_ne_bytes(value)
}

#[test]
fn structures_of_operations_are_called() {
    if !needs() {
        return;
    }
    own_network();
    let backend = kernel();
    let options = LoadOptions {
        optional: true,
        ..LoadOptions::default()
    };
    let loaded = load(&linked("struct_ops", backend.as_ref()), &backend, &options).unwrap();
    for (map, row, congestion) in [
        ("by_value", "struct_ops", "skep_value"),
        ("by_link", "struct_ops_link", "skep_link"),
    ] {
        if loaded.map(map).is_none() {
            // Links of structures are younger than structures.
            let mut of_map = loaded.refused.iter().filter(|(name, _)| name == map);
            refused(row, &of_map.next().unwrap().1);
            assert_eq!(map, "by_link");
            continue;
        }
        assert!(
            connect(congestion).is_err(),
            "{congestion} is registered already"
        );
        let hook = loaded.struct_ops(map).unwrap();
        let handle = loaded.map(map).unwrap().handle;
        let link = match attach(&backend, handle, &hook) {
            Ok(link) => link,
            Err(error) if error.errno == Errno::EINVAL && map == "by_link" => {
                refused(row, &error);
                continue;
            }
            Err(error) => panic!("{map}: {error}"),
        };
        let before = inits(&loaded);
        connect(congestion).unwrap();
        assert!(inits(&loaded) > before, "{map} was not called");
        drop(link);
        let deadline = Instant::now() + PATIENCE;
        // Sockets that still close use it.
        while connect(congestion).is_ok() {
            assert!(Instant::now() < deadline, "{map} is still registered");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        works(row);
    }
    let no_map = loaded.struct_ops(".bss");
    assert!(no_map.is_none());
}

#[test]
fn functions_of_programs_are_replaced() {
    const XDP_PASS: u32 = 2;
    const XDP_DROP: u32 = 1;
    if !needs() {
        return;
    }
    let backend = kernel();
    let linked = linked("freplace", backend.as_ref());
    let only = |name: &str, extends| LoadOptions {
        program: Some(name.to_owned()),
        extends,
        ..LoadOptions::default()
    };
    let base = load(&linked, &backend, &only("base", None)).unwrap();
    let target = base.programs[0].handle;
    let verdict = || {
        let run = TestRun {
            data_in: Some(vec![0; 64]),
            ..TestRun::default()
        };
        backend.prog_test_run(target, &run).unwrap().retval
    };
    let nothing = load(&linked, &backend, &only("drop", None)).unwrap_err();
    assert!(
        nothing.to_string().contains("say which program"),
        "{nothing}"
    );
    let replacement = match load(&linked, &backend, &only("drop", Some(target))) {
        Ok(loaded) => loaded,
        Err(error) => {
            refused("freplace", &error);
            return;
        }
    };
    assert_eq!(verdict(), XDP_PASS);
    let link = attach(&backend, replacement.programs[0].handle, &Hook::Loaded).unwrap();
    assert_eq!(verdict(), XDP_DROP);
    drop(link);
    let deadline = Instant::now() + PATIENCE;
    while verdict() != XDP_PASS {
        assert!(Instant::now() < deadline, "the function is still replaced");
    }
    // The same replacement in a program that it was not loaded for.
    let another = load(&linked, &backend, &only("base", None)).unwrap();
    let other = another.programs[0].handle;
    let name = replacement.programs[0].spec.target.clone();
    let hook = |name: String| Hook::Function { prog: other, name };
    let missing = attach(
        &backend,
        replacement.programs[0].handle,
        &hook("no_such".to_owned()),
    );
    assert_eq!(missing.unwrap_err().errno, Errno::ENOENT);
    let link = attach(&backend, replacement.programs[0].handle, &hook(name)).unwrap();
    let run = TestRun {
        data_in: Some(vec![0; 64]),
        ..TestRun::default()
    };
    assert_eq!(backend.prog_test_run(other, &run).unwrap().retval, XDP_DROP);
    assert_eq!(verdict(), XDP_PASS);
    drop(link);
    works("freplace");
}

/// What the watchpoint watches.
static WATCHED: AtomicU64 = AtomicU64::new(0);

#[test]
fn memory_is_watched() {
    if !needs() {
        return;
    }
    let Some(case) = Case::load("watchpoint") else {
        return;
    };
    // The event belongs to a thread: this one, which has the first number only in a process of one thread.
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    let thread: u32 = thread
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let hook = Hook::Watchpoint {
        pid: thread,
        watch: Watch {
            address: WATCHED.as_ptr() as u64,
            bytes: 8,
            what: WatchFor::Write,
        },
    };
    case.run(&hook, || WATCHED.store(1, Ordering::Relaxed));
}

#[test]
fn packets_of_a_route_are_seen() {
    if !needs() {
        return;
    }
    own_network();
    let Some(case) = Case::load("lwt_xmit") else {
        return;
    };
    let to = Ipv4Addr::new(10, 99, 0, 1);
    let hook = Hook::Lwt {
        route: Route { to, ifindex: 1 },
        hook: LwtHook::Xmit,
    };
    case.run(&hook, || {
        let sender = UdpSocket::bind("0.0.0.0:0").unwrap();
        // Without the route there is no way.
        let _ = sender.send_to(b"hello", (to, 9));
    });
}

#[test]
fn a_group_of_sockets_is_chosen_from() {
    if !needs() {
        return;
    }
    own_network();
    let Some(case) = Case::load("sk_reuseport") else {
        return;
    };
    let receiver = socket::shared_udp(0).unwrap();
    let address = receiver.local_addr().unwrap();
    let hook = Hook::Reuseport {
        socket: receiver.as_raw_fd(),
    };
    case.run(&hook, || {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"hello", address).unwrap();
    });
}

#[test]
fn classic_filters_choose() {
    if !needs() {
        return;
    }
    own_network();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let patience = std::time::Duration::from_millis(100);
    receiver.set_read_timeout(Some(patience)).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let arrives = |bytes: &[u8]| {
        let to = receiver.local_addr().unwrap();
        sender.send_to(bytes, to).unwrap();
        receiver.recv(&mut [0; 16]).is_ok()
    };
    // The first byte behind the UDP header: ldb [8]; jeq #'y'; ret whole or nothing
    let only_y = [
        (0x30, 0, 0, 8),
        (0x15, 0, 1, u32::from(b'y')),
        (0x06, 0, 0, u32::MAX),
        (0x06, 0, 0, 0),
    ];
    socket::attach_classic(receiver.as_fd(), &only_y).unwrap();
    assert!(arrives(b"yes") && !arrives(b"no"));
    socket::detach_filter(receiver.as_fd()).unwrap();
    assert!(arrives(b"no"));
    works("classic");
}

#[test]
fn programs_stand_in_the_order_asked_for() {
    if !needs() {
        return;
    }
    let place = own_network();
    let ifindex = place.ifindex.unwrap();
    let Some(case) = Case::load("tcx_ingress") else {
        return;
    };
    let again = Case::load("tcx_ingress").unwrap();
    let third = Case::load("tcx_ingress").unwrap();
    let at = |order| Hook::Tc {
        ifindex,
        direction: skep::attach::Direction::Ingress,
        order,
    };
    let Ok(first) = attach(&case.backend, case.prog(), &at(Order::First)) else {
        println!("tcx: this kernel has no order of programs");
        return;
    };
    let before = attach(&again.backend, again.prog(), &at(Order::First)).unwrap();
    let other = Other::ProgramId(again.backend.prog_info(again.prog()).unwrap().id);
    let between = attach(&third.backend, third.prog(), &at(Order::After(other))).unwrap();
    let ids: Vec<u32> = skep::net::overview()
        .unwrap()
        .tc
        .iter()
        .map(|a| a.prog_id)
        .collect();
    let id = |case: &Case| case.backend.prog_info(case.prog()).unwrap().id;
    assert_eq!(ids, [id(&again), id(&third), id(&case)]);
    drop((first, before, between));
    assert_eq!(skep::net::overview().unwrap().tc, []);
}

#[test]
fn programs_of_type_syscall_run() {
    if !needs() {
        return;
    }
    let Some(case) = Case::load("syscall") else {
        return;
    };
    case.backend
        .prog_test_run(case.prog(), &TestRun::default())
        .unwrap();
    assert_eq!(case.hits(), 1);
    case.works();
}

#[test]
fn packets_of_a_netkit_device_are_seen() {
    if !needs() {
        return;
    }
    own_network();
    let mut socket = netlink::Socket::open().unwrap();
    if let Err(error) = socket.device_add("netkit", "skepnk") {
        refused("netkit", &error);
        return;
    }
    let ifindex = netlink::ifindex("skepnk").unwrap();
    let Some(case) = Case::load("netkit") else {
        return;
    };
    let hook = Hook::Netkit {
        ifindex,
        peer: false,
        order: Order::Last,
    };
    let peer = skep::net::devices().unwrap();
    let peer = peer
        .iter()
        .find(|(i, name)| *i != ifindex && name != "lo")
        .map(|(i, _)| *i);
    case.run(&hook, || {
        // Devices that come up speak of themselves.
        for index in [Some(ifindex), peer].into_iter().flatten() {
            socket.up(index).unwrap();
        }
        datagram();
        std::thread::sleep(std::time::Duration::from_millis(50));
    });
}

/// A register and the constant 7, as notes say it.
const ARGUMENTS: &str = if cfg!(target_arch = "x86_64") {
    "-8@%rdi -4@$7"
} else {
    "-8@x0 -4@7"
};

#[test]
fn statically_defined_probes_fire() {
    if !needs() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("skep-usdt-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("skep_usdt");
    let bytes = usdt::program(&usdt::note(ARGUMENTS));
    let mut options = std::fs::OpenOptions::new();
    let file = options.create_new(true).write(true).mode(0o755);
    let written = file.open(&program).and_then(|mut f| f.write_all(&bytes));
    written.unwrap();
    let case = Case::load("usdt").unwrap();
    // What libbpf's usdt.bpf.h declares: 12 arguments of 16 bytes, a cookie, a count.
    let create = skep_bpf::MapCreate::new(skep_abi::MapType::Array, 4, 208, 4);
    let specs = case.backend.map_create(&create).unwrap();
    let probe = Usdt {
        file: program.clone(),
        provider: "skep".to_owned(),
        name: "step".to_owned(),
        pid: None,
        cookie: 99,
        specs: Some(UsdtSpecs::new(specs, 208)),
    };
    case.run(&Hook::Usdt(probe.clone()), || {
        assert!(
            std::process::Command::new(&program)
                .status()
                .unwrap()
                .success()
        );
    });
    let mut value = [0; 208];
    case.backend
        .map_lookup(specs, &[0; 4], &mut value, 0)
        .unwrap();
    let count = u16::from_ne_bytes([value[200], value[201]]);
    assert_eq!(count, 2, "two arguments");
    assert_eq!(value[8], 1, "the first lies in a register");
    assert_eq!(
        (value[16], value[24]),
        (7, 0),
        "the second is the constant 7"
    );
    assert_eq!(value[192..200], 99u64.to_ne_bytes());
    let missing = Usdt {
        name: "leap".to_owned(),
        ..probe
    };
    let error = attach(&case.backend, case.prog(), &Hook::Usdt(missing)).unwrap_err();
    assert!(
        error.to_string().contains("no probe \"skep:leap\""),
        "{error}"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}
