//! Refusals.

use skep_bpf::{Errno, Error};

/// A refused command; `detail` may be empty.
pub(crate) fn refused(errno: Errno, what: &str, detail: &str) -> Error {
    Error {
        errno,
        what: what.to_owned(),
        detail: detail.to_owned(),
        log: String::new(),
    }
}

/// Names the command in errors that are an errno alone.
pub(crate) trait Named<T> {
    /// The result with `what` as the command.
    fn named(self, what: &str) -> skep_bpf::Result<T>;
}

impl<T> Named<T> for Result<T, Errno> {
    fn named(self, what: &str) -> skep_bpf::Result<T> {
        self.map_err(|errno| refused(errno, what, ""))
    }
}
