//! Objects live by the same rules in both backends.

use skep::Kernel;
use skep_tests::lifecycle::RULES;
use skep_tests::need::{Need, met};
use skep_user::{Options, Universe};

#[test]
fn objects_live_by_the_kernels_rules() {
    if !met(&[Need::Bpf, Need::Root]) {
        return;
    }
    let (user, kernel) = (Universe::new(Options::default()).unwrap(), Kernel::new());
    let mut differences = Vec::new();
    for (name, rule) in RULES {
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        rule(&user, &mut found);
        rule(&kernel, &mut expected);
        assert!(!expected.is_empty(), "{name}: nothing seen");
        for i in 0..found.len().max(expected.len()) {
            if found.get(i) != expected.get(i) {
                let (user, kernel) = (found.get(i), expected.get(i));
                differences.push(format!("{name}, {i}: user {user:?}, kernel {kernel:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
