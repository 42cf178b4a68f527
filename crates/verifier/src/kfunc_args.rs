//! Arguments of kfuncs: their BTF types and the suffixes of their names say what they must be.

use crate::args::CallArgs;
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::kfunc::KfuncCall;
use crate::reg::{Flags, Kind};
use crate::state::SLOT;
use crate::typed::unsupported;
use crate::verifier::Verifier;
use skep_abi::helper::DynptrKind;
use skep_abi::kfunc::flag;
use skep_btf::{Kind as BtfKind, Param, Type};

/// Registers that carry arguments.
const MAX_ARGS: usize = 5;
/// How deep structures of numbers may nest.
const MAX_NESTING: u32 = 8;
/// Suffixes that ask for more than is known here.
const UNKNOWN_SUFFIXES: &[&str] = &[
    "__map",
    "__alloc",
    "__refcounted_kptr",
    "__str",
    "__prog",
    "__iter",
    "__aux",
];

fn refused<T>(i: usize, why: &str) -> Check<T> {
    fail(code::KFUNC_ARG, errno::EINVAL, format!("r{i} {why}"))
}

fn is_number(t: Type<'_>) -> bool {
    matches!(t.kind(), BtfKind::Int | BtfKind::Enum | BtfKind::Enum64)
}

/// A structure of numbers, and of arrays and structures of them.
fn is_plain(t: Type<'_>, depth: u32) -> bool {
    if depth > MAX_NESTING {
        return false;
    }
    match t.kind() {
        BtfKind::Struct => t.members().all(|m| {
            t.btf()
                .resolve(m.type_id)
                .is_some_and(|m| is_plain(m, depth + 1))
        }),
        BtfKind::Array => t
            .array()
            .and_then(|a| t.btf().resolve(a.element))
            .is_some_and(|e| e.kind() != BtfKind::Array && is_plain(e, depth + 1)),
        _ => is_number(t),
    }
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
        if call.rules.has(flag::RELEASE) {
            return self.release_kfunc_arg(call);
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
        if param.name.ends_with("__ign") {
            return Ok(1);
        }
        if UNKNOWN_SUFFIXES.iter().any(|s| param.name.ends_with(s)) {
            return unsupported(&format!("kfunc arguments like {}", param.name));
        }
        let Some(t) = call.proto.btf().resolve(param.type_id) else {
            return unsupported("kfunc arguments without type");
        };
        if is_number(t) {
            return self.number_arg(call, param, i);
        }
        let Some(target) = t.target().filter(|_| t.kind() == BtfKind::Ptr) else {
            return unsupported("kfunc arguments that are structures");
        };
        self.check_readable(i)?;
        let reg = *self.reg(i);
        let nullable = param.name.ends_with("__nullable") || param.name.ends_with("__opt");
        let trusted = call.rules.flags & (flag::TRUSTED_ARGS | flag::RCU) != 0;
        if trusted && (reg.is_zero() || reg.is_nullable()) && !nullable {
            let message = format!("r{i} may be NULL, which {} does not take", call.rules.name);
            return fail(code::TRUSTED_ARG, errno::EACCES, message);
        }
        if reg.ref_id != 0 {
            call.ref_id = reg.ref_id;
        }
        let size = params.get(n + 1).filter(|p| {
            (p.name.ends_with("__sz") || p.name.ends_with("__szk")) && self.reg(i + 1).is_scalar()
        });
        if param.name.ends_with("__nullable") && reg.is_zero() && size.is_none() {
            return Ok(1);
        }
        self.pointer_arg(call, param, size.copied(), target.resolve(), i)
    }

    fn number_arg(&mut self, call: &mut KfuncCall<'_>, param: Param<'_>, i: usize) -> Check<usize> {
        if !self.reg(i).is_scalar() {
            return refused(i, "is no number");
        }
        if param.name.ends_with("__k") {
            call.constant = Some(self.constant_arg(i)?);
        } else if param.name == "rdonly_buf_size" || param.name == "rdwr_buf_size" {
            return unsupported("kfuncs that return buffers");
        }
        Ok(1)
    }

    fn constant_arg(&mut self, i: usize) -> Check<u64> {
        let Some(value) = self.reg(i).var.as_const() else {
            return refused(i, "must be a known constant");
        };
        self.mark_precise(i)?;
        Ok(value)
    }

    /// Argument `i` points to `target`. Returns how many arguments were looked at.
    fn pointer_arg(
        &mut self,
        call: &mut KfuncCall<'_>,
        param: Param<'_>,
        size: Option<Param<'_>>,
        target: Type<'_>,
        i: usize,
    ) -> Check<usize> {
        let kind = self.reg(i).kind;
        let is_iter =
            call.rules.flags & (flag::ITER_NEW | flag::ITER_NEXT | flag::ITER_DESTROY) != 0;
        if self.is_kfunc_ctx(target) {
            if kind != Kind::Ctx {
                return refused(i, "is not the context");
            }
            self.check_unmoved(i, false)?;
        } else if matches!(target.name(), "bpf_dynptr" | "bpf_dynptr_kern") {
            self.kfunc_dynptr(call, param, i)?;
        } else if is_iter && i == 1 {
            self.kfunc_iter(call, target)?;
        } else if param.name.ends_with("__irq_flag") {
            if call.rules.name == "bpf_local_irq_save" {
                self.save_irq(i)?;
            } else {
                self.restore_irq(i)?;
            }
        } else if matches!(
            kind,
            Kind::Btf | Kind::Socket | Kind::SockCommon | Kind::TcpSock | Kind::XdpSock
        ) {
            self.kfunc_struct_arg(call, target, i)?;
        } else if is_plain(target, 0) || (size.is_some() && target.kind() == BtfKind::Void) {
            return self.kfunc_memory(call, param, size, target, i);
        } else {
            return refused(
                i,
                "must point to a kernel structure of the kind the function takes",
            );
        }
        Ok(1)
    }

    /// Memory of a size that the type, or the next argument, says.
    fn kfunc_memory(
        &mut self,
        call: &mut KfuncCall<'_>,
        param: Param<'_>,
        size: Option<Param<'_>>,
        target: Type<'_>,
        i: usize,
    ) -> Check<usize> {
        let reg = *self.reg(i);
        let Some(size) = size else {
            let Ok(bytes) = target.btf().size_of(target.id()) else {
                return unsupported("kfunc arguments of unknown size");
            };
            if !reg.is_zero() {
                self.check_global_memory(i, bytes)?;
            }
            return Ok(1);
        };
        let optional = param.name.ends_with("__opt") || param.name.ends_with("__nullable");
        if !reg.is_zero() || !optional {
            self.reg_mut(i).flags = reg.flags.without(Flags::NULLABLE);
            let mut check =
                |writes| self.size_arg(i + 1, writes, false, true, &mut CallArgs::default());
            check(false)?;
            check(true)?;
            self.reg_mut(i).flags = reg.flags;
        }
        if size.name.ends_with("__szk") {
            call.constant = Some(self.constant_arg(i + 1)?);
        }
        Ok(2)
    }

    fn kfunc_dynptr(&mut self, call: &mut KfuncCall<'_>, param: Param<'_>, i: usize) -> Check {
        if !matches!(self.reg(i).kind, Kind::Stack | Kind::Dynptr) {
            return refused(i, "does not point to a dynptr on the stack");
        }
        if !param.name.ends_with("__uninit") {
            call.dynptr = Some(self.used_dynptr(i, true)?);
            return Ok(());
        }
        let (kind, shared) = match (call.rules.name, call.dynptr) {
            ("bpf_dynptr_from_skb", _) => (DynptrKind::Skb, 0),
            ("bpf_dynptr_from_xdp", _) => (DynptrKind::Xdp, 0),
            ("bpf_dynptr_from_skb_meta", _) => (DynptrKind::SkbMeta, 0),
            ("bpf_dynptr_clone", Some(of)) => (of.kind, of.ref_id),
            _ => return unsupported("dynptrs of this kind"),
        };
        self.new_dynptr(i, kind, shared)
    }

    fn kfunc_iter(&mut self, call: &mut KfuncCall<'_>, target: Type<'_>) -> Check {
        let slots = target.size().unwrap_or(0) as usize / SLOT;
        if slots == 0 || self.reg(1).kind != Kind::Stack {
            return refused(1, "does not point to an iterator on the stack");
        }
        if call.rules.has(flag::ITER_NEW) {
            let flags = match (call.rules.has(flag::RCU_PROTECTED), self.in_rcu_section()) {
                (false, _) => Flags::NONE,
                (true, true) => Flags::RCU,
                (true, false) => Flags::UNTRUSTED,
            };
            self.new_iter(1, target.id(), slots, flags)?;
            return Ok(());
        }
        let at = self.used_iter(1, target.id(), slots)?;
        call.ref_id = self.cur.frames[at.frame].stack[at.slot].reg.ref_id;
        call.iter = Some(at);
        if call.rules.has(flag::ITER_DESTROY) {
            self.destroy_iter(at, slots)?;
        }
        Ok(())
    }

    /// Is `target` the context of this program type, as kfuncs take it?
    fn is_kfunc_ctx(&self, target: Type<'_>) -> bool {
        crate::global::is_ctx_name(self.env.prog_type, target.name())
    }
}
