//! Local storage seen from user space, which names owners by descriptors: pidfds, sockets, files, control groups.
//!
//! Programs know owners by numbers; a descriptor stands for the same number as long as its owner lives: the token of a
//! thread, the cookie of a socket, the number of a control group, device and inode of a file.

use skep_abi::{Errno, MapType};
use skep_sys::owner;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// A key of programs.
type Owner = [u8; 8];

/// The owner that a key of user space, a descriptor, stands for.
pub(crate) fn owner(map_type: MapType, key: &[u8]) -> Result<Owner, Errno> {
    let fd = key.try_into().map_err(|_| Errno::EINVAL)?;
    let fd = i32::from_ne_bytes(fd);
    let number = match map_type {
        MapType::TaskStorage => owner::task(fd).map(u64::from),
        MapType::SkStorage => owner::socket(fd),
        MapType::CgrpStorage => owner::cgroup(fd),
        _ => owner::inode(fd).map(|file| {
            let same_everywhere = BuildHasherDefault::<DefaultHasher>::default();
            same_everywhere.hash_one(file)
        }),
    };
    Ok(number.map_err(errno)?.to_ne_bytes())
}

/// The number of the control group of the v2 hierarchy whose folder is open, as arrays of groups take it.
pub(crate) fn v2_group(fd: i32) -> Result<u64, Errno> {
    owner::v2_cgroup(fd).map_err(errno)
}

#[expect(clippy::needless_pass_by_value, reason = "it maps results")]
fn errno(e: std::io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::EBADF, Errno)
}
