//! `cargo xtask profile [KERNEL]`: makes the files of crate `profile`: those of the reference kernel from the running kernel, which
//! must be of that version; those of others by `skep feature dump` in a virtual machine, booted with its mitigations on.
//!
//! Needs the program `lz4` (its slow mode, which takes a fifth off the size).

use crate::{TaskError, guest};
use skep_btf::Btf;
use std::path::{Path, PathBuf};
use std::process::Command;

const DATA: &str = "crates/profile/data";
const RELEASE: &str = "6.18";

pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    match arguments {
        [] => reference(),
        [kernel] => in_guest(kernel),
        _ => Err("usage: profile [KERNEL]".to_owned()),
    }
}

/// The first process of a guest: the dump goes out through the second serial port.
const INIT: &str = "#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev; $b mount -t tmpfs tmp /tmp
$b mount -t tracefs tracefs /sys/kernel/tracing; $b mount -t bpf bpf /sys/fs/bpf; $b mount -t cgroup2 cg /sys/fs/cgroup
$b stty -F /dev/ttyS1 raw
/skep feature dump /tmp/profile; echo EXIT=$?
$b cat /tmp/profile > /dev/ttyS1
$b poweroff -f
";
/// Seconds one dump may take.
const LIMIT_SECONDS: u32 = 900;

/// The path of `skep`, statically linked.
fn static_binary() -> Result<PathBuf, TaskError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = crate::target_dir().join("static");
    let status = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--package",
            "skep-cli",
            "--bin",
            "skep",
            "--release",
        ])
        .args(["--target", guest::TRIPLE])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_TARGET_DIR", &target)
        .current_dir(crate::workspace_root())
        .status();
    if status.is_ok_and(|s| s.success()) {
        Ok(target.join(guest::TRIPLE).join("release/skep"))
    } else {
        Err("skep does not build statically".to_owned())
    }
}

fn in_guest(version: &str) -> Result<(), TaskError> {
    let known = guest::KERNELS.iter().find(|(v, _)| *v == version);
    let (_, meta) = known.ok_or_else(|| format!("there is no guest with kernel {version}"))?;
    let base = crate::target_dir().join("kernels");
    let root = guest::kernel(&base, version, meta)?;
    let tree = base.join(format!("profile-{version}"));
    // A leftover of an earlier run, or nothing.
    let _ = std::fs::remove_dir_all(&tree);
    for folder in ["bin", "proc", "sys", "dev", "tmp", "boot"] {
        let path = tree.join(folder);
        guest::io(&path, std::fs::create_dir_all(&path))?;
    }
    guest::place(&tree, Path::new("/bin/busybox"), "/bin/busybox")?;
    guest::place(&tree, &static_binary()?, "/skep")?;
    let boot = root.join("boot");
    for entry in guest::io(&boot, std::fs::read_dir(&boot))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("config-") {
            guest::place(&tree, &entry.path(), &format!("/boot/{name}"))?;
        }
    }
    let init = tree.join("init");
    guest::io(&init, std::fs::write(&init, INIT))?;
    guest::command("chmod", &["+x", "init", "skep", "bin/busybox"], &tree)?;
    let image = guest::pack(&tree)?;
    let dump = base.join(format!("profile-{version}.dump"));
    let port = format!("file:{}", dump.display());
    let console = guest::boot(&root, &image, LIMIT_SECONDS, &[], &["-serial", &port])?;
    if !console.lines().any(|l| l.trim() == "EXIT=0") {
        return Err(format!("the dump failed; the console said: {console}"));
    }
    let bytes = guest::io(&dump, std::fs::read(&dump))?;
    let bytes = repack(&base, &bytes)?;
    let path = Path::new(DATA).join(format!("linux-{version}.profile"));
    guest::io(&path, std::fs::write(&path, &bytes))?;
    println!("{}: {} bytes", path.display(), bytes.len());
    Ok(())
}

/// Packs each part anew with the slow mode of `lz4`.
fn repack(folder: &Path, file: &[u8]) -> Result<Vec<u8>, TaskError> {
    let mut parts = skep_profile::Parts::of_file(file).map_err(|e| e.to_string())?;
    for part in [
        &mut parts.facts,
        &mut parts.kconfig,
        &mut parts.types,
        &mut parts.functions,
    ] {
        let bytes = skep_profile::unpack(part).map_err(|e| e.to_string())?;
        let plain = folder.join("part");
        pack(&plain, &bytes)?;
        let packed = plain.with_added_extension("lz4");
        *part = guest::io(&packed, std::fs::read(&packed))?;
    }
    Ok(parts.to_file())
}

/// The reference kernel's files.
fn reference() -> Result<(), TaskError> {
    fn fail(what: &str) -> impl Fn(std::io::Error) -> TaskError {
        move |e| format!("{what}: {e}")
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if !release.starts_with(RELEASE) {
        return Err(format!("this is Linux {}, not {RELEASE}", release.trim()));
    }
    let path = "/sys/kernel/btf/vmlinux";
    let bytes = std::fs::read(path).map_err(fail(path))?;
    let btf = Btf::parse(bytes).map_err(|e| format!("{path}: {e}"))?;
    let (types, functions) = skep_profile::layers(&btf).map_err(|e| e.to_string())?;
    let config = Command::new("zcat")
        .arg("/proc/config.gz")
        .output()
        .map_err(fail("zcat /proc/config.gz"))?;
    let config = String::from_utf8_lossy(&config.stdout).into_owned();
    let options = config.lines().filter(|l| l.starts_with("CONFIG_"));
    let config: String = options.flat_map(|line| [line, "\n"]).collect();
    std::fs::create_dir_all(DATA).map_err(fail(DATA))?;
    for (name, bytes) in [
        ("types.btf", types.as_slice()),
        ("functions.btf", &functions),
        ("kconfig", config.as_bytes()),
    ] {
        let path = Path::new(DATA).join(format!("linux-{RELEASE}-{name}"));
        let packed = pack(&path, bytes)?;
        println!("{}: {packed} of {} bytes", path.display(), bytes.len());
    }
    Ok(())
}

/// Writes `bytes` to `path`, packs them into `path` with `.lz4` added, and gives the packed size.
fn pack(path: &Path, bytes: &[u8]) -> Result<u64, TaskError> {
    let packed = path.with_added_extension("lz4");
    let at = |e: std::io::Error| format!("{}: {e}", packed.display());
    std::fs::write(path, bytes).map_err(at)?;
    let status = Command::new("lz4")
        .args(["-12", "-BD", "--content-size", "--force", "--quiet", "--rm"])
        .args([path, &packed])
        .status()
        .map_err(|e| format!("lz4: {e}"))?;
    if !status.success() {
        return Err(format!("lz4: {status}"));
    }
    Ok(std::fs::metadata(&packed).map_err(at)?.len())
}
