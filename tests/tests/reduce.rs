//! `skep gen min_core_btf`: objects relocate against the reduced BTF as against the whole.

use skep::target::running_btf;
use skep_btf::build::Builder;
use skep_btf::raw::{Info, Order};
use skep_btf::{Btf, Kind};
use skep_object::reduce::reduce;
use skep_object::{Linked, Object, Options, Target};
use skep_tests::need::runs;
use skep_tests::objects::object;
use skep_tests::random::Random;
use skep_tests::{source_files, workspace_root};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Program that holds a type's id, which differs.
const WITH_IDS: &str = "ids";
/// Kernels that are made up.
const KERNELS: u32 = 2000;
const SEED: u64 = 7;

/// Everything that CO-RE decides about an object's programs.
fn relocated(object: &Object, full: Option<&Btf>, core: &Btf) -> Vec<String> {
    let target = Target {
        btf: full.cloned(),
        core_btf: Some(core.clone()),
        cpus: 2,
        page_size: 4096,
        ..Target::default()
    };
    let linked: Linked = object.relocate(&target).unwrap();
    let programs = linked.programs.into_iter();
    programs
        .filter(|p| p.name != WITH_IDS)
        .map(|p| format!("{} {:?} {:?}", p.name, p.insns, p.failures))
        .collect()
}

/// The objects of the tree that can be linked alone, with their paths.
fn objects() -> Vec<(PathBuf, Object)> {
    let files = source_files(&workspace_root(), &["o"]).into_iter();
    let parsed = files.filter_map(|path| {
        let bytes = std::fs::read(&path).unwrap();
        let object = Object::parse(&bytes, &Options::default());
        object.ok().map(|o| (path, o))
    });
    parsed.collect()
}

/// What bpftool makes of it.
fn bpftool(object: &Path) -> Vec<u8> {
    let name = format!("skep-min-core-btf-{}", std::process::id());
    let output = std::env::temp_dir().join(name);
    let mut command = Command::new("bpftool");
    command.args(["gen", "min_core_btf", "/sys/kernel/btf/vmlinux"]);
    let ran = command.arg(&output).arg(object).output().unwrap();
    let bytes = std::fs::read(&output);
    // Nothing depends on its removal.
    let _ = std::fs::remove_file(&output);
    assert!(ran.status.success(), "{}", object.display());
    bytes.unwrap()
}

#[test]
fn objects_relocate_as_against_the_running_kernel() {
    let Ok(full) = running_btf() else {
        println!("skipped: the kernel's BTF");
        return;
    };
    let compares = runs("bpftool", &["version"]);
    if !compares {
        println!("skipped: bpftool");
    }
    let mut count = 0;
    for (path, object) in objects() {
        let reduced = reduce(&full, std::slice::from_ref(&object)).unwrap();
        let btf = Btf::parse(reduced.btf.as_slice()).unwrap();
        if btf.type_count() > 1 {
            btf.validate().unwrap();
            count += 1;
        }
        let expected = relocated(&object, Some(&full), &full);
        assert_eq!(relocated(&object, Some(&full), &btf), expected);
        if compares {
            let theirs = bpftool(&path);
            let place = path.display();
            let (ours, size) = (reduced.btf.len(), theirs.len());
            assert!(ours <= size, "{place}: {ours} bytes, bpftool's {size}");
            let theirs = Btf::parse(theirs).unwrap();
            assert_eq!(relocated(&object, Some(&full), &theirs), expected);
        }
    }
    assert!(count >= 7, "only {count} objects ask anything of the types");
}

#[test]
fn several_objects_share_one_part() {
    let Ok(full) = running_btf() else {
        println!("skipped: the kernel's BTF");
        return;
    };
    let all: Vec<Object> = objects().into_iter().map(|(_, o)| o).collect();
    let btf = Btf::parse(reduce(&full, &all).unwrap().btf).unwrap();
    for object in &all {
        let expected = relocated(object, Some(&full), &full);
        assert_eq!(relocated(object, Some(&full), &btf), expected);
    }
}

#[test]
fn types_have_other_ids_and_that_is_told() {
    let Ok(full) = running_btf() else {
        println!("skipped: the kernel's BTF");
        return;
    };
    let reduced = reduce(&full, &[object("relocations")]).unwrap();
    assert_eq!(reduced.renumbered, ["task_struct"]);
    let btf = Btf::parse(reduced.btf).unwrap();
    assert!(btf.find("task_struct", Kind::Struct).is_some());
}

/// Adds a type for a member.
fn add_type(random: &mut Random, builder: &mut Builder, depth: u32) -> u32 {
    let int = builder.add_int("int", *random.of(&[1, 2, 4, 8]), random.below(2) as u32);
    match random.below(8) {
        0 => builder.add_ref(Kind::Ptr, "", int),
        1 => builder.add_array(int, int, random.below(4) as u32),
        2 => builder.add_ref(*random.of(&[Kind::Const, Kind::Typedef]), "word", int),
        3 => builder.add("made_enum", Info::new(Kind::Enum, 0, false), 4, &[]),
        4 | 5 if depth > 0 => add_struct(random, builder, "", depth - 1),
        _ => int,
    }
}

/// Adds a struct or union with some of the members that `relocations.bpf.c` asks for, in any order and place.
fn add_struct(random: &mut Random, builder: &mut Builder, name: &str, depth: u32) -> u32 {
    const NAMES: &[&str] = &["number", "inner", "deep", "tail", "pid", "len", "", "", "x"];
    let mut members: Vec<(&str, u32, u32)> = Vec::new();
    for at in 0..random.below(6) as u32 {
        let mut member = *random.of(NAMES);
        let anonymous = member.is_empty() && depth > 0;
        if !anonymous && (member.is_empty() || members.iter().any(|m| m.0 == member)) {
            member = "y";
        }
        let ty = if anonymous {
            add_struct(random, builder, "", depth - 1)
        } else {
            add_type(random, builder, depth)
        };
        members.push((member, ty, 64 * at));
    }
    builder.add_struct(name, 64 + 64 * depth, &members)
}

/// A kernel with types of the names that the object asks for, often several of one name.
fn made_up(random: &mut Random) -> Btf {
    const NAMES: &[&str] = &[
        "made",
        "made",
        "made___x",
        "unmade",
        "task_struct",
        "sk_buff",
    ];
    let mut builder = Builder::new(Order::HOST);
    for _ in 0..random.below(6) {
        let name = *random.of(NAMES);
        if random.below(8) == 0 {
            builder.add(name, Info::new(Kind::Fwd, 0, false), 0, &[]);
        } else {
            add_struct(random, &mut builder, name, 3);
        }
    }
    Btf::parse(builder.finish()).unwrap()
}

#[test]
fn objects_relocate_as_against_kernels_that_are_made_up() {
    let object = object("relocations");
    let mut random = Random::new(SEED);
    let (mut refused, mut telling) = (0, 0);
    let nothing = Btf::parse(Builder::new(Order::HOST).finish()).unwrap();
    let without = relocated(&object, None, &nothing);
    for number in 0..KERNELS {
        let full = made_up(&mut random);
        let Ok(reduced) = reduce(&full, std::slice::from_ref(&object)) else {
            refused += 1;
            continue;
        };
        let btf = Btf::parse(reduced.btf).unwrap();
        let expected = relocated(&object, None, &full);
        let found = relocated(&object, None, &btf);
        assert_eq!(found, expected, "kernel {number}");
        telling += u32::from(found != without);
    }
    assert!(telling > KERNELS / 2, "{telling} kernels have an answer");
    assert_eq!(refused, 0, "kernels whose types contradict themselves");
}

#[test]
fn damaged_kernels_are_reduced_or_refused() {
    let object = object("relocations");
    let mut random = Random::new(SEED);
    for _ in 0..KERNELS {
        let mut bytes = made_up(&mut random).bytes().to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next_u64() as u8;
        }
        let Ok(full) = Btf::parse(bytes) else {
            continue;
        };
        if let Ok(reduced) = reduce(&full, std::slice::from_ref(&object)) {
            let btf = Btf::parse(reduced.btf).unwrap();
            let expected = relocated(&object, None, &full);
            assert_eq!(relocated(&object, None, &btf), expected);
        }
    }
}
