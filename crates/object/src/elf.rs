//! The ELF file as sections, symbols and relocations, every reference checked.

use crate::error::ObjectError;
use object::elf::{
    EM_BPF, ET_REL, FileHeader64, SHF_EXECINSTR, SHT_NOBITS, SHT_PROGBITS, SHT_REL, SHT_RELA,
    STB_LOCAL, STB_WEAK, STT_FUNC, STT_NOTYPE, STT_OBJECT, STT_SECTION, STV_HIDDEN, STV_INTERNAL,
};
use object::read::elf::{FileHeader, Rel, Rela, SectionHeader, Sym};
use object::{Endianness, SectionIndex};

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
        if data.get(..4) != Some(b"\x7fELF") {
            return Err(ObjectError::NotElf);
        }
        if data.get(4) == Some(&1) {
            return Err(ObjectError::NotBpf("a 32-bit ELF file".to_owned()));
        }
        let header = FileHeader64::<Endianness>::parse(data)
            .map_err(|e| ObjectError::damaged(e.to_string()))?;
        let endian = header
            .endian()
            .map_err(|e| ObjectError::damaged(e.to_string()))?;
        check_header(header, endian)?;
        read(header, endian, data).map_err(|e| ObjectError::damaged(e.to_string()))
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

fn check_header(header: &FileHeader64<Endianness>, endian: Endianness) -> Result<(), ObjectError> {
    let machine = header.e_machine.get(endian);
    if machine != EM_BPF {
        let name = match machine {
            object::elf::EM_X86_64 => "x86-64".to_owned(),
            object::elf::EM_AARCH64 => "aarch64".to_owned(),
            other => format!("number {}", other.0),
        };
        return Err(ObjectError::NotBpf(format!("its machine is {name}")));
    }
    let host = if cfg!(target_endian = "big") {
        Endianness::Big
    } else {
        Endianness::Little
    };
    if endian != host {
        let name = |e| {
            if e == Endianness::Big {
                "big"
            } else {
                "little"
            }
        };
        return Err(ObjectError::NotBpf(format!(
            "it is {}-endian, this machine is {}-endian",
            name(endian),
            name(host)
        )));
    }
    if header.e_type.get(endian) != ET_REL {
        let what = "it is an executable or library, not a relocatable object";
        return Err(ObjectError::NotBpf(what.to_owned()));
    }
    Ok(())
}

fn read<'a>(
    header: &FileHeader64<Endianness>,
    endian: Endianness,
    data: &'a [u8],
) -> object::Result<Elf<'a>> {
    let table = header.sections(endian, data)?;
    let mut elf = Elf::default();
    for section in table.iter() {
        let name = table.section_name(endian, section)?;
        let kind = section.sh_type(endian);
        let code = section.sh_flags(endian).contains(SHF_EXECINSTR);
        let kind = match kind {
            SHT_PROGBITS if code => SectionKind::Code,
            SHT_PROGBITS => SectionKind::Data,
            SHT_NOBITS => SectionKind::Zeroes,
            _ => SectionKind::Other,
        };
        elf.sections.push(Section {
            name: std::str::from_utf8(name).unwrap_or_default(),
            kind,
            data: match kind {
                SectionKind::Code | SectionKind::Data => section.data(endian, data)?,
                _ => &[],
            },
            size: section.sh_size(endian),
            relocs: Vec::new(),
        });
    }
    let symbols = table.symbols(endian, data, object::elf::SHT_SYMTAB)?;
    for (index, symbol) in symbols.enumerate() {
        let section = symbols.symbol_section(endian, symbol, index)?;
        let name = symbols.symbol_name(endian, symbol)?;
        elf.symbols.push(Symbol {
            name: std::str::from_utf8(name).unwrap_or_default(),
            section: section
                .map(|SectionIndex(i)| i)
                .filter(|&i| i < elf.sections.len()),
            value: symbol.st_value(endian),
            size: symbol.st_size(endian),
            kind: match symbol.st_type() {
                STT_NOTYPE => SymbolKind::Untyped,
                STT_OBJECT => SymbolKind::Object,
                STT_FUNC => SymbolKind::Function,
                STT_SECTION => SymbolKind::Section,
                _ => SymbolKind::Other,
            },
            local: symbol.st_bind() == STB_LOCAL,
            weak: symbol.st_bind() == STB_WEAK,
            hidden: matches!(symbol.st_visibility(), STV_HIDDEN | STV_INTERNAL),
        });
    }
    for section in table.iter() {
        let target = section.sh_info(endian) as usize;
        let mut found = Vec::new();
        match section.sh_type(endian) {
            SHT_REL => {
                let Some((list, _)) = section.rel(endian, data)? else {
                    continue;
                };
                found.extend(list.iter().map(|r| (r.r_offset(endian), r.r_sym(endian))));
            }
            SHT_RELA => {
                let Some((list, _)) = section.rela(endian, data)? else {
                    continue;
                };
                let sym = |r: &object::elf::Rela64<Endianness>| r.r_sym(endian, false);
                found.extend(list.iter().map(|r| (r.r_offset(endian), sym(r))));
            }
            _ => continue,
        }
        let Some(section) = elf.sections.get_mut(target) else {
            continue;
        };
        let relocs = found.into_iter().map(|(offset, symbol)| Reloc {
            offset,
            symbol: symbol as usize,
        });
        section.relocs.extend(relocs);
        section.relocs.sort_by_key(|r| r.offset);
    }
    Ok(elf)
}
