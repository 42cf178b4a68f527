//! What compiled code calls besides helpers.

use crate::env::RunEnv;
use crate::program::Program;

/// Code of a function of a compiled program: `(env, r1…r5) → r0`.
type FuncCodeFn = unsafe extern "C" fn(*mut RunEnv, u64, u64, u64, u64, u64) -> u64;

/// Runs a callback of compiled code: its handle is its address.
///
/// # Safety
/// `func` must come from an [`crate::lowered::Op::FuncAddr`] of the running program, the arguments from a helper that the
/// verifier allowed to call it.
pub(crate) unsafe extern "C" fn call_back(
    env: *mut RunEnv,
    func: u64,
    r1: u64,
    r2: u64,
    r3: u64,
    r4: u64,
    r5: u64,
) -> u64 {
    // SAFETY: the handle of a compiled function is the address of its code, which has this signature; the program, and with
    // it the code, stays alive during its run.
    unsafe {
        let code = std::mem::transmute::<usize, FuncCodeFn>(func as usize);
        code(env, r1, r2, r3, r4, r5)
    }
}

/// The entry that a tail call goes to, or 0; makes its program the running one.
///
/// # Safety
/// As [`crate::helpers::tail_call_target`].
pub unsafe extern "C" fn tail_call_entry(env: *mut RunEnv, map: u64, index: u64) -> u64 {
    // SAFETY: passed on; a program found stays alive while the run lasts, and `env` is the run's own.
    unsafe {
        let target = crate::helpers::tail_call_target(env, map, index);
        let Some(program) = target.as_ref() else {
            return 0;
        };
        program.make_current(env);
        program.entry() as usize as u64
    }
}

/// `bpf_ktime_get_ns`: the vDSO's clock, without what other helper calls pass on.
pub extern "C" fn ktime_get_ns() -> u64 {
    skep_sys::clock::monotonic_ns()
}

/// Makes `program` the running one again, after a function that may have gone to another one by tail call; returns `r0`.
///
/// # Safety
/// `env` must be the environment of the run, `program` what `env.program` was when the calling function began.
pub unsafe extern "C" fn make_current(env: *mut RunEnv, program: *const Program, r0: u64) -> u64 {
    // SAFETY: promised by the caller; a program whose function is active is alive.
    unsafe { (*program).make_current(env) };
    r0
}
