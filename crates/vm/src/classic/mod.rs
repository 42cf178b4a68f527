//! Classic programs as machine code: a function of a packet's bytes and its length on the wire, nothing else.
//!
//! There is no context, no map and no helper to prepare for, so a run is one call. What makes it safe: [`check`] accepts
//! the program (jumps go forward and end inside, scratch words exist and are written first), and every load is behind a
//! comparison of the packet's length that [`flow`] proves to cover it. A load past the end rejects the packet, so one
//! comparison stands for all loads that every way to acceptance makes.
//!
//! Not here: ancillary data, offsets from headers, and offsets of 2 GiB and more; such programs are interpreted.

mod emit;
mod flow;

use crate::jit::x64::asm::OutOfReach;
use skep_cbpf::insn::Op;
use skep_cbpf::{CheckError, Insn, LongShift, check};
use skep_sys::exec::CodeMapping;
use std::io;

/// Offsets in packets that code is made for end here; no packet is as long.
const OFFSET_MAX: u32 = 0x7fff_0000;

/// The code of a classic program: packet, its bytes, its length on the wire.
type EntryFn = unsafe extern "sysv64" fn(*const u8, usize, u32) -> u32;

/// Why a classic program has no code.
#[derive(Debug)]
pub enum NativeError {
    /// It breaks a rule.
    Check(CheckError),
    /// It reads what is not in the packet, at this instruction.
    NotInPacket(usize),
    /// It is longer than jumps reach.
    Distance,
    /// No executable memory.
    Memory(io::Error),
}

impl std::fmt::Display for NativeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Check(error) => error.fmt(f),
            Self::NotInPacket(at) => write!(f, "insn {at} reads what is not in the packet"),
            Self::Distance => f.write_str("the program is too long for its jumps"),
            Self::Memory(error) => write!(f, "executable memory: {error}"),
        }
    }
}

impl std::error::Error for NativeError {}

impl From<OutOfReach> for NativeError {
    fn from(_: OutOfReach) -> Self {
        Self::Distance
    }
}

/// A classic program as machine code.
#[derive(Debug)]
pub struct Native {
    code: CodeMapping,
    entry: EntryFn,
}

impl Native {
    /// Checks and compiles a program.
    ///
    /// # Errors
    /// [`NativeError`]; the program may still be one to interpret.
    pub fn new(program: &[Insn], long_shift: LongShift) -> Result<Self, NativeError> {
        check(program).map_err(NativeError::Check)?;
        if let Some(at) = program.iter().position(|i| !is_of_packet(*i)) {
            return Err(NativeError::NotInPacket(at));
        }
        let bytes = emit::compile(program, long_shift)?;
        let code = CodeMapping::new(&bytes).map_err(NativeError::Memory)?;
        // SAFETY: the bytes are a whole function of this signature, from the first byte on.
        let entry = unsafe { std::mem::transmute::<*const u8, EntryFn>(code.base()) };
        Ok(Self { code, entry })
    }

    /// Runs the program on the first 2 GiB of a packet; zero means reject, anything else how many bytes to keep.
    #[inline]
    #[must_use]
    pub fn run(&self, packet: &[u8], wire_len: u32) -> u32 {
        let length = packet.len().min(OFFSET_MAX as usize);
        // SAFETY: `entry` is mapped executable as long as `self` lives. It was made of a checked program; it reads
        // `packet` only below `length`, which it compares before, and writes only its registers and red zone.
        unsafe { (self.entry)(packet.as_ptr(), length, wire_len) }
    }

    /// The machine code.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.code.bytes()
    }
}

/// Whether an instruction reads nothing, or the packet by an offset that code can be made for.
fn is_of_packet(insn: Insn) -> bool {
    match insn.op() {
        Some(Op::LoadAbs(_) | Op::LoadInd(_) | Op::LoadXMsh) => insn.k < OFFSET_MAX - 4,
        _ => true,
    }
}
