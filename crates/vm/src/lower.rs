//! [`Verified`] → [`Lowered`]: what the kernel calls fixups.
//!
//! One pass over the slots emits ops and remembers where each slot begins; a second one patches jump targets. With
//! [`Fold::Facts`] branches that the verifier decided are folded; [`Fold::Nothing`] keeps the program as written, so that a
//! checked run can catch a wrong proof. The proof tells no constants of scalars:
//! where the walk found one imprecise, a path with another value may have been pruned.

use crate::ctx;
use crate::helpers;
use crate::lowered::{ArenaView, Callee, Func, Lowered, Mem, MoveOp, Op, OpIdx, Space, direction};
use crate::proof::Proof;
use skep_abi::MapType;
use skep_isa::{AluOp, Call, EndOp, Imm64, Insn, JmpOp, Reg, Size, Src, Width};
use skep_maps::{Heap, MapHeader, Told};
use skep_verifier::{AccessFact, Branch, InsnFact, MapField, Often, Region, Subprog, Verified};
use std::mem::offset_of;

/// Number of the tail call helper, which is an op of its own.
const HELPER_TAIL_CALL: u32 = 12;
/// Address space number of an arena in `addr_space_cast`.
const ARENA_ADDR_SPACE: u16 = 1;

/// What stack that was never written reads as, sign-extended: it looks like an address, as most of what is on a kernel's stack.
const UNWRITTEN: i32 = 0xa5a5_a5a5_u32.cast_signed();

/// Whether lowering trusts the verifier's facts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fold {
    /// Decided branches are folded.
    Facts,
    /// Every reached instruction stays as written.
    Nothing,
}

/// Why a verified program cannot be lowered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LowerError {
    /// It calls something that exists only in a kernel.
    NoCallee {
        /// Slot of the call.
        slot: u32,
        /// Name or number of the function.
        name: String,
    },
    /// It uses an address that exists only in a kernel.
    KernelVariable {
        /// Slot of the load.
        slot: u32,
    },
    /// A load gives a stored pointer on some paths, and a number on others.
    SometimesPointer {
        /// Slot of the load.
        slot: u32,
    },
    /// A call makes objects of one type on some paths and of another on others, or takes nodes from different places.
    DifferentObjects {
        /// Slot of the call.
        slot: u32,
    },
    /// The proof does not fit the instructions.
    Inconsistent {
        /// Slot where it shows.
        slot: u32,
    },
}

impl std::fmt::Display for LowerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoCallee { slot, name } => {
                write!(f, "{name}, called at {slot}, exists only in a kernel")
            }
            Self::KernelVariable { slot } => {
                write!(
                    f,
                    "the variable whose address is loaded at {slot} exists only in a kernel"
                )
            }
            Self::SometimesPointer { slot } => write!(
                f,
                "the load at {slot} gives a stored pointer on some paths and a number on others"
            ),
            Self::DifferentObjects { slot } => write!(
                f,
                "the call at {slot} is for objects of different types on different paths"
            ),
            Self::Inconsistent { slot } => write!(f, "the proof does not fit instruction {slot}"),
        }
    }
}

impl std::error::Error for LowerError {}

/// Lowers a program whose objects are in `heap`; without one it gets none.
///
/// # Errors
/// If the program needs something that exists only in a kernel.
pub fn lower(verified: &Verified, fold: Fold, heap: Option<&Heap>) -> Result<Lowered, LowerError> {
    lower_proof(verified.into(), fold, heap)
}

/// As [`lower`].
pub(crate) fn lower_proof(
    verified: Proof,
    fold: Fold,
    heap: Option<&Heap>,
) -> Result<Lowered, LowerError> {
    let mut l = Lowering {
        v: &verified,
        fold,
        heap_base: heap.map(Heap::base),
        ops: Vec::with_capacity(verified.insns().len()),
        slots: Vec::new(),
        first_op: vec![OpIdx::MAX; verified.insns().len() + 1],
        jumps: Vec::new(),
        callees: Vec::new(),
        throws: false,
    };
    let mut funcs = Vec::with_capacity(verified.subprogs().len());
    for s in verified.subprogs() {
        let start = l.here();
        l.fill_unwritten(s);
        let body = l.here();
        l.function(s.start, s.end)?;
        let ops = &l.ops[body as usize..];
        funcs.push(Func {
            start,
            body,
            end: l.here(),
            stack_bytes: s.stack_bytes,
            is_callback: s.is_callback,
            has_tail_call: s.has_tail_call,
            has_may_goto: ops.iter().any(|op| matches!(op, Op::MayGoto { .. })),
        });
    }
    l.patch_jumps()?;
    let Lowering {
        ops,
        slots,
        callees,
        throws,
        ..
    } = l;
    let arena = verified
        .maps()
        .iter()
        .position(|m| m.map_type == MapType::Arena)
        .and_then(|i| u32::try_from(i).ok());
    let exception_callback = verified
        .subprogs()
        .iter()
        .position(|s| s.is_exception_callback)
        .and_then(|i| u32::try_from(i).ok());
    Ok(Lowered {
        ops,
        funcs,
        callees,
        slots,
        arena,
        throws,
        exception_callback,
        verified,
    })
}

struct Lowering<'a> {
    v: &'a Proof,
    fold: Fold,
    /// Where the objects of the program lie.
    heap_base: Option<u64>,
    ops: Vec<Op>,
    slots: Vec<u32>,
    /// Per slot, the op it begins with; `MAX` if it is dead.
    first_op: Vec<OpIdx>,
    /// Ops whose target still is a slot.
    jumps: Vec<OpIdx>,
    callees: Vec<Callee>,
    throws: bool,
}

impl Lowering<'_> {
    fn here(&self) -> OpIdx {
        OpIdx::try_from(self.ops.len()).unwrap_or(OpIdx::MAX)
    }

    fn emit(&mut self, slot: u32, op: Op) {
        self.ops.push(op);
        self.slots.push(slot);
    }

    fn emit_jump(&mut self, slot: u32, op: Op) {
        self.jumps.push(self.here());
        self.emit(slot, op);
    }

    fn fact(&self, slot: u32) -> &InsnFact {
        &self.v.facts()[slot as usize]
    }

    /// Fills the stack that `func` may read before it has written it, so that it reads the same in every run and engine, and
    /// nothing that others left there.
    fn fill_unwritten(&mut self, func: &Subprog) {
        for n in (0..u64::BITS).filter(|n| func.unwritten >> n & 1 == 1) {
            let mem = Mem {
                base: Reg::R10,
                offset: -8 * (n.cast_signed() + 1),
                space: Space::Plain,
            };
            let op = Op::Store {
                size: Size::DW,
                src: Src::Imm(UNWRITTEN),
                mem,
            };
            self.emit(func.start, op);
        }
    }

    fn function(&mut self, start: u32, end: u32) -> Result<(), LowerError> {
        let first = self.here();
        let mut slot = start;
        while slot < end {
            let insn = skep_isa::decode(self.v.insns(), slot as usize)
                .map_err(|_| LowerError::Inconsistent { slot })?;
            self.first_op[slot as usize] = self.here();
            if self.fact(slot).reached {
                if self.fact(slot).barrier {
                    self.emit(slot, Op::Barrier);
                }
                self.insn(slot, insn)?;
                // As in the kernel only behind plain stores: atomic operations let no later load pass.
                if self.fact(slot).barrier_after && matches!(insn, Insn::Store { .. }) {
                    self.emit(slot, Op::Barrier);
                }
            }
            slot += if insn.slots() == 2 { 2 } else { 1 };
        }
        if self.here() == first || !ends_flow(self.ops[self.ops.len() - 1]) {
            self.emit(start, Op::Unreachable);
        }
        Ok(())
    }

    /// A jump into dead code lands on the next live op, or on `Unreachable`: the proof says that it never happens.
    fn patch_jumps(&mut self) -> Result<(), LowerError> {
        for at in std::mem::take(&mut self.jumps) {
            let slot = self.slots[at as usize];
            let (Op::Jump { target } | Op::JumpIf { target, .. } | Op::MayGoto { target }) =
                &mut self.ops[at as usize]
            else {
                return Err(LowerError::Inconsistent { slot });
            };
            let op = self.first_op.get(*target as usize).copied();
            *target = op
                .filter(|&op| op != OpIdx::MAX)
                .ok_or(LowerError::Inconsistent { slot })?;
        }
        Ok(())
    }

    fn insn(&mut self, slot: u32, insn: Insn) -> Result<(), LowerError> {
        match insn {
            Insn::Alu {
                width,
                op,
                dst,
                src,
            } => return self.alu(slot, width, op, dst, src),
            Insn::Neg { width, dst } => self.emit(slot, Op::Neg { width, dst }),
            Insn::Mov { width, dst, src } => self.mov(slot, width, dst, src),
            Insn::Movsx {
                width,
                from,
                dst,
                src,
            } => self.emit(
                slot,
                Op::Movsx {
                    width,
                    from,
                    dst,
                    src,
                },
            ),
            Insn::AddrSpaceCast {
                dst, src, dst_as, ..
            } => self.arena_cast(slot, dst, src, dst_as),
            Insn::End { op, size, dst } => self.emit(slot, Op::End { op, size, dst }),
            Insn::LoadImm64 { dst, imm } => return self.load_imm64(slot, dst, imm),
            Insn::LoadAbs { size, imm } => self.load_packet(slot, size, None, imm),
            Insn::LoadInd { size, src, imm } => self.load_packet(slot, size, Some(src), imm),
            Insn::Load { .. }
            | Insn::Store { .. }
            | Insn::Atomic { .. }
            | Insn::LoadAcquire { .. }
            | Insn::StoreRelease { .. } => return self.access(slot, insn),
            Insn::Jump { offset, .. } => {
                return self.jump(slot, offset, |target| Op::Jump { target });
            }
            Insn::JumpIf { .. } => return self.jump_if(slot, insn),
            Insn::MayGoto { offset } => {
                return self.jump(slot, i32::from(offset), |target| Op::MayGoto { target });
            }
            Insn::Call(call) => return self.call(slot, call),
            Insn::CallReg { .. } => return Err(LowerError::Inconsistent { slot }),
            Insn::Exit => self.emit(slot, Op::Exit),
        }
        Ok(())
    }

    /// Arithmetic; that on pointers is limited where the proof says so.
    fn alu(
        &mut self,
        slot: u32,
        width: Width,
        op: AluOp,
        dst: Reg,
        src: Src,
    ) -> Result<(), LowerError> {
        let plain = Op::Alu {
            width,
            op,
            dst,
            src,
        };
        let op = match (self.fact(slot).pointer_limit, op, src) {
            (Some(limit), AluOp::Add, Src::Reg(src)) => (limit, MoveOp::Add, src),
            (Some(limit), AluOp::Sub, Src::Reg(src)) => (limit, MoveOp::Sub, src),
            _ => {
                self.emit(slot, plain);
                return Ok(());
            }
        };
        let (limit, op, src) = op;
        if !limit.constant {
            self.emit(
                slot,
                Op::MovePointer {
                    op,
                    dst,
                    src,
                    limit,
                },
            );
            return Ok(());
        }
        // The register may hold another number in mispredicted code, but this never changes.
        if !limit.pointer_is_dst {
            self.mov(slot, width, dst, Src::Reg(src));
        }
        let distance = i32::try_from(limit.limit).map_err(|_| LowerError::Inconsistent { slot })?;
        let op = match direction(op, limit) {
            MoveOp::Add => AluOp::Add,
            MoveOp::Sub => AluOp::Sub,
        };
        let src = Src::Imm(distance);
        self.emit(
            slot,
            Op::Alu {
                width,
                op,
                dst,
                src,
            },
        );
        Ok(())
    }

    fn mov(&mut self, slot: u32, width: Width, dst: Reg, src: Src) {
        let op = match (src, width) {
            (Src::Reg(src), _) => Op::Mov { width, dst, src },
            (Src::Imm(imm), Width::W64) => Op::Const {
                dst,
                value: i64::from(imm) as u64,
            },
            (Src::Imm(imm), Width::W32) => Op::Const {
                dst,
                value: u64::from(imm as u32),
            },
        };
        self.emit(slot, op);
    }

    fn arena_cast(&mut self, slot: u32, dst: Reg, src: Reg, dst_as: u16) {
        let view = if dst_as == ARENA_ADDR_SPACE {
            ArenaView::User
        } else {
            ArenaView::Program
        };
        self.emit(slot, Op::ArenaCast { view, dst, src });
    }

    fn load_imm64(&mut self, slot: u32, dst: Reg, imm: Imm64) -> Result<(), LowerError> {
        let index = |i: i32| u32::try_from(i).map_err(|_| LowerError::Inconsistent { slot });
        let op = match imm {
            Imm64::Value(value) => Op::Const { dst, value },
            Imm64::MapFd(map) | Imm64::MapIdx(map) => Op::MapAddr {
                dst,
                map: index(map)?,
            },
            Imm64::MapFdValue { fd: map, offset } | Imm64::MapIdxValue { index: map, offset } => {
                Op::MapValueAddr {
                    dst,
                    map: index(map)?,
                    offset,
                }
            }
            Imm64::BtfId { .. } => return Err(LowerError::KernelVariable { slot }),
            Imm64::Func(distance) => Op::FuncAddr {
                dst,
                func: self.func_at(slot, distance)?,
            },
        };
        self.emit(slot, op);
        Ok(())
    }

    /// Index of the function that starts `distance` slots after the next slot.
    fn func_at(&self, slot: u32, distance: i32) -> Result<u32, LowerError> {
        let start = (slot + 1).checked_add_signed(distance);
        self.v
            .subprogs()
            .iter()
            .position(|s| Some(s.start) == start)
            .and_then(|i| u32::try_from(i).ok())
            .ok_or(LowerError::Inconsistent { slot })
    }

    fn load_packet(&mut self, slot: u32, size: Size, index: Option<Reg>, imm: i32) {
        self.emit(slot, Op::LoadPacket { size, index, imm });
    }

    /// Loads, stores and atomics; those of the context go to the native structure.
    fn access(&mut self, slot: u32, insn: Insn) -> Result<(), LowerError> {
        let region = self.fact(slot).access.map(|a| a.region);
        if self.fact(slot).unused && matches!(region, Some(Region::Btf { .. })) {
            return Ok(());
        }
        let space = match region {
            Some(Region::Btf { .. } | Region::Object) => Space::Probe,
            Some(Region::Arena) => Space::Arena,
            _ => Space::Plain,
        };
        let native = match region {
            Some(Region::Ctx(field)) => ctx::native_pointer(self.v.prog_type(), &field),
            _ => None,
        };
        let in_map = match self.fact(slot).access {
            Some(AccessFact {
                region: Region::Map(field),
                offset,
            }) => Some(map_delta(field, offset).ok_or(LowerError::Inconsistent { slot })?),
            _ => None,
        };
        let stored = match region {
            Some(Region::Ctx(field)) => ctx::stored(self.v.prog_type(), &field),
            _ => None,
        };
        if let (Some(stored), Insn::Store { src, .. }) = (stored, insn)
            && !self.is_stored(slot, stored, src)?
        {
            return Ok(());
        }
        let place = NativeMem {
            space,
            delta: native.map(|n| n.delta).or(in_map).unwrap_or(0),
            load: native.map(|_| Size::DW),
            store: stored.map(|_| Size::H),
        };
        self.emit(slot, place.op(insn));
        match (self.fact(slot).stored_pointer, insn) {
            (Often::Always, Insn::Load { dst, .. }) => self.confine(slot, dst)?,
            (Often::Sometimes, Insn::Load { .. }) => {
                return Err(LowerError::SometimesPointer { slot });
            }
            _ => {}
        }
        Ok(())
    }

    /// Makes a pointer that was loaded from shared memory NULL unless it leads to the heap of objects: whatever its upper half
    /// is if it is not that of the heap's addresses. (Bytes are swapped as immediates reach only the lower half.)
    fn confine(&mut self, slot: u32, dst: Reg) -> Result<(), LowerError> {
        let Some(base) = self.heap_base else {
            self.emit(slot, Op::Const { dst, value: 0 });
            return Ok(());
        };
        let swap = Op::End {
            op: EndOp::Bswap,
            size: Size::DW,
            dst,
        };
        let flip = Op::Alu {
            width: Width::W64,
            op: AluOp::Xor,
            dst,
            src: Src::Imm((base.swap_bytes() as u32).cast_signed()),
        };
        let here = self.here();
        let (zero, end) = (here + 6, here + 7);
        let is_elsewhere = Op::JumpIf {
            width: Width::W32,
            op: JmpOp::Ne,
            dst,
            src: Src::Imm(0),
            target: zero,
        };
        let (leave, null) = (Op::Jump { target: end }, Op::Const { dst, value: 0 });
        for op in [swap, flip, is_elsewhere, flip, swap, leave, null] {
            self.emit(slot, op);
        }
        Ok(())
    }

    /// Tests, where that depends on the value, whether a store to a context field happens; false if it never does.
    fn is_stored(&mut self, slot: u32, stored: ctx::Stored, src: Src) -> Result<bool, LowerError> {
        let ctx::Stored::CutBelow(limit) = stored else {
            return Ok(true);
        };
        match src {
            Src::Imm(imm) => Ok(imm < i32::from(limit)),
            Src::Reg(dst) => {
                self.jump(slot, 0, |target| Op::JumpIf {
                    width: Width::W64,
                    op: JmpOp::Ge,
                    dst,
                    src: Src::Imm(i32::from(limit)),
                    target,
                })?;
                Ok(true)
            }
        }
    }

    /// Emits a jump whose target is, for now, a slot.
    fn jump(&mut self, slot: u32, offset: i32, op: impl Fn(u32) -> Op) -> Result<(), LowerError> {
        let target = (slot + 1)
            .checked_add_signed(offset)
            .ok_or(LowerError::Inconsistent { slot })?;
        self.emit_jump(slot, op(target));
        Ok(())
    }

    fn jump_if(&mut self, slot: u32, insn: Insn) -> Result<(), LowerError> {
        let Insn::JumpIf {
            width,
            op,
            dst,
            src,
            offset,
        } = insn
        else {
            return Err(LowerError::Inconsistent { slot });
        };
        let branch = match self.fold {
            Fold::Facts => self.fact(slot).branch.unwrap_or(Branch::Both),
            Fold::Nothing => Branch::Both,
        };
        match branch {
            Branch::NotTaken => Ok(()),
            Branch::Taken => self.jump(slot, i32::from(offset), |target| Op::Jump { target }),
            Branch::Both => self.jump(slot, i32::from(offset), |target| Op::JumpIf {
                width,
                op,
                dst,
                src,
                target,
            }),
        }
    }

    fn call(&mut self, slot: u32, call: Call) -> Result<(), LowerError> {
        match call {
            Call::Subprog(distance) => {
                let func = self.func_at(slot, distance)?;
                self.emit(slot, Op::CallFunc { func });
                Ok(())
            }
            Call::Helper(id) if id.cast_unsigned() == HELPER_TAIL_CALL => {
                self.emit(slot, Op::TailCall);
                Ok(())
            }
            Call::Helper(id) => self.call_helper(slot, id.cast_unsigned()),
            Call::Kfunc { .. } => self.call_kfunc(slot),
        }
    }

    fn call_helper(&mut self, slot: u32, id: u32) -> Result<(), LowerError> {
        let map_type = self
            .fact(slot)
            .call
            .as_ref()
            .and_then(|c| c.map)
            .and_then(|m| self.v.maps().get(m as usize))
            .map(|m| m.map_type);
        let entry = helpers::helper(id, map_type).ok_or_else(|| LowerError::NoCallee {
            slot,
            name: format!("helper {id}"),
        })?;
        self.emit_call(slot, entry);
        Ok(())
    }

    fn call_kfunc(&mut self, slot: u32) -> Result<(), LowerError> {
        let name = self.fact(slot).call.as_ref().and_then(|c| c.kfunc.clone());
        let name = name.ok_or(LowerError::Inconsistent { slot })?;
        if name == "bpf_throw" {
            self.throws = true;
            self.emit(slot, Op::Throw);
            return Ok(());
        }
        self.hidden_argument(slot, &name)?;
        let entry = helpers::kfunc(&name).ok_or(LowerError::NoCallee { slot, name })?;
        self.emit_call(slot, entry);
        Ok(())
    }

    /// Loads the argument of a kfunc that programs leave open and the verifier knows.
    fn hidden_argument(&mut self, slot: u32, name: &str) -> Result<(), LowerError> {
        let fact = self.fact(slot).call.as_deref();
        let (dst, value) = match name {
            "bpf_obj_new_impl" | "bpf_percpu_obj_new_impl" => {
                let (bytes, of) = (
                    fact.and_then(|f| f.alloc_bytes),
                    fact.and_then(|f| f.alloc_type),
                );
                let dst = Reg::R2;
                let value = u64::from(of.ok_or(LowerError::DifferentObjects { slot })?);
                self.emit(slot, Op::Const { dst, value });
                (Reg::R1, bytes)
            }
            "bpf_list_push_front_impl" | "bpf_list_push_back_impl" => {
                (Reg::R4, fact.and_then(|f| f.node_offset))
            }
            "bpf_rbtree_add_impl" => (Reg::R5, fact.and_then(|f| f.node_offset)),
            "bpf_list_pop_front" | "bpf_list_pop_back" => {
                (Reg::R2, fact.and_then(|f| f.node_offset))
            }
            "bpf_rbtree_remove" => (Reg::R3, fact.and_then(|f| f.node_offset)),
            "bpf_refcount_acquire_impl" => (Reg::R2, fact.map(|f| u32::from(f.owning))),
            _ => return Ok(()),
        };
        let value = value.ok_or(LowerError::DifferentObjects { slot })?;
        self.emit(
            slot,
            Op::Const {
                dst,
                value: u64::from(value),
            },
        );
        Ok(())
    }

    fn emit_call(&mut self, slot: u32, entry: Callee) {
        let known = self
            .callees
            .iter()
            .position(|c| c.id == entry.id && std::ptr::fn_addr_eq(c.func, entry.func));
        let index = known.unwrap_or_else(|| {
            self.callees.push(entry);
            self.callees.len() - 1
        });
        let callee = u32::try_from(index).unwrap_or(u32::MAX);
        self.emit(slot, Op::Call { callee });
    }
}

/// Bytes from a field of the kernel's structure of a map, at `offset` there, to what a [`MapHeader`] has of it.
fn map_delta(field: MapField, offset: Option<i64>) -> Option<i32> {
    let told = offset_of!(MapHeader, told);
    let at = match field {
        MapField::Type => told + offset_of!(Told, map_type),
        MapField::KeySize => told + offset_of!(Told, key_size),
        MapField::ValueSize => told + offset_of!(Told, value_size),
        MapField::MaxEntries => told + offset_of!(Told, max_entries),
        MapField::Extra => told + offset_of!(Told, map_extra),
        MapField::Flags => told + offset_of!(Told, map_flags),
        MapField::Id => offset_of!(MapHeader, id),
    };
    i32::try_from(at as i64 - offset?).ok()
}

/// Where an access goes, if not to where the program says, and how wide it is there.
struct NativeMem {
    space: Space,
    /// Bytes between the program's view of the context and the native structure.
    delta: i32,
    /// Width of loads and stores, if it is another one.
    load: Option<Size>,
    store: Option<Size>,
}

impl NativeMem {
    fn mem(&self, base: Reg, offset: i16) -> Mem {
        Mem {
            base,
            offset: i32::from(offset) + self.delta,
            space: self.space,
        }
    }

    fn op(&self, insn: Insn) -> Op {
        match insn {
            Insn::Load {
                size,
                extend,
                dst,
                src,
                offset,
            } => Op::Load {
                size: self.load.unwrap_or(size),
                extend,
                dst,
                mem: self.mem(src, offset),
            },
            Insn::Store {
                size,
                dst,
                src,
                offset,
            } => Op::Store {
                size: self.store.unwrap_or(size),
                src,
                mem: self.mem(dst, offset),
            },
            Insn::Atomic {
                size,
                op,
                dst,
                src,
                offset,
            } => Op::Atomic {
                size,
                op,
                src,
                mem: self.mem(dst, offset),
            },
            Insn::LoadAcquire {
                size,
                dst,
                src,
                offset,
            } => Op::LoadAcquire {
                size,
                dst,
                mem: self.mem(src, offset),
            },
            Insn::StoreRelease {
                size,
                dst,
                src,
                offset,
            } => Op::StoreRelease {
                size,
                src,
                mem: self.mem(dst, offset),
            },
            _ => Op::Unreachable,
        }
    }
}

/// True for ops after which execution never falls through.
fn ends_flow(op: Op) -> bool {
    matches!(op, Op::Exit | Op::Jump { .. } | Op::Throw | Op::Unreachable)
}
