//! Improves the instructions of one block.

use super::flow::{Reads, reads, writes};
use super::values::UNKNOWN;
use super::{A, Depth, Edge, ReduceError, Reducer, X, word};
use crate::filter::blocks::{BlockId, NOP};
use crate::insn::{AluOp, Insn, LEN, MISC, MSH, Op, RET, Relation, Size, TAX, TXA};
use crate::interp::{LongShift, alu};
use skep_isa::opcode::{ALU, IMM, JMP, K, LD, LDX, MEM, ST, SUB};

const X_SOURCE: u8 = skep_isa::opcode::X;

impl Reducer<'_> {
    /// Improves a block, unless it was found good as it is, with the same values before and the same needs after it.
    pub(super) fn improve_block(&mut self, id: BlockId, depth: Depth) -> Result<(), ReduceError> {
        let known = &self.known[id as usize];
        let used_after = known.atoms.used_after;
        let settled = known.settled == Some(used_after);
        let pending = known.pending;
        self.find_values_before(id);
        let place = self.values_of(id);
        let before = &mut self.lists.at_start[place];
        let mut same = settled && !(pending && depth == Depth::Statements);
        for (before, here) in before.iter_mut().zip(&self.here) {
            same &= before == here;
            *before = *here;
        }
        if same {
            self.pending |= pending;
            return Ok(());
        }
        let others_pend = core::mem::replace(&mut self.pending, false);
        self.altered = false;
        self.improve(id, depth)?;
        let known = &mut self.known[id as usize];
        known.settled = (!self.altered).then_some(used_after);
        known.pending = self.pending;
        self.pending |= others_pend;
        Ok(())
    }

    fn improve(&mut self, id: BlockId, depth: Depth) -> Result<(), ReduceError> {
        let (a, x) = (self.here[A], self.here[X]);
        let block = self.blocks.block(id);
        let (range, returns) = (block.insns.clone(), block.code & 7 == RET);
        let statements = !range.is_empty();
        for at in range {
            self.insn(at as usize, depth)?;
        }
        let place = self.values_of(id);
        for (end, here) in self.lists.at_end[place].iter_mut().zip(&self.here) {
            *end = *here;
        }
        let kept = |before: u32, atom: usize| before != UNKNOWN && self.here[atom] == before;
        let unread = self.known[id as usize].atoms.used_after == 0;
        let pointless = statements && (returns || unread && kept(a, A) && kept(x, X));
        if depth == Depth::Statements && pointless {
            let block = &mut self.blocks.list[id as usize];
            block.insns.end = block.insns.start;
            self.change();
        } else if statements {
            self.pending |= pointless;
            self.look_closely(id);
            self.drop_unread(id);
        }
        let block = self.blocks.block(id);
        self.known[id as usize].operand = if block.code & X_SOURCE == 0 {
            self.values.constant(block.k)
        } else {
            self.at_end(id, X)
        };
        Ok(())
    }

    /// Finds what all ways into a block agree on.
    fn find_values_before(&mut self, id: BlockId) {
        let mut way = self.known[id as usize].into;
        let here = &mut self.here[..self.atoms];
        if way == Edge::NONE {
            here.fill(UNKNOWN);
            return;
        }
        let start = way.from() as usize * here.len();
        for (here, end) in here.iter_mut().zip(&self.lists.at_end[start..]) {
            *here = *end;
        }
        loop {
            way = Edge(self.lists.earlier[way.0 as usize]);
            if way == Edge::NONE {
                return;
            }
            let start = way.from() as usize * here.len();
            for (here, end) in here.iter_mut().zip(&self.lists.at_end[start..]) {
                if *here != *end {
                    *here = UNKNOWN;
                }
            }
        }
    }

    /// Puts a value into a register or word; an instruction that changes nothing is taken out.
    fn put(&mut self, at: usize, atom: usize, value: u32, depth: Depth) {
        if value == UNKNOWN || self.here[atom] != value {
            self.here[atom] = value;
        } else {
            self.pend(depth);
            if depth == Depth::Statements {
                self.blocks.insns[at].code = NOP;
            }
        }
    }

    /// Notes that a statement is changed, or would be.
    fn pend(&mut self, depth: Depth) {
        self.pending = true;
        self.altered |= depth == Depth::Statements;
    }

    /// The constant a number stands for, if statements may be changed for it.
    fn constant_of(&mut self, number: u32, depth: Depth) -> Option<u32> {
        let k = self.values.as_constant(number)?;
        self.pend(depth);
        (depth == Depth::Statements).then_some(k)
    }

    fn insn(&mut self, at: usize, depth: Depth) -> Result<(), ReduceError> {
        let insn = self.blocks.insns[at];
        let Some(op) = insn.op() else { return Ok(()) };
        match op {
            Op::LoadAbs(_) | Op::LoadImm | Op::LoadLen => {
                let value = self.values.number(insn.code, insn.k, 0);
                self.put(at, A, value, depth);
            }
            Op::LoadXImm => {
                let value = self.values.constant(insn.k);
                self.put(at, X, value, depth);
            }
            Op::LoadXMsh | Op::LoadXLen => {
                let value = self.values.number(insn.code, insn.k, 0);
                self.put(at, X, value, depth);
            }
            Op::LoadInd(size) => {
                let value = match self.constant_of(self.here[X], depth) {
                    Some(x) => {
                        let k = insn.k.wrapping_add(x);
                        let load = crate::filter::draft::code::load(size, k);
                        self.blocks.insns[at] = load;
                        self.change();
                        self.values.number(load.code, k, 0)
                    }
                    None => self.values.number(insn.code, insn.k, self.here[X]),
                };
                self.put(at, A, value, depth);
            }
            Op::LoadMem | Op::LoadXMem => {
                let value = self.here[word(insn.k)];
                let (class, atom) = if op == Op::LoadMem { (LD, A) } else { (LDX, X) };
                if let Some(k) = self.constant_of(value, depth) {
                    self.blocks.insns[at] = Insn::new(class | IMM, k);
                    self.change();
                }
                self.put(at, atom, value, depth);
            }
            Op::Store => self.put(at, word(insn.k), self.here[A], depth),
            Op::StoreX => self.put(at, word(insn.k), self.here[X], depth),
            Op::Tax => self.put(at, X, self.here[A], depth),
            Op::Txa => self.put(at, A, self.here[X], depth),
            Op::Neg => {
                self.here[A] = match self.constant_of(self.here[A], depth) {
                    Some(k) => {
                        let k = k.wrapping_neg();
                        self.blocks.insns[at] = Insn::new(LD | IMM, k);
                        self.values.constant(k)
                    }
                    None => self.values.number(insn.code, self.here[A], 0),
                };
            }
            Op::AluK(op) => return self.with_constant(at, op, insn.k, depth),
            Op::AluX(op) => return self.with_x(at, op, depth),
            Op::Jump | Op::JumpK(_) | Op::JumpX(_) | Op::RetK | Op::RetA => {}
        }
        Ok(())
    }

    /// The result of an operator on two constants, instead of the instruction.
    fn fold(&mut self, at: usize, op: AluOp, a: u32, b: u32) -> Result<u32, ReduceError> {
        let k = alu(op, a, b, LongShift::Zero).ok_or(ReduceError::DivisionByZero)?;
        self.blocks.insns[at] = Insn::new(LD | IMM, k);
        self.change();
        Ok(self.values.constant(k))
    }

    fn with_constant(
        &mut self,
        at: usize,
        op: AluOp,
        k: u32,
        depth: Depth,
    ) -> Result<(), ReduceError> {
        if k == 0 {
            self.pend(depth);
        }
        if depth == Depth::Statements {
            match (op, k) {
                (AluOp::Add | AluOp::Lsh | AluOp::Rsh | AluOp::Or | AluOp::Xor, 0) => {
                    self.blocks.insns[at].code = NOP;
                    return Ok(());
                }
                (AluOp::Mul | AluOp::And, 0) => {
                    self.blocks.insns[at] = Insn::new(LD | IMM, 0);
                    self.here[A] = self.values.constant(0);
                    return Ok(());
                }
                (AluOp::Div | AluOp::Mod, 0) => return Err(ReduceError::DivisionByZero),
                _ => {}
            }
        }
        if let Some(a) = self.constant_of(self.here[A], depth) {
            self.here[A] = self.fold(at, op, a, k)?;
            return Ok(());
        }
        let operand = self.values.constant(k);
        let code = u16::from(ALU | op.code() | K);
        self.here[A] = self.values.number(code, self.here[A], operand);
        Ok(())
    }

    fn with_x(&mut self, at: usize, op: AluOp, depth: Depth) -> Result<(), ReduceError> {
        let a = self.constant_of(self.here[A], depth);
        let x = self.constant_of(self.here[X], depth);
        let code = |source: u8| u16::from(ALU | op.code() | source);
        self.here[A] = match (a, x) {
            (Some(a), Some(x)) => self.fold(at, op, a, x)?,
            (None, Some(x)) => {
                if matches!(op, AluOp::Lsh | AluOp::Rsh) && x > 31 {
                    return Err(ReduceError::LongShift);
                }
                self.blocks.insns[at] = Insn::new(ALU | op.code() | K, x);
                self.change();
                let operand = self.values.constant(x);
                self.values.number(code(K), self.here[A], operand)
            }
            (Some(0), None) => {
                let (insn, value) = match op {
                    AluOp::Add | AluOp::Or | AluOp::Xor => (Insn::new(MISC | TXA, 0), self.here[X]),
                    AluOp::Mul | AluOp::Div | AluOp::Mod | AluOp::And | AluOp::Lsh | AluOp::Rsh => {
                        (Insn::new(LD | IMM, 0), self.values.constant(0))
                    }
                    AluOp::Sub => {
                        self.here[A] =
                            self.values
                                .number(code(X_SOURCE), self.here[A], self.here[X]);
                        return Ok(());
                    }
                };
                self.blocks.insns[at] = insn;
                self.put(at, A, value, depth);
                return Ok(());
            }
            _ => self
                .values
                .number(code(X_SOURCE), self.here[A], self.here[X]),
        };
        Ok(())
    }

    /// The next instruction at or after a place that was not taken out.
    fn next(&self, from: usize, end: usize) -> Option<usize> {
        (from..end).find(|at| self.blocks.insns[*at].code != NOP)
    }

    /// Improves neighbours, and the comparison with what is before it.
    fn look_closely(&mut self, id: BlockId) {
        let range = self.blocks.block(id).insns.clone();
        let end = range.end as usize;
        let mut last = range.start as usize;
        let mut at = self.next(last, end);
        while let Some(this) = at {
            let Some(next) = self.next(this + 1, end) else {
                break;
            };
            last = next;
            self.pair(id, this, next, end);
            // What comes next may have been taken out.
            at = self.next(next, end);
        }
        self.comparison(id, last);
    }

    fn code(&self, at: usize) -> u16 {
        self.blocks.insns[at].code
    }

    fn pair(&mut self, id: BlockId, this: usize, next: usize, end: usize) {
        const STORE: u16 = ST as u16;
        const LOAD_X: u16 = (LDX | MEM) as u16;
        const LOAD_IMM: u16 = (LD | IMM) as u16;
        const TO_X: u16 = (MISC | TAX) as u16;
        if self.code(this) == STORE
            && self.code(next) == LOAD_X
            && self.blocks.insns[this].k == self.blocks.insns[next].k
        {
            self.blocks.insns[next].code = TO_X;
            self.change();
        }
        if self.code(this) == LOAD_IMM && self.code(next) == TO_X {
            self.blocks.insns[this].code = u16::from(LDX | IMM);
            self.blocks.insns[next].code = u16::from(MISC | TXA);
            self.change();
        }
        if self.code(this) == LOAD_IMM {
            self.index(id, this, next, end);
        }
    }

    /// `A = k`, perhaps a load of X, `A += X`, `X = A`, load at X: the constant joins the offset of the load.
    fn index(&mut self, id: BlockId, this: usize, next: usize, end: usize) {
        if self.known[id as usize].atoms.used_after & (1 << X) != 0 {
            return;
        }
        let header = u16::from(LDX | MSH | Size::B.code());
        let add = match self.code(next) == header {
            true => self.next(next + 1, end),
            false => Some(next),
        };
        let Some(add) = add else { return };
        if self.blocks.insns[add].op() != Some(Op::AluX(AluOp::Add)) {
            return;
        }
        let Some(tax) = self.next(add + 1, end) else {
            return;
        };
        if self.blocks.insns[tax].op() != Some(Op::Tax) {
            return;
        }
        let Some(load) = self.next(tax + 1, end) else {
            return;
        };
        if !matches!(self.blocks.insns[load].op(), Some(Op::LoadInd(_))) {
            return;
        }
        let k = self.blocks.insns[this].k;
        self.blocks.insns[load].k = self.blocks.insns[load].k.wrapping_add(k);
        for at in [this, add, tax] {
            self.blocks.insns[at].code = NOP;
        }
        self.change();
    }

    fn comparison(&mut self, id: BlockId, last: usize) {
        let x = self.values.as_constant(self.at_end(id, X));
        let a = self.values.as_constant(self.at_end(id, A));
        let equal = JMP | Relation::Eq.code() | K;
        let set = JMP | Relation::Set.code() | K;
        let a_unread = self.known[id as usize].atoms.used_after & (1 << A) == 0;
        let block = self.blocks.block(id);
        if a.is_some()
            || matches!((block.code, block.k), (code, 0 | u32::MAX) if code == set || code == equal)
        {
            // One way may go where the other does.
            self.know_dominators();
        }
        if self.blocks.block(id).code == equal && a_unread {
            self.equality(id, last, x);
        }
        let block = &mut self.blocks.list[id as usize];
        let ways = (block.yes, block.no);
        if block.code == set && block.k == 0 {
            block.yes = block.no;
        }
        if block.code == set && block.k == u32::MAX {
            block.no = block.yes;
        }
        if let Some(x) = x.filter(|_| block.code & X_SOURCE != 0 && block.code & 7 == JMP) {
            block.code &= !X_SOURCE;
            block.k = x;
            self.altered = true;
            self.pending = true;
        }
        self.altered |= a.is_some() || ways != (block.yes, block.no);
        if let Some(a) = a.filter(|_| block.code & X_SOURCE == 0 && block.code & 7 == JMP) {
            let relation = [Relation::Eq, Relation::Gt, Relation::Ge, Relation::Set]
                .into_iter()
                .find(|r| block.code & 0xf0 == r.code());
            let holds = relation.is_some_and(|r| r.holds(a, block.k));
            let differ = block.yes != block.no;
            if holds {
                block.no = block.yes;
            } else {
                block.yes = block.no;
            }
            if differ {
                self.changed = true;
                self.changed_more = true;
            }
        }
        self.reshaped |= ways != (block.yes, block.no);
    }

    /// A comparison for equality with a constant, after an operation whose result nobody else reads.
    fn equality(&mut self, id: BlockId, last: usize, x: Option<u32>) {
        let insn = self.blocks.insns[last];
        let block = &mut self.blocks.list[id as usize];
        match insn.op() {
            Some(Op::AluX(AluOp::Sub)) => match x {
                Some(x) => block.k = block.k.wrapping_add(x),
                None if block.k == 0 => block.code = JMP | Relation::Eq.code() | X_SOURCE,
                None => return,
            },
            Some(Op::AluK(AluOp::Sub)) => block.k = block.k.wrapping_add(insn.k),
            Some(Op::AluK(AluOp::And)) if block.k == 0 => {
                block.k = insn.k;
                block.code = JMP | Relation::Set.code() | K;
                core::mem::swap(&mut block.yes, &mut block.no);
                self.reshaped = true;
            }
            _ => return,
        }
        self.blocks.insns[last].code = NOP;
        self.change();
    }

    /// Takes out what writes a register or word that nobody reads.
    fn drop_unread(&mut self, id: BlockId) {
        let range = self.blocks.block(id).insns.clone();
        // Registers and words with what was not read since it was written.
        let mut unread = 0u32;
        let read = |insn: Insn| match reads(insn) {
            Reads::Nothing => 0,
            Reads::One(atom) => 1 << atom,
            Reads::Both => 1 << A | 1 << X,
        };
        for at in range.start as usize..range.end as usize {
            let insn = self.blocks.insns[at];
            unread &= !read(insn);
            if let Some(atom) = writes(insn) {
                if unread & (1 << atom) != 0 {
                    self.blocks.insns[self.last[atom]].code = NOP;
                    self.change();
                }
                self.last[atom] = at;
                unread |= 1 << atom;
            }
        }
        let block = self.blocks.block(id);
        unread &= !read(Insn::new(block.code, block.k));
        unread &= !self.known[id as usize].atoms.used_after;
        while unread != 0 {
            self.blocks.insns[self.last[unread.trailing_zeros() as usize]].code = NOP;
            unread &= unread - 1;
            self.change();
        }
    }
}

const _: () = assert!(LEN == 0x80 && SUB == 0x10, "codes as in linux/bpf_common.h");
