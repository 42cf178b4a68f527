//! Executables and libraries that probes point into: where they are, and what is where in them.

use super::refused;
use skep_bpf::{Errno, Error, Result};
use skep_object::image::{Image, ImageSymbol};
use std::path::{Path, PathBuf};

/// Folders of libraries, after those of `LD_LIBRARY_PATH`.
const LIBRARY_FOLDERS: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/lib64",
    "/usr/lib",
    "/lib",
];

/// The file that a probe names. A process may have another root and other mounts: its files are reached through it. A name
/// without `/` is what the process has mapped under it, else a library in the loader's folders or a program in `PATH`.
pub(super) fn find(name: &Path, pid: Option<u32>) -> PathBuf {
    let root = pid.map(|pid| PathBuf::from(format!("/proc/{pid}/root")));
    let below = |path: &Path| match &root {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    };
    if name.is_absolute() {
        return if below(name).is_file() {
            below(name)
        } else {
            name.to_owned()
        };
    }
    if name.components().count() > 1 {
        return name.to_owned();
    }
    if let Some(mapped) = pid.and_then(|pid| mapped(name, pid)) {
        return below(&mapped);
    }
    let variable = if name.to_string_lossy().contains(".so") {
        "LD_LIBRARY_PATH"
    } else {
        "PATH"
    };
    let listed = std::env::var_os(variable).unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&listed).collect();
    folders.extend(LIBRARY_FOLDERS.iter().map(PathBuf::from));
    let candidates = folders.iter().map(|f| below(&f.join(name)));
    candidates
        .into_iter()
        .find(|p| p.is_file())
        .unwrap_or_else(|| name.to_owned())
}

/// The path of a file of this name that a process has mapped, as the process sees it.
fn mapped(name: &Path, pid: u32) -> Option<PathBuf> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let paths = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let mut paths = paths.map(Path::new).filter(|p| p.is_absolute());
    paths
        .find(|p| p.file_name() == Some(name.as_os_str()))
        .map(Path::to_owned)
}

/// A file's bytes.
pub(super) fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|e| refused(&format!("read of \"{}\"", file.display()), &e))
}

pub(super) fn wrong(file: &Path, detail: impl Into<String>) -> Error {
    Error {
        errno: Errno::ENOENT,
        what: format!("probe in \"{}\"", file.display()),
        detail: detail.into(),
        log: String::new(),
    }
}

/// An executable or library and its path for messages.
pub(super) struct Executable<'a> {
    pub(super) image: Image<'a>,
    file: &'a Path,
}

impl<'a> Executable<'a> {
    /// # Errors
    /// `ENOENT` if it is not ELF.
    pub(super) fn parse(bytes: &'a [u8], file: &'a Path) -> Result<Self> {
        let image = Image::parse_any(bytes).map_err(|e| wrong(file, e.to_string()))?;
        Ok(Self { image, file })
    }

    fn functions(&self) -> impl Iterator<Item = &ImageSymbol<'a>> {
        let all = self.image.symbols.iter().chain(&self.image.dynamic_symbols);
        all.filter(|s| s.section != 0 && !s.name.is_empty())
    }

    fn offset_of(&self, symbol: &ImageSymbol<'_>) -> Result<u64> {
        let offset = self.image.file_offset(symbol.value);
        let what = || format!("function \"{}\" is in no segment", symbol.name);
        offset.ok_or_else(|| wrong(self.file, what()))
    }

    /// The file offset of a function; `name@version` and `name@@version` are the function `name`.
    ///
    /// # Errors
    /// `ENOENT` if there is none.
    pub(super) fn function(&self, name: &str) -> Result<u64> {
        let plain = name.split('@').next().unwrap_or(name);
        let is_named = |s: &&ImageSymbol<'_>| s.name.split('@').next() == Some(plain);
        let found = self.functions().find(is_named);
        let found = found.ok_or_else(|| wrong(self.file, format!("no function \"{name}\"")))?;
        self.offset_of(found)
    }

    /// The file offsets of all functions whose names match a pattern with `*` and `?`.
    ///
    /// # Errors
    /// `ENOENT` if there are none.
    pub(super) fn matching(&self, pattern: &str) -> Result<Vec<u64>> {
        let is_function = |s: &&ImageSymbol<'_>| s.kind == ImageSymbol::FUNC;
        let mut found = Vec::new();
        for symbol in self.functions().filter(is_function) {
            if matches(pattern.as_bytes(), symbol.name.as_bytes()) {
                found.push(self.offset_of(symbol)?);
            }
        }
        found.sort_unstable();
        found.dedup();
        if found.is_empty() {
            return Err(wrong(
                self.file,
                format!("no function matches \"{pattern}\""),
            ));
        }
        Ok(found)
    }
}

/// A name against a pattern of letters, `*` (any text) and `?` (any letter).
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the last star was, and how much it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// True if a name is a pattern.
pub(super) fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match() {
        const CASES: &[(&str, &str, bool)] = &[
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a*b*c", "axbxbxc", true),
            ("vfs_*", "vfs_read", true),
        ];
        for (pattern, name, expected) in CASES {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                *expected,
                "{pattern} {name}"
            );
        }
    }
}
