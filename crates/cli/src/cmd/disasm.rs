//! `skep disasm OBJ|-`: instructions as text, as llvm-objdump prints them.

use crate::error::{CliError, Outcome};
use crate::output::Output;
use crate::render::disasm::{Code, Listing};
use skep_isa::Slot;
use skep_object::image::Image;
use std::io::Read;
use std::path::PathBuf;

// Options of `skep disasm`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Objects, or raw instructions in hexadecimal or binary; - is standard input
    #[arg(required = true, value_name = "OBJ")]
    files: Vec<PathBuf>,
    /// Show the source line above the first instruction made from it
    #[arg(short = 'S', long)]
    source: bool,
    /// Name the targets of jumps L0, L1, … instead of by function and byte
    #[arg(long)]
    labels: bool,
    /// Show decimal numbers and the kinds of calls, as one would write them
    #[arg(long)]
    decimal: bool,
    /// Leave the raw bytes out
    #[arg(long)]
    no_show_raw_insn: bool,
    /// Only this section
    #[arg(long, value_name = "NAME")]
    section: Option<String>,
    /// Raw instructions are big-endian
    #[arg(long)]
    big_endian: bool,
}

/// Disassembles.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    let mut outcome = Outcome::Ok;
    for file in &args.files {
        let name = file.display().to_string();
        let result = read(file).and_then(|bytes| one(args, &name, &bytes, out));
        match result {
            Err(CliError::Environment(text)) => {
                eprintln!("skep: {name}: {text}");
                outcome = Outcome::Environment;
            }
            other => other?,
        }
    }
    Ok(outcome)
}

fn read(file: &PathBuf) -> Result<Vec<u8>, CliError> {
    if file.as_os_str() != "-" {
        return std::fs::read(file).map_err(CliError::environment);
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(CliError::environment)?;
    Ok(bytes)
}

fn one(args: &Args, name: &str, bytes: &[u8], out: &mut Output) -> Result<(), CliError> {
    let mut listing = Listing {
        file: name,
        shows_bytes: !args.no_show_raw_insn,
        shows_labels: args.labels,
        shows_source: args.source,
        style: if args.decimal {
            skep_isa::Style::Source
        } else {
            skep_isa::Style::Objdump
        },
        out,
    };
    if !bytes.starts_with(b"\x7fELF") {
        let raw = hexadecimal(bytes).unwrap_or_else(|| bytes.to_vec());
        return listing.code(&raw_code(&raw, args.big_endian)?);
    }
    let image = Image::parse(bytes).map_err(CliError::environment)?;
    listing.header()?;
    for code in Code::of_image(&image) {
        if args
            .section
            .as_ref()
            .is_none_or(|only| *only == code.section)
        {
            listing.code(&code)?;
        }
    }
    Ok(())
}

/// Bytes without an object around them.
fn raw_code(bytes: &[u8], is_big_endian: bool) -> Result<Code, CliError> {
    let (slots, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() || slots.is_empty() {
        let text = format!(
            "{} bytes are not whole instructions of 8 bytes",
            bytes.len()
        );
        return Err(CliError::environment(text));
    }
    let read = if is_big_endian {
        Slot::from_be_bytes
    } else {
        Slot::from_le_bytes
    };
    let slots = slots.iter().map(|b| read(*b)).collect();
    Ok(Code::of_slots(slots, bytes))
}

/// The bytes that text in hexadecimal stands for; `None` if it is something else. Blanks, commas, `0x` and `\x` separate.
fn hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut bytes = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || c == ',') {
        let word = word.replace("\\x", "").replace("0x", "");
        let digits = word.as_bytes();
        if !digits.len().is_multiple_of(2) {
            return None;
        }
        for pair in digits.as_chunks::<2>().0 {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            bytes.push((digit(0)? << 4 | digit(1)?) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::hexadecimal;

    #[test]
    fn hexadecimal_in_many_forms() {
        for text in [
            "b7000000 01000000",
            "b7 00 00 00\n01 00 00 00\n",
            "0xb7, 0x00,0,0",
        ] {
            let bytes = hexadecimal(text.as_bytes());
            assert_eq!(bytes.is_some(), !text.ends_with(",0"), "{text}");
        }
        assert_eq!(hexadecimal(b"\\xb7\\x00"), Some(vec![0xb7, 0]));
        assert_eq!(hexadecimal(&[0xb7, 0, 0, 0, 1, 0, 0, 0]), None);
    }
}
