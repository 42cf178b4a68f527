//! Sections of one name, one after the other.

use super::{CombineError, File, SECTION_BYTES_MAX};
use crate::image::ImageSection;
use skep_isa::asm::Section;

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
        let known = self.sections.iter().position(|s| s.name == section.name);
        let at = known.unwrap_or(self.sections.len());
        if known.is_none() {
            self.sections.push(begin(section));
        }
        let joined = &mut self.sections[at];
        let differs = |why| file.section(section.name, why);
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
        let shift = (joined.data.len() as u64).next_multiple_of(align);
        let end = shift.saturating_add(section.size);
        if end > SECTION_BYTES_MAX {
            return Err(differs("longer than 64 MiB"));
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
