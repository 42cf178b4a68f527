//! Sections of a program in which it must not be interrupted or must not wait: RCU, preemption, interrupts.

use crate::cause::{Cause, Section};
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::reg::{Flags, Kind, Reg};
use crate::special::Found;
use crate::state::{Byte, Ref, RefKind};
use crate::verifier::Verifier;

/// Which functions save and restore interrupt state; they do not mix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IrqClass {
    /// `bpf_local_irq_save`
    Native = 1,
    /// `bpf_res_spin_lock_irqsave`
    Lock = 2,
}

impl Verifier<'_> {
    /// Is memory that RCU protects safe here?
    pub(crate) fn in_rcu_section(&self) -> bool {
        self.cur.rcu_locks > 0 || self.cur.locks > 0 || !self.in_sleepable()
    }

    /// The section in which the program is and must not sleep.
    fn atomic_section(&self) -> Option<Section> {
        let open = [
            (self.cur.rcu_locks > 0, Section::Rcu),
            (self.cur.preempt_off > 0, Section::Preempt),
            (self.cur.irq_id != 0, Section::Irq),
        ];
        open.into_iter().find(|s| s.0).map(|(_, section)| section)
    }

    /// Sections that a kfunc begins or ends, and whether a sleeping one may be called in the current ones.
    pub(crate) fn change_sections(&mut self, name: &str, sleeps: bool) -> Check {
        if self.in_tree_callback() && matches!(name, "bpf_rcu_read_lock" | "bpf_rcu_read_unlock") {
            let message = format!("{name} is not allowed while a tree compares nodes");
            return fail(code::RCU_STATE, errno::EACCES, message);
        }
        if let Some(section) = self.atomic_section().filter(|_| sleeps) {
            let cause = Cause::Sleeps {
                function: name.to_owned().into(),
                section: Some(section),
            };
            return fail(code::SLEEP, errno::EACCES, cause);
        }
        let unbalanced = || {
            fail(
                code::RCU_STATE,
                errno::EINVAL,
                format!("{name} ends a section that was not begun"),
            )
        };
        match name {
            "bpf_rcu_read_lock" => self.cur.rcu_locks += 1,
            "bpf_rcu_read_unlock" if self.cur.rcu_locks == 0 => return unbalanced(),
            "bpf_rcu_read_unlock" => {
                self.cur.rcu_locks -= 1;
                if self.cur.rcu_locks == 0 {
                    self.forget_rcu_trust();
                }
            }
            "bpf_preempt_disable" => self.cur.preempt_off += 1,
            "bpf_preempt_enable" if self.cur.preempt_off == 0 => return unbalanced(),
            "bpf_preempt_enable" => self.cur.preempt_off -= 1,
            _ => {}
        }
        Ok(())
    }

    /// What RCU protected is not to be trusted any more.
    fn forget_rcu_trust(&mut self) {
        let forget = |r: &mut Reg| {
            if r.flags.has(Flags::RCU) {
                let kept = r.flags.without(Flags::RCU).without(Flags::NULLABLE);
                r.flags = kept.with(Flags::UNTRUSTED);
            }
        };
        self.cur.for_each_reg(forget);
        for frame in 0..self.cur.frames.len() {
            let rcu = |s: &crate::state::StackSlot| {
                s.bytes[0] == Byte::Iter && s.reg.flags.has(Flags::RCU)
            };
            if self.cur.frames[frame].stack.iter().any(rcu) {
                let stack = self.cur.frame_at_mut(frame).stack_mut();
                stack
                    .iter_mut()
                    .filter(|s| rcu(s))
                    .for_each(|s| forget(&mut s.reg));
            }
        }
    }

    /// Interrupts are switched off; their state is saved where register `i` points.
    pub(crate) fn save_irq(&mut self, i: usize, class: IrqClass) -> Check {
        let used = match self.special_place(i, 1) {
            Found::Bad => true,
            Found::Untouched(_) => false,
            Found::At(at) => self.special_slots(at, 1)[0].bytes.contains(&Byte::IrqFlag),
        };
        let message = Cause::about(
            i,
            format!("r{i} does not point to room for an irq flag on the stack"),
        );
        if used {
            return fail(code::IRQ_FLAG, errno::EINVAL, message);
        }
        self.overwrite_slots(i, 1)?;
        let Found::At(at) = self.special_place(i, 1) else {
            return fail(code::IRQ_FLAG, errno::EINVAL, message);
        };
        let id = self.new_id();
        self.cur.refs.push(Ref {
            kind: RefKind::Irq,
            id,
            insn: self.insn as u32,
            object: 0,
        });
        self.cur.irq_id = id;
        let flag = Reg {
            ref_id: id,
            aux: class as u32,
            ..Reg::pointer(Kind::IrqFlag)
        };
        self.put_special(at, 1, Byte::IrqFlag, flag, flag);
        Ok(())
    }

    /// Interrupts are restored from where register `i` points: in the opposite order of saving.
    pub(crate) fn restore_irq(&mut self, i: usize, class: IrqClass) -> Check {
        let saved = match self.special_place(i, 1) {
            Found::At(at) => {
                let slot = self.special_slots(at, 1)[0];
                let whole = slot.bytes.iter().all(|&b| b == Byte::IrqFlag);
                (whole && slot.reg.ref_id != 0).then_some((at, slot.reg.ref_id))
            }
            _ => None,
        };
        let Some((at, id)) = saved else {
            let cause = if self.is_frame_end(i) {
                Cause::frame_end(i, "irq flag")
            } else {
                Cause::about(i, format!("r{i} does not point to a saved irq flag"))
            };
            return fail(code::IRQ_FLAG, errno::EINVAL, cause);
        };
        self.read_special(at, 1);
        if self.special_slots(at, 1)[0].reg.aux != class as u32 {
            let message = "interrupt state saved by one family of functions is restored by another";
            return fail(code::IRQ_FLAG, errno::EINVAL, message);
        }
        if id != self.cur.irq_id {
            let message = "interrupts are restored in another order than they were saved";
            return fail(code::IRQ_FLAG, errno::EACCES, message);
        }
        self.cur
            .refs
            .retain(|r| r.kind != RefKind::Irq || r.id != id);
        let last = self.cur.refs.iter().rev().find(|r| r.kind == RefKind::Irq);
        self.cur.irq_id = last.map_or(0, |r| r.id);
        self.remove_special(at, 1);
        Ok(())
    }
}
