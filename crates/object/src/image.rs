//! An ELF file as it stands: sections, segments, symbols, relocations. Nothing is interpreted yet.
//!
//! BPF objects are read with [`Image::parse`], executables and libraries that probes point into with [`Image::parse_any`].
//!
//! Every offset and size of the file is untrusted: what points outside becomes an error here, so that users of an
//! [`Image`] need not check again.

use skep_btf::Order;
use std::fmt;

const HEADER_BYTES: usize = 64;
const SECTION_HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
const SYMBOL_BYTES: usize = 24;
const REL_BYTES: usize = 16;
const RELA_BYTES: usize = 24;
const EM_BPF: u16 = 247;
const ELFCLASS64: u8 = 2;

const SHT_SYMTAB: u32 = 2;
const SHT_RELA: u32 = 4;
const SHT_NOBITS: u32 = 8;
const SHT_REL: u32 = 9;
const SHT_DYNSYM: u32 = 11;
/// A section index that stands elsewhere.
const SHN_XINDEX: u16 = 0xffff;

const SHF_WRITE: u64 = 1;
const SHF_ALLOC: u64 = 2;
const SHF_EXECINSTR: u64 = 4;

/// Adds to the word of 8 bytes, or of 4, that stands at a place of a section; `None` if it is not all inside.
pub(crate) fn add_at(
    data: &mut [u8],
    at: usize,
    is_wide: bool,
    order: Order,
    added: u64,
) -> Option<()> {
    let place = data.get_mut(at..)?;
    if is_wide {
        let place = place.first_chunk_mut::<8>()?;
        *place = order.u64_bytes(order.u64_at(place, 0).wrapping_add(added));
    } else {
        let place = place.first_chunk_mut::<4>()?;
        *place = order.u32_bytes(order.u32_at(place, 0).wrapping_add(added as u32));
    }
    Some(())
}

/// Why bytes are not an ELF file that can be read.
///
/// ```
/// use skep_object::image::{Image, ImageError};
///
/// assert_eq!(Image::parse(b"not an object").err(), Some(ImageError::NotElf));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ImageError {
    /// The bytes do not start as an ELF file does.
    NotElf,
    /// A 32-bit file.
    NotElf64,
    /// A file for another machine.
    NotBpf {
        /// `e_machine`
        machine: u16,
    },
    /// More relocations than the file can hold: their sections overlap.
    Overlap,
    /// Something lies outside the file.
    Truncated {
        /// What.
        what: &'static str,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => write!(f, "not an ELF file"),
            Self::NotElf64 => write!(f, "a 32-bit ELF file; BPF objects have 64 bits"),
            Self::NotBpf { machine } => {
                write!(f, "an ELF file for machine {machine}, not for BPF (247)")
            }
            Self::Overlap => write!(f, "relocation sections overlap"),
            Self::Truncated { what } => write!(f, "{what} lies outside the file"),
        }
    }
}

impl std::error::Error for ImageError {}

/// A 64-bit ELF file.
///
/// ```
/// use skep_object::image::Image;
///
/// let file = std::fs::read("../../examples/packets.bpf.o")?;
/// let image = Image::parse(&file)?;
/// let section = image.section("xdp").ok_or("no such section")?;
/// assert!(section.is_executable());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Image<'d> {
    /// `e_machine`
    pub machine: u16,
    /// `e_type`
    pub file_type: u16,
    /// Byte order of everything in it.
    pub order: Order,
    /// Sections by index; the first is always empty.
    pub sections: Vec<ImageSection<'d>>,
    /// Symbols by index; the first is always empty.
    pub symbols: Vec<ImageSymbol<'d>>,
    /// Symbols for the dynamic linker.
    pub dynamic_symbols: Vec<ImageSymbol<'d>>,
    /// What is mapped to run the file.
    pub segments: Vec<ImageSegment>,
}

/// A segment (`Elf64_Phdr`).
///
/// ```
/// use skep_object::image::Image;
///
/// let file = std::fs::read("/proc/self/exe")?;
/// for segment in Image::parse_any(&file)?.segments {
///     println!("{:#x}: {} bytes", segment.address, segment.file_bytes);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageSegment {
    /// `p_type`
    pub kind: u32,
    /// `p_flags`
    pub flags: u32,
    /// Byte of the file where it begins.
    pub offset: u64,
    /// Address where it is mapped.
    pub address: u64,
    /// Bytes of it in the file.
    pub file_bytes: u64,
}

impl ImageSegment {
    /// `PT_LOAD`
    pub const LOAD: u32 = 1;
}

/// A section.
///
/// ```
/// # use skep_object::image::Image;
/// #
/// # let file = std::fs::read("../../examples/packets.bpf.o")?;
/// # let image = Image::parse(&file)?;
/// for section in &image.sections {
///     println!("{}: {} bytes, {} relocations", section.name, section.size, section.relocations.len());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ImageSection<'d> {
    /// The name; not UTF-8 counts as empty.
    pub name: &'d str,
    /// `sh_type`
    pub kind: u32,
    /// `sh_flags`
    pub flags: u64,
    /// Contents; empty for one that the file does not store.
    pub data: &'d [u8],
    /// Size in bytes, also of one that the file does not store.
    pub size: u64,
    /// `sh_addr`
    pub address: u64,
    /// `sh_offset`
    pub offset: u64,
    /// `sh_addralign`
    pub align: u64,
    /// `sh_entsize`
    pub entry_bytes: u64,
    /// Relocations of places in it, ordered by offset.
    pub relocations: Vec<ImageRelocation>,
    link: u32,
    info: u32,
}

impl ImageSection<'_> {
    /// Holds instructions.
    #[must_use]
    pub fn is_executable(&self) -> bool {
        self.flags & SHF_EXECINSTR != 0
    }

    /// Part of the loaded image.
    #[must_use]
    pub fn is_allocated(&self) -> bool {
        self.flags & SHF_ALLOC != 0
    }

    /// Written at run time.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.flags & SHF_WRITE != 0
    }
}

/// A symbol.
///
/// ```
/// # use skep_object::image::Image;
/// #
/// # let file = std::fs::read("../../examples/packets.bpf.o")?;
/// # let image = Image::parse(&file)?;
/// let symbol = image.symbols.iter().find(|s| s.name == "packets").ok_or("none")?;
/// assert_eq!(symbol.value, 0); // where it begins in its section
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ImageSymbol<'d> {
    /// The name; not UTF-8 counts as empty.
    pub name: &'d str,
    /// `STB_*`
    pub binding: u8,
    /// `STT_*`
    pub kind: u8,
    /// `STV_*`
    pub visibility: u8,
    /// `st_shndx`: an index into [`Image::sections`], 0 if undefined, or a special value.
    pub section: u16,
    /// Byte within the section.
    pub value: u64,
    /// Size in bytes.
    pub size: u64,
}

impl ImageSymbol<'_> {
    /// `STT_NOTYPE`
    pub const UNTYPED: u8 = 0;
    /// `STT_OBJECT`
    pub const OBJECT: u8 = 1;
    /// `STT_FUNC`
    pub const FUNC: u8 = 2;
    /// `STT_SECTION`
    pub const SECTION: u8 = 3;
    /// `STB_LOCAL`
    pub const LOCAL: u8 = 0;
    /// `STB_WEAK`
    pub const WEAK: u8 = 2;
    /// `STT_FILE`
    pub const FILE: u8 = 4;
}

/// A place that depends on a symbol.
///
/// ```
/// # use skep_object::image::Image;
/// #
/// # let file = std::fs::read("../../examples/packets.bpf.o")?;
/// # let image = Image::parse(&file)?;
/// let section = image.section("xdp").ok_or("no such section")?;
/// let names = section.relocations.iter().map(|r| image.symbol_name(r.symbol));
/// assert!(names.into_iter().any(|name| name == "services"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageRelocation {
    /// Byte within the section.
    pub offset: u64,
    /// Index into [`Image::symbols`]; may be past the end.
    pub symbol: u32,
    /// `R_BPF_*`
    pub kind: u32,
    /// What is added to the symbol; 0 if the place itself holds it.
    pub addend: i64,
}

/// Name of a relocation type, as LLVM has it.
#[must_use]
pub fn relocation_name(kind: u32) -> &'static str {
    match kind {
        0 => "R_BPF_NONE",
        1 => "R_BPF_64_64",
        2 => "R_BPF_64_ABS64",
        3 => "R_BPF_64_ABS32",
        4 => "R_BPF_64_NODYLD32",
        10 => "R_BPF_64_32",
        _ => "Unknown",
    }
}

/// What the first bytes of a file say.
///
/// ```
/// use skep_object::image::ImageHeader;
///
/// let file = std::fs::read("../../examples/packets.bpf.o")?;
/// assert_eq!(ImageHeader::parse(&file)?.machine, 247); // EM_BPF
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageHeader {
    /// Byte order of everything in it.
    pub order: Order,
    /// `e_machine`
    pub machine: u16,
    /// `e_type`
    pub file_type: u16,
}

impl ImageHeader {
    /// Reads no more than the header.
    ///
    /// # Errors
    /// [`ImageError`]: not a 64-bit ELF file for BPF.
    pub fn parse(data: &[u8]) -> Result<Self, ImageError> {
        let reader = Reader::new(data)?;
        match reader.order.u16_at(data, 18) {
            EM_BPF => Ok(Self {
                order: reader.order,
                machine: EM_BPF,
                file_type: reader.order.u16_at(data, 16),
            }),
            machine => Err(ImageError::NotBpf { machine }),
        }
    }
}

impl<'d> Image<'d> {
    /// Reads a BPF object.
    ///
    /// # Errors
    /// [`ImageError`]: not a 64-bit ELF file for BPF, or something in it lies outside.
    pub fn parse(data: &'d [u8]) -> Result<Self, ImageError> {
        let image = Self::parse_any(data)?;
        match image.machine {
            EM_BPF => Ok(image),
            machine => Err(ImageError::NotBpf { machine }),
        }
    }

    /// Reads a file for any machine.
    ///
    /// # Errors
    /// [`ImageError`]: not a 64-bit ELF file, or something in it lies outside.
    pub fn parse_any(data: &'d [u8]) -> Result<Self, ImageError> {
        let reader = Reader::new(data)?;
        let mut sections = reader.sections()?;
        let symbols = |kind| match sections.iter().find(|s| s.kind == kind) {
            Some(table) => reader.symbols(table, &sections),
            None => Vec::new(),
        };
        let (symbols, dynamic_symbols) = (symbols(SHT_SYMTAB), symbols(SHT_DYNSYM));
        let mut relocation_count = 0;
        for at in 0..sections.len() {
            let table = &sections[at];
            if !matches!(table.kind, SHT_REL | SHT_RELA) {
                continue;
            }
            let (target, mut found) = (table.info as usize, reader.relocations(table));
            relocation_count += found.len();
            if relocation_count > data.len() / REL_BYTES {
                return Err(ImageError::Overlap);
            }
            let target = sections.get_mut(target);
            let target = target.ok_or(ImageError::Truncated {
                what: "the target of a relocation section",
            })?;
            target.relocations.append(&mut found);
            target.relocations.sort_by_key(|r| r.offset);
        }
        Ok(Self {
            machine: reader.order.u16_at(data, 18),
            file_type: reader.order.u16_at(data, 16),
            order: reader.order,
            segments: reader.segments()?,
            sections,
            symbols,
            dynamic_symbols,
        })
    }

    /// The byte of the file that is mapped to an address.
    #[must_use]
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        let loaded = self
            .segments
            .iter()
            .filter(|s| s.kind == ImageSegment::LOAD);
        loaded
            .filter_map(|s| {
                let into = address.checked_sub(s.address)?;
                (into < s.file_bytes).then(|| s.offset.checked_add(into))?
            })
            .next()
    }

    /// The section with this name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&ImageSection<'d>> {
        self.sections.iter().find(|s| s.name == name)
    }

    /// The name of a relocation's symbol; of a section's symbol, the name of the section.
    #[must_use]
    pub fn symbol_name(&self, index: u32) -> &'d str {
        let Some(symbol) = self.symbols.get(index as usize) else {
            return "";
        };
        if symbol.kind == ImageSymbol::SECTION && symbol.name.is_empty() {
            return self
                .sections
                .get(usize::from(symbol.section))
                .map_or("", |s| s.name);
        }
        symbol.name
    }
}

struct Reader<'d> {
    data: &'d [u8],
    order: Order,
}

impl<'d> Reader<'d> {
    fn new(data: &'d [u8]) -> Result<Self, ImageError> {
        if !data.starts_with(b"\x7fELF") {
            return Err(ImageError::NotElf);
        }
        if data.len() < HEADER_BYTES {
            return Err(ImageError::Truncated {
                what: "the ELF header",
            });
        }
        if data[4] != ELFCLASS64 {
            return Err(ImageError::NotElf64);
        }
        let order = if data[5] == 2 {
            Order::Big
        } else {
            Order::Little
        };
        Ok(Self { data, order })
    }

    fn u64(&self, bytes: &[u8], at: usize) -> u64 {
        self.order.u64_at(bytes, at)
    }

    fn slice(&self, offset: u64, size: u64, what: &'static str) -> Result<&'d [u8], ImageError> {
        let range = usize::try_from(offset).ok().zip(usize::try_from(size).ok());
        let found = range.and_then(|(at, len)| self.data.get(at..at.checked_add(len)?));
        found.ok_or(ImageError::Truncated { what })
    }

    fn sections(&self) -> Result<Vec<ImageSection<'d>>, ImageError> {
        let at = self.u64(self.data, 40);
        let mut count = u64::from(self.order.u16_at(self.data, 60));
        let mut names = usize::from(self.order.u16_at(self.data, 62));
        if at == 0 {
            return Ok(Vec::new());
        }
        // Numbers that need more than 16 bits stand in the first section.
        let first = self.slice(at, SECTION_HEADER_BYTES as u64, "the section headers")?;
        if count == 0 {
            count = self.u64(first, 32);
        }
        if names == usize::from(SHN_XINDEX) {
            names = self.order.u32_at(first, 40) as usize;
        }
        let size = count.saturating_mul(SECTION_HEADER_BYTES as u64);
        let headers = self.slice(at, size, "the section headers")?;
        let headers = headers.as_chunks::<SECTION_HEADER_BYTES>().0;
        let mut sections = Vec::with_capacity(headers.len());
        for header in headers {
            sections.push(self.section(header)?);
        }
        let strings = sections.get(names).map_or(&[][..], |s| s.data);
        for (section, header) in sections.iter_mut().zip(headers) {
            section.name = string(strings, self.order.u32_at(header, 0));
        }
        Ok(sections)
    }

    /// A section, still without its name.
    fn section(&self, header: &[u8]) -> Result<ImageSection<'d>, ImageError> {
        let kind = self.order.u32_at(header, 4);
        let size = self.u64(header, 32);
        let data = if matches!(kind, 0 | SHT_NOBITS) {
            &[][..]
        } else {
            self.slice(self.u64(header, 24), size, "a section")?
        };
        Ok(ImageSection {
            name: "",
            kind,
            flags: self.u64(header, 8),
            data,
            size,
            address: self.u64(header, 16),
            offset: self.u64(header, 24),
            align: self.u64(header, 48),
            entry_bytes: self.u64(header, 56),
            relocations: Vec::new(),
            link: self.order.u32_at(header, 40),
            info: self.order.u32_at(header, 44),
        })
    }

    fn segments(&self) -> Result<Vec<ImageSegment>, ImageError> {
        let (at, count) = (self.u64(self.data, 32), self.order.u16_at(self.data, 56));
        let bytes = u64::from(count) * SEGMENT_BYTES as u64;
        let rows = self.slice(at, bytes, "the program headers")?;
        let rows = rows.as_chunks::<SEGMENT_BYTES>().0.iter();
        Ok(rows
            .map(|row| ImageSegment {
                kind: self.order.u32_at(row, 0),
                flags: self.order.u32_at(row, 4),
                offset: self.u64(row, 8),
                address: self.u64(row, 16),
                file_bytes: self.u64(row, 32),
            })
            .collect())
    }

    fn symbols(
        &self,
        table: &ImageSection<'d>,
        sections: &[ImageSection<'d>],
    ) -> Vec<ImageSymbol<'d>> {
        let strings = sections
            .get(table.link as usize)
            .map_or(&[][..], |s| s.data);
        let rows = table.data.as_chunks::<SYMBOL_BYTES>().0;
        rows.iter()
            .map(|row| ImageSymbol {
                name: string(strings, self.order.u32_at(row, 0)),
                binding: row[4] >> 4,
                kind: row[4] & 0xf,
                visibility: row[5] & 3,
                section: self.order.u16_at(row, 6),
                value: self.u64(row, 8),
                size: self.u64(row, 16),
            })
            .collect()
    }

    fn relocations(&self, table: &ImageSection<'d>) -> Vec<ImageRelocation> {
        let has_addend = table.kind == SHT_RELA;
        let bytes = if has_addend { RELA_BYTES } else { REL_BYTES };
        let rows = table.data.chunks_exact(bytes);
        rows.map(|row| {
            let info = self.u64(row, 8);
            ImageRelocation {
                offset: self.u64(row, 0),
                symbol: (info >> 32) as u32,
                kind: info as u32,
                addend: if has_addend {
                    self.u64(row, 16).cast_signed()
                } else {
                    0
                },
            }
        })
        .collect()
    }
}

/// The zero-terminated string at `at`; empty if there is none, or it is not UTF-8.
fn string(strings: &[u8], at: u32) -> &str {
    let rest = strings.get(at as usize..).unwrap_or(&[]);
    let len = rest.iter().position(|b| *b == 0).unwrap_or(0);
    std::str::from_utf8(&rest[..len]).unwrap_or("")
}
