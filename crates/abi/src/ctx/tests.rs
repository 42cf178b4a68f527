//! Checks of the tables themselves, and of [`super::access`] on known cells.

use super::*;
use crate::types::{AttachType, ProgType};

/// Every table of fields.
const TABLES: &[&[Field]] = &[
    skb::SK_BUFF,
    skb::XDP_MD,
    SOCK,
    TCP_SOCK,
    XDP_SOCK,
    cgroup::SOCK_ADDR,
    cgroup::SYSCTL,
    cgroup::SOCKOPT,
    cgroup::DEVICE,
    sock_ops::SOCK_OPS,
    socket::SK_MSG,
    socket::SK_REUSEPORT,
    socket::SK_LOOKUP,
    socket::NETFILTER,
    socket::LIRC_MODE2,
];

#[test]
fn tables_are_sorted_and_aligned() {
    for table in TABLES {
        assert!(table.is_sorted_by_key(|field| field.offset));
        for field in *table {
            assert!(
                field.offset.is_multiple_of(field.unit.min(4)),
                "{}",
                field.name
            );
            assert!(field.size.is_multiple_of(field.unit), "{}", field.name);
            let pointer = field.yields != Yields::Scalar;
            assert!(
                !pointer || field.read.0 == Mode::Exact && field.write.0 == Mode::Never,
                "{}",
                field.name
            );
        }
    }
}

/// Looks an access up.
fn get(
    prog_type: ProgType,
    attach: Option<AttachType>,
    offset: i32,
    size: u32,
    kind: Access,
) -> Result<Yields, CtxDenied> {
    let env = ProgEnv {
        prog_type,
        attach,
        sleepable: false,
        perfmon: true,
        target: "",
        kernel: None,
    };
    access(&env, offset, size, kind).map(|access| access.yields)
}

#[test]
fn known_cells() {
    use Access::{Read, ReadSigned, Write};
    use CtxDenied as D;
    use ProgType as P;
    #[rustfmt::skip] // one cell per line
    let cells = [
        (P::Xdp,           None,                  0,   4, Read,       Ok(Yields::PktData)),
        (P::Xdp,           None,                  0,   8, Read,       Err(D::Size("data"))),
        (P::Xdp,           None,                  0,   4, ReadSigned, Err(D::SignedPointer("data"))),
        (P::Xdp,           None,                  0,   4, Write,      Err(D::ReadOnly("data"))),
        (P::Xdp,           None,                  20,  4, Read,       Err(D::Hidden("egress_ifindex"))),
        (P::Xdp,           Some(A::XdpDevmap),    20,  4, Read,       Ok(Yields::Scalar)),
        (P::SchedCls,      None,                  48,  8, Write,      Ok(Yields::Scalar)),
        (P::SchedCls,      None,                  52,  8, Write,      Err(D::Size("cb"))),
        (P::SchedCls,      None,                  64,  8, Read,       Err(D::Size("cb"))),
        (P::SchedCls,      None,                  -4,  4, Read,       Err(D::NoField)),
        (P::SkSkb,         None,                  8,   4, Read,       Err(D::Hidden("mark"))),
        (P::SkReuseport,   None,                  20,  1, Read,       Err(D::Size("eth_protocol"))),
        (P::Tracepoint,    None,                  -16, 8, Read,       Ok(Yields::Scalar)),
        (P::Tracepoint,    None,                  0,   8, Read,       Err(D::NoField)),
        (P::PerfEvent,     None,                  4,   4, Read,       Err(D::Size("regs"))),
        (P::RawTracepointWritable, None,          0,   8, Read,       Ok(Yields::TpBuffer)),
        (P::Syscall,       None,                  65534, 1, Write,    Ok(Yields::Scalar)),
        (P::Tracing,       Some(A::TraceFentry),  0,   8, Read,       Err(D::Btf)),
    ];
    for (prog_type, attach, offset, size, kind, want) in cells {
        assert_eq!(
            get(prog_type, attach, offset, size, kind),
            want,
            "{prog_type} {offset} {size} {kind:?}"
        );
    }
}

#[test]
fn registers_have_names() {
    let env = ProgEnv {
        prog_type: ProgType::Kprobe,
        attach: None,
        sleepable: false,
        perfmon: true,
        target: "",
        kernel: None,
    };
    let access = access(&env, 114, 2, Access::Read).unwrap();
    assert_eq!((access.field, access.offset, access.size), ("di", 112, 8));
}

#[test]
fn flow_keys_are_plain_memory() {
    assert!(flow_keys_access(49, 4) && flow_keys_access(48, 8));
    assert!(!flow_keys_access(49, 8) && !flow_keys_access(-1, 1));
}
