//! Developer tasks: `cargo xtask TASK [ARGUMENTS]`.
//!
//! One file a task; to add one, add its file and a line to [`TASKS`]. A task takes the arguments after its name.

mod bench;
mod ci;
mod conformance;
mod corpus;
mod diagnose;
mod disasm_compare;
mod examples;
mod filter;
mod fuzz_jit;
mod fuzz_verify;
mod guest;
mod hammer;
mod kernels;
mod loads;
mod log_compare;
mod maps;
mod matrix;
mod packets;
mod probe;
mod probe_maps;
mod probe_objects;
mod profile;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A task could not be done; the text says why.
type TaskError = String;
/// What a task does with its arguments.
type Task = fn(&[String]) -> Result<(), TaskError>;

/// Name, arguments and purpose of every task.
#[rustfmt::skip] // one task per line
const TASKS: &[(&str, &str, Task)] = &[
    ("ci", "fmt, clippy, doc and tests as in CI", ci::run),
    ("corpus", "[DIR]: our verdicts against the kernel's", corpus::run),
    ("corpus-run", "[DIR]: the recorded test runs, in either engine or the kernel", corpus::run::run),
    ("diagnose", "[DIR] [--trial OUT] [--judge DIR]: the messages for rejected programs", diagnose::run),
    ("log-compare", "[DIR] [--show NAME]: our form of the kernel's log against the running kernel's", log_compare::run),
    ("examples", "[--check]: builds the objects in examples/", examples::run),
    ("conformance", "DIR: the bpf_conformance suite, built in DIR", conformance::run),
    ("disasm-compare", "[DIR]: skep disasm against llvm-objdump-19", disasm_compare::run),
    ("maps", "[OPERATIONS]: random operations on maps, ours against the kernel's", maps::run),
    ("packets", "[PROGRAMS] [SEED]: programs that change packets and contexts, ours against the kernel's", packets::run),
    ("hammer", "[SECONDS]: processes that share maps, one of them killed again and again", hammer::run),
    ("probe", "the tables of abi against the running kernel, cell by cell", probe::run),
    ("probe-maps", "maps x programs, maps x helpers, access modes: our verdicts against the running kernel's", probe_maps::run),
    ("probe-objects", "[SEED]: programs of one map, maps in maps, damaged BTF: our answers against the running kernel's", probe_objects::run),
    ("kernels", "[host] [KERNEL...]: the kernel tests, here and inside virtual machines, against docs/attach.md", kernels::run),
    ("fuzz-jit", "[COUNT] [SEED]: random programs in both engines, every tier and the kernel", fuzz_jit::run),
    ("fuzz-verify", "[COUNT] [SEED]: random programs, our verdict against the kernel's", fuzz_verify::run),
    ("filter-diff", "[--count N] [--link NAME] [--table]: our filters against libpcap's", filter::run),
    ("bench", "NAME: measures against the kernel and the peers", bench::run),
    ("loads", "DIR [--with PROGRAM]: objects that libbpf and skep load into the running kernel", loads::run),
    ("matrix", "OBJECTS KERNEL.jsonl...: verdicts for other kernels against those of the booted ones", matrix::run),
    ("profile", "[KERNEL]: makes a kernel's data, from the running kernel or in a virtual machine", profile::run),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let Some((_, _, task)) = TASKS.iter().find(|(n, _, _)| *n == name) else {
        eprintln!("usage: cargo xtask TASK");
        for (name, purpose, _) in TASKS {
            eprintln!("  {name:16} {purpose}");
        }
        return ExitCode::from(2);
    };
    match task(&rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace.
fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Where build output goes.
fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace_root().join("target"), PathBuf::from)
}
