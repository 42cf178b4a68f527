//! Times as text, in UTC.

/// Seconds of a day.
const DAY: u64 = 86_400;

/// Seconds since 1970 as `2026-11-24T00:16:05+0000`.
pub(crate) fn date(epoch_seconds: u64) -> String {
    let (days, rest) = (epoch_seconds / DAY, epoch_seconds % DAY);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}+0000",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar: eras of 400 years that start in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_right() {
        assert_eq!(super::date(0), "1970-01-01T00:00:00+0000");
        assert_eq!(super::date(951_782_400), "2000-02-29T00:00:00+0000");
        assert_eq!(super::date(1_795_479_365), "2026-11-24T00:16:05+0000");
    }
}
