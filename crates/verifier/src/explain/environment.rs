//! What is not there: helpers, kfuncs, types, fields of the context, capabilities.

use super::scene::{Scene, plural};
use super::{Explanation, Note, names};
use crate::cause::Cause;
use skep_abi::ProgType;
use skep_abi::ctx::CtxDenied;
use skep_abi::helper::{self, HelperProto, ProgEnv};
use skep_abi::prog::MapDenied;
use skep_btf::Kind;
use skep_isa::{Call, Insn};

/// What to do about a code whatever the program is.
#[rustfmt::skip] // one code per line
const HELP: &[(&str, &str)] = &[
    ("E0101", "the helper is newer than this kernel, or the number is wrong: compile against current headers, and test with bpf_core_enum_value_exists(enum bpf_func_id, …) where it may be missing"),
    ("E0104", "load it as root, or with CAP_BPF and CAP_PERFMON (tracing) or CAP_NET_ADMIN (networking)"),
    ("E0105", "the kernel's type has no such member under this name and type: guard the access with `bpf_core_field_exists(p->field)` or `bpf_core_type_exists(struct t)` (code behind a guard that is false is never reached), or describe both layouts with flavors (`struct t___old`)"),
    ("E0106", "declare it `__weak` and test it with bpf_ksym_exists before the call, or require a kernel that has it: kfuncs come and go between kernels"),
    ("E0109", "compile with `-g`, so that the object has BTF, and do not strip the sections .BTF and .BTF.ext"),
    ("E0110", "check the name against /proc/kallsyms and the kernel's BTF (`skep btf dump /sys/kernel/btf/vmlinux`): functions are renamed and inlined between kernels"),
];

/// What to do about a refusal that needs no look at the program.
#[must_use]
pub fn general_help(code: &str) -> Option<&'static str> {
    HELP.iter().find(|(c, _)| *c == code).map(|(_, help)| *help)
}

/// Explains what is missing, since when it exists, and what to use instead.
pub(super) fn explain(scene: &Scene<'_>) -> Explanation {
    match scene.rejection.code {
        "E0102" => helper_not_allowed(scene),
        "E0103" => gpl_only(scene),
        "E0106" => kfunc(scene),
        "E0107" => map(scene),
        code => general_help(code).map_or_else(Explanation::default, with_help),
    }
}

fn with_help(help: &str) -> Explanation {
    Explanation {
        help: vec![help.to_owned()],
        ..Explanation::default()
    }
}

fn helper(scene: &Scene<'_>) -> Option<&'static HelperProto> {
    match scene.insn()? {
        Insn::Call(Call::Helper(number)) => helper::by_id(u32::try_from(*number).ok()?),
        _ => None,
    }
}

/// Program types by the names of their sections, as one writes them.
#[rustfmt::skip] // one type per line
const SECTIONS: &[(ProgType, &str)] = &[
    (ProgType::Xdp, "xdp"),
    (ProgType::SchedCls, "tc"),
    (ProgType::SocketFilter, "socket"),
    (ProgType::CgroupSkb, "cgroup_skb/egress"),
    (ProgType::SkSkb, "sk_skb/stream_verdict"),
    (ProgType::SkMsg, "sk_msg"),
    (ProgType::SockOps, "sockops"),
    (ProgType::LwtXmit, "lwt_xmit"),
    (ProgType::SkLookup, "sk_lookup"),
    (ProgType::CgroupSock, "cgroup/sock_create"),
    (ProgType::CgroupSockAddr, "cgroup/connect4"),
    (ProgType::Kprobe, "kprobe"),
    (ProgType::Tracepoint, "tracepoint"),
    (ProgType::RawTracepoint, "raw_tp"),
    (ProgType::PerfEvent, "perf_event"),
    (ProgType::Syscall, "syscall"),
];

/// Helpers that do a similar thing where the first is not there.
#[rustfmt::skip] // one helper per line
const INSTEAD: &[(&str, &str)] = &[
    ("bpf_redirect", "bpf_redirect in a tc or xdp program; a socket filter only decides how much of the packet the socket gets"),
    ("bpf_skb_store_bytes", "bpf_xdp_store_bytes in XDP; socket filters cannot change packets"),
    ("bpf_skb_load_bytes", "bpf_xdp_load_bytes in XDP"),
    ("bpf_get_current_task", "a tracing, kprobe or cgroup program"),
    ("bpf_probe_read", "bpf_probe_read_kernel or bpf_probe_read_user"),
    ("bpf_trace_printk", "a ring buffer"),
    ("bpf_override_return", "a kernel with CONFIG_BPF_KPROBE_OVERRIDE, and a function that allows error injection"),
];

/// A helper that this program type does not have.
fn helper_not_allowed(scene: &Scene<'_>) -> Explanation {
    let Some(proto) = helper(scene) else {
        return Explanation::default();
    };
    let types: Vec<&str> = SECTIONS
        .iter()
        .filter(|(prog_type, _)| {
            let env = ProgEnv {
                prog_type: *prog_type,
                attach: None,
                sleepable: false,
                perfmon: true,
                target: "",
                kernel: None,
            };
            helper::lookup(&env, proto.id).is_ok()
        })
        .map(|(_, section)| *section)
        .collect();
    let mut help = Vec::new();
    if !types.is_empty() {
        let sections: Vec<String> = types
            .iter()
            .take(6)
            .map(|s| format!("SEC(\"{s}\")"))
            .collect();
        help.push(format!("programs that have it: {}", sections.join(", ")));
    }
    if let Some((_, instead)) = INSTEAD.iter().find(|(name, _)| *name == proto.name) {
        help.push(format!("use {instead}"));
    }
    let (major, minor) = proto.since;
    Explanation {
        headline: Some(format!(
            "helper {} is not available to {} programs",
            proto.name, scene.req.prog_type
        )),
        notes: vec![Note {
            insn: None,
            text: format!(
                "{} exists since Linux {major}.{minor}, for other program types",
                proto.name
            ),
        }],
        help,
        ..Explanation::default()
    }
}

/// A function for GPL-compatible programs.
fn gpl_only(scene: &Scene<'_>) -> Explanation {
    let name = scene
        .at()
        .and_then(|at| scene.callee(at))
        .unwrap_or_else(|| "this function".to_owned());
    Explanation {
        headline: Some(format!("{name} is only for programs with a GPL-compatible license")),
        help: vec!["declare one, if it is true: `char _license[] SEC(\"license\") = \"GPL\";` (or \"Dual MIT/GPL\", \"Dual BSD/GPL\"); otherwise leave the call out".to_owned()],
        ..Explanation::default()
    }
}

/// What to do without the kfuncs for the metadata of devices.
const METADATA_KFUNCS: &str = "metadata kfuncs work in XDP programs that are bound to a device when they are loaded; elsewhere read what the context offers (tc: `skb->hwtstamp`, `skb->tstamp`) or do without";

/// A kfunc that is not there.
fn kfunc(scene: &Scene<'_>) -> Explanation {
    let name = scene.at().and_then(|at| scene.callee(at));
    let prog_type = scene.req.prog_type;
    let (headline, help) = match name.as_deref() {
        Some(n) if n.starts_with("bpf_xdp_metadata") => (
            format!(
                "calling the kernel function {n} is not allowed here: it is only for XDP programs that are bound to a device"
            ),
            METADATA_KFUNCS.to_owned(),
        ),
        Some(n) => (
            format!("calling the kernel function {n} is not allowed in {prog_type} programs"),
            format!(
                "leave the call out, or move it to a program of a type that may call {n}; where it may be missing, declare it `__weak` and test `bpf_ksym_exists({n})` first"
            ),
        ),
        None => return general_help("E0106").map_or_else(Explanation::default, with_help),
    };
    let note = format!(
        "{} is in this kernel, for other programs",
        name.unwrap_or_default()
    );
    Explanation {
        headline: Some(headline),
        notes: vec![Note {
            insn: None,
            text: note,
        }],
        help: vec![help],
        ..Explanation::default()
    }
}

/// A map that this program type may not use.
fn map(scene: &Scene<'_>) -> Explanation {
    let is_lock = matches!(
        *scene.rejection.cause,
        Cause::MapUse {
            denied: MapDenied::TracingSpinLock | MapDenied::SocketFilterSpinLock,
            ..
        }
    );
    let call = (0..scene.path.program.len())
        .find(|at| scene.callee(*at).is_some_and(|c| c == "bpf_spin_lock"));
    let help = if is_lock {
        "tracing programs run anywhere, also where the lock is held already: use atomic operations (`__sync_fetch_and_add(&v->n, 1)`) or a per-CPU map, and take the lock out of the value type"
    } else {
        "use a map type that this program type may use"
    };
    Explanation {
        place: call
            .filter(|_| is_lock)
            .and_then(|at| u32::try_from(at).ok()),
        help: vec![help.to_owned()],
        ..Explanation::default()
    }
}

/// An access to the context that is not allowed.
pub(super) fn context(scene: &Scene<'_>) -> Explanation {
    let name = scene.subject_name();
    let prog_type = scene.req.prog_type;
    let Cause::Context {
        denied,
        offset,
        size,
        write,
        ..
    } = *scene.rejection.cause
    else {
        return traced_context(scene);
    };
    let does = if write { "writes to" } else { "reads" };
    let bytes = plural(size, "byte");
    let (headline, help) = match denied {
        CtxDenied::ReadOnly("pt_regs" | "record" | "args") => (
            format!("{name} writes to the context, which {prog_type} programs may only read"),
            read_only_help(prog_type).to_owned(),
        ),
        CtxDenied::ReadOnly(field) => (
            format!("{name} writes to the field {field} of the context, which {prog_type} programs may only read"),
            read_only_help(prog_type).to_owned(),
        ),
        CtxDenied::Hidden(field) => (
            format!("{name} {does} a field of the context that this program type or attach type does not have: {field}"),
            hidden_field_help(field, prog_type),
        ),
        CtxDenied::Size("pt_regs") => (
            format!("{name} {does} {bytes} at byte {offset} of the saved registers, where no register begins"),
            "read a whole register: `PT_REGS_PARM1(ctx)`, or a field of `struct pt_regs`".to_owned(),
        ),
        CtxDenied::Size(field) => (
            format!("{name} {does} {bytes} at byte {offset} of the context: that is no whole field, {field} has another width or place"),
            format!("use `{field}` as the context's structure declares it: a field is accessed as a whole, or by naturally aligned parts where the type allows that"),
        ),
        CtxDenied::SignedPointer(field) => (
            format!("{name} reads the field {field} of the context, a pointer, as a signed number"),
            format!("read it through the structure: `void *p = (void *)(long)ctx->{field};`"),
        ),
        CtxDenied::NoField if prog_type == ProgType::Tracepoint => (
            format!("{name} {does} byte {offset} of the context, behind the end of what a tracepoint's record may have"),
            "the record of a tracepoint is described in /sys/kernel/tracing/events/CATEGORY/NAME/format: declare it as a structure and use its fields".to_owned(),
        ),
        CtxDenied::NoField | CtxDenied::Btf => return no_field(scene, (offset, size, write)),
    };
    Explanation {
        headline: Some(headline),
        help: vec![help],
        ..Explanation::default()
    }
}

/// Nothing is at this place of the context.
fn no_field(scene: &Scene<'_>, (offset, size, write): (i32, u32, bool)) -> Explanation {
    let (name, prog_type) = (scene.subject_name(), scene.req.prog_type);
    let does = if write { "writes to" } else { "reads" };
    let context = context_struct(prog_type);
    let of = context.map_or_else(String::new, |c| format!(" (struct {c})"));
    let help = match context {
        Some(c) => format!(
            "declare the program's parameter as `struct {c} *ctx` and use its fields; what other program types find in their context is not there"
        ),
        None => format!("use the context that {prog_type} programs get"),
    };
    Explanation {
        headline: Some(format!(
            "{name} {does} byte {offset} of the context{of}, where {prog_type} programs have no field of {}",
            plural(size, "byte")
        )),
        help: vec![help],
        ..Explanation::default()
    }
}

/// The context is an array of the arguments of what is traced.
fn traced_context(scene: &Scene<'_>) -> Explanation {
    let name = scene.subject_name();
    let (offset, does) = match scene.insn() {
        Some(Insn::Load { offset, .. }) => (*offset, "reads"),
        Some(Insn::Store { offset, .. }) => (*offset, "writes to"),
        _ => return Explanation::default(),
    };
    let Some((function, parameters)) = traced_arguments(scene) else {
        return Explanation::default();
    };
    let passes = plural(parameters.len() as u32, "argument");
    let list = parameters.join(", ");
    let headline = match does {
        "reads" if offset % 8 == 0 => format!(
            "{name} reads argument {} of {function}, which passes {passes}",
            offset / 8
        ),
        "reads" => format!(
            "{name} reads byte {offset} of the context, where no argument of {function} begins"
        ),
        _ => format!("{name} writes to the arguments of {function}, which can only be read"),
    };
    let help = match parameters.len() {
        0 => format!("{function} passes no arguments: there is nothing to read in the context"),
        n => format!(
            "{function}({list}): use indexes 0 to {} of the context, or declare the program with `BPF_PROG(name, …)` and these parameters",
            n - 1
        ),
    };
    Explanation {
        headline: Some(headline),
        help: vec![help],
        ..Explanation::default()
    }
}

/// What to do where a field is for others.
fn hidden_field_help(field: &str, prog_type: ProgType) -> String {
    match (field, prog_type) {
        ("data" | "data_end", ProgType::SocketFilter) => "socket filters copy packet bytes with a helper: `__u8 b; if (bpf_skb_load_bytes(skb, 0, &b, 1)) return 0;`".to_owned(),
        (f, _) if f.contains("ip6") || f.contains("ip4") => "IPv4 hooks (connect4, bind4, sendmsg4, …) have user_ip4 and msg_src_ip4, IPv6 hooks have the ip6 fields: use the field of this hook, or attach to the other hook".to_owned(),
        (f, _) => format!("{f} is for other program or attach types: leave the access out, or change the section name to one of those"),
    }
}

/// The structure of the context as programs see it (bpf.h).
const fn context_struct(prog_type: ProgType) -> Option<&'static str> {
    Some(match prog_type {
        ProgType::Xdp => "xdp_md",
        ProgType::SocketFilter
        | ProgType::SchedCls
        | ProgType::SchedAct
        | ProgType::CgroupSkb
        | ProgType::SkSkb
        | ProgType::LwtIn
        | ProgType::LwtOut
        | ProgType::LwtXmit => "__sk_buff",
        ProgType::SkMsg => "sk_msg_md",
        ProgType::SockOps => "bpf_sock_ops",
        ProgType::CgroupSock => "bpf_sock",
        ProgType::CgroupSockAddr => "bpf_sock_addr",
        ProgType::CgroupSockopt => "bpf_sockopt",
        ProgType::CgroupSysctl => "bpf_sysctl",
        ProgType::CgroupDevice => "bpf_cgroup_dev_ctx",
        ProgType::SkLookup => "bpf_sk_lookup",
        ProgType::SkReuseport => "sk_reuseport_md",
        ProgType::PerfEvent => "bpf_perf_event_data",
        ProgType::Kprobe => "pt_regs",
        _ => return None,
    })
}

/// The tracepoint or function that the program is attached to, and its parameters: names, or types where there are none.
fn traced_arguments(scene: &Scene<'_>) -> Option<(String, Vec<String>)> {
    let target = scene.req.kernel_btf?.get(scene.req.attach_btf_id)?;
    let is_tracepoint = target.kind() == Kind::Typedef;
    let mut proto = target.resolve();
    while matches!(proto.kind(), Kind::Ptr | Kind::Func) {
        proto = proto.target()?.resolve();
    }
    // The first parameter of a tracepoint's typedef is the tracing core's own.
    let mut parameters = names::parameters(proto);
    if is_tracepoint && !parameters.is_empty() {
        parameters.remove(0);
    }
    let name = target.name().trim_start_matches("btf_trace_");
    Some((name.to_owned(), parameters))
}

/// What to do where the context is read-only.
fn read_only_help(prog_type: ProgType) -> &'static str {
    match prog_type {
        ProgType::Xdp => {
            "no field of struct xdp_md can be written: drop the assignment (to choose a queue or device return bpf_redirect or bpf_redirect_map; to hand data on use bpf_xdp_adjust_meta)"
        }
        ProgType::Kprobe => {
            "saved registers can only be read: drop the assignment (to change a function's result use bpf_override_return, where the kernel allows it)"
        }
        ProgType::RawTracepoint
        | ProgType::Tracepoint
        | ProgType::Tracing
        | ProgType::PerfEvent => {
            "tracing only looks: drop the assignment, and keep what is computed in a local variable or a map"
        }
        _ => "drop the assignment; keep what is computed in a local variable",
    }
}
