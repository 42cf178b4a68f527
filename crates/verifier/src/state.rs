//! The state of one path: call frames, their registers and stacks, references, locks.

use crate::reg::{Kind, Reg};
use skep_abi::limits::MAX_BPF_STACK;
use std::rc::Rc;

/// Bytes of a stack slot.
pub(crate) const SLOT: usize = 8;
/// Slots of a full frame.
pub(crate) const MAX_SLOTS: usize = MAX_BPF_STACK as usize / SLOT;

/// What a byte of stack holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Byte {
    /// Nothing was stored.
    Invalid,
    /// Part of a spilled register.
    Spill,
    /// Some data.
    Misc,
    /// Zero.
    Zero,
    /// Part of a dynptr.
    Dynptr,
    /// Part of an iterator.
    Iter,
    /// Part of a saved irq flag.
    IrqFlag,
}

/// Eight bytes of stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StackSlot {
    /// What each byte holds, highest address first.
    pub bytes: [Byte; SLOT],
    /// The spilled register, or the details of a dynptr, iterator or irq flag.
    pub reg: Reg,
}

impl StackSlot {
    pub(crate) const EMPTY: Self = Self {
        bytes: [Byte::Invalid; SLOT],
        reg: Reg::NOT_INIT,
    };

    /// A register, or its lower part, was stored here; partial spills start at the lowest address of the slot.
    pub(crate) fn is_spill(&self) -> bool {
        self.bytes[SLOT - 1] == Byte::Spill
    }

    pub(crate) fn is_spilled_scalar(&self) -> bool {
        self.is_spill() && self.reg.is_scalar()
    }

    /// All eight bytes belong to the spill.
    pub(crate) fn is_full_spill(&self) -> bool {
        self.bytes[0] == Byte::Spill
    }

    pub(crate) fn is_special(&self) -> bool {
        matches!(self.bytes[0], Byte::Dynptr | Byte::Iter | Byte::IrqFlag)
    }
}

/// The stack of a frame; slot 0 is the highest (`fp-8`).
pub(crate) type Stack = Vec<StackSlot>;

/// Why a frame was entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FrameKind {
    /// The program, or a global function that is verified on its own.
    Entry,
    /// A call of a static subprog.
    Call,
    /// A callback that a helper calls while it runs.
    Callback {
        /// What the callback may return: inclusive bounds.
        ret: (i32, i32),
    },
    /// A callback that runs later (timer, work queue, task work).
    AsyncCallback {
        /// It must return 0.
        returns_zero: bool,
    },
}

/// One call frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// `r0`–`r10`.
    pub regs: [Reg; 11],
    /// Stack, as far as it was touched.
    pub stack: Rc<Stack>,
    /// Slot of the call instruction in the caller.
    pub callsite: u32,
    /// Index of the subprog.
    pub subprog: u32,
    /// Why it was entered.
    pub kind: FrameKind,
    /// Number of the entry into an async callback, to tell its loops from its re-entries.
    pub async_entry: u32,
    /// How often in a row this callback has been entered from its call.
    pub callback_depth: u32,
    /// It compares the nodes of a tree.
    pub is_tree_callback: bool,
}

impl Frame {
    pub(crate) fn new(callsite: u32, subprog: u32, index: usize, kind: FrameKind) -> Self {
        let mut regs = [Reg::NOT_INIT; 11];
        regs[10] = Reg {
            aux: index as u32,
            ..Reg::pointer(Kind::Stack)
        };
        Self {
            regs,
            stack: Rc::new(Vec::new()),
            callsite,
            subprog,
            kind,
            async_entry: 0,
            callback_depth: 0,
            is_tree_callback: false,
        }
    }

    /// Makes room for `slots` slots.
    pub(crate) fn grow_stack(&mut self, slots: usize) {
        if self.stack.len() < slots {
            Rc::make_mut(&mut self.stack).resize(slots.min(MAX_SLOTS), StackSlot::EMPTY);
        }
    }

    pub(crate) fn stack_mut(&mut self) -> &mut Stack {
        Rc::make_mut(&mut self.stack)
    }
}

/// What must be given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RefKind {
    /// A pointer.
    Pointer,
    /// Saved interrupt state.
    Irq,
    /// A spin lock; `id` and `object` identify what it protects.
    Lock,
    /// A resilient spin lock.
    ResLock,
    /// A resilient spin lock that also saves interrupt state.
    ResLockIrq,
}

impl RefKind {
    /// A lock of any kind.
    pub(crate) const fn is_lock(self) -> bool {
        matches!(self, Self::Lock | Self::ResLock | Self::ResLockIrq)
    }
}

/// Something acquired and not yet released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ref {
    /// What it is.
    pub kind: RefKind,
    /// Its id (for locks: the id of the pointer locked).
    pub id: u32,
    /// Where it was acquired.
    pub insn: u32,
    /// For locks: which object (map index + 1, or 0 for allocated objects); for irq flags the kfunc class.
    pub object: u32,
}

/// A set of linked scalars, packed into a history entry: up to six (frame, register or slot).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LinkedRegs {
    /// Entries: frame << 8 | is_reg << 7 | index.
    pub entries: [u16; 6],
    /// How many are used.
    pub len: u8,
}

impl LinkedRegs {
    /// Adds one, or returns false if it is full.
    pub(crate) fn push(&mut self, frame: usize, is_reg: bool, index: usize) -> bool {
        if usize::from(self.len) == self.entries.len() {
            return false;
        }
        self.entries[usize::from(self.len)] =
            ((frame as u16) << 8) | (u16::from(is_reg) << 7) | index as u16;
        self.len += 1;
        true
    }

    /// (frame, is register, index of register or slot)
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, bool, usize)> + '_ {
        self.entries[..usize::from(self.len)]
            .iter()
            .map(|&e| (usize::from(e >> 8), e & 0x80 != 0, usize::from(e & 0x7f)))
    }
}

/// A step of a path that walking back needs to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Step {
    /// The instruction.
    pub insn: u32,
    /// The instruction before it.
    pub prev: u32,
    /// Stack slot that it read or wrote: frame and slot.
    pub stack: Option<(u8, u8)>,
    /// `dst` of a comparison was a stack pointer.
    pub dst_is_stack: bool,
    /// `src` of a comparison was a stack pointer.
    pub src_is_stack: bool,
    /// Scalars that learned from each other here.
    pub linked: LinkedRegs,
}

/// Stands for "before the first instruction".
pub(crate) const NO_INSN: u32 = u32::MAX;

/// Index of a kept state.
pub(crate) type StateId = u32;

/// The state of one path.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Call frames, the innermost last; at most 8.
    pub frames: Vec<Rc<Frame>>,
    /// What was acquired.
    pub refs: Vec<Ref>,
    /// Spin locks held.
    pub locks: u32,
    /// Id of the lock taken last, and its object.
    pub lock_id: u32,
    /// Object of the lock taken last.
    pub lock_object: u32,
    /// Id of the innermost saved irq state, 0 for none.
    pub irq_id: u32,
    /// Nested `bpf_preempt_disable`.
    pub preempt_off: u32,
    /// Nested `bpf_rcu_read_lock`.
    pub rcu_locks: u32,
    /// The path is only taken speculatively.
    pub speculative: bool,
    /// The innermost frames may sleep.
    pub sleepable: bool,
    /// The kept state this path comes from.
    pub parent: Option<StateId>,
    /// First instruction since the parent.
    pub first_insn: u32,
    /// Instruction before the current one; `NO_INSN` at an entry.
    pub last_insn: u32,
    /// Current instruction.
    pub insn: u32,
    /// Steps since the parent.
    pub history: Vec<Step>,
    /// How deep in the walk.
    pub dfs_depth: u32,
    /// How often loops by callback were unrolled.
    pub callback_unroll_depth: u32,
    /// How often `may_goto` fell through.
    pub may_goto_depth: u32,
}

impl State {
    /// The innermost frame.
    pub(crate) fn frame(&self) -> &Frame {
        self.frames
            .last()
            .unwrap_or_else(|| unreachable!("a state has at least one frame"))
    }

    /// The innermost frame, to change.
    pub(crate) fn frame_mut(&mut self) -> &mut Frame {
        match self.frames.last_mut() {
            Some(f) => Rc::make_mut(f),
            None => unreachable!("a state has at least one frame"),
        }
    }

    /// Frame `index`, to change.
    pub(crate) fn frame_at_mut(&mut self, index: usize) -> &mut Frame {
        Rc::make_mut(&mut self.frames[index])
    }

    /// Index of the innermost frame.
    pub(crate) fn depth(&self) -> usize {
        self.frames.len() - 1
    }

    /// Calls `f` for every register and spilled register of every frame.
    pub(crate) fn for_each_reg(&mut self, mut f: impl FnMut(&mut Reg)) {
        for frame in &mut self.frames {
            let frame = Rc::make_mut(frame);
            for reg in &mut frame.regs {
                f(reg);
            }
            if frame.stack.iter().any(StackSlot::is_spill) {
                for slot in Rc::make_mut(&mut frame.stack)
                    .iter_mut()
                    .filter(|s| s.is_spill())
                {
                    f(&mut slot.reg);
                }
            }
        }
    }

    /// The call sites of all frames equal.
    pub(crate) fn same_callsites(&self, other: &Self) -> bool {
        self.frames.len() == other.frames.len()
            && self
                .frames
                .iter()
                .zip(&other.frames)
                .all(|(a, b)| a.callsite == b.callsite)
    }
}

impl State {
    /// A state without frames, to be filled.
    pub(crate) const fn empty() -> Self {
        Self {
            frames: Vec::new(),
            refs: Vec::new(),
            locks: 0,
            lock_id: 0,
            lock_object: 0,
            irq_id: 0,
            preempt_off: 0,
            rcu_locks: 0,
            speculative: false,
            sleepable: false,
            parent: None,
            first_insn: 0,
            last_insn: NO_INSN,
            insn: 0,
            history: Vec::new(),
            dfs_depth: 0,
            callback_unroll_depth: 0,
            may_goto_depth: 0,
        }
    }
}
