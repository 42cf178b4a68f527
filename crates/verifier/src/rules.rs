//! What the tables of `abi` say about this program: its context, packets, maps, return values.

use crate::cause::Cause;
use crate::code;
use crate::exit::RetRange;
use crate::fail::{Check, errno, fail, fail_at};
use crate::jump::INNER_MAP;
use crate::owner::STORAGES;
use crate::request::MapDesc;
use crate::verified::SockKind;
use crate::verifier::Verifier;
use skep_abi::ctx::{self, Access, CtxAccess, SockView};
use skep_abi::helper::{HelperProto, id};
use skep_abi::limits::{BPF_MAX_VAR_OFF, MAX_USED_MAPS};
use skep_abi::map_flags::BPF_F_RDONLY_PROG;
use skep_abi::prog::{self, MapDenied, MapRecord, Packet, TargetReturns};
use skep_abi::{AttachType, MapType, ProgType};
use skep_btf::FieldKind;
use skep_isa::{DecodeError, Imm64, opcode as op};
use std::collections::BTreeSet;

impl Verifier<'_> {
    /// The map with index `map`; for inner maps the template.
    pub(crate) fn map_at(&self, map: u32) -> &MapDesc {
        let outer = &self.req.maps[(map & !INNER_MAP) as usize];
        if map & INNER_MAP == 0 {
            outer
        } else {
            outer.inner.as_deref().unwrap_or(outer)
        }
    }

    /// May packet data be read, or written, directly?
    pub(crate) fn may_access_packet(&self, write: bool) -> bool {
        match prog::facts(self.env.prog_type).packet {
            Packet::None => false,
            Packet::Read => !write,
            Packet::Write => true,
        }
    }

    /// Is the context memory whose layout the kernel does not know?
    pub(crate) fn ctx_is_plain_memory(&self) -> bool {
        self.env.prog_type == ProgType::Syscall
    }

    /// What an access to the context means.
    pub(crate) fn ctx_access(&self, off: i32, size: u32, kind: Access) -> Check<CtxAccess> {
        let denied = match ctx::access(&self.env, off, size, kind) {
            Ok(access) => return Ok(access),
            Err(denied) => denied,
        };
        let cause = Cause::Context {
            denied,
            prog_type: self.env.prog_type,
            offset: off,
            size,
            write: kind == Access::Write,
        };
        fail(code::CTX_ACCESS, errno::EACCES, cause)
    }

    /// May this field of a socket structure be read?
    pub(crate) fn sock_access_ok(&self, kind: SockKind, common: bool, off: i64, size: u32) -> bool {
        let view = match kind {
            SockKind::Sock if common => SockView::Common,
            SockKind::Sock => SockView::Full,
            SockKind::TcpSock => SockView::Tcp,
            SockKind::XdpSock => SockView::Xdp,
        };
        i32::try_from(off).is_ok_and(|off| ctx::sock_access(view, off, size, Access::Read).is_ok())
    }

    /// What the program may return, and whether only the lower half of `r0` counts.
    pub(crate) fn return_range(&self) -> Check<(Option<RetRange>, bool)> {
        let range = prog::ret_range(&self.env, self.target_returns());
        Ok((
            range.map(|r| (r.min, r.max)),
            range.is_some_and(|r| r.lower_half),
        ))
    }

    /// The hook ignores what the program returns, and `r0` need not be set.
    pub(crate) fn returns_nothing(&self) -> bool {
        matches!(self.env.prog_type, ProgType::Lsm | ProgType::StructOps)
            && self.env.attach != Some(AttachType::LsmCgroup)
            && self.target_returns() == TargetReturns::Void
    }

    /// Does the helper work on this type of map, and the map with this helper?
    pub(crate) fn check_map_compatible(&self, proto: &HelperProto, map: u32) -> Check {
        let map = self.map_at(map);
        if !works_on(&self.env, proto.id, map.map_type) {
            let cause = Cause::MapHelper {
                helper: proto.name,
                map: map.name.clone(),
                map_type: map.map_type,
            };
            return fail(code::MAP_HELPER_MISMATCH, errno::EINVAL, cause);
        }
        let changes = matches!(
            proto.id,
            id::MAP_UPDATE_ELEM | id::MAP_DELETE_ELEM | id::MAP_PUSH_ELEM | id::MAP_POP_ELEM
        );
        if changes && map.program_flags() & BPF_F_RDONLY_PROG != 0 {
            let message = format!("map \"{}\" is read-only for programs", map.name);
            return fail(code::READ_ONLY, errno::EACCES, message);
        }
        Ok(())
    }

    /// Before the walk: no unknown opcodes and no indirect calls; wide instructions are whole, and loads have no `imm`. Other
    /// malformed instructions only matter where a path reaches them.
    pub(crate) fn check_opcodes(&self) -> Check {
        let mut at = 0;
        while at < self.p.len() {
            let s = self.p.slots[at];
            let is_load = s.code & op::CLASS_MASK == op::LDX;
            let wide = self.p.wide_operand(at);
            let error = match (&self.p.insns[at], &wide) {
                _ if s.code == op::JMP | op::CALL | op::X => {
                    let message = "indirect calls (callx) are not supported";
                    return fail_at(code::MALFORMED, errno::EINVAL, at, message);
                }
                (_, Some(wide)) => wide.err(),
                (Err(DecodeError::ReservedField { .. }), None) if !is_load => None,
                (Err(DecodeError::InvalidRegister { .. }), None) => None,
                (insn, None) => insn.err(),
            };
            if let Some(e) = error {
                return fail_at(code::MALFORMED, errno::EINVAL, at, e.to_string());
            }
            at += if s.is_wide() { 2 } else { 1 };
        }
        Ok(())
    }

    /// Before the walk: every map operand names a map that this program may use. Notes whether one is an arena.
    pub(crate) fn check_map_operands(&mut self) -> Check {
        let mut used = BTreeSet::new();
        let mut uses_arena = false;
        for at in 0..self.p.len() {
            let Some(Ok(imm)) = self.p.wide_operand(at) else {
                continue;
            };
            let (index, offset) = match imm {
                Imm64::MapFd(map) | Imm64::MapIdx(map) => (map, None),
                Imm64::MapFdValue { fd, offset } => (fd, Some(offset)),
                Imm64::MapIdxValue { index, offset } => (index, Some(offset)),
                _ => continue,
            };
            let Some(map) = usize::try_from(index)
                .ok()
                .and_then(|i| self.req.maps.get(i))
            else {
                return fail_at(
                    code::BAD_MAP_REF,
                    9,
                    at,
                    format!("operand {index} names no map"),
                );
            };
            self.check_map_use(at, map)?;
            uses_arena |= map.map_type == MapType::Arena;
            if let Some(offset) = offset {
                check_direct_value(at, map, offset)?;
            }
            if used.insert(index) {
                self.check_only_storage(at, map, &used)?;
            }
            if used.len() > MAX_USED_MAPS {
                let message = format!("the program uses more than {MAX_USED_MAPS} maps");
                return fail_at(code::TOO_MANY_MAPS, errno::E2BIG, at, message);
            }
        }
        self.uses_arena = uses_arena;
        Ok(())
    }

    /// A program has at most one cgroup storage of each type.
    fn check_only_storage(&self, at: usize, map: &MapDesc, used: &BTreeSet<i32>) -> Check {
        let is_same = |i: &&i32| {
            let other = usize::try_from(**i).ok().and_then(|i| self.req.maps.get(i));
            other.is_some_and(|other| other.map_type == map.map_type)
        };
        if STORAGES.contains(&map.map_type) && used.iter().filter(is_same).count() > 1 {
            let message = format!("the program uses a second map of type {}", map.map_type);
            return fail_at(code::MAP_PROGRAM_MISMATCH, errno::EBUSY, at, message);
        }
        Ok(())
    }

    fn check_map_use(&self, at: usize, map: &MapDesc) -> Check {
        let has = |f: fn(&FieldKind) -> bool| map.record.fields.iter().any(|field| f(&field.kind));
        let record = MapRecord {
            spin_lock: has(|k| matches!(k, FieldKind::SpinLock | FieldKind::ResSpinLock)),
            timer: has(|k| matches!(k, FieldKind::Timer)),
            work_queue: has(|k| matches!(k, FieldKind::Workqueue)),
            graph_root: has(|k| matches!(k, FieldKind::ListHead { .. } | FieldKind::RbRoot { .. })),
        };
        let denied = match prog::map_allowed(&self.env, map.map_type, record) {
            Ok(()) => return Ok(()),
            Err(denied) => denied,
        };
        let errno = if denied == MapDenied::Arena {
            errno::EPERM
        } else {
            errno::EINVAL
        };
        let cause = Cause::MapUse {
            map: map.name.clone(),
            prog_type: self.env.prog_type,
            denied,
        };
        fail_at(code::MAP_NOT_ALLOWED, errno, at, cause)
    }
}

/// The address of a map's value needs a map with one value.
fn check_direct_value(at: usize, map: &MapDesc, offset: u32) -> Check {
    if i64::from(offset) >= BPF_MAX_VAR_OFF {
        let message = format!("offset {offset} into a map value is too large");
        return fail_at(code::BAD_DIRECT_VALUE, errno::EINVAL, at, message);
    }
    let limit = match map.map_type {
        MapType::Array if map.max_entries == 1 => u64::from(map.value_size),
        MapType::Arena => u64::from(map.max_entries) << 12,
        _ => {
            let message = format!(
                "map \"{}\" is no array with one element: its value has no fixed address",
                map.name
            );
            return fail_at(code::BAD_DIRECT_VALUE, errno::EINVAL, at, message);
        }
    };
    if u64::from(offset) >= limit {
        let message = format!(
            "byte {offset} lies outside of the value of map \"{}\" ({limit} bytes)",
            map.name
        );
        return fail_at(code::BAD_DIRECT_VALUE, errno::EINVAL, at, message);
    }
    Ok(())
}

use MapType as M;

/// Helpers that a map type is restricted to; types without a row take the general ones. Source: `check_map_func_compatibility`.
const ONLY_HELPERS: &[(&[MapType], &[u32])] = &[
    (&[M::ProgArray], &[id::TAIL_CALL]),
    (
        &[M::PerfEventArray],
        &[
            id::PERF_EVENT_READ,
            id::PERF_EVENT_OUTPUT,
            id::SKB_OUTPUT,
            id::PERF_EVENT_READ_VALUE,
            id::XDP_OUTPUT,
        ],
    ),
    (
        &[M::Ringbuf],
        &[
            id::RINGBUF_OUTPUT,
            id::RINGBUF_RESERVE,
            id::RINGBUF_QUERY,
            id::RINGBUF_RESERVE_DYNPTR,
            id::RINGBUF_SUBMIT_DYNPTR,
            id::RINGBUF_DISCARD_DYNPTR,
        ],
    ),
    (&[M::UserRingbuf], &[id::USER_RINGBUF_DRAIN]),
    (&[M::StackTrace], &[id::GET_STACKID]),
    (
        &[M::CgroupArray],
        &[id::SKB_UNDER_CGROUP, id::CURRENT_TASK_UNDER_CGROUP],
    ),
    (
        &[M::CgroupStorage, M::PercpuCgroupStorage],
        &[id::GET_LOCAL_STORAGE],
    ),
    (
        &[M::Devmap, M::DevmapHash, M::Xskmap],
        &[id::REDIRECT_MAP, id::MAP_LOOKUP_ELEM],
    ),
    (&[M::Cpumap], &[id::REDIRECT_MAP]),
    (&[M::ArrayOfMaps, M::HashOfMaps], &[id::MAP_LOOKUP_ELEM]),
    (
        &[M::Sockmap],
        &[
            id::SK_REDIRECT_MAP,
            id::SOCK_MAP_UPDATE,
            id::MSG_REDIRECT_MAP,
            id::SK_SELECT_REUSEPORT,
            id::MAP_LOOKUP_ELEM,
        ],
    ),
    (
        &[M::Sockhash],
        &[
            id::SK_REDIRECT_HASH,
            id::SOCK_HASH_UPDATE,
            id::MSG_REDIRECT_HASH,
            id::SK_SELECT_REUSEPORT,
            id::MAP_LOOKUP_ELEM,
        ],
    ),
    (&[M::ReuseportSockarray], &[id::SK_SELECT_REUSEPORT]),
    (
        &[M::Queue, M::Stack],
        &[id::MAP_PEEK_ELEM, id::MAP_POP_ELEM, id::MAP_PUSH_ELEM],
    ),
    (
        &[M::SkStorage],
        &[id::SK_STORAGE_GET, id::SK_STORAGE_DELETE, id::KPTR_XCHG],
    ),
    (
        &[M::InodeStorage],
        &[
            id::INODE_STORAGE_GET,
            id::INODE_STORAGE_DELETE,
            id::KPTR_XCHG,
        ],
    ),
    (
        &[M::TaskStorage],
        &[id::TASK_STORAGE_GET, id::TASK_STORAGE_DELETE, id::KPTR_XCHG],
    ),
    (
        &[M::CgrpStorage],
        &[id::CGRP_STORAGE_GET, id::CGRP_STORAGE_DELETE, id::KPTR_XCHG],
    ),
    (&[M::BloomFilter], &[id::MAP_PEEK_ELEM, id::MAP_PUSH_ELEM]),
];

/// Map types that a helper is restricted to; helpers without a row take any.
const ONLY_MAPS: &[(&[u32], &[MapType])] = &[
    (&[id::TAIL_CALL], &[M::ProgArray]),
    (
        &[
            id::PERF_EVENT_READ,
            id::PERF_EVENT_OUTPUT,
            id::PERF_EVENT_READ_VALUE,
            id::SKB_OUTPUT,
            id::XDP_OUTPUT,
        ],
        &[M::PerfEventArray],
    ),
    (
        &[
            id::RINGBUF_OUTPUT,
            id::RINGBUF_RESERVE,
            id::RINGBUF_QUERY,
            id::RINGBUF_RESERVE_DYNPTR,
            id::RINGBUF_SUBMIT_DYNPTR,
            id::RINGBUF_DISCARD_DYNPTR,
        ],
        &[M::Ringbuf],
    ),
    (&[id::USER_RINGBUF_DRAIN], &[M::UserRingbuf]),
    (&[id::GET_STACKID], &[M::StackTrace]),
    (
        &[id::CURRENT_TASK_UNDER_CGROUP, id::SKB_UNDER_CGROUP],
        &[M::CgroupArray],
    ),
    (
        &[id::REDIRECT_MAP],
        &[M::Devmap, M::DevmapHash, M::Cpumap, M::Xskmap],
    ),
    (
        &[
            id::SK_REDIRECT_MAP,
            id::MSG_REDIRECT_MAP,
            id::SOCK_MAP_UPDATE,
        ],
        &[M::Sockmap],
    ),
    (
        &[
            id::SK_REDIRECT_HASH,
            id::MSG_REDIRECT_HASH,
            id::SOCK_HASH_UPDATE,
        ],
        &[M::Sockhash],
    ),
    (
        &[id::GET_LOCAL_STORAGE],
        &[M::CgroupStorage, M::PercpuCgroupStorage],
    ),
    (
        &[id::SK_SELECT_REUSEPORT],
        &[M::ReuseportSockarray, M::Sockmap, M::Sockhash],
    ),
    (&[id::MAP_POP_ELEM], &[M::Queue, M::Stack]),
    (
        &[id::MAP_PEEK_ELEM, id::MAP_PUSH_ELEM],
        &[M::Queue, M::Stack, M::BloomFilter],
    ),
    (
        &[id::MAP_LOOKUP_PERCPU_ELEM],
        &[M::PercpuArray, M::PercpuHash, M::LruPercpuHash],
    ),
    (
        &[id::SK_STORAGE_GET, id::SK_STORAGE_DELETE],
        &[M::SkStorage],
    ),
    (
        &[id::INODE_STORAGE_GET, id::INODE_STORAGE_DELETE],
        &[M::InodeStorage],
    ),
    (
        &[id::TASK_STORAGE_GET, id::TASK_STORAGE_DELETE],
        &[M::TaskStorage],
    ),
    (
        &[id::CGRP_STORAGE_GET, id::CGRP_STORAGE_DELETE],
        &[M::CgrpStorage],
    ),
    (
        &[id::FOR_EACH_MAP_ELEM],
        &[
            M::Hash,
            M::Array,
            M::PercpuHash,
            M::PercpuArray,
            M::LruHash,
            M::LruPercpuHash,
        ],
    ),
];

fn works_on(env: &skep_abi::helper::ProgEnv<'_>, helper: u32, map: MapType) -> bool {
    if matches!(map, M::Sockmap | M::Sockhash) && may_change_sockmap(env, helper) {
        return true;
    }
    let map_ok = ONLY_HELPERS
        .iter()
        .find(|r| r.0.contains(&map))
        .is_none_or(|r| r.1.contains(&helper));
    let helper_ok = ONLY_MAPS
        .iter()
        .find(|r| r.0.contains(&helper))
        .is_none_or(|r| r.1.contains(&map));
    map_ok && helper_ok
}

/// Programs that can never hold a locked socket may change socket maps (`may_update_sockmap`).
fn may_change_sockmap(env: &skep_abi::helper::ProgEnv<'_>, helper: u32) -> bool {
    if !matches!(helper, id::MAP_UPDATE_ELEM | id::MAP_DELETE_ELEM) {
        return false;
    }
    match env.prog_type {
        ProgType::Tracing => env.attach == Some(AttachType::TraceIter),
        ProgType::SockOps => helper == id::MAP_DELETE_ELEM,
        ProgType::SocketFilter
        | ProgType::SchedCls
        | ProgType::SchedAct
        | ProgType::Xdp
        | ProgType::SkReuseport
        | ProgType::FlowDissector
        | ProgType::SkLookup => true,
        _ => false,
    }
}
