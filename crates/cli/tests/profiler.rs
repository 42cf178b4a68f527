//! perf(1) reads what `--perf dump` writes: names and source lines of compiled programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs that last long enough for some dozens of samples.
const RUNS: &str = "20000000";

/// A folder for the files of perf, which goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("skep-perf-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        Self(folder)
    }

    /// perf in this folder; `None` where there is none.
    fn perf(&self, arguments: &[&str]) -> Option<Output> {
        let mut perf = Command::new("perf");
        // It keeps copies of what it sampled in the home folder.
        perf.args(arguments)
            .current_dir(&self.0)
            .env("HOME", &self.0);
        perf.output().ok()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn perf_shows_names_and_lines_of_compiled_programs() {
    let folder = Folder::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let object = root.join("examples/packets.bpf.o");
    let object = object.to_str().expect("a name in UTF-8");
    std::fs::write(folder.0.join("packet"), [0; 64]).expect("a packet");
    let options = "record -q -k mono -e cpu-clock -o recorded --".split(' ');
    let run = [env!("CARGO_BIN_EXE_skep"), "prog", "run", object];
    let how = "--program packets --data-in packet --backend user --perf dump --repeat".split(' ');
    let words: Vec<&str> = options.chain(run).chain(how).chain([RUNS]).collect();
    let recorded = folder.perf(&words);
    if !recorded.is_some_and(|output| output.status.success()) {
        println!("skipped: perf record");
        return;
    }
    let injected = folder
        .perf(&["inject", "--jit", "-i", "recorded", "-o", "injected"])
        .expect("perf");
    assert!(injected.status.success(), "{injected:?}");
    let report = folder
        .perf(&["report", "-i", "injected", "--stdio", "-s", "sym,srcline"])
        .expect("perf");
    let text = String::from_utf8_lossy(&report.stdout);
    let code: Vec<&str> = text.lines().filter(|l| l.contains("bpf_prog_")).collect();
    assert!(code.iter().any(|l| l.contains("_packets ")), "{text}");
    if Command::new("addr2line").arg("-v").output().is_ok() {
        let has_line = |l: &&str| l.contains("packets.bpf.c:");
        assert!(code.iter().any(has_line), "{text}");
    }
}
