//! Call stacks of the code that a program was called from.
//!
//! The hook leaves instruction and frame pointer in [`World::user_frame`](crate::world::World::user_frame); callers are found
//! by walking frame pointers. A program without such a caller (a test run) has no stack: `-EFAULT`.

use super::{Args, Row, helpers};
use crate::fault;
use skep_abi::Errno;

pub(super) const HELPERS: &[Row] = helpers! {
    27 "bpf_get_stackid" get_stackid;
    67 "bpf_get_stack" get_stack;
    141 "bpf_get_task_stack" get_task_stack;
};

/// `BPF_F_SKIP_FIELD_MASK`
const SKIP_MASK: u64 = 0xff;
/// `BPF_F_USER_STACK`
const USER_STACK: u64 = 1 << 8;
/// `BPF_F_FAST_STACK_CMP`, `BPF_F_REUSE_STACKID`
const STACKID_FLAGS: u64 = SKIP_MASK | USER_STACK | 1 << 9 | 1 << 10;
/// `BPF_F_USER_BUILD_ID`
const USER_BUILD_ID: u64 = 1 << 11;
/// `PERF_MAX_STACK_DEPTH`
const MAX_DEPTH: usize = 127;

/// Return addresses, the innermost first. `None` if the run has no caller.
fn walk(a: &Args, skip: usize) -> Option<Vec<u64>> {
    let (mut ip, mut frame) = a.world().user_frame?;
    let mut ips = Vec::new();
    while ips.len() < MAX_DEPTH + skip {
        ips.push(ip);
        let mut pair = [0; 16];
        if frame == 0 || !fault::read(frame, &mut pair) {
            break;
        }
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&pair[at..at + 8]);
            u64::from_ne_bytes(bytes)
        };
        let next = word(0);
        ip = word(8);
        if ip == 0 || next <= frame {
            break;
        }
        frame = next;
    }
    Some(ips.split_off(skip.min(ips.len())))
}

/// ctx, map, flags
fn get_stackid(a: &Args) -> Result<i64, Errno> {
    let flags = a.get(3);
    if flags & !STACKID_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let ips = walk(a, (flags & SKIP_MASK) as usize).ok_or(Errno::EFAULT)?;
    if ips.is_empty() {
        return Err(Errno::EFAULT);
    }
    Ok(a.map(2).stack_id(&ips, flags, a.runner()))
}

/// task, buffer, its size, flags: of another task than the running one, whose stack is not walked, nothing
fn get_task_stack(a: &Args) -> Result<u64, Errno> {
    let token = a.world().tasks.status(a.get(1)).map(|task| task.token);
    if token == Some(a.runner().token) {
        return get_stack(a);
    }
    a.zero(2, a.get32(3) as usize);
    Err(Errno::EOPNOTSUPP)
}

/// ctx or task, buffer, its size, flags: bytes written
fn get_stack(a: &Args) -> Result<u64, Errno> {
    let (len, flags) = (a.get32(3) as usize, a.get(4));
    a.zero(2, len);
    if flags & !(SKIP_MASK | USER_STACK | USER_BUILD_ID) != 0 || flags & USER_BUILD_ID != 0 {
        return Err(Errno::EINVAL);
    }
    if !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let ips = walk(a, (flags & SKIP_MASK) as usize).ok_or(Errno::EFAULT)?;
    let bytes: Vec<u8> = ips
        .iter()
        .take(len / 8)
        .flat_map(|ip| ip.to_ne_bytes())
        .collect();
    a.write(2, &bytes);
    Ok(bytes.len() as u64)
}
