//! `skep check OBJ…`: the kernel's verdict on every program, without root.

mod matrix;

use crate::error::{CliError, Outcome};
use crate::output::Output;
use crate::render::rejection;
use crate::render::sarif::Sarif;
use serde_json::{Map, Value as Json, json};
use skep::check::{CheckOptions, Checker, Report, Verdict};
use skep::diagnose::{Diagnosis, Note};
use skep_abi::ProgType;
use skep_btf::Btf;
use skep_verifier::Caps;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Options of `skep check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Objects
    #[arg(required = true, value_name = "OBJ")]
    objects: Vec<PathBuf>,
    /// What the loader may do
    #[arg(long, value_enum, default_value_t = CapsArg::All)]
    caps: CapsArg,
    /// Which kernels are meant, with commas between them: 6.18; 6.12, 6.1 or a file, if there is a profile; host for the running
    /// one's BTF
    #[arg(
        long,
        default_value = "6.18",
        value_delimiter = ',',
        value_name = "KERNEL"
    )]
    kernel: Vec<String>,
    /// The kernel's BTF, from a file
    #[arg(long, value_name = "FILE")]
    btf: Option<PathBuf>,
    /// Program type for sections whose name says none
    #[arg(long = "type", value_name = "TYPE")]
    prog_type: Option<String>,
    /// Only this program
    #[arg(long, value_name = "NAME")]
    program: Option<String>,
    /// Print what the verification cost
    #[arg(long)]
    stats: bool,
    /// Print a SARIF report instead
    #[arg(long)]
    sarif: bool,
    /// Print rejections in other words: kernel is the form of the kernel's log
    #[arg(long, value_enum, value_name = "FORM")]
    log: Option<LogArg>,
}

/// Forms of a rejection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum LogArg {
    /// As at the end of the kernel's log
    Kernel,
}

/// The capability sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum CapsArg {
    /// A privileged loader
    All,
    /// CAP_BPF and CAP_NET_ADMIN only
    Bpf,
}

impl CapsArg {
    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Bpf => "bpf",
        }
    }
}

/// Checks every object; an unreadable one does not keep the others from being checked.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    let kernels = kernels(args)?;
    let [(kernel, base)] = kernels.as_slice() else {
        return matrix::run(args, &kernels, out);
    };
    let mut outcome = Outcome::Ok;
    let mut found = false;
    let mut sarif = args.sarif.then(Sarif::default);
    for path in &args.objects {
        match object(args, path, kernel, base, sarif.as_mut(), out) {
            Ok(None) => {}
            Ok(Some(of_object)) => {
                found = true;
                outcome = outcome.max(of_object);
            }
            Err(CliError::Environment(message)) => {
                outcome = Outcome::Environment;
                found = true;
                match &mut sarif {
                    Some(sarif) => sarif.unreadable(path, &message),
                    None => unreadable(args, path, kernel, &message, out)?,
                }
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(sarif) = sarif {
        out.json(&sarif.finish())?;
    }
    match &args.program {
        Some(name) if !found => Err(CliError::usage(format!(
            "no object has a program \"{name}\""
        ))),
        _ => Ok(outcome),
    }
}

/// The reference kernel's name.
const REFERENCE: &str = "6.18";

/// Name and options of each kernel that is meant.
fn kernels(args: &Args) -> Result<Vec<(String, CheckOptions)>, CliError> {
    let prog_type = args.prog_type.as_deref().map(|name| {
        ProgType::from_name(name)
            .ok_or_else(|| CliError::usage(format!("\"{name}\" is no program type")))
    });
    let prog_type = prog_type.transpose()?;
    let btf = args.btf.as_deref().map(read_btf).transpose()?;
    let with_options = |name: &String| {
        let mut options = CheckOptions {
            kernel_btf: btf.clone(),
            prog_type,
            ..CheckOptions::default()
        };
        match name.as_str() {
            REFERENCE => {}
            "host" if btf.is_none() => {
                let running = skep::target::running_btf().map_err(CliError::environment)?;
                options.kernel_btf = Some(running);
            }
            "host" => {}
            name => {
                let profile = skep::target::find_profile(name).map_err(|e| match e.kind() {
                    ErrorKind::NotFound => CliError::usage(e.to_string()),
                    _ => CliError::environment(e),
                })?;
                options.profile = Some(Arc::new(profile));
            }
        }
        Ok((name.clone(), options))
    };
    args.kernel.iter().map(with_options).collect()
}

fn read_btf(path: &Path) -> Result<Btf, CliError> {
    let place = path.display();
    let bytes = std::fs::read(path).map_err(|e| CliError::environment(format!("{place}: {e}")))?;
    Btf::parse(bytes).map_err(|e| CliError::environment(format!("{place}: {e}")))
}

/// Reads one object for one kernel.
fn open(path: &Path, base: &CheckOptions) -> Result<Checker, CliError> {
    let bytes =
        std::fs::read(path).map_err(|e| CliError::environment(crate::error::io_text(&e)))?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let options = CheckOptions {
        name,
        ..base.clone()
    };
    let checker = Checker::open(&bytes, &options).map_err(CliError::environment)?;
    if checker.programs().next().is_none() {
        return Err(CliError::environment("the object has no programs"));
    }
    Ok(checker)
}

/// Names of the programs that were asked for.
fn chosen(args: &Args, checker: &Checker) -> Vec<String> {
    let wanted = |n: &&str| args.program.as_ref().is_none_or(|only| only == n);
    checker
        .programs()
        .filter(wanted)
        .map(str::to_owned)
        .collect()
}

fn caps(args: &Args) -> Caps {
    match args.caps {
        CapsArg::All => Caps::All,
        CapsArg::Bpf => Caps::Bpf,
    }
}

/// What a verdict means for the exit code.
fn outcome_of(verdict: &Verdict) -> Outcome {
    match verdict {
        Verdict::Accept(_) => Outcome::Ok,
        Verdict::Reject(_) | Verdict::Unknown(_) => Outcome::No,
        Verdict::Error(_) => Outcome::Environment,
    }
}

/// Checks one object; `None` if it has nothing that was asked for.
fn object(
    args: &Args,
    path: &Path,
    kernel: &str,
    base: &CheckOptions,
    mut sarif: Option<&mut Sarif>,
    out: &mut Output,
) -> Result<Option<Outcome>, CliError> {
    let checker = open(path, base)?;
    let caps = caps(args);
    let mut outcome = None;
    for name in &chosen(args, &checker) {
        let Some(report) = checker.check(name, caps) else {
            continue;
        };
        let diagnosis = match &report.verdict {
            Verdict::Reject(rejection) => Some(checker.diagnose(name, caps, rejection)),
            _ => None,
        };
        match &mut sarif {
            Some(sarif) => sarif.add(path, &report, diagnosis.as_ref()),
            None => print(args, path, kernel, &report, diagnosis.as_ref(), out)?,
        }
        let this = outcome_of(&report.verdict);
        outcome = Some(this.max(outcome.unwrap_or(Outcome::Ok)));
    }
    Ok(outcome)
}

/// Says that an object could not be checked.
fn unreadable(
    args: &Args,
    path: &Path,
    kernel: &str,
    message: &str,
    out: &mut Output,
) -> Result<(), CliError> {
    let place = path.display().to_string();
    if !out.is_json() {
        eprintln!("skep: {place}: {message}");
        return Ok(());
    }
    out.json(&json!({
        "schema": 1, "object": place, "kernel": kernel, "caps": args.caps.name(), "verdict": "error",
        "message": message,
    }))
}

fn print(
    args: &Args,
    path: &Path,
    kernel: &str,
    report: &Report,
    diagnosis: Option<&Diagnosis>,
    out: &mut Output,
) -> Result<(), CliError> {
    if out.is_json() {
        return out.json(&json(args, path, kernel, report, diagnosis));
    }
    match &report.verdict {
        Verdict::Accept(stats) => {
            let prog_type = report.prog_type.map_or("?", ProgType::name);
            out.line(format_args!(
                "{}: {} ({prog_type}): accepted",
                path.display(),
                report.program
            ))?;
            if args.stats {
                out.line(format_args!(
                    "    {} slots, {} instructions processed, {} states (peak {}), stack {} bytes, {} us",
                    report.insns,
                    stats.insns_processed,
                    stats.total_states,
                    stats.peak_states,
                    stats.stack_depth,
                    report.elapsed.as_micros()
                ))?;
            }
        }
        Verdict::Reject(rejection) if args.log == Some(LogArg::Kernel) => {
            out.line(rejection::kernel_log(report, rejection))?;
        }
        Verdict::Reject(rejection) => {
            if let Some(diagnosis) = diagnosis {
                let text = rejection::text(path, report, rejection, diagnosis, out.color());
                out.line(text)?;
            }
        }
        Verdict::Unknown(message) => {
            out.line(format_args!(
                "{}: {}: unknown: {message}",
                path.display(),
                report.program
            ))?;
        }
        Verdict::Error(message) => {
            eprintln!("skep: {}: {}: {message}", path.display(), report.program);
        }
    }
    Ok(())
}

/// What led to a rejection.
fn note(note: &Note) -> Json {
    let place = note.place.as_ref();
    let source = place.and_then(|p| p.source.as_ref());
    json!({
        "message": note.text, "insn": place.map(|p| p.insn), "file": source.map(|s| &s.file),
        "line": source.map(|s| s.line),
    })
}

/// One line a program; fields that do not apply are left out.
fn json(
    args: &Args,
    path: &Path,
    kernel: &str,
    report: &Report,
    diagnosis: Option<&Diagnosis>,
) -> Json {
    let mut row = Map::new();
    let mut set = |name: &str, value: Json| {
        if !value.is_null() {
            row.insert(name.to_owned(), value);
        }
    };
    set("schema", json!(1));
    set("object", json!(path.display().to_string()));
    set("program", json!(report.program));
    set("prog_type", json!(report.prog_type.map(ProgType::name)));
    set("kernel", json!(kernel));
    set("caps", json!(args.caps.name()));
    set("insns", json!(report.insns));
    let processed = match &report.verdict {
        Verdict::Accept(stats) => {
            set("verdict", json!("accept"));
            Some(stats.insns_processed)
        }
        Verdict::Reject(rejection) => {
            set("verdict", json!("reject"));
            set("class", json!(rejection.class.name()));
            set("code", json!(rejection.code));
            set("insn", json!(rejection.insn));
            let place = diagnosis.and_then(|d| d.place.as_ref()?.source.as_ref());
            set("file", json!(place.map(|s| &s.file)));
            set("line", json!(place.map(|s| s.line)));
            set("column", json!(place.map(|s| s.column).filter(|c| *c > 0)));
            set("message", json!(diagnosis.map(|d| &d.headline)));
            set("label", json!(diagnosis.and_then(|d| d.label.as_ref())));
            set(
                "notes",
                json!(diagnosis.map(|d| d.notes.iter().map(note).collect::<Json>())),
            );
            set("help", json!(diagnosis.map(|d| &d.help)));
            Some(rejection.insns_processed)
        }
        Verdict::Error(message) | Verdict::Unknown(message) => {
            let unknown = matches!(report.verdict, Verdict::Unknown(_));
            set("verdict", json!(if unknown { "unknown" } else { "error" }));
            set("message", json!(message));
            None
        }
    };
    set("insns_processed", json!(processed));
    set(
        "verify_usec",
        json!(processed.map(|_| report.elapsed.as_micros() as u64)),
    );
    if matches!(report.verdict, Verdict::Accept(_)) {
        set("runs_in_user", json!(report.why_not.is_none()));
        set("why_not", json!(report.why_not));
    }
    Json::Object(row)
}
