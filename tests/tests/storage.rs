//! Storage of objects of the kernel: programs make and count it, user space reads it.

use crate::attach::{needs, own_network};
use skep::Kernel;
use skep::attach::{Hook, attach};
use skep::cgroup::Group;
use skep::child::Child;
use skep::iterator::{Over, read_over};
use skep::load::{LoadOptions, Loaded, load};
use skep_bpf::{Backend, Errno};
use skep_tests::objects::linked;
use skep_tests::table::{refused, works};
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

/// Runs of each iterator.
const RUNS: u64 = 3;

/// Loads one program; `None` if this kernel refuses it, which is then said.
fn program(kernel: &Arc<Kernel>, name: &str, row: &str) -> Option<Loaded> {
    let backend: Arc<dyn Backend> = Arc::clone(kernel) as Arc<dyn Backend>;
    let options = LoadOptions {
        program: Some(name.to_owned()),
        ..LoadOptions::default()
    };
    let loaded = load(&linked("storage", backend.as_ref()), &backend, &options);
    loaded.map_err(|error| refused(row, &error)).ok()
}

/// What the object behind a descriptor has in its storage.
fn stored(loaded: &Loaded, map: &str, owner: RawFd) -> Result<u64, Errno> {
    let map = loaded.map(map).unwrap().handle;
    let mut value = [0; 8];
    let found = loaded
        .backend()
        .map_lookup(map, &owner.to_ne_bytes(), &mut value, 0);
    found
        .map(|()| u64::from_ne_bytes(value))
        .map_err(|e| e.errno)
}

#[test]
fn iterators_count_in_what_they_walk_over() {
    if !needs() {
        return;
    }
    own_network();
    let kernel = Arc::new(Kernel::new());
    let mut child = Child::hold(&["true"], None).unwrap();
    let group = Group::create().unwrap();
    let folder = File::open(group.path()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let cases = [
        (
            "tasks",
            "of_tasks",
            "task_storage",
            Over::Process(child.pid()),
            child.descriptor(),
        ),
        (
            "groups",
            "of_groups",
            "cgrp_storage",
            Over::Group(group.path().to_owned()),
            folder.as_raw_fd(),
        ),
        (
            "tcp_sockets",
            "of_sockets",
            "sk_storage",
            Over::All,
            listener.as_raw_fd(),
        ),
    ];
    for (name, map, row, over, owner) in cases {
        let Some(loaded) = program(&kernel, name, row) else {
            continue;
        };
        assert_eq!(stored(&loaded, map, owner), Err(Errno::ENOENT), "{row}");
        for run in 1..=RUNS {
            read_over(&kernel, loaded.programs[0].handle, over.clone()).unwrap();
            assert_eq!(stored(&loaded, map, owner), Ok(run), "{row}");
        }
        works(row);
    }
    child.release().unwrap();
    child.wait().unwrap();
}

#[test]
fn files_have_storage() {
    if !needs() {
        return;
    }
    let kernel = Arc::new(Kernel::new());
    let Some(loaded) = program(&kernel, "files", "inode_storage") else {
        return;
    };
    let path = std::env::temp_dir().join(format!("skep-storage-{}", std::process::id()));
    let made = File::create(&path).unwrap();
    assert_eq!(
        stored(&loaded, "of_files", made.as_raw_fd()),
        Err(Errno::ENOENT)
    );
    let link = attach(loaded.backend(), loaded.programs[0].handle, &Hook::Loaded).unwrap();
    for _ in 0..RUNS {
        drop(File::open(&path).unwrap());
    }
    drop(link);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(stored(&loaded, "of_files", made.as_raw_fd()), Ok(RUNS));
    works("inode_storage");
}
