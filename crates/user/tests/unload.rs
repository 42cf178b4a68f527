//! Programs that are given up while they run elsewhere.

use skep_abi::{Errno, MapType, ProgType};
use skep_bpf::{Backend, Handle, MapCreate, ProgLoad, TestRun};
use skep_isa::{Slot, opcode as op};
use skep_user::{Options, Universe};
use skep_vm::Tiers;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Programs that come and go.
const GENERATIONS: u32 = 400;
/// Helper numbers.
const TAIL_CALL: i32 = 12;
/// What the program that comes after others returns.
const NEXT: u32 = 1000;
/// What a program returns that found no other one.
const NOT_FOUND: u32 = 77;

const EXIT: Slot = Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0);

const fn mov(dst: u8, imm: i32) -> Slot {
    Slot::new(op::ALU64 | op::MOV, dst, 0, 0, imm)
}

fn load(universe: &Universe, insns: Vec<Slot>) -> Handle {
    let spec = ProgLoad {
        name: "passing".to_owned(),
        ..ProgLoad::plain(ProgType::SocketFilter, insns)
    };
    universe.prog_load(&spec).expect("accepted")
}

/// A program that counts to `rounds` and returns `value`.
fn counting(universe: &Universe, rounds: i32, value: i32) -> Handle {
    let insns = vec![
        mov(1, 0),
        Slot::new(op::ALU64 | op::ADD, 1, 0, 0, 1),
        Slot::new(op::JMP | op::JLT, 1, 0, -2, rounds),
        mov(0, value),
        EXIT,
    ];
    load(universe, insns)
}

fn run(universe: &Universe, program: Handle, repeat: u32) -> Result<u32, Errno> {
    let run = TestRun {
        data_in: Some(vec![0; 64]),
        repeat,
        ..TestRun::default()
    };
    let result = universe.prog_test_run(program, &run);
    result.map(|r| r.retval).map_err(|e| e.errno)
}

fn universe(tiers: Tiers) -> Arc<Universe> {
    let options = Options {
        tiers,
        ..Options::default()
    };
    Arc::new(Universe::new(options).expect("a universe"))
}

#[test]
fn code_stays_until_the_runs_in_it_end() {
    for tiers in [Tiers::Adaptive, Tiers::Optimised] {
        let universe = universe(tiers);
        for generation in 0..40 {
            let program = counting(&universe, 5_000, generation);
            let runner = Arc::clone(&universe);
            let running = std::thread::spawn(move || {
                loop {
                    match run(&runner, program, 2) {
                        // Gone, or its number was given away again.
                        Err(Errno::EBADF) | Ok(NEXT) => break,
                        Ok(value) => assert_eq!(value, generation.cast_unsigned()),
                        Err(other) => panic!("{other}"),
                    }
                }
            });
            assert!(run(&universe, program, 1).is_ok());
            universe.close(program);
            // What comes next may get the memory of what is gone.
            let next = counting(&universe, 3, NEXT.cast_signed());
            assert_eq!(run(&universe, next, 1), Ok(NEXT));
            running.join().map_err(|_| "the run failed").unwrap();
            universe.close(next);
        }
    }
}

#[test]
fn targets_of_tail_calls_are_replaced_while_they_run() {
    let universe = universe(Tiers::Adaptive);
    let spec = MapCreate::new(MapType::ProgArray, 4, 4, 1);
    let array = universe.map_create(&spec).expect("a map");
    let dispatcher = load(
        &universe,
        vec![
            Slot::new(op::LDDW, 2, op::PSEUDO_MAP_FD, 0, array.0),
            Slot::new(0, 0, 0, 0, 0),
            mov(3, 0),
            Slot::new(op::JMP | op::CALL, 0, 0, 0, TAIL_CALL),
            mov(0, NOT_FOUND.cast_signed()),
            EXIT,
        ],
    );
    let done = Arc::new(AtomicBool::new(false));
    let (runner, until) = (Arc::clone(&universe), Arc::clone(&done));
    let running = std::thread::spawn(move || {
        let (mut last, mut seen) = (0, 0u64);
        while !until.load(Ordering::Relaxed) || seen == 0 {
            let value = run(&runner, dispatcher, 1).expect("it stays loaded");
            if value != NOT_FOUND {
                assert!((last..GENERATIONS).contains(&value), "{value} after {last}");
                last = value;
                seen += 1;
            }
        }
        seen
    });
    let slot = 0u32.to_ne_bytes();
    for generation in 0..GENERATIONS {
        let program = counting(&universe, 50, generation.cast_signed());
        let value = program.0.to_ne_bytes();
        universe.map_update(array, &slot, &value, 0).expect("set");
        universe.close(program);
        if generation % 5 == 0 {
            universe.map_delete(array, &slot).expect("it is there");
        }
    }
    done.store(true, Ordering::Relaxed);
    assert!(running.join().map_err(|_| "a run failed").unwrap() > 0);
}
