//! Sections that mean nothing in a process (RCU, preemption, interrupts), checked as the kernel checks them by the verifier.

use super::{Args, Row, helpers};

pub(super) const KFUNCS: &[Row] = helpers! {
    0 "bpf_rcu_read_lock" enter;
    0 "bpf_rcu_read_unlock" leave;
    0 "bpf_preempt_disable" enter;
    0 "bpf_preempt_enable" leave;
    0 "bpf_local_irq_save" irq_save;
    0 "bpf_local_irq_restore" leave;
    0 "bpf_cast_to_kern_ctx" same;
    0 "bpf_rdonly_cast" same;
};

fn enter(a: &Args) {
    a.section(true);
}

fn leave(a: &Args) {
    a.section(false);
}

/// Flags of the processor, which only [`leave`] looks at.
fn irq_save(a: &Args) {
    const INTERRUPTS_ENABLED: u64 = 0x200;
    a.section(true);
    a.write(1, &INTERRUPTS_ENABLED.to_ne_bytes());
}

fn same(a: &Args) -> u64 {
    a.get(1)
}
