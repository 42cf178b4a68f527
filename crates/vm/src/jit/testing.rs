//! What the tests of the compilers need: programs without a proof, a plain evaluator of ops, random programs.
//!
//! Nothing here goes through the verifier, so that each compiler can be tested alone; the tests of whole programs are in the
//! workspace's `tests`.

use super::image::{CodeImage, Symbol, Tier};
use super::link::Code;
use super::source::Source;
use crate::env::RunEnv;
use crate::lowered::{Func, Mem, MoveOp, Op, OpIdx, Space, moved};
use skep_isa::{AluOp, AtomicOp, EndOp, Extend, JmpOp, Reg, Size, Src, Width};
use skep_verifier::{Caps, InsnFact, MapDesc, PointerLimit};
use std::sync::atomic::AtomicU32;

/// Bytes of the only map's only value.
pub(crate) const VALUE_BYTES: usize = 4096;

/// A program lowered without facts.
pub(crate) struct TestProgram {
    pub(crate) ops: Vec<Op>,
    pub(crate) funcs: Vec<Func>,
    pub(crate) slots: Vec<u32>,
    pub(crate) facts: Vec<InsnFact>,
    pub(crate) maps: Vec<MapDesc>,
}

impl TestProgram {
    /// A program of one function.
    pub(crate) fn of_ops(ops: Vec<Op>, stack_bytes: u32) -> Self {
        let end = ops.len() as OpIdx;
        Self {
            slots: (0..end).collect(),
            facts: vec![InsnFact::default(); ops.len()],
            funcs: vec![Func {
                start: 0,
                body: 0,
                end,
                stack_bytes,
                is_callback: false,
                has_tail_call: false,
                has_may_goto: false,
            }],
            ops,
            maps: vec![array_map()],
        }
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source {
            ops: &self.ops,
            funcs: &self.funcs,
            callees: &[],
            slots: &self.slots,
            facts: &self.facts,
            maps: &self.maps,
            throws: false,
            exception_callback: None,
            caps: Caps::All,
        }
    }

    pub(crate) fn compile(&self, tier: Tier) -> CodeImage {
        super::compile_source(self.source(), tier)
    }
}

fn array_map() -> MapDesc {
    MapDesc {
        name: "value".to_owned(),
        map_type: skep_abi::MapType::Array,
        key_size: 4,
        value_size: VALUE_BYTES as u32,
        max_entries: 1,
        map_flags: 0,
        map_extra: 0,
        record: std::sync::Arc::default(),
        has_btf: false,
        btf: None,
        inner: None,
        frozen: None,
        owner: None,
        id: 0,
    }
}

/// A run environment without a program.
pub(crate) fn test_env(stop: &AtomicU32) -> RunEnv {
    RunEnv {
        program: std::ptr::null(),
        call_back: None,
        stack_top: std::ptr::null_mut(),
        stack_limit: std::ptr::null_mut(),
        tail_calls: 0,
        thrown: 0,
        runner: skep_maps::Runner { cpu: 0, token: 0 },
        pid_tgid: 0,
        depth: 0,
        sections: 0,
        thrown_value: 0,
        stop,
        arena_user_base: 0,
        arena_base: 0,
        world: std::ptr::null_mut(),
    }
}

/// Links an image whose only map value is `value`.
pub(crate) fn link(image: &CodeImage, value: *mut u8) -> Code {
    Code::link(image, |symbol| match symbol {
        Symbol::MapValue { offset, .. } => Some(value as u64 + u64::from(offset)),
        _ => None,
    })
    .unwrap()
}

/// Runs linked code with `r1 = ctx`.
pub(crate) fn run(code: &Code, ctx: *mut u8) -> u64 {
    let stop = AtomicU32::new(0);
    let mut env = test_env(&stop);
    // SAFETY: test programs access only `ctx`, the value they were linked to, and their frames.
    unsafe { code.entry()(&raw mut env, ctx) }
}

/// Evaluates a program op by op: the reference for compiled code. `None` after `fuel` ops.
pub(crate) fn evaluate(
    p: &TestProgram,
    value: *mut u8,
    ctx: *mut u8,
    fuel: &mut u32,
) -> Option<u64> {
    let mut regs = [0; Reg::COUNT];
    regs[1] = ctx as u64;
    evaluate_func(p, 0, regs, value, fuel)
}

fn evaluate_func(
    p: &TestProgram,
    func: u32,
    mut r: [u64; 11],
    value: *mut u8,
    fuel: &mut u32,
) -> Option<u64> {
    let f = &p.funcs[func as usize];
    let mut frame = vec![0u64; f.stack_bytes as usize / 8 + 1];
    r[10] = frame.as_mut_ptr() as u64 + u64::from(f.stack_bytes);
    let mut pc = f.start;
    loop {
        *fuel = fuel.checked_sub(1)?;
        let op = p.ops[pc as usize];
        pc += 1;
        match op {
            Op::Exit => return Some(r[0]),
            Op::Jump { target } => pc = target,
            Op::JumpIf {
                width,
                op,
                dst,
                src,
                target,
            } => {
                if compare(width, op, r[dst.index()], operand(&r, src)) {
                    pc = target;
                }
            }
            Op::MayGoto { .. } => {}
            Op::CallFunc { func } => {
                let mut callee = [0; 11];
                callee[1..6].copy_from_slice(&r[1..6]);
                r[0] = evaluate_func(p, func, callee, value, fuel)?;
            }
            Op::MapValueAddr { dst, offset, .. } => {
                r[dst.index()] = value as u64 + u64::from(offset);
            }
            other => step(other, &mut r),
        }
    }
}

fn operand(r: &[u64; 11], src: Src) -> u64 {
    match src {
        Src::Reg(s) => r[s.index()],
        Src::Imm(i) => i64::from(i) as u64,
    }
}

fn step(op: Op, r: &mut [u64; 11]) {
    match op {
        Op::Alu {
            width,
            op,
            dst,
            src,
        } => r[dst.index()] = alu(width, op, r[dst.index()], operand(r, src)),
        Op::MovePointer {
            op,
            dst,
            src,
            limit,
        } => r[dst.index()] = moved(op, r[dst.index()], r[src.index()], limit),
        Op::Neg {
            width: Width::W64,
            dst,
        } => r[dst.index()] = r[dst.index()].wrapping_neg(),
        Op::Neg { dst, .. } => r[dst.index()] = u64::from((r[dst.index()] as u32).wrapping_neg()),
        Op::Mov { width, dst, src } => r[dst.index()] = cut(width, r[src.index()]),
        Op::Movsx {
            width,
            from,
            dst,
            src,
        } => r[dst.index()] = cut(width, sign(from, r[src.index()])),
        Op::End { op, size, dst } => {
            let v = r[dst.index()];
            r[dst.index()] = match (op, size) {
                (EndOp::ToLe, Size::DW) => v,
                (EndOp::ToLe, _) => v & ((1 << size.bits()) - 1),
                _ => v.swap_bytes() >> (64 - size.bits()),
            };
        }
        Op::Const { dst, value } => r[dst.index()] = value,
        Op::Load {
            size,
            extend,
            dst,
            mem,
        } => {
            let v = peek(size, r[mem.base.index()], mem.offset);
            r[dst.index()] = if extend == Extend::Sign {
                sign(size, v)
            } else {
                v
            };
        }
        Op::LoadAcquire { size, dst, mem } => {
            r[dst.index()] = peek(size, r[mem.base.index()], mem.offset);
        }
        Op::Store { size, src, mem } => {
            poke(size, r[mem.base.index()], mem.offset, operand(r, src));
        }
        Op::StoreRelease { size, src, mem } => {
            poke(size, r[mem.base.index()], mem.offset, r[src.index()]);
        }
        Op::Atomic { size, op, src, mem } => atomic(size, op, src, mem, r),
        other => panic!("tests do not use {other:?}"),
    }
}

fn atomic(size: Size, op: AtomicOp, src: Reg, mem: Mem, r: &mut [u64; 11]) {
    let at = r[mem.base.index()];
    let old = peek(size, at, mem.offset);
    let s = r[src.index()];
    let expected = if size == Size::W {
        u64::from(r[0] as u32)
    } else {
        r[0]
    };
    let new = match op {
        AtomicOp::Add { .. } => old.wrapping_add(s),
        AtomicOp::Or { .. } => old | s,
        AtomicOp::And { .. } => old & s,
        AtomicOp::Xor { .. } => old ^ s,
        AtomicOp::Xchg => s,
        AtomicOp::Cmpxchg => {
            if old == expected {
                s
            } else {
                old
            }
        }
    };
    poke(size, at, mem.offset, new);
    if op == AtomicOp::Cmpxchg {
        r[0] = old;
    } else if op.fetches() {
        r[src.index()] = old;
    }
}

fn cut(width: Width, v: u64) -> u64 {
    match width {
        Width::W32 => u64::from(v as u32),
        Width::W64 => v,
    }
}

fn sign(from: Size, v: u64) -> u64 {
    let shift = 64 - from.bits();
    ((v << shift) as i64 >> shift) as u64
}

fn alu(width: Width, op: AluOp, a: u64, b: u64) -> u64 {
    let wide = width == Width::W64;
    let (a, b) = (cut(width, a), cut(width, b));
    let (sa, sb) = if wide {
        (a as i64, b as i64)
    } else {
        (i64::from(a as i32), i64::from(b as i32))
    };
    let mask = if wide { 63 } else { 31 };
    let v = match op {
        AluOp::Add => a.wrapping_add(b),
        AluOp::Sub => a.wrapping_sub(b),
        AluOp::Mul => a.wrapping_mul(b),
        AluOp::Div => a.checked_div(b).unwrap_or(0),
        AluOp::Mod => a.checked_rem(b).unwrap_or(a),
        AluOp::Sdiv => {
            if sb == 0 {
                0
            } else {
                sa.wrapping_div(sb) as u64
            }
        }
        AluOp::Smod => {
            if sb == 0 {
                a
            } else {
                sa.wrapping_rem(sb) as u64
            }
        }
        AluOp::Or => a | b,
        AluOp::And => a & b,
        AluOp::Xor => a ^ b,
        AluOp::Lsh => a << (b & mask),
        AluOp::Rsh => a >> (b & mask),
        AluOp::Arsh => (sa >> (b & mask)) as u64,
    };
    cut(width, v)
}

fn compare(width: Width, op: JmpOp, a: u64, b: u64) -> bool {
    let (a, b) = (cut(width, a), cut(width, b));
    let (sa, sb) = match width {
        Width::W64 => (a as i64, b as i64),
        Width::W32 => (i64::from(a as i32), i64::from(b as i32)),
    };
    match op {
        JmpOp::Eq => a == b,
        JmpOp::Ne => a != b,
        JmpOp::Gt => a > b,
        JmpOp::Ge => a >= b,
        JmpOp::Lt => a < b,
        JmpOp::Le => a <= b,
        JmpOp::Set => a & b != 0,
        JmpOp::Sgt => sa > sb,
        JmpOp::Sge => sa >= sb,
        JmpOp::Slt => sa < sb,
        JmpOp::Sle => sa <= sb,
    }
}

fn peek(size: Size, base: u64, offset: i32) -> u64 {
    let at = base.wrapping_add(i64::from(offset) as u64) as *const u8;
    // SAFETY: test programs stay in their memory.
    unsafe {
        match size {
            Size::B => u64::from(at.read()),
            Size::H => u64::from(at.cast::<u16>().read_unaligned()),
            Size::W => u64::from(at.cast::<u32>().read_unaligned()),
            Size::DW => at.cast::<u64>().read_unaligned(),
        }
    }
}

fn poke(size: Size, base: u64, offset: i32, v: u64) {
    let at = base.wrapping_add(i64::from(offset) as u64) as *mut u8;
    // SAFETY: as above.
    unsafe {
        match size {
            Size::B => at.write(v as u8),
            Size::H => at.cast::<u16>().write_unaligned(v as u16),
            Size::W => at.cast::<u32>().write_unaligned(v as u32),
            Size::DW => at.cast::<u64>().write_unaligned(v),
        }
    }
}

/// A small pseudo-random generator (xorshift64*), for reproducible tests.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

const CONSTANTS: &[u64] = &[
    0,
    1,
    2,
    7,
    8,
    31,
    32,
    63,
    64,
    255,
    256,
    65535,
    65536,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    0x7fff_ffff_ffff_ffff,
    1 << 63,
    u64::MAX,
    u64::MAX - 1,
    0xffff_ffff_8000_0000,
];

/// Random ops that only touch registers `r0`–`r9`, the frame and the value at `r9`; forward jumps and counted loops.
pub(crate) fn random_program(rng: &mut Random) -> TestProgram {
    let n = 4 + rng.below(40);
    random_program_of(rng, n)
}

/// As [`random_program`], of about `n` steps.
pub(crate) fn random_program_of(rng: &mut Random, n: u64) -> TestProgram {
    let stack_bytes = 64;
    let mut ops = Vec::new();
    let r = |n: u8| Reg::new(n).unwrap();
    for n in 0..9 {
        let value = rng.pick(CONSTANTS).wrapping_add(rng.below(3));
        ops.push(Op::Const { dst: r(n), value });
        if rng.below(2) == 0 {
            let base = r(9);
            ops.insert(
                0,
                Op::MapValueAddr {
                    dst: base,
                    map: 0,
                    offset: 0,
                },
            );
            let mem = Mem {
                base,
                offset: (rng.below(256) * 8) as i32,
                space: Space::Plain,
            };
            ops.push(Op::Load {
                size: Size::DW,
                extend: Extend::Zero,
                dst: r(n),
                mem,
            });
        }
    }
    ops.push(Op::MapValueAddr {
        dst: r(9),
        map: 0,
        offset: 0,
    });
    for slot in 0..8 {
        let mem = Mem {
            base: Reg::R10,
            offset: -8 * (slot + 1),
            space: Space::Plain,
        };
        ops.push(Op::Store {
            size: Size::DW,
            src: Src::Reg(r(slot as u8)),
            mem,
        });
    }
    random_body(rng, &mut ops, n, 0);
    ops.push(Op::Exit);
    TestProgram::of_ops(ops, stack_bytes)
}

fn random_body(rng: &mut Random, ops: &mut Vec<Op>, n: u64, depth: u32) {
    for _ in 0..n {
        match rng.below(24) {
            0 | 1 if depth < 3 => random_branch(rng, ops, depth),
            2 if depth < 2 => random_loop(rng, ops, depth),
            3..=6 => random_access(rng, ops),
            _ => random_alu(rng, ops),
        }
    }
}

fn any_width(rng: &mut Random) -> Width {
    rng.pick(&[Width::W32, Width::W64])
}

fn any_reg(rng: &mut Random) -> Reg {
    Reg::new(rng.below(8) as u8).unwrap()
}

fn any_src(rng: &mut Random) -> Src {
    if rng.below(2) == 0 {
        Src::Reg(any_reg(rng))
    } else {
        Src::Imm(rng.pick(CONSTANTS) as i32)
    }
}

fn random_alu(rng: &mut Random, ops: &mut Vec<Op>) {
    let (width, dst) = (any_width(rng), any_reg(rng));
    let all = [
        AluOp::Add,
        AluOp::Sub,
        AluOp::Mul,
        AluOp::Div,
        AluOp::Sdiv,
        AluOp::Or,
        AluOp::And,
        AluOp::Lsh,
        AluOp::Rsh,
        AluOp::Mod,
        AluOp::Smod,
        AluOp::Xor,
        AluOp::Arsh,
    ];
    ops.push(match rng.below(13) {
        0 => Op::Neg { width, dst },
        12 => Op::MovePointer {
            op: rng.pick(&[MoveOp::Add, MoveOp::Sub]),
            dst,
            src: any_reg(rng),
            limit: PointerLimit {
                limit: rng.pick(&[0, 1, 8, 511, 1 << 20]),
                negative: rng.below(2) == 0,
                constant: false,
                pointer_is_dst: rng.below(2) == 0,
            },
        },
        1 | 2 => Op::Mov {
            width,
            dst,
            src: any_reg(rng),
        },
        3 => Op::Movsx {
            width,
            from: rng.pick(&[Size::B, Size::H]),
            dst,
            src: any_reg(rng),
        },
        4 => Op::End {
            op: rng.pick(&[EndOp::ToLe, EndOp::ToBe, EndOp::Bswap]),
            size: rng.pick(&[Size::H, Size::W, Size::DW]),
            dst,
        },
        5 => Op::Const {
            dst,
            value: rng.pick(CONSTANTS),
        },
        _ => {
            let op = rng.pick(&all);
            let shift = matches!(op, AluOp::Lsh | AluOp::Rsh | AluOp::Arsh);
            let src = match any_src(rng) {
                Src::Imm(_) if shift => {
                    Src::Imm(rng.below(if width == Width::W64 { 64 } else { 32 }) as i32)
                }
                other => other,
            };
            Op::Alu {
                width,
                op,
                dst,
                src,
            }
        }
    });
}

/// A load at an index: the address is computed in a register.
fn indexed_load(rng: &mut Random, ops: &mut Vec<Op>, size: Size, dst: Reg) -> Op {
    let at = Reg::R8;
    ops.push(Op::Mov {
        width: Width::W64,
        dst: at,
        src: any_reg(rng),
    });
    for (op, src) in [
        (AluOp::And, Src::Imm(0x3f8)),
        (AluOp::Add, Src::Reg(Reg::R9)),
    ] {
        ops.push(Op::Alu {
            width: Width::W64,
            op,
            dst: at,
            src,
        });
    }
    Op::Load {
        size,
        extend: Extend::Zero,
        dst,
        mem: Mem {
            base: at,
            offset: 16,
            space: Space::Plain,
        },
    }
}

fn random_access(rng: &mut Random, ops: &mut Vec<Op>) {
    let size = rng.pick(&[Size::B, Size::H, Size::W, Size::DW]);
    let mut mem = if rng.below(2) == 0 {
        let slot = rng.below(64 / u64::from(size.bytes())) as i32;
        Mem {
            base: Reg::R10,
            offset: -64 + slot * size.bytes() as i32,
            space: Space::Plain,
        }
    } else {
        Mem {
            base: Reg::R9,
            offset: rng.below(512) as i32,
            space: Space::Plain,
        }
    };
    let all = [
        AtomicOp::Add { fetch: false },
        AtomicOp::Add { fetch: true },
        AtomicOp::Or { fetch: true },
        AtomicOp::And { fetch: false },
        AtomicOp::And { fetch: true },
        AtomicOp::Xor { fetch: true },
        AtomicOp::Xchg,
        AtomicOp::Cmpxchg,
    ];
    let (dst, src) = (any_reg(rng), any_src(rng));
    let op = match rng.below(10) {
        0..=3 => Op::Load {
            size,
            extend: Extend::Zero,
            dst,
            mem,
        },
        4 if size != Size::DW => Op::Load {
            size,
            extend: Extend::Sign,
            dst,
            mem,
        },
        5 => {
            let size = rng.pick(&[Size::W, Size::DW]);
            mem.offset &= !7;
            Op::Atomic {
                size,
                op: rng.pick(&all),
                src: any_reg(rng),
                mem,
            }
        }
        6 => indexed_load(rng, ops, size, dst),
        _ => Op::Store { size, src, mem },
    };
    ops.push(op);
}

fn random_branch(rng: &mut Random, ops: &mut Vec<Op>, depth: u32) {
    let all = [
        JmpOp::Eq,
        JmpOp::Ne,
        JmpOp::Gt,
        JmpOp::Ge,
        JmpOp::Lt,
        JmpOp::Le,
        JmpOp::Set,
        JmpOp::Sgt,
        JmpOp::Sge,
        JmpOp::Slt,
        JmpOp::Sle,
    ];
    let at = ops.len();
    ops.push(Op::JumpIf {
        width: any_width(rng),
        op: rng.pick(&all),
        dst: any_reg(rng),
        src: any_src(rng),
        target: 0,
    });
    let n = 1 + rng.below(5);
    random_body(rng, ops, n, depth + 1);
    let mut to = ops.len() as OpIdx;
    if rng.below(2) == 0 {
        let skip = ops.len();
        ops.push(Op::Jump { target: 0 });
        to += 1;
        let n = 1 + rng.below(5);
        random_body(rng, ops, n, depth + 1);
        let end = ops.len() as OpIdx;
        ops[skip] = Op::Jump { target: end };
    }
    if let Op::JumpIf { target, .. } = &mut ops[at] {
        *target = to;
    }
}

/// A loop that counts in a stack slot outside the 64 bytes that other accesses use, or in `r8`.
fn random_loop(rng: &mut Random, ops: &mut Vec<Op>, depth: u32) {
    let counter = if depth == 0 { Reg::R8 } else { return };
    ops.push(Op::Const {
        dst: counter,
        value: 0,
    });
    let top = ops.len() as OpIdx;
    let n = 1 + rng.below(8);
    for _ in 0..n {
        random_alu(rng, ops);
    }
    ops.push(Op::Alu {
        width: Width::W64,
        op: AluOp::Add,
        dst: counter,
        src: Src::Imm(1),
    });
    let count = 1 + rng.below(9) as i32;
    ops.push(Op::JumpIf {
        width: Width::W64,
        op: JmpOp::Lt,
        dst: counter,
        src: Src::Imm(count),
        target: top,
    });
}
