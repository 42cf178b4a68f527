//! Arguments of the commands. Fields mean what the fields of `union bpf_attr` of the same name mean.

use crate::Handle;
use skep_abi::{AttachType, MapType, ProgType};
use skep_isa::Slot;
use std::time::Duration;

/// `BPF_MAP_CREATE`
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend) -> Result<()> {
///     let map = backend.map_create(&MapCreate {
///         name: "conns".to_owned(),
///         ..MapCreate::new(MapType::Hash, 4, 8, 1024)
///     })?;
///     backend.map_update(map, &[0; 4], &[1; 8], 0)?;
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "fields of union bpf_attr")]
pub struct MapCreate {
    pub map_type: MapType,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
    pub name: String,
    pub inner_map: Option<Handle>,
    pub numa_node: Option<u32>,
    pub map_extra: u64,
    /// BTF object with the key and value types.
    pub btf: Option<Handle>,
    pub btf_key_type_id: u32,
    pub btf_value_type_id: u32,
    pub btf_vmlinux_value_type_id: u32,
}

impl MapCreate {
    /// A map without name, BTF or flags.
    #[must_use]
    pub fn new(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> Self {
        Self {
            map_type,
            key_size,
            value_size,
            max_entries,
            map_flags: 0,
            name: String::new(),
            inner_map: None,
            numa_node: None,
            map_extra: 0,
            btf: None,
            btf_key_type_id: 0,
            btf_value_type_id: 0,
            btf_vmlinux_value_type_id: 0,
        }
    }
}

/// `BPF_PROG_LOAD`. Map operands of `insns` hold [`Handle`] numbers (`PSEUDO_MAP_FD`, `PSEUDO_MAP_VALUE`).
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend) -> Result<()> {
///     // r0 = 2; exit
///     let code = vec![skep_isa::Slot::new(0xb7, 0, 0, 0, 2), skep_isa::Slot::new(0x95, 0, 0, 0, 0)];
///     let prog = backend.prog_load(&ProgLoad::plain(ProgType::Xdp, code))?;
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "fields of union bpf_attr")]
pub struct ProgLoad {
    pub prog_type: ProgType,
    /// Of struct_ops programs the attach type whose number is that of the operation in the kernel's structure.
    pub expected_attach_type: Option<AttachType>,
    pub insns: Vec<Slot>,
    pub license: String,
    pub name: String,
    pub prog_flags: u32,
    pub prog_ifindex: u32,
    pub btf: Option<Handle>,
    /// Raw records of `.BTF.ext`, offsets already those of the whole program.
    pub func_info: Vec<u8>,
    pub func_info_rec_size: u32,
    pub line_info: Vec<u8>,
    pub line_info_rec_size: u32,
    /// BTF id of the function or type to attach to.
    pub attach_btf_id: u32,
    /// Program to extend or trace.
    pub attach_prog: Option<Handle>,
    /// Module BTF of `attach_btf_id`, `None` is vmlinux.
    pub attach_btf: Option<Handle>,
    /// For kfuncs of modules: BTF objects indexed by the call's `offset`.
    pub fd_array: Vec<Handle>,
    /// Verifier log level (0: the log is only made when the load fails).
    pub log_level: u32,
}

impl ProgLoad {
    /// Instructions alone, under the GPL: no name, no BTF, nothing to attach to.
    #[must_use]
    pub fn plain(prog_type: ProgType, insns: Vec<Slot>) -> Self {
        Self {
            prog_type,
            expected_attach_type: None,
            insns,
            license: "GPL".to_owned(),
            name: String::new(),
            prog_flags: 0,
            prog_ifindex: 0,
            btf: None,
            func_info: Vec::new(),
            func_info_rec_size: 0,
            line_info: Vec::new(),
            line_info_rec_size: 0,
            attach_btf_id: 0,
            attach_prog: None,
            attach_btf: None,
            fd_array: Vec::new(),
            log_level: 0,
        }
    }
}

/// `BPF_PROG_TEST_RUN`
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend, prog: Handle) -> Result<()> {
///     let run = TestRun { data_in: Some(vec![0; 64]), data_size_out: 1 << 16, ..TestRun::default() };
///     println!("returned {}", backend.prog_test_run(prog, &run)?.retval);
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "fields of union bpf_attr")]
pub struct TestRun {
    pub data_in: Option<Vec<u8>>,
    pub ctx_in: Option<Vec<u8>>,
    /// Room for the packet afterwards; 0 if it is not wanted.
    pub data_size_out: u32,
    /// Room for the context afterwards.
    pub ctx_size_out: u32,
    /// Runs to make; 0 means 1.
    pub repeat: u32,
    pub flags: u32,
    pub cpu: u32,
    pub batch_size: u32,
}

/// What a test run gave.
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend, prog: Handle) -> Result<()> {
///     # let run = TestRun { data_in: Some(vec![0; 64]), data_size_out: 1 << 16, ..TestRun::default() };
///     let TestRunResult { retval, data_out, .. } = backend.prog_test_run(prog, &run)?;
///     println!("{retval}, {} bytes", data_out.len());
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TestRunResult {
    /// The program's return value.
    pub retval: u32,
    /// Packet afterwards.
    pub data_out: Vec<u8>,
    /// Context afterwards; without room for one in the command, what became of the context given.
    pub ctx_out: Vec<u8>,
    /// Mean time of a run.
    pub duration: Duration,
}

/// `BPF_LINK_CREATE`
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend, prog: Handle) -> Result<()> {
///     let link = backend.link_create(&LinkCreate {
///         prog,
///         attach_type: AttachType::Xdp,
///         target: LinkTarget::Ifindex(2),
///         flags: 0,
///     })?;
///     backend.link_update(link, prog, Some(prog))?; // only if `prog` is attached
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkCreate {
    /// The program.
    pub prog: Handle,
    /// Attach type.
    pub attach_type: AttachType,
    /// Where to.
    pub target: LinkTarget,
    /// `BPF_F_*` of the link.
    pub flags: u32,
}

/// Where a link attaches.
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend, prog: Handle) -> Result<()> {
///     // Before all others of the row.
///     const BPF_F_BEFORE: u32 = 1 << 3;
///     let target = LinkTarget::Ordered { target: 2, relative: 0, revision: 0 };
///     let attach_type = AttachType::TcxIngress;
///     let link = backend.link_create(&LinkCreate { prog, attach_type, target, flags: BPF_F_BEFORE })?;
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkTarget {
    /// A network device (XDP, tcx, netkit).
    Ifindex(u32),
    /// A place among the programs of a device or control group; which side of `relative` is said by the flags.
    Ordered {
        /// Number of the device, or descriptor of the control group.
        target: u32,
        /// Descriptor or id of a program or link; 0 for the whole row.
        relative: u32,
        /// The row must be this old; 0 if it does not matter.
        revision: u64,
    },
    /// A function of another program (freplace, and tracing of programs).
    Function {
        /// The other program.
        prog: Handle,
        /// BTF id of its function, in its own BTF.
        btf_id: u32,
        /// `bpf_cookie`
        cookie: u64,
    },
    /// A file descriptor of the caller: cgroup, network namespace, sockmap, perf event.
    Fd {
        /// The descriptor.
        fd: i32,
        /// `bpf_cookie`
        cookie: u64,
    },
    /// A raw tracepoint by name.
    RawTracepoint {
        /// Name, `sys_enter`.
        name: String,
        /// `bpf_cookie`
        cookie: u64,
    },
    /// What the program was loaded for (fentry, LSM, tp_btf).
    Loaded {
        /// `bpf_cookie`
        cookie: u64,
    },
    /// Probes at several places of one executable.
    UprobeMulti {
        /// The executable or library.
        path: std::path::PathBuf,
        /// File offsets.
        offsets: Vec<u64>,
        /// File offsets of counters of attachments (semaphores of USDT), one an offset or none.
        counters: Vec<u64>,
        /// `bpf_cookie`s, one an offset or none.
        cookies: Vec<u64>,
        /// Only this process, 0 for all.
        pid: u32,
        /// At the return.
        ret: bool,
    },
    /// Probes at several kernel functions.
    KprobeMulti {
        /// Function names.
        symbols: Vec<String>,
        /// `bpf_cookie`s, one a symbol or none.
        cookies: Vec<u64>,
        /// At the return.
        ret: bool,
    },
    /// An iterator; `info` is the raw `union bpf_iter_link_info`.
    Iter {
        /// Raw link info.
        info: Vec<u8>,
    },
    /// A netfilter hook.
    Netfilter {
        /// `NFPROTO_*`
        family: u32,
        /// `NF_INET_*`
        hook: u32,
        /// Priority.
        priority: i32,
        /// `BPF_F_NETFILTER_*`
        flags: u32,
    },
    /// A struct_ops map.
    StructOps(Handle),
}

/// Position of a batch walk; starts at the first element.
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend, map: Handle) -> Result<()> {
///     let (mut keys, mut values) = (vec![0; 4 * 64], vec![0; 8 * 64]);
///     let mut cursor = BatchCursor::default();
///     while !cursor.done {
///         let count = backend.map_lookup_batch(map, &mut cursor, &mut keys, &mut values, false, 0)?;
///         println!("{count} elements");
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BatchCursor {
    /// The backend's opaque position; `None` before the first call.
    pub position: Option<Vec<u8>>,
    /// True once every element was seen.
    pub done: bool,
}
