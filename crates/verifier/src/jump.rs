//! Conditional jumps: which sides are possible, and what each side learns.

use crate::cause::Cause;
use crate::check_alu::repair;
use crate::code;
use crate::domain::branch::{decide, refine, refine_self};
use crate::domain::{Scalar, alu};
use crate::fail::{Check, errno, fail};
use crate::reg::{ADD_CONST, ADD_CONST32, Flags, Kind, Reg};
use crate::request::MapDesc;
use crate::state::{LinkedRegs, State};
use crate::verified::Branch;
use crate::verifier::{Flow, Verifier};
use skep_abi::MapType;
use skep_abi::kernel::{Rule, has_rule};
use skep_abi::limits::MAX_PACKET_OFF;
use skep_btf::FieldKind;
use skep_isa::{AluOp, JmpOp, Reg as R, Src, Width};

/// Marks in a packet pointer's range: a comparison put it at or past the end (values of `enum` in bpf_verifier.h).
const AT_PKT_END: i32 = -1;
const BEYOND_PKT_END: i32 = -2;

impl Verifier<'_> {
    /// `if dst op src goto target`
    pub(crate) fn check_jump_if(
        &mut self,
        width: Width,
        op: JmpOp,
        dst: R,
        src: Src,
        target: usize,
    ) -> Check<Flow> {
        let next = self.insn + 1;
        self.check_readable(dst.index())?;
        let d = *self.reg(dst.index());
        let s = match src {
            Src::Reg(src) => {
                self.check_readable(src.index())?;
                let s = *self.reg(src.index());
                if !(d.is_packet_any() && s.is_packet_any()) && self.is_secret_pointer(src.index())
                {
                    return self.comparison_forbidden(src.index());
                }
                if s.kind == Kind::Stack {
                    self.push_step(|step| step.src_is_stack = true);
                }
                if d.kind == Kind::Stack {
                    self.push_step(|step| step.dst_is_stack = true);
                }
                s
            }
            Src::Imm(imm) => Reg::constant(i64::from(imm).cast_unsigned()),
        };
        let decided = if self.decides_about(width, op, &d, &s) {
            decide_jump(width, op, &d, &s)
        } else {
            None
        };
        if let Some(taken) = decided {
            if d.is_scalar() {
                self.mark_precise(dst.index())?;
            }
            if let (Src::Reg(src), true) = (src, s.is_scalar()) {
                self.mark_precise(src.index())?;
            }
            let (way, flow, other) = if taken {
                (Branch::Taken, target, next)
            } else {
                (Branch::NotTaken, next, target)
            };
            self.rec.branch(self.insn, way);
            self.speculate(other, dst, src)?;
            return Ok(Flow::Next(flow));
        }
        self.rec.branch(self.insn, Branch::Both);
        self.split(width, op, dst, src, d, s, target)?;
        Ok(Flow::Next(next))
    }

    fn comparison_forbidden<T>(&self, i: usize) -> Check<T> {
        let message = Cause::about(
            i,
            format!(
                "r{i} is {}: comparing it would reveal its address",
                self.reg(i).describe()
            ),
        );
        fail(code::POINTER_COMPARISON, errno::EACCES, message)
    }

    /// Without CAP_PERFMON the side that cannot be is walked as the CPU may speculate into it.
    fn speculate(&mut self, other: usize, dst: R, src: Src) -> Check {
        if self.privileges.speculation {
            return Ok(());
        }
        self.push_path(other, |state| {
            state.speculative = true;
            let regs = &mut state.frame_mut().regs;
            regs[dst.index()] = Reg::UNKNOWN;
            if let Src::Reg(src) = src {
                regs[src.index()] = Reg::UNKNOWN;
            }
        })
    }

    /// May the comparison be decided before it is made? Older kernels decide only about a number and a constant, and the oldest
    /// only with the constant behind the number, and about equality only of constants.
    fn decides_about(&self, width: Width, op: JmpOp, d: &Reg, s: &Reg) -> bool {
        if has_rule(self.req.kernel, Rule::RegisterComparison) || !(d.is_scalar() && s.is_scalar())
        {
            return true;
        }
        let both_ways = has_rule(self.req.kernel, Rule::EqualRanges);
        let (d_known, s_known) = (is_constant(width, d), is_constant(width, s));
        let bounds = !matches!(op, JmpOp::Eq | JmpOp::Ne);
        s_known && (d_known || both_ways || bounds) || d_known && both_ways
    }

    /// Does the comparison of these two numbers tell anything about them? Older kernels only compare with constants, apart from
    /// equality.
    fn compares_bounds(&self, width: Width, op: JmpOp, d: &Reg, s: &Reg) -> bool {
        has_rule(self.req.kernel, Rule::RegisterComparison)
            || matches!(op, JmpOp::Eq | JmpOp::Ne)
            || is_constant(width, d)
            || is_constant(width, s)
    }

    /// Is this the side on which two numbers differ, in a kernel that takes nothing from that?
    fn learns_nothing(&self, op: JmpOp, outcome: bool) -> bool {
        let differ = matches!((op, outcome), (JmpOp::Eq, false) | (JmpOp::Ne, true));
        differ && !has_rule(self.req.kernel, Rule::UnequalEnds)
    }

    /// Both sides are possible: the jump waits, the fall-through goes on.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one instruction and its operands"
    )]
    fn split(
        &mut self,
        width: Width,
        op: JmpOp,
        dst: R,
        src: Src,
        d: Reg,
        s: Reg,
        target: usize,
    ) -> Check {
        let src_reg = if let Src::Reg(r) = src {
            Some(r.index())
        } else {
            None
        };
        let linked = self.linked_with(&[(src_reg.is_some(), &s), (true, &d)]);
        if linked.len > 1 {
            self.push_linked_step(linked);
        }
        let d = *self.reg(dst.index());
        let s = src_reg.map_or(s, |i| *self.reg(i));
        let mut sides = [(d, s), (d, s)];
        if d.is_scalar() && s.is_scalar() && self.compares_bounds(width, op, &d, &s) {
            for (outcome, (a, b)) in sides.iter_mut().enumerate() {
                if self.learns_nothing(op, outcome == 1) {
                    continue;
                }
                if src_reg == Some(dst.index()) {
                    refine_self(width, op, outcome == 1, &mut a.var);
                    repair(a);
                    *b = *a;
                    continue;
                }
                refine(width, op, outcome == 1, &mut a.var, &mut b.var);
                repair(a);
                repair(b);
            }
        }
        let apply = |state: &mut State, (a, b): (Reg, Reg)| {
            let regs = &mut state.frame_mut().regs;
            regs[dst.index()] = a;
            if let Some(i) = src_reg {
                if i != dst.index() {
                    regs[i] = b;
                }
                if b.is_scalar() && b.id != 0 {
                    sync_linked(state, &b, &linked);
                }
            }
            let a = state.frame().regs[dst.index()];
            if a.is_scalar() && a.id != 0 {
                sync_linked(state, &a, &linked);
            }
        };
        let [not_taken, taken] = sides;
        let mut other = self.cur.clone();
        apply(&mut other, taken);
        apply(&mut self.cur, not_taken);
        self.learn_nullness(width, op, dst.index(), src, &d, &s, &mut other)?;
        self.push_path(target, |state| *state = other)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one instruction and its operands"
    )]
    fn learn_nullness(
        &mut self,
        width: Width,
        op: JmpOp,
        dst: usize,
        src: Src,
        d: &Reg,
        s: &Reg,
        other: &mut State,
    ) -> Check {
        let maps = self.req.maps;
        let is_equality = matches!(op, JmpOp::Eq | JmpOp::Ne);
        if let (Src::Reg(src), Width::W64, true) = (src, width, is_equality) {
            // Equal to something that is not NULL: not NULL either. Kernel pointers may be NULL without being marked.
            if d.is_pointer()
                && s.is_pointer()
                && d.is_nullable() != s.is_nullable()
                && d.kind != Kind::Btf
                && s.kind != Kind::Btf
                && has_rule(self.req.kernel, Rule::EqualPointers)
            {
                let i = if s.is_nullable() { src.index() } else { dst };
                let equal = if op == JmpOp::Eq {
                    &mut *other
                } else {
                    &mut self.cur
                };
                make_not_null(&mut equal.frame_mut().regs[i], maps);
            }
        }
        if width == Width::W64 && matches!(src, Src::Imm(0)) && is_equality && d.is_nullable() {
            // Without `Eq` the fall-through is the NULL side.
            settle_null(&mut self.cur, d, op == JmpOp::Ne, maps);
            settle_null(other, d, op == JmpOp::Eq, maps);
            return Ok(());
        }
        if let (Src::Reg(_), Width::W64) = (src, width) {
            let registers = (
                dst,
                if let Src::Reg(r) = src {
                    r.index()
                } else {
                    dst
                },
            );
            if compare_with_packet_end(op, registers, (d, s), &mut self.cur, other) {
                return Ok(());
            }
        }
        if self.is_secret_pointer(dst) {
            self.comparison_forbidden(dst)
        } else {
            Ok(())
        }
    }

    /// All scalars linked with the given ones that may still be read; those beyond the limit lose their link.
    fn linked_with(&mut self, of: &[(bool, &Reg)]) -> LinkedRegs {
        let mut linked = LinkedRegs::default();
        for id in of
            .iter()
            .filter(|(used, r)| *used && r.is_scalar() && r.id != 0)
            .map(|(_, r)| r.id & !ADD_CONST)
        {
            let mut overflow = Vec::new();
            let mut insn = self.insn;
            for (f, frame) in self.cur.frames.iter().enumerate().rev() {
                let has = |r: &Reg| r.is_scalar() && r.id & !ADD_CONST == id;
                let live = self.p.marks[insn].live_regs;
                insn = frame.callsite as usize;
                for (i, _) in frame
                    .regs
                    .iter()
                    .enumerate()
                    .take(10)
                    .filter(|(i, r)| live >> i & 1 != 0 && has(r))
                {
                    if !linked.push(f, true, i) {
                        overflow.push((f, true, i));
                    }
                }
                for (i, _) in frame
                    .stack
                    .iter()
                    .enumerate()
                    .filter(|(_, s)| s.is_spill() && has(&s.reg))
                {
                    if !linked.push(f, false, i) {
                        overflow.push((f, false, i));
                    }
                }
            }
            for (f, is_reg, i) in overflow {
                let frame = self.cur.frame_at_mut(f);
                if is_reg {
                    frame.regs[i].unlink();
                } else {
                    frame.stack_mut()[i].reg.unlink();
                }
            }
        }
        linked
    }

    /// `may_goto`: both ways, and the loop may converge.
    pub(crate) fn check_may_goto(&mut self, target: usize) -> Check<Flow> {
        let next = self.insn + 1;
        // The state kept at this very visit is one step up.
        let before = self.previous_entry(self.insn, self.cur.dfs_depth.saturating_sub(1));
        let mut other = self.cur.clone();
        other.may_goto_depth += 1;
        if let Some(before) = before {
            widen_imprecise(&self.kept[before].state, &mut other);
        }
        self.push_path(next, |state| *state = other)?;
        self.rec.branch(self.insn, Branch::Both);
        Ok(Flow::Next(target))
    }

    /// The latest unfinished kept state at slot `at` that is less deep in the walk.
    pub(crate) fn previous_entry(&self, at: usize, below_depth: u32) -> Option<u32> {
        self.kept.at(at).iter().rev().copied().find(|&id| {
            let k = &self.kept[id];
            k.branches > 0 && k.state.dfs_depth < below_depth && k.state.same_callsites(&self.cur)
        })
    }
}

/// Is this much of the number known whole?
fn is_constant(width: Width, r: &Reg) -> bool {
    match width {
        Width::W64 => r.var.as_const().is_some(),
        Width::W32 => r.var.as_const32().is_some(),
    }
}

/// Is the comparison decided already? `Some(true)`: the jump is taken.
fn decide_jump(width: Width, op: JmpOp, d: &Reg, s: &Reg) -> Option<bool> {
    if d.is_packet_any() && s.is_packet_any() && width == Width::W64 {
        return decide_packet(op, d, s);
    }
    if d.is_scalar() && s.is_scalar() {
        return decide(width, op, &d.var, &s.var);
    }
    let (pointer, scalar) = if d.is_pointer() { (d, s) } else { (s, d) };
    // Compared by halves too: the jump becomes what was decided here, whatever the lower half of the address.
    let is_zero = scalar.is_scalar()
        && match width {
            Width::W64 => scalar.var.as_const() == Some(0),
            Width::W32 => scalar.var.as_const32() == Some(0),
        };
    if pointer.is_pointer() && is_zero && pointer.is_not_null() {
        return match op {
            JmpOp::Eq => Some(false),
            JmpOp::Ne => Some(true),
            _ => None,
        };
    }
    None
}

/// A packet pointer that an earlier comparison put at or past the end.
fn decide_packet(op: JmpOp, d: &Reg, s: &Reg) -> Option<bool> {
    let (op, pointer) = if s.kind == Kind::PktEnd {
        (op, d)
    } else if d.kind == Kind::PktEnd {
        (op.mirrored(), s)
    } else {
        return None;
    };
    match (pointer.aux.cast_signed(), op) {
        (BEYOND_PKT_END, JmpOp::Gt | JmpOp::Ge) => Some(true),
        (BEYOND_PKT_END, JmpOp::Le | JmpOp::Lt) => Some(false),
        (AT_PKT_END, JmpOp::Ge) => Some(true),
        (AT_PKT_END, JmpOp::Lt) => Some(false),
        _ => None,
    }
}

/// What `known` learned holds for all scalars linked with it.
fn sync_linked(state: &mut State, known: &Reg, linked: &LinkedRegs) {
    for (f, is_reg, i) in linked.iter() {
        let frame = state.frame_at_mut(f);
        let reg = if is_reg {
            &mut frame.regs[i]
        } else {
            &mut frame.stack_mut()[i].reg
        };
        if !reg.is_scalar() || reg.id & !ADD_CONST != known.id & !ADD_CONST {
            continue;
        }
        let (mine, other) = (reg.id & ADD_CONST, known.id & ADD_CONST);
        if mine | other == ADD_CONST {
            // Distances by additions of different width do not add up.
            continue;
        }
        let distance = |mark: u32, off: i32| if mark == 0 { 0 } else { i64::from(off) };
        let delta = distance(mine, reg.off) - distance(other, known.off);
        if delta == 0 {
            *reg = Reg {
                precise: reg.precise,
                id: reg.id,
                off: reg.off,
                ..*known
            };
            continue;
        }
        let width = if (mine | other) & ADD_CONST32 != 0 {
            Width::W32
        } else {
            Width::W64
        };
        let delta = Scalar::constant(delta.cast_unsigned());
        reg.var = alu::binary(width, AluOp::Add, &known.var, &delta);
        repair(reg);
    }
}

/// All copies of a pointer that may be NULL become NULL or stop being nullable.
fn settle_null(state: &mut State, tested: &Reg, is_null: bool, maps: &[MapDesc]) {
    let id = tested.id;
    if tested.ref_id != 0 && tested.ref_id == id && is_null {
        // NULL was not acquired.
        state.refs.retain(|r| r.id != id);
    }
    state.for_each_reg(|r| {
        if r.is_nullable() && r.id == id {
            if is_null {
                *r = Reg {
                    var: Scalar::constant(0),
                    ..Reg::UNKNOWN
                };
            } else {
                make_not_null(r, maps);
                if !may_point_to_spin_lock(r, maps) {
                    r.id = 0;
                }
            }
        }
    });
}

/// Values with a lock keep their id: the same value must be locked and unlocked.
fn may_point_to_spin_lock(r: &Reg, maps: &[MapDesc]) -> bool {
    let has_lock = |m: &MapDesc| {
        m.record
            .fields
            .iter()
            .any(|f| matches!(f.kind, FieldKind::SpinLock | FieldKind::ResSpinLock))
    };
    match r.kind {
        Kind::MapValue => maps.get(r.aux as usize).is_some_and(has_lock),
        Kind::Btf => r.flags.has(Flags::ALLOC),
        _ => false,
    }
}

/// A nullable pointer was found not to be NULL; what lookups in maps of maps or of sockets give becomes what it is.
pub(crate) fn make_not_null(r: &mut Reg, maps: &[MapDesc]) {
    r.flags = r.flags.without(Flags::NULLABLE);
    if r.kind != Kind::MapValue {
        return;
    }
    match maps.get(r.aux as usize).map(|m| m.map_type) {
        Some(MapType::ArrayOfMaps | MapType::HashOfMaps) => {
            // Inner maps with timers are told apart by the id of their lookup.
            let inner = maps.get(r.aux as usize).and_then(|m| m.inner.as_ref());
            let async_field = |f: &skep_btf::Field| {
                matches!(
                    f.kind,
                    FieldKind::Timer | FieldKind::Workqueue | FieldKind::TaskWork
                )
            };
            r.kind = Kind::ConstMap;
            r.aux |= INNER_MAP;
            r.aux2 = if inner.is_some_and(|m| m.record.fields.iter().any(async_field)) {
                r.id
            } else {
                0
            };
        }
        Some(MapType::Xskmap) => r.kind = Kind::XdpSock,
        Some(MapType::Sockmap | MapType::Sockhash) => r.kind = Kind::Socket,
        _ => {}
    }
}

/// Set in the map index of a register that holds an inner map: its description is the outer map's template.
pub(crate) const INNER_MAP: u32 = 1 << 31;

/// `data + n` against `data_end` (or metadata against data): on one side, `n` bytes are accessible.
fn compare_with_packet_end(
    op: JmpOp,
    registers: (usize, usize),
    (d, s): (&Reg, &Reg),
    this: &mut State,
    other: &mut State,
) -> bool {
    let covers = |p: &Reg, end: &Reg| {
        (p.kind == Kind::Pkt && end.kind == Kind::PktEnd)
            || (p.kind == Kind::PktMeta && is_packet_start(end))
    };
    let (op, pointer, register) = if covers(d, s) {
        (op, d, registers.0)
    } else if covers(s, d) {
        (op.mirrored(), s, registers.1)
    } else {
        return false;
    };
    // A pointer proven strictly below the end has one byte more; then the other side is "at or past", else "past the end".
    let (inside, outside, strict) = match op {
        JmpOp::Gt => (this, other, false),
        JmpOp::Lt => (other, this, true),
        JmpOp::Ge => (this, other, true),
        JmpOp::Le => (other, this, false),
        _ => return false,
    };
    prove_packet_range(inside, pointer, strict);
    let mark = if strict { AT_PKT_END } else { BEYOND_PKT_END };
    let end = &mut outside.frame_mut().regs[register];
    if end.kind == Kind::Pkt {
        end.aux = mark.cast_unsigned();
    }
    true
}

/// A packet pointer that is exactly `data`.
fn is_packet_start(r: &Reg) -> bool {
    r.kind == Kind::Pkt && r.off == 0 && r.id == 0 && r.var.as_const() == Some(0)
}

/// Pointers with the same variable part get the range that the comparison proved.
fn prove_packet_range(state: &mut State, pointer: &Reg, right_open: bool) {
    if pointer.off < 0 || (pointer.off == 0 && right_open) {
        return;
    }
    if pointer.var.umax > u64::from(MAX_PACKET_OFF)
        || pointer.var.umax + u64::from(pointer.off.unsigned_abs()) > u64::from(MAX_PACKET_OFF)
    {
        return;
    }
    // A pointer strictly below the end proves one byte more.
    let range = pointer.off + i32::from(right_open);
    let (kind, id) = (pointer.kind, pointer.id);
    state.for_each_reg(|r| {
        if r.kind == kind && r.id == id {
            r.aux = r.aux.cast_signed().max(range).cast_unsigned();
        }
    });
}

/// Scalars that differ from `old` and are not precise there may be anything: so a loop converges.
pub(crate) fn widen_imprecise(old: &State, cur: &mut State) {
    for f in 0..old.frames.len().min(cur.frames.len()) {
        for i in 0..10 {
            let (o, c) = (&old.frames[f].regs[i], cur.frames[f].regs[i]);
            if is_widened(o, &c) {
                cur.frame_at_mut(f).regs[i] = Reg::UNKNOWN;
            }
        }
        for i in 0..old.frames[f].stack.len().min(cur.frames[f].stack.len()) {
            let (o, c) = (&old.frames[f].stack[i], cur.frames[f].stack[i]);
            if o.is_spill() && c.is_spill() && is_widened(&o.reg, &c.reg) {
                cur.frame_at_mut(f).stack_mut()[i].reg = Reg::UNKNOWN;
            }
        }
    }
}

fn is_widened(old: &Reg, cur: &Reg) -> bool {
    old.is_scalar()
        && cur.is_scalar()
        && !old.precise
        && !cur.precise
        && (old.var != cur.var || (old.id == 0) != (cur.id == 0))
}
