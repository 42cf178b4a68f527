//! The 8-byte unit of a program.

use crate::insn::Reg;

/// One 8-byte instruction slot, fields as in RFC 9669 §3.1; a wide instruction takes two.
///
/// ```
/// use skep_isa::{Insn, Slot, decode};
///
/// let exit = Slot::new(0x95, 0, 0, 0, 0);
/// assert_eq!(decode(&[exit], 0), Ok(Insn::Exit));
/// assert_eq!(Slot::from_le_bytes(exit.to_le_bytes()), exit);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct Slot {
    /// Opcode: class, and code + source or mode + size.
    pub code: u8,
    /// `dst` in the low nibble, `src` in the high one (little-endian layout).
    pub regs: u8,
    /// Signed offset.
    pub offset: i16,
    /// Signed immediate.
    pub imm: i32,
}

impl Slot {
    /// Builds a slot from its five fields; register numbers are cut to 4 bits.
    #[must_use]
    pub const fn new(code: u8, dst: u8, src: u8, offset: i16, imm: i32) -> Self {
        Self {
            code,
            regs: (dst & 0xf) | (src << 4),
            offset,
            imm,
        }
    }

    /// The raw `dst` field, 0–15.
    #[must_use]
    pub const fn dst(self) -> u8 {
        self.regs & 0xf
    }

    /// The raw `src` field, 0–15.
    #[must_use]
    pub const fn src(self) -> u8 {
        self.regs >> 4
    }

    /// The `dst` field as a register, if it names one.
    #[must_use]
    pub const fn dst_reg(self) -> Option<Reg> {
        Reg::new(self.dst())
    }

    /// The `src` field as a register, if it names one.
    #[must_use]
    pub const fn src_reg(self) -> Option<Reg> {
        Reg::new(self.src())
    }

    /// Reads a slot of a little-endian object.
    #[must_use]
    pub const fn from_le_bytes(b: [u8; 8]) -> Self {
        Self {
            code: b[0],
            regs: b[1],
            offset: i16::from_le_bytes([b[2], b[3]]),
            imm: i32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        }
    }

    /// Reads a slot of a big-endian object, where the register nibbles are swapped as well.
    #[must_use]
    pub const fn from_be_bytes(b: [u8; 8]) -> Self {
        Self {
            code: b[0],
            regs: b[1].rotate_left(4),
            offset: i16::from_be_bytes([b[2], b[3]]),
            imm: i32::from_be_bytes([b[4], b[5], b[6], b[7]]),
        }
    }

    /// The little-endian bytes of the slot.
    #[must_use]
    pub const fn to_le_bytes(self) -> [u8; 8] {
        let (o, i) = (self.offset.to_le_bytes(), self.imm.to_le_bytes());
        [self.code, self.regs, o[0], o[1], i[0], i[1], i[2], i[3]]
    }

    /// The big-endian bytes of the slot.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 8] {
        let (o, i) = (self.offset.to_be_bytes(), self.imm.to_be_bytes());
        [
            self.code,
            self.regs.rotate_left(4),
            o[0],
            o[1],
            i[0],
            i[1],
            i[2],
            i[3],
        ]
    }

    /// True for the first slot of a wide instruction (`lddw`).
    #[must_use]
    pub const fn is_wide(self) -> bool {
        self.code == crate::opcode::LDDW
    }
}
