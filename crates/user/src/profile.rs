//! Symbols of compiled programs for profilers, in the two forms that perf(1) reads.
//!
//! [`Form::Map`] appends lines to `/tmp/perf-PID.map`: names by address. [`Form::Dump`] writes `jit-PID.dump`, which holds the
//! code itself, its source lines and how to unwind it (`perf record -k mono`, then `perf inject --jit`); perf finds it by
//! an executable mapping of its first page. Sources: `tools/perf/Documentation/jit-interface.txt`,
//! `tools/perf/Documentation/jitdump-specification.txt`.

use crate::names::Names;
use skep_sys::mem::{Access, Mapping};
use skep_vm::Lowered;
use skep_vm::jit::{Code, CodeImage, CodeObserver, eh_frame};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// `JiTD` in the byte order of the machine.
const MAGIC: u32 = 0x4a69_5444;
const VERSION: u32 = 1;
const HEADER_BYTES: u32 = 40;
/// Kinds of record.
const CODE_LOAD: u32 = 0;
const DEBUG_INFO: u32 = 2;
const UNWINDING_INFO: u32 = 4;
/// Bytes of a record's head.
const HEAD_BYTES: usize = 16;
/// A page, of which perf watches the mapping.
const PAGE: usize = 4096;

/// Which file is written.
///
/// ```
/// use skep_user::profile::{Form, Profile};
///
/// let folder = std::env::temp_dir();
/// let names = Profile::open_in(Form::Map, &folder)?;
/// assert!(names.path().to_string_lossy().ends_with(".map"));
/// # std::fs::remove_file(names.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Names by address.
    Map,
    /// Code, source lines and unwinding.
    Dump,
}

/// A file that profilers read.
///
/// ```
/// use skep_user::profile::{Form, Profile};
/// use skep_user::{Options, Universe};
/// use std::sync::Arc;
///
/// let profile = Arc::new(Profile::open_in(Form::Map, &std::env::temp_dir())?);
/// let options = Options { profile: Some(Arc::clone(&profile)), ..Options::default() };
/// let universe = Universe::new(options)?;
/// // `perf report` knows the programs of this universe by name.
/// println!("{}", profile.path().display());
/// # std::fs::remove_file(profile.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Profile {
    form: Form,
    file: Mutex<File>,
    path: PathBuf,
    /// Number of the next piece of code.
    next: AtomicU64,
    /// What perf finds the dump by.
    _marker: Option<Mapping>,
}

impl Profile {
    /// Opens the file that perf expects: `/tmp/perf-PID.map`, or `jit-PID.dump` in the current directory.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(form: Form) -> io::Result<Self> {
        let dir = match form {
            Form::Map => PathBuf::from("/tmp"),
            Form::Dump => std::env::current_dir()?,
        };
        Self::open_in(form, &dir)
    }

    /// As [`Self::open`], in another directory.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open_in(form: Form, dir: &Path) -> io::Result<Self> {
        let pid = std::process::id();
        let path = dir.join(match form {
            Form::Map => format!("perf-{pid}.map"),
            Form::Dump => format!("jit-{pid}.dump"),
        });
        let mut options = File::options();
        options.read(true).write(true).create(true);
        let mut file = match form {
            Form::Map => options.append(true).open(&path)?,
            Form::Dump => options.truncate(true).open(&path)?,
        };
        let marker = match form {
            Form::Map => None,
            Form::Dump => {
                file.write_all(&header(pid))?;
                Some(Mapping::of_file(&file, 0, PAGE, Access::Execute)?)
            }
        };
        Ok(Self {
            form,
            file: Mutex::new(file),
            path,
            next: AtomicU64::new(0),
            _marker: marker,
        })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&self, bytes: &[u8]) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A profile that cannot be written is no reason to stop the program.
        let _ = file.write_all(bytes);
    }
}

/// Tells a profile of one program's code.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) profile: Arc<Profile>,
    pub(crate) names: Arc<Names>,
}

impl CodeObserver for Named {
    fn linked(&self, lowered: &Lowered, image: &CodeImage, code: &Code) {
        let base = code.base() as u64;
        let mut out = Vec::new();
        for f in &image.funcs {
            let name = self.names.function(f.func, lowered);
            let (start, end) = (f.start as usize, f.end as usize);
            let address = base + u64::from(f.start);
            match self.profile.form {
                Form::Map => {
                    let line = format!("{address:x} {:x} {name}\n", end - start);
                    out.extend_from_slice(line.as_bytes());
                }
                Form::Dump => {
                    let entries = self.debug_entries(lowered, image, base, f.start..f.end);
                    record(&mut out, DEBUG_INFO, &debug_info(address, &entries));
                    let frame = eh_frame::of(f);
                    record(&mut out, UNWINDING_INFO, &unwinding(&frame));
                    let index = self.profile.next.fetch_add(1, Ordering::Relaxed);
                    let bytes = code.bytes().get(start..end).unwrap_or_default();
                    record(
                        &mut out,
                        CODE_LOAD,
                        &code_load(address, index, &name, bytes),
                    );
                }
            }
        }
        self.profile.write(&out);
    }
}

impl Named {
    /// Address, line and file of each stretch of code that comes from another line than the one before.
    fn debug_entries(
        &self,
        lowered: &Lowered,
        image: &CodeImage,
        base: u64,
        range: std::ops::Range<u32>,
    ) -> Vec<(u64, u32, &str)> {
        let mut entries: Vec<(u64, u32, &str)> = Vec::new();
        for row in image.lines.iter().filter(|l| range.contains(&l.code)) {
            let slot = lowered.slots.get(row.op as usize);
            let Some(line) = slot.and_then(|&s| self.names.line(s)) else {
                continue;
            };
            if entries
                .last()
                .is_none_or(|e| e.1 != line.line || e.2 != line.file)
            {
                entries.push((base + u64::from(row.code), line.line, &line.file));
            }
        }
        entries
    }
}

fn header(pid: u32) -> Vec<u8> {
    let mut h = Vec::new();
    for word in [MAGIC, VERSION, HEADER_BYTES, elf_machine(), 0, pid] {
        h.extend_from_slice(&word.to_ne_bytes());
    }
    h.extend_from_slice(&skep_sys::clock::monotonic_ns().to_ne_bytes());
    h.extend_from_slice(&0u64.to_ne_bytes());
    h
}

/// Number of this architecture in ELF headers.
const fn elf_machine() -> u32 {
    if cfg!(target_arch = "x86_64") {
        62
    } else {
        183
    }
}

fn record(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let bytes = u32::try_from(HEAD_BYTES + body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&bytes.to_ne_bytes());
    out.extend_from_slice(&skep_sys::clock::monotonic_ns().to_ne_bytes());
    out.extend_from_slice(body);
}

fn code_load(address: u64, index: u64, name: &str, code: &[u8]) -> Vec<u8> {
    let mut b = Vec::new();
    b.extend_from_slice(&std::process::id().to_ne_bytes());
    b.extend_from_slice(&skep_sys::task::thread_id().to_ne_bytes());
    for word in [address, address, code.len() as u64, index] {
        b.extend_from_slice(&word.to_ne_bytes());
    }
    b.extend_from_slice(name.as_bytes());
    b.push(0);
    b.extend_from_slice(code);
    b
}

fn debug_info(address: u64, entries: &[(u64, u32, &str)]) -> Vec<u8> {
    let mut b = Vec::new();
    b.extend_from_slice(&address.to_ne_bytes());
    b.extend_from_slice(&(entries.len() as u64).to_ne_bytes());
    for (at, line, file) in entries {
        b.extend_from_slice(&at.to_ne_bytes());
        b.extend_from_slice(&line.to_ne_bytes());
        b.extend_from_slice(&0u32.to_ne_bytes());
        b.extend_from_slice(file.as_bytes());
        b.push(0);
    }
    b
}

/// The unwind table, and the header by which perf searches it.
fn unwinding(frame: &eh_frame::Tables) -> Vec<u8> {
    let mut b = Vec::new();
    let total = (frame.table.len() + frame.header.len()) as u64;
    for word in [total, frame.header.len() as u64, total] {
        b.extend_from_slice(&word.to_ne_bytes());
    }
    b.extend_from_slice(&frame.table);
    b.extend_from_slice(&frame.header);
    b
}
