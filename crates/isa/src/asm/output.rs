//! What the assembler makes: plain data, ready for an ELF writer.

use alloc::string::String;
use alloc::vec::Vec;

use super::Endian;
use crate::slot::Slot;

/// An assembled file.
///
/// ```
/// use skep_isa::asm::{Options, assemble};
///
/// let assembly = assemble("r0 = 2\nexit\n", &Options::default()).map_err(|e| e[0].to_string())?;
/// assert_eq!((assembly.sections.len(), assembly.maps.len()), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Assembly {
    /// Byte order of all contents.
    pub endian: Endian,
    /// Sections in the order in which the text names them. `.maps` has no contents if it comes from `.map` directives.
    pub sections: Vec<Section>,
    /// Symbols, without private labels.
    pub symbols: Vec<Symbol>,
    /// Maps that `.map` directives define; each has a symbol of the same name in the section `.maps`.
    pub maps: Vec<MapDef>,
}

/// A section.
///
/// ```
/// use skep_isa::asm::{Options, assemble};
///
/// let assembly = assemble("r0 = 2\nexit\n", &Options::default()).map_err(|e| e[0].to_string())?;
/// let section = &assembly.sections[0];
/// assert_eq!(section.slots(assembly.endian).len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Section {
    /// The name.
    pub name: String,
    /// Part of the loaded image (`a`).
    pub is_allocated: bool,
    /// Written at run time (`w`).
    pub is_writable: bool,
    /// Holds instructions (`x`).
    pub is_executable: bool,
    /// Equal entries may be merged (`M`).
    pub is_mergeable: bool,
    /// Entries are zero-terminated strings (`S`).
    pub is_strings: bool,
    /// Holds `data.len()` zeros that the file does not store (`@nobits`).
    pub is_nobits: bool,
    /// Size of an entry of a mergeable section, in bytes, else 0.
    pub entry_bytes: u64,
    /// Alignment in bytes, a power of two.
    pub align: u64,
    /// Contents, in the file's byte order.
    pub data: Vec<u8>,
    /// Places in `data` that depend on symbols, ordered by offset.
    pub relocations: Vec<Relocation>,
}

impl Section {
    /// The contents as slots; an incomplete slot at the end is left out.
    #[must_use]
    pub fn slots(&self, endian: Endian) -> Vec<Slot> {
        let read = match endian {
            Endian::Little => Slot::from_le_bytes,
            Endian::Big => Slot::from_be_bytes,
        };
        self.data
            .as_chunks::<8>()
            .0
            .iter()
            .map(|b| read(*b))
            .collect()
    }
}

/// A symbol.
///
/// ```
/// use skep_isa::asm::{Options, assemble};
///
/// let assembly = assemble("r0 = 2\nexit\n", &Options::default()).map_err(|e| e[0].to_string())?;
/// for symbol in &assembly.symbols {
///     println!("{} at {:?}: {} bytes", symbol.name, symbol.place, symbol.size);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Symbol {
    /// The name.
    pub name: String,
    /// Who may refer to it.
    pub binding: Binding,
    /// What it names.
    pub kind: SymbolKind,
    /// True if it is `.hidden`.
    pub is_hidden: bool,
    /// Section index and byte offset; `None` for a symbol of another file.
    pub place: Option<(usize, u64)>,
    /// Size in bytes, 0 if unknown.
    pub size: u64,
}

/// Who may refer to a symbol.
///
/// ```
/// use skep_isa::asm::{Binding, Options, assemble};
///
/// let assembly = assemble("r0 = 2\nexit\n", &Options::default()).map_err(|e| e[0].to_string())?;
/// let global = assembly.symbols.iter().filter(|s| s.binding == Binding::Global);
/// println!("{} names that others see", global.count());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Binding {
    /// This file.
    Local,
    /// Every file (`.globl`).
    Global,
    /// Every file, and it may be missing or replaced (`.weak`).
    Weak,
}

/// What a symbol names.
///
/// ```
/// use skep_isa::asm::{SymbolKind, Options, assemble};
///
/// let assembly = assemble("r0 = 2\nexit\n", &Options::default()).map_err(|e| e[0].to_string())?;
/// let functions = assembly.symbols.iter().filter(|s| s.kind == SymbolKind::Function);
/// println!("{} functions", functions.count());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SymbolKind {
    /// A place, nothing more.
    Label,
    /// A program or subprog.
    Function,
    /// A map or a variable.
    Object,
}

/// A place that depends on a symbol. The addend stands in the place itself.
///
/// ```
/// use skep_isa::asm::{Options, assemble};
///
/// let assembly = assemble("r0 = 2\nexit\n", &Options::default()).map_err(|e| e[0].to_string())?;
/// for relocation in assembly.sections.iter().flat_map(|s| &s.relocations) {
///     println!("byte {}: {:?}", relocation.offset, relocation.target);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Relocation {
    /// Byte within the section.
    pub offset: u64,
    /// What it depends on.
    pub target: RelocationTarget,
    /// How.
    pub kind: RelocationKind,
}

/// What a relocation refers to.
///
/// ```
/// use skep_isa::asm::{RelocationTarget, Options, assemble};
///
/// let assembly = assemble("r0 = 2\nexit\n", &Options::default()).map_err(|e| e[0].to_string())?;
/// for relocation in assembly.sections.iter().flat_map(|s| &s.relocations) {
///     match relocation.target {
///         RelocationTarget::Symbol(at) => println!("{}", assembly.symbols[at].name),
///         RelocationTarget::Section(at) => println!("{}", assembly.sections[at].name),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RelocationTarget {
    /// An index into [`Assembly::symbols`].
    Symbol(usize),
    /// The start of the section with this index.
    Section(usize),
}

/// How a place depends on a symbol; the numbers are those of LLVM's BPF target.
///
/// ```
/// use skep_isa::asm::{RelocationKind, Options, assemble};
///
/// let assembly = assemble("r0 = 2\nexit\n", &Options::default()).map_err(|e| e[0].to_string())?;
/// for relocation in assembly.sections.iter().flat_map(|s| &s.relocations) {
///     let is_call = relocation.kind == RelocationKind::Call;
///     println!("byte {}: a call: {is_call}", relocation.offset);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum RelocationKind {
    /// `R_BPF_64_64`: the immediates of a wide load.
    Wide = 1,
    /// `R_BPF_64_ABS64`: eight bytes of data.
    Abs64 = 2,
    /// `R_BPF_64_ABS32`: four bytes of data.
    Abs32 = 3,
    /// `R_BPF_64_NODYLD32`: four bytes of `.BTF` or `.BTF.ext` that name a place and that no loader changes.
    NoDyld32 = 4,
    /// `R_BPF_64_32`: the immediate of a call.
    Call = 10,
}

/// An attribute of a map, named as in a `.maps` definition.
///
/// ```
/// use skep_isa::asm::{Options, assemble};
///
/// let assembly = assemble("r0 = 2\nexit\n", &Options::default()).map_err(|e| e[0].to_string())?;
/// for attribute in assembly.maps.iter().flat_map(|m| &m.attributes) {
///     println!("{} = {}", attribute.name, attribute.value);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapAttribute {
    /// `type`, `key_size`, `value_size`, `max_entries`, `map_flags`, `numa_node`, `map_extra` or `pinning`.
    pub name: &'static str,
    /// The value.
    pub value: u32,
}

/// A map that a `.map` directive defines.
///
/// ```
/// use skep_isa::asm::{Options, assemble};
///
/// let assembly = assemble("r0 = 2\nexit\n", &Options::default()).map_err(|e| e[0].to_string())?;
/// for map in &assembly.maps {
///     println!("{} with {} attributes", map.name, map.attributes.len());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapDef {
    /// The name, also of its symbol.
    pub name: String,
    /// What was given, in that order; each takes 8 bytes (a pointer that carries the value in its type) in `.maps`.
    pub attributes: Vec<MapAttribute>,
}
