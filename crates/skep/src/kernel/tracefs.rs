//! The tracing filesystem, mounted or not.

use skep_bpf::Errno;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where it is mounted usually.
const PLACES: &[&str] = &["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// The root of a tracefs.
#[derive(Debug)]
pub(crate) struct Tracefs {
    root: PathBuf,
    /// A mount of our own.
    _mount: Option<OwnedFd>,
}

impl Tracefs {
    /// Finds the mounted one, or opens one without a place in the tree.
    pub(crate) fn open() -> io::Result<Self> {
        for place in PLACES {
            match std::fs::metadata(Path::new(place).join("trace_pipe")) {
                Ok(_) => {
                    return Ok(Self {
                        root: place.into(),
                        _mount: None,
                    });
                }
                Err(error) if error.raw_os_error() == Some(Errno::EACCES.0) => return Err(error),
                Err(_) => {}
            }
        }
        let mount = skep_sys::mount::detached(c"tracefs")?;
        let root = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
        Ok(Self {
            root,
            _mount: Some(mount),
        })
    }

    /// A file in it.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// The number of tracepoint `category:name`.
    pub(crate) fn tracepoint_id(&self, category: &str, name: &str) -> io::Result<u64> {
        let file = self.path("events").join(category).join(name).join("id");
        std::fs::read_to_string(file)?
            .trim()
            .parse()
            .map_err(io::Error::other)
    }
}
