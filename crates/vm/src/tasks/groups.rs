//! Control groups (v2) that programs find: through tasks, by their ids, above others.
//!
//! Groups have the paths and levels that this process sees: those of a cgroup namespace begin at its root. Tasks of one group
//! have one `css_set`.

use super::{GROUP, NODE, Shown, Source, Tasks, Value, number};
use skep_sys::cgroup::{self, Hierarchy};
use std::sync::Arc;

/// A group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its id.
    pub id: u64,
    /// Its path from the root.
    path: String,
}

impl Tasks {
    fn hierarchy(&mut self) -> Option<&Hierarchy> {
        if self.hierarchy.is_none() {
            self.hierarchy = Hierarchy::find();
        }
        self.hierarchy.as_ref()
    }

    /// The image of the group at `path`, which begins with its `css_set`.
    fn group_image(&mut self, path: &str) -> Option<u64> {
        let id = self.hierarchy()?.id(path)?;
        if let Some(at) = self.groups.get(&id) {
            return Some(*at);
        }
        let group = Group {
            id,
            path: path.to_owned(),
        };
        let at = self.add(Shown::Group(group));
        self.groups.insert(id, at);
        self.write_group(at, id, path);
        Some(at)
    }

    fn write_group(&mut self, at: u64, id: u64, path: &str) {
        let layout = Arc::clone(&self.layout);
        let shape = &layout.group;
        let text = shape.text();
        let value = |source| -> Value {
            match source {
                Source::Group => number(at + shape.start(GROUP)),
                Source::Level => number(cgroup::level(path) as u64),
                Source::Node => number(at + shape.start(NODE)),
                Source::GroupId => number(id),
                Source::GroupName => number(at + text.start as u64),
                _ => number(0u32),
            }
        };
        if let Some(image) = self.images.get_mut(&at) {
            image.write(shape, value);
            let name = path.rsplit('/').next().unwrap_or_default().as_bytes();
            // The last byte ends it.
            image.put(
                text.start,
                &name[..name.len().min(text.len().saturating_sub(1))],
            );
        }
    }

    /// The set of groups of a thread.
    pub(super) fn group_of(&mut self, thread: u32) -> Option<u64> {
        self.group_image(&path_of(thread)?)
    }

    /// What is known of the group at `at`.
    pub(crate) fn group(&self, at: u64) -> Option<&Group> {
        let image = at.checked_sub(self.layout.group.start(GROUP))?;
        match &self.images.get(&image)?.shown {
            Shown::Group(group) => Some(group),
            _ => None,
        }
    }

    /// The address of the group at `path`, for programs.
    fn found(&mut self, path: &str) -> Option<u64> {
        if !self.has_room() {
            return None;
        }
        Some(self.group_image(path)? + self.layout.group.start(GROUP))
    }

    /// The address of the group with this id; `None` if there is none.
    pub(crate) fn group_by_id(&mut self, id: u64) -> Option<u64> {
        let known = self.groups.get(&id).copied();
        let known = known.and_then(|at| match &self.images.get(&at)?.shown {
            Shown::Group(group) => Some(group.path.clone()),
            _ => None,
        });
        let hierarchy = self.hierarchy()?;
        let is_there = |path: &String| hierarchy.id(path) == Some(id);
        let path = known.filter(is_there).or_else(|| hierarchy.path(id))?;
        self.found(&path)
    }

    /// The address of the group at `level` above the one at `at`.
    pub(crate) fn group_above(&mut self, at: u64, level: usize) -> Option<u64> {
        let path = self.group(at)?.path.clone();
        self.found(cgroup::ancestor(&path, level)?)
    }

    /// The id of the running thread's group, or of the one at a level above it.
    pub(crate) fn own_group(&mut self, level: Option<usize>) -> Option<u64> {
        let own = cgroup::path_of(None)?;
        let path = match level {
            None => &own,
            Some(level) => cgroup::ancestor(&own, level)?,
        };
        self.hierarchy()?.id(path)
    }

    /// Ids of the groups of the running thread, from the root on.
    pub(crate) fn own_groups(&mut self) -> Vec<u64> {
        let path = cgroup::path_of(None);
        path.map_or_else(Vec::new, |path| self.ids(&path))
    }

    /// Is the task in the group with this id, or below?
    pub(crate) fn is_under(&mut self, task: u64, id: u64) -> bool {
        let path = self.status(task).and_then(|s| path_of(s.thread));
        path.is_some_and(|path| self.ids(&path).contains(&id))
    }

    fn ids(&mut self, path: &str) -> Vec<u64> {
        let Some(hierarchy) = self.hierarchy() else {
            return Vec::new();
        };
        let levels = 0..=cgroup::level(path);
        let above = levels.map(|level| cgroup::ancestor(path, level));
        // What this process cannot see has no id that a program could ask for.
        above
            .map(|path| path.and_then(|p| hierarchy.id(p)).unwrap_or_default())
            .collect()
    }
}

/// Path of a thread's group; the kernel's own task is in the first one.
fn path_of(thread: u32) -> Option<String> {
    match thread {
        0 => Some("/".to_owned()),
        id => cgroup::path_of(Some(id)),
    }
}
