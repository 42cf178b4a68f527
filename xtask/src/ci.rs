//! `cargo xtask ci`: everything CI demands, in the order that fails fastest.

use crate::TaskError;
use std::process::Command;

/// Arguments of cargo and what to add to the environment.
type Step = (
    &'static [&'static str],
    Option<(&'static str, &'static str)>,
);

/// Every interleaving of the algorithms in shared memory (`crates/maps/src/model.rs`).
const MODELS: &[&str] = &[
    "test",
    "--release",
    "--package",
    "skep-maps",
    "--features",
    "loom",
    "--lib",
    "model",
];

/// The programs behind `bench jit` and `bench interp` stand outside of the workspace, with the peers they measure.
const PEERS: &[&str] = &["check", "--manifest-path", "peers/Cargo.toml", "--quiet"];

/// The compiler of filters does without the standard library: this crate has a panic handler of its own.
const BARE: &[&str] = &[
    "rustc",
    "--package",
    "skep-cbpf",
    "--example",
    "bare",
    "--features",
    "bare",
    "--quiet",
    "--",
    "-C",
    "panic=abort",
];

/// The targets of cargo-fuzz stand outside as well. Their engine is not linked, so it need not be built.
const FUZZ: Step = (
    &["check", "--manifest-path", "fuzz/Cargo.toml", "--quiet"],
    Some(("CUSTOM_LIBFUZZER_PATH", "/usr/lib/libFuzzer.a")),
);

/// What CI runs, step by step.
const STEPS: &[Step] = &[
    (&["fmt", "--all", "--check"], None),
    (
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ],
        None,
    ),
    (
        &["doc", "--workspace", "--no-deps", "--quiet"],
        Some(("RUSTDOCFLAGS", "-D warnings")),
    ),
    (&["test", "--workspace"], None),
    (MODELS, None),
    (PEERS, None),
    (BARE, None),
    FUZZ,
];

/// Runs the steps and stops at the first that fails.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    if let Some(unknown) = arguments.first() {
        return Err(format!("unknown argument {unknown}"));
    }
    for (step, environment) in STEPS {
        eprintln!("ci: cargo {}", step.join(" "));
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(*step).envs(environment.iter().copied());
        let status = command
            .status()
            .map_err(|e| format!("cannot run cargo: {e}"))?;
        if !status.success() {
            return Err(format!("cargo {} failed", step.join(" ")));
        }
    }
    println!("ci: all steps passed");
    Ok(())
}
