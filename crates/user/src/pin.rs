//! Pins: maps as files of the pin directory, which other processes (and later ones) can open.
//!
//! The directory belongs to the user, mode 0700; no symbolic link on the way is followed. Only maps can be pinned: programs
//! live in a process. Maps that hold programs or maps cannot either, as they name objects of their universe.

use crate::error::{Named, refused};
use crate::fields::holds_own_pointers;
use crate::map_object::MapObject;
use crate::objects::BtfObject;
use crate::universe::{Shared, lock};
use skep_abi::Errno;
use skep_abi::limits::BPF_OBJ_NAME_LEN;
use skep_bpf::{MapCreate, Result};
use skep_btf::{Btf, Record};
use skep_maps::{LeaseTable, Map, MapSpec, Memory, holds_objects, is_storage};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// `O_NOFOLLOW`
const NO_FOLLOW: i32 = 0o400_000;
/// Mode of the pin directory, and the bits nobody else may have.
const DIR_MODE: u32 = 0o700;
const OTHERS: u32 = 0o077;
/// Name of the file with the leases, before the number of CPUs, and its mode.
const LEASES: &str = ".leases-";
const FILE_MODE: u32 = 0o600;
/// Bytes of the notes before the BTF: name, ids of key and value type.
const NOTES_HEAD: usize = BPF_OBJ_NAME_LEN + 8;

/// Why a map whose values own objects cannot be shared.
const OTHER_HEAP: &str = "this universe has made objects already, apart from those of the pin directory: open a pin there \
                          before programs that make objects are loaded";

/// Why such a map, or the heap of its objects, cannot be had.
const PLACE_IN_USE: &str = "it has the same address in every process, and this one has something else there \
                            (another universe with the same pins, perhaps)";

/// What identifies an open file.
pub(crate) type FileId = (u64, u64);

fn errno(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(Errno::EIO.0))
}

/// The pin directory of this user if none is chosen.
pub(crate) fn default_dir() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if Path::new(&dir).is_dir() => Path::new(&dir).join("skep"),
        _ => PathBuf::from(format!("/dev/shm/skep-{}", skep_sys::process::user_id())),
    }
}

/// Makes a directory if it is not there; it must be the user's alone.
pub(crate) fn make_own(dir: &Path) -> std::result::Result<(), Errno> {
    match DirBuilder::new().mode(DIR_MODE).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(errno(&e)),
        _ => {}
    }
    let found = std::fs::symlink_metadata(dir).map_err(|e| errno(&e))?;
    if !found.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    if found.uid() != skep_sys::process::user_id() || found.mode() & OTHERS != 0 {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Opens a file of this user, for reading and writing; no symbolic link.
pub(crate) fn open_own(path: &Path) -> std::result::Result<File, Errno> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(NO_FOLLOW);
    let file = options.open(path).map_err(|e| errno(&e))?;
    let owner = file.metadata().map_err(|e| errno(&e))?.uid();
    if owner != skep_sys::process::user_id() {
        return Err(Errno::EPERM);
    }
    Ok(file)
}

/// What a map's file keeps for those who open it: name and BTF.
pub(crate) fn notes(created: &MapCreate, btf: Option<&BtfObject>) -> Arc<[u8]> {
    let mut notes = vec![0u8; BPF_OBJ_NAME_LEN];
    notes[..created.name.len()].copy_from_slice(created.name.as_bytes());
    notes.extend(created.btf_key_type_id.to_le_bytes());
    notes.extend(created.btf_value_type_id.to_le_bytes());
    if let Some(object) = btf {
        notes.extend(object.btf.bytes());
    }
    notes.into()
}

/// Name, type ids and BTF of a map that was opened.
fn read_notes(spec: &MapSpec) -> std::result::Result<(MapCreate, Option<Arc<Btf>>), Errno> {
    let (head, btf) = spec
        .notes
        .split_at_checked(NOTES_HEAD)
        .ok_or(Errno::EINVAL)?;
    let (name, ids) = head.split_at(BPF_OBJ_NAME_LEN);
    let name = name.split(|&b| b == 0).next().unwrap_or_default();
    let id = |at: usize| u32::from_le_bytes([ids[at], ids[at + 1], ids[at + 2], ids[at + 3]]);
    let created = MapCreate {
        map_flags: spec.map_flags,
        map_extra: spec.map_extra,
        name: String::from_utf8(name.to_vec()).map_err(|_| Errno::EINVAL)?,
        btf_key_type_id: id(0),
        btf_value_type_id: id(4),
        ..MapCreate::new(
            spec.map_type,
            spec.key_size,
            spec.value_size,
            spec.max_entries,
        )
    };
    if btf.is_empty() {
        return Ok((created, None));
    }
    let btf = Btf::parse(btf).map_err(|_| Errno::EINVAL)?;
    Ok((created, Some(Arc::new(btf))))
}

impl Shared {
    pub(crate) fn pin_dir(&self) -> PathBuf {
        self.options.pin_dir.clone().unwrap_or_else(default_dir)
    }

    /// Where maps of `bytes` live: beside the pin directory if there is plenty of room, so that they can be pinned.
    pub(crate) fn memory(&self, bytes: u64) -> Memory {
        let dir = self.pin_dir();
        let near = [Some(dir.as_path()), dir.parent()];
        let roomy = |dir: &&Path| skep_sys::mem::free_bytes(dir).is_ok_and(|free| free / 4 > bytes);
        near.into_iter()
            .flatten()
            .find(|d| d.is_dir())
            .filter(roomy)
            .map_or(Memory::Anonymous, |d| Memory::Directory(d.to_owned()))
    }

    /// The pin directory, made if it is not there; it must be the user's alone.
    fn own_pin_dir(&self) -> std::result::Result<PathBuf, Errno> {
        let dir = self.pin_dir();
        make_own(&dir)?;
        self.share_leases(&dir)?;
        Ok(dir)
    }

    /// From now on CPUs are leased among all processes that use `dir`.
    pub(crate) fn share_leases(&self, dir: &Path) -> std::result::Result<(), Errno> {
        if self.shared_leases.get().is_some() {
            return Ok(());
        }
        let cpus = self.options.cpus;
        let path = dir.join(format!("{LEASES}{cpus}"));
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .mode(FILE_MODE)
            .custom_flags(NO_FOLLOW);
        let file = options.open(&path).map_err(|e| errno(&e))?;
        file.set_len(LeaseTable::bytes(cpus))
            .map_err(|e| errno(&e))?;
        let table = LeaseTable::over(&file, cpus)?;
        self.retire_own_leases();
        // A second thread may have been faster; its table is the same file.
        let _same = self.shared_leases.set(table);
        Ok(())
    }

    /// The file that `path` names: inside the pin directory, no symbolic link and no `..` on the way.
    fn pin_path(&self, path: &Path, what: &str) -> Result<PathBuf> {
        let dir = self.own_pin_dir().map_err(|e| {
            refused(
                e,
                what,
                "the pin directory must be a directory of this user, mode 0700",
            )
        })?;
        let inside = if path.is_absolute() {
            let outside = || {
                refused(
                    Errno::EPERM,
                    what,
                    &format!("pins lie in {}", dir.display()),
                )
            };
            path.strip_prefix(&dir).map_err(|_| outside())?
        } else {
            path
        };
        let plain = inside
            .components()
            .all(|c| matches!(c, Component::Normal(_)));
        if !plain || inside.as_os_str().is_empty() {
            return Err(refused(Errno::EINVAL, what, "not a plain path"));
        }
        let mut at = dir;
        for part in inside.parent().into_iter().flat_map(Path::components) {
            at.push(part);
            let found = std::fs::symlink_metadata(&at).map_err(|e| refused(errno(&e), what, ""))?;
            if !found.is_dir() {
                return Err(refused(
                    Errno::ENOTDIR,
                    what,
                    "a part of the path is no directory",
                ));
            }
        }
        at.push(inside.file_name().unwrap_or_default());
        Ok(at)
    }

    /// `BPF_OBJ_PIN`
    pub(crate) fn pin_map(&self, map: &Arc<MapObject>, path: &Path) -> Result<()> {
        const WHAT: &str = "BPF_OBJ_PIN";
        let local = holds_objects(map.map.map_type)
            || is_storage(map.map.map_type)
            || holds_own_pointers(&map.map.spec().record, self.options.kernel_btf.as_deref());
        if local {
            let why = "elements of this map name objects of this process";
            return Err(refused(Errno::EOPNOTSUPP, WHAT, why));
        }
        let path = self.pin_path(path, WHAT)?;
        if map.map.spec().record.owns_objects() {
            self.share_heap(&self.pin_dir())
                .map_err(|e| refused(e, WHAT, OTHER_HEAP))?;
        }
        let id = file_id(map.map.file()).named(WHAT)?;
        skep_sys::mem::link_file(map.map.file(), &path).map_err(|e| {
            let detail = match e.raw_os_error().map(Errno) {
                Some(Errno::EXDEV | Errno::ENOENT) => {
                    "the map lives in memory outside the pin directory's filesystem"
                }
                _ => "",
            };
            refused(errno(&e), WHAT, detail)
        })?;
        lock(&self.pins).insert(id, Arc::downgrade(map));
        Ok(())
    }

    /// `BPF_OBJ_GET`
    pub(crate) fn pinned_map(self: &Arc<Self>, path: &Path) -> Result<Arc<MapObject>> {
        const WHAT: &str = "BPF_OBJ_GET";
        let path = self.pin_path(path, WHAT)?;
        let file = open_own(&path).map_err(|e| {
            let detail = match e {
                Errno::EPERM => "the pin belongs to somebody else",
                _ => "",
            };
            refused(e, WHAT, detail)
        })?;
        let id = file_id(&file).named(WHAT)?;
        let known = lock(&self.pins).get(&id).and_then(std::sync::Weak::upgrade);
        if let Some(map) = known {
            return Ok(map);
        }
        let map = self.adopt(file).map_err(|e| {
            let detail = match e {
                Errno::EBUSY => OTHER_HEAP,
                Errno::EEXIST => PLACE_IN_USE,
                _ => "",
            };
            refused(e, WHAT, detail)
        })?;
        lock(&self.pins).insert(id, Arc::downgrade(&map));
        Ok(map)
    }

    /// Makes an object of a map that some process left in `file`.
    fn adopt(self: &Arc<Self>, file: File) -> std::result::Result<Arc<MapObject>, Errno> {
        let mut spec = Map::described_in(&file)?;
        if spec.cpus != self.options.cpus {
            return Err(Errno::EINVAL);
        }
        let (created, btf) = read_notes(&spec)?;
        if let Some(btf) = btf.as_ref().filter(|_| created.btf_value_type_id != 0) {
            let record = Record::of(btf, created.btf_value_type_id).map_err(|_| Errno::EINVAL)?;
            spec.record = Arc::new(record);
        }
        if spec.record.owns_objects() {
            self.share_heap(&self.pin_dir())?;
        }
        let btf = btf.map(|btf| self.register_btf(btf)).transpose()?;
        let map = Map::create(&spec, &Memory::Existing(Arc::new(file)))?;
        self.register_map(map, created, btf, None, 0)
    }
}

pub(crate) fn file_id(file: &File) -> std::result::Result<FileId, Errno> {
    file.metadata()
        .map(|m| (m.dev(), m.ino()))
        .map_err(|e| errno(&e))
}
