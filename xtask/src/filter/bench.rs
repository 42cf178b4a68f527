//! `cargo xtask bench filter`: filters against tcpdump and libpcap.
//!
//! Throughput: `skep filter EXPR -r IN -w OUT` against `tcpdump -r IN -w OUT EXPR` on a capture of a million packets.
//! Matching: a [`Matcher`] against `bpf_filter`, all packets by one call and one by one. Compiling: an expression against `pcap_compile`.

use super::oracle::Oracle;
use super::{Random, for_link, generate, system_names, work_folder};
use crate::TaskError;
use skep::filter::{Filter, LinkType, Matcher, PlainPacket, Target};
use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Packets of the capture.
const CAPTURED: usize = 1_000_000;
/// Rounds of each measurement; the median counts.
const ROUNDS: usize = 5;
/// Packets of the matching measurement.
const MATCHED: usize = 2_000;

const SIMPLE: &str = "tcp port 443";
const COMPLEX: &str = "(tcp port 80 or 443 or 8080 or udp port 53) and not net 192.168.0.0/16 and len > 60 and (ip[8] > 10 or ip6)";

fn capture(path: &Path) -> Result<(), TaskError> {
    let mut random = Random::new(7);
    let packets = generate(LinkType::ETHERNET, 4000, &mut random);
    let file = File::create(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut write = || -> std::io::Result<()> {
        out.write_all(&0xa1b2_c3d4u32.to_ne_bytes())?;
        out.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0])?;
        for i in 0..CAPTURED {
            let packet = &packets[i % packets.len()];
            let words = [
                i as u32 / 1000,
                i as u32 % 1000,
                packet.bytes.len() as u32,
                packet.wire,
            ];
            for word in words {
                out.write_all(&word.to_ne_bytes())?;
            }
            out.write_all(&packet.bytes)?;
        }
        out.flush()
    };
    write().map_err(|e| e.to_string())
}

fn timed(command: &mut Command) -> Result<f64, TaskError> {
    let start = Instant::now();
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|e| e.to_string())?;
    if !status.success() {
        return Err(format!("{command:?} fails"));
    }
    Ok(start.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How many times as fast as tcpdump.
fn throughput(skep: &Path, input: &Path, expression: &str) -> Result<f64, TaskError> {
    let folder = work_folder()?;
    let (ours_out, theirs_out) = (folder.join("ours.pcap"), folder.join("theirs.pcap"));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(timed(
            Command::new(skep)
                .args(["filter", expression, "-r"])
                .arg(input)
                .arg("-w")
                .arg(&ours_out),
        )?);
        theirs.push(timed(
            Command::new("tcpdump")
                .args(["-Z", "root", "-r"])
                .arg(input)
                .arg("-w")
                .arg(&theirs_out)
                .arg(expression),
        )?);
    }
    let same = std::fs::read(&ours_out).ok() == std::fs::read(&theirs_out).ok();
    let (ours, theirs) = (median(ours), median(theirs));
    println!(
        "{expression}\n  skep {:.2} Mpps, tcpdump {:.2} Mpps: {:.2} times; outputs {}",
        CAPTURED as f64 / ours / 1e6,
        CAPTURED as f64 / theirs / 1e6,
        theirs / ours,
        if same { "equal" } else { "differ" },
    );
    Ok(theirs / ours)
}

/// Nanoseconds of one match, the least of many passes: of packets that are matched one by one, and all at once.
fn match_ns(expression: &str, packets: &[super::packets::Packet]) -> Result<[f64; 2], TaskError> {
    let names = system_names();
    let target = Target {
        names: &names,
        ..Target::file(LinkType::ETHERNET)
    };
    let filter = Filter::compile(expression, &target).map_err(|e| e.to_string())?;
    let matcher = Matcher::new(filter);
    let one_by_one = || {
        let accepted = packets.iter().filter(|p| matcher.matches(&p.bytes, p.wire));
        black_box(accepted.count());
    };
    let plain: Vec<PlainPacket<'_>> = packets
        .iter()
        .map(|p| PlainPacket::new(&p.bytes, p.wire))
        .collect();
    let mut results = vec![0; plain.len()];
    let at_once = || {
        matcher.run_all(&plain, &mut results);
        black_box(&results);
    };
    Ok([
        least_ns(one_by_one, packets.len()),
        least_ns(at_once, packets.len()),
    ])
}

/// Nanoseconds of one of `count` things that a pass does: the least of many passes.
fn least_ns(mut pass: impl FnMut(), count: usize) -> f64 {
    let passes = (0..200).map(|_| {
        let start = Instant::now();
        pass();
        start.elapsed().as_secs_f64() * 1e9 / count as f64
    });
    passes.fold(f64::MAX, f64::min)
}

/// Builds the command line tool; its path.
fn build_skep() -> Result<PathBuf, TaskError> {
    let built = Command::new("cargo")
        .args(["build", "--release", "--quiet", "-p", "skep-cli"])
        .status();
    if !built.is_ok_and(|s| s.success()) {
        return Err("cargo build -p skep-cli fails".to_owned());
    }
    let folder = work_folder()?;
    Ok(folder.parent().unwrap_or(&folder).join("release/skep"))
}

/// How many times as fast as libpcap's interpreter packets are matched: by expression, one by one and all at once.
fn matching(oracle: &Oracle) -> Result<Vec<[f64; 2]>, TaskError> {
    let packets = generate(LinkType::ETHERNET, MATCHED, &mut Random::new(3));
    let expressions = [SIMPLE.to_owned(), COMPLEX.to_owned()];
    let theirs = oracle.match_ns(LinkType::ETHERNET, &expressions, &packets, 200)?;
    let mut all = Vec::new();
    for (expression, theirs) in expressions.iter().zip(&theirs) {
        let ours = match_ns(expression, &packets)?;
        let ratios = ours.map(|ns| theirs / ns);
        println!(
            "{expression}\n  {:.1} ns a match, {:.1} ns one by one, bpf_filter {theirs:.1} ns: {:.2} and {:.2} times",
            ours[1], ours[0], ratios[1], ratios[0]
        );
        all.push(ratios);
    }
    Ok(all)
}

/// Kinds of expressions whose compile times are told apart.
const CLASSES: [&str; 4] = [
    "one primitive",
    "no alternatives",
    "alternatives",
    "tunnels",
];

fn class_of(expression: &str) -> usize {
    let joined = |word: &str| expression.contains(word);
    match expression {
        _ if joined("geneve") => 3,
        _ if joined(" or ") => 2,
        _ if joined(" and ") || joined("not ") => 1,
        _ => 0,
    }
}

/// The part of libpcap's time that compiling takes, over many expressions: all, and each kind (geometric means), the worst.
fn compiling(oracle: &Oracle) -> Result<Compiling, TaskError> {
    const ROUNDS: u32 = 10;
    const TURNS: usize = 4;
    let names = system_names();
    let target = Target {
        names: &names,
        ..Target::file(LinkType::ETHERNET)
    };
    let all: Vec<String> = for_link(LinkType::ETHERNET, 200, &mut Random::new(3))
        .into_iter()
        .filter(|e| Filter::compile(e, &target).is_ok())
        .collect();
    let (mut ours, mut theirs) = (vec![f64::MAX; all.len()], vec![f64::MAX; all.len()]);
    // In turns, so that both meet the same machine.
    for _ in 0..TURNS {
        let their_turn = oracle.compile_ns(LinkType::ETHERNET, &all, ROUNDS)?;
        if their_turn.len() != all.len() {
            return Err("libpcap did not compile every expression".to_owned());
        }
        for (least, ns) in theirs.iter_mut().zip(their_turn) {
            *least = least.min(ns);
        }
        for (least, expression) in ours.iter_mut().zip(&all) {
            for _ in 0..ROUNDS {
                let start = Instant::now();
                black_box(Filter::compile(expression, &target).is_ok());
                *least = least.min(start.elapsed().as_secs_f64() * 1e9);
            }
        }
    }
    let pairs = ours.iter().zip(&theirs);
    let mut ratios: Vec<(f64, &String)> = pairs.map(|(o, t)| o / t).zip(&all).collect();
    let mean = |class: Option<usize>| {
        let of_class = ratios
            .iter()
            .filter(|(_, e)| class.is_none_or(|c| c == class_of(e)));
        let (count, sum) = of_class.fold((0, 0.0), |(n, sum), (r, _)| (n + 1, sum + r.ln()));
        (count, (sum / f64::from(count)).exp())
    };
    let (count, whole) = mean(None);
    let total = ours.iter().sum::<f64>() / theirs.iter().sum::<f64>();
    println!(
        "compiling {count} expressions: {whole:.2} of libpcap's time (geometric mean), {total:.2} for all together"
    );
    let mut classes = [0.0; CLASSES.len()];
    for (class, name) in CLASSES.iter().enumerate() {
        let (count, ratio) = mean(Some(class));
        println!("  {name}: {ratio:.2} ({count})");
        classes[class] = ratio;
    }
    ratios.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (ratio, expression) in ratios.iter().take(WORST_SHOWN) {
        println!("  worst: {ratio:.2}  {expression}");
    }
    Ok(Compiling {
        whole,
        median: ratios.get(ratios.len() / 2).map_or(f64::NAN, |(r, _)| *r),
        total,
        classes,
        worst: ratios.first().map_or(f64::NAN, |(ratio, _)| *ratio),
    })
}

/// Expressions named whose compile time is the greatest part of libpcap's.
const WORST_SHOWN: usize = 5;

/// Parts of libpcap's compile time.
struct Compiling {
    whole: f64,
    median: f64,
    total: f64,
    classes: [f64; CLASSES.len()],
    worst: f64,
}

/// Runs the bench: all of it, or with `compile` compile times alone.
pub(crate) fn bench(arguments: &[String]) -> Result<(), TaskError> {
    let oracle = Oracle::build()?;
    if arguments.iter().any(|a| a == "compile") {
        let compile = compiling(&oracle)?;
        println!("{{\"bench\":\"filter\",{}}}", compile.fields());
        return Ok(());
    }
    let input = work_folder()?.join("million.pcap");
    if !input.exists() {
        capture(&input)?;
    }
    let skep = build_skep()?;
    let simple = throughput(&skep, &input, SIMPLE)?;
    let complex = throughput(&skep, &input, COMPLEX)?;
    let [[simple_one, simple_all], [complex_one, complex_all]] = matching(&oracle)?[..] else {
        return Err("libpcap did not match both expressions".to_owned());
    };
    let compile = compiling(&oracle)?.fields();
    println!(
        "{{\"bench\":\"filter\",\"simple_vs_tcpdump\":{simple:.2},\"complex_vs_tcpdump\":{complex:.2},\"match_simple\":{simple_all:.2},\"match_complex\":{complex_all:.2},\"match_simple_one_by_one\":{simple_one:.2},\"match_complex_one_by_one\":{complex_one:.2},{compile}}}"
    );
    Ok(())
}

impl Compiling {
    /// As fields of the last line.
    fn fields(&self) -> String {
        let [primitive, joined, alternatives, tunnels] = self.classes;
        format!(
            "\"compile_vs_libpcap\":{:.2},\"compile_median\":{:.2},\"compile_total\":{:.2},\"compile_primitive\":{primitive:.2},\"compile_joined\":{joined:.2},\"compile_alternatives\":{alternatives:.2},\"compile_tunnels\":{tunnels:.2},\"compile_worst\":{:.2}",
            self.whole, self.median, self.total, self.worst
        )
    }
}
