//! Every helper and kernel function of the user backend on random arguments, in both backends: the objects
//! `tests/objects/sweep*.bpf.c`, and which other comparison has the rest.
//!
//! A program reads what it is given from a variable of its object and writes what it found behind it. Both, its return value,
//! the packet and everything that was emitted must be the same; of what differs between backends the program says only
//! whether it is as it must be.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use crate::objects::{loaded, object};
use crate::random::Random;
use crate::{format_diff, helper_diff};
use skep::load::{Loaded, LoadedProgram};
use skep_abi::helper::{HELPERS, by_id};
use skep_abi::{MapType, ProgType};
use skep_bpf::{Backend, Event, EventReader, Handle, TestRun};
use skep_isa::{Call, Insn};
use skep_object::ExternKind;
use skep_sys::mem::{Mapping, write_own};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// The objects.
pub const OBJECTS: &[&str] = &["sweep", "sweep_kfuncs"];
/// Other objects whose programs come out the same in both backends, by the tests of these names.
pub const ELSEWHERE: &[(&str, &str)] = &[
    ("corners", "corners_are_the_kernels"),
    ("deferred", "timers_do_as_in_the_kernel"),
    ("routes", "routes_are_the_kernels"),
    ("sockets", "sockets_are_the_kernels"),
    ("arena", "programs_see_the_same_memory_in_every_engine"),
    ("emit", "all_streams_say_the_same"),
    ("tasks", "tasks_are_found_by_their_ids"),
    ("trees", "trees_have_the_kernels_shape"),
];
/// Kernel functions that Linux 6.18 does not have: there is nothing to compare with.
pub const YOUNGER: &[&str] = &["bpf_strcasestr", "bpf_strncasestr"];

/// Words that programs read and write (`sweep.h`).
const IN_WORDS: usize = 16;
const OUT_WORDS: usize = 112;
/// Places among the words given.
const TEXT: usize = 8;
const NOWHERE: usize = 9;
const AT: usize = 10;
const DEVICE: usize = 11;
const INODE: usize = 12;
/// Bytes of a page, and of the text at its end.
const PAGE: usize = 4096;
const TEXT_BYTES: usize = 64;

/// Names of all helpers and kernel functions that an object's programs call.
///
/// # Panics
/// If the object cannot be linked.
#[must_use]
pub fn calls(name: &str, backend: &dyn Backend) -> BTreeSet<String> {
    let linked = crate::objects::linked(name, backend);
    let mut called = BTreeSet::new();
    for program in &linked.programs {
        for slot in 0..program.insns.len() {
            if let Ok(Insn::Call(Call::Helper(id))) = skep_isa::decode(&program.insns, slot) {
                called.extend(by_id(id.cast_unsigned()).map(|h| h.name.to_owned()));
            }
        }
    }
    let kfuncs = object(name);
    let kfuncs = kfuncs.externs().iter();
    let kfuncs = kfuncs.filter(|e| matches!(e.kind, ExternKind::Kfunc { .. }));
    called.extend(kfuncs.map(|e| e.name.clone()));
    called
}

/// Names of the helpers that the tests of random instructions call.
#[must_use]
pub fn random_calls() -> BTreeSet<String> {
    let rows = helper_diff::called().chain(format_diff::CALLED.iter().copied());
    rows.filter_map(by_id).map(|h| h.name.to_owned()).collect()
}

/// Names of all helpers.
#[must_use]
pub fn helpers() -> Vec<&'static str> {
    HELPERS.iter().map(|h| h.name).collect()
}

/// Memory that ends where nothing is mapped.
#[derive(Debug)]
pub struct Edge {
    pages: Mapping,
}

impl Edge {
    /// A page with a text at its end, and nothing behind.
    ///
    /// # Panics
    /// Without memory.
    #[must_use]
    pub fn new() -> Self {
        let pages = Mapping::reserve(2 * PAGE).unwrap();
        pages.blank(0, PAGE).unwrap();
        let text = b"A text that ends with its page, without a zero behind it: 012345";
        assert_eq!(text.len(), TEXT_BYTES);
        write_own(pages.base() as usize + PAGE - TEXT_BYTES, text).unwrap();
        write_own(
            pages.base() as usize + PAGE - TEXT_BYTES - 16,
            b"short\0other\0\0\0\0\0",
        )
        .unwrap();
        Self { pages }
    }

    fn end(&self) -> u64 {
        self.pages.base() as u64 + PAGE as u64
    }

    /// What programs are given.
    fn words(&self, random: &mut Random) -> [u64; IN_WORDS] {
        let mut words = [0; IN_WORDS];
        for word in &mut words {
            *word = match random.below(6) {
                0 => random.below(4),
                1 => random.below(300),
                2 => random.below(9).wrapping_sub(4),
                3 => 1 << random.below(64),
                _ => random.next_u64(),
            };
        }
        let text = self.end() - TEXT_BYTES as u64;
        words[TEXT] = text;
        words[NOWHERE] = self.end();
        words[AT] = *random.of(&[
            text,
            text - 16,
            text - 10,
            text - 20,
            self.end() - 8,
            self.end() - 1,
            self.end(),
            0,
            8,
            1 << 47,
            (1 << 47) - 8,
            1 << 63,
            u64::MAX - 4,
        ]);
        let ns = std::fs::metadata("/proc/self/ns/pid").unwrap();
        (words[DEVICE], words[INODE]) = (ns.dev(), ns.ino());
        words
    }
}

impl Default for Edge {
    fn default() -> Self {
        Self::new()
    }
}

/// What a program came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    result: Result<(u32, Vec<u8>), String>,
    /// What the program found, and what it left of what it was given.
    words: Vec<u64>,
    events: Vec<Vec<u8>>,
}

impl Outcome {
    /// In what they differ.
    #[must_use]
    pub fn difference(&self, kernel: &Self) -> Option<String> {
        let mut different = Vec::new();
        if self.result != kernel.result {
            different.push(format!("{:x?} not {:x?}", self.result, kernel.result));
        }
        for (n, (ours, theirs)) in self.words.iter().zip(&kernel.words).enumerate() {
            if ours != theirs {
                let (n, ours, theirs) = (
                    n as i64 - IN_WORDS as i64,
                    ours.cast_signed(),
                    theirs.cast_signed(),
                );
                different.push(format!("word {n}: {ours} not {theirs}"));
            }
        }
        // The kernel pads samples at their end, with anything.
        let same = |ours: &Vec<u8>, theirs: &Vec<u8>| {
            theirs.starts_with(ours) && theirs.len() < ours.len() + 8
        };
        let as_many = self.events.len() == kernel.events.len();
        if !as_many
            || !self
                .events
                .iter()
                .zip(&kernel.events)
                .all(|(a, b)| same(a, b))
        {
            different.push(format!("{:x?} not {:x?}", self.events, kernel.events));
        }
        (!different.is_empty()).then(|| different.join(", "))
    }
}

/// An object in a backend.
pub struct Side {
    loaded: Loaded,
    variable: Handle,
    streams: Vec<Box<dyn EventReader>>,
}

impl Side {
    /// Loads it.
    ///
    /// # Panics
    /// If it is refused.
    #[must_use]
    pub fn new(name: &str, backend: &Arc<dyn Backend>) -> Self {
        let loaded = loaded(name, backend);
        let mut variables = loaded.maps.iter().filter(|m| m.spec.name.ends_with(".bss"));
        let variable = variables.next().unwrap().handle;
        let read = loaded
            .maps
            .iter()
            .filter(|m| m.spec.map_type == MapType::PerfEventArray || m.spec.name == "ring");
        let streams = read.map(|m| backend.events_open(m.handle).unwrap());
        Self {
            streams: streams.collect(),
            variable,
            loaded,
        }
    }

    /// Names of the programs.
    #[must_use]
    pub fn programs(&self) -> Vec<String> {
        let names = self.loaded.programs.iter().map(|p| p.spec.name.clone());
        names.collect()
    }

    fn run(&self, program: &LoadedProgram, packet: &[u8]) -> Result<(u32, Vec<u8>), String> {
        let mut run = TestRun::default();
        match program.spec.prog_type {
            ProgType::RawTracepoint | ProgType::Syscall => {}
            ProgType::SkLookup => {
                let mut ctx = vec![0; 72];
                (ctx[8], ctx[12]) = (2, 6);
                run.ctx_in = Some(ctx);
            }
            _ => (run.data_in, run.data_size_out) = (Some(packet.to_vec()), 1 << 16),
        }
        let result = self.loaded.backend().prog_test_run(program.handle, &run);
        result
            .map(|r| (r.retval, r.data_out))
            .map_err(|e| e.errno.to_string())
    }

    /// Runs a program on these words and this packet.
    ///
    /// # Panics
    /// If there is no such program.
    pub fn outcome(&mut self, program: &str, words: &[u64], packet: &[u8]) -> Outcome {
        let backend = self.loaded.backend();
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        bytes.resize((IN_WORDS + OUT_WORDS) * 8, 0);
        backend
            .map_update(self.variable, &[0; 4], &bytes, 0)
            .unwrap();
        let result = self.run(self.loaded.program(program).unwrap(), packet);
        backend
            .map_lookup(self.variable, &[0; 4], &mut bytes, 0)
            .unwrap();
        let (words, _) = bytes.as_chunks::<8>();
        let words = words.iter().map(|w| u64::from_ne_bytes(*w)).collect();
        let mut events = Vec::new();
        for stream in &mut self.streams {
            let keep = &mut |event: Event<'_>| match event {
                Event::Record(bytes) | Event::Sample { data: bytes, .. } => {
                    events.push(bytes.to_vec());
                }
                other => events.push(format!("{other:?}").into_bytes()),
            };
            stream.drain(keep).unwrap();
        }
        Outcome {
            result,
            words,
            events,
        }
    }
}

/// A packet of IPv4, mostly.
fn packet(random: &mut Random) -> Vec<u8> {
    let len = 64 + random.below(140) as usize;
    let mut packet: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
    packet[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    if random.below(4) == 0 {
        packet[12..14].copy_from_slice(random.of(&[&[0x86, 0xdd], &[8, 6], &[0x81, 0]]).as_slice());
    }
    packet
}

/// What a program is run on.
#[must_use]
pub fn input(random: &mut Random, edge: &Edge) -> (Vec<u64>, Vec<u8>) {
    (edge.words(random).to_vec(), packet(random))
}
