//! The assembler: text to instructions, symbols and relocations.
//!
//! It reads what clang prints with `-S`, what llvm-objdump prints, and [`crate::Text`]. Beyond LLVM's syntax there are
//! `call pc+N` and `call kfunc(ID, MODULE)`, helpers by name, and the directive `.map`:
//!
//! ```text
//! .map counts type=hash key_size=4 value_size=8 max_entries=1024
//! ```
//!
//! Left out on purpose: macros, conditional assembly, and debug sections (`.debug_*` is skipped; `.BTF` is not).

mod cursor;
mod directive;
mod error;
mod insn;
mod lex;
mod listing;
mod output;
mod resolve;
mod state;

use alloc::vec::Vec;

pub use error::{AsmError, Problem};
pub use output::{
    Assembly, Binding, MapAttribute, MapDef, Relocation, RelocationKind, RelocationTarget, Section,
    Symbol, SymbolKind,
};

use crate::slot::Slot;
use cursor::Cursor;
use error::Located;
use lex::{Tok, Token};
use state::State;

/// Errors after which the assembler gives up.
pub const MAX_ERRORS: usize = 20;
/// Bytes in one section.
pub const MAX_SECTION_BYTES: u64 = 64 << 20;
/// Sections in one file.
pub const MAX_SECTIONS: usize = 4096;
/// Symbols and labels in one file.
pub const MAX_SYMBOLS: usize = 1 << 20;

/// Byte order of the output.
///
/// ```
/// use skep_isa::asm::{Endian, Options, assemble};
///
/// let options = Options { endian: Endian::Big, ..Options::default() };
/// let assembly = assemble("exit\n", &options).map_err(|e| e[0].to_string())?;
/// assert_eq!(assembly.sections[0].data[0], 0x95);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Endian {
    /// `bpfel`
    #[default]
    Little,
    /// `bpfeb`
    Big,
}

/// Names that the instruction set does not define.
///
/// ```
/// use skep_isa::asm::{Facts, assemble_insns};
///
/// struct Clock;
/// impl Facts for Clock {
///     fn helper(&self, name: &str) -> Option<i32> {
///         (name == "clock").then_some(5)
///     }
/// }
/// let slots = assemble_insns("call clock", &Clock).map_err(|e| e[0].to_string())?;
/// assert_eq!(slots[0].imm, 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Facts {
    /// The number of a helper.
    fn helper(&self, name: &str) -> Option<i32> {
        let _ = name;
        None
    }

    /// The number of a map type, by its name in lower case without `BPF_MAP_TYPE_`.
    fn map_type(&self, name: &str) -> Option<u32> {
        let _ = name;
        None
    }
}

/// No names at all.
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
///
/// assert!(assemble_insns("call 5", &NoFacts).is_ok());
/// assert!(assemble_insns("call clock", &NoFacts).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFacts;

impl Facts for NoFacts {}

/// What [`assemble`] needs to know besides the text.
///
/// ```
/// use skep_isa::asm::{Options, assemble};
///
/// let options = Options { section: "xdp", ..Options::default() };
/// let assembly = assemble("r0 = 2\nexit\n", &options).map_err(|e| e[0].to_string())?;
/// assert_eq!(assembly.sections[0].name, "xdp");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Names of helpers and map types.
    pub facts: &'a dyn Facts,
    /// Byte order of instructions and data.
    pub endian: Endian,
    /// The section of what stands before the first section directive.
    pub section: &'a str,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            facts: &NoFacts,
            endian: Endian::Little,
            section: ".text",
        }
    }
}

/// Assembles a file.
///
/// # Errors
/// Every mistake found, at most [`MAX_ERRORS`]; those in lines first, then those of symbols.
pub fn assemble(text: &str, options: &Options<'_>) -> Result<Assembly, Vec<AsmError>> {
    let mut state = State::new(options);
    let mut errors = Vec::new();
    for (number, line) in text.lines().enumerate() {
        state.line = u32::try_from(number + 1).unwrap_or(u32::MAX);
        if let Err((column, problem)) = one_line(&mut state, line) {
            let line = state.line;
            errors.push(AsmError {
                line,
                column,
                problem,
            });
            if errors.len() == MAX_ERRORS {
                return Err(errors);
            }
        }
    }
    if errors.is_empty() {
        resolve::finish(state)
    } else {
        Err(errors)
    }
}

/// Assembles bare instructions: one section, every label defined in it.
///
/// # Errors
/// As [`assemble`], and [`Problem::NeedsObject`] if the text has relocations, maps, or code in several sections.
pub fn assemble_insns(text: &str, facts: &dyn Facts) -> Result<Vec<Slot>, Vec<AsmError>> {
    let options = Options {
        facts,
        ..Options::default()
    };
    let assembly = assemble(text, &options)?;
    let mut code = assembly.sections.iter().filter(|s| !s.data.is_empty());
    let (first, second) = (code.next(), code.next());
    let is_bare = |s: &Section| s.relocations.is_empty() && s.is_executable;
    match (first, second) {
        (None, _) => Ok(Vec::new()),
        (Some(section), None) if is_bare(section) && assembly.maps.is_empty() => {
            Ok(section.slots(Endian::Little))
        }
        _ => {
            let problem = Problem::NeedsObject;
            Err(alloc::vec![AsmError {
                line: 1,
                column: 1,
                problem,
            }])
        }
    }
}

/// The statements of one line, separated by `;`.
fn one_line(state: &mut State<'_>, line: &str) -> Located<()> {
    let Some(line) = listing::read(state, line)? else {
        return Ok(());
    };
    let first = line.split_whitespace().next().unwrap_or("");
    if directive::is_ignored(first) || (state.skips() && !first.starts_with('.')) {
        return Ok(());
    }
    let tokens = lex::tokens(&line)?;
    let end = tokens.last().map_or(1, |token| token.column);
    for part in tokens.split(|token| token.tok == Tok::Punct(";")) {
        let mut part = part.to_vec();
        if part.last().is_none_or(|token| token.tok != Tok::End) {
            let tok = Tok::End;
            part.push(Token { tok, column: end });
        }
        one_statement(state, &part)?;
    }
    Ok(())
}

/// Labels, then a directive or an instruction.
fn one_statement(state: &mut State<'_>, tokens: &[Token<'_>]) -> Located<()> {
    let mut c = Cursor::new(tokens);
    while *c.peek_at(1) == Tok::Punct(":") {
        let column = c.column();
        match c.bump() {
            Tok::Int(number) => state.define_local(*number),
            Tok::Name(name) => state.define(name),
            Tok::Str(bytes) => state.define(&alloc::string::String::from_utf8_lossy(bytes)),
            _ => return Err((column, Problem::UnexpectedCharacter(':'))),
        }
        .map_err(|problem| (column, problem))?;
        c.bump();
    }
    if let Tok::Name(name) = *c.peek()
        && name.starts_with('.')
    {
        return directive::directive(state, &mut c, name);
    }
    if c.is_done() || state.skips() {
        return Ok(());
    }
    let column = c.column();
    let statement = insn::statement(&mut c)?;
    c.end()?;
    state.emit(&statement).map_err(|problem| (column, problem))
}
