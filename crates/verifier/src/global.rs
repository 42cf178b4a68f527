//! Global functions: verified on their own from their BTF prototype; calls are checked against it.

use crate::args::CallArgs;
use crate::btf_walk::holds;
use crate::cause::{Cause, register};
use crate::code;
use crate::fail::{Check, errno, fail, fail_nowhere};
use crate::program::Func;
use crate::reg::{Flags, Kind, Reg, source};
use crate::verifier::Verifier;
use skep_abi::kernel::{Rule, has_rule};
use skep_abi::{AttachType, ProgType};
use skep_btf::{Btf, Kind as BtfKind, Type};

/// What a parameter of a global function accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Param {
    /// A number.
    Scalar,
    /// The context.
    Ctx,
    /// Memory of this size.
    Memory {
        /// Bytes.
        size: u32,
        /// May be NULL.
        nullable: bool,
    },
    /// An arena pointer.
    Arena,
    /// A dynptr, which is only read.
    Dynptr,
    /// A structure of the kernel.
    Struct {
        /// Its BTF id.
        id: u32,
        /// How good the pointer is.
        flags: Flags,
    },
    /// Memory that may be anywhere.
    Anything,
}

/// Parameters that a BPF function may have.
const MAX_PARAMS: usize = 5;

/// Names of the context structure of each program type, as programs declare it.
const CTX_STRUCTS: &[(&[ProgType], &str)] = &[
    (
        &[
            ProgType::SocketFilter,
            ProgType::SchedCls,
            ProgType::SchedAct,
            ProgType::CgroupSkb,
            ProgType::LwtIn,
            ProgType::LwtOut,
            ProgType::LwtXmit,
            ProgType::LwtSeg6local,
            ProgType::SkSkb,
            ProgType::FlowDissector,
        ],
        "__sk_buff",
    ),
    (&[ProgType::Xdp], "xdp_md"),
    (&[ProgType::CgroupSock], "bpf_sock"),
    (&[ProgType::CgroupSockAddr], "bpf_sock_addr"),
    (&[ProgType::SockOps], "bpf_sock_ops"),
    (&[ProgType::SkMsg], "sk_msg_md"),
    (&[ProgType::Kprobe], "pt_regs"),
    (&[ProgType::Kprobe], "bpf_user_pt_regs_t"),
    (&[ProgType::PerfEvent], "bpf_perf_event_data"),
    (
        &[ProgType::RawTracepoint, ProgType::RawTracepointWritable],
        "bpf_raw_tracepoint_args",
    ),
    (&[ProgType::CgroupDevice], "bpf_cgroup_dev_ctx"),
    (&[ProgType::CgroupSysctl], "bpf_sysctl"),
    (&[ProgType::CgroupSockopt], "bpf_sockopt"),
    (&[ProgType::SkReuseport], "sk_reuseport_md"),
    (&[ProgType::SkLookup], "bpf_sk_lookup"),
    (&[ProgType::Netfilter], "bpf_nf_ctx"),
];

/// Tags that parameters of global functions may have, without `arg:`. Source: verdicts of Linux 6.18.
const TAGS: &[&str] = &[
    "arena",
    "ctx",
    "nonnull",
    "nullable",
    "trusted",
    "untrusted",
];

/// Program types whose context is an array of numbers of 8 bytes.
const CTX_WORDS: &[ProgType] = &[
    ProgType::RawTracepoint,
    ProgType::RawTracepointWritable,
    ProgType::Tracing,
    ProgType::Lsm,
    ProgType::StructOps,
];

/// Program types whose context has no type: a tagged pointer may point to anything but a pointer.
const CTX_ANYTHING: &[ProgType] = &[ProgType::Tracepoint, ProgType::Syscall, ProgType::Ext];

/// Is `name` the context structure of the program type?
pub(crate) fn is_ctx_name(prog_type: ProgType, name: &str) -> bool {
    CTX_STRUCTS
        .iter()
        .any(|(types, ctx)| types.contains(&prog_type) && *ctx == name)
}

/// The context structure of a program type whose fields the kernel converts.
pub(crate) fn ctx_name(prog_type: ProgType) -> Option<&'static str> {
    let row = CTX_STRUCTS
        .iter()
        .find(|(types, _)| types.contains(&prog_type));
    row.map(|(_, name)| *name)
}

impl Verifier<'_> {
    /// Parameters of the global function `f`, from its BTF.
    fn params_of(&self, f: usize) -> Check<Vec<Param>> {
        let name = self.func_name(f);
        let no_btf = || {
            fail(
                code::NO_BTF,
                errno::EINVAL,
                format!("the global function {name} has no BTF"),
            )
        };
        let Some(func) = self.req.btf.and_then(|b| b.get(self.p.funcs[f].func_type)) else {
            return no_btf();
        };
        let Some(proto) = func.target().filter(|p| p.kind() == BtfKind::FuncProto) else {
            return no_btf();
        };
        if proto.vlen() as usize > MAX_PARAMS {
            let message = format!(
                "the global function {name} has {} parameters, at most {MAX_PARAMS} are allowed",
                proto.vlen()
            );
            return fail(code::GLOBAL_ARGS, errno::EINVAL, message);
        }
        let returns_number = proto.target().is_some_and(|t| is_number(t.resolve()));
        if !returns_number {
            return fail(
                code::GLOBAL_ARGS,
                errno::EINVAL,
                format!("the global function {name} does not return a number"),
            );
        }
        let btf = func.btf();
        let tags: Vec<(i32, &str)> = if has_rule(self.req.kernel, Rule::ArgumentTags) {
            btf.decl_tags(func.id()).collect()
        } else {
            Vec::new()
        };
        proto
            .params()
            .enumerate()
            .map(|(i, p)| {
                let tags: Vec<&str> = tags
                    .iter()
                    .filter(|t| t.0 == i as i32)
                    .filter_map(|t| t.1.strip_prefix("arg:"))
                    .collect();
                self.param(btf, p.type_id, &tags, &name, i)
            })
            .collect()
    }

    /// A parameter of this type with these tags (without `arg:`). The order of the questions is the kernel's.
    fn param(&self, btf: &Btf, type_id: u32, tags: &[&str], name: &str, i: usize) -> Check<Param> {
        let bad = |why: String| {
            fail(
                code::GLOBAL_ARGS,
                errno::EINVAL,
                format!("parameter {i} of global function {name} {why}"),
            )
        };
        if let Some(unknown) = tags.iter().find(|t| !TAGS.contains(t)) {
            let message =
                format!("parameter {i} of global function {name} has an unknown tag arg:{unknown}");
            return fail(code::GLOBAL_ARGS, errno::EOPNOTSUPP, message);
        }
        let Some(ty) = btf.resolve(type_id) else {
            return bad("has no type".into());
        };
        if is_number(ty) {
            return if tags.is_empty() {
                Ok(Param::Scalar)
            } else {
                bad("is a number with a pointer's tag".into())
            };
        }
        if ty.kind() != BtfKind::Ptr {
            return bad(format!("is passed by value as {}", ty.kind().name()));
        }
        let target = ty.target().map(Type::resolve);
        if tags.contains(&"ctx") {
            return if tags.len() > 1 {
                bad("is the context and has other tags".into())
            } else if self.may_be_ctx(ty, target) {
                Ok(Param::Ctx)
            } else {
                bad("is tagged as the context, but points to something else".into())
            };
        }
        if let Some(target) = target
            && self.is_ctx_struct(ty, target)
        {
            return if tags.is_empty() {
                Ok(Param::Ctx)
            } else {
                bad("is the context and has a tag".into())
            };
        }
        if target.is_some_and(|t| t.kind() == BtfKind::Struct && t.name() == "bpf_dynptr") {
            return if tags.is_empty() {
                Ok(Param::Dynptr)
            } else {
                bad("is a dynptr and has a tag".into())
            };
        }
        if tags.iter().any(|t| matches!(*t, "trusted" | "untrusted")) {
            return self.struct_param(ty, tags).or_else(|e| match e.code {
                code::NEEDS_KERNEL_BTF => Err(e),
                _ => bad(e.cause.to_string()),
            });
        }
        if tags.contains(&"arena") {
            return if tags.len() == 1 {
                Ok(Param::Arena)
            } else {
                bad("is an arena pointer and has other tags".into())
            };
        }
        if tags.contains(&"nullable") {
            return bad("is memory, which may be NULL unless its tag says otherwise".into());
        }
        let Some(target) = target else {
            return bad("points to void".into());
        };
        match btf.size_of(target.id()) {
            Ok(size) if target.kind() != BtfKind::Func && target.kind() != BtfKind::FuncProto => {
                Ok(Param::Memory {
                    size,
                    nullable: !tags.contains(&"nonnull"),
                })
            }
            _ => bad("points to something without a size".into()),
        }
    }

    /// A parameter whose tag says that it is a structure of the kernel, or anything at all.
    fn struct_param(&self, pointer: Type<'_>, tags: &[&str]) -> Check<Param> {
        let bad = |why: &'static str| fail(code::GLOBAL_ARGS, errno::EINVAL, why);
        let has = |tag: &str| tags.contains(&tag);
        let target = pointer.target().map(Type::resolve);
        if has("untrusted") {
            if tags.len() > 1 {
                return bad("is untrusted and has other tags");
            }
            if target.is_none_or(|t| t.kind() == BtfKind::Void || is_number(t)) {
                return Ok(Param::Anything);
            }
        } else if has("nonnull") {
            return bad("is trusted, which includes that it is not NULL");
        }
        let name = target.map_or("", |t| skep_btf::essential_name(t.name()));
        let kernel = self.kernel_btf()?;
        let kernel = kernel.base().unwrap_or(kernel);
        let mut found = kernel
            .find_essential(name)
            .filter_map(|id| kernel.get(id))
            .filter(|t| target.is_some_and(|own| own.kind() == t.kind()));
        let (Some(t), None) = (found.next(), found.next()) else {
            return bad("points to a structure that the kernel does not have, or has twice");
        };
        if !t.kind().is_composite() {
            return bad("points to neither a structure nor a number");
        }
        let mut flags = if has("untrusted") {
            Flags::UNTRUSTED
        } else {
            Flags::TRUSTED
        };
        if has("nullable") {
            flags = flags.with(Flags::NULLABLE);
        }
        Ok(Param::Struct { id: t.id(), flags })
    }

    /// May a pointer to `target` be tagged as the context?
    fn may_be_ctx(&self, pointer: Type<'_>, target: Option<Type<'_>>) -> bool {
        let Some(target) = target.filter(|t| t.kind() != BtfKind::Void) else {
            return true;
        };
        if target.kind() == BtfKind::Ptr {
            return false;
        }
        let prog_type = self.env.prog_type;
        let is_word = || target.kind() == BtfKind::Int && target.size() == Some(8);
        if self.env.attach == Some(AttachType::TraceIter) {
            return target.kind() == BtfKind::Struct && target.name().starts_with("bpf_iter__");
        }
        CTX_ANYTHING.contains(&prog_type)
            || (CTX_WORDS.contains(&prog_type) && is_word())
            || (prog_type == ProgType::PerfEvent && target.name() == "pt_regs")
            || (self.env.attach == Some(AttachType::TraceRawTp)
                && target.name() == "bpf_raw_tracepoint_args")
            || self.is_ctx_struct(pointer, target)
    }

    fn is_ctx_struct(&self, pointer: Type<'_>, target: Type<'_>) -> bool {
        let prog_type = self.env.prog_type;
        let typedef_name = pointer
            .target()
            .filter(|t| t.kind() == BtfKind::Typedef)
            .map_or("", |t| t.name());
        let named = |name: &str| {
            (target.kind() == BtfKind::Struct && target.name() == name) || typedef_name == name
        };
        CTX_STRUCTS
            .iter()
            .any(|(types, name)| types.contains(&prog_type) && named(name))
    }

    /// Registers at the entry of global function `f` when it is verified on its own.
    pub(crate) fn setup_global(&mut self, f: usize) -> Check {
        for (i, param) in self.params_of(f)?.into_iter().enumerate() {
            *self.reg_mut(i + 1) = match param {
                // Arena pointers are cast before they are used.
                Param::Scalar | Param::Arena => Reg::UNKNOWN,
                Param::Ctx => Reg::pointer(Kind::Ctx),
                Param::Dynptr => self.callback_dynptr(),
                Param::Struct { id, flags } => Reg {
                    flags,
                    aux: id,
                    aux2: source::KERNEL,
                    id: self.new_id(),
                    ..Reg::pointer(Kind::Btf)
                },
                Param::Anything => Reg {
                    flags: Flags::RDONLY.with(Flags::UNTRUSTED),
                    ..Reg::pointer(Kind::Mem)
                },
                Param::Memory { size, nullable } => {
                    let mut r = Reg {
                        aux: size,
                        ..Reg::pointer(Kind::Mem)
                    };
                    if nullable {
                        r.flags = Flags::NULLABLE;
                        r.id = self.new_id();
                    }
                    r
                }
            };
        }
        Ok(())
    }

    /// Arguments of a call of the global function `f`.
    pub(crate) fn check_global_args(&mut self, f: usize) -> Check {
        let name = self.func_name(f);
        for (i, param) in self.params_of(f)?.into_iter().enumerate() {
            let (n, reg) = (i + 1, *self.reg(i + 1));
            let bad = |what: &'static str| {
                let cause = Cause::Argument {
                    reg: register(n),
                    function: format!("the global function {name}").into(),
                    found: reg.describe().into(),
                    wanted: what.into(),
                };
                fail(code::GLOBAL_ARGS, errno::EINVAL, cause)
            };
            match param {
                Param::Scalar if !reg.is_scalar() => return bad("a number"),
                Param::Ctx if reg.kind != Kind::Ctx => return bad("the context"),
                Param::Ctx => self.check_unmoved(n, false)?,
                Param::Arena if !matches!(reg.kind, Kind::Arena | Kind::Scalar) => {
                    return bad("an arena pointer");
                }
                Param::Memory { size, nullable } => {
                    if !nullable && (reg.is_nullable() || reg.is_zero()) {
                        let cause = Cause::NullArgument {
                            reg: register(n),
                            function: format!("the global function {name}").into(),
                            found: reg.describe().into(),
                        };
                        return fail(code::ARG_NULL, errno::EINVAL, cause);
                    }
                    if !reg.is_zero() {
                        self.check_global_memory(n, size)?;
                    }
                }
                Param::Dynptr if !matches!(reg.kind, Kind::Stack | Kind::Dynptr) => {
                    return bad("a dynptr");
                }
                Param::Dynptr => {
                    self.used_dynptr(n, true)?;
                }
                Param::Struct { id, flags } if flags.has(Flags::TRUSTED) => {
                    self.check_struct_arg(n, id, flags)?;
                }
                Param::Scalar | Param::Arena | Param::Struct { .. } | Param::Anything => {}
            }
        }
        Ok(())
    }

    /// Register `n` must point to the kernel's structure `id`.
    fn check_struct_arg(&self, n: usize, id: u32, flags: Flags) -> Check {
        let reg = *self.reg(n);
        let nullable = flags.has(Flags::NULLABLE);
        if nullable && reg.is_zero() {
            return Ok(());
        }
        let plain = if nullable {
            reg.flags.without(Flags::NULLABLE)
        } else {
            reg.flags
        };
        let good = matches!(plain, Flags::NONE | Flags::TRUSTED | Flags::RCU);
        let fits = reg.kind == Kind::Btf
            && good
            && reg.aux2 == source::KERNEL
            && reg.off >= 0
            && holds(self.pointee(&reg)?, reg.off.unsigned_abs(), id, false);
        if !fits {
            let message = format!(
                "argument {} of the global function is {}, a trusted structure was expected",
                n - 1,
                reg.describe()
            );
            return fail(code::GLOBAL_ARGS, errno::EACCES, message);
        }
        self.check_unmoved(n, true)
    }

    /// Register `n` must point to `size` bytes to read and write.
    pub(crate) fn check_global_memory(&mut self, n: usize, size: u32) -> Check {
        let saved = *self.reg(n);
        if saved.is_nullable() {
            self.reg_mut(n).flags = saved.flags.without(Flags::NULLABLE);
        }
        let read = self.memory_arg(
            n,
            i64::from(size),
            false,
            true,
            false,
            &mut CallArgs::default(),
        );
        let both = read.and_then(|()| {
            self.memory_arg(
                n,
                i64::from(size),
                true,
                true,
                false,
                &mut CallArgs::default(),
            )
        });
        *self.reg_mut(n) = saved;
        both.map_err(|mut e| {
            e.errno = errno::EINVAL;
            e
        })
    }
}

fn is_number(t: Type<'_>) -> bool {
    matches!(t.kind(), BtfKind::Int | BtfKind::Enum | BtfKind::Enum64)
}

impl Verifier<'_> {
    /// Names, linkage and types of the functions, from `func_info`; checks that it fits the program.
    pub(crate) fn check_func_info(&mut self) -> Check {
        let info = self.req.func_info;
        let needs_int = |f: &Func| f.has_ld_abs || f.has_tail_call;
        if info.is_empty() {
            // Without BTF nobody knows that such a subprog returns a number.
            return match self.p.funcs.iter().skip(1).find(|f| needs_int(f)) {
                None => Ok(()),
                Some(f) => {
                    let message = format!(
                        "the function at slot {} has tail calls or legacy loads, which needs BTF that says what it returns",
                        f.start
                    );
                    fail_nowhere(code::TAIL_CALL, errno::EINVAL, message)
                }
            };
        }
        let bad = |why: String| fail_nowhere(code::BAD_FUNC_INFO, errno::EINVAL, why);
        if info.len() != self.p.funcs.len() {
            return bad(format!(
                "{} functions have BTF, the program has {}",
                info.len(),
                self.p.funcs.len()
            ));
        }
        let Some(btf) = self.req.btf else {
            return bad("func_info without BTF".into());
        };
        for (f, record) in info.iter().enumerate() {
            if record.insn as usize != self.p.funcs[f].start {
                return bad(format!(
                    "func_info names slot {}, where no function starts",
                    record.insn
                ));
            }
            let Some(func) = btf
                .get(record.type_id)
                .filter(|t| t.kind() == BtfKind::Func)
            else {
                return bad(format!(
                    "BTF id {} of func_info is no function",
                    record.type_id
                ));
            };
            let returns_int = func
                .target()
                .and_then(|p| p.target())
                .is_some_and(|t| is_number(t.resolve()));
            if f > 0 && needs_int(&self.p.funcs[f]) && !returns_int {
                let message = format!(
                    "function {} has tail calls or legacy loads, so it must return int",
                    func.name()
                );
                return fail_nowhere(code::TAIL_CALL, errno::EINVAL, message);
            }
            let target = &mut self.p.funcs[f];
            target.name = Some(func.name().to_owned());
            target.func_type = record.type_id;
            target.is_global = f > 0 && func.linkage() == Some(skep_btf::Linkage::Global);
        }
        Ok(())
    }

    /// Source lines must name instructions, in order, and begin every function.
    pub(crate) fn check_line_info(&self) -> Check {
        let lines = self.req.line_info;
        let bad = |why: String| fail_nowhere(code::BAD_FUNC_INFO, errno::EINVAL, why);
        if lines.is_empty() {
            return Ok(());
        }
        let mut previous = None;
        for line in lines {
            let at = line.insn as usize;
            if previous.is_some_and(|p| line.insn <= p) || at >= self.p.len() {
                return bad(format!(
                    "line information for slot {at} is out of order or outside of the program"
                ));
            }
            if self.p.slots[at].code == 0 {
                return bad(format!(
                    "line information names slot {at}, the middle of a wide instruction"
                ));
            }
            let known = |at| self.req.btf.is_none_or(|btf| btf.str_bytes(at).is_some());
            if !known(line.file) || !known(line.text) {
                return bad(format!(
                    "line information for slot {at} names strings that the BTF does not have"
                ));
            }
            previous = Some(line.insn);
        }
        for f in &self.p.funcs {
            if lines
                .binary_search_by_key(&(f.start as u32), |l| l.insn)
                .is_err()
            {
                return bad(format!(
                    "the function at slot {} has no line information",
                    f.start
                ));
            }
        }
        Ok(())
    }
}
