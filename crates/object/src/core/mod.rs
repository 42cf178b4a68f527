//! CO-RE: relocations against the types of the kernel that the program will run on.
//!
//! A relocation names a place in the program's own types (`struct task_struct::pid`) and what to know of it (its offset). It is
//! looked for in every type of the target with the same name, flavors (`___x`) aside; all that match must agree.
//! Source: Documentation/bpf/btf.rst and libbpf's documented behaviour.

mod access;
mod compat;
mod kind;
mod patch;
pub mod reduce;
mod value;
mod walk;

pub(crate) use compat::types_are_compatible;
pub use kind::RelocKind;
pub use patch::POISON;
pub(crate) use patch::{patch, poison};

use access::Access;
use kind::Subject;
use skep_btf::{Btf, BtfError, CoreRelo, Type, essential_name};
use std::collections::HashMap;
use value::Value;

/// Why a relocation cannot be done at all (a missing field is not among them: it poisons the instruction).
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../tests/objects/relocations.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "relocations.bpf.o".to_owned() })?;
/// # use skep_object::Target;
/// let linked = object.relocate(&Target { cpus: 2, page_size: 4096, ..Target::default() })?;
/// use skep_object::{CoreError, FailureCause};
///
/// // Nobody said what the kernel is like.
/// let failures = linked.programs.iter().flat_map(|p| &p.failures);
/// let none = |c: &FailureCause| matches!(c, FailureCause::Core { error: CoreError::NoBtf, .. });
/// assert!(failures.into_iter().any(|f| none(&f.cause)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CoreError {
    /// A kind that does not exist.
    Kind(u32),
    /// A path that the local type does not have.
    Path(String),
    /// The type has no name.
    Anonymous,
    /// BTF is invalid.
    Btf(BtfError),
    /// This cannot be asked of this place.
    Unsupported(RelocKind),
    /// Types of the target with the same name disagree.
    Ambiguous(String),
    /// The instruction is of a kind that cannot be relocated, or does not exist.
    Instruction,
    /// The instruction does not hold the local value.
    Unexpected {
        /// What it holds.
        held: u64,
        /// What it should hold.
        old: u64,
    },
    /// The offset does not fit the instruction.
    TooFar(u64),
    /// The target's BTF is not known.
    NoBtf,
}

impl std::fmt::Display for CoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kind(number) => write!(f, "relocation kind {number} does not exist"),
            Self::Path(path) => write!(f, "access path \"{path}\" does not exist"),
            Self::Anonymous => f.write_str("the type has no name"),
            Self::Btf(error) => write!(f, "{error}"),
            Self::Unsupported(kind) => write!(f, "{} cannot be asked here", kind.name()),
            Self::Ambiguous(what) => {
                write!(f, "{what} means different places in the target's types")
            }
            Self::Instruction => f.write_str("the instruction cannot be relocated"),
            Self::Unexpected { held, old } => {
                write!(
                    f,
                    "the instruction holds {held}, not {old} as its relocation says"
                )
            }
            Self::TooFar(offset) => write!(f, "offset {offset} does not fit the instruction"),
            Self::NoBtf => f.write_str("the kernel's BTF is not known"),
        }
    }
}

/// What a relocation means locally and in the target.
#[derive(Clone, Debug)]
pub(crate) struct Resolved<'a> {
    local: Value<'a>,
    /// `None`: the instruction must not be reached.
    target: Option<Value<'a>>,
    /// The place in words.
    pub(crate) place: String,
    /// What was asked.
    pub(crate) kind: RelocKind,
}

/// Resolves relocations of one object against one target.
pub(crate) struct Core<'a> {
    local: &'a Btf,
    /// The kernel's BTF, then those of its modules.
    targets: Vec<&'a Btf>,
    /// Candidates by local type.
    candidates: HashMap<u32, Vec<Type<'a>>>,
}

impl<'a> Core<'a> {
    pub(crate) fn new(local: &'a Btf, targets: Vec<&'a Btf>) -> Self {
        Self {
            local,
            targets,
            candidates: HashMap::new(),
        }
    }

    /// What `relo` means.
    pub(crate) fn resolve(&mut self, relo: &CoreRelo) -> Result<Resolved<'a>, CoreError> {
        self.resolve_telling(relo, &mut |_| {})
    }

    /// As [`Self::resolve`], and hands every place that it finds in the target to `each`.
    fn resolve_telling(
        &mut self,
        relo: &CoreRelo,
        each: &mut dyn FnMut(Access<'a>),
    ) -> Result<Resolved<'a>, CoreError> {
        let kind = RelocKind::from_number(relo.kind).ok_or(CoreError::Kind(relo.kind))?;
        let path = self.local.str(relo.access);
        let root = self.local.get(relo.type_id);
        let root = root.ok_or_else(|| CoreError::Path(path.to_owned()))?;
        let access = match kind.subject() {
            Subject::Type => Access::of_type(root),
            Subject::EnumValue => Access::of_enum_value(root, path)?,
            Subject::Field => Access::of_field(root, path)?,
        };
        let place = access.describe();
        let local = value::value(kind, Some(&access))?.ok_or(CoreError::Unsupported(kind))?;
        if kind == RelocKind::TypeIdLocal {
            let target = Some(local);
            return Ok(Resolved {
                local,
                target,
                place,
                kind,
            });
        }
        if root.name().is_empty() {
            return Err(CoreError::Anonymous);
        }
        if self.targets.is_empty() {
            return Err(CoreError::NoBtf);
        }
        let target = self.search(kind, &access, &place, each)?;
        Ok(Resolved {
            local,
            target,
            place,
            kind,
        })
    }

    fn search(
        &mut self,
        kind: RelocKind,
        access: &Access<'a>,
        place: &str,
        each: &mut dyn FnMut(Access<'a>),
    ) -> Result<Option<Value<'a>>, CoreError> {
        let root = access.root;
        let mut found: Option<(u64, Option<Value<'a>>)> = None;
        for &candidate in self.candidates(root) {
            let same = match kind.subject() {
                Subject::Type => {
                    let parts = if kind == RelocKind::TypeMatches {
                        compat::matching_parts(root, candidate)?
                    } else {
                        compat::compatible_parts(root, candidate)?
                    };
                    parts.map(|beside| Access {
                        beside,
                        ..Access::of_type(candidate)
                    })
                }
                Subject::EnumValue => access.find_enum_value(candidate),
                Subject::Field => access.find_field(candidate)?,
            };
            let Some(same) = same else { continue };
            let value = value::value(kind, Some(&same))?;
            let number = |v: &Option<Value<'_>>| v.map(|v| v.number);
            let offset = same.bit_offset;
            each(same);
            match &found {
                None => found = Some((offset, value)),
                Some((first_offset, first)) => {
                    if *first_offset != offset || number(first) != number(&value) {
                        return Err(CoreError::Ambiguous(place.to_owned()));
                    }
                }
            }
        }
        match found {
            Some((_, value)) => Ok(value),
            None => value::value(kind, None),
        }
    }

    /// Types of the target with the essential name and kind of `root`; modules count only where the kernel has none.
    fn candidates(&mut self, root: Type<'a>) -> &[Type<'a>] {
        let targets = &self.targets;
        self.candidates.entry(root.id()).or_insert_with(|| {
            let name = essential_name(root.name());
            let of = |btf: &'a Btf| {
                let types = btf.find_essential(name).filter_map(|id| btf.get(id));
                types
                    .filter(|t| compat::kinds_are_compatible(t.kind(), root.kind()))
                    .collect::<Vec<_>>()
            };
            let (kernel, modules) = match targets.split_first() {
                Some((kernel, modules)) => {
                    // The kernel's own BTF may come in two layers.
                    let base = kernel.base().map(of).unwrap_or_default();
                    ([base, of(kernel)].concat(), modules)
                }
                None => return Vec::new(),
            };
            if !kernel.is_empty() {
                return kernel;
            }
            modules.iter().flat_map(|btf| of(btf)).collect()
        })
    }
}
