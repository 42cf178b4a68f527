//! `skep cgroup`: programs of control groups.

use super::noun::{self, Selector};
use crate::error::{CliError, Outcome, io_text};
use crate::output::Output;
use serde_json::{Value as Json, json};
use skep::Kernel;
use skep_abi::AttachType;
use skep_bpf::{Backend, ObjKind};
use skep_sys::attr::ProgAttach;
use skep_sys::bpf_prog;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

// Options of `skep cgroup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
#[command(defer = true)]
enum Verb {
    /// List the programs of one group
    #[command(visible_alias = "list")]
    Show {
        /// Folder of the group
        group: PathBuf,
        /// Also what groups above it pass on: effective
        words: Vec<String>,
    },
    /// List the programs of a group and all groups below
    Tree {
        /// Folder of the group; all of them without it
        group: Option<PathBuf>,
        /// Also what groups above pass on: effective
        words: Vec<String>,
    },
    /// Attach: GROUP ATTACH_TYPE PROGRAM [multi|override]
    Attach {
        /// Folder, attach type, id N | pinned PATH | name NAME, flags
        #[arg(required = true, num_args = 4..)]
        words: Vec<String>,
    },
    /// Detach: GROUP ATTACH_TYPE PROGRAM
    Detach {
        /// Folder, attach type, id N | pinned PATH | name NAME
        #[arg(required = true, num_args = 4)]
        words: Vec<String>,
    },
}

/// `BPF_F_ALLOW_*`, with bpftool's words.
const FLAGS: &[(u32, &str)] = &[(1 << 0, "override"), (1 << 1, "multi")];
/// `BPF_F_QUERY_EFFECTIVE`
const EFFECTIVE: u32 = 1;

/// Short names of attach types that bpftool had before libbpf's.
const SHORT: &[(&str, AttachType)] = &[
    ("ingress", AttachType::CgroupInetIngress),
    ("egress", AttachType::CgroupInetEgress),
    ("sock_create", AttachType::CgroupInetSockCreate),
    ("sock_ops", AttachType::CgroupSockOps),
    ("device", AttachType::CgroupDevice),
    ("bind4", AttachType::CgroupInet4Bind),
    ("bind6", AttachType::CgroupInet6Bind),
    ("connect4", AttachType::CgroupInet4Connect),
    ("connect6", AttachType::CgroupInet6Connect),
    ("post_bind4", AttachType::CgroupInet4PostBind),
    ("post_bind6", AttachType::CgroupInet6PostBind),
    ("getpeername4", AttachType::CgroupInet4Getpeername),
    ("getpeername6", AttachType::CgroupInet6Getpeername),
    ("getsockname4", AttachType::CgroupInet4Getsockname),
    ("getsockname6", AttachType::CgroupInet6Getsockname),
    ("sendmsg4", AttachType::CgroupUdp4Sendmsg),
    ("sendmsg6", AttachType::CgroupUdp6Sendmsg),
    ("recvmsg4", AttachType::CgroupUdp4Recvmsg),
    ("recvmsg6", AttachType::CgroupUdp6Recvmsg),
    ("sysctl", AttachType::CgroupSysctl),
    ("getsockopt", AttachType::CgroupGetsockopt),
    ("setsockopt", AttachType::CgroupSetsockopt),
    ("sock_release", AttachType::CgroupInetSockRelease),
];

/// Runs the verb.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    let kernel = noun::kernel();
    match &args.verb {
        Verb::Show { group, words } => {
            let rows = programs(&kernel, group, query_flags(words)?)?;
            if out.is_json() {
                out.json(&rows.iter().map(Row::json).collect::<Json>())?;
            } else {
                text(&rows, "", out)?;
            }
        }
        Verb::Tree { group, words } => {
            let top = match group {
                Some(group) => group.clone(),
                None => {
                    skep::cgroup::mount_point().map_err(|e| CliError::environment(io_text(&e)))?
                }
            };
            tree(&kernel, &top, query_flags(words)?, out)?;
        }
        Verb::Attach { words } => change(&kernel, words, bpf_prog::attach)?,
        Verb::Detach { words } => change(&kernel, words, bpf_prog::detach)?,
    }
    Ok(Outcome::Ok)
}

fn query_flags(words: &[String]) -> Result<u32, CliError> {
    match words {
        [] => Ok(0),
        [word] if word == "effective" => Ok(EFFECTIVE),
        _ => Err(CliError::usage("only the word effective may follow")),
    }
}

/// A program of a group.
struct Row {
    id: u32,
    attach_type: AttachType,
    flags: String,
    name: String,
    /// BTF object and type of an LSM hook, zeros for others.
    hook: (u32, u32),
    hook_name: String,
}

impl Row {
    /// bpftool's fields.
    fn json(&self) -> Json {
        json!({
            "id": self.id, "attach_type": self.attach_type.name(), "attach_flags": self.flags, "name": self.name,
            "attach_btf_name": self.hook_name, "attach_btf_obj_id": self.hook.0, "attach_btf_id": self.hook.1,
        })
    }
}

fn open(group: &Path) -> Result<File, CliError> {
    File::open(group)
        .map_err(|e| CliError::environment(format!("{}: {}", group.display(), io_text(&e))))
}

fn is_of_groups(attach_type: AttachType) -> bool {
    attach_type == AttachType::LsmCgroup || attach_type.name().starts_with("cgroup_")
}

fn programs(kernel: &Kernel, group: &Path, flags: u32) -> Result<Vec<Row>, CliError> {
    let folder = open(group)?;
    let number = folder.as_raw_fd().cast_unsigned();
    let mut rows = Vec::new();
    for attach_type in AttachType::ALL.iter().filter(|t| is_of_groups(**t)) {
        // A kernel that does not know the hook has no programs there.
        let Ok((ids, attach_flags)) = bpf_prog::query(number, attach_type.id(), flags) else {
            continue;
        };
        let words = FLAGS.iter().filter(|(bit, _)| attach_flags & bit != 0);
        let words: Vec<&str> = words.map(|(_, word)| *word).collect();
        for id in ids {
            let (name, hook) = describe(kernel, id);
            rows.push(Row {
                id,
                attach_type: *attach_type,
                flags: words.join(","),
                name,
                hook,
                hook_name: hook_name(kernel, hook),
            });
        }
    }
    Ok(rows)
}

/// Its name, and the BTF object and type of what it was loaded for; nothing of one that is gone meanwhile.
fn describe(kernel: &Kernel, id: u32) -> (String, (u32, u32)) {
    let Ok(handle) = kernel.by_id(ObjKind::Prog, id) else {
        return (String::new(), (0, 0));
    };
    let name = kernel.prog_name(handle).unwrap_or_default();
    let hook = kernel.attach_target(handle).unwrap_or_default();
    kernel.close(handle);
    (name, hook)
}

/// The name of an LSM hook.
fn hook_name(kernel: &Kernel, (object, id): (u32, u32)) -> String {
    let btf = noun::btf(kernel, object);
    let found = btf.as_ref().and_then(|b| b.get(id));
    found.map_or_else(String::new, |t| t.name().to_owned())
}

fn text(rows: &[Row], indent: &str, out: &mut Output) -> Result<(), CliError> {
    if indent.is_empty() {
        out.line(format_args!(
            "{:<8} {:<24} {:<16} Name",
            "ID", "AttachType", "AttachFlags"
        ))?;
    }
    for row in rows {
        out.line(format_args!(
            "{indent}{:<8} {:<24} {:<16} {}",
            row.id, row.attach_type, row.flags, row.name
        ))?;
    }
    Ok(())
}

/// Groups below each other that are listed.
const DEPTH_MAX: usize = 64;

fn tree(kernel: &Kernel, top: &Path, flags: u32, out: &mut Output) -> Result<(), CliError> {
    let mut groups = Vec::new();
    let mut waiting = vec![(top.to_owned(), 0)];
    while let Some((group, depth)) = waiting.pop() {
        let mut below: Vec<PathBuf> = Vec::new();
        if depth < DEPTH_MAX {
            let entries = std::fs::read_dir(&group).into_iter().flatten().flatten();
            let folders = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
            below.extend(folders.map(|e| e.path()));
        }
        below.sort_unstable_by(|a, b| b.cmp(a));
        waiting.extend(below.into_iter().map(|g| (g, depth + 1)));
        match programs(kernel, &group, flags) {
            Ok(rows) if !rows.is_empty() => groups.push((group, rows)),
            Err(error) if depth == 0 => return Err(error),
            // A group below may be gone meanwhile.
            _ => {}
        }
    }
    if out.is_json() {
        let rows = groups.iter().map(|(group, rows)| {
            let programs: Json = rows.iter().map(Row::json).collect();
            json!({"cgroup": group.display().to_string(), "programs": programs})
        });
        return out.json(&rows.collect::<Json>());
    }
    out.line("CgroupPath")?;
    text(&[], "", out)?;
    for (group, rows) in &groups {
        out.line(group.display())?;
        text(rows, "    ", out)?;
    }
    Ok(())
}

fn change(
    kernel: &Kernel,
    words: &[String],
    command: fn(&ProgAttach) -> std::io::Result<()>,
) -> Result<(), CliError> {
    let [group, attach_type, kind, value, flags @ ..] = words else {
        return Err(CliError::usage("usage: GROUP ATTACH_TYPE PROGRAM"));
    };
    let short = SHORT.iter().find(|(name, _)| name == attach_type);
    let attach_type = short
        .map(|(_, t)| *t)
        .or_else(|| AttachType::from_name(attach_type).filter(|t| is_of_groups(*t)))
        .ok_or_else(|| CliError::usage(format!("\"{attach_type}\" is no hook of groups")))?;
    let mut bits = 0;
    for word in flags {
        let known = FLAGS.iter().find(|(_, name)| name == word);
        let (bit, _) = known
            .ok_or_else(|| CliError::usage(format!("\"{word}\" is not one of multi, override")))?;
        bits |= bit;
    }
    let selector = Selector::parse(&[kind.clone(), value.clone()])?;
    let selector = selector.ok_or_else(|| CliError::usage("name a program"))?;
    let program = noun::select_one(kernel, ObjKind::Prog, &selector)?;
    let folder = open(Path::new(group))?;
    let attr = ProgAttach {
        target_fd: folder.as_raw_fd().cast_unsigned(),
        attach_bpf_fd: program.handle.0.cast_unsigned(),
        attach_type: attach_type.id(),
        attach_flags: bits,
        ..ProgAttach::default()
    };
    command(&attr)
        .map_err(|e| CliError::environment(format!("{group}: {attach_type}: {}", io_text(&e))))
}
