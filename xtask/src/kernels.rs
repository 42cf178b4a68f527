//! `cargo xtask kernels [KERNEL…]`: the tests that talk to a kernel, inside virtual machines with other kernels.
//!
//! Kernels are Debian's cloud images, downloaded and unpacked (not installed) under the target folder. The test binary is
//! linked statically and boots with a busybox as the only other program; qemu emulates, so that no /dev/kvm is needed.
//! Needs apt-get, dpkg-deb, qemu-system-x86_64, busybox, cpio, kmod.

use crate::TaskError;
use crate::guest::{self, KERNELS, command, io, module_release, place};
use serde_json::Value;
use std::fs;
use std::io::Write;
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
    "kernel_backend::",
    "packets::",
];
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
$b ip link set lo up 2>/dev/null
/test --test-threads=1 --nocapture TESTS
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
    io(
        &init,
        fs::write(&init, INIT.replace("TESTS", &TESTS.join(" "))),
    )?;
    io(&init, fs::write(tree.join("etc/hostname"), "guest\n"))?;
    command("chmod", &["+x", "init", "test", "bin/busybox"], tree)?;
    guest::pack(tree)
}

/// Runs the tests in every kernel that is named, or in all.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let base = crate::target_dir().join("kernels");
    let test = test_binary()?;
    let mut failed = Vec::new();
    for (version, meta) in KERNELS {
        if !arguments.is_empty() && !arguments.iter().any(|a| a == version) {
            continue;
        }
        let root = guest::kernel(&base, version, meta)?;
        let image = initramfs(&base.join(format!("tree-{version}")), &root, &test)?;
        let started = Instant::now();
        let console = guest::boot(&root, &image, LIMIT_SECONDS, &["mitigations=off"], &[])?;
        let log = base.join(format!("{version}.log"));
        io(
            &log,
            fs::File::create(&log).and_then(|mut f| f.write_all(console.as_bytes())),
        )?;
        let passed = console.lines().any(|l| l.trim() == "EXIT=0");
        for line in console
            .lines()
            .filter(|l| l.contains(": bpf(") || l.starts_with("test result"))
        {
            println!("{version}: {line}");
        }
        let word = if passed { "passed" } else { "failed" };
        println!(
            "{version}: {word} in {:.0} s, console in {}",
            started.elapsed().as_secs_f64(),
            log.display()
        );
        if !passed {
            failed.push(*version);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed in {}", failed.join(", ")))
    }
}
