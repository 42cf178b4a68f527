//! What helpers need beyond the fixed part of the run environment.

use skep_abi::Errno;
use std::sync::Arc;

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

/// Bytes of a task's image: programs that read fields of the kernel's structure do not run in user space.
const TASK_BYTES: usize = 64;

/// What stands for a task.
#[repr(C)]
#[derive(Debug)]
pub struct TaskImage {
    zeros: [u8; TASK_BYTES],
    /// Number of the thread, which owns task storage.
    pub owner: u64,
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
    pub task: Box<TaskImage>,
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
        Self {
            host,
            random_state: 0,
            redirect: None,
            user_frame: None,
            task: Box::new(TaskImage {
                zeros: [0; TASK_BYTES],
                owner: 0,
            }),
            attach_cookie: 0,
        }
    }
}
