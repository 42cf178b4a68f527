//! XDP programs of pairs of devices: what they do with packets shows at the other end.

use crate::attach::{PATIENCE, needs, own_network};
use skep::Kernel;
use skep::attach::{Hook, Link, XdpMode, attach};
use skep::load::Loaded;
use skep_bpf::Backend;
use skep_sys::netlink;
use skep_tests::need::{Need, met};
use skep_tests::objects::loaded;
use skep_tests::pair::{Pair, Tap, packet};
use skep_tests::table::works;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Places of counts, as in the object.
const DROP: u32 = 0;
const BACK: u32 = 1;
const SEEN: u32 = 2;
const PARTS: u32 = 3;
const TO_DEVICE: u32 = 4;
const TO_DEVMAP: u32 = 5;
const ON_DEVICE: u32 = 6;
const TO_CPUMAP: u32 = 7;
const ON_CPU: u32 = 8;
const FIB: u32 = 10;
const FOUND_DEVICE: u32 = 11;
/// Places of settings.
const DEVICE: u32 = 0;
const ADDRESS: u32 = 1;
/// `BPF_FIB_LKUP_RET_SUCCESS`, `…_NOT_FWDED`, and `…_NO_NEIGH`: there is a route, but nobody knows the neighbour's address.
const SUCCESS: u64 = 0;
const NOT_FORWARDED: u64 = 4;
const NO_NEIGHBOUR: u64 = 7;
/// Milliseconds after which a packet does not come any more.
const NEVER_MS: i32 = 100;
/// Milliseconds that a packet may take.
const SOON_MS: i32 = 3000;
/// Bytes that fit into a packet without parts, and a packet that does not.
const JUMBO_MTU: u32 = 9000;
const JUMBO_BYTES: usize = 8000;

/// Can pairs of devices be made here?
fn has_pairs() -> bool {
    needs() && met(&[Need::Veth])
}

/// The object in the kernel.
pub(crate) struct Programs {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) loaded: Loaded,
}

impl Programs {
    pub(crate) fn load() -> Self {
        let backend: Arc<dyn Backend> = Arc::new(Kernel::new());
        let loaded = loaded("redirect", &backend);
        Self { backend, loaded }
    }

    pub(crate) fn attach(&self, program: &str, ifindex: u32, mode: XdpMode) -> Link {
        let handle = self.loaded.program(program).unwrap().handle;
        attach(&self.backend, handle, &Hook::Xdp { ifindex, mode }).unwrap()
    }

    fn count(&self, place: u32) -> u64 {
        let map = self.loaded.map("counts").unwrap().handle;
        let mut value = [0; 8];
        self.backend
            .map_lookup(map, &place.to_ne_bytes(), &mut value, 0)
            .unwrap();
        u64::from_ne_bytes(value)
    }

    fn put(&self, map: &str, key: u32, words: &[u32]) {
        let value: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let map = self.loaded.map(map).unwrap().handle;
        self.backend
            .map_update(map, &key.to_ne_bytes(), &value, 0)
            .unwrap();
    }

    fn descriptor(&self, program: &str) -> u32 {
        self.loaded
            .program(program)
            .unwrap()
            .handle
            .0
            .cast_unsigned()
    }

    /// Waits until a count is there.
    fn reaches(&self, place: u32, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(place) < count {
            assert!(
                Instant::now() < deadline,
                "place {place}: {} of {count}",
                self.count(place)
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(self.count(place), count, "place {place}");
    }
}

/// A packet arrives on the far device, and after the program is gone the next one passes to the stack.
fn passes_after(link: Link, far: &Tap, near: &Tap) {
    drop(link);
    far.send(&packet(99, 64));
    let passed = near
        .next(SOON_MS)
        .expect("a packet after the program is gone");
    assert_eq!(passed, packet(99, 64));
}

#[test]
fn packets_are_dropped_and_sent_back() {
    if !has_pairs() {
        return;
    }
    for (mode, name) in [
        (XdpMode::Native, "xdp_native"),
        (XdpMode::Generic, "xdp_generic"),
    ] {
        own_network();
        let (programs, pair) = (Programs::load(), Pair::new("skepx"));
        let (near, far) = (Tap::new(pair.near), Tap::new(pair.far));
        let link = programs.attach("drop", pair.near, mode);
        let devices = netlink::Socket::open().unwrap().devices().unwrap();
        let device = devices.iter().find(|d| d.ifindex == pair.near).unwrap();
        // XDP_ATTACHED_DRV, XDP_ATTACHED_SKB
        assert_eq!(
            device.xdp_attached,
            if mode == XdpMode::Native { 1 } else { 2 }
        );
        far.send(&packet(1, 64));
        programs.reaches(DROP, 1);
        assert_eq!(
            near.next(NEVER_MS),
            None,
            "{name}: dropped packets do not arrive"
        );
        passes_after(link, &far, &near);
        // A veth device takes packets from a driver only if its own end has a program.
        let seen = programs.attach("seen", pair.far, mode);
        let link = programs.attach("back", pair.near, mode);
        far.send(&packet(2, 64));
        programs.reaches(BACK, 1);
        programs.reaches(SEEN, 1);
        assert_eq!(
            far.next(SOON_MS),
            Some(packet(2, 64)),
            "{name}: it comes back"
        );
        passes_after(link, &far, &near);
        assert_eq!((programs.count(DROP), programs.count(BACK)), (1, 1));
        drop(seen);
        works(name);
    }
}

#[test]
fn large_packets_come_in_parts() {
    if !has_pairs() {
        return;
    }
    own_network();
    let (programs, pair) = (Programs::load(), Pair::new("skepx"));
    let mut socket = netlink::Socket::open().unwrap();
    for device in [pair.near, pair.far] {
        socket.set_mtu(device, JUMBO_MTU).unwrap();
    }
    let (near, far) = (Tap::new(pair.near), Tap::new(pair.far));
    let link = programs.attach("parts", pair.near, XdpMode::Native);
    far.send(&packet(1, JUMBO_BYTES));
    programs.reaches(PARTS, 1);
    assert_eq!(near.next(SOON_MS), Some(packet(1, JUMBO_BYTES)));
    far.send(&packet(2, 64));
    assert_eq!(near.next(SOON_MS), Some(packet(2, 64)));
    assert_eq!(programs.count(PARTS), 1, "a small packet has no parts");
    passes_after(link, &far, &near);
    works("xdp_parts");
}

#[test]
fn packets_are_redirected() {
    if !has_pairs() {
        return;
    }
    own_network();
    let (programs, from, to) = (Programs::load(), Pair::new("skepx"), Pair::new("skepy"));
    let (near, far, end) = (Tap::new(from.near), Tap::new(from.far), Tap::new(to.far));
    let seen = programs.attach("seen", to.far, XdpMode::Native);
    programs.put("settings", DEVICE, &[to.near]);
    programs.put("devices", 0, &[to.near, programs.descriptor("on_device")]);
    programs.put("cpus", 0, &[192, programs.descriptor("on_cpu")]);
    for (number, (program, place, name)) in [
        ("to_device", TO_DEVICE, "xdp_redirect"),
        ("to_devmap", TO_DEVMAP, "xdp_devmap"),
    ]
    .into_iter()
    .enumerate()
    {
        let link = programs.attach(program, from.near, XdpMode::Native);
        let sent = packet(number as u8, 64);
        far.send(&sent);
        programs.reaches(place, 1);
        programs.reaches(SEEN, number as u64 + 1);
        assert_eq!(
            end.next(SOON_MS),
            Some(sent),
            "{name}: it arrives at the other pair"
        );
        assert_eq!(near.next(NEVER_MS), None, "{name}: it goes nowhere else");
        passes_after(link, &far, &near);
        assert_eq!(programs.count(SEEN), number as u64 + 1);
        works(name);
    }
    assert_eq!(
        programs.count(ON_DEVICE),
        1,
        "the map's own program has seen it"
    );
    let link = programs.attach("to_cpumap", from.near, XdpMode::Native);
    far.send(&packet(7, 64));
    programs.reaches(TO_CPUMAP, 1);
    programs.reaches(ON_CPU, 1);
    assert_eq!(
        near.next(SOON_MS),
        Some(packet(7, 64)),
        "the other processor passes it on"
    );
    passes_after(link, &far, &near);
    assert_eq!(programs.count(ON_CPU), 1);
    drop(seen);
    works("xdp_cpumap");
}

#[test]
fn routes_are_looked_up() {
    if !has_pairs() {
        return;
    }
    own_network();
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    let (programs, pair) = (Programs::load(), Pair::new("skepx"));
    let mut socket = netlink::Socket::open().unwrap();
    let neighbour = Ipv4Addr::new(10, 77, 0, 9);
    socket
        .address_add(pair.near, Ipv4Addr::new(10, 77, 0, 1), 24)
        .unwrap();
    let far = Tap::new(pair.far);
    let link = programs.attach("fib", pair.near, XdpMode::Native);
    let ask = |to: Ipv4Addr| {
        programs.put("settings", ADDRESS, &[u32::from_ne_bytes(to.octets())]);
        let place = FIB.to_ne_bytes();
        let map = programs.loaded.map("counts").unwrap().handle;
        programs
            .backend
            .map_update(map, &place, &[0; 8], 0)
            .unwrap();
        far.send(&packet(1, 64));
        let deadline = Instant::now() + PATIENCE;
        while programs.count(FIB) == 0 {
            assert!(Instant::now() < deadline, "no answer");
            std::thread::sleep(Duration::from_millis(1));
        }
        programs.count(FIB) - 1
    };
    assert_eq!(ask(neighbour), NO_NEIGHBOUR);
    socket
        .neighbour_add(pair.near, neighbour, [2, 0, 0, 0, 0, 9])
        .unwrap();
    assert_eq!(ask(neighbour), SUCCESS);
    assert_eq!(programs.count(FOUND_DEVICE), u64::from(pair.near));
    assert_eq!(
        ask(Ipv4Addr::new(10, 78, 0, 9)),
        NOT_FORWARDED,
        "there is no route"
    );
    drop(link);
    works("fib_lookup");
}
