//! What a program attaches to: a function, tracepoint, hook, iterator or operation of the kernel; and the context that follows
//! from its prototype.

use crate::btf_walk::tag_of;
use crate::cause::Cause;
use crate::code;
use crate::domain::Scalar;
use crate::fail::{Check, errno, fail, fail_nowhere};
use crate::memory::MemAccess;
use crate::reg::{Flags, Kind, Reg};
use crate::request::Request;
use crate::verified::Region;
use crate::verifier::Verifier;
use skep_abi::ctx::{Access, CtxAccess, Yields};
use skep_abi::kernel::{Kernel, Known};
use skep_abi::prog::{self, Sleep, TargetReturns};
use skep_abi::struct_ops::{self, Sleepable, StructOps};
use skep_abi::trust::{self, IterArg, MayBe};
use skep_abi::{AttachType, ProgType, lsm, tracing};
use skep_btf::{Btf, Kind as BtfKind, Param, Type};

/// Arguments that a trampoline passes on (`MAX_BPF_FUNC_ARGS`).
const MAX_FUNC_ARGS: usize = 12;
/// Bytes of the greatest structure that is passed by value.
const MAX_STRUCT_ARG: u32 = 16;
/// Prefixes of targets in the kernel's BTF.
const TRACEPOINT_PREFIX: &str = "btf_trace_";
const ITERATOR_PREFIX: &str = "bpf_iter_";

/// What a program attaches to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// Its prototype.
    pub proto: Type<'a>,
    /// Its name: without prefix for tracepoints and iterators, the member for operations.
    pub name: &'a str,
    /// The structure of operations it belongs to.
    pub ops: Option<&'static StructOps>,
}

/// Name of what the program attaches to, as helper tables know it.
pub(crate) fn name_of(req: &Request<'_>) -> String {
    let found = req.kernel_btf.and_then(|b| b.get(req.attach_btf_id));
    let Some(t) = found.filter(|_| req.attach_btf_id != 0) else {
        return String::new();
    };
    if req.prog_type != ProgType::StructOps {
        return t.name().to_owned();
    }
    let member = req.attach_member.and_then(|m| t.member(m));
    format!("{}.{}", t.name(), member.map_or("", |m| m.name))
}

fn refused<T>(message: impl Into<Cause>) -> Check<T> {
    fail_nowhere(code::ATTACH_TARGET, errno::EINVAL, message)
}

fn is_number(t: Type<'_>) -> bool {
    matches!(t.kind(), BtfKind::Int | BtfKind::Enum | BtfKind::Enum64)
}

impl<'a> Verifier<'a> {
    /// Before the walk: the target exists and takes programs of this kind.
    pub(crate) fn check_attach(&mut self) -> Check {
        self.check_sleepable()?;
        let prog_type = self.env.prog_type;
        if prog_type == ProgType::StructOps {
            let target = self.struct_ops_target()?;
            self.target = Some(target);
            return Ok(());
        }
        if !matches!(prog_type, ProgType::Tracing | ProgType::Lsm) {
            return Ok(());
        }
        if self.req.attach_btf_id == 0 {
            return refused(format!(
                "{prog_type} programs must name what they attach to"
            ));
        }
        let btf = self.kernel_btf()?;
        let Some(t) = btf.get(self.req.attach_btf_id) else {
            return refused("what the program attaches to is not in the kernel's BTF");
        };
        let target = match self.env.attach {
            Some(AttachType::TraceRawTp) => tracepoint(t)?,
            Some(AttachType::TraceIter) => iterator(t)?,
            Some(
                AttachType::ModifyReturn
                | AttachType::LsmMac
                | AttachType::LsmCgroup
                | AttachType::TraceFentry
                | AttachType::TraceFexit,
            ) => function(t)?,
            _ => return refused("this attach type has no target in the kernel's BTF"),
        };
        self.target = Some(target);
        self.check_function_target(target.name)
    }

    /// `BPF_F_SLEEPABLE` fits the program type.
    fn check_sleepable(&self) -> Check {
        let refused = |message: &'static str| fail_nowhere(code::SLEEP, errno::EINVAL, message);
        match (
            prog::sleep(self.env.prog_type, self.env.attach),
            self.env.sleepable,
        ) {
            (Sleep::Never, true) => refused(
                "only fentry, fexit, fmod_ret, LSM, iterator, uprobe and struct_ops programs can be sleepable",
            ),
            (Sleep::Must, false) => refused("syscall programs must be sleepable"),
            _ => Ok(()),
        }
    }

    /// Functions and hooks that refuse programs, or sleepable ones.
    fn check_function_target(&self, name: &str) -> Check {
        let attach = self.env.attach;
        if self.env.prog_type == ProgType::Lsm {
            return self.check_hook(name);
        }
        if tracing::DENIED.contains(&name) {
            return refused(format!("programs cannot attach to function {name}"));
        }
        let trampoline = matches!(
            attach,
            Some(AttachType::TraceFentry | AttachType::TraceFexit | AttachType::ModifyReturn)
        );
        if !trampoline {
            return Ok(());
        }
        let modifiable = tracing::FMOD_RET.iter().find(|f| f.0 == name);
        if self.env.sleepable {
            return match modifiable {
                Some((_, true)) => Ok(()),
                _ => refused(format!("function {name} is not for sleepable programs")),
            };
        }
        let returns = matches!(
            attach,
            Some(AttachType::TraceFexit | AttachType::ModifyReturn)
        );
        if returns && lsm::NORETURN.contains(&name) {
            return refused(format!("function {name} never returns"));
        }
        if attach == Some(AttachType::ModifyReturn)
            && modifiable.is_none()
            && !name.starts_with("security_")
        {
            return refused(format!("the return value of {name} cannot be changed"));
        }
        let refuses = |k: &Kernel| k.knows_target(&self.env) && k.loads(&self.env) == Known::No;
        if self.req.kernel.is_some_and(refuses) {
            return refused(format!("this kernel refuses programs at function {name}"));
        }
        Ok(())
    }

    fn check_hook(&self, name: &str) -> Check {
        if !self.req.gpl_compatible {
            let message = "LSM programs must have a GPL-compatible license";
            return fail_nowhere(code::GPL_ONLY, errno::EINVAL, message);
        }
        let Some(hook) = lsm::hook(name) else {
            return refused(format!("{name} is no security hook"));
        };
        if lsm::DISABLED.contains(&hook) {
            return refused(format!("the security hook {hook} takes no programs"));
        }
        if self.env.sleepable && !lsm::SLEEPABLE.contains(&hook) {
            return refused(format!(
                "the security hook {hook} is not for sleepable programs"
            ));
        }
        Ok(())
    }

    fn struct_ops_target(&self) -> Check<Target<'a>> {
        if !self.req.gpl_compatible {
            let message = "struct_ops programs must have a GPL-compatible license";
            return fail_nowhere(code::GPL_ONLY, errno::EINVAL, message);
        }
        let unsupported = |m: String| fail_nowhere(code::ATTACH_TARGET, errno::ENOTSUPP, m);
        if self.req.attach_btf_id == 0 {
            return unsupported("struct_ops programs must name their structure".into());
        }
        let btf = self.kernel_btf()?;
        let structure = btf.get(self.req.attach_btf_id).map(Type::resolve);
        let Some((t, ops)) = structure.and_then(|t| Some((t, struct_ops::by_name(t.name())?)))
        else {
            return unsupported("programs cannot implement this structure".into());
        };
        let index = self.req.attach_member.unwrap_or(0);
        let Some(m) = t.member(index) else {
            return refused(format!("struct {} has no member {index}", t.name()));
        };
        let pointer = btf.resolve(m.type_id).filter(|p| p.kind() == BtfKind::Ptr);
        let proto = pointer.and_then(|p| p.target()).map(Type::resolve);
        let Some(proto) = proto.filter(|p| p.kind() == BtfKind::FuncProto) else {
            return refused(format!(
                "member {} of struct {} is no operation",
                m.name,
                t.name()
            ));
        };
        let no_sleep = match ops.sleepable {
            Sleepable::All => false,
            Sleepable::Only(members) => self.env.sleepable && !members.contains(&m.name),
        };
        let what = format!(
            "programs cannot implement member {} of struct {}",
            m.name,
            t.name()
        );
        if ops.unsupported.contains(&m.name) {
            return unsupported(what);
        }
        if no_sleep {
            return refused(what);
        }
        Ok(Target {
            proto,
            name: m.name,
            ops: Some(ops),
        })
    }

    /// What the target returns.
    pub(crate) fn target_returns(&self) -> TargetReturns {
        let void = self
            .target
            .and_then(|t| t.proto.target())
            .is_some_and(|t| t.kind() == BtfKind::Void);
        if void {
            TargetReturns::Void
        } else {
            TargetReturns::Value
        }
    }

    /// Are arguments of the target good pointers?
    fn trusts_arguments(&self, target: &Target<'_>) -> bool {
        match self.env.prog_type {
            ProgType::Tracing => matches!(
                self.env.attach,
                Some(AttachType::TraceRawTp | AttachType::TraceIter)
            ),
            ProgType::Lsm => {
                lsm::hook(target.name).is_none_or(|hook| !lsm::UNTRUSTED.contains(&hook))
            }
            ProgType::StructOps => true,
            _ => false,
        }
    }

    /// A load of an argument of the target, or of what it returned.
    pub(crate) fn access_typed_ctx(&mut self, a: &MemAccess, off: i32) -> Check<Reg> {
        let size = a.size.bytes();
        let denied = |why: String| fail(code::CTX_ACCESS, errno::EACCES, why);
        let at = u32::try_from(off)
            .ok()
            .filter(|o| (*o as usize) < 8 * MAX_FUNC_ARGS);
        let Some(at) = at.filter(|o| o.is_multiple_of(size)) else {
            return denied(format!("the context has no {size} bytes at byte {off}"));
        };
        if a.kind == Access::Write {
            return denied("the context cannot be written".into());
        }
        let Some(target) = self.target else {
            return denied("the program has no context".into());
        };
        if !at.is_multiple_of(8) {
            return denied(format!(
                "byte {off} of the context is not the start of an argument of {}",
                target.name
            ));
        }
        let info = CtxAccess {
            field: "arguments",
            offset: at,
            size: 8,
            yields: Yields::Scalar,
        };
        let reg = self.argument(&target, at, size)?;
        if reg.is_pointer() && a.extend == skep_isa::Extend::Sign {
            return denied("a pointer has no sign to extend".into());
        }
        self.rec
            .access(self.insn, Region::Ctx(info), Some(i64::from(off)));
        Ok(reg)
    }

    /// What the eight bytes at `at` of the context hold.
    fn argument(&mut self, target: &Target<'a>, at: u32, size: u32) -> Check<Reg> {
        let denied = |why: String| fail(code::CTX_ACCESS, errno::EACCES, why);
        let is_trace = self.env.attach == Some(AttachType::TraceRawTp)
            && self.env.prog_type == ProgType::Tracing;
        // The first parameter of a tracepoint's prototype is not for programs.
        let params: Vec<Param<'a>> = target.proto.params().skip(usize::from(is_trace)).collect();
        let n = argument_index(target.proto, &params, at);
        if n > params.len() {
            return denied(format!("{} has no argument {n}", target.name));
        }
        let (ty, name) = if n < params.len() {
            (target.proto.btf().get(params[n].type_id), params[n].name)
        } else {
            match self.returned(target)? {
                Some(ty) => (Some(ty), ""),
                None => return denied(format!("{} has no argument {n}", target.name)),
            }
        };
        let Some(ty) = ty.map(Type::resolve) else {
            return denied(format!("argument {n} of {} has no type", target.name));
        };
        if is_number(ty) || ty.kind().is_composite() {
            let is_retval = n == params.len() && self.env.attach == Some(AttachType::LsmMac);
            return Ok(self.hook_return(is_retval));
        }
        if ty.kind() != BtfKind::Ptr {
            return denied(format!("argument {n} of {} is no pointer", target.name));
        }
        if size != 8 {
            return denied(format!(
                "argument {n} of {} is a pointer and read whole",
                target.name
            ));
        }
        self.pointer_argument(target, ty, n, name)
    }

    /// The type of what the target returned, where programs can see it.
    fn returned(&self, target: &Target<'a>) -> Check<Option<Type<'a>>> {
        let ret = target.proto.target();
        match self.env.attach {
            Some(AttachType::LsmMac | AttachType::LsmCgroup | AttachType::TraceFexit) => Ok(ret),
            Some(AttachType::ModifyReturn) => {
                let number = ret.filter(|t| t.resolve().kind() == BtfKind::Int);
                match number {
                    Some(t) => Ok(Some(t)),
                    None => fail(
                        code::CTX_ACCESS,
                        errno::EACCES,
                        format!("{} does not return a number", target.name),
                    ),
                }
            }
            _ => Ok(None),
        }
    }

    /// A number; for security hooks with the range of their answers.
    fn hook_return(&self, is_retval: bool) -> Reg {
        if !is_retval {
            return Reg::UNKNOWN;
        }
        let Some(range) = prog::ret_range(&self.env, TargetReturns::Value) else {
            return Reg::UNKNOWN;
        };
        let mut var = Scalar::UNKNOWN;
        (var.smin, var.smax) = (i64::from(range.min), i64::from(range.max));
        (var.s32_min, var.s32_max) = (range.min, range.max);
        var.sync();
        Reg::scalar(var)
    }

    fn pointer_argument(
        &mut self,
        target: &Target<'a>,
        pointer: Type<'a>,
        n: usize,
        name: &str,
    ) -> Check<Reg> {
        let iterator = self.env.prog_type == ProgType::Tracing
            && self.env.attach == Some(AttachType::TraceIter);
        let index = u8::try_from(n).unwrap_or(u8::MAX);
        let of_iterator = iterator.then(|| trust::iter_arg(target.name, index));
        let buffer = |v: &mut Self, flags: Flags| {
            Ok(Reg {
                flags: flags.with(Flags::NULLABLE),
                id: v.new_id(),
                ..Reg::pointer(Kind::TpBuffer)
            })
        };
        match of_iterator {
            Some(IterArg::RdonlyBufOrNull) => return buffer(self, Flags::RDONLY),
            Some(IterArg::BufOrNull) => return buffer(self, Flags::NONE),
            _ => {}
        }
        let Some(pointee) = pointer.target().map(Type::resolve) else {
            return Ok(Reg::UNKNOWN);
        };
        if matches!(pointee.kind(), BtfKind::Void | BtfKind::Int) {
            return Ok(Reg::UNKNOWN);
        }
        let mut flags = match of_iterator {
            Some(IterArg::TrustedOrNull) => Flags::TRUSTED.with(Flags::NULLABLE),
            Some(IterArg::PtrOrNull) => Flags::NULLABLE,
            _ if self.trusts_arguments(target) => Flags::TRUSTED,
            _ => Flags::NONE,
        };
        if of_iterator.is_none_or(|k| k == IterArg::Trusted) {
            flags = flags.with(tag_of(pointer).without(Flags::RCU));
        }
        if name.ends_with("__nullable") {
            flags = flags.with(Flags::NULLABLE);
        }
        if !pointee.kind().is_composite() {
            let message = format!(
                "argument {n} of {} points to {}, no structure",
                target.name,
                pointee.kind().name()
            );
            return fail(code::CTX_ACCESS, errno::EACCES, message);
        }
        if self.env.attach == Some(AttachType::TraceRawTp) {
            match trust::tracepoint_arg(target.name, index) {
                Some(MayBe::Null) => flags = flags.with(Flags::NULLABLE),
                Some(MayBe::Error) => return Ok(Reg::UNKNOWN),
                None => {}
            }
        }
        let pointee = self.operand_type(target, pointee, index, &mut flags);
        Ok(self.kernel_pointer(pointee, flags))
    }

    /// Operations get some arguments as the greater structure they are part of, and some that may be NULL.
    fn operand_type(
        &self,
        target: &Target<'a>,
        pointee: Type<'a>,
        index: u8,
        flags: &mut Flags,
    ) -> Type<'a> {
        let Some(ops) = target.ops else {
            return pointee;
        };
        if ops.nullable.contains(&(target.name, index)) {
            *flags = flags.with(Flags::NULLABLE);
        }
        match ops.promotes {
            Some((from, to)) if pointee.name() == from => {
                let btf: &'a Btf = pointee.btf();
                btf.find(to, BtfKind::Struct).unwrap_or(pointee)
            }
            _ => pointee,
        }
    }
}

/// Which argument the eight bytes at `at` belong to; structures take as many words as they have.
fn argument_index(proto: Type<'_>, params: &[Param<'_>], at: u32) -> usize {
    let words = |id: u32| {
        let ty = proto.btf().resolve(id);
        match ty {
            Some(t) if t.kind().is_composite() => t.size().unwrap_or(8).div_ceil(8),
            Some(t) if t.kind() == BtfKind::Void => 0,
            _ => 1,
        }
    };
    let mut end = 0;
    for (n, p) in params.iter().enumerate() {
        end += 8 * words(p.type_id);
        if at < end {
            return n;
        }
    }
    end += 8 * proto.type_id().map_or(0, words);
    params.len() + usize::from(at >= end)
}

fn tracepoint(t: Type<'_>) -> Check<Target<'_>> {
    let Some(name) = t.name().strip_prefix(TRACEPOINT_PREFIX) else {
        return refused(format!("{} is no tracepoint", t.name()));
    };
    let pointer = t.target().filter(|_| t.kind() == BtfKind::Typedef);
    let proto = pointer.and_then(|p| p.target());
    match proto.filter(|p| p.kind() == BtfKind::FuncProto) {
        Some(proto) => Ok(Target {
            proto,
            name,
            ops: None,
        }),
        None => refused(format!("{} is no tracepoint", t.name())),
    }
}

fn iterator(t: Type<'_>) -> Check<Target<'_>> {
    let target = function(t)?;
    match target.name.strip_prefix(ITERATOR_PREFIX) {
        Some(name) => Ok(Target { name, ..target }),
        None => refused(format!("{} is no iterator", t.name())),
    }
}

fn function(t: Type<'_>) -> Check<Target<'_>> {
    let name = t.name();
    let proto = t.target().filter(|_| t.kind() == BtfKind::Func);
    let Some(proto) = proto.filter(|p| p.kind() == BtfKind::FuncProto) else {
        return refused(format!("{name} is no function"));
    };
    let btf = proto.btf();
    if proto.vlen() as usize > MAX_FUNC_ARGS {
        return refused(format!("function {name} has too many arguments"));
    }
    let ret = proto.target().map(Type::resolve);
    let returns =
        ret.is_none_or(|t| t.kind() == BtfKind::Void || t.kind() == BtfKind::Ptr || is_number(t));
    if !returns {
        return refused(format!(
            "function {name} returns something else than a word"
        ));
    }
    for p in proto.params() {
        let ty = btf.resolve(p.type_id);
        let fits = ty.is_some_and(|t| {
            t.kind() == BtfKind::Ptr
                || is_number(t)
                || (t.kind() == BtfKind::Struct && t.size().is_some_and(|s| s <= MAX_STRUCT_ARG))
        });
        if !fits {
            return refused(format!(
                "function {name} has an argument that is not passed on"
            ));
        }
    }
    Ok(Target {
        proto,
        name,
        ops: None,
    })
}
