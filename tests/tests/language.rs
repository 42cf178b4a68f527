//! What programs are made of, run by the kernel: instructions by their age, functions, callbacks, kernel functions.

use crate::attach::needs;
use skep::Kernel;
use skep::load::{LoadOptions, load};
use skep_abi::ProgType;
use skep_bpf::{Backend, ProgLoad, TestRun};
use skep_isa::asm::{NoFacts, assemble_insns};
use skep_tests::objects::linked;
use skep_tests::table::{refused, works};
use std::sync::Arc;

/// Instructions: the row, a program for which an old kernel has no meaning, and what it returns.
#[rustfmt::skip] // one program a block
const INSTRUCTIONS: &[(&str, &str, u32)] = &[
    ("sdiv", "
        r0 = -7
        r0 s/= 2
        r1 = -7
        r1 s%= 2
        r0 -= r1
        exit
    ", (-2i32).cast_unsigned()),
    ("movsx", "
        r1 = 0x80
        r0 = (s8)r1
        exit
    ", (-128i32).cast_unsigned()),
    ("ldsx", "
        *(u64 *)(r10 - 8) = 0xfff0
        r0 = *(s16 *)(r10 - 8)
        exit
    ", (-16i32).cast_unsigned()),
    ("bswap", "
        r0 = 0x11223344
        r0 = bswap32 r0
        exit
    ", 0x4433_2211),
    ("may_goto", "
        r0 = 0
    again:
        may_goto out
        r0 += 1
        if r0 != 5 goto again
    out:
        exit
    ", 5),
    ("gotol", "
        r0 = *(u32 *)(r1 + 16)
        if r0 == 7 goto other
        r0 = 3
        gotol out
    other:
        r0 = 4
    out:
        exit
    ", 3),
    ("ordered", "
        r1 = 9
        store_release((u64 *)(r10 - 8), r1)
        r0 = load_acquire((u64 *)(r10 - 8))
        exit
    ", 9),
];

/// Programs of objects: the object, the program, its row, and what it returns for [`PACKET`].
#[rustfmt::skip] // one program a line
const PROGRAMS: &[(&str, &str, &str, u32)] = &[
    ("basics", "functions", "functions", 55 + 144),
    ("basics", "callbacks", "callbacks", 4950),
    ("basics", "fetches", "fetches", 5 + 12 + 100 + 1000),
    ("basics", "frames", "frames", 479 - 256),
    ("kfuncs", "sums", "bpf_for", 499_500),
    ("kfuncs", "third_byte", "dynptr_from_xdp", 2),
];

fn packet() -> TestRun {
    TestRun {
        data_in: Some((0..64).collect()),
        ..TestRun::default()
    }
}

#[test]
fn instructions_are_run() {
    if !needs() {
        return;
    }
    let kernel = Kernel::new();
    for (row, text, result) in INSTRUCTIONS {
        let insns = assemble_insns(text, &NoFacts).unwrap();
        let spec = ProgLoad::plain(ProgType::Xdp, insns);
        match kernel.prog_load(&spec) {
            Ok(handle) => {
                let found = kernel.prog_test_run(handle, &packet()).unwrap().retval;
                assert_eq!(found, *result, "{row}");
                kernel.close(handle);
                works(row);
            }
            Err(error) => refused(row, &error),
        }
    }
}

#[test]
fn programs_of_objects_are_run() {
    if !needs() {
        return;
    }
    let backend: Arc<dyn Backend> = Arc::new(Kernel::new());
    for (object, program, row, result) in PROGRAMS {
        let options = LoadOptions {
            program: Some((*program).to_owned()),
            ..LoadOptions::default()
        };
        match load(&linked(object, backend.as_ref()), &backend, &options) {
            Ok(loaded) => {
                let found = backend.prog_test_run(loaded.programs[0].handle, &packet());
                assert_eq!(found.unwrap().retval, *result, "{row}");
                works(row);
            }
            Err(error) => refused(row, &error),
        }
    }
}
