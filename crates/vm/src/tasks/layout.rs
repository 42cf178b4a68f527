//! Which fields of the kernel's structures are known, and where they lie.

use super::{CPUMASK_BYTES, Shown};
use skep_btf::{Btf, Kind, Type};
use skep_verifier::{InsnFact, Region, Verified};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that stand for a task where no BTF says how long one is: more than any kernel's.
const OPAQUE_BYTES: usize = 1 << 16;
/// Depth of anonymous members inside each other.
const NESTING_MAX: u32 = 8;
/// Bytes behind a task that its memory's address points to.
const MEMORY_BYTES: usize = 64;
/// Bytes of a group's name, its end included (`NAME_MAX`).
const GROUP_NAME_BYTES: usize = 256;

/// Where a field's value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    Thread,
    Process,
    Name,
    Flags,
    ExitState,
    /// Pointer to the first thread of the process.
    Leader,
    /// Pointer to the parent.
    Parent,
    /// Pointer to the memory; NULL if it has none.
    Memory,
    /// Pointer to the credentials.
    Credentials,
    /// Pointer to the set of groups that it is in.
    GroupSet,
    /// Real, effective, saved or file system user.
    User(usize),
    /// The same of groups.
    UserGroup(usize),
    /// Pointer to the group of the v2 hierarchy.
    Group,
    Level,
    /// Pointer to the node in the file system of groups.
    Node,
    GroupId,
    /// Pointer to the name.
    GroupName,
    VmaStart,
    VmaEnd,
}

const TASK: &str = "task_struct";
pub(super) const CRED: &str = "cred";
/// What an address in a task's `mm` points to: nothing of it is known.
pub(super) const MEMORY: &str = "mm_struct";
const GROUP_SET: &str = "css_set";
pub(super) const GROUP: &str = "cgroup";
pub(super) const NODE: &str = "kernfs_node";
const VMA: &str = "vm_area_struct";

/// The fields that are known.
#[rustfmt::skip] // one field per line
const FIELDS: &[(&str, &str, Source)] = &[
    (TASK, "pid",          Source::Thread),
    (TASK, "tgid",         Source::Process),
    (TASK, "comm",         Source::Name),
    (TASK, "flags",        Source::Flags),
    (TASK, "exit_state",   Source::ExitState),
    (TASK, "group_leader", Source::Leader),
    (TASK, "real_parent",  Source::Parent),
    (TASK, "mm",           Source::Memory),
    (TASK, "cred",         Source::Credentials),
    (TASK, "real_cred",    Source::Credentials),
    (TASK, "cgroups",      Source::GroupSet),
    (CRED, "uid",          Source::User(0)),
    (CRED, "euid",         Source::User(1)),
    (CRED, "suid",         Source::User(2)),
    (CRED, "fsuid",        Source::User(3)),
    (CRED, "gid",          Source::UserGroup(0)),
    (CRED, "egid",         Source::UserGroup(1)),
    (CRED, "sgid",         Source::UserGroup(2)),
    (CRED, "fsgid",        Source::UserGroup(3)),
    (GROUP_SET, "dfl_cgrp", Source::Group),
    (GROUP, "level",       Source::Level),
    (GROUP, "kn",          Source::Node),
    (NODE, "id",           Source::GroupId),
    (NODE, "name",         Source::GroupName),
    (VMA, "vm_start",      Source::VmaStart),
    (VMA, "vm_end",        Source::VmaEnd),
];

/// Bytes of member `name` of a structure, looked for in anonymous members too.
fn member(t: Type<'_>, name: &str, depth: u32) -> Option<Range<usize>> {
    if depth > NESTING_MAX {
        return None;
    }
    t.members().find_map(|m| {
        let start = m.bit_offset as usize / 8;
        if m.name == name {
            let bytes = t.btf().size_of(m.type_id).ok()? as usize;
            return Some(start..start + bytes);
        }
        if !m.name.is_empty() {
            return None;
        }
        let inner = member(t.btf().resolve(m.type_id)?, name, depth + 1)?;
        Some(start + inner.start..start + inner.end)
    })
}

/// The known fields of `structure`, with their bytes.
fn fields<'a>(
    btf: &'a Btf,
    structure: &'a str,
) -> impl Iterator<Item = (Range<usize>, Source)> + 'a {
    let of = FIELDS.iter().filter(move |(owner, ..)| *owner == structure);
    of.filter_map(move |(_, name, source)| {
        let bytes = member(btf.find(structure, Kind::Struct)?, name, 0)?;
        Some((bytes, *source))
    })
}

/// Does this backend have what lies `size` bytes from `offset` on in a structure of `btf`?
pub(crate) fn is_known(btf: &Btf, type_id: u32, offset: i64, size: u64) -> bool {
    let Ok(start) = usize::try_from(offset) else {
        return false;
    };
    let end = start as u64 + size;
    match btf.resolve(type_id).map_or("", |t| t.name()) {
        "cpumask" | "bpf_cpumask" => end <= CPUMASK_BYTES,
        name => fields(btf, name).any(|(f, _)| f.start <= start && end <= f.end as u64),
    }
}

/// Does an instruction load where a task's control groups are?
fn loads_groups(btf: &Btf, fact: &InsnFact) -> bool {
    let Some(access) = fact.access.filter(|_| fact.reached && !fact.unused) else {
        return false;
    };
    let offset = access.offset.and_then(|o| usize::try_from(o).ok());
    let (Region::Btf { type_id }, Some(offset)) = (access.region, offset) else {
        return false;
    };
    let is_task = btf.resolve(type_id).is_some_and(|t| t.name() == TASK);
    let is_set =
        |(f, source): (Range<usize>, Source)| source == Source::GroupSet && f.contains(&offset);
    is_task && fields(btf, TASK).any(is_set)
}

/// Structures that lie one behind the other, and their known fields.
#[derive(Debug, Default)]
pub(super) struct Shape {
    pub(super) bytes: usize,
    pub(super) fields: Vec<(Range<usize>, Source)>,
    starts: Vec<(&'static str, usize)>,
    /// Where text of programs' interest begins, up to the end.
    text: Option<usize>,
}

impl Shape {
    /// Of these structures; `None` if one of them is unknown.
    fn of(btf: &Btf, structures: &[&'static str]) -> Option<Self> {
        let mut shape = Self::default();
        for structure in structures {
            let id = btf.find(structure, Kind::Struct)?.id();
            let start = shape.bytes;
            shape.starts.push((structure, start));
            let all = fields(btf, structure);
            let moved = all.map(|(f, source)| (f.start + start..f.end + start, source));
            shape.fields.extend(moved);
            let bytes = btf.size_of(id).ok()? as usize;
            shape.bytes += bytes.next_multiple_of(align_of::<u64>());
        }
        Some(shape)
    }

    /// With `bytes` behind it that nothing is known of.
    fn and_unknown(mut self, name: &'static str, bytes: usize) -> Self {
        self.starts.push((name, self.bytes));
        self.bytes += bytes;
        self
    }

    /// With a text of at most `bytes` behind it.
    fn and_text(mut self, bytes: usize) -> Self {
        self.text = Some(self.bytes);
        self.bytes += bytes;
        self
    }

    /// Where its text lies.
    pub(super) fn text(&self) -> Range<usize> {
        self.text.unwrap_or(self.bytes)..self.bytes
    }

    /// Nothing of it can be read.
    pub(super) fn is_opaque(&self) -> bool {
        self.fields.is_empty()
    }

    /// Where a structure begins.
    pub(super) fn start(&self, structure: &str) -> u64 {
        let found = self.starts.iter().find(|(name, _)| *name == structure);
        found.map_or(0, |(_, at)| *at as u64)
    }
}

/// Where the known fields of tasks, and of what they point to, lie.
#[derive(Debug)]
pub struct TaskLayout {
    pub(super) task: Shape,
    pub(super) group: Shape,
    pub(super) vma: Shape,
    wants_groups: AtomicBool,
}

impl Default for TaskLayout {
    /// Nothing is known.
    fn default() -> Self {
        let task = Shape {
            bytes: OPAQUE_BYTES,
            ..Shape::default()
        };
        Self {
            task,
            group: Shape::default(),
            vma: Shape::default(),
            wants_groups: AtomicBool::new(false),
        }
    }
}

impl TaskLayout {
    /// As the kernel of this BTF has them; `None` if it does not say.
    #[must_use]
    pub fn of(btf: &Btf) -> Option<Self> {
        Some(Self {
            task: Shape::of(btf, &[TASK, CRED])?.and_unknown(MEMORY, MEMORY_BYTES),
            group: Shape::of(btf, &[GROUP_SET, GROUP, NODE])
                .unwrap_or_default()
                .and_text(GROUP_NAME_BYTES),
            vma: Shape::of(btf, &[VMA]).unwrap_or_default(),
            wants_groups: AtomicBool::new(false),
        })
    }

    /// Remembers what a program that is about to run with this layout loads. `btf` is what it was verified with.
    pub fn note(&self, verified: &Verified, btf: &Btf) {
        if verified.facts().iter().any(|fact| loads_groups(btf, fact)) {
            self.wants_groups.store(true, Ordering::Release);
        }
    }

    /// Some program loads the control groups of tasks: they have to be there before. Else they are looked up when they are
    /// read by a helper.
    pub(super) fn wants_groups(&self) -> bool {
        self.wants_groups.load(Ordering::Acquire)
    }

    pub(super) fn shape(&self, shown: &Shown) -> &Shape {
        match shown {
            Shown::Task(_) => &self.task,
            Shown::Group(_) => &self.group,
            Shown::Vma(_) => &self.vma,
        }
    }
}
