//! `cargo xtask kernels [host] [KERNEL…]`: the tests that talk to a kernel, on the host and inside virtual machines with other
//! kernels. What they say of the rows of docs/attach.md must be what is written there.
//!
//! Kernels are Debian's cloud images, downloaded and unpacked (not installed) under the target folder. The test binary is
//! linked statically and boots with a busybox as the only other program; qemu emulates, so that no /dev/kvm is needed.
//! Needs root on the host, apt-get, dpkg-deb, qemu-system-x86_64, busybox, cpio, kmod.

use crate::TaskError;
use crate::guest::{self, KERNELS, command, io, module_release, place};
use serde_json::Value;
use skep::target::running_version;
use skep_tests::table;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Modules that tests need where they are not built in.
const MODULES: &[&str] = &["cls_bpf", "sch_ingress", "veth"];
/// Which tests run there.
const TESTS: &[&str] = &[
    "arena::",
    "attach::",
    "attach_more::",
    "counters::",
    "deferred::",
    "effects::",
    "kernel_backend::",
    "kernel_objects::",
    "language::",
    "packets::",
    "samples::",
    "storage::",
    "test_runs::",
    "token::",
    "tracing::",
    "xdp::",
    "xsk::",
];
/// Programs that the tests start; in a virtual machine they are busybox.
const PROGRAMS: &str = "true unshare";
/// What the host is called here.
const HOST: &str = "host";
/// What the tests are told.
const ARGUMENTS: &[&str] = &["--test-threads=1", "--nocapture"];
/// Folders with what the tests read, from the workspace.
const FILES: &[&str] = &["tests/objects", "examples"];
/// Seconds one kernel may take.
const LIMIT_SECONDS: u32 = 240;

/// The first process: mounts, modules, tests, the end.
const INIT: &str = "#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev; $b mount -t tmpfs tmp /tmp
$b mount -t tracefs tracefs /sys/kernel/tracing; $b mount -t bpf bpf /sys/fs/bpf; $b mount -t cgroup2 cg /sys/fs/cgroup
for m in $($b cat /modules/order 2>/dev/null); do $b insmod /modules/$m; done
export PATH=/bin
for p in PROGRAMS; do $b ln -s busybox /bin/$p; done
$b ip link set lo up 2>/dev/null
/test ARGUMENTS
echo EXIT=$?
$b poweroff -f
";

/// The path of the static test binary.
fn test_binary() -> Result<PathBuf, TaskError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "test",
            "--no-run",
            "--release",
            "--package",
            "skep-tests",
            "--test",
            "all",
            "--target",
            guest::TRIPLE,
        ])
        .args(["--message-format", "json", "--quiet"])
        .env("RUSTFLAGS", guest::STATIC)
        .current_dir(crate::workspace_root())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executables
        .next_back()
        .ok_or_else(|| "the tests do not build".to_owned())
}

/// Copies a folder into the tree at its own path.
fn place_folder(tree: &Path, folder: &Path) -> Result<(), TaskError> {
    for entry in io(folder, fs::read_dir(folder))?.flatten() {
        let path = entry.path();
        if path.is_file() {
            place(tree, &path, &path.to_string_lossy())?;
        }
    }
    Ok(())
}

/// Copies the modules and the order to load them in.
fn place_modules(tree: &Path, root: &Path) -> Result<(), TaskError> {
    let release = module_release(root)?;
    let mut order = Vec::new();
    for module in MODULES {
        let root = root.to_string_lossy();
        let shown = command(
            "modprobe",
            &["-d", &root, "-S", &release, "--show-depends", module],
            tree,
        )?;
        for file in shown
            .lines()
            .filter_map(|l| l.split_whitespace().nth(1))
            .filter(|f| f.contains("/modules/"))
        {
            let name = Path::new(file)
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            let plain = name.trim_end_matches(".xz").to_owned();
            if order.contains(&plain) {
                continue;
            }
            place(tree, Path::new(file), &format!("/modules/{name}"))?;
            if name.ends_with(".xz") {
                command("xz", &["-d", &format!("modules/{name}")], tree)?;
            }
            order.push(plain);
        }
    }
    let list = tree.join("modules/order");
    io(
        &list,
        fs::create_dir_all(tree.join("modules")).and_then(|()| fs::write(&list, order.join("\n"))),
    )
}

/// Builds the initial memory filesystem.
fn initramfs(tree: &Path, root: &Path, test: &Path) -> Result<PathBuf, TaskError> {
    // A leftover of an earlier run, or nothing.
    let _ = fs::remove_dir_all(tree);
    for folder in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
        io(tree, fs::create_dir_all(tree.join(folder)))?;
    }
    place(tree, Path::new("/bin/busybox"), "/bin/busybox")?;
    place(tree, test, "/test")?;
    for folder in FILES {
        place_folder(tree, &crate::workspace_root().join(folder))?;
    }
    place_modules(tree, root)?;
    let init = tree.join("init");
    let arguments = [ARGUMENTS, TESTS].concat().join(" ");
    let text = INIT
        .replace("PROGRAMS", PROGRAMS)
        .replace("ARGUMENTS", &arguments);
    io(&init, fs::write(&init, text))?;
    io(&init, fs::write(tree.join("etc/hostname"), "guest\n"))?;
    command("chmod", &["+x", "init", "test", "bin/busybox"], tree)?;
    guest::pack(tree)
}

/// What the tests of one kernel printed.
struct Outcome {
    /// [`HOST`], or the version.
    name: String,
    /// Major and minor number.
    version: String,
    printed: String,
    started: Instant,
}

/// Runs the tests here.
fn on_host(test: &Path) -> Result<Outcome, TaskError> {
    let started = Instant::now();
    let output = Command::new("timeout")
        .args(["-s", "KILL", &LIMIT_SECONDS.to_string()])
        .arg(test)
        .args(ARGUMENTS)
        .args(TESTS)
        .output()
        .map_err(|e| format!("cannot run timeout: {e}"))?;
    let said = [output.stdout, output.stderr].concat();
    let (said, code) = (String::from_utf8_lossy(&said), output.status.code());
    let running = running_version();
    Ok(Outcome {
        name: HOST.to_owned(),
        version: format!("{}.{}", running >> 16, running >> 8 & 0xff),
        printed: format!("{said}\nEXIT={}\n", code.unwrap_or(-1)),
        started,
    })
}

/// Boots a kernel with the tests.
fn in_guest(base: &Path, version: &str, meta: &str, test: &Path) -> Result<Outcome, TaskError> {
    let root = guest::kernel(base, version, meta)?;
    let image = initramfs(&base.join(format!("tree-{version}")), &root, test)?;
    let started = Instant::now();
    let printed = guest::boot(&root, &image, LIMIT_SECONDS, &["mitigations=off"], &[])?;
    Ok(Outcome {
        name: version.to_owned(),
        version: version.to_owned(),
        printed,
        started,
    })
}

impl Outcome {
    /// Says how the tests went, and what the tables have wrong of this kernel; true if all is well.
    fn report(&self, base: &Path) -> Result<bool, TaskError> {
        let seconds = self.started.elapsed().as_secs_f64();
        let (name, printed) = (&self.name, &self.printed);
        let log = base.join(format!("{name}.log"));
        io(&log, fs::write(&log, printed))?;
        let passed = printed.lines().any(|l| l.trim() == "EXIT=0");
        for line in printed.lines().filter(|l| l.contains(": no: ")) {
            println!("{name}: {line}");
        }
        // Those before are of children.
        if let Some(line) = printed.lines().rfind(|l| l.starts_with("test result")) {
            println!("{name}: {line}");
        }
        let different = self.differences()?;
        for line in &different {
            println!("{name}: {}: {line}", table::DOCUMENT);
        }
        let word = if passed { "passed" } else { "failed" };
        let (log, wrong) = (log.display(), different.len());
        println!("{name}: {word} in {seconds:.0} s, {wrong} rows differ, output in {log}");
        Ok(passed && wrong == 0)
    }

    /// What differs from the tables; nothing for a host whose version has no column there.
    fn differences(&self) -> Result<Vec<String>, TaskError> {
        if !table::VERSIONS.contains(&self.version.as_str()) {
            let (name, version) = (&self.name, &self.version);
            println!("{name}: {} says nothing of {version}", table::DOCUMENT);
            return Ok(Vec::new());
        }
        let path = crate::workspace_root().join(table::DOCUMENT);
        let document = io(&path, fs::read_to_string(&path))?;
        Ok(table::differences(&document, &self.version, &self.printed))
    }
}

/// Runs the tests on the host and in every kernel, or in those that are named.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let known = |a: &&String| *a == HOST || KERNELS.iter().any(|(version, _)| a == version);
    if let Some(strange) = arguments.iter().find(|a| !known(a)) {
        let all: Vec<&str> = KERNELS.iter().map(|(version, _)| *version).collect();
        return Err(format!(
            "no kernel {strange}; there are {HOST}, {}",
            all.join(", ")
        ));
    }
    let base = crate::target_dir().join("kernels");
    io(&base, fs::create_dir_all(&base))?;
    let test = test_binary()?;
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|a| a == name);
    let mut failed = Vec::new();
    if wanted(HOST) && !on_host(&test)?.report(&base)? {
        failed.push(HOST);
    }
    for (version, meta) in KERNELS.iter().filter(|(version, _)| wanted(version)) {
        if !in_guest(&base, version, meta, &test)?.report(&base)? {
            failed.push(version);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed in {}", failed.join(", ")))
    }
}
