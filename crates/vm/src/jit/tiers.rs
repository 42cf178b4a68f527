//! Two speeds of compilation: templates at once, better code when it pays.
//!
//! A program starts in its templates, behind [`run_templates`], which adds up the time spent there. Once that is as much as the
//! optimising compiler will take, a thread of its own compiles the program again; whoever starts a run from then on uses the
//! better code. So no program ever loses more than about twice what it could have lost at best. Both codes stay mapped as
//! long as the program lives, since runs may be in either.

use super::image::{CodeImage, MapOp, Symbol, Tier};
use super::link::Code;
use crate::env::RunEnv;
use crate::lowered::Lowered;
use crate::program::{EntryFn, MapSlot, ProgramError};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// What optimising costs, to be outweighed by the time spent in templates: a part for the thread and the mapping, and a part
/// for each op.
const COST_FIXED_NS: u64 = 150_000;
const COST_PER_OP_NS: u64 = 3_000;
/// Compilations at a time in this process; what gets hot beyond that asks again at its next run.
const COMPILING_MAX: usize = 2;

/// Compilations under way.
static COMPILING: AtomicUsize = AtomicUsize::new(0);

/// When a program gets which code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tiers {
    /// Templates at once, better code when it pays.
    #[default]
    Adaptive,
    /// Templates only.
    Templates,
    /// Better code before the first run.
    Optimised,
}

/// Learns of every piece of code that is linked, for profilers.
pub trait CodeObserver: Send + Sync + std::fmt::Debug {
    /// `code` was linked; `image` is what it was made from.
    fn linked(&self, lowered: &Lowered, image: &CodeImage, code: &Code);
}

/// How a program is compiled.
#[derive(Clone, Debug, Default)]
pub struct CodeOptions {
    /// When it gets which code.
    pub tiers: Tiers,
    /// Immediates of the program are hidden in its code, so that nobody can place instructions of choice in executable memory.
    /// Costs speed: there are templates only.
    pub blinding: bool,
    /// Who is told of linked code.
    pub observer: Option<Arc<dyn CodeObserver>>,
}

/// The code of a program.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// Where runs start: [`run_templates`], or code.
    entry: AtomicPtr<()>,
    first: Code,
    better: OnceLock<Code>,
    /// Time spent in templates.
    spent_ns: AtomicU64,
    budget_ns: u64,
    requested: AtomicBool,
    lowered: Arc<Lowered>,
    maps: Arc<[MapSlot]>,
    options: CodeOptions,
}

impl Compiled {
    /// Compiles a program and links it to its callees and maps.
    pub(crate) fn new(
        lowered: Arc<Lowered>,
        maps: Arc<[MapSlot]>,
        options: CodeOptions,
    ) -> Result<Arc<Self>, ProgramError> {
        let tier = match options.tiers {
            Tiers::Optimised if !options.blinding => Tier::Optimised,
            _ => Tier::Baseline,
        };
        let first = link(&lowered, &maps, tier, &options)?;
        let entry = match options.tiers {
            Tiers::Adaptive if !options.blinding => run_templates as EntryFn,
            _ => first.entry(),
        };
        let ops = u64::try_from(lowered.ops.len()).unwrap_or(u64::MAX);
        Ok(Arc::new(Self {
            entry: AtomicPtr::new(entry as *mut ()),
            first,
            better: OnceLock::new(),
            spent_ns: AtomicU64::new(0),
            budget_ns: COST_PER_OP_NS
                .saturating_mul(ops)
                .saturating_add(COST_FIXED_NS),
            requested: AtomicBool::new(false),
            lowered,
            maps,
            options,
        }))
    }

    /// Where a run starts now.
    #[inline]
    pub(crate) fn entry(&self) -> EntryFn {
        let entry = self.entry.load(Ordering::Acquire);
        // SAFETY: only functions of this type are stored; the code they belong to lives as long as `self`.
        unsafe { std::mem::transmute::<*mut (), EntryFn>(entry) }
    }

    /// The code that new runs use.
    pub(crate) fn code(&self) -> &Code {
        self.better.get().unwrap_or(&self.first)
    }

    /// Makes the better code now, unless it is there or not wanted.
    pub(crate) fn optimise(&self) -> Result<(), ProgramError> {
        if self.options.tiers != Tiers::Adaptive || self.options.blinding {
            return Ok(());
        }
        let code = link(&self.lowered, &self.maps, Tier::Optimised, &self.options)?;
        let entry = self.better.get_or_init(|| code).entry();
        self.entry.store(entry as *mut (), Ordering::Release);
        Ok(())
    }

    /// Notes time spent in templates, and asks for better code once it is enough.
    fn spent(self: &Arc<Self>, ns: u64) {
        let before = self.spent_ns.fetch_add(ns, Ordering::Relaxed);
        if before.saturating_add(ns) < self.budget_ns || self.requested.load(Ordering::Relaxed) {
            return;
        }
        if COMPILING.fetch_add(1, Ordering::Relaxed) >= COMPILING_MAX
            || self.requested.swap(true, Ordering::Relaxed)
        {
            COMPILING.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let this = Arc::clone(self);
        let thread = std::thread::Builder::new().name("skep-jit".to_owned());
        let spawned = thread.spawn(move || {
            // Without memory for better code the program keeps what it has.
            let _ = this.optimise();
            COMPILING.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            COMPILING.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Entry of programs that are still in templates.
///
/// # Safety
/// As for any [`EntryFn`]: `env.program` must be the program whose entry this is.
unsafe extern "C" fn run_templates(env: *mut RunEnv, ctx: *mut u8) -> u64 {
    // SAFETY: promised by the caller; the program is alive for the whole run.
    let program = unsafe { &*(*env).program };
    let Some(compiled) = program.compiled() else {
        return 0;
    };
    let start = Instant::now();
    // SAFETY: passed on.
    let value = unsafe { compiled.first.entry()(env, ctx) };
    let ns = start.elapsed().as_nanos();
    compiled.spent(u64::try_from(ns).unwrap_or(u64::MAX));
    value
}

/// Compiles and links.
fn link(
    lowered: &Lowered,
    maps: &[MapSlot],
    tier: Tier,
    options: &CodeOptions,
) -> Result<Code, ProgramError> {
    let image = super::compile(lowered, tier, options.blinding);
    let map = |i: u32| maps.get(i as usize);
    let code = Code::link(&image, |symbol| match symbol {
        Symbol::Callee(i) => Some(lowered.callees.get(i as usize)?.func as usize as u64),
        Symbol::Map(i) => Some(map(i)?.handle()),
        Symbol::MapValue { map: i, offset } => Some(map(i)?.value_base() + u64::from(offset)),
        Symbol::MapCpus(i) => Some(u64::from(map(i)?.map().spec().cpus)),
        Symbol::MapStride(i) => Some(map(i)?.map().percpu_stride),
        Symbol::MapCode { map: i, op } => Some(map_code(map(i)?, op)),
        Symbol::Runtime(_) => None,
    })
    .map_err(|e| ProgramError::Engine(e.to_string()))?;
    if let Some(observer) = &options.observer {
        observer.linked(lowered, &image, &code);
    }
    Ok(code)
}

/// Address of a map's own code for an operation.
fn map_code(map: &MapSlot, op: MapOp) -> u64 {
    let map = map.map();
    let code = match op {
        MapOp::Lookup => map.lookup_fn as *const (),
        MapOp::Update => map.update_fn as *const (),
        MapOp::Delete => map.delete_fn as *const (),
    };
    code as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::testing::{loop_program, run_once};
    use crate::program::{Engine, Program};
    use std::time::Duration;

    /// Long enough for a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_hot_program_gets_better_code_and_computes_the_same() {
        let program: Program = loop_program(Engine::Jit.into());
        let first = program.code().expect("compiled").tier();
        let value = run_once(&program);
        let start = Instant::now();
        while program.code().expect("compiled").tier() == first && start.elapsed() < PATIENCE {
            assert_eq!(run_once(&program), value);
        }
        assert_eq!(first, Tier::Baseline);
        assert_eq!(program.code().expect("compiled").tier(), Tier::Optimised);
        assert_eq!(run_once(&program), value);
    }

    #[test]
    fn nobody_waits_for_better_code_who_does_not_want_it() {
        for (tiers, blinding, tier) in [
            (Tiers::Templates, false, Tier::Baseline),
            (Tiers::Optimised, false, Tier::Optimised),
            (Tiers::Optimised, true, Tier::Baseline),
        ] {
            let mut options: crate::program::ProgramOptions = Engine::Jit.into();
            options.code.tiers = tiers;
            options.code.blinding = blinding;
            let program = loop_program(options);
            assert_eq!(program.code().expect("compiled").tier(), tier);
            assert_eq!(
                run_once(&program),
                run_once(&loop_program(Engine::Interp.into()))
            );
        }
    }
}
