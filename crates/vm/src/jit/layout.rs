//! What compiled code knows of the run environment.

use crate::env::RunEnv;
use std::mem::offset_of;

/// Offset of a field of the run environment.
const fn env_field(offset: usize) -> i32 {
    assert!(offset < 1 << 12, "the fixed part of RunEnv is small");
    offset as i32
}

pub(crate) const ENV_PROGRAM: i32 = env_field(offset_of!(RunEnv, program));
pub(crate) const ENV_RUNNER: i32 = env_field(offset_of!(RunEnv, runner));
pub(crate) const ENV_PID_TGID: i32 = env_field(offset_of!(RunEnv, pid_tgid));
pub(crate) const ENV_SECTIONS: i32 = env_field(offset_of!(RunEnv, sections));
pub(crate) const ENV_STOP: i32 = env_field(offset_of!(RunEnv, stop));
pub(crate) const ENV_THROWN: i32 = env_field(offset_of!(RunEnv, thrown));
pub(crate) const ENV_THROWN_VALUE: i32 = env_field(offset_of!(RunEnv, thrown_value));
pub(crate) const ENV_ARENA_BASE: i32 = env_field(offset_of!(RunEnv, arena_base));
pub(crate) const ENV_ARENA_USER_BASE: i32 = env_field(offset_of!(RunEnv, arena_user_base));

/// `r0` after a tail call that found no program (`-ENOENT`).
pub(crate) const TAIL_CALL_FAILED: u64 = (-2_i64).cast_unsigned();
