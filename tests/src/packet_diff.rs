//! Packets and contexts in both backends: random programs that load and store through the packet, its metadata and the
//! context between helper calls that move them, on random packets with random contexts. Return value, packet and context
//! must be the same afterwards.

use crate::helper_diff::{BUFFER_BYTES, Row, TC, XDP, call, fold, mov, plain_load};
use crate::random::Random;
use skep_abi::ProgType;
use skep_abi::prog_flags::BPF_F_XDP_HAS_FRAGS;
use skep_bpf::{Backend, ProgLoad, TestRun};
use skep_isa::{Slot, opcode as op};

/// Steps of a program at most, of one in 16 that goes on and on, inputs it runs on.
const STEPS_MAX: u64 = 6;
const MANY_STEPS: u64 = 40;
const INPUTS: u64 = 12;
/// Registers: the context, what is returned.
const CTX: u8 = 6;
const SUM: u8 = 7;

/// What a program type has.
struct Kind {
    prog_type: ProgType,
    helpers: &'static [Row],
    /// Offsets of `data_meta`, `data` and `data_end` in the context.
    packet: [i16; 3],
    /// Fields to load: offset, bytes.
    loaded: &'static [(i16, u8)],
    /// Fields to store.
    stored: &'static [(i16, u8)],
    /// Bytes of the context of a test run, and fields that may be given there with values for them.
    ctx_bytes: usize,
    given: &'static [(usize, &'static [u64])],
}

const ANY: &[u64] = &[0, 1, 2, 0x1234_5678, 0xffff_ffff];

/// `struct __sk_buff`
const SK_BUFF: Kind = Kind {
    prog_type: ProgType::SchedCls,
    helpers: TC,
    packet: [140, 76, 80],
    #[rustfmt::skip] // fields side by side
    loaded: &[
        (0, 4), (4, 4), (8, 4), (8, 2), (9, 1), (12, 4), (16, 4), (20, 4), (24, 4), (28, 4), (32, 4), (36, 4), (40, 4), (44, 4),
        (48, 4), (52, 4), (56, 4), (60, 4), (64, 4), (50, 2), (48, 8), (68, 4), (72, 4), (84, 4), (152, 8), (160, 4), (164, 4),
        (176, 4), (180, 1), (184, 8),
    ],
    #[rustfmt::skip] // fields side by side
    stored: &[
        (8, 4), (12, 4), (32, 4), (44, 4), (48, 4), (52, 4), (64, 4), (56, 8), (49, 1), (72, 4), (152, 8), (0, 4), (68, 4),
        (164, 4),
    ],
    ctx_bytes: 192,
    given: &[
        (8, ANY),
        (32, ANY),
        (36, &[0, 1, 5]),
        (40, &[0, 1, 1, 99_999]),
        (48, ANY),
        (56, ANY),
        (64, ANY),
        (152, ANY),
        (160, &[0, 60, 1500, 65_536, 65_537]),
        (164, &[0, 1, 7, 65_535, 65_536]),
        (176, &[0, 1, 1448, 65_535, 65_536]),
        (176, &[0, 1, 1448]),
        (184, ANY),
        (0, &[0, 0, 0, 64]),
        (72, &[0, 0, 0, 1]),
    ],
};

/// `struct xdp_md`
const XDP_MD: Kind = Kind {
    prog_type: ProgType::Xdp,
    helpers: XDP,
    packet: [8, 0, 4],
    loaded: &[(12, 4), (16, 4)],
    stored: &[(16, 4)],
    ctx_bytes: 24,
    given: &[
        (12, &[0, 1, 1, 99_999]),
        (16, &[0, 0, 0, 1]),
        (20, &[0, 0, 0, 1]),
        (8, &[0, 0, 0, 4]),
    ],
};

/// A program, its inputs, and what it does in words.
#[derive(Clone, Debug)]
pub struct Case {
    prog_type: ProgType,
    flags: u32,
    insns: Vec<Slot>,
    inputs: Vec<TestRun>,
    /// What each step says, and where it ends among the instructions; before the first one comes what all programs do.
    steps: Vec<(String, usize)>,
    first_step: usize,
}

fn size_code(bytes: u8) -> u8 {
    match bytes {
        1 => op::B,
        2 => op::H,
        4 => op::W,
        _ => op::DW,
    }
}

/// Appends steps.
struct Writer<'a> {
    kind: &'static Kind,
    insns: Vec<Slot>,
    random: &'a mut Random,
}

impl Writer<'_> {
    fn push(&mut self, code: u8, dst: u8, src: u8, offset: i16, imm: i32) {
        self.insns.push(Slot::new(code, dst, src, offset, imm));
    }

    fn load_field(&mut self) -> String {
        let (offset, bytes) = *self.random.of(self.kind.loaded);
        self.push(op::LDX | op::MEM | size_code(bytes), 1, CTX, offset, 0);
        fold(&mut self.insns, 1);
        format!("load of {bytes} at {offset}")
    }

    fn store_field(&mut self) -> String {
        let (offset, bytes) = *self.random.of(self.kind.stored);
        let value = *self.random.of(ANY);
        mov(&mut self.insns, 1, value.cast_signed());
        self.push(op::STX | op::MEM | size_code(bytes), CTX, 1, offset, 0);
        format!("store of {bytes} at {offset}: {value:#x}")
    }

    /// Loads or stores in the packet or its metadata, where the program proved that there are so many bytes.
    fn packet(&mut self) -> String {
        let meta = self.random.below(4) == 0;
        let [from, to] = if meta { [0, 1] } else { [1, 2] }.map(|i: usize| self.kind.packet[i]);
        let bytes = *self.random.of(&[1u8, 2, 4, 8]);
        let most: u64 = if meta { 40 } else { 120 };
        let offset = self.random.below(most) as i16;
        let proven = i32::from(offset) + i32::from(bytes);
        let store = self.random.below(2) == 0;
        self.push(op::LDX | op::MEM | op::W, 2, CTX, from, 0);
        self.push(op::LDX | op::MEM | op::W, 3, CTX, to, 0);
        self.push(op::ALU64 | op::MOV | op::X, 4, 2, 0, 0);
        self.push(op::ALU64 | op::ADD, 4, 0, 0, proven);
        let jump = self.insns.len();
        self.push(op::JMP | op::JGT | op::X, 4, 3, 0, 0);
        if store {
            let value = self.random.next_u64().cast_signed();
            mov(&mut self.insns, 1, value);
            self.push(op::STX | op::MEM | size_code(bytes), 2, 1, offset, 0);
        } else {
            self.push(op::LDX | op::MEM | size_code(bytes), 1, 2, offset, 0);
            fold(&mut self.insns, 1);
        }
        self.push(op::ALU64 | op::ADD, SUM, 0, 0, 1);
        let over = (self.insns.len() - jump - 1) as i16;
        self.insns[jump] = Slot::new(op::JMP | op::JGT | op::X, 4, 3, over, 0);
        let [what, place] = [(store, "store", "load"), (meta, "metadata", "packet")]
            .map(|(first, a, b)| if first { a } else { b });
        format!("{what} of {bytes} at {offset} of the {place}")
    }

    /// `data_end - data` or `data - data_meta`.
    fn distance(&mut self) -> String {
        let [meta, data, end] = self.kind.packet;
        let (a, b) = *self.random.of(&[(end, data), (data, meta)]);
        self.push(op::LDX | op::MEM | op::W, 1, CTX, a, 0);
        self.push(op::LDX | op::MEM | op::W, 2, CTX, b, 0);
        self.push(op::ALU64 | op::SUB | op::X, 1, 2, 0, 0);
        fold(&mut self.insns, 1);
        format!("distance {b} to {a}")
    }
}

impl Case {
    /// A program with inputs.
    #[must_use]
    pub fn random(random: &mut Random) -> Self {
        let kind: &'static Kind = if random.below(2) == 0 {
            &SK_BUFF
        } else {
            &XDP_MD
        };
        let mut writer = Writer {
            kind,
            insns: Vec::new(),
            random,
        };
        writer.push(op::ALU64 | op::MOV | op::X, CTX, 1, 0, 0);
        mov(&mut writer.insns, SUM, 0);
        for i in 1..=BUFFER_BYTES / 8 {
            writer.push(op::ST | op::MEM | op::DW, 10, 0, -8 * i, i32::from(i));
        }
        let first_step = writer.insns.len();
        let mut steps = Vec::new();
        let most = if writer.random.below(16) == 0 {
            MANY_STEPS
        } else {
            STEPS_MAX
        };
        for _ in 0..=writer.random.below(most) {
            let said = match writer.random.below(8) {
                0 => writer.load_field(),
                1 => writer.store_field(),
                2 | 3 => writer.packet(),
                4 => writer.distance(),
                _ => call(&mut writer.insns, writer.random, kind.helpers),
            };
            steps.push((said, writer.insns.len()));
        }
        writer.push(op::ALU64 | op::MOV | op::X, 0, SUM, 0, 0);
        writer.push(op::ALU64 | op::RSH, SUM, 0, 0, 32);
        writer.push(op::ALU64 | op::XOR | op::X, 0, SUM, 0, 0);
        writer.push(op::JMP | op::EXIT, 0, 0, 0, 0);
        let insns = writer.insns;
        let frags = kind.prog_type == ProgType::Xdp && random.below(2) == 0;
        Self {
            prog_type: kind.prog_type,
            flags: if frags { BPF_F_XDP_HAS_FRAGS } else { 0 },
            insns,
            inputs: (0..INPUTS).map(|_| input(kind, random)).collect(),
            steps,
            first_step,
        }
    }

    /// The same without a step.
    fn without(&self, step: usize) -> Self {
        let mut less = self.clone();
        let from = match step.checked_sub(1) {
            Some(before) => self.steps[before].1,
            None => self.first_step,
        };
        let to = less.steps.remove(step).1;
        less.insns.drain(from..to);
        for (_, end) in &mut less.steps[step..] {
            *end -= to - from;
        }
        less
    }

    /// The difference of this case with as few steps as still make one.
    #[must_use]
    pub fn smallest_difference(&self, user: &dyn Backend, kernel: &dyn Backend) -> Option<String> {
        let mut difference = self.difference(user, kernel)?;
        let mut case = self.clone();
        let mut step = 0;
        while step < case.steps.len() {
            let less = case.without(step);
            match less.difference(user, kernel) {
                Some(still) => (case, difference) = (less, still),
                None => step += 1,
            }
        }
        Some(difference)
    }

    fn said(&self) -> Vec<&str> {
        self.steps.iter().map(|(said, _)| said.as_str()).collect()
    }

    /// What each input comes to in a backend.
    ///
    /// # Errors
    /// The errno of a refused load.
    pub fn outcome(&self, backend: &dyn Backend) -> Result<Vec<String>, String> {
        let load = ProgLoad {
            prog_flags: self.flags,
            ..plain_load(self.prog_type, &self.insns)
        };
        let program = backend.prog_load(&load).map_err(|e| e.errno.to_string())?;
        let outcomes = self.inputs.iter().map(|input| {
            let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
            match backend.prog_test_run(program, input) {
                Ok(r) => format!("{:#x} {} {}", r.retval, hex(&r.ctx_out), hex(&r.data_out)),
                Err(e) => e.errno.to_string(),
            }
        });
        let outcomes = outcomes.collect();
        backend.close(program);
        Ok(outcomes)
    }

    /// Where this case comes out differently in `user` than in `kernel`.
    #[must_use]
    pub fn difference(&self, user: &dyn Backend, kernel: &dyn Backend) -> Option<String> {
        let [found, expected] = [user, kernel].map(|b| self.outcome(b));
        let (found, expected) = match (found, expected) {
            (Ok(found), Ok(expected)) => (found, expected),
            (Err(a), Err(b)) if a == b => return None,
            (a, b) => {
                let [a, b] = [a, b].map(|r| r.err().unwrap_or_else(|| "loads".to_owned()));
                return Some(format!("{:?}: user {a}, kernel {b}", self.said()));
            }
        };
        let at = found.iter().zip(&expected).position(|(a, b)| a != b)?;
        let (a, b, input) = (&found[at], &expected[at], &self.inputs[at]);
        let first = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
        let near = |s: &str| {
            let [from, to] = [first.saturating_sub(20), first + 60].map(|n| n.min(s.len()));
            s[from..to].to_owned()
        };
        Some(format!(
            "{:?}{} on {} bytes{}:\n  user   …{}\n  kernel …{} (from {first})",
            self.said(),
            if self.flags == 0 {
                ""
            } else {
                " with fragments"
            },
            input.data_in.as_ref().map_or(0, Vec::len),
            context(input),
            near(a),
            near(b)
        ))
    }

    /// Runs of one backend.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.inputs.len()
    }
}

/// The words of a context that are not 0.
fn context(input: &TestRun) -> String {
    let ctx = input.ctx_in.as_deref().unwrap_or_default();
    let words = ctx.chunks(4).enumerate().filter_map(|(i, word)| {
        let word = word.try_into().map_or(0, u32::from_le_bytes);
        (word != 0).then(|| format!(" {}:{word:#x}", 4 * i))
    });
    let words: String = words.collect();
    format!(" with a context of {}{words}", ctx.len())
}

/// A random packet, often of IP, and a context for it.
fn input(kind: &Kind, random: &mut Random) -> TestRun {
    let len = match random.below(8) {
        0 => random.below(20),
        1 => 3300 + random.below(900),
        2 if kind.prog_type == ProgType::Xdp => 4000 + random.below(30_000),
        3 => 1400 + random.below(200),
        _ => 14 + random.below(150),
    };
    let mut packet: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
    let header = random.of(HEADERS);
    if random.below(4) != 0 && packet.len() > header.len() {
        packet[..header.len()].copy_from_slice(header);
    }
    let ctx = (random.below(3) != 0).then(|| ctx(kind, packet.len(), random));
    TestRun {
        ctx_size_out: ctx.as_ref().map_or(0, |ctx| ctx.len() as u32),
        ctx_in: ctx,
        data_size_out: packet.len() as u32 + *random.of(&[4096, 40_000]),
        data_in: Some(packet),
        repeat: 1,
        ..TestRun::default()
    }
}

/// Beginnings of packets: Ethernet with IPv4 and TCP, IPv6 and UDP, a VLAN tag.
#[rustfmt::skip] // headers
const HEADERS: &[&[u8]] = &[
    &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 60, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 1, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 2],
    &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 17, 64, 0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0x20, 5, 8, 0, 0x45, 0, 0, 40, 0, 1, 0, 0, 64, 17],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4],
];

fn ctx(kind: &Kind, packet: usize, random: &mut Random) -> Vec<u8> {
    let len = match random.below(6) {
        0 => kind.ctx_bytes + 8,
        1 => *random.of(&[8, 20, 24, 160]),
        _ => kind.ctx_bytes,
    };
    let mut bytes = vec![0; kind.ctx_bytes.max(len)];
    let mut set = |at: usize, value: u64| {
        bytes[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    };
    if kind.prog_type == ProgType::Xdp {
        let wrong = random.below(8) == 0;
        set(4, packet as u64 + u64::from(wrong));
        let meta = *random.of(&[0, 4, 8, 32, 64, 212, 216, 220, 252, 256, 3, 20]);
        set(0, if random.below(2) == 0 { 0 } else { meta });
    }
    for _ in 0..random.below(4) {
        let (at, values) = random.of(kind.given);
        set(*at, *random.of(values));
    }
    if len > kind.ctx_bytes && random.below(4) == 0 {
        bytes[len - 1] = 1;
    }
    bytes.truncate(len);
    bytes
}
