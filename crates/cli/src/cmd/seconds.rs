//! How many seconds a command lasts, as words say it.

use std::time::{Duration, Instant};

/// Reads a number of seconds.
///
/// # Errors
/// If it is none, negative, or so large that there is no such time.
pub(crate) fn parse(word: &str) -> Result<Duration, String> {
    let seconds = word.parse().ok().map(Duration::try_from_secs_f64);
    let seconds = seconds.and_then(Result::ok);
    let is_a_time = |d: &Duration| Instant::now().checked_add(*d).is_some();
    let seconds = seconds.filter(is_a_time);
    seconds.ok_or_else(|| format!("\"{word}\" is no number of seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_are_read() {
        assert_eq!(parse("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        for wrong in ["-1", "1e300", "1e19", "inf", "NaN", "", "soon"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
