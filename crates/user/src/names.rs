//! Names of a program's functions and source lines, for listings and profilers.

use crate::listing::SourceLine;
use skep_btf::Btf;
use skep_verifier::{FuncInfo, LineInfo};
use skep_vm::Lowered;
use std::fmt::Write;

/// Bits of a line record that hold the column.
const COLUMN_BITS: u32 = 10;

/// What is known of a program's names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Names {
    /// As the kernel shows it in its symbols: `bpf_prog_TAG_`.
    prefix: String,
    /// The program's name, for functions without one.
    program: String,
    /// First slot and name of functions.
    functions: Vec<(u32, String)>,
    pub(crate) lines: Vec<SourceLine>,
}

impl Names {
    /// Reads them from a program's debug information.
    pub(crate) fn new(
        program: &str,
        tag: [u8; 8],
        btf: Option<&Btf>,
        funcs: &[FuncInfo],
        lines: &[LineInfo],
    ) -> Self {
        let mut prefix = "bpf_prog_".to_owned();
        for byte in tag {
            let _ = write!(prefix, "{byte:02x}");
        }
        prefix.push('_');
        let function = |f: &FuncInfo| Some((f.insn, btf?.get(f.type_id)?.name().to_owned()));
        let line = |l: &LineInfo| {
            let btf = btf?;
            Some(SourceLine {
                slot: l.insn,
                file: btf.str(l.file).to_owned(),
                line: l.line_col >> COLUMN_BITS,
                text: btf.str(l.text).trim().to_owned(),
            })
        };
        Self {
            prefix,
            program: program.to_owned(),
            functions: funcs.iter().filter_map(function).collect(),
            lines: lines.iter().filter_map(line).collect(),
        }
    }

    /// The symbol of function `func`.
    pub(crate) fn function(&self, func: u32, lowered: &Lowered) -> String {
        let start = lowered
            .verified
            .subprogs()
            .get(func as usize)
            .map(|s| s.start);
        let known = self.functions.iter().find(|(at, _)| Some(*at) == start);
        match known {
            Some((_, name)) => format!("{}{name}", self.prefix),
            None if func == 0 => format!("{}{}", self.prefix, self.program),
            None => format!("{}F{func}", self.prefix),
        }
    }

    /// The source line of a slot.
    pub(crate) fn line(&self, slot: u32) -> Option<&SourceLine> {
        let after = self.lines.partition_point(|l| l.slot <= slot);
        self.lines.get(after.checked_sub(1)?)
    }
}
