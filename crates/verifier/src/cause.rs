//! What a refusal found: facts, of which one function makes the sentence.
//!
//! Explanations read the facts, never the sentence (`sentence.rs`). A rule that has no facts of its own is a [`Cause::Rule`].

use crate::domain::Scalar;
use skep_abi::ctx::CtxDenied;
use skep_abi::prog::MapDenied;
use skep_abi::{MapType, ProgType};
use std::borrow::Cow;

/// Text that is mostly constant.
pub(crate) type Text = Cow<'static, str>;

/// The facts of a refusal. [`std::fmt::Display`] makes a sentence of them: lower case, no full stop.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Cause, Request, verify};
///
/// let insns = assemble_insns("r0 = *(u8 *)(r2 + 0)\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let rejection = verify(&Request::plain("pass", ProgType::Xdp, &insns)).unwrap_err();
/// assert_eq!(*rejection.cause, Cause::Unwritten { reg: 2 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
        /// Lowest byte of the frame; 0 for readers if nothing of it was written.
        lowest: i64,
    },
    /// The end of the frame, where an object on the stack is expected.
    FrameEnd {
        /// Register that points there.
        reg: u8,
        /// What is expected.
        missing: &'static str,
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
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Cause, Request, SizeFault, verify};
///
/// // bpf_skb_load_bytes(ctx, 0, r10 - 8, 0)
/// let text = "r2 = 0\nr3 = r10\nr3 += -8\nr4 = 0\ncall 26\nr0 = 0\nexit";
/// let insns = assemble_insns(text, &NoFacts).map_err(|e| e[0].to_string())?;
/// let rejection = verify(&Request::plain("load", ProgType::SocketFilter, &insns)).unwrap_err();
/// assert!(matches!(*rejection.cause, Cause::Size { reg: 4, fault: SizeFault::Zero, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Cause, Reach, Request, verify};
///
/// // The packet's byte 13, without a look at `data_end`.
/// let text = "r1 = *(u32 *)(r1 + 0)\nr0 = *(u8 *)(r1 + 13)\nexit";
/// let insns = assemble_insns(text, &NoFacts).map_err(|e| e[0].to_string())?;
/// let rejection = verify(&Request::plain("pass", ProgType::Xdp, &insns)).unwrap_err();
/// let reach = Reach::Unchecked { end: 14, proven: 0 };
/// assert!(matches!(*rejection.cause, Cause::Bounds { reach: found, .. } if found == reach));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use skep_verifier::{Cause, Section};
///
/// let cause = Cause::Held { by: "a tail call".into(), section: Section::Rcu };
/// assert_eq!(cause.to_string(), "a tail call inside of an RCU section");
/// ```
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

/// What is returned.
///
/// ```
/// use skep_abi::{AttachType, ProgType};
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Cause, Interval, Request, Returned, verify};
///
/// let insns = assemble_insns("r0 = 5\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let attach = Some(AttachType::CgroupInetIngress);
/// let request = Request { attach, ..Request::plain("filter", ProgType::CgroupSkb, &insns) };
/// let rejection = verify(&request).unwrap_err();
/// let five = Returned::Number(Interval { min: 5, max: 5 });
/// assert!(matches!(*rejection.cause, Cause::Returned { value, allowed: (0, 1), .. } if value == five));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Returned {
    /// A number.
    Number(Interval),
    /// Something else.
    Other(Text),
}

/// The numbers that a value may be, as signed.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Cause, Interval, Request, verify};
///
/// // bpf_skb_load_bytes(ctx, 0, r10 - 8, ctx->len): the length may be any.
/// let text = "r2 = 0\nr3 = r10\nr3 += -8\nr4 = *(u32 *)(r1 + 0)\ncall 26\nr0 = 0\nexit";
/// let insns = assemble_insns(text, &NoFacts).map_err(|e| e[0].to_string())?;
/// let rejection = verify(&Request::plain("load", ProgType::SocketFilter, &insns)).unwrap_err();
/// let any = Interval { min: 0, max: u32::MAX.into() };
/// assert!(matches!(*rejection.cause, Cause::Size { range, .. } if range == any));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

    /// Register `reg` points to the end of the frame, where no such thing is.
    pub(crate) fn frame_end(reg: usize, missing: &'static str) -> Self {
        Self::FrameEnd {
            reg: register(reg),
            missing,
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
            | Self::FrameEnd { reg, .. }
            | Self::OutlivesSection { reg } => Some(usize::from(*reg)),
            _ => None,
        }
    }
}

/// The number of a register as facts hold it.
pub(crate) fn register(i: usize) -> u8 {
    u8::try_from(i).unwrap_or(u8::MAX)
}
