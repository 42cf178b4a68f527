//! Which hook a program's section name means.

use super::{Direction, End, Ends, Hook, Order, Place, Probe, Rate, Usdt, UsdtSpecs, XdpMode};
use skep_abi::{AttachType, ProgType};
use skep_object::Program;
use std::path::PathBuf;

/// What section names leave open.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../examples/packets.bpf.o")?, "packets.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::attach::{Where, attach, hook};
///
/// let ifindex = universe.add_device("eth0")?;
/// let program = &loaded.programs[0]; // SEC("xdp")
/// let place = Where { ifindex: Some(ifindex), ..Where::default() };
/// let link = attach(&backend, program.handle, &hook(&program.spec, &place)?)?;
///
/// // Its section needs a device.
/// assert!(hook(&program.spec, &Where::default()).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Where {
    /// The device, for XDP and traffic control.
    pub ifindex: Option<u32>,
    /// The process, for probes and sampling.
    pub pid: Option<u32>,
    /// The control group.
    pub cgroup: Option<PathBuf>,
    /// Where the object's programs look for arguments of USDT probes: its map of that name.
    pub usdt: Option<UsdtSpecs>,
}

/// `PERF_TYPE_SOFTWARE` and `PERF_COUNT_SW_CPU_CLOCK`, what `SEC("perf_event")` samples unless told otherwise.
const CPU_CLOCK: (u32, u64) = (1, 0);
/// Samples a second.
const SAMPLE_HERTZ: u64 = 99;

/// Prefix of the kernel's functions of system calls.
const SYSCALL_PREFIX: &str = if cfg!(target_arch = "x86_64") {
    "__x64_sys_"
} else {
    "__arm64_sys_"
};

/// True if the hook minds [`Where::pid`] on its own.
#[must_use]
pub fn minds_pid(program: &Program) -> bool {
    let word = section_word(program);
    program.prog_type == ProgType::PerfEvent || word.contains("uprobe") || word.starts_with("usdt")
}

/// The section name without `?` and target.
fn section_word(program: &Program) -> &str {
    let name = program.section.trim_start_matches('?');
    name.split('/').next().unwrap_or(name)
}

/// The hook of a program, from its section name and what the caller adds.
///
/// # Errors
/// One sentence: what is missing, or that this kind of program is not attached by section name.
pub fn hook(program: &Program, given: &Where) -> Result<Hook, String> {
    let section = Section { program, given };
    let of_group = program.attach == Some(AttachType::LsmCgroup);
    match program.prog_type {
        ProgType::Tracepoint => section.tracepoint(),
        ProgType::RawTracepoint | ProgType::RawTracepointWritable => {
            section.target().map(|name| Hook::RawTracepoint { name })
        }
        ProgType::Tracing if program.attach == Some(AttachType::TraceIter) => Err(format!(
            "program \"{}\" is an iterator; iterators are read, not run",
            program.name
        )),
        ProgType::Tracing | ProgType::Lsm | ProgType::Ext if !of_group => Ok(Hook::Loaded),
        ProgType::Kprobe => section.probe(),
        ProgType::PerfEvent => Ok(Hook::PerfEvent {
            kind: CPU_CLOCK.0,
            config: CPU_CLOCK.1,
            rate: Rate::Hertz(SAMPLE_HERTZ),
            pid: given.pid,
        }),
        ProgType::Xdp | ProgType::SchedCls | ProgType::SchedAct => section.device(),
        ProgType::SkLookup | ProgType::FlowDissector => Ok(Hook::Netns {
            path: PathBuf::from("/proc/thread-self/ns/net"),
            attach_type: program.attach.unwrap_or(AttachType::SkLookup),
        }),
        ProgType::SockOps
        | ProgType::CgroupSkb
        | ProgType::CgroupSock
        | ProgType::CgroupSockAddr
        | ProgType::CgroupDevice
        | ProgType::CgroupSysctl
        | ProgType::CgroupSockopt
        | ProgType::Lsm => section.group(),
        other => Err(format!(
            "program \"{}\": type {other} is not attached by section name",
            program.name
        )),
    }
}

/// A program's section name, and what the caller adds to it.
struct Section<'a> {
    program: &'a Program,
    given: &'a Where,
}

impl Section<'_> {
    /// Says what is missing.
    fn needs(&self, what: &str) -> String {
        let program = self.program;
        format!(
            "program \"{}\" ({}) needs {what}",
            program.name, program.section
        )
    }

    fn target(&self) -> Result<String, String> {
        let target = &self.program.target;
        if target.is_empty() {
            return Err(self.needs("a target in its section name"));
        }
        Ok(target.clone())
    }

    fn tracepoint(&self) -> Result<Hook, String> {
        let target = self.target()?;
        let (category, name) = target
            .split_once('/')
            .ok_or_else(|| self.needs("CATEGORY/NAME in its section name"))?;
        Ok(Hook::Tracepoint {
            category: category.to_owned(),
            name: name.to_owned(),
        })
    }

    fn probe(&self) -> Result<Hook, String> {
        let what = "a target that can be read: a function, FILE:FUNCTION, or FILE:PROVIDER:NAME";
        probe(self.program, self.given, &self.target()?).ok_or_else(|| self.needs(what))
    }

    /// XDP, netkit and traffic control.
    fn device(&self) -> Result<Hook, String> {
        let ifindex = self.given.ifindex.ok_or_else(|| self.needs("--dev NAME"))?;
        let order = Order::Last;
        Ok(match (self.program.prog_type, self.program.attach) {
            (ProgType::Xdp, _) => Hook::Xdp {
                ifindex,
                mode: XdpMode::Any,
            },
            (_, Some(end @ (AttachType::NetkitPrimary | AttachType::NetkitPeer))) => Hook::Netkit {
                ifindex,
                peer: end == AttachType::NetkitPeer,
                order,
            },
            (_, attach) => Hook::Tc {
                ifindex,
                direction: match attach {
                    Some(AttachType::TcxEgress) => Direction::Egress,
                    _ => Direction::Ingress,
                },
                order,
            },
        })
    }

    fn group(&self) -> Result<Hook, String> {
        let attach_type = match self.program.prog_type {
            ProgType::SockOps => Some(AttachType::CgroupSockOps),
            _ => self.program.attach,
        };
        let attach_type =
            attach_type.ok_or_else(|| self.needs("an attach type in its section name"))?;
        let path = self.given.cgroup.clone();
        Ok(Hook::Cgroup {
            path: path.ok_or_else(|| self.needs("--cgroup PATH or a command"))?,
            attach_type,
            order: Order::Last,
        })
    }
}

/// Probes, by the word before the target.
fn probe(program: &Program, given: &Where, target: &str) -> Option<Hook> {
    let word = section_word(program);
    let kprobe = |symbol: &str, offset, end| {
        Some(Hook::Kprobe {
            symbol: symbol.to_owned(),
            offset,
            end,
        })
    };
    match word {
        "kprobe" | "kretprobe" => {
            let (symbol, offset) = symbol_offset(target)?;
            kprobe(
                &symbol,
                offset,
                if word == "kprobe" {
                    End::Entry
                } else {
                    End::Return
                },
            )
        }
        "kprobe.multi" | "kretprobe.multi" | "kprobe.session" => Some(Hook::KprobeMulti {
            symbols: vec![target.to_owned()],
            ends: ends(word),
        }),
        "uprobe.multi" | "uretprobe.multi" | "uprobe.session" | "uprobe.multi.s"
        | "uretprobe.multi.s" | "uprobe.session.s" => {
            let (file, pattern) = target.rsplit_once(':')?;
            Some(Hook::UprobeMulti {
                file: file.into(),
                symbols: vec![pattern.to_owned()],
                ends: ends(word),
                pid: given.pid,
            })
        }
        "usdt" | "usdt.s" => {
            let mut parts = target.rsplitn(3, ':');
            let (name, provider, file) = (parts.next()?, parts.next()?, parts.next()?);
            Some(Hook::Usdt(Usdt {
                file: file.into(),
                provider: provider.to_owned(),
                name: name.to_owned(),
                pid: given.pid,
                cookie: 0,
                specs: given.usdt.clone(),
            }))
        }
        "ksyscall" => kprobe(&format!("{SYSCALL_PREFIX}{target}"), 0, End::Entry),
        "kretsyscall" => kprobe(&format!("{SYSCALL_PREFIX}{target}"), 0, End::Return),
        "uprobe" | "uprobe.s" | "uretprobe" | "uretprobe.s" => {
            let (file, place) = target.rsplit_once(':')?;
            let end = if word.starts_with("uret") {
                End::Return
            } else {
                End::Entry
            };
            let place = match number(place) {
                Some(offset) => Place::Offset(offset),
                None => {
                    let (symbol, offset) = symbol_offset(place)?;
                    Place::Symbol(symbol, offset)
                }
            };
            Some(Hook::Uprobe(Probe {
                file: file.into(),
                place,
                end,
                pid: given.pid,
            }))
        }
        _ => None,
    }
}

/// Which ends a link to several functions probes.
fn ends(word: &str) -> Ends {
    if word.contains("session") {
        Ends::Session
    } else if word.contains("retprobe") {
        Ends::Return
    } else {
        Ends::Entry
    }
}

/// `name+0x10` as name and offset.
fn symbol_offset(text: &str) -> Option<(String, u64)> {
    match text.split_once('+') {
        Some((name, offset)) => Some((name.to_owned(), number(offset)?)),
        None => Some((text.to_owned(), 0)),
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::symbol_offset;

    #[test]
    fn offsets_are_read() {
        assert_eq!(symbol_offset("vfs_read"), Some(("vfs_read".to_owned(), 0)));
        assert_eq!(
            symbol_offset("vfs_read+0x10"),
            Some(("vfs_read".to_owned(), 16))
        );
        assert_eq!(symbol_offset("vfs_read+x"), None);
    }
}
