//! Control groups of the v2 hierarchy.
//!
//! ```no_run
//! let group = skep::cgroup::Group::create()?; // root; removed when it goes out of scope
//! println!("{} has id {}", group.path().display(), skep::cgroup::id(group.path())?);
//! # Ok::<(), std::io::Error>(())
//! ```

use skep_sys::cgroup::Hierarchy;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The first mount of the v2 hierarchy.
///
/// # Errors
/// If there is none.
pub fn mount_point() -> io::Result<PathBuf> {
    let hierarchy = Hierarchy::find();
    let place = hierarchy.map(|h| h.mount_point().to_owned());
    place.ok_or_else(|| io::Error::other("no cgroup v2 hierarchy is mounted"))
}

/// The id that programs see (`bpf_get_current_cgroup_id`): the number of the folder's inode.
///
/// # Errors
/// If `path` cannot be read.
pub fn id(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.ino())
}

/// A group of our own; dropping it removes it, if nobody is left in it.
///
/// ```no_run
/// # let (kernel, prog): (std::sync::Arc<dyn skep_bpf::Backend>, skep_bpf::Handle) = unreachable!();
/// use skep::attach::{Hook, Order, attach};
///
/// let group = skep::cgroup::Group::create()?; // root
/// let path = group.path().to_owned();
/// let attach_type = skep_abi::AttachType::CgroupInetEgress;
/// let link = attach(&kernel, prog, &Hook::Cgroup { path, attach_type, order: Order::Last })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
}

impl Group {
    /// Makes a group below the mount point, named after this process and its number among the groups that it made.
    ///
    /// # Errors
    /// Those of `mkdir`; usually for want of privileges.
    pub fn create() -> io::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("skep-{}-{number}", std::process::id());
        let path = mount_point()?.join(name);
        fs::create_dir(&path)?;
        Ok(Self { path })
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file that a process enters the group by.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn procs(&self) -> io::Result<fs::File> {
        fs::OpenOptions::new()
            .write(true)
            .open(self.path.join("cgroup.procs"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Processes that a command left behind keep the group; it then stays until they end.
        let _ = fs::remove_dir(&self.path);
    }
}
