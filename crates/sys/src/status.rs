//! What the kernel tells everybody of a task.

use std::path::PathBuf;

/// Bytes of a task's name, its end included (`TASK_COMM_LEN`).
pub const NAME_BYTES: usize = 16;

/// A task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Its name, filled with zeros.
    pub name: [u8; NAME_BYTES],
    /// Its thread id.
    pub thread: u32,
    /// Its process id.
    pub process: u32,
    /// Its [token](crate::task::token).
    pub token: u32,
    /// Process id of its parent, a thread of which made it; 0 if that is the kernel or not visible.
    pub parent: u32,
    /// It has memory of user space.
    pub has_memory: bool,
    /// It has ended, and nobody waited for it yet.
    pub is_zombie: bool,
    /// `PF_…`
    pub flags: u32,
    /// Real, effective, saved and file system user id.
    pub users: [u32; 4],
    /// The same of its group.
    pub groups: [u32; 4],
}

/// The calling thread.
#[must_use]
pub fn own() -> Option<Status> {
    let (process, thread) = crate::ids::process_and_thread();
    let stat = crate::task::stat(thread)?;
    let mut name = [0; NAME_BYTES];
    crate::ids::thread_name(&mut name);
    let (users, groups) = crate::ids::all_users_and_groups();
    Some(Status {
        name,
        thread,
        process,
        token: crate::task::make_token(thread, stat.start),
        parent: std::os::unix::process::parent_id(),
        has_memory: true,
        is_zombie: false,
        flags: stat.flags,
        users,
        groups,
    })
}

/// The thread (or the first one of a process) with this id; `None` if there is none.
#[must_use]
pub fn of(id: u32) -> Option<Status> {
    read(format!("/proc/{id}/status").into())
}

fn read(path: PathBuf) -> Option<Status> {
    let status = parse(&std::fs::read(path).ok()?)?;
    let stat = crate::task::stat(status.thread)?;
    let name = match stat.flags & PF_WQ_WORKER {
        0 => status.name,
        _ => worker_name(status.name),
    };
    Some(Status {
        name,
        token: crate::task::make_token(status.thread, stat.start),
        is_zombie: stat.state == b'Z',
        flags: stat.flags,
        ..status
    })
}

fn parse(text: &[u8]) -> Option<Status> {
    let line = |name: &str| {
        text.split(|&b| b == b'\n')
            .find_map(|line| line.strip_prefix(name.as_bytes()))
    };
    let numbers = |name: &str| {
        let line = std::str::from_utf8(line(name)?).ok()?;
        let mut found = [0; 4];
        let words = line.split_ascii_whitespace();
        for (to, word) in found.iter_mut().zip(words) {
            *to = word.parse().ok()?;
        }
        Some(found)
    };
    Some(Status {
        name: unescaped(line("Name:\t")?),
        thread: numbers("Pid:")?[0],
        process: numbers("Tgid:")?[0],
        parent: numbers("PPid:")?[0],
        has_memory: line("VmSize:").is_some(),
        users: numbers("Uid:")?,
        groups: numbers("Gid:")?,
        ..Status::default()
    })
}

/// Work queues' thread.
const PF_WQ_WORKER: u32 = 0x20;
/// How names of threads begin that help one work queue out; its name follows.
const RESCUER: &[u8] = b"kworker/R-";

/// The name of a thread of work queues: `/proc` shows behind it, after `-` or `+`, what it worked at last.
fn worker_name(shown: [u8; NAME_BYTES]) -> [u8; NAME_BYTES] {
    if shown.starts_with(RESCUER) {
        return shown;
    }
    let mut name = [0; NAME_BYTES];
    let kept = shown.iter().take_while(|b| !matches!(b, b'-' | b'+'));
    for (to, byte) in name.iter_mut().zip(kept) {
        *to = *byte;
    }
    name
}

/// A name as it is: there `\n` and `\\` stand for a newline and a backslash.
fn unescaped(line: &[u8]) -> [u8; NAME_BYTES] {
    let mut name = [0; NAME_BYTES];
    let mut rest = line.iter();
    for to in name.iter_mut().take(NAME_BYTES - 1) {
        *to = match rest.next() {
            Some(b'\\') => match rest.next() {
                Some(b'n') => b'\n',
                Some(&other) => other,
                None => b'\\',
            },
            Some(&other) => other,
            None => break,
        };
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read() {
        let text = b"Name:\ta\\nb\\\\c\nUmask:\t0022\nTgid:\t7\nPid:\t9\nPPid:\t1\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        let status = parse(text).unwrap();
        assert_eq!(&status.name[..6], b"a\nb\\c\0");
        assert_eq!((status.thread, status.process, status.parent), (9, 7, 1));
        assert_eq!((status.users, status.groups), ([1, 2, 3, 4], [5, 6, 7, 8]));
        assert_eq!(parse(b"Name:\tx\n"), None);
    }

    #[test]
    fn workers_are_named_without_their_work() {
        let rows = [
            ("kworker/u8:2-ev", "kworker/u8:2"),
            ("kworker/0:1H+kb", "kworker/0:1H"),
            ("kworker/1:0", "kworker/1:0"),
            ("kworker/R-inet_", "kworker/R-inet_"),
        ];
        let padded = |name: &str| {
            let mut bytes = [0; NAME_BYTES];
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            bytes
        };
        for (shown, name) in rows {
            assert_eq!(worker_name(padded(shown)), padded(name), "{shown}");
        }
    }

    #[test]
    fn this_thread_is_known() {
        let own = own().unwrap();
        assert_eq!(own.thread, crate::task::thread_id());
        assert_eq!(own.process, std::process::id());
        assert_eq!(of(own.thread), Some(own));
    }
}
