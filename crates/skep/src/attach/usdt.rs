//! Statically defined probes of user programs (USDT): notes of executables and libraries say where the probes are and where
//! their arguments lie. Source: the SystemTap wiki, "User Space Probe Implementation"; layout of `struct __bpf_usdt_spec` as in
//! libbpf's usdt.bpf.h, which programs are built with.
//!
//! A program finds the arguments through map `__bpf_usdt_specs`: the attachment's cookie is the index of the description.

use super::elf::{self, Executable, wrong};
use super::{Hold, Link, perf, refused};
use skep_bpf::{Backend, Handle, Result};
use skep_object::image::Image;
use skep_sys::perf::{End, Scope};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where descriptions of arguments go.
///
/// ```no_run
/// # use skep::attach::{Usdt, UsdtSpecs};
/// # fn example(loaded: skep::load::Loaded) {
/// // The map that objects with USDT programs have.
/// let specs = loaded.map(UsdtSpecs::MAP).map(|m| UsdtSpecs::new(m.handle, m.spec.value_size));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct UsdtSpecs {
    map: Handle,
    /// Bytes of a description.
    bytes: usize,
    /// The next free index.
    next: Arc<AtomicU32>,
}

/// Two that write to the same map are the same.
impl PartialEq for UsdtSpecs {
    fn eq(&self, other: &Self) -> bool {
        self.map == other.map
    }
}

impl Eq for UsdtSpecs {}

impl UsdtSpecs {
    /// Name of the map in the object.
    pub const MAP: &'static str = "__bpf_usdt_specs";

    /// The map of a loaded object.
    #[must_use]
    pub fn new(map: Handle, value_size: u32) -> Self {
        Self {
            map,
            bytes: value_size as usize,
            next: Arc::default(),
        }
    }
}

/// A statically defined probe.
///
/// ```no_run
/// # use skep::attach::*;
/// # fn example(kernel: std::sync::Arc<dyn skep_bpf::Backend>, prog: skep_bpf::Handle) -> Result<(), skep_bpf::Error> {
/// let probe = Usdt {
///     file: "/usr/bin/python3".into(),
///     provider: "python".to_owned(),
///     name: "function__entry".to_owned(),
///     pid: None,
///     cookie: 0,
///     specs: None, // the program reads no arguments
/// };
/// let link = attach(&kernel, prog, &Hook::Usdt(probe))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usdt {
    /// The file; a name without `/` is searched.
    pub file: PathBuf,
    /// Who defined it.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// Only this process.
    pub pid: Option<u32>,
    /// What the program reads as the attachment's cookie.
    pub cookie: u64,
    /// Where the program looks for arguments.
    pub specs: Option<UsdtSpecs>,
}

/// Name and type of the notes (`NT_STAPSDT`), and their section.
const SECTION: &str = ".note.stapsdt";
const OWNER: &[u8] = b"stapsdt\0";
const TYPE: u32 = 3;
/// A section whose address the notes were made with.
const BASE: &str = ".stapsdt.base";
/// `BPF_USDT_MAX_ARG_CNT`
const ARGUMENTS_MAX: usize = 12;
/// Bytes of `struct __bpf_usdt_arg_spec`.
const ARGUMENT_BYTES: usize = 16;

/// A note.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Note {
    /// Address of the instruction.
    address: u64,
    /// Address of `.stapsdt.base` when the file was linked.
    base: u64,
    /// Address of the counter of attachments, 0 for none.
    semaphore: u64,
    provider: String,
    name: String,
    arguments: String,
}

/// All notes of a file; what is damaged ends the list.
fn notes(image: &Image<'_>) -> Vec<Note> {
    let Some(section) = image.section(SECTION) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut rest = section.data;
    while let Some((note, after)) = note(image, rest) {
        found.extend(note);
        rest = after;
    }
    found
}

/// The first note of `bytes`, if it is one of a probe, and what follows it.
fn note<'a>(image: &Image<'_>, bytes: &'a [u8]) -> Option<(Option<Note>, &'a [u8])> {
    let word = |at| image.order.u32_at(bytes, at);
    if bytes.len() < 12 {
        return None;
    }
    let (name_bytes, bytes_of, kind) = (word(0) as usize, word(4) as usize, word(8));
    let start = 12usize.checked_add(name_bytes.checked_next_multiple_of(4)?)?;
    let end = start.checked_add(bytes_of)?;
    let (owner, body) = (bytes.get(12..12 + name_bytes)?, bytes.get(start..end)?);
    let after = bytes
        .get(end.checked_next_multiple_of(4)?..)
        .unwrap_or_default();
    let read = || {
        let number = |at: usize| {
            let (first, second) = (
                image.order.u32_at(body, at),
                image.order.u32_at(body, at + 4),
            );
            match image.order {
                skep_btf::Order::Little => u64::from(second) << 32 | u64::from(first),
                skep_btf::Order::Big => u64::from(first) << 32 | u64::from(second),
            }
        };
        let mut texts = body.get(24..)?.split(|b| *b == 0);
        let mut text = || Some(String::from_utf8_lossy(texts.next()?).into_owned());
        Some(Note {
            address: number(0),
            base: number(8),
            semaphore: number(16),
            provider: text()?,
            name: text()?,
            arguments: text()?,
        })
    };
    let is_probe = kind == TYPE && owner == OWNER;
    Some((is_probe.then(read).flatten(), after))
}

/// Where an argument lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Argument {
    place: Place,
    signed: bool,
    bytes: u8,
}

/// Kinds of place, as the program distinguishes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Constant(u64),
    /// Register: byte in `struct pt_regs`.
    Register(u16),
    /// Memory behind a register.
    Memory {
        register: u16,
        offset: i64,
    },
    /// Memory behind a register and a scaled index.
    Indexed {
        register: u16,
        index: u16,
        shift: u8,
        offset: i64,
    },
}

/// Registers and their bytes in `struct pt_regs`; each row has one register's names by width.
#[cfg(target_arch = "x86_64")]
const REGISTERS: &[(&[&str], u16)] = &[
    (&["rip", "eip"], 128),
    (&["rax", "eax", "ax", "al"], 80),
    (&["rbx", "ebx", "bx", "bl"], 40),
    (&["rcx", "ecx", "cx", "cl"], 88),
    (&["rdx", "edx", "dx", "dl"], 96),
    (&["rsi", "esi", "si", "sil"], 104),
    (&["rdi", "edi", "di", "dil"], 112),
    (&["rbp", "ebp", "bp", "bpl"], 32),
    (&["rsp", "esp", "sp", "spl"], 152),
    (&["r8", "r8d", "r8w", "r8b"], 72),
    (&["r9", "r9d", "r9w", "r9b"], 64),
    (&["r10", "r10d", "r10w", "r10b"], 56),
    (&["r11", "r11d", "r11w", "r11b"], 48),
    (&["r12", "r12d", "r12w", "r12b"], 24),
    (&["r13", "r13d", "r13w", "r13b"], 16),
    (&["r14", "r14d", "r14w", "r14b"], 8),
    (&["r15", "r15d", "r15w", "r15b"], 0),
];

#[cfg(target_arch = "x86_64")]
fn register(name: &str) -> Option<u16> {
    let name = name.trim().strip_prefix('%')?;
    REGISTERS
        .iter()
        .find(|(names, _)| names.contains(&name))
        .map(|(_, at)| *at)
}

/// Bytes of a register in `struct user_pt_regs`.
#[cfg(target_arch = "aarch64")]
fn register(name: &str) -> Option<u16> {
    match name.trim() {
        "sp" => Some(31 * 8),
        name => {
            let number: u16 = name.strip_prefix(['x', 'w'])?.parse().ok()?;
            (number < 31).then_some(number * 8)
        }
    }
}

fn number(text: &str) -> Option<i64> {
    let (sign, digits) = match text.trim().strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.trim().trim_start_matches('+')),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    value.checked_mul(sign)
}

/// A probe that a file has, and what can be known of it without attaching.
///
/// ```
/// for probe in skep::attach::usdt_probes(&std::fs::read("/proc/self/exe")?)? {
///     println!("{}:{} with {:?} arguments", probe.provider, probe.name, probe.arguments);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsdtProbe {
    /// Who defined it.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// How many arguments a program can read; `None` if one lies where no program finds it.
    pub arguments: Option<usize>,
}

/// The statically defined probes of an executable or library, one for each place in its code.
///
/// # Errors
/// One sentence if `file` is no ELF file.
///
/// ```
/// let own = std::fs::read(std::env::current_exe()?)?;
/// for probe in skep::attach::usdt_probes(&own)? {
///     println!("{}:{}", probe.provider, probe.name);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn usdt_probes(file: &[u8]) -> std::result::Result<Vec<UsdtProbe>, String> {
    let image = Image::parse_any(file).map_err(|e| e.to_string())?;
    let probe = |note: Note| UsdtProbe {
        arguments: arguments(&note.arguments).ok().map(|found| found.len()),
        provider: note.provider,
        name: note.name,
    };
    Ok(notes(&image).into_iter().map(probe).collect())
}

/// The arguments of a note; the text of one that lies where no program finds it.
fn arguments(text: &str) -> std::result::Result<Vec<Argument>, &str> {
    let texts = split(text).into_iter().take(ARGUMENTS_MAX);
    texts.map(|text| argument(text).ok_or(text)).collect()
}

/// Splits the arguments of a note: blanks separate them, but not within brackets.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0i32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ' ' if depth <= 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|p| !p.is_empty());
    parts
}

/// Reads `-4@%edi`, `8@-24(%rbp)`, `8@(%rax,%rcx,8)`, `4@$5`; on aarch64 `-4@w0`, `8@[sp, 16]`, `4@5`.
fn argument(text: &str) -> Option<Argument> {
    let (size, place) = text.split_once('@')?;
    let size = number(size)?;
    let bytes = u8::try_from(size.unsigned_abs()).ok()?;
    if !matches!(bytes, 1 | 2 | 4 | 8) {
        return None;
    }
    Some(Argument {
        place: place_of(place)?,
        signed: size < 0,
        bytes,
    })
}

#[cfg(target_arch = "x86_64")]
fn place_of(text: &str) -> Option<Place> {
    if let Some(constant) = text.strip_prefix('$') {
        return Some(Place::Constant(number(constant)?.cast_unsigned()));
    }
    let Some((offset, inside)) = text.split_once('(') else {
        return register(text).map(Place::Register);
    };
    let offset = if offset.is_empty() {
        0
    } else {
        number(offset)?
    };
    let inside = inside.strip_suffix(')')?;
    let parts: Vec<&str> = inside.split(',').collect();
    match parts.as_slice() {
        [base] => Some(Place::Memory {
            register: register(base)?,
            offset,
        }),
        [base, index, rest @ ..] => {
            let scale: u32 = match rest {
                [] => 1,
                [scale] => scale.trim().parse().ok()?,
                _ => return None,
            };
            Some(Place::Indexed {
                register: register(base)?,
                index: register(index)?,
                shift: matches!(scale, 1 | 2 | 4 | 8).then(|| scale.trailing_zeros() as u8)?,
                offset,
            })
        }
        [] => None,
    }
}

#[cfg(target_arch = "aarch64")]
fn place_of(text: &str) -> Option<Place> {
    if let Some(inside) = text.strip_prefix('[') {
        let inside = inside.strip_suffix(']')?;
        let (base, offset) = match inside.split_once(',') {
            Some((base, offset)) => (base, number(offset)?),
            None => (inside, 0),
        };
        return Some(Place::Memory {
            register: register(base)?,
            offset,
        });
    }
    match register(text) {
        Some(at) => Some(Place::Register(at)),
        None => Some(Place::Constant(number(text)?.cast_unsigned())),
    }
}

impl Argument {
    /// `struct __bpf_usdt_arg_spec`: value or offset; kind (8 bits), index register (12), shift (4); register; signed; shift
    /// that cuts a 64-bit value to its size.
    fn encode(self) -> [u8; ARGUMENT_BYTES] {
        let (kind, value, register, index, shift) = match self.place {
            Place::Constant(value) => (0u32, value, 0, 0, 0),
            Place::Register(register) => (1, 0, register, 0, 0),
            Place::Memory { register, offset } => (2, offset.cast_unsigned(), register, 0, 0),
            Place::Indexed {
                register,
                index,
                shift,
                offset,
            } => (3, offset.cast_unsigned(), register, index, shift),
        };
        let word = kind | u32::from(index) << 8 | u32::from(shift) << 20;
        let mut bytes = [0; ARGUMENT_BYTES];
        bytes[..8].copy_from_slice(&value.to_ne_bytes());
        bytes[8..12].copy_from_slice(&word.to_ne_bytes());
        bytes[12..14].copy_from_slice(&register.to_ne_bytes());
        bytes[14] = u8::from(self.signed);
        bytes[15] = 64 - 8 * self.bytes;
        bytes
    }
}

/// `struct __bpf_usdt_spec`: arguments, cookie, how many arguments.
fn description(arguments: &[Argument], cookie: u64, bytes: usize) -> Vec<u8> {
    let mut value: Vec<u8> = arguments.iter().flat_map(|a| a.encode()).collect();
    value.resize(ARGUMENTS_MAX * ARGUMENT_BYTES, 0);
    value.extend(cookie.to_ne_bytes());
    value.extend((arguments.len() as u16).to_ne_bytes());
    value.resize(bytes.max(value.len()), 0);
    value
}

/// Attaches to every place of a probe.
pub(super) fn attach(backend: &Arc<dyn Backend>, prog: Handle, probe: &Usdt) -> Result<Link> {
    let file = elf::find(&probe.file, probe.pid);
    let bytes = elf::read(&file)?;
    let executable = Executable::parse(&bytes, &file)?;
    let image = &executable.image;
    let base = image.section(BASE).map(|s| s.address);
    let mut links = Vec::new();
    let wanted = |n: &Note| n.provider == probe.provider && n.name == probe.name;
    for note in notes(image).iter().filter(|n| wanted(n)) {
        // Prelinking moves the file; the notes stay as they were.
        let moved = base.map_or(0, |b| b.wrapping_sub(note.base));
        let place = image.file_offset(note.address.wrapping_add(moved));
        let place = place.ok_or_else(|| wrong(&file, "the probe is in no segment"))?;
        let counter = match note.semaphore {
            0 => 0,
            address => image
                .file_offset(address.wrapping_add(moved))
                .ok_or_else(|| wrong(&file, "the probe's semaphore is in no segment"))?,
        };
        let cookie = describe(backend, probe, note, &file)?;
        links.push(at(
            backend,
            prog,
            (&file, place, counter),
            probe.pid,
            cookie,
        )?);
    }
    if links.is_empty() {
        let what = format!("no probe \"{}:{}\"", probe.provider, probe.name);
        return Err(wrong(&file, what));
    }
    Ok(Link {
        backend: Arc::clone(backend),
        hold: Hold::Many(links),
        _event: None,
    })
}

fn at(
    backend: &Arc<dyn Backend>,
    prog: Handle,
    (file, offset, counter): (&Path, u64, u64),
    pid: Option<u32>,
    cookie: u64,
) -> Result<Link> {
    let what = format!(
        "perf_event_open of probe \"{}\"+{offset:#x}",
        file.display()
    );
    let path = skep_sys::bpf::path_text(file).map_err(|e| refused(&what, &e))?;
    let scope = Scope::of_process(pid);
    let event = skep_sys::perf::uprobe(&path, offset, counter, End::Entry, scope);
    perf::link(
        backend,
        prog,
        event.map_err(|e| refused(&what, &e))?,
        cookie,
    )
}

/// Writes where the arguments lie; the cookie of the attachment.
fn describe(backend: &Arc<dyn Backend>, probe: &Usdt, note: &Note, file: &Path) -> Result<u64> {
    let Some(specs) = &probe.specs else {
        return Ok(probe.cookie);
    };
    let arguments = arguments(&note.arguments).map_err(|text| {
        let what = format!("argument \"{text}\" of the probe is of no known form");
        wrong(file, what)
    })?;
    let index = specs.next.fetch_add(1, Ordering::Relaxed);
    let value = description(&arguments, probe.cookie, specs.bytes);
    backend.map_update(specs.map, &index.to_ne_bytes(), &value, 0)?;
    Ok(u64::from(index))
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let memory = |register, offset| Place::Memory { register, offset };
        /// Place, signed, bytes; `None` if it cannot be read.
        type Expected = Option<(Place, bool, u8)>;
        let cases: &[(&str, Expected)] = &[
            ("-4@%edi", Some((Place::Register(112), true, 4))),
            ("8@%rax", Some((Place::Register(80), false, 8))),
            ("4@$-9", Some((Place::Constant(-9i64 as u64), false, 4))),
            ("8@-24(%rbp)", Some((memory(32, -24), false, 8))),
            ("1@(%r8)", Some((memory(72, 0), false, 1))),
            (
                "8@16(%rax,%rcx,8)",
                Some((
                    Place::Indexed {
                        register: 80,
                        index: 88,
                        shift: 3,
                        offset: 16,
                    },
                    false,
                    8,
                )),
            ),
            ("3@%eax", None),
            ("8@%xmm0", None),
            ("8", None),
            // A number that has no opposite.
            ("8@$--9223372036854775808", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(place, signed, bytes)| Argument {
                place,
                signed,
                bytes,
            });
            assert_eq!(argument(text), expected, "{text}");
        }
        assert_eq!(
            split("-4@%edi 8@(%rax, %rcx, 8) "),
            ["-4@%edi", "8@(%rax, %rcx, 8)"]
        );
    }

    #[test]
    fn damaged_notes_end_the_list() {
        let mut image = Image::parse_any(&[]).err();
        assert!(image.take().is_some());
        // Sizes that overflow are no note.
        let bytes = [0xffu8; 16];
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let image = Image::parse_any(&own).unwrap();
        assert!(note(&image, &bytes).is_none());
        assert!(note(&image, &bytes[..4]).is_none());
    }
}
