//! Files that are no BPF objects are refused with one sentence.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use skep_object::{Object, Options};

fn packets() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/packets.bpf.o");
    std::fs::read(path).unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    Object::parse(bytes, &Options::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn wrong_files_are_named() {
    let object = packets();
    let changed = |at: usize, to: u8| {
        let mut bytes = object.clone();
        bytes[at] = to;
        bytes
    };
    let mut big_endian = changed(5, 2);
    big_endian[16..24].copy_from_slice(&[0, 1, 0, 247, 0, 0, 0, 1]);
    #[rustfmt::skip]
    let cases: &[(&[u8], &str)] = &[
        (b"",                  "not an ELF file"),
        (b"#include <bpf.h>",  "not an ELF file"),
        (&object[..40],        "damaged object: "),
        (&changed(4, 1),       "not a BPF object: a 32-bit ELF file"),
        (&changed(18, 62),     "not a BPF object: its machine is x86-64"),
        (&changed(16, 2),      "not a BPF object: it is an executable or library, not a relocatable object"),
        (&big_endian,          "not a BPF object: it is big-endian, this machine is little-endian"),
    ];
    for (bytes, expected) in cases {
        let expected_tail = expected.strip_suffix(": ").is_some();
        let found = refusal(bytes);
        let fits = if expected_tail {
            found.starts_with(expected)
        } else {
            found == *expected
        };
        assert!(fits, "{found:?}, expected {expected:?}");
        assert!(!found.contains('\n'));
    }
}

#[test]
fn a_cut_object_is_refused_wherever_it_is_cut() {
    let object = packets();
    for len in (0..object.len()).step_by(61) {
        assert!(
            Object::parse(&object[..len], &Options::default()).is_err(),
            "{len}"
        );
    }
}
