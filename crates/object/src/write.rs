//! Assembled files as ELF relocatable objects for EM_BPF (elf(5); relocations as LLVM writes them).
//!
//! Written by hand: an object is a header and four kinds of record, and needs no more of ELF. Maps of `.map` directives
//! become BTF-defined maps in `.maps`, which is the only form that libbpf 1.x accepts.

mod map_btf;

use skep_abi::MapType;
use skep_btf::Order;
use skep_isa::asm::{
    Assembly, Binding, Endian, Facts, Relocation, RelocationTarget, Section, Symbol, SymbolKind,
};
use std::collections::BTreeMap;
use std::fmt;

/// Names of Linux's helpers and map types, for the assembler.
///
/// ```
/// use skep_isa::asm::Facts;
/// use skep_object::write::LinuxNames;
///
/// assert_eq!(LinuxNames.helper("bpf_ktime_get_ns"), Some(5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LinuxNames;

impl Facts for LinuxNames {
    fn helper(&self, name: &str) -> Option<i32> {
        i32::try_from(skep_abi::helper::by_name(name)?.id).ok()
    }

    fn map_type(&self, name: &str) -> Option<u32> {
        MapType::from_name(name).map(|t| t as u32)
    }
}

/// Why an assembled file is not an object.
///
/// ```
/// use skep_object::write::{WriteError, write};
///
/// fn object(assembly: &skep_isa::asm::Assembly) -> Result<Vec<u8>, WriteError> {
///     write(assembly)
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// `.map` directives need a `.BTF` section of their own, and the text has one already.
    TwoBtf,
    /// More sections, or a larger section, than ELF can number.
    TooLarge(&'static str),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoBtf => {
                write!(f, "`.map` and a section `.BTF` cannot stand in one file")
            }
            Self::TooLarge(what) => write!(f, "too many {what} for an ELF object"),
        }
    }
}

impl std::error::Error for WriteError {}

const EM_BPF: u16 = 247;
const HEADER_BYTES: usize = 64;
const SECTION_HEADER_BYTES: u16 = 64;
const SYMBOL_BYTES: u64 = 24;
const REL_BYTES: u64 = 16;
/// Section indices from here on are special.
const SHN_LORESERVE: usize = 0xff00;

const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_NOBITS: u32 = 8;
const SHT_REL: u32 = 9;

const SHF_WRITE: u64 = 1;
const SHF_ALLOC: u64 = 2;
const SHF_EXECINSTR: u64 = 4;
const SHF_MERGE: u64 = 0x10;
const SHF_STRINGS: u64 = 0x20;
const SHF_INFO_LINK: u64 = 0x40;

const STT_SECTION: u8 = 3;
const STV_HIDDEN: u8 = 2;

/// Writes an object.
///
/// # Errors
/// [`WriteError`]: two sources of BTF, or more than ELF can number.
pub fn write(assembly: &Assembly) -> Result<Vec<u8>, WriteError> {
    let mut sections: Vec<&Section> = assembly.sections.iter().collect();
    let btf;
    if !assembly.maps.is_empty() {
        if sections.iter().any(|s| s.name == ".BTF") {
            return Err(WriteError::TwoBtf);
        }
        btf = map_btf::section(assembly);
        sections.push(&btf);
    }
    let order = match assembly.endian {
        Endian::Little => Order::Little,
        Endian::Big => Order::Big,
    };
    let relocated = sections.iter().filter(|s| !s.relocations.is_empty());
    if sections.len() + relocated.count() + 4 >= SHN_LORESERVE {
        return Err(WriteError::TooLarge("sections"));
    }
    let mut file = File {
        order,
        bytes: vec![0; HEADER_BYTES],
        headers: vec![Header::default()],
        names: vec![0],
    };
    for section in &sections {
        file.section(section);
    }
    let symbols = SymbolOrder::new(assembly, &sections);
    let symtab = file.symbols(assembly, &symbols)?;
    for (at, section) in sections.iter().enumerate() {
        if !section.relocations.is_empty() {
            file.relocations(at + 1, symtab, section, &symbols);
        }
    }
    file.finish()
}

/// `Elf64_Shdr`
#[derive(Default)]
struct Header {
    name: u32,
    kind: u32,
    flags: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    align: u64,
    entry_bytes: u64,
}

/// A file being written: contents so far, and what its section headers will say.
struct File {
    order: Order,
    bytes: Vec<u8>,
    headers: Vec<Header>,
    /// `.strtab`, which also names the sections.
    names: Vec<u8>,
}

impl File {
    fn u16(&mut self, value: u16) {
        self.bytes.extend(self.order.u16_bytes(value));
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend(self.order.u32_bytes(value));
    }

    fn u64(&mut self, value: u64) {
        self.bytes.extend(self.order.u64_bytes(value));
    }

    /// Pads to a multiple of `align` and returns the position.
    fn align(&mut self, align: u64) -> u64 {
        let at = (self.bytes.len() as u64).next_multiple_of(align.max(1));
        self.bytes.resize(at as usize, 0);
        at
    }

    /// Adds a name to `.strtab`. Its size stays far below 4 GiB: [`Self::finish`] checks.
    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.names.len() as u32;
        self.names.extend(name.bytes());
        self.names.push(0);
        at
    }

    fn section(&mut self, section: &Section) {
        let flag = |is_set: bool, flag: u64| if is_set { flag } else { 0 };
        let header = Header {
            name: self.name(&section.name),
            kind: if section.is_nobits {
                SHT_NOBITS
            } else {
                SHT_PROGBITS
            },
            flags: flag(section.is_writable, SHF_WRITE)
                | flag(section.is_allocated, SHF_ALLOC)
                | flag(section.is_executable, SHF_EXECINSTR)
                | flag(section.is_mergeable, SHF_MERGE)
                | flag(section.is_strings, SHF_STRINGS),
            offset: self.align(section.align),
            size: section.data.len() as u64,
            align: section.align.max(1),
            entry_bytes: section.entry_bytes,
            ..Header::default()
        };
        self.headers.push(header);
        if !section.is_nobits {
            self.bytes.extend(&section.data);
        }
    }

    /// Writes `.symtab` and returns its section index.
    fn symbols(&mut self, assembly: &Assembly, order: &SymbolOrder) -> Result<u32, WriteError> {
        let offset = self.align(8);
        self.symbol(0, 0, 0, 0, (0, 0));
        for &section in &order.sections {
            let index = section_index(section)?;
            self.symbol(0, STT_SECTION, 0, index, (0, 0));
        }
        for &at in &order.symbols {
            let symbol = &assembly.symbols[at];
            let (section, value) = match symbol.place {
                Some((section, value)) => (section_index(section)?, value),
                None => (0, 0),
            };
            let name = self.name(&symbol.name);
            let visibility = if symbol.is_hidden { STV_HIDDEN } else { 0 };
            self.symbol(
                name,
                info(symbol),
                visibility,
                section,
                (value, symbol.size),
            );
        }
        let index = self.headers.len() as u32;
        let count = 1 + order.sections.len() + order.symbols.len();
        let header = Header {
            name: self.name(".symtab"),
            kind: SHT_SYMTAB,
            offset,
            size: count as u64 * SYMBOL_BYTES,
            // .strtab is the next section after .symtab.
            link: index + 1,
            info: (1 + order.sections.len() + order.locals) as u32,
            align: 8,
            entry_bytes: SYMBOL_BYTES,
            ..Header::default()
        };
        self.headers.push(header);
        // Filled in by `finish`.
        let strtab = Header {
            name: self.name(".strtab"),
            kind: SHT_STRTAB,
            align: 1,
            ..Header::default()
        };
        self.headers.push(strtab);
        Ok(index)
    }

    fn symbol(&mut self, name: u32, info: u8, other: u8, section: u16, value_size: (u64, u64)) {
        self.u32(name);
        self.bytes.extend([info, other]);
        self.u16(section);
        self.u64(value_size.0);
        self.u64(value_size.1);
    }

    /// Writes the relocations of the section with index `target`.
    fn relocations(&mut self, target: usize, symtab: u32, section: &Section, order: &SymbolOrder) {
        let offset = self.align(8);
        for relocation in &section.relocations {
            self.u64(relocation.offset);
            let symbol = u64::from(order.index(relocation));
            self.u64(symbol << 32 | u64::from(relocation.kind as u32));
        }
        let header = Header {
            name: self.name(&format!(".rel{}", section.name)),
            kind: SHT_REL,
            flags: SHF_INFO_LINK,
            offset,
            size: section.relocations.len() as u64 * REL_BYTES,
            link: symtab,
            info: target as u32,
            align: 8,
            entry_bytes: REL_BYTES,
        };
        self.headers.push(header);
    }

    /// Writes `.strtab`, the section headers and, at the start, the file header.
    fn finish(mut self) -> Result<Vec<u8>, WriteError> {
        if u32::try_from(self.names.len()).is_err() {
            return Err(WriteError::TooLarge("symbols"));
        }
        let strtab = self.headers.iter().position(|h| h.kind == SHT_STRTAB);
        let strtab = strtab.ok_or(WriteError::TooLarge("sections"))?;
        let offset = self.align(1);
        let names = std::mem::take(&mut self.names);
        self.bytes.extend(&names);
        self.headers[strtab].offset = offset;
        self.headers[strtab].size = names.len() as u64;
        let headers_at = self.align(8);
        for header in std::mem::take(&mut self.headers) {
            self.u32(header.name);
            self.u32(header.kind);
            self.u64(header.flags);
            self.u64(0);
            self.u64(header.offset);
            self.u64(header.size);
            self.u32(header.link);
            self.u32(header.info);
            self.u64(header.align);
            self.u64(header.entry_bytes);
        }
        let count = (self.bytes.len() as u64 - headers_at) / u64::from(SECTION_HEADER_BYTES);
        self.file_header(headers_at, count as u16, strtab as u16);
        Ok(self.bytes)
    }

    fn file_header(&mut self, headers_at: u64, section_count: u16, strtab: u16) {
        const ELFCLASS64: u8 = 2;
        const EV_CURRENT: u8 = 1;
        const ET_REL: u16 = 1;
        let contents = std::mem::take(&mut self.bytes);
        let data = match self.order {
            Order::Little => 1,
            Order::Big => 2,
        };
        self.bytes.extend(b"\x7fELF");
        self.bytes.extend([ELFCLASS64, data, EV_CURRENT]);
        self.bytes.extend([0; 9]);
        self.u16(ET_REL);
        self.u16(EM_BPF);
        self.u32(EV_CURRENT.into());
        self.u64(0); // entry
        self.u64(0); // program headers
        self.u64(headers_at);
        self.u32(0); // flags
        self.u16(HEADER_BYTES as u16);
        self.u16(0); // size and count of program headers
        self.u16(0);
        self.u16(SECTION_HEADER_BYTES);
        self.u16(section_count);
        self.u16(strtab);
        self.bytes.extend(&contents[HEADER_BYTES..]);
    }
}

/// Section 0 is none, so ELF counts from 1. [`write`] has checked how many there are.
fn section_index(at: usize) -> Result<u16, WriteError> {
    u16::try_from(at + 1).map_err(|_| WriteError::TooLarge("sections"))
}

/// `st_info`
fn info(symbol: &Symbol) -> u8 {
    let binding = match symbol.binding {
        Binding::Local => 0,
        Binding::Global => 1,
        Binding::Weak => 2,
    };
    let kind = match symbol.kind {
        SymbolKind::Label => 0,
        SymbolKind::Object => 1,
        SymbolKind::Function => 2,
    };
    binding << 4 | kind
}

/// The symbol table's order: sections that relocations name, then local symbols, then the others.
struct SymbolOrder {
    sections: Vec<usize>,
    symbols: Vec<usize>,
    /// How many of `symbols` are local.
    locals: usize,
    /// Where each section and each symbol stands in the table.
    section_place: BTreeMap<usize, u32>,
    symbol_place: BTreeMap<usize, u32>,
}

impl SymbolOrder {
    fn new(assembly: &Assembly, all: &[&Section]) -> Self {
        let mut sections: Vec<usize> = all
            .iter()
            .flat_map(|s| &s.relocations)
            .filter_map(|r| match r.target {
                RelocationTarget::Section(at) => Some(at),
                RelocationTarget::Symbol(_) => None,
            })
            .collect();
        sections.sort_unstable();
        sections.dedup();
        let (mut symbols, others): (Vec<usize>, Vec<usize>) = (0..assembly.symbols.len())
            .partition(|at| assembly.symbols[*at].binding == Binding::Local);
        let locals = symbols.len();
        symbols.extend(others);
        Self {
            section_place: sections.iter().copied().zip(1..).collect(),
            symbol_place: symbols
                .iter()
                .copied()
                .zip(1 + sections.len() as u32..)
                .collect(),
            sections,
            symbols,
            locals,
        }
    }

    /// The index in the symbol table; 0 is none.
    fn index(&self, relocation: &Relocation) -> u32 {
        let place = match relocation.target {
            RelocationTarget::Section(at) => self.section_place.get(&at),
            RelocationTarget::Symbol(at) => self.symbol_place.get(&at),
        };
        place.copied().unwrap_or(0)
    }
}
