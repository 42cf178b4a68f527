//! Classic programs as machine code: a function of a packet's bytes and its length on the wire, nothing else.
//!
//! There is no context, no map and no helper to prepare for, so a run is one call, and a run of many packets is one, too.
//! What makes it safe: [`check()`] accepts the program (jumps go forward and end inside, scratch words exist and are
//! written first), and every load is behind a comparison of the packet's length that [`flow`] proves to cover it. A load
//! past the end rejects the packet, so one comparison stands for all loads that every way to acceptance makes.
//!
//! Not here: ancillary data, offsets from headers, and offsets of 2 GiB and more; such programs are interpreted.

mod emit;
mod flow;

use crate::jit::x64::asm::OutOfReach;
use skep_cbpf::insn::Op;
use skep_cbpf::{CheckError, Insn, LongShift, check};
use skep_sys::exec::CodeMapping;
use std::io;
use std::marker::PhantomData;

/// Offsets in packets that code is made for end here; no packet is as long.
const OFFSET_MAX: u32 = 0x7fff_0000;

/// A classic program for one packet: its address, its bytes, its length on the wire.
type OneFn = unsafe extern "sysv64" fn(*const u8, usize, u32) -> u32;
/// A classic program for at least one packet: from the first to the end, and where the results go.
type ManyFn = unsafe extern "sysv64" fn(*const PlainPacket<'_>, *const PlainPacket<'_>, *mut u32);

/// A packet of which only its bytes and its length on the wire are known, as the code reads it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PlainPacket<'p> {
    start: *const u8,
    bytes: u32,
    wire_len: u32,
    packet: PhantomData<&'p [u8]>,
}

const _: () = assert!(size_of::<PlainPacket<'_>>() == 16, "the code steps by this");

impl<'p> PlainPacket<'p> {
    /// The first 2 GiB of a packet.
    #[inline]
    #[must_use]
    pub fn new(packet: &'p [u8], wire_len: u32) -> Self {
        Self {
            start: packet.as_ptr(),
            bytes: packet.len().min(OFFSET_MAX as usize) as u32,
            wire_len,
            packet: PhantomData,
        }
    }

    /// The packet.
    #[must_use]
    pub fn bytes(&self) -> &'p [u8] {
        // SAFETY: `new` took address and length of a slice that lives for `'p`.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes as usize) }
    }

    /// Bytes on the wire.
    #[must_use]
    pub fn wire_len(&self) -> u32 {
        self.wire_len
    }
}

// SAFETY: it is a shared slice and a number.
unsafe impl Send for PlainPacket<'_> {}
// SAFETY: as above.
unsafe impl Sync for PlainPacket<'_> {}

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
    one: OneFn,
    many: ManyFn,
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
        let compiled = emit::compile(program, long_shift)?;
        let code = CodeMapping::new(&compiled.code).map_err(NativeError::Memory)?;
        let at = |start| code.base().wrapping_add(start);
        // SAFETY: a whole function of this signature starts there.
        let one = unsafe { std::mem::transmute::<*const u8, OneFn>(at(compiled.one)) };
        // SAFETY: as above.
        let many = unsafe { std::mem::transmute::<*const u8, ManyFn>(at(compiled.many)) };
        Ok(Self { code, one, many })
    }

    /// Runs the program on a packet; zero means reject, anything else how many bytes to keep.
    #[inline]
    #[must_use]
    pub fn run(&self, packet: &[u8], wire_len: u32) -> u32 {
        // SAFETY: `one` is mapped executable as long as `self` lives. It was made of a checked program; it reads
        // `packet` only below its length, with which it compares offsets of 64 bits before, and writes only its
        // registers and red zone.
        unsafe { (self.one)(packet.as_ptr(), packet.len(), wire_len) }
    }

    /// Runs the program on many packets, one result each, with the least that can be spent on a packet: there is no call.
    ///
    /// # Panics
    /// If there are more packets than results.
    pub fn run_all(&self, packets: &[PlainPacket<'_>], results: &mut [u32]) {
        let results = &mut results[..packets.len()];
        if packets.is_empty() {
            return;
        }
        let range = packets.as_ptr_range();
        // SAFETY: as in `run`; the function reads the packets from the first to the end, of which there is at least one,
        // and writes as many results, which is how many there are. Their addresses and lengths are those of slices that
        // outlive the call.
        unsafe { (self.many)(range.start, range.end, results.as_mut_ptr()) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainder_of_the_largest_power_of_two() {
        let insn = |code, k| Insn {
            code,
            jt: 0,
            jf: 0,
            k,
        };
        // ld len; mod #0x80000000; ret a
        let program = [insn(0x80, 0), insn(0x94, 1 << 31), insn(0x16, 0)];
        let native = Native::new(&program, LongShift::Modulo).expect("compiles");
        assert_eq!(native.run(&[], 0x8000_0005), 5);
    }
}
