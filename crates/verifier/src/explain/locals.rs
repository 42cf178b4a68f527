//! Names of local variables, where somebody knows them: the verifier sees registers and stack only.

/// What is known about the local variables of a program.
pub trait Locals {
    /// The variable that register `reg` holds before the instruction at slot `insn`.
    fn in_register(&self, insn: u32, reg: u8) -> Option<&str>;

    /// The variable that lies at byte `offset` from r10 (a negative number) at slot `insn`.
    fn on_stack(&self, insn: u32, offset: i64) -> Option<StackVariable>;
}

/// A variable on the stack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StackVariable {
    /// Its name.
    pub name: String,
    /// Where it starts, in bytes from r10.
    pub start: i64,
    /// Bytes.
    pub bytes: u64,
    /// What the byte that was asked for is, if the variable is a structure.
    pub part: Option<Part>,
}

/// Part of a structure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// A member, with its path.
    Member(String),
    /// No member's: the compiler leaves it so that the next one is aligned.
    Padding,
}

/// Nothing is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLocals;

impl Locals for NoLocals {
    fn in_register(&self, _: u32, _: u8) -> Option<&str> {
        None
    }

    fn on_stack(&self, _: u32, _: i64) -> Option<StackVariable> {
        None
    }
}
