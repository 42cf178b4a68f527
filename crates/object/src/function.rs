//! Code sections, cut into functions.

use crate::elf::{Elf, Section, SectionKind, Symbol, SymbolKind};
use crate::error::ObjectError;
use skep_isa::Slot;

/// Bytes of a slot.
pub(crate) const SLOT_BYTES: usize = 8;

/// A function as it stands in its section.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// ELF index of its section.
    pub(crate) section: usize,
    pub(crate) section_name: String,
    /// First slot in the section.
    pub(crate) start: usize,
    pub(crate) insns: Vec<Slot>,
    /// (slot in the function, symbol), ordered.
    pub(crate) relocs: Vec<(usize, usize)>,
    /// Visible to other objects, or static.
    pub(crate) global: bool,
}

impl Function {
    /// It is called by others and never attached: everything in `.text`, and static functions.
    pub(crate) fn is_subprog(&self) -> bool {
        self.section_name == TEXT || !self.global
    }
}

/// The section of functions that are not attached themselves.
pub(crate) const TEXT: &str = ".text";

/// All functions of the object, ordered by section and place.
pub(crate) fn collect(elf: &Elf<'_>) -> Result<Vec<Function>, ObjectError> {
    let mut functions = Vec::new();
    for (index, section) in elf.sections.iter().enumerate() {
        if section.kind != SectionKind::Code || section.data.is_empty() {
            continue;
        }
        if !section.data.len().is_multiple_of(SLOT_BYTES) {
            let what = format!("section {}: not a whole number of slots", section.name);
            return Err(ObjectError::Damaged(what));
        }
        let first = functions.len();
        functions.extend(of_section(elf, index, section)?);
        assign_relocs(section, &mut functions[first..])?;
    }
    Ok(functions)
}

/// Symbols that begin functions: typed ones, else untyped global ones.
fn starts<'e, 'a>(elf: &'e Elf<'a>, section: usize) -> Vec<&'e Symbol<'a>> {
    let inside = |s: &&Symbol<'_>| s.section == Some(section) && !s.name.is_empty();
    let typed = |s: &&Symbol<'_>| s.kind == SymbolKind::Function;
    let untyped = |s: &&Symbol<'_>| s.kind == SymbolKind::Untyped && !s.local;
    let all = || elf.symbols.iter().filter(inside);
    let mut found: Vec<_> = all().filter(typed).collect();
    if found.is_empty() {
        found = all().filter(untyped).collect();
    }
    // Of several names for one place the first global one counts.
    found.sort_by_key(|s| (s.value, s.local));
    found.dedup_by_key(|s| s.value);
    found
}

fn of_section(
    elf: &Elf<'_>,
    index: usize,
    section: &Section<'_>,
) -> Result<Vec<Function>, ObjectError> {
    let symbols = starts(elf, index);
    if symbols.is_empty() {
        let name = section.name.trim_start_matches('?').replace('/', "_");
        let whole = 0..section.data.len();
        return Ok(vec![function(section, index, &name, whole, true)]);
    }
    let mut functions = Vec::with_capacity(symbols.len());
    for (i, symbol) in symbols.iter().enumerate() {
        let next = symbols.get(i + 1).map(|s| s.value);
        let end = match symbol.size {
            0 => next.unwrap_or(section.size),
            size => symbol.value.saturating_add(size),
        };
        let range = usize::try_from(symbol.value)
            .ok()
            .zip(usize::try_from(end).ok())
            .filter(|&(start, end)| start < end && end <= section.data.len())
            .filter(|&(start, end)| (start | end).is_multiple_of(SLOT_BYTES));
        let Some((start, end)) = range else {
            let what = "its symbol does not cover whole slots of its section";
            return Err(ObjectError::program(symbol.name, what));
        };
        functions.push(function(
            section,
            index,
            symbol.name,
            start..end,
            !symbol.local,
        ));
    }
    Ok(functions)
}

/// Code as slots, in the byte order of this machine; an incomplete slot at the end is left out.
pub(crate) fn slots(code: &[u8]) -> Vec<Slot> {
    let read = if cfg!(target_endian = "big") {
        Slot::from_be_bytes
    } else {
        Slot::from_le_bytes
    };
    let (slots, _) = code.as_chunks();
    slots.iter().map(|b| read(*b)).collect()
}

fn function(
    section: &Section<'_>,
    index: usize,
    name: &str,
    bytes: std::ops::Range<usize>,
    global: bool,
) -> Function {
    Function {
        name: name.to_owned(),
        section: index,
        section_name: section.name.to_owned(),
        start: bytes.start / SLOT_BYTES,
        insns: slots(&section.data[bytes]),
        relocs: Vec::new(),
        global,
    }
}

fn assign_relocs(section: &Section<'_>, functions: &mut [Function]) -> Result<(), ObjectError> {
    for reloc in &section.relocs {
        let slot = usize::try_from(reloc.offset / SLOT_BYTES as u64).unwrap_or(usize::MAX);
        if !reloc.offset.is_multiple_of(SLOT_BYTES as u64) {
            let what = format!(
                "section {}: relocation inside a slot, at byte {}",
                section.name, reloc.offset
            );
            return Err(ObjectError::Damaged(what));
        }
        let after = functions.partition_point(|f| f.start <= slot);
        let Some(function) = after.checked_sub(1).map(|i| &mut functions[i]) else {
            continue;
        };
        if slot - function.start < function.insns.len() {
            function.relocs.push((slot - function.start, reloc.symbol));
        }
    }
    Ok(())
}
