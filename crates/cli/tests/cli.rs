//! The command line as users meet it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the workspace")
        .to_owned()
}

fn skep(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("skep runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn temporary(name: &str, bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("skep-test-{}-{name}", std::process::id()));
    std::fs::write(&path, bytes).expect("a temporary file");
    path
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        let caps = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
        caps.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .is_some_and(|c| c >> 21 & 1 == 1)
    })
}

#[test]
fn the_first_command_of_the_readme_prints_flows_and_maps() {
    let output = skep(&[
        "run",
        "examples/packets.bpf.o",
        "--pcap",
        "examples/web.pcap",
    ]);
    let text = out(&output);
    assert!(output.status.success(), "{}", err(&output));
    assert!(
        text.contains("new_flows: source=::ffff:10.1.0.1 destination=::ffff:10.1.0.2"),
        "{text}"
    );
    assert!(text.contains("source_port=80 "), "{text}");
    assert!(text.contains("packets: 71 × XDP_PASS"), "{text}");
    assert!(
        text.contains("protocol=6 port=80: packets=26 bytes=2205"),
        "{text}"
    );
    assert!(err(&output).contains("user backend"), "{}", err(&output));
}

#[test]
fn json_output_is_one_value_a_line() {
    let output = skep(&[
        "run",
        "-j",
        "examples/packets.bpf.o",
        "--pcap",
        "examples/web.pcap",
    ]);
    let mut events = 0;
    for line in out(&output).lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(value["schema"], 1);
        events += usize::from(value["kind"] == "event");
    }
    assert_eq!(events, 20);
}

#[test]
fn wrong_input_gets_one_sentence_and_exit_code_3() {
    let root = root();
    let object = std::fs::read(root.join("examples/packets.bpf.o")).expect("the example");
    let capture = std::fs::read(root.join("examples/web.pcap")).expect("the capture");
    let mut noise = 1u32;
    let random: Vec<u8> = (0..4000)
        .map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .collect();
    let cases: &[(PathBuf, &str)] = &[
        (
            std::env::current_exe().expect("this test"),
            "not a BPF object",
        ),
        (
            temporary("cut.o", &object[..object.len() / 2]),
            "damaged object",
        ),
        (temporary("random.o", &random), "not an ELF file"),
        (temporary("empty.o", b""), "not an ELF file"),
        (root.join("tests/objects/other/big_endian.o"), "big-endian"),
        (
            root.join("tests/objects/value_size_0.bpf.o"),
            "map \"empty\": EINVAL",
        ),
        (root.join("no-such-file.bpf.o"), "no such file"),
    ];
    for (path, sentence) in cases {
        let path = path.to_str().expect("a name");
        for command in [
            &["check", path][..],
            &["run", path, "--pcap", "examples/web.pcap"],
        ] {
            let output = skep(command);
            let text = err(&output);
            assert_eq!(output.status.code(), Some(3), "{command:?}: {text}");
            assert!(text.contains(sentence), "{command:?}: {text}");
            assert_eq!(text.lines().count(), 1, "{command:?}: {text}");
        }
    }
    let cut = temporary("cut.pcap", &capture[..capture.len() / 2]);
    let output = skep(&[
        "run",
        "examples/packets.bpf.o",
        "--pcap",
        cut.to_str().expect("a name"),
    ]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        err(&output).contains("the capture is cut inside packet"),
        "{}",
        err(&output)
    );
    assert_eq!(out(&output), "");
}

#[test]
fn a_rejection_points_at_the_source_line() {
    let output = skep(&["check", "tests/objects/bad_packet.bpf.o"]);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("error[V0209]"), "{text}");
    assert!(
        text.contains("bad_packet.bpf.c:11:9  insn 1 in bad_packet:  r1 = *(u8 *)(r1 + 12)"),
        "{text}"
    );
    assert!(text.contains("11 | return data[12] == 8"), "{text}");
    let output = skep(&["check", "-j", "tests/objects/bad_packet.bpf.o"]);
    let line: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(
        (&line["verdict"], &line["code"], &line["line"]),
        (&"reject".into(), &"V0209".into(), &11.into())
    );
    let output = skep(&[
        "run",
        "tests/objects/bad_packet.bpf.o",
        "--pcap",
        "examples/web.pcap",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("error[V0209]"), "{}", err(&output));
}

#[test]
fn exit_code_3_wins_over_1_and_usage_is_2() {
    let both = [
        "check",
        "tests/objects/bad_packet.bpf.o",
        "/dev/null",
        "examples/opens.bpf.o",
    ];
    assert_eq!(skep(&both).status.code(), Some(3));
    assert_eq!(
        skep(&["check", "examples/opens.bpf.o"]).status.code(),
        Some(0)
    );
    assert_eq!(skep(&["check"]).status.code(), Some(2));
    assert_eq!(
        skep(&["check", "examples/opens.bpf.o", "--program", "nosuch"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(skep(&["nonsense"]).status.code(), Some(2));
    let refused = skep(&[
        "run",
        "examples/packets.bpf.o",
        "--set",
        "nosuch=1",
        "--pcap",
        "examples/web.pcap",
    ]);
    assert_eq!(refused.status.code(), Some(2), "{}", err(&refused));
}

#[test]
fn a_check_takes_milliseconds() {
    // From process start to exit, the best of some runs; a debug build has another limit.
    let limit_ms = if cfg!(debug_assertions) { 250.0 } else { 10.0 };
    let best = (0..10)
        .map(|_| {
            let started = std::time::Instant::now();
            assert!(skep(&["check", "examples/packets.bpf.o"]).status.success());
            started.elapsed().as_secs_f64() * 1000.0
        })
        .fold(f64::MAX, f64::min);
    assert!(best < limit_ms, "{best} ms");
}

#[test]
fn a_command_is_watched_and_its_opens_are_printed() {
    if !is_root() {
        println!("skipped: root");
        return;
    }
    let output = skep(&["run", "examples/opens.bpf.o", "--", "cat", "/etc/hostname"]);
    let text = out(&output);
    assert!(output.status.success(), "{}", err(&output));
    assert!(
        text.lines()
            .any(|l| l.contains("comm=cat") && l.ends_with("path=/etc/hostname")),
        "{text}"
    );
    // Children too.
    let output = skep(&[
        "run",
        "examples/opens.bpf.o",
        "-j",
        "--",
        "sh",
        "-c",
        "cat /etc/hostname; true",
    ]);
    let opened = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        event["value"]["path"] == "/etc/hostname" && event["value"]["result"].as_i64() > Some(0)
    };
    assert!(out(&output).lines().any(opened), "{}", out(&output));
}

#[test]
fn a_running_process_is_watched_and_nothing_stays_attached() {
    if !is_root() {
        println!("skipped: root");
        return;
    }
    let script = "while :; do read -r line < /etc/hostname; sleep 0.05; done";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .spawn()
        .expect("a shell");
    let pid = child.id().to_string();
    let output = skep(&[
        "run",
        "examples/opens.bpf.o",
        "--pid",
        &pid,
        "--duration",
        "0.5",
    ]);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let text = out(&output);
    assert!(output.status.success(), "{}", err(&output));
    assert!(text.contains("path=/etc/hostname"), "{text}");
    assert!(
        text.lines().all(|l| l.contains(&format!("pid={pid} "))),
        "{text}"
    );
    let links = out(&skep(&["link", "show"]));
    assert!(!links.contains("prog 0"), "{links}");
    let gone = skep(&[
        "run",
        "examples/opens.bpf.o",
        "--pid",
        "4194303",
        "--duration",
        "0.1",
    ]);
    assert_eq!(gone.status.code(), Some(3));
    let refused = skep(&[
        "run",
        "examples/packets.bpf.o",
        "--dev",
        "lo",
        "--pid",
        "1",
        "--duration",
        "0.1",
    ]);
    assert_eq!(refused.status.code(), Some(2), "{}", err(&refused));
}

#[test]
fn machine_code_is_listed_between_source_lines_and_instructions() {
    for which in [&["packets"][..], &["packets", "first"]] {
        let mut words = vec!["prog", "dump", "jited", "examples/packets.bpf.o"];
        words.extend(which);
        let output = skep(&words);
        let text = out(&output);
        assert!(output.status.success(), "{}", err(&output));
        assert!(text.contains("_packets>:"), "{text}");
        assert!(text.contains("packets.bpf.c:"), "{text}");
        assert!(text.contains("   ret"), "{text}");
        assert!(!text.contains("(not an instruction)"), "{text}");
    }
}

/// A listing without what depends on the run: addresses in the code become offsets, others vanish, and so do the bytes.
fn without_addresses(listing: &str) -> String {
    let base = listing.split_whitespace().next().unwrap_or_default();
    let base = u64::from_str_radix(base, 16).unwrap_or(0);
    let word = |word: &str| {
        let digits = word.trim_start_matches('$').strip_prefix("0x");
        let digits = digits.filter(|d| d.len() > 8);
        match digits.and_then(|d| u64::from_str_radix(d, 16).ok()) {
            Some(at) if (base..base + 0x10000).contains(&at) => format!("+{:x}", at - base),
            Some(_) => "ADDRESS".to_owned(),
            None => word.to_owned(),
        }
    };
    // An offset, the bytes, the instruction; instructions of BPF have no bytes.
    let code = |line: &str| {
        let mut words = line.split_whitespace();
        let (offset, bytes) = (words.next()?, words.next()?);
        let is_code = offset.ends_with(':') && bytes.bytes().all(|b| b.is_ascii_hexdigit());
        let operands = words.map(|w| w.split(',').map(word).collect::<Vec<_>>().join(","));
        is_code.then(|| format!("  {offset} {}", operands.collect::<Vec<_>>().join(" ")))
    };
    let line = |line: &str| code(line).unwrap_or_else(|| line.to_owned());
    listing
        .lines()
        .skip(1)
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
        + "\n"
}

#[test]
fn the_listing_of_templates_is_as_reviewed() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/listing.txt");
    let words = [
        "prog",
        "dump",
        "jited",
        "examples/packets.bpf.o",
        "packets",
        "first",
    ];
    let found = without_addresses(&out(&skep(&words)));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &found).expect("written");
    }
    let reviewed = std::fs::read_to_string(&path).expect("a listing");
    let differs = reviewed.lines().zip(found.lines()).find(|(a, b)| a != b);
    assert!(differs.is_none(), "{differs:?}");
    assert_eq!(reviewed.lines().count(), found.lines().count());
}

#[test]
fn a_matrix_says_which_kernel_takes_which_program() {
    let object = "tests/objects/attach.bpf.o";
    let only = ["--program", "on_netfilter"];
    let check = |kernels: &str, more: &[&str]| {
        skep(&[&["check", object, "--kernel", kernels], more, &only].concat())
    };
    let output = check("6.1,6.12,6.18", &[]);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(1), "{text}{}", err(&output));
    let row = text.lines().find(|l| l.contains("on_netfilter"));
    let cells: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
    assert_eq!(cells, ["on_netfilter", "no", "yes", "yes"], "{text}");
    assert!(
        text.contains("6.1: E0111: this kernel has no programs of type netfilter"),
        "{text}"
    );
    let output = check("6.1,6.12", &["--json"]);
    let lines: Vec<serde_json::Value> = out(&output)
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    let answers: Vec<_> = lines
        .iter()
        .map(|l| (l["kernel"].as_str(), l["verdict"].as_str()))
        .collect();
    assert_eq!(
        answers,
        [
            (Some("6.1"), Some("reject")),
            (Some("6.12"), Some("accept"))
        ]
    );
    let output = check("2.6", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        err(&output).contains("no profile of kernel \"2.6\""),
        "{}",
        err(&output)
    );
}

/// A policy in a file of its own, removed at the end.
struct PolicyFile(std::path::PathBuf);

impl PolicyFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("skep-{name}-{}", std::process::id()));
        std::fs::write(&path, text).expect("a policy is written");
        Self(path)
    }
}

impl Drop for PolicyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn commands_run_under_policies() {
    let policy = PolicyFile::new("errno", "default allow\nerrno EXDEV uname\n");
    let output = skep(&["seccomp", "run", &policy.0.to_string_lossy(), "--", "uname"]);
    assert!(!output.status.success(), "{}", out(&output));
    assert!(err(&output).contains("cross-device"), "{}", err(&output));
}

#[test]
fn notified_calls_are_printed_and_go_on() {
    let policy = PolicyFile::new("notify", "default allow\nnotify getcwd\n");
    let policy = policy.0.to_string_lossy();
    let output = skep(&[
        "seccomp",
        "run",
        &policy,
        "--",
        "sh",
        "-c",
        "/bin/pwd -P; exit 7",
    ]);
    assert_eq!(output.status.code(), Some(7), "{}", err(&output));
    assert!(out(&output).starts_with('/'), "{}", out(&output));
    assert!(err(&output).contains(" getcwd(0x"), "{}", err(&output));
}
