//! Stack that a privileged program reads without having written it: the same in every run and engine, and nothing that others
//! left there.

use skep_isa::asm::{NoFacts, assemble_insns};
use skep_tests::ENGINES;
use skep_vm::test_run::run_memory;
use skep_vm::{Program, ProgramOptions};

/// What it reads as.
const UNWRITTEN: u64 = 0xffff_ffff_a5a5_a5a5;
/// Bytes of context.
const MEMORY: usize = 8;

#[rustfmt::skip] // one instruction a line
const CASES: &[(&str, u64, u64)] = &[
    // Never written.
    ("r0 = *(u64 *)(r10 - 16)
      exit", 0, UNWRITTEN),
    // Written in part.
    ("*(u32 *)(r10 - 8) = 1
      r0 = *(u64 *)(r10 - 8)
      exit", 0, UNWRITTEN & !0xffff_ffff | 1),
    // Written on one path: the other one is only compared with the first one's states.
    ("r2 = *(u64 *)(r1 + 0)
      if r2 == 1 goto other
      r3 = *(u64 *)(r1 + 0)
      *(u64 *)(r10 - 8) = r3
    read:
      r0 = *(u64 *)(r10 - 8)
      exit
    other:
      goto read", 1, UNWRITTEN),
    // Written at an unknown place.
    ("r2 = *(u64 *)(r1 + 0)
      r2 &= 8
      r3 = r10
      r3 += -16
      r3 += r2
      *(u64 *)(r3 + 0) = 7
      r0 = *(u64 *)(r10 - 16)
      exit", 8, UNWRITTEN),
    // By a function, after another one left its numbers in the same place.
    ("call scribble
      call peek
      exit
    scribble:
      *(u64 *)(r10 - 8) = 77
      r0 = *(u64 *)(r10 - 8)
      exit
    peek:
      r0 = *(u64 *)(r10 - 8)
      exit", 0, UNWRITTEN),
    // The caller's, by the function that is called; and the function's entry is where a jump leads back to.
    ("r1 = r10
      r2 = 0
      call peek
      exit
    peek:
      r2 += 1
      *(u64 *)(r10 - 8) = r2
      if r2 != 5 goto peek
      r0 = *(u64 *)(r1 - 24)
      exit", 0, UNWRITTEN),
];

#[test]
fn unwritten_stack_reads_the_same_everywhere() {
    for (text, input, expected) in CASES {
        let insns = assemble_insns(text, &NoFacts).unwrap();
        let verified = skep_verifier::verify_memory(&insns, "case", MEMORY as u32).unwrap();
        for (engine, tiers) in ENGINES {
            let mut options: ProgramOptions = engine.into();
            options.code.tiers = tiers;
            let program = Program::new(&verified, Vec::new(), options).unwrap();
            let r0 = run_memory(&program, &mut input.to_le_bytes()).unwrap();
            assert_eq!(r0, *expected, "{engine:?} {tiers:?}: {text}");
        }
    }
}
