//! `BPF_PROG_TEST_RUN`: one program on one input, with the kernel's checks and results.

mod flow;
mod memory;
mod plain;
mod skb;
mod xdp;

pub use memory::{run_memory, run_memory_checked};

use crate::checked::Checked;
use crate::program::{Program, Worker};
use crate::proof::Proof;
use skep_abi::{Errno, ProgType};
use skep_verifier::Trace;
use std::time::{Duration, Instant};

/// What to run a program on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Input<'a> {
    /// The packet.
    pub data: Option<&'a [u8]>,
    /// The context.
    pub ctx: Option<&'a [u8]>,
    /// There is room for the packet afterwards.
    pub wants_data: bool,
    /// There is room for the context afterwards.
    pub wants_ctx: bool,
    /// Runs to make; 0 means 1.
    pub repeat: u32,
    /// `BPF_F_TEST_*`
    pub flags: u32,
    /// The CPU to run on, for `BPF_F_TEST_RUN_ON_CPU`.
    pub cpu: u32,
    /// There is no such CPU.
    pub lacks_cpu: bool,
    /// Frames at a time, for `BPF_F_TEST_XDP_LIVE_FRAMES`.
    pub batch_size: u32,
}

impl Input<'_> {
    /// Is a CPU or a number of frames said, where neither means anything?
    const fn says_cpu_or_batch(&self) -> bool {
        self.cpu != 0 || self.batch_size != 0
    }

    /// Is a packet given or wanted, where there is none?
    fn has_packet(&self) -> bool {
        self.wants_data || self.data.is_some_and(|d| !d.is_empty())
    }
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

/// One test run under way.
struct Session<'a> {
    worker: &'a mut Worker,
    program: &'a Program,
    /// What to check each instruction against.
    trace: Option<&'a Trace>,
    report: Report,
}

/// What a checked run found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Instructions checked.
    pub steps: u64,
    /// Slot and explanation of the first contradiction between the run and the proof.
    pub failure: Option<(u32, String)>,
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
    Session {
        worker,
        program,
        trace: None,
        report: Report::default(),
    }
    .run(input)
}

/// As [`test_run`], in the interpreter, checking each instruction against the states of the walk that `program`'s proof came
/// from; the program must be lowered with [`crate::lower::Fold::Nothing`].
///
/// # Errors
/// As [`test_run`].
pub fn checked_run(
    worker: &mut Worker,
    program: &Program,
    input: &Input<'_>,
    trace: &Trace,
) -> Result<(Output, Report), Errno> {
    let mut session = Session {
        worker,
        program,
        trace: Some(trace),
        report: Report::default(),
    };
    let output = session.run(input)?;
    Ok((output, session.report))
}

impl Session<'_> {
    fn proof(&self) -> &Proof {
        &self.program.lowered().verified
    }

    fn run(&mut self, input: &Input<'_>) -> Result<Output, Errno> {
        match self.proof().prog_type() {
            ProgType::Xdp => xdp::run(self, input),
            ProgType::SocketFilter
            | ProgType::SchedCls
            | ProgType::SchedAct
            | ProgType::CgroupSkb
            | ProgType::LwtIn
            | ProgType::LwtOut
            | ProgType::LwtXmit
            | ProgType::LwtSeg6local => skb::run(self, input),
            ProgType::FlowDissector => flow::run(self, input),
            ProgType::RawTracepoint | ProgType::RawTracepointWritable => {
                plain::raw_tracepoint(self, input)
            }
            ProgType::Syscall => plain::syscall(self, input),
            ProgType::SkLookup => plain::sk_lookup(self, input),
            _ => Err(Errno::ENOTSUPP),
        }
    }

    /// Runs `repeat` times on the same context: the last value, cut to 32 bits, and the mean time.
    ///
    /// # Safety
    /// As [`Worker::run`].
    unsafe fn repeat(&mut self, ctx: *mut u8, repeat: u32) -> (u32, Duration) {
        let count = repeat.max(1);
        let start = Instant::now();
        let mut value = 0;
        for _ in 0..count {
            // SAFETY: promised by the caller.
            value = unsafe { self.once(ctx) };
            // SAFETY: the worker's environment is valid.
            if unsafe { (*self.worker.env()).stopped() } {
                break;
            }
        }
        (value as u32, start.elapsed() / count)
    }

    /// # Safety
    /// As [`Worker::run`].
    unsafe fn once(&mut self, ctx: *mut u8) -> u64 {
        let Some(trace) = self.trace else {
            // SAFETY: promised by the caller.
            return unsafe { self.worker.run(self.program, ctx) };
        };
        let mut hook = Checked::new(trace, ctx);
        // SAFETY: promised by the caller.
        let value = unsafe { self.worker.run_hooked(self.program, ctx, &mut hook) };
        self.report.steps += hook.steps();
        if self.report.failure.is_none() {
            self.report.failure = hook.failure().cloned();
        }
        value
    }
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
    // An empty one is none.
    let Some(given) = input.ctx.filter(|ctx| !ctx.is_empty()) else {
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
