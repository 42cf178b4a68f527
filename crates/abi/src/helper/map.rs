//! Which helpers take which map types. Source: `check_map_func_compatibility` of Linux 6.18, as observed.

use super::id::{
    CGRP_STORAGE_DELETE, CGRP_STORAGE_GET, CURRENT_TASK_UNDER_CGROUP, GET_LOCAL_STORAGE,
    GET_STACKID, INODE_STORAGE_DELETE, INODE_STORAGE_GET, KPTR_XCHG, MAP_DELETE_ELEM,
    MAP_LOOKUP_ELEM, MAP_LOOKUP_PERCPU_ELEM, MAP_PEEK_ELEM, MAP_POP_ELEM, MAP_PUSH_ELEM,
    MAP_UPDATE_ELEM, MSG_REDIRECT_HASH, MSG_REDIRECT_MAP, PERF_EVENT_OUTPUT, PERF_EVENT_READ,
    PERF_EVENT_READ_VALUE, REDIRECT_MAP, RINGBUF_DISCARD_DYNPTR, RINGBUF_OUTPUT, RINGBUF_QUERY,
    RINGBUF_RESERVE, RINGBUF_RESERVE_DYNPTR, RINGBUF_SUBMIT_DYNPTR, SK_REDIRECT_HASH,
    SK_REDIRECT_MAP, SK_SELECT_REUSEPORT, SK_STORAGE_DELETE, SK_STORAGE_GET, SKB_OUTPUT,
    SKB_UNDER_CGROUP, SOCK_HASH_UPDATE, SOCK_MAP_UPDATE, TAIL_CALL, TASK_STORAGE_DELETE,
    TASK_STORAGE_GET, USER_RINGBUF_DRAIN, XDP_OUTPUT,
};
use crate::types::{AttachType, MapType, MapType as M, ProgType};

/// Map types that only these helpers take; other map types take any helper that takes them ([`HELPER_MAPS`]).
#[rustfmt::skip] // one map type per line
const MAP_HELPERS: &[(MapType, &[u32])] = &[
    (M::ProgArray, &[TAIL_CALL]),
    (M::PerfEventArray, &[PERF_EVENT_READ, PERF_EVENT_OUTPUT, SKB_OUTPUT, PERF_EVENT_READ_VALUE, XDP_OUTPUT]),
    (M::StackTrace, &[GET_STACKID]),
    (M::CgroupArray, &[SKB_UNDER_CGROUP, CURRENT_TASK_UNDER_CGROUP]),
    (M::ArrayOfMaps, &[MAP_LOOKUP_ELEM]),
    (M::HashOfMaps, &[MAP_LOOKUP_ELEM]),
    (M::Devmap, &[REDIRECT_MAP, MAP_LOOKUP_ELEM]),
    (M::Sockmap, &[SK_REDIRECT_MAP, SOCK_MAP_UPDATE, MSG_REDIRECT_MAP, SK_SELECT_REUSEPORT, MAP_LOOKUP_ELEM]),
    (M::Cpumap, &[REDIRECT_MAP]),
    (M::Xskmap, &[REDIRECT_MAP, MAP_LOOKUP_ELEM]),
    (M::Sockhash, &[SK_REDIRECT_HASH, SOCK_HASH_UPDATE, MSG_REDIRECT_HASH, SK_SELECT_REUSEPORT, MAP_LOOKUP_ELEM]),
    (M::CgroupStorage, &[GET_LOCAL_STORAGE]),
    (M::ReuseportSockarray, &[SK_SELECT_REUSEPORT]),
    (M::PercpuCgroupStorage, &[GET_LOCAL_STORAGE]),
    (M::Queue, &[MAP_PEEK_ELEM, MAP_POP_ELEM, MAP_PUSH_ELEM]),
    (M::Stack, &[MAP_PEEK_ELEM, MAP_POP_ELEM, MAP_PUSH_ELEM]),
    (M::SkStorage, &[SK_STORAGE_GET, SK_STORAGE_DELETE, KPTR_XCHG]),
    (M::DevmapHash, &[REDIRECT_MAP, MAP_LOOKUP_ELEM]),
    (M::Ringbuf, &[RINGBUF_OUTPUT, RINGBUF_RESERVE, RINGBUF_QUERY, RINGBUF_RESERVE_DYNPTR, RINGBUF_SUBMIT_DYNPTR,
                   RINGBUF_DISCARD_DYNPTR]),
    (M::InodeStorage, &[INODE_STORAGE_GET, INODE_STORAGE_DELETE, KPTR_XCHG]),
    (M::TaskStorage, &[TASK_STORAGE_GET, TASK_STORAGE_DELETE, KPTR_XCHG]),
    (M::BloomFilter, &[MAP_PEEK_ELEM, MAP_PUSH_ELEM]),
    (M::UserRingbuf, &[USER_RINGBUF_DRAIN]),
    (M::CgrpStorage, &[CGRP_STORAGE_GET, CGRP_STORAGE_DELETE, KPTR_XCHG]),
];

/// Helpers that only take these map types.
#[rustfmt::skip] // one group of helpers per line
const HELPER_MAPS: &[(&[u32], &[MapType])] = &[
    (&[TAIL_CALL], &[M::ProgArray]),
    (&[PERF_EVENT_READ, PERF_EVENT_OUTPUT, PERF_EVENT_READ_VALUE, SKB_OUTPUT, XDP_OUTPUT], &[M::PerfEventArray]),
    (&[RINGBUF_OUTPUT, RINGBUF_RESERVE, RINGBUF_QUERY, RINGBUF_RESERVE_DYNPTR, RINGBUF_SUBMIT_DYNPTR, RINGBUF_DISCARD_DYNPTR],
     &[M::Ringbuf]),
    (&[USER_RINGBUF_DRAIN], &[M::UserRingbuf]),
    (&[GET_STACKID], &[M::StackTrace]),
    (&[CURRENT_TASK_UNDER_CGROUP, SKB_UNDER_CGROUP], &[M::CgroupArray]),
    (&[REDIRECT_MAP], &[M::Devmap, M::DevmapHash, M::Cpumap, M::Xskmap]),
    (&[SK_REDIRECT_MAP, MSG_REDIRECT_MAP, SOCK_MAP_UPDATE], &[M::Sockmap]),
    (&[SK_REDIRECT_HASH, MSG_REDIRECT_HASH, SOCK_HASH_UPDATE], &[M::Sockhash]),
    (&[GET_LOCAL_STORAGE], &[M::CgroupStorage, M::PercpuCgroupStorage]),
    (&[SK_SELECT_REUSEPORT], &[M::ReuseportSockarray, M::Sockmap, M::Sockhash]),
    (&[MAP_PEEK_ELEM, MAP_PUSH_ELEM], &[M::Queue, M::Stack, M::BloomFilter]),
    (&[MAP_POP_ELEM], &[M::Queue, M::Stack]),
    (&[MAP_LOOKUP_PERCPU_ELEM], &[M::PercpuArray, M::PercpuHash, M::LruPercpuHash]),
    (&[SK_STORAGE_GET, SK_STORAGE_DELETE], &[M::SkStorage]),
    (&[INODE_STORAGE_GET, INODE_STORAGE_DELETE], &[M::InodeStorage]),
    (&[TASK_STORAGE_GET, TASK_STORAGE_DELETE], &[M::TaskStorage]),
    (&[CGRP_STORAGE_GET, CGRP_STORAGE_DELETE], &[M::CgrpStorage]),
];

/// True if helper `id` may be called with a map of this type; else the kernel says `cannot pass map_type T into func`.
///
/// Updating and deleting elements of socket maps depends on the program as well: [`may_update_sockmap`].
#[must_use]
pub fn helper_map_compat(
    map_type: MapType,
    id: u32,
    prog_type: ProgType,
    attach: Option<AttachType>,
) -> bool {
    let by_map = MAP_HELPERS
        .iter()
        .find(|(row, _)| *row == map_type)
        .is_none_or(|(_, ids)| ids.contains(&id));
    let by_helper = HELPER_MAPS
        .iter()
        .find(|(ids, _)| ids.contains(&id))
        .is_none_or(|(_, maps)| maps.contains(&map_type));
    let sockmap =
        matches!(map_type, M::Sockmap | M::Sockhash) && may_update_sockmap(prog_type, attach, id);
    (by_map || sockmap) && by_helper
}

/// True if the program may update (`id` is [`MAP_UPDATE_ELEM`]) or delete ([`MAP_DELETE_ELEM`]) elements of socket maps.
/// Source: `may_update_sockmap`.
#[must_use]
pub fn may_update_sockmap(prog_type: ProgType, attach: Option<AttachType>, id: u32) -> bool {
    match (id, prog_type) {
        (MAP_DELETE_ELEM, ProgType::SockOps) => true,
        (
            MAP_UPDATE_ELEM | MAP_DELETE_ELEM,
            ProgType::SocketFilter
            | ProgType::SchedCls
            | ProgType::SchedAct
            | ProgType::Xdp
            | ProgType::SkReuseport
            | ProgType::FlowDissector
            | ProgType::SkLookup,
        ) => true,
        (MAP_UPDATE_ELEM | MAP_DELETE_ELEM, ProgType::Tracing) => {
            attach == Some(AttachType::TraceIter)
        }
        _ => false,
    }
}
