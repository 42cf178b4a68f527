//! Error numbers of Linux.

/// An errno, positive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($number:literal $name:ident $text:literal)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Self = Self($number);)*

            /// The constant's name, or `errno`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 { $($number => stringify!($name),)* _ => "errno" }
            }

            /// The usual sentence (errno(3)).
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self.0 { $($number => $text,)* _ => "unknown error" }
            }
        }
    };
}

errnos! {
    1 EPERM "operation not permitted"
    2 ENOENT "no such entry"
    3 ESRCH "no such process"
    4 EINTR "interrupted"
    5 EIO "input/output error"
    6 ENXIO "no such device or address"
    7 E2BIG "too big"
    9 EBADF "bad descriptor"
    11 EAGAIN "try again"
    12 ENOMEM "out of memory"
    13 EACCES "permission denied"
    14 EFAULT "bad address"
    16 EBUSY "busy"
    17 EEXIST "exists already"
    18 EXDEV "crosses devices"
    19 ENODEV "no such device"
    20 ENOTDIR "not a directory"
    22 EINVAL "invalid argument"
    24 EMFILE "too many open objects"
    27 EFBIG "too large"
    28 ENOSPC "no space left"
    33 EDOM "out of domain"
    34 ERANGE "out of range"
    35 EDEADLK "deadlock avoided"
    36 ENAMETOOLONG "name too long"
    38 ENOSYS "not implemented"
    40 ELOOP "too many levels"
    61 ENODATA "no data"
    67 ENOLINK "the link is detached"
    71 EPROTO "protocol error"
    75 EOVERFLOW "value too large"
    84 EILSEQ "invalid sequence"
    90 EMSGSIZE "message too long"
    92 ENOPROTOOPT "protocol option not available"
    93 EPROTONOSUPPORT "protocol not supported"
    95 EOPNOTSUPP "operation not supported"
    97 EAFNOSUPPORT "address family not supported"
    100 ENETDOWN "network is down"
    105 ENOBUFS "no buffer space"
    110 ETIMEDOUT "timed out"
    114 EALREADY "already under way"
    116 ESTALE "stale"
    524 ENOTSUPP "operation not supported by this type"
}

impl Errno {
    /// The value as programs and system calls return it: negative.
    #[must_use]
    pub const fn neg(self) -> i64 {
        -(self.0 as i64)
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            "errno" => write!(f, "errno {}", self.0),
            name => write!(f, "{name} ({})", self.text()),
        }
    }
}

impl std::error::Error for Errno {}
