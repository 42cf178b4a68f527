//! The fuzz targets, each for a moment, on inputs that a fixed seed makes.

use skep_tests::random::Random;
use skep_tests::{fuzz, fuzz_maps, source_files, workspace_root};
use std::time::{Duration, Instant};

/// How long each target runs.
const MOMENT: Duration = Duration::from_secs(1);
/// Bytes of an input at most.
const INPUT_BYTES_MAX: u64 = 512;

/// Calls `target` with inputs from `make` until the moment is over.
fn run(mut make: impl FnMut(&mut Random) -> Vec<u8>, target: fn(&[u8])) {
    let mut random = Random::new(1);
    let start = Instant::now();
    while start.elapsed() < MOMENT {
        target(&make(&mut random));
    }
}

/// Slots whose fields are mostly such as occur: small, or near an edge.
fn slots(random: &mut Random) -> Vec<u8> {
    const OFFSETS: &[u16] = &[0, 0, 0, 1, 8, 16, 32, 0xffff, 0x7fff, 0x8000];
    const IMMS: &[u32] = &[
        0,
        0,
        0,
        1,
        16,
        32,
        64,
        0x41,
        0xa1,
        0xe1,
        0xf1,
        0x100,
        0x110,
        u32::MAX,
    ];
    let mut bytes = Vec::new();
    for _ in 0..random.below(INPUT_BYTES_MAX / 8) {
        let word = random.next_u64();
        let regs = [word as u8, word as u8 & 0x0f, 0, 0xa1][random.below(4) as usize];
        bytes.extend([(word >> 8) as u8, regs]);
        bytes.extend(random.of(OFFSETS).to_le_bytes());
        bytes.extend(random.of(IMMS).to_le_bytes());
    }
    bytes
}

/// Changes a few bytes.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() as u64) as usize;
        match random.below(3) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.next_u64() as u8),
            _ if at < bytes.len() => bytes[at] = random.next_u64() as u8,
            _ => {}
        }
    }
}

#[test]
fn decode() {
    run(slots, fuzz::decode);
}

/// A slot of the usual kinds: most decode, so that walks get somewhere.
fn usual_slot(random: &mut Random) -> [u8; 8] {
    const CODES: &[u8] = &[
        0xb7, 0xbf, 0x07, 0x0f, 0x57, 0x67, 0xb4, 0xbc, 0x61, 0x79, 0x71, 0x63, 0x7b, 0x7a, 0x15,
        0x1d, 0x25, 0x2d, 0x65, 0x05, 0x85, 0x95, 0xdb, 0xe5, 0xc7, 0x18, 0x00,
    ];
    let word = random.next_u64();
    let registers = ((word % 11) as u8) | (((word >> 8) % 11) as u8) << 4;
    let offset = ((word >> 16) % 24) as i16 - 16;
    let imm = ((word >> 32) % 40) as i32 - 8;
    let mut slot = [0; 8];
    (slot[0], slot[1]) = (random.of(CODES).to_owned(), registers);
    slot[2..4].copy_from_slice(&offset.to_le_bytes());
    slot[4..].copy_from_slice(&imm.to_le_bytes());
    slot
}

#[test]
fn verify() {
    let make = |random: &mut Random| {
        let mut bytes = vec![random.next_u64() as u8];
        if random.below(4) == 0 {
            bytes.extend(slots(random));
        } else {
            for _ in 0..random.below(INPUT_BYTES_MAX / 8) {
                bytes.extend(usual_slot(random));
            }
            bytes.extend([0x95, 0, 0, 0, 0, 0, 0, 0]);
        }
        bytes
    };
    run(make, fuzz::verify);
}

#[test]
fn disasm() {
    let object = include_str!("../cases/isa/calls.s");
    let assembly = skep_isa::asm::assemble(object, &Default::default()).unwrap();
    let object = skep_object::write::write(&assembly).unwrap();
    let make = |random: &mut Random| {
        if random.below(2) == 0 {
            return slots(random);
        }
        let mut object = object.clone();
        damage(random, &mut object);
        object
    };
    run(make, fuzz::disasm);
}

#[test]
fn asm() {
    let files = source_files(&workspace_root().join("tests/cases"), &["s"]);
    let texts = files
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap());
    let lines: Vec<String> = texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| !line.starts_with(';'))
        .chain(DIRECTIVES.iter().map(|line| (*line).to_owned()))
        .collect();
    let make = |random: &mut Random| {
        let mut text = Vec::new();
        for _ in 0..random.below(12) {
            text.extend(random.of(&lines).bytes());
            text.push(b'\n');
        }
        damage(random, &mut text);
        text
    };
    run(make, fuzz::asm);
}

/// The example objects.
fn objects() -> Vec<Vec<u8>> {
    let files = source_files(&workspace_root().join("examples"), &["o"]);
    files.iter().map(|f| std::fs::read(f).unwrap()).collect()
}

#[test]
fn combine() {
    let folder = workspace_root().join("tests/objects/linked");
    let files = source_files(&folder, &["o"]);
    let files: Vec<_> = files.iter().map(|f| std::fs::read(f).unwrap()).collect();
    let make = |random: &mut Random| {
        let [mut first, mut second] = [(), ()].map(|()| random.of(&files).clone());
        let is_first = random.below(2) == 0;
        damage(random, if is_first { &mut first } else { &mut second });
        let length = first.len() as u32;
        [&length.to_le_bytes()[..], &first, &second].concat()
    };
    run(make, fuzz::combine);
}

#[test]
fn object() {
    let objects = objects();
    let make = |random: &mut Random| {
        let mut object = random.of(&objects).clone();
        damage(random, &mut object);
        object
    };
    run(make, fuzz::object);
}

/// Pieces of arguments, joined at random.
const PLACES: &[&str] = &[
    "8",
    "-4",
    "1",
    "@",
    "%rax",
    "%edi",
    "$",
    "5",
    "-",
    "0x",
    "(",
    ")",
    ",",
    "16",
    " ",
    "%rip",
    "4@%r8d",
    "8@-24(%rbp)",
    "8@(%rax,%rcx,8)",
    "9223372036854775808",
    "[",
    "]",
    "x0",
    "sp",
];

#[test]
fn usdt() {
    let make = |random: &mut Random| {
        let mut notes = Vec::new();
        for _ in 0..random.below(4) {
            let pieces = (0..random.below(12)).map(|_| *random.of(PLACES));
            notes.extend(skep_tests::usdt::note(&pieces.collect::<String>()));
        }
        damage(random, &mut notes);
        skep_tests::usdt::program(&notes)
    };
    run(make, fuzz::usdt);
    let own = skep_tests::usdt::program(&skep_tests::usdt::note("8@%rax -4@$7"));
    let found = skep::attach::usdt_probes(&own).unwrap();
    assert_eq!((found.len(), found[0].provider.as_str()), (1, "skep"));
}

#[test]
fn btf() {
    let sections = objects().into_iter().flat_map(|object| {
        let image = skep_object::image::Image::parse(&object).unwrap();
        let sections = image.sections.iter();
        let btf = sections.filter(|s| s.name.starts_with(".BTF"));
        btf.map(|s| s.data.to_vec()).collect::<Vec<_>>()
    });
    let sections: Vec<Vec<u8>> = sections.collect();
    let make = |random: &mut Random| {
        let mut section = random.of(&sections).clone();
        damage(random, &mut section);
        section
    };
    run(make, fuzz::btf);
}

/// Words of filters, joined at random.
const WORDS: &[&str] = &[
    "tcp",
    "udp",
    "ip",
    "ip6",
    "host",
    "10.0.0.1",
    "port",
    "80",
    "443",
    "and",
    "or",
    "not",
    "(",
    ")",
    "net",
    "/8",
    "vlan",
    "mpls",
    "geneve",
    "pppoes",
    "len",
    ">",
    "=",
    "<",
    "[",
    "]",
    ":",
    "2",
    "0",
    "+",
    "-",
    "*",
    "/",
    "%",
    "&",
    "|",
    "^",
    "<<",
    ">>",
    "src",
    "dst",
    "portrange",
    "1-9",
    "proto",
    "protochain",
    "ether",
    "0:1:2:3:4:5",
    "::1",
    "type",
    "mgt",
    "tcpflags",
    "tcp-syn",
    "broadcast",
    "multicast",
    "less",
    "greater",
    "llc",
    "4294967295",
    "wlan",
    "radio",
    "1.2",
    "dir",
    "\\tcp",
];

#[test]
fn filter() {
    let make = |random: &mut Random| {
        let mut input = vec![random.next_u64() as u8];
        for _ in 0..random.below(12) {
            input.extend(random.of(WORDS).bytes());
            input.push(b' ');
        }
        if random.below(4) == 0 {
            damage(random, &mut input);
        }
        input.push(0);
        input.extend((0..random.below(80)).map(|_| random.next_u64() as u8 & 0x5d));
        input
    };
    run(make, fuzz::filter);
}

#[test]
fn classic() {
    let codes: Vec<u8> = skep_cbpf::insn::OPCODES.iter().map(|(c, _)| *c).collect();
    let make = |random: &mut Random| {
        let mut bytes = Vec::new();
        for _ in 0..1 + random.below(12) {
            let word = random.next_u64();
            let k = [(word >> 32) as u32 % 40, (word >> 32) as u32][random.below(8) as usize / 7];
            bytes.extend([*random.of(&codes), 0, word as u8 % 4, (word >> 8) as u8 % 4]);
            bytes.extend(k.to_le_bytes());
        }
        for ret in [0u8, 9] {
            bytes.extend([0x06, 0, 0, 0, ret, 0, 0, 0]);
        }
        bytes
    };
    run(make, fuzz::classic);
}

#[test]
fn capture() {
    let mut classic = Vec::new();
    let mut writer = skep_net::write::Writer::new(&mut classic, 1, 262_144);
    for length in [0, 7, 60] {
        let record = skep_net::capture::Record {
            time_ns: 1_700_000_000_123_456_789,
            wire_len: 99,
            data: &[5; 60][..length],
            link: 1,
            raw: None,
        };
        writer.write(&record).unwrap();
    }
    writer.finish().unwrap();
    let block = |kind: u32, body: &[u8]| {
        let length = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &length, body, &length].concat()
    };
    let next = [
        block(
            0x0a0d_0d0a,
            &[
                0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255,
            ],
        ),
        block(1, &[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0]),
        block(
            6,
            &[[0; 12].as_slice(), &[3, 0, 0, 0, 9, 0, 0, 0, 1, 2, 3, 0]].concat(),
        ),
        block(3, &[4, 0, 0, 0, 1, 2, 3, 4]),
    ]
    .concat();
    let make = |random: &mut Random| {
        let mut file = [&classic, &next][random.below(2) as usize].clone();
        damage(random, &mut file);
        file
    };
    run(make, fuzz::capture);
}

/// Lines that no case has.
const DIRECTIVES: &[&str] = &[
    ".section xdp",
    ".section .data,\"aw\",@progbits",
    ".text",
    ".globl prog",
    "prog:",
    "1:",
    "goto 1b",
    "goto 1f",
    "call prog",
    "r1 = prog+8 ll",
    ".long prog, 1f-1b, 'x",
    ".quad .-prog, 0xffffffffffffffff",
    ".size prog, .-prog",
    ".type prog,@function",
    ".p2align 3, 0x0",
    ".zero 24, 7",
    ".asciz \"a\\tb\\001\\x41\"",
    ".map counts type=2 key_size=4 value_size=8 max_entries=1",
    "r1 = counts ll",
    ".comm shared, 16, 8",
    ".pushsection .rodata",
    ".popsection",
    "t.o:\tfile format elf64-bpf",
    "Disassembly of section tc:",
    "0000000000000000 <main>:",
    "       0:\tb7 00 00 00 02 00 00 00\tr0 = 0x2",
    "\t\t0000000000000000:  R_BPF_64_32\tmain",
];

#[test]
fn corrupted_maps() {
    let make = |random: &mut Random| {
        let len = random.below(INPUT_BYTES_MAX);
        (0..len).map(|_| random.next_u64() as u8).collect()
    };
    run(make, fuzz_maps::corrupted_map);
}

#[test]
fn profile() {
    const FACTS: &str = "release 6.12.1\nversion 396289\nmap arena yes\nrule may_goto no\n\
        prog xdp - no - yes helpers=1-3,44 kfuncs=bpf_xdp_metadata_rx_hash\n";
    let make = |random: &mut Random| {
        let mut bytes = FACTS.as_bytes().to_vec();
        if random.below(2) == 0 {
            let parts = skep_profile::Parts {
                facts: skep_profile::pack(&bytes).unwrap(),
                ..Default::default()
            };
            bytes = parts.to_file();
        }
        damage(random, &mut bytes);
        bytes
    };
    run(make, fuzz::profile);
}

#[test]
fn debug() {
    let object = workspace_root().join("tests/diagnose/debug/locals.bpf.o");
    let object = std::fs::read(object).unwrap();
    let make = |random: &mut Random| {
        let mut object = object.clone();
        for _ in 0..random.below(8) {
            let at = random.below(object.len() as u64) as usize;
            object[at] = random.next_u64() as u8;
        }
        object
    };
    run(make, fuzz::debug);
}
