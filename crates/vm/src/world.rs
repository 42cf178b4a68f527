//! What helpers need beyond the fixed part of the run environment.

use crate::ctx::SockImage;
use crate::program::Program;
use crate::routes::Routes;
use crate::tasks::{TaskLayout, Tasks};
use skep_abi::Errno;
use skep_maps::{MapHeader, Runner};
use std::sync::Arc;

/// Which clock a timer counts by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// `CLOCK_REALTIME`
    Realtime,
    /// `CLOCK_MONOTONIC`
    Monotonic,
    /// `CLOCK_BOOTTIME`
    Boottime,
}

impl Clock {
    /// The clock with this number, if timers may use it.
    #[must_use]
    pub const fn from_id(id: u64) -> Option<Self> {
        Some(match id {
            0 => Self::Realtime,
            1 => Self::Monotonic,
            7 => Self::Boottime,
            _ => return None,
        })
    }
}

/// What runs a callback later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deferred {
    /// `struct bpf_timer`
    Timer(Clock),
    /// `struct bpf_wq`
    Work,
}

/// When a callback is to run, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// So long after now.
    After(u64),
    /// When the timer's clock shows this.
    At(u64),
}

/// What a universe does for its running programs.
pub trait Host: Send + Sync {
    /// `bpf_trace_printk`: one formatted line.
    fn trace(&self, line: &str);
    /// `num_possible_cpus`
    fn possible_cpus(&self) -> u32;
    /// `bpf_clone_redirect`: sends a copy of a packet.
    ///
    /// # Errors
    /// `EINVAL` if there is no such device.
    fn send_clone(&self, packet: &[u8], ifindex: u32, ingress: bool) -> Result<(), Errno>;

    /// Where the fields of tasks lie, if programs may know.
    fn task_layout(&self) -> Option<Arc<TaskLayout>> {
        None
    }

    /// `bpf_timer_init`, `bpf_wq_init` for the field at address `field` in a value of `map`.
    ///
    /// # Errors
    /// `EBUSY` if that was done, `EPERM` if user space holds the map no more; `EOPNOTSUPP` where nothing runs later.
    fn deferred_init(&self, _what: Deferred, _map: &MapHeader, _field: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// `bpf_timer_set_callback`, `bpf_wq_set_callback`: `func` is a function of `program`.
    ///
    /// # Errors
    /// `EINVAL` before [`Self::deferred_init`], `EPERM` as there.
    fn deferred_set_callback(
        &self,
        _field: u64,
        _program: &Program,
        _func: u64,
    ) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// `bpf_timer_start`, `bpf_wq_start`
    ///
    /// # Errors
    /// `EINVAL` without a callback.
    fn deferred_start(&self, _field: u64, _start: Start) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// `bpf_timer_cancel` by a run as `runner`: was it active? Waits for a callback that runs, forgets the callback.
    ///
    /// # Errors
    /// `EINVAL` before [`Self::deferred_init`], `EDEADLK` from the timer's own callback.
    fn timer_cancel(&self, _field: u64, _runner: Runner) -> Result<bool, Errno> {
        Err(Errno::EINVAL)
    }
}

/// Where a program that returned "redirect" wants its packet to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Redirect {
    /// `bpf_redirect`
    Device {
        /// Device number.
        ifindex: u32,
        /// Flags of the call.
        flags: u64,
    },
    /// `bpf_redirect_peer`
    Peer {
        /// Device number.
        ifindex: u32,
    },
    /// `bpf_redirect_neigh`
    Neighbour {
        /// Device number.
        ifindex: u32,
    },
    /// `bpf_redirect_map`
    Map {
        /// Address of the map's header.
        map: usize,
        /// Key.
        key: u32,
        /// Flags of the call.
        flags: u64,
    },
}

/// Per-worker state of the helpers.
pub struct World {
    /// The universe.
    pub host: Arc<dyn Host>,
    /// State of the pseudo-random generator.
    pub random_state: u64,
    /// What the last redirecting helper of the run said.
    pub redirect: Option<Redirect>,
    /// Instruction and frame pointer of the code that the hook interrupted, if there is any.
    pub user_frame: Option<(u64, u64)>,
    /// What `bpf_get_current_task` points to.
    pub tasks: Tasks,
    /// Sockets that programs found and did not release yet.
    #[expect(clippy::vec_box, reason = "programs have their addresses")]
    sockets: Vec<Box<SockImage>>,
    /// The host's routes, once a program asked for one.
    pub(crate) routes: Option<Routes>,
    /// `bpf_get_attach_cookie`
    pub attach_cookie: u64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

impl World {
    /// Fresh state.
    #[must_use]
    pub fn new(host: Arc<dyn Host>) -> Self {
        let layout = host.task_layout();
        Self {
            host,
            random_state: 0,
            redirect: None,
            user_frame: None,
            tasks: Tasks::new(layout),
            sockets: Vec::new(),
            routes: None,
            attach_cookie: 0,
        }
    }

    /// Keeps what stands for a socket until it is released; its address.
    pub(crate) fn keep_socket(&mut self, image: SockImage) -> u64 {
        let image = Box::new(image);
        let at = (&raw const *image) as u64;
        self.sockets.push(image);
        at
    }

    /// Gives a found socket back.
    pub(crate) fn release_socket(&mut self, at: u64) {
        self.sockets
            .retain(|image| (&raw const **image) as u64 != at);
    }
}
