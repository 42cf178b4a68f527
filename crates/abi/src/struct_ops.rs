//! Structures of kernel operations that programs implement (`BPF_PROG_TYPE_STRUCT_OPS`), and typed structures whose fields
//! programs may write.
//!
//! As observed on Linux 6.18 by loading one program for each member, as sleepable or not, and for each offset and size of a
//! store (`check_member` and `btf_struct_access` of net/ipv4/bpf_tcp_ca.c, net/bpf/bpf_dummy_struct_ops.c,
//! net/netfilter/nf_conntrack_bpf.c). Structures of other configurations (sched_ext, HID, qdiscs) are absent there.

use crate::types::ProgType;

/// Which members of a structure may be implemented by sleepable programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sleepable {
    /// Any.
    All,
    /// Only these.
    Only(&'static [&'static str]),
}

/// A structure of operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StructOps {
    /// Its name in the kernel's BTF.
    pub name: &'static str,
    /// Operations that programs cannot implement: `attach to unsupported member`, `ENOTSUPP`.
    pub unsupported: &'static [&'static str],
    /// Sleepable operations; others refuse a sleepable program with the same words and `EINVAL`.
    pub sleepable: Sleepable,
    /// Arguments of the first type are pointers to the second one.
    pub promotes: Option<(&'static str, &'static str)>,
    /// Arguments that may be NULL: operation and index (`__nullable` in the kernel's stubs).
    pub nullable: &'static [(&'static str, u8)],
}

/// All structures of operations of the reference kernel, ordered by name; any other is `not a supported struct`, `ENOTSUPP`.
pub const STRUCT_OPS: &[StructOps] = &[
    StructOps {
        name: "bpf_dummy_ops",
        unsupported: &[],
        sleepable: Sleepable::Only(&["test_sleepable"]),
        promotes: None,
        nullable: &[("test_1", 0)],
    },
    StructOps {
        name: "tcp_congestion_ops",
        unsupported: &["get_info"],
        sleepable: Sleepable::All,
        promotes: Some(("sock", "tcp_sock")),
        nullable: &[],
    },
];

/// The structure of operations called `name`.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static StructOps> {
    STRUCT_OPS.iter().find(|row| row.name == name)
}

/// A field that programs may write behind a typed pointer. Stores start at the field's first byte and end inside it; into an
/// array they may start anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Writable {
    /// Program types that may.
    pub types: &'static [ProgType],
    /// Structure behind the pointer.
    pub structure: &'static str,
    /// Path of the field from that structure.
    pub field: &'static str,
}

/// Builds one line of [`WRITABLE`] for TCP congestion control.
const fn tcp(field: &'static str) -> Writable {
    Writable {
        types: &[ProgType::StructOps],
        structure: "tcp_sock",
        field,
    }
}

/// Builds one line of [`WRITABLE`] for connections.
const fn conn(structure: &'static str, field: &'static str) -> Writable {
    Writable {
        types: &[ProgType::SchedCls, ProgType::Xdp],
        structure,
        field,
    }
}

/// All writable fields, by structure.
#[rustfmt::skip] // one field per line
pub const WRITABLE: &[Writable] = &[
    Writable { types: &[ProgType::StructOps], structure: "bpf_dummy_ops_state", field: "val" },
    conn("nf_conn", "mark"),
    conn("nf_conn___init", "ct.mark"),
    tcp("inet_conn.icsk_inet.sk.sk_pacing_status"),
    tcp("inet_conn.icsk_inet.sk.sk_pacing_rate"),
    tcp("inet_conn.icsk_ack.pending"),
    tcp("inet_conn.icsk_ca_priv"),
    tcp("snd_cwnd"),
    tcp("snd_ssthresh"),
    tcp("ecn_flags"),
    tcp("app_limited"),
    tcp("snd_cwnd_cnt"),
    tcp("snd_cwnd_stamp"),
];

/// Paths of the fields of `structure` that a program of this type may write.
pub fn writable(prog_type: ProgType, structure: &str) -> impl Iterator<Item = &'static str> {
    let rows = WRITABLE
        .iter()
        .filter(move |row| row.types.contains(&prog_type) && row.structure == structure);
    rows.map(|row| row.field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ordered() {
        assert!(STRUCT_OPS.is_sorted_by(|a, b| a.name < b.name));
        assert!(WRITABLE.is_sorted_by_key(|row| row.structure));
    }

    #[test]
    fn known_cells() {
        assert_eq!(
            by_name("tcp_congestion_ops").unwrap().unsupported,
            ["get_info"]
        );
        assert!(by_name("Qdisc_ops").is_none());
        assert_eq!(writable(ProgType::StructOps, "tcp_sock").count(), 10);
        assert_eq!(writable(ProgType::Kprobe, "nf_conn").count(), 0);
    }
}
