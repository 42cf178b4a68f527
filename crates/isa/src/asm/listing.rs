//! Listings of llvm-objdump as input: what stands around the instructions is read or dropped.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};

use super::error::{Located, Problem};
use super::output::{Binding, RelocationKind, Section};
use super::state::{Expr, Fixup, FixupKind, State};

/// The columns that hold the address of a symbol's line, `0000000000000000 <name>:`.
const ADDRESS_DIGITS: usize = 16;

/// The assembly text in a line: of a listing's line its instruction, of others all. `None` if nothing is left.
pub(super) fn read<'l>(state: &mut State<'_>, line: &'l str) -> Located<Option<Cow<'l, str>>> {
    if let Some(name) = line
        .strip_prefix("Disassembly of section ")
        .and_then(|rest| rest.strip_suffix(':'))
    {
        state.in_listing = true;
        let section = state
            .section(name, Section::by_name)
            .map_err(|problem| (1, problem))?;
        state.sections[section].is_executable = true;
        state.sections[section].is_allocated = true;
        state.enter(Some(section));
        return Ok(None);
    }
    if line.contains(":\tfile format ") {
        state.in_listing = true;
        return Ok(None);
    }
    if !state.in_listing {
        return Ok(Some(Cow::Borrowed(line)));
    }
    if let Some(name) = symbol_line(line) {
        return define(state, name).map(|()| None);
    }
    if let Some((offset, kind, name)) = relocation_line(line) {
        return relocate(state, offset, kind, name).map(|()| None);
    }
    Ok(Some(Cow::Owned(instruction(line))))
}

/// `0000000000000000 <name>:`
fn symbol_line(line: &str) -> Option<&str> {
    let (address, rest) = line.split_once(' ')?;
    let is_address =
        address.len() == ADDRESS_DIGITS && address.bytes().all(|b| b.is_ascii_hexdigit());
    let name = rest.strip_prefix('<')?.strip_suffix(">:")?;
    is_address.then_some(name)
}

fn define(state: &mut State<'_>, name: &str) -> Located<()> {
    let problem = |problem| (1, problem);
    state.define(name).map_err(problem)?;
    let symbol = state.symbol(name).map_err(problem)?;
    state.symbols[symbol].binding = Binding::Global;
    Ok(())
}

/// `\t\t0000000000000018:  R_BPF_64_64\tname`
fn relocation_line(line: &str) -> Option<(u64, &str, &str)> {
    let (offset, rest) = line.trim_start().split_once(':')?;
    let (kind, name) = rest.trim_start().split_once('\t')?;
    if !kind.starts_with("R_BPF_") {
        return None;
    }
    Some((u64::from_str_radix(offset, 16).ok()?, kind, name.trim()))
}

fn relocate(state: &mut State<'_>, offset: u64, kind: &str, name: &str) -> Located<()> {
    let kind = match kind {
        "R_BPF_64_64" => RelocationKind::Wide,
        "R_BPF_64_ABS64" => RelocationKind::Abs64,
        "R_BPF_64_ABS32" => RelocationKind::Abs32,
        "R_BPF_64_NODYLD32" => RelocationKind::NoDyld32,
        "R_BPF_64_32" => RelocationKind::Call,
        _ => {
            let (what, name) = ("relocation", kind.to_string());
            return Err((1, Problem::UnknownName { what, name }));
        }
    };
    let Some((section, end)) = state.here() else {
        return Ok(());
    };
    if offset >= end {
        return Err((1, Problem::Misaligned));
    }
    let symbol = state.symbol(name).map_err(|problem| (1, problem))?;
    state.symbols[symbol].is_used = true;
    let expr = Expr {
        plus: Some(symbol),
        minus: None,
        constant: 0,
        line: state.line,
        column: 1,
    };
    let kind = FixupKind::Listed(kind);
    state.fixups.push(Fixup {
        section,
        offset,
        kind,
        expr,
    });
    Ok(())
}

/// Blanks out a slot number and raw bytes at the start of the line (so that columns stay) and drops `<label>` at its
/// end.
fn instruction(line: &str) -> String {
    let text = line.trim_start();
    let Some((number, rest)) = text.split_once(':') else {
        return line.to_string();
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return line.to_string();
    }
    let rest = rest.trim_start();
    let is_hex = |word: &str| word.len() == 2 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let insn = match rest.split_once('\t') {
        Some((bytes, insn)) if bytes.split_whitespace().all(is_hex) => insn,
        _ => rest,
    };
    let insn_end = insn.find(" <").unwrap_or(insn.len());
    let mut out = " ".repeat(line.len() - insn.len());
    out.push_str(&insn[..insn_end]);
    out
}
