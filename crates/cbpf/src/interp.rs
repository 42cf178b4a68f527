//! The interpreter of classic programs: the reference for every other way to run them.

use crate::check::{CheckError, check};
use crate::insn::{
    AluOp, Ancillary, BPF_MEMWORDS, Insn, Op, Relation, SKF_AD_OFF, SKF_LL_OFF, SKF_NET_OFF, Size,
};
use alloc::vec::Vec;

/// What a shift by a register of 32 or more gives. A shift by a constant never is that long.
///
/// ```
/// use skep_cbpf::{LongShift, Packet, Program, text};
///
/// // 1 << X, with X the length: 33.
/// let insns = text::parse("(000) ldx #pktlen\n(001) ld #0x1\n(002) lsh x\n(003) ret\n")?;
/// let packet = Packet::of_file(&[], 33);
/// assert_eq!(Program::new(&insns, LongShift::Modulo)?.run(&packet), 2);
/// assert_eq!(Program::new(&insns, LongShift::Zero)?.run(&packet), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LongShift {
    /// The count is taken modulo 32, as in the kernel.
    #[default]
    Modulo,
    /// The result is zero, as in libpcap.
    Zero,
}

/// What ancillary loads read. A datum that is absent rejects the packet; but a packet that came through no device ends
/// a program that asks for it with what the accumulator holds: that is how the kernel has it.
///
/// ```
/// use skep_cbpf::insn::Ancillary;
/// use skep_cbpf::interp::{Ancillaries, NO_ANCILLARIES};
/// use skep_cbpf::{LongShift, Packet, Program, text};
///
/// let program = Program::new(&text::parse("(000) ld [mark]\n(001) ret\n")?, LongShift::Modulo)?;
/// let marked = Ancillaries::default().with(Ancillary::Mark, 7);
/// let packet = Packet { bytes: &[0; 60], wire_len: 60, ancillaries: &marked };
/// assert_eq!(program.run(&packet), 7);
/// assert_eq!(program.run(&Packet { ancillaries: &NO_ANCILLARIES, ..packet }), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Ancillaries {
    /// The words by offset from `SKF_AD_OFF`, divided by four; `None` if there is none.
    pub words: [Option<u32>; 16],
    /// Offset of the network header, for offsets from `SKF_NET_OFF`; `None` if offsets count from the start of the packet
    /// alone, as in libpcap.
    pub network_offset: Option<u32>,
}

impl Ancillaries {
    /// Sets a datum.
    #[must_use]
    pub fn with(mut self, datum: Ancillary, value: u32) -> Self {
        let at = (datum.offset() - SKF_AD_OFF) / 4;
        if let Some(word) = self.words.get_mut(at as usize) {
            *word = Some(value);
        }
        self
    }

    fn get(&self, offset: u32) -> Option<u32> {
        let relative = offset.checked_sub(SKF_AD_OFF)?;
        *self.words.get(relative as usize / 4)?
    }
}

/// What is run against: the bytes of a packet, and what is known besides.
///
/// ```
/// use skep_cbpf::{LongShift, Packet, Program, text};
///
/// // `len` is the length on the wire, not how much of it was captured.
/// let program = Program::new(&text::parse("(000) ld #pktlen\n(001) ret\n")?, LongShift::Modulo)?;
/// assert_eq!(program.run(&Packet::of_file(&[0; 96], 1514)), 1514);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The captured bytes.
    pub bytes: &'a [u8],
    /// Bytes on the wire, what `len` reads.
    pub wire_len: u32,
    /// Ancillary data; none for a packet of a file.
    pub ancillaries: &'a Ancillaries,
}

/// No ancillary data.
pub const NO_ANCILLARIES: Ancillaries = Ancillaries {
    words: [None; 16],
    network_offset: None,
};

impl<'a> Packet<'a> {
    /// A packet of a file.
    #[must_use]
    pub fn of_file(bytes: &'a [u8], wire_len: u32) -> Self {
        Self {
            bytes,
            wire_len,
            ancillaries: &NO_ANCILLARIES,
        }
    }

    /// Whether a load is of the device of a packet in the kernel that has none.
    #[cold]
    fn ends_without_device(&self, offset: u32) -> bool {
        matches!(
            Ancillary::of_offset(offset),
            Some(Ancillary::IfIndex | Ancillary::HaType)
        ) && self.ancillaries.network_offset.is_some()
            && self.ancillaries.get(offset).is_none()
    }

    /// The value at an offset; `None` past the end.
    fn load(&self, offset: u32, size: Size) -> Option<u32> {
        let mut offset = offset;
        if offset >= SKF_LL_OFF {
            let network = self.ancillaries.network_offset?;
            if offset >= SKF_AD_OFF {
                return None;
            }
            offset = if offset >= SKF_NET_OFF {
                (offset - SKF_NET_OFF).checked_add(network)?
            } else {
                offset - SKF_LL_OFF
            };
        }
        let rest = self.bytes.get(offset as usize..)?;
        match size {
            Size::B => rest.first().map(|b| u32::from(*b)),
            Size::H => rest
                .first_chunk()
                .map(|b| u32::from(u16::from_be_bytes(*b))),
            Size::W => rest.first_chunk().map(|b| u32::from_be_bytes(*b)),
        }
    }
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug)]
struct Decoded {
    op: Op,
    jt: u8,
    jf: u8,
    k: u32,
}

/// A checked program, ready to run.
///
/// ```
/// use skep_cbpf::{LongShift, Packet, Program, text};
///
/// // What `tcpdump -d` prints can be run.
/// let insns = text::parse("(000) ldb [0]\n(001) jeq #0x45 jt 2 jf 3\n(002) ret #64\n(003) ret #0\n")?;
/// let program = Program::new(&insns, LongShift::Modulo)?;
/// assert_eq!(program.run(&Packet::of_file(&[0x45; 20], 20)), 64);
/// assert_eq!(program.run(&Packet::of_file(&[], 0)), 0, "loads past the end reject");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Program {
    code: Vec<Decoded>,
    long_shift: LongShift,
}

/// Most instructions one run takes: a loop, which only filter programs of `protochain` have, moves on by at least one
/// byte a turn, and a packet has at most 64 KiB × the longest loop body.
const STEPS_MAX: u32 = 1 << 22;

impl Program {
    /// Checks a program and makes it ready to run.
    ///
    /// # Errors
    /// What [`check`] says of it.
    pub fn new(insns: &[Insn], long_shift: LongShift) -> Result<Self, CheckError> {
        check(insns)?;
        Ok(Self::decoded(insns, long_shift))
    }

    /// Makes a program of the filter compiler ready, which may hold backward jumps.
    pub(crate) fn decoded(insns: &[Insn], long_shift: LongShift) -> Self {
        let decode = |i: &Insn| Decoded {
            op: i.op().unwrap_or(Op::RetK),
            jt: i.jt,
            jf: i.jf,
            k: i.k,
        };
        Self {
            code: insns.iter().map(decode).collect(),
            long_shift,
        }
    }

    /// Runs the program; zero means reject, anything else how many bytes to keep.
    #[must_use]
    pub fn run(&self, packet: &Packet<'_>) -> u32 {
        self.run_inner(packet).unwrap_or(0)
    }

    fn run_inner(&self, packet: &Packet<'_>) -> Option<u32> {
        let (mut a, mut x) = (0u32, 0u32);
        let mut scratch = [0u32; BPF_MEMWORDS as usize];
        let mut at = 0usize;
        for _ in 0..STEPS_MAX {
            let insn = self.code.get(at)?;
            let k = insn.k;
            at += 1;
            match insn.op {
                Op::LoadAbs(size) => {
                    a = match packet.load(k, size) {
                        Some(value) => value,
                        None if packet.ends_without_device(k) => return Some(a),
                        None => ancillary(packet, k, a, x)?,
                    }
                }
                Op::LoadInd(size) => a = packet.load(x.checked_add(k)?, size)?,
                Op::LoadImm => a = k,
                Op::LoadLen => a = packet.wire_len,
                Op::LoadMem => a = scratch[(k & 15) as usize],
                Op::LoadXImm => x = k,
                Op::LoadXLen => x = packet.wire_len,
                Op::LoadXMem => x = scratch[(k & 15) as usize],
                Op::LoadXMsh => x = (packet.load(k, Size::B)? & 0xf) * 4,
                Op::Store => scratch[(k & 15) as usize] = a,
                Op::StoreX => scratch[(k & 15) as usize] = x,
                Op::AluK(op) => a = alu(op, a, k, self.long_shift)?,
                Op::AluX(op) => a = alu(op, a, x, self.long_shift)?,
                Op::Neg => a = a.wrapping_neg(),
                Op::Jump => at = at.wrapping_add_signed(k.cast_signed() as isize),
                Op::JumpK(relation) => at += branch(relation, a, k, insn),
                Op::JumpX(relation) => at += branch(relation, a, x, insn),
                Op::RetK => return Some(k),
                Op::RetA => return Some(a),
                Op::Tax => x = a,
                Op::Txa => a = x,
            }
        }
        None
    }
}

#[inline]
fn branch(relation: Relation, a: u32, b: u32, insn: &Decoded) -> usize {
    usize::from(if relation.holds(a, b) {
        insn.jt
    } else {
        insn.jf
    })
}

/// The result of an operator; `None` for a division by zero, which ends the program with 0.
pub(crate) fn alu(op: AluOp, a: u32, b: u32, long_shift: LongShift) -> Option<u32> {
    let shift = |by: fn(u32, u32) -> u32| {
        if b >= 32 && long_shift == LongShift::Zero {
            0
        } else {
            by(a, b)
        }
    };
    Some(match op {
        AluOp::Add => a.wrapping_add(b),
        AluOp::Sub => a.wrapping_sub(b),
        AluOp::Mul => a.wrapping_mul(b),
        AluOp::Div => a.checked_div(b)?,
        AluOp::Mod => a.checked_rem(b)?,
        AluOp::And => a & b,
        AluOp::Or => a | b,
        AluOp::Xor => a ^ b,
        AluOp::Lsh => shift(u32::wrapping_shl),
        AluOp::Rsh => shift(u32::wrapping_shr),
    })
}

/// The value of an ancillary load.
fn ancillary(packet: &Packet<'_>, offset: u32, a: u32, x: u32) -> Option<u32> {
    match Ancillary::of_offset(offset)? {
        Ancillary::AluXorX => Some(a ^ x),
        Ancillary::NlAttr => Some(netlink_attribute(packet.bytes, a, x)),
        Ancillary::NlAttrNest => Some(nested_attribute(packet.bytes, a, x)),
        _ => packet.ancillaries.get(offset),
    }
}

/// Bytes of a netlink attribute's header.
const NLATTR_HEADER: usize = 4;

/// The netlink attribute at an offset: its length and type, host byte order.
fn attribute_header(bytes: &[u8], at: usize) -> Option<(usize, u32)> {
    let header: &[u8; NLATTR_HEADER] = bytes.get(at..)?.first_chunk()?;
    let length = u16::from_ne_bytes([header[0], header[1]]);
    let kind = u16::from_ne_bytes([header[2], header[3]]);
    Some((usize::from(length), u32::from(kind)))
}

/// Offset of the first attribute of type `x` from offset `a` on; 0 if there is none.
fn netlink_attribute(bytes: &[u8], a: u32, x: u32) -> u32 {
    find_attribute(bytes, a as usize, bytes.len(), x)
}

/// Offset of the first attribute of type `x` inside the attribute at `a`; 0 if there is none.
fn nested_attribute(bytes: &[u8], a: u32, x: u32) -> u32 {
    let at = a as usize;
    match attribute_header(bytes, at) {
        Some((length, _)) if length >= NLATTR_HEADER && length <= bytes.len() - at => {
            find_attribute(bytes, at + NLATTR_HEADER, at + length, x)
        }
        _ => 0,
    }
}

fn find_attribute(bytes: &[u8], from: usize, end: usize, x: u32) -> u32 {
    const TYPE_MASK: u32 = 0x3fff;
    let mut at = from;
    while let Some((length, kind)) = attribute_header(bytes, at) {
        if length < NLATTR_HEADER || length > end.saturating_sub(at) {
            break;
        }
        if kind & TYPE_MASK == x {
            return u32::try_from(at).unwrap_or(0);
        }
        at += length.next_multiple_of(4);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (&'static [(u16, u32)], Option<u32>);

    /// Instructions before a final `ret a`, and what they leave in A for the packet 45 00 01 02 …; None: rejected.
    #[rustfmt::skip] // one program per line
    const CASES: &[Row] = &[
        (&[(0x20, 0)], Some(0x4500_0102)),
        (&[(0x28, 2)], Some(0x0102)),
        (&[(0x30, 7)], Some(7)),
        (&[(0x30, 8)], None),
        (&[(0x20, 5)], None),
        (&[(0xb1, 0), (0x87, 0)], Some(20)),
        (&[(0x01, 3), (0x50, 4)], Some(7)),
        (&[(0x01, 3), (0x50, 5)], None),
        (&[(0x01, u32::MAX), (0x50, 5)], None),
        (&[(0x80, 0)], Some(100)),
        (&[(0x00, 7), (0x01, 0), (0x3c, 0)], None),
        (&[(0x00, 7), (0x01, 0), (0x9c, 0)], None),
        (&[(0x00, 7), (0x01, 33), (0x6c, 0)], Some(14)),
        (&[(0x00, 7), (0x84, 0)], Some(u32::MAX - 6)),
        (&[(0x00, 7), (0x01, 5), (0x20, SKF_AD_OFF + 40)], Some(2)),
        (&[(0x20, SKF_AD_OFF + 8)], Some(3)),
        (&[(0x20, SKF_AD_OFF + 20)], None),
        (&[(0x30, SKF_LL_OFF)], Some(0x45)),
        (&[(0x30, SKF_NET_OFF + 1)], Some(2)),
    ];

    #[test]
    fn instructions() {
        let bytes = [0x45, 0, 1, 2, 4, 5, 6, 7];
        let ancillaries = Ancillaries {
            network_offset: Some(2),
            ..Ancillaries::default().with(Ancillary::IfIndex, 3)
        };
        for (rows, expected) in CASES {
            let mut insns: Vec<Insn> = rows
                .iter()
                .map(|&(code, k)| Insn {
                    code,
                    jt: 0,
                    jf: 0,
                    k,
                })
                .collect();
            insns.push(Insn::new(0x16, 0));
            let program = Program::new(&insns, LongShift::Modulo).unwrap();
            let packet = Packet {
                bytes: &bytes,
                wire_len: 100,
                ancillaries: &ancillaries,
            };
            assert_eq!(program.run(&packet), expected.unwrap_or(0), "{rows:x?}");
        }
    }

    #[test]
    fn netlink_attributes_are_found() {
        let mut bytes = alloc::vec![8, 0, 1, 0, 9, 9, 9, 9];
        bytes.extend([12, 0, 2, 0, 8, 0, 5, 0, 1, 1, 1, 1]);
        assert_eq!(netlink_attribute(&bytes, 0, 2), 8);
        assert_eq!(nested_attribute(&bytes, 8, 5), 12);
        assert_eq!(netlink_attribute(&bytes, 0, 5), 0);
    }
}
