//! What a raw filter does, by running it for every system call.

use super::policy::{Action, Arch};
use crate::insn::{Insn, Op, Size};
use crate::interp::{LongShift, alu};
use alloc::vec;
use alloc::vec::Vec;

/// What a filter does with a system call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explained {
    /// Number of the system call.
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// What may happen; more than one thing if it depends on arguments.
    pub actions: Vec<Action>,
}

/// Most paths followed for one system call.
const PATHS_MAX: usize = 4096;

/// What a filter does with each system call of an architecture. Comparisons of arguments go both ways.
#[must_use]
pub fn explain(code: &[Insn], arch: Arch) -> Vec<Explained> {
    arch.syscalls()
        .map(|(number, name)| Explained {
            number,
            name,
            actions: actions(code, arch.audit(), number),
        })
        .collect()
}

/// A state of the machine; unknown values come from arguments.
#[derive(Clone)]
struct Path {
    at: usize,
    a: Option<u32>,
    x: Option<u32>,
    words: [Option<u32>; 16],
}

fn actions(code: &[Insn], audit: u32, number: u32) -> Vec<Action> {
    let start = Path {
        at: 0,
        a: Some(0),
        x: Some(0),
        words: [Some(0); 16],
    };
    let mut paths = vec![start];
    let mut found = Vec::new();
    let mut followed = 0;
    while let Some(mut path) = paths.pop() {
        followed += 1;
        if followed > PATHS_MAX {
            break;
        }
        while let Some(insn) = code.get(path.at) {
            path.at += 1;
            let k = insn.k;
            let slot = (k & 15) as usize;
            match insn.op() {
                Some(Op::LoadAbs(Size::W)) => path.a = field(k, audit, number),
                Some(Op::LoadImm) => path.a = Some(k),
                Some(Op::LoadXImm) => path.x = Some(k),
                Some(Op::LoadLen) => path.a = Some(64),
                Some(Op::LoadXLen) => path.x = Some(64),
                Some(Op::LoadMem) => path.a = path.words[slot],
                Some(Op::LoadXMem) => path.x = path.words[slot],
                Some(Op::Store) => path.words[slot] = path.a,
                Some(Op::StoreX) => path.words[slot] = path.x,
                Some(Op::AluK(op)) => {
                    path.a = path.a.and_then(|a| alu(op, a, k, LongShift::Modulo));
                }
                Some(Op::AluX(op)) => {
                    let pair = path.a.zip(path.x);
                    path.a = pair.and_then(|(a, x)| alu(op, a, x, LongShift::Modulo));
                }
                Some(Op::Neg) => path.a = path.a.map(u32::wrapping_neg),
                Some(Op::Tax) => path.x = path.a,
                Some(Op::Txa) => path.a = path.x,
                Some(Op::Jump) => path.at += k as usize,
                Some(Op::JumpK(relation)) => {
                    branch(&mut path, &mut paths, insn, |p| {
                        p.a.map(|a| relation.holds(a, k))
                    });
                }
                Some(Op::JumpX(relation)) => {
                    branch(&mut path, &mut paths, insn, |p| {
                        p.a.zip(p.x).map(|(a, x)| relation.holds(a, x))
                    });
                }
                Some(Op::RetK) => {
                    note(&mut found, Action::of_value(k));
                    break;
                }
                Some(Op::RetA) => {
                    note(&mut found, path.a.map_or(Action::Kill, Action::of_value));
                    break;
                }
                _ => break,
            }
        }
    }
    found
}

fn note(found: &mut Vec<Action>, action: Action) {
    if !found.contains(&action) {
        found.push(action);
    }
}

fn branch(
    path: &mut Path,
    paths: &mut Vec<Path>,
    insn: &Insn,
    holds: impl Fn(&Path) -> Option<bool>,
) {
    let (jt, jf) = (usize::from(insn.jt), usize::from(insn.jf));
    match holds(path) {
        Some(true) => path.at += jt,
        Some(false) => path.at += jf,
        None => {
            let mut other = path.clone();
            other.at += jt;
            paths.push(other);
            path.at += jf;
        }
    }
}

/// A word of `struct seccomp_data`, if it is not of an argument or the address.
fn field(offset: u32, audit: u32, number: u32) -> Option<u32> {
    match offset {
        0 => Some(number),
        4 => Some(audit),
        _ => None,
    }
}

/// Runs a filter for one call, on a little-endian machine.
#[cfg(test)]
pub(super) fn run(code: &[Insn], audit: u32, number: u32, args: [u64; 6]) -> Action {
    use crate::interp::{Packet, Program};
    // The interpreter loads big-endian words, so the structure is made of those.
    let mut bytes = Vec::new();
    bytes.extend(number.to_be_bytes());
    bytes.extend(audit.to_be_bytes());
    bytes.extend([0; 8]);
    for arg in args {
        bytes.extend((arg as u32).to_be_bytes());
        bytes.extend(((arg >> 32) as u32).to_be_bytes());
    }
    let program = Program::new(code, LongShift::Modulo).unwrap();
    Action::of_value(program.run(&Packet::of_file(&bytes, 64)))
}

/// Instructions that a filter executes for a call whose arguments do not matter.
#[cfg(test)]
pub(super) fn steps(code: &[Insn], audit: u32, number: u32) -> usize {
    let (mut at, mut a, mut steps) = (0, 0, 0);
    loop {
        let insn = code[at];
        at += 1;
        steps += 1;
        match insn.op() {
            Some(Op::LoadAbs(_)) => a = field(insn.k, audit, number).unwrap(),
            Some(Op::JumpK(r)) => {
                at += usize::from(if r.holds(a, insn.k) { insn.jt } else { insn.jf });
            }
            Some(Op::Jump) => at += insn.k as usize,
            _ => return steps,
        }
    }
}
