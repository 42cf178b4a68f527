//! BTF, `func_info` and `line_info` with one word changed: the answers of `BPF_BTF_LOAD` and `BPF_PROG_LOAD`, ours against the
//! kernel's.

use skep::Kernel;
use skep_abi::{Errno, ProgType};
use skep_bpf::{Backend, Handle, ProgLoad};
use skep_btf::build::Builder;
use skep_btf::raw::Info;
use skep_btf::{Btf, Int, Kind, Order};
use skep_isa::{Slot, opcode as op};
use skep_tests::need::{Need, met};
use skep_verifier::{FuncInfo, LineInfo, Request};

/// Values that a word takes: small ids, sizes, edges, and infos of other kinds.
const WORDS: &[u32] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    9,
    12,
    13,
    16,
    17,
    24,
    31,
    32,
    33,
    63,
    64,
    65,
    96,
    128,
    255,
    256,
    0xffff,
    0x1_0000,
    0xff_ffff,
    0x0100_0000,
    0x0100_0020,
    0x0100_0040,
    0x0100_0080,
    0x0400_0000,
    0x0400_0001,
    0x0200_0000,
    0x0300_0000,
    0x0500_0001,
    0x0700_0000,
    0x0800_0000,
    0x0a00_0000,
    0x0c00_0000,
    0x0c00_0001,
    0x0c00_0002,
    0x0d00_0001,
    0x0e00_0000,
    0x0f00_0001,
    0x1000_0000,
    0x1100_0000,
    0x1200_0000,
    0x1300_0001,
    0x1f00_0000,
    0x8400_0001,
    0x8000_0000,
    0x7fff_ffff,
    u32::MAX,
];

/// Ids of the sample that programs name.
struct Ids {
    main: u32,
    sub: u32,
}

/// BTF with a type of every kind.
fn sample() -> (Builder, Ids) {
    let mut b = Builder::new(Order::HOST);
    let int = b.add_int("int", 4, Int::SIGNED);
    let pointer = b.add_ref(Kind::Ptr, "", int);
    let array = b.add_array(int, int, 3);
    let pair = b.add_struct(
        "pair",
        24,
        &[("a", int, 0), ("b", pointer, 64), ("c", array, 96)],
    );
    let (x, y) = (b.add_str("x"), b.add_str("y"));
    b.add(
        "both",
        Info::new(Kind::Union, 2, false),
        24,
        &[x, pair, 0, y, int, 0],
    );
    b.add(
        "bits",
        Info::new(Kind::Struct, 2, true),
        4,
        &[x, int, 3 << 24, y, int, (5 << 24) | 3],
    );
    b.add("small", Info::new(Kind::Enum, 2, false), 4, &[x, 0, y, 1]);
    b.add("wide", Info::new(Kind::Enum64, 1, true), 8, &[x, 1, 0]);
    b.add("float", Info::new(Kind::Float, 0, false), 8, &[]);
    b.add("later", Info::new(Kind::Fwd, 0, false), 0, &[]);
    let named = b.add_ref(Kind::Typedef, "named", pair);
    let constant = b.add_ref(Kind::Const, "", named);
    b.add_ref(Kind::Volatile, "", constant);
    b.add_ref(Kind::Restrict, "", pointer);
    b.add_ref(Kind::TypeTag, "tag", int);
    let proto = b.add("", Info::new(Kind::FuncProto, 1, false), int, &[x, pointer]);
    let main = b.add("main", Info::new(Kind::Func, 1, false), proto, &[]);
    let sub = b.add("sub", Info::new(Kind::Func, 0, false), proto, &[]);
    b.add("decl", Info::new(Kind::DeclTag, 0, false), main, &[0]);
    let var = b.add("v", Info::new(Kind::Var, 0, false), int, &[1]);
    b.add(".data", Info::new(Kind::Datasec, 1, false), 4, &[var, 0, 4]);
    (b, Ids { main, sub })
}

/// The bytes with the word at `at` replaced.
fn changed(bytes: &[u8], at: usize, value: u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    bytes
}

fn our_errno(bytes: &[u8]) -> Option<Errno> {
    let parsed = Btf::parse(bytes);
    parsed.and_then(|b| b.validate()).err().map(|e| e.errno())
}

fn kernel_errno(kernel: &Kernel, bytes: &[u8]) -> Option<Errno> {
    match kernel.btf_load(bytes) {
        Ok(handle) => {
            kernel.close(handle);
            None
        }
        Err(e) => Some(e.errno),
    }
}

#[test]
fn btf_with_one_word_changed() {
    if !met(&[Need::Bpf]) {
        return;
    }
    let kernel = Kernel::new();
    let (builder, ids) = sample();
    let bytes = builder.finish();
    assert_eq!(
        (our_errno(&bytes), kernel_errno(&kernel, &bytes)),
        (None, None)
    );
    let mut wrong = Vec::new();
    for at in (0..bytes.len() / 4 * 4).step_by(4) {
        for &value in WORDS {
            let bytes = changed(&bytes, at, value);
            let (ours, theirs) = (our_errno(&bytes), kernel_errno(&kernel, &bytes));
            // The kernel takes a modifier or typedef of a function, unless a pointer leads to it first: we take none.
            let of_function = value == ids.main && theirs.is_none();
            if ours != theirs && !of_function {
                wrong.push(format!(
                    "word {at} = {value:#x}: ours {ours:?}, kernel {theirs:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

/// A program that calls a function, with debug information.
struct Program {
    insns: Vec<Slot>,
    funcs: Vec<[u32; 2]>,
    lines: Vec<[u32; 4]>,
}

impl Program {
    fn new(ids: &Ids, text: u32) -> Self {
        let zero = Slot::new(op::ALU64 | op::MOV, 0, 0, 0, 0);
        let exit = Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0);
        let wide = [Slot::new(op::LDDW, 2, 0, 0, 7), Slot::default()];
        let call = Slot::new(op::JMP | op::CALL, 0, op::PSEUDO_CALL, 0, 2);
        let line = |insn: u32| [insn, text, text, (insn + 1) << 10];
        Self {
            insns: [wide.as_slice(), &[call, zero, exit, zero, zero, exit]].concat(),
            funcs: vec![[0, ids.main], [5, ids.sub]],
            lines: [0, 2, 4, 5, 6].map(line).to_vec(),
        }
    }

    fn kernel_accepts(&self, kernel: &Kernel, btf: Handle) -> bool {
        let bytes = |words: Vec<u32>| words.into_iter().flat_map(u32::to_ne_bytes).collect();
        let spec = ProgLoad {
            name: "debug_info".to_owned(),
            btf: Some(btf),
            func_info: bytes(self.funcs.concat()),
            func_info_rec_size: 8,
            line_info: bytes(self.lines.concat()),
            line_info_rec_size: 16,
            ..ProgLoad::plain(ProgType::SocketFilter, self.insns.clone())
        };
        kernel.prog_load(&spec).map(|p| kernel.close(p)).is_ok()
    }

    fn we_accept(&self, btf: &Btf) -> bool {
        let funcs: Vec<FuncInfo> = self
            .funcs
            .iter()
            .map(|&[insn, type_id]| FuncInfo { insn, type_id })
            .collect();
        let line = |&[insn, file, text, line_col]: &[u32; 4]| LineInfo {
            insn,
            file,
            text,
            line_col,
        };
        let lines: Vec<LineInfo> = self.lines.iter().map(line).collect();
        let request = Request {
            btf: Some(btf),
            func_info: &funcs,
            line_info: &lines,
            ..Request::plain("debug_info", ProgType::SocketFilter, &self.insns)
        };
        skep_verifier::verify(&request).is_ok()
    }
}

#[test]
fn func_info_and_line_info_with_one_word_changed() {
    if !met(&[Need::Bpf]) {
        return;
    }
    let kernel = Kernel::new();
    let (mut builder, ids) = sample();
    let text = builder.add_str("text");
    let bytes = builder.finish();
    let (btf, handle) = (
        Btf::parse(bytes.clone()).unwrap(),
        kernel.btf_load(&bytes).unwrap(),
    );
    let original = Program::new(&ids, text);
    assert!(original.kernel_accepts(&kernel, handle) && original.we_accept(&btf));
    let mut wrong = Vec::new();
    let mut compare = |what: String, program: &Program| {
        let (ours, theirs) = (
            program.we_accept(&btf),
            program.kernel_accepts(&kernel, handle),
        );
        if ours != theirs {
            wrong.push(format!("{what}: ours {ours}, kernel {theirs}"));
        }
    };
    for &value in WORDS
        .iter()
        .chain(&[ids.main, ids.sub, text, text + 1, text + 5])
    {
        for (at, word) in (0..2).flat_map(|at| [0, 1].map(|word| (at, word))) {
            let mut program = Program::new(&ids, text);
            program.funcs[at][word] = value;
            compare(format!("func {at} word {word} = {value:#x}"), &program);
        }
        for (at, word) in (0..5).flat_map(|at| [0, 1, 2, 3].map(|word| (at, word))) {
            let mut program = Program::new(&ids, text);
            program.lines[at][word] = value;
            compare(format!("line {at} word {word} = {value:#x}"), &program);
        }
    }
    for left_out in 0..5 {
        let mut program = Program::new(&ids, text);
        program.lines.remove(left_out);
        compare(format!("line {left_out} left out"), &program);
    }
    for count in 0..2 {
        let mut program = Program::new(&ids, text);
        program.funcs.truncate(count);
        compare(format!("{count} functions"), &program);
        program.lines.clear();
        compare(format!("{count} functions and no lines"), &program);
    }
    kernel.close(handle);
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}
