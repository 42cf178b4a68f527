//! Rules between objects, ours against the kernel's: which programs one map may hold or be named by, and which maps fit into a
//! map of maps. Each cell is one command, and its errno must be the same.

use crate::random::Random;
use skep::feature::ask::{EXIT, Subject, set, subjects};
use skep_abi::map_flags::{
    BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_F_PRESERVE_ELEMS, BPF_F_RDONLY,
    BPF_F_RDONLY_PROG, BPF_F_WRONLY, BPF_F_WRONLY_PROG, BPF_F_ZERO_SEED,
};
use skep_abi::prog::{self, TargetReturns};
use skep_abi::prog_flags::{BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS};
use skep_abi::{AttachType, Errno, MapType, ProgType};
use skep_bpf::{Backend, Handle, MapCreate, ProgLoad};
use skep_btf::{Btf, Builder, Kind, Order};
use skep_isa::{Slot, opcode as op};
use skep_verifier::{MapDesc, MapOwner, Request};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Map types whose elements may be programs.
const HOLDS_PROGRAMS: [MapType; 4] = [
    MapType::ProgArray,
    MapType::Devmap,
    MapType::DevmapHash,
    MapType::Cpumap,
];

/// What was compared.
#[derive(Default, Debug)]
pub struct Report {
    /// Commands.
    pub cells: usize,
    /// Commands that both carry out.
    pub accepted: usize,
    /// What the two answered, with the first place.
    pub differences: BTreeMap<String, (usize, String)>,
}

impl Report {
    pub(crate) fn compare(
        &mut self,
        what: &str,
        answers: [Answer; 2],
        place: impl FnOnce() -> String,
    ) {
        self.cells += 1;
        let [ours, theirs] = answers;
        self.accepted += usize::from(ours.is_none() && theirs.is_none());
        if ours != theirs {
            let name = |e: Answer| e.map_or("done", Errno::name);
            let kind = format!("{what}: ours {}, the kernel {}", name(ours), name(theirs));
            let entry = self.differences.entry(kind).or_insert_with(|| (0, place()));
            entry.0 += 1;
        }
    }
}

/// `None`: it was done.
pub(crate) type Answer = Option<Errno>;

pub(crate) fn errno<T>(result: &skep_bpf::Result<T>) -> Answer {
    result.as_ref().err().map(|e| e.errno)
}

/// Which of a large matrix is tried: each cell once in so many.
#[derive(Debug)]
pub struct Sample {
    /// Every cell if 1.
    pub one_in: u64,
    /// Chooses the cells.
    pub random: Random,
}

impl Sample {
    fn takes(&mut self) -> bool {
        self.one_in == 1 || self.random.below(self.one_in) == 0
    }
}

/// A kind of program, as it is loaded.
struct KindOfProgram {
    subject: Subject,
    /// Which cgroup storages it names.
    storages: Vec<usize>,
    /// One of them in the kernel, that names no other map.
    plain: Handle,
}

/// Where a program meets the map.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// It is put into it.
    Held,
    /// It names it.
    Names,
}

/// The kernel, what our verifier knows of it, and the cgroup storages that programs name.
struct World<'a> {
    kernel: &'a dyn Backend,
    btf: &'a Btf,
    storages: Vec<(Handle, MapDesc)>,
}

/// Cgroup storages.
const STORAGES: [MapType; 4] = [
    MapType::CgroupStorage,
    MapType::CgroupStorage,
    MapType::PercpuCgroupStorage,
    MapType::PercpuCgroupStorage,
];
/// Which of them a program of a cgroup names.
const STORAGE_SETS: [&[usize]; 7] = [&[], &[0], &[1], &[2], &[3], &[0, 2], &[0, 1]];

/// The description of a map without BTF.
fn plain_map(map_type: MapType, key: u32, value: u32, entries: u32, id: u32) -> MapDesc {
    MapDesc {
        name: "plain".to_owned(),
        map_type,
        key_size: key,
        value_size: value,
        max_entries: entries,
        map_flags: 0,
        map_extra: 0,
        record: Arc::default(),
        has_btf: false,
        btf: None,
        inner: None,
        frozen: None,
        owner: None,
        id,
    }
}

/// Takes the address of each map, and returns.
fn naming(subject: &Subject, operands: impl Iterator<Item = i32>) -> Vec<Slot> {
    let mut insns = Vec::new();
    for operand in operands {
        insns.push(Slot::new(op::LDDW, 2, op::PSEUDO_MAP_FD, 0, operand));
        insns.push(Slot::new(0, 0, 0, 0, 0));
    }
    insns.extend([set(returned(subject)), EXIT]);
    insns
}

impl World<'_> {
    /// Loads a program that names these storages, and the map.
    fn load(
        &self,
        subject: &Subject,
        storages: &[usize],
        map: Option<Handle>,
    ) -> skep_bpf::Result<Handle> {
        let storages = storages.iter().map(|&i| self.storages[i].0);
        let insns = naming(subject, storages.chain(map).map(|h| h.0));
        self.kernel.prog_load(&ProgLoad {
            expected_attach_type: subject.attach,
            prog_flags: subject.prog_flags,
            attach_btf_id: subject.target.0,
            ..ProgLoad::plain(subject.prog_type, insns)
        })
    }

    fn maps(&self, storages: &[usize], map: Option<&MapDesc>) -> Vec<MapDesc> {
        let storages = storages.iter().map(|&i| self.storages[i].1.clone());
        storages.chain(map.cloned()).collect()
    }

    /// As [`Self::load`], by our verifier.
    fn verify(&self, subject: &Subject, storages: &[usize], map: Option<&MapDesc>) -> Answer {
        let maps = self.maps(storages, map);
        let insns = naming(subject, (0..).take(maps.len()));
        let request = Request {
            attach: subject.attach,
            attach_btf_id: subject.target.0,
            prog_flags: subject.prog_flags,
            maps: &maps,
            kernel_btf: Some(self.btf),
            ..Request::plain("probe", subject.prog_type, &insns)
        };
        let refused = skep_verifier::verify(&request).err();
        refused.map(|no| Errno(no.errno))
    }

    /// The kernel lets a program of this kind meet the map; what it needs stays open in `open`.
    fn meet(&self, kind: &KindOfProgram, way: Way, map: Handle, open: &mut Vec<Handle>) -> Answer {
        match way {
            Way::Held => {
                let value = kind.plain.0.to_ne_bytes();
                errno(&self.kernel.map_update(map, &[0; 4], &value, 0))
            }
            Way::Names => {
                let loaded = self.load(&kind.subject, &kind.storages, Some(map));
                open.extend(loaded.as_ref().ok());
                errno(&loaded)
            }
        }
    }

    /// As [`Self::meet`], by our rules. The first program that meets the map owns it.
    fn meet_ours(&self, kind: &KindOfProgram, way: Way, map: &mut MapDesc) -> Answer {
        let s = &kind.subject;
        let maps = self.maps(&kind.storages, None);
        let class = MapOwner::of(s.prog_type, s.attach, s.target.0, s.prog_flags, &maps);
        let answer = match way {
            Way::Held => match map.owner {
                Some(owner) if !owner.admits(&class, map.map_type) => Some(Errno::EINVAL),
                _ => None,
            },
            Way::Names => self.verify(s, &kind.storages, Some(map)),
        };
        if answer.is_none() {
            map.owner.get_or_insert(class);
        }
        answer
    }
}

/// A number that programs of this kind may return.
fn returned(subject: &Subject) -> i32 {
    let range = prog::ret_range(&subject.env(), TargetReturns::Value);
    range.map_or(0, |r| r.min.max(0).min(r.max))
}

fn describe(subject: &Subject, storages: &[usize]) -> String {
    let attach = subject.attach.map_or("-", AttachType::name);
    let (flags, target) = (subject.prog_flags, &subject.target.1);
    format!(
        "{} {attach} {flags:#x} {target} {storages:?}",
        subject.prog_type
    )
}

/// The kinds of programs that the kernel loads.
fn kinds(world: &World<'_>, report: &mut Report) -> Vec<KindOfProgram> {
    let mut kinds = Vec::new();
    for subject in subjects(world.btf) {
        let variants: &[u32] = match subject.prog_type {
            ProgType::Xdp => &[0, BPF_F_XDP_HAS_FRAGS],
            ProgType::Kprobe => &[0, BPF_F_SLEEPABLE],
            _ => &[0],
        };
        let is_cgroup = subject.prog_type.name().starts_with("cgroup");
        let sets = &STORAGE_SETS[..if is_cgroup { STORAGE_SETS.len() } else { 1 }];
        for (flags, storages) in variants
            .iter()
            .flat_map(|f| sets.iter().map(move |s| (f, s)))
        {
            let subject = Subject {
                prog_flags: subject.prog_flags | flags,
                target: subject.target.clone(),
                ..subject
            };
            let loaded = world.load(&subject, storages, None);
            if !storages.is_empty() {
                let answers = [world.verify(&subject, storages, None), errno(&loaded)];
                report.compare("cgroup storage", answers, || describe(&subject, storages));
            }
            if let Ok(plain) = loaded {
                kinds.push(KindOfProgram {
                    subject,
                    storages: storages.to_vec(),
                    plain,
                });
            }
        }
    }
    kinds
}

/// Two programs of every pair of kinds meet one map that holds programs: by being put into it, or by naming it. The kernel's
/// answers against those of our verifier and of the rule it shares with the user backend.
///
/// # Errors
/// If a map cannot be made.
pub fn programs_of_one_map(
    kernel: &dyn Backend,
    btf: &Btf,
    sample: &mut Sample,
) -> skep_bpf::Result<Report> {
    let mut world = World {
        kernel,
        btf,
        storages: Vec::new(),
    };
    for (map_type, id) in STORAGES.into_iter().zip(1..) {
        let handle = kernel.map_create(&MapCreate::new(map_type, 8, 8, 0))?;
        world
            .storages
            .push((handle, plain_map(map_type, 8, 8, 0, id)));
    }
    let mut report = Report::default();
    let kinds = kinds(&world, &mut report);
    for map_type in HOLDS_PROGRAMS {
        let ways = match map_type {
            MapType::ProgArray => &[Way::Held, Way::Names][..],
            _ => &[Way::Names],
        };
        let ways = ways
            .iter()
            .flat_map(|first| ways.iter().map(move |second| [*first, *second]));
        for ways in ways {
            for pair in kinds.iter().flat_map(|a| kinds.iter().map(move |b| [a, b])) {
                if sample.takes() {
                    meet_in_turn(&world, map_type, pair, ways, &mut report)?;
                }
            }
        }
    }
    let programs = kinds.iter().map(|k| k.plain);
    let storages = world.storages.iter().map(|s| s.0);
    programs.chain(storages).for_each(|h| kernel.close(h));
    Ok(report)
}

/// One map, which the first and then the second program meet.
fn meet_in_turn(
    world: &World<'_>,
    map_type: MapType,
    kinds: [&KindOfProgram; 2],
    ways: [Way; 2],
    report: &mut Report,
) -> skep_bpf::Result<()> {
    let map = world
        .kernel
        .map_create(&MapCreate::new(map_type, 4, 4, 1))?;
    let mut ours = plain_map(map_type, 4, 4, 1, 0);
    let mut open = vec![map];
    for (kind, way) in kinds.into_iter().zip(ways) {
        let answers = [
            world.meet_ours(kind, way, &mut ours),
            world.meet(kind, way, map, &mut open),
        ];
        report.compare(&format!("{map_type} {ways:?}"), answers, || {
            let [first, second] = kinds.map(|k| describe(&k.subject, &k.storages));
            format!("{first} then {second}")
        });
    }
    open.into_iter().for_each(|h| world.kernel.close(h));
    Ok(())
}

/// A map that may be inside another, in both backends.
struct Inner {
    spec: MapCreate,
    /// Its place among the value types, 0 for none.
    value: usize,
    handles: [Handle; 2],
}

/// Sizes of key and value and numbers of entries that are tried.
const SHAPES: &[(u32, u32, u32)] = &[
    (4, 8, 4),
    (4, 8, 5),
    (4, 4, 4),
    (8, 8, 4),
    (4, 40, 4),
    (4, 40, 1),
    (8, 8, 0),
    (4, 40, 0),
    (0, 40, 4),
    (0, 8, 4),
    (0, 0, 4096),
    (0, 0, 8192),
    (0, 0, 1),
    (4, 32, 4),
];
/// Flags that are tried, alone and with what a type needs.
const FLAGS: &[u32] = &[
    0,
    BPF_F_INNER_MAP,
    BPF_F_NO_PREALLOC,
    BPF_F_RDONLY,
    BPF_F_WRONLY,
    BPF_F_RDONLY_PROG,
    BPF_F_WRONLY_PROG,
    BPF_F_MMAPABLE,
    BPF_F_ZERO_SEED,
    BPF_F_PRESERVE_ELEMS,
    BPF_F_INNER_MAP | BPF_F_MMAPABLE,
];

/// Name, type and bit offset of a member.
type MemberRow = (&'static str, u32, u32);

/// BTF with value types of 40 bytes: without special fields, with each of some, and with the same ones under other names and
/// at other places. Key type (4 bytes), then the value types.
fn values() -> (Vec<u8>, u32, Vec<u32>) {
    let mut b = Builder::new(Order::HOST);
    let int = b.add_int("unsigned int", 4, 0);
    let word = b.add_int("unsigned long", 8, 0);
    let lock = b.add_struct("bpf_spin_lock", 4, &[("val", int, 0)]);
    let timer = b.add_struct("bpf_timer", 16, &[("a", word, 0), ("b", word, 64)]);
    let work = b.add_struct("bpf_wq", 16, &[("a", word, 0), ("b", word, 64)]);
    let count = b.add_struct("bpf_refcount", 4, &[("val", int, 0)]);
    let kptr = |b: &mut Builder, tag: &str, target: &str| {
        let target = b.add(
            target,
            skep_btf::raw::Info::new(Kind::Fwd, 0, false),
            0,
            &[],
        );
        let tag = b.add_ref(Kind::TypeTag, tag, target);
        b.add_ref(Kind::Ptr, "", tag)
    };
    let task = kptr(&mut b, "kptr_untrusted", "task_struct");
    let task_ref = kptr(&mut b, "kptr", "task_struct");
    let cgroup = kptr(&mut b, "kptr", "cgroup");
    let rows: &[(&str, &[MemberRow])] = &[
        ("plain", &[("n", word, 0)]),
        ("other_plain", &[("m", int, 64)]),
        ("locked", &[("lock", lock, 0)]),
        ("other_locked", &[("l", lock, 0), ("n", word, 128)]),
        ("locked_behind", &[("lock", lock, 64)]),
        ("timed", &[("timer", timer, 0)]),
        ("locked_timed", &[("lock", lock, 0), ("timer", timer, 64)]),
        ("working", &[("work", work, 0)]),
        ("counted", &[("count", count, 0)]),
        ("untrusted_task", &[("task", task, 0)]),
        ("task", &[("task", task_ref, 0)]),
        ("task_behind", &[("task", task_ref, 64)]),
        ("cgroup", &[("cgroup", cgroup, 0)]),
    ];
    let types = rows
        .iter()
        .map(|(name, members)| b.add_struct(name, 40, members))
        .collect();
    (b.finish(), int, types)
}

/// Every combination of type, shape, flags and value type that both backends make.
fn inner_maps(
    both: [&dyn Backend; 2],
    btf: [Handle; 2],
    key: u32,
    values: &[u32],
    report: &mut Report,
) -> Vec<Inner> {
    let mut made = Vec::new();
    for &map_type in MapType::ALL {
        for (&(key_size, value_size, entries), &flags) in SHAPES
            .iter()
            .flat_map(|shape| FLAGS.iter().map(move |flags| (shape, flags)))
        {
            let with_btf = key_size == 4 && value_size == 40;
            for value in 0..=if with_btf { values.len() } else { 0 } {
                let mut spec = MapCreate::new(map_type, key_size, value_size, entries);
                spec.map_flags = flags;
                if value > 0 {
                    spec.btf_key_type_id = key;
                    spec.btf_value_type_id = values[value - 1];
                }
                let create = |which: usize| {
                    let btf = (value > 0).then_some(btf[which]);
                    both[which].map_create(&MapCreate {
                        btf,
                        ..spec.clone()
                    })
                };
                let results = [create(0), create(1)];
                // Maps that exist only in a kernel.
                if errno(&results[0]) == Some(Errno::EOPNOTSUPP) {
                    results[1].iter().for_each(|h| both[1].close(*h));
                    continue;
                }
                report.compare("creation", [errno(&results[0]), errno(&results[1])], || {
                    format!("{spec:?}")
                });
                match results {
                    [Ok(ours), Ok(theirs)] => made.push(Inner {
                        spec,
                        value,
                        handles: [ours, theirs],
                    }),
                    results => {
                        for (which, handle) in results.into_iter().enumerate() {
                            handle.into_iter().for_each(|h| both[which].close(h));
                        }
                    }
                }
            }
        }
    }
    made
}

/// Every pair of maps: one is the template of a map of maps, the other is put into it.
///
/// # Errors
/// If the types of values cannot be loaded.
pub fn maps_in_maps(
    user: &dyn Backend,
    kernel: &dyn Backend,
    sample: &mut Sample,
) -> skep_bpf::Result<Report> {
    let both = [user, kernel];
    let (bytes, key, values) = values();
    let btf = [user.btf_load(&bytes)?, kernel.btf_load(&bytes)?];
    let mut report = Report::default();
    let maps = inner_maps(both, btf, key, &values, &mut report);
    for outer_type in [MapType::ArrayOfMaps, MapType::HashOfMaps] {
        for template in &maps {
            let create = |which: usize| {
                both[which].map_create(&MapCreate {
                    inner_map: Some(template.handles[which]),
                    ..MapCreate::new(outer_type, 4, 4, 1)
                })
            };
            let outer = [create(0), create(1)];
            let answers = [errno(&outer[0]), errno(&outer[1])];
            report.compare("template", answers, || format!("{:?}", template.spec));
            if let [Ok(ours), Ok(theirs)] = &outer {
                for inner in &maps {
                    // Maps of one type are what the rules are about.
                    let is_near = inner.spec.map_type == template.spec.map_type;
                    if (is_near || sample.random.below(FAR_ONE_IN) == 0) && sample.takes() {
                        put(both, [*ours, *theirs], template, inner, &mut report);
                    }
                }
            }
            for (which, handle) in outer.into_iter().enumerate() {
                handle.into_iter().for_each(|h| both[which].close(h));
            }
        }
    }
    for (which, backend) in both.iter().enumerate() {
        let maps = maps.iter().map(|m| m.handles[which]);
        maps.chain([btf[which]]).for_each(|h| backend.close(h));
    }
    Ok(report)
}

/// Pairs of maps of different types that are tried: one in so many.
const FAR_ONE_IN: u64 = 40;

fn put(
    both: [&dyn Backend; 2],
    outer: [Handle; 2],
    template: &Inner,
    inner: &Inner,
    report: &mut Report,
) {
    let answers = [0, 1].map(|which: usize| {
        let value = inner.handles[which].0.to_ne_bytes();
        errno(&both[which].map_update(outer[which], &[0; 4], &value, 0))
    });
    report.compare("inner map", answers, || {
        format!(
            "template {:?} value {}; inner {:?} value {}",
            template.spec, template.value, inner.spec, inner.value
        )
    });
}
