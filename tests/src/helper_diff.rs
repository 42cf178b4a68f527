//! Helpers on packets, in both backends: random short programs of helper calls, whose results, packet and context must be
//! the same.
//!
//! A program fills 64 bytes of its stack, makes a few calls and folds every result, the stack and the fields of its context
//! into its return value.

use crate::random::Random;
use skep_abi::ProgType;
use skep_abi::helper::id;
use skep_abi::prog_flags::BPF_F_SLEEPABLE;
use skep_bpf::{Backend, ProgLoad, TestRun};
use skep_isa::{Slot, opcode as op};

/// Bytes of the buffer that calls get, at the top of the stack.
pub(crate) const BUFFER_BYTES: i16 = 64;

/// An argument.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    /// The context.
    Ctx,
    /// The buffer.
    Buffer,
    /// The second half of the buffer.
    Half,
    /// One of these numbers.
    Of(&'static [i64]),
}
use Arg::{Buffer, Ctx, Half, Of};

/// A helper and its arguments.
pub(crate) type Row = (u32, &'static [Arg]);

const OFFSETS: Arg = Of(&[
    0, 2, 10, 13, 14, 23, 24, 34, 36, 50, 53, 54, 60, 90, 1490, 1500, 65535, 65536, -1, -2,
]);
const LENGTHS: Arg = Of(&[1, 2, 4, 6, 14, 20, 32]);
const WORDS: Arg = Of(&[0, 1, 0x0100_000a, 0xffff, 0x1_0000, 0x7fff_ffff, -1]);
const ETHERTYPES: Arg = Of(&[0x0008, 0xdd86, 0x0081, 0xa888, 0]);

/// Helpers of tc programs, with their arguments.
#[rustfmt::skip] // one helper per line
pub(crate) const TC: &[Row] = &[
    (id::SKB_STORE_BYTES, &[Ctx, OFFSETS, Buffer, LENGTHS, Of(&[0, 1, 2, 3, 4])]),
    (id::SKB_LOAD_BYTES, &[Ctx, OFFSETS, Buffer, LENGTHS]),
    (id::SKB_LOAD_BYTES_RELATIVE, &[Ctx, OFFSETS, Buffer, LENGTHS, Of(&[0, 1, 2])]),
    (id::L3_CSUM_REPLACE, &[Ctx, Of(&[24, 25, 50, 1490, 65536]), WORDS, WORDS, Of(&[0, 2, 4, 3, 16])]),
    (id::L4_CSUM_REPLACE, &[Ctx, Of(&[50, 51, 40, 24, 70000]), WORDS, WORDS, Of(&[0, 2, 4, 0x10, 0x12, 0x14, 0x20, 0x22, 0x34, 0x60, 0x64, 3, 0x100])]),
    (id::CSUM_DIFF, &[Buffer, Of(&[0, 4, 8, 20, 32, 3]), Half, Of(&[0, 4, 16, 28, 5]), WORDS]),
    (id::CSUM_UPDATE, &[Ctx, WORDS]),
    (id::CSUM_LEVEL, &[Ctx, Of(&[0, 1, 2, 3, 4])]),
    (id::SKB_VLAN_PUSH, &[Ctx, ETHERTYPES, Of(&[0, 5, 0x2005, 0xffff, 0x1_0007])]),
    (id::SKB_VLAN_POP, &[Ctx]),
    (id::SKB_CHANGE_PROTO, &[Ctx, ETHERTYPES, Of(&[0, 0, 1])]),
    (id::SKB_CHANGE_TYPE, &[Ctx, Of(&[0, 1, 2, 3, 4, 7])]),
    (id::SKB_CHANGE_TAIL, &[Ctx, Of(&[0, 13, 14, 40, 101, 200, 3000, 16064, 16065, -1]), Of(&[0, 0, 0, 1])]),
    (id::SKB_CHANGE_HEAD, &[Ctx, Of(&[0, 4, 14, 100, 1000, 15000, 17000, -1]), Of(&[0, 0, 0, 1])]),
    (id::SKB_ADJUST_ROOM, &[Ctx, Of(&[0, 4, 8, 20, 40, 100, -4, -8, -20, -40, -1000, 4095, 4096, -4096]), Of(&[0, 0, 1, 1, 2]), Of(&[0, 0, 0, 1, 2, 4, 6, 10, 18, 20, 26, 32, 66, 0x80, 0x100, 0x180, 0x200])]),
    (id::SKB_PULL_DATA, &[Ctx, Of(&[0, 1, 60, 101, 102, 1500, 1501])]),
    (id::SET_HASH, &[Ctx, WORDS]),
    (id::SET_HASH_INVALID, &[Ctx]),
    (id::SKB_ECN_SET_CE, &[Ctx]),
    (id::REDIRECT, &[Of(&[1, 7]), Of(&[0, 1, 2, 3])]),
    (id::REDIRECT_PEER, &[Of(&[1]), Of(&[0, 1])]),
    (id::GET_ROUTE_REALM, &[Ctx]),
    (id::CHECK_MTU, &[Ctx, Of(&[0, 1, 99]), Buffer, Of(&[0, 100, -14, -2000, 70000]), Of(&[0, 1, 2])]),
    (id::SKB_SET_TSTAMP, &[Ctx, Of(&[0, 5]), Of(&[0, 1, 2, 3])]),
];

/// Helpers of XDP programs.
#[rustfmt::skip] // one helper per line
pub(crate) const XDP: &[Row] = &[
    (id::XDP_ADJUST_HEAD, &[Ctx, Of(&[0, 4, 14, 40, 87, 88, 1486, 1487, -4, -100, -216, -217, -256])]),
    (id::XDP_ADJUST_META, &[Ctx, Of(&[0, -4, -8, -3, -32, -216, -252, -256, 4, 8])]),
    (id::XDP_ADJUST_TAIL, &[Ctx, Of(&[0, 1, 100, 2020, 2021, 3419, 3420, -1, -50, -86, -87, -1486, -1487])]),
    (id::XDP_GET_BUFF_LEN, &[Ctx]),
    (id::XDP_LOAD_BYTES, &[Ctx, OFFSETS, Buffer, LENGTHS]),
    (id::XDP_STORE_BYTES, &[Ctx, OFFSETS, Buffer, LENGTHS]),
    (id::CSUM_DIFF, &[Buffer, Of(&[0, 4, 8, 20, 32, 3]), Half, Of(&[0, 4, 16, 28, 5]), WORDS]),
    (id::REDIRECT, &[Of(&[1, 7]), Of(&[0, 1])]),
];

/// Helpers of syscall programs: no packet.
#[rustfmt::skip] // one helper per line
const PLAIN: &[Row] = &[
    (id::STRTOL, &[Buffer, Of(&[1, 2, 5, 16, 32]), Of(&[0, 8, 10, 16, 7, 32]), Half]),
    (id::STRTOUL, &[Buffer, Of(&[1, 2, 5, 16, 32]), Of(&[0, 8, 10, 16, 7, 32]), Half]),
    (id::PROBE_READ_KERNEL, &[Buffer, LENGTHS, Of(&[0, 8])]),
    (id::PROBE_READ_KERNEL_STR, &[Buffer, LENGTHS, Of(&[0, 8])]),
];

/// The helpers of all tables.
pub(crate) fn called() -> impl Iterator<Item = u32> {
    [TC, XDP, PLAIN]
        .into_iter()
        .flatten()
        .map(|(helper, _)| *helper)
}

/// Texts that make numbers.
const TEXTS: &[&[u8; 16]] = &[
    b"42\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    b"-42 tail\0\0\0\0\0\0\0\0",
    b"  0x1fz\0\0\0\0\0\0\0\0\0",
    b"0778\0\0\0\0\0\0\0\0\0\0\0\0",
    b"9999999999999999",
    b"-\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    b"+5\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
];

/// A call of one of these helpers, its result folded; what it says. The context is in `r6`, the buffer on top of the stack.
pub(crate) fn call(insns: &mut Vec<Slot>, random: &mut Random, table: &[Row]) -> String {
    let (helper, args) = *random.of(table);
    let mut said = format!("helper {helper}(");
    for (reg, arg) in (1u8..).zip(args) {
        match arg {
            Ctx => insns.push(Slot::new(op::ALU64 | op::MOV | op::X, reg, 6, 0, 0)),
            Buffer | Half => {
                let at = match arg {
                    Half => -BUFFER_BYTES / 2,
                    _ => -BUFFER_BYTES,
                };
                insns.push(Slot::new(op::ALU64 | op::MOV | op::X, reg, 10, 0, 0));
                insns.push(Slot::new(op::ALU64 | op::ADD, reg, 0, 0, i32::from(at)));
            }
            Of(values) => {
                let value = *random.of(values);
                mov(insns, reg, value);
                said += &format!("{value}, ");
            }
        }
    }
    insns.push(Slot::new(op::JMP | op::CALL, 0, 0, 0, helper.cast_signed()));
    fold(insns, 0);
    said + ")"
}

/// A program without anything but instructions.
pub(crate) fn plain_load(prog_type: ProgType, insns: &[Slot]) -> ProgLoad {
    ProgLoad {
        name: "random".to_owned(),
        ..ProgLoad::plain(prog_type, insns.to_vec())
    }
}

/// A random program and what it says.
#[derive(Clone, Debug)]
pub struct Program {
    prog_type: ProgType,
    insns: Vec<Slot>,
    /// The calls, for messages.
    pub calls: Vec<String>,
}

pub(crate) fn mov(insns: &mut Vec<Slot>, dst: u8, value: i64) {
    insns.push(Slot::new(op::LDDW, dst, 0, 0, value as i32));
    insns.push(Slot::new(0, 0, 0, 0, (value >> 32) as i32));
}

/// `r7 = r7 * 31 + src`
pub(crate) fn fold(insns: &mut Vec<Slot>, src: u8) {
    insns.push(Slot::new(op::ALU64 | op::MUL, 7, 0, 0, 31));
    insns.push(Slot::new(op::ALU64 | op::ADD | op::X, 7, src, 0, 0));
}

impl Program {
    /// A program of up to three calls.
    #[must_use]
    pub fn random(random: &mut Random) -> Self {
        let (prog_type, table) = *random.of(&[
            (ProgType::SchedCls, TC),
            (ProgType::SchedCls, TC),
            (ProgType::SchedCls, TC),
            (ProgType::Xdp, XDP),
            (ProgType::Syscall, PLAIN),
        ]);
        let mut insns = vec![Slot::new(op::ALU64 | op::MOV | op::X, 6, 1, 0, 0)];
        let mut calls = Vec::new();
        mov(&mut insns, 7, 0);
        let text = *random.of(TEXTS);
        for i in 0..BUFFER_BYTES / 8 {
            let word = match (prog_type, i) {
                (ProgType::Syscall, 0 | 1) => {
                    let at = i as usize * 8;
                    let mut bytes = [0; 8];
                    bytes.copy_from_slice(&text[at..at + 8]);
                    i64::from_le_bytes(bytes)
                }
                (_, 0) => 0,
                _ => random.next_u64().cast_signed(),
            };
            mov(&mut insns, 1, word);
            insns.push(Slot::new(
                op::STX | op::MEM | op::DW,
                10,
                1,
                i * 8 - BUFFER_BYTES,
                0,
            ));
        }
        for _ in 0..=random.below(3) {
            calls.push(call(&mut insns, random, table));
        }
        Self::finish(prog_type, &mut insns);
        Self {
            prog_type,
            insns,
            calls,
        }
    }

    /// Folds the stack and the context's fields into the return value.
    fn finish(prog_type: ProgType, insns: &mut Vec<Slot>) {
        for i in 0..BUFFER_BYTES / 8 {
            insns.push(Slot::new(
                op::LDX | op::MEM | op::DW,
                1,
                10,
                i * 8 - BUFFER_BYTES,
                0,
            ));
            fold(insns, 1);
        }
        // len, pkt_type, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, tstamp_type.
        const FIELDS: &[i16] = &[0, 4, 12, 16, 20, 24, 28];
        if prog_type == ProgType::SchedCls {
            for &field in FIELDS {
                insns.push(Slot::new(op::LDX | op::MEM | op::W, 1, 6, field, 0));
                fold(insns, 1);
            }
        }
        if prog_type == ProgType::Xdp {
            // data - data_meta
            insns.push(Slot::new(op::LDX | op::MEM | op::W, 1, 6, 0, 0));
            insns.push(Slot::new(op::LDX | op::MEM | op::W, 2, 6, 8, 0));
            insns.push(Slot::new(op::ALU64 | op::SUB | op::X, 1, 2, 0, 0));
            fold(insns, 1);
        }
        // The upper half counts as well.
        insns.push(Slot::new(op::ALU64 | op::MOV | op::X, 0, 7, 0, 0));
        insns.push(Slot::new(op::ALU64 | op::RSH, 7, 0, 0, 32));
        insns.push(Slot::new(op::ALU64 | op::XOR | op::X, 0, 7, 0, 0));
        insns.push(Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0));
    }

    /// What each packet comes to in a backend.
    ///
    /// # Errors
    /// The errno of a refused load.
    pub fn outcome(
        &self,
        backend: &dyn Backend,
        packets: &[Vec<u8>],
    ) -> Result<Vec<String>, String> {
        let load = ProgLoad {
            // Syscall programs must be sleepable.
            prog_flags: if self.prog_type == ProgType::Syscall {
                BPF_F_SLEEPABLE
            } else {
                0
            },
            ..plain_load(self.prog_type, &self.insns)
        };
        let program = backend.prog_load(&load).map_err(|e| e.errno.to_string())?;
        let outcomes = packets.iter().map(|packet| {
            let run = if self.prog_type == ProgType::Syscall {
                TestRun {
                    ctx_in: Some(vec![0; 64]),
                    ..TestRun::default()
                }
            } else {
                TestRun {
                    data_in: Some(packet.clone()),
                    data_size_out: 1 << 16,
                    repeat: 1,
                    ..TestRun::default()
                }
            };
            match backend.prog_test_run(program, &run) {
                Ok(r) => {
                    let hex: String = r.data_out.iter().map(|b| format!("{b:02x}")).collect();
                    format!("{:#x} {hex}", r.retval)
                }
                Err(e) => e.errno.to_string(),
            }
        });
        let outcomes = outcomes.collect();
        backend.close(program);
        Ok(outcomes)
    }
}
