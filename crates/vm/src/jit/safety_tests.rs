//! What must hold whatever a program does: it stops when told to, and its code is never writable and executable at once.

use crate::interp::testing::{Nobody, loop_program, program};
use crate::program::{Engine, Program, ProgramOptions, Worker};
use crate::{CodeOptions, Tiers};
use skep_isa::{Slot, opcode as op};
use skep_maps::Runner;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// The most rounds that `bpf_loop` takes.
const ROUNDS_MAX: i32 = 1 << 23;
/// `bpf_loop`, and a helper that does next to nothing.
const LOOP: i32 = 181;
const CHEAP: i32 = 8;
/// How long programs run before they are told to stop, and how long that may take on a busy machine.
const HEAD_START: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);
/// Programs linked while the mappings are watched.
const LINKED: usize = 300;

const EXIT: Slot = Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0);

const fn mov(dst: u8, imm: i32) -> Slot {
    Slot::new(op::ALU64 | op::MOV, dst, 0, 0, imm)
}

const fn call(id: i32) -> Slot {
    Slot::new(op::JMP | op::CALL, 0, 0, 0, id)
}

/// `bpf_loop` with the most rounds, of a function `distance` slots behind its address load.
fn rounds(distance: i32) -> Vec<Slot> {
    vec![
        mov(1, ROUNDS_MAX),
        Slot::new(op::LDDW, 2, op::PSEUDO_FUNC, 0, distance),
        Slot::new(0, 0, 0, 0, 0),
        mov(3, 0),
        mov(4, 0),
        call(LOOP),
        mov(0, 0),
        EXIT,
    ]
}

/// Programs that run for days, with the starts of their functions.
fn endless() -> Vec<(&'static str, Vec<Slot>, Vec<u32>)> {
    // A loop of a loop of nothing.
    let nested = [rounds(6), rounds(6), vec![mov(0, 0), EXIT]].concat();
    // A jump back over a call: 2⁶³ rounds of it.
    let counted = vec![
        mov(6, 0),
        call(CHEAP),
        Slot::new(op::ALU64 | op::ADD, 6, 0, 0, 1),
        Slot::new(op::JMP | op::JSGE, 6, 0, -3, 0),
        EXIT,
    ];
    // `may_goto` in the function of a loop.
    let may = [
        rounds(6),
        vec![
            Slot::new(op::JMP | op::JCOND, 0, 0, 1, 0),
            Slot::new(op::JMP | op::JA, 0, 0, -2, 0),
            mov(0, 0),
            EXIT,
        ],
    ]
    .concat();
    vec![
        ("bpf_loop", nested, vec![0, 8, 16]),
        ("call", counted, vec![0]),
        ("may_goto", may, vec![0, 8]),
    ]
}

/// Runs `program` on a thread of its own and tells it to stop; false if it goes on.
fn stops(program: Program) -> bool {
    let stop = Arc::new(AtomicU32::new(0));
    let (ended, end) = mpsc::channel();
    let flag = Arc::clone(&stop);
    std::thread::spawn(move || {
        let runner = Runner { cpu: 0, token: 1 };
        let mut worker = Worker::new(Arc::new(Nobody), runner, flag);
        let mut memory = [0u64; 8];
        // SAFETY: the programs touch no memory.
        let value = unsafe { worker.run(&program, memory.as_mut_ptr().cast()) };
        let _ = ended.send(value);
    });
    let early = end.recv_timeout(HEAD_START);
    assert!(early.is_err(), "it must still be running");
    stop.store(1, Ordering::Relaxed);
    end.recv_timeout(PATIENCE).is_ok()
}

#[test]
fn endless_programs_stop_when_told_to() {
    for (engine, tiers) in [
        (Engine::Interp, Tiers::Adaptive),
        (Engine::Jit, Tiers::Templates),
        (Engine::Jit, Tiers::Optimised),
    ] {
        for (name, slots, starts) in endless() {
            let mut options: ProgramOptions = engine.into();
            options.code.tiers = tiers;
            let program = program(slots, &starts, options);
            assert!(stops(program), "{name} in {engine:?} {tiers:?}");
        }
    }
}

/// The mappings of this process: range and permissions.
fn mappings() -> Vec<(std::ops::Range<usize>, String)> {
    let text = std::fs::read_to_string("/proc/self/maps").expect("readable");
    let line = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let number = |hex| usize::from_str_radix(hex, 16).ok();
        Some((
            number(from)?..number(to)?,
            rest.get(..4).unwrap_or_default().to_owned(),
        ))
    };
    text.lines().filter_map(line).collect()
}

#[test]
fn code_is_never_writable_and_lies_between_guard_pages() {
    let done = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&done);
    let watcher = std::thread::spawn(move || {
        let mut looks = 0;
        while !until.load(Ordering::Relaxed) || looks == 0 {
            let both = mappings().into_iter().find(|(_, p)| p.contains("wx"));
            assert!(both.is_none(), "writable and executable: {both:x?}");
            looks += 1;
        }
    });
    for i in 0..LINKED {
        let tiers = [Tiers::Templates, Tiers::Optimised][i % 2];
        let code = CodeOptions {
            tiers,
            blinding: i % 3 == 0,
            observer: None,
        };
        let options = ProgramOptions {
            code,
            ..Engine::Jit.into()
        };
        let program = loop_program(options);
        if i % 50 != 0 {
            continue;
        }
        let code = program.code().expect("compiled");
        let base = code.base() as usize;
        let all = mappings();
        let of = |address: usize| {
            let found = all.iter().find(|(range, _)| range.contains(&address));
            found.map(|(_, permissions)| permissions.as_str())
        };
        let end = (base + code.bytes().len()).next_multiple_of(4096);
        assert_eq!(of(base), Some("r-xp"));
        assert_eq!([of(base - 1), of(end)], [Some("---p"), Some("---p")]);
    }
    done.store(true, Ordering::Relaxed);
    watcher.join().expect("nothing was writable and executable");
}
