//! seccomp(2) with a classic filter.

use crate::socket::{SockFilter, classic_code, classic_program};
use std::io;

/// Puts this thread, and what it executes, under a filter for ever; it gives up the right to gain privileges.
///
/// # Errors
/// If prctl(2) or seccomp(2) fails.
pub fn install(filter: &[SockFilter]) -> io::Result<()> {
    set_filter(&classic_code(filter), 0).map(drop)
}

/// As [`install`], with flags of seccomp(2), and what it returns. It makes system calls only.
pub(crate) fn set_filter(code: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<i64> {
    let program = classic_program(code)?;
    // SAFETY: no pointers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the program's pointer and length describe `code`, which lives during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
