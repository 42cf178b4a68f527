//! `cargo xtask probe-maps`: which maps programs may use, with which helpers, and how: our verdicts against the running
//! kernel's (root; nothing is attached).
//!
//! Maps are those of the dev corpus (one of each kind: type, flags, special fields), and one of each type that it lacks. Each
//! cell is one program of a few instructions, verified by both.

use crate::TaskError;
use crate::corpus::accepted;
use crate::fuzz_verify::{last_message, print_program, shape};
use skep::Kernel;
use skep::check::{CheckOptions, Checker};
use skep::feature::ask::{EXIT, Subject, call, set, subjects};
use skep::load::{LoadOptions, Loaded, load};
use skep::target::running_btf;
use skep_abi::helper::{self, ArgKind, HelperProto, Ret, id};
use skep_abi::map_flags::{BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG};
use skep_abi::prog::{self, TargetReturns};
use skep_abi::{AttachType, MapType};
use skep_bpf::{Backend, Handle, MapCreate};
use skep_btf::{Btf, Record};
use skep_isa::{Slot, opcode as op};
use skep_verifier::{MapDesc, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Program types that each pair of helper and map is tried in.
const SUBJECTS_PER_HELPER: usize = 3;
/// The part of the stack that arguments point to.
const ARGUMENT_STACK: i32 = -512;
/// Memory sizes given to helpers.
const ARGUMENT_BYTES: i32 = 8;

/// Where an arena would be mapped; without an address programs cannot use it.
const ARENA_ADDRESS: u64 = 1 << 44;
/// Maps whose elements may be programs.
const HOLDS_PROGRAMS: &[MapType] = &[
    MapType::ProgArray,
    MapType::Devmap,
    MapType::DevmapHash,
    MapType::Cpumap,
];

/// A map in both worlds.
struct Subjected {
    desc: MapDesc,
    handle: Handle,
}

#[derive(Default)]
struct Tally {
    cells: BTreeMap<&'static str, usize>,
    accepted: usize,
    /// By what both said.
    differences: BTreeMap<String, usize>,
}

struct Probe<'a> {
    kernel: &'a Kernel,
    btf: &'a Btf,
    tally: Tally,
}

/// `dst = src`
const fn mov(dst: u8, src: u8) -> Slot {
    Slot::new(op::ALU64 | op::MOV | op::X, dst, src, 0, 0)
}

/// `dst = imm`
const fn mov_imm(dst: u8, imm: i32) -> Slot {
    Slot::new(op::ALU64 | op::MOV | op::K, dst, 0, 0, imm)
}

/// `dst = map ll`; stands for the map until the world is known.
const fn map_operand(dst: u8, pseudo: u8) -> [Slot; 2] {
    [
        Slot::new(op::LDDW, dst, pseudo, 0, 0),
        Slot::new(0, 0, 0, 0, 0),
    ]
}

impl Probe<'_> {
    /// Verifies the program in both worlds. Map operands take the map.
    fn compare(&mut self, part: &'static str, subject: &Subject, map: &Subjected, insns: &[Slot]) {
        let with_map = |operand: i32| -> Vec<Slot> {
            let fill = |s: &Slot| {
                if s.is_wide() {
                    Slot { imm: operand, ..*s }
                } else {
                    *s
                }
            };
            insns.iter().map(fill).collect()
        };
        let theirs = match self.fresh(map) {
            Some(handle) => {
                let result = subject.load(self.kernel, &with_map(handle.0));
                self.kernel.close(handle);
                result
            }
            None => subject.load(self.kernel, &with_map(map.handle.0)),
        };
        let insns = with_map(0);
        let request = Request {
            attach: subject.attach,
            attach_btf_id: subject.target.0,
            prog_flags: subject.prog_flags,
            maps: std::slice::from_ref(&map.desc),
            kernel_btf: Some(self.btf),
            ..Request::plain("probe", subject.prog_type, &insns)
        };
        let ours = skep_verifier::verify(&request);
        *self.tally.cells.entry(part).or_default() += 1;
        self.tally.accepted += usize::from(theirs.is_ok());
        if theirs.is_ok() == ours.is_ok() {
            return;
        }
        let kernel = theirs.map_or_else(
            |e| format!("{} {}", e.errno, last_message(&e.log)),
            |()| "accepts".to_owned(),
        );
        let ours = ours.map_or_else(|r| r.message(), |_| "accepts".to_owned());
        let map = format!(
            "{} flags {:#x} \"{}\"",
            map.desc.map_type, map.desc.map_flags, map.desc.name
        );
        let kind = format!(
            "{part}: {map}: kernel {}; ours {}",
            shape(&kernel),
            shape(&ours)
        );
        let count = self.tally.differences.entry(kind.clone()).or_default();
        *count += 1;
        if *count == 1 {
            let attach = subject.attach.map_or("-", AttachType::name);
            println!(
                "{kind}\n  {} {attach} {}",
                subject.prog_type, subject.target.1
            );
            print_program(&insns);
        }
    }

    /// A map that holds programs belongs to the first program that names it: each cell has its own.
    fn fresh(&self, map: &Subjected) -> Option<Handle> {
        let d = &map.desc;
        let mut create = MapCreate::new(d.map_type, d.key_size, d.value_size, d.max_entries);
        create.map_flags = d.map_flags;
        let holds_programs = HOLDS_PROGRAMS.contains(&d.map_type);
        holds_programs
            .then(|| self.kernel.map_create(&create))?
            .ok()
    }

    /// The map's address is taken, and nothing else.
    fn used(&mut self, subject: &Subject, map: &Subjected) {
        let mut insns = map_operand(1, op::PSEUDO_MAP_FD).to_vec();
        insns.extend([set(returned(subject)), EXIT]);
        self.compare("map x program", subject, map, &insns);
    }

    /// The address of its value is taken; it is read, or written.
    fn direct(&mut self, subject: &Subject, map: &Subjected) {
        let accesses = [
            Slot::new(op::LDX | op::MEM | op::B, 2, 1, 0, 0),
            Slot::new(op::ST | op::MEM | op::B, 1, 0, 0, 0),
        ];
        for access in accesses {
            let mut insns = map_operand(1, op::PSEUDO_MAP_VALUE).to_vec();
            insns.extend([access, set(returned(subject)), EXIT]);
            self.compare("direct value", subject, map, &insns);
        }
    }

    /// A value that was looked up is read, or written, at its beginning and end.
    fn values(&mut self, subject: &Subject, map: &Subjected) {
        let Ok(end) = i16::try_from(map.desc.value_size.max(1) - 1) else {
            return;
        };
        for at in [0, end] {
            let accesses = [
                Slot::new(op::LDX | op::MEM | op::B, 1, 0, at, 0),
                Slot::new(op::ST | op::MEM | op::B, 0, 0, at, 0),
            ];
            for access in accesses {
                let mut insns = map_operand(1, op::PSEUDO_MAP_FD).to_vec();
                insns.extend([
                    mov(2, 10),
                    Slot::new(op::ALU64 | op::ADD | op::K, 2, 0, 0, ARGUMENT_STACK),
                    call(id::MAP_LOOKUP_ELEM),
                    Slot::new(op::JMP | op::JEQ | op::K, 0, 0, 1, 0),
                    access,
                    set(returned(subject)),
                    EXIT,
                ]);
                self.compare("value", subject, map, &insns);
            }
        }
    }

    /// The helper is called with the map.
    fn helper(&mut self, subject: &Subject, map: &Subjected, proto: &HelperProto) {
        let Some(insns) = helper_call(proto, returned(subject)) else {
            return;
        };
        self.compare("map x helper", subject, map, &insns);
    }
}

/// A number that programs of this kind may return.
fn returned(subject: &Subject) -> i32 {
    let range = prog::ret_range(&subject.env(), TargetReturns::Value);
    range.map_or(0, |r| r.min.max(0).min(r.max))
}

/// A call with arguments that fit, as far as they can be made without other calls.
fn helper_call(proto: &HelperProto, result: i32) -> Option<Vec<Slot>> {
    let mut insns = vec![mov(6, 1)];
    for (arg, register) in proto.args.iter().zip(1u8..) {
        match arg.kind {
            ArgKind::ConstMapPtr => insns.extend(map_operand(register, op::PSEUDO_MAP_FD)),
            ArgKind::MapKey | ArgKind::MapValue | ArgKind::Mem | ArgKind::FixedMem(_) => {
                insns.push(mov(register, 10));
                let add = op::ALU64 | op::ADD | op::K;
                insns.push(Slot::new(add, register, 0, 0, ARGUMENT_STACK));
            }
            ArgKind::ConstSize | ArgKind::ConstSizeOrZero | ArgKind::ConstAllocSizeOrZero => {
                insns.push(mov_imm(register, ARGUMENT_BYTES));
            }
            ArgKind::Anything => insns.push(mov_imm(register, 0)),
            ArgKind::Ctx => insns.push(mov(register, 6)),
            _ => return None,
        }
    }
    // A record must be given back, which is another call.
    if matches!(proto.ret, Ret::RingbufMemOrNull) {
        return None;
    }
    insns.extend([call(proto.id), set(result), EXIT]);
    Some(insns)
}

/// What tells maps apart here.
fn kind_of(desc: &MapDesc) -> String {
    let fields: Vec<String> = desc
        .record
        .fields
        .iter()
        .map(|f| format!("{:?}", f.kind))
        .collect();
    let inner = desc.inner.as_deref().map(|i| i.map_type);
    let single = desc.max_entries == 1;
    format!(
        "{:?} {:#x} {fields:?} {inner:?} {single} {}",
        desc.map_type, desc.map_flags, desc.has_btf
    )
}

/// One map of each kind in the corpus. The objects stay loaded.
fn corpus_maps(kernel: &Arc<Kernel>, keep: &mut Vec<Loaded>) -> Result<Vec<Subjected>, TaskError> {
    let (mut maps, mut kinds, mut objects) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for row in accepted(None)? {
        if !row.object.starts_with("base/") || !objects.insert(row.object.clone()) {
            continue;
        }
        let Ok(bytes) = std::fs::read(&row.path) else {
            continue;
        };
        let Ok(checker) = Checker::open(&bytes, &CheckOptions::default()) else {
            continue;
        };
        let mut linked = checker.linked().clone();
        linked.programs.clear();
        let backend: Arc<dyn Backend> = Arc::<Kernel>::clone(kernel);
        let Ok(loaded) = load(&linked, &backend, &LoadOptions::default()) else {
            continue;
        };
        for (desc, made) in checker.maps().iter().zip(&loaded.maps) {
            // Pinned by the kernel's own rules or filled by a loader: not what is asked here.
            if desc.map_type != MapType::StructOps && kinds.insert(kind_of(desc)) {
                maps.push(Subjected {
                    desc: desc.clone(),
                    handle: made.handle,
                });
            }
        }
        keep.push(loaded);
    }
    Ok(maps)
}

/// Sizes of key and value, entries and flags that some map type is made with.
const SHAPES: &[(u32, u32, u32, u32)] = &[
    (4, 8, 4, 0),
    (4, 4, 4, 0),
    (8, 8, 4, 1),
    (8, 8, 0, 0),
    (0, 8, 4, 0),
    (0, 0, 4096, 0),
    (0, 0, 1, 1 << 10),
    (4, 8, 1, 0),
];

/// One map of each type and access mode, without BTF.
fn plain_maps(kernel: &Kernel) -> Vec<Subjected> {
    let mut maps = Vec::new();
    for &map_type in MapType::ALL {
        for mode in [0, BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG] {
            for &(key_size, value_size, max_entries, flags) in SHAPES {
                let map_flags = flags | mode;
                let mut create = MapCreate::new(map_type, key_size, value_size, max_entries);
                create.map_flags = map_flags;
                create.map_extra = if map_type == MapType::Arena {
                    ARENA_ADDRESS
                } else {
                    0
                };
                let Ok(handle) = kernel.map_create(&create) else {
                    continue;
                };
                let desc = MapDesc {
                    name: "plain".to_owned(),
                    map_type,
                    key_size,
                    value_size,
                    max_entries,
                    map_flags,
                    map_extra: create.map_extra,
                    record: Arc::new(Record::default()),
                    has_btf: false,
                    btf: None,
                    inner: None,
                    frozen: None,
                    owner: None,
                    id: 0,
                };
                maps.push(Subjected { desc, handle });
                // The last shape is an array of one entry, whose value has an address.
                if map_type != MapType::Array {
                    break;
                }
            }
        }
    }
    maps
}

/// Helpers that take a map.
fn map_helpers() -> impl Iterator<Item = &'static HelperProto> {
    let takes_map = |h: &&HelperProto| h.args.iter().any(|a| a.kind == ArgKind::ConstMapPtr);
    helper::HELPERS.iter().filter(takes_map)
}

/// Runs the task.
pub(crate) fn run(_arguments: &[String]) -> Result<(), TaskError> {
    let kernel = Arc::new(Kernel::new());
    let btf = running_btf().map_err(|e| e.to_string())?;
    let mut keep = Vec::new();
    let mut maps = corpus_maps(&kernel, &mut keep)?;
    maps.extend(plain_maps(&kernel));
    let subjects: Vec<Subject> = subjects(&btf)
        .into_iter()
        .filter(|s| s.loads(&kernel))
        .collect();
    let mut probe = Probe {
        kernel: &kernel,
        btf: &btf,
        tally: Tally::default(),
    };
    for map in &maps {
        for subject in &subjects {
            probe.used(subject, map);
            probe.direct(subject, map);
            probe.values(subject, map);
        }
        for proto in map_helpers() {
            let allowed = subjects
                .iter()
                .filter(|s| helper::lookup(&s.env(), proto.id).is_ok());
            for subject in allowed.take(SUBJECTS_PER_HELPER) {
                probe.helper(subject, map, proto);
            }
        }
    }
    report(&probe.tally, maps.len(), subjects.len())
}

fn report(tally: &Tally, maps: usize, subjects: usize) -> Result<(), TaskError> {
    println!("{maps} maps, {subjects} kinds of programs");
    for (kind, count) in &tally.differences {
        println!("{count:6}  {kind}");
    }
    let differences: usize = tally.differences.values().sum();
    println!(
        "{}",
        serde_json::json!({
            "probe": "maps", "cells": tally.cells, "accepted": tally.accepted, "differences": differences,
        })
    );
    if differences == 0 {
        Ok(())
    } else {
        Err(format!("{differences} differences"))
    }
}
