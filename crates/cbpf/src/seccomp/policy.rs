//! The text of a policy.

use super::syscalls::{AARCH64, ARM, I386, RISCV64, X86_64};
use crate::filter::Span;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What happens to a system call.
///
/// ```
/// use skep_cbpf::seccomp::Action;
///
/// // What filters return, as strace or the audit log show it.
/// assert_eq!(Action::of_value(0x0005_0001), Action::Errno(1));
/// assert_eq!(Action::Errno(1).to_string(), "errno EPERM");
/// assert_eq!(Action::Allow.value(), 0x7fff_0000);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// It is executed.
    Allow,
    /// It is executed and logged.
    Log,
    /// A tracer is told this number.
    Trace(u16),
    /// It fails with this error.
    Errno(u16),
    /// The thread gets `SIGSYS`.
    Trap,
    /// The thread ends.
    KillThread,
    /// The process ends.
    Kill,
    /// A supervisor decides.
    Notify,
}

/// Actions by name, with the upper half of their return value (`SECCOMP_RET_*`).
#[rustfmt::skip] // one action per line
const ACTIONS: &[(&str, Action, u32)] = &[
    ("allow",       Action::Allow,      0x7fff_0000),
    ("log",         Action::Log,        0x7ffc_0000),
    ("trace",       Action::Trace(0),   0x7ff0_0000),
    ("notify",      Action::Notify,     0x7fc0_0000),
    ("errno",       Action::Errno(0),   0x0005_0000),
    ("trap",        Action::Trap,       0x0003_0000),
    ("kill",        Action::Kill,       0x8000_0000),
    ("kill-thread", Action::KillThread, 0x0000_0000),
];

/// The errors of Linux by name (errno(3)); other numbers stand for themselves.
#[rustfmt::skip] // several a line
const ERRNOS: &[(&str, u16)] = &[
    ("EPERM", 1), ("ENOENT", 2), ("ESRCH", 3), ("EINTR", 4), ("EIO", 5), ("ENXIO", 6), ("E2BIG", 7), ("ENOEXEC", 8),
    ("EBADF", 9), ("ECHILD", 10), ("EAGAIN", 11), ("ENOMEM", 12), ("EACCES", 13), ("EFAULT", 14), ("ENOTBLK", 15),
    ("EBUSY", 16), ("EEXIST", 17), ("EXDEV", 18), ("ENODEV", 19), ("ENOTDIR", 20), ("EISDIR", 21), ("EINVAL", 22),
    ("ENFILE", 23), ("EMFILE", 24), ("ENOTTY", 25), ("ETXTBSY", 26), ("EFBIG", 27), ("ENOSPC", 28), ("ESPIPE", 29),
    ("EROFS", 30), ("EMLINK", 31), ("EPIPE", 32), ("EDOM", 33), ("ERANGE", 34), ("EDEADLK", 35), ("ENAMETOOLONG", 36),
    ("ENOLCK", 37), ("ENOSYS", 38), ("ENOTEMPTY", 39), ("ELOOP", 40), ("ENOMSG", 42), ("EIDRM", 43), ("ECHRNG", 44),
    ("EL2NSYNC", 45), ("EL3HLT", 46), ("EL3RST", 47), ("ELNRNG", 48), ("EUNATCH", 49), ("ENOCSI", 50), ("EL2HLT", 51),
    ("EBADE", 52), ("EBADR", 53), ("EXFULL", 54), ("ENOANO", 55), ("EBADRQC", 56), ("EBADSLT", 57), ("EBFONT", 59),
    ("ENOSTR", 60), ("ENODATA", 61), ("ETIME", 62), ("ENOSR", 63), ("ENONET", 64), ("ENOPKG", 65), ("EREMOTE", 66),
    ("ENOLINK", 67), ("EADV", 68), ("ESRMNT", 69), ("ECOMM", 70), ("EPROTO", 71), ("EMULTIHOP", 72), ("EDOTDOT", 73),
    ("EBADMSG", 74), ("EOVERFLOW", 75), ("ENOTUNIQ", 76), ("EBADFD", 77), ("EREMCHG", 78), ("ELIBACC", 79),
    ("ELIBBAD", 80), ("ELIBSCN", 81), ("ELIBMAX", 82), ("ELIBEXEC", 83), ("EILSEQ", 84), ("ERESTART", 85),
    ("ESTRPIPE", 86), ("EUSERS", 87), ("ENOTSOCK", 88), ("EDESTADDRREQ", 89), ("EMSGSIZE", 90), ("EPROTOTYPE", 91),
    ("ENOPROTOOPT", 92), ("EPROTONOSUPPORT", 93), ("ESOCKTNOSUPPORT", 94), ("EOPNOTSUPP", 95), ("EPFNOSUPPORT", 96),
    ("EAFNOSUPPORT", 97), ("EADDRINUSE", 98), ("EADDRNOTAVAIL", 99), ("ENETDOWN", 100), ("ENETUNREACH", 101),
    ("ENETRESET", 102), ("ECONNABORTED", 103), ("ECONNRESET", 104), ("ENOBUFS", 105), ("EISCONN", 106),
    ("ENOTCONN", 107), ("ESHUTDOWN", 108), ("ETOOMANYREFS", 109), ("ETIMEDOUT", 110), ("ECONNREFUSED", 111),
    ("EHOSTDOWN", 112), ("EHOSTUNREACH", 113), ("EALREADY", 114), ("EINPROGRESS", 115), ("ESTALE", 116),
    ("EUCLEAN", 117), ("ENOTNAM", 118), ("ENAVAIL", 119), ("EISNAM", 120), ("EREMOTEIO", 121), ("EDQUOT", 122),
    ("ENOMEDIUM", 123), ("EMEDIUMTYPE", 124), ("ECANCELED", 125), ("ENOKEY", 126), ("EKEYEXPIRED", 127),
    ("EKEYREVOKED", 128), ("EKEYREJECTED", 129), ("EOWNERDEAD", 130), ("ENOTRECOVERABLE", 131), ("ERFKILL", 132),
    ("EHWPOISON", 133),
];

impl Action {
    /// What the filter returns.
    #[must_use]
    pub fn value(self) -> u32 {
        let data = match self {
            Self::Trace(n) | Self::Errno(n) => u32::from(n),
            _ => 0,
        };
        let kind = |a: &Action| core::mem::discriminant(a) == core::mem::discriminant(&self);
        let base = ACTIONS
            .iter()
            .find(|(_, a, _)| kind(a))
            .map_or(0, |(_, _, v)| *v);
        base | data
    }

    /// The action a returned value means; unknown ones end the process.
    #[must_use]
    pub fn of_value(value: u32) -> Self {
        // The kernel looks at the upper 16 bits for the action, the lower ones are data.
        let data = (value & 0xffff) as u16;
        match ACTIONS.iter().find(|(_, _, v)| *v == value & 0xffff_0000) {
            Some((_, Self::Trace(_), _)) => Self::Trace(data),
            Some((_, Self::Errno(_), _)) => Self::Errno(data),
            Some((_, action, _)) => *action,
            None => Self::Kill,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |a: &Action| core::mem::discriminant(a) == core::mem::discriminant(self);
        let name = ACTIONS
            .iter()
            .find(|(_, a, _)| kind(a))
            .map_or("", |(n, _, _)| n);
        match self {
            Self::Errno(n) => match ERRNOS.iter().find(|(_, e)| e == n) {
                Some((errno, _)) => write!(f, "errno {errno}"),
                None => write!(f, "errno {n}"),
            },
            Self::Trace(n) => write!(f, "{name} {n}"),
            _ => f.write_str(name),
        }
    }
}

/// A processor architecture, as `seccomp_data.arch` tells it.
///
/// ```
/// use skep_cbpf::seccomp::Arch;
///
/// let arch = Arch::by_name("aarch64").ok_or("no such architecture")?;
/// assert_eq!(arch.number("openat"), Some(56));
/// assert_eq!(Arch::X86_64.number("openat"), Some(257));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Arch {
    /// x86-64.
    X86_64,
    /// x86-64 with 32-bit pointers: the same `arch`, system call numbers with bit 30.
    X32,
    /// 32-bit x86.
    I386,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM.
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
}

/// Names and `AUDIT_ARCH_*` of the architectures.
#[rustfmt::skip] // one architecture per line
const ARCHES: &[(&str, Arch, u32)] = &[
    ("x86_64",  Arch::X86_64,  0xc000_003e),
    ("x32",     Arch::X32,     0xc000_003e),
    ("i386",    Arch::I386,    0x4000_0003),
    ("aarch64", Arch::Aarch64, 0xc000_00b7),
    ("arm",     Arch::Arm,     0x4000_0028),
    ("riscv64", Arch::Riscv64, 0xc000_00f3),
];

/// Bit of the numbers of x32 system calls.
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// Every architecture.
    pub fn all() -> impl Iterator<Item = Self> {
        ARCHES.iter().map(|(_, arch, _)| *arch)
    }

    /// The architecture by its name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        ARCHES
            .iter()
            .find(|(n, _, _)| *n == name)
            .map(|(_, a, _)| *a)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        ARCHES
            .iter()
            .find(|(_, a, _)| *a == self)
            .map_or("", |(n, _, _)| n)
    }

    /// The value of `seccomp_data.arch`.
    #[must_use]
    pub fn audit(self) -> u32 {
        ARCHES
            .iter()
            .find(|(_, a, _)| *a == self)
            .map_or(0, |(_, _, v)| *v)
    }

    /// Every system call: number and name, ordered by number.
    pub fn syscalls(self) -> impl Iterator<Item = (u32, &'static str)> {
        let (table, bit) = match self {
            Self::X86_64 => (X86_64, 0),
            Self::X32 => (X86_64, X32_BIT),
            Self::I386 => (I386, 0),
            Self::Aarch64 => (AARCH64, 0),
            Self::Arm => (ARM, 0),
            Self::Riscv64 => (RISCV64, 0),
        };
        table
            .iter()
            .map(move |(number, name)| (number | bit, *name))
    }

    /// Number of a system call.
    #[must_use]
    pub fn number(self, name: &str) -> Option<u32> {
        self.syscalls()
            .find(|(_, n)| *n == name)
            .map(|(number, _)| number)
    }
}

/// A comparison of an argument.
///
/// ```
/// use skep_cbpf::seccomp::{Arch, Argument, Comparison, Policy};
///
/// let policy = Policy::parse("allow openat if arg2 & 3 == 0", Arch::X86_64)?;
/// let read_only = Argument { index: 2, comparison: Comparison::Masked(3), value: 0 };
/// assert_eq!(policy.rules[0].arguments, [read_only]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are the operators")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// The bits under the mask equal the value.
    Masked(u64),
    /// They do not.
    NotMasked(u64),
}

/// A condition on an argument; all are unsigned 64-bit numbers.
///
/// ```
/// use skep_cbpf::seccomp::{Action, Arch, Argument, Comparison, Policy, Rule, compile};
///
/// let unix = Argument { index: 0, comparison: Comparison::Equal, value: 1 };
/// let rule = Rule {
///     action: Action::Allow,
///     syscalls: vec!["socket".to_owned()],
///     arguments: vec![unix],
/// };
/// let mut policy = Policy::parse("default errno EACCES", Arch::X86_64)?;
/// policy.rules.push(rule);
/// skep_cbpf::check_seccomp(&compile(&policy)?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Argument {
    /// Index of the argument, 0 to 5.
    pub index: u32,
    /// The comparison.
    pub comparison: Comparison,
    /// What it is compared with.
    pub value: u64,
}

/// A rule: what happens to some system calls.
///
/// ```
/// use skep_cbpf::seccomp::{Action, Arch, Policy};
///
/// let policy = Policy::parse("allow read write\nkill ptrace\n", Arch::X86_64)?;
/// assert_eq!(policy.rules[0].syscalls, ["read", "write"]);
/// assert_eq!(policy.rules[1].action, Action::Kill);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What happens.
    pub action: Action,
    /// The system calls, by name.
    pub syscalls: Vec<String>,
    /// Conditions, all of which must hold.
    pub arguments: Vec<Argument>,
}

/// A policy.
///
/// ```
/// use skep_cbpf::seccomp::{Arch, Policy, compile, explain};
///
/// let text = "default errno EPERM\nallow read write exit_group\nallow socket if arg0 == 1\n";
/// let code = compile(&Policy::parse(text, Arch::X86_64)?)?;
/// let of = |name| explain(&code, Arch::X86_64).into_iter().find(|call| call.name == name);
/// let socket = of("socket").ok_or("no such call")?;
/// assert_eq!(socket.text(), "allow if arg0 == 0x1; else errno EPERM");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Architectures whose system calls are judged by the rules.
    pub arches: Vec<Arch>,
    /// What happens to system calls of other architectures.
    pub other: Action,
    /// What happens to system calls without a rule.
    pub default: Action,
    /// The rules; the first that fits decides.
    pub rules: Vec<Rule>,
}

/// Why a policy is refused.
///
/// ```
/// use skep_cbpf::seccomp::{Arch, Policy};
///
/// let error = Policy::parse("allow read\nallow raed\n", Arch::X86_64).unwrap_err();
/// assert_eq!((error.line, error.span.start..error.span.end), (2, 6..10));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyError {
    /// Number of the line, from 1.
    pub line: usize,
    /// The bytes of the line at fault.
    pub span: Span,
    /// The fact.
    pub message: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line,
            self.span.start + 1,
            self.message
        )
    }
}

impl core::error::Error for PolicyError {}

/// The words of a line with their places.
struct Words<'a> {
    line: &'a str,
    number: usize,
    at: usize,
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<(&'a str, Span)> {
        let rest = &self.line[self.at..];
        let start = self.at + rest.len() - rest.trim_start().len();
        let word = self.line[start..].split_whitespace().next()?;
        Some((word, Span::new(start, start + word.len())))
    }

    fn next(&mut self) -> Option<(&'a str, Span)> {
        let found = self.peek()?;
        self.at = found.1.end;
        Some(found)
    }

    fn error(&self, span: Span, message: impl Into<String>) -> PolicyError {
        PolicyError {
            line: self.number,
            span,
            message: message.into(),
        }
    }

    fn require(&mut self, what: &str) -> Result<(&'a str, Span), PolicyError> {
        let end = Span::new(self.line.len(), self.line.len());
        self.next()
            .ok_or_else(|| self.error(end, format!("expected {what}")))
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn action(words: &mut Words<'_>) -> Result<Action, PolicyError> {
    let (word, span) = words.require("an action")?;
    let Some((_, action, _)) = ACTIONS.iter().find(|(n, _, _)| *n == word) else {
        let names: Vec<&str> = ACTIONS.iter().map(|(n, _, _)| *n).collect();
        return Err(words.error(span, format!("expected an action: {}", names.join(", "))));
    };
    match action {
        Action::Errno(_) => {
            let (word, span) = words.require("an error such as EPERM")?;
            let named = ERRNOS.iter().find(|(n, _)| *n == word).map(|(_, e)| *e);
            let errno = named.or_else(|| word.parse().ok().filter(|n| *n < 4096));
            let wrong = || words.error(span, "expected an error by name, or by number below 4096");
            errno.map(Action::Errno).ok_or_else(wrong)
        }
        Action::Trace(_) => {
            let (word, span) = words.require("a number for the tracer")?;
            let wrong = || words.error(span, "expected a number up to 65535");
            word.parse().map(Action::Trace).map_err(|_| wrong())
        }
        action => Ok(*action),
    }
}

fn argument(words: &mut Words<'_>) -> Result<Argument, PolicyError> {
    let (word, span) = words.require("arg0 to arg5")?;
    let index = word
        .strip_prefix("arg")
        .and_then(|n| n.parse().ok())
        .filter(|n| *n < 6);
    let Some(index) = index else {
        return Err(words.error(span, "expected arg0 to arg5"));
    };
    let (word, span) = words.require("a comparison")?;
    let value = |words: &mut Words<'_>| {
        let (word, span) = words.require("a number")?;
        number(word).ok_or_else(|| words.error(span, "expected a number"))
    };
    let comparison = match word {
        "==" => Comparison::Equal,
        "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterEqual,
        "&" => {
            let mask = value(words)?;
            match words.require("== or !=")? {
                ("==", _) => Comparison::Masked(mask),
                ("!=", _) => Comparison::NotMasked(mask),
                (_, span) => return Err(words.error(span, "expected == or !=")),
            }
        }
        _ => return Err(words.error(span, "expected ==, !=, <, <=, >, >= or & MASK")),
    };
    let value = value(words)?;
    Ok(Argument {
        index,
        comparison,
        value,
    })
}

impl Policy {
    /// Reads a policy. Without an `arch` line it is for `native`.
    ///
    /// # Errors
    /// The first line that is not understood, or names a system call that no architecture of the policy has.
    pub fn parse(text: &str, native: Arch) -> Result<Self, PolicyError> {
        let mut policy = Self {
            arches: Vec::new(),
            other: Action::Kill,
            default: Action::Kill,
            rules: Vec::new(),
        };
        let mut names: Vec<(usize, Span, String)> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("");
            let mut words = Words {
                line,
                number: i + 1,
                at: 0,
            };
            match words.peek() {
                None => {}
                Some(("arch", _)) => {
                    words.next();
                    while let Some((word, span)) = words.next() {
                        let arch = Arch::by_name(word).ok_or_else(|| {
                            words.error(span, "expected x86_64, x32, i386 or aarch64")
                        })?;
                        policy.arches.push(arch);
                    }
                }
                Some(("other", _)) => {
                    words.next();
                    policy.other = action(&mut words)?;
                }
                Some(("default", _)) => {
                    words.next();
                    policy.default = action(&mut words)?;
                }
                Some(_) => policy.rules.push(rule(&mut words, &mut names)?),
            }
            if let Some((_, span)) = words.next() {
                return Err(words.error(span, "nothing more was expected on this line"));
            }
        }
        if policy.arches.is_empty() {
            policy.arches.push(native);
        }
        policy.arches.sort_unstable();
        policy.arches.dedup();
        for (line, span, name) in names {
            if policy.arches.iter().all(|a| a.number(&name).is_none()) {
                let message = format!("no architecture here has a system call {name:?}");
                return Err(PolicyError {
                    line,
                    span,
                    message,
                });
            }
        }
        Ok(policy)
    }
}

fn rule(
    words: &mut Words<'_>,
    names: &mut Vec<(usize, Span, String)>,
) -> Result<Rule, PolicyError> {
    let action = action(words)?;
    let mut rule = Rule {
        action,
        syscalls: Vec::new(),
        arguments: Vec::new(),
    };
    while let Some((word, span)) = words.next() {
        if word != "if" {
            names.push((words.number, span, word.into()));
            rule.syscalls.push(word.into());
            continue;
        }
        rule.arguments.push(argument(words)?);
        while let Some(("and", _)) = words.peek() {
            words.next();
            rule.arguments.push(argument(words)?);
        }
        break;
    }
    if rule.syscalls.is_empty() {
        words.require("a system call")?;
    }
    Ok(rule)
}
