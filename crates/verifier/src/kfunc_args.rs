//! Arguments of kfuncs.

use crate::cause::{Cause, register};
use crate::code;
use crate::dynptr::DynptrUse;
use crate::fail::{Check, errno, fail};
use crate::graph::GraphKind;
use crate::kfunc::KfuncCall;
use crate::kfunc_kind::{Pointer, classify, size_param};
use crate::lock::LockUse;
use crate::reg::{Flags, Kind};
use crate::sections::IrqClass;
use crate::state::{RefKind, SLOT};
use crate::verifier::Verifier;
use skep_abi::helper::DynptrKind;
use skep_abi::kfunc::flag;
use skep_abi::{AttachType, ProgType};
use skep_btf::{Kind as BtfKind, Param, Type};

/// Registers that carry arguments.
const MAX_ARGS: usize = 5;

pub(crate) fn refused<T>(i: usize, why: &str) -> Check<T> {
    fail(
        code::KFUNC_ARG,
        errno::EINVAL,
        Cause::about(i, format!("r{i} {why}")),
    )
}

fn is_number(t: Type<'_>) -> bool {
    matches!(t.kind(), BtfKind::Int | BtfKind::Enum | BtfKind::Enum64)
}

impl Verifier<'_> {
    /// Checks all arguments of a kfunc.
    pub(crate) fn check_kfunc_args(&mut self, call: &mut KfuncCall<'_>) -> Check {
        let params: Vec<Param<'_>> = call.proto.params().collect();
        if params.len() > MAX_ARGS {
            return refused(
                5,
                "is the last register for arguments, and the function takes more",
            );
        }
        let mut n = 0;
        while n < params.len() {
            n += self.check_kfunc_arg(call, &params, n)?;
        }
        if call.rules.has(flag::RELEASE) && call.release.is_none() {
            let message = format!(
                "{} releases a reference, and none is passed",
                call.rules.name
            );
            return fail(code::ARG_REFERENCE, errno::EINVAL, message);
        }
        Ok(())
    }

    /// Checks argument `n`; returns how many arguments were looked at.
    fn check_kfunc_arg(
        &mut self,
        call: &mut KfuncCall<'_>,
        params: &[Param<'_>],
        n: usize,
    ) -> Check<usize> {
        let (param, i) = (params[n], n + 1);
        if param.name.ends_with("__ign") || param.name.ends_with("__prog") {
            return Ok(1);
        }
        let Some(t) = call.proto.btf().resolve(param.type_id) else {
            return refused(i, "has no type");
        };
        if is_number(t) {
            self.number_arg(call, param, i)?;
            return Ok(1);
        }
        if t.kind() != BtfKind::Ptr {
            return refused(i, "is passed by value, which no program can");
        }
        self.check_readable(i)?;
        let reg = *self.reg(i);
        let nullable = param.name.ends_with("__nullable");
        // What is released must be good as well (`is_kfunc_trusted_args`).
        let trusting = flag::TRUSTED_ARGS | flag::RCU | flag::RELEASE;
        let trusted = call.rules.flags & trusting != 0;
        if trusted && (reg.is_zero() || reg.is_nullable()) && !nullable {
            let cause = Cause::NullArgument {
                reg: register(i),
                function: call.rules.name.into(),
                found: reg.describe().into(),
            };
            return fail(code::TRUSTED_ARG, errno::EACCES, cause);
        }
        if reg.ref_id != 0 {
            call.ref_id = reg.ref_id;
            if call.rules.has(flag::RELEASE) {
                call.release = Some(i);
            }
        }
        let next = (i < 5).then(|| *self.reg(i + 1));
        let kind = classify(call, self.env.prog_type, params, n, &reg, next.as_ref());
        let is_struct = matches!(kind, Pointer::Struct | Pointer::Map | Pointer::Dropped);
        if trusted && is_struct {
            self.check_trusted_arg(call, i)?;
        }
        self.check_kfunc_offset(call, i)?;
        if kind == Pointer::Sized {
            let size = size_param(params, n, next.as_ref()).unwrap_or(param);
            self.sized_arg(call, param, size, i)?;
            return Ok(2);
        }
        self.pointer_arg(call, kind, param, t, i)?;
        Ok(1)
    }

    /// Structures for functions that trust their arguments.
    fn check_trusted_arg(&self, call: &KfuncCall<'_>, i: usize) -> Check {
        let reg = self.reg(i);
        if reg.is_trusted() {
            return Ok(());
        }
        let rcu = call.rules.has(flag::RCU);
        if rcu && reg.flags.has(Flags::RCU) {
            return Ok(());
        }
        let how = if rcu {
            "protected by RCU"
        } else {
            "referenced or trusted"
        };
        let message = Cause::about(i, format!("r{i} must be {how} for {}", call.rules.name));
        fail(code::TRUSTED_ARG, errno::EINVAL, message)
    }

    /// Which pointers may have been moved.
    fn check_kfunc_offset(&self, call: &KfuncCall<'_>, i: usize) -> Check {
        let reg = self.reg(i);
        if call.rules.has(flag::RELEASE) && reg.ref_id != 0 {
            if reg.off != 0 {
                let message = Cause::about(
                    i,
                    format!(
                        "r{i} must point to the start of what is released, not {} bytes past it",
                        reg.off
                    ),
                );
                return fail(code::MODIFIED_POINTER, errno::EINVAL, message);
            }
            return self.check_unmoved(i, false);
        }
        match reg.kind {
            Kind::Stack
            | Kind::Pkt
            | Kind::PktMeta
            | Kind::MapKey
            | Kind::MapValue
            | Kind::Mem
            | Kind::TpBuffer
            | Kind::Arena
            | Kind::Scalar => Ok(()),
            Kind::Btf => self.check_unmoved(i, true),
            _ => self.check_unmoved(i, false),
        }
    }

    fn number_arg(&mut self, call: &mut KfuncCall<'_>, param: Param<'_>, i: usize) -> Check {
        self.check_readable(i)?;
        if !self.reg(i).is_scalar() {
            return refused(i, "is no number");
        }
        if param.name.ends_with("__k") {
            call.constant = Some(self.constant_arg(i)?);
        } else if matches!(param.name, "rdonly_buf_size" | "rdwr_buf_size") {
            if call.buffer.is_some() {
                return refused(i, "is a second size of the result");
            }
            let size = self.constant_arg(i)?;
            let read_only = param.name == "rdonly_buf_size";
            call.buffer = Some((u32::try_from(size).unwrap_or(0), read_only));
        }
        Ok(())
    }

    pub(crate) fn constant_arg(&mut self, i: usize) -> Check<u64> {
        let Some(value) = self.reg(i).var.as_const() else {
            return refused(i, "must be a known constant");
        };
        self.mark_precise(i)?;
        Ok(value)
    }

    /// Argument `i` is a pointer of this kind.
    fn pointer_arg(
        &mut self,
        call: &mut KfuncCall<'_>,
        kind: Pointer,
        param: Param<'_>,
        t: Type<'_>,
        i: usize,
    ) -> Check {
        let Some(target) = t.target().map(Type::resolve) else {
            return refused(i, "points to nothing known");
        };
        match kind {
            Pointer::Null => Ok(()),
            Pointer::Ctx if self.reg(i).kind == Kind::Ctx => Ok(()),
            Pointer::Ctx => refused(i, "is not the context"),
            Pointer::Dropped => self.dropped_object(call, i),
            Pointer::Counted => self.counted_object(call, i),
            Pointer::Dynptr => self.kfunc_dynptr(call, param, i),
            Pointer::Iter => self.kfunc_iter(call, target, i),
            Pointer::ListHead => self.graph_root(call, GraphKind::List, i),
            Pointer::ListNode => self.graph_node(call, GraphKind::List, i),
            Pointer::TreeRoot => self.graph_root(call, GraphKind::Tree, i),
            Pointer::TreeNode => self.graph_node(call, GraphKind::Tree, i),
            Pointer::Str if self.reg(i).kind == Kind::MapValue => self.const_string_arg(i),
            Pointer::Str => refused(i, "does not point to a constant string"),
            Pointer::Map => self.kfunc_map(call, i),
            Pointer::Workqueue => self.kfunc_field(call, i, &skep_btf::FieldKind::Workqueue),
            Pointer::TaskWork => self.kfunc_field(call, i, &skep_btf::FieldKind::TaskWork),
            Pointer::IrqFlag => self.kfunc_irq_flag(call, i),
            Pointer::ResLock => self.kfunc_lock(call, i),
            Pointer::Struct => self.kfunc_struct_arg(call, target, i),
            Pointer::Callback if self.reg(i).kind == Kind::Func => {
                call.callback = Some(self.reg(i).aux);
                Ok(())
            }
            Pointer::Callback => refused(i, "is no function of the program"),
            Pointer::Memory => self.typed_memory(target, i),
            Pointer::Sized | Pointer::Unsuitable => refused(
                i,
                "must point to memory or a structure of the kind the function takes",
            ),
        }
    }

    fn kfunc_dynptr(&mut self, call: &mut KfuncCall<'_>, param: Param<'_>, i: usize) -> Check {
        if !matches!(self.reg(i).kind, Kind::Stack | Kind::Dynptr) {
            return refused(i, "does not point to a dynptr on the stack");
        }
        if !param.name.ends_with("__uninit") {
            let used: DynptrUse = self.used_dynptr(i, true)?;
            call.dynptr = Some(used);
            return Ok(());
        }
        if self.reg(i).kind == Kind::Dynptr {
            return refused(i, "is a constant dynptr, which the function would change");
        }
        let (kind, shared) = match (call.rules.name, call.dynptr) {
            ("bpf_dynptr_from_skb", _) => (DynptrKind::Skb, 0),
            ("bpf_dynptr_from_xdp", _) => (DynptrKind::Xdp, 0),
            ("bpf_dynptr_from_skb_meta", _) => (DynptrKind::SkbMeta, 0),
            ("bpf_dynptr_clone", Some(of)) => (of.kind, of.ref_id),
            _ => return refused(i, "is a dynptr of a kind that is not known"),
        };
        self.new_dynptr(i, kind, shared)
    }

    fn kfunc_iter(&mut self, call: &mut KfuncCall<'_>, target: Type<'_>, i: usize) -> Check {
        let slots = target.size().unwrap_or(0) as usize / SLOT;
        if slots == 0 || self.reg(i).kind != Kind::Stack {
            return refused(i, "does not point to an iterator on the stack");
        }
        if call.rules.name == "bpf_iter_css_task_new" && !self.may_iterate_css_tasks() {
            let message = "bpf_iter_css_task is only for LSM programs, sleepable programs and sleepable iterators";
            return fail(code::KFUNC_ARG, errno::EINVAL, message);
        }
        if call.rules.has(flag::ITER_NEW) {
            let flags = match (call.rules.has(flag::RCU_PROTECTED), self.in_rcu_section()) {
                (false, _) => Flags::NONE,
                (true, true) => Flags::RCU,
                (true, false) => Flags::UNTRUSTED,
            };
            self.new_iter(i, target.id(), slots, flags)?;
            return Ok(());
        }
        let at = self.used_iter(i, target.id(), slots)?;
        call.ref_id = self.cur.frames[at.frame].stack[at.slot].reg.ref_id;
        call.iter = Some(at);
        if call.rules.has(flag::ITER_DESTROY) {
            self.destroy_iter(at, slots)?;
        }
        Ok(())
    }

    /// Source: `check_css_task_iter_allowlist`.
    fn may_iterate_css_tasks(&self) -> bool {
        match self.env.prog_type {
            ProgType::Lsm => true,
            ProgType::Tracing if self.env.attach == Some(AttachType::TraceIter) => true,
            _ => self.in_sleepable(),
        }
    }

    fn kfunc_irq_flag(&mut self, call: &KfuncCall<'_>, i: usize) -> Check {
        if self.reg(i).kind != Kind::Stack {
            return refused(i, "does not point to an irq flag on the stack");
        }
        match call.rules.name {
            "bpf_local_irq_save" => self.save_irq(i, IrqClass::Native),
            "bpf_res_spin_lock_irqsave" => self.save_irq(i, IrqClass::Lock),
            "bpf_local_irq_restore" => self.restore_irq(i, IrqClass::Native),
            "bpf_res_spin_unlock_irqrestore" => self.restore_irq(i, IrqClass::Lock),
            _ => refused(i, "is an irq flag, which this function does not take"),
        }
    }

    fn kfunc_lock(&mut self, call: &KfuncCall<'_>, i: usize) -> Check {
        let reg = self.reg(i);
        let of_map = reg.kind == Kind::MapValue && reg.flags == Flags::NONE;
        let of_object = reg.kind == Kind::Btf && reg.flags == Flags::ALLOC;
        if !of_map && !of_object {
            return refused(
                i,
                "does not point to a lock in a map value or allocated object",
            );
        }
        let (kind, how) = match call.rules.name {
            "bpf_res_spin_lock" => (RefKind::ResLock, LockUse::Take),
            "bpf_res_spin_unlock" => (RefKind::ResLock, LockUse::Give),
            "bpf_res_spin_lock_irqsave" => (RefKind::ResLockIrq, LockUse::Take),
            "bpf_res_spin_unlock_irqrestore" => (RefKind::ResLockIrq, LockUse::Give),
            _ => return refused(i, "is a lock, which this function does not take"),
        };
        self.use_lock(i, kind, how)
    }
}
