//! Objects that are linked to one do what their sources say, as they do when bpftool links them.

use crate::attach::needs;
use skep::load::{LoadOptions, load};
use skep::{Kernel, target};
use skep_bpf::{Backend, TestRun};
use skep_btf::{Btf, Kind};
use skep_object::combine::{CombineError, Input, combine};
use skep_object::{Object, Options};
use skep_tests::workspace_root;
use skep_user::Universe;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// What the programs return in their first run, see the sources.
const RESULTS: &[(&str, u32)] = &[("whole", 291), ("part", 8)];

fn path(name: &str) -> PathBuf {
    workspace_root().join(format!("tests/objects/linked/{name}.bpf.o"))
}

fn linked(names: &[&str]) -> Result<Vec<u8>, CombineError> {
    let files: Vec<Vec<u8>> = names
        .iter()
        .map(|n| std::fs::read(path(n)).unwrap())
        .collect();
    let inputs: Vec<Input<'_>> = names
        .iter()
        .zip(&files)
        .map(|(name, bytes)| Input { name, bytes })
        .collect();
    combine(&inputs)
}

fn parsed(bytes: &[u8]) -> Object {
    let name = "whole.bpf.o".to_owned();
    Object::parse(bytes, &Options { name }).unwrap()
}

/// Loads an object and runs its programs.
fn results(bytes: &[u8], backend: &Arc<dyn Backend>) -> Vec<(String, u32)> {
    let object = parsed(bytes);
    let target = target::of(backend.as_ref(), &object.needs()).unwrap();
    let linked = object.relocate(&target).unwrap();
    let loaded = load(&linked, backend, &LoadOptions::default()).unwrap();
    let run = TestRun {
        data_in: Some(vec![0; 64]),
        ..TestRun::default()
    };
    let run = |handle| backend.prog_test_run(handle, &run).unwrap().retval;
    let programs = loaded.programs.iter();
    programs
        .map(|p| (p.spec.name.clone(), run(p.handle)))
        .collect()
}

fn backends() -> Vec<Arc<dyn Backend>> {
    let user = Universe::new(skep_user::Options::default()).unwrap();
    let mut backends: Vec<Arc<dyn Backend>> = vec![Arc::new(user)];
    if needs() {
        backends.push(Arc::new(Kernel::new()));
    }
    backends
}

#[test]
fn halves_in_either_order_run_as_one() {
    for names in [["main", "part"], ["part", "main"]] {
        let bytes = linked(&names).unwrap();
        for backend in backends() {
            let found = results(&bytes, &backend);
            for (name, value) in RESULTS {
                let result = found.iter().find(|(n, _)| n == name);
                assert_eq!(result.map(|(_, v)| *v), Some(*value), "{names:?} {name}");
            }
        }
    }
}

/// Names of functions, variables and structures, with the sizes of the latter; and the data sections.
fn names(object: &Object) -> Vec<String> {
    let btf: &Btf = object.btf().unwrap();
    btf.validate().unwrap();
    let kept = |k| matches!(k, Kind::Func | Kind::Var | Kind::Struct | Kind::Datasec);
    let types = btf.own_types().filter(|t| kept(t.kind()));
    let mut names: Vec<String> = types
        .map(|t| format!("{:?} {} {:?}", t.kind(), t.name(), t.size()))
        .collect();
    names.sort();
    names
}

#[test]
fn bpftool_makes_the_same_of_them() {
    let theirs = std::env::temp_dir().join(format!("skep-combine-{}.o", std::process::id()));
    let mut command = Command::new("bpftool");
    command.args(["gen", "object"]).arg(&theirs);
    command.args([path("part"), path("main")]);
    if !command.output().is_ok_and(|o| o.status.success()) {
        println!("skipped: bpftool");
        return;
    }
    let bytes = std::fs::read(&theirs).unwrap();
    std::fs::remove_file(&theirs).unwrap();
    let ours = linked(&["part", "main"]).unwrap();
    for backend in backends() {
        assert_eq!(results(&ours, &backend), results(&bytes, &backend));
    }
    let (ours, theirs) = (parsed(&ours), parsed(&bytes));
    assert_eq!(names(&ours), names(&theirs));
    let maps = |o: &Object| o.maps().iter().map(|m| m.name.clone()).collect::<Vec<_>>();
    assert_eq!(maps(&ours), maps(&theirs));
    assert!(ours.btf().unwrap().type_count() <= theirs.btf().unwrap().type_count());
}

#[test]
fn what_does_not_fit_is_named() {
    let error = |names: &[&str]| linked(names).unwrap_err().to_string();
    assert_eq!(
        error(&["part", "wrong"]),
        "\"scale\" is defined in part and in wrong"
    );
    assert_eq!(
        error(&["main", "wrong"]),
        "\"scale\" has another type in main than in wrong"
    );
    assert_eq!(linked(&[]), Err(CombineError::Nothing));
    let whole = linked(&["main"]).unwrap();
    let undefined = Object::parse(&whole, &Options::default()).unwrap_err();
    assert!(
        undefined.to_string().contains("declared extern"),
        "{undefined}"
    );
}
