//! After the last line: labels to distances, symbols to relocations.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::cursor::fit;
use super::directive::encode_int;
use super::error::{AsmError, Problem};
use super::output::{
    Assembly, Binding, Relocation, RelocationKind, RelocationTarget, Symbol, SymbolKind,
};
use super::state::{Entry, Expr, Fixup, FixupKind, State};
use super::{Endian, MAX_ERRORS};
use crate::encode::encode;
use crate::insn::{Call, Imm64, Insn};

pub(super) fn finish(mut state: State<'_>) -> Result<Assembly, Vec<AsmError>> {
    let mut errors = Vec::new();
    let fixups = core::mem::take(&mut state.fixups);
    let mut relocations: BTreeMap<(usize, u64), (RelocationKind, Aim)> = BTreeMap::new();
    for fixup in &fixups {
        match resolve(&mut state, fixup) {
            Ok(None) => {}
            Ok(Some(found)) => {
                relocations.insert((fixup.section, fixup.offset), found);
            }
            Err(problem) if errors.len() < MAX_ERRORS => errors.push(AsmError {
                line: fixup.expr.line,
                column: fixup.expr.column,
                problem,
            }),
            Err(_) => {}
        }
    }
    let sizes = sizes(&state, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(output(state, &sizes, &relocations))
}

/// What a relocation refers to, by indices of [`State`].
#[derive(Clone, Copy)]
enum Aim {
    Symbol(usize),
    Section(usize),
}

/// A symbol that other files may see is named; a local one is an offset from its section, as LLVM has it.
fn aim(entry: &Entry, at: usize) -> (Aim, i128) {
    match entry.place {
        Some((section, offset)) if entry.binding == Binding::Local => {
            (Aim::Section(section), offset.into())
        }
        _ => (Aim::Symbol(at), 0),
    }
}

fn resolve(state: &mut State<'_>, fixup: &Fixup) -> Result<Option<(RelocationKind, Aim)>, Problem> {
    let Some(at) = fixup.expr.plus else {
        return constant(state, fixup).map(|()| None);
    };
    if fixup.expr.minus.is_some() {
        return constant(state, fixup).map(|()| None);
    }
    match fixup.kind {
        FixupKind::Insn(insn) => match insn {
            Insn::Call(_) => call(state, fixup, at),
            Insn::LoadImm64 { dst, .. } => {
                let (aim, base) = aim(private_defined(state, at)?, at);
                let addend = fit::<i32>(base + fixup.expr.constant, "addend")?;
                let imm = Imm64::Value(addend.cast_unsigned().into());
                patch(state, fixup, &Insn::LoadImm64 { dst, imm });
                Ok(Some((RelocationKind::Wide, aim)))
            }
            _ => jump(state, fixup, insn, at).map(|()| None),
        },
        FixupKind::Data { bytes } => data(state, fixup, at, bytes).map(Some),
        FixupKind::Listed(kind) => {
            if kind == RelocationKind::Call {
                mark_call(state, fixup);
            }
            Ok(Some((kind, listed_aim(state, at))))
        }
    }
}

/// A listing names a section by its name alone.
fn listed_aim(state: &mut State<'_>, at: usize) -> Aim {
    let entry = &mut state.symbols[at];
    let named = state.sections.iter().position(|s| s.name == entry.name);
    match named {
        Some(section) if entry.place.is_none() => {
            entry.is_used = false;
            Aim::Section(section)
        }
        _ => Aim::Symbol(at),
    }
}

/// The symbol, which must be defined if it is private.
fn private_defined<'s>(state: &'s State<'_>, at: usize) -> Result<&'s Entry, Problem> {
    let entry = &state.symbols[at];
    if entry.is_private() && entry.place.is_none() {
        return Err(Problem::Undefined(shown(&entry.name)));
    }
    Ok(entry)
}

/// A numeric label as it was written.
fn shown(name: &str) -> String {
    match name
        .strip_prefix(".Llocal ")
        .and_then(|rest| rest.split_once(' '))
    {
        Some((number, _)) => number.to_string() + "f",
        None => name.to_string(),
    }
}

/// Writes an instruction again, now complete.
fn patch(state: &mut State<'_>, fixup: &Fixup, insn: &Insn) {
    let mut offset = fixup.offset as usize;
    for slot in encode(insn) {
        let bytes = state.slot_bytes(slot);
        write(state, fixup.section, offset, &bytes);
        offset += 8;
    }
}

fn write(state: &mut State<'_>, section: usize, offset: usize, bytes: &[u8]) {
    if let Some(place) = state.sections[section]
        .data
        .get_mut(offset..offset + bytes.len())
    {
        place.copy_from_slice(bytes);
    }
}

/// Slots from after the fixup's instruction to `at`, which must lie in the same section.
fn distance(state: &State<'_>, fixup: &Fixup, at: usize) -> Result<i64, Problem> {
    let entry = &state.symbols[at];
    let Some((section, offset)) = entry.place else {
        return Err(Problem::Undefined(shown(&entry.name)));
    };
    if section != fixup.section {
        return Err(Problem::OtherSection(shown(&entry.name)));
    }
    let bytes = i128::from(offset) + fixup.expr.constant - i128::from(fixup.offset) - 8;
    if bytes % 8 != 0 {
        return Err(Problem::Misaligned);
    }
    fit(bytes / 8, "distance")
}

fn jump(state: &mut State<'_>, fixup: &Fixup, insn: Insn, at: usize) -> Result<(), Problem> {
    let distance = distance(state, fixup, at)?;
    let too_far = Problem::TooFar { distance };
    let short = i16::try_from(distance);
    let insn = match (insn, short) {
        (Insn::Jump { long: true, .. }, _) => Insn::Jump {
            offset: i32::try_from(distance).map_err(|_| too_far)?,
            long: true,
        },
        (Insn::Jump { long: false, .. }, Ok(offset)) => Insn::Jump {
            offset: offset.into(),
            long: false,
        },
        (Insn::MayGoto { .. }, Ok(offset)) => Insn::MayGoto { offset },
        (
            Insn::JumpIf {
                width,
                op,
                dst,
                src,
                ..
            },
            Ok(offset),
        ) => Insn::JumpIf {
            width,
            op,
            dst,
            src,
            offset,
        },
        _ => return Err(too_far),
    };
    patch(state, fixup, &insn);
    Ok(())
}

/// A subprog of this section, a helper, or a function that the linker or loader finds.
fn call(
    state: &mut State<'_>,
    fixup: &Fixup,
    at: usize,
) -> Result<Option<(RelocationKind, Aim)>, Problem> {
    let entry = private_defined(state, at)?;
    if entry
        .place
        .is_some_and(|(section, _)| section == fixup.section)
    {
        let distance = distance(state, fixup, at)?;
        let distance = i32::try_from(distance).map_err(|_| Problem::TooFar { distance })?;
        patch(state, fixup, &Insn::Call(Call::Subprog(distance)));
        return Ok(None);
    }
    if entry.place.is_none()
        && fixup.expr.constant == 0
        && let Some(id) = state.facts.helper(&entry.name)
    {
        state.symbols[at].is_used = false;
        patch(state, fixup, &Insn::Call(Call::Helper(id)));
        return Ok(None);
    }
    let (aim, base) = aim(entry, at);
    let bytes = base + fixup.expr.constant;
    if bytes % 8 != 0 {
        return Err(Problem::Misaligned);
    }
    let distance = fit(bytes / 8 - 1, "addend")?;
    patch(state, fixup, &Insn::Call(Call::Subprog(distance)));
    Ok(Some((RelocationKind::Call, aim)))
}

/// In a listing every call looks alike; the relocation says that this one calls a subprog.
fn mark_call(state: &mut State<'_>, fixup: &Fixup) {
    let nibble = match state.endian {
        Endian::Little => crate::opcode::PSEUDO_CALL << 4,
        Endian::Big => crate::opcode::PSEUDO_CALL,
    };
    write(state, fixup.section, fixup.offset as usize + 1, &[nibble]);
}

fn data(
    state: &mut State<'_>,
    fixup: &Fixup,
    at: usize,
    bytes: usize,
) -> Result<(RelocationKind, Aim), Problem> {
    let entry = private_defined(state, at)?;
    let section = entry.place.map(|(section, _)| &state.sections[section]);
    let is_fixed = section.is_some_and(|s| {
        if entry.is_private() {
            s.is_executable
        } else {
            s.is_writable
        }
    });
    let kind = match bytes {
        8 => RelocationKind::Abs64,
        4 if is_fixed => RelocationKind::NoDyld32,
        4 => RelocationKind::Abs32,
        _ => {
            let what = "four or eight bytes for a symbol";
            let found = bytes.to_string();
            return Err(Problem::Expected { what, found });
        }
    };
    let (aim, base) = aim(entry, at);
    let encoded = encode_int(base + fixup.expr.constant, bytes, state.endian)?;
    write(state, fixup.section, fixup.offset as usize, &encoded);
    Ok((kind, aim))
}

/// A difference of symbols, as data.
fn constant(state: &mut State<'_>, fixup: &Fixup) -> Result<(), Problem> {
    let value = value(state, &fixup.expr)?;
    if let FixupKind::Data { bytes } = fixup.kind {
        let encoded = encode_int(value, bytes, state.endian)?;
        write(state, fixup.section, fixup.offset as usize, &encoded);
    }
    Ok(())
}

/// The value of an expression that needs no relocation.
fn value(state: &State<'_>, expr: &Expr) -> Result<i128, Problem> {
    let place = |at: usize| {
        let entry = &state.symbols[at];
        entry
            .place
            .ok_or_else(|| Problem::Undefined(shown(&entry.name)))
    };
    match (expr.plus, expr.minus) {
        (None, None) => Ok(expr.constant),
        (Some(plus), Some(minus)) => {
            let ((section, a), (other, b)) = (place(plus)?, place(minus)?);
            if section != other {
                let name = shown(&state.symbols[minus].name);
                return Err(Problem::OtherSection(name));
            }
            Ok(i128::from(a) - i128::from(b) + expr.constant)
        }
        (Some(at), None) | (None, Some(at)) => {
            let what = "a difference of two labels";
            let found = "`".to_string() + &shown(&state.symbols[at].name) + "`";
            Err(Problem::Expected { what, found })
        }
    }
}

/// The sizes that `.size` gives.
fn sizes(state: &State<'_>, errors: &mut Vec<AsmError>) -> Vec<Option<u64>> {
    let size = |entry: &Entry| {
        let expr = entry.size.as_ref()?;
        let size = value(state, expr).and_then(|size| fit(size, "size"));
        match size {
            Ok(size) => Some(size),
            Err(problem) => {
                let (line, column) = (expr.line, expr.column);
                if errors.len() < MAX_ERRORS {
                    errors.push(AsmError {
                        line,
                        column,
                        problem,
                    });
                }
                None
            }
        }
    };
    state.symbols.iter().map(size).collect()
}

fn output(
    mut state: State<'_>,
    sizes: &[Option<u64>],
    relocations: &BTreeMap<(usize, u64), (RelocationKind, Aim)>,
) -> Assembly {
    let mut symbols = Vec::new();
    let mut new_index = BTreeMap::new();
    for (at, entry) in state.symbols.iter().enumerate() {
        let exists = entry.place.is_some() || entry.is_used || entry.binding != Binding::Local;
        if entry.is_private() || !exists {
            continue;
        }
        new_index.insert(at, symbols.len());
        symbols.push(symbol(&state, entry, sizes[at]));
    }
    name_first_functions(&state, &mut symbols);
    measure_functions(&state, &mut symbols);
    for (&(section, offset), &(kind, aim)) in relocations {
        let target = match aim {
            Aim::Section(section) => RelocationTarget::Section(section),
            Aim::Symbol(at) => match new_index.get(&at) {
                Some(&at) => RelocationTarget::Symbol(at),
                None => continue,
            },
        };
        state.sections[section].relocations.push(Relocation {
            offset,
            target,
            kind,
        });
    }
    Assembly {
        endian: state.endian,
        sections: state.sections,
        symbols,
        maps: state.maps,
    }
}

/// In code, what is global, called or first is a function even without `.type`.
fn symbol(state: &State<'_>, entry: &Entry, size: Option<u64>) -> Symbol {
    let is_function = entry.place.is_some_and(|(section, offset)| {
        let looks_so = entry.binding != Binding::Local || entry.is_called || offset == 0;
        state.sections[section].is_executable && looks_so
    });
    let implied = if is_function {
        SymbolKind::Function
    } else {
        SymbolKind::Label
    };
    let binding = match entry.binding {
        Binding::Local if entry.place.is_none() => Binding::Global,
        binding => binding,
    };
    Symbol {
        name: entry.name.clone(),
        binding,
        kind: entry.kind.unwrap_or(implied),
        is_hidden: entry.is_hidden,
        place: entry.place,
        size: size.unwrap_or(0),
    }
}

/// Code without a label at its start becomes a function named after its section, so that loaders see a program.
fn name_first_functions(state: &State<'_>, symbols: &mut Vec<Symbol>) {
    for (at, section) in state.sections.iter().enumerate() {
        let has_name = symbols
            .iter()
            .any(|s| s.place == Some((at, 0)) && s.kind == SymbolKind::Function);
        if !section.is_executable || section.data.is_empty() || has_name {
            continue;
        }
        let keep = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = section
            .name
            .trim_start_matches('.')
            .chars()
            .map(keep)
            .collect();
        symbols.push(Symbol {
            name,
            binding: Binding::Global,
            kind: SymbolKind::Function,
            is_hidden: false,
            place: Some((at, 0)),
            size: 0,
        });
    }
}

/// A function without `.size` ends where the next one starts, or with its section.
fn measure_functions(state: &State<'_>, symbols: &mut [Symbol]) {
    let mut starts: Vec<(usize, u64)> = symbols
        .iter()
        .filter(|s| s.kind == SymbolKind::Function)
        .filter_map(|s| s.place)
        .collect();
    starts.sort_unstable();
    for symbol in symbols {
        let Some((section, offset)) = symbol.place else {
            continue;
        };
        if symbol.kind != SymbolKind::Function || symbol.size != 0 {
            continue;
        }
        let next = starts.partition_point(|start| *start <= (section, offset));
        let end = match starts.get(next) {
            Some(&(same, end)) if same == section => end,
            _ => state.sections[section].data.len() as u64,
        };
        symbol.size = end - offset;
    }
}
