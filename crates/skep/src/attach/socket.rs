//! Programs on sockets: filters, choosers of a reuseport group, and programs of sockmaps.

use super::{Hold, Link, refused};
use skep_abi::AttachType;
use skep_bpf::{Backend, Errno, Handle, LinkCreate, LinkTarget, Result};
use skep_sys::attr::ProgAttach;
use skep_sys::{bpf, bpf_prog, socket};
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Which option of the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Filter,
    Reuseport,
}

/// A socket with a program.
pub(super) struct Held {
    socket: OwnedFd,
    kind: Kind,
}

impl Held {
    pub(super) fn remove(&self) {
        // A closed socket has no program any more.
        let _ = match self.kind {
            Kind::Filter => socket::detach_filter(self.socket.as_fd()),
            Kind::Reuseport => socket::detach_reuseport(self.socket.as_fd()),
        };
    }
}

/// Attaches to a socket; the program's handle is its descriptor in the kernel backend.
pub(super) fn attach(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    fd: RawFd,
    kind: Kind,
) -> Result<Link> {
    let attached = bpf::duplicate(fd).and_then(|socket| {
        match kind {
            Kind::Filter => socket::attach_filter(socket.as_fd(), prog.0)?,
            Kind::Reuseport => socket::attach_reuseport(socket.as_fd(), prog.0)?,
        }
        io::Result::Ok(Held { socket, kind })
    });
    let held = attached.map_err(|e| refused("setsockopt of a program", &e))?;
    Ok(Link {
        backend: Arc::clone(backend),
        hold: Hold::Socket(held),
        _event: None,
    })
}

/// Attaches to the sockets of a map: with a link where the kernel has one, without on older kernels.
pub(super) fn attach_map(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    map: Handle,
    attach_type: AttachType,
) -> Result<Link> {
    let target = LinkTarget::Fd {
        fd: map.0,
        cookie: 0,
    };
    match Link::of(
        backend,
        &LinkCreate {
            prog,
            attach_type,
            target,
            flags: 0,
        },
        None,
    ) {
        Err(error) if error.errno == Errno::EINVAL => {}
        done => return done,
    }
    let plain = ProgAttach {
        target_fd: map.0.cast_unsigned(),
        attach_bpf_fd: prog.0.cast_unsigned(),
        attach_type: attach_type.id(),
        ..ProgAttach::default()
    };
    bpf_prog::attach(&plain).map_err(|e| refused("BPF_PROG_ATTACH to a sockmap", &e))?;
    Ok(Link {
        backend: Arc::clone(backend),
        hold: Hold::Plain(plain),
        _event: None,
    })
}
