//! What the assembler knows while it reads lines.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::error::Problem;
use super::insn::{Statement, SymbolName, SymbolRef};
use super::output::{Binding, MapDef, Section, SymbolKind};
use super::{Endian, Facts, MAX_SECTION_BYTES, MAX_SECTIONS, MAX_SYMBOLS, Options};
use crate::encode::encode;
use crate::insn::Insn;
use crate::slot::Slot;

/// Nesting of `.pushsection`.
const MAX_SECTION_STACK: usize = 64;

/// A symbol or label while lines are read.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) binding: Binding,
    pub(super) kind: Option<SymbolKind>,
    pub(super) is_hidden: bool,
    pub(super) place: Option<(usize, u64)>,
    pub(super) size: Option<Expr>,
    /// Something refers to it, so it exists even if undefined.
    pub(super) is_used: bool,
    /// It is the target of a call.
    pub(super) is_called: bool,
}

impl Entry {
    /// Private labels take part in no symbol table: `.L…`, and what clang calls its basic blocks.
    pub(super) fn is_private(&self) -> bool {
        let name = &self.name;
        name.starts_with(".L")
            || name
                .strip_prefix("LBB")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    }
}

/// `plus - minus + constant`, at a line and column.
#[derive(Clone, Debug)]
pub(super) struct Expr {
    pub(super) plus: Option<usize>,
    pub(super) minus: Option<usize>,
    pub(super) constant: i128,
    pub(super) line: u32,
    pub(super) column: u32,
}

/// A place to complete when all symbols are known.
pub(super) enum FixupKind {
    /// The instruction's offset, distance or immediate.
    Insn(Insn),
    /// `bytes` bytes of data.
    Data { bytes: usize },
    /// An `R_BPF_…` line of a listing: the relocation is as given.
    Listed(super::output::RelocationKind),
}

pub(super) struct Fixup {
    pub(super) section: usize,
    pub(super) offset: u64,
    pub(super) kind: FixupKind,
    pub(super) expr: Expr,
}

pub(super) struct State<'f> {
    pub(super) facts: &'f dyn Facts,
    pub(super) endian: Endian,
    /// The line being read, from 1.
    pub(super) line: u32,
    pub(super) sections: Vec<Section>,
    /// Index of the current section; `None` within one that is skipped.
    pub(super) current: Option<usize>,
    previous: Option<usize>,
    stack: Vec<Option<usize>>,
    pub(super) symbols: Vec<Entry>,
    by_name: BTreeMap<String, usize>,
    /// How often each numeric label was defined.
    locals: BTreeMap<u32, u32>,
    /// How many `.` were used.
    heres: u32,
    pub(super) fixups: Vec<Fixup>,
    pub(super) maps: Vec<MapDef>,
    /// True after the line that starts an llvm-objdump listing.
    pub(super) in_listing: bool,
}

impl<'f> State<'f> {
    pub(super) fn new(options: &Options<'f>) -> Self {
        let mut state = Self {
            facts: options.facts,
            endian: options.endian,
            line: 0,
            sections: Vec::new(),
            current: None,
            previous: None,
            stack: Vec::new(),
            symbols: Vec::new(),
            by_name: BTreeMap::new(),
            locals: BTreeMap::new(),
            heres: 0,
            fixups: Vec::new(),
            maps: Vec::new(),
            in_listing: false,
        };
        state.sections.push(Section::by_name(options.section));
        state.current = Some(0);
        state
    }

    /// True within a section whose contents are left out.
    pub(super) fn skips(&self) -> bool {
        self.current.is_none()
    }

    /// The index of the section with this name, made with `make` if there is none.
    pub(super) fn section(
        &mut self,
        name: &str,
        make: impl FnOnce(&str) -> Section,
    ) -> Result<usize, Problem> {
        if let Some(at) = self.sections.iter().position(|s| s.name == name) {
            return Ok(at);
        }
        if self.sections.len() >= MAX_SECTIONS {
            let (what, limit) = ("sections", MAX_SECTIONS);
            return Err(Problem::TooMany { what, limit });
        }
        self.sections.push(make(name));
        Ok(self.sections.len() - 1)
    }

    pub(super) fn enter(&mut self, section: Option<usize>) {
        self.previous = self.current;
        self.current = section;
    }

    pub(super) fn push_section(&mut self) -> Result<(), Problem> {
        if self.stack.len() >= MAX_SECTION_STACK {
            let (what, limit) = ("nested `.pushsection`", MAX_SECTION_STACK);
            return Err(Problem::TooMany { what, limit });
        }
        self.stack.push(self.current);
        Ok(())
    }

    /// False if there was no `.pushsection`.
    pub(super) fn pop_section(&mut self) -> bool {
        let Some(section) = self.stack.pop() else {
            return false;
        };
        self.enter(section);
        true
    }

    pub(super) fn enter_previous(&mut self) {
        let previous = self.previous;
        self.enter(previous);
    }

    /// Section and byte offset of what comes next; `None` within a section that is skipped.
    pub(super) fn here(&self) -> Option<(usize, u64)> {
        let at = self.current?;
        let len = self.sections.get(at)?.data.len();
        Some((at, len as u64))
    }

    /// The index of the symbol with this name; it need not be defined yet.
    pub(super) fn symbol(&mut self, name: &str) -> Result<usize, Problem> {
        if let Some(&at) = self.by_name.get(name) {
            return Ok(at);
        }
        if self.symbols.len() >= MAX_SYMBOLS {
            let (what, limit) = ("symbols", MAX_SYMBOLS);
            return Err(Problem::TooMany { what, limit });
        }
        self.symbols.push(Entry {
            name: name.to_string(),
            binding: Binding::Local,
            kind: None,
            is_hidden: false,
            place: None,
            size: None,
            is_used: false,
            is_called: false,
        });
        let at = self.symbols.len() - 1;
        self.by_name.insert(name.to_string(), at);
        Ok(at)
    }

    /// Defines a label here.
    pub(super) fn define(&mut self, name: &str) -> Result<(), Problem> {
        let Some(here) = self.here() else {
            return Ok(());
        };
        let at = self.symbol(name)?;
        let entry = &mut self.symbols[at];
        if entry.place.is_some() {
            return Err(Problem::Duplicate(name.to_string()));
        }
        entry.place = Some(here);
        Ok(())
    }

    /// Defines a numeric label here, which may repeat.
    pub(super) fn define_local(&mut self, number: u64) -> Result<(), Problem> {
        if self.skips() {
            return Ok(());
        }
        let number = super::cursor::fit(number.into(), "label")?;
        let count = self.locals.entry(number).or_default();
        *count += 1;
        let name = local_name(number, *count);
        self.define(&name)
    }

    /// The symbol that `.` means: a private label here.
    pub(super) fn here_symbol(&mut self) -> Result<usize, Problem> {
        self.heres += 1;
        let name = format!(".Lhere {}", self.heres);
        self.define(&name)?;
        self.symbol(&name)
    }

    /// The symbol that a reference names; it then counts as used.
    pub(super) fn refer(&mut self, name: &SymbolName) -> Result<usize, Problem> {
        let at = match name {
            SymbolName::Named(name) => self.symbol(name)?,
            &SymbolName::Local { number, forward } => {
                let count = self.locals.get(&number).copied().unwrap_or(0);
                if count == 0 && !forward {
                    return Err(Problem::Undefined(format!("{number}b")));
                }
                self.symbol(&local_name(number, count + u32::from(forward)))?
            }
        };
        self.symbols[at].is_used = true;
        Ok(at)
    }

    /// Appends bytes to the current section.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let Some(at) = self.current else {
            return Ok(());
        };
        let section = &mut self.sections[at];
        let len = (section.data.len() as u64).saturating_add(bytes.len() as u64);
        if len > MAX_SECTION_BYTES {
            return Err(Problem::SectionTooLarge);
        }
        section.data.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends `count` bytes of `value`.
    pub(super) fn fill(&mut self, count: u64, value: u8) -> Result<(), Problem> {
        let Some(at) = self.current else {
            return Ok(());
        };
        let section = &mut self.sections[at];
        let len = (section.data.len() as u64).saturating_add(count);
        if len > MAX_SECTION_BYTES {
            return Err(Problem::SectionTooLarge);
        }
        let len = usize::try_from(len).map_err(|_| Problem::SectionTooLarge)?;
        section.data.resize(len, value);
        Ok(())
    }

    pub(super) fn slot_bytes(&self, slot: Slot) -> [u8; 8] {
        match self.endian {
            Endian::Little => slot.to_le_bytes(),
            Endian::Big => slot.to_be_bytes(),
        }
    }

    /// Appends an instruction, with a fixup if it has a symbol.
    pub(super) fn emit(&mut self, statement: &Statement) -> Result<(), Problem> {
        let Some((section, offset)) = self.here() else {
            return Ok(());
        };
        if !self.sections[section].is_executable {
            let name = self.sections[section].name.clone();
            return Err(Problem::NotExecutable(name));
        }
        if !offset.is_multiple_of(8) {
            return Err(Problem::Misaligned);
        }
        if let Some(symbol) = &statement.symbol {
            self.add_insn_fixup(section, offset, statement.insn, symbol)?;
        }
        for slot in encode(&statement.insn) {
            self.append(&self.slot_bytes(slot))?;
        }
        Ok(())
    }

    fn add_insn_fixup(
        &mut self,
        section: usize,
        offset: u64,
        insn: Insn,
        symbol: &SymbolRef,
    ) -> Result<(), Problem> {
        let at = self.refer(&symbol.name)?;
        if matches!(insn, Insn::Call(_)) {
            self.symbols[at].is_called = true;
        }
        let expr = Expr {
            plus: Some(at),
            minus: None,
            constant: symbol.addend.into(),
            line: self.line,
            column: symbol.column,
        };
        let kind = FixupKind::Insn(insn);
        self.fixups.push(Fixup {
            section,
            offset,
            kind,
            expr,
        });
        Ok(())
    }
}

fn local_name(number: u32, count: u32) -> String {
    format!(".Llocal {number} {count}")
}

impl Section {
    /// A section with the attributes that its name implies: what is not known as data holds a program.
    pub(super) fn by_name(name: &str) -> Self {
        let is = |prefix: &str| {
            let rest = name.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let is_zeros = is(".bss");
        let is_constant = is(".rodata");
        let is_variable =
            is(".data") || is_zeros || matches!(name, ".maps" | "maps" | "license" | "version");
        let is_meta = name.starts_with('.') && !is(".text") && !is_constant && !is_variable;
        let is_code = !is_zeros && !is_constant && !is_variable && !is_meta;
        Self {
            name: name.to_string(),
            is_allocated: !is_meta,
            is_writable: is_variable,
            is_executable: is_code,
            is_nobits: is_zeros,
            align: match name {
                _ if is_code => 8,
                ".BTF" | ".BTF.ext" => 4,
                _ => 1,
            },
            ..Self::default()
        }
    }
}
