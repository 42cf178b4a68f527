//! The machine that programs will run on, as data.

use skep_btf::Btf;

/// What relocation may use of the target. [`crate::Object::needs`] tells which parts an object asks for.
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../examples/packets.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "packets.bpf.o".to_owned() })?;
/// use skep_object::Target;
///
/// let target = Target {
///     kernel_version: 6 << 16 | 18 << 8,
///     kconfig: Some("CONFIG_HZ=250\n".to_owned()),
///     cpus: 4,
///     page_size: 4096,
///     ..Target::default()
/// };
/// assert_eq!(target.config("CONFIG_HZ"), Some("250"));
/// assert_eq!(object.relocate(&target)?.programs.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The kernel's BTF.
    pub btf: Option<Btf>,
    /// Types that CO-RE relocates against, if they are not those of [`Self::btf`] and [`Self::modules`]: a kernel that does not
    /// show its own BTF still has these types.
    pub core_btf: Option<Btf>,
    /// BTF of its modules: name, and split BTF on top of the kernel's.
    pub modules: Vec<(String, Btf)>,
    /// Text of its configuration (`CONFIG_X=y` lines).
    pub kconfig: Option<String>,
    /// `LINUX_VERSION_CODE`
    pub kernel_version: u32,
    /// Addresses of kernel symbols (`/proc/kallsyms`).
    pub addresses: Vec<(String, u64)>,
    /// Programs can read a cookie of their attachment (`LINUX_HAS_BPF_COOKIE`).
    pub bpf_cookie: bool,
    /// System calls take their arguments through a wrapper (`LINUX_HAS_SYSCALL_WRAPPER`).
    pub syscall_wrapper: bool,
    /// Possible CPUs; perf event arrays without size get one entry each.
    pub cpus: u32,
    /// Bytes of a page; ring buffers are rounded up to a power of two of pages.
    pub page_size: u32,
}

impl Target {
    /// The value of configuration option `name`, as it is written.
    #[must_use]
    pub fn config(&self, name: &str) -> Option<&str> {
        let mut lines = self.kconfig.as_deref().unwrap_or_default().lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }
}
