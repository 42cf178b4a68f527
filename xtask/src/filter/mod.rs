//! `cargo xtask filter-diff`: our filters against libpcap's, over many expressions and packets of every link type.

mod bench;
mod expressions;
mod oracle;
mod packets;
mod random;

use crate::TaskError;
use oracle::{Answer, Oracle};
use packets::Packet;
use skep::filter::{Filter, LinkType, Matcher, Names, Target, plain};
use skep_cbpf::Insn;
use skep_cbpf::check::{Cause, CheckError, check};
use std::fs;
use std::path::Path;

pub(crate) use bench::bench;
pub(crate) use expressions::for_link;
pub(crate) use packets::generate;
pub(crate) use random::Random;

/// Expressions of the hand-written list and the manual, and generated ones, for each link type.
const GENERATED: usize = 400;
/// Packets for each link type; half of them cut short.
const PACKETS: usize = 1600;

/// Names as the C library reads them here.
pub(crate) fn system_names() -> Names {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    Names::default()
        .with_hosts(&text("/etc/hosts"))
        .with_networks(&text("/etc/networks"))
        .with_services(&text("/etc/services"))
        .with_protocols(&text("/etc/protocols"))
        .with_ethers(&text("/etc/ethers"))
}

/// Differences and lengths of one link type.
#[derive(Default)]
struct Tally {
    expressions: usize,
    refused: usize,
    /// Expressions that libpcap compiles, or runs, for ever.
    endless: usize,
    /// Expressions whose code in libpcap reads words that it did not set.
    undefined: usize,
    decisions: u64,
    /// Filters that ran as native code.
    native: usize,
    wrong: Vec<String>,
    longer: Vec<String>,
    /// Expressions whose plain code is not libpcap's, instruction for instruction.
    other: Vec<String>,
    ours: usize,
    theirs: usize,
    log_ratio: f64,
    compared: usize,
}

/// Runs the task: `[--seed N] [--count N] [--table] [--link NAME] [PCAP…]`.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let option = |name: &str| -> Option<&String> {
        let at = arguments.iter().position(|a| a == name)?;
        arguments.get(at + 1)
    };
    let number =
        |name: &str, default: usize| option(name).and_then(|n| n.parse().ok()).unwrap_or(default);
    let seed = number("--seed", 1) as u64;
    let generated = number("--count", GENERATED);
    let table = arguments.iter().any(|a| a == "--table");
    let only = option("--link");
    let oracle = Oracle::build()?;
    let names = system_names();
    let mut total = Tally::default();
    let mut packets_total = 0;
    println!(
        "link type          expressions refused endless undefined packets  ours  libpcap  ratio  longer  other  wrong"
    );
    for link in LinkType::all() {
        let name = link.name().unwrap_or("?");
        if only.is_some_and(|o| o != name) {
            continue;
        }
        let mut random = Random::new(seed ^ u64::from(link.0) << 32);
        let expressions = for_link(link, generated, &mut random);
        let packets = generate(link, PACKETS, &mut random);
        packets_total += packets.len();
        let tally = compare(link, &expressions, &packets, &oracle, &names, table)?;
        print_row(name, packets.len(), &tally);
        for line in tally.wrong.iter().take(20) {
            println!("    WRONG  {line}");
        }
        for line in tally.other.iter().take(12) {
            println!("    OTHER  {line}");
        }
        for line in tally.longer.iter().take(12) {
            println!("    LONGER {line}");
        }
        add(&mut total, tally);
    }
    print_row("all", packets_total, &total);
    let mean = (total.log_ratio / total.compared.max(1) as f64).exp();
    println!(
        "{{\"task\":\"filter-diff\",\"expressions\":{},\"packets\":{packets_total},\"decisions\":{},\"native\":{},\"compiled\":{},\"wrong\":{},\"longer\":{},\"other_code\":{},\"length_geomean\":{mean:.4}}}",
        total.expressions,
        total.decisions,
        total.native,
        total.compared,
        total.wrong.len(),
        total.longer.len(),
        total.other.len(),
    );
    if total.wrong.is_empty() && total.longer.is_empty() {
        Ok(())
    } else {
        Err("libpcap answers otherwise".to_owned())
    }
}

fn add(total: &mut Tally, tally: Tally) {
    total.expressions += tally.expressions;
    total.refused += tally.refused;
    total.endless += tally.endless;
    total.undefined += tally.undefined;
    total.decisions += tally.decisions;
    total.native += tally.native;
    total.wrong.extend(tally.wrong);
    total.longer.extend(tally.longer);
    total.other.extend(tally.other);
    total.ours += tally.ours;
    total.theirs += tally.theirs;
    total.log_ratio += tally.log_ratio;
    total.compared += tally.compared;
}

fn print_row(name: &str, packets: usize, tally: &Tally) {
    let mean = (tally.log_ratio / tally.compared.max(1) as f64).exp();
    println!(
        "{name:18} {:11} {:7} {:7} {:9} {packets:7} {:5} {:8} {mean:6.3} {:7} {:6} {:6}",
        tally.expressions,
        tally.refused,
        tally.endless,
        tally.undefined,
        tally.ours,
        tally.theirs,
        tally.longer.len(),
        tally.other.len(),
        tally.wrong.len(),
    );
}

fn compare(
    link: LinkType,
    expressions: &[String],
    packets: &[Packet],
    oracle: &Oracle,
    names: &Names,
    table: bool,
) -> Result<Tally, TaskError> {
    let answers = oracle.run(link, expressions, packets)?;
    let mut tally = Tally::default();
    let target = Target {
        names,
        ..Target::file(link)
    };
    for (expression, answer) in expressions.iter().zip(answers) {
        tally.expressions += 1;
        let ours = Filter::compile(expression, &target);
        match (ours, answer) {
            (Err(_), Answer::Refused(_)) => tally.refused += 1,
            (_, Answer::Endless) => tally.endless += 1,
            (Err(error), Answer::Code { .. }) => {
                tally
                    .wrong
                    .push(format!("{expression}: refused by us: {error}"));
            }
            (Ok(_), Answer::Refused(why)) => {
                tally
                    .wrong
                    .push(format!("{expression}: refused by libpcap: {why}"));
            }
            (Ok(_), Answer::Code { code, .. }) if reads_unset_words(&code) => tally.undefined += 1,
            (Ok(filter), Answer::Code { code, accepted }) => {
                let length = code.len();
                // Of the walk of protochain ours is the shorter even here.
                if !expression.contains("protochain")
                    && plain(expression, &target).as_ref() != Ok(&code)
                {
                    tally.other.push(expression.clone());
                }
                let ours = filter.code().len();
                tally.compared += 1;
                tally.ours += ours;
                tally.theirs += length;
                tally.log_ratio += (ours as f64 / length as f64).ln();
                if table {
                    println!("{ours:4} {length:4}  {expression}");
                }
                if ours > length {
                    tally
                        .longer
                        .push(format!("{ours} > {length}: {expression}"));
                }
                let matcher = Matcher::new(filter);
                tally.native += usize::from(matcher.is_native());
                for (i, packet) in packets.iter().enumerate() {
                    tally.decisions += 1;
                    let us = matcher.matches(&packet.bytes, packet.wire);
                    let interpreted = matcher.filter().matches(&packet.bytes, packet.wire);
                    if us != interpreted || us != accepted[i] {
                        tally.wrong.push(format!(
                            "{expression}: packet {i} of {} bytes: {} by us: {}",
                            packet.bytes.len(),
                            if us { "accepted" } else { "rejected" },
                            hex(&packet.bytes)
                        ));
                        break;
                    }
                }
            }
        }
    }
    Ok(tally)
}

/// Whether libpcap's code reads scratch words that nothing wrote, as with `geneve` in an alternative: what it answers
/// is chance, and the kernel refuses it.
fn reads_unset_words(code: &[Insn]) -> bool {
    matches!(
        check(code),
        Err(CheckError {
            cause: Cause::ScratchUnset(_),
            ..
        })
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(96).map(|b| format!("{b:02x}")).collect()
}

/// The folder for built and generated files.
fn work_folder() -> Result<std::path::PathBuf, TaskError> {
    let folder = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new("target").to_owned(), std::path::PathBuf::from)
        .join("filter-diff");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}
