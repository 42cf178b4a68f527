//! AF_XDP sockets on pairs of devices.

use crate::attach::{PATIENCE, needs, own_network};
use crate::xdp::Programs;
use skep::attach::XdpMode;
use skep::xsk::{Config, HEADROOM_BYTES, PACKET_BYTES_MIN, Transfer, Verdict, XdpSocket};
use skep_abi::MapType;
use skep_bpf::{Backend, Errno, MapCreate};
use skep_tests::need::{Need, met};
use skep_tests::pair::{Pair, Tap, packet};
use skep_tests::table::works;
use skep_user::{Options, Universe};
use std::time::{Duration, Instant};

/// Few slots, so that the rings wrap.
const SMALL: Config = Config {
    transfer: Transfer::Copy,
    frame_bytes: 2048,
    receive_slots: 8,
    send_slots: 8,
};
/// Packets in each direction.
const PACKETS: u8 = 50;
/// Lengths of packets: the shortest of a device, one between, the longest of a frame that fits its device.
const LENGTHS: [usize; 3] = [60, 777, 1514];
/// Milliseconds after which a packet does not come any more, and that it may take.
const NEVER_MS: i32 = 100;
const SOON_MS: i32 = 3000;

/// Can pairs of devices be made here, and AF_XDP sockets?
fn has_sockets() -> bool {
    needs() && met(&[Need::Veth, Need::Xsk])
}

/// Opens a socket; one that was just closed may still have the queue.
fn open(ifindex: u32, config: &Config) -> XdpSocket {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match XdpSocket::open(ifindex, 0, config) {
            Ok(socket) => return socket,
            Err(error) if error.errno == Errno::EBUSY && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The next packet of a socket.
fn next(socket: &mut XdpSocket) -> Option<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut found = None;
    while found.is_none() && Instant::now() < deadline {
        socket.wait(Duration::from_millis(50)).unwrap();
        socket
            .receive(|packet| {
                assert!(found.is_none(), "one packet at a time");
                found = Some(packet.to_vec());
                Verdict::Done
            })
            .unwrap();
    }
    found
}

#[test]
fn packets_come_and_go_through_sockets() {
    if !has_sockets() {
        return;
    }
    for (mode, name) in [
        (XdpMode::Native, "xsk_native"),
        (XdpMode::Generic, "xsk_generic"),
    ] {
        own_network();
        let (programs, pair) = (Programs::load(), Pair::new("skepx"));
        let map = programs.loaded.map("sockets").unwrap().handle;
        let (near, far) = (Tap::new(pair.near), Tap::new(pair.far));
        let link = programs.attach("to_socket", pair.near, mode);
        let mut socket = open(pair.near, &SMALL);
        far.send(&packet(0, 60));
        assert!(
            !socket.wait(Duration::from_millis(50)).unwrap(),
            "it is in no map"
        );
        socket.insert(programs.backend.as_ref(), map, 0).unwrap();
        assert!(!socket.is_zero_copy().unwrap());
        for number in 0..PACKETS {
            let sent = packet(number, LENGTHS[usize::from(number) % LENGTHS.len()]);
            far.send(&sent);
            assert_eq!(next(&mut socket), Some(sent), "{name} {number}: received");
        }
        assert_eq!(
            near.next(NEVER_MS),
            None,
            "{name}: the stack sees none of them"
        );
        for number in 0..PACKETS {
            let sent = packet(number, LENGTHS[usize::from(number) % LENGTHS.len()]);
            socket.send(&sent).unwrap();
            assert_eq!(far.next(SOON_MS), Some(sent), "{name} {number}: sent");
        }
        // A burst goes back as it came.
        for number in 0..4 {
            far.send(&packet(number, 60));
        }
        let (deadline, mut count) = (Instant::now() + PATIENCE, 0);
        while count < 4 && Instant::now() < deadline {
            socket.wait(Duration::from_millis(50)).unwrap();
            count += socket
                .receive(|packet| {
                    packet[20] = 0xee;
                    Verdict::Send(packet.len())
                })
                .unwrap();
        }
        for number in 0..4 {
            let mut expected = packet(number, 60);
            expected[20] = 0xee;
            assert_eq!(
                far.next(SOON_MS),
                Some(expected),
                "{name} {number}: sent back"
            );
        }
        assert_eq!(socket.statistics().unwrap().receive_dropped, 0);
        too_many_are_counted(&mut socket, &far);
        drop(link);
        far.send(&packet(1, 60));
        assert_eq!(
            near.next(SOON_MS),
            Some(packet(1, 60)),
            "{name}: without the program it passes"
        );
        drop(socket);
        works(name);
    }
}

/// Packets that find no room are counted, and those that found it arrive.
fn too_many_are_counted(socket: &mut XdpSocket, far: &Tap) {
    for number in 0..PACKETS {
        far.send(&packet(number, 60));
    }
    let (deadline, mut count) = (Instant::now() + PATIENCE, 0);
    while count < SMALL.receive_slots as usize && Instant::now() < deadline {
        socket.wait(Duration::from_millis(50)).unwrap();
        count += socket.receive(|_| Verdict::Done).unwrap();
    }
    assert!(count >= SMALL.receive_slots as usize, "{count} arrived");
    let found = socket.statistics().unwrap();
    let lost = found.receive_dropped + found.receive_ring_full + found.fill_ring_empty;
    assert!(lost > 0, "{found:?}");
    assert_eq!((found.receive_invalid, found.send_invalid), (0, 0));
}

#[test]
fn what_no_socket_can_do_is_refused() {
    if !has_sockets() {
        return;
    }
    own_network();
    let pair = Pair::new("skepx");
    let refused = |ifindex, queue, config: &Config| {
        let error = XdpSocket::open(ifindex, queue, config).unwrap_err();
        (error.errno, error.to_string())
    };
    for wrong in [
        Config {
            frame_bytes: 1024,
            ..SMALL
        },
        Config {
            frame_bytes: 1 << 16,
            ..SMALL
        },
        Config {
            receive_slots: 0,
            ..SMALL
        },
        Config {
            receive_slots: 12,
            ..SMALL
        },
        Config {
            send_slots: 1 << 17,
            ..SMALL
        },
    ] {
        assert_eq!(refused(pair.near, 0, &wrong).0, Errno::EINVAL, "{wrong:?}");
    }
    let (errno, told) = refused(pair.near, 77, &SMALL);
    assert_eq!(errno, Errno::EINVAL);
    assert!(told.contains("no such queue"), "{told}");
    assert_eq!(refused(9999, 0, &SMALL).0, Errno::ENODEV);
    let zero_copy = Config {
        transfer: Transfer::ZeroCopy,
        ..SMALL
    };
    let (errno, told) = refused(pair.near, 0, &zero_copy);
    assert_eq!(errno, Errno::EOPNOTSUPP);
    assert!(told.contains("without copying"), "{told}");
    let mut socket = open(pair.near, &SMALL);
    let (errno, told) = refused(pair.near, 0, &SMALL);
    assert_eq!(errno, Errno::EBUSY);
    assert!(told.contains("another socket"), "{told}");
    for length in [
        0,
        PACKET_BYTES_MIN as usize - 1,
        SMALL.frame_bytes as usize + 1,
    ] {
        let error = socket.send(&vec![0; length]).unwrap_err();
        assert_eq!(error.errno, Errno::EMSGSIZE, "{error}");
    }
    for _ in 0..SMALL.send_slots {
        socket.queue(&packet(1, 60)).unwrap();
    }
    assert_eq!(
        socket.queue(&packet(1, 60)).unwrap_err().errno,
        Errno::EAGAIN
    );
    assert_eq!(socket.sending(), SMALL.send_slots);
    assert_eq!(socket.flush().unwrap(), 0);
    let deadline = Instant::now() + PATIENCE;
    while socket.queue(&packet(2, 60)).is_err() {
        assert!(Instant::now() < deadline, "no frame comes back");
    }
}

#[test]
fn maps_of_both_backends_take_sockets() {
    if !has_sockets() {
        return;
    }
    own_network();
    let pair = Pair::new("skepx");
    let socket = open(pair.near, &SMALL);
    let (user, kernel) = (
        Universe::new(Options::default()).unwrap(),
        skep::Kernel::new(),
    );
    for backend in [&user as &dyn Backend, &kernel] {
        let create = |map_type| {
            backend
                .map_create(&MapCreate::new(map_type, 4, 4, 2))
                .unwrap()
        };
        let (sockets, numbers) = (create(MapType::Xskmap), create(MapType::Array));
        socket.insert(backend, sockets, 1).unwrap();
        let too_far = socket.insert(backend, sockets, 2).unwrap_err();
        assert_eq!(too_far.errno, Errno::E2BIG, "{}", backend.kind());
        let wrong = socket.insert(backend, numbers, 0).unwrap_err();
        assert_eq!(wrong.errno, Errno::EINVAL, "{}", backend.kind());
        assert!(wrong.to_string().contains("not array"), "{wrong}");
    }
}

#[test]
fn packets_longer_than_a_frame_do_not_arrive() {
    if !has_sockets() {
        return;
    }
    own_network();
    let (programs, pair) = (Programs::load(), Pair::new("skepx"));
    let mut netlink = skep_sys::netlink::Socket::open().unwrap();
    for device in [pair.near, pair.far] {
        netlink.set_mtu(device, 3000).unwrap();
    }
    let map = programs.loaded.map("sockets").unwrap().handle;
    let far = Tap::new(pair.far);
    let _link = programs.attach("to_socket", pair.near, XdpMode::Generic);
    let mut socket = open(pair.near, &SMALL);
    socket.insert(programs.backend.as_ref(), map, 0).unwrap();
    let longest = (SMALL.frame_bytes - HEADROOM_BYTES) as usize;
    far.send(&packet(1, longest + 1));
    far.send(&packet(2, longest));
    assert_eq!(next(&mut socket), Some(packet(2, longest)));
    assert_eq!(socket.statistics().unwrap().receive_dropped, 1);
}

#[test]
fn a_device_that_goes_is_told() {
    if !has_sockets() {
        return;
    }
    own_network();
    let pair = Pair::new("skepx");
    let mut socket = open(pair.near, &SMALL);
    assert!(!socket.wait(Duration::from_millis(1)).unwrap());
    let mut netlink = skep_sys::netlink::Socket::open().unwrap();
    netlink.device_delete(pair.near).unwrap();
    let error = socket.wait(Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.errno, Errno::ENETDOWN, "{error}");
    let error = socket.send(&packet(1, 60)).unwrap_err();
    assert_eq!(error.errno, Errno::ENXIO, "{error}");
    assert!(error.to_string().contains("gone"), "{error}");
    assert_eq!(
        socket.receive(|_| Verdict::Done).unwrap_err().errno,
        Errno::ENXIO
    );
}
