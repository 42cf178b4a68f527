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

/// A veth pair `near`, `far` in a new namespace of this thread.
fn network() -> bool {
    skep_sys::namespace::enter_new_network().is_ok()
        && [
            "link add name near type veth peer name far",
            "addr add 10.9.0.1/24 dev near",
            "link set near up",
            "link set far up",
            "neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev near",
        ]
        .iter()
        .all(|command| ip(command))
}

/// A VLAN on `near`; not every kernel has them.
fn vlan() -> bool {
    [
        "link add link near name near.5 type vlan id 5",
        "addr add 10.9.5.1/24 dev near.5",
        "link set near.5 up",
        "neigh add 10.9.5.2 lladdr 02:00:00:00:00:02 dev near.5",
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

/// Sends packets from each of these addresses.
fn send(from: &[&str]) {
    for address in from {
        let socket = UdpSocket::bind((*address, 0)).expect("binds");
        let to = format!("{}2", &address[..address.len() - 1]);
        for i in 0..SENT {
            let port = if i % 2 == 0 { 4242 } else { 4243 };
            let text = format!("packet {i}");
            socket
                .send_to(text.as_bytes(), (to.as_str(), port))
                .expect("sends");
        }
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

/// What a program prints on standard output, by line.
fn printed(program: &str, arguments: &[&str], file: &Path) -> Vec<String> {
    let output = Command::new(program)
        .args(arguments)
        .arg(file)
        .env("TZ", "UTC")
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|l| l.trim_end().to_owned()).collect()
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
    let mut from = vec!["10.9.0.1"];
    if vlan() {
        from.push("10.9.5.1");
    } else {
        println!("skipped: packets with a VLAN tag");
    }
    let folder = std::env::temp_dir().join(format!("skep-capture-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let (ours, theirs, told) = (
        folder.join("ours"),
        folder.join("theirs"),
        folder.join("told"),
    );
    let wanted = from.len() * WANTED;
    let limit = wanted.to_string();
    let dump = Command::new("tcpdump")
        .args([
            "-Z",
            "root",
            "--immediate-mode",
            "-i",
            "far",
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
        .args(["filter", "-i", "far", "-c", &limit, "-w"])
        .arg(&ours)
        .arg(FILTER)
        .stderr(fs::File::create(&told).expect("a file"))
        .spawn()
        .expect("skep runs");
    wait_for_sockets(2);
    // A socket is in the list before it is bound.
    std::thread::sleep(Duration::from_millis(300));
    send(&from);
    ended(skep, "skep");
    ended(dump, "tcpdump");
    let lines = printed(env!("CARGO_BIN_EXE_skep"), &["filter", "-r"], &ours);
    assert_eq!(lines, printed("tcpdump", &["-nn", "-r"], &ours));
    let (ours, theirs) = (packets(&ours), packets(&theirs));
    let told = fs::read_to_string(&told).expect("it is there");
    fs::remove_dir_all(&folder).expect("it is ours");
    assert_eq!(theirs.len(), wanted, "{theirs:#?}");
    assert_eq!(ours, theirs);
    let tagged = ours.iter().filter(|l| l.contains("vlan 5")).count();
    assert_eq!(tagged, wanted - WANTED, "{ours:#?}");
    let counts = format!(
        "{limit} packets captured, {limit} accepted by the filter in the kernel, 0 dropped"
    );
    assert!(told.contains(&counts), "{told}");
}

/// Sends a signal to a process that this test started.
fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status();
    assert!(status.is_ok_and(|s| s.success()), "kill -s {name}");
}

/// The three numbers of the last line of a capture: captured, accepted, dropped.
fn counts(told: &str) -> Option<[usize; 3]> {
    let mut numbers = told
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next()?])
}

/// What finds no room while the capture stands still is dropped by the kernel, and counted.
#[test]
fn packets_that_the_kernel_drops_are_counted() {
    /// Far more than the receive buffer of a socket holds.
    const FLOOD: usize = 30_000;
    if !network() {
        println!("skipped: netns");
        return;
    }
    let folder = std::env::temp_dir().join(format!("skep-drops-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let (file, told) = (folder.join("file"), folder.join("told"));
    let skep = Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(["filter", "-i", "far", "-w"])
        .arg(&file)
        .arg("udp dst port 4242")
        .stderr(fs::File::create(&told).expect("a file"))
        .spawn()
        .expect("skep runs");
    wait_for_sockets(1);
    std::thread::sleep(Duration::from_millis(300));
    signal(&skep, "STOP");
    let socket = UdpSocket::bind("10.9.0.1:0").expect("binds");
    for (port, count) in [(4242, FLOOD), (4243, 100)] {
        for _ in 0..count {
            // The sender's own buffer may be full for a moment.
            while socket.send_to(&[7; 1000], ("10.9.0.2", port)).is_err() {
                std::thread::yield_now();
            }
        }
    }
    signal(&skep, "CONT");
    std::thread::sleep(Duration::from_millis(500));
    signal(&skep, "INT");
    ended(skep, "skep");
    let text = fs::read_to_string(&told).expect("it is there");
    let stored = fs::metadata(&file).expect("it is there").len();
    fs::remove_dir_all(&folder).expect("it is ours");
    let [captured, accepted, dropped] = counts(&text).expect("three numbers");
    assert!(dropped > 0, "{text}");
    assert_eq!(accepted, FLOOD, "{text}");
    assert_eq!(captured + dropped, accepted, "{text}");
    assert!(stored as usize > captured * 1000, "{stored} bytes: {text}");
}
