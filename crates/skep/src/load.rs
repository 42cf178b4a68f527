//! Loading a linked object through a backend: BTF, maps with their contents, programs, references among them.
//!
//! What a kernel lacks need not fail a load: programs may be optional, and sections that begin with `?` are loaded on request.
//!
//! ```
//! use skep::load::{LoadOptions, Loaded, load};
//!
//! # let bytes = std::fs::read("../../examples/packets.bpf.o")?;
//! # let options = skep_object::Options { name: "packets.bpf.o".to_owned() };
//! # let object = skep_object::Object::parse(&bytes, &options)?;
//! # let backend: std::sync::Arc<dyn skep_bpf::Backend> =
//! #     std::sync::Arc::new(skep_user::Universe::new(skep_user::Options::default())?);
//! # let target = skep::target::of(backend.as_ref(), &object.needs())?;
//! # let linked = object.relocate(&target)?;
//! let options = LoadOptions { optional: true, ..LoadOptions::default() };
//! let loaded: Loaded = load(&linked, &backend, &options)?;
//! for (program, why) in &loaded.refused {
//!     eprintln!("{program} is left out: {why}");
//! }
//! let flows = loaded.map("flows").ok_or("no such map")?;
//! assert_eq!(backend.map_info(flows.handle)?.max_entries, 4096);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::attach::Hook;
use crate::pins;
use crate::target::{running_version, version_code};
use skep_abi::{MapType, ProgType, since};
use skep_bpf::{Backend, BackendKind, Errno, Error, Handle, MapCreate, MapInfo, ObjKind, ProgLoad};
use skep_btf::{Btf, FuncInfo, Kind, LineInfo};
use skep_isa::opcode::LDDW;
use skep_isa::{Slot, opcode};
use skep_object::sanitize::{BtfLevel, sanitize};
use skep_object::{Linked, MapKind, MapSpec, Program, SlotInit};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of `struct bpf_func_info` and `struct bpf_line_info`.
const FUNC_INFO_BYTES: u32 = 8;
const LINE_INFO_BYTES: u32 = 16;

/// What to load.
///
/// ```
/// use skep::load::{LoadOptions, load};
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let backend: Arc<dyn Backend> = Arc::new(skep_user::Universe::new(skep_user::Options::default())?);
/// # let object = skep::typed::open(&std::fs::read("../../examples/packets.bpf.o")?, "packets.bpf.o")?;
/// let linked = object.relocate(&skep::target::of(backend.as_ref(), &object.needs())?)?;
/// let options = LoadOptions { program: Some("packets".to_owned()), ..LoadOptions::default() };
/// assert_eq!(load(&linked, &backend, &options)?.programs.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LoadOptions {
    /// Only this program; by default all whose section name does not begin with `?`.
    pub program: Option<String>,
    /// Where maps that ask for pinning go, instead of the bpf filesystem's root or the user backend's pin directory.
    pub pin_dir: Option<PathBuf>,
    /// Program type for sections whose name says none.
    pub prog_type: Option<ProgType>,
    /// A loaded program whose functions `freplace` programs replace, and which other tracing programs may trace.
    pub extends: Option<Handle>,
    /// Maps and programs that the backend refuses are left out and listed in [`Loaded::refused`], instead of failing the load;
    /// so are programs that use such a map. Without this option only maps are left out whose type the backend does not have
    /// and that no program names.
    pub optional: bool,
}

/// A loaded map.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../examples/packets.bpf.o")?, "packets.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// let services = loaded.map("services").ok_or("no such map")?;
/// assert_eq!(services.spec.max_entries, 1024);
/// assert_eq!(backend.map_info(services.handle)?.key_size, services.spec.key_size);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LoadedMap {
    /// What it was made from.
    pub spec: MapSpec,
    /// The open map.
    pub handle: Handle,
}

/// A loaded program.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../examples/packets.bpf.o")?, "packets.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// let program = loaded.program("packets").ok_or("no such program")?;
/// assert_eq!(program.spec.section, "xdp");
/// assert_eq!(backend.prog_info(program.handle)?.name, "packets");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LoadedProgram {
    /// What it was made from.
    pub spec: Program,
    /// The open program.
    pub handle: Handle,
}

/// An object in a backend; dropping it closes everything.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../examples/packets.bpf.o")?, "packets.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// // Maps and programs stay loaded as long as this lives.
/// assert!(loaded.map("services").is_some() && loaded.program("packets").is_some());
/// assert!(loaded.refused.is_empty());
/// let id = backend.prog_info(loaded.programs[0].handle)?.id;
/// drop(loaded);
/// assert!(backend.by_id(skep_bpf::ObjKind::Prog, id).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Loaded {
    backend: Arc<dyn Backend>,
    /// Its maps, in the object's order.
    pub maps: Vec<LoadedMap>,
    /// The handle of each map of the object; `None` for one that was left out.
    handles: Vec<Option<Handle>>,
    /// Its programs, in the object's order.
    pub programs: Vec<LoadedProgram>,
    /// Maps and programs that were left out because the backend refused them.
    pub refused: Vec<(String, LoadError)>,
    /// The object's BTF, for decoding.
    pub btf: Option<skep_btf::Btf>,
    /// BTF of the modules that the object was linked for, where it is open.
    modules: Vec<Option<Handle>>,
    btf_handle: Option<Handle>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("maps", &self.maps)
            .field("programs", &self.programs)
            .finish_non_exhaustive()
    }
}

impl Loaded {
    /// The backend that has it.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// A map by its name in the source.
    #[must_use]
    pub fn map(&self, name: &str) -> Option<&LoadedMap> {
        self.maps.iter().find(|m| m.spec.name == name)
    }

    /// What attaches a structure of operations (`.struct_ops`, `.struct_ops.link`); `None` if `name` is no such map.
    #[must_use]
    pub fn struct_ops(&self, name: &str) -> Option<Hook> {
        let map = self.map(name)?;
        if map.spec.kind != MapKind::StructOps {
            return None;
        }
        let mut value = map.spec.contents.clone();
        for (at, init) in &map.spec.slots {
            let SlotInit::Program(program) = init else {
                continue;
            };
            let place = value.get_mut(*at as usize..*at as usize + size_of::<u64>());
            if let (Some(place), Some(program)) = (place, self.program(program)) {
                let number = u64::from(program.handle.0.cast_unsigned());
                place.copy_from_slice(&number.to_ne_bytes());
            }
        }
        Some(Hook::StructOps {
            map: map.handle,
            value,
            by_link: map.spec.map_flags & skep_abi::map_flags::BPF_F_LINK != 0,
        })
    }

    /// A program by its name.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<&LoadedProgram> {
        self.programs.iter().find(|p| p.spec.name == name)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let maps = self.maps.iter().map(|m| m.handle);
        let modules = self.modules.iter().flatten().copied();
        for handle in self
            .programs
            .iter()
            .map(|p| p.handle)
            .chain(maps)
            .chain(modules)
            .chain(self.btf_handle)
        {
            self.backend.close(handle);
        }
    }
}

/// An object was not loaded.
///
/// ```
/// use skep::load::{LoadError, LoadOptions, load};
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let backend: Arc<dyn Backend> = Arc::new(skep_user::Universe::new(skep_user::Options::default())?);
/// # let object = skep::typed::open(&std::fs::read("../../tests/objects/bad_packet.bpf.o")?, "bad_packet.bpf.o")?;
/// let linked = object.relocate(&skep::target::of(backend.as_ref(), &object.needs())?)?;
/// match load(&linked, &backend, &LoadOptions::default()) {
///     Err(LoadError::Program { name, error }) => println!("{name}: {error}\n{}", error.log),
///     Err(other) => println!("{other}"),
///     Ok(loaded) => println!("{} programs", loaded.programs.len()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub enum LoadError {
    /// The backend refused something.
    Backend(Error),
    /// The backend refused a program; if its verifier did, the error has a log.
    Program {
        /// The program.
        name: String,
        /// What the backend says.
        error: Error,
    },
    /// A loader must not try: the text says why.
    Object {
        /// The program or map.
        name: String,
        /// Why.
        why: String,
    },
}

impl From<Error> for LoadError {
    fn from(error: Error) -> Self {
        Self::Backend(error)
    }
}

/// Has the backend no maps of this type, whatever the arguments? A kernel calls a type that it does not know yet invalid.
fn is_missing(map_type: MapType, error: &LoadError, kind: BackendKind) -> bool {
    let LoadError::Backend(error) = error else {
        return false;
    };
    let first = since::map_type(map_type);
    let first = first.map_or(0, |(major, minor)| {
        version_code(major.into(), minor.into(), 0)
    });
    let too_old = || kind == BackendKind::Kernel && running_version() < first;
    error.errno == Errno::EOPNOTSUPP || (error.errno == Errno::EINVAL && too_old())
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend(error) | Self::Program { error, .. } => error.fmt(f),
            Self::Object { name, why } => write!(f, "\"{name}\": {why}"),
        }
    }
}

impl std::error::Error for LoadError {}

fn unfit(name: &str, why: impl Into<String>) -> LoadError {
    LoadError::Object {
        name: name.to_owned(),
        why: why.into(),
    }
}

/// Loads an object. What was created is closed again if anything fails.
///
/// # Errors
/// [`LoadError`]
pub fn load(
    linked: &Linked,
    backend: &Arc<dyn Backend>,
    options: &LoadOptions,
) -> Result<Loaded, LoadError> {
    let mut loaded = Loaded {
        backend: Arc::clone(backend),
        maps: Vec::new(),
        handles: Vec::new(),
        programs: Vec::new(),
        refused: Vec::new(),
        btf: linked.btf.clone(),
        modules: modules(linked, backend.as_ref()),
        btf_handle: linked
            .btf
            .as_ref()
            .and_then(|b| load_btf(backend.as_ref(), b)),
    };
    let wanted = |p: &&Program| {
        options
            .program
            .as_ref()
            .map_or(p.autoload, |name| p.name == *name)
    };
    for (place, spec) in linked.maps.iter().enumerate() {
        let needed = || {
            linked
                .programs
                .iter()
                .filter(wanted)
                .any(|p| names_map(p, place))
        };
        let handle = match map(spec, &loaded, options) {
            Ok(handle) => Some(handle),
            Err(error)
                if options.optional
                    || (is_missing(spec.map_type, &error, backend.kind()) && !needed()) =>
            {
                loaded.refused.push((spec.name.clone(), error));
                None
            }
            Err(error) => return Err(error),
        };
        loaded.handles.push(handle);
        loaded.maps.extend(handle.map(|handle| LoadedMap {
            spec: spec.clone(),
            handle,
        }));
    }
    for at in 0..loaded.maps.len() {
        fill(&loaded, &loaded.maps[at])?;
    }
    for spec in linked.programs.iter().filter(wanted) {
        match program(spec, linked, &loaded, options) {
            Ok(handle) => loaded.programs.push(LoadedProgram {
                spec: spec.clone(),
                handle,
            }),
            Err(error) if options.optional => loaded.refused.push((spec.name.clone(), error)),
            Err(error) => return Err(error),
        }
    }
    for map in &loaded.maps {
        enter_programs(&loaded, map)?;
    }
    Ok(loaded)
}

/// Loads an object's BTF; of kernels that do not know all of it, what they know. As in libbpf: a kernel that refuses even that
/// still gets the programs.
fn load_btf(backend: &dyn Backend, btf: &Btf) -> Option<Handle> {
    if let Ok(handle) = backend.btf_load(btf.bytes()) {
        return Some(handle);
    }
    [BtfLevel::Linux5_6, BtfLevel::Linux5_0]
        .into_iter()
        .find_map(|level| backend.btf_load(sanitize(btf, level).ok()?.bytes()).ok())
}

/// Opens the BTF of the modules that programs use something of.
fn modules(linked: &Linked, backend: &dyn Backend) -> Vec<Option<Handle>> {
    let kfuncs = |p: &Program| p.insns.iter().any(|s| is_kfunc_call(s) && s.offset != 0);
    let targets = |p: &Program| p.attach_btf.as_ref().is_some_and(|a| a.module.is_some());
    if linked.modules.is_empty() || !linked.programs.iter().any(|p| kfuncs(p) || targets(p)) {
        return Vec::new();
    }
    let mut found = vec![None; linked.modules.len()];
    let mut id = 0;
    while let Ok(Some(next)) = backend.next_id(ObjKind::Btf, id) {
        id = next;
        let Ok(handle) = backend.by_id(ObjKind::Btf, id) else {
            continue; // gone meanwhile
        };
        let named = backend.btf_info(handle).ok().filter(|i| i.kernel_btf);
        let place = named.and_then(|i| linked.modules.iter().position(|m| *m == i.name));
        match place {
            Some(place) if found[place].is_none() => found[place] = Some(handle),
            _ => backend.close(handle),
        }
    }
    found
}

/// A call of a kernel function; `offset` is the module that has it.
fn is_kfunc_call(slot: &Slot) -> bool {
    slot.code == opcode::JMP | opcode::CALL && slot.src() == opcode::PSEUDO_KFUNC_CALL
}

/// Creates a map, or finds the pinned one that it asks for.
fn map(spec: &MapSpec, loaded: &Loaded, options: &LoadOptions) -> Result<Handle, LoadError> {
    let backend = &loaded.backend;
    if spec.kind == MapKind::StructOps && spec.vmlinux_value_type_id == 0 {
        let why = "the kernel has no such structure of operations";
        return Err(unfit(&spec.name, why));
    }
    let pin = spec.pin_by_name.then(|| {
        options
            .pin_dir
            .clone()
            .unwrap_or_else(|| pin_root(backend.as_ref()))
            .join(&spec.name)
    });
    if let Some(path) = &pin {
        match backend.obj_get(path) {
            Ok(handle) => return reuse(backend.as_ref(), handle, spec),
            Err(error) if error.errno == Errno::ENOENT => {}
            Err(error) => return Err(error.into()),
        }
    }
    let handle = create(spec, loaded)?;
    if let Some(path) = &pin
        && let Err(error) = backend.obj_pin(handle, path)
    {
        backend.close(handle);
        return Err(error.into());
    }
    Ok(handle)
}

/// Where maps that ask for it are pinned: the bpf filesystem, or the pin directory of a user backend.
fn pin_root(backend: &dyn Backend) -> PathBuf {
    PathBuf::from(match backend.kind() {
        BackendKind::Kernel => pins::ROOT,
        BackendKind::User => "",
    })
}

/// A pinned map must be what the object describes.
fn reuse(backend: &dyn Backend, handle: Handle, spec: &MapSpec) -> Result<Handle, LoadError> {
    let info = backend.map_info(handle);
    let same = |i: &MapInfo| {
        i.map_type == spec.map_type
            && i.key_size == spec.key_size
            && i.value_size == spec.value_size
            && i.max_entries == spec.max_entries
            && i.map_extra == spec.map_extra
    };
    match info {
        Ok(info) if same(&info) => Ok(handle),
        Ok(_) => {
            backend.close(handle);
            Err(unfit(
                &spec.name,
                "the pinned map of this name has another type or size",
            ))
        }
        Err(error) => {
            backend.close(handle);
            Err(error.into())
        }
    }
}

/// Creates a map, with its types where the backend takes them.
fn create(spec: &MapSpec, loaded: &Loaded) -> Result<Handle, LoadError> {
    let backend = &loaded.backend;
    let inner = spec
        .inner
        .as_ref()
        .map(|inner| create(inner, loaded))
        .transpose()?;
    let (key_type, value_type) = spec.btf_ids();
    let typed = loaded
        .btf_handle
        .filter(|_| key_type != 0 || value_type != 0 || spec.vmlinux_value_type_id != 0);
    let mut command = MapCreate {
        map_type: spec.map_type,
        key_size: spec.key_size,
        value_size: spec.value_size,
        max_entries: spec.max_entries,
        map_flags: spec.map_flags,
        name: spec.kernel_name.clone(),
        inner_map: inner,
        numa_node: spec.numa_node,
        map_extra: spec.map_extra,
        btf: typed,
        btf_key_type_id: if typed.is_some() { key_type } else { 0 },
        btf_value_type_id: if typed.is_some() { value_type } else { 0 },
        btf_vmlinux_value_type_id: spec.vmlinux_value_type_id,
    };
    let mut created = backend.map_create(&command);
    if created.is_err() && command.btf.is_some() && spec.kind != MapKind::StructOps {
        // As in libbpf: types are for display, unless a helper needs them, which the verifier then says.
        command.btf = None;
        (command.btf_key_type_id, command.btf_value_type_id) = (0, 0);
        created = backend.map_create(&command).or(created);
    }
    if let Some(inner) = inner {
        backend.close(inner);
    }
    let named = |mut error: Error| {
        error.what = format!("BPF_MAP_CREATE for map \"{}\"", spec.name);
        error
    };
    Ok(created.map_err(named)?)
}

/// Contents of data maps, and elements that are maps.
fn fill(loaded: &Loaded, map: &LoadedMap) -> Result<(), LoadError> {
    let backend = &loaded.backend;
    if map.spec.is_data() && map.spec.map_type == MapType::Array {
        let mut value = map.spec.contents.clone();
        value.resize(map.spec.value_size as usize, 0);
        if value.iter().any(|b| *b != 0) {
            backend.map_update(map.handle, &[0; 4], &value, 0)?;
        }
    }
    if map.spec.map_type == MapType::Arena && !map.spec.contents.is_empty() {
        backend.arena_init(map.handle, &map.spec.contents)?;
    }
    if map.spec.is_frozen() {
        backend.map_freeze(map.handle)?;
    }
    for (index, init) in &map.spec.slots {
        let SlotInit::Map(inner) = init else { continue };
        let inner = loaded
            .handles
            .get(*inner)
            .ok_or_else(|| unfit(&map.spec.name, "an inner map is missing"))?;
        let Some(inner) = inner else { continue };
        backend.map_update(map.handle, &index.to_ne_bytes(), &inner.0.to_ne_bytes(), 0)?;
    }
    Ok(())
}

/// Elements that are programs.
fn enter_programs(loaded: &Loaded, map: &LoadedMap) -> Result<(), LoadError> {
    if map.spec.kind == MapKind::StructOps {
        return Ok(()); // when it is attached
    }
    for (index, init) in &map.spec.slots {
        let SlotInit::Program(name) = init else {
            continue;
        };
        // A program that is not loaded leaves its place empty.
        let Some(program) = loaded.program(name) else {
            continue;
        };
        let value = program.handle.0.to_ne_bytes();
        loaded
            .backend
            .map_update(map.handle, &index.to_ne_bytes(), &value, 0)?;
    }
    Ok(())
}

/// Loads one program.
fn program(
    spec: &Program,
    linked: &Linked,
    loaded: &Loaded,
    options: &LoadOptions,
) -> Result<Handle, LoadError> {
    let command = command(spec, linked, loaded, options)?;
    let loaded = loaded.backend.prog_load(&command);
    loaded.map_err(|error| LoadError::Program {
        name: spec.name.clone(),
        error: name_relocations(error, spec),
    })
}

/// The verifier sees a call of nothing where a relocation found nothing; the cause is the relocation.
fn name_relocations(mut error: Error, spec: &Program) -> Error {
    let reached = |f: &&skep_object::Failure| error.log.contains(&format!("\n{}: ", f.insn));
    let mut names: Vec<String> = Vec::new();
    for failure in spec.failures.iter().filter(reached) {
        names.push(format!("instruction {}: {}", failure.insn, failure.cause));
    }
    if !names.is_empty() && error.log.contains(POISONED_CALL) {
        error.detail = names.join("; ");
    }
    error
}

/// What the verifier says of the call that stands where a relocation found nothing (libbpf's number).
const POISONED_CALL: &str = "invalid func unknown#195896080";

/// The command that loads a program of an object whose maps are `loaded`.
///
/// # Errors
/// [`LoadError::Object`] if a loader must not try.
pub fn command(
    spec: &Program,
    linked: &Linked,
    loaded: &Loaded,
    options: &LoadOptions,
) -> Result<ProgLoad, LoadError> {
    let prog_type = match (spec.prog_type, options.prog_type) {
        (ProgType::Unspec, Some(given)) => given,
        (ProgType::Unspec, None) => {
            return Err(unfit(
                &spec.name,
                format!("section \"{}\" says no program type", spec.section),
            ));
        }
        (known, _) => known,
    };
    if let Some(failure) = spec.failures.iter().find(|f| f.is_fatal()) {
        return Err(unfit(&spec.name, failure.cause.to_string()));
    }
    let other = other_program(spec, loaded, options)?;
    let attach_btf_id = match (&other, &spec.attach_btf) {
        (Some((_, id)), _) => *id,
        (None, Some(target)) => match target.id {
            Some(id) => id,
            None => {
                return Err(unfit(
                    &spec.name,
                    format!("the kernel has no \"{}\" to attach to", target.name),
                ));
            }
        },
        (None, None) if spec.prog_type == ProgType::StructOps => {
            let why = "it is no operation of any structure in the object";
            return Err(unfit(&spec.name, why));
        }
        (None, None) => 0,
    };
    let module = spec.attach_btf.as_ref().and_then(|a| a.module);
    let module = module.and_then(|m| loaded.modules.get(m).copied().flatten());
    let has_btf = loaded.btf_handle.is_some();
    Ok(ProgLoad {
        prog_type,
        expected_attach_type: spec.attach,
        insns: with_handles(spec, linked, loaded)?,
        license: linked.license.clone(),
        name: spec.name.clone(),
        prog_flags: spec.prog_flags,
        prog_ifindex: 0,
        btf: loaded.btf_handle,
        func_info: if has_btf {
            func_info(&spec.func_info)
        } else {
            Vec::new()
        },
        func_info_rec_size: FUNC_INFO_BYTES,
        line_info: if has_btf {
            line_info(&spec.line_info)
        } else {
            Vec::new()
        },
        line_info_rec_size: LINE_INFO_BYTES,
        attach_btf_id,
        attach_prog: other.map(|(handle, _)| handle),
        attach_btf: module,
        fd_array: module_array(loaded),
        log_level: 0,
    })
}

/// What calls of kfuncs index: 0 is the kernel itself.
fn module_array(loaded: &Loaded) -> Vec<Handle> {
    let Some(any) = loaded.modules.iter().flatten().next() else {
        return Vec::new();
    };
    let all = loaded.modules.iter().map(|m| m.unwrap_or(*any));
    std::iter::once(*any).chain(all).collect()
}

/// The program that this one is made for, and the BTF id of the function in it.
fn other_program(
    spec: &Program,
    loaded: &Loaded,
    options: &LoadOptions,
) -> Result<Option<(Handle, u32)>, LoadError> {
    let is_made_for = match spec.prog_type {
        ProgType::Ext => true,
        ProgType::Tracing => spec.attach_btf.as_ref().is_some_and(|a| a.id.is_none()),
        _ => false,
    };
    if !is_made_for {
        return Ok(None);
    }
    let Some(other) = options.extends else {
        return if spec.prog_type == ProgType::Ext {
            Err(unfit(
                &spec.name,
                "it replaces a function of another program; say which program",
            ))
        } else {
            Ok(None)
        };
    };
    let id = function_id(loaded.backend.as_ref(), other, &spec.target)?;
    let missing = || {
        unfit(
            &spec.name,
            format!("the other program has no function \"{}\"", spec.target),
        )
    };
    Ok(Some((other, id.ok_or_else(missing)?)))
}

/// The BTF id of a function of a loaded program.
pub(crate) fn function_id(
    backend: &dyn Backend,
    prog: Handle,
    name: &str,
) -> Result<Option<u32>, Error> {
    let info = backend.prog_info(prog)?;
    if info.btf_id == 0 {
        return Ok(None);
    }
    let handle = backend.by_id(ObjKind::Btf, info.btf_id)?;
    let found = backend.btf_info(handle);
    backend.close(handle);
    let btf = Btf::parse(found?.data).ok();
    Ok(btf.and_then(|b| b.find_by_name_kind(name, Kind::Func)))
}

/// Slots of a program that take the address of a map, which is named by its place in the object's list.
fn map_operands(insns: &[Slot]) -> impl Iterator<Item = usize> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(slot) = insns.get(at) {
            let this = at;
            let wide = slot.code == LDDW;
            at += if wide { 2 } else { 1 };
            if wide && matches!(slot.src(), opcode::PSEUDO_MAP_FD | opcode::PSEUDO_MAP_VALUE) {
                return Some(this);
            }
        }
        None
    })
}

/// Does a program name the map at this place?
fn names_map(spec: &Program, place: usize) -> bool {
    map_operands(&spec.insns).any(|at| usize::try_from(spec.insns[at].imm) == Ok(place))
}

/// Map operands as handles instead of places in the list.
fn with_handles(spec: &Program, linked: &Linked, loaded: &Loaded) -> Result<Vec<Slot>, LoadError> {
    let mut insns = spec.insns.clone();
    for at in map_operands(&spec.insns) {
        let place = usize::try_from(spec.insns[at].imm).ok();
        let handle = place.and_then(|place| loaded.handles.get(place));
        if let Some((None, place)) = handle.zip(place) {
            let name = linked.maps.get(place).map_or("", |m| m.name.as_str());
            return Err(unfit(&spec.name, format!("map \"{name}\" was left out")));
        }
        insns[at].imm = handle.copied().flatten().map_or(-1, |h| h.0);
    }
    Ok(insns)
}

/// Records as `bpf(2)` takes them.
pub(crate) fn func_info(records: &[FuncInfo]) -> Vec<u8> {
    records
        .iter()
        .flat_map(|r| [r.insn, r.type_id])
        .flat_map(u32::to_ne_bytes)
        .collect()
}

/// Records as `bpf(2)` takes them.
pub(crate) fn line_info(records: &[LineInfo]) -> Vec<u8> {
    records
        .iter()
        .flat_map(|r| [r.insn, r.file, r.text, r.line_col])
        .flat_map(u32::to_ne_bytes)
        .collect()
}
