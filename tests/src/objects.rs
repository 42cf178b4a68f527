//! The objects of `tests/objects`, from their file to a backend.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use crate::examples::file_name;
use crate::workspace_root;
use skep::load::{LoadOptions, Loaded, load};
use skep::{Kernel, target};
use skep_bpf::{Backend, TestRun};
use skep_object::{Linked, Object, Options};
use skep_user::Universe;
use std::path::Path;
use std::sync::Arc;

/// A file of the workspace.
///
/// # Panics
/// If it cannot be read: the tests own it.
#[must_use]
pub fn bytes(path: &str) -> Vec<u8> {
    let path = workspace_root().join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Where an object lies: the name of its source without `.bpf.c`, in `tests/objects` if no folder is named.
#[must_use]
pub fn path(name: &str) -> String {
    let folder = if name.contains('/') {
        ""
    } else {
        "tests/objects/"
    };
    format!("{folder}{name}.bpf.o")
}

/// An object by its name.
///
/// # Panics
/// If it is missing or damaged.
#[must_use]
pub fn object(name: &str) -> Object {
    let path = path(name);
    let name = file_name(Path::new(&path));
    Object::parse(&bytes(&path), &Options { name }).unwrap()
}

/// That object, linked for a backend.
///
/// # Panics
/// If it cannot be linked.
#[must_use]
pub fn linked(name: &str, backend: &dyn Backend) -> Linked {
    let object = object(name);
    let target = target::of(backend, &object.needs()).unwrap();
    object.relocate(&target).unwrap()
}

/// That object, loaded whole.
///
/// # Panics
/// If it cannot be linked or loaded.
#[must_use]
pub fn loaded(name: &str, backend: &Arc<dyn Backend>) -> Loaded {
    let linked = linked(name, backend.as_ref());
    load(&linked, backend, &LoadOptions::default()).unwrap()
}

/// That object in the user backend and in the kernel.
///
/// # Panics
/// If one of them refuses it.
#[must_use]
pub fn loaded_in_both(name: &str) -> [Loaded; 2] {
    let user = Universe::new(skep_user::Options::default()).unwrap();
    [Arc::new(user) as Arc<dyn Backend>, Arc::new(Kernel::new())].map(|b| loaded(name, &b))
}

/// What a run of a program of both sides on a packet comes to: return value and packet, or the error.
///
/// # Panics
/// If the object has no such program.
#[must_use]
pub fn answers(sides: &[Loaded; 2], program: &str, packet: &[u8]) -> [String; 2] {
    let run = TestRun {
        data_in: Some(packet.to_vec()),
        data_size_out: 256,
        ..TestRun::default()
    };
    [0, 1].map(|n: usize| {
        let handle = sides[n].program(program).unwrap().handle;
        let result = sides[n].backend().prog_test_run(handle, &run);
        let result = result.map_err(|e| e.errno.to_string());
        format!("{:02x?}", result.map(|r| (r.retval, r.data_out)))
    })
}

/// Fails with the first of the differences.
///
/// # Panics
/// If there are any.
pub fn none_differ(different: &[String]) {
    const SHOWN: usize = 8;
    let shown = &different[..different.len().min(SHOWN)];
    let (count, shown) = (different.len(), shown.join("\n"));
    assert!(different.is_empty(), "{count}:\n{shown}");
}
