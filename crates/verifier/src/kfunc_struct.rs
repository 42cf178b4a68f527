//! Structures of the kernel, and maps, as arguments and results of kfuncs.

use crate::btf_walk::holds;
use crate::cause::{Cause, register};
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::kfunc::KfuncCall;
use crate::kfunc_args::refused;
use crate::kfunc_kind::kernel_struct_of;
use crate::memory::field_name;
use crate::reg::{Flags, Kind, Reg, source};
use crate::verifier::Verifier;
use skep_abi::ProgType;
use skep_abi::kfunc::flag;
use skep_btf::{FieldKind, Kind as BtfKind, Type};

/// What programs call their context, and what the kernel calls it: functions that take the former take the latter.
const PROJECTIONS: &[(&str, &str)] = &[("__sk_buff", "sk_buff"), ("xdp_md", "xdp_buff")];

/// Suffix of structures that are not yet part of the kernel's tables, and are never taken for the finished ones.
const UNFINISHED: &str = "___init";

/// The kernel's structure behind the context of each program type. Source: include/linux/bpf_types.h.
const KERNEL_CTX: &[(&[ProgType], &str)] = &[
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
        ],
        "sk_buff",
    ),
    (&[ProgType::Xdp], "xdp_buff"),
    (&[ProgType::CgroupSock], "sock"),
    (&[ProgType::CgroupSockAddr], "bpf_sock_addr_kern"),
    (&[ProgType::SockOps], "bpf_sock_ops_kern"),
    (&[ProgType::SkMsg], "sk_msg"),
    (&[ProgType::FlowDissector], "bpf_flow_dissector"),
    (&[ProgType::Kprobe], "pt_regs"),
    (&[ProgType::PerfEvent], "bpf_perf_event_data_kern"),
    (&[ProgType::CgroupDevice], "bpf_cgroup_dev_ctx"),
    (&[ProgType::CgroupSysctl], "bpf_sysctl_kern"),
    (&[ProgType::CgroupSockopt], "bpf_sockopt_kern"),
    (&[ProgType::SkReuseport], "sk_reuseport_kern"),
    (&[ProgType::SkLookup], "bpf_sk_lookup_kern"),
    (&[ProgType::Netfilter], "bpf_nf_ctx"),
];

impl Verifier<'_> {
    /// Argument `i` must point to the structure `target`.
    pub(crate) fn kfunc_struct_arg(
        &mut self,
        call: &KfuncCall<'_>,
        target: Type<'_>,
        i: usize,
    ) -> Check {
        let reg = *self.reg(i);
        let btf = self.kernel_btf()?;
        let have = match kernel_struct_of(reg.kind) {
            Some(name) => btf.find(name, BtfKind::Struct),
            None => {
                let unsafe_flags = reg.flags.without(crate::btf_access::TRUSTING);
                if unsafe_flags != Flags::NONE && !reg.flags.has(Flags::RCU) {
                    return refused(i, "is no pointer that kernel functions take");
                }
                Some(self.pointee(&reg)?)
            }
        };
        let from = if reg.kind == Kind::Btf {
            reg.aux2
        } else {
            source::KERNEL
        };
        let Some(have) = have else {
            return refused(i, "points to a structure that is not in the kernel's BTF");
        };
        let unfinished = |a: &str, b: &str| a.strip_suffix(UNFINISHED) == Some(b);
        let strict = call.rules.has(flag::ACQUIRE)
            || (call.rules.has(flag::RELEASE) && reg.ref_id != 0)
            || unfinished(have.name(), target.name())
            || unfinished(target.name(), have.name());
        let same = from == source::KERNEL
            && reg.off >= 0
            && holds(have, reg.off.unsigned_abs(), target.id(), strict);
        if same || PROJECTIONS.contains(&(target.name(), have.name())) {
            return Ok(());
        }
        let cause = Cause::Argument {
            reg: register(i),
            function: call.rules.name.into(),
            found: format!("a pointer to struct {}", have.name()).into(),
            wanted: format!("a pointer to struct {}", target.name()).into(),
        };
        fail(code::KFUNC_ARG, errno::EINVAL, cause)
    }

    /// Argument `i` is a map.
    pub(crate) fn kfunc_map(&mut self, call: &mut KfuncCall<'_>, i: usize) -> Check {
        let reg = *self.reg(i);
        if reg.kind != Kind::ConstMap {
            // Other pointers to the structure of a map are good enough for functions that only look at it.
            let btf = self.kernel_btf()?;
            if reg.kind == Kind::Btf
                && let Some(target) = btf.find("bpf_map", BtfKind::Struct)
            {
                return self.kfunc_struct_arg(call, target, i);
            }
            return refused(i, "is no map");
        }
        let map = (reg.aux, reg.aux2);
        if call.map.is_some_and(|old| old != map) {
            let message = Cause::about(
                i,
                format!("r{i} is another map than the one the field lies in"),
            );
            return fail(code::KFUNC_ARG, errno::EINVAL, message);
        }
        call.map = Some(map);
        Ok(())
    }

    /// Argument `i` is a work queue or task work in a map value.
    pub(crate) fn kfunc_field(
        &mut self,
        call: &mut KfuncCall<'_>,
        i: usize,
        wanted: &FieldKind,
    ) -> Check {
        let reg = *self.reg(i);
        let name = field_name(wanted);
        if reg.kind != Kind::MapValue || reg.flags != Flags::NONE {
            return refused(i, &format!("does not point to a {name} in a map value"));
        }
        let Some(at) = reg.fixed_offset() else {
            return refused(i, &format!("points to a {name} at a variable offset"));
        };
        let map = self.map(&reg);
        if !map.has_btf {
            let message = format!("map \"{}\" needs BTF to have a {name}", map.name);
            return fail(code::NO_BTF, errno::EINVAL, message);
        }
        let field = map.record.fields.iter().find(|f| f.kind == *wanted);
        match field {
            Some(f) if i64::from(f.offset) == at => {
                call.map = Some((reg.aux, reg.aux2));
                Ok(())
            }
            Some(f) => refused(
                i,
                &format!(
                    "points to byte {at}, but the {name} is at byte {}",
                    f.offset
                ),
            ),
            None => refused(i, &format!("points to a value that has no {name}")),
        }
    }

    /// A pointer to the structure `target` that a kfunc returns.
    pub(crate) fn kfunc_struct(&mut self, call: &KfuncCall<'_>, target: Type<'_>) -> Check<Reg> {
        let mut flags = Flags::NONE;
        if call.rules.name == "bpf_get_kmem_cache" {
            flags = Flags::UNTRUSTED;
        } else if call.rules.has(flag::RCU_PROTECTED) {
            flags = Flags::RCU;
        }
        if let Some(at) = call.iter.filter(|_| call.rules.has(flag::ITER_NEXT)) {
            let iter = self.cur.frames[at.frame].stack[at.slot].reg;
            flags = if iter.flags.has(Flags::RCU) {
                Flags::RCU
            } else {
                Flags::TRUSTED
            };
        }
        Ok(self.kernel_pointer(target, flags))
    }

    /// What `bpf_cast_to_kern_ctx` returns.
    pub(crate) fn kernel_ctx(&mut self) -> Check<Reg> {
        let prog_type = self.env.prog_type;
        let row = KERNEL_CTX.iter().find(|row| row.0.contains(&prog_type));
        let btf = self.kernel_btf()?;
        match row.and_then(|row| btf.find(row.1, BtfKind::Struct)) {
            Some(t) => Ok(self.kernel_pointer(t, Flags::TRUSTED)),
            None => fail(
                code::KFUNC_ARG,
                errno::EINVAL,
                format!("the context of {prog_type} programs has no structure in the kernel"),
            ),
        }
    }

    /// What `bpf_rdonly_cast` returns.
    pub(crate) fn cast_pointer(&mut self, call: &KfuncCall<'_>) -> Check<Reg> {
        let btf = self.kernel_btf()?;
        let id = call.constant.and_then(|c| u32::try_from(c).ok());
        let Some(t) = id.and_then(|id| btf.get(id)) else {
            return refused(2, "is no BTF id of the kernel");
        };
        if t.kind().is_composite() {
            return Ok(self.kernel_pointer(t, Flags::UNTRUSTED));
        }
        if t.kind() == BtfKind::Void {
            return Ok(Reg {
                flags: Flags::RDONLY.with(Flags::UNTRUSTED),
                ..Reg::pointer(Kind::Mem)
            });
        }
        refused(2, "is neither a structure nor void")
    }
}
