//! The ELF file as sections, symbols and relocations, every reference checked.

use crate::error::ObjectError;
use crate::image::{Image, ImageError, ImageHeader, ImageSection, ImageSymbol};
use skep_btf::Order;

/// A parsed object file.
#[derive(Debug, Default)]
pub(crate) struct Elf<'a> {
    pub(crate) sections: Vec<Section<'a>>,
    pub(crate) symbols: Vec<Symbol<'a>>,
}

/// A section; its place in [`Elf::sections`] is its ELF index.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: SectionKind,
    /// Empty for `.bss`.
    pub(crate) data: &'a [u8],
    /// Bytes in memory.
    pub(crate) size: u64,
    /// Ordered by offset.
    pub(crate) relocs: Vec<Reloc>,
}

/// What a section holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SectionKind {
    Code,
    Data,
    Zeroes,
    Other,
}

/// A symbol; its place in [`Elf::symbols`] is its ELF index.
#[derive(Debug)]
pub(crate) struct Symbol<'a> {
    pub(crate) name: &'a str,
    /// Where it is defined; `None` for undefined (and absolute) ones.
    pub(crate) section: Option<usize>,
    pub(crate) value: u64,
    pub(crate) size: u64,
    pub(crate) kind: SymbolKind,
    pub(crate) local: bool,
    pub(crate) weak: bool,
    /// Not visible outside the linked object.
    pub(crate) hidden: bool,
}

/// What a symbol names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SymbolKind {
    Untyped,
    Object,
    Function,
    Section,
    Other,
}

/// A relocation. BPF relocations keep their addend in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reloc {
    pub(crate) offset: u64,
    pub(crate) symbol: usize,
}

impl<'a> Elf<'a> {
    /// Parses a relocatable BPF object of the host's byte order.
    pub(crate) fn parse(data: &'a [u8]) -> Result<Self, ObjectError> {
        // A file of another kind is named as such, whatever else is wrong with it.
        check_header(ImageHeader::parse(data).map_err(refused)?)?;
        let image = Image::parse(data).map_err(refused)?;
        let count = image.sections.len();
        Ok(Self {
            symbols: image.symbols.iter().map(|s| symbol(s, count)).collect(),
            sections: image.sections.iter().map(section).collect(),
        })
    }

    /// The section with this name.
    pub(crate) fn section(&self, name: &str) -> Option<(usize, &Section<'a>)> {
        let mut all = self.sections.iter().enumerate();
        all.find(|(_, s)| s.name == name)
    }

    /// The symbol of a variable: defined in `section`, not a section symbol, with this name.
    pub(crate) fn variable(&self, section: usize, name: &str) -> Option<&Symbol<'a>> {
        self.symbols
            .iter()
            .find(|s| s.section == Some(section) && s.kind != SymbolKind::Section && s.name == name)
    }
}

/// `e_machine` of machines that objects are taken for by mistake.
const MACHINES: &[(u16, &str)] = &[(62, "x86-64"), (183, "aarch64")];
/// `ET_REL`
const RELOCATABLE: u16 = 1;

fn refused(error: ImageError) -> ObjectError {
    match error {
        ImageError::NotElf => ObjectError::NotElf,
        ImageError::NotElf64 => ObjectError::NotBpf("a 32-bit ELF file".to_owned()),
        ImageError::NotBpf { machine } => {
            let known = MACHINES.iter().find(|(number, _)| *number == machine);
            let name = known.map_or_else(|| format!("number {machine}"), |(_, n)| (*n).to_owned());
            ObjectError::NotBpf(format!("its machine is {name}"))
        }
        other => ObjectError::damaged(other.to_string()),
    }
}

fn check_header(header: ImageHeader) -> Result<(), ObjectError> {
    if header.order != Order::HOST {
        let name = |order| match order {
            Order::Big => "big",
            Order::Little => "little",
        };
        return Err(ObjectError::NotBpf(format!(
            "it is {}-endian, this machine is {}-endian",
            name(header.order),
            name(Order::HOST)
        )));
    }
    if header.file_type != RELOCATABLE {
        let what = "it is an executable or library, not a relocatable object";
        return Err(ObjectError::NotBpf(what.to_owned()));
    }
    Ok(())
}

/// `SHT_PROGBITS` and `SHT_NOBITS`
const PROGBITS: u32 = 1;
const NOBITS: u32 = 8;

fn section<'a>(section: &ImageSection<'a>) -> Section<'a> {
    let kind = match section.kind {
        PROGBITS if section.is_executable() => SectionKind::Code,
        PROGBITS => SectionKind::Data,
        NOBITS => SectionKind::Zeroes,
        _ => SectionKind::Other,
    };
    Section {
        name: section.name,
        kind,
        data: match kind {
            SectionKind::Code | SectionKind::Data => section.data,
            _ => &[],
        },
        size: section.size,
        relocs: section
            .relocations
            .iter()
            .map(|r| Reloc {
                offset: r.offset,
                symbol: r.symbol as usize,
            })
            .collect(),
    }
}

/// `STV_INTERNAL` and `STV_HIDDEN`
const HIDDEN: [u8; 2] = [1, 2];

fn symbol<'a>(symbol: &ImageSymbol<'a>, sections: usize) -> Symbol<'a> {
    Symbol {
        name: symbol.name,
        section: Some(usize::from(symbol.section)).filter(|s| (1..sections).contains(s)),
        value: symbol.value,
        size: symbol.size,
        kind: match symbol.kind {
            ImageSymbol::UNTYPED => SymbolKind::Untyped,
            ImageSymbol::OBJECT => SymbolKind::Object,
            ImageSymbol::FUNC => SymbolKind::Function,
            ImageSymbol::SECTION => SymbolKind::Section,
            _ => SymbolKind::Other,
        },
        local: symbol.binding == ImageSymbol::LOCAL,
        weak: symbol.binding == ImageSymbol::WEAK,
        hidden: HIDDEN.contains(&symbol.visibility),
    }
}

/// The bytes of section `.BTF` of an ELF file for any machine.
///
/// # Errors
/// [`ObjectError`] if it is no ELF file or has no such section.
pub fn btf_section(data: &[u8]) -> Result<Vec<u8>, ObjectError> {
    let image = Image::parse_any(data).map_err(refused)?;
    match image.section(".BTF") {
        Some(section) if !section.data.is_empty() => Ok(section.data.to_vec()),
        _ => Err(ObjectError::damaged("it has no section .BTF")),
    }
}
