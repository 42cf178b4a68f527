//! Who runs: the current thread stands for the current task.

use super::{Args, Row, helpers};
use skep_abi::Errno;
use skep_sys::ids;

pub(super) const HELPERS: &[Row] = helpers! {
    7 "bpf_get_prandom_u32" get_prandom_u32;
    8 "bpf_get_smp_processor_id" get_smp_processor_id;
    14 "bpf_get_current_pid_tgid" get_current_pid_tgid;
    15 "bpf_get_current_uid_gid" get_current_uid_gid;
    16 "bpf_get_current_comm" get_current_comm;
    42 "bpf_get_numa_node_id" get_numa_node_id;
    120 "bpf_get_ns_current_pid_tgid" get_ns_current_pid_tgid;
    174 "bpf_get_attach_cookie" get_attach_cookie;
};

/// Bytes of a task's name (`TASK_COMM_LEN`).
const COMM_BYTES: usize = 16;

/// xorshift64*: as good as the kernel's for what programs may expect of it.
fn get_prandom_u32(a: &Args) -> u64 {
    let state = &mut a.world().random_state;
    if *state == 0 {
        *state = skep_sys::clock::real_time_ns() | 1;
    }
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
}

fn get_smp_processor_id(a: &Args) -> u64 {
    u64::from(a.runner().cpu)
}

fn get_numa_node_id(_: &Args) -> u64 {
    0
}

fn get_current_pid_tgid(a: &Args) -> u64 {
    a.pid_tgid()
}

fn get_current_uid_gid(_: &Args) -> u64 {
    let (uid, gid) = ids::user_and_group();
    u64::from(gid) << 32 | u64::from(uid)
}

/// buffer, its size
fn get_current_comm(a: &Args) -> i64 {
    let len = a.get32(2) as usize;
    let mut comm = [0; COMM_BYTES];
    ids::thread_name(&mut comm);
    a.zero(1, len);
    let kept = len.min(COMM_BYTES);
    let end = comm[..kept].iter().position(|&b| b == 0);
    a.write(1, &comm[..end.unwrap_or(kept.saturating_sub(1))]);
    0
}

/// device and inode of a PID namespace, result, its size
fn get_ns_current_pid_tgid(a: &Args) -> Result<i64, Errno> {
    const RESULT_BYTES: usize = 8;
    let len = a.get32(4) as usize;
    let found = ids::pid_namespace().is_some_and(|ns| ns == (a.get(1), a.get(2)));
    if len != RESULT_BYTES || !found {
        a.zero(3, len);
        return Err(Errno::EINVAL);
    }
    let (tgid, pid) = ids::process_and_thread();
    a.write(3, &pid.to_ne_bytes());
    a.write_at(3, 4, &tgid.to_ne_bytes());
    Ok(0)
}

fn get_attach_cookie(a: &Args) -> u64 {
    a.world().attach_cookie
}
