//! Values into registers: the shortest code for each, given what is at hand.

use super::{Emit, Emitter, OutOfWords};
use crate::filter::expr::{Arena, Expr, Value};
use crate::insn::{AluOp, BPF_MEMWORDS, Insn, LEN, MISC, MSH, Size, TAX, TXA};
use skep_isa::opcode::{ABS, ALU, IMM, IND, K, LD, LDX, MEM, NEG, ST, X};

impl Emitter<'_> {
    pub(super) fn push(&mut self, insn: Insn) {
        self.trace.push(self.state);
        self.code.push(insn);
    }

    pub(super) fn op(&mut self, code: u8, k: u32) {
        self.push(Insn::new(code, k));
    }

    pub(super) fn word_of(&self, value: Value) -> Option<u32> {
        self.words
            .iter()
            .position(|w| *w == value)
            .map(|i| i as u32)
    }

    /// The scratch word that holds a value now.
    pub(super) fn stored(&self, value: Value) -> Option<u32> {
        self.word_of(value)
            .filter(|slot| self.state.words & (1 << slot) != 0)
    }

    /// Stores A, which holds `value`, if the value has a word.
    pub(super) fn keep_a(&mut self, value: Value) {
        if let Some(slot) = self.word_of(value)
            && self.state.words & (1 << slot) == 0
        {
            self.op(ST, slot);
            self.state.words |= 1 << slot;
        }
    }

    pub(super) fn set_a(&mut self, value: Value) {
        self.state.a = Some(value);
        let count = &mut self.computed[Arena::index(value)];
        *count = count.saturating_add(1);
        self.keep_a(value);
    }

    /// Puts a value into A. X may change.
    pub(super) fn load_a(&mut self, value: Value) -> Emit {
        if self.state.a == Some(value) {
            return Ok(());
        }
        if self.state.x == Some(value) {
            self.op(MISC | TXA, 0);
            self.state.a = Some(value);
            return Ok(());
        }
        if let Some(slot) = self.stored(value) {
            self.op(LD | MEM, slot);
            self.state.a = Some(value);
            return Ok(());
        }
        match self.arena.get(value) {
            Expr::Const(k) => self.op(LD | IMM, k),
            Expr::Len => self.op(LD | LEN, 0),
            Expr::Ancillary(size, k) => self.op(LD | ABS | size.code(), k),
            Expr::Load {
                size,
                base: None,
                offset,
            } => self.op(LD | ABS | size.code(), offset),
            Expr::Load {
                size,
                base: Some(base),
                offset,
            } => {
                self.load_x(base)?;
                self.op(LD | IND | size.code(), offset);
            }
            Expr::Msh(_) | Expr::RadiotapPayload(_) => {
                self.load_x(value)?;
                self.op(MISC | TXA, 0);
            }
            Expr::Bin(op, a, b) => match self.arena.as_const(b) {
                Some(k) => {
                    self.load_a(a)?;
                    self.op(ALU | op.code() | K, k);
                }
                None if op == AluOp::Sub && self.arena.as_const(a) == Some(0) => {
                    self.load_a(b)?;
                    self.op(ALU | NEG, 0);
                }
                None => {
                    let swapped = self.operands(a, b, commutes(op))?;
                    debug_assert!(!swapped || commutes(op), "operands keep their order");
                    self.op(ALU | op.code() | X, 0);
                }
            },
        }
        self.set_a(value);
        Ok(())
    }

    /// Computes a value for its loads, into the register that takes fewer instructions.
    pub(super) fn touch(&mut self, value: Value) -> Emit {
        match self.arena.get(value) {
            Expr::Msh(_) | Expr::RadiotapPayload(_) => self.load_x(value),
            _ => self.load_a(value),
        }
    }

    /// Puts a value into X. A may change.
    pub(super) fn load_x(&mut self, value: Value) -> Emit {
        if self.state.x == Some(value) {
            return Ok(());
        }
        if self.x_directly(value) {
            return Ok(());
        }
        if let Expr::RadiotapPayload(header) = self.arena.get(value) {
            return self.radiotap_payload(value, header);
        }
        self.load_a(value)?;
        self.op(MISC | TAX, 0);
        self.state.x = Some(value);
        Ok(())
    }

    /// Puts a value into X without A, if one instruction can.
    pub(super) fn x_directly(&mut self, value: Value) -> bool {
        if self.state.x == Some(value) {
            return true;
        }
        match (self.stored(value), self.arena.get(value)) {
            (Some(slot), _) => self.op(LDX | MEM, slot),
            (None, Expr::Const(k)) => self.op(LDX | IMM, k),
            (None, Expr::Len) => self.op(LDX | LEN, 0),
            (None, Expr::Msh(offset)) => self.op(LDX | MSH | Size::B.code(), offset),
            _ => return false,
        }
        self.state.x = Some(value);
        true
    }

    /// Whether one instruction puts a value into X without A.
    pub(super) fn is_x_direct(&self, value: Value) -> bool {
        self.state.x == Some(value)
            || self.stored(value).is_some()
            || matches!(
                self.arena.get(value),
                Expr::Const(_) | Expr::Len | Expr::Msh(_)
            )
    }

    /// Whether computing a value into A leaves X alone.
    pub(super) fn spares_x(&self, value: Value) -> bool {
        if self.state.a == Some(value) || self.stored(value).is_some() {
            return true;
        }
        match self.arena.get(value) {
            Expr::Const(_) | Expr::Len | Expr::Ancillary(..) | Expr::Load { base: None, .. } => {
                true
            }
            Expr::Load {
                base: Some(base), ..
            } => self.state.x == Some(base),
            Expr::Bin(_, a, b) => self.arena.as_const(b).is_some() && self.spares_x(a),
            Expr::Msh(_) | Expr::RadiotapPayload(_) => false,
        }
    }

    /// Puts `left` into A and `right` into X, or the other way round if `either` allows it; says which.
    pub(super) fn operands(
        &mut self,
        left: Value,
        right: Value,
        either: bool,
    ) -> Result<bool, OutOfWords> {
        if left == right {
            self.load_a(left)?;
            self.x_from_a(left);
            return Ok(false);
        }
        // The first of these that applies costs least: X can be loaded last, X is already right, X is loaded first.
        for swapped in [false, true] {
            let (a, x) = if swapped {
                (right, left)
            } else {
                (left, right)
            };
            if (!swapped || either) && self.is_x_direct(x) && !self.is_x_direct_from_a(x) {
                self.load_a(a)?;
                if self.x_directly(x) {
                    return Ok(swapped);
                }
            }
        }
        for swapped in [false, true] {
            let (a, x) = if swapped {
                (right, left)
            } else {
                (left, right)
            };
            if (!swapped || either) && self.spares_x_after(a, x) {
                self.load_a(x)?;
                self.x_from_a(x);
                self.load_a(a)?;
                return Ok(swapped);
            }
        }
        self.load_a(right)?;
        let slot = self.passing;
        if slot >= BPF_MEMWORDS {
            return Err(OutOfWords);
        }
        self.passing += 1;
        self.op(ST, slot);
        let result = self.load_a(left);
        self.passing -= 1;
        result?;
        self.op(LDX | MEM, slot);
        self.state.x = Some(right);
        Ok(false)
    }

    pub(super) fn x_from_a(&mut self, value: Value) {
        if self.state.x != Some(value) {
            self.op(MISC | TAX, 0);
            self.state.x = Some(value);
        }
    }

    /// Whether X could only be loaded from A, which is about to change.
    pub(super) fn is_x_direct_from_a(&self, value: Value) -> bool {
        self.state.x == Some(value)
            && self.stored(value).is_none()
            && !matches!(
                self.arena.get(value),
                Expr::Const(_) | Expr::Len | Expr::Msh(_)
            )
    }

    /// Whether `a` can be computed into A while X holds `x`.
    pub(super) fn spares_x_after(&self, a: Value, x: Value) -> bool {
        match self.arena.get(a) {
            Expr::Load {
                base: Some(base), ..
            } => base == x,
            Expr::Bin(_, inner, k) => {
                self.arena.as_const(k).is_some() && self.spares_x_after(inner, x)
            }
            _ => a == x || self.state.a != Some(a) && self.spares_x(a),
        }
    }
}

fn commutes(op: AluOp) -> bool {
    matches!(
        op,
        AluOp::Add | AluOp::Mul | AluOp::And | AluOp::Or | AluOp::Xor
    )
}
