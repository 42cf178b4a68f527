//! What runs without a kernel, and why the rest does not: the truth behind `docs/compat.md` and `U…` codes.
//!
//! What is verified but exists only in a kernel is refused after verification ([`runs_in_user`]), never at run time. A helper or
//! kfunc runs in user space if [`crate::helpers`] has an entry for it; for every other helper [`KERNEL_ONLY`] has a reason.

use crate::helpers;
use crate::tasks::is_known;
use skep_abi::helper::HELPERS;
use skep_abi::trust::is_made_by_programs;
use skep_abi::{MapType, ProgType};
use skep_btf::Btf;
use skep_isa::{Call, Imm64, Insn};
use skep_verifier::{MapDesc, Region, Verified};
use std::fmt::Write;

/// Number of the helper that is an op of its own.
const TAIL_CALL: u32 = 12;

/// Why an accepted program cannot run in user space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WhyNot {
    /// Nothing in user space calls programs of this type.
    ProgType(ProgType),
    /// A helper exists only in a kernel.
    Helper {
        /// Slot of the call.
        slot: u32,
        /// Number of the helper.
        id: u32,
    },
    /// A kfunc exists only in a kernel.
    Kfunc {
        /// Slot of the call.
        slot: u32,
        /// Name of the kfunc.
        name: String,
    },
    /// The address of a kernel variable is taken.
    KernelVariable {
        /// Slot of the load.
        slot: u32,
    },
    /// A structure of the kernel is read, or a field of it that this process does not know.
    KernelMemory {
        /// Slot of the access.
        slot: u32,
        /// Name of the structure, if it is always the same one.
        structure: String,
    },
    /// A pointer is kept in a map or object beyond the run that its target lasts for.
    KernelPointer {
        /// Slot of the call.
        slot: u32,
        /// Name of the structure that it points to.
        structure: String,
    },
    /// A map type exists only in a kernel.
    Map {
        /// Name of the map.
        name: String,
        /// Its type.
        map_type: MapType,
    },
}

impl WhyNot {
    /// Stable code; `skep explain` knows it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ProgType(_) => "U0001",
            Self::Helper { .. } => "U0002",
            Self::Kfunc { .. } => "U0003",
            Self::KernelVariable { .. } => "U0004",
            Self::KernelMemory { .. } => "U0005",
            Self::Map { .. } => "U0006",
            Self::KernelPointer { .. } => "U0007",
        }
    }

    /// Slot that the answer is about, if it has one.
    #[must_use]
    pub const fn slot(&self) -> Option<u32> {
        match self {
            Self::Helper { slot, .. }
            | Self::Kfunc { slot, .. }
            | Self::KernelVariable { slot }
            | Self::KernelPointer { slot, .. }
            | Self::KernelMemory { slot, .. } => Some(*slot),
            Self::ProgType(_) | Self::Map { .. } => None,
        }
    }
}

impl std::fmt::Display for WhyNot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ProgType(t) => {
                let why = prog_type_reason(*t).unwrap_or("only a kernel calls it");
                write!(f, "programs of type {t} exist only in a kernel: {why}")
            }
            Self::Helper { id, .. } => {
                let name = skep_abi::helper::by_id(*id).map_or("helper", |h| h.name);
                let why = helper_reason(name).unwrap_or("it has no meaning elsewhere");
                write!(f, "{name} exists only in a kernel: {why}")
            }
            Self::Kfunc { name, .. } => write!(f, "kfunc {name} exists only in a kernel"),
            Self::KernelVariable { .. } => {
                f.write_str("the address of a kernel variable exists only in a kernel")
            }
            Self::KernelMemory { structure, .. } if structure.is_empty() => {
                f.write_str("a structure of the kernel is read")
            }
            Self::KernelMemory { structure, .. } => {
                write!(
                    f,
                    "a field of struct {structure} is read that only a kernel has"
                )
            }
            Self::KernelPointer { structure, .. } => {
                write!(
                    f,
                    "a pointer to struct {structure} is kept: what it points to lasts beyond the run only in a kernel"
                )
            }
            Self::Map { name, map_type } => {
                let why = map_type_reason(*map_type).unwrap_or("only a kernel has it");
                write!(
                    f,
                    "map `{name}` of type {map_type} exists only in a kernel: {why}"
                )
            }
        }
    }
}

/// Does a verified program read only those structures of the kernel, and fields of them, that this process knows? A read whose
/// value is unused does not count: it is not made.
/// `kernel_btf` is what it was verified with.
///
/// # Errors
/// [`WhyNot::KernelMemory`] with the first other one.
pub fn reads_what_is_known(verified: &Verified, kernel_btf: Option<&Btf>) -> Result<(), WhyNot> {
    for (slot, fact) in (0u32..).zip(verified.facts()) {
        let Some(access) = fact.access.filter(|_| fact.reached && !fact.unused) else {
            continue;
        };
        let Region::Btf { type_id } = access.region else {
            continue;
        };
        // A call reads as much as it was told; what begins in a field ends there.
        let size = match skep_isa::decode(verified.insns(), slot as usize) {
            Ok(Insn::Load { size, .. }) => u64::from(size.bytes()),
            _ => 1,
        };
        let is_known = match (kernel_btf, access.offset) {
            (Some(btf), Some(offset)) => is_known(btf, type_id, offset, size),
            _ => false,
        };
        if !is_known {
            let name = kernel_btf.and_then(|btf| Some(btf.resolve(type_id)?.name().to_owned()));
            return Err(WhyNot::KernelMemory {
                slot,
                structure: name.unwrap_or_default(),
            });
        }
    }
    Ok(())
}

/// Are the pointers to structures of the kernel that a verified program keeps in maps and objects those whose targets stay,
/// which sets of CPUs alone are? `kernel_btf` is what it was verified with.
///
/// # Errors
/// [`WhyNot::KernelPointer`] with the first other one.
pub fn keeps_what_stays(verified: &Verified, kernel_btf: Option<&Btf>) -> Result<(), WhyNot> {
    for (slot, fact) in (0u32..).zip(verified.facts()) {
        let kptrs = fact.call.iter().flat_map(|call| &call.kernel_kptrs);
        for type_id in kptrs {
            let name = kernel_btf.and_then(|btf| Some(btf.resolve(*type_id)?.name().to_owned()));
            let structure = name.unwrap_or_default();
            if !is_made_by_programs(&structure) {
                return Err(WhyNot::KernelPointer { slot, structure });
            }
        }
    }
    Ok(())
}

/// Can a verified program run in user space? `kernel_btf` is what it was verified with.
///
/// # Errors
/// The first thing that exists only in a kernel.
pub fn runs_in_user(verified: &Verified, kernel_btf: Option<&Btf>) -> Result<(), WhyNot> {
    let prog_type = verified.prog_type();
    if prog_type_reason(prog_type).is_some() {
        return Err(WhyNot::ProgType(prog_type));
    }
    for (slot, fact) in (0u32..).zip(verified.facts()) {
        if !fact.reached {
            continue;
        }
        let kfunc = fact.call.as_ref().and_then(|c| c.kfunc.as_deref());
        if let Ok(insn) = skep_isa::decode(verified.insns(), slot as usize) {
            check_insn(slot, &insn, kfunc, verified.maps())?;
        }
    }
    keeps_what_stays(verified, kernel_btf)?;
    reads_what_is_known(verified, kernel_btf)
}

fn check_insn(slot: u32, insn: &Insn, kfunc: Option<&str>, maps: &[MapDesc]) -> Result<(), WhyNot> {
    match insn {
        Insn::Call(Call::Helper(id)) => {
            let id = id.cast_unsigned();
            if id != TAIL_CALL && helpers::helper(id, None).is_none() {
                return Err(WhyNot::Helper { slot, id });
            }
        }
        Insn::Call(Call::Kfunc { .. }) => {
            let name = kfunc.unwrap_or("of unknown name");
            if name != "bpf_throw" && helpers::kfunc(name).is_none() {
                return Err(WhyNot::Kfunc {
                    slot,
                    name: name.to_owned(),
                });
            }
        }
        Insn::LoadImm64 {
            imm: Imm64::BtfId { .. },
            ..
        } => return Err(WhyNot::KernelVariable { slot }),
        Insn::LoadImm64 { imm, .. } => {
            let map = imm.map_place().and_then(|place| maps.get(place));
            if let Some(map) = map.filter(|m| map_type_reason(m.map_type).is_some()) {
                return Err(WhyNot::Map {
                    name: map.name.clone(),
                    map_type: map.map_type,
                });
            }
        }
        _ => {}
    }
    Ok(())
}

/// Why programs of this type do not run in user space; `None` if they do.
#[must_use]
pub fn prog_type_reason(prog_type: ProgType) -> Option<&'static str> {
    use ProgType as P;
    Some(match prog_type {
        P::SocketFilter
        | P::Kprobe
        | P::SchedCls
        | P::SchedAct
        | P::Tracepoint
        | P::Xdp
        | P::PerfEvent
        | P::CgroupSkb
        | P::LwtIn
        | P::LwtOut
        | P::LwtXmit
        | P::RawTracepoint
        | P::RawTracepointWritable
        | P::FlowDissector
        | P::SkLookup
        | P::Syscall => return None,
        P::CgroupSock
        | P::CgroupDevice
        | P::CgroupSockAddr
        | P::CgroupSysctl
        | P::CgroupSockopt => "control groups call it from within system calls",
        P::SockOps | P::SkSkb | P::SkMsg | P::SkReuseport => "sockets of the kernel call it",
        P::Tracing | P::Lsm | P::Ext => "it attaches to functions of the kernel",
        P::StructOps => "it implements an interface of the kernel",
        P::LwtSeg6local => "it works on segment routing state of the kernel",
        P::LircMode2 => "infrared devices call it",
        P::Netfilter => "the kernel's packet filter calls it",
        P::Unspec => "it is no type",
    })
}

/// Why maps of this type do not exist in user space; `None` if they do.
#[must_use]
pub fn map_type_reason(map_type: MapType) -> Option<&'static str> {
    use MapType as M;
    Some(match map_type {
        M::Sockmap | M::Sockhash | M::ReuseportSockarray => "it holds sockets of the kernel",
        M::StructOps => "it implements an interface of the kernel",
        M::CgroupStorage | M::PercpuCgroupStorage => {
            "its owner is an attachment to a control group"
        }
        M::Unspec => "it is no type",
        _ => return None,
    })
}

/// Helpers that exist only in a kernel, by reason.
#[rustfmt::skip] // names side by side
pub const KERNEL_ONLY: &[(&str, &[&str])] = &[
    ("it works on sockets of the kernel", &[
        "bpf_setsockopt", "bpf_getsockopt", "bpf_sk_redirect_map", "bpf_sk_redirect_hash", "bpf_sock_map_update",
        "bpf_sock_hash_update", "bpf_sock_ops_cb_flags_set", "bpf_msg_redirect_map", "bpf_msg_redirect_hash",
        "bpf_msg_apply_bytes", "bpf_msg_cork_bytes", "bpf_msg_pull_data", "bpf_msg_push_data", "bpf_msg_pop_data",
        "bpf_bind", "bpf_sk_select_reuseport", "bpf_tcp_send_ack", "bpf_load_hdr_opt", "bpf_store_hdr_opt",
        "bpf_reserve_hdr_opt", "bpf_sk_cgroup_id", "bpf_sk_ancestor_cgroup_id", "bpf_sock_from_file",
        "bpf_skc_to_tcp6_sock", "bpf_skc_to_tcp_sock", "bpf_skc_to_tcp_timewait_sock", "bpf_skc_to_tcp_request_sock",
        "bpf_skc_to_udp6_sock", "bpf_skc_to_unix_sock", "bpf_skc_to_mptcp_sock",
    ]),
    ("it signs with a secret of the kernel", &[
        "bpf_tcp_check_syncookie", "bpf_tcp_gen_syncookie", "bpf_tcp_raw_gen_syncookie_ipv4",
        "bpf_tcp_raw_gen_syncookie_ipv6", "bpf_tcp_raw_check_syncookie_ipv4", "bpf_tcp_raw_check_syncookie_ipv6",
    ]),
    ("it works on tunnels, routes and transforms of the kernel", &[
        "bpf_skb_get_tunnel_opt", "bpf_skb_set_tunnel_opt", "bpf_skb_get_xfrm_state", "bpf_lwt_push_encap",
        "bpf_lwt_seg6_store_bytes", "bpf_lwt_seg6_adjust_srh", "bpf_lwt_seg6_action",
    ]),
    ("it works for programs that control groups call", &[
        "bpf_get_local_storage", "bpf_sysctl_get_name", "bpf_sysctl_get_current_value", "bpf_sysctl_get_new_value",
        "bpf_sysctl_set_new_value", "bpf_get_retval", "bpf_set_retval",
    ]),
    ("only security hooks of the kernel may call it", &[
        "bpf_inode_storage_get", "bpf_inode_storage_delete", "bpf_bprm_opts_set", "bpf_ima_inode_hash",
        "bpf_ima_file_hash",
    ]),
    ("it writes into a file of the kernel that an iterator fills", &[
        "bpf_seq_printf", "bpf_seq_write", "bpf_seq_printf_btf",
    ]),
    ("it works on structures of the kernel", &["bpf_d_path", "bpf_snprintf_btf"]),
    ("it gives the registers that a task entered the kernel with", &["bpf_task_pt_regs"]),
    ("it works on the traced function of the kernel", &[
        "bpf_override_return", "bpf_get_func_arg", "bpf_get_func_ret", "bpf_get_func_arg_cnt", "bpf_get_func_ip",
        "bpf_skb_output", "bpf_xdp_output",
    ]),
    ("it calls the kernel's own bpf(2)", &[
        "bpf_sys_bpf", "bpf_sys_close", "bpf_btf_find_by_name_kind", "bpf_kallsyms_lookup_name",
    ]),
    ("it reads counters of the processor through the kernel", &[
        "bpf_perf_event_read", "bpf_perf_event_read_value", "bpf_perf_prog_read_value", "bpf_read_branch_records",
        "bpf_get_branch_snapshot",
    ]),
    ("infrared devices call it", &["bpf_rc_repeat", "bpf_rc_keydown", "bpf_rc_pointer_rel"]),
    ("it would write into the memory of the process that runs it", &["bpf_probe_write_user"]),
];

/// Why a helper does not run in user space; `None` if it does.
#[must_use]
pub fn helper_reason(name: &str) -> Option<&'static str> {
    let (why, _) = KERNEL_ONLY
        .iter()
        .find(|(_, names)| names.contains(&name))?;
    Some(why)
}

/// True if there is an entry for the helper.
#[cfg(test)]
fn has_helper(id: u32) -> bool {
    id == TAIL_CALL || helpers::helper(id, None).is_some()
}

/// The page `docs/compat.md`.
#[must_use]
pub fn page() -> String {
    let mut out = String::from(
        "# What runs where\n\n\
         Made from the tables of the source by the tests (`UPDATE=1 cargo test -p skep-vm compat`). The kernel backend\n\
         does what the running kernel does; \"kernel since\" is the first Linux version. What says *no* here is accepted\n\
         by `skep check` as the kernel accepts it, and refused by the user backend with a `U…` code after verification.\n",
    );
    section(&mut out, "Program types", &["program type", "user backend"]);
    for t in ProgType::ALL.iter().filter(|t| **t != ProgType::Unspec) {
        row(&mut out, &[t.name(), &answer(prog_type_reason(*t))]);
    }
    section(&mut out, "Map types", &["map type", "user backend"]);
    for t in MapType::ALL.iter().filter(|t| **t != MapType::Unspec) {
        row(&mut out, &[t.name(), &answer(map_type_reason(*t))]);
    }
    section(
        &mut out,
        "Helpers",
        &["helper", "kernel since", "user backend"],
    );
    for h in HELPERS {
        let since = format!("{}.{}", h.since.0, h.since.1);
        row(&mut out, &[h.name, &since, &answer(helper_reason(h.name))]);
    }
    section(&mut out, "Kfuncs of the user backend", &["kfunc"]);
    let mut kfuncs: Vec<&str> = helpers::kfunc_names().collect();
    kfuncs.push("bpf_throw");
    kfuncs.sort_unstable();
    for name in kfuncs {
        row(&mut out, &[name]);
    }
    out
}

fn answer(why_not: Option<&str>) -> String {
    why_not.map_or_else(|| "yes".to_owned(), |why| format!("no: {why}"))
}

fn section(out: &mut String, title: &str, columns: &[&str]) {
    let _ = write!(out, "\n## {title}\n\n");
    row(out, columns);
    row(out, &vec!["---"; columns.len()]);
}

fn row(out: &mut String, cells: &[&str]) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_abi::AttachType;
    use skep_abi::helper::{ProgEnv, lookup};

    #[test]
    fn every_helper_runs_or_has_one_reason() {
        for h in HELPERS {
            let reasons = KERNEL_ONLY
                .iter()
                .filter(|(_, names)| names.contains(&h.name))
                .count();
            let expected = usize::from(!has_helper(h.id));
            assert_eq!(reasons, expected, "{} ({})", h.name, h.id);
        }
    }

    #[test]
    fn every_helper_that_runs_may_be_called_by_programs_that_run() {
        let types = ProgType::ALL.iter();
        let types: Vec<_> = types.filter(|t| prog_type_reason(**t).is_none()).collect();
        for h in HELPERS.iter().filter(|h| has_helper(h.id)) {
            let may_call = types.iter().any(|t| {
                let attach = AttachType::ALL.iter().copied().map(Some);
                attach.chain([None]).any(|attach| {
                    let env = ProgEnv {
                        prog_type: **t,
                        attach,
                        sleepable: **t == ProgType::Syscall,
                        perfmon: true,
                        target: "",
                        kernel: None,
                    };
                    lookup(&env, h.id).is_ok()
                })
            });
            assert!(may_call, "{}: no program of user space may call it", h.name);
        }
    }

    #[test]
    fn every_reason_names_helpers_that_exist() {
        for name in KERNEL_ONLY.iter().flat_map(|(_, names)| names.iter()) {
            assert!(HELPERS.iter().any(|h| h.name == *name), "{name}");
        }
    }

    #[test]
    fn entries_have_the_names_of_their_numbers() {
        for (id, name) in helpers::helper_names() {
            let proto = HELPERS.iter().find(|h| h.id == id);
            assert_eq!(proto.map(|h| h.name), Some(name), "{id}");
        }
    }

    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compat.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs"))
                .expect("docs");
            std::fs::write(path, page()).expect("writes docs/compat.md");
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == page(),
            "docs/compat.md is out of date: UPDATE=1 cargo test -p skep-vm compat"
        );
    }
}
