//! Control groups of the v2 hierarchy, as this process sees them.
//!
//! A group has a path from the root of this process's cgroup namespace; levels count from there. Its id is the number of the
//! folder's inode.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Groups that a search by id looks at.
const SEARCHED_MAX: usize = 1 << 16;

/// The hierarchy, where it is mounted.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    folder: PathBuf,
    /// Path of the group that is mounted there, without a `/` at its end.
    root: String,
}

impl Hierarchy {
    /// The first mount; `None` if this process sees none.
    #[must_use]
    pub fn find() -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        mounts.lines().find_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let mut fields = place.split(' ').skip(3);
            let (root, folder) = (fields.next()?, fields.next()?);
            kind.starts_with("cgroup2 ").then(|| Self {
                folder: PathBuf::from(folder),
                root: root.trim_end_matches('/').to_owned(),
            })
        })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn mount_point(&self) -> &Path {
        &self.folder
    }

    fn folder_of(&self, path: &str) -> Option<PathBuf> {
        let below = path.strip_prefix(&self.root)?;
        if !(below.is_empty() || below.starts_with('/')) {
            return None;
        }
        Some(self.folder.join(below.trim_start_matches('/')))
    }

    /// Id of the group at `path`; `None` if it is not there.
    #[must_use]
    pub fn id(&self, path: &str) -> Option<u64> {
        Some(std::fs::metadata(self.folder_of(path)?).ok()?.ino())
    }

    /// Path of the group with this id, if it is below the mount.
    #[must_use]
    pub fn path(&self, id: u64) -> Option<String> {
        let mut todo = vec![self.folder.clone()];
        for _ in 0..SEARCHED_MAX {
            let folder = todo.pop()?;
            if std::fs::metadata(&folder).is_ok_and(|m| m.ino() == id) {
                return self.path_of(&folder);
            }
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let folders = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
            todo.extend(folders.map(|e| e.path()));
        }
        None
    }

    fn path_of(&self, folder: &Path) -> Option<String> {
        let below = folder.strip_prefix(&self.folder).ok()?.as_os_str();
        let below = std::str::from_utf8(below.as_bytes()).ok()?;
        let path = format!("{}/{below}", self.root);
        Some(if below.is_empty() && !self.root.is_empty() {
            self.root.clone()
        } else {
            path
        })
    }
}

/// Path of a thread's group, or of the calling one's; `None` if it has none or may not be asked.
#[must_use]
pub fn path_of(thread: Option<u32>) -> Option<String> {
    let file = match thread {
        Some(id) => format!("/proc/{id}/cgroup"),
        None => "/proc/thread-self/cgroup".to_owned(),
    };
    let groups = std::fs::read_to_string(file).ok()?;
    let path = groups.lines().find_map(|l| l.strip_prefix("0::"))?;
    Some(path.to_owned())
}

/// The path of the group at `level` above the one at `path`, itself included; `None` if that lies higher.
#[must_use]
pub fn ancestor(path: &str, level: usize) -> Option<&str> {
    if level == 0 {
        return Some("/");
    }
    let ends = path.match_indices('/').skip(1).map(|(at, _)| at);
    let end = ends.chain([path.len()]).nth(level - 1)?;
    (path.len() > 1).then(|| &path[..end])
}

/// Groups above the one at `path`.
#[must_use]
pub fn level(path: &str) -> usize {
    path.split('/').filter(|name| !name.is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_are_prefixes() {
        let rows: &[(&str, usize, Option<&str>)] = &[
            ("/", 0, Some("/")),
            ("/", 1, None),
            ("/a", 0, Some("/")),
            ("/a", 1, Some("/a")),
            ("/a/b", 1, Some("/a")),
            ("/a/b", 2, Some("/a/b")),
            ("/a/b", 3, None),
        ];
        for (path, at, expected) in rows {
            assert_eq!(ancestor(path, *at), *expected, "{path} {at}");
        }
        assert_eq!(["/", "/a", "/a/b"].map(level), [0, 1, 2]);
    }

    #[test]
    fn the_own_group_is_found_by_its_id() {
        let (Some(groups), Some(path)) = (Hierarchy::find(), path_of(None)) else {
            return;
        };
        let id = groups.id(&path).unwrap();
        assert_eq!(groups.path(id), Some(path.clone()));
        assert_eq!(groups.id("/no such group"), None);
        assert_eq!(path_of(Some(crate::task::thread_id())), Some(path));
    }
}
