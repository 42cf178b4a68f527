//! Why objects cannot become one.

use crate::image::ImageError;
use crate::write::WriteError;
use skep_btf::BtfError;
use std::fmt;

/// Why objects cannot become one.
///
/// ```
/// use skep_object::combine::{CombineError, combine};
///
/// assert!(matches!(combine(&[]), Err(CombineError::Nothing)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CombineError {
    /// There are none.
    Nothing,
    /// A file is no BPF object.
    Image {
        /// The file.
        file: String,
        /// Why.
        error: ImageError,
    },
    /// An executable, not a relocatable object.
    NotRelocatable {
        /// The file.
        file: String,
    },
    /// Its byte order is not that of the first file.
    ByteOrder {
        /// The file.
        file: String,
    },
    /// Its BTF is damaged.
    Btf {
        /// The file.
        file: String,
        /// How.
        error: BtfError,
    },
    /// A section cannot be joined with those of its name.
    Section {
        /// The file.
        file: String,
        /// The section.
        section: String,
        /// Why.
        why: &'static str,
    },
    /// A relocation of unknown kind, outside of its section, or without a symbol.
    Relocation {
        /// The file.
        file: String,
        /// The section.
        section: String,
        /// Byte of the section.
        offset: u64,
    },
    /// Two files define a symbol.
    Twice {
        /// The symbol.
        symbol: String,
        /// The files.
        files: [String; 2],
    },
    /// Files do not agree on the type of a symbol.
    Type {
        /// The symbol.
        symbol: String,
        /// The files.
        files: [String; 2],
    },
    /// The whole cannot be written.
    Write(WriteError),
}

impl fmt::Display for CombineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "there is no object to link"),
            Self::Image { file, error } => write!(f, "{file}: {error}"),
            Self::NotRelocatable { file } => {
                write!(f, "{file}: not a relocatable object")
            }
            Self::ByteOrder { file } => {
                write!(f, "{file}: its byte order is not that of the first object")
            }
            Self::Btf { file, error } => write!(f, "{file}: {error}"),
            Self::Section { file, section, why } => {
                write!(f, "{file}: section \"{section}\": {why}")
            }
            Self::Relocation {
                file,
                section,
                offset,
            } => write!(
                f,
                "{file}: section \"{section}\": the relocation at byte {offset} cannot be followed"
            ),
            Self::Twice { symbol, files } => write!(
                f,
                "\"{symbol}\" is defined in {} and in {}",
                files[0], files[1]
            ),
            Self::Type { symbol, files } => write!(
                f,
                "\"{symbol}\" has another type in {} than in {}",
                files[0], files[1]
            ),
            Self::Write(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CombineError {}
