//! What programs decide happens: files that do not open, connections that go elsewhere, sockets that are chosen.

use crate::attach::{needs, own_network};
use skep::Kernel;
use skep::attach::{Where, attach, hook};
use skep::cgroup::Group;
use skep::child::Child;
use skep::load::{LoadOptions, Loaded, load};
use skep_bpf::Backend;
use skep_sys::socket;
use skep_tests::objects::linked;
use skep_tests::table::{refused, works};
use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

/// Places of settings, as in the object.
const THREAD: u32 = 0;
const FROM_PORT: u32 = 1;
const TO_PORT: u32 = 2;
/// Where nobody listens in a network of one's own.
const DISCARD_PORT: u16 = 9;
/// Packets to each socket.
const PACKETS: usize = 10;

/// Loads one program; `None` if this kernel refuses it, which is then said.
fn program(name: &str) -> Option<(Arc<dyn Backend>, Loaded)> {
    let backend: Arc<dyn Backend> = Arc::new(Kernel::new());
    let options = LoadOptions {
        program: Some(name.to_owned()),
        ..LoadOptions::default()
    };
    match load(&linked("deny", backend.as_ref()), &backend, &options) {
        Ok(loaded) => Some((backend, loaded)),
        Err(error) => {
            refused(name, &error);
            None
        }
    }
}

fn set(loaded: &Loaded, place: u32, value: u32) {
    let map = loaded.map("settings").unwrap().handle;
    let (key, value) = (place.to_ne_bytes(), value.to_ne_bytes());
    loaded.backend().map_update(map, &key, &value, 0).unwrap();
}

/// The number of this thread.
fn thread() -> u32 {
    let path = std::fs::read_link("/proc/thread-self").unwrap();
    path.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

#[test]
fn files_do_not_open() {
    if !needs() {
        return;
    }
    for name in ["lsm_denies", "fmod_ret_denies"] {
        let Some((backend, loaded)) = program(name) else {
            continue;
        };
        set(&loaded, THREAD, thread());
        let opens = || File::open("/dev/null").map(drop).map_err(|e| e.kind());
        let hook = hook(&loaded.programs[0].spec, &Where::default()).unwrap();
        assert_eq!(opens(), Ok(()));
        let link = attach(&backend, loaded.programs[0].handle, &hook).unwrap();
        let denied = opens();
        drop(link);
        assert_eq!(denied, Err(std::io::ErrorKind::PermissionDenied), "{name}");
        assert_eq!(opens(), Ok(()), "{name}");
        works(name);
    }
}

/// Not a test of its own: the process whose connection goes elsewhere.
#[test]
#[ignore = "the child of connections_go_elsewhere"]
fn connects() {
    if TcpStream::connect(("127.0.0.1", DISCARD_PORT)).is_err() {
        std::process::exit(1);
    }
}

#[test]
fn connections_go_elsewhere() {
    if !needs() {
        return;
    }
    own_network();
    let group = Group::create().unwrap();
    let Some((backend, loaded)) = program("connect4_elsewhere") else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    set(&loaded, FROM_PORT, DISCARD_PORT.into());
    set(
        &loaded,
        TO_PORT,
        listener.local_addr().unwrap().port().into(),
    );
    let this = std::env::current_exe().unwrap();
    let this = this.to_str().unwrap();
    let connects = || {
        let words = [this, "--exact", "effects::connects", "--ignored", "--quiet"];
        let procs = group.procs().unwrap();
        let mut child = Child::hold(&words, Some(procs.as_raw_fd())).unwrap();
        child.release().unwrap();
        child.wait().unwrap() == 0
    };
    assert!(!connects(), "nobody listens there");
    let place = Where {
        cgroup: Some(group.path().to_owned()),
        ..Where::default()
    };
    let hook = hook(&loaded.programs[0].spec, &place).unwrap();
    let link = attach(&backend, loaded.programs[0].handle, &hook).unwrap();
    assert!(connects());
    listener.accept().unwrap();
    drop(link);
    assert!(!connects(), "nobody listens there any more");
    works("connect4_elsewhere");
}

#[test]
fn classic_programs_choose_sockets() {
    if !needs() {
        return;
    }
    own_network();
    let first = socket::shared_udp(0).unwrap();
    let address = first.local_addr().unwrap();
    let group = [first, socket::shared_udp(address.port()).unwrap()];
    for socket in &group {
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
    }
    for chosen in [1, 0] {
        // ret #chosen
        let code = [(0x06, 0, 0, chosen as u32)];
        socket::attach_classic_reuseport(group[0].as_fd(), &code).unwrap();
        for _ in 0..PACKETS {
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.send_to(b"hello", address).unwrap();
        }
        let received = |socket: &UdpSocket| {
            let packets = std::iter::from_fn(|| socket.recv(&mut [0; 8]).ok());
            packets.take(2 * PACKETS).count()
        };
        assert_eq!(received(&group[chosen]), PACKETS, "socket {chosen}");
        assert_eq!(received(&group[1 - chosen]), 0, "not socket {chosen}");
    }
    socket::detach_reuseport(group[0].as_fd()).unwrap();
    works("reuseport_classic");
}
