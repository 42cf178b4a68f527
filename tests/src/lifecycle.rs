//! Rules about the life of objects, tried in a backend: each writes down what it saw, the same in every backend.

use crate::helper_diff::plain_load;
use skep_abi::helper::id::TAIL_CALL;
use skep_abi::map_flags::{
    BPF_F_LOCK, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_F_RDONLY, BPF_F_RDONLY_PROG, BPF_F_WRONLY,
};
use skep_abi::prog_flags::BPF_F_SLEEPABLE;
use skep_abi::{MapType, ProgType};
use skep_bpf::{Backend, Handle, MapAccess, MapCreate, ObjKind, ProgLoad, Result, TestRun};
use skep_btf::raw::Info;
use skep_btf::{Builder, Int, Kind, Order};
use skep_isa::{Slot, opcode as op};
use std::fmt::Debug;

/// Turns of 5 ms to wait for something to go.
const TURNS_UNTIL_GONE: u32 = 400;

/// What a rule saw.
pub type Notes = Vec<String>;
/// A rule.
pub type Rule = fn(&dyn Backend, &mut Notes);

/// Every rule.
#[rustfmt::skip] // one rule per line
pub const RULES: &[(&str, Rule)] = &[
    ("ids end with their objects", ids),
    ("names", names),
    ("handles have modes", modes),
    ("a program keeps its maps", programs_keep_maps),
    ("a prog array without users is empty", prog_arrays),
    ("programs of a prog array are of one kind", prog_array_owner),
    ("frozen maps", freezing),
    ("memory of maps", memory),
    ("tags", tags),
    ("statistics", statistics),
    ("what statistics count", counted),
    ("longer records and contexts", longer),
    ("locks are hidden from user space", locks),
    ("special fields belong to types of maps", fields),
    ("batches stop where they fail", batches),
    ("inner maps", inner_maps),
];

fn said<T: Debug>(result: &Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(e) => e.errno.name().to_owned(),
    }
}

/// As [`said`], of a result whose value differs between backends.
fn errno<T>(result: Result<T>) -> String {
    said(&result.map(|_| ()))
}

fn array(b: &dyn Backend, flags: u32) -> Result<Handle> {
    let spec = MapCreate::new(MapType::Array, 4, 8, 4);
    b.map_create(&MapCreate {
        map_flags: flags,
        ..spec
    })
}

/// `r0 = value; exit` behind a load of the address of `map`.
fn program(map: Option<Handle>, value: i32) -> ProgLoad {
    let mut insns = Vec::new();
    if let Some(map) = map {
        insns.push(Slot::new(op::LDDW, 1, op::PSEUDO_MAP_FD, 0, map.0));
        insns.push(Slot::new(0, 0, 0, 0, 0));
    }
    insns.push(Slot::new(op::ALU64 | op::MOV, 0, 0, 0, value));
    insns.push(Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0));
    plain_load(ProgType::SchedCls, &insns)
}

fn ids(b: &dyn Backend, notes: &mut Notes) {
    let (Ok(first), Ok(second)) = (array(b, 0), array(b, 0)) else {
        return notes.push("no maps".to_owned());
    };
    let id = |map| b.map_info(map).map_or(0, |i| i.id);
    let (a, z) = (id(first), id(second));
    notes.push(format!("rising {}", a != 0 && z > a));
    let next = b.next_id(ObjKind::Map, z - 1);
    notes.push(format!("next {}", next.is_ok_and(|n| n == Some(z))));
    let again = b.by_id(ObjKind::Map, z);
    notes.push(format!("found {}", errno(again.clone())));
    b.close(second);
    notes.push(format!(
        "held {}",
        errno(b.by_id(ObjKind::Map, z).map(|h| b.close(h)))
    ));
    again.into_iter().for_each(|h| b.close(h));
    notes.push(format!("gone {}", errno(b.by_id(ObjKind::Map, z))));
    notes.push(format!(
        "no program {}",
        errno(b.by_id(ObjKind::Prog, u32::MAX))
    ));
    notes.push(format!("closed {}", errno(b.map_info(second))));
    b.close(first);
    let mut value = [0; 8];
    notes.push(format!(
        "lookup {}",
        said(&b.map_lookup(first, &[0; 4], &mut value, 0))
    ));
}

fn names(b: &dyn Backend, notes: &mut Notes) {
    for name in ["", "a", "a.b_C9", "fifteen_letters"] {
        let mut spec = MapCreate::new(MapType::Array, 4, 4, 1);
        name.clone_into(&mut spec.name);
        let map = b.map_create(&spec);
        let kept = map
            .as_ref()
            .ok()
            .map(|m| said(&b.map_info(*m).map(|i| i.name)));
        notes.push(format!("map {name:?} {kept:?} {}", errno(map.clone())));
        map.into_iter().for_each(|m| b.close(m));
        let load = ProgLoad {
            name: name.to_owned(),
            ..program(None, 0)
        };
        let prog = b.prog_load(&load);
        let kept = prog
            .as_ref()
            .ok()
            .map(|p| said(&b.prog_info(*p).map(|i| i.name)));
        notes.push(format!("program {name:?} {kept:?} {}", errno(prog.clone())));
        prog.into_iter().for_each(|p| b.close(p));
    }
}

fn modes(b: &dyn Backend, notes: &mut Notes) {
    for flags in [0, BPF_F_RDONLY, BPF_F_WRONLY, BPF_F_RDONLY | BPF_F_WRONLY] {
        let map = match array(b, flags) {
            Ok(map) => map,
            Err(e) => {
                notes.push(format!("{flags:#x}: {}", e.errno.name()));
                continue;
            }
        };
        let (key, mut value) = ([0; 4], [1; 8]);
        let all = [
            said(&b.map_update(map, &key, &value, 0)),
            said(&b.map_lookup(map, &key, &mut value, 0)),
            said(&b.map_delete(map, &key)),
            said(&b.map_next_key(map, None, &mut [0; 4])),
            said(&b.map_lookup_and_delete(map, &key, &mut value, 0)),
            said(&b.map_freeze(map)),
            errno(b.prog_load(&program(Some(map), 0)).map(|p| b.close(p))),
        ];
        notes.push(format!("{flags:#x}: {all:?}"));
        b.close(map);
    }
}

fn programs_keep_maps(b: &dyn Backend, notes: &mut Notes) {
    let Ok(map) = array(b, 0) else { return };
    let id = b.map_info(map).map_or(0, |i| i.id);
    let prog = b.prog_load(&program(Some(map), 0));
    notes.push(errno(prog.clone()));
    let Ok(prog) = prog else { return };
    b.close(map);
    let names_it = b.prog_info(prog).map(|i| i.map_ids == [id]);
    notes.push(said(&names_it));
    notes.push(errno(b.by_id(ObjKind::Map, id).map(|h| b.close(h))));
    b.close(prog);
    notes.push(goes(b, id));
}

/// The map of this id goes with the last program that used it, in the kernel a little later.
fn goes(b: &dyn Backend, id: u32) -> String {
    for _ in 0..TURNS_UNTIL_GONE {
        match b.by_id(ObjKind::Map, id) {
            Ok(handle) => b.close(handle),
            Err(e) => return e.errno.name().to_owned(),
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    "stays".to_owned()
}

/// A program that tail calls through slot 0 of `array`, and returns 7 if that fails.
fn tail_caller(array: Handle) -> ProgLoad {
    plain_load(
        ProgType::SchedCls,
        &[
            Slot::new(op::LDDW, 2, op::PSEUDO_MAP_FD, 0, array.0),
            Slot::new(0, 0, 0, 0, 0),
            Slot::new(op::ALU64 | op::MOV, 3, 0, 0, 0),
            Slot::new(op::JMP | op::CALL, 0, 0, 0, TAIL_CALL.cast_signed()),
            Slot::new(op::ALU64 | op::MOV, 0, 0, 0, 7),
            Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0),
        ],
    )
}

fn run(b: &dyn Backend, prog: Handle, repeat: u32) -> String {
    let run = TestRun {
        data_in: Some(vec![0; 64]),
        repeat,
        ..TestRun::default()
    };
    said(&b.prog_test_run(prog, &run).map(|r| r.retval))
}

fn prog_arrays(b: &dyn Backend, notes: &mut Notes) {
    let array = b.map_create(&MapCreate::new(MapType::ProgArray, 4, 4, 2));
    let Ok(array) = array else { return };
    let id = b.map_info(array).map_or(0, |i| i.id);
    let (caller, target) = (
        b.prog_load(&tail_caller(array)),
        b.prog_load(&program(None, 3)),
    );
    let (Ok(caller), Ok(target)) = (caller, target) else {
        return notes.push("no programs".to_owned());
    };
    notes.push(run(b, caller, 1));
    notes.push(said(&b.map_update(
        array,
        &[0; 4],
        &target.0.to_ne_bytes(),
        0,
    )));
    let target_id = b.prog_info(target).map_or(0, |i| i.id);
    b.close(target);
    notes.push(run(b, caller, 1));
    let mut value = [0; 4];
    notes.push(said(&b.map_lookup(array, &[0; 4], &mut value, 0)));
    notes.push(format!("id {}", u32::from_ne_bytes(value) == target_id));
    // The program holds the map still, but user space does not.
    b.close(array);
    // The kernel empties it a little later.
    let emptied = (0..TURNS_UNTIL_GONE).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        run(b, caller, 1) == "7"
    });
    notes.push(format!("emptied {emptied}"));
    let again = b.by_id(ObjKind::Map, id);
    notes.push(errno(again.clone()));
    if let Ok(again) = again {
        notes.push(said(&b.map_lookup(again, &[0; 4], &mut value, 0)));
        b.close(again);
    }
    b.close(caller);
}

fn prog_array_owner(b: &dyn Backend, notes: &mut Notes) {
    let array = b.map_create(&MapCreate::new(MapType::ProgArray, 4, 4, 2));
    let Ok(array) = array else { return };
    for prog_type in [
        ProgType::SchedCls,
        ProgType::Xdp,
        ProgType::SchedAct,
        ProgType::SchedCls,
    ] {
        let load = ProgLoad {
            prog_type,
            ..program(None, 1)
        };
        let Ok(prog) = b.prog_load(&load) else { return };
        notes.push(said(&b.map_update(
            array,
            &[0; 4],
            &prog.0.to_ne_bytes(),
            0,
        )));
        b.close(prog);
        let user = ProgLoad {
            prog_type,
            ..tail_caller(array)
        };
        notes.push(errno(b.prog_load(&user).map(|p| b.close(p))));
    }
    notes.push(said(&b.map_delete(array, &[0; 4])));
    notes.push(said(&b.map_delete(array, &[0; 4])));
    b.close(array);
}

fn freezing(b: &dyn Backend, notes: &mut Notes) {
    for flags in [
        0,
        BPF_F_MMAPABLE,
        BPF_F_RDONLY_PROG,
        BPF_F_RDONLY_PROG | BPF_F_MMAPABLE,
    ] {
        let Ok(map) = array(b, flags) else {
            notes.push("no map".to_owned());
            continue;
        };
        let writer = b.map_memory(map, MapAccess::ReadWrite);
        notes.push(errno(writer.as_ref().map(|_| ()).map_err(Clone::clone)));
        notes.push(format!("freeze {}", said(&b.map_freeze(map))));
        drop(writer);
        notes.push(format!("freeze {}", said(&b.map_freeze(map))));
        notes.push(format!("again {}", said(&b.map_freeze(map))));
        notes.push(errno(b.map_memory(map, MapAccess::ReadWrite)));
        notes.push(errno(b.map_memory(map, MapAccess::Read)));
        notes.push(said(&b.map_update(map, &[0; 4], &[1; 8], 0)));
        notes.push(said(&b.map_info(map).map(|i| i.frozen)));
        b.close(map);
    }
}

fn memory(b: &dyn Backend, notes: &mut Notes) {
    for (map_type, flags) in [
        (MapType::Array, BPF_F_MMAPABLE),
        (MapType::Array, 0),
        (MapType::Hash, 0),
        (MapType::PercpuArray, 0),
        (MapType::Queue, 0),
    ] {
        let key = if map_type == MapType::Queue { 0 } else { 4 };
        let mut spec = MapCreate::new(map_type, key, 12, 5);
        spec.map_flags = flags;
        let Ok(map) = b.map_create(&spec) else { return };
        notes.push(said(
            &b.map_memory(map, MapAccess::ReadWrite).map(|m| m.len()),
        ));
        b.close(map);
    }
}

fn tags(b: &dyn Backend, notes: &mut Notes) {
    let Ok(map) = array(b, 0) else { return };
    let (with_map, caller) = (program(Some(map), 3), program(None, -5));
    for load in [with_map, caller, program(None, 1 << 30)] {
        let prog = b.prog_load(&load);
        let Ok(prog) = prog else {
            notes.push(errno(prog));
            continue;
        };
        let info = b.prog_info(prog);
        notes.push(said(
            &info.map(|i| (i.tag, i.prog_type, i.gpl_compatible, i.name)),
        ));
        b.close(prog);
    }
    b.close(map);
}

fn statistics(b: &dyn Backend, notes: &mut Notes) {
    let Ok(prog) = b.prog_load(&program(None, 1)) else {
        return;
    };
    let counts = |what: &str| {
        let info = b
            .prog_info(prog)
            .map(|i| (i.run_cnt, i.run_time_ns > 0, i.recursion_misses));
        format!("{what} {}", said(&info))
    };
    notes.push(run(b, prog, 3));
    let on = b.enable_stats();
    notes.push(errno(on.clone()));
    notes.push(run(b, prog, 5));
    notes.push(counts("on"));
    on.into_iter().for_each(|on| b.close(on));
    notes.push(run(b, prog, 5));
    notes.push(counts("off"));
    b.close(prog);
}

/// Runs of a program that calls another one are its own: of the other one none are counted. What test runs repeat counts, and
/// what they refuse does not. A run inside a run of the same program on a processor, a miss, needs a program that is attached:
/// test runs of neither backend make one.
fn counted(b: &dyn Backend, notes: &mut Notes) {
    let array = b.map_create(&MapCreate::new(MapType::ProgArray, 4, 4, 2));
    let Ok(array) = array else { return };
    let Ok(on) = b.enable_stats() else { return };
    let counts = |prog: Handle| {
        let info = b.prog_info(prog);
        said(&info.map(|i| (i.run_cnt, i.recursion_misses)))
    };
    let (caller, target) = (
        b.prog_load(&tail_caller(array)),
        b.prog_load(&program(None, 3)),
    );
    let (Ok(caller), Ok(target)) = (caller, target) else {
        return notes.push("no programs".to_owned());
    };
    let put = b.map_update(array, &[0; 4], &target.0.to_ne_bytes(), 0);
    notes.push(said(&put));
    for repeat in [0, 1, 7] {
        notes.push(run(b, caller, repeat));
        notes.push(format!("{} {}", counts(caller), counts(target)));
    }
    let refused = TestRun {
        data_in: Some(vec![0; 5]),
        ..TestRun::default()
    };
    notes.push(errno(b.prog_test_run(caller, &refused)));
    notes.push(counts(caller));
    for prog_type in [ProgType::Xdp, ProgType::RawTracepoint, ProgType::Syscall] {
        let mut load = program(None, 1);
        load.prog_type = prog_type;
        let is_syscall = prog_type == ProgType::Syscall;
        load.prog_flags = if is_syscall { BPF_F_SLEEPABLE } else { 0 };
        let Ok(prog) = b.prog_load(&load) else {
            notes.push(format!("no {prog_type}"));
            continue;
        };
        let is_packet = prog_type == ProgType::Xdp;
        let input = TestRun {
            data_in: is_packet.then(|| vec![0; 64]),
            repeat: if is_packet { 4 } else { 0 },
            ..TestRun::default()
        };
        notes.push(errno(b.prog_test_run(prog, &input)));
        notes.push(format!("{prog_type} {}", counts(prog)));
        b.close(prog);
    }
    [caller, target, array, on]
        .into_iter()
        .for_each(|h| b.close(h));
}

/// What is longer than known is taken if the rest is zero (`E2BIG`). Of commands themselves the types of this waist leave no
/// rest: what user space can make longer are records of debug information and contexts.
fn longer(b: &dyn Backend, notes: &mut Notes) {
    let mut builder = Builder::new(Order::HOST);
    let int = builder.add_int("int", 4, Int::SIGNED);
    let proto = builder.add("", Info::new(Kind::FuncProto, 0, false), int, &[]);
    let func = builder.add("f", Info::new(Kind::Func, 0, false), proto, &[]);
    let name = builder.add_str("return 0;");
    let Ok(btf) = b.btf_load(&builder.finish()) else {
        return notes.push("no BTF".to_owned());
    };
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|w| w.to_ne_bytes()).collect() };
    for rest in [0u32, 1] {
        let mut load = program(None, 0);
        load.btf = Some(btf);
        (load.func_info, load.func_info_rec_size) = (words(&[0, func, rest]), 12);
        notes.push(errno(b.prog_load(&load).map(|p| b.close(p))));
        (load.func_info, load.func_info_rec_size) = (words(&[0, func]), 8);
        (load.line_info, load.line_info_rec_size) = (words(&[0, name, name, 1 << 10, rest]), 20);
        notes.push(errno(b.prog_load(&load).map(|p| b.close(p))));
    }
    b.close(btf);
    const SK_BUFF_BYTES: usize = 192;
    let Ok(prog) = b.prog_load(&program(None, 2)) else {
        return;
    };
    for (len, rest) in [
        (SK_BUFF_BYTES, 0),
        (SK_BUFF_BYTES + 4, 0),
        (SK_BUFF_BYTES + 4, 1),
    ] {
        let mut ctx = vec![0; len];
        ctx[len - 1] = rest;
        let input = TestRun {
            data_in: Some(vec![0; 64]),
            ctx_in: Some(ctx),
            ctx_size_out: len as u32,
            ..TestRun::default()
        };
        let result = b.prog_test_run(prog, &input);
        notes.push(said(&result.map(|r| (r.retval, r.ctx_out.len()))));
    }
    b.close(prog);
}

/// BTF of a value with a lock at its start and a number behind; key and value types.
fn lock_btf() -> (Vec<u8>, u32, u32) {
    let mut builder = Builder::new(Order::HOST);
    let int = builder.add_int("unsigned int", 4, 0);
    let lock = builder.add_struct("bpf_spin_lock", 4, &[("val", int, 0)]);
    let value = builder.add_struct("value", 8, &[("lock", lock, 0), ("n", int, 32)]);
    (builder.finish(), int, value)
}

fn locks(b: &dyn Backend, notes: &mut Notes) {
    let (bytes, key, value) = lock_btf();
    let Ok(btf) = b.btf_load(&bytes) else {
        return notes.push("no BTF".to_owned());
    };
    for map_type in [
        MapType::Array,
        MapType::Hash,
        MapType::LruHash,
        MapType::PercpuArray,
    ] {
        let mut spec = MapCreate::new(map_type, 4, 8, 2);
        (spec.btf, spec.btf_key_type_id, spec.btf_value_type_id) = (Some(btf), key, value);
        let map = match b.map_create(&spec) {
            Ok(map) => map,
            Err(e) => {
                notes.push(format!("{map_type}: {}", e.errno.name()));
                continue;
            }
        };
        for flags in [0, BPF_F_LOCK, BPF_F_LOCK | 1, BPF_F_LOCK | 2] {
            let update = b.map_update(map, &[0; 4], &[0xff; 8], flags);
            let mut out = [0x55; 8];
            let read = b.map_lookup(map, &[0; 4], &mut out, flags & BPF_F_LOCK);
            notes.push(format!(
                "{map_type} {flags}: {} {} {out:x?}",
                said(&update),
                said(&read)
            ));
        }
        notes.push(format!("freeze {}", said(&b.map_freeze(map))));
        let mut batch = [0x55; 16];
        let mut cursor = skep_bpf::BatchCursor::default();
        let many = b.map_lookup_batch(map, &mut cursor, &mut [0; 8], &mut batch, false, BPF_F_LOCK);
        notes.push(format!("{} {:x?}", said(&many), &batch[..8]));
        b.close(map);
    }
    b.close(btf);
}

/// Structs that are special, with their sizes.
const SPECIAL: &[(&str, u32)] = &[
    ("bpf_spin_lock", 4),
    ("bpf_res_spin_lock", 4),
    ("bpf_timer", 16),
    ("bpf_wq", 16),
    ("bpf_refcount", 4),
];

fn fields(b: &dyn Backend, notes: &mut Notes) {
    use MapType as T;
    for (name, size) in SPECIAL {
        let mut builder = Builder::new(Order::HOST);
        let int = builder.add_int("unsigned int", 4, 0);
        let word = builder.add_int("unsigned long", 8, 0);
        let inside: &[_] = if *size == 4 {
            &[("val", int, 0)]
        } else {
            &[("a", word, 0), ("b", word, 64)]
        };
        let special = builder.add_struct(name, *size, inside);
        let members = [("n", word, 0), ("special", special, 64)];
        let value = builder.add_struct("value", 40, &members);
        let loaded = b.btf_load(&builder.finish());
        notes.push(format!("BTF with {name}: {}", errno(loaded.clone())));
        let Ok(btf) = loaded else { continue };
        for map_type in [
            T::Hash,
            T::Array,
            T::LruHash,
            T::PercpuHash,
            T::PercpuArray,
            T::LruPercpuHash,
            T::LpmTrie,
            T::SkStorage,
            T::TaskStorage,
            T::InodeStorage,
            T::CgrpStorage,
            T::Queue,
            T::BloomFilter,
        ] {
            for flags in [0, BPF_F_RDONLY_PROG] {
                let storage = matches!(
                    map_type,
                    T::SkStorage | T::TaskStorage | T::InodeStorage | T::CgrpStorage
                );
                let (key_size, entries) = match map_type {
                    T::LpmTrie => (8, 4),
                    T::Queue | T::BloomFilter => (0, 4),
                    _ if storage => (4, 0),
                    _ => (4, 4),
                };
                let mut spec = MapCreate::new(map_type, key_size, 40, entries);
                spec.map_flags = flags;
                if storage || map_type == T::LpmTrie {
                    spec.map_flags |= BPF_F_NO_PREALLOC;
                }
                (spec.btf, spec.btf_value_type_id) = (Some(btf), value);
                spec.btf_key_type_id = match key_size {
                    4 => int,
                    8 => word,
                    _ => 0,
                };
                let made = b.map_create(&spec).map(|map| b.close(map));
                notes.push(format!("{name} in {map_type} {flags}: {}", said(&made)));
            }
        }
        b.close(btf);
    }
}

fn batches(b: &dyn Backend, notes: &mut Notes) {
    let map = b.map_create(&MapCreate::new(MapType::Hash, 4, 4, 3));
    let Ok(map) = map else { return };
    let keys: Vec<u8> = (0..5u32).flat_map(u32::to_ne_bytes).collect();
    let (done, outcome) = b.map_update_batch(map, &keys, &keys, 0);
    notes.push(format!("{done} {}", said(&outcome)));
    let (done, outcome) = b.map_delete_batch(map, &keys[4..], 0);
    notes.push(format!("{done} {}", said(&outcome)));
    b.close(map);
}

fn inner_maps(b: &dyn Backend, notes: &mut Notes) {
    let Ok(template) = array(b, 0) else { return };
    let mut spec = MapCreate::new(MapType::ArrayOfMaps, 4, 4, 2);
    notes.push(errno(b.map_create(&spec)));
    spec.inner_map = Some(template);
    let Ok(outer) = b.map_create(&spec) else {
        return;
    };
    let fitting = array(b, 0);
    let larger = b.map_create(&MapCreate::new(MapType::Array, 4, 8, 9));
    let hash = b.map_create(&MapCreate::new(MapType::Hash, 4, 8, 4));
    let itself = Ok(outer);
    for inner in [fitting, larger, hash, itself] {
        let Ok(inner) = inner else { continue };
        notes.push(said(&b.map_update(
            outer,
            &[0; 4],
            &inner.0.to_ne_bytes(),
            0,
        )));
        if inner != outer {
            let id = b.map_info(inner).map_or(0, |i| i.id);
            b.close(inner);
            let mut value = [0; 4];
            let read = b.map_lookup(outer, &[0; 4], &mut value, 0);
            notes.push(format!(
                "{} {}",
                said(&read),
                u32::from_ne_bytes(value) == id
            ));
        }
    }
    spec.inner_map = Some(outer);
    notes.push(errno(b.map_create(&spec)));
    b.close(outer);
    b.close(template);
}
