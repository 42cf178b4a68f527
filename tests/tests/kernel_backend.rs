//! The kernel backend against the live kernel.

use skep::Kernel;
use skep::attach::{Hook, attach};
use skep::element::elements;
use skep_abi::{AttachType, MapType, ProgType};
use skep_bpf::{Backend, BatchCursor, Errno, Event, LinkDetail, MapCreate, ProgLoad, TestRun};
use skep_isa::Slot;
use skep_tests::need::{Need, met};
use std::sync::Arc;

fn program(prog_type: ProgType, insns: Vec<Slot>) -> ProgLoad {
    ProgLoad {
        expected_attach_type: (prog_type == ProgType::Xdp).then_some(AttachType::Xdp),
        license: "Dual MIT/GPL".to_owned(),
        name: "test".to_owned(),
        ..ProgLoad::plain(prog_type, insns)
    }
}

/// `r0 = value; exit`
fn returns(value: i32) -> Vec<Slot> {
    vec![Slot::new(0xb7, 0, 0, 0, value), Slot::new(0x95, 0, 0, 0, 0)]
}

#[test]
fn elements_are_written_read_and_walked() {
    if !met(&[Need::Bpf]) {
        return;
    }
    let kernel = Kernel::new();
    let map = kernel
        .map_create(&MapCreate::new(MapType::Hash, 4, 8, 64))
        .unwrap();
    for i in 0..10u32 {
        kernel
            .map_update(map, &i.to_ne_bytes(), &u64::from(i * i).to_ne_bytes(), 0)
            .unwrap();
    }
    let info = kernel.map_info(map).unwrap();
    assert_eq!(
        (info.key_size, info.value_size, info.max_entries),
        (4, 8, 64)
    );
    let mut found = elements(&kernel, map, &info).unwrap();
    found.sort_by_key(|e| u32::from_ne_bytes(e.key.clone().try_into().unwrap()));
    assert_eq!(found.len(), 10);
    assert_eq!(found[3].value, 9u64.to_ne_bytes());
    let mut cursor = BatchCursor::default();
    let (mut keys, mut values) = (vec![0; 4 * 64], vec![0; 8 * 64]);
    let count = kernel
        .map_lookup_batch(map, &mut cursor, &mut keys, &mut values, false, 0)
        .unwrap();
    assert!(count == 10 && cursor.done);
    kernel.map_delete(map, &3u32.to_ne_bytes()).unwrap();
    assert_eq!(
        kernel
            .map_delete(map, &3u32.to_ne_bytes())
            .unwrap_err()
            .errno,
        Errno::ENOENT
    );
    assert_eq!(
        kernel
            .map_lookup(map, &[0; 3], &mut [0; 8], 0)
            .unwrap_err()
            .errno,
        Errno::EINVAL
    );
    kernel.close(map);
    kernel.close(map);
    assert_eq!(kernel.map_info(map).unwrap_err().errno, Errno::EBADF);
}

#[test]
fn a_rejected_program_comes_with_its_log() {
    if !met(&[Need::Bpf]) {
        return;
    }
    let kernel = Kernel::new();
    let error = kernel
        .prog_load(&program(ProgType::Xdp, vec![Slot::new(0x95, 0, 0, 0, 0)]))
        .unwrap_err();
    assert_eq!(error.errno, Errno::EACCES);
    assert!(error.log.contains("R0 !read_ok"), "{}", error.log);
    assert!(error.to_string().contains("program \"test\""), "{error}");
}

#[test]
fn a_test_run_returns_value_and_packet() {
    if !met(&[Need::Bpf]) {
        return;
    }
    let kernel = Kernel::new();
    let prog = kernel
        .prog_load(&program(ProgType::Xdp, returns(2)))
        .unwrap();
    let run = TestRun {
        data_in: Some(vec![7; 64]),
        data_size_out: 4096,
        ..TestRun::default()
    };
    let result = kernel.prog_test_run(prog, &run).unwrap();
    assert_eq!((result.retval, result.data_out), (2, vec![7; 64]));
    assert_eq!(kernel.prog_info(prog).unwrap().name, "test");
}

#[test]
fn a_link_attaches_until_it_is_dropped() {
    if !met(&[Need::Bpf, Need::Root]) {
        return;
    }
    let kernel: Arc<dyn Backend> = Arc::new(Kernel::new());
    let prog = kernel
        .prog_load(&program(ProgType::RawTracepoint, returns(0)))
        .unwrap();
    let link = attach(
        &kernel,
        prog,
        &Hook::RawTracepoint {
            name: "sys_enter".to_owned(),
        },
    )
    .unwrap();
    let info = kernel.link_info(link.handle().unwrap()).unwrap();
    assert_eq!(
        (info.link_type, info.details.first()),
        (
            "raw_tracepoint",
            Some(&("tp_name", LinkDetail::Text("sys_enter".to_owned())))
        )
    );
    let id = info.id;
    drop(link);
    // The kernel frees a link after a grace period.
    let gone = || kernel.by_id(skep_bpf::ObjKind::Link, id).is_err();
    assert!((0..100).any(|_| gone() || {
        std::thread::sleep(std::time::Duration::from_millis(10));
        false
    }));
    let wrong = Hook::RawTracepoint {
        name: "no_such_tracepoint".to_owned(),
    };
    let error = attach(&kernel, prog, &wrong).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no tracepoint \"no_such_tracepoint\""),
        "{error}"
    );
}

#[test]
fn ring_buffer_records_arrive() {
    if !met(&[Need::Bpf]) {
        return;
    }
    let kernel = Kernel::new();
    let ring = kernel
        .map_create(&MapCreate::new(MapType::Ringbuf, 0, 0, 4096))
        .unwrap();
    // *(u64 *)(r10 - 8) = 7; bpf_ringbuf_output(ring, r10 - 8, 8, 0); r0 = 0; exit
    let insns = vec![
        Slot::new(0x7a, 10, 0, -8, 7),
        Slot::new(0x18, 1, 1, 0, ring.0),
        Slot::new(0, 0, 0, 0, 0),
        Slot::new(0xbf, 2, 10, 0, 0),
        Slot::new(0x07, 2, 0, 0, -8),
        Slot::new(0xb7, 3, 0, 0, 8),
        Slot::new(0xb7, 4, 0, 0, 0),
        Slot::new(0x85, 0, 0, 0, 130),
        Slot::new(0xb7, 0, 0, 0, 0),
        Slot::new(0x95, 0, 0, 0, 0),
    ];
    let prog = kernel.prog_load(&program(ProgType::Xdp, insns)).unwrap();
    let mut reader = kernel.events_open(ring).unwrap();
    // More records than fit at one time, so that the buffer wraps.
    for _ in 0..20 {
        let run = TestRun {
            data_in: Some(vec![0; 64]),
            repeat: 30,
            ..TestRun::default()
        };
        kernel.prog_test_run(prog, &run).unwrap();
        let mut seen = 0;
        let count = reader
            .drain(&mut |event| {
                assert_eq!(event, Event::Record(&7u64.to_ne_bytes()));
                seen += 1;
            })
            .unwrap();
        assert_eq!((count, seen), (30, 30));
    }
}

#[test]
fn a_pin_finds_its_filesystem_mounted() {
    if !met(&[Need::Bpf, Need::Root]) {
        return;
    }
    // A thread of its own: the namespace goes with it, and what it mounted.
    let pinned = std::thread::spawn(|| {
        skep_sys::namespace::enter_new_mounts().unwrap();
        let sysfs = skep_sys::mount::detached(c"sysfs").unwrap();
        skep_sys::mount::attach(&sysfs, "/sys".as_ref()).unwrap();
        let kernel = Kernel::new();
        let map = kernel
            .map_create(&MapCreate::new(MapType::Array, 4, 8, 1))
            .unwrap();
        for name in ["first", "second"] {
            let path = std::path::Path::new(skep::pins::ROOT).join(name);
            kernel.obj_pin(map, &path).unwrap();
            kernel.close(kernel.obj_get(&path).unwrap());
        }
        let refused = kernel.obj_pin(map, "/tmp/skep-no-pin".as_ref());
        refused.unwrap_err()
    });
    let refused = pinned.join().unwrap();
    assert_eq!(refused.errno, Errno::EPERM);
    let told = refused.to_string();
    assert!(told.contains("/tmp is not in a bpf filesystem"), "{told}");
}
