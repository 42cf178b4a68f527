//! The kernel's checks of a map's creation, type by type (`map_alloc_check`, `map_alloc`). Observed on Linux 6.18.

use crate::elem::is_storage;
use crate::spec::MapSpec;
use skep_abi::map::NeedsBtf;
use skep_abi::map_flags::{
    BPF_F_CLONE, BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_COMMON_LRU, BPF_F_NO_PREALLOC,
    BPF_F_NO_USER_CONV, BPF_F_NUMA_NODE, BPF_F_PRESERVE_ELEMS, BPF_F_RDONLY, BPF_F_RDONLY_PROG,
    BPF_F_SEGV_ON_FAULT, BPF_F_STACK_BUILD_ID, BPF_F_WRONLY, BPF_F_WRONLY_PROG, BPF_F_ZERO_SEED,
};
use skep_abi::{Errno, MapType};
use skep_btf::{FieldKind, KptrTag};
use skep_sys::mem::PAGE;

/// Flags that limit access, for user space and for programs.
const ACCESS: u32 = BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
/// Largest piece of memory the kernel's allocator gives (`KMALLOC_MAX_SIZE`).
const KMALLOC_MAX: u64 = 4 << 20;
/// Largest per-CPU value (`PCPU_MIN_UNIT_SIZE`).
const PERCPU_VALUE_MAX: u64 = 32 << 10;
/// Bytes of the kernel's `struct htab_elem` before the key.
const HTAB_ELEM_BYTES: u64 = 48;
/// Longest LPM address in bytes, and shortest.
const LPM_ADDRESS_MAX: u32 = 256;
/// Deepest stack (`perf_event_max_stack`).
const STACK_DEPTH_MAX: u32 = 127;
/// Bytes of one entry of a stack with build ids.
const BUILD_ID_BYTES: u32 = 32;
/// Most CPUs a cpumap has (`NR_CPUS` of the reference kernel).
const CPUS_MAX: u32 = 8192;
/// Largest value of local storage.
const STORAGE_VALUE_MAX: u32 = 0xffff - 64;
/// Largest arena in pages.
const ARENA_PAGES_MAX: u64 = (4 << 30) / PAGE as u64;

fn require(condition: bool, errno: Errno) -> Result<(), Errno> {
    if condition { Ok(()) } else { Err(errno) }
}

/// Both halves of a pair of access flags at once are refused.
fn access_ok(flags: u32) -> bool {
    flags & (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG) != (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG)
}

impl MapSpec {
    fn has_only(&self, allowed: u32) -> Result<(), Errno> {
        require(
            self.map_flags & !allowed == 0 && access_ok(self.map_flags),
            Errno::EINVAL,
        )
    }

    fn has(&self, flag: u32) -> bool {
        self.map_flags & flag != 0
    }

    /// Would the kernel make this map?
    ///
    /// # Errors
    /// The errno of `BPF_MAP_CREATE`; `EOPNOTSUPP` for types that only exist in a kernel.
    pub fn check(&self) -> Result<(), Errno> {
        use MapType as T;
        let takes_extra = matches!(self.map_type, T::BloomFilter | T::Arena);
        require(takes_extra || self.map_extra == 0, Errno::EINVAL)?;
        require(
            !(self.has(BPF_F_RDONLY) && self.has(BPF_F_WRONLY)),
            Errno::EINVAL,
        )?;
        self.check_sizes()?;
        self.check_fields()?;
        let facts = skep_abi::map::facts(self.map_type);
        let takes_btf = facts.is_none_or(|f| f.btf != NeedsBtf::Refused);
        require(takes_btf || !self.has_btf, Errno::ENOTSUPP)
    }

    /// The sizes and flags that the type takes.
    fn check_sizes(&self) -> Result<(), Errno> {
        use MapType as T;
        match self.map_type {
            T::Array | T::PercpuArray => self.check_array(),
            T::ProgArray | T::PerfEventArray | T::CgroupArray | T::ArrayOfMaps => {
                self.check_object_array()
            }
            T::Hash | T::PercpuHash | T::LruHash | T::LruPercpuHash => self.check_hash(),
            T::HashOfMaps => {
                require(self.value_size == 4, Errno::EINVAL)?;
                self.check_hash()
            }
            T::Queue | T::Stack => self.check_queue(),
            T::BloomFilter => self.check_bloom(),
            T::LpmTrie => self.check_lpm(),
            T::Ringbuf | T::UserRingbuf => self.check_ring(),
            T::StackTrace => self.check_stacks(),
            T::Devmap | T::DevmapHash | T::Cpumap | T::Xskmap => self.check_targets(),
            T::SkStorage | T::TaskStorage | T::InodeStorage | T::CgrpStorage => {
                self.check_storage()
            }
            T::Arena => self.check_arena(),
            T::Unspec => Err(Errno::EINVAL),
            T::CgroupStorage
            | T::PercpuCgroupStorage
            | T::StructOps
            | T::Sockmap
            | T::Sockhash
            | T::ReuseportSockarray => Err(Errno::EOPNOTSUPP),
        }
    }

    /// Which special fields values of this type may have (`map_check_btf`).
    fn check_fields(&self) -> Result<(), Errno> {
        use MapType as T;
        let t = self.map_type;
        let storage = is_storage(t);
        let plain = matches!(t, T::Hash | T::Array);
        let fits = |kind: &FieldKind| match kind {
            FieldKind::SpinLock | FieldKind::ResSpinLock => {
                plain || storage || matches!(t, T::CgroupStorage)
            }
            FieldKind::Timer | FieldKind::Workqueue | FieldKind::TaskWork => {
                plain || t == T::LruHash
            }
            FieldKind::ListHead { .. } | FieldKind::RbRoot { .. } => plain || t == T::LruHash,
            FieldKind::Kptr {
                tag: KptrTag::User, ..
            } => t == T::TaskStorage,
            FieldKind::Kptr { .. } | FieldKind::Refcount => {
                let others = matches!(
                    t,
                    T::PercpuHash | T::LruHash | T::LruPercpuHash | T::PercpuArray
                );
                plain || storage || others
            }
            FieldKind::ListNode | FieldKind::RbNode => true,
        };
        let fields = &self.record.fields;
        let hidden = self.has(BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG);
        require(fields.is_empty() || !hidden, Errno::EACCES)?;
        require(fields.iter().all(|f| fits(&f.kind)), Errno::EOPNOTSUPP)
    }

    fn check_array(&self) -> Result<(), Errno> {
        let percpu = self.map_type == MapType::PercpuArray;
        require(
            self.max_entries != 0 && self.key_size == 4 && self.value_size != 0,
            Errno::EINVAL,
        )?;
        let all =
            BPF_F_NUMA_NODE | BPF_F_MMAPABLE | ACCESS | BPF_F_PRESERVE_ELEMS | BPF_F_INNER_MAP;
        self.has_only(all)?;
        let plain_only =
            self.has(BPF_F_MMAPABLE | BPF_F_INNER_MAP) && self.map_type != MapType::Array;
        let perf_only = self.has(BPF_F_PRESERVE_ELEMS) && self.map_type != MapType::PerfEventArray;
        let on_node = percpu && self.has(BPF_F_NUMA_NODE);
        require(!(on_node || plain_only || perf_only), Errno::EINVAL)?;
        require(self.value_size <= i32::MAX.cast_unsigned(), Errno::E2BIG)?;
        require(
            !percpu || self.value_stride() as u64 <= PERCPU_VALUE_MAX,
            Errno::E2BIG,
        )
    }

    fn check_object_array(&self) -> Result<(), Errno> {
        require(self.value_size == 4, Errno::EINVAL)?;
        require(
            !self.has(BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG),
            Errno::EINVAL,
        )?;
        self.check_array()
    }

    fn check_hash(&self) -> Result<(), Errno> {
        let lru = matches!(self.map_type, MapType::LruHash | MapType::LruPercpuHash);
        let percpu_lists = self.has(BPF_F_NO_COMMON_LRU);
        self.has_only(
            BPF_F_NO_PREALLOC | BPF_F_NO_COMMON_LRU | BPF_F_NUMA_NODE | ACCESS | BPF_F_ZERO_SEED,
        )?;
        require(lru || !percpu_lists, Errno::EINVAL)?;
        require(!lru || !self.has(BPF_F_NO_PREALLOC), Errno::ENOTSUPP)?;
        require(
            !(self.has(BPF_F_NUMA_NODE) && (self.is_percpu() || percpu_lists)),
            Errno::EINVAL,
        )?;
        require(
            self.max_entries != 0 && self.key_size != 0 && self.value_size != 0,
            Errno::EINVAL,
        )?;
        let elem = u64::from(self.key_size) + u64::from(self.value_size);
        require(elem < KMALLOC_MAX - HTAB_ELEM_BYTES, Errno::E2BIG)?;
        require(
            !self.is_percpu() || self.value_stride() as u64 <= PERCPU_VALUE_MAX,
            Errno::E2BIG,
        )?;
        require(self.max_entries <= 1 << 31, Errno::E2BIG)
    }

    fn check_queue(&self) -> Result<(), Errno> {
        require(
            self.max_entries != 0 && self.key_size == 0 && self.value_size != 0,
            Errno::EINVAL,
        )?;
        self.has_only(BPF_F_NUMA_NODE | ACCESS)?;
        require(u64::from(self.value_size) <= KMALLOC_MAX, Errno::E2BIG)
    }

    fn check_bloom(&self) -> Result<(), Errno> {
        require(u64::from(self.value_size) <= KMALLOC_MAX, Errno::E2BIG)?;
        require(
            self.max_entries != 0 && self.key_size == 0 && self.value_size != 0,
            Errno::EINVAL,
        )?;
        self.has_only(BPF_F_NUMA_NODE | BPF_F_ZERO_SEED | ACCESS)?;
        require(self.map_extra & !0xf == 0, Errno::EINVAL)
    }

    fn check_lpm(&self) -> Result<(), Errno> {
        let sizes = (5..=4 + LPM_ADDRESS_MAX).contains(&self.key_size)
            && self.value_size >= 1
            && u64::from(self.value_size) <= KMALLOC_MAX - u64::from(LPM_ADDRESS_MAX) - 40;
        require(
            self.max_entries != 0 && self.has(BPF_F_NO_PREALLOC) && sizes,
            Errno::EINVAL,
        )?;
        self.has_only(BPF_F_NO_PREALLOC | BPF_F_NUMA_NODE | ACCESS)
    }

    fn check_ring(&self) -> Result<(), Errno> {
        require(self.map_flags & !BPF_F_NUMA_NODE == 0, Errno::EINVAL)?;
        let size = self.max_entries;
        let whole = size.is_power_of_two() && (size as usize).is_multiple_of(PAGE);
        require(
            self.key_size == 0 && self.value_size == 0 && whole,
            Errno::EINVAL,
        )
    }

    fn check_stacks(&self) -> Result<(), Errno> {
        let allowed = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_STACK_BUILD_ID;
        require(self.map_flags & !allowed == 0, Errno::EINVAL)?;
        let entry = if self.has(BPF_F_STACK_BUILD_ID) {
            BUILD_ID_BYTES
        } else {
            8
        };
        let sizes =
            self.key_size == 4 && self.value_size >= 8 && self.value_size.is_multiple_of(entry);
        require(self.max_entries != 0 && sizes, Errno::EINVAL)?;
        require(self.value_size / entry <= STACK_DEPTH_MAX, Errno::EINVAL)?;
        require(self.max_entries <= 1 << 31, Errno::E2BIG)
    }

    fn check_targets(&self) -> Result<(), Errno> {
        let value_ok =
            self.value_size == 4 || (self.value_size == 8 && self.map_type != MapType::Xskmap);
        require(
            self.max_entries != 0 && self.key_size == 4 && value_ok,
            Errno::EINVAL,
        )?;
        let cpumap = self.map_type == MapType::Cpumap;
        let allowed = BPF_F_NUMA_NODE
            | if cpumap {
                0
            } else {
                BPF_F_RDONLY | BPF_F_WRONLY
            };
        require(self.map_flags & !allowed == 0, Errno::EINVAL)?;
        require(!cpumap || self.max_entries <= CPUS_MAX, Errno::E2BIG)
    }

    fn check_storage(&self) -> Result<(), Errno> {
        require(
            self.map_flags & !(BPF_F_NO_PREALLOC | BPF_F_CLONE) == 0,
            Errno::EINVAL,
        )?;
        require(
            self.has(BPF_F_NO_PREALLOC) && self.max_entries == 0,
            Errno::EINVAL,
        )?;
        require(
            self.key_size == 4 && self.value_size != 0 && self.has_btf,
            Errno::EINVAL,
        )?;
        require(self.value_size <= STORAGE_VALUE_MAX, Errno::E2BIG)
    }

    fn check_arena(&self) -> Result<(), Errno> {
        let allowed = BPF_F_SEGV_ON_FAULT | BPF_F_MMAPABLE | BPF_F_NO_USER_CONV;
        require(
            self.map_flags & !allowed == 0 && self.has(BPF_F_MMAPABLE),
            Errno::EINVAL,
        )?;
        require(
            self.key_size == 0 && self.value_size == 0 && self.max_entries != 0,
            Errno::EINVAL,
        )?;
        require(self.map_extra.is_multiple_of(PAGE as u64), Errno::EINVAL)?;
        require(u64::from(self.max_entries) <= ARENA_PAGES_MAX, Errno::E2BIG)
    }
}
