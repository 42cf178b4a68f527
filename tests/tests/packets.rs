//! The example `packets` on every packet of the capture: user backend, interpreter and native code, against the kernel.

use skep::dump::{Contents, Form, contents};
use skep::load::{LoadOptions, Loaded, load};
use skep::test_run::{Input, run};
use skep::{Kernel, target};
use skep_abi::ProgType;
use skep_bpf::{Backend, Event};
use skep_net::pcap;
use skep_object::{Linked, Object, Options};
use skep_tests::need::{Need, met};
use skep_tests::workspace_root;
use skep_user::Universe;
use skep_vm::Engine;
use std::sync::Arc;

/// What one backend made of the capture.
#[derive(PartialEq, Eq, Debug)]
struct Outcome {
    /// Return value, packet, and the events it made, for each packet.
    packets: Vec<(u32, Vec<u8>, Vec<Vec<u8>>)>,
    /// Maps afterwards.
    maps: Vec<(String, Option<Contents>)>,
}

fn linked(backend: &dyn Backend) -> Linked {
    let bytes = std::fs::read(workspace_root().join("examples/packets.bpf.o")).unwrap();
    let object = Object::parse(
        &bytes,
        &Options {
            name: "packets.bpf.o".to_owned(),
        },
    )
    .unwrap();
    let cpus = u32::try_from(backend.possible_cpus()).unwrap();
    object
        .relocate(&skep_object::Target {
            cpus,
            ..target::reference(&object.needs(), None)
        })
        .unwrap()
}

fn outcome(backend: &Arc<dyn Backend>) -> Outcome {
    let linked = linked(backend.as_ref());
    let loaded: Loaded = load(&linked, backend, &LoadOptions::default()).unwrap();
    let prog = loaded.program("packets").unwrap().handle;
    let mut reader = backend
        .events_open(loaded.map("new_flows").unwrap().handle)
        .unwrap();
    let capture = std::fs::read(workspace_root().join("examples/web.pcap")).unwrap();
    let mut packets = Vec::new();
    for packet in pcap::read(&capture).unwrap() {
        let input = Input {
            data: Some(packet.data.to_vec()),
            ctx: None,
        };
        let result = run(backend.as_ref(), prog, ProgType::Xdp, &input, 1).unwrap();
        let mut events = Vec::new();
        let mut each = |event: Event<'_>| match event {
            Event::Record(bytes) => events.push(bytes.to_vec()),
            other => panic!("{other:?}"),
        };
        reader.drain(&mut each).unwrap();
        packets.push((result.retval, result.data_out, events));
    }
    let maps = loaded.maps.iter().map(|m| {
        let found = contents(backend.as_ref(), m.handle, Form::Canonical).unwrap();
        (m.spec.name.clone(), found)
    });
    let maps = maps.collect();
    Outcome { packets, maps }
}

fn user(engine: Engine) -> Outcome {
    let options = skep_user::Options {
        engine,
        ..skep_user::Options::default()
    };
    outcome(&(Arc::new(Universe::new(options).unwrap()) as Arc<dyn Backend>))
}

#[test]
fn packets_are_the_same_in_both_engines_and_in_the_kernel() {
    let interpreted = user(Engine::Interp);
    assert_eq!(interpreted.packets.len(), 71);
    assert_eq!(
        interpreted.packets.iter().map(|p| p.2.len()).sum::<usize>(),
        20
    );
    assert_eq!(interpreted, user(Engine::Jit));
    if met(&[Need::Bpf, Need::Root]) {
        assert_eq!(
            interpreted,
            outcome(&(Arc::new(Kernel::new()) as Arc<dyn Backend>))
        );
    }
}
