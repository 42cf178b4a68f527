//! What stands for the kernel's structures about tasks.
//!
//! Programs read `struct task_struct`, and what it points to, at the offsets of a kernel's BTF. [`FIELDS`] lists the fields that
//! a process can tell: their values are written at these offsets into memory of the worker, for the running thread, the
//! first thread of its process and its ancestors. Nothing else of the structures can be read: a program with a load of
//! another field is refused before it runs ([`is_known`]), and a probe read of it fails ([`Tasks::readable_until`]).
//!
//! The memory stays where it is as long as the worker lives. The running thread is looked at anew with each call of
//! `bpf_get_current_task`, its ancestors when its parent is another one.

use skep_btf::{Btf, Kind, Type};
use skep_maps::Runner;
use skep_sys::status::{self, Status};
use std::ops::Range;
use std::sync::Arc;

/// Tasks that a worker has room for: more ancestors are left out.
const TASKS_MAX: usize = 48;
/// Bytes that stand for a task where no BTF says how long one is: more than any kernel's.
const OPAQUE_BYTES: usize = 1 << 16;
/// Depth of anonymous members inside each other.
const NESTING_MAX: u32 = 8;
/// Bytes of a set of CPUs that this backend keeps.
pub(crate) const CPUMASK_BYTES: u64 = 32;

/// Where a field's value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Thread,
    Process,
    Name,
    /// Pointer to the first thread of the process.
    Leader,
    /// Pointer to the parent.
    Parent,
    /// Pointer to the credentials.
    Credentials,
    /// Real, effective, saved or file system user.
    User(usize),
    /// The same of groups.
    Group(usize),
}

const TASK: &str = "task_struct";
const CRED: &str = "cred";

/// The fields that are known.
#[rustfmt::skip] // one field per line
const FIELDS: &[(&str, &str, Source)] = &[
    (TASK, "pid",          Source::Thread),
    (TASK, "tgid",         Source::Process),
    (TASK, "comm",         Source::Name),
    (TASK, "group_leader", Source::Leader),
    (TASK, "real_parent",  Source::Parent),
    (TASK, "cred",         Source::Credentials),
    (TASK, "real_cred",    Source::Credentials),
    (CRED, "uid",          Source::User(0)),
    (CRED, "euid",         Source::User(1)),
    (CRED, "suid",         Source::User(2)),
    (CRED, "fsuid",        Source::User(3)),
    (CRED, "gid",          Source::Group(0)),
    (CRED, "egid",         Source::Group(1)),
    (CRED, "sgid",         Source::Group(2)),
    (CRED, "fsgid",        Source::Group(3)),
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

/// Where the known fields of tasks lie.
#[derive(Debug)]
pub struct TaskLayout {
    task_bytes: usize,
    /// Of a task and its credentials together.
    stride: usize,
    /// Fields of tasks, and of credentials at `task_bytes` and more.
    fields: Vec<(Range<usize>, Source)>,
}

impl TaskLayout {
    /// As the kernel of this BTF has them; `None` if it does not say.
    #[must_use]
    pub fn of(btf: &Btf) -> Option<Self> {
        let size = |name| {
            let id = btf.find(name, Kind::Struct)?.id();
            Some((btf.size_of(id).ok()? as usize).next_multiple_of(align_of::<u64>()))
        };
        let task_bytes = size(TASK)?;
        let stride = task_bytes + size(CRED).unwrap_or(0);
        let cred = fields(btf, CRED).map(|(f, s)| (f.start + task_bytes..f.end + task_bytes, s));
        Some(Self {
            task_bytes,
            stride,
            fields: fields(btf, TASK).chain(cred).collect(),
        })
    }
}

/// The tasks that a worker's programs can see.
#[derive(Debug, Default)]
pub struct Tasks {
    layout: Option<Arc<TaskLayout>>,
    /// Room for all tasks, made when the first one is asked for.
    memory: Box<[u8]>,
    /// What is in the memory: the running thread, the first of its process, ancestors from there.
    known: Vec<Status>,
    /// Token of the running thread.
    token: u32,
}

impl Tasks {
    /// Tasks as `layout` says; without one nothing of them can be read.
    #[must_use]
    pub fn new(layout: Option<Arc<TaskLayout>>) -> Self {
        Self {
            layout,
            ..Self::default()
        }
    }

    fn stride(&self) -> usize {
        self.layout.as_ref().map_or(OPAQUE_BYTES, |l| l.stride)
    }

    fn address(&self, number: usize) -> u64 {
        self.memory.as_ptr() as u64 + (number * self.stride()) as u64
    }

    /// The address of the running thread.
    pub(crate) fn current(&mut self, runner: Runner) -> u64 {
        if self.memory.is_empty() {
            let tasks = self.layout.as_ref().map_or(1, |_| TASKS_MAX);
            self.memory = vec![0; tasks * self.stride()].into_boxed_slice();
        }
        self.token = runner.token;
        if self.layout.is_some() {
            self.look();
        }
        self.address(0)
    }

    /// Brings the memory up to date.
    fn look(&mut self) {
        let own = status::own().unwrap_or_default();
        let leader = if own.thread == own.process {
            own
        } else {
            status::of(own.process).unwrap_or(own)
        };
        let same_parent = self.known.get(1).is_some_and(|l| l.parent == leader.parent);
        let ancestors = if same_parent {
            self.known.split_off(2)
        } else {
            ancestors(leader.parent)
        };
        self.known = [vec![own, leader], ancestors].concat();
        for number in 0..self.known.len() {
            self.write(number);
        }
    }

    fn write(&mut self, number: usize) {
        let Some(layout) = self.layout.clone() else {
            return;
        };
        let status = self.known[number];
        let last = self.known.len() - 1;
        let is_leader = status.thread == status.process;
        // The second is a copy of the first one if that is the leader: pointers to both are the same.
        let leader = match number {
            0 if !is_leader => 1,
            other => other,
        };
        let parent = match number {
            0 | 1 => 2.min(last),
            other => (other + 1).min(last),
        };
        let credentials = self.address(number) + layout.task_bytes as u64;
        for (bytes, source) in &layout.fields {
            let word = match source {
                Source::Thread => u64::from(status.thread),
                Source::Process => u64::from(status.process),
                Source::Name => 0,
                Source::Leader => self.address(leader),
                Source::Parent => self.address(parent),
                Source::Credentials => credentials,
                Source::User(n) => u64::from(status.users[*n]),
                Source::Group(n) => u64::from(status.groups[*n]),
            };
            let word = word.to_ne_bytes();
            let value: &[u8] = match source {
                Source::Name => &status.name,
                _ => &word,
            };
            let start = number * layout.stride;
            let to = &mut self.memory[start + bytes.start..start + bytes.end];
            let len = to.len().min(value.len());
            to[..len].copy_from_slice(&value[..len]);
        }
    }

    /// Where reading from `at` on has to end: nowhere outside of these tasks, behind the field inside; `None` if there is
    /// nothing to read.
    pub(crate) fn readable_until(&self, at: u64) -> Option<u64> {
        let start = self.memory.as_ptr() as u64;
        let distance = at.wrapping_sub(start);
        if distance >= self.memory.len() as u64 {
            return Some(u64::MAX);
        }
        let layout = self.layout.as_ref()?;
        let offset = distance as usize % layout.stride;
        let task = at - offset as u64;
        let field = layout.fields.iter().find(|(f, _)| f.contains(&offset))?;
        let is_there = (task - start) as usize / layout.stride < self.known.len();
        is_there.then(|| task + field.0.end as u64)
    }

    /// The token of the task at `at`.
    pub(crate) fn token(&self, at: u64) -> Option<u32> {
        let distance = at.checked_sub(self.memory.as_ptr() as u64)?;
        let (number, rest) = (
            distance as usize / self.stride(),
            distance as usize % self.stride(),
        );
        if rest != 0 || distance as usize >= self.memory.len() {
            return None;
        }
        if number == 0 {
            return Some(self.token);
        }
        let thread = self.known.get(number)?.thread;
        Some(skep_sys::task::token_of(thread))
    }
}

/// The processes above one whose parent is `first`, the kernel's own task last.
fn ancestors(first: u32) -> Vec<Status> {
    let mut found = Vec::new();
    let mut id = first;
    while id != 0 && found.len() < TASKS_MAX - 3 {
        let Some(status) = status::of(id) else { break };
        id = status.parent;
        found.push(status);
    }
    let mut idle = Status::default();
    idle.name[..9].copy_from_slice(b"swapper/0");
    found.push(idle);
    found
}
