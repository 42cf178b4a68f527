//! What stands for the kernel's structures about tasks.
//!
//! Programs read `struct task_struct`, and what it points to, at the offsets of a kernel's BTF. [`layout`] lists the fields that
//! a process can tell: their values are written at these offsets into memory of the worker. Nothing else of the structures
//! can be read: a program with a load of another field is refused before it runs ([`is_known`]), and a probe read of it fails
//! ([`Tasks::readable_until`]).
//!
//! A task has one image a run, at one address, however often and in whatever way a program finds it; so have control groups and
//! mappings. Images stay until the run ends ([`Tasks::begin_run`]), whether the program holds a reference or a
//! pointer under RCU, so that taking and giving back references is nothing. No pointer to one outlives the run but as a number:
//! kptrs of these types are refused ([`crate::compat`]).
//!
//! A task is looked at anew whenever a program finds it by a lookup or iterator; the running one, and those that others
//! point to, once a run, the ancestors of the running one when its parent is another.

mod groups;
mod iter;
mod layout;

pub use groups::Group;
pub(crate) use iter::Iter;
pub use layout::TaskLayout;
pub(crate) use layout::is_known;

use layout::{CRED, GROUP, MEMORY, NODE, Shape, Source};
use skep_maps::Runner;
use skep_sys::status::{self, Status};
use skep_sys::vmas::Vma;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Images that programs may ask for in one run: then no more are found. What tasks point to comes on top.
const IMAGES_MAX: usize = 1 << 14;
/// Images beyond which tasks that others point to are not looked at: the kernel's own task takes their place.
const LINKED_MAX: usize = 2 * IMAGES_MAX;
/// Images that are kept from run to run, if the running thread is all that programs ask for.
const KEPT_MAX: usize = 64;
/// Bytes of a set of CPUs that this backend keeps.
pub(crate) const CPUMASK_BYTES: u64 = 32;
/// `EXIT_ZOMBIE`
const EXIT_ZOMBIE: u64 = 0x20;
/// Token of the kernel's own task, which is no thread's.
const IDLE_TOKEN: u32 = skep_sys::task::make_token(0, 1);
/// `PF_IDLE | PF_KTHREAD | PF_NO_SETAFFINITY`
const IDLE_FLAGS: u32 = 0x0420_0002;

/// What an image shows.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Shown {
    Task(Status),
    Group(Group),
    Vma(Vma),
}

/// Memory that stands for a structure, and for those in its neighbourhood.
#[derive(Debug)]
struct Image {
    memory: Box<[u64]>,
    shown: Shown,
}

impl Image {
    fn new(shape: &Shape, shown: Shown) -> Self {
        let memory = vec![0; shape.bytes.div_ceil(size_of::<u64>()).max(1)].into_boxed_slice();
        Self { memory, shown }
    }

    fn address(&self) -> u64 {
        self.memory.as_ptr() as u64
    }

    /// Writes the known fields: of a value as many bytes as a field has.
    fn write(&mut self, shape: &Shape, value: impl Fn(Source) -> Value) {
        for (bytes, source) in &shape.fields {
            let value = value(*source);
            self.put(bytes.start, &value[..value.len().min(bytes.len())]);
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        // SAFETY: words are bytes, and any bytes are words.
        let (_, memory, _) = unsafe { self.memory.align_to_mut::<u8>() };
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// What a field holds, from its first byte on.
type Value = [u8; status::NAME_BYTES];

fn number(value: impl Into<u64>) -> Value {
    let mut bytes = Value::default();
    bytes[..size_of::<u64>()].copy_from_slice(&value.into().to_ne_bytes());
    bytes
}

/// The tasks that a worker's programs found, and what else they found through them.
#[derive(Debug, Default)]
pub struct Tasks {
    layout: Arc<TaskLayout>,
    /// By their address.
    images: BTreeMap<u64, Image>,
    /// Addresses of tasks, by token.
    tasks: HashMap<u32, u64>,
    /// Those that were looked at, by thread id.
    seen: HashMap<u32, u64>,
    /// Parents, by the token of the child: the process, and which of its threads.
    parents: HashMap<u32, (u32, u32)>,
    /// Addresses of groups, by id.
    groups: HashMap<u64, u64>,
    /// Addresses of mappings, with the process.
    vmas: HashMap<(u32, Vma), u64>,
    /// Iterators of the run; programs hold their places. Each takes room of a program's stack, which bounds their number.
    iterators: Vec<Option<Iter>>,
    hierarchy: Option<skep_sys::cgroup::Hierarchy>,
    /// The images of tasks say which groups they are in.
    has_groups: bool,
    /// Token and address of the running thread, once it was looked at.
    current: Option<(u32, u64)>,
    /// More than the running thread was asked for.
    has_more: bool,
}

impl Tasks {
    /// Tasks as `layout` says; without one nothing of them can be read.
    #[must_use]
    pub fn new(layout: Option<Arc<TaskLayout>>) -> Self {
        Self {
            layout: layout.unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Ends what the run before this one found. Every run begins here: most found nothing.
    #[inline]
    pub fn begin_run(&mut self) {
        if self.current.is_some() || self.has_more {
            self.end_run();
        }
    }

    #[cold]
    fn end_run(&mut self) {
        self.current = None;
        if self.has_more || self.images.len() > KEPT_MAX {
            self.forget();
        }
    }

    fn forget(&mut self) {
        *self = Self {
            layout: Arc::clone(&self.layout),
            hierarchy: self.hierarchy.take(),
            has_groups: self.has_groups,
            ..Self::default()
        };
    }

    /// True if a program may find more.
    fn has_room(&mut self) -> bool {
        self.has_more = true;
        self.images.len() < IMAGES_MAX
    }

    /// From when on a program loads the groups of tasks, these are looked up with each task, once more with those that are known.
    fn heed_wants(&mut self) {
        if !self.has_groups && self.layout.wants_groups() {
            self.has_groups = true;
            self.current = None;
            self.seen.clear();
        }
    }

    /// The address of the running thread, which is looked at once a run.
    pub(crate) fn current(&mut self, runner: Runner) -> u64 {
        self.heed_wants();
        match self.current {
            Some((token, at)) if token == runner.token => at,
            _ => {
                let at = self.look_at_current(runner);
                self.current = Some((runner.token, at));
                at
            }
        }
    }

    fn look_at_current(&mut self, runner: Runner) -> u64 {
        // Who runs is who leased the CPU, whatever /proc shows.
        let known = |status: Status| Status {
            token: runner.token,
            ..status
        };
        if self.layout.task.is_opaque() {
            return self.room(known(Status::default()));
        }
        let own = known(status::own().unwrap_or_default());
        let leader = match own.thread == own.process {
            true => own,
            false => status::of(own.process).unwrap_or(own),
        };
        let before = self.seen.get(&leader.thread).copied();
        let before = before.and_then(|at| self.status(at));
        if before.is_none_or(|b| b.parent != leader.parent) {
            self.seen.clear();
        }
        if leader.thread != own.thread {
            self.bring(leader);
        }
        self.bring(own)
    }

    /// The address of the thread with this id (of the kernel's own task for 0); `None` if there is none.
    pub(crate) fn thread(&mut self, id: u32) -> Option<u64> {
        self.heed_wants();
        let status = look(id)?;
        if !self.tasks.contains_key(&status.token) && !self.has_room() {
            return None;
        }
        self.has_more = true;
        Some(self.bring(status))
    }

    /// Brings the image of a task up to date, and makes those of the tasks that it points to.
    fn bring(&mut self, task: Status) -> u64 {
        let at = self.room(task);
        let mut unwritten = vec![task];
        while let Some(status) = unwritten.pop() {
            let parent = self.parent(&status);
            for other in [status.process, parent] {
                let is_wanted = !self.seen.contains_key(&other) && self.images.len() < LINKED_MAX;
                if let Some(found) = is_wanted.then(|| look(other)).flatten() {
                    self.room(found);
                    unwritten.push(found);
                }
            }
            self.write_task(&status);
        }
        at
    }

    /// Thread id of the parent of a task.
    fn parent(&mut self, status: &Status) -> u32 {
        let known = self.parents.get(&status.token);
        if let Some((_, thread)) = known.filter(|known| known.0 == status.parent) {
            return *thread;
        }
        let thread = skep_sys::task::parent_thread(status.process, status.parent);
        self.parents.insert(status.token, (status.parent, thread));
        thread
    }

    /// The place of a task.
    fn room(&mut self, status: Status) -> u64 {
        let shown = Shown::Task(status);
        let at = match self.tasks.get(&status.token) {
            Some(at) => *at,
            None => self.add(shown.clone()),
        };
        if let Some(image) = self.images.get_mut(&at) {
            image.shown = shown;
        }
        self.tasks.insert(status.token, at);
        self.seen.insert(status.thread, at);
        at
    }

    /// Makes an image; its address.
    fn add(&mut self, shown: Shown) -> u64 {
        let image = Image::new(self.layout.shape(&shown), shown);
        let at = image.address();
        self.images.insert(at, image);
        at
    }

    fn write_task(&mut self, status: &Status) {
        let layout = Arc::clone(&self.layout);
        let shape = &layout.task;
        // A task that went meanwhile left its children to another.
        let of = |seen: &HashMap<u32, u64>, id: u32| seen.get(&id).or(seen.get(&0)).copied();
        let parent = self.parent(status);
        let [leader, parent] =
            [status.process, parent].map(|id| of(&self.seen, id).unwrap_or_default());
        let group_set = match self.has_groups {
            true => self.group_of(status.thread).unwrap_or_default(),
            false => 0,
        };
        let Some(at) = self.seen.get(&status.thread).copied() else {
            return;
        };
        let value = |source| match source {
            Source::Thread => number(status.thread),
            Source::Process => number(status.process),
            Source::Name => status.name,
            Source::Flags => number(status.flags),
            Source::ExitState if status.is_zombie => number(EXIT_ZOMBIE),
            Source::Leader => number(leader),
            Source::Parent => number(parent),
            Source::Memory if status.has_memory => number(leader + shape.start(MEMORY)),
            Source::Credentials => number(at + shape.start(CRED)),
            Source::GroupSet => number(group_set),
            Source::User(n) => number(status.users[n]),
            Source::UserGroup(n) => number(status.groups[n]),
            _ => number(0u32),
        };
        if let Some(image) = self.images.get_mut(&at) {
            image.write(shape, value);
        }
    }

    /// The address of a mapping of a task.
    fn vma(&mut self, process: u32, vma: Vma) -> Option<u64> {
        if let Some(at) = self.vmas.get(&(process, vma)) {
            return Some(*at);
        }
        if !self.has_room() {
            return None;
        }
        let at = self.add(Shown::Vma(vma));
        self.vmas.insert((process, vma), at);
        let layout = Arc::clone(&self.layout);
        let value = |source| match source {
            Source::VmaStart => number(vma.start),
            Source::VmaEnd => number(vma.end),
            _ => number(0u32),
        };
        if let Some(image) = self.images.get_mut(&at) {
            image.write(&layout.vma, value);
        }
        Some(at)
    }

    /// The mapping of the task at `task` that `address` lies in.
    pub(crate) fn find_vma(&mut self, task: u64, address: u64) -> Option<u64> {
        let status = self.status(task)?;
        let all = skep_sys::vmas::of(status.thread).ok()?;
        let vma = all.into_iter().find(|v| address < v.end)?;
        if address < vma.start {
            return None;
        }
        self.vma(status.process, vma)
    }

    /// Where reading from `at` on has to end: nowhere outside of images, behind the field inside; `None` if there is
    /// nothing to read.
    pub(crate) fn readable_until(&mut self, at: u64) -> Option<u64> {
        let Some((&start, image)) = self.images.range(..=at).next_back() else {
            return Some(u64::MAX);
        };
        let layout = Arc::clone(&self.layout);
        let shape = layout.shape(&image.shown);
        let offset = (at - start) as usize;
        if offset >= shape.bytes {
            return Some(u64::MAX);
        }
        if shape.text().contains(&offset) {
            return Some(start + shape.text().end as u64);
        }
        let (field, source) = shape.fields.iter().find(|(f, _)| f.contains(&offset))?;
        if *source == Source::GroupSet && !self.has_groups {
            self.write_group_set(start, field.start);
        }
        Some(start + field.end as u64)
    }

    /// Writes which groups the task at `task` is in to its field.
    fn write_group_set(&mut self, task: u64, field: usize) {
        let thread = self.status(task).map(|status| status.thread);
        let set = thread.and_then(|thread| self.group_of(thread));
        if let Some(image) = self.images.get_mut(&task) {
            image.put(field, &set.unwrap_or_default().to_ne_bytes());
        }
    }

    /// What is known of the task at `at`.
    pub(crate) fn status(&self, at: u64) -> Option<Status> {
        match self.images.get(&at)?.shown {
            Shown::Task(status) => Some(status),
            _ => None,
        }
    }
}

/// What is known of the thread with this id, of the kernel's own task for 0.
fn look(id: u32) -> Option<Status> {
    if id != 0 {
        return status::of(id);
    }
    let mut idle = Status {
        token: IDLE_TOKEN,
        flags: IDLE_FLAGS,
        ..Status::default()
    };
    idle.name[..9].copy_from_slice(b"swapper/0");
    Some(idle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_sys::task;

    fn runner() -> Runner {
        Runner {
            cpu: 0,
            token: task::token(),
        }
    }

    #[test]
    fn what_a_run_found_ends_with_it() {
        let mut tasks = Tasks::new(None);
        let at = tasks.thread(task::thread_id()).unwrap();
        assert_eq!(tasks.status(at).map(|s| s.thread), Some(task::thread_id()));
        assert_eq!(tasks.thread(task::thread_id()), Some(at));
        let iteration = tasks.iterate(0, 0).unwrap();
        assert!(tasks.next(iteration).is_some());
        tasks.begin_run();
        assert_eq!(tasks.next(iteration), None);
        assert!(tasks.images.is_empty() && tasks.iterators.is_empty());
    }

    #[test]
    fn the_running_thread_stays_where_it_is() {
        let mut tasks = Tasks::new(None);
        let at = tasks.current(runner());
        let images = tasks.images.len();
        tasks.begin_run();
        assert_eq!(tasks.current(runner()), at);
        assert_eq!(tasks.images.len(), images);
        assert_eq!(tasks.thread(task::thread_id()), Some(at));
    }

    #[test]
    fn numbers_that_are_no_iterations_have_no_end() {
        let mut tasks = Tasks::new(None);
        for number in [0, 1, u64::MAX] {
            assert_eq!(tasks.next(number), None);
            tasks.end_iteration(number);
        }
        let first = tasks.iterate(0, 0).unwrap();
        tasks.end_iteration(first);
        assert_eq!(tasks.iterate(0, 1), Ok(first));
        assert_eq!(tasks.iterate(0, 2), Err(skep_abi::Errno::EINVAL));
        assert_eq!(tasks.iterate(0, 3), Err(skep_abi::Errno::EINVAL));
    }

    #[test]
    fn a_run_finds_so_many_and_no_more() {
        let mut tasks = Tasks::new(None);
        let vma = |n: usize| Vma {
            start: n as u64,
            end: n as u64 + 1,
        };
        for n in 0..IMAGES_MAX {
            assert!(tasks.vma(1, vma(n)).is_some());
        }
        assert_eq!(tasks.vma(1, vma(IMAGES_MAX)), None);
        assert_eq!(tasks.thread(task::thread_id()), None);
        let iteration = tasks.iterate(0, 0).unwrap();
        assert_eq!(tasks.next(iteration), None);
        assert!(tasks.vma(1, vma(0)).is_some());
        // Who runs is always known.
        let at = tasks.current(runner());
        assert!(tasks.status(at).is_some());
        tasks.begin_run();
        assert!(tasks.vma(1, vma(IMAGES_MAX)).is_some());
    }
}
