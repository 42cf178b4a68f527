//! `bpf_snprintf` and the trace helpers in both backends: random formats and arguments, whose verdicts, results and texts must
//! be the same.
//!
//! A program has its format in a frozen map and its arguments on the stack, behind a text and 16 bytes that they may point
//! to. It writes results and text to another map.

use crate::helper_diff::{mov, plain_load};
use crate::random::Random;
use skep_abi::helper::id;
use skep_abi::map_flags::BPF_F_RDONLY_PROG;
use skep_abi::prog_flags::BPF_F_SLEEPABLE;
use skep_abi::{MapType, ProgType};
use skep_bpf::{Backend, Handle, MapCreate, ProgLoad, TestRun};
use skep_isa::{Slot, opcode as op};

/// The helpers that are called.
pub(crate) const CALLED: &[u32] = &[id::SNPRINTF, id::TRACE_VPRINTK];
/// Bytes of the maps' values.
const FORMAT_BYTES: u32 = 64;
const OUT_BYTES: u32 = 320;
/// Where in the second one the text begins, behind three results.
const TEXT_AT: i32 = 32;
/// Most arguments (`MAX_BPRINTF_VARARGS`), and one more.
const ARGS_MAX: u64 = 12;
/// Where on the stack the arguments and what they point to begin.
const ARGS_AT: i16 = -(ARGS_MAX as i16 + 1) * 8;
const TEXT_OFFSET: i16 = ARGS_AT - 16;
const BYTES_OFFSET: i16 = TEXT_OFFSET - 16;

/// An argument.
#[derive(Clone, Copy, Debug)]
enum Word {
    Number(u64),
    /// Address of a text of up to 15 bytes.
    Text,
    /// Address of 16 bytes.
    Bytes,
}

/// A format, arguments, and how much room there is for the text.
#[derive(Clone, Debug)]
pub struct Format {
    format: Vec<u8>,
    args: Vec<Word>,
    room: u32,
    seed: u64,
    /// Without room the kernel reads its later arguments from elsewhere, where something old may be: nobody can say how long the
    /// text would have been.
    is_vague: bool,
}

const LITERALS: &[&[u8]] = &[b"a", b" ", b"%%", b"x=", b"\n", b"%% d", b"\t", b"~"];
const ODD: &[&[u8]] = &[
    b"%", b"\x01", b"\xff", b"%q", b"%n", b"%f", b"% %", b"%5", b"%hd",
];
const FLAGS: &[&str] = &[
    "", "", "", "-", "0", " ", "+", "#", "-0", "0-", "+ ", "05", "-12", "3", "20", "007",
];
const NUMBERS: &[&str] = &[
    "d", "i", "u", "x", "X", "ld", "lu", "lx", "lX", "lld", "llu", "llx", "llX", "li", "lli", "c",
    "lc", "h", "hhd", "o",
];
const POINTERS: &[&str] = &[
    "s", "s", "pks", "pus", "px", "pB", "ps", "pS", "pi4", "pI4", "pi6", "pI6", "pI5", "pK", "pz",
    "ls",
];

impl Format {
    /// A random one, mostly right.
    #[must_use]
    pub fn random(random: &mut Random) -> Self {
        let mut format = Vec::new();
        let mut args = Vec::new();
        let mut early = false;
        let mut odd = random.below(10) == 0;
        for _ in 0..=random.below(6) {
            match random.below(20) {
                0..7 => format.extend(*random.of(LITERALS)),
                7..14 => {
                    let conversion = format!("%{}{}", random.of(FLAGS), random.of(NUMBERS));
                    format.extend(conversion.into_bytes());
                    args.push(Word::Number(Self::number(random)));
                }
                14..19 => {
                    let kind = *random.of(POINTERS);
                    let conversion = format!("%{}{kind}", random.of(FLAGS));
                    format.extend(conversion.into_bytes());
                    args.push(Self::pointer(random, kind));
                    early |=
                        kind.starts_with('p') && !matches!(kind, "ps" | "pS" | "px" | "p" | "pK");
                }
                _ => {
                    odd = true;
                    format.extend(*random.of(ODD));
                }
            }
        }
        format.truncate(FORMAT_BYTES as usize - 1);
        if odd {
            // Something else may print them: addresses are not the same in both backends.
            args.iter_mut().for_each(|arg| *arg = Word::Number(0));
        }
        match random.below(12) {
            0 => args.push(Word::Number(1)),
            1 => drop(args.pop()),
            _ => {}
        }
        args.truncate(ARGS_MAX as usize + 1);
        Self {
            format,
            args,
            room: *random.of(&[0, 1, 2, 5, 16, 64, 256]),
            seed: random.next_u64(),
            is_vague: early,
        }
    }

    fn number(random: &mut Random) -> u64 {
        match random.below(5) {
            0 => random.below(3),
            1 => random.below(256),
            2 => random.next_u64() | 1 << 63,
            3 => random.next_u64() >> 33,
            _ => 1 << random.below(64),
        }
    }

    /// What suits a conversion of addresses; those without memory are small: they look like no symbol of the kernel.
    fn pointer(random: &mut Random, kind: &str) -> Word {
        let bad = Word::Number(random.below(3) * 8);
        let null = Word::Number(0);
        match kind {
            "p" | "pK" => null,
            _ if random.below(8) == 0 => bad,
            "s" | "pks" => Word::Text,
            "pi4" | "pI4" | "pi6" | "pI6" => Word::Bytes,
            "px" => Word::Number(random.next_u64()),
            _ => bad,
        }
    }

    /// The program, whose maps these are.
    fn program(&self, format: Handle, out: Handle) -> Vec<Slot> {
        let mut insns = Vec::new();
        let store = |insns: &mut Vec<Slot>, at: i16| {
            insns.push(Slot::new(op::STX | op::MEM | op::DW, 10, 1, at, 0));
        };
        let mut random = Random::new(self.seed);
        let letters = u64::from_le_bytes(*b"Some te\t") + random.below(5);
        let rest =
            u64::from_le_bytes(*b"xt\0\0\0\0\0\0") & if random.below(2) == 0 { 0 } else { !0 };
        for (at, word) in [
            (TEXT_OFFSET, letters),
            (TEXT_OFFSET + 8, rest),
            (BYTES_OFFSET, random.next_u64() & random.next_u64()),
            (BYTES_OFFSET + 8, random.next_u64() & random.next_u64()),
        ] {
            mov(&mut insns, 1, word.cast_signed());
            store(&mut insns, at);
        }
        for (n, word) in (0i16..).zip(&self.args) {
            match word {
                Word::Number(number) => mov(&mut insns, 1, number.cast_signed()),
                Word::Text => Self::stack(&mut insns, 1, TEXT_OFFSET),
                Word::Bytes => Self::stack(&mut insns, 1, BYTES_OFFSET),
            }
            store(&mut insns, ARGS_AT + n * 8);
        }
        let bytes = self.args.len() as i64 * 8;
        Self::value(&mut insns, 6, out, 0);
        Self::value(&mut insns, 1, out, TEXT_AT);
        mov(&mut insns, 2, self.room.into());
        Self::value(&mut insns, 3, format, 0);
        Self::arguments(&mut insns, 4, bytes);
        Self::call(&mut insns, id::SNPRINTF, 0);
        Self::value(&mut insns, 1, format, 0);
        mov(&mut insns, 2, self.format.len() as i64 + 1);
        Self::arguments(&mut insns, 3, bytes);
        Self::call(&mut insns, id::TRACE_VPRINTK, 8);
        mov(&mut insns, 0, 0);
        insns.push(Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0));
        insns
    }

    fn stack(insns: &mut Vec<Slot>, dst: u8, at: i16) {
        insns.push(Slot::new(op::ALU64 | op::MOV | op::X, dst, 10, 0, 0));
        insns.push(Slot::new(op::ALU64 | op::ADD, dst, 0, 0, at.into()));
    }

    fn value(insns: &mut Vec<Slot>, dst: u8, map: Handle, at: i32) {
        insns.push(Slot::new(op::LDDW, dst, op::PSEUDO_MAP_VALUE, 0, map.0));
        insns.push(Slot::new(0, 0, 0, 0, at));
    }

    /// The arguments and their bytes, from register `first` on.
    fn arguments(insns: &mut Vec<Slot>, first: u8, bytes: i64) {
        Self::stack(insns, first, ARGS_AT);
        mov(insns, first + 1, bytes);
    }

    /// Calls, and keeps the result at `at` of the map whose value is in `r6`.
    fn call(insns: &mut Vec<Slot>, helper: u32, at: i16) {
        insns.push(Slot::new(op::JMP | op::CALL, 0, 0, 0, helper.cast_signed()));
        insns.push(Slot::new(op::STX | op::MEM | op::DW, 6, 0, at, 0));
    }

    /// Results and text, or the errno of the load.
    ///
    /// # Errors
    /// A sentence if the backend refuses something else.
    pub fn outcome(&self, backend: &dyn Backend) -> Result<String, String> {
        let failed = |e: skep_bpf::Error| e.to_string();
        let constant = MapCreate {
            map_flags: BPF_F_RDONLY_PROG,
            ..MapCreate::new(MapType::Array, 4, FORMAT_BYTES, 1)
        };
        let format = backend.map_create(&constant).map_err(failed)?;
        let mut text = self.format.clone();
        text.resize(FORMAT_BYTES as usize, 0);
        backend
            .map_update(format, &[0; 4], &text, 0)
            .map_err(failed)?;
        backend.map_freeze(format).map_err(failed)?;
        let out = MapCreate::new(MapType::Array, 4, OUT_BYTES, 1);
        let out = backend.map_create(&out).map_err(failed)?;
        let load = ProgLoad {
            prog_flags: BPF_F_SLEEPABLE,
            ..plain_load(ProgType::Syscall, &self.program(format, out))
        };
        let said = match backend.prog_load(&load) {
            Err(e) => format!("refused: {}", e.errno),
            Ok(program) => {
                let run = backend.prog_test_run(program, &TestRun::default());
                backend.close(program);
                run.map_err(failed)?;
                let mut value = vec![0; OUT_BYTES as usize];
                backend
                    .map_lookup(out, &[0; 4], &mut value, 0)
                    .map_err(failed)?;
                let (numbers, text) = value.split_at(TEXT_AT as usize);
                let (numbers, _) = numbers.as_chunks::<8>();
                let mut numbers: Vec<i64> =
                    numbers.iter().map(|n| i64::from_ne_bytes(*n)).collect();
                if self.is_vague && numbers[0] > self.room.into() {
                    numbers[0] = i64::MAX;
                }
                let end = text.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
                format!("{numbers:?} \"{}\"", text[..end].escape_ascii())
            }
        };
        backend.close(format);
        backend.close(out);
        Ok(said)
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            format, args, room, ..
        } = self;
        write!(f, "\"{}\" {args:x?} room {room}", format.escape_ascii())
    }
}
