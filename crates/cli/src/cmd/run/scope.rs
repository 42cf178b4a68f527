//! Whom the programs watch: a process, a control group, a command of ours, or everyone.

use super::Args;
use crate::error::{CliError, io_text};
use skep::attach::{Where, minds_pid};
use skep::cgroup::{self, Group};
use skep::child::Child;
use skep_object::{Object, Program};
use std::os::fd::AsRawFd;

/// Variables of an object that narrow what it watches.
const TGID: &str = "skep_tgid";
const CGROUP: &str = "skep_cgroup";

/// Whom the programs watch.
#[derive(Default)]
pub(super) struct Scope {
    /// What hooks are told.
    pub(super) place: Where,
    /// The command, not yet running. Ends before its group does.
    pub(super) child: Option<Child>,
    /// A control group for the command.
    _group: Option<Group>,
    /// The object filters by process itself.
    filters_pid: bool,
}

impl Scope {
    /// Finds out, and sets the object's variables.
    pub(super) fn prepare(
        args: &Args,
        object: &mut Object,
        is_capture: bool,
    ) -> Result<Self, CliError> {
        let narrowed = args.pid.is_some()
            || args.cgroup.is_some()
            || args.dev.is_some()
            || !args.command.is_empty();
        if is_capture {
            return match narrowed {
                true => Err(CliError::usage(
                    "--pcap goes without --dev, --pid, --cgroup and a command",
                )),
                false => Ok(Self::default()),
            };
        }
        if !args.command.is_empty() && (args.pid.is_some() || args.cgroup.is_some()) {
            return Err(CliError::usage(
                "a command is watched instead of --pid and --cgroup",
            ));
        }
        let mut scope = Self::default();
        if let Some(name) = &args.dev {
            let index = skep::net::ifindex(name);
            let index = index.map_err(|e| {
                CliError::environment(format!("device \"{name}\": {}", io_text(&e)))
            })?;
            scope.place.ifindex = Some(index);
        }
        if let Some(pid) = args.pid {
            scope.process(pid, object)?;
        }
        if let Some(path) = &args.cgroup {
            let id = cgroup::id(path).map_err(|e| {
                CliError::environment(format!("{}: {}", path.display(), io_text(&e)))
            })?;
            scope.place.cgroup = Some(path.clone());
            set(object, CGROUP, id)?;
        }
        if !args.command.is_empty() {
            scope.command(&args.command, object)?;
        }
        Ok(scope)
    }

    fn process(&mut self, pid: u32, object: &mut Object) -> Result<(), CliError> {
        if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            return Err(CliError::environment(format!("there is no process {pid}")));
        }
        self.place.pid = Some(pid);
        self.filters_pid = set(object, TGID, u64::from(pid))?;
        Ok(())
    }

    /// Starts the command, which waits; in a fresh group if we may make one and the object can use it.
    fn command(&mut self, command: &[String], object: &mut Object) -> Result<(), CliError> {
        let group = Group::create().ok();
        let procs = group.as_ref().and_then(|g| g.procs().ok());
        let child = Child::hold(command, procs.as_ref().map(AsRawFd::as_raw_fd));
        let child = child.map_err(|e| {
            CliError::environment(format!("cannot start the command: {}", io_text(&e)))
        })?;
        match group.as_ref().filter(|_| procs.is_some()) {
            Some(group) => {
                let id =
                    cgroup::id(group.path()).map_err(|e| CliError::environment(io_text(&e)))?;
                self.place.cgroup = Some(group.path().to_owned());
                if !set(object, CGROUP, id)? {
                    set(object, TGID, u64::from(child.pid()))?;
                }
            }
            None => {
                set(object, TGID, u64::from(child.pid()))?;
            }
        }
        self.child = Some(child);
        self._group = group;
        Ok(())
    }

    /// An option that no program minds is refused.
    pub(super) fn check(&self, args: &Args, programs: &[&Program]) -> Result<(), CliError> {
        if args.pid.is_some() && !self.filters_pid && !programs.iter().all(|p| minds_pid(p)) {
            let text = format!(
                "--pid: the hooks of this object are not per process, and it does not declare {TGID}"
            );
            return Err(CliError::usage(text));
        }
        Ok(())
    }
}

/// Sets a variable if the object has it; tells whether it has.
fn set(object: &mut Object, name: &str, value: u64) -> Result<bool, CliError> {
    if !skep::variable::exists(object, name) {
        return Ok(false);
    }
    let done = skep::variable::set(object, name, &value.to_string());
    done.map(|()| true)
        .map_err(|e| CliError::environment(e.to_string()))
}
