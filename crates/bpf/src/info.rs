//! What the backends tell about their objects. Fields as in `struct bpf_{map,prog,link,btf}_info`.

use skep_abi::{AttachType, MapType, ProgType};

/// Kinds of object with ids.
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend) -> Result<()> {
///     let mut id = 0;
///     while let Some(next) = backend.next_id(ObjKind::Prog, id)? {
///         id = next;
///         let prog = backend.by_id(ObjKind::Prog, id)?;
///         println!("{id}: {}", backend.prog_info(prog)?.name);
///         backend.close(prog);
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the kinds of bpf(2)")]
pub enum ObjKind {
    Map,
    Prog,
    Link,
    Btf,
}

/// `struct bpf_map_info`
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend, map: Handle) -> Result<()> {
///     let MapInfo { name, key_size, value_size, .. } = backend.map_info(map)?;
///     println!("{name}: {key_size} to {value_size} bytes");
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "fields of struct bpf_map_info")]
pub struct MapInfo {
    pub map_type: MapType,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
    pub name: String,
    pub map_extra: u64,
    pub btf_id: u32,
    pub btf_key_type_id: u32,
    pub btf_value_type_id: u32,
    /// In the kernel's BTF, of struct_ops maps.
    pub btf_vmlinux_value_type_id: u32,
    /// From /proc/self/fdinfo in the kernel backend.
    pub frozen: bool,
    pub bytes_memlock: u64,
}

/// `struct bpf_prog_info`
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend, prog: Handle) -> Result<()> {
///     let info: ProgInfo = backend.prog_info(prog)?;
///     println!("{} {:?}: maps {:?}", info.name, info.prog_type, info.map_ids);
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "fields of struct bpf_prog_info")]
pub struct ProgInfo {
    pub prog_type: ProgType,
    pub id: u32,
    pub tag: [u8; 8],
    pub name: String,
    pub gpl_compatible: bool,
    /// Nanoseconds since boot.
    pub load_time_ns: u64,
    pub created_by_uid: u32,
    pub map_ids: Vec<u32>,
    pub btf_id: u32,
    pub jited_len: u32,
    pub xlated_len: u32,
    pub run_cnt: u64,
    pub run_time_ns: u64,
    pub recursion_misses: u64,
    pub verified_insns: u32,
    /// From /proc/self/fdinfo in the kernel backend.
    pub bytes_memlock: u64,
}

/// `struct bpf_link_info`
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend, link: Handle) -> Result<()> {
///     let info: LinkInfo = backend.link_info(link)?;
///     println!("{}: {} with program {}", info.id, info.link_type, info.prog_id);
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "fields of struct bpf_link_info")]
pub struct LinkInfo {
    pub id: u32,
    pub prog_id: u32,
    /// Name as in bpftool: `xdp`, `tcx`, `raw_tracepoint`, …
    pub link_type: &'static str,
    pub attach_type: Option<AttachType>,
    pub ifindex: u32,
    /// What the link knows beyond that, under bpftool's names and in its order.
    pub details: Vec<(&'static str, LinkDetail)>,
}

/// A value in [`LinkInfo::details`].
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend, link: Handle) -> Result<()> {
///     for (name, value) in backend.link_info(link)?.details {
///         match value {
///             LinkDetail::Number(number) => println!("{name} {number}"),
///             LinkDetail::Signed(number) => println!("{name} {number}"),
///             LinkDetail::Text(text) => println!("{name} {text}"),
///             LinkDetail::Flag(is_set) => println!("{name} {is_set}"),
///         }
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkDetail {
    /// A number, id or address.
    Number(u64),
    /// A number that may be negative.
    Signed(i64),
    /// A name.
    Text(String),
    /// Yes or no.
    Flag(bool),
}

/// `struct bpf_btf_info`
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend, btf: Handle) -> Result<()> {
///     let BtfInfo { name, data, .. } = backend.btf_info(btf)?;
///     println!("{name}: {} bytes", data.len());
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "fields of struct bpf_btf_info")]
pub struct BtfInfo {
    pub id: u32,
    pub name: String,
    pub kernel_btf: bool,
    pub data: Vec<u8>,
}
