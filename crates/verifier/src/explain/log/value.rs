//! Registers and stack as the kernel's log writes them.

use super::super::record::PathStep;
use super::super::scene::Scene;
use super::in_callback;
use crate::domain::Scalar;
use crate::dynptr::kind_of;
use crate::iter::is_active;
use crate::reg::{ADD_CONST, Flags, Kind, Reg, source};
use crate::state::{Byte, Frame, StackSlot};
use skep_abi::helper::DynptrKind;
use skep_isa::{Call, Insn, Src};
use std::fmt::Write;

/// Numbers beyond these are written in hexadecimal.
const DECIMAL: std::ops::RangeInclusive<i64> = i16::MIN as i64..=i16::MAX as i64;
const UNSIGNED_DECIMAL_MAX: u64 = u16::MAX as u64;

/// What an instruction reads and writes.
pub(super) enum Touched {
    All,
    /// Registers, and slots of the stack.
    Some(Vec<usize>, Vec<usize>),
}

impl Touched {
    /// What the instruction of step `before` touched.
    pub(super) fn by(insn: Option<&Insn>, before: &PathStep) -> Self {
        let reg = |src: &Src| match src {
            Src::Reg(r) => Some(r.index()),
            Src::Imm(_) => None,
        };
        let mut slots = Vec::new();
        let registers = match insn {
            Some(
                Insn::Alu { dst, src, .. }
                | Insn::Mov { dst, src, .. }
                | Insn::JumpIf { dst, src, .. },
            ) => {
                let mut all = vec![dst.index()];
                all.extend(reg(src));
                all
            }
            Some(
                Insn::Movsx { dst, src, .. }
                | Insn::AddrSpaceCast { dst, src, .. }
                | Insn::Load { dst, src, .. }
                | Insn::LoadAcquire { dst, src, .. },
            ) => vec![dst.index(), src.index()],
            Some(Insn::Store {
                dst,
                src,
                offset,
                size,
            }) => {
                slots = slots_at(before, dst.index(), *offset, size.bytes());
                let mut all = vec![dst.index()];
                all.extend(reg(src));
                all
            }
            Some(
                Insn::Atomic {
                    dst,
                    src,
                    offset,
                    size,
                    ..
                }
                | Insn::StoreRelease {
                    dst,
                    src,
                    offset,
                    size,
                },
            ) => {
                slots = slots_at(before, dst.index(), *offset, size.bytes());
                vec![dst.index(), src.index()]
            }
            Some(Insn::Neg { dst, .. } | Insn::End { dst, .. } | Insn::LoadImm64 { dst, .. }) => {
                vec![dst.index()]
            }
            Some(Insn::Call(Call::Subprog(_))) => vec![],
            // A call may write what its arguments point to.
            Some(Insn::Call(_)) => {
                let arguments = (1..=5).flat_map(|i| slots_at(before, i, 0, 1));
                slots = arguments.collect();
                (0..=5).collect()
            }
            Some(Insn::LoadAbs { .. } | Insn::LoadInd { .. }) => (0..=5).collect(),
            Some(Insn::Exit) => vec![0],
            _ => Vec::new(),
        };
        Self::Some(registers, slots)
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Some(registers, slots) if registers.is_empty() && slots.is_empty())
    }

    fn has_register(&self, i: usize) -> bool {
        match self {
            Self::All => true,
            Self::Some(registers, _) => registers.contains(&i),
        }
    }

    fn has_slot(&self, i: usize) -> bool {
        match self {
            Self::All => true,
            Self::Some(_, slots) => slots.contains(&i),
        }
    }
}

/// The slots of the stack that an access through register `base` is to.
fn slots_at(step: &PathStep, base: usize, offset: i16, bytes: u32) -> Vec<usize> {
    let Some(frame) = step.frames.last() else {
        return Vec::new();
    };
    let base = &frame.regs[base];
    let at = base.fixed_offset().filter(|_| base.kind == Kind::Stack);
    let Some(first) = at.map(|at| at + i64::from(offset)) else {
        return Vec::new();
    };
    let slot = |at: i64| usize::try_from((-1 - at).div_euclid(8)).ok();
    let mut slots: Vec<usize> = (first..first + i64::from(bytes)).filter_map(slot).collect();
    slots.dedup();
    slots
}

/// What is known at a step.
pub(super) struct State<'s, 'a> {
    pub(super) scene: &'s Scene<'a>,
    pub(super) step: &'s PathStep,
}

impl State<'_, '_> {
    /// Everything about the innermost frame.
    pub(super) fn all(&self) -> String {
        self.frame(self.step.frames.len().saturating_sub(1), &Touched::All)
    }

    /// What was touched of a frame.
    pub(super) fn frame(&self, index: usize, touched: &Touched) -> String {
        let mut parts = Vec::new();
        if index > 0 {
            parts.push(format!("frame{index}:"));
        }
        let Some(frame) = self.step.frames.get(index) else {
            return String::new();
        };
        let registers = frame.regs.iter().enumerate();
        let known = registers.filter(|(i, r)| r.kind != Kind::NotInit && touched.has_register(*i));
        parts.extend(known.map(|(i, r)| format!("R{i}={}", self.register(r, index))));
        let slots = frame
            .stack
            .iter()
            .enumerate()
            .filter(|(i, _)| touched.has_slot(*i));
        parts.extend(slots.filter_map(|(i, s)| self.slot(frame, (i, s), index)));
        let refs: Vec<String> = self.step.refs.iter().map(|r| r.id.to_string()).collect();
        if !refs.is_empty() {
            parts.push(format!("refs={}", refs.join(",")));
        }
        if in_callback(self.step) {
            parts.push("cb".to_owned());
        }
        parts.join(" ")
    }

    /// A slot of the stack that holds something.
    fn slot(&self, frame: &Frame, (i, slot): (usize, &StackSlot), depth: usize) -> Option<String> {
        if slot.bytes.iter().all(|b| *b == Byte::Invalid) {
            return None;
        }
        let at = -8 * (i64::try_from(i).ok()? + 1);
        let mut text = format!("fp{at}=");
        if let Some(object) = self.object(slot) {
            // Of an object in several slots the lowest one speaks.
            let below = frame.stack.get(i + 1);
            let goes_on = below.is_some_and(|b| {
                b.bytes[0] == slot.bytes[0]
                    && (b.reg.id, b.reg.ref_id) == (slot.reg.id, slot.reg.ref_id)
            });
            return (!goes_on).then(|| text + &object);
        }
        for byte in slot.bytes {
            text.push(match byte {
                Byte::Spill => break,
                Byte::Misc => 'm',
                Byte::Zero => '0',
                Byte::Invalid => '?',
                Byte::Dynptr => 'd',
                Byte::Iter => 'i',
                Byte::IrqFlag => 'f',
            });
        }
        if slot.is_spill() {
            text.push_str(&self.register(&slot.reg, depth));
        }
        Some(text)
    }

    /// The dynptr or iterator in a slot.
    fn object(&self, slot: &StackSlot) -> Option<String> {
        let reg = &slot.reg;
        match slot.bytes[0] {
            Byte::Dynptr => {
                let kind = match kind_of(reg) {
                    DynptrKind::Any => "",
                    DynptrKind::Local => "local",
                    DynptrKind::Ringbuf => "ringbuf",
                    DynptrKind::Skb => "skb",
                    DynptrKind::Xdp => "xdp",
                    DynptrKind::SkbMeta => "skb_meta",
                };
                let held = match reg.ref_id {
                    0 => String::new(),
                    id => format!("ref_id={id},"),
                };
                let id = reg.id;
                Some(format!("dynptr_{kind}(id={id},{held}dynptr_id={id})"))
            }
            Byte::Iter => {
                let btf = self.scene.req.kernel_btf?;
                let name = btf.get(reg.aux)?.name().trim_start_matches("bpf_");
                let state = if is_active(slot) { "active" } else { "drained" };
                let (id, depth) = (reg.ref_id, reg.aux2);
                Some(format!("{name}(ref_id={id},state={state},depth={depth})"))
            }
            _ => None,
        }
    }

    /// A register's value.
    fn register(&self, r: &Reg, depth: usize) -> String {
        if r.is_scalar() {
            return scalar(r);
        }
        if r.kind == Kind::Stack
            && let Some(at) = r.fixed_offset()
        {
            let frame = r.aux as usize;
            let frame = if frame == depth {
                String::new()
            } else {
                format!("[{frame}]")
            };
            return format!("fp{frame}{}", signed(at));
        }
        let mut attributes: Vec<String> = Vec::new();
        let mut put = |name: &str, value: String| attributes.push(format!("{name}={value}"));
        if r.id != 0 {
            put("id", r.id.to_string());
        }
        if r.ref_id != 0 {
            put("ref_obj_id", r.ref_id.to_string());
        }
        if matches!(r.kind, Kind::ConstMap | Kind::MapValue | Kind::MapKey)
            && let Some(map) = self.scene.req.maps.get(r.aux as usize)
        {
            put("map", map.name.clone());
            put("ks", map.key_size.to_string());
            put("vs", map.value_size.to_string());
        }
        if r.off != 0 {
            put("off", signed(r.off.into()));
        }
        if r.is_packet() {
            put("r", r.aux.to_string());
        }
        if r.kind == Kind::Mem {
            put("sz", r.aux.to_string());
        }
        match r.var.as_const() {
            Some(0) => {}
            Some(value) => put("imm", signed(value.cast_signed())),
            None => attributes.extend(ranges(&r.var)),
        }
        if r.flags.has(Flags::NON_OWN_REF) {
            attributes.push("non_own_ref".to_owned());
        }
        format!("{}({})", self.kind(r), attributes.join(","))
    }

    /// What a pointer is, with the name of the structure it points to.
    fn kind(&self, r: &Reg) -> String {
        let mut text = kind(r);
        if r.kind == Kind::Btf {
            let btf = match r.aux2 {
                source::KERNEL => self.scene.req.kernel_btf,
                _ => self.scene.req.btf,
            };
            text.push_str(btf.and_then(|b| b.get(r.aux)).map_or("", |t| t.name()));
        }
        text
    }
}

/// Words for what a register holds.
pub(super) fn kind(r: &Reg) -> String {
    const PREFIXES: &[(Flags, &str)] = &[
        (Flags::RDONLY, "rdonly_"),
        (Flags::RINGBUF, "ringbuf_"),
        (Flags::USER, "user_"),
        (Flags::PERCPU, "percpu_"),
        (Flags::RCU, "rcu_"),
        (Flags::UNTRUSTED, "untrusted_"),
        (Flags::TRUSTED, "trusted_"),
    ];
    let mut text = String::new();
    for (flag, prefix) in PREFIXES {
        if r.flags.has(*flag) {
            text.push_str(prefix);
        }
    }
    text.push_str(match r.kind {
        Kind::NotInit => "?",
        Kind::Scalar => "scalar",
        Kind::Ctx => "ctx",
        Kind::ConstMap => "map_ptr",
        Kind::MapValue => "map_value",
        Kind::MapKey => "map_key",
        Kind::Stack => "fp",
        Kind::PktMeta => "pkt_meta",
        Kind::Pkt => "pkt",
        Kind::PktEnd => "pkt_end",
        Kind::FlowKeys => "flow_keys",
        Kind::Socket => "sock",
        Kind::SockCommon => "sock_common",
        Kind::TcpSock => "tcp_sock",
        Kind::XdpSock => "xdp_sock",
        Kind::TpBuffer => "tp_buffer",
        Kind::Btf => "ptr_",
        Kind::Mem => "mem",
        Kind::Func => "func",
        Kind::Arena => "arena",
        Kind::Dynptr => "dynptr_ptr",
        Kind::Iter => "iter",
        Kind::IrqFlag => "irq_flag",
    });
    if r.is_nullable() {
        text.push_str(if r.kind == Kind::Btf {
            "or_null_"
        } else {
            "_or_null"
        });
    }
    text
}

fn scalar(r: &Reg) -> String {
    let precise = if r.precise { "P" } else { "" };
    if let Some(value) = r.var.as_const() {
        return format!("{precise}{}", signed(value.cast_signed()));
    }
    let mut attributes = Vec::new();
    let id = r.id & !ADD_CONST;
    if id != 0 {
        let moved = if r.id & ADD_CONST == 0 {
            String::new()
        } else {
            format!("{:+}", r.off)
        };
        attributes.push(format!("id={id}{moved}"));
    }
    attributes.extend(ranges(&r.var));
    format!("{precise}scalar({})", attributes.join(","))
}

/// The bounds that say something; bounds of both signs with one value stand together.
fn ranges(s: &Scalar) -> Vec<String> {
    /// A bound: its name, value, whether it is signed and whether it says nothing.
    struct Bound(&'static str, i64, bool, bool);
    let mut bounds = [
        Bound("smin", s.smin, true, s.smin == i64::MIN),
        Bound("smax", s.smax, true, s.smax == i64::MAX),
        Bound("umin", s.umin.cast_signed(), false, s.umin == 0),
        Bound("umax", s.umax.cast_signed(), false, s.umax == u64::MAX),
        Bound("smin32", s.s32_min.into(), true, s.s32_min == i32::MIN),
        Bound("smax32", s.s32_max.into(), true, s.s32_max == i32::MAX),
        Bound("umin32", s.u32_min.into(), false, s.u32_min == 0),
        Bound("umax32", s.u32_max.into(), false, s.u32_max == u32::MAX),
    ];
    let mut found = Vec::new();
    for first in 0..bounds.len() {
        let Bound(name, value, is_signed, silent) = bounds[first];
        if silent {
            continue;
        }
        let is_negative = is_signed && value < 0;
        let mut text = format!("{name}=");
        // Minima and maxima take turns.
        for other in bounds.iter_mut().skip(first + 2).step_by(2) {
            let same = !other.3 && other.1 == value && (other.2 && other.1 < 0) == is_negative;
            if same {
                other.3 = true;
                // Writing to a string cannot fail.
                let _ = write!(text, "{}=", other.0);
            }
        }
        text.push_str(&if is_signed {
            signed(value)
        } else {
            unsigned(value.cast_unsigned())
        });
        found.push(text);
    }
    if s.bits.mask != u64::MAX {
        found.push(format!("var_off={}", tnum(s)));
    }
    found
}

/// Known and unknown bits.
pub(super) fn tnum(s: &Scalar) -> String {
    format!("({:#x}; {:#x})", s.bits.value, s.bits.mask)
}

/// A signed number.
fn signed(value: i64) -> String {
    if DECIMAL.contains(&value) {
        value.to_string()
    } else {
        format!("{value:#x}")
    }
}

fn unsigned(value: u64) -> String {
    if value <= UNSIGNED_DECIMAL_MAX {
        value.to_string()
    } else {
        format!("{value:#x}")
    }
}
