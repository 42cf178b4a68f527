//! `cargo xtask fuzz-jit [COUNT] [SEED]`: random verified programs in every engine: interpreter, templates, blinded templates,
//! optimised code, and the kernel (root). Return value, packet, context and maps must be the same.
//!
//! Every so often a program also runs in the interpreter in checked mode: each step must lie in the states that the verifier
//! recorded. The instructions of these runs are counted.

mod generate;
mod sampled;

use crate::TaskError;
use crate::fuzz_verify::{Random, print_program, shape};
use generate::{ARRAY, Generated, HASH, PERCPU, VALUE, generate};
use serde_json::json;
use skep::Kernel;
use skep_abi::{MapType, ProgType};
use skep_bpf::{Backend, Handle, MapCreate, ProgLoad, TestRun};
use skep_isa::opcode as op;
use skep_user::{Options, Universe};
use skep_vm::{Engine, Tiers};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Programs tried unless told otherwise.
const COUNT: u64 = 20_000;
/// One program in so many is also run in checked mode.
const SAMPLE: u64 = 32;
/// One program in so many also runs in blinded templates.
const BLINDED: u64 = 8;
/// Differences printed whole.
const PRINTED_MAX: u64 = 10;
/// Programs between two lines of progress.
const PROGRESS: u64 = 20_000;
/// The maps that programs use: type, bytes of a key and of a value, elements; by index.
#[rustfmt::skip] // one map a line
const MAPS: &[(MapType, u32, u32, u32)] = &[
    (MapType::Array, 4, VALUE as u32, 1),
    (MapType::PercpuArray, 4, 16, 3),
    (MapType::Hash, 8, 16, 6),
];
/// Keys of the hash that programs use.
const KEYS: u64 = 8;
/// Id of the function in [`function_btf`].
const FUNC_TYPE: u32 = 3;
/// Bytes of `struct __sk_buff`, and of the longest packet.
const CTX_BYTES: u32 = 192;
const PACKET_MAX: usize = 96;

/// Something that loads and runs programs, with its own maps.
struct Side {
    name: &'static str,
    backend: Arc<dyn Backend>,
    maps: Vec<Handle>,
    /// Names of functions: callbacks must have one.
    btf: Handle,
}

/// Where a run begins.
struct Start {
    packet: Vec<u8>,
    value: Vec<u8>,
    percpu: Vec<[u8; 16]>,
    hash: Vec<(u64, [u8; 16])>,
}

/// What a run leaves.
#[derive(PartialEq, Eq, Debug)]
struct End {
    retval: u32,
    packet: Vec<u8>,
    ctx: Vec<u8>,
    value: Vec<u8>,
    /// By key; the CPUs' values sorted, since runs are on any CPU.
    percpu: Vec<Vec<Vec<u8>>>,
    hash: Vec<Option<Vec<u8>>>,
}

#[derive(Default)]
struct Tally {
    programs: u64,
    accepted: u64,
    verdicts: u64,
    kernel_bugs: u64,
    differences: u64,
    steps: Vec<u64>,
    rejections: BTreeMap<String, u64>,
}

/// Runs the fuzzer.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let number = |i: usize, default: u64| match arguments.get(i) {
        Some(text) => text.parse().map_err(|_| format!("{text} is not a number")),
        None => Ok(default),
    };
    let (count, seed) = (number(0, COUNT)?, number(1, 1)?);
    let sides = sides()?;
    let mut tally = Tally::default();
    let begun = std::time::Instant::now();
    for i in 0..count {
        // Each program has a seed of its own, so that one can be tried again alone.
        let own = seed.wrapping_add(i);
        one(&sides, own, &mut tally)?;
        if (i + 1) % PROGRESS == 0 {
            eprintln!(
                "{} programs, {} accepted, {} differences, {:.0} a second",
                tally.programs,
                tally.accepted,
                tally.differences,
                tally.programs as f64 / begun.elapsed().as_secs_f64()
            );
        }
    }
    report(&mut tally, seed)
}

fn sides() -> Result<Vec<Side>, TaskError> {
    let universe = |engine, tiers, blinding| -> Result<Arc<dyn Backend>, TaskError> {
        let options = Options {
            engine,
            tiers,
            blinding,
            ..Options::default()
        };
        Ok(Arc::new(Universe::new(options).map_err(|e| e.to_string())?))
    };
    let all: Vec<(&'static str, Arc<dyn Backend>)> = vec![
        ("kernel", Arc::new(Kernel::new())),
        ("interp", universe(Engine::Interp, Tiers::Adaptive, false)?),
        ("templates", universe(Engine::Jit, Tiers::Templates, false)?),
        ("optimised", universe(Engine::Jit, Tiers::Optimised, false)?),
        ("blinded", universe(Engine::Jit, Tiers::Templates, true)?),
    ];
    let with_maps = |(name, backend): (&'static str, Arc<dyn Backend>)| {
        let create = |&(map_type, key, value, entries): &(MapType, u32, u32, u32)| {
            backend
                .map_create(&MapCreate::new(map_type, key, value, entries))
                .map_err(|e| format!("{name}: {e}"))
        };
        let maps = MAPS.iter().map(create).collect::<Result<_, _>>()?;
        let btf = backend
            .btf_load(&function_btf())
            .map_err(|e| format!("{name}: {e}"))?;
        Ok(Side {
            name,
            backend,
            maps,
            btf,
        })
    };
    all.into_iter().map(with_maps).collect()
}

/// One program, from its seed.
fn one(sides: &[Side], seed: u64, tally: &mut Tally) -> Result<(), TaskError> {
    let mut random = Random::new(seed);
    let program = generate(&mut random);
    let start = start(&mut random);
    tally.programs += 1;
    // The last side is templates again, blinded.
    let here = match seed.is_multiple_of(BLINDED) {
        true => sides,
        false => &sides[..sides.len() - 1],
    };
    let handles: Vec<Result<Handle, String>> = here.iter().map(|s| s.load(&program)).collect();
    note_verdicts(&handles, seed, tally);
    if let Some(what) = difference(here, &handles, &start)? {
        tally.differs(seed, &what, &program);
    }
    for (side, handle) in here.iter().zip(handles) {
        if let Ok(handle) = handle {
            side.backend.close(handle);
        }
    }
    if seed.is_multiple_of(SAMPLE) {
        match sampled::run(&program, &start.packet) {
            Ok(steps) => tally.steps.extend(steps),
            Err(contradiction) => tally.differs(seed, &contradiction, &program),
        }
    }
    Ok(())
}

/// Counts what the verifiers say; the first side is the kernel.
fn note_verdicts(handles: &[Result<Handle, String>], seed: u64, tally: &mut Tally) {
    let accepted = handles[0].is_ok();
    tally.accepted += u64::from(accepted);
    if let Err(why) = &handles[1] {
        *tally.rejections.entry(shape(why)).or_default() += 1;
    }
    // The kernel's own mistake: a callback that no path runs.
    if matches!(&handles[0], Err(e) if e.contains("EFAULT")) {
        tally.kernel_bugs += 1;
        return;
    }
    if handles.iter().any(|h| h.is_ok() != accepted) {
        tally.verdicts += 1;
        if tally.verdicts <= PRINTED_MAX {
            let said = handles.iter().find_map(|h| h.as_ref().err());
            let said = said.map_or("", String::as_str);
            println!("seed {seed}: only one verifier accepts it: {said}");
        }
    }
}

/// Runs the program everywhere; the first difference.
fn difference(
    sides: &[Side],
    handles: &[Result<Handle, String>],
    start: &Start,
) -> Result<Option<String>, TaskError> {
    let mut first: Option<(&'static str, End)> = None;
    for (side, handle) in sides.iter().zip(handles) {
        let Ok(handle) = *handle else { continue };
        let end = side.run(handle, start)?;
        match &first {
            None => first = Some((side.name, end)),
            Some((name, expected)) if *expected != end => {
                let other = side.name;
                return Ok(Some(format!(
                    "{name} and {other} differ\n  {name}: {expected:?}\n  {other}: {end:?}"
                )));
            }
            Some(_) => {}
        }
    }
    Ok(None)
}

impl Tally {
    fn differs(&mut self, seed: u64, what: &str, program: &Generated) {
        self.differences += 1;
        if self.differences <= PRINTED_MAX {
            println!("seed {seed}: {what}");
            print_program(&program.insns);
        }
    }
}

fn start(random: &mut Random) -> Start {
    let mut bytes = |n: usize| -> Vec<u8> { (0..n).map(|_| random.next() as u8).collect() };
    let mut packet = bytes(PACKET_MAX);
    // An Ethernet type without a header of its own.
    packet[12..14].copy_from_slice(&[0x88, 0xb5]);
    let value = bytes(VALUE);
    let mut element = || -> [u8; 16] { std::array::from_fn(|_| random.next() as u8) };
    let percpu = (0..3).map(|_| element()).collect();
    let hash = [1, 4, 6].map(|key| (key, element())).to_vec();
    packet.truncate(64 + random.below(PACKET_MAX - 64));
    Start {
        packet,
        value,
        percpu,
        hash,
    }
}

impl Side {
    fn map(&self, index: i32) -> Handle {
        self.maps[index as usize]
    }

    fn load(&self, program: &Generated) -> Result<Handle, String> {
        let mut insns = program.insns.clone();
        for slot in &mut insns {
            if slot.code == op::LDDW && slot.src() == op::PSEUDO_MAP_FD {
                slot.imm = self.map(slot.imm).0;
            }
        }
        let spec = ProgLoad {
            prog_type: ProgType::SchedCls,
            expected_attach_type: None,
            insns,
            license: "GPL".to_owned(),
            name: "fuzz".to_owned(),
            prog_flags: 0,
            prog_ifindex: 0,
            btf: Some(self.btf),
            func_info: func_info(&program.starts),
            func_info_rec_size: 8,
            line_info: Vec::new(),
            line_info_rec_size: 0,
            attach_btf_id: 0,
            attach_prog: None,
            attach_btf: None,
            fd_array: Vec::new(),
            log_level: 0,
        };
        self.backend
            .prog_load(&spec)
            .map_err(|e| format!("{}: {e}", self.name))
    }

    fn run(&self, program: Handle, start: &Start) -> Result<End, TaskError> {
        self.reset(start)
            .map_err(|e| format!("{}: {e}", self.name))?;
        let run = TestRun {
            data_in: Some(start.packet.clone()),
            data_size_out: 256,
            ctx_size_out: CTX_BYTES,
            ..TestRun::default()
        };
        let result = self
            .backend
            .prog_test_run(program, &run)
            .map_err(|e| format!("{}: {e}", self.name))?;
        let mut value = vec![0; VALUE];
        let lookup =
            |map, key: &[u8], value: &mut [u8]| self.backend.map_lookup(map, key, value, 0);
        lookup(self.map(ARRAY), &0u32.to_ne_bytes(), &mut value).map_err(|e| e.to_string())?;
        let mut percpu = Vec::new();
        for key in 0..start.percpu.len() as u32 {
            let mut all = vec![0; 16 * self.backend.possible_cpus()];
            lookup(self.map(PERCPU), &key.to_ne_bytes(), &mut all).map_err(|e| e.to_string())?;
            let mut cpus: Vec<Vec<u8>> = all.chunks(16).map(<[u8]>::to_vec).collect();
            cpus.sort();
            percpu.push(cpus);
        }
        let hash = (0..KEYS).map(|key| {
            let mut value = vec![0; 16];
            let found = lookup(self.map(HASH), &key.to_ne_bytes(), &mut value);
            found.is_ok().then_some(value)
        });
        Ok(End {
            retval: result.retval,
            packet: result.data_out,
            ctx: result.ctx_out,
            value,
            percpu,
            hash: hash.collect(),
        })
    }

    fn reset(&self, start: &Start) -> skep_bpf::Result<()> {
        let b = &self.backend;
        b.map_update(self.map(ARRAY), &0u32.to_ne_bytes(), &start.value, 0)?;
        for (key, element) in (0u32..).zip(&start.percpu) {
            let all = element.repeat(b.possible_cpus());
            b.map_update(self.map(PERCPU), &key.to_ne_bytes(), &all, 0)?;
        }
        for key in 0..KEYS {
            // Most are not there.
            let _ = b.map_delete(self.map(HASH), &key.to_ne_bytes());
        }
        for (key, element) in &start.hash {
            b.map_update(self.map(HASH), &key.to_ne_bytes(), element, 0)?;
        }
        Ok(())
    }
}

/// `func_info`: every function has the first name.
fn func_info(starts: &[u32]) -> Vec<u8> {
    let record = |&start: &u32| [start.to_ne_bytes(), FUNC_TYPE.to_ne_bytes()].concat();
    starts.iter().flat_map(record).collect()
}

/// BTF of `static int f(void)`.
fn function_btf() -> Vec<u8> {
    const STRINGS: &[u8] = b"\0int\0f\0";
    #[rustfmt::skip] // one type a line
    let types: &[u32] = &[
        1, 1 << 24, 4, 1 << 24 | 32,  // 1: int
        0, 13 << 24, 1,               // 2: int (void)
        5, 12 << 24, 2,               // 3: static f
    ];
    let types: Vec<u8> = types.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let mut btf = vec![0x9f, 0xeb, 1, 0];
    for word in [24, 0, types.len(), types.len(), STRINGS.len()] {
        btf.extend_from_slice(&(word as u32).to_ne_bytes());
    }
    [btf, types, STRINGS.to_vec()].concat()
}

fn report(tally: &mut Tally, seed: u64) -> Result<(), TaskError> {
    for (why, n) in &tally.rejections {
        println!("  {n:8} {why}");
    }
    tally.steps.sort_unstable();
    let median = tally.steps.get(tally.steps.len() / 2).copied().unwrap_or(0);
    println!(
        "{}",
        json!({
            "fuzz": "jit", "seed": seed, "programs": tally.programs, "accepted": tally.accepted,
            "accepted_percent": (tally.accepted as f64 * 1000.0 / tally.programs.max(1) as f64).round() / 10.0,
            "median_executed": median, "checked": tally.steps.len(), "verdicts_differ": tally.verdicts, "kernel_bugs": tally.kernel_bugs,
            "differences": tally.differences,
        })
    );
    if tally.differences == 0 {
        Ok(())
    } else {
        Err(format!("{} differences", tally.differences))
    }
}
