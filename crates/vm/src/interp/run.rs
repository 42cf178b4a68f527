//! Dispatch.

use super::inst::{Code, Inst, atomic, guarded};
use super::ops::{self, Regs, w32, w64};
use super::table::{arms, dispatch};
use super::{Flow, FrameView, Hook, Step};
use crate::env::RunEnv;
use crate::fault;
use crate::helpers::{HelperFn, load_packet, tail_call_target};
use crate::lowered::Func;
use crate::program::Program;
use skep_abi::limits::{BPF_MAX_LOOPS, MAX_CALL_FRAMES};
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;

/// What a call saves.
#[derive(Clone, Copy)]
struct Saved {
    pc: u32,
    may_goto: u32,
    func: u32,
    r6_to_r9: [u64; 4],
}

/// The active functions of one interpreter activation.
struct Frames {
    /// Callers of the current function.
    saved: [MaybeUninit<Saved>; MAX_CALL_FRAMES],
    /// Frame pointers, the current function's at `depth`.
    pointers: [u64; MAX_CALL_FRAMES],
    depth: usize,
    /// The current function.
    func: u32,
    /// Iterations its `may_goto`s have left.
    may_goto: u32,
}

/// How an instruction that leaves the straight path ends.
enum Next {
    /// Go on at this instruction.
    At(u32),
    /// The activation returns.
    Return(u64),
}

/// Runs function `func` of `env.program` with `r1`–`r5` until it returns.
///
/// # Safety
/// See [`super::entry`].
pub(super) unsafe fn run<H: Hook>(
    env: *mut RunEnv,
    func: u32,
    args: [u64; 5],
    hook: &mut H,
) -> u64 {
    // SAFETY: the worker set `program`, which it keeps alive for the whole run.
    let program = unsafe { &*(*env).program };
    let mut machine = Machine {
        env,
        program,
        insts: &program.image().insts,
        regs: [0; 11],
        frames: Frames {
            saved: [const { MaybeUninit::uninit() }; MAX_CALL_FRAMES],
            pointers: [0; MAX_CALL_FRAMES],
            depth: 0,
            func,
            may_goto: BPF_MAX_LOOPS,
        },
    };
    machine.regs[1..6].copy_from_slice(&args);
    // SAFETY: `env` is valid (promised by the caller).
    let top = unsafe { (*env).stack_top };
    if !machine.open_frame(top as u64) {
        return 0;
    }
    let start = machine.func(func).start;
    // SAFETY: promised by the caller.
    let value = unsafe { machine.execute(start, hook) };
    // SAFETY: `env` is valid; the frames of this activation are gone.
    unsafe { (*env).stack_top = top };
    value
}

struct Machine<'a> {
    env: *mut RunEnv,
    program: &'a Program,
    insts: &'a [Inst],
    regs: Regs,
    frames: Frames,
}

impl Machine<'_> {
    fn func(&self, index: u32) -> &Func {
        &self.program.lowered().funcs[index as usize]
    }

    /// Makes a frame for the current function that ends at `top`; false if the stack area is used up.
    fn open_frame(&mut self, top: u64) -> bool {
        let bytes = u64::from(self.func(self.frames.func).stack_bytes);
        let bottom = top - bytes;
        // SAFETY: `env` is valid for the whole run.
        unsafe {
            if bottom < (*self.env).stack_limit as u64 {
                return false;
            }
            (*self.env).stack_top = bottom as *mut u8;
        }
        self.frames.pointers[self.frames.depth] = top;
        self.regs[10] = top;
        true
    }

    /// `CallFunc`
    fn call_func(&mut self, pc: u32, func: u32) -> Next {
        let f = &mut self.frames;
        if f.depth + 1 >= MAX_CALL_FRAMES {
            return Next::Return(0);
        }
        let r = &self.regs;
        f.saved[f.depth].write(Saved {
            pc,
            may_goto: f.may_goto,
            func: f.func,
            r6_to_r9: [r[6], r[7], r[8], r[9]],
        });
        f.depth += 1;
        f.func = func;
        f.may_goto = BPF_MAX_LOOPS;
        // SAFETY: `env` is valid for the whole run.
        let top = unsafe { (*self.env).stack_top } as u64;
        if self.open_frame(top) {
            Next::At(self.func(func).start)
        } else {
            Next::Return(0)
        }
    }

    /// `Exit` of the current function with the value in `r0`.
    fn exit(&mut self) -> Next {
        let f = &mut self.frames;
        if f.depth == 0 {
            return Next::Return(self.regs[0]);
        }
        // SAFETY: `env` is valid for the whole run.
        unsafe { (*self.env).stack_top = f.pointers[f.depth] as *mut u8 };
        f.depth -= 1;
        // SAFETY: the call that raised `depth` wrote it.
        let saved = unsafe { f.saved[f.depth].assume_init() };
        f.func = saved.func;
        f.may_goto = saved.may_goto;
        self.regs[6..10].copy_from_slice(&saved.r6_to_r9);
        self.regs[10] = f.pointers[f.depth];
        Next::At(saved.pc)
    }

    /// `Call`: the result, or the end of the activation if a callback threw.
    #[inline(always)]
    fn call(&mut self, i: &Inst, pc: u32) -> Next {
        // SAFETY: `imm` was made from a `HelperFn` by pre-decoding.
        let func = unsafe { std::mem::transmute::<usize, HelperFn>(i.imm as usize) };
        let r = &self.regs;
        // SAFETY: the verifier proved the arguments; `env` is the run's environment.
        let value = unsafe { func(self.env, r[1], r[2], r[3], r[4], r[5]) };
        self.regs[0] = value;
        if self.program.lowered().throws && self.thrown() {
            return self.unwind();
        }
        Next::At(pc)
    }

    fn thrown(&self) -> bool {
        // SAFETY: `env` is valid for the whole run.
        unsafe { (*self.env).thrown != 0 }
    }

    /// `Throw`
    fn throw(&mut self) -> Next {
        // SAFETY: `env` is valid for the whole run.
        unsafe {
            (*self.env).thrown = 1;
            (*self.env).thrown_value = self.regs[1];
        }
        self.unwind()
    }

    /// Leaves every function of the activation. The outermost activation hands the value to the exception callback.
    fn unwind(&mut self) -> Next {
        // SAFETY: `env` is valid for the whole run.
        let env = unsafe { &mut *self.env };
        env.stack_top = self.frames.pointers[0] as *mut u8;
        if env.depth != 0 {
            return Next::Return(0);
        }
        env.thrown = 0;
        let Some(handler) = self.program.lowered().exception_callback else {
            return Next::Return(env.thrown_value);
        };
        self.regs[1] = env.thrown_value;
        self.frames.depth = 0;
        self.frames.func = handler;
        if self.open_frame(self.frames.pointers[0]) {
            Next::At(self.func(handler).start)
        } else {
            Next::Return(0)
        }
    }

    /// `TailCall`: either the function returns what the target returns, or execution goes on with an error in `r0`.
    fn tail_call(&mut self, pc: u32) -> Next {
        let (ctx, map, index) = (self.regs[1], self.regs[2], self.regs[3]);
        // SAFETY: the verifier proved the arguments.
        let target = unsafe { tail_call_target(self.env, map, index) };
        if target.is_null() {
            self.regs[0] = (-1i64).cast_unsigned();
            return Next::At(pc);
        }
        // SAFETY: the frame of the calling function is dead, so the target may use its place. The universe keeps programs
        // alive while a run that can reach them is active.
        unsafe {
            let env = self.env;
            (*env).stack_top = self.frames.pointers[self.frames.depth] as *mut u8;
            self.regs[0] = (*target).enter(env, ctx as *mut u8);
            self.program.make_current(env);
        }
        if self.program.lowered().throws && self.thrown() {
            return self.unwind();
        }
        self.exit()
    }

    /// `MayGoto`: true if it jumps.
    fn may_goto(&mut self) -> bool {
        if self.frames.may_goto == 0 {
            return true;
        }
        self.frames.may_goto -= 1;
        self.stopped()
    }

    fn stopped(&self) -> bool {
        // SAFETY: `env` is valid for the whole run.
        unsafe { (*self.env).stopped() }
    }

    /// `LoadPacket`: false if the function has to return 0.
    fn load_packet(&mut self, i: &Inst) -> bool {
        let index = if i.dst == 0 {
            0
        } else {
            ops::get(&self.regs, i.src) as i32
        };
        let offset = i64::from(index.wrapping_add(i.offset)).cast_unsigned();
        // SAFETY: the verifier proved that `r6` is the context.
        let value = unsafe { load_packet(self.env, self.regs[6], offset, i.imm) };
        self.regs[0] = value.max(0).cast_unsigned();
        value >= 0
    }

    /// Address of a guarded access.
    fn guarded_address(&self, base: u8, i: &Inst) -> u64 {
        if i.kind & guarded::ARENA == 0 {
            return ops::address(&self.regs, base, i);
        }
        let offset = u64::from(ops::get(&self.regs, base) as u32);
        // SAFETY: `env` is valid for the whole run.
        unsafe { (*self.env).arena_base }
            .wrapping_add(offset)
            .wrapping_add(i64::from(i.offset).cast_unsigned())
    }

    /// Can the `len` bytes at an arena's address be accessed? What another thread frees meanwhile becomes nobody's memory.
    fn is_there(&self, at: u64, len: u64) -> bool {
        // SAFETY: `env` is valid for the whole run, as is its program.
        let program = unsafe { &*(*self.env).program };
        let arena = program.lowered().arena;
        arena.is_some_and(|map| program.maps()[map as usize].map().arena_has(at, len))
    }

    /// `LoadGuarded`: zero if the address is bad.
    fn load_guarded(&mut self, i: &Inst) {
        let at = self.guarded_address(i.src, i);
        let bytes = 1 << (i.kind & guarded::SIZE);
        let value = if i.kind & guarded::ARENA == 0 {
            fault::read_u64(at, bytes)
        } else if self.is_there(at, bytes as u64) {
            // SAFETY: there is memory; the handler of faults puts some there if it goes.
            unsafe {
                match bytes {
                    1 => u64::from((at as *const u8).read()),
                    2 => u64::from((at as *const u16).read_unaligned()),
                    4 => u64::from((at as *const u32).read_unaligned()),
                    _ => (at as *const u64).read_unaligned(),
                }
            }
        } else {
            0
        };
        ops::set(&mut self.regs, i.dst, ops::extend(value, i.kind));
    }

    /// `StoreGuarded`
    fn store_guarded(&mut self, i: &Inst) {
        let at = self.guarded_address(i.dst, i);
        let value = if i.kind & guarded::IMM != 0 {
            i.imm
        } else {
            ops::get(&self.regs, i.src)
        };
        if !self.is_there(at, 1 << (i.kind & guarded::SIZE)) {
            return;
        }
        // SAFETY: as in `load_guarded`; the verifier allows stores of this kind to arenas only.
        unsafe {
            match i.kind & guarded::SIZE {
                0 => (at as *mut u8).write_unaligned(value as u8),
                1 => (at as *mut u16).write_unaligned(value as u16),
                2 => (at as *mut u32).write_unaligned(value as u32),
                _ => (at as *mut u64).write_unaligned(value),
            }
        }
    }

    /// Atomic operation in the arena.
    fn atomic_arena(&mut self, i: &Inst) {
        let offset = u64::from(ops::get(&self.regs, i.dst) as u32);
        // SAFETY: `env` is valid for the whole run.
        let base = unsafe { (*self.env).arena_base };
        let at = base
            .wrapping_add(offset)
            .wrapping_add(i64::from(i.offset).cast_unsigned());
        let is_wide = i.kind & atomic::WIDE != 0;
        if !self.is_there(at, if is_wide { 8 } else { 4 }) {
            if !is_wide && let Some(result) = ops::atomic_result(i) {
                self.keep_cut(result, 4);
            }
            return;
        }
        let r = &mut self.regs;
        // SAFETY: as in `load_guarded`. Across words an operation of this engine is not atomic.
        unsafe {
            match is_wide {
                true if at.is_multiple_of(8) => ops::atomic_u64(r, i, at),
                true => on_copy(at, |at: *mut u64| ops::atomic_u64(r, i, at as u64)),
                false if at.is_multiple_of(4) => ops::atomic_u32(r, i, at),
                false => on_copy(at, |at: *mut u32| ops::atomic_u32(r, i, at as u64)),
            }
        }
    }

    /// Leaves in a register what an access of `bytes` bytes may leave by the proof, where there is no memory for it.
    fn keep_cut(&mut self, register: u8, bytes: u64) {
        let old = ops::get(&self.regs, register);
        let cut = if bytes == 8 {
            old
        } else {
            old & ((1 << (8 * bytes)) - 1)
        };
        ops::set(&mut self.regs, register, cut);
    }

    /// Acquiring load; as in the kernel, `dst` stays where an arena has no memory, but for bits that the proof knows nothing of.
    fn load_acquire(&mut self, i: &Inst) {
        let at = self.guarded_address(i.src, i);
        let bytes = 1_u64 << (i.kind & guarded::SIZE);
        if i.kind & guarded::ARENA != 0 && !self.is_there(at, bytes) {
            return self.keep_cut(i.dst, bytes);
        }
        if !at.is_multiple_of(bytes) {
            return self.load_guarded(i);
        }
        // SAFETY: the verifier proved the access, or it lies in the arena, and there is memory.
        let value = unsafe { ops::load_acquire(at, i.kind) };
        ops::set(&mut self.regs, i.dst, value);
    }

    /// Releasing store; it is lost where an arena has no memory.
    fn store_release(&mut self, i: &Inst) {
        let at = self.guarded_address(i.dst, i);
        let bytes = 1_u64 << (i.kind & guarded::SIZE);
        if i.kind & guarded::ARENA != 0 && !(self.is_there(at, bytes) && at.is_multiple_of(bytes)) {
            return self.store_guarded(i);
        }
        // SAFETY: as in `load_acquire`.
        unsafe { ops::store_release(at, i.kind, ops::get(&self.regs, i.src)) }
    }

    /// The user view of an arena address.
    fn arena_to_user(&mut self, i: &Inst) {
        let low = u64::from(ops::get(&self.regs, i.src) as u32);
        // SAFETY: `env` is valid for the whole run.
        let base = unsafe { (*self.env).arena_user_base };
        let value = if low == 0 {
            0
        } else {
            (base & !u64::from(u32::MAX)) | low
        };
        ops::set(&mut self.regs, i.dst, value);
    }

    /// Calls the hook.
    fn step<H: Hook>(&self, at: u32, hook: &mut H) -> Flow {
        let f = &self.frames;
        let mut views = [FrameView {
            func: f.func,
            pointer: f.pointers[f.depth],
            call: 0,
            saved: [0; 4],
        }; MAX_CALL_FRAMES];
        for (i, view) in views.iter_mut().enumerate().take(f.depth) {
            // SAFETY: the call from this function wrote it.
            let saved = unsafe { f.saved[i].assume_init() };
            *view = FrameView {
                func: saved.func,
                pointer: f.pointers[i],
                call: saved.pc - 1,
                saved: saved.r6_to_r9,
            };
        }
        hook.step(&Step {
            op: at,
            regs: &self.regs,
            frames: &views[..=f.depth],
            program: self.program,
        })
    }

    /// The loop.
    ///
    /// # Safety
    /// `start` must be an instruction of the program; see [`super::entry`].
    #[rustfmt::skip] // one kind of instruction per line
    unsafe fn execute<H: Hook>(&mut self, start: u32, hook: &mut H) -> u64 {
        // Copies in registers: every store of the program could otherwise change the originals.
        let base = self.insts.as_ptr();
        // SAFETY: `env` is valid for the whole run, and the stop flag longer.
        let stop = unsafe { &*(*self.env).stop };
        let at = |index: u32| base.wrapping_add(index as usize);
        let index = |pc: *const Inst| ((pc as usize - base as usize) / size_of::<Inst>()) as u32;
        let mut pc = at(start);
        /// Takes a jump if the condition holds. Any jump may close a loop, so here the stop flag is polled.
        macro_rules! jump {
            ($i:ident, $taken:expr) => {
                if $taken {
                    if stop.load(Ordering::Relaxed) != 0 { return 0 }
                    pc = at($i.offset as u32);
                }
            };
        }
        macro_rules! go {
            ($next:expr) => {
                match $next { Next::At(index) => pc = at(index), Next::Return(value) => return value }
            };
        }
        loop {
            if H::ACTIVE && self.step(index(pc), hook) == Flow::Stop { return 0 }
            // SAFETY: jump targets and return addresses are instructions, and every function ends with one that does not fall through.
            let i = unsafe { &*pc };
            pc = pc.wrapping_add(1);
            let r = &mut self.regs;
            dispatch! { i.code, r, i, jump; {
                // SAFETY: all accesses were proven by the verifier, which demands alignment.
                Code::AtomicW => unsafe { let at = ops::address(r, i.dst, i); ops::atomic_u32(r, i, at) },
                // SAFETY: as above.
                Code::AtomicD => unsafe { let at = ops::address(r, i.dst, i); ops::atomic_u64(r, i, at) },
                Code::LoadGuarded => self.load_guarded(i),
                Code::StoreGuarded => self.store_guarded(i),
                Code::LoadAcquire => self.load_acquire(i),
                Code::StoreRelease => self.store_release(i),
                Code::AtomicArena => self.atomic_arena(i),
                Code::ArenaToUser => self.arena_to_user(i),
                Code::Nop => {}
                Code::Const => ops::set(r, i.dst, i.imm),
                Code::MovePointer => ops::move_pointer(r, i),
                Code::Jump => jump!(i, true),
                Code::MayGoto => jump!(i, self.may_goto()),
                Code::Call => go!(self.call(i, index(pc))),
                Code::CallFunc => go!(self.call_func(index(pc), i.offset as u32)),
                Code::TailCall => go!(self.tail_call(index(pc))),
                Code::LoadPacket => if !self.load_packet(i) { go!(self.exit()) },
                Code::Throw => go!(self.throw()),
                Code::Exit => go!(self.exit()),
                Code::Barrier => fault::speculation_barrier(),
                Code::Unreachable => return 0,
            } }
        }
    }
}

/// Runs an operation on an aligned copy of what is at `at`.
///
/// # Safety
/// `at` must be valid.
unsafe fn on_copy<T>(at: u64, operation: impl FnOnce(*mut T)) {
    // SAFETY: promised by the caller; alignment is not assumed.
    unsafe {
        let mut copy = (at as *const T).read_unaligned();
        operation(&raw mut copy);
        (at as *mut T).write_unaligned(copy);
    }
}
