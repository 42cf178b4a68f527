//! The x86-64 encoder: instructions to bytes, labels to displacements, symbols to relocations.
//!
//! One method an instruction form. Operand order is Intel's: destination first. Sources: AMD64 Architecture Programmer's
//! Manual volume 3 (general purpose) and volume 4 (VEX).

mod vex;

pub(crate) use vex::{VexOp, Xmm};

use crate::jit::image::{Reloc, Symbol};

/// A general purpose register by its hardware number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Gpr(pub(crate) u8);

#[rustfmt::skip]
impl Gpr {
    pub(crate) const RAX: Self = Self(0);
    pub(crate) const RCX: Self = Self(1);
    pub(crate) const RDX: Self = Self(2);
    pub(crate) const RBX: Self = Self(3);
    pub(crate) const RSP: Self = Self(4);
    pub(crate) const RBP: Self = Self(5);
    pub(crate) const RSI: Self = Self(6);
    pub(crate) const RDI: Self = Self(7);
    pub(crate) const R8: Self = Self(8);
    pub(crate) const R9: Self = Self(9);
    pub(crate) const R10: Self = Self(10);
    pub(crate) const R11: Self = Self(11);
    pub(crate) const R12: Self = Self(12);
    pub(crate) const R13: Self = Self(13);
    pub(crate) const R14: Self = Self(14);
    pub(crate) const R15: Self = Self(15);

    const fn low(self) -> u8 { self.0 & 7 }
    const fn high(self) -> bool { self.0 >= 8 }
}

/// Operand width of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum W {
    /// 32 bits; the upper half of a destination register becomes zero.
    D,
    /// 64 bits.
    Q,
}

/// A memory operand: `base + index * scale + disp`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Addr {
    pub(crate) base: Option<Gpr>,
    /// Index register and the logarithm of its scale (0–3).
    pub(crate) index: Option<(Gpr, u8)>,
    pub(crate) disp: i32,
}

impl Addr {
    pub(crate) const fn base(base: Gpr, disp: i32) -> Self {
        Self {
            base: Some(base),
            index: None,
            disp,
        }
    }

    pub(crate) const fn indexed(base: Gpr, index: Gpr, shift: u8, disp: i32) -> Self {
        Self {
            base: Some(base),
            index: Some((index, shift)),
            disp,
        }
    }
}

/// The operand of a ModRM byte that may be memory.
#[derive(Clone, Copy)]
enum Rm {
    Reg(Gpr),
    Mem(Addr),
}

/// Two-operand arithmetic by its number in opcode group 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Alu {
    Add = 0,
    Or = 1,
    And = 4,
    Sub = 5,
    Xor = 6,
    Cmp = 7,
}

/// Shifts and rotates by their number in opcode group 2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Shift {
    Rol = 0,
    Shl = 4,
    Shr = 5,
    Sar = 7,
}

/// Conditions by their hardware number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Cond {
    B = 2,
    Ae = 3,
    E = 4,
    Ne = 5,
    Be = 6,
    A = 7,
    S = 8,
    Ns = 9,
    L = 12,
    Ge = 13,
    Le = 14,
    G = 15,
}

impl Cond {
    /// The opposite condition.
    pub(crate) const fn not(self) -> Self {
        match self {
            Self::B => Self::Ae,
            Self::Ae => Self::B,
            Self::E => Self::Ne,
            Self::Ne => Self::E,
            Self::Be => Self::A,
            Self::A => Self::Be,
            Self::S => Self::Ns,
            Self::Ns => Self::S,
            Self::L => Self::Ge,
            Self::Ge => Self::L,
            Self::Le => Self::G,
            Self::G => Self::Le,
        }
    }
}

/// How many bytes an access moves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Bytes {
    B1,
    B2,
    B4,
    B8,
}

/// A place in the code, bound or still to be bound.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Label(pub(crate) u32);

const UNBOUND: u32 = u32::MAX;

/// A displacement that waits for its label.
#[derive(Clone, Copy)]
struct Fixup {
    at: u32,
    label: Label,
    short: bool,
}

/// A jump-table entry that waits for its label: `label - base`, 32 bits.
#[derive(Clone, Copy)]
struct TableEntry {
    at: u32,
    base: u32,
    label: Label,
}

/// Collects the bytes of an image.
#[derive(Default)]
pub(crate) struct Asm {
    pub(crate) code: Vec<u8>,
    pub(crate) relocs: Vec<Reloc>,
    labels: Vec<u32>,
    fixups: Vec<Fixup>,
    entries: Vec<TableEntry>,
    /// Which jumps (in order of emission) are known to be short; from a previous pass over the same instructions.
    short: Vec<bool>,
    jumps: usize,
}

/// A short jump did not reach its label: the caller emits again without the guess.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OutOfReach;

/// Distance that a jump may have in a first pass to be short in the second: alignment may add a little.
const SHORT_REACH: i64 = 96;

impl Asm {
    /// Starts a second pass that knows which jumps were near in `first`.
    pub(crate) fn second_pass(first: &Self) -> Self {
        let short = first
            .fixups
            .iter()
            .map(|f| {
                let target = i64::from(first.labels[f.label.0 as usize]);
                (target - i64::from(f.at)).abs() < SHORT_REACH
            })
            .collect();
        Self {
            short,
            ..Self::default()
        }
    }

    pub(crate) fn here(&self) -> u32 {
        u32::try_from(self.code.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn new_label(&mut self) -> Label {
        self.labels.push(UNBOUND);
        Label(u32::try_from(self.labels.len() - 1).unwrap_or(UNBOUND))
    }

    pub(crate) fn bind(&mut self, label: Label) {
        self.labels[label.0 as usize] = self.here();
    }

    pub(crate) fn offset_of(&self, label: Label) -> u32 {
        self.labels[label.0 as usize]
    }

    /// Resolves all labels.
    pub(crate) fn finish(&mut self) -> Result<(), OutOfReach> {
        for f in &self.fixups {
            let at = f.at as usize;
            let target = i64::from(self.labels[f.label.0 as usize]);
            if f.short {
                let d = i8::try_from(target - (f.at as i64 + 1)).map_err(|_| OutOfReach)?;
                self.code[at] = d.cast_unsigned();
            } else {
                let d = i32::try_from(target - (f.at as i64 + 4)).map_err(|_| OutOfReach)?;
                self.code[at..at + 4].copy_from_slice(&d.to_le_bytes());
            }
        }
        for e in &self.entries {
            let d = self.labels[e.label.0 as usize].wrapping_sub(e.base);
            let at = e.at as usize;
            self.code[at..at + 4].copy_from_slice(&d.to_le_bytes());
        }
        Ok(())
    }

    fn byte(&mut self, b: u8) {
        self.code.push(b);
    }

    fn imm32(&mut self, v: i32) {
        self.code.extend_from_slice(&v.to_le_bytes());
    }

    fn rex(&mut self, w: W, reg: u8, rm: Rm, force: bool) {
        let (x, b) = match rm {
            Rm::Reg(r) => (false, r.high()),
            Rm::Mem(m) => (
                m.index.is_some_and(|(i, _)| i.high()),
                m.base.is_some_and(Gpr::high),
            ),
        };
        let rex = 0x40
            | u8::from(w == W::Q) << 3
            | u8::from(reg >= 8) << 2
            | u8::from(x) << 1
            | u8::from(b);
        if rex != 0x40 || force {
            self.byte(rex);
        }
    }

    fn modrm(&mut self, reg: u8, rm: Rm) {
        let reg = (reg & 7) << 3;
        match rm {
            Rm::Reg(r) => self.byte(0xc0 | reg | r.low()),
            Rm::Mem(m) => self.modrm_mem(reg, m),
        }
    }

    fn modrm_mem(&mut self, reg: u8, m: Addr) {
        let Some(base) = m.base else {
            let (index, shift) = m.index.unwrap_or((Gpr::RSP, 0));
            self.byte(reg | 4);
            self.byte(shift << 6 | index.low() << 3 | 5);
            return self.imm32(m.disp);
        };
        let short = i8::try_from(m.disp);
        let mode = match short {
            Ok(0) if base.low() != 5 => 0,
            Ok(_) => 0x40,
            Err(_) => 0x80,
        };
        match m.index {
            Some((index, shift)) => {
                self.byte(mode | reg | 4);
                self.byte(shift << 6 | index.low() << 3 | base.low());
            }
            None if base.low() == 4 => {
                self.byte(mode | reg | 4);
                self.byte(0x24);
            }
            None => self.byte(mode | reg | base.low()),
        }
        match (mode, short) {
            (0x40, Ok(d)) => self.byte(d.cast_unsigned()),
            (0x80, _) => self.imm32(m.disp),
            _ => {}
        }
    }

    fn op(&mut self, w: W, opcode: &[u8], reg: u8, rm: Rm) {
        self.rex(w, reg, rm, false);
        self.code.extend_from_slice(opcode);
        self.modrm(reg, rm);
    }

    fn op_prefixed(&mut self, prefix: u8, w: W, opcode: &[u8], reg: u8, rm: Rm) {
        self.byte(prefix);
        self.op(w, opcode, reg, rm);
    }

    // Moves.

    pub(crate) fn mov_rr(&mut self, w: W, dst: Gpr, src: Gpr) {
        self.op(w, &[0x8b], dst.0, Rm::Reg(src));
    }

    /// The shortest move of a constant that keeps the flags.
    pub(crate) fn mov_ri(&mut self, dst: Gpr, value: u64) {
        if let Ok(v) = u32::try_from(value) {
            self.rex(W::D, 0, Rm::Reg(dst), false);
            self.byte(0xb8 | dst.low());
            self.imm32(v.cast_signed());
        } else if let Ok(v) = i32::try_from(value.cast_signed()) {
            self.op(W::Q, &[0xc7], 0, Rm::Reg(dst));
            self.imm32(v);
        } else {
            self.rex(W::Q, 0, Rm::Reg(dst), false);
            self.byte(0xb8 | dst.low());
            self.code.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// `dst = 0`; changes the flags.
    pub(crate) fn zero(&mut self, dst: Gpr) {
        self.alu_rr(Alu::Xor, W::D, dst, dst);
    }

    /// `dst =` the address of a symbol, filled in by the linker.
    pub(crate) fn mov_symbol(&mut self, dst: Gpr, symbol: Symbol) {
        self.rex(W::Q, 0, Rm::Reg(dst), false);
        self.byte(0xb8 | dst.low());
        self.relocs.push(Reloc {
            at: self.here(),
            symbol,
        });
        self.code.extend_from_slice(&[0; 8]);
    }

    pub(crate) fn load(&mut self, size: Bytes, dst: Gpr, m: Addr) {
        let rm = Rm::Mem(m);
        match size {
            Bytes::B1 => self.op(W::D, &[0x0f, 0xb6], dst.0, rm),
            Bytes::B2 => self.op(W::D, &[0x0f, 0xb7], dst.0, rm),
            Bytes::B4 => self.op(W::D, &[0x8b], dst.0, rm),
            Bytes::B8 => self.op(W::Q, &[0x8b], dst.0, rm),
        }
    }

    /// A sign-extending load to `w` bits.
    pub(crate) fn load_signed(&mut self, size: Bytes, w: W, dst: Gpr, m: Addr) {
        self.movsx(size, w, dst, Rm::Mem(m));
    }

    pub(crate) fn store(&mut self, size: Bytes, m: Addr, src: Gpr) {
        let rm = Rm::Mem(m);
        match size {
            Bytes::B1 => {
                self.rex(W::D, src.0, rm, src.0 >= 4);
                self.byte(0x88);
                self.modrm(src.0, rm);
            }
            Bytes::B2 => self.op_prefixed(0x66, W::D, &[0x89], src.0, rm),
            Bytes::B4 => self.op(W::D, &[0x89], src.0, rm),
            Bytes::B8 => self.op(W::Q, &[0x89], src.0, rm),
        }
    }

    pub(crate) fn store_imm(&mut self, size: Bytes, m: Addr, imm: i32) {
        let rm = Rm::Mem(m);
        let [b0, b1, ..] = imm.to_le_bytes();
        match size {
            Bytes::B1 => {
                self.op(W::D, &[0xc6], 0, rm);
                self.byte(b0);
            }
            Bytes::B2 => {
                self.op_prefixed(0x66, W::D, &[0xc7], 0, rm);
                self.byte(b0);
                self.byte(b1);
            }
            Bytes::B4 => {
                self.op(W::D, &[0xc7], 0, rm);
                self.imm32(imm);
            }
            Bytes::B8 => {
                self.op(W::Q, &[0xc7], 0, rm);
                self.imm32(imm);
            }
        }
    }

    pub(crate) fn lea(&mut self, w: W, dst: Gpr, m: Addr) {
        self.op(w, &[0x8d], dst.0, Rm::Mem(m));
    }

    /// `dst =` the address of a label.
    pub(crate) fn lea_label(&mut self, dst: Gpr, label: Label) {
        self.rex(W::Q, dst.0, Rm::Reg(Gpr::RAX), false);
        self.byte(0x8d);
        self.byte((dst.low() << 3) | 5);
        self.rel32(label);
    }

    /// Zero extension from a part of a register.
    pub(crate) fn movzx(&mut self, size: Bytes, dst: Gpr, src: Gpr) {
        let rm = Rm::Reg(src);
        match size {
            Bytes::B1 => {
                self.rex(W::D, dst.0, rm, src.0 >= 4);
                self.code.extend_from_slice(&[0x0f, 0xb6]);
                self.modrm(dst.0, rm);
            }
            Bytes::B2 => self.op(W::D, &[0x0f, 0xb7], dst.0, rm),
            Bytes::B4 => self.mov_rr(W::D, dst, src),
            Bytes::B8 => self.mov_rr(W::Q, dst, src),
        }
    }

    /// Sign extension from a part of a register to `w` bits.
    pub(crate) fn movsx_rr(&mut self, size: Bytes, w: W, dst: Gpr, src: Gpr) {
        self.movsx(size, w, dst, Rm::Reg(src));
    }

    fn movsx(&mut self, size: Bytes, w: W, dst: Gpr, rm: Rm) {
        match size {
            Bytes::B1 => {
                let force = matches!(rm, Rm::Reg(r) if r.0 >= 4);
                self.rex(w, dst.0, rm, force);
                self.code.extend_from_slice(&[0x0f, 0xbe]);
                self.modrm(dst.0, rm);
            }
            Bytes::B2 => self.op(w, &[0x0f, 0xbf], dst.0, rm),
            Bytes::B4 if w == W::Q => self.op(W::Q, &[0x63], dst.0, rm),
            Bytes::B4 => self.op(W::D, &[0x8b], dst.0, rm),
            Bytes::B8 => self.op(W::Q, &[0x8b], dst.0, rm),
        }
    }

    // Arithmetic.

    pub(crate) fn alu_rr(&mut self, op: Alu, w: W, dst: Gpr, src: Gpr) {
        self.op(w, &[(op as u8) << 3 | 3], dst.0, Rm::Reg(src));
    }

    pub(crate) fn alu_rm(&mut self, op: Alu, w: W, dst: Gpr, src: Addr) {
        self.op(w, &[(op as u8) << 3 | 3], dst.0, Rm::Mem(src));
    }

    pub(crate) fn alu_ri(&mut self, op: Alu, w: W, dst: Gpr, imm: i32) {
        self.group1(op, w, Rm::Reg(dst), imm);
    }

    /// `op size [m], imm` for 4 and 8 bytes.
    pub(crate) fn alu_mi(&mut self, op: Alu, w: W, m: Addr, imm: i32) {
        self.group1(op, w, Rm::Mem(m), imm);
    }

    pub(crate) fn alu_mr(&mut self, op: Alu, w: W, m: Addr, src: Gpr) {
        self.op(w, &[(op as u8) << 3 | 1], src.0, Rm::Mem(m));
    }

    fn group1(&mut self, op: Alu, w: W, rm: Rm, imm: i32) {
        if let Ok(b) = i8::try_from(imm) {
            self.op(w, &[0x83], op as u8, rm);
            self.byte(b.cast_unsigned());
        } else if matches!(rm, Rm::Reg(Gpr::RAX)) {
            self.rex(w, 0, Rm::Reg(Gpr::RAX), false);
            self.byte((op as u8) << 3 | 5);
            self.imm32(imm);
        } else {
            self.op(w, &[0x81], op as u8, rm);
            self.imm32(imm);
        }
    }

    pub(crate) fn test_rr(&mut self, w: W, a: Gpr, b: Gpr) {
        self.op(w, &[0x85], b.0, Rm::Reg(a));
    }

    pub(crate) fn test_ri(&mut self, w: W, a: Gpr, imm: i32) {
        if (0..0x80).contains(&imm) {
            self.rex(W::D, 0, Rm::Reg(a), a.0 >= 4);
            self.byte(0xf6);
            self.modrm(0, Rm::Reg(a));
            self.byte(imm.to_le_bytes()[0]);
        } else {
            self.op(w, &[0xf7], 0, Rm::Reg(a));
            self.imm32(imm);
        }
    }

    /// `bt a, bit`: the carry flag becomes the bit.
    pub(crate) fn bt_ri(&mut self, a: Gpr, bit: u8) {
        self.op(W::Q, &[0x0f, 0xba], 4, Rm::Reg(a));
        self.byte(bit);
    }

    pub(crate) fn neg(&mut self, w: W, dst: Gpr) {
        self.op(w, &[0xf7], 3, Rm::Reg(dst));
    }

    pub(crate) fn not(&mut self, w: W, dst: Gpr) {
        self.op(w, &[0xf7], 2, Rm::Reg(dst));
    }

    /// `rdx:rax / src` to quotient in `rax` and remainder in `rdx`.
    pub(crate) fn div(&mut self, w: W, src: Gpr) {
        self.op(w, &[0xf7], 6, Rm::Reg(src));
    }

    pub(crate) fn idiv(&mut self, w: W, src: Gpr) {
        self.op(w, &[0xf7], 7, Rm::Reg(src));
    }

    /// `rdx:rax =` sign extension of `rax`.
    pub(crate) fn sign_to_rdx(&mut self, w: W) {
        self.rex(w, 0, Rm::Reg(Gpr::RAX), false);
        self.byte(0x99);
    }

    pub(crate) fn imul_rr(&mut self, w: W, dst: Gpr, src: Gpr) {
        self.op(w, &[0x0f, 0xaf], dst.0, Rm::Reg(src));
    }

    pub(crate) fn imul_rri(&mut self, w: W, dst: Gpr, src: Gpr, imm: i32) {
        if let Ok(b) = i8::try_from(imm) {
            self.op(w, &[0x6b], dst.0, Rm::Reg(src));
            self.byte(b.cast_unsigned());
        } else {
            self.op(w, &[0x69], dst.0, Rm::Reg(src));
            self.imm32(imm);
        }
    }

    pub(crate) fn shift_ri(&mut self, op: Shift, w: W, dst: Gpr, count: u8) {
        if count == 1 {
            self.op(w, &[0xd1], op as u8, Rm::Reg(dst));
        } else {
            self.op(w, &[0xc1], op as u8, Rm::Reg(dst));
            self.byte(count);
        }
    }

    /// Shift by `cl`.
    pub(crate) fn shift_rcl(&mut self, op: Shift, w: W, dst: Gpr) {
        self.op(w, &[0xd3], op as u8, Rm::Reg(dst));
    }

    /// `ror word dst, 8`: swaps the two lower bytes.
    pub(crate) fn swap16(&mut self, dst: Gpr) {
        self.op_prefixed(0x66, W::D, &[0xc1], 1, Rm::Reg(dst));
        self.byte(8);
    }

    pub(crate) fn bswap(&mut self, w: W, dst: Gpr) {
        self.rex(w, 0, Rm::Reg(dst), false);
        self.byte(0x0f);
        self.byte(0xc8 | dst.low());
    }

    /// `tzcnt dst, src` (BMI1)
    pub(crate) fn tzcnt(&mut self, w: W, dst: Gpr, src: Gpr) {
        self.op_prefixed(0xf3, w, &[0x0f, 0xbc], dst.0, Rm::Reg(src));
    }

    pub(crate) fn cmov(&mut self, cond: Cond, w: W, dst: Gpr, src: Gpr) {
        self.op(w, &[0x0f, 0x40 | cond as u8], dst.0, Rm::Reg(src));
    }

    // BMI2, three operands, flags untouched.

    /// `shlx`, `shrx` or `sarx`: `dst = src op count`.
    pub(crate) fn shift_x(&mut self, op: Shift, w: W, dst: Gpr, src: Gpr, count: Gpr) {
        let pp = match op {
            Shift::Shl => 1,
            Shift::Shr => 3,
            _ => 2,
        };
        self.vex_rm(
            VexOp {
                map: 2,
                pp,
                opcode: 0xf7,
                w: w == W::Q,
                long: false,
            },
            dst.0,
            count.0,
            Rm::Reg(src),
        );
    }

    pub(crate) fn rorx(&mut self, w: W, dst: Gpr, src: Gpr, count: u8) {
        self.vex_rm(
            VexOp {
                map: 3,
                pp: 3,
                opcode: 0xf0,
                w: w == W::Q,
                long: false,
            },
            dst.0,
            0,
            Rm::Reg(src),
        );
        self.byte(count);
    }

    // Atomics.

    /// `lock op [m], src`
    pub(crate) fn lock_alu(&mut self, op: Alu, w: W, m: Addr, src: Gpr) {
        self.byte(0xf0);
        self.alu_mr(op, w, m, src);
    }

    pub(crate) fn lock_xadd(&mut self, w: W, m: Addr, src: Gpr) {
        self.byte(0xf0);
        self.op(w, &[0x0f, 0xc1], src.0, Rm::Mem(m));
    }

    pub(crate) fn lock_cmpxchg(&mut self, w: W, m: Addr, src: Gpr) {
        self.byte(0xf0);
        self.op(w, &[0x0f, 0xb1], src.0, Rm::Mem(m));
    }

    pub(crate) fn xchg_mr(&mut self, w: W, m: Addr, src: Gpr) {
        self.op(w, &[0x87], src.0, Rm::Mem(m));
    }

    pub(crate) fn lfence(&mut self) {
        self.code.extend_from_slice(&[0x0f, 0xae, 0xe8]);
    }

    // Control.

    pub(crate) fn push(&mut self, r: Gpr) {
        self.rex(W::D, 0, Rm::Reg(r), false);
        self.byte(0x50 | r.low());
    }

    pub(crate) fn pop(&mut self, r: Gpr) {
        self.rex(W::D, 0, Rm::Reg(r), false);
        self.byte(0x58 | r.low());
    }

    pub(crate) fn ret(&mut self) {
        self.byte(0xc3);
    }

    pub(crate) fn ud2(&mut self) {
        self.code.extend_from_slice(&[0x0f, 0x0b]);
    }

    pub(crate) fn call_r(&mut self, r: Gpr) {
        self.op(W::D, &[0xff], 2, Rm::Reg(r));
    }

    pub(crate) fn jmp_r(&mut self, r: Gpr) {
        self.op(W::D, &[0xff], 4, Rm::Reg(r));
    }

    pub(crate) fn call_label(&mut self, label: Label) {
        self.byte(0xe8);
        self.rel32(label);
    }

    pub(crate) fn jmp(&mut self, label: Label) {
        if self.next_is_short(label) {
            self.byte(0xeb);
            self.rel8(label);
        } else {
            self.byte(0xe9);
            self.rel32(label);
        }
    }

    pub(crate) fn jcc(&mut self, cond: Cond, label: Label) {
        if self.next_is_short(label) {
            self.byte(0x70 | cond as u8);
            self.rel8(label);
        } else {
            self.byte(0x0f);
            self.byte(0x80 | cond as u8);
            self.rel32(label);
        }
    }

    /// True if a jump emitted here is known to reach `label` with 8 bits.
    fn next_is_short(&self, label: Label) -> bool {
        match self.labels[label.0 as usize] {
            UNBOUND => self.short.get(self.jumps).copied().unwrap_or(false),
            to => i64::from(self.here()) - i64::from(to) < 120,
        }
    }

    fn rel8(&mut self, label: Label) {
        self.fixup(label, true);
        self.byte(0);
    }

    fn rel32(&mut self, label: Label) {
        self.fixup(label, false);
        self.imm32(0);
    }

    fn fixup(&mut self, label: Label, short: bool) {
        self.fixups.push(Fixup {
            at: self.here(),
            label,
            short,
        });
        self.jumps += 1;
    }

    /// A 32-bit table entry: the distance of `label` from `base`.
    pub(crate) fn table_entry(&mut self, base: Label, label: Label) {
        self.entries.push(TableEntry {
            at: self.here(),
            base: self.offset_of(base),
            label,
        });
        self.imm32(0);
    }

    /// Pads with the fewest no-ops to a multiple of `to` (a power of two).
    pub(crate) fn align(&mut self, to: usize) {
        let mut pad = self.code.len().wrapping_neg() & (to - 1);
        while pad > 0 {
            let n = pad.min(9);
            self.code.extend_from_slice(NOPS[n - 1]);
            pad -= n;
        }
    }
}

/// The recommended no-ops of 1 to 9 bytes.
const NOPS: [&[u8]; 9] = [
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];
