//! What a refusal found: facts, of which one function makes the sentence.
//!
//! Explanations read the facts, never the sentence. A rule that has no facts of its own is a [`Cause::Rule`].

use crate::domain::Scalar;
use skep_abi::ctx::CtxDenied;
use skep_abi::limits::{BPF_COMPLEXITY_LIMIT_INSNS, MAX_BPF_STACK};
use skep_abi::prog::MapDenied;
use skep_abi::{MapType, ProgType};
use std::borrow::Cow;
use std::fmt;

/// Text that is mostly constant.
pub(crate) type Text = Cow<'static, str>;

/// The facts of a refusal. [`fmt::Display`] makes a sentence of them: lower case, no full stop.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// A rule is broken, and the rule is all there is to say.
    Rule(Text),
    /// Something is wrong with what a register holds.
    Register {
        /// Number of the register.
        reg: u8,
        /// The whole sentence.
        says: String,
    },
    /// A register is read that this path did not write.
    Unwritten {
        /// Number of the register.
        reg: u8,
    },
    /// An argument of another type than the function takes.
    Argument {
        /// Register that passes it.
        reg: u8,
        /// What is called.
        function: Text,
        /// What the register holds.
        found: Text,
        /// What the function takes.
        wanted: Text,
    },
    /// An argument that may be NULL where the function does not take that.
    NullArgument {
        /// Register that passes it.
        reg: u8,
        /// What is called.
        function: Text,
        /// What the register holds.
        found: Text,
    },
    /// A size that is passed to a function.
    Size {
        /// Register that passes it.
        reg: u8,
        /// What is wrong with it.
        fault: SizeFault,
        /// What it may be.
        range: Interval,
    },
    /// Memory is accessed through a register that holds no pointer that may be followed.
    Dereference {
        /// Number of the register.
        reg: u8,
        /// What it holds.
        found: Text,
    },
    /// An access that may lie outside of its memory.
    Bounds {
        /// Register with the pointer.
        reg: u8,
        /// What it points to.
        memory: Text,
        /// Which end it may leave, and how far.
        reach: Reach,
    },
    /// Bytes of the stack outside of the frame. Offsets are from its top, so negative.
    StackRange {
        /// Register with the pointer.
        reg: u8,
        /// First byte.
        from: i64,
        /// The byte after the last one.
        to: i64,
        /// Lowest byte of the frame.
        lowest: i64,
    },
    /// A reference is still held where that must not be.
    Leak {
        /// What happens there: `exit`, `a tail call`.
        by: Text,
        /// Slot that acquired it.
        acquired: u32,
    },
    /// A section is still open where that must not be.
    Held {
        /// What happens there.
        by: Text,
        /// What is open.
        section: Section,
    },
    /// A call that is only allowed in a section.
    NeedsSection {
        /// What is called.
        function: Text,
        /// Which section.
        section: Section,
    },
    /// An iterator that goes on behind the section it began in.
    OutlivesSection {
        /// Register that points to it.
        reg: u8,
    },
    /// A call that is not allowed while a lock is held.
    UnderLock {
        /// What is called.
        function: Text,
    },
    /// A call that may sleep where nothing may.
    Sleeps {
        /// What is called.
        function: Text,
        /// What forbids it; `None`: the program is not sleepable.
        section: Option<Section>,
    },
    /// An access to the context.
    Context {
        /// Why not.
        denied: CtxDenied,
        /// Type of the program.
        prog_type: ProgType,
        /// Byte of the context.
        offset: i32,
        /// Bytes accessed.
        size: u32,
        /// It writes.
        write: bool,
    },
    /// A return value outside of what is allowed.
    Returned {
        /// Who returns: the program, or a callback.
        who: Text,
        /// What is returned.
        value: Returned,
        /// Least and greatest value allowed.
        allowed: (i32, i32),
    },
    /// A map that programs of this type cannot use.
    MapUse {
        /// Name of the map.
        map: String,
        /// Type of the program.
        prog_type: ProgType,
        /// Why not.
        denied: MapDenied,
    },
    /// A map of a type that the helper does not work on.
    MapHelper {
        /// Name of the helper.
        helper: &'static str,
        /// Name of the map.
        map: String,
        /// Its type.
        map_type: MapType,
    },
    /// The frames of a call chain are too large.
    StackDepth {
        /// Functions of the chain with the bytes of their frames, the outermost first.
        chain: Vec<(String, u32)>,
        /// Bytes they take together.
        bytes: u32,
    },
    /// A loop that comes back to the state it was in.
    NoProgress {
        /// Slot where the states are the same.
        at: u32,
    },
    /// Too many instructions walked.
    TooLarge,
}

/// What is wrong with a size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SizeFault {
    /// It may be below zero.
    Negative,
    /// It may be zero.
    Zero,
    /// It may be anything above.
    Unbounded,
}

/// Which end of its memory an access may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// It may start as low as this byte.
    Before(i128),
    /// It may end at this byte, of so many.
    Behind {
        /// The byte after the last one.
        end: i128,
        /// Bytes of the memory.
        limit: u32,
    },
    /// Nothing bounds it.
    Unbounded,
    /// It may end at this byte of the packet, of so many that were checked.
    Unchecked {
        /// The byte after the last one.
        end: i64,
        /// Bytes that a check against `data_end` covers.
        proven: u32,
    },
}

/// A part of a program with rules of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// A spin lock is held.
    Lock,
    /// RCU read lock.
    Rcu,
    /// Preemption is off.
    Preempt,
    /// Interrupts are off.
    Irq,
}

impl Section {
    /// Words that say that one is inside.
    const fn inside(self) -> &'static str {
        match self {
            Self::Lock => "while a spin lock is held",
            Self::Rcu => "inside of an RCU section",
            Self::Preempt => "with preemption disabled",
            Self::Irq => "with interrupts disabled",
        }
    }
}

/// What is returned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Returned {
    /// A number.
    Number(Interval),
    /// Something else.
    Other(Text),
}

/// The numbers that a value may be, as signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interval {
    /// The least.
    pub min: i64,
    /// The greatest.
    pub max: i64,
}

impl From<&Scalar> for Interval {
    fn from(s: &Scalar) -> Self {
        Self {
            min: s.smin,
            max: s.smax,
        }
    }
}

impl From<String> for Cause {
    fn from(rule: String) -> Self {
        Self::Rule(rule.into())
    }
}

impl From<&'static str> for Cause {
    fn from(rule: &'static str) -> Self {
        Self::Rule(rule.into())
    }
}

impl Cause {
    /// A sentence about register `reg`.
    pub(crate) fn about(reg: usize, says: String) -> Self {
        Self::Register {
            reg: register(reg),
            says,
        }
    }

    /// The register that the refusal is about.
    #[must_use]
    pub fn reg(&self) -> Option<usize> {
        match self {
            Self::Register { reg, .. }
            | Self::Unwritten { reg }
            | Self::Argument { reg, .. }
            | Self::NullArgument { reg, .. }
            | Self::Size { reg, .. }
            | Self::Dereference { reg, .. }
            | Self::Bounds { reg, .. }
            | Self::StackRange { reg, .. }
            | Self::OutlivesSection { reg } => Some(usize::from(*reg)),
            _ => None,
        }
    }
}

/// The number of a register as facts hold it.
pub(crate) fn register(i: usize) -> u8 {
    u8::try_from(i).unwrap_or(u8::MAX)
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => f.write_str(rule),
            Self::Register { says, .. } => f.write_str(says),
            Self::Unwritten { reg } => {
                write!(f, "r{reg} is read but was never written on this path")
            }
            Self::Argument {
                reg,
                function,
                found,
                wanted,
            } => write!(f, "r{reg} passes {found} where {function} takes {wanted}"),
            Self::NullArgument {
                reg,
                function,
                found,
            } => write!(
                f,
                "r{reg} passes {found}, which {function} does not take: check it for NULL first"
            ),
            Self::Size { reg, fault, range } => size(f, *reg, *fault, range),
            Self::Dereference { reg, found } => {
                write!(f, "r{reg} is {found} and must not be dereferenced")
            }
            Self::Bounds { reg, memory, reach } => bounds(f, *reg, memory, reach),
            Self::StackRange {
                reg,
                from,
                to,
                lowest,
            } => write!(
                f,
                "r{reg} accesses bytes {from} to {to} of a stack that ends at 0 and starts at {lowest}"
            ),
            Self::Leak { by, acquired } => write!(
                f,
                "{by} would leak the reference acquired at instruction {acquired}"
            ),
            Self::Held { by, section } => write!(f, "{by} {}", section.inside()),
            Self::NeedsSection { function, section } => {
                write!(f, "{function} works only {}", section.inside())
            }
            Self::OutlivesSection { reg } => write!(
                f,
                "the iterator behind r{reg} is only good inside the RCU section it began in"
            ),
            Self::UnderLock { function } => {
                write!(f, "{function} is called while a spin lock is held")
            }
            Self::Sleeps { function, section } => match section {
                Some(section) => write!(
                    f,
                    "{function} may sleep, but is called {}",
                    section.inside()
                ),
                None => write!(f, "{function} may sleep, but the program is not sleepable"),
            },
            Self::Context { .. } => self.context(f),
            Self::Returned {
                who,
                value,
                allowed: (least, most),
            } => match value {
                Returned::Number(n) => write!(
                    f,
                    "{who} may return {} to {}, allowed are {least} to {most}",
                    n.min, n.max
                ),
                Returned::Other(what) => write!(
                    f,
                    "{who} returns {what}, allowed are numbers from {least} to {most}"
                ),
            },
            Self::MapUse {
                map,
                prog_type,
                denied,
            } => write!(
                f,
                "map \"{map}\" in this {prog_type} program: {}",
                map_denied(*denied)
            ),
            Self::MapHelper {
                helper,
                map,
                map_type,
            } => {
                write!(
                    f,
                    "{helper} does not work on map \"{map}\" of type {map_type}"
                )
            }
            Self::StackDepth { chain, bytes } => {
                let chain: Vec<String> = chain
                    .iter()
                    .map(|(name, bytes)| format!("{name} ({bytes} bytes)"))
                    .collect();
                write!(
                    f,
                    "the frames of the call chain {} take {bytes} bytes, the stack has {MAX_BPF_STACK}",
                    chain.join(" -> ")
                )
            }
            Self::NoProgress { at } => write!(
                f,
                "the loop at slot {at} comes back to the same state: it would never end"
            ),
            Self::TooLarge => write!(
                f,
                "more than {BPF_COMPLEXITY_LIMIT_INSNS} instructions had to be walked over all paths"
            ),
        }
    }
}

impl Cause {
    fn context(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Context {
            denied,
            prog_type,
            offset,
            size,
            write,
        } = self
        else {
            return Ok(());
        };
        let verb = if *write { "written" } else { "read" };
        match denied {
            CtxDenied::NoField => write!(
                f,
                "the context of {prog_type} programs has no field of {size} bytes at byte {offset}"
            ),
            CtxDenied::Hidden(field) => write!(
                f,
                "field {field} of the context cannot be {verb} by this program or attach type"
            ),
            CtxDenied::ReadOnly(field) => write!(
                f,
                "field {field} of the context is read-only for this program"
            ),
            CtxDenied::Size(field) => write!(
                f,
                "field {field} of the context cannot be {verb} with {size} bytes at byte {offset}"
            ),
            CtxDenied::SignedPointer(field) => write!(
                f,
                "field {field} of the context is a pointer and has no sign to extend"
            ),
            CtxDenied::Btf => {
                f.write_str("the context of this program holds the arguments of its target")
            }
        }
    }
}

fn size(f: &mut fmt::Formatter<'_>, reg: u8, fault: SizeFault, range: &Interval) -> fmt::Result {
    match fault {
        SizeFault::Negative => write!(
            f,
            "the size in r{reg} may be negative (as low as {}): make it unsigned or bound it",
            range.min
        ),
        SizeFault::Zero => write!(f, "the size in r{reg} may be zero"),
        SizeFault::Unbounded => write!(f, "the size in r{reg} has no upper bound"),
    }
}

fn bounds(f: &mut fmt::Formatter<'_>, reg: u8, memory: &str, reach: &Reach) -> fmt::Result {
    match reach {
        Reach::Before(byte) => write!(
            f,
            "the offset of r{reg} into {memory} may be negative (as low as {byte}): test it, or use an unsigned index"
        ),
        Reach::Behind { end, limit } => write!(
            f,
            "r{reg} may reach byte {end} of {memory}; {limit} bytes are accessible"
        ),
        Reach::Unbounded => write!(
            f,
            "the offset of r{reg} into {memory} has no upper bound: check it before the access"
        ),
        Reach::Unchecked { end, proven } => write!(
            f,
            "r{reg} may reach byte {end} of {memory}; {proven} bytes were checked against data_end"
        ),
    }
}

fn map_denied(denied: MapDenied) -> &'static str {
    match denied {
        MapDenied::TracingGraphRoot => "tracing programs cannot use lists and trees in maps",
        MapDenied::SocketFilterSpinLock => "socket filters cannot use spin locks",
        MapDenied::TracingSpinLock => "tracing programs cannot use spin locks",
        MapDenied::TracingTimer => "tracing programs cannot use timers",
        MapDenied::TracingWorkQueue => "tracing programs cannot use work queues",
        MapDenied::StructOps => "struct_ops maps cannot be used in programs",
        MapDenied::Sleepable => {
            "sleepable programs can only use array, hash, ring buffer and local storage maps"
        }
        MapDenied::Arena => "arenas need CAP_PERFMON",
    }
}
