//! Directives: those that clang prints, and `.map`.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::Endian;
use super::cursor::Cursor;
use super::error::{Located, Problem};
use super::insn::SymbolName;
use super::lex::Tok;
use super::output::{Binding, MapAttribute, MapDef, Section, SymbolKind};
use super::state::{Expr, Fixup, FixupKind, State};

/// The largest alignment, in bytes.
const MAX_ALIGN: u64 = 4096;

/// What says nothing about the contents of an object; operands and all are skipped.
const IGNORED: &[&str] = &[".addrsig", ".addrsig_sym", ".file", ".ident", ".loc"];

type Handler = fn(&mut State<'_>, &mut Cursor<'_, '_>) -> Located<()>;

/// Directives with operands of their own.
#[rustfmt::skip] // one directive per line
const DIRECTIVES: &[(&str, Handler)] = &[
    (".2byte",      |s, c| data(s, c, 2)),
    (".4byte",      |s, c| data(s, c, 4)),
    (".8byte",      |s, c| data(s, c, 8)),
    (".align",      |s, c| align(s, c, false)),
    (".ascii",      |s, c| strings(s, c, false)),
    (".asciz",      |s, c| strings(s, c, true)),
    (".balign",     |s, c| align(s, c, false)),
    (".bss",        |s, c| short_section(s, c, ".bss")),
    (".byte",       |s, c| data(s, c, 1)),
    (".comm",       common),
    (".data",       |s, c| short_section(s, c, ".data")),
    (".global",     |s, c| bind(s, c, Binding::Global)),
    (".globl",      |s, c| bind(s, c, Binding::Global)),
    (".hidden",     hide),
    (".hword",      |s, c| data(s, c, 2)),
    (".int",        |s, c| data(s, c, 4)),
    (".local",      |s, c| bind(s, c, Binding::Local)),
    (".long",       |s, c| data(s, c, 4)),
    (".map",        map),
    (".p2align",    |s, c| align(s, c, true)),
    (".popsection", pop_section),
    (".previous",   |s, c| { s.enter_previous(); c.end() }),
    (".pushsection", |s, c| { at(c.column(), s.push_section())?; section(s, c) }),
    (".quad",       |s, c| data(s, c, 8)),
    (".rodata",     |s, c| short_section(s, c, ".rodata")),
    (".section",    section),
    (".short",      |s, c| data(s, c, 2)),
    (".size",       size),
    (".skip",       zero),
    (".space",      zero),
    (".string",     |s, c| strings(s, c, true)),
    (".text",       |s, c| short_section(s, c, ".text")),
    (".type",       kind),
    (".weak",       |s, c| bind(s, c, Binding::Weak)),
    (".word",       |s, c| data(s, c, 4)),
    (".zero",       zero),
];

/// Directives that still count within a section that is skipped.
const SECTIONING: &[&str] = &[
    ".bss",
    ".data",
    ".popsection",
    ".previous",
    ".pushsection",
    ".rodata",
    ".section",
    ".text",
];

fn at<T>(column: u32, result: Result<T, Problem>) -> Located<T> {
    result.map_err(|problem| (column, problem))
}

/// True for a directive that says nothing about the contents of an object.
pub(super) fn is_ignored(name: &str) -> bool {
    IGNORED.contains(&name) || name.starts_with(".cfi_")
}

pub(super) fn directive(state: &mut State<'_>, c: &mut Cursor<'_, '_>, name: &str) -> Located<()> {
    if is_ignored(name) || (state.skips() && !SECTIONING.contains(&name)) {
        return Ok(());
    }
    let column = c.column();
    c.bump();
    match DIRECTIVES.binary_search_by_key(&name, |&(name, _)| name) {
        Ok(row) => {
            let (_, handle) = DIRECTIVES[row];
            handle(state, c)
        }
        Err(_) => Err((column, Problem::UnknownDirective(name.to_string()))),
    }
}

fn short_section(state: &mut State<'_>, c: &mut Cursor<'_, '_>, name: &str) -> Located<()> {
    c.end()?;
    let section = at(c.column(), state.section(name, Section::by_name))?;
    state.enter(Some(section));
    Ok(())
}

/// `.section NAME[,"flags"[,@type[,entry size]]]`
fn section(state: &mut State<'_>, c: &mut Cursor<'_, '_>) -> Located<()> {
    let column = c.column();
    let name = section_name(c)?;
    let mut made = Section::by_name(&name);
    if c.eat(",") {
        section_flags(c, &mut made)?;
    }
    c.end()?;
    if name.starts_with(".debug_") {
        state.enter(None);
        return Ok(());
    }
    let section = at(column, state.section(&name, |_| made))?;
    state.enter(Some(section));
    Ok(())
}

/// A name that may hold characters which no other name may, as in `tp/syscalls/sys_enter_openat` and `?xdp`.
fn section_name(c: &mut Cursor<'_, '_>) -> Located<alloc::string::String> {
    let mut name = c.quoted_name("a section name")?;
    loop {
        match c.peek() {
            Tok::Punct(text @ ("/" | "-" | "+" | ":" | "*")) => name.push_str(text),
            Tok::Name(text) if name.ends_with(['/', '-', '+', ':', '*']) => name.push_str(text),
            Tok::Int(value) if name.ends_with(['/', '-', '+', ':', '*']) => {
                name.push_str(&value.to_string());
            }
            _ => return Ok(name),
        }
        c.bump();
    }
}

fn section_flags(c: &mut Cursor<'_, '_>, made: &mut Section) -> Located<()> {
    let column = c.column();
    let Tok::Str(flags) = c.peek() else {
        return c.expected("the section's flags, a string");
    };
    c.bump();
    made.is_allocated = flags.contains(&b'a');
    made.is_writable = flags.contains(&b'w');
    made.is_executable = flags.contains(&b'x');
    made.is_mergeable = flags.contains(&b'M');
    made.is_strings = flags.contains(&b'S');
    if let Some(&flag) = flags.iter().find(|flag| !b"awxMSRGo".contains(flag)) {
        return Err((column, Problem::UnexpectedCharacter(flag.into())));
    }
    if made.is_executable {
        made.align = 8;
    }
    if c.eat(",") {
        let column = c.column();
        match c.name("the section's type")? {
            "@nobits" => made.is_nobits = true,
            "@progbits" | "@note" | "@llvm_addrsig" => made.is_nobits = false,
            name => {
                let (what, name) = ("section type", name.to_string());
                return Err((column, Problem::UnknownName { what, name }));
            }
        }
        if c.eat(",") {
            made.entry_bytes = c.field("entry size")?;
        }
    }
    Ok(())
}

fn pop_section(state: &mut State<'_>, c: &mut Cursor<'_, '_>) -> Located<()> {
    if state.pop_section() {
        c.end()
    } else {
        let name = ".pushsection".to_string();
        Err((c.column(), Problem::Undefined(name)))
    }
}

/// Names separated by commas.
fn names(
    state: &mut State<'_>,
    c: &mut Cursor<'_, '_>,
    set: impl Fn(&mut super::state::Entry),
) -> Located<()> {
    loop {
        let column = c.column();
        let name = c.quoted_name("a symbol")?;
        let symbol = at(column, state.symbol(&name))?;
        set(&mut state.symbols[symbol]);
        if !c.eat(",") {
            return c.end();
        }
    }
}

fn bind(state: &mut State<'_>, c: &mut Cursor<'_, '_>, binding: Binding) -> Located<()> {
    names(state, c, |entry| entry.binding = binding)
}

fn hide(state: &mut State<'_>, c: &mut Cursor<'_, '_>) -> Located<()> {
    names(state, c, |entry| entry.is_hidden = true)
}

/// `.type NAME,@function`
fn kind(state: &mut State<'_>, c: &mut Cursor<'_, '_>) -> Located<()> {
    let column = c.column();
    let name = c.quoted_name("a symbol")?;
    c.expect(",", "`,`")?;
    let kind_column = c.column();
    let kind = match c.name("`@function` or `@object`")? {
        "@function" => SymbolKind::Function,
        "@object" => SymbolKind::Object,
        "@notype" => SymbolKind::Label,
        name => {
            let (what, name) = ("symbol type", name.to_string());
            return Err((kind_column, Problem::UnknownName { what, name }));
        }
    };
    let symbol = at(column, state.symbol(&name))?;
    state.symbols[symbol].kind = Some(kind);
    c.end()
}

/// `.size NAME, EXPRESSION`
fn size(state: &mut State<'_>, c: &mut Cursor<'_, '_>) -> Located<()> {
    let column = c.column();
    let name = c.quoted_name("a symbol")?;
    c.expect(",", "`,`")?;
    let size = expr(state, c, false)?;
    let symbol = at(column, state.symbol(&name))?;
    state.symbols[symbol].size = Some(size);
    c.end()
}

/// A sum of numbers, at most one symbol, and at most one subtracted symbol. `.` is this place.
fn expr(state: &mut State<'_>, c: &mut Cursor<'_, '_>, uses: bool) -> Located<Expr> {
    let mut expr = Expr {
        plus: None,
        minus: None,
        constant: 0,
        line: state.line,
        column: c.column(),
    };
    let mut first = true;
    loop {
        let negative = match c.peek() {
            Tok::Punct(sign @ ("+" | "-")) => {
                c.bump();
                *sign == "-"
            }
            _ if first => false,
            _ => return Ok(expr),
        };
        first = false;
        let column = c.column();
        let name = match *c.peek() {
            Tok::Int(value) => {
                c.bump();
                let value = i128::from(value);
                let sum = expr.constant + if negative { -value } else { value };
                let bound = i128::from(u64::MAX);
                expr.constant = sum.clamp(-bound, bound);
                continue;
            }
            Tok::Local { number, forward } => {
                c.bump();
                SymbolName::Local { number, forward }
            }
            _ => SymbolName::Named(c.quoted_name("a number or a symbol")?),
        };
        let symbol = match &name {
            SymbolName::Named(dot) if dot == "." => at(column, state.here_symbol())?,
            SymbolName::Named(text) if !uses => at(column, state.symbol(text))?,
            _ => at(column, state.refer(&name))?,
        };
        let place = if negative {
            &mut expr.minus
        } else {
            &mut expr.plus
        };
        if place.replace(symbol).is_some() {
            let what = "at most one symbol of each sign";
            let found = "another".to_string();
            return Err((column, Problem::Expected { what, found }));
        }
    }
}

/// Numbers or expressions of `bytes` bytes each.
fn data(state: &mut State<'_>, c: &mut Cursor<'_, '_>, bytes: usize) -> Located<()> {
    if c.is_done() {
        return Ok(());
    }
    loop {
        let column = c.column();
        let expr = expr(state, c, true)?;
        let has_symbol = expr.plus.is_some() || expr.minus.is_some();
        let value = if has_symbol { 0 } else { expr.constant };
        let encoded = at(column, encode_int(value, bytes, state.endian))?;
        if let Some((section, offset)) = state.here()
            && has_symbol
        {
            let kind = FixupKind::Data { bytes };
            state.fixups.push(Fixup {
                section,
                offset,
                kind,
                expr,
            });
        }
        at(column, state.append(&encoded))?;
        if !c.eat(",") {
            return c.end();
        }
    }
}

/// `value`, signed or unsigned, in `bytes` bytes.
pub(super) fn encode_int(value: i128, bytes: usize, endian: Endian) -> Result<Vec<u8>, Problem> {
    let bits = 8 * bytes;
    let (min, max) = (-(1i128 << (bits - 1)), (1i128 << bits) - 1);
    if value < min || value > max {
        let field = "value";
        return Err(Problem::OutOfRange {
            field,
            value,
            min,
            max,
        });
    }
    Ok(match endian {
        Endian::Little => value.to_le_bytes()[..bytes].to_vec(),
        Endian::Big => value.to_be_bytes()[16 - bytes..].to_vec(),
    })
}

fn strings(state: &mut State<'_>, c: &mut Cursor<'_, '_>, terminate: bool) -> Located<()> {
    loop {
        let column = c.column();
        let Tok::Str(bytes) = c.peek() else {
            return c.expected("a string");
        };
        c.bump();
        at(column, state.append(bytes))?;
        if terminate {
            at(column, state.append(&[0]))?;
        }
        if !c.eat(",") {
            return c.end();
        }
    }
}

/// `.zero COUNT[, BYTE]`
fn zero(state: &mut State<'_>, c: &mut Cursor<'_, '_>) -> Located<()> {
    let column = c.column();
    let count = c.field("size")?;
    let value = if c.eat(",") { c.field("value")? } else { 0 };
    at(column, state.fill(count, value))?;
    c.end()
}

/// `.p2align LOG2` or `.balign BYTES`; further operands are about what fills the gap, which is always zeros, in code
/// `goto +0`.
fn align(state: &mut State<'_>, c: &mut Cursor<'_, '_>, is_log2: bool) -> Located<()> {
    let column = c.column();
    let value = c.int()?;
    let bytes = if is_log2 {
        u32::try_from(value)
            .ok()
            .and_then(|log2| 1u64.checked_shl(log2))
    } else {
        u64::try_from(value).ok()
    };
    let Some(bytes) = bytes.filter(|bytes| *bytes <= MAX_ALIGN && bytes.is_power_of_two()) else {
        let (min, max) = (0, if is_log2 { 12 } else { MAX_ALIGN.into() });
        let field = "alignment";
        return Err((
            column,
            Problem::OutOfRange {
                field,
                value,
                min,
                max,
            },
        ));
    };
    let Some((section, offset)) = state.here() else {
        return Ok(());
    };
    let gap = offset.next_multiple_of(bytes) - offset;
    let made = &mut state.sections[section];
    made.align = made.align.max(bytes);
    if made.is_executable && gap.is_multiple_of(8) {
        let nop = crate::insn::Insn::Jump {
            offset: 0,
            long: false,
        };
        for _ in 0..gap / 8 {
            for slot in crate::encode::encode(&nop) {
                at(column, state.append(&state.slot_bytes(slot)))?;
            }
        }
        return Ok(());
    }
    at(column, state.fill(gap, 0))
}

/// `.comm NAME, SIZE[, ALIGNMENT]`: a zeroed global variable, here in `.bss`.
fn common(state: &mut State<'_>, c: &mut Cursor<'_, '_>) -> Located<()> {
    let column = c.column();
    let name = c.quoted_name("a symbol")?;
    c.expect(",", "`,`")?;
    let size_column = c.column();
    let size: u64 = c.field("size")?;
    let bss = at(column, state.section(".bss", Section::by_name))?;
    state.enter(Some(bss));
    if c.eat(",") {
        align(state, c, false)?;
    }
    at(column, state.define(&name))?;
    let symbol = at(column, state.symbol(&name))?;
    let entry = &mut state.symbols[symbol];
    entry.binding = Binding::Global;
    entry.kind = Some(SymbolKind::Object);
    entry.size = Some(Expr {
        plus: None,
        minus: None,
        constant: size.into(),
        line: state.line,
        column: size_column,
    });
    at(size_column, state.fill(size, 0))?;
    state.enter_previous();
    c.end()
}

/// Attributes of `.map`, as in a `.maps` definition.
const MAP_ATTRIBUTES: &[&str] = &[
    "type",
    "key_size",
    "value_size",
    "max_entries",
    "map_flags",
    "map_extra",
    "numa_node",
    "pinning",
];

/// `.map NAME type=hash key_size=4 value_size=8 max_entries=1024`
fn map(state: &mut State<'_>, c: &mut Cursor<'_, '_>) -> Located<()> {
    let column = c.column();
    let name = c.quoted_name("the map's name")?;
    let mut attributes: Vec<MapAttribute> = Vec::new();
    loop {
        c.eat(",");
        if c.is_done() {
            break;
        }
        let attribute_column = c.column();
        let found = c.name("an attribute such as `key_size=4`")?;
        let Some(&attribute) = MAP_ATTRIBUTES.iter().find(|known| **known == found) else {
            let (what, name) = ("map attribute", found.to_string());
            return Err((attribute_column, Problem::UnknownName { what, name }));
        };
        if attributes.iter().any(|known| known.name == attribute) {
            return Err((attribute_column, Problem::Duplicate(found.to_string())));
        }
        c.expect("=", "`=`")?;
        let value = if attribute == "type" && !c.at_int() {
            map_type(state, c)?
        } else {
            c.field("value")?
        };
        let name = attribute;
        attributes.push(MapAttribute { name, value });
    }
    let section = at(column, state.section(".maps", Section::by_name))?;
    state.sections[section].align = 8;
    let here = state.current;
    state.enter(Some(section));
    at(column, state.define(&name))?;
    let bytes = 8 * attributes.len() as u64;
    at(column, state.fill(bytes, 0))?;
    state.enter(here);
    let symbol = at(column, state.symbol(&name))?;
    let entry = &mut state.symbols[symbol];
    entry.binding = Binding::Global;
    entry.kind = Some(SymbolKind::Object);
    entry.size = Some(Expr {
        plus: None,
        minus: None,
        constant: bytes.into(),
        line: state.line,
        column,
    });
    state.maps.push(MapDef { name, attributes });
    Ok(())
}

fn map_type(state: &State<'_>, c: &mut Cursor<'_, '_>) -> Located<u32> {
    let column = c.column();
    let name = c.name("a map type")?;
    state.facts.map_type(name).ok_or_else(|| {
        let (what, name) = ("map type", name.to_string());
        (column, Problem::UnknownName { what, name })
    })
}

#[cfg(test)]
mod tests {
    use super::DIRECTIVES;

    #[test]
    fn directives_are_sorted() {
        assert!(DIRECTIVES.is_sorted_by_key(|(name, _)| name));
    }
}
