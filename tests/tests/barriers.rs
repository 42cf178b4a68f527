//! Where speculation is stopped for loaders without CAP_PERFMON: in the code of this verifier's proof, and in the kernel's.

use skep::{CodeKind, Kernel};
use skep_abi::ProgType;
use skep_bpf::{Backend, ProgLoad};
use skep_isa::Slot;
use skep_isa::asm::{NoFacts, assemble_insns};
use skep_sys::process::{CAP_PERFMON, CAP_SYS_ADMIN, drop_capabilities};
use skep_tests::need::{Need, met};
use skep_verifier::{Caps, Request, verify};
use skep_vm::jit::{Tier, compile};
use skep_vm::lowered::Op;
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
    let lowered = lower(&verified, Fold::Facts).map_err(|e| e.to_string())?;
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

/// The places in the kernel's code, loaded by a thread that may not look into the kernel.
fn kernels(programs: &[Vec<Slot>]) -> Vec<Result<Places, String>> {
    let kernel = Kernel::new();
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
    let places = |handle: Result<_, String>| {
        let code = kernel.prog_code(handle?, CodeKind::Xlated);
        code.map(|code| in_kernel(&code)).map_err(|e| e.to_string())
    };
    handles.into_iter().map(places).collect()
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
    for ((ours, kernel), text) in found.iter().zip(kernels(&programs)).zip(PROGRAMS) {
        match (ours, kernel) {
            (Err(_), Err(_)) => {}
            (ours, kernel) => assert_eq!(ours, &kernel, "{text}"),
        }
    }
}
