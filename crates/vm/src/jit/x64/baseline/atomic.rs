//! Atomic operations.

use super::{Alu, Baseline, Bytes, Gpr, TMP, TMP2, TMP3, W, access_width};
use crate::jit::x64::asm::{Addr, Cond};
use crate::lowered::{Mem, Space};
use skep_isa::{AtomicOp, Size};

impl Baseline<'_> {
    pub(super) fn atomic(&mut self, size: Size, op: AtomicOp, src: Gpr, mem: Mem) {
        let w = access_width(size);
        let addr = self.addr(mem);
        let plain = |op| (op, false);
        let (alu, fetch) = match op {
            AtomicOp::Add { fetch: false } => plain(Alu::Add),
            AtomicOp::Or { fetch: false } => plain(Alu::Or),
            AtomicOp::And { fetch: false } => plain(Alu::And),
            AtomicOp::Xor { fetch: false } => plain(Alu::Xor),
            AtomicOp::Or { .. } => (Alu::Or, true),
            AtomicOp::And { .. } => (Alu::And, true),
            AtomicOp::Xor { .. } => (Alu::Xor, true),
            AtomicOp::Add { .. } | AtomicOp::Xchg | AtomicOp::Cmpxchg => {
                return self.exchange(w, op, src, mem, addr);
            }
        };
        if fetch {
            return self.fetch_loop(w, alu, src, mem, addr);
        }
        let back = self.may_fault(mem, None);
        self.a.lock_alu(alu, w, addr, src);
        self.faulted(back);
    }

    fn exchange(&mut self, w: W, op: AtomicOp, src: Gpr, mem: Mem, addr: Addr) {
        let cmpxchg = op == AtomicOp::Cmpxchg;
        if mem.space != Space::Plain && w == W::D {
            // What a fault leaves: no more than the proof says.
            let result = if cmpxchg { Gpr::RAX } else { src };
            self.a.mov_rr(W::D, result, result);
        }
        let back = self.may_fault(mem, None);
        match op {
            AtomicOp::Cmpxchg => self.a.lock_cmpxchg(w, addr, src),
            AtomicOp::Xchg => self.a.xchg_mr(w, addr, src),
            _ => self.a.lock_xadd(w, addr, src),
        }
        if cmpxchg && w == W::D {
            self.a.mov_rr(W::D, Gpr::RAX, Gpr::RAX);
        }
        self.faulted(back);
    }

    /// `src = fetch_op([addr], src)` by compare and exchange, where the hardware has no single instruction.
    fn fetch_loop(&mut self, w: W, alu: Alu, src: Gpr, mem: Mem, addr: Addr) {
        self.a.lea(W::Q, TMP2, addr);
        self.a.mov_rr(W::Q, TMP3, src);
        self.a.push(Gpr::RAX);
        let cell = Addr::base(TMP2, 0);
        let size = if w == W::Q { Bytes::B8 } else { Bytes::B4 };
        let retry = self.a.new_label();
        let back = self.may_fault(mem, Some(Gpr::RAX));
        self.a.load(size, Gpr::RAX, cell);
        self.a.bind(retry);
        self.a.mov_rr(W::Q, TMP, Gpr::RAX);
        self.a.alu_rr(alu, w, TMP, TMP3);
        self.a.lock_cmpxchg(w, cell, TMP);
        self.a.jcc(Cond::Ne, retry);
        self.faulted(back);
        self.a.mov_rr(w, TMP, Gpr::RAX);
        self.a.pop(Gpr::RAX);
        self.a.mov_rr(W::Q, src, TMP);
    }
}
