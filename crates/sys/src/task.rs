//! Which threads run, and which have died: without heap, so that it can be asked from anywhere.

/// Bits of a thread id in a [`token`]: `PID_MAX_LIMIT` is 2²².
const TID_BITS: u32 = 22;
const TID_MASK: u32 = (1 << TID_BITS) - 1;
/// Longest `/proc/PID/stat` that is read: the fields up to `starttime` fit well.
const STAT_BYTES: usize = 512;
/// Places of `flags` and `starttime` in proc(5), counted after the parenthesised name and the state.
const FLAGS_AFTER_STATE: usize = 6;
const STARTTIME_AFTER_STATE: usize = 19;

/// The calling thread's id.
#[must_use]
pub fn thread_id() -> u32 {
    // SAFETY: takes nothing, always succeeds.
    let tid = unsafe { libc::gettid() };
    tid.cast_unsigned()
}

/// What `/proc/PID/stat` tells of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// One letter.
    pub state: u8,
    /// `PF_…`
    pub flags: u32,
    /// Clock ticks since boot when it was made.
    pub start: u64,
}

/// What is told of a thread, or of the first one of a process; `None` if there is none.
#[must_use]
pub fn stat(tid: u32) -> Option<Stat> {
    let mut path = [0u8; 24];
    let mut at = path.len() - 6;
    path[at..at + 5].copy_from_slice(b"/stat");
    let mut rest = tid;
    loop {
        at -= 1;
        path[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    at -= 6;
    path[at..at + 6].copy_from_slice(b"/proc/");
    let mut text = [0u8; STAT_BYTES];
    // SAFETY: the path is terminated, the buffer as long as said, the descriptor closed here.
    let read = unsafe {
        let fd = libc::open(path[at..].as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return None;
        }
        let n = libc::read(fd, text.as_mut_ptr().cast(), text.len());
        libc::close(fd);
        n
    };
    let text = text.get(..usize::try_from(read).ok()?)?;
    let name_end = text.iter().rposition(|&b| b == b')')?;
    let mut fields = text.get(name_end + 2..)?.split(|&b| b == b' ');
    let state = *fields.next()?.first()?;
    let number = |digits: &[u8]| {
        let digits = digits.iter().take_while(|b| b.is_ascii_digit());
        digits.fold(0u64, |n, b| {
            n.wrapping_mul(10).wrapping_add(u64::from(b - b'0'))
        })
    };
    let flags = fields.nth(FLAGS_AFTER_STATE - 1)?;
    let start = fields.nth(STARTTIME_AFTER_STATE - FLAGS_AFTER_STATE - 1)?;
    Some(Stat {
        state,
        flags: number(flags) as u32,
        start: number(start),
    })
}

/// The [`token`] of thread `tid` that was made at `start`.
#[must_use]
pub const fn make_token(tid: u32, start: u64) -> u32 {
    (tid & TID_MASK) | ((start as u32) << TID_BITS)
}

/// The id of the thread that a [`token`] names.
#[must_use]
pub const fn thread_of(token: u32) -> u32 {
    token & TID_MASK
}

/// A number, never 0, that names the calling thread among all of this pid namespace, those that died included (its id and the
/// low bits of its start time). Reads `/proc`: keep the answer, and ask anew after fork.
#[must_use]
pub fn token() -> u32 {
    token_of(thread_id())
}

/// The [`token`] of another thread, or of the first one of a process.
#[must_use]
pub fn token_of(tid: u32) -> u32 {
    make_token(tid, stat(tid).map_or(0, |s| s.start))
}

/// Does the thread that [`token`] named still run?
#[must_use]
pub fn is_alive(token: u32) -> bool {
    let tid = token & TID_MASK;
    stat(tid).is_some_and(|s| !matches!(s.state, b'Z' | b'X') && make_token(tid, s.start) == token)
}

/// Entries of `folder` whose names are numbers, as they are listed.
fn numbers_in(folder: &str) -> Vec<u32> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |e: std::fs::DirEntry| e.file_name().to_str()?.parse().ok();
    entries.filter_map(number).collect()
}

/// The processes that this one may see, the oldest first.
#[must_use]
pub fn processes() -> Vec<u32> {
    let mut all: Vec<(u64, u32)> = numbers_in("/proc")
        .into_iter()
        .filter_map(|id| Some((stat(id)?.start, id)))
        .collect();
    all.sort_unstable();
    all.into_iter().map(|(_, id)| id).collect()
}

/// The threads of a process, in the order of the kernel's list.
#[must_use]
pub fn threads(process: u32) -> Vec<u32> {
    numbers_in(&format!("/proc/{process}/task"))
}

/// The thread of process `parent` that the child `process` belongs to: who made it, as long as that thread lives. The first
/// one where the kernel does not tell (`CONFIG_PROC_CHILDREN`).
#[must_use]
pub fn parent_thread(process: u32, parent: u32) -> u32 {
    let all = threads(parent);
    if all.len() < 2 {
        return parent;
    }
    let is_its_child = |thread: &u32| {
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{thread}/children"));
        let children = children.unwrap_or_default();
        let mut ids = children.split_ascii_whitespace();
        ids.any(|id| id.parse() == Ok(process))
    };
    all.into_iter().find(is_its_child).unwrap_or(parent)
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// `sched_setaffinity`'s, if this thread may not run there.
pub fn stay_on(cpu: u32) -> std::io::Result<()> {
    // SAFETY: all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let too_many = cpu as usize >= 8 * size_of_val(&set);
    if too_many {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the set has room for this CPU; it is read during the call.
    let failed = unsafe {
        libc::CPU_SET(cpu as usize, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Lets others run; for waiting loops.
pub fn yield_now() {
    // SAFETY: takes nothing.
    unsafe { libc::sched_yield() };
}

#[cfg(test)]
mod tests {
    use super::{is_alive, token};

    #[test]
    fn own_thread_lives_and_a_joined_one_is_dead() {
        assert!(is_alive(token()));
        let other = std::thread::spawn(|| {
            let t = token();
            assert!(is_alive(t));
            t
        });
        let dead = other.join().unwrap();
        for _ in 0..1000 {
            if !is_alive(dead) {
                return;
            }
            super::yield_now();
        }
        panic!("a joined thread still counts as alive");
    }
}
