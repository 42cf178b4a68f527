//! Counters of the runs of a program, where the kernel has trampolines; where not, it is said.

use crate::attach::needs;
use skep::Kernel;
use skep::counters::{Counter, METRICS, Metric};
use skep_bpf::{Backend, Errno, TestRun};
use skep_tests::objects::loaded;
use skep_tests::table::{refused, works};
use std::sync::Arc;

const RUNS: u32 = 1000;

fn metric(name: &str) -> &'static Metric {
    METRICS.iter().find(|m| m.name == name).unwrap()
}

#[test]
fn runs_of_a_program_are_counted() {
    if !needs() {
        return;
    }
    let backend: Arc<dyn Backend> = Arc::new(Kernel::new());
    let loaded = loaded("samples", &backend);
    let program = loaded.programs[0].handle;
    let start = |name| Counter::start(&backend, program, "sample", metric(name));
    let counter = match start("cpu_clock") {
        Ok(counter) => counter,
        Err(error) => {
            assert_eq!(error.errno, Errno::EPERM, "{error}");
            assert!(error.to_string().contains("trampolines"), "{error}");
            refused("counters", &error);
            return;
        }
    };
    let run = TestRun {
        data_in: Some(vec![0; 64]),
        repeat: RUNS,
        ..TestRun::default()
    };
    backend.prog_test_run(program, &run).unwrap();
    let reading = counter.read().unwrap();
    assert_eq!(reading.runs, u64::from(RUNS));
    assert!(reading.value > 0, "{reading:?}");
    drop(counter);
    works("counters");
    let no_function = Counter::start(&backend, program, "nowhere", metric("cpu_clock"));
    assert_eq!(no_function.unwrap_err().errno, Errno::EINVAL);
    if let Err(error) = start("cycles") {
        assert!(error.to_string().contains("no such counter"), "{error}");
    }
}
