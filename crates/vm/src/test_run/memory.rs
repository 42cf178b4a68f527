//! Runs of programs whose context is plain memory ([`skep_verifier::verify_memory`]).

use crate::program::{Program, Worker};
use crate::world::Host;
use skep_abi::Errno;
use skep_maps::Runner;
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
    let bytes = program.lowered().verified.memory();
    if bytes.map(|bytes| bytes as usize) != Some(memory.len()) {
        return Err(Errno::EINVAL);
    }
    let runner = Runner {
        cpu: 0,
        token: skep_sys::task::token(),
    };
    let mut worker = Worker::new(Arc::new(Alone), runner, Arc::new(AtomicU32::new(0)));
    // A copy that starts at a multiple of 8, since atomics need alignment.
    let mut words = vec![0u64; memory.len().div_ceil(8)];
    let (source, target) = (memory.as_ptr(), words.as_mut_ptr().cast::<u8>());
    // SAFETY: both have at least `memory.len()` bytes and do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(source, target, memory.len()) };
    // SAFETY: the program was proven to access only that many bytes of its context.
    let value = unsafe { worker.run(program, words.as_mut_ptr().cast()) };
    // SAFETY: as above, the other way.
    unsafe {
        std::ptr::copy_nonoverlapping(words.as_ptr().cast(), memory.as_mut_ptr(), memory.len());
    }
    Ok(value)
}
