//! Format strings of `bpf_snprintf`: constant, and fitting their arguments.

use crate::args::CallArgs;
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::printf::{self, MAX_ARGS};
use crate::verifier::Verifier;

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
        match printf::parse(text).as_deref().map(printf::arguments) {
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
