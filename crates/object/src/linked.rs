//! What relocation makes of an object: programs and maps, ready to be created.

use crate::core::{CoreError, RelocKind};
use crate::error::ObjectError;
use crate::spec::MapSpec;
use skep_abi::section::SectionOptions;
use skep_abi::{AttachType, ProgType};
use skep_btf::{Btf, FuncInfo, LineInfo};
use skep_isa::Slot;

/// A linked object.
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../examples/packets.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "packets.bpf.o".to_owned() })?;
/// # use skep_object::Target;
/// let linked = object.relocate(&Target { cpus: 2, page_size: 4096, ..Target::default() })?;
/// assert_eq!((linked.programs.len(), linked.license.as_str()), (1, "Dual MIT/GPL"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Linked {
    /// Programs in the order of the file.
    pub programs: Vec<Program>,
    /// Maps; operands of programs index this list.
    pub maps: Vec<MapSpec>,
    /// Names of the modules that it was linked for. Calls of their kfuncs have a place in this list, counted from 1, as
    /// `offset`; loads of their variables as `next_imm`.
    pub modules: Vec<String>,
    /// The BTF to load.
    pub btf: Option<Btf>,
    /// The license; empty if the object has none.
    pub license: String,
    /// The kernel version the object asks for, 0 for none.
    pub version: u32,
}

/// A program with its subprogs.
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../examples/packets.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "packets.bpf.o".to_owned() })?;
/// # use skep_object::Target;
/// let linked = object.relocate(&Target { cpus: 2, page_size: 4096, ..Target::default() })?;
/// let program = &linked.programs[0];
/// assert_eq!((program.name.as_str(), program.section.as_str()), ("packets", "xdp"));
/// assert!(program.failures.is_empty() && program.autoload);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Program {
    /// Name of its function.
    pub name: String,
    /// Section, with `?` and target.
    pub section: String,
    /// Program type by section name; [`ProgType::Unspec`] if the name says none.
    pub prog_type: ProgType,
    /// Expected attach type; of struct_ops programs the one whose number is that of the operation in the kernel's structure.
    pub attach: Option<AttachType>,
    /// What follows `/` in the section name.
    pub target: String,
    /// What else the section name says.
    pub options: SectionOptions,
    /// `BPF_F_*` of the load.
    pub prog_flags: u32,
    /// Loaded unless the section name begins with `?`.
    pub autoload: bool,
    /// Entry function, then subprogs in the order in which they are first met. Map operands are `PSEUDO_MAP_FD` or
    /// `PSEUDO_MAP_VALUE` with the place in [`Linked::maps`] as `imm`.
    pub insns: Vec<Slot>,
    /// Slots of the entry function.
    pub entry_slots: usize,
    /// First slot and name of each function.
    pub functions: Vec<(u32, String)>,
    /// Functions by BTF id, empty if the object has no BTF for them.
    pub func_info: Vec<FuncInfo>,
    /// Source lines.
    pub line_info: Vec<LineInfo>,
    /// What it attaches to in the kernel's BTF.
    pub attach_btf: Option<AttachBtf>,
    /// Relocations that failed, ordered by instruction.
    pub failures: Vec<Failure>,
}

/// A function or type of the kernel that a program is made for.
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../tests/objects/iter.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "iter.bpf.o".to_owned() })?;
/// # use skep_object::Target;
/// let linked = object.relocate(&Target { cpus: 2, page_size: 4096, ..Target::default() })?;
/// for program in &linked.programs {
///     if let Some(target) = &program.attach_btf {
///         println!("{} attaches to {} ({:?})", program.name, target.name, target.id);
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttachBtf {
    /// Its name in BTF (`btf_trace_sched_switch`).
    pub name: String,
    /// Its BTF id, if the target has it.
    pub id: Option<u32>,
    /// The module that has it, by its place in [`crate::Target::modules`]; the kernel itself if `None`.
    pub module: Option<usize>,
}

/// A relocation that failed.
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../tests/objects/relocations.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "relocations.bpf.o".to_owned() })?;
/// # use skep_object::Target;
/// let linked = object.relocate(&Target { cpus: 2, page_size: 4096, ..Target::default() })?;
/// for failure in linked.programs.iter().flat_map(|p| &p.failures) {
///     println!("instruction {}: {} (fatal: {})", failure.insn, failure.cause, failure.is_fatal());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Slot in the linked program.
    pub insn: usize,
    /// What is missing.
    pub cause: FailureCause,
}

/// Why a relocation failed.
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../tests/objects/relocations.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "relocations.bpf.o".to_owned() })?;
/// # use skep_object::Target;
/// let linked = object.relocate(&Target { cpus: 2, page_size: 4096, ..Target::default() })?;
/// use skep_object::FailureCause;
///
/// for failure in linked.programs.iter().flat_map(|p| &p.failures) {
///     match &failure.cause {
///         FailureCause::Poisoned { place, .. } => println!("the kernel has no {place}"),
///         other => println!("{other}"),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FailureCause {
    /// The target has no such field or type: the instruction was replaced by a call that no kernel accepts.
    Poisoned {
        /// What was asked.
        kind: RelocKind,
        /// Of what, in words.
        place: String,
    },
    /// A CO-RE relocation cannot be done.
    Core {
        /// Of what, in words; may be empty.
        place: String,
        /// Why.
        error: CoreError,
    },
    /// The target has no such kfunc, or another prototype of it.
    Kfunc {
        /// Its name.
        name: String,
        /// The target has it, but with another prototype.
        incompatible: bool,
    },
    /// The target has no such variable or symbol.
    Symbol {
        /// Its name.
        name: String,
        /// It was looked for among the variables that the target has types of, not among its symbols.
        typed: bool,
    },
    /// A value of the kernel's configuration.
    Config(ObjectError),
}

impl Failure {
    /// A loader must not load the program. Otherwise the kernel decides whether the instruction can be reached.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(self.cause, FailureCause::Poisoned { .. })
    }
}

impl std::fmt::Display for FailureCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Poisoned { kind, place } => {
                write!(
                    f,
                    "CO-RE relocation {} of {place}: the kernel has no such place",
                    kind.name()
                )
            }
            Self::Core { place, error } if place.is_empty() => {
                write!(f, "CO-RE relocation: {error}")
            }
            Self::Core { place, error } => write!(f, "CO-RE relocation of {place}: {error}"),
            Self::Kfunc {
                name,
                incompatible: false,
            } => {
                write!(f, "the kernel has no kfunc {name}")
            }
            Self::Kfunc {
                name,
                incompatible: true,
            } => {
                write!(f, "the kernel's kfunc {name} has another prototype")
            }
            Self::Symbol { name, .. } => write!(f, "the kernel has no symbol {name}"),
            Self::Config(error) => write!(f, "{error}"),
        }
    }
}
