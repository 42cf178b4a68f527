//! Rust bindings of BPF objects: typed maps, global variables and programs, made from the object's BTF.
//!
//! In a build script:
//!
//! ```no_run
//! skep_gen::Builder::new("packets.bpf.o").build()?;
//! # Ok::<(), skep_gen::GenError>(())
//! ```
//!
//! and in the program, which depends on `skep`, `skep::bindings!(packets);`. The command `skep gen OBJ` prints the same text.
//!
//! A structure becomes a `#[repr(C)]` structure of the same layout, holes and bit fields included, whose every bit pattern is
//! valid: `bool`s are `u8`, enumerations are numbers with named constants, unions are bytes with one accessor a member,
//! pointers are `u64`, and the `__be16`, `__be32`, `__be64` of the headers keep the network's order.
#![forbid(unsafe_code)]

mod builder;
mod layout;
mod names;
mod skeleton;
mod types;

pub use builder::Builder;

use skep_object::{Object, ObjectError};
use std::fmt;

/// Types nested deeper than this are refused.
const DEPTH_MAX: u32 = 32;
/// Types of one object at most.
const TYPES_MAX: usize = 10_000;

/// Bindings cannot be made.
///
/// ```
/// use skep_gen::{GenError, Options, generate};
///
/// let error = generate(b"not an object", "x.bpf.o", &Options::default()).unwrap_err();
/// println!("{error}");
/// let bytes = std::fs::read("../../examples/packets.bpf.o")?;
/// let options = Options { types: vec!["none".to_owned()], ..Options::default() };
/// assert!(matches!(generate(&bytes, "packets.bpf.o", &options), Err(GenError::NoType(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum GenError {
    /// A file cannot be read or written.
    Io {
        /// Which one.
        path: std::path::PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is no BPF object.
    Object(ObjectError),
    /// The object has no BTF, so that nothing is known of its types.
    NoBtf,
    /// A type that was asked for is not in the object.
    NoType(String),
    /// A type has no layout.
    Type {
        /// Its name, or its id if it has none.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// A build script's variable is missing: the builder ran elsewhere and was given no folder.
    NoOutDir,
}

impl fmt::Display for GenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Object(error) => error.fmt(f),
            Self::NoBtf => f.write_str("the object has no BTF: compile it with -g"),
            Self::NoType(name) => write!(f, "the object has no type \"{name}\""),
            Self::Type { name, why } => write!(f, "type \"{name}\": {why}"),
            Self::NoOutDir => {
                f.write_str("OUT_DIR is not set: run from a build script, or name a folder")
            }
        }
    }
}

impl std::error::Error for GenError {}

/// What to make.
///
/// ```
/// use skep_gen::{Options, generate};
///
/// let bytes = std::fs::read("../../examples/packets.bpf.o")?;
/// let options = Options { module: "flows".to_owned(), ..Options::default() };
/// assert!(generate(&bytes, "packets.bpf.o", &options)?.contains("mod flows"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name of the module; empty for the object's file name up to its first dot.
    pub module: String,
    /// Types to bind beyond those of maps and global variables: records of ring buffers, for example.
    pub types: Vec<String>,
    /// Path of the object for `include_bytes!`; without one the text carries the bytes.
    pub include: Option<String>,
}

/// Makes the bindings of an object: the text of one module.
///
/// `file` is the object's file name without folders; data maps are named after it.
///
/// # Errors
/// [`GenError`]
pub fn generate(bytes: &[u8], file: &str, options: &Options) -> Result<String, GenError> {
    let object_options = skep_object::Options {
        name: file.to_owned(),
    };
    let object = Object::parse(bytes, &object_options).map_err(GenError::Object)?;
    let btf = object.btf().ok_or(GenError::NoBtf)?;
    let mut types = types::Types::new(btf);
    for name in &options.types {
        types.by_name(name)?;
    }
    let module = if options.module.is_empty() {
        names::ident(file.split('.').next().unwrap_or_default())
    } else {
        names::ident(&options.module)
    };
    let source = match &options.include {
        Some(path) => format!("include_bytes!({path:?})"),
        None => format!("b\"{}\"", bytes.escape_ascii()),
    };
    skeleton::Skeleton {
        object: &object,
        btf,
        file,
        source: &source,
    }
    .module(&module, types)
}
