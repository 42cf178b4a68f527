//! Live captures of `skep filter` against tcpdump on the same traffic, in a network namespace of its own.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Packets that are sent plain, and as many with a VLAN tag.
const SENT: usize = 40;
/// Of them: those to the port that the filter names.
const WANTED: usize = SENT / 2;
const FILTER: &str = "udp dst port 4242 or (vlan 5 and udp dst port 4242)";

fn ip(arguments: &str) -> bool {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|s| s.success())
}

/// A veth pair `a`, `b` with a VLAN on `a`, in a new namespace of this thread.
fn network() -> bool {
    skep_sys::namespace::enter_new_network().is_ok()
        && [
            "link add a type veth peer name b",
            "link add link a name a.5 type vlan id 5",
            "addr add 10.9.0.1/24 dev a",
            "addr add 10.9.5.1/24 dev a.5",
            "link set a up",
            "link set b up",
            "link set a.5 up",
            "neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev a",
            "neigh add 10.9.5.2 lladdr 02:00:00:00:00:02 dev a.5",
        ]
        .iter()
        .all(|command| ip(command))
}

/// Waits until so many packet sockets are open in this namespace.
fn wait_for_sockets(count: usize) {
    let until = Instant::now() + Duration::from_secs(20);
    let open = || {
        let text = fs::read_to_string("/proc/thread-self/net/packet").unwrap_or_default();
        text.lines().count().saturating_sub(1)
    };
    while open() < count {
        assert!(Instant::now() < until, "{} packet sockets", open());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn send() {
    let plain = UdpSocket::bind("10.9.0.1:0").expect("binds");
    let tagged = UdpSocket::bind("10.9.5.1:0").expect("binds");
    for i in 0..SENT {
        let port = if i % 2 == 0 { 4242 } else { 4243 };
        let text = format!("packet {i}");
        plain
            .send_to(text.as_bytes(), ("10.9.0.2", port))
            .expect("sends");
        tagged
            .send_to(text.as_bytes(), ("10.9.5.2", port))
            .expect("sends");
    }
}

/// The packets of a file in full, without their times, in an order of their own.
fn packets(path: &Path) -> Vec<String> {
    let output = Command::new("tcpdump")
        .args(["-nn", "-t", "-e", "-xx", "-r"])
        .arg(path)
        .output()
        .expect("tcpdump runs");
    let text = String::from_utf8_lossy(&output.stdout).replace("\n\t", " ");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn ended(mut child: Child, name: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while child.try_wait().expect("waits").is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{name} does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn live_captures_are_those_of_tcpdump() {
    let tcpdump = Command::new("tcpdump").arg("--version").output();
    if !tcpdump.is_ok_and(|o| o.status.success()) {
        println!("skipped: tcpdump");
        return;
    }
    if !network() {
        println!("skipped: netns");
        return;
    }
    let folder = std::env::temp_dir().join(format!("skep-capture-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let (ours, theirs, told) = (
        folder.join("ours"),
        folder.join("theirs"),
        folder.join("told"),
    );
    let limit = (2 * WANTED).to_string();
    let dump = Command::new("tcpdump")
        .args([
            "-Z",
            "root",
            "--immediate-mode",
            "-i",
            "b",
            "-c",
            &limit,
            "-w",
        ])
        .arg(&theirs)
        .arg(FILTER)
        .stderr(Stdio::null())
        .spawn()
        .expect("tcpdump runs");
    wait_for_sockets(1);
    let skep = Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(["filter", "-i", "b", "-c", &limit, "-w"])
        .arg(&ours)
        .arg(FILTER)
        .stderr(fs::File::create(&told).expect("a file"))
        .spawn()
        .expect("skep runs");
    wait_for_sockets(2);
    // A socket is in the list before it is bound.
    std::thread::sleep(Duration::from_millis(300));
    send();
    ended(skep, "skep");
    ended(dump, "tcpdump");
    let (ours, theirs) = (packets(&ours), packets(&theirs));
    let told = fs::read_to_string(&told).expect("it is there");
    fs::remove_dir_all(&folder).expect("it is ours");
    assert_eq!(theirs.len(), 2 * WANTED, "{theirs:#?}");
    assert_eq!(ours, theirs);
    let tagged = ours.iter().filter(|l| l.contains("vlan 5")).count();
    assert_eq!(tagged, WANTED, "{ours:#?}");
    let counts = format!(
        "{limit} packets captured, {limit} accepted by the filter in the kernel, 0 dropped"
    );
    assert!(told.contains(&counts), "{told}");
}
