//! Listings of code, line for line as `llvm-objdump -d -r` prints them.

use crate::error::CliError;
use crate::output::Output;
use serde_json::{Map, Value, json};
use skep_btf::{Btf, Ext, LineInfo, Order};
use skep_isa::{DecodeError, Insn, Names, Slot, Style, Text, insns};
use skep_object::image::{Image, ImageSection, ImageSymbol, relocation_name};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// A section of code.
#[derive(Default)]
pub(crate) struct Code {
    /// The section's name, empty for raw instructions.
    pub(crate) section: String,
    /// The instructions.
    slots: Vec<Slot>,
    /// The same as they stand in the file.
    bytes: Vec<u8>,
    /// Symbols by byte; of several at one byte the one to show.
    symbols: BTreeMap<u64, String>,
    /// Byte, type and symbol of relocations.
    relocations: Vec<(u64, &'static str, String)>,
    /// Source lines by byte.
    lines: BTreeMap<u64, SourceLine>,
}

/// Where an instruction comes from.
pub(crate) struct SourceLine {
    /// The file.
    pub(crate) file: String,
    /// Line, from 1.
    pub(crate) line: u32,
    /// Column, from 1; 0 if it is not known.
    pub(crate) column: u32,
    /// The line itself; empty if the object does not hold it.
    pub(crate) text: String,
}

impl SourceLine {
    /// `line:column`, or the line alone if the column is not known.
    fn place(&self) -> String {
        match self.column {
            0 => self.line.to_string(),
            column => format!("{}:{column}", self.line),
        }
    }
}

impl Code {
    /// Code without an object around it.
    pub(crate) fn of_slots(slots: Vec<Slot>, bytes: &[u8]) -> Self {
        Self {
            slots,
            bytes: bytes.to_vec(),
            ..Self::default()
        }
    }

    /// The code of an object, section by section.
    pub(crate) fn of_image(image: &Image<'_>) -> Vec<Self> {
        let mut lines = source_lines(image);
        let all = image.sections.iter().enumerate();
        let code = all.filter(|(_, s)| s.is_executable() && !s.data.is_empty());
        code.map(|(at, section)| Self {
            lines: lines.remove(section.name).unwrap_or_default(),
            ..Self::of_section(image, at, section)
        })
        .collect()
    }

    fn of_section(image: &Image<'_>, at: usize, section: &ImageSection<'_>) -> Self {
        let read = match image.order {
            Order::Little => Slot::from_le_bytes,
            Order::Big => Slot::from_be_bytes,
        };
        let (slots, _) = section.data.as_chunks::<8>();
        let relocations = section.relocations.iter().map(|r| {
            let symbol = image.symbol_name(r.symbol).to_owned();
            (r.offset, relocation_name(r.kind), symbol)
        });
        Self {
            section: section.name.to_owned(),
            slots: slots.iter().map(|b| read(*b)).collect(),
            bytes: section.data.to_vec(),
            symbols: symbols(image, at, section.name),
            relocations: relocations.collect(),
            lines: BTreeMap::new(),
        }
    }

    /// The symbol at or before a byte, as `name` or `name+0x8`. Distances wrap, as llvm-objdump's do.
    fn place(&self, byte: u64) -> Option<String> {
        let (start, name) = self.symbols.range(..=byte).next_back()?;
        match byte - start {
            0 => Some(name.clone()),
            distance => Some(format!("{name}+{distance:#x}")),
        }
    }

    /// The slots that jumps of the section lead to, within it.
    fn targets(&self) -> BTreeSet<usize> {
        let target = |(at, insn): (usize, Result<Insn, _>)| target(at, &insn.ok()?);
        let targets = insns(&self.slots).filter_map(target);
        let targets = targets.filter_map(|target| usize::try_from(target).ok());
        targets
            .filter(|target| *target < self.slots.len())
            .collect()
    }
}

/// Source lines by section and byte, from `.BTF.ext`; none if there is none that can be read.
fn source_lines(image: &Image<'_>) -> BTreeMap<String, BTreeMap<u64, SourceLine>> {
    let read = |name: &str| image.section(name).map(|s| s.data);
    let btf = read(".BTF").and_then(|data| Btf::parse(data).ok());
    let ext = read(".BTF.ext").and_then(|data| Ext::parse(data).ok());
    let (Some(btf), Some(ext)) = (btf, ext) else {
        return BTreeMap::new();
    };
    let line = |record: &LineInfo| {
        let line = SourceLine {
            file: btf.str(record.file).to_owned(),
            line: record.line(),
            column: record.column(),
            text: btf.str(record.text).to_owned(),
        };
        (u64::from(record.insn) * 8, line)
    };
    ext.lines
        .iter()
        .map(|info| {
            let name = btf.str(info.section).to_owned();
            (name, info.records.iter().map(line).collect())
        })
        .collect()
}

/// The symbols of a section; a section that does not start with one gets its own name there.
fn symbols(image: &Image<'_>, at: usize, section: &str) -> BTreeMap<u64, String> {
    let mut here: Vec<&ImageSymbol<'_>> = image
        .symbols
        .iter()
        .filter(|s| usize::from(s.section) == at && s.kind != ImageSymbol::SECTION)
        .filter(|s| !s.name.is_empty())
        .collect();
    here.sort_by_key(|s| (s.value, s.kind, s.name));
    let mut named: BTreeMap<u64, String> = here
        .into_iter()
        .map(|s| (s.value, s.name.to_owned()))
        .collect();
    named.entry(0).or_insert_with(|| section.to_owned());
    named
}

/// The slot a jump leads to.
fn target(at: usize, insn: &Insn) -> Option<i64> {
    let distance = match *insn {
        Insn::Jump { offset, .. } => i64::from(offset),
        Insn::JumpIf { offset, .. } | Insn::MayGoto { offset } => i64::from(offset),
        _ => return None,
    };
    Some(i64::try_from(at).ok()? + 1 + distance)
}

/// Names for a section's instructions.
struct CodeNames<'c> {
    code: &'c Code,
    style: Style,
    /// `L0`, `L1`, … by slot, if asked for.
    labels: Option<BTreeMap<usize, String>>,
}

impl Names for CodeNames<'_> {
    fn place(&self, target: i64) -> Option<Cow<'_, str>> {
        if let Some(labels) = &self.labels {
            let label = labels.get(&usize::try_from(target).ok()?)?;
            return Some(label.into());
        }
        // In source style a place needs a name that can be written.
        if self.style == Style::Source {
            return None;
        }
        let byte = target.wrapping_mul(8).cast_unsigned();
        self.code.place(byte).map(Cow::Owned)
    }

    fn helper(&self, id: i32) -> Option<Cow<'_, str>> {
        let helper = skep_abi::helper::by_id(u32::try_from(id).ok()?)?;
        Some(helper.name.into())
    }

    fn relocation(&self, at: usize) -> Option<Cow<'_, str>> {
        let byte = at as u64 * 8;
        let found = self.code.relocations.iter().find(|r| r.0 == byte)?;
        Some(found.2.as_str().into())
    }
}

/// How code is listed, and where.
pub(crate) struct Listing<'a> {
    /// The object's name.
    pub(crate) file: &'a str,
    /// Raw bytes before the text.
    pub(crate) shows_bytes: bool,
    /// Labels at the targets of jumps.
    pub(crate) shows_labels: bool,
    /// Source lines.
    pub(crate) shows_source: bool,
    /// The instructions' text.
    pub(crate) style: Style,
    /// Where to.
    pub(crate) out: &'a mut Output,
}

/// What a piece of a line is, for its colour.
#[derive(Clone, Copy)]
enum Piece {
    Bytes,
    Label,
    Source,
    Relocation,
    Unknown,
}

impl Listing<'_> {
    fn paint(&self, piece: Piece, text: &str) -> String {
        if !self.out.color() {
            return text.to_owned();
        }
        let code = match piece {
            Piece::Bytes => "2",
            Piece::Label => "33",
            Piece::Source => "32",
            Piece::Relocation => "35",
            Piece::Unknown => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// The object's name and format.
    pub(crate) fn header(&mut self) -> Result<(), CliError> {
        if self.out.is_json() {
            return Ok(());
        }
        let file = self.file;
        self.out
            .line(format_args!("\n{file}:\tfile format elf64-bpf"))
    }

    /// One section.
    pub(crate) fn code(&mut self, code: &Code) -> Result<(), CliError> {
        let labels = code.targets().into_iter().enumerate();
        let labels = labels.map(|(number, slot)| (slot, format!("L{number}")));
        let names = CodeNames {
            code,
            style: self.style,
            labels: self.shows_labels.then(|| labels.collect()),
        };
        if !code.section.is_empty() && !self.out.is_json() {
            let section = &code.section;
            self.out
                .line(format_args!("\nDisassembly of section {section}:"))?;
        }
        let mut relocations = code.relocations.iter().peekable();
        for (at, insn) in insns(&code.slots) {
            let start = at as u64 * 8;
            let end = start + 8 * insn.as_ref().map_or(1, Insn::slots) as u64;
            let mut here = Vec::new();
            while let Some(relocation) = relocations.next_if(|r| r.0 < end) {
                here.push(relocation);
            }
            if self.out.is_json() {
                self.json_line(&names, at, &insn, &here)?;
            } else {
                self.lines_before(&names, at)?;
                self.insn_line(&names, at, &insn)?;
                for (offset, kind, symbol) in here {
                    let text = format!("\t\t{offset:016x}:  {kind}\t{symbol}");
                    let text = self.paint(Piece::Relocation, &text);
                    self.out.line(text)?;
                }
            }
        }
        Ok(())
    }

    /// Symbol, label and source line in front of an instruction.
    fn lines_before(&mut self, names: &CodeNames<'_>, at: usize) -> Result<(), CliError> {
        let byte = at as u64 * 8;
        if let Some(symbol) = names.code.symbols.get(&byte) {
            let text = self.paint(Piece::Label, &format!("<{symbol}>:"));
            self.out.line(format_args!("\n{byte:016x} {text}"))?;
        }
        if let Some(label) = names.labels.as_ref().and_then(|l| l.get(&at)) {
            let text = match self.style {
                Style::Objdump => format!("<{label}>:"),
                Style::Source => format!("{label}:"),
            };
            let text = self.paint(Piece::Label, &text);
            self.out.line(text)?;
        }
        if self.shows_source
            && let Some(line) = names.code.lines.get(&byte)
        {
            let text = format!("; {} @ {}:{}", line.text.trim(), line.file, line.place());
            let text = self.paint(Piece::Source, &text);
            self.out.line(text)?;
        }
        Ok(())
    }

    fn insn_line(
        &mut self,
        names: &CodeNames<'_>,
        at: usize,
        insn: &Result<Insn, DecodeError>,
    ) -> Result<(), CliError> {
        let text = match insn {
            Ok(insn) => Text::new(insn, self.style).named(at, names).to_string(),
            Err(error) => self.paint(Piece::Unknown, &format!("<unknown>\t; {error}")),
        };
        if !self.shows_bytes {
            return self.out.line(format_args!("{at:8}:\t{text}"));
        }
        let bytes: Vec<String> = raw(names.code, at, insn)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let bytes = self.paint(Piece::Bytes, &bytes.join(" "));
        self.out.line(format_args!("{at:8}:\t{bytes}\t{text}"))
    }

    /// One JSON object an instruction.
    fn json_line(
        &mut self,
        names: &CodeNames<'_>,
        at: usize,
        insn: &Result<Insn, DecodeError>,
        relocations: &[&(u64, &'static str, String)],
    ) -> Result<(), CliError> {
        let code = names.code;
        let byte = at as u64 * 8;
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
        put("schema", 1.into());
        put("object", self.file.into());
        if !code.section.is_empty() {
            put("section", code.section.as_str().into());
        }
        if let Some((start, symbol)) = code.symbols.range(..=byte).next_back() {
            put("symbol", symbol.as_str().into());
            put("symbol_insn", (start / 8).into());
        }
        put("insn", at.into());
        let bytes = raw(code, at, insn);
        let bytes: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        put("bytes", bytes.into());
        put("valid", insn.is_ok().into());
        if let Err(error) = insn {
            put("error", error.to_string().into());
        }
        if let Ok(insn) = insn {
            put("text", Text::new(insn, Style::Objdump).to_string().into());
            put("asm", insn.to_string().into());
            if let Some(target) = target(at, insn) {
                put("target", target.into());
                let label = names.place(target);
                put(
                    "label",
                    label.map_or(Value::Null, |l| l.into_owned().into()),
                );
            }
        }
        if let Some((offset, kind, symbol)) = relocations.first() {
            let value = json!({"offset": offset, "type": kind, "symbol": symbol});
            put("relocation", value);
        }
        if let Some(line) = code.lines.get(&byte) {
            put("file", line.file.as_str().into());
            put("line", line.line.into());
            put("column", line.column.into());
            put("source", line.text.trim().into());
        }
        self.out.json(&Value::Object(object))
    }
}

/// The bytes of an instruction.
fn raw<'c>(code: &'c Code, at: usize, insn: &Result<Insn, DecodeError>) -> &'c [u8] {
    let len = 8 * insn.as_ref().map_or(1, Insn::slots);
    let rest = code.bytes.get(at * 8..).unwrap_or(&[]);
    rest.get(..len).unwrap_or(rest)
}
