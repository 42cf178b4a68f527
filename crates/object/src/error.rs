//! Why an object cannot be used.

use skep_btf::BtfError;

/// An object was refused. One sentence each; the place comes first.
///
/// ```
/// use skep_object::{Object, ObjectError, Options};
///
/// let error = Object::parse(b"not an object", &Options::default()).unwrap_err();
/// assert_eq!(error, ObjectError::NotElf);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ObjectError {
    /// Not an ELF file.
    NotElf,
    /// An ELF file for something else: what it is.
    NotBpf(String),
    /// The file ends too early or contradicts itself.
    Damaged(String),
    /// BTF or BTF.ext is invalid.
    Btf {
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// What is wrong.
        error: BtfError,
    },
    /// A map definition is invalid.
    Map {
        /// The map.
        map: String,
        /// What is wrong.
        what: String,
    },
    /// A program or function is invalid.
    Program {
        /// The function.
        program: String,
        /// What is wrong.
        what: String,
    },
    /// A variable declared elsewhere (`.kconfig`, `.ksyms`) or set by name.
    Variable {
        /// The variable.
        name: String,
        /// What is wrong.
        what: String,
    },
}

impl ObjectError {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    pub(crate) fn map(map: &str, what: impl Into<String>) -> Self {
        Self::Map {
            map: map.to_owned(),
            what: what.into(),
        }
    }

    pub(crate) fn program(program: &str, what: impl Into<String>) -> Self {
        Self::Program {
            program: program.to_owned(),
            what: what.into(),
        }
    }

    pub(crate) fn variable(name: &str, what: impl Into<String>) -> Self {
        Self::Variable {
            name: name.to_owned(),
            what: what.into(),
        }
    }
}

impl std::fmt::Display for ObjectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotElf => f.write_str("not an ELF file"),
            Self::NotBpf(what) => write!(f, "not a BPF object: {what}"),
            Self::Damaged(what) => write!(f, "damaged object: {what}"),
            Self::Btf { section, error } => write!(f, "section {section}: {error}"),
            Self::Map { map, what } => write!(f, "map \"{map}\": {what}"),
            Self::Program { program, what } => write!(f, "program \"{program}\": {what}"),
            Self::Variable { name, what } => write!(f, "variable \"{name}\": {what}"),
        }
    }
}

impl std::error::Error for ObjectError {}
