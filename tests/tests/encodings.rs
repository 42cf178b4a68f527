//! Every opcode with every combination of edge values in its fields, as programs of its own, where a path reaches it and
//! behind a jump that is always taken: the decoder and the verifier say of each what the kernel says.

use skep::Kernel;
use skep_abi::{AttachType, ProgType};
use skep_bpf::{Backend, ProgLoad};
use skep_isa::{Slot, decode, opcode as op};
use skep_tests::need::{Need, met};
use skep_verifier::Request;

const REGS: &[u8] = &[0x00, 0x21, 0x10, 0x1b, 0xb1];
const OFFSETS: &[i16] = &[0, 1, -1, 8];
const IMMS: &[i32] = &[0, 16, 0x41, -1];

/// Whether a path reaches the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Walked,
    /// The jump over it is always taken: only what is checked before the walk counts.
    Dead,
}

/// Jumps by up to 8 slots end inside the program.
const PADDING: usize = 8;

/// Second halves of wide instructions: each field by itself.
const NEXT: &[Slot] = &[
    Slot::new(0, 0, 0, 0, 0),
    Slot::new(1, 0, 0, 0, 0),
    Slot::new(0, 1, 0, 0, 0),
    Slot::new(0, 0, 1, 0, 0),
    Slot::new(0, 0, 0, 1, 0),
    Slot::new(0, 0, 0, 0, 1),
];

/// All registers zero, then the instruction, then the end. Also tells where the instruction stands.
fn program(slot: Slot, next: Slot, place: Place) -> (Vec<Slot>, usize) {
    let zero = |dst| Slot::new(op::ALU64 | op::MOV, dst, 0, 0, 0);
    let mut insns: Vec<Slot> = (0..10).map(zero).collect();
    if place == Place::Dead {
        let slots = if slot.is_wide() { 2 } else { 1 };
        insns.push(Slot::new(op::JMP | op::JEQ, 0, 0, slots, 0));
    }
    let at = insns.len();
    insns.push(slot);
    if slot.is_wide() {
        insns.push(next);
    }
    insns.extend((0..PADDING).map(|_| zero(0)));
    insns.push(Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0));
    (insns, at)
}

fn kernel_accepts(kernel: &Kernel, insns: &[Slot]) -> bool {
    let spec = ProgLoad {
        expected_attach_type: Some(AttachType::Xdp),
        license: "Dual MIT/GPL".to_owned(),
        name: "encoding".to_owned(),
        ..ProgLoad::plain(ProgType::Xdp, insns.to_vec())
    };
    let loaded = kernel.prog_load(&spec);
    loaded.map(|program| kernel.close(program)).is_ok()
}

fn we_accept(insns: &[Slot]) -> bool {
    let request = Request {
        attach: Some(AttachType::Xdp),
        ..Request::plain("encoding", ProgType::Xdp, insns)
    };
    skep_verifier::verify(&request).is_ok()
}

/// What differs for one instruction in one place.
fn difference(kernel: &Kernel, slot: Slot, next: Slot, place: Place) -> Option<String> {
    let (insns, at) = program(slot, next, place);
    let (theirs, ours) = (kernel_accepts(kernel, &insns), we_accept(&insns));
    let decodes = place == Place::Dead || decode(&insns, at).is_ok();
    (theirs != ours || (theirs && !decodes)).then(|| {
        format!("{place:?} {slot:x?}: kernel {theirs}, verifier {ours}, decoder {decodes}")
    })
}

/// What differs for one instruction, wherever it stands and whatever follows it.
fn differences(kernel: &Kernel, slot: Slot) -> Vec<String> {
    let nexts = if slot.is_wide() { NEXT } else { &NEXT[..1] };
    let places = nexts
        .iter()
        .flat_map(|&next| [Place::Walked, Place::Dead].map(|place| (next, place)));
    places
        .filter_map(|(next, place)| difference(kernel, slot, next, place))
        .collect()
}

#[test]
fn encodings() {
    if !met(&[Need::Bpf]) {
        return;
    }
    let kernel = Kernel::new();
    let mut wrong = Vec::new();
    let fields = OFFSETS
        .iter()
        .flat_map(|&offset| IMMS.iter().map(move |&imm| (offset, imm)));
    for code in 0..=u8::MAX {
        for &regs in REGS {
            for (offset, imm) in fields.clone() {
                let slot = Slot {
                    code,
                    regs,
                    offset,
                    imm,
                };
                wrong.extend(differences(&kernel, slot));
            }
        }
    }
    for src in 0..=15 {
        wrong.extend(differences(&kernel, Slot::new(op::LDDW, 1, src, 0, 1)));
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}
