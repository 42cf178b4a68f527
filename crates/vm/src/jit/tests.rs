//! Compiled code against the plain evaluator.

use super::image::Tier;
use super::testing::{Random, TestProgram, VALUE_BYTES, evaluate, link, random_program, run};
use crate::lowered::{Mem, Op, Space};
use skep_isa::{AluOp, Extend, Reg, Size, Src, Width};

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
    let code = link(&p.compile(tier), got.as_mut_ptr().cast());
    let r0 = run(&code, std::ptr::null_mut());
    if r0 != want || got != expected {
        let listing: Vec<String> = p
            .ops
            .iter()
            .enumerate()
            .map(|(i, op)| format!("{i:4} {op:?}"))
            .collect();
        std::fs::write("/tmp/jit-failure.bin", code.bytes()).ok();
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
fn faulting_program() -> TestProgram {
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
