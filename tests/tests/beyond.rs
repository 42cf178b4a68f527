//! Objects that have something the user backend does not have: what does not need it runs.

use skep::check::{CheckOptions, Checker};
use skep::load::{LoadOptions, load};
use skep_bpf::{Backend, Errno, TestRun};
use skep_tests::objects::{bytes, linked, path};
use skep_user::{Options, Universe};
use skep_verifier::Caps;
use std::sync::Arc;

#[test]
fn programs_that_do_not_name_a_missing_map_run() {
    let folder = std::env::temp_dir().join(format!("skep-beyond-{}", std::process::id()));
    let universe = || {
        let pin_dir = Some(folder.clone());
        let options = Options {
            pin_dir,
            ..Options::default()
        };
        Arc::new(Universe::new(options).unwrap()) as Arc<dyn Backend>
    };
    let counts = LoadOptions {
        program: Some("counts".to_owned()),
        ..LoadOptions::default()
    };
    // The map that is pinned by its name is the same in the second round.
    for round in 1..=2 {
        let backend = universe();
        let linked = linked("beyond", backend.as_ref());
        let loaded = load(&linked, &backend, &counts).unwrap();
        assert_eq!(loaded.refused[0].0, "sockets");
        let run = TestRun {
            data_in: Some(vec![0; 64]),
            ..TestRun::default()
        };
        let result = backend.prog_test_run(loaded.programs[0].handle, &run);
        assert_eq!(result.unwrap().retval, round);
        let whole = load(&linked, &backend, &LoadOptions::default());
        let refused = whole.unwrap_err();
        assert!(
            matches!(&refused, skep::load::LoadError::Backend(e) if e.errno == Errno::EOPNOTSUPP)
        );
        assert!(
            refused
                .to_string()
                .contains("sockmap exist only in a kernel")
        );
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_check_says_which_programs_run() {
    let checker = Checker::open(&bytes(&path("beyond")), &CheckOptions::default()).unwrap();
    let why_not = |program| checker.check(program, Caps::All).unwrap().why_not;
    assert_eq!(why_not("counts"), None);
    let why = why_not("looks").unwrap();
    assert!(why.starts_with("U0006: map `sockets`"), "{why}");
}
