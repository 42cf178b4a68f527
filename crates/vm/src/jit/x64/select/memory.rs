//! Selection of memory accesses and addresses.

use super::{NO_USER, Selector};
use crate::jit::ir::{BinOp, Inst, Place, Value};
use crate::jit::x64::asm::{Alu, Gpr, W};
use crate::jit::x64::baseline::{access_width, bytes};
use crate::jit::x64::mach::{Base, MInst, Mem, Operand, VReg};
use skep_isa::{AtomicOp, Extend, Size, Width};

/// A byte of the frame.
pub(super) const fn frame(at: i32) -> Mem {
    Mem {
        base: Base::Frame,
        index: None,
        disp: at,
    }
}

impl Selector<'_> {
    /// The address of a place, with what can be folded into it.
    fn address(&mut self, place: Place) -> Mem {
        let (base, offset) = (place.base, place.offset);
        if let Inst::FrameAddr(at) = *self.g.inst(base) {
            return frame(at + offset);
        }
        if let Inst::Bin(BinOp::Add, Width::W64, a, b) = *self.g.inst(base)
            && self.folds(base)
        {
            return self.indexed(a, b, offset);
        }
        Mem::reg(self.reg(base), offset)
    }

    /// True if an address computation is better repeated in its users: it is in the same loop, or in no register anyway.
    fn folds(&self, v: Value) -> bool {
        let depth = |b| self.shape.depth[crate::jit::ir::Block::index(b)];
        depth(self.homes[v.index()]) == depth(self.block)
            && self.g.constant(second(self.g.inst(v))).is_none()
    }

    /// `a + b + offset`, either of them scaled if it is a shift by up to 3.
    fn indexed(&mut self, a: Value, b: Value, mut offset: i32) -> Mem {
        for (base, index) in [(a, b), (b, a)] {
            if let Inst::FrameAddr(at) = *self.g.inst(base) {
                let index = self.scaled(index);
                return Mem {
                    base: Base::Frame,
                    index: Some(index),
                    disp: at + offset,
                };
            }
        }
        let (mut base, mut index) = if self.shift_of(a).is_some() {
            (b, a)
        } else {
            (a, b)
        };
        // One more constant inside.
        for v in [&mut base, &mut index] {
            if let Inst::Bin(BinOp::Add, Width::W64, x, c) = *self.g.inst(*v)
                && let Some(c) = self.g.constant(c)
                && let Ok(c) = i32::try_from(c.cast_signed())
                && let Some(sum) = offset.checked_add(c)
                && self.uses[v.index()] == 1
            {
                *v = x;
                offset = sum;
            }
        }
        if let Inst::FrameAddr(at) = *self.g.inst(base) {
            let index = self.scaled(index);
            return Mem {
                base: Base::Frame,
                index: Some(index),
                disp: at + offset,
            };
        }
        let base = Base::Reg(self.reg(base));
        Mem {
            base,
            index: Some(self.scaled(index)),
            disp: offset,
        }
    }

    fn shift_of(&self, v: Value) -> Option<(Value, u8)> {
        match *self.g.inst(v) {
            Inst::Bin(BinOp::Shl, Width::W64, x, k) if self.homes[v.index()] == self.block => {
                let k = self.g.constant(k).filter(|k| (1..=3).contains(k))?;
                Some((x, k as u8))
            }
            // A 32-bit shift that loses nothing.
            Inst::Bin(BinOp::Shl, Width::W32, x, k) if self.homes[v.index()] == self.block => {
                let k = self.g.constant(k).filter(|k| (1..=3).contains(k))?;
                (self.zeros[x.index()] | 0x1fff_ffff == u64::MAX).then_some((x, k as u8))
            }
            _ => None,
        }
    }

    fn scaled(&mut self, v: Value) -> (VReg, u8) {
        match self.shift_of(v) {
            Some((x, k)) => (self.reg(x), k),
            None => (self.reg(v), 0),
        }
    }

    /// The address of a load that `user` may make itself.
    pub(super) fn folded_load(&mut self, w: W, user: Value, v: Value) -> Option<Mem> {
        if user == NO_USER || self.uses[v.index()] != 1 || self.homes[v.index()] != self.block {
            return None;
        }
        let Inst::Load {
            size,
            extend: Extend::Zero,
            place,
        } = *self.g.inst(v)
        else {
            return None;
        };
        let fits = matches!((w, size), (W::Q, Size::DW) | (W::D, Size::W | Size::DW));
        let same_memory = self.homes[user.index()] == self.block
            && self.epochs[v.index()] == self.epochs[user.index()];
        (fits && same_memory && !place.may_fault && !place.ordered).then(|| self.address(place))
    }

    pub(super) fn load(&mut self, v: Value, size: Size, extend: Extend, place: Place) {
        let dst = self.def(v);
        let mem = self.address(place);
        let may_fault = place.may_fault;
        let size = bytes(size);
        match extend {
            Extend::Zero => self.emit(MInst::Load {
                size,
                dst,
                mem,
                may_fault,
            }),
            Extend::Sign => self.emit(MInst::LoadSigned {
                size,
                dst,
                mem,
                may_fault,
            }),
        }
    }

    pub(super) fn acquire(&mut self, v: Value, size: Size, place: Place, old: Value) {
        let (dst, mem, size) = (self.def(v), self.address(place), bytes(size));
        self.put(dst, old);
        self.emit(MInst::LoadOver { size, dst, mem });
    }

    pub(super) fn store(&mut self, v: Value, size: Size, place: Place, value: Value) {
        if self.update(v, size, place, value) {
            return;
        }
        let may_fault = place.may_fault;
        let imm = self.g.constant(value).and_then(|c| match size {
            Size::DW => i32::try_from(c.cast_signed()).ok(),
            _ => Some((c as u32).cast_signed()),
        });
        let size = bytes(size);
        match imm {
            Some(imm) => {
                let mem = self.address(place);
                self.emit(MInst::StoreImm {
                    size,
                    mem,
                    imm,
                    may_fault,
                });
            }
            None => {
                let src = self.reg(value);
                let mem = self.address(place);
                self.emit(MInst::Store {
                    size,
                    mem,
                    src,
                    may_fault,
                });
            }
        }
    }

    /// `*place = *place op x` in one instruction.
    fn update(&mut self, v: Value, size: Size, place: Place, value: Value) -> bool {
        if !matches!(size, Size::W | Size::DW) || place.may_fault || place.ordered {
            return false;
        }
        let Inst::Bin(op, width, a, b) = *self.g.inst(value) else {
            return false;
        };
        // Arithmetic of 32 bits on a word of 64 would also have to clear its upper half.
        if size == Size::DW && width == Width::W32 {
            return false;
        }
        let Some(op) = memory_op(op) else {
            return false;
        };
        let is_old = |x: Value| {
            matches!(*self.g.inst(x), Inst::Load { size: s, extend: Extend::Zero, place: p } if s == size && p == place)
                && self.uses[x.index()] == 1
                && self.homes[x.index()] == self.block
                && self.epochs[x.index()] == self.epochs[v.index()]
        };
        let once = self.uses[value.index()] == 1 && self.homes[value.index()] == self.block;
        let src = match (is_old(a), is_old(b)) {
            (true, _) => b,
            (_, true) if op != Alu::Sub => a,
            _ => return false,
        };
        if !once {
            return false;
        }
        let w = access_width(size);
        let src = match self.imm(w, src) {
            Some(i) => Operand::Imm(i),
            None => Operand::Reg(self.reg(src)),
        };
        let mem = self.address(place);
        self.emit(MInst::AluMem { op, w, mem, src });
        true
    }

    pub(super) fn atomic(&mut self, v: Value, inst: &Inst) {
        let Inst::Atomic {
            size,
            op,
            place,
            value,
            expected,
        } = *inst
        else {
            return;
        };
        let w = access_width(size);
        let may_fault = place.may_fault;
        let result = self.vregs[v.index()];
        let rax = VReg::fixed(Gpr::RAX);
        let alu = match op {
            AtomicOp::Add { .. } => Alu::Add,
            AtomicOp::Or { .. } => Alu::Or,
            AtomicOp::And { .. } => Alu::And,
            AtomicOp::Xor { .. } => Alu::Xor,
            AtomicOp::Xchg | AtomicOp::Cmpxchg => return self.exchange(v, inst),
        };
        let mem = self.address(place);
        let Some(dst) = result else {
            let src = self.reg(value);
            return self.emit(MInst::LockAlu {
                op: alu,
                w,
                mem,
                src,
                may_fault,
            });
        };
        if alu == Alu::Add {
            self.put(dst, value);
            return self.emit(MInst::Xadd {
                w,
                mem,
                src: dst,
                may_fault,
            });
        }
        let _ = expected;
        let (src, tmp) = (self.reg(value), self.fresh());
        self.emit(MInst::FetchLoop {
            op: alu,
            w,
            mem,
            src,
            tmp,
            may_fault,
        });
        self.emit(MInst::Mov { dst, src: rax });
    }

    fn exchange(&mut self, v: Value, inst: &Inst) {
        let Inst::Atomic {
            size,
            op,
            place,
            value,
            expected,
        } = *inst
        else {
            return;
        };
        let w = access_width(size);
        let may_fault = place.may_fault;
        let mem = self.address(place);
        let dst = self.def(v);
        if op == AtomicOp::Xchg {
            self.put(dst, value);
            return self.emit(MInst::Xchg {
                w,
                mem,
                src: dst,
                may_fault,
            });
        }
        let rax = VReg::fixed(Gpr::RAX);
        let src = self.reg(value);
        self.put(rax, expected);
        self.emit(MInst::Cmpxchg {
            w,
            mem,
            src,
            may_fault,
        });
        self.emit(MInst::Mov { dst, src: rax });
    }
}

/// The second operand of a two-operand instruction.
fn second(inst: &Inst) -> Value {
    match *inst {
        Inst::Bin(_, _, _, b) => b,
        _ => NO_USER,
    }
}

fn memory_op(op: BinOp) -> Option<Alu> {
    match op {
        BinOp::Add => Some(Alu::Add),
        BinOp::Sub => Some(Alu::Sub),
        BinOp::And => Some(Alu::And),
        BinOp::Or => Some(Alu::Or),
        BinOp::Xor => Some(Alu::Xor),
        _ => None,
    }
}
