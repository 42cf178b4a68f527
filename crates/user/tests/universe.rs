//! Rules of the object model, and maps shared by processes of which some are killed.

use skep_abi::MapType;
use skep_bpf::{Backend, Errno, Handle, MapCreate, ObjKind};
use skep_user::{Options, Universe};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Tells the child which directory to work in.
const DIR: &str = "SKEP_TEST_PIN_DIR";
/// Children that are killed, and how long each lives.
const VICTIMS: u32 = 25;
const LIFE: Duration = Duration::from_millis(30);
/// Elements of the shared maps.
const ENTRIES: u32 = 64;

fn universe(dir: &Path) -> Universe {
    let options = Options {
        pin_dir: Some(dir.to_owned()),
        cpus: 2,
        ..Options::default()
    };
    Universe::new(options).expect("a universe")
}

/// A pin directory of its own, removed at the end.
struct TestDir(PathBuf);

impl TestDir {
    fn new(name: &str) -> Self {
        let dir = PathBuf::from(format!("/dev/shm/skep-test-{name}-{}", std::process::id()));
        Self(dir)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

fn errno<T: std::fmt::Debug>(result: skep_bpf::Result<T>) -> Errno {
    result.expect_err("a refusal").errno
}

fn value(u: &Universe, map: Handle, key: u32) -> Option<u64> {
    let mut value = [0; 8];
    let found = u.map_lookup(map, &key.to_ne_bytes(), &mut value, 0);
    found.is_ok().then(|| u64::from_ne_bytes(value))
}

#[test]
fn a_pinned_map_is_the_same_map_in_another_universe() {
    let dir = TestDir::new("pin");
    let first = universe(&dir.0);
    let mut spec = MapCreate::new(MapType::Hash, 4, 8, 10);
    spec.name = "shared".to_owned();
    let map = first.map_create(&spec).unwrap();
    match first.obj_pin(map, Path::new("m")) {
        Err(e) if e.errno == Errno::EXDEV || e.errno == Errno::ENOENT => {
            // The directory was not there when the map was made and its parent has no room.
            let again = first.map_create(&spec).unwrap();
            first.obj_pin(again, Path::new("m")).unwrap();
        }
        other => other.unwrap(),
    }
    assert_eq!(errno(first.obj_pin(map, Path::new("m"))), Errno::EEXIST);
    assert_eq!(errno(first.obj_pin(map, Path::new("../m"))), Errno::EINVAL);
    assert_eq!(errno(first.obj_pin(map, Path::new("/tmp/m"))), Errno::EPERM);
    let own = first.obj_get(Path::new("m")).unwrap();
    let second = universe(&dir.0);
    let other = second.obj_get(&dir.0.join("m")).unwrap();
    let info = second.map_info(other).unwrap();
    assert_eq!(
        (info.name.as_str(), info.max_entries, info.map_type),
        ("shared", 10, MapType::Hash)
    );
    first
        .map_update(own, &7u32.to_ne_bytes(), &70u64.to_ne_bytes(), 0)
        .unwrap();
    assert_eq!(value(&second, other, 7), Some(70));
    second
        .map_update(other, &8u32.to_ne_bytes(), &80u64.to_ne_bytes(), 0)
        .unwrap();
    assert_eq!(value(&first, own, 8), Some(80));
    second.map_freeze(other).unwrap();
    assert_eq!(
        errno(first.map_delete(own, &7u32.to_ne_bytes())),
        Errno::EPERM
    );
    std::os::unix::fs::symlink(dir.0.join("m"), dir.0.join("link")).unwrap();
    assert_eq!(errno(second.obj_get(Path::new("link"))), Errno::ELOOP);
}

#[test]
fn ids_handles_names_and_modes() {
    let u = Universe::new(Options::default()).unwrap();
    let mut spec = MapCreate::new(MapType::Array, 4, 4, 1);
    spec.name = "bad-name".to_owned();
    assert_eq!(errno(u.map_create(&spec)), Errno::EINVAL);
    spec.name = "a_name.ok".to_owned();
    spec.map_flags = skep_abi::map_flags::BPF_F_RDONLY;
    let map = u.map_create(&spec).unwrap();
    assert_eq!(errno(u.map_update(map, &[0; 4], &[1; 4], 0)), Errno::EPERM);
    let id = u.map_info(map).unwrap().id;
    assert_eq!(u.next_id(ObjKind::Map, 0).unwrap(), Some(id));
    let again = u.by_id(ObjKind::Map, id).unwrap();
    u.close(map);
    assert_eq!(errno(u.map_info(map)), Errno::EBADF);
    assert_eq!(u.map_info(again).unwrap().id, id);
    u.close(again);
    assert_eq!(u.next_id(ObjKind::Map, 0).unwrap(), None);
    let mut small = Options {
        memory_budget_bytes: 1 << 20,
        ..Options::default()
    };
    small.cpus = 2;
    let u = Universe::new(small).unwrap();
    assert_eq!(
        errno(u.map_create(&MapCreate::new(MapType::Array, 4, 1 << 20, 2))),
        Errno::ENOMEM
    );
}

#[test]
fn objects_without_a_handle_go_at_once() {
    let (tell, hear) = std::sync::mpsc::channel();
    // Bounded: what goes under the lock that it takes would wait for ever.
    std::thread::spawn(move || {
        let u = Universe::new(Options::default()).unwrap();
        let spec = MapCreate::new(MapType::Array, 4, 4, 1);
        let map = u.map_create(&spec).unwrap();
        let id = u.map_info(map).unwrap().id;
        let full = loop {
            if let Err(error) = u.by_id(ObjKind::Map, id) {
                break error.errno;
            }
        };
        let refused = errno(u.map_create(&spec));
        // The map that got no handle is gone, and a handle that is closed makes room.
        let ids = u.next_id(ObjKind::Map, id).unwrap();
        u.close(map);
        let opened = u.map_create(&spec).is_ok();
        let _heard = tell.send((full, refused, ids, opened));
    });
    let found = hear.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(found, (Errno::EMFILE, Errno::EMFILE, None, true));
}

/// The pinned maps of the killing test, made by the first who asks.
fn shared_maps(u: &Universe) -> Vec<Handle> {
    let specs = [
        MapCreate::new(MapType::Hash, 4, 8, ENTRIES),
        MapCreate::new(MapType::LruHash, 4, 8, ENTRIES),
        MapCreate {
            map_flags: 1,
            ..MapCreate::new(MapType::LpmTrie, 8, 8, ENTRIES)
        },
        MapCreate::new(MapType::Queue, 0, 8, ENTRIES),
        MapCreate::new(MapType::Array, 4, 8, ENTRIES),
    ];
    let open = |spec: &MapCreate| -> skep_bpf::Result<Handle> {
        let path = PathBuf::from(spec.map_type.name());
        u.obj_get(&path).or_else(|_| {
            let map = u.map_create(spec)?;
            u.obj_pin(map, &path)?;
            Ok(map)
        })
    };
    specs
        .iter()
        .map(|spec| open(spec).expect("a shared map"))
        .collect()
}

/// One round of operations with keys from `turn`. Elements always hold their key, squared.
fn work(u: &Universe, maps: &[Handle], turn: u32) {
    let key = turn.wrapping_mul(2_654_435_761) >> 16 & 127;
    let bytes = key.to_ne_bytes();
    let square = (u64::from(key) * u64::from(key)).to_ne_bytes();
    let lpm = [32u32.to_ne_bytes(), [10, 0, 0, key as u8]].concat();
    let _full = u.map_update(maps[0], &bytes, &square, 0);
    u.map_update(maps[1], &bytes, &square, 0)
        .expect("LRU maps make room");
    let _full = u.map_update(maps[2], &lpm, &square, 0);
    let _full = u.map_update(maps[3], &[], &square, 0);
    if turn.is_multiple_of(3) {
        let _absent = u.map_delete(maps[0], &bytes);
        let _absent = u.map_delete(maps[1], &bytes);
        let _absent = u.map_delete(maps[2], &lpm);
        let mut out = [0; 8];
        let _empty = u.map_lookup_and_delete(maps[3], &[], &mut out, 0);
    }
    for map in &maps[..2] {
        let found = value(u, *map, key);
        assert!(
            found.is_none_or(|v| v.isqrt().pow(2) == v),
            "key {key} has {found:?}"
        );
    }
}

#[test]
#[ignore = "the process that a test starts and kills"]
fn victim() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let u = universe(Path::new(&dir));
    let maps = shared_maps(&u);
    for turn in std::process::id().. {
        work(&u, &maps, turn);
    }
}

fn start_victim(dir: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "victim", "--ignored"])
        .env(DIR, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child")
}

fn keys(u: &Universe, map: Handle, len: usize) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    let mut key: Option<Vec<u8>> = None;
    let mut next = vec![0; len];
    while u.map_next_key(map, key.as_deref(), &mut next).is_ok() {
        assert!(found.insert(next.clone()), "{next:?} twice in a walk");
        key = Some(next.clone());
    }
    found
}

#[test]
fn maps_outlive_processes_that_are_killed_inside_them() {
    let dir = TestDir::new("kill");
    std::fs::create_dir(&dir.0).unwrap();
    std::fs::set_permissions(&dir.0, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let u = universe(&dir.0);
    let maps = shared_maps(&u);
    let mut turn = 0;
    for _ in 0..VICTIMS {
        let mut victim = start_victim(&dir.0);
        let until = Instant::now() + LIFE;
        while Instant::now() < until {
            work(&u, &maps, turn);
            turn += 1;
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
    // Emptied, each map takes exactly as many elements as it should.
    for (map, len) in [(maps[0], 4), (maps[1], 4), (maps[2], 8)] {
        for key in keys(&u, map, len) {
            u.map_delete(map, &key).unwrap();
        }
        assert!(keys(&u, map, len).is_empty());
    }
    let zero = [0; 8];
    for key in 0..ENTRIES {
        u.map_update(maps[0], &key.to_ne_bytes(), &zero, 1).unwrap();
        let lpm = [32u32.to_ne_bytes(), key.to_ne_bytes()].concat();
        u.map_update(maps[2], &lpm, &zero, 1).unwrap();
    }
    assert_eq!(
        errno(u.map_update(maps[0], &ENTRIES.to_ne_bytes(), &zero, 0)),
        Errno::E2BIG
    );
    for key in 0..ENTRIES {
        u.map_update(maps[0], &key.to_ne_bytes(), &zero, 2).unwrap();
    }
    assert_eq!(keys(&u, maps[0], 4).len(), ENTRIES as usize);
    let mut out = [0; 8];
    while u.map_lookup_and_delete(maps[3], &[], &mut out, 0).is_ok() {}
    for _ in 0..ENTRIES {
        u.map_update(maps[3], &[], &zero, 0).unwrap();
    }
    assert_eq!(errno(u.map_update(maps[3], &[], &zero, 0)), Errno::E2BIG);
}

#[test]
fn threads_lose_no_update() {
    let u = Universe::new(Options {
        cpus: 4,
        ..Options::default()
    })
    .unwrap();
    let map = u
        .map_create(&MapCreate::new(MapType::Hash, 4, 8, 256))
        .unwrap();
    std::thread::scope(|scope| {
        for t in 0..4u32 {
            let u = &u;
            scope.spawn(move || {
                for round in 0..3000u64 {
                    let key = t * 64 + (round % 64) as u32;
                    u.map_update(map, &key.to_ne_bytes(), &round.to_ne_bytes(), 0)
                        .unwrap();
                    assert_eq!(value(u, map, key), Some(round));
                    if round % 5 == 0 {
                        u.map_delete(map, &key.to_ne_bytes()).unwrap();
                        assert_eq!(value(u, map, key), None);
                    }
                }
            });
        }
    });
}
