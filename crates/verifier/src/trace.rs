//! Recorded states, to check engines and the verifier against each other.
//!
//! [`verify_traced`] walks with every scalar precise and keeps each state it passes. Whatever a run of the program does, its
//! registers and stack must lie in one of the states recorded for the instruction: [`Trace::check`].

use crate::domain::Scalar;
use crate::reg::{Flags, Kind, Reg};
use crate::rejection::Rejection;
use crate::request::Request;
use crate::state::{Byte, Frame, SLOT};
use crate::verified::Verified;
use crate::verify::verify_with;
use std::rc::Rc;

/// States recorded before a trace is given up as too large.
const MAX_RECORDED: usize = 200_000;

/// One frame of a running program.
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{ConcreteFrame, verify_memory_traced};
///
/// let insns = assemble_insns("r0 = 7\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let (_, trace) = verify_memory_traced(&insns, "seven", 8).map_err(|no| no.message())?;
/// // An engine that is about to exit with something else has done something wrong.
/// let mut frame = ConcreteFrame { regs: [0x1000; 11], stack: &[], callsite: 0 };
/// assert!(trace.check(1, &[frame]).is_err());
/// frame.regs[0] = 7;
/// assert_eq!(trace.check(1, &[frame]), Ok(()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ConcreteFrame<'a> {
    /// `r0`–`r10`; those of callers as they are saved (`r6`–`r10` count).
    pub regs: [u64; 11],
    /// The frame's stack, highest byte last: `stack[stack.len() - 8..]` is `fp-8`.
    pub stack: &'a [u8],
    /// Slot of the call instruction in the caller; ignored for the first frame.
    pub callsite: u32,
}

/// How a walk that is recorded treats numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Numbers {
    /// Every scalar is precise: no path is left out because a number did not matter.
    #[default]
    Precise,
    /// As in any verification.
    AsUsual,
}

/// The states that a verification passed, by instruction.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Request, verify_recorded};
///
/// // The way to a refusal.
/// let insns = assemble_insns("r0 = 1\nr0 = r3\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let (verdict, trace) = verify_recorded(&Request::plain("pass", ProgType::Xdp, &insns));
/// assert!(verdict.is_err() && trace.is_complete());
/// assert_eq!(trace.steps().map(|(insn, _)| insn).collect::<Vec<_>>(), [0, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Trace {
    pub(crate) numbers: Numbers,
    states: Vec<Vec<Vec<Rc<Frame>>>>,
    /// Instruction and place in `states` of every record, as they were made.
    order: Vec<(u32, u32)>,
    recorded: usize,
    /// Registers that may still be read, by instruction, one bit each.
    pub(crate) live: Vec<u16>,
}

/// What is known of a number: bits and ranges, whose ends belong to them.
///
/// ```
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::verify_memory_traced;
///
/// // A byte, doubled.
/// let insns = assemble_insns("r0 = *(u8 *)(r1 + 0)\nr0 <<= 1\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let (_, trace) = verify_memory_traced(&insns, "double", 8).map_err(|no| no.message())?;
/// let (_, regs) = trace.steps().last().ok_or("no steps")?;
/// let known = regs[0].ok_or("no number")?;
/// assert_eq!((known.unsigned, known.value & 1, known.mask & 1), ((0, 510), 0, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// Known bits.
    pub value: u64,
    /// Unknown bits.
    pub mask: u64,
    /// As an unsigned number.
    pub unsigned: (u64, u64),
    /// As a signed number.
    pub signed: (i64, i64),
    /// The lower half as an unsigned number.
    pub unsigned32: (u32, u32),
    /// The lower half as a signed number.
    pub signed32: (i32, i32),
}

impl From<&Scalar> for Known {
    fn from(s: &Scalar) -> Self {
        Self {
            value: s.bits.value,
            mask: s.bits.mask,
            unsigned: (s.umin, s.umax),
            signed: (s.smin, s.smax),
            unsigned32: (s.u32_min, s.u32_max),
            signed32: (s.s32_min, s.s32_max),
        }
    }
}

impl Trace {
    pub(crate) fn new(slots: usize, numbers: Numbers) -> Self {
        Self {
            numbers,
            states: vec![Vec::new(); slots],
            order: Vec::new(),
            recorded: 0,
            live: Vec::new(),
        }
    }

    /// Registers that may still be read from instruction `insn` on, one bit each; `None` if the walk did not begin.
    #[must_use]
    pub fn live_regs(&self, insn: usize) -> Option<u16> {
        self.live.get(insn).copied()
    }

    pub(crate) fn record(&mut self, insn: usize, frames: &[Rc<Frame>]) {
        self.recorded += 1;
        if self.recorded <= MAX_RECORDED {
            self.order
                .push((insn as u32, self.states[insn].len() as u32));
            self.states[insn].push(frames.to_vec());
        }
    }

    /// The instructions in the order of the walk, each with what was known of the numbers in `r0`–`r9` before it.
    pub fn steps(&self) -> impl Iterator<Item = (u32, [Option<Known>; 10])> {
        self.order.iter().map(|&(insn, at)| {
            let frames = &self.states[insn as usize][at as usize];
            let regs = frames.last().map(|f| &f.regs);
            let number = |i: usize| regs.map(|r| &r[i]).filter(|r| r.is_scalar());
            (
                insn,
                core::array::from_fn(|i| number(i).map(|r| Known::from(&r.var))),
            )
        })
    }

    /// False if the verification passed more states than are kept: then nothing can be checked.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.recorded <= MAX_RECORDED
    }

    /// Is the running program, about to execute `insn`, in one of the recorded states?
    ///
    /// `frames` has the outermost frame first.
    ///
    /// # Errors
    /// What does not fit, for the recorded state that fits best.
    pub fn check(&self, insn: usize, frames: &[ConcreteFrame<'_>]) -> Result<(), String> {
        let mut best = format!(
            "no state was recorded for instruction {insn} with {} frames",
            frames.len()
        );
        let mut least = usize::MAX;
        for state in &self.states[insn] {
            if state.len() != frames.len() {
                continue;
            }
            match mismatch(state, frames) {
                None => return Ok(()),
                Some((rank, text)) if rank < least => (least, best) = (rank, text),
                Some(_) => {}
            }
        }
        Err(best)
    }
}

/// The first thing that does not fit, with how late it was found (later is better).
fn mismatch(state: &[Rc<Frame>], frames: &[ConcreteFrame<'_>]) -> Option<(usize, String)> {
    let count = frames.len();
    for (depth, (frame, concrete)) in state.iter().zip(frames).enumerate() {
        if depth > 0 && frame.callsite != concrete.callsite {
            return Some((usize::MAX - 1, "other call sites".to_owned()));
        }
        // Callers keep only r6 to r9 and the frame pointer.
        let first = if depth + 1 == count { 0 } else { 6 };
        for i in first..10 {
            if !admits(&frame.regs[i], concrete.regs[i], frames) {
                let text = format!(
                    "frame {depth}: r{i} = {:#x} is not in {:?}",
                    concrete.regs[i], frame.regs[i]
                );
                return Some((1000 - depth * 20 - i, text));
            }
        }
        if let Some(text) = stack_mismatch(frame, concrete, frames) {
            return Some((500 - depth, format!("frame {depth}: {text}")));
        }
    }
    None
}

fn admits(reg: &Reg, value: u64, frames: &[ConcreteFrame<'_>]) -> bool {
    match reg.kind {
        Kind::NotInit => true,
        Kind::Scalar => reg.var.contains(value),
        Kind::Stack => {
            let base = frames.get(reg.aux as usize).map_or(0, |f| f.regs[10]);
            let offset = value
                .wrapping_sub(base)
                .wrapping_sub(i64::from(reg.off).cast_unsigned());
            in_ranges64(&reg.var, offset)
        }
        Kind::Arena | Kind::Btf | Kind::Func | Kind::ConstMap => true,
        // Pointers that were checked are not NULL; unmoved ones only, since moved ones may be anywhere near.
        _ => {
            value != 0
                || reg.flags.has(Flags::NULLABLE)
                || reg.off != 0
                || reg.var.as_const() != Some(0)
                || reg.is_packet_any()
        }
    }
}

/// The variable offset of a pointer has no ranges of its lower half.
fn in_ranges64(s: &Scalar, x: u64) -> bool {
    s.bits.contains(x)
        && s.umin <= x
        && x <= s.umax
        && s.smin <= x.cast_signed()
        && x.cast_signed() <= s.smax
}

fn stack_mismatch(
    frame: &Frame,
    concrete: &ConcreteFrame<'_>,
    frames: &[ConcreteFrame<'_>],
) -> Option<String> {
    for (i, slot) in frame.stack.iter().enumerate() {
        let Some(start) = concrete.stack.len().checked_sub((i + 1) * SLOT) else {
            break;
        };
        let mut bytes = [0; SLOT];
        bytes.copy_from_slice(&concrete.stack[start..start + SLOT]);
        let value = u64::from_le_bytes(bytes);
        if slot.is_spill() {
            let spilled = slot.bytes.iter().filter(|&&b| b == Byte::Spill).count();
            let fits = if spilled == SLOT {
                admits(&slot.reg, value, frames)
            } else {
                let mut var = slot.reg.var;
                var.truncate(spilled as u32);
                !slot.reg.is_scalar() || var.contains(value & ((1 << (spilled * 8)) - 1))
            };
            if !fits {
                return Some(format!(
                    "fp-{} = {value:#x} is not in {:?}",
                    (i + 1) * SLOT,
                    slot.reg
                ));
            }
        }
        for (b, kind) in slot.bytes.iter().enumerate() {
            if *kind == Byte::Zero && bytes[SLOT - 1 - b] != 0 {
                return Some(format!(
                    "byte {} of fp-{} is {:#x}, not zero",
                    SLOT - 1 - b,
                    (i + 1) * SLOT,
                    bytes[SLOT - 1 - b]
                ));
            }
        }
    }
    None
}

/// As [`crate::verify`], with every scalar precise, and records the states passed.
///
/// Programs whose loops only converge because imprecise scalars are ignored may be refused as too complex here.
///
/// # Errors
/// As [`crate::verify`].
pub fn verify_traced(req: &Request<'_>) -> Result<(Verified, Trace), Rejection> {
    let mut trace = Trace::default();
    let verified = verify_with(req, Some(&mut trace), None)?;
    Ok((verified, trace))
}

/// As [`crate::verify`], and records the states passed, also those of a program that is refused.
pub fn verify_recorded(req: &Request<'_>) -> (Result<Verified, Rejection>, Trace) {
    let mut trace = Trace::new(0, Numbers::AsUsual);
    let verdict = verify_with(req, Some(&mut trace), None);
    (verdict, trace)
}
