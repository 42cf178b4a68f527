//! The kernel's limits on programs. Source: include/linux/bpf.h, include/linux/bpf_verifier.h, include/uapi/linux/bpf.h.

/// Bytes of stack a program (all frames of a call chain) may use.
pub const MAX_BPF_STACK: u32 = 512;
/// Frames of a call chain.
pub const MAX_CALL_FRAMES: usize = 8;
/// Tail calls of one run.
pub const MAX_TAIL_CALL_CNT: u32 = 33;
/// Subprogs of a program, the main one included.
pub const BPF_MAX_SUBPROGS: usize = 256;
/// Instructions the verifier is willing to walk.
pub const BPF_COMPLEXITY_LIMIT_INSNS: u32 = 1_000_000;
/// Branches that may wait for exploration at one time.
pub const BPF_COMPLEXITY_LIMIT_JMP_SEQ: usize = 8192;
/// States kept per prune point before heuristics drop them.
pub const BPF_COMPLEXITY_LIMIT_STATES: usize = 64;
/// Maps one program may use.
pub const MAX_USED_MAPS: usize = 64;
/// Module BTFs and kfuncs of one program.
pub const MAX_KFUNC_DESCS: usize = 256;
/// Largest value of a variable offset in a pointer.
pub const BPF_MAX_VAR_OFF: i64 = 1 << 29;
/// Largest size of an access with variable size.
pub const BPF_MAX_VAR_SIZ: i64 = 1 << 29;
/// Instructions of an unprivileged program.
pub const BPF_MAXINSNS: usize = 4096;
/// Iterations `bpf_loop` and `may_goto` may make.
pub const BPF_MAX_LOOPS: u32 = 8 * 1024 * 1024;
/// Bytes of an object name, the terminating zero included.
pub const BPF_OBJ_NAME_LEN: usize = 16;
/// Largest packet offset that is tracked.
pub const MAX_PACKET_OFF: u32 = 0xffff;
