//! The steps of a verification, in the kernel's order.

use crate::cfg::{self, CallNature};
use crate::code;
use crate::exception::callback_start;
use crate::fail::{Fail, errno, fail_nowhere};
use crate::live_regs;
use crate::program::Program;
use crate::reg::{Kind, Reg};
use crate::rejection::Rejection;
use crate::request::{Caps, Request};
use crate::stack_depth;
use crate::trace::Trace;
use crate::verified::{Stats, Subprog, Verified};
use crate::verifier::Verifier;
use skep_abi::ProgType;
use skep_abi::helper::{self, HelperFlags, id};
use skep_isa::{Call, Insn, Slot};

/// Proves `req`, or says why it cannot.
///
/// # Errors
/// The first rule the program breaks, in the kernel's order of exploration.
pub fn verify(req: &Request<'_>) -> Result<Verified, Rejection> {
    verify_with(req, None, None)
}

/// Proves a program without a kernel type: its context is `bytes` bytes of memory, which it may read and write, and it
/// may return any number. Such programs run in tests of the instruction set, and nowhere else.
///
/// # Errors
/// As [`verify`].
pub fn verify_memory(insns: &[Slot], name: &str, bytes: u32) -> Result<Verified, Rejection> {
    verify_with(
        &Request::plain(name, ProgType::Unspec, insns),
        None,
        Some(bytes),
    )
}

/// As [`verify_memory`], and records the states passed, as [`crate::verify_traced`] does.
///
/// # Errors
/// As [`verify`].
pub fn verify_memory_traced(
    insns: &[Slot],
    name: &str,
    bytes: u32,
) -> Result<(Verified, Trace), Rejection> {
    let mut trace = Trace::default();
    let request = Request::plain(name, ProgType::Unspec, insns);
    let verified = verify_with(&request, Some(&mut trace), Some(bytes))?;
    Ok((verified, trace))
}

/// Verifies, and records the states passed if a trace is given.
pub(crate) fn verify_with(
    req: &Request<'_>,
    trace: Option<&mut Trace>,
    memory: Option<u32>,
) -> Result<Verified, Rejection> {
    let program =
        Program::new(req.insns, callback_start(req)).map_err(|e| rejection(*e, 0, None))?;
    let target = crate::target::name_of(req);
    let mut v = Verifier::new(req, program, &target);
    if let Some(trace) = &trace {
        v.trace = Some(Box::new(Trace::new(v.p.len(), trace.numbers)));
    }
    let result = steps(&mut v, memory);
    if let (Some(out), Some(recorded)) = (trace, v.trace.take()) {
        *out = *recorded;
    }
    match result {
        Ok(stack_depth) => Ok(verified(v, stack_depth, memory)),
        Err(e) => {
            let at = v.insn as u32;
            Err(rejection(*e, v.insns_processed, Some(at)))
        }
    }
}

/// The first refusal that is not at one of the slots in `known`, within `limit` steps.
pub(crate) fn refuse(req: &Request<'_>, known: &[u32], limit: u32) -> Option<Rejection> {
    let target = crate::target::name_of(req);
    let mut v = Verifier::new(
        req,
        Program::new(req.insns, callback_start(req)).ok()?,
        &target,
    );
    v.step_limit = v.step_limit.min(limit);
    v.known_errors = known.to_vec();
    let refused = steps(&mut v, None).err()?;
    let at = v.insn as u32;
    Some(rejection(*refused, v.insns_processed, Some(at)))
}

pub(crate) fn steps(v: &mut Verifier<'_>, memory: Option<u32>) -> Result<u32, Box<Fail>> {
    v.check_func_info()?;
    v.check_line_info()?;
    v.check_program()?;
    v.find_exception_callback()?;
    v.check_opcodes()?;
    v.check_known_opcodes()?;
    v.check_map_operands()?;
    v.check_kfuncs()?;
    v.check_kernel_variables()?;
    prepare(v)?;
    v.walk(0, &|v| {
        *v.reg_mut(1) = match memory {
            None => Reg::pointer(Kind::Ctx),
            Some(bytes) => Reg {
                aux: bytes,
                ..Reg::pointer(Kind::Mem)
            },
        };
        Ok(())
    })?;
    walk_global_functions(v)?;
    let stack_depth = stack_depth::check(&v.p, &v.env, &|at| v.throws_at(at))?;
    match crate::owner::foreign(v.req) {
        None => Ok(stack_depth),
        Some(map) => {
            let message = format!(
                "map \"{}\" belongs to another kind of programs: all that it holds, and that use it, have the same type, attach \
                 type and flags",
                map.name
            );
            fail_nowhere(code::MAP_OWNER, errno::EINVAL, message)
        }
    }
}

/// Everything about the instructions that does not depend on paths.
fn prepare(v: &mut Verifier<'_>) -> Result<(), Box<Fail>> {
    let natures: Vec<CallNature> =
        v.p.insns
            .iter()
            .map(|i| nature(v, i.as_ref().ok()))
            .collect();
    let callback = v.exception_callback.map(|f| v.p.funcs[f].start);
    let entries: Vec<usize> = callback.into_iter().collect();
    cfg::check(&mut v.p, &|at| natures[at], &entries)?;
    v.check_attach()?;
    note_effects(v);
    cfg::number_loops(&mut v.p);
    live_regs::compute(&mut v.p, &|call| match call {
        Call::Helper(number) => helper::by_id(u32::try_from(*number).ok()?).map(|h| h.args.len()),
        _ => None,
    });
    v.has_converging_loops = v.p.marks.iter().any(|m| m.force_checkpoint);
    if let Some(trace) = &mut v.trace {
        trace.live = v.p.marks.iter().map(|m| m.live_regs).collect();
    }
    Ok(())
}

fn nature(v: &Verifier<'_>, insn: Option<&Insn>) -> CallNature {
    match insn {
        Some(Insn::Call(Call::Helper(number))) => match u32::try_from(*number) {
            Ok(id::LOOP | id::FOR_EACH_MAP_ELEM | id::USER_RINGBUF_DRAIN | id::FIND_VMA) => {
                CallNature::SyncCallback
            }
            Ok(id::TIMER_SET_CALLBACK) => CallNature::AsyncCallback,
            _ => CallNature::Plain,
        },
        Some(Insn::Call(Call::Kfunc { id, .. })) => v.kfunc_nature(*id),
        _ => CallNature::Plain,
    }
}

/// Which functions may move packet data or sleep, directly or through what they call.
fn note_effects(v: &mut Verifier<'_>) {
    let mut changed = true;
    while changed {
        changed = false;
        for f in 0..v.p.funcs.len() {
            for at in v.p.funcs[f].start..v.p.funcs[f].end {
                let (changes, sleeps) = effects(v, at);
                let func = &mut v.p.funcs[f];
                changed |= (changes && !func.changes_pkt) || (sleeps && !func.might_sleep);
                func.changes_pkt |= changes;
                func.might_sleep |= sleeps;
            }
        }
    }
}

/// Does the call at `at`, if it is one, move packet data, and may it sleep?
fn effects(v: &Verifier<'_>, at: usize) -> (bool, bool) {
    match &v.p.insns[at] {
        Ok(Insn::Call(Call::Helper(number))) => {
            let proto = u32::try_from(*number).ok().and_then(helper::by_id);
            let has = |flag| proto.is_some_and(|h| h.flags.has(flag));
            (has(HelperFlags::CHANGES_PKT), has(HelperFlags::MIGHT_SLEEP))
        }
        Ok(Insn::Call(Call::Kfunc { id, module: 0 })) => v.kfunc_effects(*id),
        Ok(Insn::Call(Call::Subprog(offset))) => {
            let callee = v.p.func_at((at + 1).wrapping_add_signed(*offset as isize));
            callee.map_or((false, false), |c| {
                (v.p.funcs[c].changes_pkt, v.p.funcs[c].might_sleep)
            })
        }
        _ => (false, false),
    }
}

/// Global functions that are called, each on its own, until no new one is called.
fn walk_global_functions(v: &mut Verifier<'_>) -> Result<(), Box<Fail>> {
    let mut done = vec![false; v.p.funcs.len()];
    if let Some(callback) = v.exception_callback {
        v.p.funcs[callback].called = true;
    }
    loop {
        let next = (1..v.p.funcs.len())
            .find(|&f| v.p.funcs[f].is_global && v.p.funcs[f].called && !done[f]);
        let Some(f) = next else { return Ok(()) };
        done[f] = true;
        v.walk(f, &|v| {
            if v.exception_callback == Some(f) {
                v.check_exception_prototype(f)?;
            }
            v.setup_global(f)
        })?;
    }
}

fn rejection(e: Fail, insns_processed: u32, at: Option<u32>) -> Rejection {
    Rejection {
        code: e.code.id,
        class: e.code.class,
        insn: e.insn.unwrap_or(at),
        cause: Box::new(e.cause),
        errno: e.errno,
        insns_processed,
    }
}

fn verified(v: Verifier<'_>, stack_depth: u32, memory: Option<u32>) -> Verified {
    let subprogs =
        v.p.funcs
            .iter()
            .map(|f| Subprog {
                start: f.start as u32,
                end: f.end as u32,
                stack_bytes: f.stack_bytes,
                unwritten: f.unwritten,
                is_callback: f.is_callback,
                is_exception_callback: f.is_exception_callback,
                has_tail_call: f.has_tail_call,
            })
            .collect();
    let mut facts = v.rec.finish();
    for at in live_regs::unused_loads(&v.p) {
        facts[at].unused = true;
    }
    Verified {
        insns: v.p.slots,
        facts,
        subprogs,
        maps: v.req.maps.to_vec(),
        prog_type: v.req.prog_type,
        attach: v.req.attach,
        caps: v.req.caps,
        sleepable: v.env.sleepable,
        memory,
        stats: Stats {
            insns_processed: v.insns_processed,
            peak_states: v.kept.peak,
            total_states: v.kept.total,
            stack_depth,
        },
    }
}

impl Verifier<'_> {
    /// What the load itself is refused for.
    fn check_program(&self) -> Result<(), Box<Fail>> {
        use skep_abi::prog::{Capability, facts};
        let capability = facts(self.env.prog_type).capability;
        if self.req.caps == Caps::Bpf
            && matches!(capability, Capability::Perfmon | Capability::Both)
        {
            let message = format!("{} programs need CAP_PERFMON", self.env.prog_type);
            return fail_nowhere(code::NEEDS_CAPABILITY, errno::EPERM, message);
        }
        let number = self.req.attach.map_or(0, skep_abi::AttachType::id);
        if skep_abi::prog::load_attach(self.env.prog_type, number).is_none() {
            let attach = self.req.attach.map_or("none", skep_abi::AttachType::name);
            let message = format!(
                "{} programs cannot be loaded with attach type {attach}",
                self.env.prog_type
            );
            return fail_nowhere(code::ATTACH_TYPE, errno::EINVAL, message);
        }
        if skep_abi::prog::UNCONFIGURED.contains(&self.env.prog_type) {
            let message = format!(
                "this kernel was built without {} programs",
                self.env.prog_type
            );
            return fail_nowhere(code::ATTACH_TYPE, errno::EINVAL, message);
        }
        Ok(())
    }
}
