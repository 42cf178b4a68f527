//! A policy as a program: the architecture, then a search over ranges of numbers that halves them, then arguments.

use super::policy::{Action, Arch, Argument, Comparison, Policy, X32_BIT};
use crate::check::{CheckError, check_seccomp};
use crate::insn::{Insn, RET, Relation};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use skep_isa::opcode::{ABS, ALU, AND, JA, JMP, K, LD};

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What happens to one system call: rules to try in order, and what if none fits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Verdict {
    /// Conditions as pairs of rule and action value.
    tries: Vec<(usize, u32)>,
    last: u32,
}

/// A program under construction, from its end to its start. Places are counted from the end.
struct Backward<'p> {
    policy: &'p Policy,
    code: Vec<Insn>,
    returns: BTreeMap<u32, usize>,
}

/// Farthest a conditional jump reaches.
const JUMP_MAX: usize = 255;

/// Compiles a policy.
///
/// # Errors
/// If the program is longer than the kernel takes.
pub fn compile(policy: &Policy) -> Result<Vec<Insn>, CheckError> {
    let mut b = Backward {
        policy,
        code: Vec::new(),
        returns: BTreeMap::new(),
    };
    let other = b.ret(policy.other.value());
    let mut next = other;
    // x32 shares the architecture of x86-64, and is told apart by the number.
    let mut audits: Vec<u32> = policy.arches.iter().map(|a| a.audit()).collect();
    audits.dedup();
    for audit in audits.iter().rev() {
        let body = b.arch_body(*audit);
        next = b.jump(Relation::Eq, *audit, body, next);
    }
    b.code.push(Insn::new(LD | ABS, ARCH));
    b.code.reverse();
    check_seccomp(&b.code)?;
    Ok(b.code)
}

impl Backward<'_> {
    fn push(&mut self, insn: Insn) -> usize {
        self.code.push(insn);
        self.code.len() - 1
    }

    /// Place of a return of this value, a near one if there is.
    fn ret(&mut self, value: u32) -> usize {
        if let Some(place) = self.returns.get(&value)
            && self.code.len() - place < JUMP_MAX - 2
        {
            return *place;
        }
        let place = self.push(Insn::new(RET | K, value));
        self.returns.insert(value, place);
        place
    }

    /// A place within reach from which `place` is reached.
    fn near(&mut self, place: usize) -> usize {
        if self.code.len() - 1 - place <= JUMP_MAX - 2 {
            return place;
        }
        // Programs have at most 4096 instructions.
        let skip = (self.code.len() - 1 - place) as u32;
        self.push(Insn::new(JMP | JA, skip))
    }

    fn jump(&mut self, relation: Relation, k: u32, yes: usize, no: usize) -> usize {
        if yes == no {
            return yes;
        }
        let yes = self.near(yes);
        let no = self.near(no);
        let skip = |place: usize| (self.code.len() - 1 - place) as u8;
        let insn = Insn::jump(JMP | relation.code() | K, k, skip(yes), skip(no));
        self.push(insn)
    }

    /// Everything about the system calls of an architecture.
    fn arch_body(&mut self, audit: u32) -> usize {
        let arches: Vec<Arch> = self
            .policy
            .arches
            .iter()
            .copied()
            .filter(|a| a.audit() == audit)
            .collect();
        let ranges = self.ranges(&arches);
        let search = self.search(&ranges);
        let load = Insn::new(LD | ABS, NUMBER);
        if self.code.len() - 1 != search {
            self.near_fall(search);
        }
        self.push(load)
    }

    /// Makes the next instruction put down fall to `place`.
    fn near_fall(&mut self, place: usize) {
        let skip = (self.code.len() - 1 - place) as u32;
        self.push(Insn::new(JMP | JA, skip));
    }

    /// What happens from each number on, ordered.
    fn ranges(&self, arches: &[Arch]) -> Vec<(u32, Verdict)> {
        let outside = |last: Action| Verdict {
            tries: Vec::new(),
            last: last.value(),
        };
        let mut points: BTreeMap<u32, Verdict> = BTreeMap::new();
        for arch in arches {
            for (number, name) in arch.syscalls() {
                points.insert(number, self.verdict(name));
            }
        }
        let mut ranges = alloc::vec![(0, outside(self.policy.default))];
        let mut push = |from: u32, verdict: Verdict| match ranges.last_mut() {
            Some((_, last)) if *last == verdict => {}
            Some((at, last)) if *at == from => *last = verdict,
            _ => ranges.push((from, verdict)),
        };
        let mut end = 0;
        for (number, verdict) in points {
            if number > end {
                push(end, outside(self.policy.default));
            }
            push(number, verdict);
            end = number + 1;
        }
        push(end, outside(self.policy.default));
        // Numbers with the bit of x32 belong to another architecture unless the policy has it.
        if arches.contains(&Arch::X86_64) && !arches.contains(&Arch::X32) {
            push(X32_BIT, outside(self.policy.other));
        }
        ranges
    }

    fn verdict(&self, name: &str) -> Verdict {
        let mut tries = Vec::new();
        for (i, rule) in self.policy.rules.iter().enumerate() {
            if !rule.syscalls.iter().any(|s| s == name) {
                continue;
            }
            let value = rule.action.value();
            if rule.arguments.is_empty() {
                return Verdict { tries, last: value };
            }
            tries.push((i, value));
        }
        Verdict {
            tries,
            last: self.policy.default.value(),
        }
    }

    /// A search that halves the ranges.
    fn search(&mut self, ranges: &[(u32, Verdict)]) -> usize {
        let (low, high) = ranges.split_at(ranges.len() / 2);
        match (low.is_empty(), high.first()) {
            (true, Some((_, verdict))) => {
                let verdict = verdict.clone();
                self.decide(&verdict)
            }
            (_, Some((from, _))) => {
                let from = *from;
                let above = self.search(high);
                let below = self.search(low);
                self.jump(Relation::Ge, from, above, below)
            }
            (_, None) => self.ret(self.policy.default.value()),
        }
    }

    fn decide(&mut self, verdict: &Verdict) -> usize {
        let mut place = self.ret(verdict.last);
        for (rule, value) in verdict.tries.iter().rev() {
            let mut yes = self.ret(*value);
            let arguments = self.policy.rules[*rule].arguments.clone();
            for argument in arguments.iter().rev() {
                yes = self.argument(argument, yes, place);
            }
            place = yes;
        }
        place
    }

    /// A comparison of the loaded half of an argument.
    fn half(&mut self, offset: u32, mask: u32, k: u32, yes: usize, no: usize) -> usize {
        if mask == 0 {
            return if k == 0 { yes } else { no };
        }
        let test = self.jump(Relation::Eq, k, yes, no);
        if mask != u32::MAX {
            self.fall(test, Insn::new(ALU | AND | K, mask));
        }
        let place = self.code.len() - 1;
        self.fall(place, Insn::new(LD | ABS, offset))
    }

    /// Puts down an instruction that falls to `place`.
    fn fall(&mut self, place: usize, insn: Insn) -> usize {
        if self.code.len() - 1 != place {
            self.near_fall(place);
        }
        self.push(insn)
    }

    /// Compares an argument: its upper half (little-endian: the later word), then its lower one.
    fn argument(&mut self, argument: &Argument, yes: usize, no: usize) -> usize {
        let low = ARGUMENTS + argument.index * 8;
        let high = low + 4;
        let (high_k, low_k) = ((argument.value >> 32) as u32, argument.value as u32);
        let (relation, yes, no) = match argument.comparison {
            Comparison::Masked(mask) => {
                let rest = self.half(low, mask as u32, low_k, yes, no);
                return self.half(high, (mask >> 32) as u32, high_k, rest, no);
            }
            Comparison::NotMasked(mask) => {
                let rest = self.half(low, mask as u32, low_k, no, yes);
                return self.half(high, (mask >> 32) as u32, high_k, rest, yes);
            }
            Comparison::Equal => {
                let rest = self.half(low, u32::MAX, low_k, yes, no);
                return self.half(high, u32::MAX, high_k, rest, no);
            }
            Comparison::NotEqual => {
                let rest = self.half(low, u32::MAX, low_k, no, yes);
                return self.half(high, u32::MAX, high_k, rest, yes);
            }
            Comparison::Greater => (Relation::Gt, yes, no),
            Comparison::GreaterEqual => (Relation::Ge, yes, no),
            Comparison::Less => (Relation::Ge, no, yes),
            Comparison::LessEqual => (Relation::Gt, no, yes),
        };
        let test = self.jump(relation, low_k, yes, no);
        let rest = self.fall(test, Insn::new(LD | ABS, low));
        let equal = self.jump(Relation::Eq, high_k, rest, no);
        let above = self.jump(Relation::Gt, high_k, yes, equal);
        self.fall(above, Insn::new(LD | ABS, high))
    }
}

#[cfg(test)]
mod tests {
    use super::super::explain::run;
    use super::*;

    const POLICY: &str = "
        arch x86_64 i386 aarch64 arm riscv64
        default errno ENOSYS
        other kill
        allow read write exit_group mmap brk close fstat
        errno EACCES openat if arg2 & 3 == 1
        allow openat if arg1 != 0x100000000 and arg0 > 5
        trace 7 openat
        log socket if arg0 <= 0x200000001
        notify mount
        kill ptrace
    ";

    #[test]
    fn calls_get_what_the_policy_says() {
        let policy = Policy::parse(POLICY, Arch::X86_64).unwrap();
        let code = compile(&policy).unwrap();
        let call = |arch: Arch, name: &str, args: [u64; 6]| {
            let number = arch.number(name).unwrap();
            run(&code, arch.audit(), number, args)
        };
        for arch in [
            Arch::X86_64,
            Arch::I386,
            Arch::Aarch64,
            Arch::Arm,
            Arch::Riscv64,
        ] {
            assert_eq!(call(arch, "read", [0; 6]), Action::Allow, "{arch:?}");
            assert_eq!(call(arch, "ptrace", [0; 6]), Action::Kill);
            assert_eq!(call(arch, "mount", [0; 6]), Action::Notify);
            assert_eq!(call(arch, "getpid", [0; 6]), Action::Errno(38));
            assert_eq!(call(arch, "openat", [9, 0, 1, 0, 0, 0]), Action::Errno(13));
            assert_eq!(call(arch, "openat", [9, 0, 2, 0, 0, 0]), Action::Allow);
            assert_eq!(call(arch, "openat", [5, 0, 2, 0, 0, 0]), Action::Trace(7));
            assert_eq!(
                call(arch, "openat", [1 << 40, 1 << 32, 2, 0, 0, 0]),
                Action::Trace(7)
            );
            assert_eq!(
                call(arch, "openat", [1 << 40, 1, 2, 0, 0, 0]),
                Action::Allow
            );
            for (value, logged) in [
                (0, true),
                (0x2_0000_0001, true),
                (0x2_0000_0002, false),
                (u64::MAX, false),
            ] {
                let expected = if logged {
                    Action::Log
                } else {
                    Action::Errno(38)
                };
                assert_eq!(
                    call(arch, "socket", [value, 0, 0, 0, 0, 0]),
                    expected,
                    "{value:#x}"
                );
            }
        }
        assert_eq!(run(&code, Arch::X32.audit(), X32_BIT, [0; 6]), Action::Kill);
        assert_eq!(run(&code, 0x1234, 0, [0; 6]), Action::Kill);
    }

    #[test]
    fn the_search_is_balanced() {
        // Every second call allowed: the worst case for ranges.
        let names: Vec<&str> = Arch::X86_64.syscalls().map(|(_, n)| n).step_by(2).collect();
        let text = alloc::format!("arch x86_64\ndefault kill\nallow {}", names.join(" "));
        let policy = Policy::parse(&text, Arch::X86_64).unwrap();
        let code = compile(&policy).unwrap();
        for (i, (number, _)) in Arch::X86_64.syscalls().enumerate() {
            let expected = if i % 2 == 0 {
                Action::Allow
            } else {
                Action::Kill
            };
            assert_eq!(run(&code, Arch::X86_64.audit(), number, [0; 6]), expected);
            let steps = super::super::explain::steps(&code, Arch::X86_64.audit(), number);
            assert!(steps < 20, "{number}: {steps} instructions");
        }
    }

    #[test]
    fn policies_that_are_none() {
        let rows = [
            "alow read",
            "allow nosuchcall",
            "errno EWHAT read",
            "allow",
            "allow read if arg6 == 1",
            "allow read if arg0 ~ 1",
            "allow read if arg0 == x",
            "arch vax",
            "default kill now",
        ];
        for text in rows {
            assert!(Policy::parse(text, Arch::X86_64).is_err(), "{text}");
        }
    }
}
