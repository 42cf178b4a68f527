//! Eight threads in three processes use one map of each kind, while a fourth process is killed again and again.
//!
//! The processes load `tests/objects/hammer.bpf.o`, whose maps are pinned: the first one makes them, the others find them.
//! Its programs check what the kernel promises while they run; at the end the counts must be exact, and no element may be
//! lost: every map takes as many as it was made for.

use crate::objects::object;
use crate::random::Random;
use skep::load::{LoadOptions, Loaded, load};
use skep_bpf::{Backend, Handle, TestRun};
use skep_user::{Options, Universe};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Threads of the processes that live.
const THREADS: [usize; 3] = [3, 3, 2];
/// Threads of the one that is killed.
const VICTIM_THREADS: usize = 2;
/// Longest life of a victim after it began, in milliseconds.
const VICTIM_MS: u64 = 25;
/// How much later than the end a process may be before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(30);
/// The programs of the object.
const PROGRAMS: &[&str] = &[
    "count",
    "count_percpu",
    "churn",
    "guarded_hash",
    "guarded_array",
    "lru",
    "lpm",
    "queue",
    "stack",
    "bloom",
    "ring",
    "objects",
];
/// What values of the LPM trie are made of.
const SALT: u64 = 0x9e37_79b9_7f4a_7c15;

/// Counts of one process, in the object's order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Tally {
    counted_hash: u64,
    counted_array: u64,
    counted_percpu_hash: u64,
    counted_percpu_array: u64,
    submitted: u64,
    torn: u64,
    wrong: u64,
    missing: u64,
}

impl Tally {
    fn from_words(w: [u64; 8]) -> Self {
        Self {
            counted_hash: w[0],
            counted_array: w[1],
            counted_percpu_hash: w[2],
            counted_percpu_array: w[3],
            submitted: w[4],
            torn: w[5],
            wrong: w[6],
            missing: w[7],
        }
    }

    fn words(self) -> [u64; 8] {
        [
            self.counted_hash,
            self.counted_array,
            self.counted_percpu_hash,
            self.counted_percpu_array,
            self.submitted,
            self.torn,
            self.wrong,
            self.missing,
        ]
    }

    fn add(&mut self, other: Self) {
        let (a, b) = (self.words(), other.words());
        *self = Self::from_words(std::array::from_fn(|i| a[i] + b[i]));
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Runs of programs that the living processes made: each some hundred operations.
    pub operations: u64,
    /// Processes killed.
    pub killed: u64,
    /// Records read from the ring buffer.
    pub records: u64,
    /// Everything that broke a promise.
    pub breaches: Vec<String>,
}

/// A folder for pins, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        let path = PathBuf::from(format!("/dev/shm/skep-hammer-{}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing depends on it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process's view of the maps.
struct Player {
    universe: Universe,
    loaded: Loaded,
}

impl Player {
    fn new(pins: &Path) -> Result<Self, String> {
        let object = object("hammer");
        let universe = Universe::new(Options {
            pin_dir: Some(pins.to_owned()),
            kernel_btf: Some(Arc::new(skep::target::reference_btf(&object.needs()))),
            ..Options::default()
        })
        .map_err(|e| e.to_string())?;
        let target = skep::target::reference(&object.needs(), None);
        let linked = object.relocate(&target).map_err(|e| e.to_string())?;
        let options = LoadOptions {
            pin_dir: Some(pins.to_owned()),
            ..LoadOptions::default()
        };
        let backend: Arc<dyn Backend> = Arc::new(universe.clone());
        let loaded = load(&linked, &backend, &options).map_err(|e| e.to_string())?;
        Ok(Self { universe, loaded })
    }

    fn map(&self, name: &str) -> Result<Handle, String> {
        let map = self.loaded.maps.iter().find(|m| m.spec.name == name);
        map.map(|m| m.handle)
            .ok_or_else(|| format!("the object has no map {name}"))
    }

    fn lookup(&self, map: &str, key: &[u8], len: usize) -> Result<Vec<u8>, String> {
        let mut value = vec![0; len];
        self.universe
            .map_lookup(self.map(map)?, key, &mut value, 0)
            .map_err(|e| format!("{map} {key:x?}: {e}"))?;
        Ok(value)
    }

    fn put(&self, map: &str, key: &[u8], value: &[u8]) -> Result<(), String> {
        self.universe
            .map_update(self.map(map)?, key, value, 0)
            .map_err(|e| format!("{map} {key:x?}: {e}"))
    }

    fn tally(&self) -> Result<Tally, String> {
        let name = self
            .loaded
            .maps
            .iter()
            .find(|m| m.spec.name.ends_with("bss"));
        let name = name.ok_or("no .bss")?.spec.name.clone();
        let bytes = self.lookup(&name, &[0; 4], size_of::<[u64; 8]>())?;
        let words = words(&bytes);
        Ok(Tally::from_words(std::array::from_fn(|i| words[i])))
    }

    /// Runs programs in turn until `end`; how many runs.
    fn play(&self, thread: u64, victim: bool, end: Instant) -> Result<u64, String> {
        let mut random = Random::new(u64::from(std::process::id()) << 20 | thread);
        let mut runs = 0;
        while Instant::now() < end {
            for name in PROGRAMS {
                let mut packet = vec![0; 64];
                packet[16..24].copy_from_slice(&random.next_u64().to_ne_bytes());
                packet[24..32].copy_from_slice(&u64::from(victim).to_ne_bytes());
                let run = TestRun {
                    data_in: Some(packet),
                    ..TestRun::default()
                };
                let program = self.loaded.program(name).ok_or("no such program")?.handle;
                let result = self.universe.prog_test_run(program, &run);
                result.map_err(|e| format!("{name}: {e}"))?;
                runs += 1;
            }
        }
        Ok(runs)
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|w| u64::from_ne_bytes(*w)).collect()
}

/// A process of the hammer: uses the maps pinned in `pins` with `threads` threads, says `ready` when it begins and its counts
/// at the end.
///
/// # Errors
/// If it cannot use the maps.
pub fn worker(arguments: &[String]) -> Result<(), String> {
    let [pins, threads, victim, millis] = arguments else {
        return Err("needs PINS THREADS VICTIM MILLISECONDS".to_owned());
    };
    let number = |text: &String| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
    let (threads, victim, millis) = (number(threads)?, number(victim)? != 0, number(millis)?);
    let player = Player::new(Path::new(pins))?;
    println!("ready");
    let end = Instant::now() + Duration::from_millis(millis);
    let runs = std::thread::scope(|scope| {
        let play = |thread| {
            let player = &player;
            scope.spawn(move || player.play(thread, victim, end))
        };
        let all: Vec<_> = (0..threads).map(play).collect();
        all.into_iter()
            .map(|t| t.join().map_err(|_| "a thread panicked".to_owned())?)
            .sum::<Result<u64, String>>()
    })?;
    let numbers: Vec<String> = player.tally()?.words().iter().map(u64::to_string).collect();
    println!("done {runs} {}", numbers.join(" "));
    Ok(())
}

/// Starts a worker and waits until it says that it begins.
fn start(
    command: &[String],
    pins: &Path,
    threads: usize,
    victim: bool,
    millis: u64,
) -> Result<(Child, BufReader<std::process::ChildStdout>), String> {
    let [program, arguments @ ..] = command else {
        return Err("no command".to_owned());
    };
    let words = [
        pins.display().to_string(),
        threads.to_string(),
        u32::from(victim).to_string(),
        millis.to_string(),
    ];
    let mut child = Command::new(program)
        .args(arguments)
        .args(
            words
                .iter()
                .filter(|_| !arguments.iter().any(|a| a == "--nocapture")),
        )
        .env(WORDS, words.join("\n"))
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{program}: {e}"))?;
    let mut reader = BufReader::new(child.stdout.take().ok_or("no output")?);
    let mut line = String::new();
    while !line.trim_end().ends_with("ready") {
        line.clear();
        if reader.read_line(&mut line).map_err(|e| e.to_string())? == 0 {
            return Err("a process ended before it began".to_owned());
        }
    }
    Ok((child, reader))
}

/// The variable that holds a worker's arguments, for those that get none.
pub const WORDS: &str = "SKEP_HAMMER";

/// What a process said at its end.
fn finished(
    mut child: Child,
    reader: BufReader<std::process::ChildStdout>,
    latest: Instant,
) -> Result<(u64, Tally), String> {
    let said = std::thread::spawn(move || {
        reader
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.strip_prefix("done ")?.to_owned()))
    });
    while !said.is_finished() && Instant::now() < latest {
        std::thread::sleep(Duration::from_millis(10));
    }
    if !said.is_finished() {
        // It is ours, and hangs.
        let _ = child.kill();
        let _ = child.wait();
        return Err("a process hangs".to_owned());
    }
    let line = said.join().ok().flatten();
    let status = child.wait().map_err(|e| e.to_string())?;
    let line = line.ok_or_else(|| format!("a process failed: {status}"))?;
    let numbers: Vec<u64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
    if numbers.len() != 9 {
        return Err(format!("a process said {line:?}"));
    }
    let tally = Tally::from_words(std::array::from_fn(|i| numbers[i + 1]));
    Ok((numbers[0], tally))
}

/// Kills one process after the other until `end`; how many.
fn kill_victims(command: &[String], pins: &Path, end: Instant) -> Result<u64, String> {
    let mut random = Random::new(7);
    let mut killed = 0;
    while Instant::now() < end {
        let (mut child, _reader) = start(command, pins, VICTIM_THREADS, true, 60_000)?;
        std::thread::sleep(Duration::from_micros(random.below(VICTIM_MS * 1000)));
        child.kill().map_err(|e| e.to_string())?;
        child.wait().map_err(|e| e.to_string())?;
        killed += 1;
    }
    Ok(killed)
}

/// Reads records until `stop`, and then what is left: all of them, those of the living, those that are broken.
fn consume(player: &Player, stop: &AtomicBool) -> Result<[u64; 3], String> {
    let ring = player
        .universe
        .live_map(player.map("h_ring")?)
        .map_err(|e| e.to_string())?;
    let mut counts = [0; 3];
    loop {
        let last = stop.load(Ordering::SeqCst);
        let given = ring.ringbuf_consume(&mut |record| {
            let w = words(record);
            let signed = |i: usize| w[i] == w[0].wrapping_add(i as u64).wrapping_mul(SALT);
            counts[0] += 1;
            counts[1] += u64::from(w.first().is_some_and(|w| w & 1 == 0));
            counts[2] += u64::from(w.len() != 8 || !(1..8).all(signed));
            ControlFlow::Continue(())
        });
        if given == 0 {
            if last {
                return Ok(counts);
            }
            ring.ringbuf_wait(Duration::from_millis(5));
        }
    }
}

/// Hammers for `length`; `command` starts a process that calls [`worker`].
///
/// # Errors
/// If it could not be done at all; what went wrong with maps is in the report.
pub fn hammer(command: &[String], length: Duration) -> Result<Report, String> {
    let pins = Folder::new()?;
    let player = Player::new(&pins.0)?;
    prepare(&player)?;
    let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let mut report = Report::default();
    let mut tally = Tally::default();
    let stop = AtomicBool::new(false);
    let records = std::thread::scope(|scope| -> Result<[u64; 3], String> {
        let consumer = scope.spawn(|| consume(&player, &stop));
        let mut work = || -> Result<(), String> {
            let mut living = Vec::new();
            for threads in THREADS {
                living.push(start(command, &pins.0, threads, false, millis)?);
            }
            let end = Instant::now() + length;
            report.killed = kill_victims(command, &pins.0, end)?;
            for (child, reader) in living {
                match finished(child, reader, end + PATIENCE) {
                    Ok((runs, counts)) => {
                        report.operations += runs;
                        tally.add(counts);
                    }
                    Err(why) => report.breaches.push(why),
                }
            }
            Ok(())
        };
        let worked = work();
        stop.store(true, Ordering::SeqCst);
        let records = consumer.join().map_err(|_| "the consumer panicked")?;
        worked?;
        records
    })?;
    report.records = records[0];
    check_counts(&player, tally, records, &mut report.breaches)?;
    check_maps(&player, &mut report.breaches)?;
    check_objects(&player, report.killed, &mut report.breaches)?;
    Ok(report)
}

/// The keys that are there from the start and stay.
fn prepare(player: &Player) -> Result<(), String> {
    for key in 0..32u64 {
        player.put("h_counters", &key.to_ne_bytes(), &[0; 8])?;
    }
    let cpus = player.universe.possible_cpus();
    for key in 0..8u32 {
        player.put("h_percpu", &key.to_ne_bytes(), &vec![0; 8 * cpus])?;
    }
    for key in 0..4u32 {
        player.put("h_guarded", &key.to_ne_bytes(), &[0; 72])?;
    }
    player.put("h_lpm", &[8, 0, 0, 0, 10, 0, 0, 0], &SALT.to_ne_bytes())
}

fn check_counts(
    player: &Player,
    tally: Tally,
    records: [u64; 3],
    breaches: &mut Vec<String>,
) -> Result<(), String> {
    let cpus = player.universe.possible_cpus();
    let sum = |map: &str, keys: u32, key_len: usize, values: usize| -> Result<u64, String> {
        let mut sum = 0;
        for key in 0..keys {
            let mut bytes = key.to_ne_bytes().to_vec();
            bytes.resize(key_len, 0);
            sum += words(&player.lookup(map, &bytes, 8 * values)?)
                .iter()
                .sum::<u64>();
        }
        Ok(sum)
    };
    let counts = [
        (
            "atomic additions, hash",
            sum("h_counters", 16, 8, 1)?,
            tally.counted_hash,
        ),
        (
            "atomic additions, array",
            sum("h_array", 16, 4, 1)?,
            tally.counted_array,
        ),
        (
            "additions, per-CPU hash",
            sum("h_percpu", 4, 4, cpus)?,
            tally.counted_percpu_hash,
        ),
        (
            "additions, per-CPU array",
            sum("h_array_cpu", 4, 4, cpus)?,
            tally.counted_percpu_array,
        ),
        ("records of the living", records[1], tally.submitted),
        ("broken records", records[2], 0),
        ("torn values", tally.torn, 0),
        ("wrong values", tally.wrong, 0),
        ("values not found", tally.missing, 0),
    ];
    for (what, found, expected) in counts {
        if found != expected {
            breaches.push(format!("{what}: {found} instead of {expected}"));
        }
    }
    Ok(())
}

/// The keys of a map, each once.
fn keys(
    player: &Player,
    map: &str,
    len: usize,
    breaches: &mut Vec<String>,
) -> Result<usize, String> {
    let handle = player.map(map)?;
    let mut seen: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut key: Option<Vec<u8>> = None;
    let mut next = vec![0; len];
    while player
        .universe
        .map_next_key(handle, key.as_deref(), &mut next)
        .is_ok()
    {
        if !seen.insert(next.clone()) {
            breaches.push(format!("{map}: the walk finds {next:x?} twice"));
            break;
        }
        key = Some(next.clone());
    }
    Ok(seen.len())
}

/// Takes all objects out of their list and tree; what is alive then was lost by processes that were killed, which may be a
/// few each.
fn check_objects(player: &Player, killed: u64, breaches: &mut Vec<String>) -> Result<(), String> {
    const LOST_BYTES: u64 = 3 * 256;
    let run = TestRun {
        data_in: Some(vec![0; 64]),
        ..TestRun::default()
    };
    let program = player.loaded.program("drain").ok_or("no such program")?;
    for turn in 0.. {
        let result = player.universe.prog_test_run(program.handle, &run);
        match result.map_err(|e| format!("drain: {e}"))?.retval {
            0 => break,
            _ if turn == 1000 => return Err("objects without end".to_owned()),
            _ => {}
        }
    }
    let wrong = player.tally()?.wrong;
    if wrong != 0 {
        breaches.push(format!("{wrong} objects are not what was stored"));
    }
    let heap = player.universe.heap().ok_or("no heap")?;
    let left = heap.live_bytes();
    if left > killed * LOST_BYTES {
        breaches.push(format!(
            "{left} bytes of objects are left after {killed} deaths"
        ));
    }
    Ok(())
}

/// Every map holds what it was made for, and no more.
fn check_maps(player: &Player, breaches: &mut Vec<String>) -> Result<(), String> {
    for (map, key_len, value_len) in [
        ("h_counters", 8, 8),
        ("h_churn", 8, 64),
        ("h_percpu", 4, 8 * player.universe.possible_cpus()),
        ("h_lpm", 8, 8),
    ] {
        keys(player, map, key_len, breaches)?;
        let handle = player.map(map)?;
        let full = |n: u32| {
            let mut key = if map == "h_lpm" { 32u32 } else { n }
                .to_ne_bytes()
                .to_vec();
            key.extend((n << 8 | 99).to_ne_bytes());
            key.truncate(key_len);
            player
                .universe
                .map_update(handle, &key, &vec![0; value_len], 0)
                .is_err()
        };
        (1000..2000).find(|&n| full(n));
        let there = keys(player, map, key_len, breaches)?;
        if there != 64 {
            breaches.push(format!("{map}: {there} elements where 64 fit"));
        }
    }
    for (map, key_len) in [("h_lru", 8), ("h_lru_percpu", 4)] {
        let there = keys(player, map, key_len, breaches)?;
        if !(32..=64).contains(&there) {
            breaches.push(format!("{map}: {there} elements where 64 fit"));
        }
    }
    for map in ["h_queue", "h_stack"] {
        let handle = player.map(map)?;
        let mut value = [0; 64];
        while player
            .universe
            .map_lookup_and_delete(handle, &[], &mut value, 0)
            .is_ok()
        {}
        let pushed =
            (0..100).take_while(|_| player.universe.map_update(handle, &[], &value, 0).is_ok());
        let there = pushed.count();
        if there != 32 {
            breaches.push(format!("{map}: {there} elements where 32 fit"));
        }
    }
    Ok(())
}
