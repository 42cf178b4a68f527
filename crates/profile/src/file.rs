//! Profiles as files: parts with names, each an LZ4 frame.
//!
//! `SKEPPRF1`, then for each part: length of the name (1 byte), name, size (4 bytes, little-endian), bytes. Parts with unknown
//! names are passed over, so that the form can grow.

use std::fmt;

/// How a file begins.
const MAGIC: &[u8; 8] = b"SKEPPRF1";
/// Most parts a file may have.
const PARTS_MAX: usize = 64;

/// What a profile consists of.
///
/// ```
/// use skep_profile::Parts;
///
/// let parts = Parts { kconfig: b"CONFIG_BPF=y\n".to_vec(), ..Parts::default() };
/// assert_eq!(Parts::of_file(&parts.to_file())?.kconfig, parts.kconfig);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Parts {
    /// The kernel's answers, as text ([`skep_abi::kernel::Kernel`]).
    pub facts: Vec<u8>,
    /// Its configuration, as text.
    pub kconfig: Vec<u8>,
    /// First layer of its BTF.
    pub types: Vec<u8>,
    /// Second layer of its BTF.
    pub functions: Vec<u8>,
}

/// The bytes are no profile; the text says why.
///
/// ```
/// let error = skep_profile::Profile::read("x", b"no profile").err();
/// println!("{}", error.ok_or("a profile")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadProfile(pub(crate) String);

impl fmt::Display for BadProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a kernel profile: {}", self.0)
    }
}

impl std::error::Error for BadProfile {}

impl Parts {
    fn fields(&self) -> [(&'static str, &Vec<u8>); 4] {
        [
            ("facts", &self.facts),
            ("kconfig", &self.kconfig),
            ("types", &self.types),
            ("functions", &self.functions),
        ]
    }

    fn field(&mut self, name: &[u8]) -> Option<&mut Vec<u8>> {
        match name {
            b"facts" => Some(&mut self.facts),
            b"kconfig" => Some(&mut self.kconfig),
            b"types" => Some(&mut self.types),
            b"functions" => Some(&mut self.functions),
            _ => None,
        }
    }

    /// True if nothing is known of the configuration.
    #[must_use]
    pub fn kconfig_is_empty(&self) -> bool {
        crate::unpack(&self.kconfig).is_ok_and(|text| text.is_empty())
    }

    /// The file, with parts as they are.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        for (name, bytes) in self.fields() {
            file.push(name.len() as u8);
            file.extend(name.as_bytes());
            file.extend((bytes.len() as u32).to_le_bytes());
            file.extend(bytes);
        }
        file
    }

    /// Takes a file apart.
    ///
    /// # Errors
    /// [`BadProfile`] if it is cut short, or is something else.
    pub fn of_file(file: &[u8]) -> Result<Self, BadProfile> {
        let bad = |why: &str| BadProfile(why.to_owned());
        let mut rest = file
            .strip_prefix(MAGIC)
            .ok_or_else(|| bad("it begins otherwise"))?;
        let mut parts = Self::default();
        for _ in 0..PARTS_MAX {
            let Some((length, after)) = rest.split_first() else {
                return Ok(parts);
            };
            let cut = || bad("it is cut short");
            let (name, after) = after
                .split_at_checked(usize::from(*length))
                .ok_or_else(cut)?;
            let (size, after) = after.split_first_chunk().ok_or_else(cut)?;
            let size = u32::from_le_bytes(*size) as usize;
            let (bytes, after) = after.split_at_checked(size).ok_or_else(cut)?;
            if let Some(field) = parts.field(name) {
                *field = bytes.to_vec();
            }
            rest = after;
        }
        Err(bad("it has too many parts"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back_and_broken_ones_do_not() {
        let parts = Parts {
            facts: b"version 1\n".to_vec(),
            types: vec![1, 2, 3],
            ..Parts::default()
        };
        let file = parts.to_file();
        assert_eq!(Parts::of_file(&file), Ok(parts));
        assert!(Parts::of_file(b"ELF").is_err());
        for end in 0..file.len() {
            // Never a panic; cut between two parts, it is a shorter profile.
            let _ = Parts::of_file(&file[..end]);
        }
        assert!(Parts::of_file(&file[..file.len() - 1]).is_err());
    }
}
