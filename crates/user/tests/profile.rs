//! What profilers read of compiled programs.

use skep_abi::ProgType;
use skep_bpf::{Backend, Handle, ProgLoad};
use skep_isa::{Slot, opcode as op};
use skep_user::listing::Which;
use skep_user::profile::{Form, Profile};
use skep_user::{Options, Universe};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of the head of a jitdump file, and of each record in it.
const HEADER_BYTES: usize = 40;
const HEAD_BYTES: usize = 16;
/// Bytes of a code record before the name.
const CODE_FIELDS_BYTES: usize = 40;

struct TestDir(PathBuf);

impl TestDir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("skep-profile-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        Self(dir)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// A universe that tells `form` of its programs, and a program in it.
fn profiled(form: Form, dir: &Path) -> (Universe, Handle, PathBuf) {
    let profile = Profile::open_in(form, dir).expect("a file");
    let path = profile.path().to_owned();
    let options = Options {
        profile: Some(Arc::new(profile)),
        ..Options::default()
    };
    let universe = Universe::new(options).expect("a universe");
    let spec = ProgLoad {
        name: "seven".to_owned(),
        ..ProgLoad::plain(
            ProgType::SocketFilter,
            vec![
                Slot::new(op::ALU64 | op::MOV, 0, 0, 0, 7),
                Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0),
            ],
        )
    };
    let program = universe.prog_load(&spec).expect("accepted");
    (universe, program, path)
}

#[test]
fn a_perf_map_names_the_code_of_every_tier() {
    let dir = TestDir::new("map");
    let (universe, program, path) = profiled(Form::Map, &dir.0);
    let first = universe.prog_listing(program, Which::Current).unwrap();
    let best = universe.prog_listing(program, Which::Best).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    for (line, listing) in lines.iter().zip([&first, &best]) {
        let f = &listing.funcs[0];
        let (address, bytes) = (listing.base + u64::from(f.start), f.end - f.start);
        assert_eq!(*line, format!("{address:x} {bytes:x} {}", f.name));
        assert!(
            f.name.starts_with("bpf_prog_") && f.name.ends_with("_seven"),
            "{}",
            f.name
        );
    }
}

#[test]
fn a_jitdump_holds_code_lines_and_unwinding() {
    let dir = TestDir::new("dump");
    let (universe, program, path) = profiled(Form::Dump, &dir.0);
    let listing = universe.prog_listing(program, Which::Current).unwrap();
    let file = std::fs::read(path).unwrap();
    let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!(&file[..4], 0x4a69_5444u32.to_ne_bytes());
    assert_eq!(word(8) as usize, HEADER_BYTES);
    let (mut at, mut kinds) = (HEADER_BYTES, Vec::new());
    while at < file.len() {
        let (kind, bytes) = (word(at), word(at + 4) as usize);
        kinds.push(kind);
        if kind == 0 {
            let rest = &file[at + HEAD_BYTES + CODE_FIELDS_BYTES..at + bytes];
            let end = rest.iter().position(|b| *b == 0).unwrap();
            assert_eq!(&rest[..end], listing.funcs[0].name.as_bytes());
            assert_eq!(rest[end + 1..], listing.code[..rest.len() - end - 1]);
        }
        at += bytes;
    }
    assert_eq!(at, file.len());
    assert_eq!(kinds, [2, 4, 0], "lines and unwinding come before the code");
}
