//! Compiled code against the plain evaluator.

use super::image::{CodeImage, Tier};
use super::testing::{Random, TestProgram, VALUE_BYTES, evaluate, link, random_program, run};
use super::x64::baseline;
use crate::lowered::{Mem, Op, Space};
use skep_isa::{AluOp, Extend, JmpOp, Reg, Size, Src, Width};

fn value_of(rng: &mut Random) -> Vec<u64> {
    (0..VALUE_BYTES / 8)
        .map(|_| rng.next() >> (rng.below(8) * 8))
        .collect()
}

/// Runs `p` in `tier` and by the evaluator; panics with the program if `r0` or the value differ.
pub(super) fn check(p: &TestProgram, rng: &mut Random, tier: Tier, what: &str) {
    let mut expected = value_of(rng);
    let mut got = expected.clone();
    let mut fuel = 1 << 20;
    let want = evaluate(
        p,
        expected.as_mut_ptr().cast(),
        std::ptr::null_mut(),
        &mut fuel,
    );
    let Some(want) = want else { return };
    compare(p, &p.compile(tier), want, (&expected, &mut got), what);
}

/// Runs `image` on `got`; panics with the program if `r0` or the value differ from what they should be.
fn compare(
    p: &TestProgram,
    image: &CodeImage,
    want: u64,
    (expected, got): (&[u64], &mut [u64]),
    what: &str,
) {
    let code = link(image, got.as_mut_ptr().cast());
    let r0 = run(&code, std::ptr::null_mut());
    if r0 != want || got != expected {
        let listing: Vec<String> = p
            .ops
            .iter()
            .enumerate()
            .map(|(i, op)| format!("{i:4} {op:?}"))
            .collect();
        panic!(
            "{what}: r0 {r0:#x}, should be {want:#x}; value equal: {}\n{}",
            got == expected,
            listing.join("\n")
        );
    }
}

fn check_random(tier: Tier, count: u64) {
    for seed in 1..=count {
        let mut rng = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let p = random_program(&mut rng);
        check(&p, &mut rng, tier, &format!("seed {seed}"));
    }
}

#[test]
fn templates_compute_what_the_evaluator_does() {
    check_random(Tier::Baseline, 1000);
}

/// `r0 = *(u64 *)bad` where the load may fault, plus 5.
pub(super) fn faulting_program() -> TestProgram {
    let mem = Mem {
        base: Reg::R2,
        offset: 8,
        space: Space::Probe,
    };
    let ops = vec![
        Op::Const {
            dst: Reg::R2,
            value: 0x10,
        },
        Op::Load {
            size: Size::DW,
            extend: Extend::Zero,
            dst: Reg::R0,
            mem,
        },
        Op::Alu {
            width: Width::W64,
            op: AluOp::Add,
            dst: Reg::R0,
            src: Src::Imm(5),
        },
        Op::Exit,
    ];
    TestProgram::of_ops(ops, 0)
}

#[test]
fn faulting_loads_yield_zero() {
    for tier in [Tier::Baseline, Tier::Optimised] {
        let code = link(&faulting_program().compile(tier), std::ptr::null_mut());
        assert_eq!(run(&code, std::ptr::null_mut()), 5);
    }
}

#[test]
fn optimised_code_computes_what_the_evaluator_does() {
    check_random(Tier::Optimised, 400);
}

/// An immediate that no template contains by itself.
const IMMEDIATE: u32 = 0x6b5c_3d2e;

#[test]
fn blinded_code_computes_the_same_and_shows_no_immediate() {
    for seed in 1..=300 {
        let mut rng = Random(seed * 77);
        let mut p = random_program(&mut rng);
        for op in &mut p.ops {
            if let Op::Alu {
                op: AluOp::Add | AluOp::Mul | AluOp::Div | AluOp::Xor,
                src: Src::Imm(i),
                ..
            }
            | Op::Store {
                src: Src::Imm(i), ..
            } = op
            {
                *i = IMMEDIATE.cast_signed();
            }
        }
        let image = baseline::compile(p.source(), Some(seed));
        let shown = image.code.windows(4).any(|w| w == IMMEDIATE.to_le_bytes());
        assert!(
            !shown,
            "seed {seed}: the code contains an immediate of the program"
        );
        let mut expected = value_of(&mut rng);
        let mut got = expected.clone();
        let memory = expected.as_mut_ptr().cast();
        let Some(want) = evaluate(&p, memory, std::ptr::null_mut(), &mut (1 << 20)) else {
            continue;
        };
        compare(
            &p,
            &image,
            want,
            (&expected, &mut got),
            &format!("seed {seed}"),
        );
    }
}

/// A slot of the stack is written, many branches pass, then it is read, and so is a register.
fn long_chain() -> TestProgram {
    const BRANCHES: u64 = 2500;
    let slot = Mem {
        base: Reg::R10,
        offset: -8,
        space: Space::Plain,
    };
    let constant = |dst, value| Op::Const { dst, value };
    let mut ops = vec![
        constant(Reg::R2, 3),
        constant(Reg::R3, 4),
        Op::Store {
            size: Size::DW,
            src: Src::Reg(Reg::R2),
            mem: slot,
        },
    ];
    for value in 0..BRANCHES {
        ops.push(Op::JumpIf {
            width: Width::W64,
            op: JmpOp::Gt,
            dst: Reg::R1,
            src: Src::Imm(value as i32),
            target: ops.len() as u32 + 2,
        });
        ops.push(constant(Reg::R4, value));
    }
    ops.extend([
        Op::Load {
            size: Size::DW,
            extend: Extend::Zero,
            dst: Reg::R0,
            mem: slot,
        },
        Op::Alu {
            width: Width::W64,
            op: AluOp::Add,
            dst: Reg::R0,
            src: Src::Reg(Reg::R3),
        },
        Op::Exit,
    ]);
    TestProgram::of_ops(ops, 8)
}

#[test]
fn long_programs_need_little_stack() {
    /// Less than a frame for each of the branches would take.
    const STACK_BYTES: usize = 256 << 10;
    let compile = || long_chain().compile(Tier::Optimised);
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let image = thread.spawn(compile).unwrap().join().unwrap();
    let code = link(&image, std::ptr::null_mut());
    assert_eq!(run(&code, std::ptr::null_mut()), 7);
}
