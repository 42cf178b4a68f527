//! Programs whose test runs once came to something else than the kernel's.

use skep::Kernel;
use skep_bpf::{Backend, TestRun};
use skep_tests::need::{Need, met};
use skep_tests::objects::{loaded, object};
use skep_user::{Options, Universe};
use skep_vm::Engine;
use std::sync::Arc;

/// The text that programs without packet are given the address of.
const TEXT: &std::ffi::CStr = c"text";

/// What each program of the object comes to.
fn outcomes(backend: &Arc<dyn Backend>) -> Vec<String> {
    let loaded = loaded("corners", backend);
    let outcome = |program: &skep::load::LoadedProgram| {
        let section = program.spec.section.as_str();
        let is_memory = section.starts_with("syscall");
        let is_packet = !section.starts_with("raw_tp") && !is_memory;
        let mut packet = vec![0u8; 64];
        packet[12..14].copy_from_slice(&[0x08, 0x00]);
        let run = TestRun {
            data_in: is_packet.then_some(packet),
            ctx_in: is_memory.then(|| (TEXT.as_ptr() as u64).to_ne_bytes().to_vec()),
            data_size_out: if is_packet { 256 } else { 0 },
            ..TestRun::default()
        };
        let result = backend.prog_test_run(program.handle, &run);
        let result = result.map(|r| (r.retval, r.data_out)).map_err(|e| e.errno);
        format!("{}: {result:?}", program.spec.name)
    };
    loaded.programs.iter().map(outcome).collect()
}

#[test]
fn corners_are_the_kernels() {
    if !met(&[Need::Bpf, Need::Root]) {
        return;
    }
    let expected = outcomes(&(Arc::new(Kernel::new()) as Arc<dyn Backend>));
    for engine in [Engine::Interp, Engine::Jit] {
        let kernel_btf = skep::target::reference_btf(&object("corners").needs());
        let universe = Universe::new(Options {
            engine,
            kernel_btf: Some(Arc::new(kernel_btf)),
            ..Options::default()
        });
        let found = outcomes(&(Arc::new(universe.unwrap()) as Arc<dyn Backend>));
        assert_eq!(found, expected, "{}", engine.name());
    }
}
