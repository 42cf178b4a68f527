//! `skep check OBJ…`: the kernel's verdict on every program, without root.

mod matrix;

use crate::cmd::open::CapsArg;
use crate::error::{CliError, Outcome};
use crate::output::Output;
use crate::render::sarif::Sarif;
use crate::render::{rejection, reports};
use serde_json::{Map, Value as Json, json};
use skep::check::{CheckOptions, Checker, Report, Verdict};
use skep::diagnose::{Diagnosis, LineCost, Note};
use skep_abi::ProgType;
use skep_verifier::{LogLevel, Stats};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

// Options of `skep check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Objects
    #[arg(required = true, value_name = "OBJ")]
    objects: Vec<PathBuf>,
    /// What the loader may do
    #[arg(long, value_enum, default_value_t = CapsArg::All)]
    caps: CapsArg,
    /// Which kernels are meant, with commas between them: 6.18; 6.12, 6.1 or a file, if there is a profile; host for the running
    /// one, asked on the spot (root)
    #[arg(
        long,
        default_value = "6.18",
        value_delimiter = ',',
        value_name = "KERNEL"
    )]
    kernel: Vec<String>,
    /// The kernel's BTF, from a file, an archive (.btf.tar.xz) or a folder of archives
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
    #[arg(long, conflicts_with_all = ["github", "veristat", "log", "watch"])]
    sarif: bool,
    /// Print rejections as annotations of GitHub Actions
    #[arg(long, conflicts_with_all = ["veristat", "log"])]
    github: bool,
    /// Print a table that veristat can compare
    #[arg(long, conflicts_with = "log")]
    veristat: bool,
    /// Print rejections in other words: kernel is the form of the kernel's log
    #[arg(long, value_enum, value_name = "FORM")]
    log: Option<LogArg>,
    /// Of the kernel's log: 1 the failing path, 2 every path, 4 statistics only
    #[arg(long, value_name = "N", default_value_t = 1, requires = "log", value_parser = clap::value_parser!(u32).range(1..=7))]
    log_level: u32,
    /// Check again whenever an object changes
    #[arg(long)]
    watch: bool,
}

/// Forms of a rejection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum LogArg {
    /// As at the end of the kernel's log
    Kernel,
}

/// Bit of the log level that asks for the time (`BPF_LOG_STATS`).
const LOG_TIME: u32 = 4;

/// Time between two looks at the objects.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// Checks every object, again and again if asked.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    let kernels = kernels(args)?;
    if !args.watch {
        return once(args, &kernels, out);
    }
    let changes = || -> Vec<Option<SystemTime>> {
        let modified = |p: &PathBuf| std::fs::metadata(p).and_then(|m| m.modified()).ok();
        args.objects.iter().map(modified).collect()
    };
    loop {
        let seen = changes();
        once(args, &kernels, out)?;
        out.flush()?;
        // Ends with Ctrl-C.
        while changes() == seen {
            std::thread::sleep(WATCH_INTERVAL);
        }
        std::thread::sleep(WATCH_INTERVAL); // a compiler writes an object in several steps
    }
}

/// Checks every object; an unreadable one does not keep the others from being checked.
fn once(
    args: &Args,
    kernels: &[(String, CheckOptions)],
    out: &mut Output,
) -> Result<Outcome, CliError> {
    let [(kernel, base)] = kernels else {
        return matrix::run(args, kernels, out);
    };
    let mut outcome = Outcome::Ok;
    let mut found = false;
    let mut sarif = args.sarif.then(Sarif::default);
    if args.veristat && !out.is_json() {
        out.line(reports::VERISTAT_HEAD)?;
    }
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
    let btf = args.btf.as_deref().map(super::open::btf).transpose()?;
    let with_options = |name: &String| {
        let mut options = CheckOptions {
            kernel_btf: btf.clone(),
            prog_type,
            ..CheckOptions::default()
        };
        match name.as_str() {
            REFERENCE => {}
            "host" => {
                let profile = skep::target::host_profile().map_err(CliError::environment)?;
                options.profile = Some(Arc::new(profile));
            }
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
    let caps = args.caps.caps();
    let mut outcome = None;
    let names = chosen(args, &checker);
    let reports = checker.check_all(&names, caps);
    for (name, report) in names.iter().zip(reports) {
        let Some(report) = report else {
            continue;
        };
        let diagnoses = match &report.verdict {
            Verdict::Reject(rejection) if explains(args, out) => {
                checker.diagnose(name, caps, rejection)
            }
            _ => Vec::new(),
        };
        match &mut sarif {
            Some(sarif) => sarif.add(path, &report, &diagnoses),
            None => print(args, path, kernel, &checker, &report, &diagnoses, out)?,
        }
        let this = outcome_of(&report.verdict);
        outcome = Some(this.max(outcome.unwrap_or(Outcome::Ok)));
    }
    Ok(outcome)
}

/// Whether what is printed explains rejections: JSON always does, the table of veristat and the kernel's log do not.
fn explains(args: &Args, out: &Output) -> bool {
    out.is_json() || !(args.veristat || args.log.is_some())
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
    checker: &Checker,
    report: &Report,
    diagnoses: &[Diagnosis],
    out: &mut Output,
) -> Result<(), CliError> {
    let caps = args.caps.caps();
    if out.is_json() {
        let mut row = json(args, path, kernel, report, diagnoses);
        if args.stats {
            let costs = checker.line_costs(&report.program, caps);
            row["lines"] = costs.iter().take(LINES_SHOWN).map(line_json).collect();
        }
        return out.json(&row);
    }
    if args.veristat {
        return reports::veristat(path, report).map_or(Ok(()), |line| out.line(line));
    }
    match &report.verdict {
        Verdict::Accept(_) if args.github => {}
        Verdict::Accept(stats) => accepted(args, path, report, stats, out)?,
        Verdict::Reject(_) if args.github => {
            for d in diagnoses {
                out.line(reports::annotation(path, &report.program, d))?;
            }
        }
        Verdict::Reject(rejection) if args.log == Some(LogArg::Kernel) => {
            let level = match args.log_level & 3 {
                0 => LogLevel::Statistics,
                1 => LogLevel::Path,
                _ => LogLevel::Paths,
            };
            let log = checker.kernel_log(&report.program, caps, rejection, level);
            if args.log_level & LOG_TIME == 0 {
                out.line(log)?;
            } else {
                // The time stands before the statistics.
                let (path, last) = log.rsplit_once('\n').unwrap_or(("", &log));
                let line = if path.is_empty() { "" } else { "\n" };
                let time = report.elapsed.as_micros();
                out.line(format_args!(
                    "{path}{line}verification time {time} usec\n{last}"
                ))?;
            }
        }
        Verdict::Reject(_) => {
            for d in diagnoses {
                out.line(rejection::text(path, &report.program, d, out.color()))?;
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
    if args.stats && !args.github {
        costs(&checker.line_costs(&report.program, caps), out)?;
    }
    Ok(())
}

fn accepted(
    args: &Args,
    path: &Path,
    report: &Report,
    stats: &Stats,
    out: &mut Output,
) -> Result<(), CliError> {
    let prog_type = report.prog_type.map_or("?", ProgType::name);
    let place = path.display();
    out.line(format_args!(
        "{place}: {} ({prog_type}): accepted",
        report.program
    ))?;
    if !args.stats {
        return Ok(());
    }
    out.line(format_args!(
        "    {} slots, {} instructions processed, {} states (peak {}), stack {} bytes, {} us",
        report.insns,
        stats.insns_processed,
        stats.total_states,
        stats.peak_states,
        stats.stack_depth,
        report.elapsed.as_micros()
    ))
}

/// Lines of the complexity report.
const LINES_SHOWN: usize = 10;
/// A line whose instructions were walked this often, without paths being pruned there, is worth changing.
const COSTLY_STEPS: u32 = 10_000;

/// The source lines that cost most, and what to change about them.
fn costs(lines: &[LineCost], out: &mut Output) -> Result<(), CliError> {
    let total: u64 = lines.iter().map(|l| u64::from(l.cost.steps)).sum();
    if total == 0 {
        return Ok(());
    }
    out.line("    share   steps  states  pruned  line")?;
    for l in lines.iter().take(LINES_SHOWN) {
        let share = u64::from(l.cost.steps) * 100 / total;
        let file = l.source.file.rsplit('/').next().unwrap_or_default();
        out.line(format_args!(
            "    {share:3} % {:8} {:7} {:7}  {file}:{}: {}",
            l.cost.steps, l.cost.states, l.cost.pruned, l.source.line, l.source.text
        ))?;
    }
    let costly = lines
        .iter()
        .find(|l| l.cost.states > l.cost.pruned && l.cost.steps > COSTLY_STEPS);
    if let Some(l) = costly {
        out.line(format_args!(
            "    help: at line {} {} states were kept and only {} paths pruned: what the branches before it leave is too different; \
             put the code behind it into a global function, use bpf_loop() or bpf_for(), or hide values that do not matter any more \
             with `asm volatile(\"\" : \"+r\"(x));`",
            l.source.line, l.cost.states, l.cost.pruned
        ))?;
    }
    Ok(())
}

fn line_json(l: &LineCost) -> Json {
    json!({
        "file": l.source.file, "line": l.source.line, "steps": l.cost.steps, "states": l.cost.states,
        "pruned": l.cost.pruned,
    })
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

/// An error that is independent of the first.
fn further(d: &Diagnosis) -> Json {
    let source = d.place.as_ref().and_then(|p| p.source.as_ref());
    json!({
        "code": d.code, "insn": d.place.as_ref().map(|p| p.insn), "file": source.map(|s| &s.file),
        "line": source.map(|s| s.line), "message": d.headline,
        "notes": d.notes.iter().map(note).collect::<Json>(), "help": d.help,
    })
}

/// One line a program; fields that do not apply are left out.
fn json(args: &Args, path: &Path, kernel: &str, report: &Report, diagnoses: &[Diagnosis]) -> Json {
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
            let first = diagnoses.first();
            let place = first.and_then(|d| d.place.as_ref()?.source.as_ref());
            set("file", json!(place.map(|s| &s.file)));
            set("line", json!(place.map(|s| s.line)));
            set("column", json!(place.map(|s| s.column).filter(|c| *c > 0)));
            set("message", json!(first.map(|d| &d.headline)));
            set("label", json!(first.and_then(|d| d.label.as_ref())));
            set(
                "notes",
                json!(first.map(|d| d.notes.iter().map(note).collect::<Json>())),
            );
            set("help", json!(first.map(|d| &d.help)));
            let further: Vec<Json> = diagnoses.iter().skip(1).map(further).collect();
            set("further", json!(Some(further).filter(|f| !f.is_empty())));
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
