//! Between the waist's types and the kernel's structures.

use super::denied;
use skep_abi::{MapType, ProgType};
use skep_bpf::{Errno, Error, MapCreate, MapInfo, ObjKind, ProgInfo, ProgLoad, Result};
use skep_isa::Slot;
use skep_sys::process::Capabilities;
use skep_sys::{bpf, bpf_map, bpf_obj, bpf_prog};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The errno of a system call's error.
pub(crate) fn errno(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(Errno::EIO.0))
}

/// A refused command.
pub(super) fn failed(what: &str, error: &io::Error) -> Error {
    failed_with(what, error, String::new())
}

/// A refused command with the kernel's log.
pub(super) fn failed_with(what: &str, error: &io::Error, log: String) -> Error {
    Error {
        errno: errno(error),
        what: what.to_owned(),
        detail: String::new(),
        log,
    }
}

/// A refused program load; an `EPERM` or `EINVAL` without a log is explained.
pub(super) fn load_failed(what: &str, spec: &ProgLoad, refused: bpf_prog::LoadError) -> Error {
    let mut error = failed_with(what, &refused.error, refused.log);
    if error.errno == Errno::EPERM && error.log.trim().is_empty() {
        let caps = skep_sys::process::effective_capabilities().unwrap_or(Capabilities(0));
        error.detail = denied::load(spec.prog_type, caps, denied::lockdown().as_deref());
    }
    if error.errno == Errno::EINVAL && error.log.trim().is_empty() {
        let running = crate::target::running_version();
        let reason = denied::prog(spec.prog_type, spec.expected_attach_type, running);
        error.detail = reason.unwrap_or_default();
    }
    error
}

/// A refused map; what the kernel is too old for is said.
pub(super) fn map_failed(what: &str, spec: &MapCreate, refused: &io::Error) -> Error {
    let mut error = failed(what, refused);
    match error.errno {
        Errno::EINVAL => {
            let reason = denied::map(spec, crate::target::running_version());
            error.detail = reason.unwrap_or_default();
        }
        Errno::EPERM => {
            let caps = skep_sys::process::effective_capabilities().unwrap_or(Capabilities(0));
            error.detail = denied::create(spec.map_type, caps, denied::in_user_namespace());
        }
        _ => {}
    }
    error
}

/// An object name as the kernel allows it: letters, digits, `_` and `.`; others become `_`.
pub(super) fn name(name: &str) -> [u8; 16] {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' || c == '.' {
            c
        } else {
            '_'
        }
    };
    bpf::object_name(&name.chars().map(allowed).collect::<String>())
}

/// A slot in the host's byte order.
pub(super) fn slot_bytes(slot: Slot) -> [u8; 8] {
    if cfg!(target_endian = "little") {
        slot.to_le_bytes()
    } else {
        slot.to_be_bytes()
    }
}

/// The kind in the system call's words.
pub(super) fn kind(kind: ObjKind) -> bpf_obj::Kind {
    match kind {
        ObjKind::Map => bpf_obj::Kind::Map,
        ObjKind::Prog => bpf_obj::Kind::Prog,
        ObjKind::Link => bpf_obj::Kind::Link,
        ObjKind::Btf => bpf_obj::Kind::Btf,
    }
}

/// What the kernel calls the files of its objects.
const FILES: &[(&str, ObjKind)] = &[
    ("anon_inode:bpf-map", ObjKind::Map),
    ("anon_inode:bpf-prog", ObjKind::Prog),
    ("anon_inode:bpf_link", ObjKind::Link),
    ("anon_inode:btf", ObjKind::Btf),
];

/// Which kind of object a descriptor is of: the kernel names the file so.
pub(super) fn kind_of(fd: BorrowedFd<'_>) -> Option<ObjKind> {
    let target = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    let target = target.to_str()?;
    // Links have their number behind, in some kernels.
    FILES
        .iter()
        .find(|(name, _)| target.starts_with(name))
        .map(|(_, kind)| *kind)
}

/// True if the descriptor is a map's.
pub(super) fn is_map(fd: &OwnedFd) -> bool {
    kind_of(fd.as_fd()) == Some(ObjKind::Map)
}

/// A field of `/proc/self/fdinfo/FD`.
pub(super) fn fdinfo(fd: BorrowedFd<'_>, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let line = text.lines().find(|l| l.split(':').next() == Some(field))?;
    line.split(':').nth(1)?.trim().parse().ok()
}

fn unknown(what: &str, number: u32) -> Error {
    Error {
        errno: Errno::EINVAL,
        what: "BPF_OBJ_GET_INFO_BY_FD".to_owned(),
        detail: format!("{what} {number} is newer than this program"),
        log: String::new(),
    }
}

/// A map's information.
pub(super) fn map_info(info: &bpf_map::MapInfo, fd: BorrowedFd<'_>) -> Result<MapInfo> {
    Ok(MapInfo {
        map_type: MapType::from_id(info.map_type)
            .ok_or_else(|| unknown("map type", info.map_type))?,
        id: info.id,
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        map_flags: info.map_flags,
        name: bpf::field_text(&info.name),
        map_extra: info.map_extra,
        btf_id: info.btf_id,
        btf_key_type_id: info.btf_key_type_id,
        btf_value_type_id: info.btf_value_type_id,
        btf_vmlinux_value_type_id: info.btf_vmlinux_value_type_id,
        frozen: fdinfo(fd, "frozen") == Some(1),
        bytes_memlock: fdinfo(fd, "memlock").unwrap_or(0),
    })
}

/// A program's information.
pub(super) fn prog_info(
    info: &bpf_prog::ProgInfo,
    map_ids: Vec<u32>,
    fd: BorrowedFd<'_>,
) -> Result<ProgInfo> {
    Ok(ProgInfo {
        prog_type: ProgType::from_id(info.prog_type)
            .ok_or_else(|| unknown("program type", info.prog_type))?,
        id: info.id,
        tag: info.tag,
        name: bpf::field_text(&info.name),
        gpl_compatible: info.gpl_compatible & 1 != 0,
        load_time_ns: info.load_time,
        created_by_uid: info.created_by_uid,
        map_ids,
        btf_id: info.btf_id,
        jited_len: info.jited_prog_len,
        xlated_len: info.xlated_prog_len,
        run_cnt: info.run_cnt,
        run_time_ns: info.run_time_ns,
        recursion_misses: info.recursion_misses,
        verified_insns: info.verified_insns,
        bytes_memlock: fdinfo(fd, "memlock").unwrap_or(0),
    })
}
