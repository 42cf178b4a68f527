//! Checks of the tables themselves, and of [`super::lookup`] on known cells.

use super::*;

#[test]
fn table_is_well_formed() {
    assert_eq!(HELPERS.len(), 211);
    for (at, row) in HELPERS.iter().enumerate() {
        assert_eq!(usize::try_from(row.id).unwrap(), at + 1, "{}", row.name);
        assert!(row.name.starts_with("bpf_"));
    }
    let rows = HELPERS
        .iter()
        .chain(table::VARIANTS.iter().map(|variant| &variant.proto));
    for row in rows {
        assert!(row.args.len() <= 5, "{}", row.name);
        for (at, arg) in row.args.iter().enumerate() {
            let sized = matches!(
                row.args.get(at + 1).map(|next| next.kind),
                Some(ArgKind::ConstSize | ArgKind::ConstSizeOrZero)
            );
            assert_eq!(
                arg.kind == ArgKind::Mem,
                sized,
                "{} argument {}",
                row.name,
                at + 1
            );
        }
    }
    for variant in table::VARIANTS {
        assert_eq!(by_id(variant.proto.id).unwrap().name, variant.proto.name);
    }
    let ids: Vec<u32> = table::VARIANTS
        .iter()
        .map(|variant| variant.proto.id)
        .collect();
    assert!(ids.is_sorted());
}

#[test]
fn numbers_and_names_agree() {
    assert_eq!(kernel_name(0), "unspec");
    assert_eq!(kernel_name(id::CGRP_STORAGE_DELETE), "cgrp_storage_delete");
    assert_eq!(kernel_name(212), "unknown");
    assert_eq!(by_name("bpf_loop").unwrap().id, id::LOOP);
}

/// A program type with full capabilities and no target.
fn env(prog_type: ProgType, attach: Option<AttachType>) -> ProgEnv<'static> {
    ProgEnv {
        prog_type,
        attach,
        sleepable: false,
        perfmon: true,
        target: "",
        kernel: None,
    }
}

#[test]
fn lookup_knows_types_attach_types_and_capabilities() {
    use AttachType as A;
    use ProgType as P;
    let get = |e: ProgEnv<'_>, id| lookup(&e, id).map(|row| row.args.len());
    assert_eq!(get(env(P::Xdp, None), id::XDP_ADJUST_HEAD), Ok(2));
    assert_eq!(
        get(env(P::Xdp, None), id::SKB_LOAD_BYTES),
        Err(Unavailable::ProgType)
    );
    assert_eq!(get(env(P::Xdp, None), 0), Err(Unavailable::ProgType));
    assert_eq!(get(env(P::Xdp, None), 212), Err(Unavailable::Unknown));
    assert_eq!(
        get(env(P::Kprobe, None), id::OVERRIDE_RETURN),
        Err(Unavailable::Configuration)
    );
    assert_eq!(
        get(env(P::Syscall, None), id::SK_STORAGE_GET),
        Err(Unavailable::Target)
    );
    assert_eq!(
        get(
            env(P::CgroupSockAddr, Some(A::CgroupInet4Connect)),
            id::BIND
        ),
        Ok(3)
    );
    assert_eq!(
        get(env(P::CgroupSockAddr, Some(A::CgroupInet4Bind)), id::BIND),
        Err(Unavailable::ProgType)
    );
    let bpf = ProgEnv {
        perfmon: false,
        ..env(P::Xdp, None)
    };
    assert_eq!(get(bpf, id::TRACE_PRINTK), Err(Unavailable::Perfmon));
    let release = ProgEnv {
        target: "tcp_congestion_ops.release",
        ..env(P::StructOps, None)
    };
    assert_eq!(get(release, id::SETSOCKOPT), Err(Unavailable::ProgType));
    let init = ProgEnv {
        target: "tcp_congestion_ops.init",
        ..release
    };
    assert_eq!(get(init, id::SETSOCKOPT), Ok(5));
}

#[test]
fn variants_replace_rows() {
    let cookie = |prog_type| {
        lookup(&env(prog_type, None), id::GET_SOCKET_COOKIE)
            .unwrap()
            .args[0]
            .kind
    };
    assert_eq!(cookie(ProgType::SchedCls), ArgKind::Ctx);
    assert_eq!(cookie(ProgType::SkReuseport), ArgKind::BtfSockCommon);
    let ip = |attach| {
        lookup(&env(ProgType::Kprobe, attach), id::GET_FUNC_IP)
            .unwrap()
            .flags
    };
    assert!(ip(None).has(HelperFlags::GPL_ONLY));
    assert!(!ip(Some(AttachType::TraceUprobeMulti)).has(HelperFlags::GPL_ONLY));
}
