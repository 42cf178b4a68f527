//! `skep seccomp`: system call policies.

use crate::error::{CliError, Outcome, io_text};
use crate::output::Output;
use serde_json::json;
use skep_cbpf::insn::Op;
use skep_cbpf::seccomp::{Action, Arch, Case, Policy, compile, explain};
use skep_cbpf::text::{Form, parse, print};
use skep_cbpf::{Insn, check_seccomp};
use skep_sys::notified::{Notification, supervise};
use skep_sys::socket::SockFilter;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

// Options of `skep seccomp`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

// What to do with a policy.
#[derive(clap::Subcommand)]
#[command(defer = true)]
enum Verb {
    /// Print the filter of a policy
    Compile {
        /// The policy
        policy: PathBuf,
        /// -d to read (the default), -dd as C, -ddd as numbers
        #[arg(short = 'd', action = clap::ArgAction::Count)]
        dump: u8,
        /// Write the filter as the kernel takes it: eight bytes an instruction
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print what a filter does with each system call
    Explain {
        /// The filter: eight bytes an instruction, text as of tcpdump's -d, -dd or -ddd, or a policy
        filter: PathBuf,
        /// Architecture
        #[arg(long, default_value = native().name())]
        arch: String,
        /// Only calls to which this happens, such as "allow" or "kill"
        #[arg(long, value_name = "ACTION")]
        action: Option<String>,
    },
    /// Run a command under a policy; calls with the action notify are printed and go on
    Run {
        /// The policy
        policy: PathBuf,
        /// The command and its arguments
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
}

/// The architecture this program runs on.
const fn native() -> Arch {
    if cfg!(target_arch = "aarch64") {
        Arch::Aarch64
    } else if cfg!(target_arch = "arm") {
        Arch::Arm
    } else if cfg!(target_arch = "riscv64") {
        Arch::Riscv64
    } else {
        Arch::X86_64
    }
}

/// Does it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    match &args.verb {
        Verb::Compile {
            policy,
            dump,
            output,
        } => {
            let code = compiled(policy)?;
            if let Some(path) = output {
                fs::write(path, to_bytes(&code)).map_err(|e| at(path, &e))?;
                return Ok(Outcome::Ok);
            }
            let form = match dump {
                0 | 1 => Form::Readable,
                2 => Form::C,
                _ => Form::Decimal,
            };
            out.line(print(&code, form).trim_end())?;
            Ok(Outcome::Ok)
        }
        Verb::Explain {
            filter,
            arch,
            action,
        } => {
            let arch = Arch::by_name(arch).ok_or_else(|| {
                let known: Vec<&str> = Arch::all().map(Arch::name).collect();
                CliError::usage(format!(
                    "no architecture {arch:?}; there are {}",
                    known.join(", ")
                ))
            })?;
            explained(out, &any_filter(filter)?, arch, action.as_deref())
        }
        Verb::Run { policy, command } => {
            let code = compiled(policy)?;
            if code.iter().any(|i| notifies(*i)) {
                supervised(&code, command)
            } else {
                under(&code, command)
            }
        }
    }
}

fn at(path: &Path, error: &std::io::Error) -> CliError {
    CliError::environment(format!("{}: {}", path.display(), io_text(error)))
}

fn compiled(path: &Path) -> Result<Vec<Insn>, CliError> {
    let text = fs::read_to_string(path).map_err(|e| at(path, &e))?;
    let wrong = |e: &dyn std::fmt::Display| CliError::usage(format!("{}: {e}", path.display()));
    let policy = Policy::parse(&text, native()).map_err(|e| wrong(&e))?;
    compile(&policy).map_err(|e| wrong(&e))
}

fn to_bytes(code: &[Insn]) -> Vec<u8> {
    let bytes = |i: &Insn| {
        let (code, k) = (i.code.to_ne_bytes(), i.k.to_ne_bytes());
        [code[0], code[1], i.jt, i.jf, k[0], k[1], k[2], k[3]]
    };
    code.iter().flat_map(bytes).collect()
}

fn from_bytes(bytes: &[u8]) -> Vec<Insn> {
    let insn = |b: &[u8]| Insn {
        code: u16::from_ne_bytes([b[0], b[1]]),
        jt: b[2],
        jf: b[3],
        k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
    };
    bytes.chunks_exact(8).map(insn).collect()
}

/// A filter in any of its forms.
fn any_filter(path: &Path) -> Result<Vec<Insn>, CliError> {
    let bytes = fs::read(path).map_err(|e| at(path, &e))?;
    let text = std::str::from_utf8(&bytes).ok();
    let raw = from_bytes(&bytes);
    if bytes.len() % 8 == 0 && check_seccomp(&raw).is_ok() {
        return Ok(raw);
    }
    let Some(text) = text else {
        return Err(CliError::environment(format!(
            "{}: no seccomp filter",
            path.display()
        )));
    };
    match parse(text) {
        Ok(code) if check_seccomp(&code).is_ok() => Ok(code),
        _ => compiled(path),
    }
}

fn explained(
    out: &mut Output,
    code: &[Insn],
    arch: Arch,
    only: Option<&str>,
) -> Result<Outcome, CliError> {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for call in explain(code, arch) {
        let names: Vec<String> = call.cases.iter().map(|c| c.ending.to_string()).collect();
        let wanted = |o: &str| {
            names
                .iter()
                .any(|n| n == o || n.starts_with(&format!("{o} ")))
        };
        if !only.is_none_or(wanted) {
            continue;
        }
        if out.is_json() {
            let cases: Vec<_> = call.cases.iter().map(case_json).collect();
            out.json(&json!({"schema": 1, "arch": arch.name(), "number": call.number, "name": call.name, "actions": names, "cases": cases}))?;
        } else {
            groups.entry(call.text()).or_default().push(call.name);
        }
    }
    for (text, names) in groups {
        out.line(format_args!("{text} ({}):", names.len()))?;
        out.line(format_args!("  {}", names.join(" ")))?;
    }
    Ok(Outcome::Ok)
}

/// A case; the last one of a call has no conditions: it is what happens otherwise.
fn case_json(case: &Case) -> serde_json::Value {
    match &case.texts()[..] {
        [none] if none.is_empty() => json!({"action": case.ending.to_string()}),
        texts => json!({"action": case.ending.to_string(), "if": texts}),
    }
}

/// Whether an instruction leaves a call to a supervisor.
fn notifies(insn: Insn) -> bool {
    insn.op() == Some(Op::RetK) && Action::of_value(insn.k) == Action::Notify
}

/// Instructions as the kernel takes them.
pub(super) fn sock_filter(code: &[Insn]) -> Vec<SockFilter> {
    code.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect()
}

fn refused(error: &std::io::Error) -> CliError {
    CliError::environment(format!("seccomp(2): {}", io_text(error)))
}

/// Runs the command under the filter and prints what it notifies of; ends with the command's exit code.
fn supervised(code: &[Insn], command: &[String]) -> Result<Outcome, CliError> {
    let mut print = |call: &Notification| {
        let arch = Arch::all().find(|a| a.audit() == call.arch);
        let name = arch.and_then(|a| a.syscalls().find(|(number, _)| *number == call.number));
        let name = name.map_or_else(|| format!("call {}", call.number), |(_, n)| n.to_owned());
        let args = call.args.map(|a| format!("{a:#x}")).join(", ");
        eprintln!("notify: {} {name}({args})", call.pid);
    };
    let code = supervise(&sock_filter(code), command, &mut print).map_err(|e| refused(&e))?;
    std::process::exit(code)
}

/// Becomes the command, under the filter.
fn under(code: &[Insn], command: &[String]) -> Result<Outcome, CliError> {
    let Some((name, rest)) = command.split_first() else {
        return Err(CliError::usage("name a command"));
    };
    let mut process = Command::new(name);
    process.args(rest);
    skep_sys::seccomp::install(&sock_filter(code)).map_err(|e| refused(&e))?;
    // The filter judges this execve, too: a policy must allow it.
    let error = process.exec();
    Err(CliError::environment(format!(
        "{name}: {}",
        io_text(&error)
    )))
}
