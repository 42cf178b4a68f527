//! Case files: a whole program, inputs, and what must come of them.
//!
//! The program is assembly text. Lines that start with `;` say what to do with it:
//!
//! ```text
//! ; test: verify, run            source: RFC 9669 §4.1
//! ; r0 = 0x1                     no input
//! ; in 0x1 0x2 -> r0 = 0x3       the context is memory: two 64-bit words, little-endian, which `r1` points to
//! ; in 0x1 0x2 -> r0 = 0x3, out 0x1 0x3      and the program changes it
//! ; memory: 8                    `in` lines that are shorter continue with zeros up to 8 words
//! ; type: socket_filter          a kernel program type, with
//! ; data 00112233 -> r0 = 0x1    a packet
//! ; error V0101 at 2: r1 is read but was never written
//! ```
//!
//! Every other such line is a comment. `run` means every engine: interpreter (also checked against the verifier's states,
//! unless `unchecked` is there too, for long runs), JIT, the kernel if it is allowed.

use skep_abi::ProgType;
use skep_isa::Slot;
use skep_isa::asm::assemble_insns;
use skep_object::write::LinuxNames;
use std::path::{Path, PathBuf};

/// A case file.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where it is.
    pub path: PathBuf,
    /// Its lines.
    lines: Vec<String>,
    /// The program.
    pub insns: Vec<Slot>,
    /// The kernel's program type, `None` for a program whose context is memory.
    pub prog_type: Option<ProgType>,
    /// Least number of words of memory.
    memory_words: usize,
    /// False if the program is only verified.
    pub runs: bool,
    /// True if a run also compares every instruction with the verifier's states.
    pub is_checked: bool,
    /// What must come of it.
    pub rows: Vec<Row>,
}

/// An input and the result that is expected.
#[derive(Clone, Debug)]
pub struct Row {
    /// Index of its line.
    line: usize,
    /// What the program gets.
    pub input: Input,
    /// The result as text: what follows `->`, or the whole line if there is no input.
    pub expected: String,
}

/// What a program gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Nothing.
    None,
    /// Memory, as 64-bit words.
    Words(Vec<u64>),
    /// A packet.
    Packet(Vec<u8>),
}

impl Input {
    /// Bytes of memory that the program's context has.
    #[must_use]
    pub fn memory(&self) -> Vec<u8> {
        match self {
            Self::Words(words) => words.iter().flat_map(|w| w.to_le_bytes()).collect(),
            Self::None | Self::Packet(_) => Vec::new(),
        }
    }
}

/// The result of a run in the form of case files. `before` and `after` are the memory.
#[must_use]
pub fn result_text(r0: u64, before: &[u8], after: &[u8]) -> String {
    let mut text = format!("r0 = {r0:#x}");
    if before != after {
        text += ", out";
        for word in after.as_chunks::<8>().0 {
            text += &format!(" {:#x}", u64::from_le_bytes(*word));
        }
    }
    text
}

impl Case {
    /// Reads a case file.
    ///
    /// # Errors
    /// What is wrong with it, with its place.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let insns = assemble_insns(&text, &LinuxNames)
            .map_err(|errors| format!("{}:{}", path.display(), errors[0]))?;
        let mut case = Self {
            path: path.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            insns,
            prog_type: None,
            memory_words: 0,
            runs: false,
            is_checked: false,
            rows: Vec::new(),
        };
        for at in 0..case.lines.len() {
            let Some(line) = case.lines[at].strip_prefix(';') else {
                continue;
            };
            let line = line.trim().to_owned();
            case.directive(at, &line)
                .map_err(|e| format!("{}:{}: {e}", path.display(), at + 1))?;
        }
        if case.rows.is_empty() {
            return Err(format!("{}: nothing is expected of it", path.display()));
        }
        Ok(case)
    }

    fn directive(&mut self, at: usize, line: &str) -> Result<(), String> {
        if let Some(what) = line.strip_prefix("test:") {
            let what = what.split("source:").next().unwrap_or_default();
            let has = |wanted| what.split(',').any(|word| word.trim() == wanted);
            self.runs = has("run");
            self.is_checked = self.runs && !has("unchecked");
        } else if let Some(words) = line.strip_prefix("memory:") {
            let words = words.trim().parse();
            self.memory_words = words.map_err(|_| "no number of words")?;
        } else if let Some(name) = line.strip_prefix("type:") {
            let found = ProgType::from_name(name.trim());
            self.prog_type = Some(found.ok_or("no such program type")?);
        } else if let Some(rest) = line.strip_prefix("in ") {
            let (words, expected) = rest.split_once("->").ok_or("`->` is missing")?;
            let words: Result<Vec<u64>, String> = words.split_whitespace().map(word).collect();
            let mut words = words?;
            words.resize(words.len().max(self.memory_words), 0);
            self.row(at, Input::Words(words), expected);
        } else if let Some(rest) = line.strip_prefix("data ") {
            let (hex, expected) = rest.split_once("->").ok_or("`->` is missing")?;
            self.row(at, Input::Packet(packet(hex.trim())?), expected);
        } else if line.starts_with("r0 =") || line.starts_with("error ") {
            self.row(at, Input::None, line);
        }
        Ok(())
    }

    fn row(&mut self, line: usize, input: Input, expected: &str) {
        let expected = expected.trim().to_owned();
        self.rows.push(Row {
            line,
            input,
            expected,
        });
    }

    /// True if the program must be refused.
    #[must_use]
    pub fn is_rejection(&self) -> bool {
        self.rows.iter().any(|r| r.expected.starts_with("error"))
    }

    /// Writes the file again with other expectations, one a row.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn update(&mut self, found: &[String]) -> std::io::Result<()> {
        for (row, text) in self.rows.iter().zip(found) {
            let line = &mut self.lines[row.line];
            *line = match line.split_once("->") {
                Some((input, _)) => format!("{input}-> {text}"),
                None => format!("; {text}"),
            };
        }
        std::fs::write(&self.path, self.lines.join("\n") + "\n")
    }
}

/// A word in hexadecimal with `0x`, or decimal.
fn word(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is no word"))
}

fn packet(hex: &str) -> Result<Vec<u8>, String> {
    let byte = |pair: &[u8; 2]| {
        let text = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(text, 16).ok()
    };
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    match bytes {
        Some(bytes) if rest.is_empty() => Ok(bytes),
        _ => Err("the packet is not hexadecimal".to_owned()),
    }
}
