//! Programs of unusual shape come to the kernel's results in every engine: very long ones, deep and many functions, chains of
//! tail calls, loops of nothing, edges of arithmetic.

use skep::Kernel;
use skep_abi::{MapType, ProgType};
use skep_bpf::{Backend, Handle, MapCreate, ProgLoad, TestRun};
use skep_btf::build::Builder;
use skep_btf::raw::Info;
use skep_btf::{Int, Kind, Order};
use skep_isa::{Slot, opcode as op};
use skep_tests::need::{Need, met};
use skep_user::{Options, Universe};
use skep_vm::{Engine, Tiers};

const EXIT: Slot = Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0);
const TAIL_CALL: i32 = 12;
/// Offset of `cb[0]` in `struct __sk_buff`.
const CB: i16 = 48;
/// Functions that may be active at once, and stack they may have together.
const FRAMES: usize = 8;
const STACK_BYTES: i16 = 512;
/// What a map operand names before the map is known.
const ARRAY: i32 = 0;

/// A program: its instructions, and where its functions start.
type Program = (Vec<Slot>, Vec<usize>);

const fn mov_imm(dst: u8, imm: i32) -> Slot {
    Slot::new(op::ALU64 | op::MOV, dst, 0, 0, imm)
}

const fn mov(dst: u8, src: u8) -> Slot {
    Slot::new(op::ALU64 | op::MOV | op::X, dst, src, 0, 0)
}

const fn alu(code: u8, dst: u8, imm: i32) -> Slot {
    Slot::new(op::ALU64 | code, dst, 0, 0, imm)
}

const fn alu_reg(code: u8, dst: u8, src: u8) -> Slot {
    Slot::new(op::ALU64 | code | op::X, dst, src, 0, 0)
}

const fn store(src: u8, at: i16) -> Slot {
    Slot::new(op::STX | op::MEM | op::DW, 10, src, at, 0)
}

const fn load(dst: u8, at: i16) -> Slot {
    Slot::new(op::LDX | op::MEM | op::DW, dst, 10, at, 0)
}

/// A program of `functions`, of whose calls `imm` is the index of the function called.
fn linked(functions: &[Vec<Slot>]) -> Program {
    let mut starts = vec![0];
    for f in functions {
        starts.push(starts[starts.len() - 1] + f.len());
    }
    let mut slots = functions.concat();
    for (at, slot) in slots.iter_mut().enumerate() {
        if slot.code == op::JMP | op::CALL && slot.src() == op::PSEUDO_CALL {
            slot.imm = (starts[slot.imm as usize] as i64 - at as i64 - 1) as i32;
        }
    }
    starts.pop();
    (slots, starts)
}

/// A program of one function.
fn single(slots: Vec<Slot>) -> Program {
    (slots, vec![0])
}

const fn call(function: i32) -> Slot {
    Slot::new(op::JMP | op::CALL, 0, op::PSEUDO_CALL, 0, function)
}

/// `length` instructions in a line.
fn straight(length: usize) -> Vec<Slot> {
    let mut slots = vec![mov_imm(0, 1), mov_imm(1, 7)];
    for i in 0..length as i32 {
        slots.push(match i % 7 {
            0 => alu(op::MUL, 0, 31),
            1 => alu_reg(op::ADD, 0, 1),
            2 => alu(op::XOR, 1, i),
            3 => Slot::new(op::ALU | op::ADD | op::X, 1, 0, 0, 0),
            4 => alu(op::ARSH, 1, 3),
            5 => alu_reg(op::XOR, 0, 1),
            _ => Slot::new(op::ALU | op::MOD, 1, 0, 0, i | 1),
        });
    }
    slots.push(EXIT);
    slots
}

/// `branches` branches on bits of a number that nobody knows, behind each other.
fn branches(branches: usize) -> Vec<Slot> {
    let mut slots = vec![
        Slot::new(op::LDX | op::MEM | op::W, 6, 1, 0, 0),
        mov_imm(0, 0),
        store(6, -8),
    ];
    for i in 0..branches as i32 {
        slots.extend([
            Slot::new(op::LDX | op::MEM | op::W, 6, 1, 0, 0),
            Slot::new(op::JMP | op::JSET, 6, 0, 2, 1 << (i % 31)),
            alu(op::ADD, 0, i),
            Slot::new(op::JMP | op::JA, 0, 0, 1, 0),
            alu(op::XOR, 0, i << 3),
            Slot::new(op::ALU | op::AND, 0, 0, 0, 0xff),
            // The sum goes to the stack, so that the ways are the same again for the verifier.
            Slot::new(op::STX | op::ATOMIC | op::DW, 10, 0, -8, i32::from(op::ADD)),
            mov_imm(0, i),
        ]);
    }
    slots.extend([load(0, -8), EXIT]);
    slots
}

/// A function that calls a function that calls …, all with as much stack as is left; each uses the stack of its caller.
fn deep() -> Program {
    let bytes = STACK_BYTES / FRAMES as i16;
    let mut functions = Vec::new();
    for i in 0..FRAMES {
        let mut f = vec![mov(6, 1), mov_imm(7, i as i32 + 3), mov_imm(0, i as i32)];
        if i > 0 {
            // The caller's lowest word.
            f.extend([
                Slot::new(op::LDX | op::MEM | op::DW, 0, 6, 0, 0),
                alu(op::MUL, 0, 3),
            ]);
        }
        f.extend([alu(op::ADD, 0, 1), store(0, -bytes), store(7, -8)]);
        if i + 1 < FRAMES {
            f.extend([
                mov(1, 10),
                alu(op::ADD, 1, -i32::from(bytes)),
                call(i as i32 + 1),
            ]);
        }
        f.extend([
            load(1, -8),
            alu_reg(op::ADD, 0, 1),
            load(1, -bytes),
            alu_reg(op::XOR, 0, 1),
            EXIT,
        ]);
        functions.push(f);
    }
    linked(&functions)
}

/// `count` functions, called one after the other by the first.
fn many(count: i32) -> Program {
    let mut entry = vec![mov_imm(6, 1)];
    for i in 1..=count {
        entry.extend([mov(1, 6), call(i), mov(6, 0)]);
    }
    entry.extend([mov(0, 6), EXIT]);
    let mut functions = vec![entry];
    for i in 1..=count {
        functions.push(vec![
            mov(0, 1),
            alu(op::MUL, 0, 2 * i + 1),
            alu(op::ADD, 0, i),
            alu(op::AND, 0, 0xff_ffff),
            EXIT,
        ]);
    }
    linked(&functions)
}

/// Counts its runs in `cb[0]` and calls itself through the array.
fn tail_calls(in_function: bool) -> Program {
    let jump = [
        Slot::new(op::LDDW, 2, op::PSEUDO_MAP_FD, 0, ARRAY),
        Slot::new(0, 0, 0, 0, 0),
        mov_imm(3, 0),
        Slot::new(op::JMP | op::CALL, 0, 0, 0, TAIL_CALL),
    ];
    let count = [
        mov(6, 1),
        Slot::new(op::LDX | op::MEM | op::W, 2, 6, CB, 0),
        alu(op::ADD, 2, 1),
        Slot::new(op::STX | op::MEM | op::W, 6, 2, CB, 0),
        mov(1, 6),
    ];
    let end = [Slot::new(op::LDX | op::MEM | op::W, 0, 6, CB, 0), EXIT];
    if !in_function {
        return single([&count[..], &jump, &end].concat());
    }
    // Twice, so that one function comes back and calls again.
    let main = [&count[..], &[call(1), mov(1, 6), call(1)], &end].concat();
    let function = [&jump[..], &[mov_imm(0, 5), EXIT]].concat();
    linked(&[main, function])
}

/// Loops that do nothing, bounded by `may_goto` alone.
fn loops_of_nothing() -> Vec<Slot> {
    vec![
        mov_imm(0, 3),
        // On the spot.
        Slot::new(op::JMP | op::JCOND, 0, 0, 0, 0),
        // There and back.
        Slot::new(op::JMP | op::JCOND, 0, 0, 1, 0),
        Slot::new(op::JMP | op::JA, 0, 0, -2, 0),
        // Backwards: goes on once the budget is spent.
        Slot::new(op::JMP | op::JCOND, 0, 0, 1, 0),
        Slot::new(op::JMP32 | op::JA, 0, 0, 0, -2),
        alu(op::ADD, 0, 1),
        EXIT,
    ]
}

/// Every division of edges by edges, signed and unsigned, of both widths.
fn divisions() -> Vec<Slot> {
    let edges: [i64; 9] = [
        0,
        1,
        -1,
        2,
        -2,
        i32::MIN as i64,
        i32::MAX as i64,
        i64::MIN,
        i64::MAX,
    ];
    let wide = |dst: u8, v: i64| {
        [
            Slot::new(op::LDDW, dst, 0, 0, v as i32),
            Slot::new(0, 0, 0, 0, (v >> 32) as i32),
        ]
    };
    let mut slots = vec![mov_imm(0, 0)];
    for a in edges {
        for b in edges {
            for class in [op::ALU, op::ALU64] {
                for code in [op::DIV, op::MOD] {
                    for signed in [0, 1] {
                        slots.extend(wide(1, a));
                        slots.extend(wide(2, b));
                        slots.extend([
                            Slot::new(class | code | op::X, 1, 2, signed, 0),
                            alu(op::MUL, 0, 31),
                            alu_reg(op::ADD, 0, 1),
                        ]);
                    }
                }
            }
        }
    }
    fold(&mut slots);
    slots
}

/// Lets both halves of `r0` count, and returns it.
fn fold(slots: &mut Vec<Slot>) {
    slots.extend([mov(1, 0), alu(op::RSH, 1, 32), alu_reg(op::XOR, 0, 1), EXIT]);
}

/// Atomics of both widths on the stack, the fetched values too; then sign-extending loads and byte swaps of what is left.
fn atomics_on_the_stack() -> Vec<Slot> {
    let mut slots = vec![mov_imm(0, 0x1234), mov_imm(6, -3)];
    #[rustfmt::skip] // the plain ones, the fetching ones
    let kinds = [
        i32::from(op::ADD), i32::from(op::OR), i32::from(op::AND), i32::from(op::XOR),
        i32::from(op::ADD) | op::FETCH, i32::from(op::OR) | op::FETCH, i32::from(op::AND) | op::FETCH, i32::from(op::XOR) | op::FETCH,
        op::XCHG, op::CMPXCHG,
    ];
    for (i, kind) in (0i16..).zip(kinds) {
        let at = -8 * (i + 1);
        for (size, at) in [(op::DW, at), (op::W, at), (op::W, at + 4)] {
            slots.extend([
                Slot::new(
                    op::ST | op::MEM | op::DW,
                    10,
                    0,
                    at & !7,
                    0x7fff_1234 - i32::from(i),
                ),
                mov_imm(2, 0x0f0f_1111 * (i32::from(i) % 2)),
                Slot::new(op::STX | op::ATOMIC | size, 10, 2, at, kind),
                alu_reg(op::ADD, 6, 2),
                alu(op::MUL, 6, 31),
                load(2, at & !7),
                alu_reg(op::XOR, 6, 2),
                alu_reg(op::ADD, 6, 0),
                mov_imm(0, 0x7fff_1234),
            ]);
        }
    }
    for (i, size) in (0i16..).zip([op::B, op::H, op::W]) {
        slots.extend([
            Slot::new(op::LDX | op::MEMSX | size, 2, 10, -16 - 8 * i, 0),
            alu_reg(op::ADD, 6, 2),
        ]);
    }
    for (class, bits) in [
        (op::ALU, 16),
        (op::ALU, 32),
        (op::ALU, 64),
        (op::ALU64, 16),
        (op::ALU64, 32),
        (op::ALU64, 64),
    ] {
        for source in [op::K, op::X] {
            if class == op::ALU64 && source == op::X {
                continue;
            }
            slots.extend([
                mov(2, 6),
                Slot::new(class | op::END | source, 2, 0, 0, bits),
                alu_reg(op::ADD, 6, 2),
            ]);
        }
    }
    slots.push(mov(0, 6));
    fold(&mut slots);
    slots
}

/// Jumps as far as 16 bits and more go, over instructions that never run.
fn far_jumps() -> Vec<Slot> {
    let body = |n: usize| std::iter::repeat_n(alu(op::ADD, 0, 1), n);
    let mut slots = vec![
        Slot::new(op::LDX | op::MEM | op::W, 2, 1, 0, 0),
        mov_imm(0, 1),
    ];
    slots.push(Slot::new(op::JMP | op::JNE, 2, 0, i16::MAX, 0x7fff_ffff));
    slots.extend(body(i16::MAX as usize));
    slots.push(Slot::new(op::JMP | op::JEQ, 2, 0, 1, 0x7fff_ffff));
    slots.push(Slot::new(op::JMP32 | op::JA, 0, 0, 0, 40_000));
    slots.extend(body(40_000));
    slots.extend([alu(op::ADD, 0, 5), EXIT]);
    slots
}

fn programs() -> Vec<(&'static str, Program)> {
    vec![
        ("straight", single(straight(100_000))),
        ("branches", single(branches(2_000))),
        ("deep", deep()),
        ("many", many(200)),
        ("tail calls", tail_calls(false)),
        ("tail calls from functions", tail_calls(true)),
        ("loops of nothing", single(loops_of_nothing())),
        ("divisions", single(divisions())),
        ("atomics", single(atomics_on_the_stack())),
        ("far jumps", single(far_jumps())),
    ]
}

/// BTF of `static int f(void)`, and the id of `f`: functions that make tail calls must have types.
fn debug_info() -> (Vec<u8>, u32) {
    let mut b = Builder::new(Order::HOST);
    let int = b.add_int("int", 4, Int::SIGNED);
    let proto = b.add("", Info::new(Kind::FuncProto, 0, false), int, &[]);
    let function = b.add("f", Info::new(Kind::Func, 0, false), proto, &[]);
    (b.finish(), function)
}

/// Loads a program whose prog array holds it, runs it twice, and says what came out.
fn outcome(
    backend: &dyn Backend,
    (slots, starts): &Program,
) -> Result<Vec<(u32, Vec<u8>)>, String> {
    let array = backend.map_create(&MapCreate::new(MapType::ProgArray, 4, 4, 1));
    let array = array.map_err(|e| e.to_string())?;
    let mut insns = slots.clone();
    for slot in &mut insns {
        if slot.code == op::LDDW && slot.src() == op::PSEUDO_MAP_FD {
            slot.imm = array.0;
        }
    }
    let (types, function) = debug_info();
    let btf = backend.btf_load(&types).map_err(|e| e.to_string())?;
    let record = |&start: &usize| [start as u32, function].map(u32::to_ne_bytes).concat();
    let spec = ProgLoad {
        btf: Some(btf),
        func_info: starts.iter().flat_map(record).collect(),
        func_info_rec_size: 8,
        ..ProgLoad::plain(ProgType::SchedCls, insns)
    };
    let program = backend.prog_load(&spec).map_err(|e| format!("{e:?}"))?;
    let runs = in_array(backend, array, program);
    backend.close(program);
    for handle in [array, btf] {
        backend.close(handle);
    }
    runs
}

fn in_array(
    backend: &dyn Backend,
    array: Handle,
    program: Handle,
) -> Result<Vec<(u32, Vec<u8>)>, String> {
    let value = program.0.to_ne_bytes();
    backend
        .map_update(array, &0u32.to_ne_bytes(), &value, 0)
        .map_err(|e| e.to_string())?;
    let run = |length: usize| {
        let run = TestRun {
            data_in: Some(vec![7; length]),
            ctx_size_out: 192,
            ..TestRun::default()
        };
        let result = backend
            .prog_test_run(program, &run)
            .map_err(|e| e.to_string())?;
        Ok((result.retval, result.ctx_out))
    };
    [64, 1_000].into_iter().map(run).collect()
}

#[test]
fn unusual_programs_come_to_the_kernels_results() {
    if !met(&[Need::Bpf, Need::Root]) {
        return;
    }
    let kernel = Kernel::new();
    let user = |engine, tiers, blinding| {
        let options = Options {
            engine,
            tiers,
            blinding,
            ..Options::default()
        };
        Universe::new(options).unwrap()
    };
    let sides = [
        ("interp", user(Engine::Interp, Tiers::Adaptive, false)),
        ("templates", user(Engine::Jit, Tiers::Templates, false)),
        ("blinded", user(Engine::Jit, Tiers::Templates, true)),
        ("optimised", user(Engine::Jit, Tiers::Optimised, false)),
    ];
    for (name, program) in programs() {
        let expected = outcome(&kernel, &program);
        assert!(expected.is_ok(), "{name}: {expected:?}");
        for (engine, universe) in &sides {
            assert_eq!(outcome(universe, &program), expected, "{name} in {engine}");
        }
    }
}
