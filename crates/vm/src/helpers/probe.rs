//! Reads of addresses that may be bad.
//!
//! Kernel and user addresses are the same here: those of this process.

use super::{Args, Row, helpers};
use crate::fault;
use skep_abi::Errno;

pub(super) const HELPERS: &[Row] = helpers! {
    4 "bpf_probe_read" probe_read_any;
    45 "bpf_probe_read_str" probe_read_any_str;
    112 "bpf_probe_read_user" probe_read_user;
    113 "bpf_probe_read_kernel" probe_read_kernel;
    114 "bpf_probe_read_user_str" probe_read_user_str;
    115 "bpf_probe_read_kernel_str" probe_read_kernel_str;
    148 "bpf_copy_from_user" probe_read;
};

pub(super) const KFUNCS: &[Row] = helpers! {
    0 "bpf_copy_from_user_str" copy_from_user_str;
    0 "bpf_copy_from_user_task_str" copy_from_user_task_str;
};

/// `BPF_F_PAD_ZEROS`
const PAD_ZEROS: u64 = 1;
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

/// Addresses below are those of user space, whose last page is never mapped.
const TASK_SIZE: u64 = (1 << 47) - 4096;
/// Addresses below are not the kernel's, which does not even try to read there as if they were.
pub(super) const KERNEL_SPACE: u64 = 0xffff_8000_0000_0000;

/// The error of a failed read of kernel memory.
fn as_kernel<T>(a: &Args, result: Result<T, Errno>) -> Result<T, Errno> {
    result.map_err(|errno| {
        if a.get(3) < KERNEL_SPACE {
            Errno::ERANGE
        } else {
            errno
        }
    })
}

/// As [`probe_read`]; addresses of the kernel are refused also if nothing is to be read.
fn probe_read_user(a: &Args) -> Result<i64, Errno> {
    if a.get(3) >= TASK_SIZE {
        a.zero(1, a.get32(2) as usize);
        return Err(Errno::EFAULT);
    }
    probe_read(a)
}

fn probe_read_kernel(a: &Args) -> Result<i64, Errno> {
    // The kernel looks at the address also if nothing is to be read.
    if a.get32(2) == 0 && a.get(3) < KERNEL_SPACE && !fault::read(a.get(3), &mut [0]) {
        return Err(Errno::ERANGE);
    }
    as_kernel(a, probe_read(a))
}

fn probe_read_kernel_str(a: &Args) -> Result<u64, Errno> {
    as_kernel(a, probe_read_str(a))
}

/// Reads as from user space or from the kernel, whosoever's the address would be.
fn probe_read_any(a: &Args) -> Result<i64, Errno> {
    if a.get(3) < TASK_SIZE {
        probe_read(a)
    } else {
        probe_read_kernel(a)
    }
}

fn probe_read_any_str(a: &Args) -> Result<u64, Errno> {
    if a.get(3) < TASK_SIZE {
        probe_read_user_str(a)
    } else {
        probe_read_kernel_str(a)
    }
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

/// As [`probe_read_str`], with what the kernel writes behind the end.
fn probe_read_user_str(a: &Args) -> Result<u64, Errno> {
    let len = probe_read_str(a)?;
    let behind = zeros_behind(a.get(3), len as usize, a.get32(2) as usize);
    a.write_at(1, len as usize, &vec![0; behind]);
    Ok(len)
}

/// Zeros that the kernel writes behind a string of `len` bytes with its end: it copies whole words of user space as long as
/// there are `max` bytes for them.
fn zeros_behind(at: u64, len: usize, max: usize) -> usize {
    const PAGE: usize = skep_sys::mem::PAGE;
    const WORD: usize = 8;
    let Some(last) = len.checked_sub(1).map(|end| end / WORD * WORD) else {
        return 0;
    };
    let word = at.wrapping_add(last as u64);
    // The end was read: the rest of its word is there as well, unless another page begins in it.
    let is_in_page = word as usize % PAGE <= PAGE - WORD;
    let fits = last + WORD <= max && (is_in_page || fault::read(word, &mut [0; WORD]));
    if fits { last + WORD - len } else { 0 }
}

/// The string at `at`, cut and terminated to fit in `max` bytes; `None` if it cannot be read.
pub(super) fn read_str(at: u64, max: usize) -> Option<Vec<u8>> {
    read_str_until(at, max, |_| Some(u64::MAX))
}

/// As [`read_str`]; reads end where `until` says.
fn read_str_until(at: u64, max: usize, until: impl Fn(u64) -> Option<u64>) -> Option<Vec<u8>> {
    read_str_of(std::process::id(), at, max, until)
}

/// As [`read_str_until`], of the process of a thread.
fn read_str_of(
    thread: u32,
    at: u64,
    max: usize,
    until: impl Fn(u64) -> Option<u64>,
) -> Option<Vec<u8>> {
    let mut text: Vec<u8> = Vec::new();
    while text.len() < max {
        let from = at.wrapping_add(text.len() as u64);
        let to_boundary = CHUNK - (from as usize % CHUNK);
        let mut chunk = [0; CHUNK];
        let to_end = usize::try_from(until(from)? - from).unwrap_or(usize::MAX);
        let chunk = &mut chunk[..to_boundary.min(max - text.len()).min(to_end)];
        if !fault::read_of(thread, from, chunk) {
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

/// Bytes for a string that arguments 1 and 2 have room for, zeroed if `flags` ask for it; 0 for none.
fn room_for_string(a: &Args, flags: u64) -> Result<usize, Errno> {
    if flags & !PAD_ZEROS != 0 {
        return Err(Errno::EINVAL);
    }
    let len = a.get32(2) as usize;
    if flags & PAD_ZEROS != 0 {
        a.zero(1, len);
    }
    Ok(len)
}

/// destination, its size, address, flags: bytes with the terminating zero
fn copy_from_user_str(a: &Args) -> Result<u64, Errno> {
    let flags = a.get(4);
    let len = room_for_string(a, flags)?;
    if len == 0 {
        return Ok(0);
    }
    // The last byte is the end: nothing is read for it.
    let (mut text, failed) = copied_until(a, a.get(3), len - 1);
    if failed {
        if flags & PAD_ZEROS == 0 {
            a.write(1, &text);
        }
        return Err(Errno::EFAULT);
    }
    let is_whole = text.len() < len - 1;
    text.push(0);
    let said = text.len();
    if is_whole {
        text.resize(said + zeros_behind(a.get(3), said, len - 1), 0);
    }
    a.write(1, &text);
    Ok(said as u64)
}

/// destination, its size, address, task, flags: bytes with the terminating zero
fn copy_from_user_task_str(a: &Args) -> Result<u64, Errno> {
    let len = room_for_string(a, a.get(5))?;
    if len == 0 {
        return Ok(0);
    }
    let everywhere = |_| Some(u64::MAX);
    let task = a.world().tasks.status(a.get(4)).ok_or(Errno::EFAULT)?;
    let text = read_str_of(task.thread, a.get(3), len, everywhere).ok_or(Errno::EFAULT)?;
    a.write(1, &text);
    Ok(text.len() as u64)
}

/// The bytes of the string at `at` without its end, at most `max`; whether it could not be read any further.
fn copied_until(a: &Args, at: u64, max: usize) -> (Vec<u8>, bool) {
    let mut text = Vec::new();
    let mut step = CHUNK;
    while text.len() < max {
        let from = at.wrapping_add(text.len() as u64);
        let mut chunk = [0; CHUNK];
        let chunk = &mut chunk[..step
            .min(CHUNK - from as usize % CHUNK)
            .min(max - text.len())];
        let end = from.saturating_add(chunk.len() as u64);
        let is_outside = until(a, from).is_none_or(|last| last < end);
        if is_outside || !fault::read(from, chunk) {
            if step == 1 {
                return (text, true);
            }
            step = 1;
            continue;
        }
        if let Some(end) = chunk.iter().position(|&b| b == 0) {
            text.extend_from_slice(&chunk[..end]);
            break;
        }
        text.extend_from_slice(chunk);
    }
    (text, false)
}
