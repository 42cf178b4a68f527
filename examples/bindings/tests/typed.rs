//! Bindings of objects, made by the build script: the same values through either backend.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use skep::Kernel;
use skep::test_run::Input;
use skep::typed::TypedEvent;
use skep_bpf::Backend;
use skep_tests::need::{Need, met};
use skep_user::Universe;
use std::sync::Arc;

skep::bindings!(typed);

use typed::types::{change, narrow, packet, verdict};

/// Variables are set, a program runs, and everything it wrote is read with its types.
fn values_arrive(backend: &Arc<dyn Backend>) {
    let mut open = typed::open().unwrap();
    assert_eq!(open.rodata.limit, 3);
    open.rodata.limit = 5;
    open.data.step = change::CHANGE_LESS;
    let loaded = open.load(backend).unwrap();
    let maps = loaded.maps();
    let mut records = maps.records::<packet>().unwrap().open().unwrap();
    let input = Input {
        data: Some(vec![0; 64]),
        ctx: None,
    };
    let run = loaded.programs().fill().unwrap().test_run(&input).unwrap();
    assert_eq!(run.retval, 1);

    let key = narrow {
        kind: 1,
        total: 1 << 40,
        seen: 1,
    };
    let stored = maps.packets().unwrap().get(&key).unwrap().unwrap();
    check(&stored);
    let all: Vec<_> = maps
        .packets()
        .unwrap()
        .iter()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(all, [(key, stored)]);
    let mut seen = Vec::new();
    records
        .drain(|event| seen.push(matches!(event, TypedEvent::Record(r, []) if r == stored)))
        .unwrap();
    assert_eq!(seen, [true]);

    let totals = maps.per_cpu().unwrap().get(&0).unwrap().unwrap();
    assert_eq!(totals.len(), backend.possible_cpus());
    assert_eq!(totals.iter().filter(|n| { n.total } == u64::MAX).count(), 1);
    assert_eq!(maps.waiting().unwrap().pop().unwrap(), Some(5));
    assert_eq!(maps.waiting().unwrap().pop().unwrap(), None);
    assert_eq!(maps.bss().unwrap().get().unwrap().runs, 5);
    assert!(maps.packets().unwrap().remove(&key).unwrap());
    assert!(!maps.packets().unwrap().remove(&key).unwrap());
}

/// What the program wrote.
fn check(stored: &packet) {
    assert_eq!(
        (
            stored.r#type,
            stored.version(),
            stored.urgent(),
            stored.length()
        ),
        (5, 6, 1, 1500)
    );
    assert_eq!(stored.source.get(), 0x7f00_0001);
    assert_eq!(stored.verdict, verdict::VERDICT_DROP);
    let halves = stored.anon_6.halves();
    assert_eq!(
        (halves.low, halves.high, stored.anon_6.whole()),
        (0, 9, 9 << 32)
    );
    assert_eq!(&stored.name, b"skep\0\0\0\0");
}

#[test]
fn user_backend() {
    let universe = Universe::new(skep_user::Options::default()).unwrap();
    values_arrive(&(Arc::new(universe) as Arc<dyn Backend>));
}

#[test]
fn kernel_backend() {
    if met(&[Need::Bpf]) {
        values_arrive(&(Arc::new(Kernel::new()) as Arc<dyn Backend>));
    }
}

#[test]
fn bit_fields_and_unions_are_written() {
    let mut value = packet::default();
    value.set_length(0x7ff);
    value.set_version(0xff);
    assert_eq!(
        (value.version(), value.urgent(), value.length()),
        (0xf, 0, 0x7ff)
    );
    value.anon_6.set_whole(1 << 32 | 2);
    assert_eq!(
        (value.anon_6.halves().low, value.anon_6.halves().high),
        (2, 1)
    );
}
