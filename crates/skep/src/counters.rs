//! What a program costs in a processor's counters: cycles, instructions, cache misses of its runs alone.
//!
//! Two small programs are attached to the entry and the exit of the measured one (`fentry`, `fexit`). The first reads the
//! counter of the CPU, the second reads it again and adds the difference. That takes trampolines, and BTF of the measured program;
//! what is missing is said before anything is attached.
//!
//! ```no_run
//! use skep::counters::{Counter, METRICS, Reading};
//! # fn cost(
//! #     kernel: std::sync::Arc<dyn skep_bpf::Backend>,
//! #     program: skep_bpf::Handle,
//! # ) -> Result<(), skep_bpf::Error> {
//! let counter = Counter::start(&kernel, program, "packets", &METRICS[0])?;
//! std::thread::sleep(std::time::Duration::from_secs(1));
//! let Reading { value, runs, .. } = counter.read()?;
//! println!("{runs} runs took {value} {}", METRICS[0].name);
//! # Ok(())
//! # }
//! ```

use crate::assembly::slots;
use crate::attach::{Hook, Link, attach};
use crate::load::function_id;
use skep_abi::{AttachType, MapType, ProgType};
use skep_bpf::{Backend, Errno, Error, Handle, MapCreate, ProgLoad, Result};
use skep_isa::Slot;
use skep_sys::perf::{Rate, Scope, sampling};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// A counter of the processor, or one that the kernel keeps.
///
/// ```
/// use skep::counters::{METRICS, Metric};
///
/// let cycles: &Metric = METRICS.iter().find(|m| m.name == "cycles").ok_or("not known")?;
/// println!("{}", cycles.name);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// `PERF_TYPE_*`
    kind: u32,
    /// The event of that type.
    config: u64,
}

/// `PERF_TYPE_HARDWARE`, `PERF_TYPE_SOFTWARE`, `PERF_TYPE_HW_CACHE`
const HARDWARE: u32 = 0;
const SOFTWARE: u32 = 1;
const CACHE: u32 = 3;
/// Misses of reads of a cache, in `PERF_TYPE_HW_CACHE`.
const READ_MISS: u64 = 1 << 16;

/// All counters, with bpftool's names and those of the kernel. Source: include/uapi/linux/perf_event.h.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "cycles",
        kind: HARDWARE,
        config: 0,
    },
    Metric {
        name: "instructions",
        kind: HARDWARE,
        config: 1,
    },
    Metric {
        name: "l1d_loads",
        kind: CACHE,
        config: 0,
    },
    Metric {
        name: "llc_misses",
        kind: CACHE,
        config: 2 | READ_MISS,
    },
    Metric {
        name: "itlb_misses",
        kind: CACHE,
        config: 4 | READ_MISS,
    },
    Metric {
        name: "dtlb_misses",
        kind: CACHE,
        config: 3 | READ_MISS,
    },
    Metric {
        name: "cpu_clock",
        kind: SOFTWARE,
        config: 0,
    },
    Metric {
        name: "page_faults",
        kind: SOFTWARE,
        config: 2,
    },
];

/// What a counter has counted in the runs of a program.
///
/// ```no_run
/// # use skep::counters::{Counter, METRICS, Metric, Reading};
/// # fn example(kernel: std::sync::Arc<dyn skep_bpf::Backend>, prog: skep_bpf::Handle) -> Result<(), skep_bpf::Error> {
/// let counter = Counter::start(&kernel, prog, "packets", &METRICS[0])?;
/// let Reading { value, runs, .. } = counter.read()?;
/// println!("{} a run", value as f64 / runs as f64);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reading {
    /// The counter.
    pub value: u64,
    /// Nanoseconds for which it was wanted, and for which the processor had room for it.
    pub enabled_ns: u64,
    /// See there.
    pub running_ns: u64,
    /// Runs.
    pub runs: u64,
}

/// Bytes of `struct bpf_perf_event_value`, and of those with the number of runs.
const VALUE_BYTES: u32 = 24;
const SUM_BYTES: u32 = 32;

/// Both programs begin with it: reads the counter of the CPU to r10 - 24; the key 0 is at r10 - 28.
const READ: &str = "
    r1 = events ll
    w2 = -1
    r3 = r10
    r3 += -24
    w4 = 24
    call bpf_perf_event_read_value
    if r0 != 0 goto 1f
    w1 = 0
    *(u32 *)(r10 - 28) = r1
";

/// At entry, keeps the reading.
const ENTER: &str = "
    r1 = starts ll
    r2 = r10
    r2 += -28
    r3 = r10
    r3 += -24
    w4 = 0
    call bpf_map_update_elem
";

/// At exit, adds the difference. `r6` is the sum, `r7` the start.
const EXIT: &str = "
    r1 = sums ll
    r2 = r10
    r2 += -28
    call bpf_map_lookup_elem
    if r0 == 0 goto 1f
    r6 = r0
    r1 = starts ll
    r2 = r10
    r2 += -28
    call bpf_map_lookup_elem
    if r0 == 0 goto 1f
    r7 = r0
    r1 = *(u64 *)(r10 - 24)
    r2 = *(u64 *)(r7 + 0)
    r1 -= r2
    r2 = *(u64 *)(r6 + 0)
    r2 += r1
    *(u64 *)(r6 + 0) = r2
    r1 = *(u64 *)(r10 - 16)
    r2 = *(u64 *)(r7 + 8)
    r1 -= r2
    r2 = *(u64 *)(r6 + 8)
    r2 += r1
    *(u64 *)(r6 + 8) = r2
    r1 = *(u64 *)(r10 - 8)
    r2 = *(u64 *)(r7 + 16)
    r1 -= r2
    r2 = *(u64 *)(r6 + 16)
    r2 += r1
    *(u64 *)(r6 + 16) = r2
    r1 = *(u64 *)(r6 + 24)
    r1 += 1
    *(u64 *)(r6 + 24) = r1
";

/// Both end with it.
const END: &str = "
1:  w0 = 0
    exit
";

/// Counts as long as it lives.
///
/// ```no_run
/// # use skep::counters::{Counter, METRICS, Metric, Reading};
/// # fn example(kernel: std::sync::Arc<dyn skep_bpf::Backend>, prog: skep_bpf::Handle) -> Result<(), skep_bpf::Error> {
/// let counter = Counter::start(&kernel, prog, "packets", &METRICS[0])?;
/// std::thread::sleep(std::time::Duration::from_secs(1));
/// println!("{:?}", counter.read()?);
/// # Ok(())
/// # }
/// ```
pub struct Counter {
    backend: Arc<dyn Backend>,
    /// Detached first.
    links: Vec<Link>,
    handles: Vec<Handle>,
    sums: Handle,
    /// Open as long as the map names them.
    events: Vec<OwnedFd>,
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counter").finish_non_exhaustive()
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.links.clear();
        for handle in &self.handles {
            self.backend.close(*handle);
        }
    }
}

fn refused(errno: Errno, metric: &Metric, detail: String) -> Error {
    Error {
        errno,
        what: format!("counter {}", metric.name),
        detail,
        log: String::new(),
    }
}

/// An event on every CPU, by CPU.
fn events(metric: &Metric) -> Result<Vec<(u32, OwnedFd)>> {
    let failed = |e: std::io::Error| {
        let errno = Errno(e.raw_os_error().unwrap_or(Errno::EIO.0));
        let detail = match errno {
            Errno::ENOENT | Errno::EOPNOTSUPP | Errno::ENODEV if metric.kind != SOFTWARE => {
                "this processor has no such counter, or a virtual machine hides it"
            }
            Errno::EACCES | Errno::EPERM => "it takes CAP_PERFMON",
            _ => "",
        };
        refused(errno, metric, detail.to_owned())
    };
    let mut events = Vec::new();
    for cpu in skep_sys::cpus::online().map_err(failed)? {
        let scope = Scope {
            pid: -1,
            cpu: cpu.cast_signed(),
        };
        // Without a period nothing is sampled: it counts.
        let event = sampling(metric.kind, metric.config, Rate::Period(0), scope);
        events.push((cpu, event.map_err(failed)?));
    }
    Ok(events)
}

/// The slots of a program that does `then` with a reading, with handles for the names of maps.
fn code(then: &str, maps: &[(&str, Handle)]) -> Vec<Slot> {
    slots(&[READ, then, END].concat(), maps).unwrap_or_default()
}

impl Counter {
    /// Counts in the runs of `prog`, whose entry function is called `function`, from now on.
    ///
    /// # Errors
    /// `ENOENT` for a counter that this machine lacks, `EINVAL` for a program without BTF, `EPERM` where trampolines are
    /// forbidden; the text says it.
    pub fn start(
        backend: &Arc<dyn Backend>,
        prog: Handle,
        function: &str,
        metric: &Metric,
    ) -> Result<Self> {
        let events = events(metric)?;
        let no_btf = || {
            let detail = format!("the program has no BTF that names its function \"{function}\"");
            refused(Errno::EINVAL, metric, detail)
        };
        let target = function_id(backend.as_ref(), prog, function)?.ok_or_else(no_btf)?;
        let cpus = u32::try_from(backend.possible_cpus()).unwrap_or(u32::MAX);
        let mut counter = Self {
            backend: Arc::clone(backend),
            links: Vec::new(),
            handles: Vec::new(),
            sums: Handle(-1),
            events: Vec::new(),
        };
        let mut create = |map_type, value_size, entries| {
            let map = MapCreate::new(map_type, 4, value_size, entries);
            let map = counter.backend.map_create(&map)?;
            counter.handles.push(map);
            Ok::<_, Error>(map)
        };
        let table = create(MapType::PerfEventArray, 4, cpus)?;
        let starts = create(MapType::PercpuArray, VALUE_BYTES, 1)?;
        let sums = create(MapType::PercpuArray, SUM_BYTES, 1)?;
        counter.sums = sums;
        for (cpu, event) in events {
            let number = event.as_raw_fd().to_ne_bytes();
            backend.map_update(table, &cpu.to_ne_bytes(), &number, 0)?;
            counter.events.push(event);
        }
        let maps = [("events", table), ("starts", starts), ("sums", sums)];
        // The exit first: an entry without one would leave a start that is too old.
        let ends = [
            (EXIT, AttachType::TraceFexit),
            (ENTER, AttachType::TraceFentry),
        ];
        for (text, end) in ends {
            let program = backend.prog_load(&ProgLoad {
                expected_attach_type: Some(end),
                attach_prog: Some(prog),
                attach_btf_id: target,
                name: "skep_counter".to_owned(),
                license: "Dual MIT/GPL".to_owned(),
                ..ProgLoad::plain(ProgType::Tracing, code(text, &maps))
            })?;
            counter.handles.push(program);
            counter.links.push(attach(backend, program, &Hook::Loaded)?);
        }
        Ok(counter)
    }

    /// What was counted so far, on all CPUs.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn read(&self) -> Result<Reading> {
        let mut bytes = vec![0; self.backend.possible_cpus() * SUM_BYTES as usize];
        self.backend.map_lookup(self.sums, &[0; 4], &mut bytes, 0)?;
        let mut sum = Reading::default();
        let words: Vec<u64> = bytes
            .as_chunks()
            .0
            .iter()
            .map(|w| u64::from_ne_bytes(*w))
            .collect();
        for of_cpu in words.as_chunks::<4>().0 {
            let [value, enabled, running, runs] = *of_cpu;
            sum.value = sum.value.wrapping_add(value);
            sum.enabled_ns = sum.enabled_ns.wrapping_add(enabled);
            sum.running_ns = sum.running_ns.wrapping_add(running);
            sum.runs = sum.runs.wrapping_add(runs);
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_isa::opcode;

    #[test]
    fn both_programs_assemble_and_name_their_maps() {
        let maps = [
            ("events", Handle(3)),
            ("starts", Handle(4)),
            ("sums", Handle(5)),
        ];
        let loads = |text| {
            let slots = code(text, &maps);
            let wide = slots
                .iter()
                .filter(|s| s.src() == opcode::PSEUDO_MAP_FD && s.code == opcode::LDDW);
            wide.map(|s| s.imm).collect::<Vec<_>>()
        };
        assert_eq!(loads(ENTER), [3, 4]);
        assert_eq!(loads(EXIT), [3, 5, 4]);
    }
}
