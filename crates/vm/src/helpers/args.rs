//! The arguments of a call, as helpers see them.

use crate::ctx::{SkbCtx, XdpCtx};
use crate::env::RunEnv;
use crate::program::Program;
use crate::world::World;
use skep_abi::{Errno, ProgType};
use skep_maps::{Heap, MapHeader, Runner};

/// One call of a helper or kfunc.
///
/// Only the entry points that [`helpers!`](crate::helpers) makes construct it, for calls that the verifier accepted. The methods
/// rest on that: an argument asked for as memory of some length, as a map or as a context is one. Numbers of arguments
/// are those of the registers, 1–5.
pub(crate) struct Args {
    env: *mut RunEnv,
    r: [u64; 5],
}

impl Args {
    /// # Safety
    /// The values must be those of a call that the verifier accepted, `env` the environment of the run.
    #[inline(always)]
    pub(crate) unsafe fn new(env: *mut RunEnv, r: [u64; 5]) -> Self {
        Self { env, r }
    }

    /// Argument `n` as a number.
    #[inline(always)]
    pub(crate) fn get(&self, n: usize) -> u64 {
        self.r[n - 1]
    }

    /// Argument `n` as an `int` or `u32`.
    #[inline(always)]
    pub(crate) fn get32(&self, n: usize) -> u32 {
        self.r[n - 1] as u32
    }

    /// Argument `n`, a map.
    #[inline(always)]
    pub(crate) fn map(&self, n: usize) -> &MapHeader {
        // SAFETY: see the type; maps live as long as the program that names them.
        unsafe { &*(self.get(n) as *const MapHeader) }
    }

    /// Argument `n` as an address.
    #[inline(always)]
    pub(crate) fn ptr(&self, n: usize) -> *mut u8 {
        self.get(n) as *mut u8
    }

    /// Argument `n`, readable memory of `len` bytes; empty if it is NULL.
    pub(crate) fn bytes(&self, n: usize, len: usize) -> &[u8] {
        if self.get(n) == 0 || len == 0 {
            return &[];
        }
        // SAFETY: see the type. Other threads may change shared memory meanwhile, as in the kernel.
        unsafe { std::slice::from_raw_parts(self.ptr(n), len) }
    }

    /// The NUL-terminated string at argument `n`, at most `max` bytes, without its end.
    pub(crate) fn string(&self, n: usize, max: usize) -> &[u8] {
        let at = self.ptr(n).cast_const();
        // SAFETY: see the type: the verifier found the end of the string.
        let len = (0..max).find(|&i| unsafe { *at.add(i) } == 0);
        self.bytes(n, len.unwrap_or(max))
    }

    /// Writes to argument `n`, writable memory of at least `from.len()` bytes.
    pub(crate) fn write(&self, n: usize, from: &[u8]) {
        self.write_at(n, 0, from);
    }

    /// Writes `from` at byte `offset` of argument `n`. Memory that may be absent, and is, takes nothing: the verifier accepts
    /// a pointer that may be NULL there with any size.
    pub(crate) fn write_at(&self, n: usize, offset: usize, from: &[u8]) {
        if self.get(n) != 0 {
            // SAFETY: see the type; `copy` allows overlap.
            unsafe { std::ptr::copy(from.as_ptr(), self.ptr(n).add(offset), from.len()) }
        }
    }

    /// Zeroes `len` bytes at argument `n`, if it is there.
    pub(crate) fn zero(&self, n: usize, len: usize) {
        if len != 0 && self.get(n) != 0 {
            // SAFETY: see the type.
            unsafe { std::ptr::write_bytes(self.ptr(n), 0, len) }
        }
    }

    /// Argument `n`, the context of a program that sees a socket buffer.
    #[expect(
        clippy::mut_from_ref,
        reason = "the context belongs to the run, not to the call"
    )]
    pub(crate) fn skb(&self, n: usize) -> &mut SkbCtx {
        // SAFETY: see the type; during a helper nobody else uses the context.
        unsafe { &mut *(self.get(n) as *mut SkbCtx) }
    }

    /// Argument `n`, the context of an XDP program.
    #[expect(
        clippy::mut_from_ref,
        reason = "the context belongs to the run, not to the call"
    )]
    pub(crate) fn xdp(&self, n: usize) -> &mut XdpCtx {
        // SAFETY: as in `skb`.
        unsafe { &mut *(self.get(n) as *mut XdpCtx) }
    }

    /// The context at `address` that a dynptr of this run holds.
    #[expect(
        clippy::mut_from_ref,
        reason = "the context belongs to the run, not to the call"
    )]
    pub(crate) fn skb_at(&self, address: u64) -> &mut SkbCtx {
        // SAFETY: dynptrs over packets hold the address of their context, which lives as long as the run.
        unsafe { &mut *(address as *mut SkbCtx) }
    }

    /// The context at `address` that a dynptr of this run holds.
    #[expect(
        clippy::mut_from_ref,
        reason = "the context belongs to the run, not to the call"
    )]
    pub(crate) fn xdp_at(&self, address: u64) -> &mut XdpCtx {
        // SAFETY: as in `skb_at`.
        unsafe { &mut *(address as *mut XdpCtx) }
    }

    /// The state of the helpers.
    #[expect(
        clippy::mut_from_ref,
        reason = "the state belongs to the worker, not to the call"
    )]
    pub(crate) fn world(&self) -> &mut World {
        // SAFETY: the worker keeps it valid; helpers borrow it for no longer than their own statements.
        unsafe { &mut *(*self.env).world }
    }

    /// Who runs.
    #[inline(always)]
    pub(crate) fn runner(&self) -> Runner {
        // SAFETY: the environment is valid for the whole run.
        unsafe { (*self.env).runner }
    }

    /// Process and thread that run.
    #[inline(always)]
    pub(crate) fn pid_tgid(&self) -> u64 {
        // SAFETY: as in `runner`.
        unsafe { (*self.env).pid_tgid }
    }

    /// The running program.
    pub(crate) fn program(&self) -> &Program {
        // SAFETY: as in `runner`.
        unsafe { &*(*self.env).program }
    }

    /// Where objects of the running program are.
    pub(crate) fn heap(&self) -> Option<&Heap> {
        self.program().heap()
    }

    /// Type of the running program.
    pub(crate) fn prog_type(&self) -> ProgType {
        self.program().lowered().verified.prog_type()
    }

    /// Calls the callback in argument `n`.
    pub(crate) fn call(&self, n: usize, args: [u64; 5]) -> u64 {
        // SAFETY: see the type: the argument is a callback of the running program.
        unsafe { RunEnv::call(self.env, self.get(n), args) }
    }

    /// True if loops over callbacks have to end: something was thrown, or the run has to stop.
    pub(crate) fn interrupted(&self) -> bool {
        // SAFETY: as in `runner`.
        unsafe { (*self.env).thrown != 0 || (*self.env).stopped() }
    }

    /// Counts a lock, or a section in which the run may not be preempted, in or out.
    pub(crate) fn section(&self, entered: bool) {
        // SAFETY: as in `runner`.
        let sections = unsafe { &mut (*self.env).sections };
        *sections = if entered {
            sections.wrapping_add(1)
        } else {
            sections.saturating_sub(1)
        };
    }
}

/// What helpers return, as `r0`.
pub(crate) trait R0 {
    fn r0(self) -> u64;
}

impl R0 for u64 {
    fn r0(self) -> u64 {
        self
    }
}

impl R0 for i64 {
    fn r0(self) -> u64 {
        self.cast_unsigned()
    }
}

impl R0 for () {
    fn r0(self) -> u64 {
        0
    }
}

impl<T> R0 for *mut T {
    fn r0(self) -> u64 {
        self as u64
    }
}

impl<T: R0> R0 for Result<T, Errno> {
    fn r0(self) -> u64 {
        match self {
            Ok(value) => value.r0(),
            Err(errno) => errno.neg().cast_unsigned(),
        }
    }
}
