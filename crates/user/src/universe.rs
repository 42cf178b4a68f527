//! The universe: options, and what all its objects share.

use crate::hooks::Hooks;
use crate::host::UniverseHost;
use crate::map_object::MapObject;
use crate::pin::FileId;
use crate::profile::Profile;
use crate::state::State;
use skep_bpf::Errno;
use skep_maps::{Heap, Lease, LeaseTable, ObjectTable};
use skep_verifier::Caps;
use skep_vm::{Engine, Tiers, Worker};
use std::cell::Cell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// Bytes of map memory a universe may use unless told otherwise.
const MEMORY_BUDGET_BYTES: u64 = 1 << 30;

/// How a universe is to be.
///
/// ```
/// use skep_bpf::{Backend, Errno, MapCreate};
/// use skep_user::{Options, Universe};
///
/// let options = Options { memory_budget_bytes: 1 << 20, ..Options::default() };
/// let universe = Universe::new(options)?;
/// let large = MapCreate::new(skep_abi::MapType::Array, 4, 1 << 20, 16);
/// assert_eq!(universe.map_create(&large).unwrap_err().errno, Errno::ENOMEM);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// Which engine runs programs.
    pub engine: Engine,
    /// When compiled programs get which code.
    pub tiers: Tiers,
    /// Hides immediates of programs in compiled code.
    pub blinding: bool,
    /// Where profilers find the names of compiled programs.
    pub profile: Option<Arc<Profile>>,
    /// What loaders may do.
    pub caps: Caps,
    /// `num_possible_cpus`
    pub cpus: u32,
    /// Bytes of map memory; more is `ENOMEM`.
    pub memory_budget_bytes: u64,
    /// Where objects are pinned; made at the first pin. `None`: the default directory of the user.
    pub pin_dir: Option<PathBuf>,
    /// The kernel's BTF, for programs that need any of it.
    pub kernel_btf: Option<Arc<skep_btf::Btf>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: Engine::Jit,
            tiers: Tiers::default(),
            blinding: false,
            profile: None,
            caps: Caps::All,
            cpus: skep_sys::cpus::possible()
                .ok()
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(1),
            memory_budget_bytes: MEMORY_BUDGET_BYTES,
            pin_dir: None,
            kernel_btf: None,
        }
    }
}

/// One world of eBPF objects, in this process.
///
/// ```
/// use skep_bpf::{Backend, ProgLoad, TestRun};
/// use skep_user::{Options, Universe};
/// # use skep_abi::ProgType;
/// # use skep_isa::Slot;
///
/// let universe = Universe::new(Options::default())?;
/// // r0 = XDP_PASS; exit
/// let code = vec![Slot::new(0xb7, 0, 0, 0, 2), Slot::new(0x95, 0, 0, 0, 0)];
/// let prog = universe.prog_load(&ProgLoad::plain(ProgType::Xdp, code))?;
/// let run = TestRun { data_in: Some(vec![0; 64]), ..TestRun::default() };
/// assert_eq!(universe.prog_test_run(prog, &run)?.retval, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Universe {
    pub(crate) shared: Arc<Shared>,
}

/// What the objects of a universe share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    state: Mutex<State>,
    pub(crate) hooks: Mutex<Hooks>,
    /// Leases as long as no other process can have maps of this universe.
    own_leases: LeaseTable,
    /// Leases that all processes with this pin directory share, once something was pinned or opened.
    pub(crate) shared_leases: OnceLock<LeaseTable>,
    /// Meaning of the ids in maps of maps and perf event arrays.
    pub(crate) map_table: Arc<ObjectTable>,
    /// Meaning of the ids in prog arrays.
    pub(crate) prog_table: Arc<ObjectTable>,
    pub(crate) host: Arc<UniverseHost>,
    /// Objects of programs, once one needs them.
    pub(crate) heap: OnceLock<Option<Arc<Heap>>>,
    /// Worker of each CPU, made when first needed.
    workers: Box<[Mutex<Option<Worker>>]>,
    /// Not zero: runs have to stop.
    pub(crate) stop: Arc<AtomicU32>,
    /// Runs under way.
    active: AtomicUsize,
    /// References dropped while runs may still use what they named.
    grave: Mutex<Vec<Reference>>,
    /// Maps that are pinned or came from pins, by file.
    pub(crate) pins: Mutex<HashMap<FileId, Weak<MapObject>>>,
    /// Bytes of map memory in use.
    pub(crate) charged: AtomicU64,
    /// Handles of `BPF_ENABLE_STATS`.
    pub(crate) stats: AtomicU32,
}

/// A reference that keeps some object alive.
pub(crate) type Reference = Arc<dyn std::any::Any + Send + Sync>;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Universe {
    /// A universe without objects.
    ///
    /// # Errors
    /// `ENOMEM`, `EINVAL` for no CPU at all.
    pub fn new(options: Options) -> Result<Self, Errno> {
        if options.cpus == 0 {
            return Err(Errno::EINVAL);
        }
        let own_leases = LeaseTable::new(options.cpus)?;
        let universe = Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                hooks: Mutex::default(),
                own_leases,
                shared_leases: OnceLock::new(),
                map_table: Arc::default(),
                prog_table: Arc::default(),
                host: Arc::new(UniverseHost::new(options.cpus)),
                heap: OnceLock::new(),
                workers: (0..options.cpus).map(|_| Mutex::new(None)).collect(),
                stop: Arc::default(),
                active: AtomicUsize::new(0),
                grave: Mutex::default(),
                pins: Mutex::default(),
                charged: AtomicU64::new(0),
                stats: AtomicU32::new(0),
                options,
            }),
        };
        let shared = Arc::downgrade(&universe.shared);
        let _first = universe.shared.host.shared.set(shared);
        Ok(universe)
    }

    /// Asks every run to stop, now and from now on (`true`), or lets runs go on again.
    pub fn stop_runs(&self, stop: bool) {
        self.shared.stop.store(u32::from(stop), Ordering::Relaxed);
    }

    /// Where objects of its programs are; `None` if there is no memory for any.
    #[must_use]
    pub fn heap(&self) -> Option<Arc<Heap>> {
        self.shared.heap().cloned()
    }

    /// The options it was made with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.shared.options
    }
}

thread_local! {
    /// Process and token of this thread, so that `/proc` is read once a thread (and once more after fork).
    static TOKEN: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// The calling thread's token.
pub(crate) fn thread_token() -> u32 {
    let process = std::process::id();
    TOKEN.with(|kept| {
        let (of, token) = kept.get();
        if of == process {
            return token;
        }
        let token = skep_sys::task::token();
        kept.set((process, token));
        token
    })
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Who may act as which CPU.
    pub(crate) fn leases(&self) -> &LeaseTable {
        self.shared_leases.get().unwrap_or(&self.own_leases)
    }

    /// Takes the slots of user space for good, so that no operation under way has one when other leases begin to count.
    /// (Runs of one CPU exclude each other by its worker.)
    pub(crate) fn retire_own_leases(&self) {
        self.own_leases.retire_user_slots(thread_token());
    }

    /// A slot for an operation of user space.
    pub(crate) fn user_lease(&self) -> Lease<'_> {
        loop {
            if let Some(lease) = self.leases().user(thread_token()) {
                return lease;
            }
            // The shared table is about to take over.
            std::thread::yield_now();
        }
    }

    /// Drops a reference once no run that is under way now can use what it names.
    pub(crate) fn release_later(&self, reference: Reference) {
        if self.active.load(Ordering::SeqCst) == 0 {
            drop(reference);
        } else {
            lock(&self.grave).push(reference);
        }
    }

    /// Gives the worker of `lease`'s CPU to `run`.
    pub(crate) fn with_worker<T>(
        &self,
        lease: &Lease<'_>,
        run: impl FnOnce(&mut Worker) -> T,
    ) -> T {
        let runner = lease.runner();
        self.active.fetch_add(1, Ordering::SeqCst);
        let mut slot = lock(&self.workers[runner.cpu as usize]);
        let worker = slot.get_or_insert_with(|| {
            Worker::new(
                Arc::clone(&self.host) as Arc<dyn skep_vm::Host>,
                runner,
                Arc::clone(&self.stop),
            )
        });
        worker.act_as(runner);
        let result = run(worker);
        drop(slot);
        if self.active.fetch_sub(1, Ordering::SeqCst) == 1 {
            let buried = std::mem::take(&mut *lock(&self.grave));
            drop(buried);
        }
        result
    }
}
