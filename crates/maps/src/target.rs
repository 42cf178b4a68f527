//! Where redirected packets go: what user space may name in devmaps, cpumaps and xskmaps. The kernel's checks, in its order.

use crate::header::MapHeader;
use skep_abi::map_flags::{BPF_EXIST, BPF_NOEXIST};
use skep_abi::{Errno, MapType};
use skep_sys::socket;

/// Longest queue of a cpumap.
const QUEUE_MAX: u32 = 16384;
/// `AF_XDP`
const AF_XDP: i32 = 44;

/// Checks the value `word` for the element `key` of a map of targets; 0 empties the element.
pub(crate) fn check(map: &MapHeader, key: &[u8], word: u64) -> Result<(), Errno> {
    let first = word as u32;
    match map.map_type {
        MapType::Devmap => check_device(first, word),
        MapType::Cpumap if first > QUEUE_MAX => Err(Errno::EOVERFLOW),
        MapType::Cpumap => match key.try_into().map(u32::from_ne_bytes) {
            Ok(cpu) if cpu < map.spec.cpus => Ok(()),
            _ => Err(Errno::ENODEV),
        },
        MapType::Xskmap => check_socket(first.cast_signed()),
        _ => Ok(()),
    }
}

/// A device has to be there; no device is no place for a program.
fn check_device(ifindex: u32, word: u64) -> Result<(), Errno> {
    let program = (word >> 32) as u32;
    let known = if ifindex == 0 {
        program.cast_signed() <= 0
    } else {
        socket::has_device(ifindex)
    };
    if known { Ok(()) } else { Err(Errno::EINVAL) }
}

fn check_socket(fd: i32) -> Result<(), Errno> {
    let family = socket::family(fd);
    match family.map_err(|e| e.raw_os_error().map_or(Errno::EBADF, Errno))? {
        AF_XDP => Ok(()),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// The same for devmaps that are hashes, where the key may be there (`found`).
pub(crate) fn check_hashed_device(found: bool, value: &[u8], flags: u64) -> Result<(), Errno> {
    let ifindex = value.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
    if flags > BPF_EXIST || ifindex == 0 {
        return Err(Errno::EINVAL);
    }
    if found && flags & BPF_NOEXIST != 0 {
        return Err(Errno::EEXIST);
    }
    check_device(ifindex, u64::from(ifindex))
}
