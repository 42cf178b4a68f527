//! Which programs may run: the kernel's rules for sockets (`bpf_check_classic`) and for seccomp.

use crate::insn::{AluOp, BPF_MAXINSNS, BPF_MEMWORDS, Insn, Op, SKF_AD_OFF};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// Bytes of `struct seccomp_data`, all a seccomp filter can read.
pub const SECCOMP_DATA_BYTES: u32 = 64;

/// Why a program may not run.
///
/// ```
/// use skep_cbpf::check::Cause;
/// use skep_cbpf::{check, text};
///
/// let program = text::parse("(000) ld [4]\n(001) div #0\n(002) ret\n")?;
/// let error = check(&program).unwrap_err();
/// assert_eq!((error.at, error.cause), (1, Cause::DivisionByZero));
/// assert_eq!(error.to_string(), "insn 1: division by zero");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckError {
    /// Index of the instruction.
    pub at: usize,
    /// What is wrong with it.
    pub cause: Cause,
}

/// What is wrong with an instruction.
///
/// ```
/// use skep_cbpf::check::Cause;
/// use skep_cbpf::{check, check_seccomp, text};
///
/// // A byte of a packet: sockets may, seccomp has words of the call alone.
/// let program = text::parse("(000) ldb [9]\n(001) ret\n")?;
/// assert!(check(&program).is_ok());
/// assert!(matches!(check_seccomp(&program).unwrap_err().cause, Cause::NotInSeccomp(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// No instructions, or more than [`BPF_MAXINSNS`].
    Length(usize),
    /// An opcode the kernel does not know.
    Opcode(u16),
    /// An opcode, or an offset, that seccomp does not allow.
    NotInSeccomp(u16),
    /// Division or modulo by the constant zero.
    DivisionByZero,
    /// A shift by a constant of 32 or more.
    Shift(u32),
    /// A scratch word that does not exist.
    Scratch(u32),
    /// A scratch word read before it was written on every path.
    ScratchUnset(u32),
    /// A jump past the end.
    Jump,
    /// An ancillary offset that means nothing.
    Ancillary(u32),
    /// The last instruction does not return.
    NoReturn,
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Cause::Length(n) = self.cause {
            return write!(f, "a program has 1 to {BPF_MAXINSNS} instructions, not {n}");
        }
        write!(f, "insn {}: ", self.at)?;
        match self.cause {
            Cause::Length(_) => Ok(()),
            Cause::Opcode(code) => write!(f, "unknown opcode {code:#x}"),
            Cause::NotInSeccomp(code) => {
                write!(
                    f,
                    "opcode {code:#x} or its offset is not allowed in seccomp"
                )
            }
            Cause::DivisionByZero => write!(f, "division by zero"),
            Cause::Shift(by) => write!(f, "shift by {by}, more than 31 bits"),
            Cause::Scratch(k) => write!(f, "there is no scratch word M[{k}]"),
            Cause::ScratchUnset(k) => write!(f, "M[{k}] is read but not written on every path"),
            Cause::Jump => write!(f, "jump past the end of the program"),
            Cause::Ancillary(k) => write!(f, "no ancillary datum at offset {k:#x}"),
            Cause::NoReturn => write!(f, "the last instruction must return"),
        }
    }
}

impl core::error::Error for CheckError {}

/// Checks a program as the kernel does before it attaches it to a socket.
///
/// # Errors
/// The first instruction that breaks a rule.
pub fn check(program: &[Insn]) -> Result<(), CheckError> {
    if program.is_empty() || program.len() > BPF_MAXINSNS {
        return Err(CheckError {
            at: 0,
            cause: Cause::Length(program.len()),
        });
    }
    for (at, insn) in program.iter().enumerate() {
        check_insn(*insn, program.len() - at - 1).map_err(|cause| CheckError { at, cause })?;
    }
    let last = program.len() - 1;
    if !matches!(program[last].op(), Some(Op::RetK | Op::RetA)) {
        return Err(CheckError {
            at: last,
            cause: Cause::NoReturn,
        });
    }
    check_scratch(program)
}

/// Checks one instruction that `after` others follow.
fn check_insn(insn: Insn, after: usize) -> Result<(), Cause> {
    let op = insn.op().ok_or(Cause::Opcode(insn.code))?;
    match op {
        Op::AluK(AluOp::Div | AluOp::Mod) if insn.k == 0 => Err(Cause::DivisionByZero),
        Op::AluK(AluOp::Lsh | AluOp::Rsh) if insn.k >= 32 => Err(Cause::Shift(insn.k)),
        Op::LoadMem | Op::LoadXMem | Op::Store | Op::StoreX if insn.k >= BPF_MEMWORDS => {
            Err(Cause::Scratch(insn.k))
        }
        Op::Jump if u64::from(insn.k) >= after as u64 => Err(Cause::Jump),
        Op::JumpK(_) | Op::JumpX(_) if usize::from(insn.jt.max(insn.jf)) >= after => {
            Err(Cause::Jump)
        }
        Op::LoadAbs(_) if insn.k >= SKF_AD_OFF && insn.ancillary().is_none() => {
            Err(Cause::Ancillary(insn.k))
        }
        _ => Ok(()),
    }
}

/// Checks that scratch words are written before they are read, on every path.
fn check_scratch(program: &[Insn]) -> Result<(), CheckError> {
    let mut first = None;
    unset_words(program, |at, k| {
        first.get_or_insert(CheckError {
            at,
            cause: Cause::ScratchUnset(k),
        });
    });
    first.map_or(Ok(()), Err)
}

/// Calls `found` for every instruction that reads a scratch word that is not written on every path to it.
pub(crate) fn unset_words(program: &[Insn], mut found: impl FnMut(usize, u32)) {
    // Words written on every path to each instruction; jumps go forward, so one pass is enough.
    let mut written: Vec<u16> = vec![u16::MAX; program.len() + 1];
    written[0] = 0;
    for (at, insn) in program.iter().enumerate() {
        let mut here = written[at];
        let bit = |k: u32| 1u16 << (k & 15);
        let mut join = |distance: u32, set: u16| {
            // Backward jumps are of loops, which the kernel does not take, and write nothing that is read before.
            if let Some(to) = written.get_mut((at + 1).saturating_add(distance as usize)) {
                *to &= set;
            }
        };
        match insn.op() {
            Some(Op::Store | Op::StoreX) => here |= bit(insn.k),
            Some(Op::LoadMem | Op::LoadXMem) if here & bit(insn.k) == 0 => found(at, insn.k),
            Some(Op::Jump) => {
                join(insn.k, here);
                continue;
            }
            Some(Op::JumpK(_) | Op::JumpX(_)) => {
                join(u32::from(insn.jt), here);
                join(u32::from(insn.jf), here);
                continue;
            }
            _ => {}
        }
        // The kernel goes on behind a return, too, although nothing runs from there on.
        join(0, here);
    }
}

/// Checks a program as the kernel does before it installs it with seccomp(2): the rules of [`check`], loads only of
/// aligned words of `struct seccomp_data`, no packet loads, no modulo.
///
/// # Errors
/// The first instruction that breaks a rule.
pub fn check_seccomp(program: &[Insn]) -> Result<(), CheckError> {
    check(program)?;
    for (at, insn) in program.iter().enumerate() {
        let allowed = match insn.op() {
            Some(Op::LoadAbs(size)) => {
                size == crate::insn::Size::W && insn.k < SECCOMP_DATA_BYTES && insn.k % 4 == 0
            }
            Some(Op::LoadInd(_) | Op::LoadXMsh) => false,
            Some(Op::AluK(AluOp::Mod) | Op::AluX(AluOp::Mod)) => false,
            _ => true,
        };
        if !allowed {
            return Err(CheckError {
                at,
                cause: Cause::NotInSeccomp(insn.code),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Program as (code, jt, jf, k), and the place and cause of its refusal.
    type Row = (&'static [(u16, u8, u8, u32)], Option<(usize, Cause)>);

    #[rustfmt::skip] // one program per line
    const CASES: &[Row] = &[
        (&[(0x06, 0, 0, 0)], None),
        (&[], Some((0, Cause::Length(0)))),
        (&[(0x04, 0, 0, 1)], Some((0, Cause::NoReturn))),
        (&[(0xff, 0, 0, 1), (6, 0, 0, 0)], Some((0, Cause::Opcode(0xff)))),
        (&[(0x34, 0, 0, 0), (6, 0, 0, 0)], Some((0, Cause::DivisionByZero))),
        (&[(0x94, 0, 0, 0), (6, 0, 0, 0)], Some((0, Cause::DivisionByZero))),
        (&[(0x64, 0, 0, 32), (6, 0, 0, 0)], Some((0, Cause::Shift(32)))),
        (&[(0x02, 0, 0, 16), (6, 0, 0, 0)], Some((0, Cause::Scratch(16)))),
        (&[(0x60, 0, 0, 3), (6, 0, 0, 0)], Some((0, Cause::ScratchUnset(3)))),
        (&[(0x02, 0, 0, 3), (0x60, 0, 0, 3), (6, 0, 0, 0)], None),
        (&[(0x15, 0, 1, 5), (0x02, 0, 0, 1), (0x60, 0, 0, 1), (6, 0, 0, 0)], Some((2, Cause::ScratchUnset(1)))),
        (&[(0x06, 0, 0, 0), (0x60, 0, 0, 1), (6, 0, 0, 0)], Some((1, Cause::ScratchUnset(1)))),
        (&[(0x05, 0, 0, 1), (0x60, 0, 0, 1), (6, 0, 0, 0)], None),
        (&[(0x15, 0, 1, 5), (6, 0, 0, 0)], Some((0, Cause::Jump))),
        (&[(0x05, 0, 0, 1), (6, 0, 0, 0)], Some((0, Cause::Jump))),
        (&[(0x20, 0, 0, 0xffff_f004), (6, 0, 0, 0)], None),
        (&[(0x20, 0, 0, 0xffff_f005), (6, 0, 0, 0)], Some((0, Cause::Ancillary(0xffff_f005)))),
        (&[(0x20, 0, 0, 0xfff0_0000), (6, 0, 0, 0)], None),
    ];

    fn program(rows: &[(u16, u8, u8, u32)]) -> Vec<Insn> {
        rows.iter()
            .map(|&(code, jt, jf, k)| Insn { code, jt, jf, k })
            .collect()
    }

    #[test]
    fn socket_rules() {
        for (rows, expected) in CASES {
            let found = check(&program(rows)).err().map(|e| (e.at, e.cause));
            assert_eq!(found, *expected, "{rows:?}");
        }
    }

    #[test]
    fn seccomp_rules() {
        let cases: &[(u16, u32, bool)] = &[
            (0x20, 0, true),
            (0x20, 60, true),
            (0x20, 64, false),
            (0x20, 2, false),
            (0x28, 0, false),
            (0x40, 0, false),
            (0xb1, 0, false),
            (0x94, 3, false),
            (0x34, 3, true),
            (0x80, 0, true),
        ];
        for &(code, k, allowed) in cases {
            let p = program(&[(code, 0, 0, k), (6, 0, 0, 0)]);
            assert_eq!(check_seccomp(&p).is_ok(), allowed, "{code:#x} {k}");
        }
    }
}
