//! What code needs to know of each instruction: how many bytes every way to acceptance reads, which registers are read
//! later, and whether the accumulator may stay in the packet's byte order.

use skep_cbpf::Insn;
use skep_cbpf::insn::{Op, Relation, Size};

/// No way leads to acceptance.
pub(super) const NEVER: u32 = u32::MAX;

/// What holds before an instruction, whatever comes before it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Ahead {
    /// Bytes of the packet that every way to acceptance reads at constant offsets; [`NEVER`] if there is no such way.
    pub(super) bytes: u32,
    /// The same from X on, as long as X is what it is now.
    pub(super) bytes_at_x: u32,
    /// The accumulator is read before it is written.
    pub(super) reads_a: bool,
    /// X is.
    pub(super) reads_x: bool,
    /// The accumulator is read by something that needs it as a number: not only compared for equality or bits.
    pub(super) counts_a: bool,
}

impl Ahead {
    /// What holds where the way divides.
    fn meet(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.min(other.bytes),
            bytes_at_x: self.bytes_at_x.min(other.bytes_at_x),
            reads_a: self.reads_a || other.reads_a,
            reads_x: self.reads_x || other.reads_x,
            counts_a: self.counts_a || other.counts_a,
        }
    }

    fn writes_a(self) -> Self {
        Self {
            reads_a: false,
            counts_a: false,
            ..self
        }
    }

    fn writes_x(self) -> Self {
        let bytes_at_x = if self.bytes == NEVER { NEVER } else { 0 };
        Self {
            reads_x: false,
            bytes_at_x,
            ..self
        }
    }

    fn counts(self) -> Self {
        Self {
            reads_a: true,
            counts_a: true,
            ..self
        }
    }

    fn with_x(self) -> Self {
        Self {
            reads_x: true,
            ..self
        }
    }

    fn loads(self, k: u32, bytes: u32) -> Self {
        Self {
            bytes: self.bytes.max(k + bytes),
            ..self
        }
    }
}

/// How the accumulator is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// As a number.
    Number,
    /// As the bytes of a packet, of a load of this size.
    Packet(Size),
}

/// The targets of a jump from an instruction.
pub(super) fn targets(at: usize, insn: Insn) -> (usize, usize) {
    (at + 1 + usize::from(insn.jt), at + 1 + usize::from(insn.jf))
}

/// What is known of a program.
pub(super) struct Flow {
    /// By instruction.
    pub(super) ahead: Vec<Ahead>,
    /// How the accumulator is held before each instruction.
    pub(super) order: Vec<Order>,
}

impl Flow {
    /// Looks at a checked program.
    pub(super) fn of(program: &[Insn]) -> Self {
        // Places where ways meet that hold the accumulator differently: there it must be a number.
        let mut numbers = vec![false; program.len()];
        loop {
            let ahead = look_ahead(program, &numbers);
            let (order, more) = orders(program, &ahead);
            match more {
                Some(at) => numbers[at] = true,
                None => return Self { ahead, order },
            }
        }
    }
}

fn look_ahead(program: &[Insn], numbers: &[bool]) -> Vec<Ahead> {
    let mut all = vec![Ahead::default(); program.len() + 1];
    for (at, insn) in program.iter().enumerate().rev() {
        let mut here = before(at, *insn, &all);
        here.counts_a |= numbers[at];
        all[at] = here;
    }
    all
}

/// What holds before an instruction, by what holds after it.
fn before(at: usize, insn: Insn, all: &[Ahead]) -> Ahead {
    let next = all[at + 1];
    let Some(op) = insn.op() else { return next };
    let branches = || {
        let (yes, no) = targets(at, insn);
        all[yes].meet(all[no])
    };
    match op {
        Op::LoadAbs(size) => next.writes_a().loads(insn.k, size.bytes()),
        Op::LoadInd(size) => {
            let after = next.writes_a().with_x();
            Ahead {
                bytes_at_x: after.bytes_at_x.max(insn.k + size.bytes()),
                ..after
            }
        }
        Op::LoadImm | Op::LoadLen | Op::LoadMem => next.writes_a(),
        Op::Txa => next.writes_a().with_x(),
        Op::LoadXImm | Op::LoadXLen | Op::LoadXMem => next.writes_x(),
        Op::LoadXMsh => next.writes_x().loads(insn.k, 1),
        Op::Tax => next.writes_x().counts(),
        Op::Store | Op::AluK(_) | Op::Neg => next.counts(),
        Op::AluX(_) => next.counts().with_x(),
        Op::StoreX => next.with_x(),
        Op::Jump => all[at + 1 + insn.k as usize],
        Op::JumpK(Relation::Eq | Relation::Set) => Ahead {
            reads_a: true,
            ..branches()
        },
        Op::JumpK(_) => branches().counts(),
        Op::JumpX(_) => branches().counts().with_x(),
        Op::RetK if insn.k == 0 => Ahead {
            bytes: NEVER,
            bytes_at_x: NEVER,
            ..Ahead::default()
        },
        Op::RetK => Ahead::default(),
        Op::RetA => Ahead::default().counts(),
    }
}

/// How the accumulator is held before each instruction, and a place where it would be held in two ways.
fn orders(program: &[Insn], ahead: &[Ahead]) -> (Vec<Order>, Option<usize>) {
    let mut before: Vec<Option<Order>> = vec![None; program.len() + 1];
    before[0] = Some(Order::Number);
    let mut conflict = None;
    for (at, insn) in program.iter().enumerate() {
        let Some(here) = before[at] else { continue };
        let mut reach = |to: usize, order: Order| match before[to] {
            Some(other) if other != order && ahead[to].reads_a => conflict = Some(to),
            _ => before[to] = Some(order),
        };
        match insn.op() {
            Some(Op::LoadAbs(size) | Op::LoadInd(size)) => {
                let stays = size != Size::B && !ahead[at + 1].counts_a;
                let order = if stays {
                    Order::Packet(size)
                } else {
                    Order::Number
                };
                reach(at + 1, order);
            }
            Some(Op::LoadImm | Op::LoadLen | Op::LoadMem | Op::Txa) => {
                reach(at + 1, Order::Number);
            }
            Some(Op::Jump) => reach(at + 1 + insn.k as usize, here),
            Some(Op::JumpK(_) | Op::JumpX(_)) => {
                let (yes, no) = targets(at, *insn);
                reach(yes, here);
                reach(no, here);
            }
            Some(Op::RetK | Op::RetA) => {}
            _ => reach(at + 1, here),
        }
        if conflict.is_some() {
            break;
        }
    }
    let order = before.iter().map(|o| o.unwrap_or(Order::Number)).collect();
    (order, conflict)
}
