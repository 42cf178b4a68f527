//! Calls of helpers.

use crate::args::CallArgs;
use crate::cause::{Cause, Section};
use crate::code;
use crate::domain::Scalar;
use crate::fail::{Check, errno, fail};
use crate::reg::{Flags, Kind, Reg, source};
use crate::verified::CallFact;
use crate::verifier::{Flow, Verifier};
use skep_abi::helper::{self, HelperFlags, HelperProto, Ret, Unavailable, id};
use skep_abi::kernel::{Rule, has_rule};
use skep_abi::prog::MAX_ERRNO;
use skep_abi::{AttachType, MapType, ProgType};

/// What failed CO-RE relocations leave as helper number (libbpf's poison, 0xbad2310).
const POISONED_RELOCATION: i32 = 0x0bad_2310;
/// libbpf's poison for kfuncs and variables that do not exist.
const POISONED_KSYM: i32 = 2_002_000_000;

impl Verifier<'_> {
    /// `call helper`
    pub(crate) fn check_helper_call(&mut self, number: i32) -> Check<Flow> {
        let proto = self.find_helper(number)?;
        self.check_call_context(proto)?;
        let mut args = CallArgs::default();
        for n in 0..proto.args.len() {
            self.check_arg(proto, n, &mut args)?;
        }
        if let Some((map, _)) = args.map {
            self.check_map_compatible(proto, map)?;
        }
        self.note_call(proto, &args)?;
        if let Some((frame, at, size)) = args.filled {
            self.fill_stack_by_helper(frame, at, size)?;
        }
        self.release_args(proto, &args)?;
        self.check_helper_rules(proto, &args)?;
        let result = self.helper_result(proto, &args)?;
        let regs = &mut self.cur.frame_mut().regs;
        regs[1..=5].fill(Reg::NOT_INIT);
        regs[0] = result;
        if proto.id == id::TAIL_CALL {
            return self.leave_early(Reg::UNKNOWN);
        }
        if proto.flags.has(HelperFlags::CHANGES_PKT) {
            self.forget_packet_pointers();
        }
        Ok(Flow::Next(self.insn + 1))
    }

    fn find_helper(&self, number: i32) -> Check<&'static HelperProto> {
        if number == POISONED_RELOCATION {
            let message = "this instruction depends on a CO-RE relocation that failed: the type, field or enumerator does not exist in this kernel";
            return fail(code::FAILED_RELOCATION, errno::EINVAL, message);
        }
        if number >= POISONED_KSYM {
            let message =
                "this call names a kernel function or variable that does not exist in this kernel";
            return fail(code::UNKNOWN_KFUNC, errno::EINVAL, message);
        }
        let id = u32::try_from(number).unwrap_or(0);
        let name = helper::by_id(id).map_or("", |h| h.name);
        let prog_type = self.env.prog_type;
        let proto = match helper::lookup(&self.env, id) {
            Ok(proto) => proto,
            Err(Unavailable::Unknown) => {
                return fail(
                    code::UNKNOWN_HELPER,
                    errno::EINVAL,
                    format!("there is no helper number {number}"),
                );
            }
            Err(Unavailable::ProgType) => {
                let message = format!("{prog_type} programs cannot use helper {name}");
                return fail(code::HELPER_NOT_ALLOWED, errno::EINVAL, message);
            }
            Err(Unavailable::Perfmon) => {
                return fail(
                    code::NEEDS_CAPABILITY,
                    errno::EINVAL,
                    format!("helper {name} needs CAP_PERFMON"),
                );
            }
            Err(Unavailable::Configuration) => {
                let message = format!("this kernel's configuration does not offer helper {name}");
                return fail(code::HELPER_NOT_ALLOWED, errno::EINVAL, message);
            }
            Err(Unavailable::Kernel) => {
                let message = format!("this kernel has no helper {name} for {prog_type} programs");
                return fail(code::KERNEL_LACKS, errno::EINVAL, message);
            }
            Err(Unavailable::NotKnown) => {
                let message = format!(
                    "the kernel's profile does not say whether such {prog_type} programs may call helper {name}"
                );
                return fail(code::NOT_KNOWN, errno::EOPNOTSUPP, message);
            }
            Err(Unavailable::Target) => {
                let message = format!("helper {name} is not allowed at this attach target");
                return fail(code::HELPER_NOT_ALLOWED, errno::EINVAL, message);
            }
        };
        if proto.flags.has(HelperFlags::GPL_ONLY) && !self.req.gpl_compatible {
            let message =
                format!("helper {name} is only for programs with a GPL-compatible license");
            return fail(code::GPL_ONLY, errno::EINVAL, message);
        }
        Ok(proto)
    }

    /// Locks, sections and sleeping.
    fn check_call_context(&self, proto: &HelperProto) -> Check {
        if self.cur.locks > 0 && !matches!(proto.id, id::SPIN_UNLOCK | id::KPTR_XCHG) {
            let function = proto.name.into();
            return fail(
                code::LOCK_CALL,
                errno::EINVAL,
                Cause::UnderLock { function },
            );
        }
        if !proto.flags.has(HelperFlags::MIGHT_SLEEP) {
            return Ok(());
        }
        let sections = [
            (!self.in_sleepable(), None),
            (self.cur.rcu_locks > 0, Some(Section::Rcu)),
            (self.cur.preempt_off > 0, Some(Section::Preempt)),
            (self.cur.irq_id != 0, Some(Section::Irq)),
        ];
        match sections.iter().find(|s| s.0) {
            Some(&(_, section)) => {
                let function = proto.name.into();
                let cause = Cause::Sleeps { function, section };
                fail(code::SLEEP, errno::EINVAL, cause)
            }
            None => Ok(()),
        }
    }

    fn note_call(&mut self, proto: &HelperProto, args: &CallArgs) -> Check {
        // Inner maps are known only at run time.
        let map = args
            .map
            .map(|m| m.0)
            .filter(|m| m & crate::jump::INNER_MAP == 0);
        let kernel_kptrs = args.kptr.filter(|slot| slot.from == source::KERNEL);
        let same = self.rec.call(
            self.insn,
            CallFact {
                map,
                callback: args.callback,
                kernel_kptrs: kernel_kptrs.map(|slot| slot.id).into_iter().collect(),
                ..CallFact::default()
            },
        );
        if !same && proto.id == id::TAIL_CALL && !self.privileges.speculation {
            let message = "a tail call through different maps on different paths needs CAP_PERFMON";
            return fail(code::TAIL_CALL, errno::EINVAL, message);
        }
        Ok(())
    }

    /// The program may end here, or only the current function with `r0`; it may also go on.
    pub(crate) fn leave_early(&mut self, r0: Reg) -> Check<Flow> {
        let next = self.insn + 1;
        if self.cur.frames.len() == 1 {
            return Ok(Flow::Next(next));
        }
        self.push_path(next, |_| {})?;
        self.forget_packet_pointers();
        *self.reg_mut(0) = r0;
        self.return_to_caller()
    }

    fn release_args(&mut self, proto: &HelperProto, args: &CallArgs) -> Check {
        let Some(i) = args.release else { return Ok(()) };
        if self.release_dynptr_arg(proto, i)? {
            return Ok(());
        }
        if proto.id == id::KPTR_XCHG && args.ref_id != 0 {
            return self.release_into_kptr(args);
        }
        if args.ref_id != 0 {
            return self.release(args.ref_id);
        }
        if self.reg(i).is_zero() {
            return Ok(());
        }
        let message = Cause::about(
            i,
            format!("{} releases r{i}, which was not acquired", proto.name),
        );
        fail(code::NOT_ACQUIRED, errno::EINVAL, message)
    }

    /// Rules of single helpers.
    fn check_helper_rules(&mut self, proto: &HelperProto, args: &CallArgs) -> Check {
        match proto.id {
            id::TAIL_CALL => {
                self.check_nothing_held("a tail call")?;
                self.note_tail_call_index(args)
            }
            id::GET_LOCAL_STORAGE if !self.reg(2).is_zero() => fail(
                code::ARG_FLAGS,
                errno::EINVAL,
                "the flags of bpf_get_local_storage must be 0",
            ),
            id::SNPRINTF => self.check_format(args),
            id::GET_FUNC_IP => self.check_function_is_probed(),
            id::DYNPTR_FROM_MEM => self.check_dynptr_from_mem(),
            id::DYNPTR_WRITE => {
                self.note_dynptr_write(args);
                Ok(())
            }
            _ if args.callback.is_some() => self.check_callback(proto, args),
            _ => Ok(()),
        }
    }

    /// Only a program that stands in for the code of a function knows where that function is. All tracing programs are given
    /// the helper; this is asked when it is called.
    fn check_function_is_probed(&self) -> Check {
        use AttachType as A;
        let probes = match self.env.prog_type {
            ProgType::Kprobe => true,
            ProgType::Tracing => matches!(
                self.env.attach,
                Some(A::TraceFentry | A::TraceFexit | A::ModifyReturn)
            ),
            _ => false,
        };
        if probes {
            return Ok(());
        }
        let message =
            "bpf_get_func_ip is only for programs on functions: kprobe, fentry, fexit and fmod_ret";
        fail(code::HELPER_NOT_ALLOWED, errno::ENOTSUPP, message)
    }

    /// A known index makes the call direct: so it matters on every path.
    fn note_tail_call_index(&mut self, args: &CallArgs) -> Check {
        let entries = args.map.map_or(0, |m| self.map_at(m.0).max_entries);
        let index = self.reg(3).var.as_const();
        if index.is_some_and(|i| i < entries.into()) {
            self.mark_precise(3)?;
        }
        Ok(())
    }

    /// What `r0` holds afterwards.
    fn helper_result(&mut self, proto: &HelperProto, args: &CallArgs) -> Check<Reg> {
        let pointer = |kind: Kind, flags: Flags| Reg {
            flags,
            ..Reg::pointer(kind)
        };
        let mut r = match proto.ret {
            Ret::Integer => Reg::scalar(self.helper_number(proto, args)),
            Ret::Void => Reg::NOT_INIT,
            Ret::MapValue => self.map_value_result(proto, args, Flags::NONE)?,
            Ret::MapValueOrNull => self.map_value_result(proto, args, Flags::NULLABLE)?,
            Ret::SocketOrNull => pointer(Kind::Socket, Flags::NULLABLE),
            Ret::TcpSockOrNull => pointer(Kind::TcpSock, Flags::NULLABLE),
            Ret::SockCommonOrNull => pointer(Kind::SockCommon, Flags::NULLABLE),
            Ret::RingbufMemOrNull => Reg {
                aux: args.alloc_size,
                ..pointer(Kind::Mem, Flags::NULLABLE.with(Flags::RINGBUF))
            },
            Ret::DynptrMemOrNull => self.dynptr_data_result(args)?,
            Ret::MemOrBtfPtrOrNull => self.percpu_result(args, Flags::NULLABLE)?,
            Ret::MemOrBtfPtr => self.percpu_result(args, Flags::NONE)?,
            Ret::BtfPtrOrNull("") => self.exchanged_result(args)?,
            Ret::BtfPtrOrNull(name) => self.kernel_struct(name, Flags::NULLABLE)?,
            Ret::BtfPtr(name) => self.kernel_struct(name, Flags::NONE)?,
            Ret::BtfPtrTrusted(name) => self.kernel_struct(name, Flags::TRUSTED)?,
        };
        if r.is_nullable() && r.id == 0 {
            r.id = self.new_id();
        }
        let is_sock_lookup = proto.id == id::MAP_LOOKUP_ELEM
            && args.map.is_some_and(|m| {
                matches!(
                    self.map_at(m.0).map_type,
                    MapType::Sockmap | MapType::Sockhash
                )
            });
        if proto.flags.has(HelperFlags::CASTS) {
            r.ref_id = args.ref_id;
        } else if proto.flags.has(HelperFlags::ACQUIRES) || is_sock_lookup {
            let id = self.acquire();
            (r.id, r.ref_id) = (id, id);
        }
        Ok(r)
    }

    /// What is known of a number that a helper returns.
    fn helper_number(&self, proto: &HelperProto, args: &CallArgs) -> Scalar {
        let mut s = Scalar::UNKNOWN;
        if proto.flags.has(HelperFlags::RET_SIZE) {
            let max = args
                .max_size
                .unwrap_or(u64::MAX)
                .min(i64::MAX.cast_unsigned())
                .cast_signed();
            s.smax = max;
            s.s32_max = i32::try_from(max).unwrap_or(i32::MAX);
            (s.smin, s.s32_min) = (i64::from(-MAX_ERRNO), -MAX_ERRNO);
            s.sync();
        } else if proto.flags.has(HelperFlags::RET_CPU) {
            let last = MAX_CPUS - 1;
            (s.umax, s.smax, s.u32_max, s.s32_max) =
                (last.into(), last.into(), last, last.cast_signed());
            (s.smin, s.s32_min) = (0, 0);
            s.sync();
        }
        s
    }

    fn map_value_result(
        &mut self,
        proto: &HelperProto,
        args: &CallArgs,
        flags: Flags,
    ) -> Check<Reg> {
        let Some((map, uid)) = args.map else {
            return fail(
                code::ARG_TYPE,
                errno::EINVAL,
                format!("{} is called without a map", proto.name),
            );
        };
        let desc = self.map_at(map);
        let in_range = proto.id == id::MAP_LOOKUP_ELEM
            && has_rule(self.req.kernel, Rule::KnownKeys)
            && args
                .const_key
                .is_some_and(|key| key < u64::from(desc.max_entries));
        let flags = if in_range { Flags::NONE } else { flags };
        let locks = desc.record.fields.iter().any(|f| {
            matches!(
                f.kind,
                skep_btf::FieldKind::SpinLock | skep_btf::FieldKind::ResSpinLock
            )
        });
        let mut r = Reg {
            flags,
            aux: map,
            aux2: uid,
            ..Reg::pointer(Kind::MapValue)
        };
        if flags == Flags::NONE {
            if locks {
                r.id = self.new_id();
            }
            crate::jump::make_not_null(&mut r, self.req.maps);
        }
        Ok(r)
    }

    /// The callback of a helper is entered, and the call goes on without it too.
    fn check_callback(&mut self, proto: &HelperProto, args: &CallArgs) -> Check {
        if proto.id == id::LOOP {
            // How often it runs decides when the exploration of the callback ends.
            if !self.reg(1).is_scalar() {
                let message = "r1 says how often the callback runs: it must be a number";
                return fail(code::ARG_TYPE, errno::EFAULT, message);
            }
            self.mark_precise(1)?;
            let rounds = self.reg(1).var.umax;
            if u64::from(self.cur.frame().callback_depth) >= rounds {
                self.cur.frame_mut().callback_depth = 0;
                return Ok(());
            }
        }
        self.enter_callback(proto.id, args)
    }
}

/// CPUs that a kernel of the profile may have (`nr_cpu_ids` bounds `bpf_get_smp_processor_id`).
const MAX_CPUS: u32 = 2;
