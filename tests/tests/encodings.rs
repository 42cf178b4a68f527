//! Every opcode with every combination of edge values in its fields, as a program of its own: the decoder and the
//! verifier say of each what the kernel says.

use skep::Kernel;
use skep_abi::{AttachType, ProgType};
use skep_bpf::{Backend, ProgLoad};
use skep_isa::{Slot, decode, opcode as op};
use skep_tests::need::{Need, met};
use skep_verifier::Request;

const REGS: &[u8] = &[0x00, 0x21, 0x10, 0x1b];
const OFFSETS: &[i16] = &[0, 1, -1, 8];
const IMMS: &[i32] = &[0, 16, 0x41, -1];

/// All registers zero, then the instruction, then the end.
fn program(slot: Slot) -> Vec<Slot> {
    let zero = |dst| Slot::new(op::ALU64 | op::MOV, dst, 0, 0, 0);
    let mut insns: Vec<Slot> = (0..10).map(zero).collect();
    insns.push(slot);
    if slot.is_wide() {
        insns.push(Slot::default());
    }
    insns.extend([zero(0), Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0)]);
    insns
}

fn kernel_accepts(kernel: &Kernel, insns: &[Slot]) -> bool {
    let spec = ProgLoad {
        prog_type: ProgType::Xdp,
        expected_attach_type: Some(AttachType::Xdp),
        insns: insns.to_vec(),
        license: "Dual MIT/GPL".to_owned(),
        name: "encoding".to_owned(),
        prog_flags: 0,
        prog_ifindex: 0,
        btf: None,
        func_info: Vec::new(),
        func_info_rec_size: 0,
        line_info: Vec::new(),
        line_info_rec_size: 0,
        attach_btf_id: 0,
        attach_prog: None,
        attach_btf: None,
        fd_array: Vec::new(),
        log_level: 0,
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

#[test]
fn encodings() {
    if !met(&[Need::Bpf]) {
        return;
    }
    let kernel = Kernel::new();
    let mut wrong = Vec::new();
    for code in 0..=u8::MAX {
        for &regs in REGS {
            for &offset in OFFSETS {
                for &imm in IMMS {
                    let slot = Slot {
                        code,
                        regs,
                        offset,
                        imm,
                    };
                    let insns = program(slot);
                    let (theirs, ours) = (kernel_accepts(&kernel, &insns), we_accept(&insns));
                    let decodes = decode(&insns, 10).is_ok();
                    if theirs != ours || (theirs && !decodes) {
                        wrong.push(format!(
                            "{slot:x?}: kernel {theirs}, verifier {ours}, decoder {decodes}"
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}
