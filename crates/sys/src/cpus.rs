//! CPUs that exist or may come to exist.

use std::io;
use std::sync::OnceLock;

/// `num_possible_cpus`: how many values a per-CPU map has.
pub fn possible() -> io::Result<usize> {
    static COUNT: OnceLock<usize> = OnceLock::new();
    if let Some(count) = COUNT.get() {
        return Ok(*count);
    }
    let count = list("/sys/devices/system/cpu/possible")?.len();
    Ok(*COUNT.get_or_init(|| count))
}

/// The numbers of the CPUs that are on.
pub fn online() -> io::Result<Vec<u32>> {
    list("/sys/devices/system/cpu/online")
}

/// Reads a list like `0-3,8`.
fn list(path: &str) -> io::Result<Vec<u32>> {
    let text = std::fs::read_to_string(path)?;
    parse(text.trim())
        .ok_or_else(|| io::Error::other(format!("{path}: not a list of CPUs: {text}")))
}

/// CPUs that a list may name at most.
const CPUS_MAX: u32 = 8192;

fn parse(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    #[test]
    fn lists_are_read() {
        assert_eq!(super::parse("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(super::parse("0"), Some(vec![0]));
        assert_eq!(super::parse("0-99999999"), None);
        assert_eq!(super::parse(""), None);
    }
}
