//! `cargo xtask kernels [KERNEL…]`: the tests that talk to a kernel, inside virtual machines with other kernels.
//!
//! Kernels are Debian's cloud images, downloaded and unpacked (not installed) under the target folder. The test binary is
//! linked statically and boots with a busybox as the only other program; qemu emulates, so that no /dev/kvm is needed.
//! Needs apt-get, dpkg-deb, qemu-system-x86_64, busybox, cpio, kmod.

use crate::TaskError;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Version, and the meta package that names its image.
const KERNELS: &[(&str, &str)] = &[
    ("6.12", "linux-image-6.12-cloud-amd64"),
    ("6.1", "linux-image-cloud-amd64"),
];
/// Modules that tests need where they are not built in.
const MODULES: &[&str] = &["cls_bpf", "sch_ingress"];
/// Which tests run there.
const TESTS: &[&str] = &["attach::", "kernel_backend::", "packets::"];
/// Folders with what the tests read, from the workspace.
const FILES: &[&str] = &["tests/objects", "examples"];
/// Seconds one kernel may take.
const LIMIT_SECONDS: &str = "240";
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

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

fn command(program: &str, arguments: &[&str], folder: &Path) -> Result<String, TaskError> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cannot run {program}: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program} {} failed", arguments.join(" ")))
    }
}

fn io<T>(what: &Path, result: std::io::Result<T>) -> Result<T, TaskError> {
    result.map_err(|e| format!("{}: {e}", what.display()))
}

/// Downloads and unpacks a kernel, unless that was done; returns its root.
fn kernel(base: &Path, version: &str, meta: &str) -> Result<PathBuf, TaskError> {
    let root = base.join(version);
    if root.join("boot").is_dir() {
        return Ok(root);
    }
    io(base, fs::create_dir_all(base))?;
    let depends = command("apt-cache", &["depends", meta], base)?;
    let package = depends
        .lines()
        .find_map(|l| {
            l.trim()
                .strip_prefix("Depends: ")
                .filter(|p| p.starts_with("linux-image"))
        })
        .ok_or_else(|| format!("package {meta} names no image"))?
        .to_owned();
    command("apt-get", &["download", &package], base)?;
    let entries = io(base, fs::read_dir(base))?;
    let file = entries
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .find(|n| n.starts_with(&format!("{package}_")))
        .ok_or("apt-get left no package")?;
    command("dpkg-deb", &["-x", &file, version], base)?;
    let release = module_release(&root)?;
    command("depmod", &["-b", &root.to_string_lossy(), &release], base)?;
    Ok(root)
}

/// The release whose modules a kernel's root has.
fn module_release(root: &Path) -> Result<String, TaskError> {
    let modules = root.join("lib/modules");
    let entry = io(&modules, fs::read_dir(&modules))?.flatten().next();
    Ok(entry
        .ok_or("the kernel has no modules")?
        .file_name()
        .to_string_lossy()
        .into_owned())
}

/// The path of the static test binary.
fn test_binary() -> Result<PathBuf, TaskError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "test",
            "--no-run",
            "--package",
            "skep-tests",
            "--test",
            "all",
            "--target",
            TRIPLE,
        ])
        .args(["--message-format", "json", "--quiet"])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
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

/// Copies a file into the tree at a path.
fn place(tree: &Path, from: &Path, to: &str) -> Result<(), TaskError> {
    let target = tree.join(to.trim_start_matches('/'));
    if let Some(parent) = target.parent() {
        io(parent, fs::create_dir_all(parent))?;
    }
    io(from, fs::copy(from, &target)).map(drop)
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
    let image = tree.with_extension("cpio.gz");
    let pack = format!(
        "find . | cpio -o -H newc --quiet | gzip -1 > {}",
        image.display()
    );
    command("sh", &["-c", &pack], tree)?;
    Ok(image)
}

/// Boots and returns what the serial console said.
fn boot(root: &Path, image: &Path) -> Result<String, TaskError> {
    let boot = root.join("boot");
    let entries = io(&boot, fs::read_dir(&boot))?;
    let linux = entries
        .flatten()
        .map(|e| e.path())
        .find(|p| p.to_string_lossy().contains("vmlinuz"));
    let linux = linux.ok_or("the package has no kernel")?;
    let arguments = [
        "-s",
        "KILL",
        LIMIT_SECONDS,
        "qemu-system-x86_64",
        "-machine",
        "q35,accel=tcg",
        "-cpu",
        "max",
        "-smp",
        "1",
        "-m",
        "1024M",
        "-nographic",
        "-no-reboot",
        "-nic",
        "none",
        "-kernel",
        &linux.to_string_lossy(),
        "-initrd",
        &image.to_string_lossy(),
        "-append",
        "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check",
    ];
    let output = Command::new("timeout")
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cannot run qemu: {e}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).replace('\r', ""))
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
        let root = kernel(&base, version, meta)?;
        let image = initramfs(&base.join(format!("tree-{version}")), &root, &test)?;
        let started = Instant::now();
        let mut console = boot(&root, &image)?;
        if console.contains("Kernel panic") && !console.contains("EXIT=") {
            console = boot(&root, &image)?; // an emulated timer now and then fails to start
        }
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
