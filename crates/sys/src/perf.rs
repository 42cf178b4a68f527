//! `perf_event_open(2)`: events that run programs, and the buffers programs write to.

use crate::mem::{Access, Mapping, PAGE};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// `struct perf_event_attr` up to `config3`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct EventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clockid: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    sample_max_stack: u16,
    reserved: u16,
    aux_sample_size: u32,
    aux_action: u32,
    sig_data: u64,
}

/// `PERF_TYPE_SOFTWARE`
const TYPE_SOFTWARE: u32 = 1;
/// `PERF_TYPE_TRACEPOINT`
const TYPE_TRACEPOINT: u32 = 2;
/// `PERF_COUNT_SW_BPF_OUTPUT`
const SW_BPF_OUTPUT: u64 = 10;
/// `PERF_SAMPLE_RAW`
const SAMPLE_RAW: u64 = 1 << 10;
/// `freq` in the flag word: `sample_period` is a frequency.
const FLAG_FREQ: u64 = 1 << 10;
/// `PERF_FLAG_FD_CLOEXEC`
const FD_CLOEXEC: libc::c_ulong = 8;
const IOC_ENABLE: libc::c_ulong = 0x2400;
const IOC_DISABLE: libc::c_ulong = 0x2401;
const IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

/// Which processes and CPUs an event watches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scope {
    /// A process, or -1 for all.
    pub pid: i32,
    /// A CPU, or -1 for all (then `pid` must name one).
    pub cpu: i32,
}

impl Scope {
    /// One process on all CPUs; without a process, all of them as seen from CPU 0, which is what probes take for "everywhere".
    #[must_use]
    pub fn of_process(pid: Option<u32>) -> Self {
        match pid {
            Some(pid) => Self {
                pid: pid.cast_signed(),
                cpu: -1,
            },
            None => Self { pid: -1, cpu: 0 },
        }
    }
}

fn open(attr: &EventAttr, scope: Scope) -> io::Result<OwnedFd> {
    let mut attr = *attr;
    attr.size = size_of::<EventAttr>() as u32;
    // SAFETY: `attr` is live and as large as it says; strings it names are alive in the callers.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            scope.pid,
            scope.cpu,
            -1,
            FD_CLOEXEC,
        )
    };
    let fd = RawFd::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An event on tracepoint number `id` (its `id` file in tracefs).
///
/// # Errors
/// Those of `perf_event_open`.
pub fn tracepoint(id: u64, scope: Scope) -> io::Result<OwnedFd> {
    let attr = EventAttr {
        kind: TYPE_TRACEPOINT,
        config: id,
        sample_period: 1,
        wakeup_events: 1,
        ..EventAttr::default()
    };
    open(&attr, scope)
}

/// Which end of a function a probe is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Its first instruction.
    Entry,
    /// Its return.
    Return,
}

/// The number of a PMU and the bit that means "return", from sysfs.
fn probe_pmu(name: &str, end: End) -> io::Result<(u32, u64)> {
    let folder = format!("/sys/bus/event_source/devices/{name}");
    let kind = std::fs::read_to_string(format!("{folder}/type"))?;
    let kind = kind.trim().parse().map_err(io::Error::other)?;
    if end == End::Entry {
        return Ok((kind, 0));
    }
    let format = std::fs::read_to_string(format!("{folder}/format/retprobe"))?;
    let bit: u32 = format
        .trim()
        .trim_start_matches("config:")
        .parse()
        .map_err(io::Error::other)?;
    Ok((kind, 1u64.checked_shl(bit).unwrap_or(0)))
}

/// A probe on file offset `offset` of an executable or library.
///
/// # Errors
/// `NotFound` without the uprobe PMU; those of `perf_event_open`.
pub fn uprobe(
    path: &CString,
    offset: u64,
    ref_ctr_offset: u64,
    end: End,
    scope: Scope,
) -> io::Result<OwnedFd> {
    let (kind, mut config) = probe_pmu("uprobe", end)?;
    config |= ref_ctr_offset << 32;
    let attr = EventAttr {
        kind,
        config,
        config1: path.as_ptr() as u64,
        config2: offset,
        ..EventAttr::default()
    };
    open(&attr, scope)
}

/// A probe on kernel function `symbol`, `offset` bytes in.
///
/// # Errors
/// `NotFound` if the kernel has no kprobes; those of `perf_event_open`.
pub fn kprobe(symbol: &CString, offset: u64, end: End) -> io::Result<OwnedFd> {
    let (kind, config) = probe_pmu("kprobe", end)?;
    let attr = EventAttr {
        kind,
        config,
        config1: symbol.as_ptr() as u64,
        config2: offset,
        ..EventAttr::default()
    };
    open(&attr, Scope::of_process(None))
}

/// What is done to watched bytes (`HW_BREAKPOINT_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchFor {
    /// They are written.
    Write = 2,
    /// They are read or written.
    Access = 3,
    /// They are run; the length must be that of a `long`.
    Run = 4,
}

/// Bytes of memory that are watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watch {
    /// Where they begin.
    pub address: u64,
    /// How many: 1, 2, 4 or 8.
    pub bytes: u8,
    /// For what.
    pub what: WatchFor,
}

/// `PERF_TYPE_BREAKPOINT`
const TYPE_BREAKPOINT: u32 = 5;

/// An event that fires at accesses to memory.
///
/// # Errors
/// Those of `perf_event_open`.
pub fn watchpoint(watch: Watch, scope: Scope) -> io::Result<OwnedFd> {
    let attr = EventAttr {
        kind: TYPE_BREAKPOINT,
        sample_period: 1,
        bp_type: watch.what as u32,
        config1: watch.address,
        config2: u64::from(watch.bytes),
        ..EventAttr::default()
    };
    open(&attr, scope)
}

/// How often a sampling event fires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rate {
    /// Every this many counts.
    Period(u64),
    /// This often a second.
    Hertz(u64),
}

/// A sampling event by type and config, as in `perf_event_open(2)`.
///
/// # Errors
/// Those of `perf_event_open`.
pub fn sampling(kind: u32, config: u64, rate: Rate, scope: Scope) -> io::Result<OwnedFd> {
    let (sample_period, flags) = match rate {
        Rate::Period(count) => (count, 0),
        Rate::Hertz(hertz) => (hertz, FLAG_FREQ),
    };
    open(
        &EventAttr {
            kind,
            config,
            sample_period,
            flags,
            ..EventAttr::default()
        },
        scope,
    )
}

fn ioctl(event: BorrowedFd<'_>, request: libc::c_ulong, argument: i32) -> io::Result<()> {
    // SAFETY: these requests take a number.
    let rc = unsafe { libc::ioctl(event.as_raw_fd(), request, argument) };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Runs `prog` when the event fires (`PERF_EVENT_IOC_SET_BPF`).
///
/// # Errors
/// Those of the ioctl.
pub fn set_bpf(event: BorrowedFd<'_>, prog: BorrowedFd<'_>) -> io::Result<()> {
    ioctl(event, IOC_SET_BPF, prog.as_raw_fd())
}

/// Lets the event fire.
///
/// # Errors
/// Those of the ioctl.
pub fn enable(event: BorrowedFd<'_>) -> io::Result<()> {
    ioctl(event, IOC_ENABLE, 0)
}

/// Keeps the event from firing.
///
/// # Errors
/// Those of the ioctl.
pub fn disable(event: BorrowedFd<'_>) -> io::Result<()> {
    ioctl(event, IOC_DISABLE, 0)
}

/// `PERF_RECORD_LOST`
const RECORD_LOST: u32 = 2;
/// `PERF_RECORD_SAMPLE`
const RECORD_SAMPLE: u32 = 9;
/// Offset of `data_head` in `struct perf_event_mmap_page`; `data_tail` is the next word.
const DATA_HEAD: usize = 1024;

/// What a buffer holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record<'a> {
    /// What a program wrote, padded.
    Sample(&'a [u8]),
    /// Samples that had no room.
    Lost(u64),
}

/// The buffer of `bpf_perf_event_output` on one CPU.
#[derive(Debug)]
pub struct Buffer {
    event: File,
    memory: Mapping,
    data_bytes: u64,
    /// A record that wraps is put together here.
    joined: Vec<u8>,
}

impl Buffer {
    /// Opens the buffer of `cpu` with `pages` data pages, a power of two.
    ///
    /// # Errors
    /// Those of `perf_event_open` and `mmap`.
    pub fn open(cpu: u32, pages: usize) -> io::Result<Self> {
        let attr = EventAttr {
            kind: TYPE_SOFTWARE,
            config: SW_BPF_OUTPUT,
            sample_period: 1,
            sample_type: SAMPLE_RAW,
            wakeup_events: 1,
            ..EventAttr::default()
        };
        let event = File::from(open(
            &attr,
            Scope {
                pid: -1,
                cpu: cpu.cast_signed(),
            },
        )?);
        let memory = Mapping::of_file(&event, 0, PAGE * (pages + 1), Access::ReadWrite)?;
        let buffer = Self {
            event,
            memory,
            data_bytes: (PAGE * pages) as u64,
            joined: Vec::new(),
        };
        enable(std::os::fd::AsFd::as_fd(&buffer.event))?;
        Ok(buffer)
    }

    /// The event, which goes into the map at the CPU's index; polls readable when records wait.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both words are in the first page, aligned, and shared with the kernel as atomics; lives with `self`.
        unsafe { &*self.memory.base().wrapping_add(offset).cast() }
    }

    /// Copies `length` bytes at a position, which may wrap.
    fn copy(&mut self, position: u64, length: u64) {
        self.joined.clear();
        for i in 0..length {
            let at = PAGE as u64 + ((position + i) & (self.data_bytes - 1));
            // SAFETY: within the data pages; the kernel does not write between tail and head.
            self.joined
                .push(unsafe { self.memory.base().wrapping_add(at as usize).read_volatile() });
        }
    }

    /// Hands every waiting record to `each`, oldest first; returns how many there were.
    pub fn drain(&mut self, each: &mut dyn FnMut(Record<'_>)) -> usize {
        let head = self.word(DATA_HEAD).load(Ordering::Acquire);
        let mut tail = self.word(DATA_HEAD + 8).load(Ordering::Relaxed);
        let mut count = 0;
        while tail != head {
            self.copy(tail, 8);
            let kind = number(&self.joined, 0) as u32;
            let length = u64::from(number(&self.joined, 4) as u32 >> 16);
            if length < 8 || length > head.wrapping_sub(tail) {
                tail = head; // not the kernel's bytes: start anew behind them
                break;
            }
            self.copy(tail + 8, length - 8);
            match kind {
                RECORD_SAMPLE => {
                    let size = number(&self.joined, 0) as u32 as usize;
                    each(Record::Sample(
                        self.joined.get(4..4 + size).unwrap_or_default(),
                    ));
                    count += 1;
                }
                RECORD_LOST => {
                    each(Record::Lost(number(&self.joined, 8)));
                    count += 1;
                }
                _ => {}
            }
            tail = tail.wrapping_add(length);
        }
        self.word(DATA_HEAD + 8).store(tail, Ordering::Release);
        count
    }
}

/// The number at an offset, missing bytes read as zero.
fn number(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    u64::from_ne_bytes(word)
}
