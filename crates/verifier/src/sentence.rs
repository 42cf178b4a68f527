//! The sentence for each [`Cause`]: lower case, no full stop.

use crate::cause::{Cause, Interval, Reach, Returned, Section, SizeFault};
use skep_abi::ctx::CtxDenied;
use skep_abi::limits::{BPF_COMPLEXITY_LIMIT_INSNS, MAX_BPF_STACK};
use skep_abi::prog::MapDenied;
use std::fmt;

/// Lowest byte that a frame can have.
const FRAME_LOWEST: i64 = -(MAX_BPF_STACK as i64);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => f.write_str(rule),
            Self::Register { says, .. } => f.write_str(says),
            Self::Unwritten { .. } | Self::Dereference { .. } => self.register(f),
            Self::Argument { .. } | Self::NullArgument { .. } => self.argument(f),
            Self::Size { reg, fault, range } => size(f, *reg, *fault, range),
            Self::Bounds { reg, memory, reach } => bounds(f, *reg, memory, reach),
            Self::StackRange { .. } | Self::FrameEnd { .. } => self.stack(f),
            Self::Leak { .. } | Self::Held { .. } => self.held(f),
            Self::NeedsSection { .. } | Self::OutlivesSection { .. } => self.outside(f),
            Self::UnderLock { .. } | Self::Sleeps { .. } => self.inside(f),
            Self::Context { .. } => self.context(f),
            Self::Returned { .. } => self.returned(f),
            Self::MapUse { .. } | Self::MapHelper { .. } => self.map(f),
            Self::StackDepth { .. } | Self::NoProgress { .. } | Self::TooLarge => self.limit(f),
        }
    }
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

/// One function a family: the others are no business of it.
impl Cause {
    fn register(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwritten { reg } => {
                write!(f, "r{reg} is read but was never written on this path")
            }
            Self::Dereference { reg, found } => {
                write!(f, "r{reg} is {found} and must not be dereferenced")
            }
            _ => Ok(()),
        }
    }

    fn argument(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
            _ => Ok(()),
        }
    }

    fn stack(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Whoever may not read what it did not write has no more stack than that.
            Self::StackRange {
                reg,
                from,
                to,
                lowest: 0,
            } if (FRAME_LOWEST..0).contains(from) && *to <= 0 => write!(
                f,
                "r{reg} reads bytes {from} to {to} of a stack that was never written"
            ),
            Self::StackRange {
                reg,
                from,
                to,
                lowest,
            } => {
                let lowest = if *lowest == 0 { FRAME_LOWEST } else { *lowest };
                write!(
                    f,
                    "r{reg} accesses bytes {from} to {to} of a stack that ends at 0 and starts at {lowest}"
                )
            }
            Self::FrameEnd { reg, missing } => {
                write!(
                    f,
                    "r{reg} points to the end of the frame, where no {missing} is"
                )
            }
            _ => Ok(()),
        }
    }

    fn held(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leak { by, acquired } => write!(
                f,
                "{by} would leak the reference acquired at instruction {acquired}"
            ),
            Self::Held { by, section } => write!(f, "{by} {}", section.inside()),
            _ => Ok(()),
        }
    }

    fn outside(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedsSection { function, section } => {
                write!(f, "{function} works only {}", section.inside())
            }
            Self::OutlivesSection { reg } => write!(
                f,
                "the iterator behind r{reg} is only good inside the RCU section it began in"
            ),
            _ => Ok(()),
        }
    }

    fn inside(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
            _ => Ok(()),
        }
    }

    fn returned(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Returned {
            who,
            value,
            allowed: (least, most),
        } = self
        else {
            return Ok(());
        };
        match value {
            Returned::Number(n) => write!(
                f,
                "{who} may return {} to {}, allowed are {least} to {most}",
                n.min, n.max
            ),
            Returned::Other(what) => write!(
                f,
                "{who} returns {what}, allowed are numbers from {least} to {most}"
            ),
        }
    }

    fn map(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
            } => write!(
                f,
                "{helper} does not work on map \"{map}\" of type {map_type}"
            ),
            _ => Ok(()),
        }
    }

    fn limit(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
            _ => Ok(()),
        }
    }

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
