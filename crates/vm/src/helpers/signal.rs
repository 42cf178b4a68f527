//! Signals to the running thread and its process.

use super::{Args, Row, helpers};
use skep_abi::Errno;
use skep_sys::ids;
use skep_sys::signal::{Receiver, send_as_kernel};

pub(super) const HELPERS: &[Row] = helpers! {
    109 "bpf_send_signal" send_signal;
    117 "bpf_send_signal_thread" send_signal_thread;
};

/// Inode of the first PID namespace (`PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

fn send(a: &Args, to: Receiver) -> Result<i64, Errno> {
    let is_first = std::process::id() == 1
        && ids::pid_namespace().is_some_and(|(_, inode)| inode == FIRST_PID_NAMESPACE);
    if is_first {
        return Err(Errno::EPERM);
    }
    let sent = send_as_kernel(to, a.get32(1));
    sent.map_err(|e| e.raw_os_error().map_or(Errno::EINVAL, Errno))?;
    Ok(0)
}

fn send_signal(a: &Args) -> Result<i64, Errno> {
    send(a, Receiver::Process)
}

fn send_signal_thread(a: &Args) -> Result<i64, Errno> {
    send(a, Receiver::Thread)
}
