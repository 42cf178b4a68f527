//! Sets of CPUs (`struct bpf_cpumask`), for as many as the per-CPU slots can be.

use super::objects::{allocate, obj_drop};
use super::{Args, Row, helpers};

pub(super) const KFUNCS: &[Row] = helpers! {
    0 "bpf_cpumask_create" create;
    0 "bpf_cpumask_acquire" acquire;
    0 "bpf_cpumask_release" obj_drop;
    0 "bpf_cpumask_first" first;
    0 "bpf_cpumask_first_zero" first_zero;
    0 "bpf_cpumask_first_and" first_and;
    0 "bpf_cpumask_set_cpu" set_cpu;
    0 "bpf_cpumask_clear_cpu" clear_cpu;
    0 "bpf_cpumask_test_cpu" test_cpu;
    0 "bpf_cpumask_test_and_set_cpu" test_and_set_cpu;
    0 "bpf_cpumask_test_and_clear_cpu" test_and_clear_cpu;
    0 "bpf_cpumask_setall" setall;
    0 "bpf_cpumask_clear" clear;
    0 "bpf_cpumask_and" and;
    0 "bpf_cpumask_or" or;
    0 "bpf_cpumask_xor" xor;
    0 "bpf_cpumask_equal" equal;
    0 "bpf_cpumask_intersects" intersects;
    0 "bpf_cpumask_subset" subset;
    0 "bpf_cpumask_empty" empty;
    0 "bpf_cpumask_full" full;
    0 "bpf_cpumask_copy" copy;
    0 "bpf_cpumask_any_distribute" first;
    0 "bpf_cpumask_any_and_distribute" first_and;
    0 "bpf_cpumask_weight" weight;
};

/// CPUs that a set can hold.
const CPUS: u32 = 256;

/// A set, in the heap of objects.
#[repr(C)]
struct Mask {
    bits: [u64; (CPUS / 64) as usize],
}

/// The set that argument `n` points to.
#[expect(
    clippy::mut_from_ref,
    reason = "sets belong to the program, not to the call"
)]
fn mask(a: &Args, n: usize) -> &mut Mask {
    let at = a.ptr(n);
    // What was stored in a map may have been changed by others: it leads to the heap, perhaps between words.
    let at = at.wrapping_sub(at.addr() % align_of::<Mask>());
    // SAFETY: the verifier proved a set that is alive, or it is some aligned place in the heap's window.
    unsafe { &mut *at.cast() }
}

fn cpus(a: &Args) -> u32 {
    a.world().host.possible_cpus().min(CPUS)
}

fn create(a: &Args) -> u64 {
    allocate(a, size_of::<Mask>() as u64, 0)
}

/// One more reference to a set that the program has.
fn acquire(a: &Args) -> u64 {
    let _is_alive = a.heap().is_some_and(|heap| heap.acquire(a.get(1)));
    a.get(1)
}

impl Mask {
    fn has(&self, cpu: u32) -> bool {
        cpu < CPUS && self.bits[(cpu / 64) as usize] >> (cpu % 64) & 1 != 0
    }

    fn put(&mut self, cpu: u32, member: bool) -> bool {
        if cpu >= CPUS {
            return false;
        }
        let old = self.has(cpu);
        let bit = 1 << (cpu % 64);
        let word = &mut self.bits[(cpu / 64) as usize];
        *word = if member { *word | bit } else { *word & !bit };
        old
    }
}

/// The first CPU for which `member` holds, else their number.
fn find(a: &Args, member: impl Fn(u32) -> bool) -> u64 {
    let count = cpus(a);
    u64::from((0..count).find(|&cpu| member(cpu)).unwrap_or(count))
}

fn first(a: &Args) -> u64 {
    find(a, |cpu| mask(a, 1).has(cpu))
}

fn first_zero(a: &Args) -> u64 {
    find(a, |cpu| !mask(a, 1).has(cpu))
}

fn first_and(a: &Args) -> u64 {
    find(a, |cpu| mask(a, 1).has(cpu) && mask(a, 2).has(cpu))
}

/// CPU number (if there is one of it) and set.
fn in_range(a: &Args) -> Option<u32> {
    Some(a.get32(1)).filter(|&cpu| cpu < cpus(a))
}

fn set_cpu(a: &Args) {
    test_and_set_cpu(a);
}

fn clear_cpu(a: &Args) {
    test_and_clear_cpu(a);
}

fn test_cpu(a: &Args) -> u64 {
    u64::from(in_range(a).is_some_and(|cpu| mask(a, 2).has(cpu)))
}

fn test_and_set_cpu(a: &Args) -> u64 {
    u64::from(in_range(a).is_some_and(|cpu| mask(a, 2).put(cpu, true)))
}

fn test_and_clear_cpu(a: &Args) -> u64 {
    u64::from(in_range(a).is_some_and(|cpu| mask(a, 2).put(cpu, false)))
}

fn setall(a: &Args) {
    for cpu in 0..cpus(a) {
        mask(a, 1).put(cpu, true);
    }
}

fn clear(a: &Args) {
    mask(a, 1).bits = [0; 4];
}

/// Combines sets 2 and 3 into set 1: true if anything is in it.
fn combine(a: &Args, f: impl Fn(u64, u64) -> u64) -> u64 {
    let (left, right) = (mask(a, 2).bits, mask(a, 3).bits);
    let to = &mut mask(a, 1).bits;
    for ((to, left), right) in to.iter_mut().zip(left).zip(right) {
        *to = f(left, right);
    }
    u64::from(to.iter().any(|&w| w != 0))
}

fn and(a: &Args) -> u64 {
    combine(a, |l, r| l & r)
}

fn or(a: &Args) {
    combine(a, |l, r| l | r);
}

fn xor(a: &Args) {
    combine(a, |l, r| l ^ r);
}

/// Compares sets 1 and 2 word by word.
fn all(a: &Args, f: impl Fn(u64, u64) -> bool) -> u64 {
    let (left, right) = (mask(a, 1).bits, mask(a, 2).bits);
    u64::from(left.iter().zip(right).all(|(&l, r)| f(l, r)))
}

fn equal(a: &Args) -> u64 {
    all(a, |l, r| l == r)
}

fn intersects(a: &Args) -> u64 {
    1 - all(a, |l, r| l & r == 0)
}

fn subset(a: &Args) -> u64 {
    all(a, |l, r| l & !r == 0)
}

fn empty(a: &Args) -> u64 {
    u64::from(mask(a, 1).bits == [0; 4])
}

fn full(a: &Args) -> u64 {
    u64::from((0..cpus(a)).all(|cpu| mask(a, 1).has(cpu)))
}

fn copy(a: &Args) {
    mask(a, 1).bits = mask(a, 2).bits;
}

fn weight(a: &Args) -> u64 {
    mask(a, 1)
        .bits
        .iter()
        .map(|w| u64::from(w.count_ones()))
        .sum()
}
