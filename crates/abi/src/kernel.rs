//! What one kernel answered when it was asked by loading: which program types, helpers, kfuncs and maps it has, and how it
//! decides where kernels differ.
//!
//! The tables of this crate describe the reference kernel. A [`Kernel`] is the dumped part of another one's profile; where it is
//! present it decides what exists, and the tables say what it means. It has a text form, one line a fact, so that profiles can be
//! read and compared.

use crate::helper::ProgEnv;
use crate::since;
use crate::types::{AttachType, MapType, ProgType};
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

/// What is known of a fact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// It is so.
    Yes,
    /// It is not so.
    No,
    /// Nobody asked.
    Unknown,
}

/// Declares the rules: variant, name in the text form, and meaning.
macro_rules! rules {
    ($($variant:ident $name:literal $meaning:literal)*) => {
        /// A rule in which kernels differ; the reference kernel has them all.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Rule { $(#[doc = $meaning] $variant),* }

        impl Rule {
            /// All rules.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name in a profile.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What a kernel without it lacks.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }

            /// The rule that [`Self::name`] calls `name`.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|r| r.name() == name)
            }
        }
    };
}

rules! {
    SignedDivision "sdiv" "signed division and remainder"
    MoveSigned "movsx" "moves with sign extension"
    LoadSigned "ldsx" "loads with sign extension"
    ByteSwap "bswap" "unconditional byte swaps"
    LongJump "gotol" "jumps with a 32-bit offset"
    MayGoto "may_goto" "may_goto"
    LoadAcquire "load_acquire" "load-acquire and store-release"
    ArenaCast "arena_cast" "casts between address spaces"
    UninitStack "uninit_stack" "reads of stack that was never written, by privileged programs"
    KnownKeys "known_keys" "array lookups that cannot fail since the key is known"
    UnequalEnds "unequal_ends" "what it tells that a number is not the first or last of its range"
    RegisterComparison "reg_compare" "bounds that a comparison of two unknown registers gives"
    EqualPointers "equal_pointers" "what it tells that a pointer equals one that is not NULL"
    MapMemory "map_memory" "keys and values of maps in records and buffers"
    CallsUnderLock "calls_under_lock" "calls of functions while a spin lock is held"
    FrameRounding "frame_rounding" "frames rounded up to 16 bytes instead of 32"
    PrivateStack "private_stack" "stacks of their own for the functions of tracing programs"
    DynptrEnds "dynptr_ends" "the end of a dynptr, and of what points into it, when it is overwritten"
    GplStructures "gpl_structures" "kernel structures kept from programs without a GPL-compatible license"
    KptrTags "kptr_tags" "the tags kptr_untrusted and kptr of pointers in maps, which were kptr and kptr_ref before"
    EqualRanges "equal_ranges" "that a number outside of a range equals none in it"
    ArgumentTags "arg_tags" "tags of the arguments of global functions"
    SpilledCopies "spilled_copies" "that a number in the stack is a copy of the one that was stored"
    LsmReturns "lsm_returns" "ranges of what LSM programs return"
}

/// A kind of program that was asked about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Subject {
    /// Expected attach type.
    pub attach: Option<AttachType>,
    /// `BPF_F_SLEEPABLE`.
    pub sleepable: bool,
    /// Name of the attach target; empty for none.
    pub target: String,
    /// The smallest program loads.
    pub loads: bool,
    /// Helpers that it may call.
    pub helpers: BTreeSet<u32>,
    /// Kfuncs that it may call.
    pub kfuncs: BTreeSet<String>,
}

/// The answers of one kernel.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kernel {
    /// `6.12.117`
    pub release: String,
    /// `LINUX_VERSION_CODE`
    pub version: u32,
    /// Map types, and whether it has them.
    pub maps: Vec<(MapType, bool)>,
    /// Rules, and whether it has them; what is missing was not asked.
    pub rules: Vec<(Rule, bool)>,
    /// Fields, as `structure.path`, and whether operations of TCP congestion control may write them.
    pub writes: Vec<(String, bool)>,
    /// Kinds of programs.
    pub subjects: Vec<(ProgType, Subject)>,
}

fn known(answer: Option<bool>) -> Known {
    match answer {
        Some(true) => Known::Yes,
        Some(false) => Known::No,
        None => Known::Unknown,
    }
}

/// Does the kernel follow this rule? The reference kernel, `None`, follows all; a profile that is silent leaves it at that.
#[must_use]
pub fn has_rule(kernel: Option<&Kernel>, rule: Rule) -> bool {
    kernel.is_none_or(|k| k.rule(rule) != Known::No)
}

impl Kernel {
    /// Does it have this map type?
    #[must_use]
    pub fn map_type(&self, map_type: MapType) -> Known {
        known(self.maps.iter().find(|m| m.0 == map_type).map(|m| m.1))
    }

    /// Does it have this rule? Rules that nobody can ask about come with a release.
    #[must_use]
    pub fn rule(&self, rule: Rule) -> Known {
        let asked = self.rules.iter().find(|r| r.0 == rule).map(|r| r.1);
        known(asked.or_else(|| {
            let (major, minor) = since::rule(rule)?;
            let first = u32::from(major) << 16 | u32::from(minor) << 8;
            (self.version > 0).then_some(self.version >= first)
        }))
    }

    /// May operations write this field of a structure?
    #[must_use]
    pub fn writes(&self, structure: &str, field: &str) -> Known {
        let is_it = |name: &str| name.split_once('.') == Some((structure, field));
        known(self.writes.iter().find(|w| is_it(&w.0)).map(|w| w.1))
    }

    /// The kind of program that `env` is like: same type, and as much else as there is.
    fn subject(&self, env: &ProgEnv<'_>) -> Option<&Subject> {
        let likeness = |s: &Subject| {
            let target = u8::from(s.target == env.target)
                + u8::from(s.target.is_empty() == env.target.is_empty());
            (
                s.attach == env.attach,
                s.attach.is_none(),
                s.sleepable == env.sleepable,
                target,
            )
        };
        let of_type = self.subjects.iter().filter(|(t, _)| *t == env.prog_type);
        of_type.map(|(_, s)| s).max_by_key(|s| likeness(s))
    }

    /// Does it load programs like this?
    #[must_use]
    pub fn loads(&self, env: &ProgEnv<'_>) -> Known {
        known(self.subject(env).map(|s| s.loads))
    }

    /// May such a program call helper `id`?
    #[must_use]
    pub fn helper(&self, env: &ProgEnv<'_>, id: u32) -> Known {
        let subject = self.subject(env).filter(|s| s.loads);
        known(subject.map(|s| s.helpers.contains(&id)))
    }

    /// Was exactly such a target asked about?
    #[must_use]
    pub fn knows_target(&self, env: &ProgEnv<'_>) -> bool {
        self.subject(env).is_some_and(|s| s.target == env.target)
    }

    /// May any program call helper `id`?
    #[must_use]
    pub fn has_helper(&self, id: u32) -> bool {
        self.subjects.iter().any(|(_, s)| s.helpers.contains(&id))
    }

    /// May such a program call this kfunc?
    #[must_use]
    pub fn kfunc(&self, env: &ProgEnv<'_>, name: &str) -> Known {
        let subject = self.subject(env).filter(|s| s.loads);
        known(subject.map(|s| s.kfuncs.contains(name)))
    }
}

/// Numbers as ranges: `1-14,16`.
fn ranges(ids: &BTreeSet<u32>) -> String {
    let mut text = String::new();
    let mut rest = ids.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while let Some(next) = rest.next_if_eq(&(last + 1)) {
            last = next;
        }
        let comma = if text.is_empty() { "" } else { "," };
        let written = if first == last {
            write!(text, "{comma}{first}")
        } else {
            write!(text, "{comma}{first}-{last}")
        };
        debug_assert!(written.is_ok(), "a string takes everything");
    }
    text
}

/// Highest helper number that a profile may name; far above what there is.
const HELPER_MAX: u32 = 4096;

fn parse_ranges(text: &str) -> Option<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last > HELPER_MAX {
            return None;
        }
        ids.extend(first..=last);
    }
    Some(ids)
}

fn word(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "release {}", self.release)?;
        writeln!(f, "version {}", self.version)?;
        for (map_type, yes) in &self.maps {
            writeln!(f, "map {map_type} {}", word(*yes))?;
        }
        for (rule, yes) in &self.rules {
            writeln!(f, "rule {} {}", rule.name(), word(*yes))?;
        }
        for (field, yes) in &self.writes {
            writeln!(f, "write {field} {}", word(*yes))?;
        }
        for (prog_type, s) in &self.subjects {
            let attach = s.attach.map_or("-", AttachType::name);
            let target = if s.target.is_empty() { "-" } else { &s.target };
            let (sleepable, loads) = (word(s.sleepable), word(s.loads));
            let kfuncs: Vec<&str> = s.kfuncs.iter().map(String::as_str).collect();
            writeln!(
                f,
                "prog {prog_type} {attach} {sleepable} {target} {loads} helpers={} kfuncs={}",
                ranges(&s.helpers),
                kfuncs.join(",")
            )?;
        }
        Ok(())
    }
}

/// A line of the text form that is not one; lines count from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadLine(pub usize);

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {} of the kernel's facts has an unknown form",
            self.0
        )
    }
}

impl std::error::Error for BadLine {}

impl std::str::FromStr for Kernel {
    type Err = BadLine;

    /// Reads the text form. Types and rules that this build does not know are left out: a profile may be newer.
    fn from_str(text: &str) -> Result<Self, BadLine> {
        let mut kernel = Self::default();
        for (at, line) in text.lines().enumerate() {
            kernel.line(line).ok_or(BadLine(at + 1))?;
        }
        Ok(kernel)
    }
}

fn yes(word: &str) -> Option<bool> {
    match word {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

impl Kernel {
    fn line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else {
            return Some(());
        };
        match first {
            "release" => words
                .next()
                .unwrap_or_default()
                .clone_into(&mut self.release),
            "version" => self.version = words.next()?.parse().ok()?,
            "map" => {
                let (name, answer) = (words.next()?, yes(words.next()?)?);
                self.maps
                    .extend(MapType::from_name(name).map(|t| (t, answer)));
            }
            "rule" => {
                let (name, answer) = (words.next()?, yes(words.next()?)?);
                self.rules
                    .extend(Rule::from_name(name).map(|r| (r, answer)));
            }
            "write" => {
                let (field, answer) = (words.next()?, yes(words.next()?)?);
                self.writes.push((field.to_owned(), answer));
            }
            "prog" => {
                let (prog_type, attach) = (words.next()?, words.next()?);
                let mut subject = Subject {
                    attach: AttachType::from_name(attach),
                    sleepable: yes(words.next()?)?,
                    target: words
                        .next()
                        .filter(|t| *t != "-")
                        .unwrap_or_default()
                        .to_owned(),
                    loads: yes(words.next()?)?,
                    ..Subject::default()
                };
                subject.helpers = parse_ranges(words.next()?.strip_prefix("helpers=")?)?;
                let kfuncs = words.next()?.strip_prefix("kfuncs=")?;
                let names = kfuncs.split(',').filter(|n| !n.is_empty());
                subject.kfuncs = names.map(str::to_owned).collect();
                let known = attach == "-" || subject.attach.is_some();
                let prog_type = ProgType::from_name(prog_type).filter(|_| known);
                self.subjects.extend(prog_type.map(|t| (t, subject)));
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Kernel {
        let subject = |attach, target: &str, helpers: &[u32]| Subject {
            attach,
            target: target.to_owned(),
            loads: true,
            helpers: helpers.iter().copied().collect(),
            kfuncs: ["bpf_rdonly_cast".to_owned()].into(),
            ..Subject::default()
        };
        Kernel {
            release: "6.12.1".to_owned(),
            version: 0x06_0c_01,
            maps: vec![(MapType::Arena, true), (MapType::Hash, false)],
            rules: vec![(Rule::MayGoto, true), (Rule::LoadAcquire, false)],
            writes: vec![("tcp_sock.snd_cwnd".to_owned(), true)],
            subjects: vec![
                (
                    ProgType::Tracing,
                    subject(Some(AttachType::TraceFentry), "vfs_read", &[1, 2, 3, 9]),
                ),
                (
                    ProgType::Tracing,
                    subject(Some(AttachType::TraceIter), "bpf_iter_task", &[1]),
                ),
                (ProgType::Xdp, subject(None, "", &[44])),
            ],
        }
    }

    #[test]
    fn text_comes_back() {
        let text = sample().to_string();
        assert!(text.contains(
            "prog tracing trace_fentry no vfs_read yes helpers=1-3,9 kfuncs=bpf_rdonly_cast"
        ));
        assert_eq!(text.parse(), Ok(sample()));
        assert_eq!("map hash perhaps".parse::<Kernel>(), Err(BadLine(1)));
        assert_eq!("rule from_the_future yes".parse(), Ok(Kernel::default()));
        assert!(
            "prog xdp - no - yes helpers=1-4000000000 kfuncs="
                .parse::<Kernel>()
                .is_err()
        );
    }

    #[test]
    fn the_nearest_kind_answers() {
        let kernel = sample();
        let env = |prog_type, attach, target| ProgEnv {
            prog_type,
            attach,
            sleepable: false,
            perfmon: true,
            target,
            kernel: None,
        };
        let fexit = env(
            ProgType::Tracing,
            Some(AttachType::TraceFentry),
            "vfs_write",
        );
        assert_eq!(kernel.helper(&fexit, 9), Known::Yes);
        let iter = env(
            ProgType::Tracing,
            Some(AttachType::TraceIter),
            "bpf_iter_tcp",
        );
        assert_eq!(kernel.helper(&iter, 9), Known::No);
        assert_eq!(
            kernel.helper(&env(ProgType::Lsm, None, ""), 1),
            Known::Unknown
        );
        assert_eq!(
            kernel.loads(&env(ProgType::Xdp, Some(AttachType::Xdp), "")),
            Known::Yes
        );
        assert_eq!(kernel.map_type(MapType::Hash), Known::No);
        assert_eq!(kernel.rule(Rule::SignedDivision), Known::Unknown);
    }
}
