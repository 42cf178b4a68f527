//! What an argument of a kfunc is: its BTF type, the suffix of its name and, for structures, the register say so together.

use crate::global::is_ctx_name;
use crate::kfunc::KfuncCall;
use crate::object::is_plain;
use crate::reg::{Kind, Reg};
use skep_abi::ProgType;
use skep_abi::kfunc::flag;
use skep_btf::{Kind as BtfKind, Param, Type};

/// What an argument that is a pointer must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pointer {
    /// The context.
    Ctx,
    /// NULL, and nothing is looked at.
    Null,
    /// An object to be dropped.
    Dropped,
    /// An object of which a reference is taken.
    Counted,
    /// A dynptr on the stack.
    Dynptr,
    /// An iterator on the stack.
    Iter,
    /// The head of a list.
    ListHead,
    /// A node of a list.
    ListNode,
    /// The root of a tree.
    TreeRoot,
    /// A node of a tree.
    TreeNode,
    /// A constant string.
    Str,
    /// A map.
    Map,
    /// A work queue in a map value.
    Workqueue,
    /// Task work in a map value.
    TaskWork,
    /// Saved interrupt state on the stack.
    IrqFlag,
    /// A resilient spin lock.
    ResLock,
    /// A structure of the kernel.
    Struct,
    /// A function of the program.
    Callback,
    /// Memory of the type's size.
    Memory,
    /// Memory whose size is the next argument.
    Sized,
    /// Nothing that a program could pass.
    Unsuitable,
}

/// Structures that are recognised by name.
const BY_NAME: &[(&str, Pointer)] = &[
    ("bpf_list_head", Pointer::ListHead),
    ("bpf_list_node", Pointer::ListNode),
    ("bpf_rb_root", Pointer::TreeRoot),
    ("bpf_rb_node", Pointer::TreeNode),
];

/// Structures that are recognised by name, after those by the suffix of the parameter.
const BY_NAME_LATER: &[(&str, Pointer)] = &[
    ("bpf_wq", Pointer::Workqueue),
    ("bpf_task_work", Pointer::TaskWork),
];

/// Kinds of register that stand for a structure of the kernel (`reg2btf_ids`).
pub(crate) const fn kernel_struct_of(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Socket => Some("sock"),
        Kind::SockCommon => Some("sock_common"),
        Kind::TcpSock => Some("tcp_sock"),
        Kind::ConstMap => Some("bpf_map"),
        _ => None,
    }
}

/// Is the register a typed pointer, or one that stands for a structure?
pub(crate) const fn is_struct_pointer(kind: Kind) -> bool {
    matches!(kind, Kind::Btf) || kernel_struct_of(kind).is_some()
}

fn is_number(t: Type<'_>) -> bool {
    matches!(t.kind(), BtfKind::Int | BtfKind::Enum | BtfKind::Enum64)
}

fn named(list: &[(&str, Pointer)], target: Type<'_>) -> Option<Pointer> {
    list.iter()
        .find(|(name, _)| target.kind().is_composite() && target.name() == *name)
        .map(|(_, kind)| *kind)
}

/// Is the parameter after `n` the size of the memory that parameter `n` points to?
pub(crate) fn size_param<'k>(
    params: &[Param<'k>],
    n: usize,
    next: Option<&Reg>,
) -> Option<Param<'k>> {
    let p = params.get(n + 1)?;
    let sized = p.name.ends_with("__sz") || p.name.ends_with("__szk");
    (sized && next.is_some_and(Reg::is_scalar)).then_some(*p)
}

/// Is `pointer` the context of the program type, as kfuncs take it?
fn is_ctx(prog_type: ProgType, pointer: Type<'_>, target: Type<'_>) -> bool {
    let typedef = pointer
        .target()
        .filter(|t| t.kind() == BtfKind::Typedef)
        .is_some_and(|t| is_ctx_name(prog_type, t.name()));
    typedef || (target.kind() == BtfKind::Struct && is_ctx_name(prog_type, target.name()))
}

/// What argument `n` must be; `pointer` is its type, `target` what that points to.
pub(crate) fn classify(
    call: &KfuncCall<'_>,
    prog_type: ProgType,
    params: &[Param<'_>],
    n: usize,
    reg: &Reg,
    next: Option<&Reg>,
) -> Pointer {
    let param = params[n];
    let suffix = |s: &str| param.name.ends_with(s);
    let Some(pointer) = call.proto.btf().resolve(param.type_id) else {
        return Pointer::Unsuitable;
    };
    let Some(target) = pointer.target().map(Type::resolve) else {
        return Pointer::Unsuitable;
    };
    if call.rules.name == "bpf_cast_to_kern_ctx" || is_ctx(prog_type, pointer, target) {
        return Pointer::Ctx;
    }
    let sized = size_param(params, n, next).is_some();
    if suffix("__nullable") && reg.is_zero() && !sized {
        return Pointer::Null;
    }
    if suffix("__alloc") {
        return Pointer::Dropped;
    }
    if suffix("__refcounted_kptr") {
        return Pointer::Counted;
    }
    if matches!(target.name(), "bpf_dynptr" | "bpf_dynptr_kern") {
        return Pointer::Dynptr;
    }
    let iterators = flag::ITER_NEW | flag::ITER_NEXT | flag::ITER_DESTROY;
    if (call.rules.flags & iterators != 0 && n == 0) || suffix("__iter") {
        return Pointer::Iter;
    }
    if let Some(kind) = named(BY_NAME, target) {
        return kind;
    }
    if suffix("__str") {
        return Pointer::Str;
    }
    if suffix("__map") {
        return Pointer::Map;
    }
    if let Some(kind) = named(BY_NAME_LATER, target) {
        return kind;
    }
    if suffix("__irq_flag") {
        return Pointer::IrqFlag;
    }
    if target.name() == "bpf_res_spin_lock" {
        return Pointer::ResLock;
    }
    if is_struct_pointer(reg.kind) {
        return if target.kind().is_composite() {
            Pointer::Struct
        } else {
            Pointer::Unsuitable
        };
    }
    if target.kind() == BtfKind::FuncProto {
        return Pointer::Callback;
    }
    let memory = is_number(target) || is_plain(target, 0);
    match (sized, memory) {
        (true, _) if memory || target.kind() == BtfKind::Void => Pointer::Sized,
        (false, true) => Pointer::Memory,
        _ => Pointer::Unsuitable,
    }
}
