//! Images have no address: the same one runs at several places, and in another process that was told nothing but its bytes.

use super::image::{CodeImage, Fault, Reloc, Symbol, Tier};
use super::testing::{Random, TestProgram, VALUE_BYTES, evaluate, link, random_program, run};
use super::tests::faulting_program;
use std::process::Command;

/// Random programs, and the seed of the first one.
const PROGRAMS: u64 = 40;
const SEED: u64 = 0x5eed_0001;
/// Where the other process finds the images.
const IMAGES: &str = "SKEP_TEST_IMAGES";
/// Its lines with results begin with this.
const RESULT: &str = "result ";

/// The value that every run begins with.
fn value() -> Vec<u64> {
    let mut random = Random(SEED);
    (0..VALUE_BYTES / 8).map(|_| random.next()).collect()
}

fn programs() -> Vec<TestProgram> {
    let random = |seed| random_program(&mut Random(SEED + seed));
    let mut all: Vec<TestProgram> = (0..PROGRAMS).map(random).collect();
    // Its exception table must move with the code.
    all.push(faulting_program());
    all
}

/// The images of all programs that end, with what they return and leave in the value.
fn images() -> Vec<(CodeImage, u64, Vec<u64>)> {
    let mut all = Vec::new();
    for p in programs() {
        let mut left = value();
        let memory = left.as_mut_ptr().cast();
        let Some(r0) = evaluate_or_five(&p, memory) else {
            continue;
        };
        for tier in [Tier::Baseline, Tier::Optimised] {
            all.push((p.compile(tier), r0, left.clone()));
        }
    }
    all
}

/// What a program returns; the evaluator knows no faults, after which [`faulting_program`] returns 5.
fn evaluate_or_five(p: &TestProgram, value: *mut u8) -> Option<u64> {
    let faults = p.compile(Tier::Baseline).faults;
    if faults.is_empty() {
        evaluate(p, value, std::ptr::null_mut(), &mut (1 << 20))
    } else {
        Some(5)
    }
}

/// Links `image` to a fresh value and runs it.
fn run_here(image: &CodeImage) -> (u64, Vec<u64>, *const u8) {
    let mut left = value();
    let code = link(image, left.as_mut_ptr().cast());
    let r0 = run(&code, std::ptr::null_mut());
    (r0, left, code.base())
}

#[test]
fn an_image_runs_at_several_addresses() {
    for (image, r0, left) in images() {
        let mut values = [value(), value()];
        let codes = values
            .each_mut()
            .map(|v| link(&image, v.as_mut_ptr().cast()));
        assert_ne!(codes[0].base(), codes[1].base());
        for code in &codes {
            assert_eq!(run(code, std::ptr::null_mut()), r0);
        }
        assert!(values.iter().all(|v| *v == left));
    }
}

#[test]
fn an_image_runs_in_another_process() {
    if std::env::var_os(IMAGES).is_some() {
        return;
    }
    let images = images();
    let path = std::env::temp_dir().join(format!("skep-images-{}", std::process::id()));
    let bytes: Vec<u8> = images
        .iter()
        .flat_map(|(image, ..)| to_bytes(image))
        .collect();
    std::fs::write(&path, bytes).expect("written");
    let me = std::env::current_exe().expect("a program");
    let output = Command::new(me)
        .args(["--exact", "--nocapture", "jit::elsewhere_tests::child"])
        .env(IMAGES, &path)
        .output();
    let _gone = std::fs::remove_file(&path);
    let output = String::from_utf8(output.expect("it runs").stdout).expect("text");
    let results: Vec<&str> = output
        .lines()
        .filter_map(|l| l.split_once(RESULT))
        .map(|(_, r)| r)
        .collect();
    let expected = images.iter().map(|(_, r0, left)| result(*r0, left));
    assert_eq!(results, expected.collect::<Vec<_>>());
}

/// The other process: runs what it finds in the file, and says what came out.
#[test]
fn child() {
    let Some(path) = std::env::var_os(IMAGES) else {
        return;
    };
    let bytes = std::fs::read(path).expect("written by the parent");
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let image = from_bytes(&mut rest);
        let (r0, left, _) = run_here(&image);
        println!("\n{RESULT}{}", result(r0, &left));
    }
}

/// What came out of a run, on a line.
fn result(r0: u64, left: &[u64]) -> String {
    let sum = left.iter().fold(0u64, |sum, v| sum.rotate_left(5) ^ v);
    format!("{r0:x} {sum:x}")
}

/// An image as words and bytes: only its code, relocations and exception table matter to a run.
fn to_bytes(image: &CodeImage) -> Vec<u8> {
    let mut words = vec![image.relocs.len(), image.faults.len(), image.code.len()];
    for r in &image.relocs {
        let Symbol::MapValue { offset, .. } = r.symbol else {
            panic!("test programs name one value");
        };
        words.extend([r.at as usize, offset as usize]);
    }
    for f in &image.faults {
        words.extend([f.at as usize, f.resume as usize]);
    }
    let words = words.iter().flat_map(|w| (*w as u32).to_le_bytes());
    words.chain(image.code.iter().copied()).collect()
}

fn from_bytes(rest: &mut &[u8]) -> CodeImage {
    let mut word = || {
        let (word, after) = rest.split_first_chunk::<4>().expect("a word");
        *rest = after;
        u32::from_le_bytes(*word)
    };
    let (relocs, faults, code) = (word(), word(), word());
    let relocs = (0..relocs).map(|_| Reloc {
        at: word(),
        symbol: Symbol::MapValue {
            map: 0,
            offset: word(),
        },
    });
    let relocs = relocs.collect();
    let faults = (0..faults).map(|_| Fault {
        at: word(),
        resume: word(),
    });
    let faults = faults.collect();
    let (code, after) = rest.split_at(code as usize);
    *rest = after;
    CodeImage {
        code: code.to_vec(),
        relocs,
        funcs: Vec::new(),
        lines: Vec::new(),
        faults,
        tier: Tier::Baseline,
    }
}
