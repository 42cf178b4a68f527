//! Facts of each map type: which sizes and flags a creation may name, what the system call can do with a map, where programs
//! may use it.
//!
//! As observed on Linux 6.18 by creating maps of every type with every key size, value size, number of entries and flag around
//! the borders (`map_alloc_check` and `map_alloc` of each type), and by calling each command on them.

use crate::Errno;
use crate::map_flags::{
    BPF_F_CLONE, BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_COMMON_LRU, BPF_F_NO_PREALLOC,
    BPF_F_NO_USER_CONV, BPF_F_NUMA_NODE, BPF_F_PRESERVE_ELEMS, BPF_F_RDONLY, BPF_F_RDONLY_PROG,
    BPF_F_SEGV_ON_FAULT, BPF_F_STACK_BUILD_ID, BPF_F_WRONLY, BPF_F_WRONLY_PROG, BPF_F_ZERO_SEED,
};
use crate::types::{MapType, MapType as M};

/// A rule for a size in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// Exactly this.
    Is(u32),
    /// One of two.
    Either(u32, u32),
    /// Between these.
    Within(u32, u32),
    /// At least 1; more than this is `E2BIG`.
    UpTo(u32),
    /// Frames of a stack: a multiple of 8 (of 32 with `BPF_F_STACK_BUILD_ID`), at most 127 of them.
    Frames,
}

/// A rule for `max_entries`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entries {
    /// At least 1.
    Some,
    /// Must be 0.
    Zero,
    /// Bytes: a power of two and whole pages.
    Ring,
    /// At least 1; more than this is `E2BIG`.
    UpTo(u32),
}

/// How a map type stands to BTF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeedsBtf {
    /// Value types are refused with `ENOTSUPP`.
    Refused,
    /// A value type never fits, there being no key or no value: `EINVAL`.
    Impossible,
    /// Key and value types are allowed.
    Allowed,
    /// Key and value types are required.
    Required,
}

/// Commands of the system call on elements, besides lookup, update, delete and next key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commands(pub u8);

impl Commands {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// `BPF_MAP_LOOKUP_AND_DELETE_ELEM`
    pub const LOOKUP_AND_DELETE: Self = Self(1);
    /// `BPF_MAP_LOOKUP_BATCH`
    pub const LOOKUP_BATCH: Self = Self(2);
    /// `BPF_MAP_LOOKUP_AND_DELETE_BATCH`
    pub const LOOKUP_AND_DELETE_BATCH: Self = Self(4);
    /// `BPF_MAP_UPDATE_BATCH`
    pub const UPDATE_BATCH: Self = Self(8);
    /// `BPF_MAP_DELETE_BATCH`
    pub const DELETE_BATCH: Self = Self(16);

    /// Commands of an array.
    const ARRAY: Self = Self(2 | 8);
    /// Commands of a prefix tree.
    const TRIE: Self = Self(2 | 8 | 16);
    /// Commands of a hash of maps.
    const MAPS: Self = Self(2 | 4 | 8 | 16);
    /// Commands of a hash.
    const HASH: Self = Self(1 | 2 | 4 | 8 | 16);

    /// True if every command of `other` is there; otherwise the kernel answers `ENOTSUPP`.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Facts of a map type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapFacts {
    /// The map type.
    pub map_type: MapType,
    /// Rule for `key_size`.
    pub key: Size,
    /// Rule for `value_size`.
    pub value: Size,
    /// Rule for `max_entries`.
    pub entries: Entries,
    /// Flags a creation may name.
    pub flags: u32,
    /// Flags it must name.
    pub required: u32,
    /// Key and value types.
    pub btf: NeedsBtf,
    /// Commands on elements.
    pub commands: Commands,
    /// May be the template of a map of maps.
    pub inner: bool,
}

/// Builds one line of [`MAP_FACTS`].
#[expect(clippy::too_many_arguments, reason = "the columns of a table")]
const fn row(
    map_type: MapType,
    key: Size,
    value: Size,
    entries: Entries,
    flags: u32,
    required: u32,
    btf: NeedsBtf,
    commands: Commands,
    inner: bool,
) -> MapFacts {
    MapFacts {
        map_type,
        key,
        value,
        entries,
        flags: flags | required,
        required,
        btf,
        commands,
        inner,
    }
}

/// Flags that a map of this type has for programs whatever its creation said: what a lookup in a device map returns must not be
/// written. Source: the kernel's `map_info`.
#[must_use]
pub const fn implied_flags(map_type: MapType) -> u32 {
    match map_type {
        MapType::Devmap | MapType::DevmapHash => BPF_F_RDONLY_PROG,
        _ => 0,
    }
}

/// `BPF_F_RDONLY`, `BPF_F_WRONLY`
const USER: u32 = BPF_F_RDONLY | BPF_F_WRONLY;
/// Access of both user space and programs.
const ACCESS: u32 = USER | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
/// `BPF_F_NUMA_NODE`
const NUMA: u32 = BPF_F_NUMA_NODE;
/// Flags of hashes.
const HASH: u32 = BPF_F_NO_PREALLOC | BPF_F_ZERO_SEED | ACCESS;
/// Flags of LRU hashes; `BPF_F_NO_PREALLOC` has an answer of its own ([`check_create`]).
const LRU: u32 = BPF_F_NO_COMMON_LRU | BPF_F_NO_PREALLOC | BPF_F_ZERO_SEED | ACCESS;
/// A map index or a hook's key.
const FOUR: Size = Size::Is(4);
/// A descriptor, or a descriptor and more.
const FD: Size = Size::Either(4, 8);
/// Keys of hashes: the limit is that of key and value together ([`HASH_ELEM_MAX`]).
const ANY_KEY: Size = Size::UpTo(HASH_ELEM_MAX);
/// Values without a limit of their own: memory decides.
const ANY_VALUE: Size = Size::UpTo(i32::MAX.unsigned_abs());
/// Largest value of a per-CPU map (`PCPU_MIN_UNIT_SIZE`).
const PERCPU: Size = Size::UpTo(32768);
/// Largest sum of key and value size of a hash.
pub const HASH_ELEM_MAX: u32 = 4_194_255;
/// Largest number of elements of a hash: beyond it the buckets overflow.
pub const HASH_ENTRIES_MAX: u32 = 1 << 28;

/// Facts of all map types that the system call creates, ordered by number.
#[rustfmt::skip] // one map type per line
pub const MAP_FACTS: &[MapFacts] = &[
    row(M::Hash, ANY_KEY, ANY_VALUE, Entries::UpTo(HASH_ENTRIES_MAX), HASH | NUMA, 0, NeedsBtf::Allowed, Commands::HASH, true),
    row(M::Array, FOUR, ANY_VALUE, Entries::Some, NUMA | ACCESS | BPF_F_MMAPABLE | BPF_F_INNER_MAP, 0, NeedsBtf::Allowed, Commands::ARRAY, true),
    row(M::ProgArray, FOUR, FOUR, Entries::Some, NUMA | USER, 0, NeedsBtf::Allowed, Commands::NONE, false),
    row(M::PerfEventArray, FOUR, FOUR, Entries::Some, NUMA | USER | BPF_F_PRESERVE_ELEMS, 0, NeedsBtf::Refused, Commands::NONE, true),
    row(M::PercpuHash, ANY_KEY, PERCPU, Entries::UpTo(HASH_ENTRIES_MAX), HASH, 0, NeedsBtf::Allowed, Commands::HASH, true),
    row(M::PercpuArray, FOUR, PERCPU, Entries::Some, ACCESS, 0, NeedsBtf::Allowed, Commands::ARRAY, true),
    row(M::StackTrace, FOUR, Size::Frames, Entries::Some, NUMA | USER | BPF_F_STACK_BUILD_ID, 0, NeedsBtf::Refused, Commands::LOOKUP_AND_DELETE, true),
    row(M::CgroupArray, FOUR, FOUR, Entries::Some, NUMA | USER, 0, NeedsBtf::Refused, Commands::NONE, true),
    row(M::LruHash, ANY_KEY, ANY_VALUE, Entries::UpTo(HASH_ENTRIES_MAX), LRU | NUMA, 0, NeedsBtf::Allowed, Commands::HASH, true),
    row(M::LruPercpuHash, ANY_KEY, PERCPU, Entries::UpTo(HASH_ENTRIES_MAX), LRU, 0, NeedsBtf::Allowed, Commands::HASH, true),
    row(M::LpmTrie, Size::Within(5, 260), Size::Within(1, 4_194_024), Entries::Some, NUMA | ACCESS, BPF_F_NO_PREALLOC, NeedsBtf::Allowed, Commands::TRIE, true),
    row(M::ArrayOfMaps, FOUR, FOUR, Entries::Some, NUMA | USER, 0, NeedsBtf::Refused, Commands::ARRAY, false),
    row(M::HashOfMaps, ANY_KEY, FOUR, Entries::UpTo(HASH_ENTRIES_MAX), HASH | NUMA, 0, NeedsBtf::Refused, Commands::MAPS, false),
    row(M::Devmap, FOUR, FD, Entries::Some, NUMA | USER, 0, NeedsBtf::Refused, Commands::NONE, true),
    row(M::Sockmap, FOUR, FD, Entries::Some, NUMA | USER, 0, NeedsBtf::Refused, Commands::NONE, true),
    row(M::Cpumap, FOUR, FD, Entries::UpTo(256), NUMA, 0, NeedsBtf::Refused, Commands::NONE, true),
    row(M::Xskmap, FOUR, FOUR, Entries::Some, NUMA | USER, 0, NeedsBtf::Refused, Commands::NONE, true),
    row(M::Sockhash, Size::UpTo(512), FD, Entries::Some, NUMA | USER, 0, NeedsBtf::Refused, Commands::NONE, true),
    row(M::CgroupStorage, Size::Either(8, 16), Size::UpTo(65407), Entries::Zero, NUMA | ACCESS, 0, NeedsBtf::Allowed, Commands::NONE, false),
    row(M::ReuseportSockarray, FOUR, FD, Entries::Some, NUMA | ACCESS, 0, NeedsBtf::Allowed, Commands::NONE, true),
    row(M::PercpuCgroupStorage, Size::Either(8, 16), PERCPU, Entries::Zero, NUMA | ACCESS, 0, NeedsBtf::Allowed, Commands::NONE, false),
    row(M::Queue, Size::Is(0), ANY_VALUE, Entries::Some, NUMA | ACCESS, 0, NeedsBtf::Impossible, Commands::LOOKUP_AND_DELETE, true),
    row(M::Stack, Size::Is(0), ANY_VALUE, Entries::Some, NUMA | ACCESS, 0, NeedsBtf::Impossible, Commands::LOOKUP_AND_DELETE, true),
    row(M::SkStorage, FOUR, Size::UpTo(65407), Entries::Zero, BPF_F_CLONE, BPF_F_NO_PREALLOC, NeedsBtf::Required, Commands::NONE, true),
    row(M::DevmapHash, FOUR, FD, Entries::Some, NUMA | USER, 0, NeedsBtf::Refused, Commands::NONE, true),
    row(M::Ringbuf, Size::Is(0), Size::Is(0), Entries::Ring, NUMA, 0, NeedsBtf::Impossible, Commands::NONE, true),
    row(M::InodeStorage, FOUR, Size::UpTo(65407), Entries::Zero, BPF_F_CLONE, BPF_F_NO_PREALLOC, NeedsBtf::Required, Commands::NONE, true),
    row(M::TaskStorage, FOUR, Size::UpTo(65407), Entries::Zero, BPF_F_CLONE, BPF_F_NO_PREALLOC, NeedsBtf::Required, Commands::NONE, true),
    row(M::BloomFilter, Size::Is(0), ANY_VALUE, Entries::Some, NUMA | ACCESS | BPF_F_ZERO_SEED, 0, NeedsBtf::Allowed, Commands::NONE, true),
    row(M::UserRingbuf, Size::Is(0), Size::Is(0), Entries::Ring, NUMA, 0, NeedsBtf::Impossible, Commands::NONE, true),
    row(M::CgrpStorage, FOUR, Size::UpTo(65407), Entries::Zero, BPF_F_CLONE, BPF_F_NO_PREALLOC, NeedsBtf::Required, Commands::NONE, true),
    row(M::Arena, Size::Is(0), Size::Is(0), Entries::UpTo(1 << 20), BPF_F_SEGV_ON_FAULT | BPF_F_NO_USER_CONV, BPF_F_MMAPABLE, NeedsBtf::Impossible, Commands::NONE, true),
];

/// The facts of a map type; `None` for `unspec` and `struct_ops`, whose rules are in BTF.
#[must_use]
pub fn facts(map_type: MapType) -> Option<&'static MapFacts> {
    MAP_FACTS.iter().find(|row| row.map_type == map_type)
}

/// Numbers of a map's creation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Create {
    /// Map type.
    pub map_type: MapType,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Maximal number of elements.
    pub max_entries: u32,
    /// `BPF_F_*`, without `BPF_F_TOKEN_FD`.
    pub map_flags: u32,
    /// `map_extra`
    pub map_extra: u64,
    /// Key and value types are named.
    pub has_btf: bool,
}

/// Pages of the machine, in bytes.
const PAGE: u32 = 4096;

/// What the kernel answers to a creation before it looks for memory.
///
/// # Errors
/// `EINVAL`, `E2BIG`, and `ENOTSUPP` for an LRU map without preallocation.
pub fn check_create(create: &Create) -> Result<(), Errno> {
    let facts = facts(create.map_type).ok_or(Errno::EINVAL)?;
    let flags = create.map_flags;
    let both = |pair: u32| flags & pair == pair;
    if flags & !facts.flags != 0
        || both(USER)
        || both(BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG)
        || !extra_fits(create)
    {
        return Err(Errno::EINVAL);
    }
    if matches!(create.map_type, M::LruHash | M::LruPercpuHash) && flags & BPF_F_NO_PREALLOC != 0 {
        return Err(Errno::ENOTSUPP);
    }
    let btf_fits = match facts.btf {
        NeedsBtf::Impossible => !create.has_btf,
        NeedsBtf::Refused | NeedsBtf::Allowed => true,
        NeedsBtf::Required => create.has_btf,
    };
    if flags & facts.required != facts.required || !btf_fits {
        return Err(Errno::EINVAL);
    }
    let frame = if flags & BPF_F_STACK_BUILD_ID != 0 {
        32
    } else {
        8
    };
    let sizes = [
        size_fits(facts.key, create.key_size, frame),
        size_fits(facts.value, create.value_size, frame),
        entries_fit(facts.entries, create.max_entries),
        sum_fits(facts, create),
    ];
    // a wrong number is answered before one that is too big
    if sizes.contains(&Err(Errno::EINVAL)) {
        return Err(Errno::EINVAL);
    }
    sizes.into_iter().collect::<Result<(), Errno>>()?;
    if create.has_btf && facts.btf == NeedsBtf::Refused {
        Err(Errno::ENOTSUPP)
    } else {
        Ok(())
    }
}

/// `map_extra` is for bloom filters (hash functions) and arenas (a page's address) only.
fn extra_fits(create: &Create) -> bool {
    match create.map_type {
        M::BloomFilter => create.map_extra <= 15,
        M::Arena => create.map_extra.is_multiple_of(u64::from(PAGE)),
        _ => create.map_extra == 0,
    }
}

/// Checks one size.
fn size_fits(rule: Size, size: u32, frame: u32) -> Result<(), Errno> {
    let valid = match rule {
        Size::Is(only) => size == only,
        Size::Either(one, other) => size == one || size == other,
        Size::Within(least, most) => (least..=most).contains(&size),
        Size::UpTo(_) => size > 0,
        Size::Frames => size >= 8 && size.is_multiple_of(frame) && size / frame <= 127,
    };
    match rule {
        _ if !valid => Err(Errno::EINVAL),
        Size::UpTo(most) if size > most => Err(Errno::E2BIG),
        _ => Ok(()),
    }
}

/// Checks `max_entries`.
fn entries_fit(rule: Entries, entries: u32) -> Result<(), Errno> {
    let valid = match rule {
        Entries::Some | Entries::UpTo(_) => entries > 0,
        Entries::Zero => entries == 0,
        Entries::Ring => entries.is_power_of_two() && entries.is_multiple_of(PAGE),
    };
    match rule {
        _ if !valid => Err(Errno::EINVAL),
        Entries::UpTo(most) if entries > most => Err(Errno::E2BIG),
        _ => Ok(()),
    }
}

/// Key and value of a hash must fit one allocation.
fn sum_fits(facts: &MapFacts, create: &Create) -> Result<(), Errno> {
    let is_hash = facts.key == ANY_KEY;
    let sum = u64::from(create.key_size) + u64::from(create.value_size);
    if is_hash && sum > u64::from(HASH_ELEM_MAX) {
        Err(Errno::E2BIG)
    } else {
        Ok(())
    }
}

/// The map's values can be addressed directly (`BPF_PSEUDO_MAP_VALUE`, `map_direct_value_addr`): an array of one element, or an
/// arena.
#[must_use]
pub const fn direct_value(map_type: MapType, max_entries: u32) -> bool {
    match map_type {
        M::Array => max_entries == 1,
        M::Arena => true,
        _ => false,
    }
}

/// The kernel's structure behind a map of this type, whose fields programs may read (`map_btf_id`).
#[must_use]
pub const fn kernel_struct(map_type: MapType) -> Option<&'static str> {
    Some(match map_type {
        M::Hash | M::PercpuHash | M::LruHash | M::LruPercpuHash | M::HashOfMaps => "bpf_htab",
        M::Array
        | M::PercpuArray
        | M::ProgArray
        | M::PerfEventArray
        | M::CgroupArray
        | M::ArrayOfMaps => "bpf_array",
        M::StackTrace => "bpf_stack_map",
        M::LpmTrie => "lpm_trie",
        M::Devmap | M::DevmapHash => "bpf_dtab",
        M::Cpumap => "bpf_cpu_map",
        M::Xskmap => "xsk_map",
        M::Sockmap => "bpf_stab",
        M::Sockhash => "bpf_shtab",
        M::CgroupStorage | M::PercpuCgroupStorage => "bpf_cgroup_storage_map",
        M::ReuseportSockarray => "reuseport_array",
        M::Queue | M::Stack => "bpf_queue_stack",
        M::SkStorage | M::InodeStorage | M::TaskStorage | M::CgrpStorage => "bpf_local_storage_map",
        M::Ringbuf | M::UserRingbuf => "bpf_ringbuf_map",
        M::BloomFilter => "bpf_bloom_filter",
        M::StructOps => "bpf_struct_ops_map",
        M::Arena => "bpf_arena",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ordered_and_complete() {
        assert!(MAP_FACTS.is_sorted_by_key(|row| row.map_type));
        let missing: Vec<_> = MapType::ALL
            .iter()
            .filter(|t| facts(**t).is_none())
            .collect();
        assert_eq!(missing, [&M::Unspec, &M::StructOps]);
    }

    #[test]
    fn creation_rules() {
        #[rustfmt::skip] // one creation per line
        let cases = [
            // type          key   value    entries flags               extra answer
            (M::Hash,        4,    8,       1,      0,                  0,    Ok(())),
            (M::Hash,        0,    8,       1,      0,                  0,    Err(Errno::EINVAL)),
            (M::Hash,        4,    4_194_252, 1,    0,                  0,    Err(Errno::E2BIG)),
            (M::Array,       8,    8,       1,      0,                  0,    Err(Errno::EINVAL)),
            (M::Array,       4,    8,       1,      USER,               0,    Err(Errno::EINVAL)),
            (M::LruHash,     4,    8,       1,      BPF_F_NO_PREALLOC,  0,    Err(Errno::ENOTSUPP)),
            (M::LpmTrie,     8,    8,       1,      0,                  0,    Err(Errno::EINVAL)),
            (M::StackTrace,  4,    1024,    1,      0,                  0,    Err(Errno::EINVAL)),
            (M::StackTrace,  4,    4064,    1,      BPF_F_STACK_BUILD_ID, 0,  Ok(())),
            (M::PercpuArray, 4,    32769,   1,      0,                  0,    Err(Errno::E2BIG)),
            (M::Ringbuf,     0,    0,       12288,  0,                  0,    Err(Errno::EINVAL)),
            (M::BloomFilter, 0,    8,       1,      0,                  15,   Ok(())),
            (M::Cpumap,      4,    4,       257,    0,                  0,    Err(Errno::E2BIG)),
            (M::TaskStorage, 4,    8,       0,      BPF_F_NO_PREALLOC,  0,    Err(Errno::EINVAL)),
        ];
        for (map_type, key_size, value_size, max_entries, map_flags, map_extra, want) in cases {
            let create = Create {
                map_type,
                key_size,
                value_size,
                max_entries,
                map_flags,
                map_extra,
                has_btf: false,
            };
            assert_eq!(check_create(&create), want, "{create:?}");
        }
    }
}
