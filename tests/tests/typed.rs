//! Typed kernel pointers and objects: programs that say by their names what must come of them, here and in the kernel.

use skep::Kernel;
use skep::check::{CheckOptions, Checker, Verdict};
use skep::load::{LoadOptions, load};
use skep_bpf::Backend;
use skep_tests::need::Need;
use skep_tests::objects::{bytes, linked, path};
use skep_verifier::Caps;
use std::sync::Arc;

/// Objects whose programs are named `ok_…`, `bad_CODE_…`, or `odd_CODE_…` for what the kernel accepts by an error.
const OBJECTS: &[&str] = &["kptrs", "trust", "calls", "shared", "shapes", "members"];

/// `V0805` of `bad_V0805_what`, or `None` for a program that is accepted.
fn expected(program: &str) -> Option<&str> {
    let rest = program
        .strip_prefix("bad_")
        .or_else(|| program.strip_prefix("odd_"))?;
    Some(rest.split_once('_').unwrap().0)
}

#[test]
fn verdicts_are_as_named() {
    let mut wrong = Vec::new();
    for name in OBJECTS {
        let checker = Checker::open(&bytes(&path(name)), &CheckOptions::default()).unwrap();
        for program in checker.programs() {
            let found = match checker.check(program, Caps::All).unwrap().verdict {
                Verdict::Accept(_) => None,
                Verdict::Reject(no) => Some(format!("{}: {}", no.code, no.cause)),
                Verdict::Error(why) | Verdict::Unknown(why) => Some(why),
            };
            let fits = match expected(program) {
                None => found.is_none(),
                Some(code) => found.as_ref().is_some_and(|f| f.starts_with(code)),
            };
            if !fits {
                wrong.push(format!("{name} {program}: {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_kernel_agrees() {
    if !Need::Bpf.is_met() {
        println!("skipped: {}", Need::Bpf.name());
        return;
    }
    let kernel: Arc<dyn Backend> = Arc::new(Kernel::new());
    let mut wrong = Vec::new();
    for name in OBJECTS {
        let linked = linked(name, kernel.as_ref());
        for program in &linked.programs {
            let mut alone = linked.clone();
            alone.programs.retain(|p| p.name == program.name);
            let accepted = load(&alone, &kernel, &LoadOptions::default()).is_ok();
            if accepted == program.name.starts_with("bad_") {
                wrong.push(format!("{name} {}: accepted {accepted}", program.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
