//! The reference kernel as data: what `skep check` means by "Linux 6.18" on whatever machine it runs.
//!
//! The BTF is that of a real kernel build for x86-64 in two layers. The first has every struct, union, enum, typedef and
//! variable, and of the functions those that programs can name without tracing: kfuncs, LSM hooks, iterators. The second, split
//! BTF on top of it, has all other functions, with parameters without names; only programs that attach to functions need it.
//! `cargo xtask profile` makes the files from a running kernel. Nothing is decompressed before it is asked for.
#![forbid(unsafe_code)]

use skep_btf::Btf;
use std::io::Read;
use std::sync::OnceLock;

/// A kernel as data. A value keeps what it has decompressed.
#[derive(Debug)]
pub struct Profile {
    name: &'static str,
    version: u32,
    types: &'static [u8],
    functions: &'static [u8],
    kconfig: &'static [u8],
    types_btf: OnceLock<Btf>,
    functions_btf: OnceLock<Btf>,
    kconfig_text: OnceLock<String>,
}

impl Profile {
    /// Linux 6.18, x86-64.
    #[must_use]
    pub const fn linux_6_18() -> Self {
        Self {
            name: "6.18",
            version: (6 << 16) | (18 << 8),
            types: include_bytes!("../data/linux-6.18-types.btf.lz4"),
            functions: include_bytes!("../data/linux-6.18-functions.btf.lz4"),
            kconfig: include_bytes!("../data/linux-6.18-kconfig.lz4"),
            types_btf: OnceLock::new(),
            functions_btf: OnceLock::new(),
            kconfig_text: OnceLock::new(),
        }
    }

    /// `6.18`
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// `LINUX_VERSION_CODE`
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Types, kfuncs, LSM hooks and iterators.
    pub fn btf(&self) -> &Btf {
        self.types_btf.get_or_init(|| parse(self.types, None))
    }

    /// [`Self::btf`] and all other functions. Type ids of the former stay as they are.
    pub fn btf_with_functions(&self) -> &Btf {
        self.functions_btf
            .get_or_init(|| parse(self.functions, Some(self.btf())))
    }

    /// The configuration, `CONFIG_X=y` lines.
    pub fn kconfig(&self) -> &str {
        self.kconfig_text
            .get_or_init(|| String::from_utf8_lossy(&unpack(self.kconfig)).into_owned())
    }
}

/// Decompresses a file of ours.
fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut frame = lz4_flex::frame::FrameDecoder::new(packed);
    // The first bytes of a frame hold the size of its content (LZ4 frame format §3.1.1); the files have it.
    let size = packed.get(6..14).and_then(|b| b.try_into().ok());
    let size = size.map_or(0, u64::from_le_bytes);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    let read = frame.read_to_end(&mut bytes);
    assert!(read.is_ok(), "a built-in file is a whole LZ4 frame");
    bytes
}

fn parse(packed: &[u8], base: Option<&Btf>) -> Btf {
    let bytes = unpack(packed);
    let parsed = match base {
        Some(base) => Btf::parse_split(bytes, base),
        None => Btf::parse(bytes),
    };
    match parsed {
        Ok(btf) => btf,
        Err(error) => panic!("built-in BTF is valid: {error}"),
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
}
