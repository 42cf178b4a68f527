//! Programs as text, in the three forms of tcpdump (`-d`, `-dd`, `-ddd`), and back from each.

use crate::insn::{ANCILLARY, AluOp, Ancillary, BPF_MAXINSNS, Insn, OPCODES, Op, Relation, Size};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// A form of the text.
///
/// ```
/// use skep_cbpf::text::{Form, parse, print};
///
/// let program = parse("(000) ret #1\n")?;
/// assert_eq!(print(&program, Form::C), "{ 0x6, 0, 0, 0x00000001 },\n");
/// assert_eq!(print(&program, Form::Decimal), "1\n6 0 0 1\n");
/// assert_eq!(parse(&print(&program, Form::Decimal))?, program);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// One instruction a line, readable (`-d`).
    Readable,
    /// Initialisers of a C array (`-dd`).
    C,
    /// Decimal numbers after their count (`-ddd`).
    Decimal,
}

/// Prints a program.
#[must_use]
pub fn print(program: &[Insn], form: Form) -> String {
    let mut out = String::new();
    if form == Form::Decimal {
        out.push_str(&format!("{}\n", program.len()));
    }
    for (at, insn) in program.iter().enumerate() {
        let Insn { code, jt, jf, k } = *insn;
        // Writing to a string does not fail.
        let _ = match form {
            Form::Readable => writeln!(out, "{}", Line { at, insn: *insn }),
            Form::C => writeln!(out, "{{ {code:#x}, {jt}, {jf}, 0x{k:08x} }},"),
            Form::Decimal => writeln!(out, "{code} {jt} {jf} {k}"),
        };
    }
    out
}

/// One instruction with its place, as `tcpdump -d` prints it.
///
/// ```
/// use skep_cbpf::Insn;
/// use skep_cbpf::text::Line;
///
/// let line = Line { at: 3, insn: Insn::new(skep_cbpf::insn::RET, 0) };
/// assert_eq!(line.to_string(), "(003) ret      #0");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Index in the program.
    pub at: usize,
    /// The instruction.
    pub insn: Insn,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, insn } = *self;
        let Some(op) = insn.op() else {
            return write!(f, "({at:03}) {:<8} {:#x}", "unimp", insn.code);
        };
        let (name, operand) = (mnemonic(op), operand(op, at, insn));
        if let Op::JumpK(_) | Op::JumpX(_) = op {
            let (jt, jf) = (at + 1 + usize::from(insn.jt), at + 1 + usize::from(insn.jf));
            return write!(f, "({at:03}) {name:<8} {operand:<16} jt {jt}\tjf {jf}");
        }
        write!(f, "({at:03}) {name:<8} {operand}")
    }
}

fn mnemonic(op: Op) -> &'static str {
    match op {
        Op::LoadAbs(size) | Op::LoadInd(size) => match size {
            Size::W => "ld",
            Size::H => "ldh",
            Size::B => "ldb",
        },
        Op::LoadImm | Op::LoadLen | Op::LoadMem => "ld",
        Op::LoadXImm | Op::LoadXLen | Op::LoadXMem => "ldx",
        Op::LoadXMsh => "ldxb",
        Op::Store => "st",
        Op::StoreX => "stx",
        Op::AluK(op) | Op::AluX(op) => alu_name(op),
        Op::Neg => "neg",
        Op::Jump => "ja",
        Op::JumpK(relation) | Op::JumpX(relation) => match relation {
            Relation::Eq => "jeq",
            Relation::Gt => "jgt",
            Relation::Ge => "jge",
            Relation::Set => "jset",
        },
        Op::RetK | Op::RetA => "ret",
        Op::Tax => "tax",
        Op::Txa => "txa",
    }
}

fn alu_name(op: AluOp) -> &'static str {
    match op {
        AluOp::Add => "add",
        AluOp::Sub => "sub",
        AluOp::Mul => "mul",
        AluOp::Div => "div",
        AluOp::Mod => "mod",
        AluOp::And => "and",
        AluOp::Or => "or",
        AluOp::Xor => "xor",
        AluOp::Lsh => "lsh",
        AluOp::Rsh => "rsh",
    }
}

fn operand(op: Op, at: usize, insn: Insn) -> String {
    let k = insn.k;
    match op {
        Op::LoadAbs(_) => match Ancillary::of_offset(k) {
            Some(datum) => format!("[{}]", ancillary_name(datum)),
            None => format!("[{}]", k.cast_signed()),
        },
        Op::LoadInd(_) => format!("[x + {}]", k.cast_signed()),
        Op::LoadImm | Op::LoadXImm => format!("#{k:#x}"),
        Op::LoadLen | Op::LoadXLen => "#pktlen".to_string(),
        Op::LoadMem | Op::LoadXMem | Op::Store | Op::StoreX => format!("M[{k}]"),
        Op::LoadXMsh => format!("4*([{k}]&0xf)"),
        Op::AluK(AluOp::And | AluOp::Or | AluOp::Xor) => format!("#{k:#x}"),
        Op::AluK(_) | Op::RetK => format!("#{k}"),
        Op::AluX(_) | Op::JumpX(_) => "x".to_string(),
        Op::Jump => format!(
            "{}",
            at.wrapping_add(1)
                .wrapping_add_signed(k.cast_signed() as isize)
        ),
        Op::JumpK(_) => format!("#{k:#x}"),
        Op::Neg | Op::RetA | Op::Tax | Op::Txa => String::new(),
    }
}

fn ancillary_name(datum: Ancillary) -> &'static str {
    ANCILLARY
        .iter()
        .find(|(_, a, _)| *a == datum)
        .map_or("", |(_, _, name)| name)
}

/// A line that is no instruction.
///
/// ```
/// let error = skep_cbpf::text::parse("(000) ldh [12]\n(001) jump\n").unwrap_err();
/// assert_eq!(error.to_string(), "line 2: expected an instruction as tcpdump -d prints it");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What was expected.
    pub expected: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: expected {}", self.line, self.expected)
    }
}

impl core::error::Error for ParseError {}

/// Reads a program in any of the three forms; the first line tells which. Blank lines are skipped.
///
/// # Errors
/// The first line that does not fit, or a program longer than [`BPF_MAXINSNS`].
pub fn parse(text: &str) -> Result<Vec<Insn>, ParseError> {
    let mut program = Vec::new();
    let mut announced = None;
    let lines = text.lines().map(str::trim).enumerate();
    for (number, line) in lines.filter(|(_, l)| !l.is_empty()) {
        let error = |expected| ParseError {
            line: number + 1,
            expected,
        };
        if program.len() == BPF_MAXINSNS {
            return Err(error("at most 4096 instructions"));
        }
        let insn = if line.starts_with('{') {
            numbers(line.trim_matches(['{', '}', ',', ' ']), ',')
                .ok_or(error("{ code, jt, jf, k },"))?
        } else if line.starts_with('(') {
            readable(line, program.len()).ok_or(error("an instruction as tcpdump -d prints it"))?
        } else if announced.is_none() && program.is_empty() {
            announced = Some(line.parse::<usize>().map_err(|_| error("a program"))?);
            continue;
        } else {
            numbers(line, ' ').ok_or(error("code jt jf k"))?
        };
        program.push(insn);
    }
    if announced.is_some_and(|n| n != program.len()) {
        return Err(ParseError {
            line: 1,
            expected: "as many instructions as the first line says",
        });
    }
    Ok(program)
}

/// A number as C writes it.
fn number(text: &str) -> Option<u32> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

fn numbers(line: &str, separator: char) -> Option<Insn> {
    let mut fields = line
        .split(separator)
        .map(str::trim)
        .filter(|f| !f.is_empty())
        .map(number);
    let mut next = || fields.next().flatten();
    let insn = Insn {
        code: u16::try_from(next()?).ok()?,
        jt: u8::try_from(next()?).ok()?,
        jf: u8::try_from(next()?).ok()?,
        k: next()?,
    };
    fields.next().is_none().then_some(insn)
}

/// Reads `(NNN) NAME OPERAND [jt N jf N]`.
fn readable(line: &str, at: usize) -> Option<Insn> {
    let (_, rest) = line.split_once(')')?;
    let (rest, jumps) = match rest.split_once("jt ") {
        Some((rest, jumps)) => {
            let (jt, jf) = jumps.split_once("jf ")?;
            let skip = |to: &str| -> Option<u8> {
                let to: usize = to.trim().parse().ok()?;
                u8::try_from(to.checked_sub(at + 1)?).ok()
            };
            (rest, Some((skip(jt)?, skip(jf)?)))
        }
        None => (rest, None),
    };
    let rest = rest.trim();
    let (name, operand) = rest.split_once(' ').unwrap_or((rest, ""));
    let operand = operand.trim();
    let (code, op) = OPCODES
        .iter()
        .find(|(_, op)| mnemonic(*op) == name && has_shape(*op, operand))?;
    let k = match op {
        Op::Jump => u32::try_from(operand.parse::<usize>().ok()?.checked_sub(at + 1)?).ok()?,
        _ => operand_value(operand)?,
    };
    let (jt, jf) = jumps.unwrap_or((0, 0));
    let conditional = matches!(op, Op::JumpK(_) | Op::JumpX(_));
    (conditional == jumps.is_some()).then_some(Insn::jump(*code, k, jt, jf))
}

/// Whether an operand is written as this operation's operands are.
fn has_shape(op: Op, operand: &str) -> bool {
    match op {
        Op::LoadAbs(_) => operand.starts_with('[') && !operand.starts_with("[x"),
        Op::LoadInd(_) => operand.starts_with("[x + "),
        Op::LoadLen | Op::LoadXLen => operand == "#pktlen",
        Op::LoadMem | Op::LoadXMem | Op::Store | Op::StoreX => operand.starts_with("M["),
        Op::LoadXMsh => operand.starts_with("4*(["),
        Op::AluX(_) | Op::JumpX(_) => operand == "x",
        Op::Neg | Op::RetA | Op::Tax | Op::Txa => operand.is_empty(),
        Op::Jump => true,
        Op::LoadImm | Op::LoadXImm | Op::AluK(_) | Op::RetK | Op::JumpK(_) => {
            operand.starts_with('#') && operand != "#pktlen"
        }
    }
}

fn operand_value(operand: &str) -> Option<u32> {
    if operand.is_empty() || operand == "x" || operand == "#pktlen" {
        return Some(0);
    }
    let inner = operand
        .strip_prefix("4*([")
        .and_then(|o| o.strip_suffix("]&0xf)"))
        .or_else(|| operand.strip_prefix("[x + ")?.strip_suffix(']'))
        .or_else(|| operand.strip_prefix('[')?.strip_suffix(']'))
        .or_else(|| operand.strip_prefix("M[")?.strip_suffix(']'))
        .or_else(|| operand.strip_prefix('#'))?;
    let named = ANCILLARY.iter().find(|(_, _, name)| *name == inner);
    named
        .map(|(_, datum, _)| datum.offset())
        .or_else(|| number(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_opcode_survives_every_form() {
        let mut program: Vec<Insn> = OPCODES
            .iter()
            .map(|(code, op)| match op {
                Op::Jump => Insn::new(*code, 1),
                Op::JumpK(_) => Insn::jump(*code, 0x86dd, 1, 2),
                Op::JumpX(_) => Insn::jump(*code, 0, 2, 1),
                Op::AluX(_) | Op::Neg | Op::RetA | Op::Tax | Op::Txa => Insn::new(*code, 0),
                Op::LoadLen | Op::LoadXLen => Insn::new(*code, 0),
                _ => Insn::new(*code, 7),
            })
            .collect();
        program.push(Insn::new(0x20, Ancillary::VlanTag.offset()));
        program.push(Insn::new(0x20, 0xfff0_0004));
        for form in [Form::Readable, Form::C, Form::Decimal] {
            let text = print(&program, form);
            assert_eq!(parse(&text).as_ref(), Ok(&program), "{text}");
        }
    }

    #[test]
    fn lines_look_as_in_tcpdump() {
        let rows: &[(Insn, &str)] = &[
            (Insn::new(0x28, 12), "(002) ldh      [12]"),
            (
                Insn::jump(0x15, 0x86dd, 0, 6),
                "(002) jeq      #0x86dd          jt 3\tjf 9",
            ),
            (Insn::new(0xb1, 14), "(002) ldxb     4*([14]&0xf)"),
            (Insn::new(0x06, 262_144), "(002) ret      #262144"),
            (Insn::new(0x54, 255), "(002) and      #0xff"),
            (Insn::new(0x30, 0xffff_f030), "(002) ldb      [vlanp]"),
        ];
        for (insn, line) in rows {
            assert_eq!(Line { at: 2, insn: *insn }.to_string(), *line);
        }
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let rows = [
            "x",
            "2\n6 0 0 0",
            "{ 6, 0, 0 },",
            "(000) ldh [12",
            "(000) nop",
            "(000) jeq #1",
            "1\n6 0 0 0 0",
        ];
        for text in rows {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
