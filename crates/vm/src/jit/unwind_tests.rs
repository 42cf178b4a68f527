//! The system's unwinder walks through compiled code by the tables of [`super::eh_frame`].

use super::eh_frame;
use crate::env::RunEnv;
use crate::interp::testing::run_once;
use crate::lower::{Fold, lower_proof};
use crate::program::{Engine, Program, ProgramOptions};
use crate::proof::Proof;
use crate::{CodeOptions, Tiers};
use skep_isa::{Slot, opcode as op};
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard};

unsafe extern "C" {
    /// Tells the unwinder of a table, which must stay in place until [`__deregister_frame`].
    fn __register_frame(table: *const u8);
    fn __deregister_frame(table: *const u8);
    /// Calls `step` for each frame of the calling thread, innermost first, while it returns 0.
    fn _Unwind_Backtrace(
        step: extern "C" fn(*mut c_void, *mut c_void) -> i32,
        data: *mut c_void,
    ) -> i32;
    fn _Unwind_GetIP(frame: *mut c_void) -> usize;
}

/// Room for a table beside the engine's own code, near which compiled code is mapped.
static TABLE: Mutex<[u8; 1 << 14]> = Mutex::new([0; 1 << 14]);
/// `bpf_loop`, which calls back, and a helper that [`capture`] takes the place of.
const LOOP: i32 = 181;
const CAPTURED: i32 = 7;

/// Where the stack led when the helper was called.
static CAPTURE: Mutex<Vec<usize>> = Mutex::new(Vec::new());

extern "C" fn step(frame: *mut c_void, data: *mut c_void) -> i32 {
    // SAFETY: the unwinder gives a frame, and passes on what `backtrace` gave it.
    unsafe { (*data.cast::<Vec<usize>>()).push(_Unwind_GetIP(frame)) };
    0
}

/// The return addresses on the stack, innermost first.
fn backtrace() -> Vec<usize> {
    let mut found = Vec::new();
    // SAFETY: `step` is a callback of the right type, and `found` what it expects.
    unsafe { _Unwind_Backtrace(step, (&raw mut found).cast()) };
    found
}

unsafe extern "C" fn capture(_: *mut RunEnv, _: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    *CAPTURE.lock().expect("no panics") = backtrace();
    0
}

const fn mov(dst: u8, imm: i32) -> Slot {
    Slot::new(op::ALU64 | op::MOV, dst, 0, 0, imm)
}

const fn call(id: i32) -> Slot {
    Slot::new(op::JMP | op::CALL, 0, 0, 0, id)
}

const EXIT: Slot = Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0);

/// Programs with the starts of their functions. What lives across calls needs saved registers and stack.
fn programs() -> Vec<(Vec<Slot>, Vec<u32>)> {
    let keeps = [
        mov(6, 1),
        Slot::new(op::LDX | op::MEM | op::DW, 7, 1, 0, 0),
        Slot::new(op::LDX | op::MEM | op::DW, 8, 1, 8, 0),
        Slot::new(op::STX | op::MEM | op::DW, 10, 8, -8, 0),
    ];
    let uses = [
        Slot::new(op::ALU64 | op::ADD | op::X, 0, 7, 0, 0),
        Slot::new(op::LDX | op::MEM | op::DW, 9, 10, -8, 0),
        Slot::new(op::ALU64 | op::ADD | op::X, 0, 9, 0, 0),
        Slot::new(op::ALU64 | op::ADD | op::X, 0, 6, 0, 0),
        EXIT,
    ];
    let alone = [&keeps[..], &[call(CAPTURED)], &uses].concat();
    let subprog = Slot::new(op::JMP | op::CALL, 0, op::PSEUDO_CALL, 0, uses.len() as i32);
    let nested = [
        &keeps[..],
        &[subprog],
        &uses,
        &[
            mov(6, 3),
            call(CAPTURED),
            Slot::new(op::ALU64 | op::ADD | op::X, 0, 6, 0, 0),
            EXIT,
        ],
    ]
    .concat();
    let nested_start = (keeps.len() + 1 + uses.len()) as u32;
    let called_back = [
        mov(1, 1),
        Slot::new(op::LDDW, 2, op::PSEUDO_FUNC, 0, 5),
        Slot::new(0, 0, 0, 0, 0),
        mov(3, 0),
        mov(4, 0),
        call(LOOP),
        EXIT,
        mov(6, 1),
        call(CAPTURED),
        mov(0, 0),
        EXIT,
    ];
    vec![
        (alone, vec![0]),
        (nested, vec![0, nested_start]),
        (called_back.to_vec(), vec![0, 7]),
    ]
}

/// Links a program of which [`CAPTURED`] is [`capture`].
fn captured(slots: Vec<Slot>, starts: &[u32], code: CodeOptions) -> Program {
    let lowered = lower_proof(Proof::assumed(slots, starts), Fold::Facts, None);
    let mut lowered = lowered.expect("lowers");
    for callee in &mut lowered.callees {
        if callee.id == crate::lowered::CalleeId::Helper(CAPTURED.cast_unsigned()) {
            callee.func = capture;
        }
    }
    let options = ProgramOptions {
        code,
        ..Engine::Jit.into()
    };
    Program::link(lowered, Vec::new(), options).expect("links")
}

/// The table of a program's code, registered for as long as it lives.
struct Registered(MutexGuard<'static, [u8; 1 << 14]>);

impl Registered {
    fn new(program: &Program) -> Self {
        let code = program.code().expect("compiled");
        let mut memory = TABLE.lock().expect("no panics");
        let distance = (memory.as_ptr() as isize).wrapping_sub(code.base() as isize);
        let distance = i32::try_from(distance).expect("mapped near");
        let table = eh_frame::table(code.funcs(), distance);
        memory[..table.len()].copy_from_slice(&table);
        // SAFETY: a table that ends in a zero, and stays in place until `self` is dropped.
        unsafe { __register_frame(memory.as_ptr()) };
        Self(memory)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // SAFETY: registered by `new`.
        unsafe { __deregister_frame(self.0.as_ptr()) };
    }
}

#[test]
fn unwinders_pass_through_compiled_code() {
    for (slots, starts) in programs() {
        for (tiers, blinding) in [
            (Tiers::Templates, false),
            (Tiers::Templates, true),
            (Tiers::Optimised, false),
        ] {
            let options = CodeOptions {
                tiers,
                blinding,
                observer: None,
            };
            let program = captured(slots.clone(), &starts, options);
            let table = Registered::new(&program);
            let outside = backtrace();
            run_once(&program);
            drop(table);
            let inside = CAPTURE.lock().expect("no panics").clone();
            let code = program.code().expect("compiled");
            let base = code.base() as usize;
            let in_code = |ip: &&usize| (base..base + code.bytes().len()).contains(ip);
            let compiled = inside.iter().filter(in_code).count();
            let same = inside.iter().rev().zip(outside.iter().rev());
            let same = same.take_while(|(a, b)| a == b).count();
            assert!(
                same >= 2 && same + 2 >= outside.len(),
                "{tiers:?}: {inside:x?} does not end like {outside:x?}"
            );
            let least = if tiers == Tiers::Optimised {
                1
            } else {
                starts.len()
            };
            assert!(
                compiled >= least,
                "{tiers:?}: {compiled} frames of {starts:?}"
            );
        }
    }
}
