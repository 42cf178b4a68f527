//! How checks report a refusal.

use crate::cause::Cause;
use crate::code::Code;

/// Errno values that checks return (errno(3)).
pub(crate) mod errno {
    pub(crate) const EPERM: i32 = 1;
    pub(crate) const E2BIG: i32 = 7;
    pub(crate) const ENOMEM: i32 = 12;
    pub(crate) const EACCES: i32 = 13;
    pub(crate) const EBUSY: i32 = 16;
    pub(crate) const EINVAL: i32 = 22;
    pub(crate) const EOPNOTSUPP: i32 = 95;
    pub(crate) const ENOTSUPP: i32 = 524;
    pub(crate) const ENOENT: i32 = 2;
    pub(crate) const EFAULT: i32 = 14;
}

/// A refusal on its way up; the walk adds the place.
#[derive(Debug)]
pub(crate) struct Fail {
    /// What kind.
    pub code: &'static Code,
    /// What the system call returns.
    pub errno: i32,
    /// The facts; a sentence is only made of them once the program is refused.
    pub cause: Cause,
    /// The place, if it is not the instruction being walked: `Some(None)` for none at all.
    pub insn: Option<Option<u32>>,
}

/// Result of a check.
pub(crate) type Check<T = ()> = Result<T, Box<Fail>>;

/// A refusal at the current instruction.
pub(crate) fn fail<T>(code: &'static Code, errno: i32, cause: impl Into<Cause>) -> Check<T> {
    Err(Box::new(Fail {
        code,
        errno,
        cause: cause.into(),
        insn: None,
    }))
}

/// A refusal at instruction `insn`, before or after the walk.
pub(crate) fn fail_at<T>(
    code: &'static Code,
    errno: i32,
    insn: usize,
    cause: impl Into<Cause>,
) -> Check<T> {
    Err(Box::new(Fail {
        code,
        errno,
        cause: cause.into(),
        insn: Some(Some(insn as u32)),
    }))
}

/// A refusal without a place.
pub(crate) fn fail_nowhere<T>(
    code: &'static Code,
    errno: i32,
    cause: impl Into<Cause>,
) -> Check<T> {
    Err(Box::new(Fail {
        code,
        errno,
        cause: cause.into(),
        insn: Some(None),
    }))
}
