//! Samples that user space writes reach programs, in both backends alike.

use crate::attach::needs;
use skep::Kernel;
use skep::typed::{RawMap, Samples, map};
use skep_abi::MapType;
use skep_bpf::{Backend, Errno, MapCreate, TestRun};
use skep_tests::objects::loaded;
use skep_tests::table::works;
use skep_user::{Options, Universe};
use std::sync::Arc;

/// Lengths of samples, which do not divide the buffer.
const LENGTHS: [usize; 5] = [1, 8, 100, 13, 512];
/// Rounds of filling and draining, so that the buffer wraps many times.
const ROUNDS: usize = 50;
/// Bytes of the buffer, and of the longest sample.
const BUFFER_BYTES: usize = 4096;
const LONGEST: usize = BUFFER_BYTES - 16;

/// What drains came to, with how many samples there was room for before each.
fn outcome(backend: &Arc<dyn Backend>) -> Vec<(u32, u32)> {
    let loaded = loaded("drain", backend);
    let program = loaded.programs[0].handle;
    let run = TestRun {
        data_in: Some(vec![0; 64]),
        ..TestRun::default()
    };
    let drain = || backend.prog_test_run(program, &run).unwrap().retval;
    let mut writer = backend
        .samples_open(loaded.map("samples").unwrap().handle)
        .unwrap();
    let mut found = vec![(0, drain())];
    for round in 0..ROUNDS {
        let (mut count, mut sum) = (0, 0);
        // Every other round leaves room.
        while count < 7 || round % 2 == 0 {
            let sample = vec![count as u8; LENGTHS[(round + count as usize) % LENGTHS.len()]];
            if !writer.write(&sample).unwrap() {
                break;
            }
            (count, sum) = (count + 1, sum + count);
        }
        assert_eq!(drain(), sum << 16 | count, "{} {round}", backend.kind());
        found.push((count, sum));
    }
    assert!(writer.write(&[3; LONGEST]).unwrap(), "{}", backend.kind());
    assert!(
        !writer.write(&[3]).unwrap(),
        "{}: it is full",
        backend.kind()
    );
    assert_eq!(drain(), 3 << 16 | 1);
    let raw: RawMap<'_> = map(&loaded, "samples").unwrap();
    let mut typed = Samples::<[u8; 4]>::from(raw).open().unwrap();
    assert!(typed.write(&[5; 4]).unwrap());
    assert_eq!(drain(), 5 << 16 | 1);
    let error = writer.write(&[0; LONGEST + 1]).unwrap_err();
    assert_eq!(error.errno, Errno::E2BIG, "{error}");
    let other = backend
        .map_create(&MapCreate::new(MapType::Ringbuf, 0, 0, 4096))
        .unwrap();
    let refused = backend.samples_open(other).err().unwrap();
    assert_eq!(refused.errno, Errno::EINVAL, "{refused}");
    backend.close(other);
    found
}

#[test]
fn samples_reach_programs() {
    let user = Universe::new(Options::default()).unwrap();
    let found = outcome(&(Arc::new(user) as Arc<dyn Backend>));
    assert!(found.iter().any(|(count, _)| *count > 20));
    if needs() {
        let kernel = outcome(&(Arc::new(Kernel::new()) as Arc<dyn Backend>));
        assert_eq!(found, kernel);
        works("user_ringbuf");
    }
}
