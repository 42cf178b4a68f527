//! A program that can run, and the workers that run programs.

use crate::env::{CallBackFn, RunEnv, STACK_AREA_BYTES};
use crate::interp;
use crate::jit::tiers::Compiled;
use crate::jit::{self, Code, CodeOptions};
use crate::lower::{Fold, LowerError, lower};
use crate::lowered::Lowered;
use crate::world::{Host, World};
use skep_btf::{Btf, Record};
use skep_maps::{Heap, Map, Runner};
use skep_verifier::Verified;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};

/// Code of a program: `(env, ctx) → r0`. `env.program` must be the program the code belongs to.
pub type EntryFn = unsafe extern "C" fn(*mut RunEnv, *mut u8) -> u64;

/// Which engine runs a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    /// The interpreter.
    Interp,
    /// Native code.
    Jit,
}

impl Engine {
    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interp => "interp",
            Self::Jit => "jit",
        }
    }
}

/// A map as a program is linked to it.
#[derive(Clone, Debug)]
pub struct MapSlot(Map);

impl MapSlot {
    /// The map.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.0
    }

    /// What [`crate::lowered::Op::MapAddr`] loads.
    #[must_use]
    pub fn handle(&self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// Address of the first value of an array.
    #[must_use]
    pub fn value_base(&self) -> u64 {
        self.0.data as u64
    }
}

/// Why a verified program cannot be made to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProgramError {
    /// It needs something that only a kernel has.
    Lower(LowerError),
    /// The maps are not those that the proof was made for.
    MapMismatch {
        /// Index of the first map that differs.
        map: usize,
    },
    /// The heap's table of types has no room for what objects of this type own, or the type has more bytes than objects can.
    Type {
        /// Its id in the program's BTF.
        id: u32,
    },
    /// The engine cannot run here.
    Engine(String),
}

impl std::fmt::Display for ProgramError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lower(e) => e.fmt(f),
            Self::MapMismatch { map } => write!(f, "map {map} is not the one that was verified"),
            Self::Type { id } => write!(
                f,
                "objects of type {id} of the program's BTF are too long, or the heap knows 1024 other types that own something: \
                 remove the pin directory's .objects with all pins to begin anew"
            ),
            Self::Engine(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ProgramError {}

/// How a program is made runnable.
#[derive(Clone, Debug)]
pub struct ProgramOptions {
    /// What runs it.
    pub engine: Engine,
    /// How far lowering trusts the verifier's facts.
    pub fold: Fold,
    /// How it is compiled, if it is.
    pub code: CodeOptions,
    /// The program's BTF, which tells what its objects own.
    pub btf: Option<Arc<Btf>>,
    /// Where its objects are; without one it gets none. Programs that share maps share it.
    pub heap: Option<Arc<Heap>>,
}

impl From<Engine> for ProgramOptions {
    fn from(engine: Engine) -> Self {
        Self {
            engine,
            fold: Fold::Facts,
            code: CodeOptions::default(),
            btf: None,
            heap: None,
        }
    }
}

/// A loaded program.
#[derive(Debug)]
pub struct Program {
    call_back: CallBackFn,
    lowered: Arc<Lowered>,
    maps: Arc<[MapSlot]>,
    image: OnceLock<interp::Image>,
    /// Native code; without it the interpreter runs the program.
    compiled: Option<Arc<Compiled>>,
    /// Lines of the heap's table for what its objects own, by type, of those that own anything.
    owns: Vec<(u32, u32)>,
    heap: Option<Arc<Heap>>,
    /// The universe's id, 0 until it has one.
    pub id: AtomicU32,
}

impl Program {
    /// Makes a verified program runnable with `maps`, which must be described as the proof says.
    ///
    /// # Errors
    /// If it needs something that only a kernel has, or the maps differ.
    pub fn new(
        verified: &Verified,
        maps: Vec<Map>,
        options: impl Into<ProgramOptions>,
    ) -> Result<Self, ProgramError> {
        let options = options.into();
        check_maps(verified, &maps)?;
        let lowered =
            lower(verified, options.fold, options.heap.as_deref()).map_err(ProgramError::Lower)?;
        Self::link(lowered, maps, options)
    }

    /// Links a lowered program to its maps.
    pub(crate) fn link(
        lowered: Lowered,
        maps: Vec<Map>,
        options: impl Into<ProgramOptions>,
    ) -> Result<Self, ProgramError> {
        let options = options.into();
        if lowered.arena.is_some() {
            jit::expect_faults();
        }
        let owns = owned(&lowered, &options)?;
        let lowered = Arc::new(lowered);
        let maps: Arc<[MapSlot]> = maps.into_iter().map(MapSlot).collect();
        let (compiled, call_back) = match options.engine {
            Engine::Interp => (None, interp::call_back as CallBackFn),
            Engine::Jit => {
                let code = Compiled::new(Arc::clone(&lowered), Arc::clone(&maps), options.code)?;
                (Some(code), jit::runtime::call_back as CallBackFn)
            }
        };
        Ok(Self {
            call_back,
            lowered,
            maps,
            image: OnceLock::new(),
            owns,
            heap: options.heap,
            compiled,
            id: AtomicU32::new(0),
        })
    }

    /// Which engine runs it.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match self.compiled {
            Some(_) => Engine::Jit,
            None => Engine::Interp,
        }
    }

    /// Native code that new runs use, if it has any.
    #[must_use]
    pub fn code(&self) -> Option<&Code> {
        self.compiled.as_ref().map(|c| c.code())
    }

    /// Makes the better code now instead of when it pays.
    ///
    /// # Errors
    /// If there is no executable memory.
    pub fn optimise(&self) -> Result<(), ProgramError> {
        self.compiled.as_ref().map_or(Ok(()), |c| c.optimise())
    }

    pub(crate) fn compiled(&self) -> Option<&Arc<Compiled>> {
        self.compiled.as_ref()
    }

    /// The code that runs it.
    #[inline]
    pub(crate) fn entry(&self) -> EntryFn {
        match &self.compiled {
            Some(c) => c.entry(),
            None => interp::entry,
        }
    }

    /// What runs.
    #[must_use]
    pub fn lowered(&self) -> &Lowered {
        &self.lowered
    }

    /// The maps, by the index that [`crate::lowered::Op::MapAddr`] names.
    #[must_use]
    pub fn maps(&self) -> &[MapSlot] {
        &self.maps
    }

    /// The line of the heap's table for what objects of a type of the program's BTF own.
    pub(crate) fn owns(&self, type_id: u32) -> u32 {
        let found = self.owns.iter().find(|(id, _)| *id == type_id);
        found.map_or(0, |(_, line)| *line)
    }

    /// Where its objects are.
    pub(crate) fn heap(&self) -> Option<&Heap> {
        self.heap.as_deref()
    }

    /// The interpreter's form.
    pub(crate) fn image(&self) -> &interp::Image {
        self.image
            .get_or_init(|| interp::Image::new(&self.lowered, &self.maps))
    }

    /// Makes this the program of the run: what its helpers and callbacks belong to.
    ///
    /// # Safety
    /// `env` must be valid.
    pub(crate) unsafe fn make_current(&self, env: *mut RunEnv) {
        // SAFETY: promised by the caller.
        unsafe {
            (*env).program = self;
            (*env).call_back = Some(self.call_back);
            if let Some(arena) = self.lowered.arena {
                // The lower half of an arena's addresses is their place in its window (see `skep_maps`).
                (*env).arena_base = self.maps[arena as usize].value_base() & !u64::from(u32::MAX);
                (*env).arena_user_base = (*env).arena_base;
            }
        }
    }

    /// Makes this the program of the run and runs it.
    ///
    /// # Safety
    /// `env` must be a worker's environment in a run, `ctx` the context that this program's type demands.
    pub(crate) unsafe fn enter(&self, env: *mut RunEnv, ctx: *mut u8) -> u64 {
        // SAFETY: promised by the caller.
        unsafe {
            self.make_current(env);
            self.entry()(env, ctx)
        }
    }
}

/// Do programs like this one need a heap: do they make objects, or have maps whose values own some?
#[must_use]
pub fn needs_heap(verified: &Verified) -> bool {
    const MAKE: [&str; 3] = [
        "bpf_obj_new_impl",
        "bpf_percpu_obj_new_impl",
        "bpf_cpumask_create",
    ];
    let owns = verified.maps().iter().any(|map| {
        let inner = map.inner.iter().any(|inner| inner.record.owns_objects());
        inner || map.record.owns_objects()
    });
    let mut kfuncs = verified
        .facts()
        .iter()
        .filter_map(|f| f.call.as_ref()?.kfunc.as_deref());
    owns || kfuncs.any(|name| MAKE.contains(&name))
}

/// What the objects that a program makes own, by type, as lines of the heap's table.
fn owned(lowered: &Lowered, options: &ProgramOptions) -> Result<Vec<(u32, u32)>, ProgramError> {
    let (Some(btf), Some(heap)) = (&options.btf, &options.heap) else {
        return Ok(Vec::new());
    };
    let facts = lowered.verified.facts().iter();
    let mut types: Vec<u32> = facts.filter_map(|f| f.call.as_ref()?.alloc_type).collect();
    types.sort_unstable();
    types.dedup();
    let token = skep_sys::task::token();
    let line = |id: u32| {
        let line = heap.type_of(&Record::of(btf, id).unwrap_or_default(), token);
        line.map(|line| (id, line)).ok_or(ProgramError::Type { id })
    };
    let lines = types.into_iter().map(line);
    lines.filter(|line| !matches!(line, Ok((_, 0)))).collect()
}

/// The live maps must be those of the proof.
fn check_maps(verified: &Verified, maps: &[Map]) -> Result<(), ProgramError> {
    let described = verified.maps();
    let same = |i: usize| {
        let (d, m) = (described.get(i)?, maps.get(i)?);
        // Local storage is kept by owner: its keys and its room are its own affair.
        let is_storage = skep_maps::is_storage(d.map_type);
        let equal = d.map_type == m.map_type
            && d.value_size == m.value_size
            && (is_storage || (d.key_size == m.key_size && d.max_entries == m.max_entries));
        equal.then_some(())
    };
    let count = described.len().max(maps.len());
    match (0..count).find(|&i| same(i).is_none()) {
        Some(map) => Err(ProgramError::MapMismatch { map }),
        None => Ok(()),
    }
}

/// A thread's means to run programs: environment, stack area, helper state. Made once, used for many runs.
#[derive(Debug)]
pub struct Worker {
    env: NonNull<RunEnv>,
    world: NonNull<World>,
    stack: NonNull<StackArea>,
    _stop: Arc<AtomicU32>,
}

/// Memory of stack frames.
#[repr(C, align(64))]
struct StackArea([u8; STACK_AREA_BYTES]);

// SAFETY: a worker owns all it points to but the current program, which is set at the start of each run.
unsafe impl Send for Worker {}

impl Worker {
    /// A worker that runs as `runner` in the universe `host`, and stops when `stop` is not zero.
    #[must_use]
    pub fn new(host: Arc<dyn Host>, runner: Runner, stop: Arc<AtomicU32>) -> Self {
        let stack = NonNull::from(Box::leak(Box::new(StackArea([0; STACK_AREA_BYTES]))));
        let world = NonNull::from(Box::leak(Box::new(World::new(host))));
        let limit = stack.as_ptr().cast::<u8>();
        let env = RunEnv {
            program: std::ptr::null(),
            call_back: None,
            // SAFETY: one past the end of the area.
            stack_top: unsafe { limit.add(STACK_AREA_BYTES) },
            stack_limit: limit,
            tail_calls: 0,
            thrown: 0,
            runner,
            pid_tgid: 0,
            depth: 0,
            sections: 0,
            thrown_value: 0,
            stop: Arc::as_ptr(&stop),
            arena_user_base: 0,
            arena_base: 0,
            world: world.as_ptr(),
        };
        let mut worker = Self {
            env: NonNull::from(Box::leak(Box::new(env))),
            world,
            stack,
            _stop: stop,
        };
        worker.act_as(runner);
        worker
    }

    /// Runs as `runner` from now on, on the calling thread.
    pub fn act_as(&mut self, runner: Runner) {
        let process = u64::from(std::process::id());
        let thread = u64::from(skep_sys::task::thread_of(runner.token));
        // SAFETY: the worker owns it, and no run is active while it is borrowed.
        let env = unsafe { self.env.as_mut() };
        env.runner = runner;
        env.pid_tgid = process << 32 | thread;
    }

    /// Runs a program once; its value is `r0`, of which most hooks use the lower half.
    ///
    /// # Safety
    /// `ctx` must point to the context structure of the program's type (see [`crate::ctx`]), valid for the whole run.
    pub unsafe fn run(&mut self, program: &Program, ctx: *mut u8) -> u64 {
        let env = self.env.as_ptr();
        // SAFETY: `env` belongs to this worker; the rest is promised by the caller.
        unsafe {
            (*(*env).world).tasks.begin_run();
            (*env).tail_calls = 0;
            (*env).thrown = 0;
            program.enter(env, ctx)
        }
    }

    /// Runs a callback of a program on its own, as timers do; its value is of no use.
    ///
    /// # Safety
    /// `func` must be a value of [`crate::lowered::Op::FuncAddr`] of this program that it set as a callback, the arguments
    /// those that the verifier promised it.
    pub unsafe fn run_callback(&mut self, program: &Program, func: u64, args: [u64; 3]) {
        let env = self.env.as_ptr();
        let [r1, r2, r3] = args;
        // SAFETY: `env` belongs to this worker; the rest is promised by the caller.
        unsafe {
            (*(*env).world).tasks.begin_run();
            (*env).tail_calls = 0;
            (*env).thrown = 0;
            program.make_current(env);
            RunEnv::call(env, func, [r1, r2, r3, 0, 0]);
        }
    }

    /// Runs a program in the interpreter with a hook before each instruction (but those of callbacks).
    ///
    /// # Safety
    /// As [`Worker::run`].
    pub unsafe fn run_hooked<H: interp::Hook>(
        &mut self,
        program: &Program,
        ctx: *mut u8,
        hook: &mut H,
    ) -> u64 {
        let env = self.env.as_ptr();
        // SAFETY: as in `run`; the callbacks are the interpreter's.
        unsafe {
            (*(*env).world).tasks.begin_run();
            (*env).tail_calls = 0;
            (*env).thrown = 0;
            program.make_current(env);
            (*env).call_back = Some(interp::call_back);
            interp::run_hooked(env, ctx, hook)
        }
    }

    /// The helpers' state.
    pub fn world(&mut self) -> &mut World {
        // SAFETY: the worker owns it, and no run is active while it is borrowed.
        unsafe { self.world.as_mut() }
    }

    /// The environment, for engines and tests.
    #[must_use]
    pub fn env(&self) -> *mut RunEnv {
        self.env.as_ptr()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SAFETY: all three came from `Box::leak` and no run is active.
        unsafe {
            drop(Box::from_raw(self.env.as_ptr()));
            drop(Box::from_raw(self.world.as_ptr()));
            drop(Box::from_raw(self.stack.as_ptr()));
        }
    }
}
