//! What `BPF_BTF_LOAD` and the records of functions and lines must fulfil, in both backends: good ones are damaged, and the
//! answers compared.

use crate::object_rules::{Report, errno};
use crate::random::Random;
use skep_abi::{Errno, ProgType};
use skep_bpf::{Backend, Handle, ProgLoad};
use skep_btf::raw::{HEADER_BYTES, Info, Order};
use skep_btf::{Builder, Kind};
use skep_isa::asm::{NoFacts, assemble_insns};

/// Numbers that sizes, counts, ids and offsets are damaged to.
const EDGES: &[u32] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    12,
    16,
    17,
    31,
    32,
    33,
    63,
    64,
    127,
    128,
    0xff,
    0xffff,
    0x1_0000,
    0x00ff_ffff,
    0x0100_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff8,
    0xffff_ffff,
];

/// A BTF with every kind of type, and the ids of its two functions (the second is static).
struct Zoo {
    builder: Builder,
    functions: [u32; 2],
}

#[rustfmt::skip] // one type a line
fn zoo(random: &mut Random) -> Zoo {
    let mut b = Builder::new(Order::HOST);
    let int = b.add_int("int", 4, 1);
    let byte = b.add_int("char", 1, 0);
    let word = b.add_int("unsigned long", 8, 0);
    let flag = b.add_int("_Bool", 1, 4);
    let ptr = b.add_ref(Kind::Ptr, "", int);
    let array = b.add_array(byte, int, 16);
    let matrix = b.add_array(array, int, 2);
    let small = b.add_struct("small", 8, &[("a", int, 0), ("b", byte, 32), ("f", flag, 40)]);
    let bits = [b.add_str("x"), int, 3 << 24, b.add_str("y"), int, 5 << 24 | 3];
    b.add("bits", Info::new(Kind::Struct, 2, true), 4, &bits);
    let union = [b.add_str("i"), int, 0, b.add_str("w"), word, 0];
    let union = b.add("choice", Info::new(Kind::Union, 2, false), 8, &union);
    let values = [b.add_str("ONE"), 1, b.add_str("TWO"), 2];
    let chosen = b.add("number", Info::new(Kind::Enum, 2, false), 4, &values);
    let big = [b.add_str("BIG"), 0, 1];
    b.add("large", Info::new(Kind::Enum64, 1, false), 8, &big);
    b.add("later", Info::new(Kind::Fwd, 0, random.below(2) == 0), 0, &[]);
    let float = b.add("double", Info::new(Kind::Float, 0, false), 8, &[]);
    let constant = b.add_ref(Kind::Const, "", small);
    let volatile = b.add_ref(Kind::Volatile, "", constant);
    let restrict = b.add_ref(Kind::Restrict, "", ptr);
    let alias = b.add_ref(Kind::Typedef, "alias", volatile);
    let alias2 = b.add_ref(Kind::Typedef, "alias2", alias);
    let tag = b.add_ref(Kind::TypeTag, "user", int);
    let tagged = b.add_ref(Kind::Ptr, "", tag);
    let node = b.type_count();
    let next = b.add_ref(Kind::Ptr, "", node + 1);
    b.add_struct("node", 24, &[("next", next, 0), ("inside", alias2, 64), ("d", float, 128)]);
    b.add_struct("outer", 64, &[("m", matrix, 0), ("c", union, 256), ("e", chosen, 320), ("t", tagged, 384), ("r", restrict, 448)]);
    let parameters = [b.add_str("n"), int, b.add_str("p"), ptr];
    let proto = b.add("", Info::new(Kind::FuncProto, 2, false), int, &parameters);
    let main = b.add("main", Info::new(Kind::Func, 1, false), proto, &[]);
    let sub = b.add("sub", Info::new(Kind::Func, 0, false), proto, &[]);
    let variable = b.add("counter", Info::new(Kind::Var, 0, false), word, &[1]);
    let fixed = b.add("table", Info::new(Kind::Var, 0, false), matrix, &[0]);
    b.add(".data", Info::new(Kind::Datasec, 2, false), 40, &[variable, 0, 8, fixed, 8, 32]);
    b.add("note", Info::new(Kind::DeclTag, 0, false), small, &[u32::MAX]);
    b.add("arg", Info::new(Kind::DeclTag, 0, false), main, &[1]);
    Zoo { builder: b, functions: [main, sub] }
}

/// Damages words of type records, before the blob is written.
fn damage_types(b: &mut Builder, random: &mut Random) {
    for _ in 0..1 + random.below(2) {
        let id = 1 + random.below(u64::from(b.type_count()) - 1) as u32;
        let word = random.below(9) as usize;
        let old = b.word(id, word);
        let other = 1 + random.below(u64::from(b.type_count()) + 1) as u32;
        let new = match (random.below(8), word) {
            // Another kind, another count, the flag.
            (0 | 1, 1) => old & !0x1f00_0000 | (random.below(21) as u32) << 24,
            (2, 1) => old & !0xffff | random.below(4) as u32,
            (3, 1) => old ^ 0x8000_0000,
            (0, 0) => b.add_str(NAMES[random.below(NAMES.len() as u64) as usize]),
            (0..=2, _) => other,
            (3, _) => *random.of(EDGES),
            (4, _) => old.wrapping_add(1),
            (5, _) => old.wrapping_sub(1),
            (6, _) => old ^ 1 << random.below(32),
            _ => b.word(other, random.below(6) as usize),
        };
        b.set_word(id, word, new);
    }
}

/// Names that some kinds take and others do not.
const NAMES: &[&str] = &[
    "", "a", "a b", "1a", "a-b", ".bss", ".", "a.b", "a.", "?x", "int", "\u{e9}", "a$", "_",
];

/// Damages the written blob: header, records, strings.
fn damage_bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = match random.below(3) {
        0 => random.below(HEADER_BYTES as u64) as usize,
        _ => random.below(bytes.len() as u64) as usize,
    };
    match random.below(6) {
        0 => bytes[at] = *random.of(&[0, 1, 0xff, b'.', b'a']),
        1 => bytes[at] ^= 1 << random.below(8),
        2 => {
            let word = at & !3;
            if let Some(place) = bytes.get_mut(word..word + 4) {
                place.copy_from_slice(&Order::HOST.u32_bytes(*random.of(EDGES)));
            }
        }
        3 => {
            let word = at & !3;
            let old = Order::HOST.u32_at(bytes, word);
            let new =
                old.wrapping_add(*random.of(&[1, 4, 12, u32::MAX, u32::MAX - 3, u32::MAX - 11]));
            if let Some(place) = bytes.get_mut(word..word + 4) {
                place.copy_from_slice(&Order::HOST.u32_bytes(new));
            }
        }
        4 => bytes.truncate(at),
        _ => bytes.push(random.below(2) as u8),
    }
}

/// Loads `count` blobs, each damaged.
pub fn damaged_types(user: &dyn Backend, kernel: &dyn Backend, count: u64, seed: u64) -> Report {
    let mut random = Random::new(seed);
    let mut report = Report::default();
    for _ in 0..count {
        let mut zoo = zoo(&mut random);
        let how = random.below(4);
        if how != 0 {
            damage_types(&mut zoo.builder, &mut random);
        }
        let mut bytes = zoo.builder.finish();
        if how == 0 {
            damage_bytes(&mut bytes, &mut random);
        }
        let answers = [user, kernel].map(|backend| {
            let loaded = backend.btf_load(&bytes);
            if let Ok(handle) = &loaded {
                backend.close(*handle);
            }
            errno(&loaded)
        });
        report.compare("types", answers, || hex(&bytes));
    }
    report
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Bytes of a record of a function, of a line.
const FUNC_INFO_BYTES: usize = 8;
const LINE_INFO_BYTES: usize = 16;

/// A program of two functions, with records of functions and lines that fit.
fn described(zoo: &Zoo, btf: Handle) -> ProgLoad {
    let text = "r1 = 0\nr2 = 0\ncall pc+1\nexit\nr0 = 1 ll\nr0 = 0\nexit";
    let insns = assemble_insns(text, &NoFacts).unwrap_or_default();
    let words = |rows: &[u32]| rows.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let [main, sub] = zoo.functions;
    let line = |at: u32, number: u32| [at, 1, 1, number << 10 | 1];
    let lines = [line(0, 1), line(2, 2), line(4, 3), line(6, 4)].concat();
    ProgLoad {
        btf: Some(btf),
        func_info: words(&[0, main, 4, sub]),
        func_info_rec_size: FUNC_INFO_BYTES as u32,
        line_info: words(&lines),
        line_info_rec_size: LINE_INFO_BYTES as u32,
        ..ProgLoad::plain(ProgType::SocketFilter, insns)
    }
}

/// Damages the records of functions or of lines.
fn damage_records(load: &mut ProgLoad, types: u32, random: &mut Random) {
    let of_functions = random.below(2) == 0;
    let (records, size, len) = if of_functions {
        let size = &mut load.func_info_rec_size;
        (&mut load.func_info, size, FUNC_INFO_BYTES)
    } else {
        let size = &mut load.line_info_rec_size;
        (&mut load.line_info, size, LINE_INFO_BYTES)
    };
    if records.len() < len {
        return;
    }
    let count = (records.len() / len) as u64;
    match random.below(8) {
        0 => *size = *random.of(&[0, 4, 8, 12, 16, 20, 24, 252, 256, 260]),
        1 => records.truncate(len * random.below(count) as usize),
        2 => {
            let last = records[records.len() - len..].to_vec();
            records.extend(last);
        }
        3 => {
            // Longer records, with or without something in what is not known.
            let extra = random.below(2) as u8;
            let longer = |r: &[u8]| [r, &[0, 0, 0, extra]].concat();
            *records = records.chunks(len).flat_map(longer).collect();
            *size = len as u32 + 4;
        }
        _ => {
            let word = random.below(records.len() as u64 / 4) as usize * 4;
            let old = Order::HOST.u32_at(records, word);
            let new = match random.below(5) {
                0 => *random.of(EDGES),
                1 => old.wrapping_add(1),
                2 => old.wrapping_sub(1),
                3 => random.below(u64::from(types) + 2) as u32,
                _ => random.below(9) as u32,
            };
            records[word..word + 4].copy_from_slice(&new.to_ne_bytes());
        }
    }
}

/// Loads `count` programs, each with damaged records.
pub fn damaged_records(user: &dyn Backend, kernel: &dyn Backend, count: u64, seed: u64) -> Report {
    let mut random = Random::new(seed);
    let mut report = Report::default();
    let zoo = zoo(&mut random);
    let bytes = zoo.builder.finish();
    let loaded = [user, kernel].map(|b| b.btf_load(&bytes));
    report.compare(
        "types of records",
        [errno(&loaded[0]), errno(&loaded[1])],
        || hex(&bytes),
    );
    if let [Ok(ours), Ok(theirs)] = loaded {
        let types = zoo.builder.type_count();
        for _ in 0..count {
            let mut load = described(&zoo, ours);
            for _ in 0..1 + random.below(2) {
                damage_records(&mut load, types, &mut random);
            }
            let answers = [(user, ours), (kernel, theirs)].map(|(backend, btf)| {
                load.btf = Some(btf);
                let loaded = backend.prog_load(&load);
                if let Ok(handle) = &loaded {
                    backend.close(*handle);
                }
                // Which of several faults is met first has no order that matters: a refusal is a refusal.
                errno(&loaded).map(|_| Errno::EINVAL)
            });
            report.compare("records", answers, || {
                let (f, l) = (&load.func_info, &load.line_info);
                let sizes = (load.func_info_rec_size, load.line_info_rec_size);
                format!("sizes {sizes:?} functions {} lines {}", hex(f), hex(l))
            });
        }
        user.close(ours);
        kernel.close(theirs);
    }
    report
}
