//! Where speculation is stopped for loaders without CAP_PERFMON, and where pointers are kept in their memory: in the code of
//! this verifier's proof, and in the kernel's.

use skep::{CodeKind, Kernel};
use skep_abi::{MapType, ProgType};
use skep_bpf::{Backend, MapCreate, ProgLoad};
use skep_isa::asm::{NoFacts, assemble_insns};
use skep_isa::{AluOp, Slot, opcode as op};
use skep_sys::process::{CAP_PERFMON, CAP_SYS_ADMIN, drop_capabilities};
use skep_tests::need::{Need, met};
use skep_verifier::{Caps, MapDesc, PointerLimit, Request, verify};
use skep_vm::jit::{Tier, compile};
use skep_vm::lowered::{MoveOp, Op, direction};
use skep_vm::{Fold, lower};

/// The kernel's own instruction for a barrier (`BPF_ST | BPF_NOSPEC`).
const NOSPEC: u8 = 0xc2;
/// `lfence`
const LFENCE: [u8; 3] = [0x0f, 0xae, 0xe8];

#[rustfmt::skip] // one instruction a line
const PROGRAMS: &[&str] = &[
    // Nothing to hide.
    "r0 = *(u32 *)(r1 + 0)
     *(u64 *)(r10 - 8) = r0
     r0 = *(u64 *)(r10 - 8)
     exit",
    // A pointer is stored, and replaced.
    "r7 = *(u32 *)(r1 + 0)
     *(u64 *)(r10 - 8) = r7
     *(u64 *)(r10 - 16) = r10
     r2 = *(u64 *)(r10 - 16)
     *(u64 *)(r10 - 16) = r7
     r0 = *(u64 *)(r10 - 16)
     exit",
    // A part of a slot is written over.
    "r7 = *(u32 *)(r1 + 0)
     *(u64 *)(r10 - 8) = 0
     *(u32 *)(r10 - 8) = r7
     *(u8 *)(r10 - 5) = r7
     r0 = *(u64 *)(r10 - 8)
     exit",
    // The way not taken would load through a number.
    "r7 = *(u32 *)(r1 + 0)
     r2 = r1
     if r7 != 0 goto pointer
     r2 = 5
   pointer:
     r0 = 0
     if r7 == 0 goto out
     r0 = *(u32 *)(r2 + 0)
   out:
     exit",
    // The way not taken would read stack that it did not write.
    "r7 = *(u32 *)(r1 + 0)
     if r7 == 0 goto out
     *(u64 *)(r10 - 8) = r7
   out:
     if r7 == 0 goto end
     r0 = *(u64 *)(r10 - 8)
     exit
   end:
     r0 = 0
     exit",
    // In a function, on the stack of its caller.
    "*(u64 *)(r10 - 8) = 1
     r2 = r10
     r2 += -8
     r1 = r2
     call store
     r0 = *(u64 *)(r10 - 8)
     exit
   store:
     *(u64 *)(r1 + 0) = 2
     *(u64 *)(r10 - 8) = r1
     r2 = *(u64 *)(r10 - 8)
     r0 = *(u64 *)(r2 + 0)
     exit",
    // Atomics and helpers write stack as well.
    "*(u64 *)(r10 - 8) = 1
     r6 = 3
     lock *(u64 *)(r10 - 8) += r6
     *(u64 *)(r10 - 16) = r1
     r2 = 0
     r3 = r10
     r3 += -24
     r4 = 4
     call 26
     r0 = 0
     exit",
];

/// The instructions in front of which there is a barrier, by their number.
type Places = Vec<usize>;

/// Those of the code that the kernel made of a program.
fn in_kernel(code: &[u8]) -> Places {
    let (mut places, mut number) = (Places::new(), 0);
    let mut second_half = false;
    for slot in code.as_chunks::<8>().0 {
        if second_half {
            second_half = false;
        } else if slot[0] == NOSPEC {
            places.push(number);
        } else {
            number += 1;
            second_half = slot[0] == skep_isa::opcode::LDDW;
        }
    }
    places.dedup();
    places
}

/// Those of our proof; the code of both compilers must have as many.
fn ours(insns: &[Slot], caps: Caps) -> Result<Places, String> {
    let request = Request {
        caps,
        ..Request::plain("case", ProgType::SocketFilter, insns)
    };
    let verified = verify(&request).map_err(|r| r.message())?;
    let lowered = lower(&verified, Fold::Facts, None).map_err(|e| e.to_string())?;
    let barriers = lowered.ops.iter().filter(|op| **op == Op::Barrier).count();
    for tier in [Tier::Baseline, Tier::Optimised] {
        let image = compile(&lowered, tier, false);
        let fences = image.code.windows(3).filter(|w| **w == LFENCE).count();
        // The optimising compiler copies functions into their callers.
        let as_many = fences == barriers || tier == Tier::Optimised && fences > barriers;
        assert!(as_many, "{tier:?}: {fences} fences of {barriers} barriers");
    }
    // A barrier belongs to the instruction that it precedes or follows.
    let place = |(at, op): (usize, &Op)| {
        let slot = lowered.slots[at];
        let follows = at > 0 && lowered.slots[at - 1] == slot;
        (*op == Op::Barrier).then_some(slot as usize + usize::from(follows))
    };
    let mut places: Places = lowered.ops.iter().enumerate().filter_map(place).collect();
    places.dedup();
    Ok(places)
}

fn spec(insns: Vec<Slot>) -> ProgLoad {
    ProgLoad {
        name: "barriers".to_owned(),
        ..ProgLoad::plain(ProgType::SocketFilter, insns)
    }
}

/// The kernel's code of the programs, loaded by a thread that may not look into the kernel.
fn kernels(kernel: &Kernel, programs: &[Vec<Slot>]) -> Vec<Result<Vec<u8>, String>> {
    let handles = std::thread::scope(|scope| {
        let load = || {
            drop_capabilities(&[CAP_SYS_ADMIN, CAP_PERFMON]).unwrap();
            let load = |insns: &Vec<Slot>| {
                let loaded = kernel.prog_load(&spec(insns.clone()));
                loaded.map_err(|e| format!("{e}"))
            };
            programs.iter().map(load).collect::<Vec<_>>()
        };
        scope.spawn(load).join().unwrap()
    });
    let code = |handle: Result<_, String>| {
        let code = kernel.prog_code(handle?, CodeKind::Xlated);
        code.map_err(|e| e.to_string())
    };
    handles.into_iter().map(code).collect()
}

#[test]
fn speculation_stops_where_the_kernel_stops_it() {
    let programs: Vec<Vec<Slot>> = PROGRAMS
        .iter()
        .map(|text| assemble_insns(text, &NoFacts).unwrap())
        .collect();
    let found: Vec<_> = programs.iter().map(|p| ours(p, Caps::Bpf)).collect();
    for (program, text) in programs.iter().zip(PROGRAMS) {
        assert_eq!(ours(program, Caps::All), Ok(Places::new()), "{text}");
    }
    let some = found.iter().flatten().filter(|p| !p.is_empty()).count();
    assert!(some >= PROGRAMS.len() - 2, "{found:?}");
    if !met(&[Need::Root, Need::Bpf]) {
        return;
    }
    let kernels = kernels(&Kernel::new(), &programs);
    for ((ours, kernel), text) in found.iter().zip(kernels).zip(PROGRAMS) {
        match (ours, kernel.map(|code| in_kernel(&code))) {
            (Err(_), Err(_)) => {}
            (ours, kernel) => assert_eq!(ours, &kernel, "{text}"),
        }
    }
}

/// Bytes of the value that `r8` points to in [`MOVES`].
const VALUE_BYTES: u32 = 64;

/// Programs that move a pointer: `r8` points to a value, `r7` is any number.
#[rustfmt::skip] // one instruction a line
const MOVES: &[&str] = &[
    // To the right, by a register on either side.
    "r7 &= 31
     r8 += r7
     r0 = *(u8 *)(r8 + 0)
     exit",
    "r7 &= 31
     r7 += r8
     r0 = *(u8 *)(r7 + 0)
     exit",
    "if r7 > 40 goto out
     r8 += r7
     r0 = *(u64 *)(r8 + 8)
   out:
     exit",
    // To the left.
    "r7 &= 31
     r8 += 40
     r8 -= r7
     r0 = *(u8 *)(r8 + 0)
     exit",
    // By numbers below zero.
    "r7 &= 31
     r7 += -32
     r8 += 40
     r8 += r7
     r0 = *(u8 *)(r8 + 0)
     exit",
    "r7 &= 31
     r7 += -32
     r8 -= r7
     r0 = *(u8 *)(r8 + 0)
     exit",
    "r7 &= 31
     r7 += -32
     r8 += 40
     r7 += r8
     r0 = *(u8 *)(r7 + 0)
     exit",
    // By constants.
    "r7 = 8
     r8 += r7
     r0 = *(u8 *)(r8 + 0)
     exit",
    "r7 = 8
     r7 += r8
     r0 = *(u8 *)(r7 + 0)
     exit",
    "r7 = -8
     r8 += 16
     r8 += r7
     r0 = *(u8 *)(r8 + 0)
     exit",
    "r7 = 8
     r8 += 16
     r8 -= r7
     r0 = *(u8 *)(r8 + 0)
     exit",
    "r7 = -8
     r8 -= r7
     r0 = *(u8 *)(r8 + 0)
     exit",
    // On the stack.
    "r2 = r10
     r3 = -16
     r2 += r3
     *(u64 *)(r2 + 0) = r7
     r0 = *(u32 *)(r10 - 16)
     exit",
    // Twice, and in a loop.
    "r7 &= 7
     r8 += r7
     r7 += 3
     r8 += r7
     r0 = *(u8 *)(r8 + 0)
     exit",
    "r0 = 0
     r6 = 0
   again:
     r7 &= 15
     r3 = r8
     r3 += r7
     r3 += r6
     r4 = *(u8 *)(r3 + 0)
     r0 += r4
     r6 += 1
     if r6 < 8 goto again
     exit",
    // Numbers are not limited.
    "r7 += r7
     r7 -= r0
     r0 = r7
     exit",
];

/// A limit on pointer arithmetic: most bytes, whether they are always as many, and where the pointer goes.
type Moves = Vec<(u32, bool, MoveOp)>;

/// A program of [`MOVES`] whose map operand is of kind `map` and names `number`.
fn moving(text: &str, map: u8, number: i32) -> Vec<Slot> {
    let mut insns = vec![
        Slot::new(op::LDX | op::MEM | op::W, 7, 1, 0, 0),
        Slot::new(op::ST | op::MEM | op::W, 10, 0, -4, 0),
        Slot::new(op::ALU64 | op::MOV | op::X, 2, 10, 0, 0),
        Slot::new(op::ALU64 | op::ADD, 2, 0, 0, -4),
        Slot::new(op::LDDW, 1, map, 0, number),
        Slot::new(0, 0, 0, 0, 0),
        Slot::new(op::JMP | op::CALL, 0, 0, 0, 1),
        Slot::new(op::JMP | op::JNE, 0, 0, 1, 0),
        Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0),
        Slot::new(op::ALU64 | op::MOV | op::X, 8, 0, 0, 0),
        Slot::new(op::ALU64 | op::MOV, 0, 0, 0, 0),
    ];
    insns.extend(assemble_insns(text, &NoFacts).unwrap());
    insns
}

/// The limits in the kernel's code: it loads each into its own eleventh register, and then moves by that.
fn limits_in_kernel(code: &[u8]) -> Moves {
    let own = |slot: &Slot| slot.dst() == 11;
    let slots: Vec<Slot> = code
        .as_chunks::<8>()
        .0
        .iter()
        .map(|b| Slot::from_le_bytes(*b))
        .collect();
    let starts = slots
        .iter()
        .enumerate()
        .filter(|(_, s)| own(s) && s.code == op::ALU | op::MOV);
    let limit = |(at, slot): (usize, &Slot)| {
        let variable = slots[at + 1].code == op::ALU64 | op::SUB | op::X && own(&slots[at + 1]);
        let by = slots[at..]
            .iter()
            .find(|s| s.src() == 11 && !own(s) && s.code & 7 == op::ALU64);
        let to = match by.unwrap().code & 0xf0 {
            op::ADD => MoveOp::Add,
            _ => MoveOp::Sub,
        };
        (slot.imm.cast_unsigned(), !variable, to)
    };
    starts.map(limit).collect()
}

/// The limits in our code. What both compilers make must have as many masks, the sign of a number spread over a register.
fn our_limits(text: &str) -> Result<Moves, String> {
    let insns = moving(text, op::PSEUDO_MAP_IDX, 0);
    let map = MapDesc {
        name: String::new(),
        map_type: MapType::Array,
        key_size: 4,
        value_size: VALUE_BYTES,
        max_entries: 1,
        map_flags: 0,
        map_extra: 0,
        record: Default::default(),
        has_btf: false,
        btf: None,
        inner: None,
        frozen: None,
        owner: None,
        id: 0,
    };
    let request = Request {
        caps: Caps::Bpf,
        maps: &[map],
        ..Request::plain("case", ProgType::SocketFilter, &insns)
    };
    let verified = verify(&request).map_err(|r| r.message())?;
    let lowered = lower(&verified, Fold::Facts, None).map_err(|e| e.to_string())?;
    let limit = |(at, op): (usize, &Op)| {
        let limit: PointerLimit = lowered.fact(at as u32).pointer_limit?;
        let to = match *op {
            Op::MovePointer { op, .. } => direction(op, limit),
            Op::Alu { op: AluOp::Add, .. } => MoveOp::Add,
            Op::Alu { op: AluOp::Sub, .. } => MoveOp::Sub,
            _ => return None,
        };
        Some((limit.limit, limit.constant, to))
    };
    let limits: Moves = lowered.ops.iter().enumerate().filter_map(limit).collect();
    let masks = limits.iter().filter(|(_, constant, _)| !constant).count();
    for (tier, look_ups) in [(Tier::Baseline, 0), (Tier::Optimised, 1)] {
        let code = compile(&lowered, tier, false).code;
        let is_mask = |w: &&[u8]| w[0] == 0xc1 && w[1] >= 0xf8 && w[2] == 63;
        // The optimising compiler also confines the key of the look-up.
        let found = code.windows(3).filter(is_mask).count();
        assert!(
            found >= masks && found <= masks + look_ups,
            "{tier:?}: {found} of {masks}: {text}"
        );
    }
    Ok(limits)
}

#[test]
fn pointers_are_limited_where_the_kernel_limits_them() {
    let ours: Vec<_> = MOVES.iter().map(|text| our_limits(text)).collect();
    let (last, moves) = ours.split_last().unwrap();
    assert_eq!(last, &Ok(Moves::new()));
    // Behind some of the moves nobody knows the upper bound.
    let limited = moves.iter().flatten().filter(|m| !m.is_empty()).count();
    assert!(limited >= 10, "{moves:?}");
    if !met(&[Need::Root, Need::Bpf]) {
        return;
    }
    let kernel = Kernel::new();
    let map = kernel
        .map_create(&MapCreate::new(MapType::Array, 4, VALUE_BYTES, 1))
        .unwrap();
    let programs: Vec<_> = MOVES
        .iter()
        .map(|text| moving(text, op::PSEUDO_MAP_FD, map.0))
        .collect();
    for ((ours, kernel), text) in ours.iter().zip(kernels(&kernel, &programs)).zip(MOVES) {
        match (ours, kernel.map(|code| limits_in_kernel(&code))) {
            (Err(_), Err(_)) => {}
            (ours, kernel) => assert_eq!(ours, &kernel, "{text}"),
        }
    }
}
