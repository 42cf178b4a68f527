//! How a node ends: comparisons, ranges, walks along headers.

use super::{Emit, Emitter, Final, OutOfWords, State};
use crate::filter::expr::{Arena, Expr, Test, Value};
use crate::filter::graph::{NodeId, Step};
use crate::insn::{AluOp, Insn, MISC, Relation, Size, TAX, TXA};
use skep_isa::opcode::{ABS, ADD, ALU, AND, IND, JA, JMP, K, LD, STX, X};

impl Emitter<'_> {
    /// A comparison.
    pub(super) fn test(
        &mut self,
        test: Test,
        yes: NodeId,
        no: NodeId,
    ) -> Result<Final, OutOfWords> {
        let Some(k) = self.arena.as_const(test.right) else {
            let either = matches!(test.relation, Relation::Eq | Relation::Set);
            self.operands(test.left, test.right, either)?;
            return Ok(Final::Jump {
                code: test.relation.code() | X,
                k: 0,
                negated: false,
            });
        };
        if test.relation == Relation::Eq
            && let Expr::Bin(AluOp::And, inner, mask) = self.arena.get(test.left)
            && let Some(mask) = self.arena.as_const(mask)
            && self.state.a != Some(test.left)
            && let Some(last) = self.prefix(inner, mask, k, yes, no)
        {
            self.load_a(inner)?;
            return Ok(last);
        }
        self.load_a(test.left)?;
        Ok(Final::Jump {
            code: test.relation.code() | K,
            k,
            negated: false,
        })
    }

    /// `value & mask == k` as a range, if that is shorter here or leaves a value in A that the next test wants.
    pub(super) fn prefix(
        &self,
        value: Value,
        mask: u32,
        k: u32,
        yes: NodeId,
        no: NodeId,
    ) -> Option<Final> {
        let max = self.arena.max(value);
        let low_bits = max & !mask;
        if k & !mask != 0 || k > max || low_bits & low_bits.wrapping_add(1) != 0 {
            return None;
        }
        let last = k | low_bits;
        if last == max {
            return Some(Final::Jump {
                code: Relation::Ge.code() | K,
                k,
                negated: false,
            });
        }
        if k == 0 {
            return Some(Final::Jump {
                code: Relation::Ge.code() | K,
                k: last + 1,
                negated: true,
            });
        }
        let wants = |id: NodeId| match self.graph.node(id).step {
            Step::Test(t) if t.left == value => true,
            Step::Test(t) => match self.arena.get(t.left) {
                Expr::Bin(AluOp::And, v, m) => {
                    v == value && self.arena.as_const(m).is_some_and(|m| m != mask)
                }
                _ => false,
            },
            _ => false,
        };
        (wants(yes) || wants(no)).then_some(Final::Range {
            low: k,
            end: last + 1,
        })
    }

    /// The offset after a data frame's 802.11 header at `header`, into X.
    pub(super) fn radiotap_payload(&mut self, value: Value, header: Value) -> Emit {
        self.load_x(header)?;
        let unknown = State {
            a: None,
            x: None,
            ..self.state
        };
        let load = |size: Size, k| Insn::new(LD | ABS | size.code(), k);
        let jset = |k, jt, jf| Insn::jump(JMP | Relation::Set.code() | K, k, jt, jf);
        // Bit 7 of the subtype adds two bytes of quality of service. A flag of the radiotap header tells whether the
        // whole is padded to a multiple of four; the flags come after a timestamp, if there is one.
        let code = [
            Insn::new(LD | IND | Size::B.code(), 0),
            Insn::new(ALU | AluOp::Rsh.code() | K, 6),
            Insn::new(ALU | AND | K, 2),
            Insn::new(ALU | ADD | X, 0),
            Insn::new(ALU | ADD | K, 24),
            Insn::new(MISC | TAX, 0),
            load(Size::W, 4),
            jset(0x0200_0000, 0, 10),
            jset(0x0000_0080, 9, 0),
            jset(0x0100_0000, 0, 2),
            load(Size::B, 16),
            Insn::new(JMP | JA, 1),
            load(Size::B, 8),
            jset(0x20, 0, 4),
            Insn::new(MISC | TXA, 0),
            Insn::new(ALU | ADD | K, 3),
            Insn::new(ALU | AND | K, 0xffff_fffc),
            Insn::new(MISC | TAX, 0),
        ];
        self.push(code[0]);
        self.state = unknown;
        for insn in &code[1..] {
            self.push(*insn);
        }
        self.state.x = Some(value);
        let count = &mut self.computed[Arena::index(value)];
        *count = count.saturating_add(1);
        if let Some(slot) = self.word_of(value) {
            self.op(STX, slot);
            self.state.words |= 1 << slot;
        }
        Ok(())
    }
}
