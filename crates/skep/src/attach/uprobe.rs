//! Functions of executables and libraries.

use super::{End, Link, perf, refused};
use object::{Object, ObjectSegment, ObjectSymbol};
use skep_abi::AttachType;
use skep_bpf::{Backend, Errno, Error, Handle, LinkCreate, LinkTarget, Result};
use skep_sys::perf::Scope;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place in an executable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A function, and bytes into it.
    Symbol(String, u64),
    /// A byte of the file.
    Offset(u64),
}

/// A probe on an executable or library.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// The file; a name without `/` is searched as the loader does.
    pub file: PathBuf,
    /// Where in it.
    pub place: Place,
    /// At the entry or the return.
    pub end: End,
    /// Only this process.
    pub pid: Option<u32>,
}

/// Folders of libraries, after those of `LD_LIBRARY_PATH`.
const LIBRARY_FOLDERS: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/lib64",
    "/usr/lib",
    "/lib",
];

/// The file a name without `/` means: a library in the loader's folders, a program in `PATH`.
fn find(name: &Path) -> PathBuf {
    if name.components().count() > 1 || name.is_absolute() {
        return name.to_owned();
    }
    let variable = if name.to_string_lossy().contains(".so") {
        "LD_LIBRARY_PATH"
    } else {
        "PATH"
    };
    let listed = std::env::var_os(variable).unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&listed).collect();
    folders.extend(LIBRARY_FOLDERS.iter().map(PathBuf::from));
    folders
        .iter()
        .map(|f| f.join(name))
        .find(|p| p.is_file())
        .unwrap_or_else(|| name.to_owned())
}

fn wrong(file: &Path, detail: String) -> Error {
    Error {
        errno: Errno::ENOENT,
        what: format!("uprobe in \"{}\"", file.display()),
        detail,
        log: String::new(),
    }
}

/// The file offset of a symbol.
///
/// # Errors
/// `ENOENT` if the file is not ELF or has no such function.
fn symbol_offset(file: &Path, symbol: &str) -> Result<u64> {
    let bytes =
        std::fs::read(file).map_err(|e| refused(&format!("read of \"{}\"", file.display()), &e))?;
    let elf = object::File::parse(bytes.as_slice()).map_err(|e| wrong(file, e.to_string()))?;
    let named = |s: &object::Symbol<'_, '_>| s.is_definition() && s.name() == Ok(symbol);
    let found = elf
        .symbols()
        .find(named)
        .or_else(|| elf.dynamic_symbols().find(named));
    let address = found
        .ok_or_else(|| wrong(file, format!("no function \"{symbol}\"")))?
        .address();
    for segment in elf.segments() {
        let (offset, size) = segment.file_range();
        if let Some(into) = address.checked_sub(segment.address())
            && into < size
        {
            return Ok(offset + into);
        }
    }
    Err(wrong(
        file,
        format!("function \"{symbol}\" is in no segment"),
    ))
}

/// Attaches to a place in an executable.
pub(super) fn attach(backend: &Arc<dyn Backend>, prog: Handle, probe: &Probe) -> Result<Link> {
    let file = find(&probe.file);
    let offset = match &probe.place {
        Place::Symbol(symbol, into) => symbol_offset(&file, symbol)?.wrapping_add(*into),
        Place::Offset(offset) => *offset,
    };
    let what = format!(
        "perf_event_open of uprobe \"{}\"+{offset:#x}",
        file.display()
    );
    let path = skep_sys::bpf::path_text(&file).map_err(|e| refused(&what, &e))?;
    let scope = Scope::of_process(probe.pid);
    let event = skep_sys::perf::uprobe(&path, offset, 0, probe.end, scope)
        .map_err(|e| refused(&what, &e))?;
    perf::link(backend, prog, event, 0)
}

/// Attaches to several functions of one file with one link.
pub(super) fn attach_multi(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    file: &Path,
    symbols: &[String],
    end: End,
    pid: Option<u32>,
) -> Result<Link> {
    let path = find(file);
    let offsets = symbols
        .iter()
        .map(|s| symbol_offset(&path, s))
        .collect::<Result<Vec<u64>>>()?;
    let target = LinkTarget::UprobeMulti {
        path,
        offsets,
        cookies: Vec::new(),
        pid: pid.unwrap_or(0),
        ret: end == End::Return,
    };
    Link::of(
        backend,
        &LinkCreate {
            prog,
            attach_type: AttachType::TraceUprobeMulti,
            target,
            flags: 0,
        },
        None,
    )
}
