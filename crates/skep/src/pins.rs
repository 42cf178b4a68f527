//! Where pins of the kernel live: a bpf filesystem.

use skep_sys::mount;
use std::fs::File;
use std::io;
use std::path::Path;

/// Where it is mounted.
pub const ROOT: &str = "/sys/fs/bpf";

/// The filesystem's type, and the mode of its root: pins are its mounter's affair.
const TYPE: &std::ffi::CStr = c"bpf";
const MODE: (&std::ffi::CStr, &std::ffi::CStr) = (c"mode", c"0700");

/// Mounts a bpf filesystem at [`ROOT`] if `path` lies there and none is mounted, as bpftool and iproute2 do; elsewhere
/// nothing is mounted. [`crate::Kernel`] does this before it pins; call it before making folders for pins.
///
/// # Errors
/// Those of `fsopen` and `move_mount`; `EPERM` without CAP_SYS_ADMIN.
pub fn mount_for(path: &Path) -> io::Result<()> {
    let root = Path::new(ROOT);
    if !path.starts_with(root) || is_mounted(root) {
        return Ok(());
    }
    // Who comes second waits here, and finds it mounted.
    let place = File::open(root)?;
    place.lock()?;
    if is_mounted(root) {
        return Ok(());
    }
    let context = mount::Context::open(TYPE)?;
    context.set(MODE.0, MODE.1)?;
    context.create()?;
    mount::attach(&context.mount()?, root)
}

/// Is this path in a bpf filesystem.
fn is_mounted(path: &Path) -> bool {
    mount::magic(path).is_ok_and(|magic| magic == mount::BPF_FS_MAGIC)
}

/// What stands in the way of a pin that failed, if it is its place.
pub(crate) fn no_place(path: &Path) -> Option<String> {
    let named = path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = named.unwrap_or(Path::new("."));
    let name = folder.display();
    match mount::magic(folder) {
        Ok(mount::BPF_FS_MAGIC) => None,
        Err(error) => Some(format!("the folder {name}: {error}")),
        Ok(_) => Some(format!(
            "{name} is not in a bpf filesystem; `mount -t bpf bpf {ROOT}`, as root, makes one"
        )),
    }
}
