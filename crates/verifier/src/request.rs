//! What the verifier is asked.

use crate::owner::MapOwner;
use skep_abi::kernel::Kernel;
use skep_abi::{AttachType, MapType, ProgType};
use skep_btf::Record;
use skep_isa::Slot;
use std::sync::Arc;

/// One question: may this program run?
///
/// Map operands of `insns` (`PSEUDO_MAP_FD`/`_IDX` and their `VALUE` forms) index [`Request::maps`]; BTF ids of kfuncs and
/// kernel variables are those of the profile's BTF.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Request, verify};
///
/// let insns = assemble_insns("r0 = 2\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let request = Request::plain("pass", ProgType::Xdp, &insns);
/// let verified = verify(&request).map_err(|no| no.message())?;
/// assert_eq!(verified.prog_type(), ProgType::Xdp);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The linked program: entry function first, then its subprogs.
    pub insns: &'a [Slot],
    /// Program type.
    pub prog_type: ProgType,
    /// Expected attach type, if the load names one.
    pub attach: Option<AttachType>,
    /// BTF id (in the kernel's BTF) of the function or typedef attached to, 0 for none.
    pub attach_btf_id: u32,
    /// Index of the member that a struct_ops program implements.
    pub attach_member: Option<u32>,
    /// `BPF_F_*` of the load (sleepable, strict alignment, frags, …).
    pub prog_flags: u32,
    /// The license is GPL-compatible.
    pub gpl_compatible: bool,
    /// Name of the program, for messages.
    pub name: &'a str,
    /// The program's own BTF.
    pub btf: Option<&'a skep_btf::Btf>,
    /// Functions of the program, ordered by `insn`.
    pub func_info: &'a [FuncInfo],
    /// Source lines of the program, ordered by `insn`.
    pub line_info: &'a [LineInfo],
    /// The maps that `insns` name.
    pub maps: &'a [MapDesc],
    /// What the loader may do.
    pub caps: Caps,
    /// The kernel knows the addresses of its variables, not only of its functions (`CONFIG_KALLSYMS_ALL`).
    pub kernel_variables: bool,
    /// The kernel's BTF, if the program needs any of it.
    pub kernel_btf: Option<&'a skep_btf::Btf>,
    /// Another kernel than the reference kernel.
    pub kernel: Option<&'a Kernel>,
}

impl<'a> Request<'a> {
    /// Instructions alone: for a privileged loader and the reference kernel, GPL-compatible, without BTF, maps and attach type.
    #[must_use]
    pub const fn plain(name: &'a str, prog_type: ProgType, insns: &'a [Slot]) -> Self {
        Self {
            insns,
            prog_type,
            attach: None,
            attach_btf_id: 0,
            attach_member: None,
            prog_flags: 0,
            gpl_compatible: true,
            name,
            btf: None,
            func_info: &[],
            line_info: &[],
            maps: &[],
            caps: Caps::All,
            kernel_variables: false,
            kernel_btf: None,
            kernel: None,
        }
    }
}

/// What the loader may do.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Caps, Request, verify};
///
/// // The address of the stack as a number: only loaders that may read all memory anyway may have it.
/// let insns = assemble_insns("r0 = r10\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let request = Request::plain("leak", ProgType::SocketFilter, &insns);
/// assert!(verify(&request).is_ok());
/// let rejection = verify(&Request { caps: Caps::Bpf, ..request }).unwrap_err();
/// assert_eq!(rejection.code, "V0702");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caps {
    /// Privileged: pointer leaks and uninitialised stack are its own affair.
    All,
    /// CAP_BPF and CAP_NET_ADMIN only: no pointer leaks, no uninitialised stack, speculation rules.
    Bpf,
}

/// A record of `func_info`.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_btf::raw::Info;
/// use skep_btf::{Btf, Builder, Kind, Order};
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{FuncInfo, Request, verify};
///
/// let mut types = Builder::new(Order::HOST);
/// let int = types.add_int("int", 4, 1);
/// let proto = types.add("", Info::new(Kind::FuncProto, 0, false), int, &[]);
/// let func = types.add("pass", Info::new(Kind::Func, 0, false), proto, &[]);
/// let btf = Btf::parse(types.finish())?;
/// let insns = assemble_insns("r0 = 2\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let request = Request {
///     btf: Some(&btf),
///     func_info: &[FuncInfo { insn: 0, type_id: func }],
///     ..Request::plain("pass", ProgType::Xdp, &insns)
/// };
/// assert!(verify(&request).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FuncInfo {
    /// First slot of the function.
    pub insn: u32,
    /// BTF id of its `BTF_KIND_FUNC`.
    pub type_id: u32,
}

/// A record of `line_info`.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_btf::{Btf, Builder, Order};
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{LineInfo, LogLevel, Request, kernel_log, verify};
///
/// let mut types = Builder::new(Order::HOST);
/// let line = LineInfo {
///     insn: 0,
///     file: types.add_str("pass.bpf.c"),
///     text: types.add_str("return verdict;"),
///     line_col: 7 << 10 | 2,
/// };
/// # let int = types.add_int("int", 4, 1);
/// # let proto = types.add("", skep_btf::raw::Info::new(skep_btf::Kind::FuncProto, 0, false), int, &[]);
/// # let func = types.add("pass", skep_btf::raw::Info::new(skep_btf::Kind::Func, 0, false), proto, &[]);
/// let btf = Btf::parse(types.finish())?;
/// let insns = assemble_insns("r0 = r3\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let request = Request {
///     btf: Some(&btf),
///     line_info: &[line],
/// #     func_info: &[skep_verifier::FuncInfo { insn: 0, type_id: func }],
///     ..Request::plain("pass", ProgType::Xdp, &insns)
/// };
/// let rejection = verify(&request).unwrap_err();
/// let log = kernel_log(&request, &rejection, LogLevel::Path);
/// assert!(log.contains("; return verdict; @ pass.bpf.c:7"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineInfo {
    /// First slot the line covers.
    pub insn: u32,
    /// String offset of the file name in the program's BTF.
    pub file: u32,
    /// String offset of the line's text.
    pub text: u32,
    /// Line number in the upper 22 bits, column in the lower 10.
    pub line_col: u32,
}

/// A live map, as far as proofs depend on it.
///
/// ```
/// use skep_abi::{MapType, ProgType};
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_isa::opcode::PSEUDO_MAP_FD;
/// use skep_verifier::{MapDesc, Request, verify};
/// use std::sync::Arc;
///
/// let map = MapDesc {
///     name: "counts".to_owned(),
///     map_type: MapType::Array,
///     key_size: 4,
///     value_size: 8,
///     max_entries: 1,
///     map_flags: 0,
///     map_extra: 0,
///     record: Arc::default(),
///     has_btf: false,
///     btf: None,
///     inner: None,
///     frozen: None,
///     owner: None,
///     id: 0,
/// };
/// // The map operand is an index into the maps of the request.
/// let mut insns = assemble_insns("r1 = 0 ll\nr0 = 0\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// insns[0].regs |= PSEUDO_MAP_FD << 4;
/// let request = Request { maps: &[map], ..Request::plain("count", ProgType::Xdp, &insns) };
/// assert_eq!(verify(&request).map_err(|no| no.message())?.maps()[0].name, "counts");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct MapDesc {
    /// Name, for messages.
    pub name: String,
    /// Map type.
    pub map_type: MapType,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Maximal number of elements (bytes of a ring buffer, pages of an arena).
    pub max_entries: u32,
    /// Creation flags.
    pub map_flags: u32,
    /// `map_extra` of the creation.
    pub map_extra: u64,
    /// Special fields of the value type.
    pub record: Arc<Record>,
    /// The map has BTF for its value (`btf_value_type_id` or a vmlinux type).
    pub has_btf: bool,
    /// The BTF that `record`'s type ids mean.
    pub btf: Option<Arc<skep_btf::Btf>>,
    /// Template of the inner maps of a map of maps.
    pub inner: Option<Arc<MapDesc>>,
    /// The value of a frozen, program-read-only array: its bytes are constants.
    pub frozen: Option<Arc<[u8]>>,
    /// The kind of programs that it belongs to, once it has held or been named by any.
    pub owner: Option<MapOwner>,
    /// Its id if it is live, else 0.
    pub id: u32,
}

impl MapDesc {
    /// Its flags as programs meet them.
    pub(crate) const fn program_flags(&self) -> u32 {
        self.map_flags | skep_abi::map::implied_flags(self.map_type)
    }
}
