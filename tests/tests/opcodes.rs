//! Every opcode with every pair of registers: interpreter, templates, optimised code and kernel leave the same memory.
//!
//! A program takes one pair of registers through all opcodes of a kind. Its memory begins with the operands, so that no engine
//! knows them; each opcode writes what it gave behind them.

use skep::Kernel;
use skep_abi::{MapType, ProgType};
use skep_bpf::{Backend, Handle, MapCreate, ProgLoad, TestRun};
use skep_isa::{Slot, opcode as op};
use skep_tests::need::{Need, met};
use skep_verifier::Verified;
use skep_vm::test_run::run_memory;
use skep_vm::{Engine, Program, ProgramOptions, Tiers};

/// Bytes of memory.
const MEMORY: usize = 8192;
/// Operands: two words, and one that atomics change. Results follow them.
const A: i16 = 0;
const B: i16 = 8;
const CHANGED: i16 = 16;
const RESULTS: i16 = 32;
/// An unoptimised compiler takes long: there one program in so many, which still meets every register.
const STEP: usize = if cfg!(debug_assertions) { 7 } else { 1 };
/// Registers that instructions may write.
const REGISTERS: u8 = 10;

/// What the operands are.
#[rustfmt::skip] // one run a line
const OPERANDS: &[[u64; 3]] = &[
    [0, 0, 0],
    [7, 3, 7],
    [u64::MAX, 1, u64::MAX],
    [0x8000_0000_0000_0000, u64::MAX, 0x8000_0000],
    [0x1234_5678_8000_0000, 0xffff_ffff_8000_0000, 0x1234_5678_8000_0000],
    [0xfedc_ba98_7654_3210, 0x0000_0001_0000_003f, 0xfedc_ba98_7654_3210],
];
/// Immediates.
#[rustfmt::skip]
const IMMEDIATES: &[i32] = &[0, 1, -1, 2, 7, 8, 31, 32, 63, 127, 128, 255, 256, 0xffff, i32::MAX, i32::MIN, 0x1234_5678];

/// Two-operand arithmetic: code and offset.
#[rustfmt::skip]
const ARITHMETIC: &[(u8, i16)] = &[
    (op::ADD, 0), (op::SUB, 0), (op::MUL, 0), (op::DIV, 0), (op::DIV, 1), (op::OR, 0), (op::AND, 0), (op::LSH, 0),
    (op::RSH, 0), (op::MOD, 0), (op::MOD, 1), (op::XOR, 0), (op::MOV, 0), (op::ARSH, 0),
];
#[rustfmt::skip]
const COMPARISONS: &[u8] = &[
    op::JEQ, op::JNE, op::JGT, op::JGE, op::JLT, op::JLE, op::JSET, op::JSGT, op::JSGE, op::JSLT, op::JSLE,
];
const SIZES: &[u8] = &[op::B, op::H, op::W, op::DW];
#[rustfmt::skip]
const ATOMICS: &[i32] = &[
    op::ADD as i32, op::OR as i32, op::AND as i32, op::XOR as i32,
    op::ADD as i32 | op::FETCH, op::OR as i32 | op::FETCH, op::AND as i32 | op::FETCH, op::XOR as i32 | op::FETCH,
    op::XCHG, op::CMPXCHG,
];

/// A program under construction.
struct Maker {
    out: Vec<Slot>,
    /// Where the memory is.
    memory: u8,
    /// Where the next result goes.
    next: i16,
}

impl Maker {
    /// A program that uses registers `a` and `b`.
    fn new(a: u8, b: u8) -> Self {
        let memory = (1..REGISTERS).rev().find(|r| *r != a && *r != b).unwrap();
        Self {
            out: vec![Slot::new(op::ALU64 | op::MOV | op::X, memory, 1, 0, 0)],
            memory,
            next: RESULTS,
        }
    }

    fn push(&mut self, code: u8, dst: u8, src: u8, offset: i16, imm: i32) {
        self.out.push(Slot::new(code, dst, src, offset, imm));
    }

    fn load(&mut self, dst: u8, offset: i16) {
        self.push(op::LDX | op::MEM | op::DW, dst, self.memory, offset, 0);
    }

    fn store(&mut self, src: u8, offset: i16) {
        self.push(op::STX | op::MEM | op::DW, self.memory, src, offset, 0);
    }

    /// `dst` and `src` get the operands.
    fn operands(&mut self, dst: u8, src: u8) {
        self.load(dst, A);
        if src != dst {
            self.load(src, B);
        }
    }

    /// The place of the next result.
    fn place(&mut self) -> i16 {
        self.next += 8;
        self.next - 8
    }

    fn result(&mut self, src: u8) {
        let at = self.place();
        self.store(src, at);
    }

    fn finish(mut self) -> Vec<Slot> {
        self.push(op::ALU64 | op::MOV, 0, 0, 0, 0);
        self.push(op::JMP | op::EXIT, 0, 0, 0, 0);
        assert!(usize::try_from(self.next).is_ok_and(|n| n <= MEMORY));
        self.out
    }
}

/// Arithmetic and jumps on two registers.
fn registers(dst: u8, src: u8) -> Vec<Slot> {
    let mut m = Maker::new(dst, src);
    for class in [op::ALU, op::ALU64] {
        let extended = [8, 16, 32].map(|bits| (op::MOV, bits));
        let extended = &extended[..if class == op::ALU { 2 } else { 3 }];
        for &(code, offset) in ARITHMETIC.iter().chain(extended) {
            m.operands(dst, src);
            m.push(class | code | op::X, dst, src, offset, 0);
            m.result(dst);
        }
    }
    for class in [op::JMP, op::JMP32] {
        for &code in COMPARISONS {
            let at = m.place();
            m.operands(dst, src);
            m.push(class | code | op::X, dst, src, 1, 0);
            m.push(op::ST | op::MEM | op::DW, m.memory, 0, at, 1);
        }
    }
    m.finish()
}

/// Arithmetic and jumps on a register and an immediate, and on a register alone.
fn immediates(dst: u8, imm: i32) -> Vec<Slot> {
    let mut m = Maker::new(dst, dst);
    for class in [op::ALU, op::ALU64] {
        let bits = if class == op::ALU { 32 } else { 64 };
        for &(code, offset) in ARITHMETIC {
            let is_shift = matches!(code, op::LSH | op::RSH | op::ARSH);
            let divides = matches!(code, op::DIV | op::MOD);
            if is_shift && !(0..bits).contains(&imm) || divides && imm == 0 {
                continue;
            }
            m.load(dst, A);
            m.push(class | code, dst, 0, offset, imm);
            m.result(dst);
        }
        m.load(dst, A);
        m.push(class | op::NEG, dst, 0, 0, 0);
        m.result(dst);
    }
    for order in [
        op::ALU | op::END,
        op::ALU | op::END | op::X,
        op::ALU64 | op::END,
    ] {
        for bits in [16, 32, 64] {
            m.load(dst, A);
            m.push(order, dst, 0, 0, bits);
            m.result(dst);
        }
    }
    m.push(op::LDDW, dst, 0, 0, imm);
    m.push(0, 0, 0, 0, !imm);
    m.result(dst);
    for class in [op::JMP, op::JMP32] {
        for &code in COMPARISONS {
            let at = m.place();
            m.load(dst, A);
            m.push(class | code, dst, 0, 1, imm);
            m.push(op::ST | op::MEM | op::DW, m.memory, 0, at, 1);
        }
    }
    for &size in SIZES {
        let at = m.place();
        m.push(op::ALU64 | op::MOV | op::X, dst, m.memory, 0, 0);
        m.push(op::ST | op::MEM | size, dst, 0, at, imm);
    }
    m.finish()
}

/// Loads to `reg` and stores of it through `base`.
fn accesses(base: u8, reg: u8) -> Vec<Slot> {
    let mut m = Maker::new(base, reg);
    for mode in [op::MEM, op::MEMSX] {
        for &size in SIZES {
            if mode == op::MEMSX && size == op::DW {
                continue;
            }
            for offset in [A, B, A + 1, B + 3] {
                m.push(op::ALU64 | op::MOV | op::X, base, m.memory, 0, 0);
                m.push(op::LDX | mode | size, reg, base, offset, 0);
                m.result(reg);
            }
        }
    }
    for &size in SIZES {
        m.push(op::ALU64 | op::MOV | op::X, base, m.memory, 0, 0);
        m.push(op::STX | op::ATOMIC | size, reg, base, B, op::LOAD_ACQ);
        m.result(reg);
        if reg == base {
            continue;
        }
        for release in [false, true] {
            let at = m.place();
            m.push(op::ALU64 | op::MOV | op::X, base, m.memory, 0, 0);
            m.load(reg, A);
            if release {
                m.push(op::STX | op::ATOMIC | size, base, reg, at, op::STORE_REL);
            } else {
                m.push(op::STX | op::MEM | size, base, reg, at, 0);
            }
        }
    }
    m.finish()
}

/// Atomic operations with `src` on memory that `base` points to.
fn atomics(base: u8, src: u8) -> Vec<Slot> {
    let mut m = Maker::new(base, src);
    for size in [op::W, op::DW] {
        for &imm in ATOMICS {
            let compares = imm == op::CMPXCHG;
            if base == src || compares && (base == 0 || m.memory == 0) {
                continue;
            }
            let at = m.place();
            m.load(src, CHANGED);
            m.store(src, at);
            m.push(op::ALU64 | op::MOV | op::X, base, m.memory, 0, 0);
            m.load(src, B);
            if compares {
                m.load(0, A);
            }
            m.push(op::STX | op::ATOMIC | size, base, src, at, imm);
            m.result(src);
            if compares {
                m.result(0);
            }
        }
    }
    m.finish()
}

fn programs() -> Vec<Vec<Slot>> {
    let pairs = || (0..REGISTERS).flat_map(|a| (0..REGISTERS).map(move |b| (a, b)));
    let by_pair = [registers, accesses, atomics];
    let by_pair = by_pair
        .iter()
        .flat_map(|make| pairs().map(|(a, b)| make(a, b)));
    let by_imm = (0..REGISTERS).flat_map(|r| IMMEDIATES.iter().map(move |imm| immediates(r, *imm)));
    by_pair.chain(by_imm).collect()
}

/// Memory with operands.
fn memory(operands: &[u64; 3]) -> Vec<u8> {
    let mut memory: Vec<u8> = operands.iter().flat_map(|w| w.to_le_bytes()).collect();
    memory.resize(MEMORY, 0);
    memory
}

/// What an engine leaves of each memory.
fn ours(verified: &Verified, engine: Engine, tiers: Tiers) -> Vec<Vec<u8>> {
    let mut options = ProgramOptions::from(engine);
    options.code.tiers = tiers;
    let program = Program::new(verified, Vec::new(), options).unwrap();
    let run = |operands| {
        let mut memory = memory(operands);
        run_memory(&program, &mut memory).unwrap();
        memory
    };
    OPERANDS.iter().map(run).collect()
}

/// What the kernel leaves, where memory is the value of a map.
fn kernels(kernel: &Kernel, map: Handle, insns: &[Slot]) -> Vec<Vec<u8>> {
    let mut all = vec![
        Slot::new(op::LDDW, 1, op::PSEUDO_MAP_VALUE, 0, map.0),
        Slot::new(0, 0, 0, 0, 0),
    ];
    all.extend_from_slice(insns);
    let spec = ProgLoad {
        name: "opcodes".to_owned(),
        ..ProgLoad::plain(ProgType::SocketFilter, all)
    };
    let program = kernel.prog_load(&spec).unwrap();
    let run = |operands| {
        let mut memory = memory(operands);
        kernel.map_update(map, &[0; 4], &memory, 0).unwrap();
        let run = TestRun {
            data_in: Some(vec![0; 64]),
            ..TestRun::default()
        };
        kernel.prog_test_run(program, &run).unwrap();
        kernel.map_lookup(map, &[0; 4], &mut memory, 0).unwrap();
        memory
    };
    let found = OPERANDS.iter().map(run).collect();
    kernel.close(program);
    found
}

/// The first result that differs, with the instructions that make it.
fn report(insns: &[Slot], expected: &[Vec<u8>], found: &[Vec<u8>]) -> String {
    let pairs = expected.iter().zip(found).zip(OPERANDS);
    for ((expected, found), operands) in pairs {
        let words = expected.chunks(8).zip(found.chunks(8));
        if let Some(at) = words.into_iter().position(|(a, b)| a != b) {
            return format!("{operands:x?}, word at {}:\n{}", at * 8, text(insns));
        }
    }
    "nothing".to_owned()
}

fn text(insns: &[Slot]) -> String {
    let line = |at| {
        skep_isa::decode(insns, at)
            .ok()
            .map(|i| format!("{at}: {i}"))
    };
    (0..insns.len())
        .filter_map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn every_opcode_with_every_register() {
    let kernel = met(&[Need::Bpf]).then(Kernel::new);
    let map = kernel.as_ref().map(|kernel| {
        let spec = MapCreate::new(MapType::Array, 4, MEMORY as u32, 1);
        kernel.map_create(&spec).unwrap()
    });
    for insns in programs().into_iter().step_by(STEP) {
        let verified = skep_verifier::verify_memory(&insns, "opcodes", MEMORY as u32).unwrap();
        let expected = ours(&verified, Engine::Interp, Tiers::Adaptive);
        for tiers in [Tiers::Templates, Tiers::Optimised] {
            let found = ours(&verified, Engine::Jit, tiers);
            assert!(
                found == expected,
                "{tiers:?}: {}",
                report(&insns, &expected, &found)
            );
        }
        if let (Some(kernel), Some(map)) = (&kernel, map) {
            let found = kernels(kernel, map, &insns);
            assert!(
                found == expected,
                "kernel: {}",
                report(&insns, &expected, &found)
            );
        }
    }
}
