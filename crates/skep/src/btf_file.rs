//! Files that hold a kernel's BTF: raw, in an ELF file, packed, or in an archive as BTFHub publishes them.
//!
//! An archive (`RELEASE.btf.tar.xz`) holds one file, `RELEASE.btf`. A folder of them is laid out
//! `DISTRIBUTION/VERSION/MACHINE/RELEASE.btf.tar.xz`; from one the archive of the running kernel is taken.
//!
//! ```no_run
//! let btf = skep::btf_file::read("5.4.0-1009-aws.btf.tar.xz".as_ref(), None)?;
//! println!("{} types", btf.type_count());
//! # Ok::<(), std::io::Error>(())
//! ```

use skep_btf::Btf;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Bytes of an unpacked file at most; BTF of a kernel with everything has some ten million.
const UNPACKED_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a dictionary at most (that of `xz -9`).
const DICTIONARY_BYTES_MAX: usize = 64 << 20;
/// Bytes that are unpacked at a time.
const BUFFER: NonZeroUsize = NonZeroUsize::MIN.saturating_add(0xffff);
/// How files begin.
const ELF: &[u8] = b"\x7fELF";
const XZ: &[u8] = b"\xfd7zXZ\0";
const GZIP: &[u8] = b"\x1f\x8b";
/// Bytes of a tar file's block.
const BLOCK: usize = 512;
/// Where a tar header says that it is one, and what it says.
const TAR_MAGIC: (usize, &[u8]) = (257, b"ustar");
/// Where the running kernel shows its BTF and that of its modules, which build on it.
const SYSFS: &str = "/sys/kernel/btf";

/// Reads BTF from a file, or the running kernel's from a folder of archives; that of a module builds on `base`.
///
/// # Errors
/// If the file cannot be read, unpacked or parsed, or has no BTF.
pub fn read(path: &Path, base: Option<&Btf>) -> io::Result<Btf> {
    let archive;
    let path = if path.is_dir() {
        archive = find(path)?;
        &archive
    } else {
        path
    };
    let bytes = contents(std::fs::read(path)?)?;
    let is_module = path.parent() == Some(Path::new(SYSFS)) && !path.ends_with("vmlinux");
    let kernel = match base {
        None if is_module => Some(crate::target::running_btf()?),
        _ => None,
    };
    let parsed = match base.or(kernel.as_ref()) {
        Some(base) => Btf::parse_split(bytes, base),
        None => Btf::parse(bytes),
    };
    parsed.map_err(|e| io::Error::other(e.to_string()))
}

/// The BTF in the bytes of a file. It is unpacked once: a file may be packed so that it unpacks to itself.
fn contents(file: Vec<u8>) -> io::Result<Vec<u8>> {
    let bytes = unpacked(file)?;
    if bytes.starts_with(ELF) {
        return skep_object::btf_section(&bytes).map_err(|e| io::Error::other(e.to_string()));
    }
    if bytes
        .get(TAR_MAGIC.0..)
        .is_some_and(|b| b.starts_with(TAR_MAGIC.1))
    {
        return member(&bytes).map(<[u8]>::to_vec);
    }
    Ok(bytes)
}

/// A file without what it is packed with, if anything.
fn unpacked(file: Vec<u8>) -> io::Result<Vec<u8>> {
    if file.starts_with(XZ) {
        let first = xz4rust::DICT_SIZE_PROFILE_0;
        let decoder = xz4rust::XzDecoder::in_heap_with_alloc_dict_size(first, DICTIONARY_BYTES_MAX);
        let reader = xz4rust::XzReader::new_with_buffer_size_and_decoder(
            io::Cursor::new(file),
            BUFFER,
            decoder,
        );
        return limited(reader);
    }
    if file.starts_with(GZIP) {
        return limited(flate2::read::GzDecoder::new(&file[..]));
    }
    Ok(file)
}

/// All of a stream, which may have no more than a limit.
fn limited(stream: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream
        .take(UNPACKED_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > UNPACKED_BYTES_MAX {
        return Err(io::Error::other("it unpacks to more than 256 MiB"));
    }
    Ok(bytes)
}

/// The only file in an archive whose name ends in `.btf`.
fn member(tar: &[u8]) -> io::Result<&[u8]> {
    let mut found = None;
    let mut at = 0;
    while let Some(header) = tar.get(at..at + BLOCK) {
        if header[0] == 0 {
            break; // the end is zeros
        }
        let name = text(&header[..100]);
        let size = usize::from_str_radix(text(&header[124..136]).trim(), 8);
        let size = size.map_err(|_| io::Error::other("the archive is damaged"))?;
        let start = at + BLOCK;
        let end = start.saturating_add(size);
        let data = tar.get(start..end);
        let data = data.ok_or_else(|| io::Error::other("the archive is cut"))?;
        if name.ends_with(".btf") && found.replace(data).is_some() {
            return Err(io::Error::other("the archive has several files of BTF"));
        }
        at = end.next_multiple_of(BLOCK);
    }
    found.ok_or_else(|| io::Error::other("the archive has no file of BTF"))
}

/// A field of a tar header: text up to a zero byte.
fn text(field: &[u8]) -> &str {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    std::str::from_utf8(&field[..end]).unwrap_or_default()
}

/// Where the archive of the running kernel lies below a folder.
fn find(folder: &Path) -> io::Result<PathBuf> {
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let release = release.trim();
    let value = |key: &str| {
        let mut lines = system.lines();
        let found = lines.find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_default().trim_matches('"').to_owned()
    };
    let machine = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    };
    let below = folder
        .join(value("ID"))
        .join(value("VERSION_ID"))
        .join(machine);
    for place in [below.as_path(), folder] {
        for end in ["btf.tar.xz", "btf"] {
            let path = place.join(format!("{release}.{end}"));
            if path.is_file() {
                return Ok(path);
            }
        }
    }
    let text = format!(
        "no BTF of {release}, neither there nor in {}",
        below.display()
    );
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A tar file of one member.
    fn tar(name: &str, data: &[u8]) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
        block[257..262].copy_from_slice(b"ustar");
        block.extend_from_slice(data);
        block.resize(block.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
        block
    }

    #[test]
    fn the_file_of_btf_is_taken_out_of_an_archive() {
        let archive = tar("6.1.0-1-amd64.btf", b"types");
        assert_eq!(member(&archive).unwrap(), b"types");
        assert_eq!(contents(archive.clone()).unwrap(), b"types");
        assert!(member(&tar("README", b"x")).is_err());
        for cut in 0..BLOCK + 5 {
            assert!(member(&archive[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_file_is_unpacked_once() {
        let packed = |bytes: &[u8]| {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(bytes).unwrap();
            gz.finish().unwrap()
        };
        let once = packed(b"types");
        assert_eq!(contents(packed(&once)).unwrap(), once);
        assert_eq!(contents(once).unwrap(), b"types");
    }

    #[test]
    fn a_packed_archive_is_unpacked() {
        // `6.1.0.btf` with the bytes "types", as tar and xz pack it.
        let packed = include_bytes!("../tests/data/types.btf.tar.xz");
        assert_eq!(contents(packed.to_vec()).unwrap(), b"types");
        for cut in 0..packed.len() {
            assert!(contents(packed[..cut].to_vec()).map_or(true, |b| b != b"types"));
        }
    }
}
