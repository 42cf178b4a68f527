//! Calls of kernel functions: who may call which, and what a call changes and returns.

use crate::args::CallArgs;
use crate::cause::{Cause, Section};
use crate::cfg::CallNature;
use crate::code;
use crate::domain::Scalar;
use crate::dynptr::DynptrUse;
use crate::fail::{Check, errno, fail, fail_at};
use crate::graph::{Graph, inserts};
use crate::reg::{Flags, Kind, Reg};
use crate::request::Caps;
use crate::special::Place;
use crate::state::FrameKind;
use crate::verified::CallFact;
use crate::verifier::{Flow, Verifier};
use skep_abi::kernel::Known;
use skep_abi::kfunc::{self, Kfunc, flag};
use skep_abi::prog::MAX_ERRNO;
use skep_btf::{Kind as BtfKind, Type};
use skep_isa::opcode as op;

/// Kfuncs that may be called while a spin lock is held, besides those of lists, trees and resilient locks.
const UNDER_LOCK: &[&str] = &[
    "bpf_arena_",
    "bpf_iter_num_",
    "bpf_list_",
    "bpf_rbtree_",
    "bpf_refcount_acquire_impl",
    "bpf_res_spin_",
    "bpf_stream_vprintk_impl",
];

/// A call under examination.
#[derive(Debug)]
pub(crate) struct KfuncCall<'k> {
    /// The function's rules.
    pub rules: &'static Kfunc,
    /// Its prototype.
    pub proto: Type<'k>,
    /// An initialised dynptr it was given.
    pub dynptr: Option<DynptrUse>,
    /// The iterator it works on.
    pub iter: Option<Place>,
    /// The size that must be constant.
    pub constant: Option<u64>,
    /// Reference of an argument.
    pub ref_id: u32,
    /// Register whose reference is released.
    pub release: Option<usize>,
    /// Object of an argument: BTF and type id.
    pub object: Option<(u32, u32)>,
    /// The list or tree it works on.
    pub graph: Option<Graph>,
    /// Where a node or count lies in its object.
    pub node_offset: Option<u32>,
    /// Bytes of the object it makes.
    pub alloc_bytes: Option<u32>,
    /// Its type, in the program's BTF.
    pub alloc_type: Option<u32>,
    /// The object of which a reference is taken is the program's own.
    pub owning: bool,
    /// Subprog passed as callback.
    pub callback: Option<u32>,
    /// Map of the call: index, and which inner map.
    pub map: Option<(u32, u32)>,
    /// Bytes of the memory it returns, and whether they are read-only.
    pub buffer: Option<(u32, bool)>,
}

/// Register with the buffer of `bpf_dynptr_slice`.
const BUFFER_ARG: usize = 3;

impl<'a> Verifier<'a> {
    /// Before the walk: what the kernel demands of every kfunc call, reached or not.
    pub(crate) fn check_kfuncs(&self) -> Check {
        for (at, s) in self.p.slots.iter().enumerate() {
            // Taken from the slot: here its other fields do not matter yet.
            let is_call = s.code == op::JMP | op::CALL && s.src() == op::PSEUDO_KFUNC_CALL;
            let (id, module) = (s.imm, s.offset);
            if !is_call || (id == 0 && module == 0) {
                continue;
            }
            if !self.req.gpl_compatible {
                let message = "only programs with a GPL-compatible license may call kfuncs";
                return fail_at(code::GPL_ONLY, errno::EINVAL, at, message);
            }
            if module != 0 {
                let message =
                    format!("kfunc {id} of module {module}: functions of modules are not known");
                return fail_at(code::UNKNOWN_KFUNC, errno::EINVAL, at, message);
            }
            if self.req.kernel_btf.is_none() {
                let message = "this needs the BTF of the kernel";
                return fail_at(code::NEEDS_KERNEL_BTF, errno::EINVAL, at, message);
            }
            if self.kfunc_type(id).is_none() {
                let message = format!("BTF type {id} of the kernel is no function");
                return fail_at(code::UNKNOWN_KFUNC, errno::EINVAL, at, message);
            }
            let metadata = |name: &str| name.starts_with("bpf_xdp_metadata_");
            if self.kfunc_name(id).is_some_and(metadata) {
                let message = "metadata of packets is only for programs that are bound to a device";
                return fail_at(code::UNKNOWN_KFUNC, errno::EINVAL, at, message);
            }
        }
        Ok(())
    }

    /// Name and prototype of the function with BTF id `id`.
    fn kfunc_type(&self, id: i32) -> Option<(&'a str, Type<'a>)> {
        let btf: &'a skep_btf::Btf = self.req.kernel_btf?;
        let func = btf.get(u32::try_from(id).ok()?)?;
        let proto = func.target()?;
        let fits = func.kind() == BtfKind::Func && proto.kind() == BtfKind::FuncProto;
        fits.then(|| (func.name(), proto))
    }

    /// Name of the function with BTF id `id`.
    pub(crate) fn kfunc_name(&self, id: i32) -> Option<&'a str> {
        self.kfunc_type(id).map(|(name, _)| name)
    }

    /// What the control flow graph needs to know of the kfunc.
    pub(crate) fn kfunc_nature(&self, id: i32) -> CallNature {
        let rules = self
            .kfunc_type(id)
            .and_then(|(name, _)| kfunc::by_name(name));
        match rules {
            Some(k) if k.has(flag::ITER_NEXT) => CallNature::IterNext,
            Some(k) if k.name == "bpf_rbtree_add_impl" => CallNature::SyncCallback,
            Some(k) if schedules(k.name) => CallNature::AsyncCallback,
            _ => CallNature::Plain,
        }
    }

    /// Does a call of the kfunc move packet data, or sleep?
    pub(crate) fn kfunc_effects(&self, id: i32) -> (bool, bool) {
        let rules = self
            .kfunc_type(id)
            .and_then(|(name, _)| kfunc::by_name(name));
        let sleeps = rules.is_some_and(|k| k.has(flag::SLEEPABLE));
        (rules.is_some_and(|k| moves_packet(k.name)), sleeps)
    }

    /// `call kfunc`
    pub(crate) fn check_kfunc_call(&mut self, id: i32, module: i16) -> Check<Flow> {
        if module != 0 || id == 0 {
            let message = "this call names a kernel function that does not exist in this kernel";
            return fail(code::UNKNOWN_KFUNC, errno::EINVAL, message);
        }
        self.kernel_btf()?;
        let Some((name, proto)) = self.kfunc_type(id) else {
            let message = format!("BTF type {id} of the kernel is no function");
            return fail(code::UNKNOWN_KFUNC, errno::EINVAL, message);
        };
        let rules = self.allowed_kfunc(name)?;
        if rules.has(flag::RCU_PROTECTED) && !self.in_rcu_section() {
            let cause = Cause::NeedsSection {
                function: name.to_owned().into(),
                section: Section::Rcu,
            };
            return fail(code::RCU_STATE, errno::EACCES, cause);
        }
        let mut call = KfuncCall::new(rules, proto);
        if matches!(name, "bpf_res_spin_lock" | "bpf_res_spin_lock_irqsave") {
            self.fail_to_lock()?;
        }
        self.check_kfunc_args(&mut call)?;
        self.kfunc_callback(&call)?;
        self.change_sections(name, rules.has(flag::SLEEPABLE))?;
        if let Some(i) = call.release {
            self.release(self.reg(i).ref_id)?;
        }
        if inserts(name) {
            self.give_to_graph()?;
        }
        if name == "bpf_throw" {
            self.note_kfunc(&call);
            return self.throw();
        }
        let result = self.kfunc_result(&mut call)?;
        self.note_kfunc(&call);
        let regs = &mut self.cur.frame_mut().regs;
        regs[1..=5].fill(Reg::NOT_INIT);
        regs[0] = result;
        if moves_packet(name) {
            self.forget_packet_pointers();
        }
        if let (Some(at), true) = (call.iter, rules.has(flag::ITER_NEXT)) {
            self.advance_iter(at)?;
        }
        Ok(Flow::Next(self.insn + 1))
    }

    fn note_kfunc(&mut self, call: &KfuncCall<'_>) {
        let map = call.map.map(|m| m.0);
        self.rec.call(
            self.insn,
            CallFact {
                kfunc: Some(call.rules.name.to_owned()),
                callback: call.callback,
                map: map.filter(|m| m & crate::jump::INNER_MAP == 0),
                alloc_bytes: call.alloc_bytes,
                alloc_type: call.alloc_type,
                node_offset: call.node_offset.or(call.graph.map(|g| g.node_offset)),
                owning: call.owning,
                ..CallFact::default()
            },
        );
    }

    /// Functions of the program that the kfunc calls, now or later.
    fn kfunc_callback(&mut self, call: &KfuncCall<'_>) -> Check {
        let name = call.rules.name;
        if name == "bpf_rbtree_add_impl" {
            return self.enter_tree_callback(call);
        }
        let Some(callee) = call.callback.map(|c| c as usize) else {
            return Ok(());
        };
        let start = self.p.funcs.get(callee).map(|f| f.start);
        let (Some(start), true) = (start, schedules(name)) else {
            let message = format!("{name} takes no callback that is known here");
            return fail(code::ARG_CALLBACK, errno::EINVAL, message);
        };
        let args = CallArgs {
            map: call.map,
            ..CallArgs::default()
        };
        let kind = FrameKind::AsyncCallback {
            returns_zero: name == "bpf_wq_set_callback_impl",
        };
        self.p.funcs[callee].is_callback = true;
        self.enter_async_callback(callee, start, &args, true, kind)
    }

    /// Taking a resilient lock may fail: then nothing is held, and `r0` is an error.
    fn fail_to_lock(&mut self) -> Check {
        let mut error = Scalar::UNKNOWN;
        (error.smin, error.smax) = (i64::from(-MAX_ERRNO), -1);
        (error.s32_min, error.s32_max) = (-MAX_ERRNO, -1);
        error.sync();
        self.push_path(self.insn + 1, |state| {
            let regs = &mut state.frame_mut().regs;
            regs[1..=5].fill(Reg::NOT_INIT);
            regs[0] = Reg::scalar(error);
        })
    }

    /// The rules of the kfunc, if this program may call it here.
    fn allowed_kfunc(&self, name: &str) -> Check<&'static Kfunc> {
        if let Some(kernel) = self.req.kernel
            && kernel.kfunc(&self.env, name) == Known::Unknown
        {
            let message = format!(
                "the kernel's profile does not say whether such {} programs may call {name}",
                self.env.prog_type
            );
            return fail(code::NOT_KNOWN, errno::EOPNOTSUPP, message);
        }
        if self.cur.locks > 0 && !UNDER_LOCK.iter().any(|p| name.starts_with(p)) {
            let function = name.to_owned().into();
            return fail(
                code::LOCK_CALL,
                errno::EINVAL,
                Cause::UnderLock { function },
            );
        }
        let Some(rules) = kfunc::by_name(name).filter(|k| k.available(&self.env)) else {
            let message = format!(
                "{} programs may not call the kernel function {name}",
                self.env.prog_type
            );
            return fail(code::UNKNOWN_KFUNC, errno::EACCES, message);
        };
        if name == "__bpf_trap" {
            let message =
                "the compiler left this path out: a variable is used before it has a value";
            return fail(code::MALFORMED, errno::EINVAL, message);
        }
        if rules.has(flag::DESTRUCTIVE) && self.req.caps == Caps::Bpf {
            let message = format!("{name} needs CAP_SYS_BOOT");
            return fail(code::NEEDS_CAPABILITY, errno::EACCES, message);
        }
        if rules.has(flag::SLEEPABLE) && !self.in_sleepable() {
            let cause = Cause::Sleeps {
                function: name.to_owned().into(),
                section: None,
            };
            return fail(code::SLEEP, errno::EACCES, cause);
        }
        Ok(rules)
    }

    /// What `r0` holds afterwards.
    fn kfunc_result(&mut self, call: &mut KfuncCall<'_>) -> Check<Reg> {
        let rules = call.rules;
        let Some(ret) = call.proto.target().map(Type::resolve) else {
            return Ok(Reg::NOT_INIT);
        };
        let mut r = match ret.kind() {
            BtfKind::Void => return Ok(Reg::NOT_INIT),
            BtfKind::Int | BtfKind::Enum | BtfKind::Enum64 if locks_resiliently(rules.name) => {
                return Ok(Reg::constant(0));
            }
            BtfKind::Int | BtfKind::Enum | BtfKind::Enum64 => return Ok(Reg::UNKNOWN),
            BtfKind::Ptr => self.kfunc_pointer(call, ret)?,
            _ => {
                let message = format!("{} returns a structure by value", rules.name);
                return fail(code::KFUNC_ARG, errno::EINVAL, message);
            }
        };
        let nullable = rules.has(flag::RET_NULL)
            && !(rules.name == "bpf_refcount_acquire_impl" && call.owning);
        if nullable {
            r.flags = r.flags.with(Flags::NULLABLE);
            r.id = self.new_id();
        }
        if rules.has(flag::ACQUIRE) {
            r.ref_id = self.acquire();
            if nullable {
                r.id = r.ref_id;
            }
        }
        if r.flags.has(Flags::ALLOC) && r.id == 0 {
            r.id = self.new_id();
        }
        Ok(r)
    }

    fn kfunc_pointer(&mut self, call: &mut KfuncCall<'_>, ret: Type<'_>) -> Check<Reg> {
        match call.rules.name {
            "bpf_dynptr_slice" | "bpf_dynptr_slice_rdwr" => return self.slice_result(call),
            "bpf_obj_new_impl" | "bpf_percpu_obj_new_impl" => return self.new_object(call),
            "bpf_refcount_acquire_impl" => return Ok(self.shared_object(call)),
            "bpf_cast_to_kern_ctx" => return self.kernel_ctx(),
            "bpf_rdonly_cast" => return self.cast_pointer(call),
            _ => {}
        }
        if let Some(graph) = call.graph {
            return Ok(if call.rules.has(flag::ACQUIRE) {
                graph.node()
            } else {
                self.borrowed_node(graph)
            });
        }
        let Some(target) = ret.target().map(Type::resolve) else {
            return Ok(Reg::UNKNOWN);
        };
        if target.kind() == BtfKind::Void {
            return Ok(Reg::UNKNOWN);
        }
        if target.kind().is_composite() {
            return self.kfunc_struct(call, target);
        }
        let by_type = || {
            let size = target.btf().size_of(target.id()).ok()?;
            Some((size, true))
        };
        let buffer = match call.rules.name {
            "bpf_session_cookie" => Some((8, false)),
            _ => call.buffer.or_else(by_type),
        };
        let Some((bytes, read_only)) = buffer.filter(|b| b.0 > 0) else {
            let message = format!("{} returns a pointer to memory of no size", call.rules.name);
            return fail(code::KFUNC_ARG, errno::EINVAL, message);
        };
        let flags = if read_only {
            Flags::RDONLY
        } else {
            Flags::NONE
        };
        Ok(Reg {
            flags,
            aux: bytes,
            ref_id: call.ref_id,
            ..Reg::pointer(Kind::Mem)
        })
    }

    /// A part of a dynptr's memory, or the buffer it was copied to.
    fn slice_result(&mut self, call: &KfuncCall<'_>) -> Check<Reg> {
        let (Some(dynptr), Some(size)) = (call.dynptr, call.constant) else {
            return fail(
                code::DYNPTR,
                errno::EINVAL,
                "the call has no dynptr or size",
            );
        };
        let packet = if dynptr.is_packet() {
            Flags::DYNPTR_PKT
        } else {
            Flags::NONE
        };
        let flags = if call.rules.name == "bpf_dynptr_slice" {
            packet.with(Flags::RDONLY)
        } else if self.may_access_packet(true) {
            packet
        } else {
            let message = "this program may not write to packets";
            return fail(code::PACKET_FORBIDDEN, errno::EINVAL, message);
        };
        Ok(Reg {
            flags,
            aux: u32::try_from(size).unwrap_or(0),
            aux2: self.slice_of(dynptr.id, BUFFER_ARG),
            ..Reg::pointer(Kind::Mem)
        })
    }
}

impl<'k> KfuncCall<'k> {
    /// Nothing is known of the arguments yet.
    const fn new(rules: &'static Kfunc, proto: Type<'k>) -> Self {
        Self {
            rules,
            proto,
            dynptr: None,
            iter: None,
            constant: None,
            ref_id: 0,
            release: None,
            object: None,
            graph: None,
            node_offset: None,
            alloc_bytes: None,
            alloc_type: None,
            owning: false,
            callback: None,
            map: None,
            buffer: None,
        }
    }
}

/// Kfuncs whose callback runs later.
fn schedules(name: &str) -> bool {
    matches!(
        name,
        "bpf_wq_set_callback_impl"
            | "bpf_task_work_schedule_signal_impl"
            | "bpf_task_work_schedule_resume_impl"
    )
}

/// Kfuncs after which packet data may lie elsewhere.
fn moves_packet(name: &str) -> bool {
    name == "bpf_xdp_pull_data"
}

/// Kfuncs that take a resilient lock; where they return, they took it (see [`Verifier::fail_to_lock`]).
fn locks_resiliently(name: &str) -> bool {
    matches!(name, "bpf_res_spin_lock" | "bpf_res_spin_lock_irqsave")
}
