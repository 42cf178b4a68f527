//! Classic programs: the checker refuses what the kernel refuses, and what is accepted decides as in the kernel.

use skep::Kernel;
use skep_abi::ProgType;
use skep_bpf::{Backend, ProgLoad, TestRun};
use skep_cbpf::insn::{AluOp, Ancillary, OPCODES, Op, SKF_AD_OFF, SKF_LL_OFF, SKF_NET_OFF};
use skep_cbpf::interp::Ancillaries;
use skep_cbpf::translate::{Access, Options, TranslateError, translate};
use skep_cbpf::{Insn, LongShift, Packet, Program, check, check_seccomp};
use skep_sys::socket::{SockFilter, attach_classic, attach_filter};
use skep_tests::need::{Need, met};
use skep_tests::random::Random;
use skep_vm::classic::Native;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

/// Random programs, unless `SKEP_CLASSIC_PROGRAMS` says otherwise.
const PROGRAMS: u64 = 3000;
/// Random programs that are translated, unless `SKEP_CLASSIC_PROGRAMS` says otherwise.
const TRANSLATED: u64 = 2000;
/// Random programs for seccomp, each in a thread of its own.
const SECCOMP_PROGRAMS: u64 = 200;
/// `SECCOMP_RET_ALLOW`
const ALLOW: u32 = 0x7fff_0000;

fn insn(random: &mut Random) -> Insn {
    let (code, op) = *random.of(OPCODES);
    let word = random.next_u64();
    let any = (word >> 32) as u32;
    let k = match op {
        Op::LoadMem | Op::LoadXMem | Op::Store | Op::StoreX => any % 17,
        Op::Jump => any % 4,
        Op::AluK(AluOp::Lsh | AluOp::Rsh) => any % 33,
        Op::AluK(_) => any % [2, 300, u32::MAX][(word & 3) as usize % 3],
        Op::LoadAbs(_) => match word & 15 {
            0 => any,
            1 => SKF_LL_OFF + any % 70,
            2 => SKF_NET_OFF + any % 70,
            3..6 => SKF_AD_OFF + any % 17 * 4,
            6 => SKF_AD_OFF + any % 70,
            _ => any % 70,
        },
        _ => any % [70, u32::MAX][(word & 7) as usize / 7],
    };
    let code = if random.below(60) == 0 {
        random.next_u64() as u16 & 0x1ff
    } else {
        u16::from(code)
    };
    let (jt, jf) = (word as u8 & 3, (word >> 8) as u8 & 3);
    Insn { code, jt, jf, k }
}

fn program(random: &mut Random) -> Vec<Insn> {
    let mut insns: Vec<Insn> = (0..random.below(12)).map(|_| insn(random)).collect();
    let ending = |k| Insn::new(0x06, k);
    match random.below(8) {
        0 => {}
        1 => insns.push(Insn::new(0x16, 0)),
        _ => insns.extend([
            ending(0),
            ending(random.below(80) as u32),
            Insn::new(0x16, 0),
        ]),
    }
    insns
}

fn raw(insns: &[Insn]) -> Vec<SockFilter> {
    insns.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect()
}

/// Whether two runs of a program may differ.
fn is_fickle(insns: &[Insn]) -> bool {
    let fickle = [Some(Ancillary::Cpu), Some(Ancillary::Random)];
    // A message has no link header.
    let of_link = |i: &Insn| {
        matches!(i.op(), Some(Op::LoadAbs(_))) && (SKF_LL_OFF..SKF_NET_OFF).contains(&i.k)
    };
    insns
        .iter()
        .any(|i| fickle.contains(&i.ancillary()) || of_link(i))
}

/// What is known of a message on a socket of a pair: it came through no interface, and the network header is its start.
fn ancillaries() -> Ancillaries {
    let start = Ancillaries {
        network_offset: Some(0),
        ..Ancillaries::default()
    };
    [
        Ancillary::Protocol,
        Ancillary::PktType,
        Ancillary::Mark,
        Ancillary::Queue,
        Ancillary::RxHash,
        Ancillary::VlanTag,
        Ancillary::VlanTagPresent,
        Ancillary::VlanTpid,
        Ancillary::PayOffset,
    ]
    .into_iter()
    .fold(start, |all, datum| all.with(datum, 0))
}

/// Bytes that the kernel lets through of a message.
fn kept(sender: &UnixDatagram, receiver: &UnixDatagram, message: &[u8]) -> usize {
    let mut buffer = [0; 256];
    // A rejected message is an error of the sender.
    let sent = sender.send(message).is_ok();
    let received = receiver.recv(&mut buffer);
    assert!(sent || received.is_err(), "what was not sent does not come");
    received.unwrap_or(0)
}

#[test]
fn random_programs_are_judged_and_run_as_in_the_kernel() {
    let asked = std::env::var("SKEP_CLASSIC_PROGRAMS").ok();
    let count = asked.and_then(|n| n.parse().ok()).unwrap_or(PROGRAMS);
    let mut random = Random::new(11);
    let (sender, receiver) = UnixDatagram::pair().unwrap();
    receiver.set_nonblocking(true).unwrap();
    let known = ancillaries();
    let (mut accepted, mut passed) = (0u64, 0u64);
    for _ in 0..count {
        let insns = program(&mut random);
        let theirs = attach_classic(receiver.as_fd(), &raw(&insns));
        let ours = check(&insns);
        assert_eq!(
            ours.is_ok(),
            theirs.is_ok(),
            "{ours:?} {theirs:?} {insns:x?}"
        );
        if ours.is_err() || is_fickle(&insns) {
            continue;
        }
        accepted += 1;
        let program = Program::new(&insns, LongShift::Modulo).unwrap();
        let native = Native::new(&insns, LongShift::Modulo).ok();
        for length in [64, 1 + random.below(63) as usize] {
            let message: Vec<u8> = (0..length)
                .map(|_| random.next_u64() as u8 & [0xff, 0x0d][random.below(2) as usize])
                .collect();
            let packet = Packet {
                bytes: &message,
                wire_len: length as u32,
                ancillaries: &known,
            };
            let result = program.run(&packet);
            let expected = length.min(result as usize);
            let found = kept(&sender, &receiver, &message);
            assert_eq!(expected, found, "{insns:x?} on {message:x?}");
            passed += u64::from(found > 0);
            if let Some(native) = &native {
                assert_eq!(native.run(&message, length as u32), result, "{insns:x?}");
            }
        }
    }
    println!("{count} programs, {accepted} run, {passed} messages passed");
    assert!(
        accepted > count / 10 && passed > count / 20,
        "the programs are worth it"
    );
}

/// The kernel runs a program as it is on one socket, and our translation of it on another: the same messages pass.
#[test]
fn translations_decide_as_their_programs_in_the_kernel() {
    if !met(&[Need::Bpf]) {
        return;
    }
    let asked = std::env::var("SKEP_CLASSIC_PROGRAMS").ok();
    let count = asked.and_then(|n| n.parse().ok()).unwrap_or(TRANSLATED);
    let mut random = Random::new(13);
    let kernel = Kernel::new();
    let [classic, extended] = [(); 2].map(|()| {
        let pair = UnixDatagram::pair().unwrap();
        pair.1.set_nonblocking(true).unwrap();
        pair
    });
    let options = Options {
        access: Access::Socket,
        long_shift: LongShift::Modulo,
        verdicts: None,
    };
    let (mut translated, mut untranslated, mut passed) = (0u64, 0u64, 0u64);
    for _ in 0..count {
        let insns = program(&mut random);
        if is_fickle(&insns) || attach_classic(classic.1.as_fd(), &raw(&insns)).is_err() {
            continue;
        }
        let slots = match translate(&insns, &options) {
            Ok(slots) => slots,
            Err(TranslateError::Check(error)) => panic!("{error} {insns:x?}"),
            Err(_) => {
                untranslated += 1;
                continue;
            }
        };
        let load = ProgLoad::plain(ProgType::SocketFilter, slots);
        let loaded = kernel.prog_load(&load);
        let loaded = loaded.unwrap_or_else(|e| panic!("{:?} {insns:x?}", e.errno));
        let attached = attach_filter(extended.1.as_fd(), loaded.0);
        kernel.close(loaded);
        attached.unwrap();
        translated += 1;
        for length in [64, 1 + random.below(63) as usize] {
            let message: Vec<u8> = (0..length)
                .map(|_| random.next_u64() as u8 & [0xff, 0x0d][random.below(2) as usize])
                .collect();
            let [theirs, ours] = [&classic, &extended].map(|(s, r)| kept(s, r, &message));
            assert_eq!(ours, theirs, "{insns:x?} on {message:x?}");
            passed += u64::from(theirs > 0);
        }
    }
    println!("{translated} translated, {untranslated} not, {passed} messages passed");
    assert!(
        translated > count / 20 && passed > count / 40,
        "{translated} {untranslated} {passed}"
    );
}

/// Programs on packets as XDP programs: the kernel's test run passes what the interpreter accepts, and drops the rest.
#[test]
fn translations_for_xdp_decide_as_their_programs() {
    const XDP_DROP: u32 = 1;
    const XDP_PASS: u32 = 2;
    /// The kernel takes no shorter packets.
    const HEADER: usize = 14;
    if !met(&[Need::Bpf]) {
        return;
    }
    let asked = std::env::var("SKEP_CLASSIC_PROGRAMS").ok();
    let count = asked.and_then(|n| n.parse().ok()).unwrap_or(TRANSLATED);
    let mut random = Random::new(14);
    let kernel = Kernel::new();
    let verdicts = Some((XDP_PASS.cast_signed(), XDP_DROP.cast_signed()));
    let (mut translated, mut runs, mut passed) = (0u64, 0u64, 0u64);
    for _ in 0..count {
        let insns = program(&mut random);
        let long_shift = *random.of(&[LongShift::Modulo, LongShift::Zero]);
        let Ok(program) = Program::new(&insns, long_shift) else {
            continue;
        };
        if is_fickle(&insns) {
            continue;
        }
        let options = Options {
            access: Access::Direct,
            long_shift,
            verdicts,
        };
        // Most ancillary data is not there.
        let Ok(slots) = translate(&insns, &options) else {
            continue;
        };
        let loaded = kernel.prog_load(&ProgLoad::plain(ProgType::Xdp, slots));
        let loaded = loaded.unwrap_or_else(|e| panic!("{:?} {insns:x?}", e.errno));
        translated += 1;
        for length in [HEADER, 64, HEADER + random.below(60) as usize] {
            let packet: Vec<u8> = (0..length)
                .map(|_| random.next_u64() as u8 & [0xff, 0x0d][random.below(2) as usize])
                .collect();
            let accepted = program.run(&Packet::of_file(&packet, length as u32)) != 0;
            let run = TestRun {
                data_in: Some(packet.clone()),
                repeat: 1,
                ..TestRun::default()
            };
            let verdict = kernel.prog_test_run(loaded, &run).unwrap().retval;
            let expected = if accepted { XDP_PASS } else { XDP_DROP };
            assert_eq!(verdict, expected, "{insns:x?} on {packet:x?}");
            runs += 1;
            passed += u64::from(accepted);
        }
        kernel.close(loaded);
    }
    println!("{translated} translated, {runs} runs, {passed} packets passed");
    assert!(
        translated > count / 20 && passed > count / 20,
        "{translated} {passed}"
    );
}

/// A program that lets everything pass, if it may be installed at all.
fn harmless(random: &mut Random) -> Vec<Insn> {
    let mut insns: Vec<Insn> = (0..random.below(6))
        .map(|_| {
            let mut insn = insn(random);
            match insn.op() {
                // They may end a program with zero, which ends the thread.
                Some(Op::RetA | Op::AluX(AluOp::Div)) => insn = Insn::new(0x87, 0),
                Some(Op::RetK) => insn.k = ALLOW,
                Some(Op::LoadAbs(_)) if random.below(2) == 0 => {
                    insn = Insn::new(0x20, random.below(18) as u32 * 4);
                }
                _ => {}
            }
            insn
        })
        .collect();
    insns.extend([Insn::new(0x06, ALLOW); 4]);
    insns
}

#[test]
fn seccomp_refuses_what_the_kernel_refuses() {
    let mut random = Random::new(12);
    let mut accepted = 0;
    for _ in 0..SECCOMP_PROGRAMS {
        let insns = harmless(&mut random);
        let code = raw(&insns);
        // A filter holds for a thread and goes with it.
        let thread = std::thread::spawn(move || skep_sys::seccomp::install(&code));
        let theirs = thread.join().unwrap();
        let ours = check_seccomp(&insns);
        assert_eq!(
            ours.is_ok(),
            theirs.is_ok(),
            "{ours:?} {theirs:?} {insns:x?}"
        );
        accepted += u64::from(ours.is_ok());
    }
    assert!(accepted > SECCOMP_PROGRAMS / 20, "{accepted} accepted");
}
