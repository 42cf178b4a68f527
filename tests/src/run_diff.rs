//! `BPF_PROG_TEST_RUN` in both backends: random arguments, most of them odd; verdict, packet and context must be the same.

use crate::helper_diff::{mov, plain_load};
use crate::random::Random;
use skep_abi::prog_flags::{BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS};
use skep_abi::{AttachType, ProgType};
use skep_bpf::{Backend, ProgLoad, TestRun};
use skep_isa::{Slot, opcode as op};

/// Program types that can be run, with the flags of their programs and the bytes of their context.
const TYPES: &[(ProgType, u32, usize)] = &[
    (ProgType::SchedCls, 0, 192),
    (ProgType::SocketFilter, 0, 192),
    (ProgType::CgroupSkb, 0, 192),
    (ProgType::LwtXmit, 0, 192),
    (ProgType::Xdp, 0, 24),
    (ProgType::Xdp, BPF_F_XDP_HAS_FRAGS, 24),
    (ProgType::FlowDissector, 0, 12),
    (ProgType::RawTracepoint, 0, 16),
    (ProgType::Syscall, BPF_F_SLEEPABLE, 64),
    (ProgType::SkLookup, 0, 72),
    (ProgType::Kprobe, 0, 168),
    (ProgType::Tracepoint, 0, 64),
    (ProgType::PerfEvent, 0, 184),
];

const DATA_BYTES: &[usize] = &[
    0, 1, 13, 14, 15, 34, 64, 64, 64, 200, 1500, 3519, 3520, 4096, 5000, 70_000,
];
const ODD_BYTES: &[usize] = &[0, 1, 3, 4, 8, 200, 4096, 5000, 70_000];

/// Where the family lies in `struct bpf_sk_lookup`; the protocol follows.
const SK_FAMILY_AT: usize = 8;

/// A type and arguments.
#[derive(Clone, Debug)]
pub struct Run {
    prog_type: ProgType,
    prog_flags: u32,
    retval: u32,
    run: TestRun,
}

impl Run {
    /// A random one.
    #[must_use]
    pub fn random(random: &mut Random) -> Self {
        let (prog_type, prog_flags, ctx_bytes) = *random.of(TYPES);
        let bytes = |random: &mut Random, len: usize| -> Vec<u8> {
            let zeros = random.below(2) == 0;
            let byte = |random: &mut Random| {
                let odd = random.below(if zeros { 400 } else { 8 }) == 0;
                if odd { random.next_u64() as u8 } else { 0 }
            };
            (0..len).map(|_| byte(random)).collect()
        };
        let data_in = (random.below(5) != 0).then(|| {
            let len = *random.of(DATA_BYTES);
            let mut data = bytes(random, len);
            if len >= 14 {
                let ethertype: [u8; 2] = *random.of(&[[8, 0], [0x86, 0xdd], [8, 6]]);
                data[12..14].copy_from_slice(&ethertype);
            }
            data
        });
        let ctx_len = match random.below(4) {
            0 => *random.of(ODD_BYTES),
            1 => ctx_bytes + random.below(9) as usize,
            _ => ctx_bytes,
        };
        let mut ctx_in = (random.below(2) == 0).then(|| bytes(random, ctx_len));
        if let (ProgType::SkLookup, Some(ctx)) = (prog_type, &mut ctx_in)
            && ctx.len() > SK_FAMILY_AT + 4
            && random.below(4) != 0
        {
            ctx[..8].fill(0);
            ctx[SK_FAMILY_AT..SK_FAMILY_AT + 4].copy_from_slice(&[
                *random.of(&[2, 10, 1]),
                0,
                0,
                0,
            ]);
            ctx[SK_FAMILY_AT + 4] = *random.of(&[6, 17, 1]);
        }
        let rarely = |random: &mut Random, values: &[u32]| {
            if random.below(6) == 0 {
                *random.of(values)
            } else {
                0
            }
        };
        let data_size_out = match random.below(3) {
            0 => 0,
            1 => *random.of(ODD_BYTES) as u32,
            _ => 1 << 17,
        };
        let ctx_size_out = match random.below(3) {
            0 => 0,
            1 => *random.of(ODD_BYTES) as u32,
            _ => ctx_bytes as u32,
        };
        let run = TestRun {
            data_in,
            ctx_in,
            data_size_out,
            ctx_size_out,
            repeat: rarely(random, &[1, 1, 2, 5]),
            flags: rarely(random, &[1, 8, 16, 1 << 31]),
            cpu: rarely(random, &[0, 1, 7, u32::MAX]),
            batch_size: rarely(random, &[1, 64, 257]),
        };
        Self {
            prog_type,
            prog_flags,
            retval: random.below(2) as u32,
            run,
        }
    }

    /// What a backend says.
    ///
    /// # Errors
    /// A sentence if it does not take the program.
    pub fn outcome(&self, backend: &dyn Backend) -> Result<String, String> {
        let mut insns = Vec::new();
        mov(&mut insns, 0, self.retval.into());
        insns.push(Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0));
        let load = ProgLoad {
            prog_flags: self.prog_flags,
            expected_attach_type: (self.prog_type == ProgType::SkLookup)
                .then_some(AttachType::SkLookup),
            ..plain_load(self.prog_type, &insns)
        };
        let program = backend.prog_load(&load).map_err(|e| e.errno.to_string())?;
        let result = backend.prog_test_run(program, &self.run);
        backend.close(program);
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        Ok(match result {
            Ok(r) => format!(
                "{} data {} ctx {}",
                r.retval,
                hex(&r.data_out),
                hex(&r.ctx_out)
            ),
            Err(e) => e.errno.to_string(),
        })
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            prog_type,
            prog_flags,
            retval,
            run,
        } = self;
        let len = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(Vec::len);
        let set = |bytes: &Option<Vec<u8>>| -> Vec<usize> {
            let bytes = bytes.as_deref().unwrap_or_default().iter().enumerate();
            bytes
                .filter(|(_, b)| **b != 0)
                .map(|(at, _)| at)
                .take(8)
                .collect()
        };
        write!(
            f,
            "{} flags {prog_flags:#x} returns {retval}: data {:?} (out {}), ctx {:?} set at {:?} (out {}), repeat {} flags {:#x} cpu {} batch {}",
            prog_type.name(),
            len(&run.data_in),
            run.data_size_out,
            len(&run.ctx_in),
            set(&run.ctx_in),
            run.ctx_size_out,
            run.repeat,
            run.flags,
            run.cpu,
            run.batch_size
        )
    }
}
