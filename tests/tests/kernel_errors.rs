//! Programs that Linux 6.18 runs wrongly (docs/kernels.md): what they come to here, and there.

use skep::Kernel;
use skep_abi::ProgType;
use skep_bpf::{Backend, ProgLoad, TestRun};
use skep_isa::asm::assemble_insns;
use skep_tests::ENGINES;
use skep_tests::need::{Need, met};
use skep_user::{Options, Universe};

/// `BPF_F_TEST_STATE_FREQ`: the kernel compares states at every opportunity.
const STATE_FREQ: u32 = 1 << 3;

struct Error {
    /// For a packet whose length is neither 1 nor 2.
    text: &'static str,
    right: u32,
    linux_6_18: u32,
}

#[rustfmt::skip] // one instruction a line
const ERRORS: &[Error] = &[
    // The path that is walked second ends where the first one went on, so that nobody sees its upper half being read.
    Error { text: "
        r7 = *(u32 *)(r1 + 0)
        *(u64 *)(r10 - 8) = 5
        r0 = 0x1234567800000005 ll
        w1 = 7
        if r7 != 1 goto other
        w0 = cmpxchg32_32(r10 - 8, w0, w1)
        goto join
    other:
        w0 = cmpxchg32_32(r10 - 8, w0, w1)
    join:
        r0 >>= 32
        exit
    ", right: 0, linux_6_18: 0x1234_5678 },
    // The same path of a slot of which an atomic operation fetches the number that a jump depends on.
    Error { text: "
        r7 = *(u32 *)(r1 + 0)
        *(u64 *)(r10 - 8) = 0
        if r7 != 1 goto other
    join:
        r7 = 0
        if r7 == 0 goto read
    read:
        r0 = 0
        r0 = atomic_fetch_or((u64 *)(r10 - 8), r0)
        if r0 s< 256 goto small
        r0 = 7
        exit
    small:
        r0 = 1
        exit
    other:
        *(u64 *)(r10 - 8) = 0x1234
        goto join
    ", right: 7, linux_6_18: 1 },
];

fn value(backend: &dyn Backend, text: &str) -> u32 {
    let spec = ProgLoad {
        name: "kernel_error".to_owned(),
        prog_flags: STATE_FREQ,
        ..ProgLoad::plain(
            ProgType::SocketFilter,
            assemble_insns(text, &skep_isa::asm::NoFacts).unwrap(),
        )
    };
    let handle = backend.prog_load(&spec).unwrap();
    let run = TestRun {
        data_in: Some(vec![0; 64]),
        ..TestRun::default()
    };
    let result = backend.prog_test_run(handle, &run).unwrap();
    backend.close(handle);
    result.retval
}

#[test]
fn errors_of_the_kernel_are_not_repeated() {
    let kernel = met(&[Need::Bpf]).then(Kernel::new);
    for error in ERRORS {
        for (engine, tiers) in ENGINES {
            let universe = Universe::new(Options {
                engine,
                tiers,
                ..Options::default()
            });
            let found = value(&universe.unwrap(), error.text);
            assert_eq!(found, error.right, "{engine:?} {tiers:?}: {}", error.text);
        }
        if let Some(kernel) = &kernel {
            let found = value(kernel, error.text);
            let known = [error.linux_6_18, error.right];
            assert!(known.contains(&found), "kernel {found:#x}: {}", error.text);
            println!("kernel: {found:#x}, right is {:#x}", error.right);
        }
    }
}
