//! Static linking: several objects as one, which loads and runs as if its sources had been one file.
//!
//! Sections of one name are joined, in the order of the files; symbols that one file needs and another defines meet by name, a
//! weak definition gives way; equal types become one. Loaders still do the rest: nothing is relocated here, only moved. What
//! Documentation/bpf/libbpf says of static linking is the model; license and version must agree, debug information is left out.
//!
//! ```
//! use skep_object::combine::{Input, combine};
//!
//! let halves = ["main", "part"].map(|n| std::fs::read(format!("../../tests/objects/linked/{n}.bpf.o")));
//! let [main, part] = halves;
//! let (main, part) = (main?, part?);
//! let whole = combine(&[Input { name: "main", bytes: &main }, Input { name: "part", bytes: &part }])?;
//! skep_object::Object::parse(&whole, &skep_object::Options::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod sections;
mod symbols;
mod types;

pub use error::CombineError;

use crate::image::{Image, ImageSection};
use crate::write::write;
use skep_btf::{Btf, Ext, Order};
use skep_isa::asm::{Assembly, Endian, Section};

/// An object to link.
///
/// ```
/// use skep_object::combine::{Input, combine};
///
/// let folder = "../../tests/objects/linked";
/// let main = std::fs::read(format!("{folder}/main.bpf.o"))?;
/// let part = std::fs::read(format!("{folder}/part.bpf.o"))?;
/// let inputs = [
///     Input { name: "main.bpf.o", bytes: &main },
///     Input { name: "part.bpf.o", bytes: &part },
/// ];
/// assert!(combine(&inputs)?.starts_with(b"\x7fELF"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Input<'d> {
    /// What it is called in errors.
    pub name: &'d str,
    /// The file.
    pub bytes: &'d [u8],
}

/// Bytes of a section at most, and of all together, so that a few bytes of input cannot ask for all memory.
const SECTION_BYTES_MAX: u64 = skep_isa::asm::MAX_SECTION_BYTES;
const ALL_BYTES_MAX: u64 = 4 * SECTION_BYTES_MAX;

/// `ET_REL`
const RELOCATABLE: u16 = 1;

/// An input, read.
struct File<'d> {
    name: &'d str,
    image: Image<'d>,
    btf: Option<Btf>,
    ext: Ext,
}

impl File<'_> {
    fn section(&self, section: &str, why: &'static str) -> CombineError {
        CombineError::Section {
            file: self.name.to_owned(),
            section: section.to_owned(),
            why,
        }
    }
}

/// Links objects to one.
///
/// # Errors
/// [`CombineError`] says which file is damaged, or what two files do not agree on.
pub fn combine(inputs: &[Input<'_>]) -> Result<Vec<u8>, CombineError> {
    let mut files = Vec::new();
    for input in inputs {
        files.push(read(input)?);
    }
    let order = files.first().ok_or(CombineError::Nothing)?.image.order;
    if let Some(other) = files.iter().find(|f| f.image.order != order) {
        let file = other.name.to_owned();
        return Err(CombineError::ByteOrder { file });
    }
    let mut layout = sections::join(&files)?;
    let symbols = symbols::join(&files, &layout)?;
    symbols::relocate(&files, &mut layout, &symbols, order)?;
    let (btf, ext) = types::join(&files, &layout, &symbols)?;
    let mut assembly = Assembly {
        endian: match order {
            Order::Little => Endian::Little,
            Order::Big => Endian::Big,
        },
        sections: layout.sections,
        symbols: symbols.symbols,
        maps: Vec::new(),
    };
    for (name, data) in [(".BTF", btf), (".BTF.ext", ext)] {
        if !data.is_empty() {
            assembly.sections.push(Section {
                name: name.to_owned(),
                align: 4,
                data,
                ..Section::default()
            });
        }
    }
    write(&assembly).map_err(CombineError::Write)
}

fn read<'d>(input: &Input<'d>) -> Result<File<'d>, CombineError> {
    let file = || input.name.to_owned();
    let image = Image::parse(input.bytes).map_err(|error| CombineError::Image {
        file: file(),
        error,
    })?;
    if image.file_type != RELOCATABLE {
        return Err(CombineError::NotRelocatable { file: file() });
    }
    let damaged = |error| CombineError::Btf {
        file: file(),
        error,
    };
    let data = |name: &str| {
        let section: Option<&ImageSection<'d>> = image.section(name);
        section.map(|s| s.data).filter(|data| !data.is_empty())
    };
    let btf = data(".BTF").map(Btf::parse).transpose().map_err(damaged)?;
    let ext = match data(".BTF.ext").filter(|_| btf.is_some()) {
        Some(data) => Ext::parse(data).map_err(damaged)?,
        None => Ext::default(),
    };
    Ok(File {
        name: input.name,
        image,
        btf,
        ext,
    })
}
