//! Maps: elements, queues, redirection through maps, iteration.

use super::{Args, HelperFn, Row, helpers};
use crate::env::RunEnv;
use crate::world::Redirect;
use skep_abi::MapType;
use skep_maps::{MapHeader, confine};
use std::ops::ControlFlow;

pub(super) const HELPERS: &[Row] = helpers! {
    1 "bpf_map_lookup_elem" lookup;
    2 "bpf_map_update_elem" update;
    3 "bpf_map_delete_elem" delete;
    51 "bpf_redirect_map" redirect_map;
    87 "bpf_map_push_elem" push;
    88 "bpf_map_pop_elem" pop;
    89 "bpf_map_peek_elem" peek;
    164 "bpf_for_each_map_elem" for_each [calls_back];
    195 "bpf_map_lookup_percpu_elem" lookup_percpu;
};

/// The entry that skips the dispatch on the map type, where there is one.
pub(super) fn specialised(id: u32, map_type: Option<MapType>) -> Option<HelperFn> {
    match (id, map_type?) {
        (1, MapType::Array) => Some(lookup_array),
        _ => None,
    }
}

/// `bpf_map_lookup_elem` of an array: what the kernel inlines.
unsafe extern "C" fn lookup_array(
    _env: *mut RunEnv,
    map: u64,
    key: u64,
    _r3: u64,
    _r4: u64,
    _r5: u64,
) -> u64 {
    // SAFETY: the verifier proved a map and a key of its size, 4 bytes.
    let (map, index) = unsafe {
        (
            &*(map as *const MapHeader),
            (key as *const u32).read_unaligned(),
        )
    };
    if index >= map.max_entries {
        return 0;
    }
    let index = u64::from(confine(index, map.max_entries));
    map.data as u64 + index * u64::from(map.elem_size)
}

fn lookup(a: &Args) -> *mut u8 {
    // SAFETY: the verifier proved a key of the map's size.
    unsafe { a.map(1).lookup(a.ptr(2), a.runner()) }
}

fn lookup_percpu(a: &Args) -> *mut u8 {
    // SAFETY: as in `lookup`.
    unsafe { a.map(1).lookup_percpu(a.ptr(2), a.get32(3), a.runner()) }
}

fn update(a: &Args) -> i64 {
    // SAFETY: the verifier proved key and value of the map's sizes.
    unsafe { a.map(1).update(a.ptr(2), a.ptr(3), a.get(4), a.runner()) }
}

fn delete(a: &Args) -> i64 {
    // SAFETY: as in `lookup`.
    unsafe { a.map(1).delete(a.ptr(2), a.runner()) }
}

fn push(a: &Args) -> i64 {
    // SAFETY: the verifier proved a value of the map's size.
    unsafe { a.map(1).push(a.ptr(2), a.get(3), a.runner()) }
}

fn pop(a: &Args) -> i64 {
    // SAFETY: as in `push`.
    unsafe { a.map(1).pop(a.ptr(2), a.runner()) }
}

fn peek(a: &Args) -> i64 {
    // SAFETY: as in `push`.
    unsafe { a.map(1).peek(a.ptr(2), a.runner()) }
}

fn for_each(a: &Args) -> i64 {
    let map = a.map(1);
    map.for_each(a.get(4), a.runner(), &mut |key, value| {
        let stop = a.call(2, [a.get(1), key as u64, value as u64, a.get(3), 0]);
        if stop != 0 || a.interrupted() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
}

/// Bits of the flags that are the action when there is no such element.
const ACTION_MASK: u64 = 3;
/// `BPF_F_BROADCAST`
const BROADCAST: u64 = 8;
/// `BPF_F_EXCLUDE_INGRESS`
const EXCLUDE_INGRESS: u64 = 16;
const XDP_ABORTED: u64 = 0;
const XDP_REDIRECT: u64 = 4;

/// Of `XDP` programs only; those on socket maps exist in a kernel alone.
fn redirect_map(a: &Args) -> u64 {
    let (map, key, flags) = (a.map(1), a.get32(2), a.get(3));
    let allowed = match map.map_type {
        MapType::Devmap | MapType::DevmapHash => ACTION_MASK | BROADCAST | EXCLUDE_INGRESS,
        _ => ACTION_MASK,
    };
    if flags & !allowed != 0 {
        return XDP_ABORTED;
    }
    // SAFETY: keys of redirect maps have 4 bytes.
    let target = unsafe { map.lookup((&raw const key).cast(), a.runner()) };
    if target.is_null() && flags & BROADCAST == 0 {
        return flags & ACTION_MASK;
    }
    a.world().redirect = Some(Redirect::Map {
        map: a.get(1) as usize,
        key,
        flags,
    });
    XDP_REDIRECT
}
