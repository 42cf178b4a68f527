//! Calls of kernel functions: who may call which, and what a call changes and returns.

use crate::cfg::CallNature;
use crate::code;
use crate::dynptr::DynptrUse;
use crate::fail::{Check, errno, fail, fail_at};
use crate::reg::{Flags, Kind, Reg};
use crate::special::Place;
use crate::typed::unsupported;
use crate::verified::CallFact;
use crate::verifier::{Flow, Verifier};
use skep_abi::kfunc::{self, Kfunc, flag};
use skep_btf::{Kind as BtfKind, Type};
use skep_isa::{Call, Insn};

/// Kfuncs whose calls have rules of their own that are not known here.
const UNKNOWN_RULES: &[&str] = &[
    "bpf_arena_",
    "bpf_cast_to_kern_ctx",
    "bpf_get_kmem_cache",
    "bpf_list_",
    "bpf_modify_return_test_tp",
    "bpf_obj_",
    "bpf_percpu_obj_",
    "bpf_rbtree_",
    "bpf_rdonly_cast",
    "bpf_refcount_",
    "bpf_res_spin_",
    "bpf_session_",
    "bpf_stream_",
    "bpf_task_work_",
    "bpf_wq_",
    "bpf_xdp_metadata_",
    "bpf_xdp_pull_data",
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
}

impl<'a> Verifier<'a> {
    /// Before the walk: what the kernel demands of every kfunc call, reached or not.
    pub(crate) fn check_kfuncs(&self) -> Check {
        for (at, insn) in self.p.insns.iter().enumerate() {
            let Ok(Insn::Call(Call::Kfunc { id, module: 0 })) = insn else {
                continue;
            };
            if *id == 0 {
                continue;
            }
            if !self.req.gpl_compatible {
                let message = "only programs with a GPL-compatible license may call kfuncs";
                return fail_at(code::GPL_ONLY, errno::EINVAL, at, message);
            }
            if self.req.kernel_btf.is_some() && self.kfunc_type(*id).is_none() {
                let message = format!("BTF type {id} of the kernel is no function");
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

    /// What the control flow graph needs to know of the kfunc.
    pub(crate) fn kfunc_nature(&self, id: i32) -> CallNature {
        let rules = self
            .kfunc_type(id)
            .and_then(|(name, _)| kfunc::by_name(name));
        match rules {
            Some(k) if k.has(flag::ITER_NEXT) => CallNature::IterNext,
            _ => CallNature::Plain,
        }
    }

    /// `call kfunc`
    pub(crate) fn check_kfunc_call(&mut self, id: i32, module: i16) -> Check<Flow> {
        if module != 0 {
            return unsupported("kfuncs of modules");
        }
        if id == 0 {
            let message = "this call names a kernel function that does not exist in this kernel";
            return fail(code::UNKNOWN_KFUNC, errno::EINVAL, message);
        }
        if self.req.kernel_btf.is_none() {
            return unsupported("kfuncs without the kernel's BTF");
        }
        let Some((name, proto)) = self.kfunc_type(id) else {
            let message = format!("BTF type {id} of the kernel is no function");
            return fail(code::UNKNOWN_KFUNC, errno::EINVAL, message);
        };
        let rules = self.allowed_kfunc(name)?;
        let mut call = KfuncCall {
            rules,
            proto,
            dynptr: None,
            iter: None,
            constant: None,
            ref_id: 0,
        };
        self.check_kfunc_args(&mut call)?;
        self.change_sections(name, rules.has(flag::SLEEPABLE))?;
        self.rec.call(
            self.insn,
            CallFact {
                kfunc: Some(name.to_owned()),
                ..CallFact::default()
            },
        );
        if name == "bpf_throw" {
            return self.throw();
        }
        let result = self.kfunc_result(&call)?;
        let regs = &mut self.cur.frame_mut().regs;
        regs[1..=5].fill(Reg::NOT_INIT);
        regs[0] = result;
        if let (Some(at), true) = (call.iter, rules.has(flag::ITER_NEXT)) {
            self.advance_iter(at)?;
        }
        Ok(Flow::Next(self.insn + 1))
    }

    /// The rules of the kfunc, if this program may call it here.
    fn allowed_kfunc(&self, name: &str) -> Check<&'static Kfunc> {
        let Some(rules) = kfunc::by_name(name).filter(|k| k.available(&self.env)) else {
            let message = format!(
                "{} programs may not call the kernel function {name}",
                self.env.prog_type
            );
            return fail(code::UNKNOWN_KFUNC, errno::EACCES, message);
        };
        if self.cur.locks > 0 && !name.starts_with("bpf_iter_num_") {
            let message = format!("{name} is called while a spin lock is held");
            return fail(code::LOCK_CALL, errno::EINVAL, message);
        }
        if UNKNOWN_RULES.iter().any(|p| name.starts_with(p)) {
            return unsupported(&format!("calls of {name}"));
        }
        let in_global = self.cur.frames[0].subprog != 0;
        if rules.has(flag::SLEEPABLE) && in_global {
            return unsupported("sleeping kfuncs in global functions and callbacks");
        }
        if rules.has(flag::SLEEPABLE) && !self.in_sleepable() {
            let message = format!("{name} may sleep, but the program is not sleepable");
            return fail(code::SLEEP, errno::EACCES, message);
        }
        if rules.has(flag::DESTRUCTIVE) {
            return unsupported("destructive kfuncs");
        }
        if rules.has(flag::RCU_PROTECTED) && !self.in_rcu_section() {
            let message = format!("{name} is only allowed inside of an RCU section");
            return fail(code::RCU_STATE, errno::EACCES, message);
        }
        Ok(rules)
    }

    /// `bpf_throw`: every frame is left at once, and the cookie becomes the program's return value.
    fn throw(&mut self) -> Check<Flow> {
        if self.cur.frames[0].subprog != 0 || self.has_exception_callback() {
            return unsupported("exceptions in global functions, and callbacks for them");
        }
        self.check_returned(1)?;
        self.check_nothing_held("bpf_throw", true, true)?;
        Ok(Flow::Done)
    }

    fn has_exception_callback(&self) -> bool {
        self.req.btf.is_some_and(|btf| {
            btf.types().any(|t| {
                t.kind() == BtfKind::DeclTag && t.name().starts_with("exception_callback:")
            })
        })
    }

    /// What `r0` holds afterwards.
    fn kfunc_result(&mut self, call: &KfuncCall<'_>) -> Check<Reg> {
        let rules = call.rules;
        let Some(ret) = call.proto.target().map(Type::resolve) else {
            return Ok(Reg::NOT_INIT);
        };
        let mut r = match ret.kind() {
            BtfKind::Void => return Ok(Reg::NOT_INIT),
            BtfKind::Int | BtfKind::Enum | BtfKind::Enum64 => {
                if rules.has(flag::ACQUIRE) {
                    return unsupported("kfuncs that acquire a number");
                }
                return Ok(Reg::UNKNOWN);
            }
            BtfKind::Ptr => self.kfunc_pointer(call, ret)?,
            _ => return unsupported("kfuncs that return structures"),
        };
        if rules.has(flag::RET_NULL) {
            r.flags = r.flags.with(Flags::NULLABLE);
            r.id = self.new_id();
        }
        if rules.has(flag::ACQUIRE) {
            r.ref_id = self.acquire();
            if rules.has(flag::RET_NULL) {
                r.id = r.ref_id;
            }
        }
        Ok(r)
    }

    fn kfunc_pointer(&mut self, call: &KfuncCall<'_>, ret: Type<'_>) -> Check<Reg> {
        if matches!(
            call.rules.name,
            "bpf_dynptr_slice" | "bpf_dynptr_slice_rdwr"
        ) {
            return self.slice_result(call);
        }
        let Some(target) = ret.target().map(Type::resolve) else {
            return unsupported("kfuncs that return untyped pointers");
        };
        if matches!(target.kind(), BtfKind::Struct | BtfKind::Union) {
            return self.kfunc_struct(call, target);
        }
        match target.btf().size_of(target.id()) {
            Ok(size) if target.kind() != BtfKind::Void && size > 0 => Ok(Reg {
                flags: Flags::RDONLY,
                aux: size,
                ref_id: call.ref_id,
                ..Reg::pointer(Kind::Mem)
            }),
            _ => unsupported("kfuncs that return untyped pointers"),
        }
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
            aux2: dynptr.id,
            ..Reg::pointer(Kind::Mem)
        })
    }
}
