//! Dynptrs: bounded memory behind an opaque object of sixteen bytes on the stack.

use crate::args::CallArgs;
use crate::cause::Cause;
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::reg::{Flags, Kind, Reg};
use crate::special::{Found, Place};
use crate::state::Byte;
use crate::verifier::Verifier;
use skep_abi::helper::{Arg, ArgFlags, ArgKind, DynptrKind, HelperProto};
use skep_abi::kernel::{Rule, has_rule};

/// Slots of a dynptr.
const DYNPTR_SLOTS: usize = 2;
/// Set in the id that a pointer carries which `bpf_dynptr_slice` gave, not `bpf_dynptr_data`.
const SLICE: u32 = 1 << 31;
/// Above the id that a slice carries: the frame that its buffer lies in, 0 for none or the outermost.
const BUFFER_SHIFT: u32 = 28;
const BUFFER_MASK: u32 = !(SLICE | ((1 << BUFFER_SHIFT) - 1));

/// An initialised dynptr that a call was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DynptrUse {
    /// Its id; slices carry it.
    pub id: u32,
    /// The reference it holds, 0 for none.
    pub ref_id: u32,
    /// What it covers.
    pub kind: DynptrKind,
}

impl DynptrUse {
    /// Over packet data, which may move.
    pub(crate) const fn is_packet(self) -> bool {
        matches!(
            self.kind,
            DynptrKind::Skb | DynptrKind::Xdp | DynptrKind::SkbMeta
        )
    }
}

const KINDS: [DynptrKind; 6] = [
    DynptrKind::Any,
    DynptrKind::Local,
    DynptrKind::Ringbuf,
    DynptrKind::Skb,
    DynptrKind::Xdp,
    DynptrKind::SkbMeta,
];

pub(crate) fn kind_of(reg: &Reg) -> DynptrKind {
    KINDS
        .get(reg.aux as usize)
        .copied()
        .unwrap_or(DynptrKind::Any)
}

fn number_of(kind: DynptrKind) -> u32 {
    KINDS.iter().position(|&k| k == kind).unwrap_or(0) as u32
}

fn refused<T>(i: usize, why: &str) -> Check<T> {
    fail(
        code::DYNPTR,
        errno::EINVAL,
        Cause::about(i, format!("r{i} {why}")),
    )
}

impl Verifier<'_> {
    /// Argument `i` of a helper is a dynptr.
    pub(crate) fn dynptr_arg(
        &mut self,
        _proto: &HelperProto,
        i: usize,
        arg: Arg,
        args: &mut CallArgs,
    ) -> Check {
        let ArgKind::Dynptr(kind) = arg.kind else {
            return Ok(());
        };
        if arg.flags.has(ArgFlags::UNINIT) {
            return self.new_dynptr(i, kind, 0);
        }
        if arg.flags.has(ArgFlags::RELEASE) {
            let held = match self.special_place(i, DYNPTR_SLOTS) {
                Found::At(at) => self.cur.frames[at.frame].stack[at.slot].reg.ref_id != 0,
                _ => false,
            };
            if !held {
                let message = Cause::about(i, format!("r{i} is no dynptr that holds a reference"));
                return fail(code::ARG_REFERENCE, errno::EINVAL, message);
            }
        }
        let used = self.used_dynptr(i, arg.flags.has(ArgFlags::RDONLY))?;
        if kind != DynptrKind::Any && used.kind != kind {
            return refused(i, "is a dynptr of another kind than this function takes");
        }
        args.dynptr = Some(used);
        Ok(())
    }

    /// Register `i` must be an initialised dynptr.
    pub(crate) fn used_dynptr(&mut self, i: usize, reads_only: bool) -> Check<DynptrUse> {
        let reg = *self.reg(i);
        if reg.kind == Kind::Dynptr {
            self.check_unmoved(i, false)?;
            if !reads_only {
                return refused(i, "is a constant dynptr, which this function would change");
            }
            return Ok(DynptrUse {
                id: reg.id,
                ref_id: reg.ref_id,
                kind: kind_of(&reg),
            });
        }
        let Found::At(at) = self.special_place(i, DYNPTR_SLOTS) else {
            return refused(i, "does not point to an initialised dynptr");
        };
        let whole = self
            .special_slots(at, DYNPTR_SLOTS)
            .iter()
            .all(|s| s.bytes.iter().all(|&b| b == Byte::Dynptr));
        let first = self.cur.frames[at.frame].stack[at.slot].reg;
        if !whole || first.aux2 != 1 {
            return refused(i, "does not point to an initialised dynptr");
        }
        self.read_special(at, DYNPTR_SLOTS);
        Ok(DynptrUse {
            id: first.id,
            ref_id: first.ref_id,
            kind: kind_of(&first),
        })
    }

    /// A dynptr is made where register `i` points; clones share the reference `clone_of`.
    pub(crate) fn new_dynptr(&mut self, i: usize, kind: DynptrKind, clone_of: u32) -> Check {
        if self.special_place(i, DYNPTR_SLOTS) == Found::Bad {
            return refused(i, "does not point to room for a dynptr on the stack");
        }
        self.overwrite_slots(i, DYNPTR_SLOTS)?;
        let Found::At(at) = self.special_place(i, DYNPTR_SLOTS) else {
            return refused(i, "does not point to room for a dynptr on the stack");
        };
        let id = self.new_id();
        let ref_id = match (kind, clone_of) {
            (DynptrKind::Ringbuf, 0) => self.acquire(),
            (_, shared) => shared,
        };
        let rest = Reg {
            aux: number_of(kind),
            id,
            ref_id,
            ..Reg::pointer(Kind::Dynptr)
        };
        self.put_special(
            at,
            DYNPTR_SLOTS,
            Byte::Dynptr,
            Reg { aux2: 1, ..rest },
            rest,
        );
        Ok(())
    }

    /// Releases the dynptr argument `i` of a helper, if it is one.
    pub(crate) fn release_dynptr_arg(&mut self, proto: &HelperProto, i: usize) -> Check<bool> {
        if !matches!(
            proto.args.get(i - 1).map(|a| a.kind),
            Some(ArgKind::Dynptr(_))
        ) {
            return Ok(false);
        }
        let Found::At(at) = self.special_place(i, DYNPTR_SLOTS) else {
            return refused(i, "does not point to an initialised dynptr");
        };
        let ref_id = self.cur.frames[at.frame].stack[at.slot].reg.ref_id;
        self.release(ref_id)?;
        for (at, id) in self.dynptrs_with(|r| r.ref_id == ref_id) {
            self.remove_special(at, DYNPTR_SLOTS);
            // Slices too, which the kernel forgets (docs/kernels.md): the record is no longer the program's.
            self.forget_data(|of| of & !(SLICE | BUFFER_MASK) == id);
        }
        Ok(true)
    }

    /// All dynptrs on the stacks that satisfy `wanted`: place and id.
    fn dynptrs_with(&self, wanted: impl Fn(&Reg) -> bool) -> Vec<(Place, u32)> {
        let mut found = Vec::new();
        for (frame, f) in self.cur.frames.iter().enumerate() {
            for (slot, s) in f.stack.iter().enumerate() {
                if s.bytes[0] == Byte::Dynptr && s.reg.aux2 == 1 && wanted(&s.reg) {
                    found.push((Place { frame, slot }, s.reg.id));
                }
            }
        }
        found
    }

    /// What a slice of dynptr `id` carries, if argument `buffer` is where its bytes may be copied to.
    pub(crate) fn slice_of(&mut self, id: u32, buffer: usize) -> u32 {
        let reg = self.reg(buffer);
        let frame = if reg.kind == Kind::Stack { reg.aux } else { 0 };
        self.slices_in_frames |= frame > 0;
        id | SLICE | ((frame << BUFFER_SHIFT) & BUFFER_MASK)
    }

    /// Frame `frame` ends: slices may be a buffer in it. The kernel forgets that (docs/kernels.md).
    pub(crate) fn forget_slices_of_frame(&mut self, frame: usize) {
        if self.slices_in_frames {
            self.forget_data(|of| {
                of & SLICE != 0 && (of & BUFFER_MASK) >> BUFFER_SHIFT == frame as u32
            });
        }
    }

    /// Pointers into the memory of a dynptr become unusable.
    fn forget_data(&mut self, is_its: impl Fn(u32) -> bool) {
        let leak = self.privileges.leak_pointers;
        self.cur.for_each_reg(|r| {
            if r.kind == Kind::Mem && is_its(r.aux2) {
                *r = if leak { Reg::UNKNOWN } else { Reg::NOT_INIT };
            }
        });
    }

    /// A store hits slot `slot` of frame `frame`: a dynptr there ends.
    pub(crate) fn drop_special_object(&mut self, frame: usize, slot: usize) -> Check {
        let Some(s) = self.cur.frames[frame].stack.get(slot) else {
            return Ok(());
        };
        if s.bytes[0] != Byte::Dynptr {
            return Ok(());
        }
        if !has_rule(self.req.kernel, Rule::DynptrEnds) {
            let message =
                "a dynptr is overwritten, and what this kernel makes of that is not known";
            return fail(code::NOT_KNOWN, errno::EOPNOTSUPP, message);
        }
        if s.reg.ref_id != 0 {
            return fail(
                code::DYNPTR,
                errno::EINVAL,
                "a dynptr that holds a reference would be overwritten",
            );
        }
        let id = s.reg.id;
        let first = if s.reg.aux2 == 1 { slot } else { slot + 1 };
        self.remove_special(Place { frame, slot: first }, DYNPTR_SLOTS);
        // What slices point to stays: only `bpf_dynptr_data` ends with its dynptr.
        self.forget_data(|of| of == id);
        Ok(())
    }

    /// `bpf_dynptr_from_mem` takes map values only.
    pub(crate) fn check_dynptr_from_mem(&mut self) -> Check {
        let reg = self.reg(1);
        if reg.kind == Kind::MapValue && reg.flags == Flags::NONE {
            return Ok(());
        }
        let message = format!("bpf_dynptr_from_mem does not take {}", reg.describe());
        fail(code::ARG_TYPE, errno::EACCES, message)
    }

    /// A write through a dynptr may move packet data.
    pub(crate) fn note_dynptr_write(&mut self, args: &CallArgs) {
        let moves = |d: DynptrUse| matches!(d.kind, DynptrKind::Skb | DynptrKind::SkbMeta);
        if args.dynptr.is_some_and(moves) {
            self.forget_packet_pointers();
        }
    }

    /// What `bpf_dynptr_data` returns.
    pub(crate) fn dynptr_data_result(&mut self, args: &CallArgs) -> Check<Reg> {
        let Some(dynptr) = args.dynptr else {
            return fail(code::DYNPTR, errno::EINVAL, "the call has no dynptr");
        };
        Ok(Reg {
            flags: Flags::NULLABLE,
            aux: args.alloc_size,
            aux2: dynptr.id,
            ref_id: dynptr.ref_id,
            ..Reg::pointer(Kind::Mem)
        })
    }

    /// The dynptr that `bpf_user_ringbuf_drain` hands to its callback.
    pub(crate) fn callback_dynptr(&mut self) -> Reg {
        Reg {
            aux: number_of(DynptrKind::Local),
            id: self.new_id(),
            ..Reg::pointer(Kind::Dynptr)
        }
    }
}
