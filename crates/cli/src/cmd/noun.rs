//! What the noun commands share: selectors, backends, listing.

use crate::error::CliError;
use crate::output::Output;
use serde_json::Value as Json;
use skep::Kernel;
use skep_bpf::{Backend, BackendKind, BtfInfo, Errno, Handle, ObjKind};
use skep_btf::Btf;
use std::path::{Path, PathBuf};

/// How an object is named: `id N`, `pinned PATH` or `name NAME`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Selector {
    /// By number.
    Id(u32),
    /// By place in a bpf filesystem.
    Pinned(PathBuf),
    /// By name; must be unique where one object is meant.
    Name(String),
}

impl Selector {
    /// Reads the words of a command line; `None` for none.
    ///
    /// # Errors
    /// A usage error for anything else.
    pub(crate) fn parse(words: &[String]) -> Result<Option<Self>, CliError> {
        match words {
            [] => Ok(None),
            [kind, value] => match kind.as_str() {
                "id" => {
                    let id = value
                        .parse()
                        .map_err(|_| CliError::usage(format!("\"{value}\" is not an id")))?;
                    Ok(Some(Self::Id(id)))
                }
                "pinned" => Ok(Some(Self::Pinned(value.into()))),
                "name" => Ok(Some(Self::Name(value.clone()))),
                _ => Err(CliError::usage(format!(
                    "\"{kind}\" is not one of id, pinned, name"
                ))),
            },
            _ => Err(CliError::usage(
                "an object is named by: id N | pinned PATH | name NAME",
            )),
        }
    }
}

/// Whose an object is; every row says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// The kernel's.
    Kernel,
    /// The user backend's of a process.
    Process(u32),
    /// The user backend's, pinned: of no process.
    File,
}

impl Owner {
    fn backend(self) -> BackendKind {
        match self {
            Self::Kernel => BackendKind::Kernel,
            Self::Process(_) | Self::File => BackendKind::User,
        }
    }

    /// Says it in a row.
    pub(crate) fn enter(self, row: &mut Json) {
        row["backend"] = Json::from(self.backend().to_string());
        if let Self::Process(pid) = self {
            row["pid"] = Json::from(pid);
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "backend {}", self.backend())?;
        match self {
            Self::Process(pid) => write!(f, "  pid {pid}"),
            Self::Kernel | Self::File => Ok(()),
        }
    }
}

/// Does the selector mean an object of this name? One that selects by something else is asked elsewhere.
pub(crate) fn has_name(selector: Option<&Selector>, name: &str) -> bool {
    match selector {
        Some(Selector::Name(wanted)) => wanted == name,
        _ => true,
    }
}

/// What was found; where `others` are to be listed, a kernel that answers nothing is no failure, but is told.
///
/// # Errors
/// The failure, where nothing else is to be listed.
pub(crate) fn or_nothing<'a>(
    found: Result<Vec<Opened<'a>>, CliError>,
    others: bool,
) -> Result<Vec<Opened<'a>>, CliError> {
    match found {
        Err(error) if others => {
            eprintln!("skep: {error}");
            Ok(Vec::new())
        }
        found => found,
    }
}

/// An open object that is closed with the command.
pub(crate) struct Opened<'a> {
    backend: &'a dyn Backend,
    /// The open object.
    pub(crate) handle: Handle,
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.backend.close(self.handle);
    }
}

/// The kernel, for commands on its objects.
pub(crate) fn kernel() -> Kernel {
    Kernel::new()
}

/// Every object of a kind that the selector means; all without one.
///
/// # Errors
/// What the backend says; objects that vanish meanwhile are left out.
pub(crate) fn select<'a>(
    backend: &'a dyn Backend,
    kind: ObjKind,
    selector: Option<&Selector>,
) -> Result<Vec<Opened<'a>>, CliError> {
    let opened = |handle| Opened { backend, handle };
    match selector {
        Some(Selector::Id(id)) => Ok(vec![opened(
            backend.by_id(kind, *id).map_err(CliError::environment)?,
        )]),
        Some(Selector::Pinned(path)) => Ok(vec![opened(
            backend.obj_get(path).map_err(CliError::environment)?,
        )]),
        Some(Selector::Name(name)) => {
            let mut found = all(backend, kind)?;
            found.retain(|o| name_of(backend, kind, o.handle).as_ref() == Some(name));
            if found.is_empty() {
                return Err(CliError::environment(format!(
                    "there is no {} named \"{name}\"",
                    word(kind)
                )));
            }
            Ok(found)
        }
        None => all(backend, kind),
    }
}

/// The one object that the selector means.
///
/// # Errors
/// As [`select`], and if several have the name.
pub(crate) fn select_one<'a>(
    backend: &'a dyn Backend,
    kind: ObjKind,
    selector: &Selector,
) -> Result<Opened<'a>, CliError> {
    let mut found = select(backend, kind, Some(selector))?;
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(CliError::usage(format!(
            "several {}s have that name; use their id",
            word(kind)
        ))),
    }
}

fn word(kind: ObjKind) -> &'static str {
    match kind {
        ObjKind::Map => "map",
        ObjKind::Prog => "program",
        ObjKind::Link => "link",
        ObjKind::Btf => "BTF object",
    }
}

fn all(backend: &dyn Backend, kind: ObjKind) -> Result<Vec<Opened<'_>>, CliError> {
    let mut found = Vec::new();
    let mut id = 0;
    while let Some(next) = backend.next_id(kind, id).map_err(CliError::environment)? {
        id = next;
        match backend.by_id(kind, id) {
            Ok(handle) => found.push(Opened { backend, handle }),
            Err(error) if error.errno == Errno::ENOENT => {} // gone meanwhile
            Err(error) => return Err(CliError::environment(error)),
        }
    }
    Ok(found)
}

fn name_of(backend: &dyn Backend, kind: ObjKind, handle: Handle) -> Option<String> {
    match kind {
        ObjKind::Map => backend.map_info(handle).ok().map(|i| i.name),
        ObjKind::Prog => backend.prog_info(handle).ok().map(|i| i.name),
        ObjKind::Btf => backend.btf_info(handle).ok().map(|i| i.name),
        ObjKind::Link => None,
    }
}

/// The BTF object with an id, parsed; `None` for id 0 or if it cannot be had. That of a module builds on the kernel's.
pub(crate) fn btf(backend: &dyn Backend, id: u32) -> Option<Btf> {
    if id == 0 {
        return None;
    }
    let handle = backend.by_id(ObjKind::Btf, id).ok()?;
    let info: Result<BtfInfo, _> = backend.btf_info(handle);
    backend.close(handle);
    let info = info.ok()?;
    if info.kernel_btf && info.name != "vmlinux" {
        return Btf::parse_split(info.data, &skep::target::running_btf().ok()?).ok();
    }
    Btf::parse(info.data).ok()
}

/// Makes the folder of a pin, so that the message of a failure is about the pin.
pub(crate) fn pin(backend: &dyn Backend, object: Handle, path: &Path) -> Result<(), CliError> {
    backend.obj_pin(object, path).map_err(CliError::environment)
}

/// Prints the rows of a listing as bpftool does: one object where it was named exactly, a list otherwise.
pub(crate) fn print_rows(
    selector: Option<&Selector>,
    mut rows: Vec<Json>,
    out: &mut Output,
) -> Result<(), CliError> {
    let single = matches!(selector, Some(Selector::Id(_) | Selector::Pinned(_)));
    match (single, rows.pop()) {
        (true, Some(row)) => out.json(&row),
        (_, last) => out.json(&rows.into_iter().chain(last).collect::<Json>()),
    }
}
