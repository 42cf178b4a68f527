//! Who this thread is.

use std::os::unix::fs::MetadataExt;

/// Process id and thread id.
#[must_use]
pub fn process_and_thread() -> (u32, u32) {
    // SAFETY: the call has no arguments and cannot fail.
    let thread = unsafe { libc::gettid() };
    (std::process::id(), thread.cast_unsigned())
}

/// Real user and group id.
#[must_use]
pub fn user_and_group() -> (u32, u32) {
    // SAFETY: the calls have no arguments and cannot fail.
    unsafe { (libc::getuid(), libc::getgid()) }
}

/// Real, effective, saved and file system user of this thread, and the same of its group.
#[must_use]
pub fn all_users_and_groups() -> ([u32; 4], [u32; 4]) {
    /// No user or group: setting it changes nothing, and tells which one is set.
    const NOBODY: u32 = u32::MAX;
    let (mut users, mut groups) = ([0; 4], [0; 4]);
    let [user, effective, saved, _] = users.each_mut();
    // SAFETY: the kernel writes a number to each place.
    unsafe { libc::getresuid(user, effective, saved) };
    let [group, effective, saved, _] = groups.each_mut();
    // SAFETY: as above.
    unsafe { libc::getresgid(group, effective, saved) };
    // SAFETY: numbers only, and nobody's.
    let files = unsafe { (libc::setfsuid(NOBODY), libc::setfsgid(NOBODY)) };
    users[3] = files.0.cast_unsigned();
    groups[3] = files.1.cast_unsigned();
    (users, groups)
}

/// The name of this thread, terminated.
pub fn thread_name(name: &mut [u8; 16]) {
    // SAFETY: the kernel writes at most 16 bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
}

/// Device and inode of the PID namespace of this process.
#[must_use]
pub fn pid_namespace() -> Option<(u64, u64)> {
    let meta = std::fs::metadata("/proc/self/ns/pid").ok()?;
    Some((meta.dev(), meta.ino()))
}

/// Inode of the network namespace of this thread.
#[must_use]
pub fn network_namespace() -> Option<u64> {
    Some(std::fs::metadata("/proc/thread-self/ns/net").ok()?.ino())
}
