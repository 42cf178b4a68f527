//! Symbols that meet by name, and what refers to them.

use super::sections::Layout;
use super::{CombineError, File};
use crate::image::{ImageRelocation, ImageSymbol, add_at};
use skep_btf::Order;
use skep_isa::asm::{Binding, Relocation, RelocationKind, RelocationTarget, Symbol, SymbolKind};
use std::collections::{BTreeMap, HashMap};

/// Bytes of a slot, which calls count in.
const SLOT_BYTES: u64 = 8;
/// Byte of a slot where its immediate stands.
const IMM_OFFSET: u64 = 4;

/// Kinds of relocation that are moved.
const KINDS: &[RelocationKind] = &[
    RelocationKind::Wide,
    RelocationKind::Abs64,
    RelocationKind::Abs32,
    RelocationKind::Call,
];

/// The symbols of the whole, and what those of each file became.
pub(super) struct Symbols {
    pub(super) symbols: Vec<Symbol>,
    /// Those that files share, by name.
    pub(super) shared: BTreeMap<String, Shared>,
    /// By file: what each symbol that something refers to became, and what is added to it.
    targets: Vec<HashMap<u32, (RelocationTarget, u64)>>,
}

/// A symbol that files share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shared {
    /// Its place in the list.
    pub(super) at: usize,
    /// The file that defines it, else the first that needs it.
    pub(super) file: usize,
}

/// Joins the symbols of all files.
pub(super) fn join(files: &[File<'_>], layout: &Layout) -> Result<Symbols, CombineError> {
    let mut joined = Symbols {
        symbols: Vec::new(),
        shared: BTreeMap::new(),
        targets: Vec::new(),
    };
    for (at, file) in files.iter().enumerate() {
        let mut targets = HashMap::new();
        let used = used(file, at, layout);
        for (index, symbol) in (0u32..).zip(&file.image.symbols) {
            let needed = used.contains(&index);
            if let Some(target) = joined.enter(files, at, symbol, needed, layout)? {
                targets.insert(index, target);
            }
        }
        joined.targets.push(targets);
    }
    Ok(joined)
}

/// The symbols that relocations of a file name.
fn used(file: &File<'_>, at: usize, layout: &Layout) -> std::collections::HashSet<u32> {
    let sections = file.image.sections.iter().enumerate();
    let kept = sections.filter(|(index, _)| layout.place(at, *index).is_some());
    let relocations = kept.flat_map(|(_, section)| &section.relocations);
    relocations.map(|r| r.symbol).collect()
}

impl Symbols {
    /// What a symbol becomes; `None` for one that is left out.
    fn enter(
        &mut self,
        files: &[File<'_>],
        file: usize,
        symbol: &ImageSymbol<'_>,
        needed: bool,
        layout: &Layout,
    ) -> Result<Option<(RelocationTarget, u64)>, CombineError> {
        let section = usize::from(symbol.section);
        let place = layout.place(file, section);
        if let Some(place) = place.filter(|p| p.again || symbol.kind == ImageSymbol::SECTION) {
            let value = if place.again { symbol.value } else { 0 };
            let target = RelocationTarget::Section(place.section);
            return Ok(Some((target, place.shift.saturating_add(value))));
        }
        let is_undefined = section == 0;
        if symbol.kind == ImageSymbol::FILE
            || symbol.kind == ImageSymbol::SECTION
            || symbol.name.is_empty()
            || (place.is_none() && !is_undefined)
        {
            return Ok(None);
        }
        let found = Symbol {
            name: symbol.name.to_owned(),
            binding: match symbol.binding {
                ImageSymbol::LOCAL => Binding::Local,
                ImageSymbol::WEAK => Binding::Weak,
                _ => Binding::Global,
            },
            kind: match symbol.kind {
                ImageSymbol::OBJECT => SymbolKind::Object,
                ImageSymbol::FUNC => SymbolKind::Function,
                _ => SymbolKind::Label,
            },
            is_hidden: symbol.visibility != 0,
            place: place.map(|p| (p.section, p.shift.saturating_add(symbol.value))),
            size: symbol.size,
        };
        if found.binding != Binding::Local {
            let at = self.share(files, file, found)?;
            return Ok(Some((RelocationTarget::Symbol(at), 0)));
        }
        if found.kind == SymbolKind::Label && !needed {
            return Ok(None);
        }
        self.symbols.push(found);
        let at = self.symbols.len() - 1;
        Ok(Some((RelocationTarget::Symbol(at), 0)))
    }

    /// Enters a symbol that other files see.
    fn share(
        &mut self,
        files: &[File<'_>],
        file: usize,
        found: Symbol,
    ) -> Result<usize, CombineError> {
        let Some(known) = self.shared.get_mut(&found.name) else {
            let at = self.symbols.len();
            self.shared.insert(found.name.clone(), Shared { at, file });
            self.symbols.push(found);
            return Ok(at);
        };
        let symbol = &mut self.symbols[known.at];
        let is_hidden = symbol.is_hidden || found.is_hidden;
        let is_weak = |s: &Symbol| s.binding == Binding::Weak;
        let replaces = match (symbol.place, found.place) {
            (Some(_), Some(_)) if !is_weak(symbol) && !is_weak(&found) => {
                return Err(CombineError::Twice {
                    symbol: found.name,
                    files: [files[known.file].name, files[file].name].map(str::to_owned),
                });
            }
            (Some(_), Some(_)) => is_weak(symbol) && !is_weak(&found),
            (None, Some(_)) => true,
            // Who needs it without fail decides.
            (None, None) => is_weak(symbol) && !is_weak(&found),
            (Some(_), None) => false,
        };
        if replaces {
            *symbol = found;
            known.file = file;
        }
        symbol.is_hidden = is_hidden;
        Ok(known.at)
    }
}

/// Moves the relocations of all files, and what stands in their places.
pub(super) fn relocate(
    files: &[File<'_>],
    layout: &mut Layout,
    symbols: &Symbols,
    order: Order,
) -> Result<(), CombineError> {
    for (at, file) in files.iter().enumerate() {
        for (index, section) in file.image.sections.iter().enumerate() {
            let Some(place) = layout.place(at, index).filter(|p| !p.again) else {
                continue;
            };
            for relocation in &section.relocations {
                let target = symbols.targets[at].get(&relocation.symbol).copied();
                let joined = &mut layout.sections[place.section];
                let moved = target.and_then(|target| {
                    let offset = relocation.offset.checked_add(place.shift)?;
                    moved(relocation, offset, target, &mut joined.data, order)
                });
                let moved = moved.ok_or_else(|| CombineError::Relocation {
                    file: file.name.to_owned(),
                    section: section.name.to_owned(),
                    offset: relocation.offset,
                })?;
                joined.relocations.push(moved);
            }
        }
    }
    Ok(())
}

/// The relocation at its new place; what it adds to a section's beginning grows with the section. `None` if it cannot be followed.
fn moved(
    relocation: &ImageRelocation,
    offset: u64,
    (target, shift): (RelocationTarget, u64),
    data: &mut [u8],
    order: Order,
) -> Option<Relocation> {
    let kind = *KINDS.iter().find(|k| **k as u32 == relocation.kind)?;
    let (start, shift) = match kind {
        RelocationKind::Wide => (offset.checked_add(IMM_OFFSET)?, shift),
        RelocationKind::Call => (offset.checked_add(IMM_OFFSET)?, shift / SLOT_BYTES),
        RelocationKind::Abs64 | RelocationKind::Abs32 | RelocationKind::NoDyld32 => (offset, shift),
    };
    let is_wide = kind == RelocationKind::Abs64;
    add_at(data, usize::try_from(start).ok()?, is_wide, order, shift)?;
    Some(Relocation {
        offset,
        target,
        kind,
    })
}
