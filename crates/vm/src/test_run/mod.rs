//! `BPF_PROG_TEST_RUN`: one program on one input, with the kernel's checks and results.

mod flow;
mod memory;
mod plain;
mod skb;
mod xdp;

pub use memory::run_memory;

use crate::program::{Program, Worker};
use skep_abi::{Errno, ProgType};
use std::time::{Duration, Instant};

/// What to run a program on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Input<'a> {
    /// The packet.
    pub data: Option<&'a [u8]>,
    /// The context.
    pub ctx: Option<&'a [u8]>,
    /// The caller wants the context back although it gave none.
    pub wants_ctx: bool,
    /// Runs to make; 0 means 1.
    pub repeat: u32,
    /// `BPF_F_TEST_*`
    pub flags: u32,
    /// The CPU to run on, for `BPF_F_TEST_RUN_ON_CPU`.
    pub cpu: u32,
}

/// What a run gave.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Output {
    /// The program's return value.
    pub retval: u32,
    /// The packet afterwards.
    pub data: Vec<u8>,
    /// The context afterwards.
    pub ctx: Vec<u8>,
    /// Mean time of a run.
    pub duration: Duration,
}

/// Runs `program` on `input`.
///
/// # Errors
/// The kernel's errno: `ENOTSUPP` for types without test run, `EINVAL` for inputs that do not fit the type.
pub fn test_run(
    worker: &mut Worker,
    program: &Program,
    input: &Input<'_>,
) -> Result<Output, Errno> {
    worker.paint_stack();
    match program.lowered().verified.prog_type() {
        ProgType::Xdp => xdp::run(worker, program, input),
        ProgType::SocketFilter
        | ProgType::SchedCls
        | ProgType::SchedAct
        | ProgType::CgroupSkb
        | ProgType::LwtIn
        | ProgType::LwtOut
        | ProgType::LwtXmit
        | ProgType::LwtSeg6local => skb::run(worker, program, input),
        ProgType::FlowDissector => flow::run(worker, program, input),
        ProgType::RawTracepoint | ProgType::RawTracepointWritable => {
            plain::raw_tracepoint(worker, program, input)
        }
        ProgType::Syscall => plain::syscall(worker, program, input),
        ProgType::SkLookup => plain::sk_lookup(worker, program, input),
        _ => Err(Errno::ENOTSUPP),
    }
}

/// Runs `repeat` times on the same context: the last value, cut to 32 bits, and the mean time.
///
/// # Safety
/// As [`Worker::run`].
unsafe fn repeat(
    worker: &mut Worker,
    program: &Program,
    ctx: *mut u8,
    repeat: u32,
) -> (u32, Duration) {
    let count = repeat.max(1);
    let start = Instant::now();
    let mut value = 0;
    for _ in 0..count {
        // SAFETY: promised by the caller.
        value = unsafe { worker.run(program, ctx) };
        // SAFETY: the worker's environment is valid.
        if unsafe { (*worker.env()).stopped() } {
            break;
        }
    }
    (value as u32, start.elapsed() / count)
}

/// A `u32` field of a context image.
fn word(image: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([image[at], image[at + 1], image[at + 2], image[at + 3]])
}

/// Writes a `u32` field of a context image.
fn set_word(image: &mut [u8], at: usize, value: u32) {
    image[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

/// The caller's context as `size` bytes (`bpf_ctx_init`): shorter ones are filled with zeros, longer ones must end in zeros.
fn ctx_image(input: &Input<'_>, size: usize) -> Result<Option<Vec<u8>>, Errno> {
    let Some(given) = input.ctx else {
        return Ok(input.wants_ctx.then(|| vec![0; size]));
    };
    let (kept, tail) = given.split_at(given.len().min(size));
    if tail.iter().any(|&b| b != 0) {
        return Err(Errno::E2BIG);
    }
    let mut image = kept.to_vec();
    image.resize(size, 0);
    Ok(Some(image))
}

/// True if all bytes of `image[from..to]` are zero.
fn is_zero(image: &[u8], from: usize, to: usize) -> bool {
    image[from..to].iter().all(|&b| b == 0)
}
