//! The kernel backend: [`skep_bpf::Backend`] over the system call.
//!
//! A [`Handle`] is the number of a descriptor that this backend holds open until it is closed. Sizes of maps are kept
//! beside the descriptor, so that no element call can move more bytes than the caller's buffer has.

mod convert;
mod denied;
mod events;
mod links;
pub(crate) mod tracefs;

use crate::pins;
pub(crate) use convert::errno;
use convert::{failed, failed_with};
use skep_abi::ProgType;
use skep_bpf::{
    Backend, BackendKind, BatchCursor, BtfInfo, Errno, Error, EventReader, Handle, LinkCreate,
    LinkInfo, MapAccess, MapCreate, MapInfo, MapMemory, ObjKind, ProgInfo, ProgLoad, Result,
    SampleWriter, TestRun, TestRunResult,
};
pub use skep_sys::bpf_prog::Code as CodeKind;
use skep_sys::mem::{Access, Mapping};
use skep_sys::{attr, bpf, bpf_link, bpf_map, bpf_obj, bpf_prog, cpus};
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An open object.
#[derive(Clone)]
enum Entry {
    Map(Arc<bpf_map::Map>),
    Other(Arc<OwnedFd>),
}

impl AsFd for Entry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Map(map) => map.as_fd(),
            Self::Other(fd) => fd.as_fd(),
        }
    }
}

/// An object that a structure may name.
struct Optional(Option<Entry>);

impl Optional {
    /// Its descriptor; 0 for none.
    fn number(&self) -> u32 {
        let entry = self.0.as_ref();
        entry.map_or(0, |e| e.as_fd().as_raw_fd().cast_unsigned())
    }
}

/// The running kernel.
///
/// ```no_run
/// use skep_abi::MapType;
/// use skep_bpf::{Backend, MapCreate};
///
/// let kernel = skep::Kernel::new();
/// let map = kernel.map_create(&MapCreate::new(MapType::Hash, 4, 8, 1024))?; // root
/// kernel.map_update(map, &1u32.to_ne_bytes(), &2u64.to_ne_bytes(), 0)?;
/// println!("id {}", kernel.map_info(map)?.id);
/// kernel.close(map);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Kernel {
    open: Mutex<HashMap<i32, Entry>>,
    /// What the owner of a bpf filesystem allows this process.
    token: Option<OwnedFd>,
}

impl Kernel {
    /// A backend without open objects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A backend that uses what the bpf filesystem at `path` delegates to the caller's user namespace (a BPF token).
    ///
    /// # Errors
    /// Those of `BPF_TOKEN_CREATE`: `ENOENT` if nothing is delegated, `EINVAL` before Linux 6.9.
    pub fn with_token(path: &Path) -> Result<Self> {
        let what = format!("BPF_TOKEN_CREATE for \"{}\"", path.display());
        let folder = std::fs::File::open(path).map_err(|e| failed(&what, &e))?;
        Self::with_token_of(folder.as_fd())
    }

    /// As [`Self::with_token`], for an open folder, which may be of a filesystem that is mounted nowhere.
    ///
    /// # Errors
    /// The same.
    pub fn with_token_of(folder: BorrowedFd<'_>) -> Result<Self> {
        let token = bpf_obj::token_create(folder).map_err(|e| failed("BPF_TOKEN_CREATE", &e))?;
        Ok(Self {
            token: Some(token),
            ..Self::default()
        })
    }

    /// A program's name: that of its entry function in its BTF where the kernel's own name is as long as it can be.
    ///
    /// # Errors
    /// Those of `BPF_OBJ_GET_INFO_BY_FD`.
    pub fn prog_name(&self, prog: Handle) -> Result<String> {
        const WHAT: &str = "BPF_OBJ_GET_INFO_BY_FD of a program";
        let info = self.prog_info(prog)?;
        if info.name.len() + 1 < skep_abi::limits::BPF_OBJ_NAME_LEN || info.btf_id == 0 {
            return Ok(info.name);
        }
        let entry = self.entry(prog, WHAT)?;
        let function = bpf_prog::entry_function(entry.as_fd()).map_err(|e| failed(WHAT, &e))?;
        let Some(function) = function else {
            return Ok(info.name);
        };
        let btf = self.by_id(ObjKind::Btf, info.btf_id)?;
        let data = self.btf_info(btf);
        self.close(btf);
        let btf = skep_btf::Btf::parse(data?.data).ok();
        let name = btf.and_then(|b| Some(b.get(function)?.name().to_owned()));
        Ok(name
            .filter(|n| n.starts_with(&info.name))
            .unwrap_or(info.name))
    }

    /// The type of the programs that a program array holds, and whether they are machine code; `None` before the first one.
    #[must_use]
    pub fn map_owner(&self, map: Handle) -> Option<(ProgType, bool)> {
        let map = self.map(map, "fdinfo of a map").ok()?;
        let number = convert::fdinfo(map.as_fd(), "owner_prog_type")?;
        let prog_type = u32::try_from(number).ok().and_then(ProgType::from_id)?;
        Some((
            prog_type,
            convert::fdinfo(map.as_fd(), "owner_jited") == Some(1),
        ))
    }

    /// What a program was loaded for: ids of a BTF object and of a function in it, zeros if it was loaded for nothing of that
    /// kind.
    ///
    /// # Errors
    /// Those of `BPF_OBJ_GET_INFO_BY_FD`.
    pub fn attach_target(&self, prog: Handle) -> Result<(u32, u32)> {
        const WHAT: &str = "BPF_OBJ_GET_INFO_BY_FD of a program";
        let info = bpf_prog::info(self.entry(prog, WHAT)?.as_fd()).map_err(|e| failed(WHAT, &e))?;
        Ok((info.attach_btf_obj_id, info.attach_btf_id))
    }

    /// What an open object is: its kind and id.
    #[must_use]
    pub fn identify(&self, handle: Handle) -> Option<(ObjKind, u32)> {
        let entry = self.entry(handle, "identify").ok()?;
        let kind = convert::kind_of(entry.as_fd())?;
        let id = match kind {
            ObjKind::Map => self.map_info(handle).ok()?.id,
            ObjKind::Prog => self.prog_info(handle).ok()?.id,
            ObjKind::Link => self.link_info(handle).ok()?.id,
            ObjKind::Btf => self.btf_info(handle).ok()?.id,
        };
        Some((kind, id))
    }

    /// The flag and number that a command carries its token with.
    fn token(&self) -> (u32, i32) {
        match &self.token {
            Some(token) => (attr::BPF_F_TOKEN_FD, token.as_raw_fd()),
            None => (0, 0),
        }
    }

    /// A descriptor of an object, for calls outside `bpf(2)`. It stays open on its own.
    ///
    /// # Errors
    /// `EBADF` for a handle that is not open.
    pub fn descriptor(&self, handle: Handle) -> Result<OwnedFd> {
        let entry = self.entry(handle, "descriptor")?;
        bpf::duplicate(entry.as_fd().as_raw_fd()).map_err(|e| failed("descriptor", &e))
    }

    /// Loads a program with the verifier's statistics (log level 4) and gives it up again: what the log says.
    ///
    /// # Errors
    /// The refusal, with its log.
    pub fn verifier_statistics(&self, spec: &ProgLoad) -> Result<String> {
        self.load_with(spec, bpf_prog::load_for_statistics)
    }

    /// Hands a load to the system call in the form it takes.
    fn load_with<T>(
        &self,
        spec: &ProgLoad,
        load: impl FnOnce(
            &attr::ProgLoad,
            &bpf_prog::LoadData<'_>,
        ) -> std::result::Result<T, bpf_prog::LoadError>,
    ) -> Result<T> {
        let what = format!("BPF_PROG_LOAD for program \"{}\"", spec.name);
        let attach_object = self.optional(spec.attach_prog.or(spec.attach_btf), &what)?;
        let btf = self.optional(spec.btf, &what)?;
        let (token_flag, prog_token_fd) = self.token();
        let attr = attr::ProgLoad {
            prog_type: spec.prog_type.id(),
            log_level: spec.log_level,
            prog_flags: spec.prog_flags | token_flag,
            prog_token_fd,
            prog_name: convert::name(&spec.name),
            prog_ifindex: spec.prog_ifindex,
            expected_attach_type: spec
                .expected_attach_type
                .map_or(0, skep_abi::AttachType::id),
            prog_btf_fd: btf.number(),
            attach_btf_id: spec.attach_btf_id,
            attach_prog_fd: attach_object.number(),
            ..attr::ProgLoad::default()
        };
        let insns: Vec<u8> = spec
            .insns
            .iter()
            .flat_map(|s| convert::slot_bytes(*s))
            .collect();
        let license = bpf::text(spec.license.as_bytes()).map_err(|e| failed(&what, &e))?;
        let fd_array: Vec<i32> = spec.fd_array.iter().map(|h| h.0).collect();
        let data = bpf_prog::LoadData {
            insns: &insns,
            license: &license,
            func_info: (&spec.func_info, spec.func_info_rec_size),
            line_info: (&spec.line_info, spec.line_info_rec_size),
            fd_array: &fd_array,
        };
        load(&attr, &data).map_err(|e| convert::load_failed(&what, spec, e))
    }

    /// The code of a loaded program; zeros where the kernel hides it.
    ///
    /// # Errors
    /// Those of `BPF_OBJ_GET_INFO_BY_FD`.
    pub fn prog_code(&self, prog: Handle, kind: CodeKind) -> Result<Vec<u8>> {
        const WHAT: &str = "BPF_OBJ_GET_INFO_BY_FD of a program";
        bpf_prog::code(self.entry(prog, WHAT)?.as_fd(), kind).map_err(|e| failed(WHAT, &e))
    }

    fn table(&self) -> MutexGuard<'_, HashMap<i32, Entry>> {
        // A panic elsewhere cannot leave the table half changed: each change is one call.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, entry: Entry) -> Handle {
        let number = entry.as_fd().as_raw_fd();
        self.table().insert(number, entry);
        Handle(number)
    }

    fn keep(&self, fd: OwnedFd) -> Handle {
        self.insert(Entry::Other(Arc::new(fd)))
    }

    fn entry(&self, handle: Handle, what: &str) -> Result<Entry> {
        self.table().get(&handle.0).cloned().ok_or_else(|| Error {
            errno: Errno::EBADF,
            what: what.to_owned(),
            detail: format!("handle {} is not open", handle.0),
            log: String::new(),
        })
    }

    fn map(&self, handle: Handle, what: &str) -> Result<Arc<bpf_map::Map>> {
        match self.entry(handle, what)? {
            Entry::Map(map) => Ok(map),
            Entry::Other(_) => Err(Error {
                errno: Errno::EINVAL,
                what: what.to_owned(),
                detail: "not a map".to_owned(),
                log: String::new(),
            }),
        }
    }

    /// An optional object, kept open as long as its number stands in a structure.
    fn optional(&self, handle: Option<Handle>, what: &str) -> Result<Optional> {
        let entry = handle.map(|h| self.entry(h, what)).transpose()?;
        Ok(Optional(entry))
    }
}

impl Backend for Kernel {
    fn kind(&self) -> BackendKind {
        BackendKind::Kernel
    }

    fn possible_cpus(&self) -> usize {
        cpus::possible().unwrap_or(1)
    }

    fn map_create(&self, spec: &MapCreate) -> Result<Handle> {
        let what = format!("BPF_MAP_CREATE for map \"{}\"", spec.name);
        let (token_flag, map_token_fd) = self.token();
        let inner_map = self.optional(spec.inner_map, &what)?;
        let btf = self.optional(spec.btf, &what)?;
        let attr = attr::MapCreate {
            map_type: spec.map_type.id(),
            key_size: spec.key_size,
            value_size: spec.value_size,
            max_entries: spec.max_entries,
            map_flags: spec.map_flags | token_flag,
            inner_map_fd: inner_map.number(),
            numa_node: spec.numa_node.unwrap_or(0),
            map_name: convert::name(&spec.name),
            map_ifindex: 0,
            btf_fd: btf.number(),
            btf_key_type_id: spec.btf_key_type_id,
            btf_value_type_id: spec.btf_value_type_id,
            btf_vmlinux_value_type_id: spec.btf_vmlinux_value_type_id,
            map_extra: spec.map_extra,
            value_type_btf_obj_fd: 0,
            map_token_fd,
        };
        let map = bpf_map::Map::create(&attr).map_err(|e| convert::map_failed(&what, spec, &e))?;
        Ok(self.insert(Entry::Map(Arc::new(map))))
    }

    fn map_lookup(&self, map: Handle, key: &[u8], value: &mut [u8], flags: u64) -> Result<()> {
        const WHAT: &str = "BPF_MAP_LOOKUP_ELEM";
        self.map(map, WHAT)?
            .lookup(key, value, flags)
            .map_err(|e| failed(WHAT, &e))
    }

    fn map_update(&self, map: Handle, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        const WHAT: &str = "BPF_MAP_UPDATE_ELEM";
        self.map(map, WHAT)?
            .update(key, value, flags)
            .map_err(|e| failed(WHAT, &e))
    }

    fn arena_init(&self, map: Handle, bytes: &[u8]) -> Result<()> {
        const WHAT: &str = "variables in an arena";
        self.map(map, WHAT)?
            .arena_init(bytes)
            .map_err(|e| failed(WHAT, &e))
    }

    fn map_delete(&self, map: Handle, key: &[u8]) -> Result<()> {
        const WHAT: &str = "BPF_MAP_DELETE_ELEM";
        self.map(map, WHAT)?
            .delete(key)
            .map_err(|e| failed(WHAT, &e))
    }

    fn map_next_key(&self, map: Handle, key: Option<&[u8]>, next: &mut [u8]) -> Result<()> {
        const WHAT: &str = "BPF_MAP_GET_NEXT_KEY";
        self.map(map, WHAT)?
            .next_key(key, next)
            .map_err(|e| failed(WHAT, &e))
    }

    fn map_lookup_and_delete(
        &self,
        map: Handle,
        key: &[u8],
        value: &mut [u8],
        flags: u64,
    ) -> Result<()> {
        const WHAT: &str = "BPF_MAP_LOOKUP_AND_DELETE_ELEM";
        self.map(map, WHAT)?
            .lookup_and_delete(key, value, flags)
            .map_err(|e| failed(WHAT, &e))
    }

    fn map_lookup_batch(
        &self,
        map: Handle,
        cursor: &mut BatchCursor,
        keys: &mut [u8],
        values: &mut [u8],
        delete: bool,
        flags: u64,
    ) -> Result<u32> {
        const WHAT: &str = "BPF_MAP_LOOKUP_BATCH";
        if cursor.done {
            return Ok(0);
        }
        let map = self.map(map, WHAT)?;
        let mut next = vec![0u8; map.key_bytes().max(4)];
        let positions = (cursor.position.as_deref(), next.as_mut_slice());
        let (count, result) = map.lookup_batch(positions, keys, values, delete, flags);
        match result {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(Errno::ENOENT.0) => cursor.done = true,
            Err(e) => return Err(failed(WHAT, &e)),
        }
        cursor.position = Some(next);
        Ok(count)
    }

    fn map_update_batch(
        &self,
        map: Handle,
        keys: &[u8],
        values: &[u8],
        flags: u64,
    ) -> (u32, Result<()>) {
        const WHAT: &str = "BPF_MAP_UPDATE_BATCH";
        match self.map(map, WHAT) {
            Ok(map) => {
                let (count, result) = map.update_batch(keys, values, flags);
                (count, result.map_err(|e| failed(WHAT, &e)))
            }
            Err(error) => (0, Err(error)),
        }
    }

    fn map_delete_batch(&self, map: Handle, keys: &[u8], flags: u64) -> (u32, Result<()>) {
        const WHAT: &str = "BPF_MAP_DELETE_BATCH";
        match self.map(map, WHAT) {
            Ok(map) => {
                let (count, result) = map.delete_batch(keys, flags);
                (count, result.map_err(|e| failed(WHAT, &e)))
            }
            Err(error) => (0, Err(error)),
        }
    }

    fn map_freeze(&self, map: Handle) -> Result<()> {
        const WHAT: &str = "BPF_MAP_FREEZE";
        self.map(map, WHAT)?.freeze().map_err(|e| failed(WHAT, &e))
    }

    fn map_memory(&self, map: Handle, access: MapAccess) -> Result<Box<dyn MapMemory>> {
        const WHAT: &str = "mmap of a map";
        let map = self.map(map, WHAT)?;
        let info = map.info().map_err(|e| failed(WHAT, &e))?;
        let value = (info.value_size as usize).next_multiple_of(8);
        let bytes = value.saturating_mul(info.max_entries as usize);
        let access = match access {
            MapAccess::Read => Access::Read,
            MapAccess::ReadWrite => Access::ReadWrite,
        };
        let mapping = Mapping::of_file(&map.as_fd().as_raw_fd(), 0, bytes.max(1), access);
        let mapping = mapping.map_err(|e| failed(WHAT, &e))?;
        Ok(Box::new(Memory(mapping)))
    }

    fn btf_load(&self, data: &[u8]) -> Result<Handle> {
        let fd = bpf_obj::btf_load(data, self.token.as_ref().map(AsFd::as_fd))
            .map_err(|(e, log)| failed_with("BPF_BTF_LOAD", &e, log))?;
        Ok(self.keep(fd))
    }

    fn prog_load(&self, spec: &ProgLoad) -> Result<Handle> {
        let fd = self.load_with(spec, bpf_prog::load)?;
        Ok(self.keep(fd))
    }

    fn prog_test_run(&self, prog: Handle, run: &TestRun) -> Result<TestRunResult> {
        const WHAT: &str = "BPF_PROG_TEST_RUN";
        let entry = self.entry(prog, WHAT)?;
        let mut attr = attr::TestRun {
            repeat: run.repeat,
            flags: run.flags,
            cpu: run.cpu,
            batch_size: run.batch_size,
            ..attr::TestRun::default()
        };
        let mut data = bpf_prog::RunData {
            data_in: run.data_in.as_deref().unwrap_or_default(),
            data_out: vec![0; run.data_size_out as usize],
            ctx_in: run.ctx_in.clone().unwrap_or_default(),
            ctx_out: vec![0; run.ctx_size_out as usize],
        };
        bpf_prog::test_run(entry.as_fd(), &mut attr, &mut data).map_err(|e| failed(WHAT, &e))?;
        Ok(TestRunResult {
            retval: attr.retval,
            data_out: data.data_out,
            // Programs of type syscall write their context in place.
            ctx_out: if run.ctx_size_out == 0 {
                data.ctx_in
            } else {
                data.ctx_out
            },
            duration: std::time::Duration::from_nanos(u64::from(attr.duration)),
        })
    }

    fn prog_bind_map(&self, prog: Handle, map: Handle) -> Result<()> {
        const WHAT: &str = "BPF_PROG_BIND_MAP";
        let (prog, map) = (self.entry(prog, WHAT)?, self.entry(map, WHAT)?);
        bpf_prog::bind_map(prog.as_fd(), map.as_fd()).map_err(|e| failed(WHAT, &e))
    }

    fn link_create(&self, link: &LinkCreate) -> Result<Handle> {
        self.create_link(link).map(|fd| self.keep(fd))
    }

    fn link_update(&self, link: Handle, new: Handle, expect: Option<Handle>) -> Result<()> {
        const WHAT: &str = "BPF_LINK_UPDATE";
        let (link, new) = (self.entry(link, WHAT)?, self.entry(new, WHAT)?);
        let old = expect.map(|h| self.entry(h, WHAT)).transpose()?;
        bpf_link::update(link.as_fd(), new.as_fd(), old.as_ref().map(AsFd::as_fd))
            .map_err(|e| failed(WHAT, &e))
    }

    fn link_detach(&self, link: Handle) -> Result<()> {
        const WHAT: &str = "BPF_LINK_DETACH";
        bpf_link::detach(self.entry(link, WHAT)?.as_fd()).map_err(|e| failed(WHAT, &e))
    }

    fn obj_pin(&self, object: Handle, path: &Path) -> Result<()> {
        let what = format!("BPF_OBJ_PIN at \"{}\"", path.display());
        let object = self.entry(object, &what)?;
        let pinned = pins::mount_for(path).and_then(|()| bpf_obj::pin(object.as_fd(), path));
        pinned.map_err(|error| Error {
            detail: pins::no_place(path).unwrap_or_default(),
            ..failed(&what, &error)
        })
    }

    fn obj_get(&self, path: &Path) -> Result<Handle> {
        let what = format!("BPF_OBJ_GET of \"{}\"", path.display());
        let fd = bpf_obj::get(path).map_err(|e| failed(&what, &e))?;
        // What was pinned is not said; only a map answers as one, and only a map needs its sizes.
        Ok(if convert::is_map(&fd) {
            self.keep_map(fd, &what)?
        } else {
            self.keep(fd)
        })
    }

    fn next_id(&self, kind: ObjKind, after: u32) -> Result<Option<u32>> {
        bpf_obj::next_id(convert::kind(kind), after).map_err(|e| failed("BPF_GET_NEXT_ID", &e))
    }

    fn by_id(&self, kind: ObjKind, id: u32) -> Result<Handle> {
        let what = format!("BPF_GET_FD_BY_ID of {kind:?} {id}");
        let fd = bpf_obj::by_id(convert::kind(kind), id).map_err(|e| failed(&what, &e))?;
        if kind == ObjKind::Map {
            self.keep_map(fd, &what)
        } else {
            Ok(self.keep(fd))
        }
    }

    fn map_info(&self, map: Handle) -> Result<MapInfo> {
        const WHAT: &str = "BPF_OBJ_GET_INFO_BY_FD of a map";
        let map = self.map(map, WHAT)?;
        let info = map.info().map_err(|e| failed(WHAT, &e))?;
        convert::map_info(&info, map.as_fd())
    }

    fn prog_info(&self, prog: Handle) -> Result<ProgInfo> {
        const WHAT: &str = "BPF_OBJ_GET_INFO_BY_FD of a program";
        let entry = self.entry(prog, WHAT)?;
        let info = bpf_prog::info(entry.as_fd()).map_err(|e| failed(WHAT, &e))?;
        let map_ids = bpf_prog::map_ids(entry.as_fd()).map_err(|e| failed(WHAT, &e))?;
        convert::prog_info(&info, map_ids, entry.as_fd())
    }

    fn link_info(&self, link: Handle) -> Result<LinkInfo> {
        const WHAT: &str = "BPF_OBJ_GET_INFO_BY_FD of a link";
        links::info(self.entry(link, WHAT)?.as_fd()).map_err(|e| failed(WHAT, &e))
    }

    fn btf_info(&self, btf: Handle) -> Result<BtfInfo> {
        const WHAT: &str = "BPF_OBJ_GET_INFO_BY_FD of BTF";
        let info =
            bpf_obj::btf_info(self.entry(btf, WHAT)?.as_fd()).map_err(|e| failed(WHAT, &e))?;
        Ok(BtfInfo {
            id: info.id,
            name: info.name,
            kernel_btf: info.kernel_btf,
            data: info.data,
        })
    }

    fn enable_stats(&self) -> Result<Handle> {
        let fd = bpf_obj::enable_run_time_stats().map_err(|e| failed("BPF_ENABLE_STATS", &e))?;
        Ok(self.keep(fd))
    }

    fn events_open(&self, map: Handle) -> Result<Box<dyn EventReader>> {
        self.open_events(map)
    }

    fn samples_open(&self, map: Handle) -> Result<Box<dyn SampleWriter>> {
        self.open_samples(map)
    }

    fn trace_open(&self) -> Result<Box<dyn EventReader>> {
        Ok(Box::new(events::TraceReader::open()?))
    }

    fn close(&self, handle: Handle) {
        self.table().remove(&handle.0);
    }
}

impl Kernel {
    fn keep_map(&self, fd: OwnedFd, what: &str) -> Result<Handle> {
        let map = bpf_map::Map::from_fd(fd).map_err(|e| failed(what, &e))?;
        Ok(self.insert(Entry::Map(Arc::new(map))))
    }
}

/// Mapped values.
struct Memory(Mapping);

impl MapMemory for Memory {
    fn base(&self) -> *mut u8 {
        self.0.base()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}
