//! Virtual machines with other kernels: downloads, initial filesystems, boots.
//!
//! Kernels are Debian's cloud images, downloaded and unpacked (not installed) under the target folder; qemu emulates, so that no
//! /dev/kvm is needed. Needs apt-get, dpkg-deb, qemu-system-x86_64, busybox, cpio, kmod.

use crate::TaskError;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Version, and the meta package that names its image.
pub(crate) const KERNELS: &[(&str, &str)] = &[
    ("6.12", "linux-image-6.12-cloud-amd64"),
    ("6.1", "linux-image-cloud-amd64"),
];
/// The machine: one CPU, since two with emulation crash on patched code; the first serial port is the console.
#[rustfmt::skip] // option and value on one line
const MACHINE: &[&str] = &[
    "qemu-system-x86_64",
    "-machine", "q35,accel=tcg",
    "-cpu", "max",
    "-smp", "1",
    "-m", "1024M",
    "-display", "none",
    "-no-reboot",
    "-nic", "none",
    "-serial", "stdio",
];
const PARAMETERS: &str = "console=ttyS0 quiet panic=-1 no_timer_check";
/// What guests' programs are built for, statically linked.
pub(crate) const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Flags of a static program at a fixed address, as skep is shipped: one build serves guests and measurements.
pub(crate) const STATIC: &str = "-C target-feature=+crt-static -C relocation-model=static";

pub(crate) fn command(
    program: &str,
    arguments: &[&str],
    folder: &Path,
) -> Result<String, TaskError> {
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

pub(crate) fn io<T>(what: &Path, result: std::io::Result<T>) -> Result<T, TaskError> {
    result.map_err(|e| format!("{}: {e}", what.display()))
}

/// Downloads and unpacks a kernel, unless that was done; returns its root.
pub(crate) fn kernel(base: &Path, version: &str, meta: &str) -> Result<PathBuf, TaskError> {
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
pub(crate) fn module_release(root: &Path) -> Result<String, TaskError> {
    let modules = root.join("lib/modules");
    let entry = io(&modules, fs::read_dir(&modules))?.flatten().next();
    Ok(entry
        .ok_or("the kernel has no modules")?
        .file_name()
        .to_string_lossy()
        .into_owned())
}

/// Copies a file into the tree at a path.
pub(crate) fn place(tree: &Path, from: &Path, to: &str) -> Result<(), TaskError> {
    let target = tree.join(to.trim_start_matches('/'));
    if let Some(parent) = target.parent() {
        io(parent, fs::create_dir_all(parent))?;
    }
    io(from, fs::copy(from, &target)).map(drop)
}

/// Packs the tree of an initial filesystem; returns the image.
pub(crate) fn pack(tree: &Path) -> Result<PathBuf, TaskError> {
    let image = tree.with_extension("cpio.gz");
    let pack = format!(
        "find . | cpio -o -H newc --quiet | gzip -1 > {}",
        image.display()
    );
    command("sh", &["-c", &pack], tree)?;
    Ok(image)
}

/// Boots, a second time if the emulated timer failed to start; returns what the serial console said.
pub(crate) fn boot(
    root: &Path,
    image: &Path,
    limit_seconds: u32,
    parameters: &[&str],
    devices: &[&str],
) -> Result<String, TaskError> {
    let boot = root.join("boot");
    let entries = io(&boot, fs::read_dir(&boot))?;
    let linux = entries
        .flatten()
        .map(|e| e.path())
        .find(|p| p.to_string_lossy().contains("vmlinuz"));
    let linux = linux.ok_or("the package has no kernel")?;
    let once = || {
        let output = Command::new("timeout")
            .args(["-s", "KILL", &limit_seconds.to_string()])
            .args(MACHINE)
            .args(devices)
            .arg("-kernel")
            .arg(&linux)
            .arg("-initrd")
            .arg(image)
            .args(["-append", &format!("{PARAMETERS} {}", parameters.join(" "))])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|e| format!("cannot run qemu: {e}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).replace('\r', ""))
    };
    let console: String = once()?;
    if console.contains("Kernel panic") && !console.contains("EXIT=") {
        return once();
    }
    Ok(console)
}
