//! Would the kernel accept it? Verifies the programs of an object without loading anything: maps are described from the
//! object's specifications as a loader would create them.
//!
//! ```
//! use skep::check::{CheckOptions, Checker, Verdict};
//! use skep_verifier::Caps;
//!
//! let bytes = std::fs::read("../../tests/objects/bad_packet.bpf.o")?;
//! let checker = Checker::open(&bytes, &CheckOptions::default())?;
//! let report = checker.check("bad_packet", Caps::All).ok_or("no such program")?;
//! assert!(matches!(report.verdict, Verdict::Reject(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::target;
use skep_abi::helper::{ArgKind, HelperProto, ProgEnv, Ret};
use skep_abi::kernel::{Kernel, Known, Rule, has_rule};
use skep_abi::map::{self, Create};
use skep_abi::prog::{Capability, load_attach};
use skep_abi::prog_flags::BPF_F_SLEEPABLE;
use skep_abi::{AttachType, Errno, ProgType};
use skep_btf::{Btf, Record};
use skep_isa::{Call, Insn};
use skep_object::{Failure, FailureCause, Linked, MapSpec, Needs, Object, Options, Program};
use skep_profile::Profile;
use skep_verifier::{
    Caps, Class, FuncInfo, LineInfo, MapDesc, Rejection, Request, Stats, Trace, Verified,
};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Codes of refusals that are none: the verifier says that it cannot tell.
const NOT_KNOWN: &str = "E0112";
const NOT_SUPPORTED: &str = "V0999";

/// What verification said.
///
/// ```
/// # use skep::check::Verdict;
/// # use skep::check::{CheckOptions, Checker};
/// # use skep_verifier::Caps;
/// #
/// # let bytes = std::fs::read("../../tests/objects/bad_packet.bpf.o")?;
/// # let checker = Checker::open(&bytes, &CheckOptions::default())?;
/// # let report = checker.check("bad_packet", Caps::All).ok_or("no such program")?;
/// match report.verdict {
///     Verdict::Accept(stats) => println!("{} instructions", stats.insns_processed),
///     Verdict::Reject(rejection) => assert_eq!(rejection.code, "V0209"),
///     Verdict::Error(why) | Verdict::Unknown(why) => println!("{why}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// It may run.
    Accept(Stats),
    /// It may not.
    Reject(Rejection),
    /// A loader would not even ask; the text says why.
    Error(String),
    /// It depends on something that the profile of the kernel does not say; the text says on what.
    Unknown(String),
}

/// A place in the source.
///
/// ```
/// # use skep::check::{CheckOptions, Checker};
/// # use skep_verifier::Caps;
/// #
/// # let bytes = std::fs::read("../../tests/objects/bad_packet.bpf.o")?;
/// # let checker = Checker::open(&bytes, &CheckOptions::default())?;
/// # let report = checker.check("bad_packet", Caps::All).ok_or("no such program")?;
/// let source = report.source.ok_or("no line")?;
/// assert!(source.file.ends_with("bad_packet.bpf.c"));
/// println!("{}:{}: {}", source.line, source.column, source.text);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// File name, as the compiler saw it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 if unknown.
    pub column: u32,
    /// The line's text, trimmed.
    pub text: String,
    /// Bytes of `text` that hold the expression at the column, if there is one.
    pub span: Option<Range<usize>>,
}

/// Slots from which on a program is worth a thread of its own.
const THREAD_INSNS_MIN: usize = 2048;
/// Stack of such a thread: as much as a process begins with.
const STACK_BYTES: usize = 8 << 20;

/// The verdict on one program.
///
/// ```
/// use skep::check::{CheckOptions, Checker};
/// use skep_verifier::Caps;
///
/// let bytes = std::fs::read("../../tests/objects/bad_packet.bpf.o")?;
/// let checker = Checker::open(&bytes, &CheckOptions::default())?;
/// let report = checker.check("bad_packet", Caps::All).ok_or("no such program")?;
/// println!("{} ({:?}): {:?}", report.program, report.prog_type, report.verdict);
/// assert!(report.source.is_some_and(|s| s.line > 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// Name of its entry function.
    pub program: String,
    /// Its type, if the section name or the caller tells.
    pub prog_type: Option<ProgType>,
    /// Slots of the linked program.
    pub insns: usize,
    /// The verdict.
    pub verdict: Verdict,
    /// Why an accepted program cannot run in the user backend, with its code; `None` if it can.
    pub why_not: Option<String>,
    /// Where the source of a rejected instruction is.
    pub source: Option<Source>,
    /// Text of a rejected instruction.
    pub insn_text: Option<String>,
    /// Time spent verifying.
    pub elapsed: Duration,
}

/// The object cannot be checked at all.
///
/// ```
/// use skep::check::{CheckOptions, Checker};
///
/// let refused = Checker::open(b"not an object", &CheckOptions::default()).err();
/// assert!(refused.is_some_and(|e| e.to_string().contains("ELF")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

/// How to check.
///
/// ```
/// use skep::check::{CheckOptions, Checker};
/// use skep_abi::ProgType;
///
/// // Functions of sections without a meaning are checked as XDP programs.
/// let options = CheckOptions { prog_type: Some(ProgType::Xdp), ..CheckOptions::default() };
/// let bytes = std::fs::read("../../examples/packets.bpf.o")?;
/// assert_eq!(Checker::open(&bytes, &options)?.programs().count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// File name of the object, without folders.
    pub name: String,
    /// The kernel's BTF; the built-in one if `None`.
    pub kernel_btf: Option<Btf>,
    /// Which kernel is meant; the reference kernel if `None`.
    pub profile: Option<Arc<Profile>>,
    /// Program type for sections whose name says none.
    pub prog_type: Option<ProgType>,
}

/// An object whose programs can be checked.
///
/// ```
/// use skep::check::{CheckOptions, Checker};
/// use skep_verifier::Caps;
///
/// let bytes = std::fs::read("../../tests/objects/bad_packet.bpf.o")?;
/// let checker = Checker::open(&bytes, &CheckOptions::default())?;
/// let report = checker.check("bad_packet", Caps::All).ok_or("no such program")?;
/// for name in checker.programs() {
///     println!("{name}: {:?}", checker.check(name, Caps::All).map(|r| r.verdict));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Checker {
    linked: Linked,
    maps: Vec<MapDesc>,
    kernel_btf: Option<Btf>,
    /// The kernel knows the addresses of its variables.
    kernel_variables: bool,
    /// The kernel's BTF, for programs that turn out to need it.
    late_btf: OnceLock<Btf>,
    profile: Option<Arc<Profile>>,
    prog_type: Option<ProgType>,
    /// The file, for its debug information.
    file: Vec<u8>,
}

impl Checker {
    /// Reads an object and links it for the kernel that is meant.
    ///
    /// # Errors
    /// [`Unreadable`] if it is not a BPF object that a loader would take.
    pub fn open(bytes: &[u8], options: &CheckOptions) -> Result<Self, Unreadable> {
        let name = options.name.clone();
        let object =
            Object::parse(bytes, &Options { name }).map_err(|e| Unreadable(e.to_string()))?;
        let needs = object.needs();
        let own_btf = options.kernel_btf.clone();
        let target = match &options.profile {
            Some(profile) => target::of_profile(profile, &needs, own_btf),
            None => target::reference(&needs, own_btf),
        };
        let linked = object
            .relocate(&target)
            .map_err(|e| Unreadable(e.to_string()))?;
        let mut kernel_btf = target.btf;
        if kernel_btf.is_none() && uses_kernel_types(&linked) {
            kernel_btf = Some(match &options.profile {
                Some(profile) => target::profile_btf(profile, &needs),
                None => target::reference_btf(&needs),
            });
        }
        let btf = linked.btf.clone().map(Arc::new);
        let facts = options.profile.as_ref().and_then(|p| p.facts());
        let old_tags = !has_rule(facts, Rule::KptrTags);
        let record_of: RecordOf = if old_tags {
            Record::of_old_tags
        } else {
            Record::of
        };
        let maps = linked
            .maps
            .iter()
            .map(|m| describe(m, btf.as_ref(), record_of))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            linked,
            maps,
            kernel_variables: kernel_btf.is_some()
                && target::has_variables(options.profile.as_deref()),
            kernel_btf,
            late_btf: OnceLock::new(),
            profile: options.profile.clone(),
            prog_type: options.prog_type,
            file: bytes.to_vec(),
        })
    }

    /// The bytes of the object.
    pub(crate) fn file(&self) -> &[u8] {
        &self.file
    }

    /// Names of the programs, in the order of the file.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.linked.programs.iter().map(|p| p.name.as_str())
    }

    /// The program type for sections whose name says none.
    pub(crate) fn default_type(&self) -> Option<ProgType> {
        self.prog_type
    }

    /// The linked object.
    #[must_use]
    pub fn linked(&self) -> &Linked {
        &self.linked
    }

    /// Verifies one program; `None` if the object has none of this name.
    #[must_use]
    pub fn check(&self, program: &str, caps: Caps) -> Option<Report> {
        let program = self.linked.programs.iter().find(|p| p.name == program)?;
        let prog_type = match program.prog_type {
            ProgType::Unspec => self.prog_type,
            known => Some(known),
        };
        let started = Instant::now();
        let answer = match prog_type {
            Some(prog_type) => self.with_request(program, prog_type, caps, skep_verifier::verify),
            None => {
                let text = format!("section \"{}\" says no program type", program.section);
                Err(Verdict::Error(text))
            }
        };
        let elapsed = started.elapsed();
        let (verdict, why_not) = match answer {
            Ok(verified) => {
                let why_not = skep_vm::runs_in_user(&verified, self.kernel_btf()).err();
                (
                    Verdict::Accept(verified.stats()),
                    why_not.map(|w| format!("{}: {w}", w.code())),
                )
            }
            Err(verdict) => (verdict, None),
        };
        let at = match &verdict {
            Verdict::Reject(rejection) => rejection.insn,
            _ => None,
        };
        Some(Report {
            program: program.name.clone(),
            prog_type,
            insns: program.insns.len(),
            source: at.and_then(|at| self.source(program, at)),
            insn_text: at
                .and_then(|at| skep_isa::decode(&program.insns, at as usize).ok())
                .map(|i| i.to_string()),
            verdict,
            why_not,
            elapsed,
        })
    }

    /// [`Self::check`] of several programs, in their order; if some are large, on all processors.
    #[must_use]
    pub fn check_all(&self, programs: &[String], caps: Caps) -> Vec<Option<Report>> {
        let is_large =
            |p: &&Program| p.insns.len() >= THREAD_INSNS_MIN && programs.contains(&p.name);
        let large = self.linked.programs.iter().filter(is_large).count();
        let threads = match large {
            0 | 1 => 1,
            _ => std::thread::available_parallelism().map_or(1, |n| n.get().min(large)),
        };
        self.check_on(threads, programs, caps)
    }

    fn check_on(&self, threads: usize, programs: &[String], caps: Caps) -> Vec<Option<Report>> {
        let slots: Vec<OnceLock<Option<Report>>> =
            programs.iter().map(|_| OnceLock::new()).collect();
        let next = AtomicUsize::new(0);
        let work = || loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(slot) = slots.get(at) else { return };
            slot.get_or_init(|| self.check(&programs[at], caps));
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
                if thread.spawn_scoped(scope, work).is_err() {
                    break; // fewer do it as well
                }
            }
            work();
        });
        let reports = slots.into_iter().map(OnceLock::into_inner);
        reports.map(Option::flatten).collect()
    }

    /// The maps of the object as the verifier sees them, in its order.
    #[must_use]
    pub fn maps(&self) -> &[MapDesc] {
        &self.maps
    }

    /// Verifies a program that need not be the object's own, but uses its maps and BTF.
    ///
    /// # Errors
    /// The verdict that is not an acceptance.
    pub fn verify(
        &self,
        program: &Program,
        prog_type: ProgType,
        caps: Caps,
    ) -> Result<Verified, Verdict> {
        self.with_request(program, prog_type, caps, skep_verifier::verify)
    }

    /// Verifies one program and records the states of the walk; `None` if the object has no program of this name and a type.
    #[must_use]
    pub fn trace(&self, program: &str) -> Option<Result<(Verified, Trace), Verdict>> {
        let program = self.linked.programs.iter().find(|p| p.name == program)?;
        let prog_type = Some(program.prog_type).filter(|t| *t != ProgType::Unspec)?;
        let trace = skep_verifier::verify_traced;
        Some(self.with_request(program, prog_type, Caps::All, trace))
    }

    /// As [`Self::trace`] for a program that need not be the object's own.
    ///
    /// # Errors
    /// The verdict that is not an acceptance.
    pub fn trace_program(&self, program: &Program) -> Result<(Verified, Trace), Verdict> {
        let trace = skep_verifier::verify_traced;
        self.with_request(program, program.prog_type, Caps::All, trace)
    }

    /// Verifies as [`Self::verify`] and records what was known of numbers at each step of the walk.
    ///
    /// # Errors
    /// The verdict if there was no walk.
    pub fn record(
        &self,
        program: &Program,
        caps: Caps,
    ) -> Result<(Result<Verified, Rejection>, Trace), Verdict> {
        let record = |req: &Request<'_>| Ok(skep_verifier::verify_recorded(req));
        self.with_request(program, program.prog_type, caps, record)
    }

    pub(crate) fn with_request<T>(
        &self,
        program: &Program,
        prog_type: ProgType,
        caps: Caps,
        verify: impl Fn(&Request<'_>) -> Result<T, Rejection>,
    ) -> Result<T, Verdict> {
        if let Some(failure) = program.failures.iter().find(|f| f.is_fatal()) {
            return Err(self.failed_link(failure));
        }
        self.kernel_has(program, prog_type)?;
        if caps == Caps::Bpf && needs_perfmon(prog_type) {
            let message = format!("programs of type {prog_type} need CAP_PERFMON");
            return Err(Verdict::Reject(environment("E0104", message, Errno::EPERM)));
        }
        let attach_btf_id = match &program.attach_btf {
            None => 0,
            Some(target) => match target.id {
                Some(id) => id,
                None => {
                    let message = format!("the kernel has no \"{}\" to attach to", target.name);
                    return Err(Verdict::Reject(environment("E0110", message, Errno::ESRCH)));
                }
            },
        };
        let func_info: Vec<FuncInfo> = program
            .func_info
            .iter()
            .map(|r| FuncInfo {
                insn: r.insn,
                type_id: r.type_id,
            })
            .collect();
        let line = |r: &skep_btf::LineInfo| LineInfo {
            insn: r.insn,
            file: r.file,
            text: r.text,
            line_col: r.line_col,
        };
        let line_info: Vec<LineInfo> = program.line_info.iter().map(line).collect();
        let is_operation = prog_type == ProgType::StructOps;
        let mut request = Request {
            insns: &program.insns,
            prog_type,
            // A type that is given by hand comes without one.
            attach: program
                .attach
                .or_else(|| sole_attach(prog_type))
                .filter(|_| !is_operation),
            attach_btf_id,
            // Of an operation the attach type is the number of the member.
            attach_member: program
                .attach
                .filter(|_| is_operation)
                .map(skep_abi::AttachType::id),
            prog_flags: program.prog_flags,
            gpl_compatible: is_gpl_compatible(&self.linked.license),
            name: &program.name,
            btf: self.linked.btf.as_ref(),
            func_info: &func_info,
            line_info: &line_info,
            maps: &self.maps,
            caps,
            kernel_variables: self.kernel_variables,
            kernel_btf: self.kernel_btf(),
            kernel: self.facts(),
        };
        let answer = match verify(&request) {
            Err(no) if no.code == skep_verifier::NEEDS_KERNEL_BTF => {
                request.kernel_btf = Some(self.late_btf.get_or_init(|| {
                    let needs = Needs::default();
                    match &self.profile {
                        Some(profile) => target::profile_btf(profile, &needs),
                        None => target::reference_btf(&needs),
                    }
                }));
                verify(&request)
            }
            answer => answer,
        };
        answer.map_err(|rejection| self.verdict_of(rejection))
    }

    /// The kernel's BTF, if a program needed it so far.
    fn kernel_btf(&self) -> Option<&Btf> {
        self.kernel_btf.as_ref().or(self.late_btf.get())
    }

    /// What the kernel that is meant answered; `None` for the reference kernel.
    fn facts(&self) -> Option<&Kernel> {
        self.profile.as_ref().and_then(|p| p.facts())
    }

    /// A relocation failed; what the kernel's description does not list may be there all the same.
    fn failed_link(&self, failure: &Failure) -> Verdict {
        let has_function = |name: &str| {
            let profile = self.profile.as_ref();
            profile.is_some_and(|p| {
                p.btf_with_functions()
                    .find(name, skep_btf::Kind::Func)
                    .is_some()
            })
        };
        match &failure.cause {
            FailureCause::Symbol { name, typed: false } => Verdict::Unknown(format!(
                "whether the kernel has the symbol {name} is not known: it is no function"
            )),
            FailureCause::Kfunc {
                name,
                incompatible: false,
            } if has_function(name) => Verdict::Unknown(format!(
                "the kernel's profile does not say whether programs may call the function {name}"
            )),
            _ => Verdict::Reject(failed_relocation(failure)),
        }
    }

    /// The kernel has maps and programs of these types.
    fn kernel_has(&self, program: &Program, prog_type: ProgType) -> Result<(), Verdict> {
        let Some(kernel) = self.facts() else {
            return Ok(());
        };
        let env = ProgEnv {
            prog_type,
            attach: program.attach,
            sleepable: program.prog_flags & BPF_F_SLEEPABLE != 0,
            perfmon: true,
            target: "",
            kernel: None,
        };
        let maps = self.maps.iter().map(|m| {
            let what = format!("maps of type {} (\"{}\")", m.map_type, m.name);
            (kernel.map_type(m.map_type), what)
        });
        let attach = program
            .attach
            .map_or(String::new(), |a| format!(" with attach type {a}"));
        let what = format!("programs of type {prog_type}{attach}");
        for (known, what) in std::iter::once((kernel.loads(&env), what)).chain(maps) {
            match known {
                Known::Yes => {}
                Known::No => {
                    let message = format!("this kernel has no {what}");
                    return Err(Verdict::Reject(environment(
                        "E0111",
                        message,
                        Errno::EINVAL,
                    )));
                }
                Known::Unknown => {
                    return Err(Verdict::Unknown(format!(
                        "the kernel's profile does not say whether it has {what}"
                    )));
                }
            }
        }
        Ok(())
    }

    /// For another kernel than the reference kernel, what cannot be proven yet is not known, either.
    fn verdict_of(&self, rejection: Rejection) -> Verdict {
        match rejection.code {
            NOT_KNOWN => Verdict::Unknown(rejection.message()),
            NOT_SUPPORTED if self.facts().is_some() => Verdict::Unknown(rejection.message()),
            _ => Verdict::Reject(rejection),
        }
    }

    /// Where the source of the instruction at slot `at` is.
    pub(crate) fn source(&self, program: &Program, at: u32) -> Option<Source> {
        let btf = self.linked.btf.as_ref()?;
        let record = program.line_info.iter().rev().find(|r| r.insn <= at)?;
        let (raw, column) = (btf.str(record.text), record.line_col & 0x3ff);
        let text = raw.trim();
        let indent = raw.len() - raw.trim_start().len();
        let span = skep_verifier::expression_at(raw, column);
        let span =
            span.and_then(|s| Some(s.start.checked_sub(indent)?..s.end.checked_sub(indent)?));
        Some(Source {
            file: btf.str(record.file).to_owned(),
            line: record.line_col >> 10,
            column,
            span: span.filter(|s| text.get(s.clone()).is_some()),
            text: text.to_owned(),
        })
    }
}

fn environment(code: &'static str, message: String, errno: Errno) -> Rejection {
    Rejection {
        code,
        class: Class::Environment,
        insn: None,
        cause: Box::new(message.into()),
        errno: errno.0,
        insns_processed: 0,
    }
}

/// What a loader must not even try counts as the environment's fault.
fn failed_relocation(failure: &Failure) -> Rejection {
    let code = match failure.cause {
        FailureCause::Kfunc { .. } => "E0106",
        _ => "E0105",
    };
    let insn = u32::try_from(failure.insn).ok();
    Rejection {
        insn,
        ..environment(code, failure.cause.to_string(), Errno::ESRCH)
    }
}

/// The attach type of a program type that must name one and has only this.
fn sole_attach(prog_type: ProgType) -> Option<AttachType> {
    let fits = |number: u32| load_attach(prog_type, number) == Some(number);
    let mut all = AttachType::ALL.iter().filter(|a| fits(a.id()));
    match (fits(0), all.next(), all.next()) {
        (false, Some(only), None) => Some(*only),
        _ => None,
    }
}

/// Types that a loader with CAP_BPF and CAP_NET_ADMIN alone may not load.
fn needs_perfmon(prog_type: ProgType) -> bool {
    matches!(
        skep_abi::prog::facts(prog_type).capability,
        Capability::Perfmon | Capability::Both
    )
}

/// Licenses that the kernel counts as GPL-compatible. Source: include/linux/license.h.
const GPL_LICENSES: &[&str] = &[
    "GPL",
    "GPL v2",
    "GPL and additional rights",
    "Dual BSD/GPL",
    "Dual MIT/GPL",
    "Dual MPL/GPL",
];

fn is_gpl_compatible(license: &str) -> bool {
    GPL_LICENSES.contains(&license)
}

/// Reads the special fields of a type, as the kernel that is meant does.
type RecordOf = fn(&Btf, u32) -> Result<Record, skep_btf::BtfError>;

/// A map as a loader would create it: with its types if they are allowed, without them otherwise.
fn describe(
    spec: &MapSpec,
    btf: Option<&Arc<Btf>>,
    record_of: RecordOf,
) -> Result<MapDesc, Unreadable> {
    let (key_type, value_type) = spec.btf_ids();
    let mut create = Create {
        map_type: spec.map_type,
        key_size: spec.key_size,
        value_size: spec.value_size,
        max_entries: spec.max_entries,
        map_flags: spec.map_flags,
        map_extra: spec.map_extra,
        has_btf: btf.is_some() && (key_type != 0 || value_type != 0),
    };
    let is_struct_ops = spec.map_type == skep_abi::MapType::StructOps;
    if !is_struct_ops && map::check_create(&create).is_err() {
        create.has_btf = false;
        map::check_create(&create).map_err(|errno| {
            Unreadable(format!(
                "bpf(BPF_MAP_CREATE) for map \"{}\": {errno}: a {} with key size {}, value size {}, {} entries and flags {:#x}",
                spec.name, spec.map_type, spec.key_size, spec.value_size, spec.max_entries, spec.map_flags
            ))
        })?;
    }
    let types = btf.filter(|_| create.has_btf);
    // A value type that breaks the rules of special fields has none, as in the kernel.
    let record = types
        .and_then(|b| record_of(b, value_type).ok())
        .unwrap_or_default();
    let inner = spec
        .inner
        .as_ref()
        .map(|i| describe(i, btf, record_of))
        .transpose()?;
    Ok(MapDesc {
        name: spec.name.clone(),
        map_type: spec.map_type,
        key_size: spec.key_size,
        value_size: spec.value_size,
        max_entries: spec.max_entries,
        map_flags: spec.map_flags,
        map_extra: spec.map_extra,
        record: Arc::new(record),
        has_btf: create.has_btf,
        btf: types.cloned(),
        inner: inner.map(Arc::new),
        frozen: spec.is_frozen().then(|| contents(spec)),
        owner: None,
        id: 0,
    })
}

/// The only value of a data map.
fn contents(spec: &MapSpec) -> Arc<[u8]> {
    let mut value = spec.contents.clone();
    value.resize(spec.value_size as usize, 0);
    value.into()
}

/// True if a helper that some program calls speaks of structures of the kernel.
#[must_use]
pub fn uses_kernel_types(linked: &Linked) -> bool {
    let helpers = linked
        .programs
        .iter()
        .flat_map(|p| called_helpers(&p.insns));
    helpers
        .filter_map(skep_abi::helper::by_id)
        .any(names_kernel_type)
}

fn names_kernel_type(proto: &HelperProto) -> bool {
    let in_args = proto.args.iter().any(|a| {
        matches!(
            a.kind,
            ArgKind::BtfPtr(_) | ArgKind::BtfSockCommon | ArgKind::PercpuBtfPtr | ArgKind::Kptr
        )
    });
    let in_ret = matches!(
        proto.ret,
        Ret::BtfPtrOrNull(_) | Ret::BtfPtrTrusted(_) | Ret::MemOrBtfPtr | Ret::MemOrBtfPtrOrNull
    );
    in_args || in_ret
}

fn called_helpers(insns: &[skep_isa::Slot]) -> impl Iterator<Item = u32> {
    (0..insns.len()).filter_map(|at| match skep_isa::decode(insns, at) {
        Ok(Insn::Call(Call::Helper(id))) => u32::try_from(id).ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_change_no_verdict() {
        let bytes = std::fs::read("../../tests/objects/calls.bpf.o").unwrap();
        let checker = Checker::open(&bytes, &CheckOptions::default()).unwrap();
        let mut names: Vec<String> = checker.programs().map(str::to_owned).collect();
        names.push("no such program".to_owned());
        let verdicts = |threads| -> Vec<_> {
            let reports = checker.check_on(threads, &names, Caps::All).into_iter();
            reports.map(|r| r.map(|r| (r.program, r.verdict))).collect()
        };
        let one = verdicts(1);
        assert_eq!(one.len(), names.len());
        assert!(one.last().is_some_and(Option::is_none));
        assert_eq!(one, verdicts(4));
    }
}
