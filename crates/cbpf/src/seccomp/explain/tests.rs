//! Explanations against the interpreter, and policies there and back.

use super::value::FIELDS;
use super::{Computed, Ending, Explained, explain, explain_call, in_order, run};
use crate::check::check_seccomp;
use crate::insn::{Insn, MISC, RET, RVAL_A, TAX};
use crate::seccomp::{Action, Arch, Policy, compile};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use skep_isa::opcode::{ABS, ADD, ALU, AND, JEQ, JGE, JGT, JMP, JSET, K, LD, MOD, RSH, X};

/// The action an explanation tells for arguments.
fn told(explained: &Explained, args: [u64; 6]) -> Option<Action> {
    let (last, others) = explained.cases.split_last()?;
    let meets = |case: &&super::Case| case.conditions.iter().all(|c| c.holds(0, args));
    let case = others.iter().find(meets).unwrap_or(last);
    let [a, b, c, d, e, f] = args;
    let fields: [u64; FIELDS] = [0, a, b, c, d, e, f];
    match &case.ending {
        Ending::Action(action) => Some(*action),
        Ending::Computed(Computed(value)) => value.of(&fields).map(Action::of_value),
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn constant(&mut self) -> u32 {
        const EDGES: [u32; 8] = [0, 1, 2, 3, 8, 0x7fff_ffff, 0x8000_0000, u32::MAX];
        EDGES[self.below(8) as usize]
    }

    fn program(&mut self) -> Vec<Insn> {
        let length = 6 + self.below(24);
        let mut code = Vec::new();
        for at in 0..length {
            let k = self.constant();
            let left = length - at;
            let skip = |random: &mut Self| random.below(left.min(8)) as u8;
            let jump = [JEQ, JGT, JGE, JSET][self.below(4) as usize];
            code.push(match self.below(12) {
                0..=3 => Insn::new(LD | ABS, 16 + 4 * self.below(3) as u32),
                4 => Insn::new(ALU | AND | K, k),
                5 => Insn::new(ALU | [ADD, RSH, MOD][self.below(3) as usize] | X, 0),
                6 => Insn::new(MISC | TAX, 0),
                7 => Insn::new(RET | K, [0x7fff_0000, 0, 0x5_0001][self.below(3) as usize]),
                8 => Insn::jump(JMP | jump | X, 0, skip(self), skip(self)),
                _ => Insn::jump(JMP | jump | K, k, skip(self), skip(self)),
            });
        }
        code.push(match self.below(8) {
            0 => Insn::new(RET | RVAL_A, 0),
            _ => Insn::new(RET | K, 0x7fff_0000),
        });
        code
    }

    fn number(&mut self) -> u64 {
        u64::from(self.constant()) << 32 | u64::from(self.constant())
    }
}

/// What is told is what the interpreter does, for arguments around all constants.
#[test]
fn explanations_are_exact() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let (mut told_of, mut dependent) = (0, 0);
    for _ in 0..3000 {
        let code = random.program();
        if check_seccomp(&code).is_err() {
            continue;
        }
        let mut explained = explain_call(&code, Arch::X86_64, 0, "read");
        if explained.cases.is_empty() {
            continue;
        }
        explained.cases = in_order(explained.cases, None);
        told_of += 1;
        dependent += usize::from(explained.cases.len() > 1);
        for _ in 0..60 {
            let args = [random.number(), random.number(), 0, 0, 0, 0];
            let done = run(&code, Arch::X86_64.audit(), 0, args);
            assert_eq!(
                told(&explained, args),
                Some(done),
                "{args:x?} {}\n{code:#?}",
                explained.text()
            );
        }
    }
    assert!(
        told_of > 1000 && dependent > 100,
        "{told_of} told of, {dependent} dependent"
    );
}

/// The policy that an explanation is.
fn as_policy(arches: &[Arch], code: &[Insn], other: &str) -> String {
    let names: Vec<&str> = arches.iter().map(|a| a.name()).collect();
    let mut text = format!("arch {}\nother {other}\ndefault {other}\n", names.join(" "));
    let calls = explain(code, arches[0]).into_iter();
    for call in calls.filter(|c| ["read", "openat"].contains(&c.name)) {
        let (last, others) = call.cases.split_last().unwrap();
        for case in others {
            for conditions in case.texts() {
                text.push_str(&format!("{} {} if {conditions}\n", case.ending, call.name));
            }
        }
        text.push_str(&format!("{} {}\n", last.ending, call.name));
    }
    text
}

const RULES: &[&str] = &[
    "errno EACCES openat if arg0 == 9 and arg2 & 3 == 1",
    "trace 7 openat if arg0 != 0x100000000",
    "errno EPERM openat if arg1 < 5",
    "kill openat if arg1 <= 0x1ffffffff",
    "log openat if arg2 > 7 and arg2 < 0x700000000",
    "notify openat if arg3 >= 0xffffffff00000000",
    "errno ENOSYS openat if arg4 & 0xf00000003 != 0x100000001",
    "trap openat if arg5 == 1",
];

/// Policies of every subset of the rules come back from their filters: as text that makes a filter of the same meaning.
#[test]
fn policies_come_back() {
    let arches = [Arch::X86_64, Arch::Aarch64];
    for subset in (0..1u64 << RULES.len()).filter(|s| s.count_ones() <= 3) {
        let mut text = String::from("arch x86_64 aarch64\nother kill\ndefault kill\n");
        for (i, rule) in RULES.iter().enumerate() {
            if subset & (1 << i) != 0 {
                text.push_str(rule);
                text.push('\n');
            }
        }
        text.push_str("allow openat read\n");
        let code = compile(&Policy::parse(&text, Arch::X86_64).unwrap()).unwrap();
        let back = as_policy(&arches, &code, "kill");
        let again =
            compile(&Policy::parse(&back, Arch::X86_64).unwrap_or_else(|e| panic!("{e}\n{back}")))
                .unwrap();
        let mut random = Random(subset + 99);
        for arch in arches {
            let number = arch.number("openat").unwrap();
            for _ in 0..40 {
                let args = core::array::from_fn(|_| random.number());
                let (one, other) = (
                    run(&code, arch.audit(), number, args),
                    run(&again, arch.audit(), number, args),
                );
                assert_eq!(one, other, "{args:x?}\n{text}\n{back}");
            }
        }
    }
}

/// Comparisons come back as they were written.
#[test]
fn comparisons_come_back_as_written() {
    const CONDITIONS: &[&str] = &[
        "arg0 == 0x9",
        "arg0 == 0x900000000",
        "arg1 != 0x5",
        "arg5 <= 0x4",
        "arg5 >= 0x100000001",
        "arg2 <= 0x700000000",
        "arg2 & 0x3 == 0x1",
        "arg2 & 0x300000003 == 0x100000000",
        "arg0 == 0x1 and arg1 != 0x2 and arg3 & 0xff == 0x7",
    ];
    for condition in CONDITIONS {
        let text = format!("arch x86_64\ndefault allow\nerrno EPERM openat if {condition}");
        let code = compile(&Policy::parse(&text, Arch::X86_64).unwrap()).unwrap();
        for call in explain(&code, Arch::X86_64) {
            let expected = match call.name {
                "openat" => format!("errno EPERM if {condition}; else allow"),
                _ => "allow".into(),
            };
            assert_eq!(call.text(), expected);
        }
    }
}

/// What takes too long to tell is not told, and does not take long.
#[test]
fn what_is_too_much_is_said() {
    let mut code = Vec::new();
    for i in 0..40 {
        code.push(Insn::new(LD | ABS, 16 + 4 * (i % 12)));
        code.push(Insn::jump(JMP | JSET | K, 1 << (i % 31) | 1 << 31, 0, 0));
        code.push(Insn::jump(JMP | JSET | K, 1 << (i % 31), 1, 0));
        code.push(Insn::new(ALU | ADD | K, 1));
    }
    code.push(Insn::new(RET | K, 0));
    check_seccomp(&code).unwrap();
    let explained = explain_call(&code, Arch::X86_64, 0, "read");
    assert!(explained.cases.is_empty());
    assert_eq!(
        explained.text(),
        "too much depends on the arguments to tell"
    );
}
