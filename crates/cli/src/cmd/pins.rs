//! Where objects are pinned: paths of mounted bpf filesystems by object.

use skep::Kernel;
use skep_bpf::{Backend, ObjKind};
use std::path::{Path, PathBuf};

/// Folders within each other that are searched.
const DEPTH_MAX: usize = 16;
/// Files that are opened at most.
const FILES_MAX: usize = 65_536;

/// Pinned objects.
#[derive(Default)]
pub(crate) struct Pins(Vec<(ObjKind, u32, String)>);

impl Pins {
    /// Searches every mounted bpf filesystem, if that is wanted.
    pub(crate) fn read(kernel: &Kernel, wanted: bool) -> Self {
        let mut pins = Self::default();
        if !wanted {
            return pins;
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for line in mounts.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            if let [_, place, "bpf", ..] = fields.as_slice() {
                pins.walk(kernel, Path::new(place));
            }
        }
        pins
    }

    fn walk(&mut self, kernel: &Kernel, root: &Path) {
        let mut waiting = vec![(root.to_owned(), DEPTH_MAX)];
        let mut files = 0;
        while let Some((folder, depth)) = waiting.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path: PathBuf = entry.path();
                let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
                if is_folder && depth > 0 {
                    waiting.push((path, depth - 1));
                } else if !is_folder && files < FILES_MAX {
                    files += 1;
                    self.file(kernel, &path);
                }
            }
        }
    }

    fn file(&mut self, kernel: &Kernel, path: &Path) {
        let Ok(handle) = kernel.obj_get(path) else {
            return;
        };
        let found = kernel.identify(handle);
        kernel.close(handle);
        if let Some((kind, id)) = found {
            self.0.push((kind, id, path.display().to_string()));
        }
    }

    /// The paths of an object.
    pub(crate) fn of(&self, kind: ObjKind, id: u32) -> Vec<&str> {
        let same = |(k, i, _): &&(ObjKind, u32, String)| *k == kind && *i == id;
        self.0
            .iter()
            .filter(same)
            .map(|(_, _, path)| path.as_str())
            .collect()
    }
}
