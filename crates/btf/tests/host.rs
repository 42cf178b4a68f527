//! The host's own BTF, where there is one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use skep_btf::{Btf, Kind};

fn vmlinux() -> Option<Btf> {
    let data = std::fs::read("/sys/kernel/btf/vmlinux").ok()?;
    Some(Btf::parse(data).unwrap())
}

#[test]
fn task_struct_is_found_and_measured() {
    let Some(btf) = vmlinux() else { return };
    let task = btf.find("task_struct", Kind::Struct).unwrap();
    let pid = task.members().find(|m| m.name == "pid").unwrap();
    assert_eq!(btf.size_of(pid.type_id), Ok(4));
    assert_eq!(btf.resolve(pid.type_id).unwrap().kind(), Kind::Int);
    assert_eq!(btf.size_of(task.id()).ok(), task.size());
}

#[test]
fn every_type_reads_without_panic() {
    let Some(btf) = vmlinux() else { return };
    let mut read = 0usize;
    for ty in btf.types() {
        read += ty.name().len() + ty.members().len() + ty.enum_values().len();
        read += ty.params().len() + ty.vars().len();
        let _ = (btf.size_of(ty.id()), ty.resolve(), ty.linkage(), ty.int());
    }
    assert!(read > 100_000);
}

#[test]
fn names_lead_to_the_first_type_of_that_name() {
    let Some(btf) = vmlinux() else { return };
    for ty in btf.types().step_by(97).filter(|t| !t.name().is_empty()) {
        let found = btf.find(ty.name(), ty.kind()).unwrap();
        assert!(found.id() <= ty.id() && found.name() == ty.name());
    }
}
