//! What the assembler reports.

use alloc::string::String;
use core::fmt::{self, Display, Formatter};

/// A mistake in assembly text, with its place. Lines and columns count from 1, columns in characters.
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
///
/// let errors = assemble_insns("r0 = 2\nr11 = 1", &NoFacts).unwrap_err();
/// println!("{}", errors[0]);
/// assert_eq!(errors[0].line, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AsmError {
    /// The line.
    pub line: u32,
    /// The column of the first character that is wrong.
    pub column: u32,
    /// What is wrong.
    pub problem: Problem,
}

impl Display for AsmError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.problem)
    }
}

impl core::error::Error for AsmError {}

/// What is wrong with a statement.
///
/// ```
/// use skep_isa::asm::Problem;
/// use skep_isa::asm::{NoFacts, assemble_insns};
///
/// let errors = assemble_insns("r0 = 2\nr11 = 1", &NoFacts).unwrap_err();
/// assert!(matches!(errors[0].problem, Problem::InvalidRegister(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Problem {
    /// A character that starts no token.
    UnexpectedCharacter(char),
    /// A string or comment that the line does not end.
    Unterminated(&'static str),
    /// A number that 64 bits cannot hold, or with a digit that is none.
    InvalidNumber(String),
    /// Something else should stand here.
    Expected {
        /// What should stand here.
        what: &'static str,
        /// What does.
        found: String,
    },
    /// No instruction starts so.
    UnknownInstruction(String),
    /// No directive has this name.
    UnknownDirective(String),
    /// A name that the directive does not know.
    UnknownName {
        /// What kind of name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A register above 10.
    InvalidRegister(String),
    /// `r` and `w` registers do not mix here.
    WidthMismatch {
        /// The register that was written.
        found: String,
        /// The register that would fit.
        wanted: String,
    },
    /// An operand that must repeat another one.
    MustRepeat(String),
    /// A number which its field cannot hold.
    OutOfRange {
        /// The field.
        field: &'static str,
        /// The number.
        value: i128,
        /// The least that fits.
        min: i128,
        /// The most that fits.
        max: i128,
    },
    /// No label or symbol has this name, and only one of this file can stand here.
    Undefined(String),
    /// The name was already defined.
    Duplicate(String),
    /// A jump to another section, or a difference of labels in different sections.
    OtherSection(String),
    /// An instruction, or the target of a jump or call, does not lie at a multiple of 8 bytes.
    Misaligned,
    /// A jump further than its offset reaches, in slots.
    TooFar {
        /// The distance.
        distance: i64,
    },
    /// Code where no code can be.
    NotExecutable(String),
    /// A section grew beyond [`super::MAX_SECTION_BYTES`].
    SectionTooLarge,
    /// More sections, symbols or nested `.pushsection` than the assembler takes.
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The text needs an object file (relocations, several sections, maps), but bare instructions were asked for.
    NeedsObject,
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnexpectedCharacter(c) => write!(f, "unexpected character {c:?}"),
            Self::Unterminated(what) => write!(f, "{what} has no end on this line"),
            Self::InvalidNumber(text) => write!(f, "invalid number `{text}`"),
            Self::Expected { what, found } => write!(f, "expected {what}, found {found}"),
            Self::UnknownInstruction(found) => write!(f, "no instruction starts with {found}"),
            Self::UnknownDirective(name) => write!(f, "unknown directive `{name}`"),
            Self::UnknownName { what, name } => write!(f, "unknown {what} `{name}`"),
            Self::InvalidRegister(name) => write!(f, "register {name} does not exist"),
            Self::WidthMismatch { found, wanted } => {
                write!(f, "expected {wanted}, found {found}: operand widths differ")
            }
            Self::MustRepeat(what) => write!(f, "this operand must be {what} again"),
            Self::OutOfRange {
                field,
                value,
                min,
                max,
            } => write!(f, "{field} {value} is not within {min} to {max}"),
            Self::Undefined(name) => write!(f, "`{name}` is not defined"),
            Self::Duplicate(name) => write!(f, "`{name}` is already defined"),
            Self::OtherSection(name) => write!(f, "`{name}` lies in another section"),
            Self::Misaligned => write!(f, "instructions start at multiples of 8 bytes"),
            Self::TooFar { distance } => {
                write!(f, "a distance of {distance} slots is too far for this jump")
            }
            Self::NotExecutable(name) => write!(f, "section `{name}` is not executable"),
            Self::SectionTooLarge => write!(f, "the section is too large"),
            Self::TooMany { what, limit } => write!(f, "more than {limit} {what}"),
            Self::NeedsObject => write!(f, "this needs an object file"),
        }
    }
}

/// A problem at a column; whoever knows the line makes it an [`AsmError`].
pub(super) type Located<T> = Result<T, (u32, Problem)>;
