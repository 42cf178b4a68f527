//! What a filter computes of a system call: constants, halves of arguments, and operations on them.

use crate::insn::AluOp;
use crate::interp::{LongShift, alu};
use alloc::rc::Rc;
use core::fmt;

/// The 64-bit fields of `struct seccomp_data`: the instruction pointer, then six arguments.
pub(super) const FIELDS: usize = 7;
/// Offset of the first of them.
pub(super) const FIELDS_AT: u32 = 8;
/// Most operations of a value that is followed.
pub(super) const OPERATIONS_MAX: u32 = 64;

/// Half of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Half {
    pub(super) field: usize,
    pub(super) high: bool,
}

impl Half {
    /// The half at an offset, which must be one of a field. All architectures here are little-endian.
    pub(super) fn at(offset: u32) -> Self {
        let at = offset.saturating_sub(FIELDS_AT) as usize;
        Self {
            field: (at / 8).min(FIELDS - 1),
            high: at % 8 >= 4,
        }
    }

    pub(super) fn index(self) -> usize {
        2 * self.field + usize::from(self.high)
    }

    fn of(self, fields: &[u64; FIELDS]) -> u32 {
        (fields[self.field] >> if self.high { 32 } else { 0 }) as u32
    }
}

/// A field by name.
pub(super) fn name(field: usize) -> &'static str {
    const NAMES: [&str; FIELDS] = ["ip", "arg0", "arg1", "arg2", "arg3", "arg4", "arg5"];
    NAMES[field]
}

/// A value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Constant(u32),
    Half(Half),
    Operation(Rc<Operation>),
}

/// An operation on two values, not both constant.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Operation {
    pub(super) op: AluOp,
    pub(super) left: Value,
    pub(super) right: Value,
    size: u32,
}

impl Value {
    pub(super) fn constant(&self) -> Option<u32> {
        match self {
            Self::Constant(k) => Some(*k),
            _ => None,
        }
    }

    /// Number of operations.
    pub(super) fn size(&self) -> u32 {
        match self {
            Self::Constant(_) | Self::Half(_) => 0,
            Self::Operation(operation) => operation.size,
        }
    }

    /// The result of an operation; `None` for a division by zero.
    pub(super) fn operation(op: AluOp, left: Self, right: Self) -> Option<Self> {
        if let (Some(a), Some(b)) = (left.constant(), right.constant()) {
            return alu(op, a, b, LongShift::Modulo).map(Self::Constant);
        }
        if matches!(op, AluOp::Div | AluOp::Mod) && right.constant() == Some(0) {
            return None;
        }
        let size = left.size().saturating_add(right.size()).saturating_add(1);
        Some(Self::Operation(Rc::new(Operation {
            op,
            left,
            right,
            size,
        })))
    }

    /// The half and the mask of `half & mask`.
    pub(super) fn masked(&self) -> Option<(Half, u32)> {
        match self {
            Self::Half(half) => Some((*half, u32::MAX)),
            Self::Operation(operation) if operation.op == AluOp::And => {
                let mask = operation.right.constant()?;
                let (half, inner) = operation.left.masked()?;
                Some((half, inner & mask))
            }
            _ => None,
        }
    }

    /// The number it is for a call with these fields.
    pub(super) fn of(&self, fields: &[u64; FIELDS]) -> Option<u32> {
        match self {
            Self::Constant(k) => Some(*k),
            Self::Half(half) => Some(half.of(fields)),
            Self::Operation(o) => alu(
                o.op,
                o.left.of(fields)?,
                o.right.of(fields)?,
                LongShift::Modulo,
            ),
        }
    }
}

const SIGNS: [(AluOp, &str); 10] = [
    (AluOp::Add, "+"),
    (AluOp::Sub, "-"),
    (AluOp::Mul, "*"),
    (AluOp::Div, "/"),
    (AluOp::Mod, "%"),
    (AluOp::And, "&"),
    (AluOp::Or, "|"),
    (AluOp::Xor, "^"),
    (AluOp::Lsh, "<<"),
    (AluOp::Rsh, ">>"),
];

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(k) => write!(f, "{k:#x}"),
            Self::Half(half) => {
                let part = if half.high { "high" } else { "low" };
                write!(f, "{part}({})", name(half.field))
            }
            Self::Operation(o) => {
                let sign = SIGNS.iter().find(|(op, _)| *op == o.op);
                let sign = sign.map_or("?", |(_, sign)| sign);
                write!(f, "({} {sign} {})", o.left, o.right)
            }
        }
    }
}
