//! Format strings of `bpf_snprintf`: constant, and fitting their arguments.

use crate::args::CallArgs;
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::verifier::Verifier;

/// Arguments that a format may have (`MAX_BPRINTF_VARARGS`).
const MAX_ARGS: usize = 12;

impl Verifier<'_> {
    /// `bpf_snprintf(str, str_size, fmt, data, data_len)`
    pub(crate) fn check_format(&mut self, _args: &CallArgs) -> Check {
        let fmt = *self.reg(3);
        let data_len = self.reg(5).var.as_const();
        let Some(data_len) = data_len.filter(|n| n % 8 == 0) else {
            return fail(
                code::ARG_FORMAT,
                errno::EINVAL,
                "the data of bpf_snprintf must be a known multiple of 8 bytes",
            );
        };
        let count = (data_len / 8) as usize;
        let bytes = self.map(&fmt).frozen.clone();
        let text = bytes
            .as_deref()
            .zip(fmt.fixed_offset())
            .and_then(|(b, at)| b.get(usize::try_from(at).ok()?..));
        let Some(text) = text.and_then(|t| t.split(|&b| b == 0).next()) else {
            return fail(
                code::ARG_STRING,
                errno::EINVAL,
                "the format string is not constant",
            );
        };
        match arguments(text) {
            Some(n) if n <= count && count <= MAX_ARGS => Ok(()),
            Some(n) => fail(
                code::ARG_FORMAT,
                errno::EINVAL,
                format!(
                    "the format takes {n} arguments, {count} are passed, at most {MAX_ARGS} may be"
                ),
            ),
            None => fail(
                code::ARG_FORMAT,
                errno::EINVAL,
                "the format string has a conversion that is not allowed",
            ),
        }
    }
}

/// Arguments that the format consumes; `None` if it is not valid (rules of `bpf_bprintf_prepare`).
fn arguments(fmt: &[u8]) -> Option<usize> {
    let (mut i, mut count) = (0, 0);
    let at = |i: usize| fmt.get(i).copied().unwrap_or(0);
    while i < fmt.len() {
        let c = fmt[i];
        i += 1;
        if c != b'%' {
            if !(c.is_ascii_graphic() || c.is_ascii_whitespace()) {
                return None;
            }
            continue;
        }
        if at(i) == b'%' {
            i += 1;
            continue;
        }
        while matches!(at(i), b'0' | b'+' | b'-' | b' ') {
            i += 1;
        }
        // A width is one digit from 1 on, then any digits.
        while at(i).is_ascii_digit() {
            i += 1;
        }
        i = conversion(fmt, i)?;
        count += 1;
    }
    Some(count)
}

/// The end of the conversion at `i`.
fn conversion(fmt: &[u8], mut i: usize) -> Option<usize> {
    let at = |i: usize| fmt.get(i).copied().unwrap_or(0);
    let ends_here =
        |i: usize| at(i) == 0 || at(i).is_ascii_whitespace() || at(i).is_ascii_punctuation();
    match at(i) {
        b'p' => {
            i += 1;
            if matches!(at(i), b'k' | b'u') && at(i + 1) == b's' {
                return Some(i + 2);
            }
            if matches!(at(i), b'K' | b'x' | b's' | b'S') || ends_here(i) {
                return Some(if ends_here(i) { i } else { i + 1 });
            }
            if at(i) == b'B' {
                return Some(i + 1);
            }
            (matches!(at(i), b'i' | b'I') && matches!(at(i + 1), b'4' | b'6')).then_some(i + 2)
        }
        b's' | b'c' => Some(i + 1),
        _ => {
            let mut longs = 0;
            while at(i) == b'l' && longs < 2 {
                (i, longs) = (i + 1, longs + 1);
            }
            matches!(at(i), b'i' | b'd' | b'u' | b'x' | b'X').then_some(i + 1)
        }
    }
}
