//! Contexts of cgroup programs: `struct bpf_sock_addr`, `bpf_sysctl`, `bpf_sockopt`, `bpf_cgroup_dev_ctx`.

use super::field::ANY;
use super::field::Mode::{Bytes, Exact, Narrow, Words};
use super::{Field, Yields};
use crate::types::AttachType as A;

/// Hooks where a socket is made or goes (`BPF_CGROUP_INET_SOCK_CREATE`, `_RELEASE`).
pub(super) const SOCK_CREATE: u16 = 4;
/// `BPF_CGROUP_INET4_POST_BIND`
pub(super) const SOCK_BIND4: u16 = 8;
/// `BPF_CGROUP_INET6_POST_BIND`
pub(super) const SOCK_BIND6: u16 = 16;

/// The hook of a `BPF_PROG_TYPE_CGROUP_SOCK` program, as a reader of [`super::SOCK`].
pub(super) const fn sock_hook(attach: Option<A>) -> u16 {
    match attach {
        Some(A::CgroupInet4PostBind) => SOCK_BIND4,
        Some(A::CgroupInet6PostBind) => SOCK_BIND6,
        _ => SOCK_CREATE,
    }
}

/// IPv4 address hooks.
const V4: u16 = 1;
/// IPv6 address hooks.
const V6: u16 = 2;
/// Unix address hooks.
const UNIX: u16 = 4;
/// IPv4 hook that may choose the source address.
const SENDMSG4: u16 = 8;
/// IPv6 hook that may choose the source address.
const SENDMSG6: u16 = 16;

/// The hook of a `BPF_PROG_TYPE_CGROUP_SOCK_ADDR` program, as a reader of [`SOCK_ADDR`].
pub(super) const fn addr_hook(attach: Option<A>) -> u16 {
    match attach {
        Some(A::CgroupUdp4Sendmsg) => V4 | SENDMSG4,
        Some(A::CgroupUdp6Sendmsg) => V6 | SENDMSG6,
        Some(
            A::CgroupInet4Bind
            | A::CgroupInet4Connect
            | A::CgroupUdp4Recvmsg
            | A::CgroupInet4Getpeername
            | A::CgroupInet4Getsockname,
        ) => V4,
        Some(
            A::CgroupInet6Bind
            | A::CgroupInet6Connect
            | A::CgroupUdp6Recvmsg
            | A::CgroupInet6Getpeername
            | A::CgroupInet6Getsockname,
        ) => V6,
        _ => UNIX,
    }
}

/// `struct bpf_sock_addr`. Source: `sock_addr_is_valid_access`.
#[rustfmt::skip] // one field per line
pub(super) const SOCK_ADDR: &[Field] = &[
    Field::new("user_family", 0, 4).read(Exact, ANY),
    Field::new("user_ip4", 4, 4).read(Narrow, V4).write(Exact, V4),
    Field::array("user_ip6", 8, 4, 4).read(Bytes, V6).write(Words, V6),
    Field::new("user_port", 24, 4).read(Narrow, ANY).write(Exact, ANY),
    Field::new("family", 28, 4).read(Exact, ANY),
    Field::new("type", 32, 4).read(Exact, ANY),
    Field::new("protocol", 36, 4).read(Exact, ANY),
    Field::new("msg_src_ip4", 40, 4).read(Narrow, SENDMSG4).write(Exact, SENDMSG4),
    Field::array("msg_src_ip6", 44, 4, 4).read(Bytes, SENDMSG6).write(Words, SENDMSG6),
    Field::new("sk", 64, 8).read(Exact, ANY).yields(Yields::Sock),
];

/// `struct bpf_sysctl`. Source: `sysctl_is_valid_access`.
#[rustfmt::skip] // one field per line
pub(super) const SYSCTL: &[Field] = &[
    Field::new("write", 0, 4).read(Narrow, ANY),
    Field::new("file_pos", 4, 4).read(Narrow, ANY).write(Exact, ANY),
];

/// `BPF_CGROUP_GETSOCKOPT`
pub(super) const GETSOCKOPT: u16 = 1;
/// `BPF_CGROUP_SETSOCKOPT`
pub(super) const SETSOCKOPT: u16 = 2;

/// `struct bpf_sockopt`. Source: `cg_sockopt_is_valid_access`.
#[rustfmt::skip] // one field per line
pub(super) const SOCKOPT: &[Field] = &[
    Field::new("sk", 0, 8).read(Exact, ANY).yields(Yields::Sock),
    Field::new("optval", 8, 8).read(Exact, ANY).yields(Yields::PktData),
    Field::new("optval_end", 16, 8).read(Exact, ANY).yields(Yields::PktEnd),
    Field::new("level", 24, 4).read(Exact, ANY).write(Exact, SETSOCKOPT),
    Field::new("optname", 28, 4).read(Exact, ANY).write(Exact, SETSOCKOPT),
    Field::new("optlen", 32, 4).read(Exact, ANY).write(Exact, ANY),
    Field::new("retval", 36, 4).read(Exact, GETSOCKOPT).write(Exact, GETSOCKOPT),
];

/// `struct bpf_cgroup_dev_ctx`. Source: `cgroup_dev_is_valid_access`.
#[rustfmt::skip] // one field per line
pub(super) const DEVICE: &[Field] = &[
    Field::new("access_type", 0, 4).read(Narrow, ANY),
    Field::new("major", 4, 4).read(Exact, ANY),
    Field::new("minor", 8, 4).read(Exact, ANY),
];
