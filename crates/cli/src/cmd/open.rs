//! Opening objects and backends.

use crate::error::{CliError, io_text};
use crate::render::rejection;
use skep::check::{CheckOptions, Checker, Verdict, uses_kernel_types};
use skep::load::LoadError;
use skep::{Kernel, target};
use skep_abi::ProgType;
use skep_bpf::{Backend, BackendKind};
use skep_btf::Btf;
use skep_object::{Linked, Object, Options};
use skep_user::Universe;
use skep_user::profile::{Form, Profile};
use skep_user::registry::{self, Announcement};
use skep_verifier::Caps;
use skep_vm::Engine;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `--backend`
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum BackendArg {
    /// The user backend for captures and test runs, the kernel for live hooks
    Auto,
    /// skep's own
    User,
    /// The running kernel
    Kernel,
}

/// `--engine`
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum EngineArg {
    /// The interpreter
    Interp,
    /// Native code
    Jit,
}

/// `--caps`
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum CapsArg {
    /// A privileged loader
    All,
    /// CAP_BPF and CAP_NET_ADMIN only
    Bpf,
}

impl CapsArg {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Bpf => "bpf",
        }
    }

    pub(crate) fn caps(self) -> Caps {
        match self {
            Self::All => Caps::All,
            Self::Bpf => Caps::Bpf,
        }
    }
}

// How programs of the user backend run.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct EngineOptions {
    /// Which engine of the user backend
    #[arg(long, value_enum, default_value_t = EngineArg::Jit)]
    pub(crate) engine: EngineArg,
    /// Tell profilers of compiled programs: /tmp/perf-PID.map, or jit-PID.dump in the current directory
    #[arg(long, value_enum)]
    pub(crate) perf: Option<PerfArg>,
    /// Hide immediates of programs in compiled code; slower
    #[arg(long)]
    pub(crate) blinding: bool,
    /// What the loader may do: programs of one without CAP_PERFMON mask their pointer arithmetic
    #[arg(long, value_enum, default_value_t = CapsArg::All)]
    pub(crate) caps: CapsArg,
}

impl EngineOptions {
    /// Nothing but the JIT.
    pub(crate) const JIT: Self = Self {
        engine: EngineArg::Jit,
        perf: None,
        blinding: false,
        caps: CapsArg::All,
    };
}

/// `--perf`
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum PerfArg {
    /// Names by address
    Map,
    /// Code, source lines and unwinding, for perf inject --jit
    Dump,
}

/// What a backend is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Packets of a capture, or test runs.
    TestRun,
    /// Live hooks.
    Attach,
}

/// A backend and how it was chosen.
pub(crate) struct Chosen {
    /// The backend.
    pub(crate) backend: Arc<dyn Backend>,
    /// It was not named on the command line.
    pub(crate) automatic: bool,
}

/// Opens the backend that is asked for, or that fits the purpose; the user backend with what the object wants to know of a
/// kernel.
pub(crate) fn backend(
    arg: BackendArg,
    purpose: Purpose,
    engine: &EngineOptions,
    object: Option<&Object>,
) -> Result<Chosen, CliError> {
    let kind = match (arg, purpose) {
        (BackendArg::User, _) | (BackendArg::Auto, Purpose::TestRun) => BackendKind::User,
        (BackendArg::Kernel, _) | (BackendArg::Auto, Purpose::Attach) => BackendKind::Kernel,
    };
    if kind == BackendKind::Kernel && engine.caps != CapsArg::All {
        return Err(CliError::usage(
            "--caps is for the user backend: what a loader may do in the kernel is up to the process",
        ));
    }
    let backend: Arc<dyn Backend> = match kind {
        BackendKind::Kernel => Arc::new(Kernel::new()),
        BackendKind::User => Arc::new(universe(engine, object)?),
    };
    Ok(Chosen {
        backend,
        automatic: arg == BackendArg::Auto,
    })
}

/// The user backend, with what the object wants to know of a kernel.
pub(crate) fn universe(
    engine: &EngineOptions,
    object: Option<&Object>,
) -> Result<Universe, CliError> {
    let profile = engine.perf.map(|form| {
        Profile::open(match form {
            PerfArg::Map => Form::Map,
            PerfArg::Dump => Form::Dump,
        })
    });
    let options = skep_user::Options {
        engine: match engine.engine {
            EngineArg::Interp => Engine::Interp,
            EngineArg::Jit => Engine::Jit,
        },
        blinding: engine.blinding,
        caps: engine.caps.caps(),
        profile: profile
            .transpose()
            .map_err(|e| CliError::environment(format!("--perf: {e}")))?
            .map(Arc::new),
        kernel_btf: object.and_then(kernel_btf).map(Arc::new),
        ..skep_user::Options::default()
    };
    Universe::new(options).map_err(|e| CliError::environment(format!("the user backend: {e}")))
}

/// The reference kernel's BTF, if the object or a helper that it calls speaks of structures of the kernel.
fn kernel_btf(object: &Object) -> Option<Btf> {
    let needs = object.needs();
    let speaks_of_them = || {
        let linked = object.relocate(&target::reference(&needs, None));
        linked.is_ok_and(|l| uses_kernel_types(&l))
    };
    (needs.kernel_btf || speaks_of_them()).then(|| target::reference_btf(&needs))
}

/// Lets `skep prog show` and `map show` of other processes list what the user backend has in this one. That they cannot is no
/// reason not to run.
pub(crate) fn announce(chosen: &Chosen) -> Option<Announcement> {
    let backend = chosen.backend.as_ref();
    let is_user = backend.kind() == BackendKind::User;
    is_user.then(|| registry::announce(backend, None).ok())?
}

/// Reads an object.
pub(crate) fn object(path: &Path) -> Result<Object, CliError> {
    let place = path.display();
    let bytes = std::fs::read(path)
        .map_err(|e| CliError::environment(format!("{place}: {}", io_text(&e))))?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Object::parse(&bytes, &Options { name })
        .map_err(|e| CliError::environment(format!("{place}: {e}")))
}

// `--btf`
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct TypesArg {
    /// Types of the kernel for CO-RE, from a file, an archive (.btf.tar.xz) or a folder of archives
    #[arg(long, value_name = "FILE")]
    btf: Option<PathBuf>,
}

/// Reads BTF from a file, an archive or a folder of archives.
pub(crate) fn btf(path: &Path) -> Result<Btf, CliError> {
    skep::btf_file::read(path, None)
        .map_err(|e| CliError::environment(format!("{}: {}", path.display(), io_text(&e))))
}

/// Links an object for the backend's kernel.
pub(crate) fn link(object: &Object, chosen: &Chosen) -> Result<Linked, CliError> {
    link_with(object, chosen, &TypesArg::default())
}

/// Links an object for the backend's kernel, perhaps with types from elsewhere.
pub(crate) fn link_with(
    object: &Object,
    chosen: &Chosen,
    types: &TypesArg,
) -> Result<Linked, CliError> {
    let needs = object.needs();
    let types = types.btf.as_deref().map(btf).transpose()?;
    let target = match (types, chosen.backend.kind()) {
        (Some(types), BackendKind::Kernel) => target::running_with_types(&needs, types),
        (Some(types), BackendKind::User) => Ok(target::reference(&needs, Some(types))),
        (None, _) => target::of(chosen.backend.as_ref(), &needs),
    };
    let target = target.map_err(|e| CliError::environment(io_text(&e)))?;
    object.relocate(&target).map_err(CliError::environment)
}

/// A program type by name.
pub(crate) fn prog_type(name: &str) -> Result<ProgType, CliError> {
    ProgType::from_name(name)
        .ok_or_else(|| CliError::usage(format!("\"{name}\" is no program type")))
}

/// A refused load. A rejection by the verifier is an answer; it is explained at the source line where we can, and with the
/// kernel's log otherwise.
pub(crate) fn refused(error: &LoadError, object: &Path, kind: BackendKind) -> CliError {
    let LoadError::Program {
        name,
        error: refusal,
    } = error
    else {
        return CliError::environment(error);
    };
    if refusal.log.trim().is_empty() {
        return CliError::environment(error);
    }
    let options = CheckOptions {
        kernel_btf: match kind {
            BackendKind::User => None,
            BackendKind::Kernel => target::running_btf().ok(),
        },
        ..CheckOptions::default()
    };
    let Some(explained) = explain(object, name, &options) else {
        return CliError::Rejected(format!("{error}\n{}", refusal.log.trim_end()));
    };
    CliError::Rejected(match kind {
        BackendKind::User => explained,
        BackendKind::Kernel => format!(
            "{explained}\nthe kernel says: {}",
            last_message(&refusal.log)
        ),
    })
}

/// The last line of a kernel's log that is a message, not statistics.
fn last_message(log: &str) -> &str {
    const STATISTICS: &[&str] = &[
        "processed ",
        "verification time ",
        "stack depth ",
        "max_states",
    ];
    let messages = log.lines().rev().map(str::trim).filter(|l| !l.is_empty());
    let mut messages = messages.filter(|l| !STATISTICS.iter().any(|s| l.starts_with(s)));
    messages.next().unwrap_or("nothing")
}

/// What `skep check` says of a program; nothing if it is accepted there.
fn explain(path: &Path, name: &str, options: &CheckOptions) -> Option<String> {
    let checker = Checker::open(&std::fs::read(path).ok()?, options).ok()?;
    let report = checker.check(name, Caps::All)?;
    let Verdict::Reject(rejection) = &report.verdict else {
        return None;
    };
    let diagnoses = checker.diagnose(name, Caps::All, rejection);
    let texts: Vec<String> = diagnoses
        .iter()
        .map(|d| rejection::text(path, name, d, false))
        .collect();
    Some(texts.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::last_message;

    #[test]
    fn statistics_are_no_message() {
        let log = "0: (95) exit\nR0 !read_ok\nverification time 9 usec\nstack depth 0\nprocessed 1 insns (limit 1000000)\n";
        assert_eq!(last_message(log), "R0 !read_ok");
        assert_eq!(last_message(""), "nothing");
    }
}
