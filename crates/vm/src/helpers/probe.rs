//! Reads of addresses that may be bad.
//!
//! Kernel and user addresses are the same here: those of this process.

use super::{Args, Row, helpers};
use crate::fault;
use skep_abi::Errno;

pub(super) const HELPERS: &[Row] = helpers! {
    4 "bpf_probe_read" probe_read;
    45 "bpf_probe_read_str" probe_read_str;
    112 "bpf_probe_read_user" probe_read;
    113 "bpf_probe_read_kernel" probe_read_kernel;
    114 "bpf_probe_read_user_str" probe_read_str;
    115 "bpf_probe_read_kernel_str" probe_read_kernel_str;
    148 "bpf_copy_from_user" probe_read;
};

pub(super) const KFUNCS: &[Row] = helpers! {
    0 "bpf_copy_from_user_str" copy_from_user_str;
};

/// Bytes read at a time, so that a string near the end of a mapping does not fail.
const CHUNK: usize = 64;

/// Where a read from `at` on has to end, `None` if nothing can be read there: of the kernel's structures only some fields
/// exist.
fn until(a: &Args, at: u64) -> Option<u64> {
    a.world().tasks.readable_until(at)
}

/// destination, size, address
fn probe_read(a: &Args) -> Result<i64, Errno> {
    let len = a.get32(2) as usize;
    let mut bytes = vec![0; len];
    let readable = until(a, a.get(3)).is_some_and(|end| a.get(3).saturating_add(len as u64) <= end);
    if len != 0 && !(readable && fault::read(a.get(3), &mut bytes)) {
        a.zero(1, len);
        return Err(Errno::EFAULT);
    }
    a.write(1, &bytes);
    Ok(0)
}

/// Addresses below are those of user space, which the kernel does not even try to read as its own.
const TASK_SIZE: u64 = 1 << 47;

/// The error of a failed read of kernel memory.
fn as_kernel<T>(a: &Args, result: Result<T, Errno>) -> Result<T, Errno> {
    result.map_err(|errno| {
        if a.get(3) < TASK_SIZE {
            Errno::ERANGE
        } else {
            errno
        }
    })
}

fn probe_read_kernel(a: &Args) -> Result<i64, Errno> {
    as_kernel(a, probe_read(a))
}

fn probe_read_kernel_str(a: &Args) -> Result<u64, Errno> {
    as_kernel(a, probe_read_str(a))
}

/// destination, size, address: bytes with the terminating zero
fn probe_read_str(a: &Args) -> Result<u64, Errno> {
    let len = a.get32(2) as usize;
    match read_str_until(a.get(3), len, |at| until(a, at)) {
        Some(text) => {
            a.write(1, &text);
            Ok(text.len() as u64)
        }
        None => {
            a.zero(1, len);
            Err(Errno::EFAULT)
        }
    }
}

/// The string at `at`, cut and terminated to fit in `max` bytes; `None` if it cannot be read.
pub(super) fn read_str(at: u64, max: usize) -> Option<Vec<u8>> {
    read_str_until(at, max, |_| Some(u64::MAX))
}

/// As [`read_str`]; reads end where `until` says.
fn read_str_until(at: u64, max: usize, until: impl Fn(u64) -> Option<u64>) -> Option<Vec<u8>> {
    let mut text: Vec<u8> = Vec::new();
    while text.len() < max {
        let from = at.wrapping_add(text.len() as u64);
        let to_boundary = CHUNK - (from as usize % CHUNK);
        let mut chunk = [0; CHUNK];
        let to_end = usize::try_from(until(from)? - from).unwrap_or(usize::MAX);
        let chunk = &mut chunk[..to_boundary.min(max - text.len()).min(to_end)];
        if !fault::read(from, chunk) {
            return None;
        }
        if let Some(end) = chunk.iter().position(|&b| b == 0) {
            text.extend_from_slice(&chunk[..=end]);
            return Some(text);
        }
        text.extend_from_slice(chunk);
    }
    if let Some(last) = text.last_mut() {
        *last = 0;
    }
    Some(text)
}

/// destination, its size, address, flags: bytes with the terminating zero
fn copy_from_user_str(a: &Args) -> Result<u64, Errno> {
    /// `BPF_F_PAD_ZEROS`
    const PAD_ZEROS: u64 = 1;
    let (len, flags) = (a.get32(2) as usize, a.get(4));
    if flags & !PAD_ZEROS != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    if flags & PAD_ZEROS != 0 {
        a.zero(1, len);
    }
    let text = read_str_until(a.get(3), len, |at| until(a, at)).ok_or(Errno::EFAULT)?;
    a.write(1, &text);
    Ok(text.len() as u64)
}
