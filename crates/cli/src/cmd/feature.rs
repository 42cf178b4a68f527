//! `skep feature`: what this kernel can do.

use crate::error::{CliError, Outcome};
use crate::output::Output;
use serde_json::{Map, Value as Json, json};
use skep::feature::{Answer, Features, probe};
use std::path::{Path, PathBuf};

// Options of `skep feature`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `probe`, the default, or `dump FILE`, which writes a profile of this kernel for `skep check --kernel FILE`
    words: Vec<String>,
    /// The kernel's configuration, if neither /proc/config.gz nor /boot has it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Probes and prints.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    match args
        .words
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["dump", file] => return dump(Path::new(file), args.config.as_deref(), out),
        [] | ["probe" | "show"] | ["probe" | "show", "kernel"] => {}
        _ => {
            return Err(CliError::usage(
                "usage: skep feature [probe [kernel] | dump FILE]",
            ));
        }
    }
    let features = probe();
    if out.is_json() {
        out.json(&json(&features))?;
    } else {
        text(&features, out)?;
    }
    Ok(Outcome::Ok)
}

/// Writes the profile of the running kernel.
fn dump(file: &Path, config: Option<&Path>, out: &mut Output) -> Result<Outcome, CliError> {
    let config = config
        .map(std::fs::read_to_string)
        .transpose()
        .map_err(CliError::environment)?;
    let parts = skep::target::dump_profile(config).map_err(CliError::environment)?;
    let bytes = parts.to_file();
    std::fs::write(file, &bytes)
        .map_err(|e| CliError::environment(format!("{}: {e}", file.display())))?;
    if parts.kconfig_is_empty() {
        eprintln!("skep: the configuration is not in /boot: the profile has none; see --config");
    }
    let place = file.display().to_string();
    if out.is_json() {
        out.json(&json!({"schema": 1, "profile": place, "bytes": bytes.len()}))?;
    } else {
        out.line(format_args!("{place}: {} bytes", bytes.len()))?;
    }
    Ok(Outcome::Ok)
}

/// Yes and no as booleans, unknown as null.
fn answer(answer: Answer) -> Json {
    match answer {
        Answer::Yes => json!(true),
        Answer::No => json!(false),
        Answer::Unknown => Json::Null,
    }
}

/// bpftool's sections and names.
fn json(features: &Features) -> Json {
    let named = |kind: &str, name: &str, a| (format!("have_{name}_{kind}_type"), answer(a));
    let progs: Map<_, _> = features
        .prog_types
        .iter()
        .map(|(t, a)| named("prog", t.name(), *a))
        .collect();
    let maps: Map<_, _> = features
        .map_types
        .iter()
        .map(|(t, a)| named("map", t.name(), *a))
        .collect();
    let hooks: Map<_, _> = features
        .hooks
        .iter()
        .map(|(name, a)| (format!("have_{name}"), answer(*a)))
        .collect();
    json!({
        "system_config": {
            "release": features.release,
            "unprivileged_bpf_disabled": features.unprivileged_bpf_disabled,
            "bpf_jit_enable": features.jit_enable,
        },
        "syscall_config": {"have_bpf_syscall": true},
        "program_types": progs,
        "map_types": maps,
        "hooks": hooks,
    })
}

fn word(answer: Answer) -> &'static str {
    match answer {
        Answer::Yes => "yes",
        Answer::No => "no",
        Answer::Unknown => "unknown",
    }
}

fn text(features: &Features, out: &mut Output) -> Result<(), CliError> {
    let number = |n: Option<u32>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    out.line(format_args!("kernel {}", features.release))?;
    if !features.privileged {
        out.line("without privileges most answers are unknown")?;
    }
    out.line(format_args!(
        "unprivileged_bpf_disabled {}",
        number(features.unprivileged_bpf_disabled)
    ))?;
    out.line(format_args!(
        "bpf_jit_enable {}",
        number(features.jit_enable)
    ))?;
    for (title, rows) in [
        (
            "program types",
            features
                .prog_types
                .iter()
                .map(|(t, a)| (t.name(), *a))
                .collect::<Vec<_>>(),
        ),
        (
            "map types",
            features
                .map_types
                .iter()
                .map(|(t, a)| (t.name(), *a))
                .collect(),
        ),
        ("hooks", features.hooks.clone()),
    ] {
        out.line(format_args!("\n{title}:"))?;
        for (name, a) in rows {
            out.line(format_args!("  {name:24} {}", word(a)))?;
        }
    }
    Ok(())
}
