//! Kernels as data: what `skep check --kernel K` means by "Linux K" on whatever machine it runs.
//!
//! The BTF is that of a real kernel build for x86-64 in two layers. The first has every struct, union, enum, typedef and
//! variable, and of the functions those that programs can name without tracing: kfuncs, LSM hooks, iterators. The second, split
//! BTF on top of it, has all other functions, with parameters without names; only programs that attach to functions need it.
//! The reference kernel is built in; what exists there, the tables of `abi` say. The profiles of other kernels are files, made by
//! `skep feature dump` on that kernel, and hold its answers besides ([`Profile::facts`]). `cargo xtask profile` makes the files of
//! this repository. Nothing is decompressed before it is asked for.
#![forbid(unsafe_code)]

mod file;
mod reduce;

pub use file::{BadProfile, Parts};
pub use reduce::layers;

use skep_abi::kernel::Kernel;
use skep_btf::Btf;
use std::borrow::Cow;
use std::io::{Read, Write};
use std::sync::OnceLock;

/// Bytes that one part of a profile may have when it is decompressed; kernels' BTF has about six million.
const PART_MAX: u64 = 64 << 20;

/// A kernel as data. A value keeps what it has decompressed.
///
/// ```
/// use skep_btf::Kind;
/// use skep_profile::Profile;
///
/// let linux = Profile::linux_6_18();
/// assert!(linux.btf().find("task_struct", Kind::Struct).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Profile {
    name: Cow<'static, str>,
    version: u32,
    types: Cow<'static, [u8]>,
    functions: Cow<'static, [u8]>,
    kconfig: Cow<'static, [u8]>,
    facts: Option<Kernel>,
    types_btf: OnceLock<Btf>,
    functions_btf: OnceLock<Btf>,
    kconfig_text: OnceLock<String>,
}

impl Profile {
    /// Linux 6.18, x86-64.
    #[must_use]
    pub const fn linux_6_18() -> Self {
        Self {
            name: Cow::Borrowed("6.18"),
            version: (6 << 16) | (18 << 8),
            types: Cow::Borrowed(include_bytes!("../data/linux-6.18-types.btf.lz4")),
            functions: Cow::Borrowed(include_bytes!("../data/linux-6.18-functions.btf.lz4")),
            kconfig: Cow::Borrowed(include_bytes!("../data/linux-6.18-kconfig.lz4")),
            facts: None,
            types_btf: OnceLock::new(),
            functions_btf: OnceLock::new(),
            kconfig_text: OnceLock::new(),
        }
    }

    /// The kernel that was asked just now: its answers, configuration and BTF (without layers).
    #[must_use]
    pub fn of_running(facts: Kernel, kconfig: String, btf: Btf) -> Self {
        Self {
            name: Cow::Borrowed("host"),
            version: facts.version,
            types: Cow::Borrowed(&[]),
            functions: Cow::Borrowed(&[]),
            kconfig: Cow::Borrowed(&[]),
            facts: Some(facts),
            types_btf: OnceLock::from(btf.clone()),
            functions_btf: OnceLock::from(btf),
            kconfig_text: OnceLock::from(kconfig),
        }
    }

    /// Reads a file that `skep feature dump` wrote, and all of it, so that later uses cannot fail.
    ///
    /// # Errors
    /// [`BadProfile`] if a part of it is not what it should be.
    pub fn read(name: &str, file: &[u8]) -> Result<Self, BadProfile> {
        let parts = Parts::of_file(file)?;
        let facts = unpack(&parts.facts)?;
        let facts: Kernel = String::from_utf8_lossy(&facts)
            .parse()
            .map_err(|e| BadProfile(format!("{e}")))?;
        let types = parse(&parts.types, None)?;
        let kconfig = String::from_utf8_lossy(&unpack(&parts.kconfig)?).into_owned();
        let profile = Self {
            name: Cow::Owned(name.to_owned()),
            version: facts.version,
            types: Cow::Owned(parts.types),
            functions: Cow::Owned(parts.functions),
            kconfig: Cow::Owned(parts.kconfig),
            facts: Some(facts),
            types_btf: OnceLock::new(),
            functions_btf: OnceLock::new(),
            kconfig_text: OnceLock::from(kconfig),
        };
        profile.types_btf.get_or_init(|| types);
        if profile.functions.is_empty() {
            profile.functions_btf.get_or_init(|| profile.btf().clone());
        } else {
            let functions = parse(&profile.functions, Some(profile.btf()))?;
            profile.functions_btf.get_or_init(|| functions);
        }
        Ok(profile)
    }

    /// `6.18`
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `LINUX_VERSION_CODE`
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The kernel's own answers; `None` for the reference kernel, whose answers are the tables of `abi`.
    #[must_use]
    pub const fn facts(&self) -> Option<&Kernel> {
        self.facts.as_ref()
    }

    /// Types, kfuncs, LSM hooks and iterators.
    pub fn btf(&self) -> &Btf {
        self.types_btf
            .get_or_init(|| valid(parse(&self.types, None)))
    }

    /// [`Self::btf`] and all other functions. Type ids of the former stay as they are.
    pub fn btf_with_functions(&self) -> &Btf {
        self.functions_btf
            .get_or_init(|| valid(parse(&self.functions, Some(self.btf()))))
    }

    /// The configuration, `CONFIG_X=y` lines.
    pub fn kconfig(&self) -> &str {
        self.kconfig_text
            .get_or_init(|| String::from_utf8_lossy(&valid(unpack(&self.kconfig))).into_owned())
    }
}

/// Compresses a part.
///
/// # Errors
/// None that memory would not have.
pub fn pack(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let info = lz4_flex::frame::FrameInfo::new().content_size(Some(bytes.len() as u64));
    let mut frame = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    frame.write_all(bytes)?;
    Ok(frame.finish()?)
}

/// Decompresses a part.
///
/// # Errors
/// [`BadProfile`] if it is no LZ4 frame, or too large.
pub fn unpack(packed: &[u8]) -> Result<Vec<u8>, BadProfile> {
    let frame = lz4_flex::frame::FrameDecoder::new(packed);
    // The first bytes of a frame hold the size of its content (LZ4 frame format §3.1.1); ours have it, others may lie.
    let size = packed.get(6..14).and_then(|b| b.try_into().ok());
    let size = size.map_or(0, u64::from_le_bytes);
    let expected = if size <= PART_MAX { size } else { 0 };
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
    let read = frame.take(PART_MAX + 1).read_to_end(&mut bytes);
    match read {
        Ok(n) if n as u64 <= PART_MAX => Ok(bytes),
        Ok(_) => Err(BadProfile(format!("a part has more than {PART_MAX} bytes"))),
        Err(e) => Err(BadProfile(format!("a part cannot be decompressed: {e}"))),
    }
}

fn parse(packed: &[u8], base: Option<&Btf>) -> Result<Btf, BadProfile> {
    let bytes = unpack(packed)?;
    let parsed = match base {
        Some(base) => Btf::parse_split(bytes, base),
        None => Btf::parse(bytes),
    };
    parsed.map_err(|e| BadProfile(format!("its BTF: {e}")))
}

/// What is built in is whole; a file was read through when it was opened.
fn valid<T>(part: Result<T, BadProfile>) -> T {
    match part {
        Ok(part) => part,
        Err(error) => panic!("a profile in use is valid: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_btf::Kind;

    #[test]
    fn types_and_functions_are_where_they_belong() {
        let profile = Profile::linux_6_18();
        let types = profile.btf();
        assert!(types.find("task_struct", Kind::Struct).is_some());
        assert!(types.find("bpf_obj_new_impl", Kind::Func).is_some());
        assert!(
            types
                .find("btf_trace_sched_switch", Kind::Typedef)
                .is_some()
        );
        assert!(types.find("vfs_read", Kind::Func).is_none());
        let all = profile.btf_with_functions();
        let read = all.find("vfs_read", Kind::Func).unwrap();
        assert_eq!(read.target().unwrap().params().len(), 4);
        assert!(profile.kconfig().contains("\nCONFIG_BPF_SYSCALL=y\n"));
    }

    #[test]
    fn parts_come_back() {
        let text = b"release 6.12.1\n".repeat(1000);
        let packed = pack(&text).unwrap();
        assert!(packed.len() < text.len() / 10);
        assert_eq!(unpack(&packed), Ok(text));
        assert!(unpack(b"no frame").is_err());
        assert!(Profile::read("x", &Parts::default().to_file()).is_err());
    }
}
