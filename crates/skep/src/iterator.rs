//! Iterators: programs that print what the kernel walks over.

use skep_abi::AttachType;
use skep_bpf::{Error, Handle, LinkCreate, LinkTarget, Result};
use skep_sys::bpf_link;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use crate::kernel::{Kernel, errno};
use skep_bpf::Backend;

/// Runs an iterator once over everything it walks; returns what it printed.
///
/// # Errors
/// Those of `BPF_LINK_CREATE`, `BPF_ITER_CREATE` and of reading.
pub fn read(kernel: &Kernel, prog: Handle) -> Result<Vec<u8>> {
    let target = LinkTarget::Iter { info: Vec::new() };
    let link = kernel.link_create(&LinkCreate {
        prog,
        attach_type: AttachType::TraceIter,
        target,
        flags: 0,
    })?;
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
