//! Runs of programs whose context is plain memory ([`skep_verifier::verify_memory`]).

use crate::checked::Checked;
use crate::program::{Program, Worker};
use crate::world::Host;
use skep_abi::Errno;
use skep_maps::Runner;
use skep_verifier::Trace;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// No universe: such programs have no maps and send no packets.
struct Alone;

impl Host for Alone {
    fn trace(&self, line: &str) {
        eprintln!("{line}");
    }

    fn possible_cpus(&self) -> u32 {
        1
    }

    fn send_clone(&self, _: &[u8], _: u32, _: bool) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
}

/// Runs such a program on `memory`, which must be as long as the proof says, and returns the whole of `r0`.
///
/// # Errors
/// `EINVAL` for programs of other types and for memory of another length.
pub fn run_memory(program: &Program, memory: &mut [u8]) -> Result<u64, Errno> {
    on_copy(program, memory, |worker, ctx| {
        // SAFETY: the program was proven to access only that many bytes of its context.
        unsafe { worker.run(program, ctx) }
    })
}

/// As [`run_memory`], in the interpreter, and compares every instruction with the states of `trace`. The program must be
/// lowered with [`crate::Fold::Nothing`]. Slot and explanation of the first contradiction are returned besides `r0`.
///
/// # Errors
/// As [`run_memory`].
pub fn run_memory_checked(
    program: &Program,
    trace: &Trace,
    memory: &mut [u8],
) -> Result<(u64, Option<(u32, String)>), Errno> {
    on_copy(program, memory, |worker, ctx| {
        let mut hook = Checked::new(trace, ctx);
        // SAFETY: as in `run_memory`.
        let value = unsafe { worker.run_hooked(program, ctx, &mut hook) };
        (value, hook.failure().cloned())
    })
}

/// Calls `run` with a copy of `memory` that starts at a multiple of 8, since atomics need alignment.
fn on_copy<T>(
    program: &Program,
    memory: &mut [u8],
    run: impl FnOnce(&mut Worker, *mut u8) -> T,
) -> Result<T, Errno> {
    let bytes = program.lowered().verified.memory();
    if bytes.map(|bytes| bytes as usize) != Some(memory.len()) {
        return Err(Errno::EINVAL);
    }
    let runner = Runner {
        cpu: 0,
        token: skep_sys::task::token(),
    };
    let mut worker = Worker::new(Arc::new(Alone), runner, Arc::new(AtomicU32::new(0)));
    let mut words = vec![0u64; memory.len().div_ceil(8)];
    let (source, target) = (memory.as_ptr(), words.as_mut_ptr().cast::<u8>());
    // SAFETY: both have at least `memory.len()` bytes and do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(source, target, memory.len()) };
    let value = run(&mut worker, words.as_mut_ptr().cast());
    // SAFETY: as above, the other way.
    unsafe {
        std::ptr::copy_nonoverlapping(words.as_ptr().cast(), memory.as_mut_ptr(), memory.len());
    }
    Ok(value)
}
