//! The mappings of a process's memory.

use std::io;

/// Addresses from here on are the kernel's: its page of system calls is listed, but is no mapping of the process.
const KERNEL_HALF: u64 = 1 << 63;

/// A mapping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Vma {
    /// Its first address.
    pub start: u64,
    /// The address behind its last.
    pub end: u64,
}

/// The mappings of a thread, by address.
///
/// # Errors
/// Those of reading `/proc/PID/maps`: `EACCES` without the right to trace it, `ENOENT` if there is no such thread.
pub fn of(thread: u32) -> io::Result<Vec<Vma>> {
    let text = std::fs::read_to_string(format!("/proc/{thread}/maps"))?;
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let mapping = |line: &str| {
        let (start, rest) = line.split_once('-')?;
        let (end, _) = rest.split_once(' ')?;
        let (start, end) = (hex(start)?, hex(end)?);
        (start < KERNEL_HALF).then_some(Vma { start, end })
    };
    Ok(text.lines().filter_map(mapping).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_stack_is_mapped() {
        let local = 0u8;
        let at = (&raw const local) as u64;
        let all = super::of(crate::task::thread_id()).unwrap();
        assert!(all.is_sorted_by(|a, b| a.end <= b.start));
        assert!(all.iter().any(|v| v.start <= at && at < v.end));
    }
}
