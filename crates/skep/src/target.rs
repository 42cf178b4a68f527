//! The machine a program is linked for, read from the machine we are on or taken from what is built in.

use crate::feature::ask;
use skep_abi::kernel::Kernel;
use skep_bpf::{Backend, BackendKind};
use skep_btf::Btf;
use skep_object::{Needs, Target};
use skep_profile::{Parts, Profile, pack};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Names a folder with profiles of kernels.
const PROFILES_VARIABLE: &str = "SKEP_PROFILES";
/// The running kernel's BTF.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// `LINUX_VERSION_CODE`
pub(crate) const fn version_code(major: u32, minor: u32, patch: u32) -> u32 {
    (major << 16) | (minor << 8) | if patch > 255 { 255 } else { patch }
}

/// The BTF of the running kernel.
///
/// # Errors
/// If it cannot be read or parsed.
pub fn running_btf() -> io::Result<Btf> {
    let parsed = match skep_sys::mem::Constant::of_sysfs(&std::fs::File::open(KERNEL_BTF)?) {
        Ok(mapped) => Btf::parse_kept(Box::new(mapped)),
        Err(_) => Btf::parse(std::fs::read(KERNEL_BTF)?),
    };
    parsed.map_err(|e| io::Error::other(e.to_string()))
}

/// Where the running kernel's modules show their BTF, beside its own.
const KERNEL_BTFS: &str = "/sys/kernel/btf";

/// BTF of the running kernel's modules, if an object names something that the kernel itself does not have.
fn running_modules(btf: &Btf, names: &[String]) -> Vec<(String, Btf)> {
    let is_known = |name: &String| {
        btf.find_essential(name).next().is_some() || btf.find(name, skep_btf::Kind::Func).is_some()
    };
    if names.iter().all(is_known) {
        return Vec::new();
    }
    let mut modules = Vec::new();
    for entry in std::fs::read_dir(KERNEL_BTFS)
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "vmlinux" {
            continue;
        }
        // A module may be gone meanwhile.
        let parsed = std::fs::read(entry.path()).ok();
        let parsed = parsed.and_then(|bytes| Btf::parse_split(bytes, btf).ok());
        modules.extend(parsed.map(|module| (name, module)));
    }
    modules.sort_by(|a, b| a.0.cmp(&b.0));
    modules
}

/// Version of the running kernel from its release, `6.18.44-x` → 6, 18, 44.
#[must_use]
pub fn running_version() -> u32 {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .trim()
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    version_code(next(), next(), next())
}

/// Addresses of the symbols that the object names.
fn addresses(names: &[String]) -> Vec<(String, u64)> {
    if names.is_empty() {
        return Vec::new();
    }
    let symbols = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let mut found = Vec::new();
    for line in symbols.lines() {
        let mut fields = line.split_whitespace();
        let (Some(address), Some(_), Some(name)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if names.iter().any(|n| n == name)
            && let Ok(address) = u64::from_str_radix(address, 16)
        {
            found.push((name.to_owned(), address));
        }
    }
    found
}

/// Where the kernel shows its configuration, if it was built to.
const CONFIG: &str = "/proc/config.gz";
/// Bytes of a configuration at most; those of distributions have 300 kB.
const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// The configuration of the running kernel: its own account, or the file that its package left; `None` if there is neither.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] if the kernel's account is longer than one can be.
fn running_config() -> io::Result<Option<String>> {
    if let Ok(file) = std::fs::File::open(CONFIG) {
        return unpack_config(file).map(Some);
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(std::fs::read_to_string(format!("/boot/config-{}", release.trim())).ok())
}

fn unpack_config(packed: impl Read) -> io::Result<String> {
    let place = |e: io::Error| io::Error::new(e.kind(), format!("{CONFIG}: {e}"));
    let mut text = String::new();
    let mut unpacked = flate2::read::GzDecoder::new(packed).take(CONFIG_BYTES_MAX + 1);
    let bytes = unpacked.read_to_string(&mut text).map_err(place)?;
    if bytes as u64 > CONFIG_BYTES_MAX {
        let why = format!("more than {CONFIG_BYTES_MAX} bytes");
        return Err(place(io::Error::new(io::ErrorKind::FileTooLarge, why)));
    }
    Ok(text)
}

fn common(cpus: usize) -> Target {
    Target {
        bpf_cookie: true,
        syscall_wrapper: cfg!(any(target_arch = "x86_64", target_arch = "aarch64")),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        page_size: skep_sys::mem::PAGE as u32,
        ..Target::default()
    }
}

/// The running kernel, with the parts that the object asks for.
///
/// # Errors
/// If the object needs the kernel's BTF or configuration and it cannot be read.
pub fn running(needs: &Needs) -> io::Result<Target> {
    let btf = needs.kernel_btf.then(running_btf).transpose()?;
    running_with(needs, btf)
}

/// The running kernel, with types for CO-RE that do not come from it; it need not show its own.
///
/// # Errors
/// If what it says of its processors cannot be read.
pub fn running_with_types(needs: &Needs, types: Btf) -> io::Result<Target> {
    let btf = needs.kernel_btf.then(running_btf).and_then(Result::ok);
    Ok(Target {
        core_btf: Some(types),
        ..running_with(needs, btf)?
    })
}

fn running_with(needs: &Needs, btf: Option<Btf>) -> io::Result<Target> {
    Ok(Target {
        modules: btf
            .as_ref()
            .map_or_else(Vec::new, |b| running_modules(b, &needs.names)),
        btf,
        kconfig: if needs.kconfig {
            running_config()?
        } else {
            None
        },
        kernel_version: running_version(),
        addresses: addresses(&needs.addresses),
        ..common(skep_sys::cpus::possible()?)
    })
}

/// What objects are linked for to be loaded through a backend: the running kernel, or the reference kernel with the user
/// backend's CPUs.
///
/// # Errors
/// Those of [`running`].
pub fn of(backend: &dyn Backend, needs: &Needs) -> io::Result<Target> {
    match backend.kind() {
        BackendKind::Kernel => running(needs),
        BackendKind::User => Ok(Target {
            cpus: u32::try_from(backend.possible_cpus()).unwrap_or(u32::MAX),
            ..reference(needs, None)
        }),
    }
}

/// The reference kernel.
static REFERENCE: Profile = Profile::linux_6_18();

/// The reference kernel's BTF, as much of it as the object asks for.
#[must_use]
pub fn reference_btf(needs: &Needs) -> Btf {
    profile_btf(&REFERENCE, needs)
}

/// A kernel's BTF, as much of it as the object asks for.
#[must_use]
pub fn profile_btf(profile: &Profile, needs: &Needs) -> Btf {
    if needs.kernel_functions {
        profile.btf_with_functions().clone()
    } else {
        profile.btf().clone()
    }
}

/// Folders that may have profiles: where the variable says, beside the program, and in the source tree it was built from.
fn profile_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os(PROFILES_VARIABLE)
        .map(PathBuf::from)
        .into_iter()
        .collect();
    if let Ok(program) = std::env::current_exe()
        && let Some(folder) = program.parent()
    {
        folders.push(folder.join("../share/skep/profiles"));
    }
    folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../profile/data"));
    folders
}

/// The profile of the kernel named `name`: a file, or a version whose profile was installed.
///
/// # Errors
/// If there is none, or it cannot be read.
pub fn find_profile(name: &str) -> io::Result<Profile> {
    let file = PathBuf::from(name);
    let installed = profile_folders()
        .into_iter()
        .map(|f| f.join(format!("linux-{name}.profile")));
    let found = std::iter::once(file)
        .chain(installed)
        .find(|path| path.is_file());
    let Some(path) = found else {
        let text = format!(
            "no profile of kernel \"{name}\": name a file that `skep feature dump` wrote, or the folder of linux-{name}.profile in {PROFILES_VARIABLE}"
        );
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    };
    let place = |e: &dyn std::fmt::Display| io::Error::other(format!("{}: {e}", path.display()));
    let bytes = std::fs::read(&path).map_err(|e| place(&e))?;
    Profile::read(name, &bytes).map_err(|e| place(&e))
}

/// Does the kernel tell the addresses of its variables?
pub(crate) fn has_variables(profile: Option<&Profile>) -> bool {
    let mut lines = profile.unwrap_or(&REFERENCE).kconfig().lines();
    lines.any(|l| l == "CONFIG_KALLSYMS_ALL=y")
}

/// Stands for the address of any function of a kernel that is not running (`_text` without randomisation).
const SOME_ADDRESS: u64 = 0xffff_ffff_8100_0000;

/// Addresses of the functions among `names`; only that they have one matters.
fn addresses_of(profile: &Profile, names: &[String]) -> Vec<(String, u64)> {
    if names.is_empty() {
        return Vec::new();
    }
    let btf = profile.btf_with_functions();
    let exists = |name: &&String| btf.find(name, skep_btf::Kind::Func).is_some();
    let known = names.iter().filter(exists);
    known.map(|name| (name.clone(), SOME_ADDRESS)).collect()
}

/// The reference kernel, independent of the machine, with the parts that the object asks for; `btf` instead of the built-in
/// one.
#[must_use]
pub fn reference(needs: &Needs, btf: Option<Btf>) -> Target {
    of_profile(&REFERENCE, needs, btf)
}

/// The kernel of a profile, with the parts that the object asks for; `btf` instead of the profile's.
#[must_use]
pub fn of_profile(profile: &Profile, needs: &Needs, btf: Option<Btf>) -> Target {
    let own = || needs.kernel_btf.then(|| profile_btf(profile, needs));
    Target {
        btf: btf.or_else(own),
        kconfig: needs.kconfig.then(|| profile.kconfig().to_owned()),
        kernel_version: profile.version(),
        addresses: addresses_of(profile, &needs.addresses),
        ..common(1)
    }
}

/// The running kernel's own account: BTF, answers and configuration; `config` is the latter, if the kernel does not say it.
fn ask_running(config: Option<String>) -> io::Result<(Btf, Kernel, String)> {
    let btf = running_btf()?;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let facts = Kernel {
        release: release.trim().to_owned(),
        version: running_version(),
        ..ask::ask_all(&btf)
    };
    let config = config.map_or_else(running_config, |c| Ok(Some(c)))?;
    let config = config.unwrap_or_default();
    let options = config.lines().filter(|l| l.starts_with("CONFIG_"));
    let config = options.flat_map(|line| [line, "\n"]).collect();
    Ok((btf, facts, config))
}

/// The running kernel as it answers now (root, some seconds).
///
/// # Errors
/// If its BTF or configuration cannot be read, or it loads no program for this process.
pub fn host_profile() -> io::Result<Profile> {
    let (btf, facts, config) = ask_running(None)?;
    if facts.subjects.iter().any(|(_, s)| s.loads) {
        return Ok(Profile::of_running(facts, config, btf));
    }
    let why = "the running kernel loads no program for this process: it can be asked as root only";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// The profile of the running kernel, made by asking it (root, some seconds); `config` is its configuration, if neither it nor /boot says it.
///
/// # Errors
/// If its BTF or configuration cannot be read.
pub fn dump_profile(config: Option<String>) -> io::Result<Parts> {
    let (btf, facts, config) = ask_running(config)?;
    let (types, functions) =
        skep_profile::layers(&btf).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(Parts {
        facts: pack(facts.to_string().as_bytes())?,
        kconfig: pack(config.as_bytes())?,
        types: pack(&types)?,
        functions: pack(&functions)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_configuration_is_read_whole_or_not_at_all() {
        let packed = |bytes: usize| {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(&vec![b'#'; bytes]).unwrap();
            gz.finish().unwrap()
        };
        let text = unpack_config(packed(100).as_slice()).unwrap();
        assert_eq!(text, "#".repeat(100));
        let most = CONFIG_BYTES_MAX as usize;
        let error = unpack_config(packed(most + 1).as_slice()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(unpack_config(packed(most).as_slice()).is_ok());
        assert!(unpack_config(&packed(100)[..30]).is_err());
    }
}
