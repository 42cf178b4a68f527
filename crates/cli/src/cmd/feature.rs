//! `skep feature`: what this kernel can do.

use crate::error::{CliError, Outcome};
use crate::output::Output;
use serde_json::{Map, Value as Json, json};
use skep::feature::{Answer, Features, probe};

/// Options of `skep feature`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `probe` is the default and only word
    words: Vec<String>,
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
        [] | ["probe" | "show"] | ["probe" | "show", "kernel"] => {}
        _ => return Err(CliError::usage("usage: skep feature [probe [kernel]]")),
    }
    let features = probe();
    if out.is_json() {
        out.json(&json(&features))?;
    } else {
        text(&features, out)?;
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
