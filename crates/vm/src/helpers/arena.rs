//! Pages of arenas.

use super::{Args, Row, helpers};
use skep_abi::{Errno, MapType};
use skep_sys::mem::PAGE;

pub(super) const KFUNCS: &[Row] = helpers! {
    0 "bpf_arena_alloc_pages" alloc_pages;
    0 "bpf_arena_free_pages" free_pages;
    0 "bpf_arena_reserve_pages" reserve_pages;
};

/// The number of the page at `address` (its lower half counts) in the arena whose data begin at `data`.
fn page_at(address: u64, data: u64) -> u32 {
    (address as u32).wrapping_sub(data as u32) / PAGE as u32
}

/// map, wanted address or NULL, pages, node, flags: address of the first page, or NULL
fn alloc_pages(a: &Args) -> u64 {
    let map = a.map(1);
    let (wanted, count) = (a.get(2), a.get32(3));
    if map.map_type != MapType::Arena || a.get(5) != 0 || count == 0 {
        return 0;
    }
    let data = map.data as u64;
    if !wanted.is_multiple_of(PAGE as u64) {
        return 0;
    }
    let first = (wanted != 0).then(|| page_at(wanted, data));
    let page = map.arena_allocate(first, count, a.runner());
    page.map_or(0, |page| data + u64::from(page) * PAGE as u64)
}

/// map, address, pages
fn free_pages(a: &Args) {
    let (map, address, count) = (a.map(1), a.get(2), a.get32(3));
    if map.map_type == MapType::Arena && address.is_multiple_of(PAGE as u64) && count != 0 {
        map.arena_free(page_at(address, map.data as u64), count, a.runner());
    }
}

/// map, address, pages: no allocation gets them until they are freed
fn reserve_pages(a: &Args) -> Result<i64, Errno> {
    let (map, address, count) = (a.map(1), a.get(2), a.get32(3));
    if map.map_type != MapType::Arena || !address.is_multiple_of(PAGE as u64) {
        return Err(Errno::EINVAL);
    }
    if count == 0 {
        return Ok(0);
    }
    let first = page_at(address, map.data as u64);
    let end = first.checked_add(count).ok_or(Errno::EINVAL)?;
    if end > map.max_entries {
        return Err(Errno::EINVAL);
    }
    match map.arena_reserve(first, count, a.runner()) {
        true => Ok(0),
        false => Err(Errno::EBUSY),
    }
}
