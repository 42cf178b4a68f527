//! Iterators: programs that print what the kernel walks over.
//!
//! ```no_run
//! # fn tasks(kernel: skep::Kernel, program: skep_bpf::Handle) -> Result<(), skep_bpf::Error> {
//! let text = skep::iterator::read_over(&kernel, program, skep::iterator::Over::All)?;
//! println!("{}", String::from_utf8_lossy(&text));
//! # Ok(())
//! # }
//! ```

use crate::kernel::{Kernel, errno};
use skep_abi::AttachType;
use skep_bpf::{Backend, Error, Handle, LinkCreate, LinkTarget, Result};
use skep_sys::bpf_link;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

/// What an iterator walks over.
///
/// ```no_run
/// # fn example(kernel: skep::Kernel, prog: skep_bpf::Handle) -> Result<(), skep_bpf::Error> {
/// use skep::iterator::{Over, read_over};
///
/// let own = read_over(&kernel, prog, Over::Process(std::process::id()))?;
/// println!("{}", String::from_utf8_lossy(&own));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Over {
    /// Everything of its kind.
    All,
    /// The elements of a map.
    Map(Handle),
    /// One task, by the number of its thread.
    Thread(u32),
    /// The threads of one process.
    Process(u32),
    /// A control group and those below it, each before the ones below.
    Group(PathBuf),
}

/// `BPF_CGROUP_ITER_DESCENDANTS_PRE`
const DESCENDANTS_PRE: u32 = 2;

/// Makes an iterator's link, which can be pinned; reading the pinned file runs it.
///
/// # Errors
/// Those of `BPF_LINK_CREATE`.
pub fn link(kernel: &Kernel, prog: Handle, over: Over) -> Result<Handle> {
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let mut folder = None;
    // `union bpf_iter_link_info`: {map_fd}, {order, cgroup_fd, cgroup_id}, {tid, pid, pid_fd}.
    let info: Vec<u8> = match over {
        Over::All => Vec::new(),
        Over::Map(map) => words(&[map.0.cast_unsigned()]),
        Over::Thread(tid) => words(&[tid, 0, 0]),
        Over::Process(pid) => words(&[0, pid, 0]),
        Over::Group(path) => {
            let opened = File::open(&path).map_err(|e| refused(&e))?;
            let number = opened.as_raw_fd().cast_unsigned();
            folder = Some(opened);
            words(&[DESCENDANTS_PRE, number, 0, 0])
        }
    };
    let created = kernel.link_create(&LinkCreate {
        prog,
        attach_type: AttachType::TraceIter,
        target: LinkTarget::Iter { info },
        flags: 0,
    });
    drop(folder);
    created
}

/// Runs an iterator once over everything it walks; returns what it printed.
///
/// # Errors
/// Those of `BPF_LINK_CREATE`, `BPF_ITER_CREATE` and of reading.
pub fn read(kernel: &Kernel, prog: Handle) -> Result<Vec<u8>> {
    read_over(kernel, prog, Over::All)
}

/// As [`read`], over a part.
///
/// # Errors
/// The same.
pub fn read_over(kernel: &Kernel, prog: Handle, over: Over) -> Result<Vec<u8>> {
    let link = link(kernel, prog, over)?;
    let text = kernel.descriptor(link).and_then(|fd| {
        let iterator = bpf_link::iter_create(fd.as_fd()).map_err(|e| refused(&e))?;
        let mut text = Vec::new();
        File::from(iterator)
            .read_to_end(&mut text)
            .map_err(|e| refused(&e))?;
        Ok(text)
    });
    kernel.close(link);
    text
}

fn refused(error: &std::io::Error) -> Error {
    Error {
        errno: errno(error),
        what: "BPF_ITER_CREATE".to_owned(),
        detail: String::new(),
        log: String::new(),
    }
}
