//! Sections of one name, one after the other.

use super::{ALL_BYTES_MAX, CombineError, File, SECTION_BYTES_MAX};
use crate::image::ImageSection;
use skep_isa::asm::{MAX_SECTIONS, Section};

const PROGBITS: u32 = 1;
const NOBITS: u32 = 8;
const SHF_MERGE: u64 = 0x10;
const SHF_STRINGS: u64 = 0x20;
/// Bytes of a slot: code begins at a multiple.
const SLOT_BYTES: u64 = 8;
/// Alignments beyond a page say nothing to a loader.
const ALIGN_MAX: u64 = 4096;

/// Sections that say something of the whole object: they must be equal, and stay as they are.
const COMMON: &[&str] = &["license", "version"];
/// Sections that are made anew.
const REMADE: &[&str] = &[".BTF", ".BTF.ext"];

/// Where a section of a file went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Its section in the whole.
    pub(super) section: usize,
    /// Byte of that section where it begins.
    pub(super) shift: u64,
    /// An equal section was there already, so that its symbols are not needed.
    pub(super) again: bool,
}

/// The sections of the whole, and where those of each file went.
pub(super) struct Layout {
    pub(super) sections: Vec<Section>,
    /// By file and section index.
    places: Vec<Vec<Option<Place>>>,
    /// Bytes of all sections.
    bytes: u64,
}

impl Layout {
    /// Where a section of a file went; `None` for one that is left out.
    pub(super) fn place(&self, file: usize, section: usize) -> Option<Place> {
        *self.places.get(file)?.get(section)?
    }

    /// The section with this name.
    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name)
    }
}

/// Does a section say anything to a loader?
fn is_wanted(section: &ImageSection<'_>) -> bool {
    let is_content = matches!(section.kind, PROGBITS | NOBITS);
    let is_empty_text = section.name == ".text" && section.size == 0;
    is_content
        && !section.name.is_empty()
        && !is_empty_text
        && !section.name.starts_with(".debug_")
        && !REMADE.contains(&section.name)
}

/// Joins the sections of all files.
pub(super) fn join(files: &[File<'_>]) -> Result<Layout, CombineError> {
    let mut layout = Layout {
        sections: Vec::new(),
        places: Vec::new(),
        bytes: 0,
    };
    for file in files {
        let mut places = Vec::new();
        for section in &file.image.sections {
            let place = is_wanted(section).then(|| layout.append(file, section));
            places.push(place.transpose()?);
        }
        layout.places.push(places);
    }
    Ok(layout)
}

impl Layout {
    fn append(
        &mut self,
        file: &File<'_>,
        section: &ImageSection<'_>,
    ) -> Result<Place, CombineError> {
        let differs = |why| file.section(section.name, why);
        let known = self.sections.iter().position(|s| s.name == section.name);
        let at = known.unwrap_or(self.sections.len());
        if at == MAX_SECTIONS {
            return Err(differs("there are more than 4096 sections"));
        }
        if known.is_none() {
            self.sections.push(begin(section));
        }
        let joined = &mut self.sections[at];
        if joined.is_executable != section.is_executable() {
            return Err(differs("code in one object, data in another"));
        }
        if known.is_some() && COMMON.contains(&section.name) {
            if joined.data != section.data {
                return Err(differs("the objects do not agree"));
            }
            return Ok(Place {
                section: at,
                shift: 0,
                again: true,
            });
        }
        let align = match section.align {
            _ if section.is_executable() => SLOT_BYTES,
            align if align.is_power_of_two() && align <= ALIGN_MAX => align,
            0 => 1,
            _ => return Err(differs("its alignment is no power of two up to 4096")),
        };
        let before = joined.data.len() as u64;
        let shift = before.next_multiple_of(align);
        let end = shift.saturating_add(section.size);
        if end > SECTION_BYTES_MAX {
            return Err(differs("longer than 64 MiB"));
        }
        self.bytes += end - before;
        if self.bytes > ALL_BYTES_MAX {
            return Err(differs("all sections together are longer than 256 MiB"));
        }
        joined.align = joined.align.max(align);
        joined.is_writable |= section.is_writable();
        joined.is_allocated |= section.is_allocated();
        joined.is_nobits &= section.kind == NOBITS;
        joined.data.resize(shift as usize, 0);
        joined.data.extend_from_slice(section.data);
        // What the file does not store is zero.
        joined.data.resize(end as usize, 0);
        Ok(Place {
            section: at,
            shift,
            again: false,
        })
    }
}

/// An empty section of this kind.
fn begin(section: &ImageSection<'_>) -> Section {
    Section {
        name: section.name.to_owned(),
        is_allocated: section.is_allocated(),
        is_writable: section.is_writable(),
        is_executable: section.is_executable(),
        is_mergeable: section.flags & SHF_MERGE != 0,
        is_strings: section.flags & SHF_STRINGS != 0,
        is_nobits: section.kind == NOBITS,
        entry_bytes: section.entry_bytes,
        align: 1,
        ..Section::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Input, combine};
    use super::*;
    use skep_isa::asm::Assembly;

    /// An object of `count` sections, each of which says to be of `bytes` zeros.
    fn zeros(count: usize, bytes: u64) -> Vec<u8> {
        let sections = (0..count).map(|i| Section {
            name: format!(".bss.{i}"),
            is_allocated: true,
            is_nobits: true,
            data: vec![0],
            align: 1,
            ..Section::default()
        });
        let assembly = Assembly {
            sections: sections.collect(),
            ..Assembly::default()
        };
        let mut file = crate::write::write(&assembly).unwrap();
        let word = |at: usize| u64::from_le_bytes(*file[at..].first_chunk().unwrap());
        let headers = usize::try_from(word(40)).unwrap();
        // The size of each section's header, behind that of the empty one.
        for i in 1..=count {
            let size = headers + 64 * i + 32;
            file[size..size + 8].copy_from_slice(&bytes.to_le_bytes());
        }
        file
    }

    #[test]
    fn sections_that_ask_for_all_memory_are_refused() {
        let refused = |count, bytes| {
            let bytes = zeros(count, bytes);
            let name = "zeros";
            combine(&[Input {
                name,
                bytes: &bytes,
            }])
            .map_err(|e| e.to_string())
        };
        assert!(refused(3, 100).is_ok());
        let all = refused(5, SECTION_BYTES_MAX).unwrap_err();
        assert!(all.contains("256 MiB"), "{all}");
        let one = refused(1, SECTION_BYTES_MAX + 1).unwrap_err();
        assert!(one.contains("64 MiB"), "{one}");
        let many = refused(MAX_SECTIONS + 1, 1).unwrap_err();
        assert!(many.contains("4096"), "{many}");
    }
}
