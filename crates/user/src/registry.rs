//! What processes with a user backend tell others of their programs, maps and links.
//!
//! Objects of a universe live in its process. So that lists can show them, the process leaves a file in the pin directory that
//! names it by number and start time, and takes it away at its end; files of processes that are gone are not believed. A line is
//! an object, its fields apart by tabs.

use crate::pin;
use skep_abi::{AttachType, Errno, MapType, ProgType};
use skep_bpf::{Backend, LinkInfo, MapInfo, ObjKind, ProgInfo};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How the files begin, before `PID-START`.
const PREFIX: &str = ".process-";
/// Mode of the files.
const FILE_MODE: u32 = 0o600;
/// `O_NOFOLLOW`
const NO_FOLLOW: i32 = 0o400_000;
/// Bytes of a file that are read, and files that are looked at.
const BYTES_MAX: u64 = 1 << 20;
const FILES_MAX: usize = 4096;

/// A process and its objects.
///
/// ```
/// use skep_bpf::{Backend, MapCreate};
/// use skep_user::registry::{announce, announced};
/// use skep_user::{Options, Universe};
///
/// # let dir = std::env::temp_dir().join(format!("skep-process-{}", std::process::id()));
/// # let dir = Some(dir.as_path());
/// let universe = Universe::new(Options::default())?;
/// universe.map_create(&MapCreate::new(skep_abi::MapType::Array, 4, 8, 1))?;
/// let announcement = announce(&universe, dir)?;
/// for process in announced(dir) {
///     println!("process {} has {} maps", process.pid, process.maps.len());
/// }
/// # drop(announcement);
/// # std::fs::remove_dir_all(dir.ok_or("no folder")?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its programs.
    pub programs: Vec<ProgInfo>,
    /// Its maps.
    pub maps: Vec<MapInfo>,
    /// Its links.
    pub links: Vec<LinkInfo>,
}

/// The file of this process; dropping it takes it away.
///
/// ```
/// use skep_bpf::{Backend, MapCreate};
/// use skep_user::registry::{announce, announced};
/// use skep_user::{Options, Universe};
///
/// # let dir = std::env::temp_dir().join(format!("skep-announcement-{}", std::process::id()));
/// # let dir = Some(dir.as_path());
/// let universe = Universe::new(Options::default())?;
/// universe.map_create(&MapCreate::new(skep_abi::MapType::Array, 4, 8, 1))?;
/// let announcement = announce(&universe, dir)?;
/// assert_eq!(announced(dir).len(), 1);
/// drop(announcement);
/// assert!(announced(dir).is_empty());
/// # std::fs::remove_dir_all(dir.ok_or("no folder")?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Announcement(PathBuf);

impl Drop for Announcement {
    fn drop(&mut self) {
        // Somebody may have been faster.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Tells other processes of this user what a backend has now; `dir` instead of the user's pin directory.
///
/// # Errors
/// If the directory is not the user's alone, or cannot be written.
pub fn announce(backend: &dyn Backend, dir: Option<&Path>) -> Result<Announcement, Errno> {
    let dir = dir.map_or_else(pin::default_dir, Path::to_owned);
    pin::make_own(&dir)?;
    let pid = std::process::id();
    let start = start_time(pid).ok_or(Errno::ESRCH)?;
    let path = dir.join(format!("{PREFIX}{pid}-{start}"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    options.mode(FILE_MODE).custom_flags(NO_FOLLOW);
    let written = options
        .open(&path)
        .and_then(|mut file| file.write_all(text(backend).as_bytes()));
    written.map_err(|e| Errno(e.raw_os_error().unwrap_or(Errno::EIO.0)))?;
    Ok(Announcement(path))
}

/// The processes of this user that have announced objects and live; `dir` instead of the user's pin directory.
#[must_use]
pub fn announced(dir: Option<&Path>) -> Vec<Process> {
    let dir = dir.map_or_else(pin::default_dir, Path::to_owned);
    let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    let mut found: Vec<Process> = entries
        .take(FILES_MAX)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (pid, start) = name.strip_prefix(PREFIX)?.split_once('-')?;
            let pid = pid.parse().ok()?;
            if start_time(pid)?.to_string() != start {
                return None;
            }
            read(pid, &entry.path())
        })
        .collect();
    found.sort_by_key(|p| p.pid);
    found
}

/// The maps that are pinned in a directory of this user, with their paths; `dir` instead of the user's pin directory.
#[must_use]
pub fn pinned(dir: Option<&Path>) -> Vec<(PathBuf, MapInfo)> {
    let root = dir.map_or_else(pin::default_dir, Path::to_owned);
    let mut found = Vec::new();
    let options = crate::Options {
        pin_dir: Some(root.clone()),
        ..crate::Options::default()
    };
    let Some(universe) = root
        .is_dir()
        .then(|| crate::Universe::new(options).ok())
        .flatten()
    else {
        return found;
    };
    let mut waiting = vec![root];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            let Some(kind) = entry.file_type().ok().filter(|_| !is_hidden) else {
                continue;
            };
            if kind.is_dir() && waiting.len() < FILES_MAX {
                waiting.push(entry.path());
            } else if kind.is_file() && found.len() < FILES_MAX {
                let opened = universe.obj_get(&entry.path());
                let info = opened.and_then(|handle| {
                    let info = universe.map_info(handle);
                    universe.close(handle);
                    info
                });
                found.extend(info.ok().map(|info| (entry.path(), info)));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// When a process began, in ticks since boot (field 22 of `/proc/PID/stat`).
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field may hold anything, and ends with the last parenthesis.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// Every object of a kind.
fn each(backend: &dyn Backend, kind: ObjKind, mut row: impl FnMut(skep_bpf::Handle)) {
    let mut id = 0;
    while let Ok(Some(next)) = backend.next_id(kind, id) {
        id = next;
        if let Ok(handle) = backend.by_id(kind, id) {
            row(handle);
            backend.close(handle);
        }
    }
}

fn text(backend: &dyn Backend) -> String {
    let mut text = String::new();
    each(backend, ObjKind::Prog, |handle| {
        let Ok(i) = backend.prog_info(handle) else {
            return;
        };
        let tag = u64::from_be_bytes(i.tag);
        let maps: Vec<String> = i.map_ids.iter().map(u32::to_string).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "prog\t{}\t{}\t{tag}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            i.prog_type.id(),
            i.id,
            u8::from(i.gpl_compatible),
            i.load_time_ns,
            i.created_by_uid,
            i.jited_len,
            i.xlated_len,
            i.bytes_memlock,
            maps.join(","),
            i.name,
        );
    });
    each(backend, ObjKind::Map, |handle| {
        let Ok(i) = backend.map_info(handle) else {
            return;
        };
        let _ = writeln!(
            text,
            "map\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            i.map_type.id(),
            i.id,
            i.key_size,
            i.value_size,
            i.max_entries,
            i.map_flags,
            u8::from(i.frozen),
            i.bytes_memlock,
            i.name,
        );
    });
    each(backend, ObjKind::Link, |handle| {
        let Ok(i) = backend.link_info(handle) else {
            return;
        };
        let attach_type = i.attach_type.unwrap_or(AttachType::Xdp).id();
        let _ = writeln!(
            text,
            "link\t{attach_type}\t{}\t{}\t{}",
            i.id, i.prog_id, i.ifindex
        );
    });
    text
}

fn read(pid: u32, path: &Path) -> Option<Process> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(NO_FOLLOW).open(path).ok()?;
    if file.metadata().ok()?.uid() != skep_sys::process::user_id() {
        return None;
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(parse(pid, &text))
}

/// The objects of a file; lines that are none are left out.
fn parse(pid: u32, text: &str) -> Process {
    let mut process = Process {
        pid,
        programs: Vec::new(),
        maps: Vec::new(),
        links: Vec::new(),
    };
    for line in text.lines() {
        let mut fields = line.split('\t');
        match fields.next() {
            Some("prog") => process.programs.extend(program(&mut fields)),
            Some("map") => process.maps.extend(map(&mut fields)),
            Some("link") => process.links.extend(link(&mut fields)),
            _ => {}
        }
    }
    process
}

fn number<'t, T: FromStr>(fields: &mut impl Iterator<Item = &'t str>) -> Option<T> {
    fields.next()?.parse().ok()
}

fn program<'t>(fields: &mut impl Iterator<Item = &'t str>) -> Option<ProgInfo> {
    Some(ProgInfo {
        prog_type: ProgType::from_id(number(fields)?)?,
        id: number(fields)?,
        tag: number::<u64>(fields)?.to_be_bytes(),
        gpl_compatible: number::<u8>(fields)? != 0,
        load_time_ns: number(fields)?,
        created_by_uid: number(fields)?,
        jited_len: number(fields)?,
        xlated_len: number(fields)?,
        bytes_memlock: number(fields)?,
        map_ids: fields
            .next()?
            .split(',')
            .filter_map(|n| n.parse().ok())
            .collect(),
        name: fields.next()?.to_owned(),
        btf_id: 0,
        run_cnt: 0,
        run_time_ns: 0,
        recursion_misses: 0,
        verified_insns: 0,
    })
}

fn map<'t>(fields: &mut impl Iterator<Item = &'t str>) -> Option<MapInfo> {
    Some(MapInfo {
        map_type: MapType::from_id(number(fields)?)?,
        id: number(fields)?,
        key_size: number(fields)?,
        value_size: number(fields)?,
        max_entries: number(fields)?,
        map_flags: number(fields)?,
        frozen: number::<u8>(fields)? != 0,
        bytes_memlock: number(fields)?,
        name: fields.next()?.to_owned(),
        map_extra: 0,
        btf_id: 0,
        btf_key_type_id: 0,
        btf_value_type_id: 0,
        btf_vmlinux_value_type_id: 0,
    })
}

fn link<'t>(fields: &mut impl Iterator<Item = &'t str>) -> Option<LinkInfo> {
    let attach_type = AttachType::from_id(number(fields)?)?;
    let link_type = crate::link::link_type(attach_type)?;
    Some(LinkInfo {
        id: number(fields)?,
        prog_id: number(fields)?,
        link_type,
        attach_type: (attach_type != AttachType::Xdp).then_some(attach_type),
        ifindex: number(fields)?,
        details: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Universe};
    use skep_bpf::{LinkCreate, LinkTarget, MapCreate, ProgLoad};
    use skep_isa::Slot;

    #[test]
    fn a_process_shows_its_objects_as_long_as_it_lives() {
        let dir = std::env::temp_dir().join(format!("skep-registry-{}", std::process::id()));
        let universe = Universe::new(Options::default()).unwrap();
        universe
            .map_create(&MapCreate::new(MapType::Hash, 4, 8, 16))
            .unwrap();
        let code = vec![Slot::new(0xb7, 0, 0, 0, 2), Slot::new(0x95, 0, 0, 0, 0)];
        let program = universe
            .prog_load(&ProgLoad::plain(ProgType::Xdp, code))
            .unwrap();
        let create = LinkCreate {
            prog: program,
            attach_type: AttachType::Xdp,
            target: LinkTarget::Ifindex(universe.add_device("eth0").unwrap()),
            flags: 0,
        };
        let link = universe.link_create(&create).unwrap();
        let announcement = announce(&universe, Some(&dir)).unwrap();
        let found = announced(Some(&dir));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].pid, std::process::id());
        assert_eq!(found[0].maps[0].value_size, 8);
        let info = universe.prog_info(program).unwrap();
        assert_eq!(found[0].programs[0].tag, info.tag);
        assert_eq!(found[0].links, [universe.link_info(link).unwrap()]);
        drop(announcement);
        assert_eq!(announced(Some(&dir)), []);
        // A file of a process that is gone, and one that means another process of the same number.
        std::fs::write(dir.join(format!("{PREFIX}{}-1", std::process::id())), "").unwrap();
        assert_eq!(announced(Some(&dir)), []);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn lines_that_are_no_objects_are_left_out() {
        let found = parse(
            1,
            "prog\t6\nmap\t\nother\n\nmap\t1\t2\t4\t8\t1\t0\t0\t9\tname\n",
        );
        assert_eq!((found.programs.len(), found.maps.len()), (0, 1));
    }
}
