//! Whole objects on every packet of the capture: user backend, interpreter and native code, against the kernel.

use skep::Kernel;
use skep::dump::{Contents, Form, contents};
use skep::load::Loaded;
use skep::test_run::{Input, run};
use skep_abi::{MapType, ProgType};
use skep_bpf::{Backend, Event, EventReader};
use skep_net::capture;
use skep_tests::need::{Need, met};
use skep_tests::objects::loaded;
use skep_tests::table::works;
use skep_tests::workspace_root;
use skep_user::Universe;
use skep_vm::{Engine, Tiers};
use std::sync::Arc;

/// Lines of the trace stream that are ours; in the kernel everybody's arrive.
const TRACE_MARK: &str = "run ";
/// Bytes of the samples; the kernel pads them.
const SAMPLE_BYTES: usize = 8;

/// An object under test.
struct Case {
    object: &'static str,
    program: &'static str,
    traces: bool,
    /// What the kernel has shown then.
    rows: &'static [&'static str],
}

/// What one backend made of the capture.
#[derive(PartialEq, Eq, Debug)]
struct Outcome {
    /// Return value, packet, and the events it made, for each packet.
    packets: Vec<(u32, Vec<u8>, Vec<String>)>,
    /// Maps afterwards.
    maps: Vec<(String, Option<Contents>)>,
}

impl Case {
    fn streams(&self, loaded: &Loaded) -> Vec<Box<dyn EventReader>> {
        let is_stream = |t| matches!(t, MapType::Ringbuf | MapType::PerfEventArray);
        let maps = loaded.maps.iter().filter(|m| is_stream(m.spec.map_type));
        let mut streams: Vec<_> = maps
            .map(|m| loaded.backend().events_open(m.handle).unwrap())
            .collect();
        if self.traces {
            streams.push(loaded.backend().trace_open().unwrap());
        }
        streams
    }

    fn outcome(&self, backend: &Arc<dyn Backend>) -> Outcome {
        let loaded = loaded(self.object, backend);
        let prog = loaded.program(self.program).unwrap().handle;
        let mut streams = self.streams(&loaded);
        let capture = std::fs::read(workspace_root().join("examples/web.pcap")).unwrap();
        let mut packets = Vec::new();
        for packet in capture::read(&capture).unwrap() {
            let input = Input {
                data: Some(packet.data.to_vec()),
                ctx: None,
            };
            let result = run(backend.as_ref(), prog, ProgType::Xdp, &input, 1).unwrap();
            let mut events = Vec::new();
            for stream in &mut streams {
                stream
                    .drain(&mut |event| events.extend(describe(event)))
                    .unwrap();
            }
            packets.push((result.retval, result.data_out, events));
        }
        let maps = loaded.maps.iter().map(|m| {
            let found = contents(backend.as_ref(), m.handle, Form::Canonical).unwrap();
            (m.spec.name.clone(), found)
        });
        let maps = maps.collect();
        Outcome { packets, maps }
    }

    fn user(&self, engine: Engine, tiers: Tiers) -> Outcome {
        let options = skep_user::Options {
            engine,
            tiers,
            ..skep_user::Options::default()
        };
        self.outcome(&(Arc::new(Universe::new(options).unwrap()) as Arc<dyn Backend>))
    }

    /// The outcome, which is the same everywhere.
    fn check(&self) -> Outcome {
        let interpreted = self.user(Engine::Interp, Tiers::Adaptive);
        for tiers in [Tiers::Templates, Tiers::Optimised] {
            let compiled = self.user(Engine::Jit, tiers);
            assert_eq!(interpreted, compiled, "interpreter and {tiers:?}");
        }
        let mut needs = vec![Need::Bpf, Need::Root];
        needs.extend(self.traces.then_some(Need::Tracefs));
        if met(&needs) {
            let kernel = self.outcome(&(Arc::new(Kernel::new()) as Arc<dyn Backend>));
            assert_eq!(interpreted, kernel, "user backend and kernel");
            self.rows.iter().for_each(|row| works(row));
        }
        interpreted
    }
}

/// An event as text; `None` for what others traced.
fn describe(event: Event<'_>) -> Option<String> {
    match event {
        Event::Record(bytes) => Some(format!("record {bytes:x?}")),
        Event::Sample { data, .. } => Some(format!("sample {:x?}", &data[..SAMPLE_BYTES])),
        Event::Trace(line) => line
            .starts_with(TRACE_MARK)
            .then(|| format!("trace {line}")),
        Event::Lost { count, .. } => panic!("{count} events were lost"),
    }
}

#[test]
fn packets_are_the_same_in_both_engines_and_in_the_kernel() {
    let case = Case {
        object: "examples/packets",
        program: "packets",
        traces: false,
        rows: &[],
    };
    let outcome = case.check();
    assert_eq!(outcome.packets.len(), 71);
    assert_eq!(outcome.packets.iter().map(|p| p.2.len()).sum::<usize>(), 20);
}

#[test]
fn all_streams_say_the_same() {
    let case = Case {
        object: "emit",
        program: "emit",
        traces: true,
        rows: &["ringbuf", "perf_buffer", "trace_printk"],
    };
    let outcome = case.check();
    let count = |kind: &str| {
        outcome
            .packets
            .iter()
            .flat_map(|p| &p.2)
            .filter(|e| e.starts_with(kind))
            .count()
    };
    assert_eq!(
        (count("record"), count("sample"), count("trace")),
        (71, 71, 71)
    );
}
