//! Programs of a corpus with calls, typed accesses and arguments changed.
//!
//! Objects are linked for the running kernel, so that numbers of kfuncs and types are the same in both verifiers. Bases are the
//! programs that both accept.

use super::relation::{Difference, Relation, relate};
use super::{How, Random, SLOTS_MAX, Source, Subject, calls_kfunc};
use crate::TaskError;
use crate::corpus::accepted;
use crate::fuzz_verify::mutate::mutate;
use crate::fuzz_verify::shrink::target;
use skep::Kernel;
use skep::check::{CheckOptions, Checker};
use skep::load::{LoadOptions, load};
use skep::target::running_btf;
use skep_abi::helper::id;
use skep_abi::{ProgType, kfunc};
use skep_bpf::Backend;
use skep_btf::{Btf, Kind};
use skep_isa::{Slot, opcode as op};
use skep_object::Program;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Helpers that calls are changed to: mostly those that take or give typed pointers, locks, dynptrs or callbacks.
#[rustfmt::skip] // several a line
const HELPERS: &[u32] = &[
    id::MAP_LOOKUP_ELEM, id::MAP_UPDATE_ELEM, id::MAP_DELETE_ELEM, id::PROBE_READ, id::KTIME_GET_NS, id::TRACE_PRINTK,
    id::GET_SMP_PROCESSOR_ID, id::GET_CURRENT_PID_TGID, id::PERF_EVENT_OUTPUT, id::GET_CURRENT_TASK,
    id::XDP_ADJUST_TAIL, id::SK_LOOKUP_TCP, id::SK_LOOKUP_UDP, id::SK_RELEASE, id::SPIN_LOCK, id::SPIN_UNLOCK,
    id::SK_FULLSOCK, id::TCP_SOCK, id::GET_LISTENER_SOCK, id::SKC_LOOKUP_TCP, id::SK_STORAGE_GET,
    id::SK_STORAGE_DELETE, id::PROBE_READ_USER, id::PROBE_READ_KERNEL, id::PROBE_READ_KERNEL_STR, id::RINGBUF_OUTPUT,
    id::RINGBUF_RESERVE, id::RINGBUF_SUBMIT, id::RINGBUF_DISCARD, id::SKC_TO_TCP6_SOCK, id::SKC_TO_TCP_SOCK,
    id::SKC_TO_TCP_TIMEWAIT_SOCK, id::SKC_TO_TCP_REQUEST_SOCK, id::SKC_TO_UDP6_SOCK, id::PER_CPU_PTR,
    id::THIS_CPU_PTR, id::REDIRECT_PEER, id::TASK_STORAGE_GET, id::TASK_STORAGE_DELETE, id::GET_CURRENT_TASK_BTF,
    id::FOR_EACH_MAP_ELEM, id::TIMER_INIT, id::TIMER_SET_CALLBACK, id::TIMER_START, id::GET_ATTACH_COOKIE,
    id::TASK_PT_REGS, id::FIND_VMA, id::LOOP, id::KPTR_XCHG, id::DYNPTR_FROM_MEM, id::RINGBUF_RESERVE_DYNPTR,
    id::DYNPTR_READ, id::DYNPTR_WRITE, id::DYNPTR_DATA, id::KTIME_GET_TAI_NS, id::USER_RINGBUF_DRAIN,
    id::CGRP_STORAGE_GET, id::CGRP_STORAGE_DELETE,
];
/// Those of them that do not make a program a typed one.
#[rustfmt::skip] // several a line
const PLAIN_HELPERS: &[u32] = &[
    id::MAP_LOOKUP_ELEM, id::MAP_UPDATE_ELEM, id::MAP_DELETE_ELEM, id::PROBE_READ, id::KTIME_GET_NS, id::TRACE_PRINTK,
];
/// Changes to one program at most.
const CHANGES_MAX: usize = 3;

/// The source of changed programs.
pub(super) fn source(
    kernel: &Arc<Kernel>,
    dir: &Path,
    how: How,
) -> Result<Source<'static>, TaskError> {
    let btf = running_btf().map_err(|e| e.to_string())?;
    let kfuncs: Vec<i32> = kfunc::KFUNCS
        .iter()
        .filter_map(|k| btf.find_by_name_kind(k.name, Kind::Func))
        .map(u32::cast_signed)
        .collect();
    let subjects = subjects(kernel, dir, &btf, how)?;
    println!("{} programs to change", subjects.len());
    Ok(Box::new(move |random, _| {
        let subject = &subjects[random.below(subjects.len())];
        let other = &subjects[random.below(subjects.len())];
        let mut program = subject.program.clone();
        program.line_info.clear();
        for _ in 0..1 + random.below(CHANGES_MAX) {
            change(random, &mut program, &other.program, &kfuncs);
        }
        (Rc::clone(subject), program)
    }))
}

fn subjects(
    kernel: &Arc<Kernel>,
    dir: &Path,
    btf: &Btf,
    how: How,
) -> Result<Vec<Rc<Subject>>, TaskError> {
    let mut objects: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for row in accepted(Some(&dir.to_string_lossy().into_owned()))? {
        objects.entry(row.path).or_default().push(row.program);
    }
    let mut subjects = Vec::new();
    for (path, programs) in objects {
        let Ok(bytes) = std::fs::read(&path) else {
            continue;
        };
        let options = CheckOptions {
            kernel_btf: Some(btf.clone()),
            ..CheckOptions::default()
        };
        let Ok(checker) = Checker::open(&bytes, &options) else {
            continue;
        };
        let mut linked = checker.linked().clone();
        let all = std::mem::take(&mut linked.programs);
        let backend: Arc<dyn Backend> = Arc::<Kernel>::clone(kernel);
        let Ok(loaded) = load(&linked, &backend, &LoadOptions::default()) else {
            continue;
        };
        let (checker, loaded) = (Rc::new(checker), Rc::new(loaded));
        for program in all {
            if !programs.contains(&program.name) || !is_typed(&program) {
                continue;
            }
            let subject = Subject {
                name: format!("{} {}", path.display(), program.name),
                checker: Rc::clone(&checker),
                loaded: Rc::clone(&loaded),
                program,
            };
            match relate(kernel, &subject, &subject.program, how) {
                Some(Relation::Agree { accepted: true }) => subjects.push(Rc::new(subject)),
                // Without a reason: the running kernel allows no trampolines.
                Some(Relation::Differ(Difference::FalseAccept { said })) if said.is_empty() => {}
                Some(Relation::Differ(kind)) => println!("unchanged: {}: {kind}", subject.name),
                _ => {}
            }
        }
    }
    if subjects.is_empty() {
        Err("no program of the corpus could be loaded; this needs root".to_owned())
    } else {
        Ok(subjects)
    }
}

/// What the fuzzer of the core does not cover.
fn is_typed(program: &Program) -> bool {
    let helper = |s: &Slot| {
        let id = s.imm.cast_unsigned();
        let is_typed = HELPERS.contains(&id) && !PLAIN_HELPERS.contains(&id);
        s.code == op::JMP | op::CALL && s.src() == 0 && is_typed
    };
    let symbol =
        |s: &Slot| s.is_wide() && (s.src() == op::PSEUDO_BTF_ID || s.src() == op::PSEUDO_FUNC);
    program.prog_type != ProgType::Unspec
        && program.insns.len() <= SLOTS_MAX
        && (calls_kfunc(program)
            || program.attach_btf.is_some()
            || program.insns.iter().any(|s| helper(s) || symbol(s)))
}

fn is_call(s: Slot) -> bool {
    s.code == op::JMP | op::CALL && s.src() != op::PSEUDO_CALL
}

/// Places that are no second half of a wide instruction, for which `wanted` holds.
fn places(insns: &[Slot], wanted: impl Fn(Slot) -> bool) -> Vec<usize> {
    let second = |at: usize| at > 0 && insns[at - 1].is_wide();
    (0..insns.len())
        .filter(|&at| !second(at) && wanted(insns[at]))
        .collect()
}

fn is_memory(s: Slot) -> bool {
    matches!(s.code & op::CLASS_MASK, op::LDX | op::ST | op::STX)
}

/// One change of one of the kinds below.
fn change(random: &mut Random, program: &mut Program, other: &Program, kfuncs: &[i32]) {
    let insns = &mut program.insns;
    let calls = places(insns, is_call);
    let accesses = places(insns, is_memory);
    let basic = places(insns, |s| !s.is_wide());
    if basic.is_empty() {
        return;
    }
    match random.below(10) {
        0 | 1 if !calls.is_empty() => {
            let at = random.pick(&calls);
            insns[at] = another_call(random, insns, &calls, kfuncs);
        }
        // A call is left out, with or without a result.
        2 if !calls.is_empty() => {
            insns[random.pick(&calls)] = match random.below(3) {
                0 => Slot::new(op::ALU64 | op::MOV, 0, 0, 0, 0),
                1 => Slot::new(op::ALU64 | op::MOV | op::X, 0, 1, 0, 0),
                _ => Slot::new(op::JMP | op::JA, 0, 0, 0, 0),
            };
        }
        3 if !calls.is_empty() => {
            let call = another_call(random, insns, &calls, kfuncs);
            insert(program, random.pick(&basic), call);
        }
        4 if !accesses.is_empty() => {
            let at = random.pick(&accesses);
            insns[at].offset = match random.below(3) {
                0 => insns[random.pick(&accesses)].offset,
                1 => insns[at].offset + random.pick(&[-8, -4, -1, 1, 4, 8, 16]),
                _ => (random.below(64) * 8) as i16,
            };
        }
        // Another register: as a source, as a target, or both changed places.
        5 => {
            let s = &mut insns[random.pick(&basic)];
            if is_call(*s) || s.code & op::CLASS_MASK == op::JMP && s.src() == op::PSEUDO_CALL {
                return;
            }
            let (dst, src) = match random.below(3) {
                0 => (s.dst(), random.below(11) as u8),
                1 => (random.below(10) as u8, s.src()),
                _ => (s.src(), s.dst()),
            };
            *s = Slot::new(s.code, dst, src, s.offset, s.imm);
        }
        6 => {
            let at = random.pick(&basic);
            let class = insns[at].code & op::CLASS_MASK;
            if at + 1 < insns.len() && class != op::JMP && class != op::JMP32 {
                insns.swap(at, at + 1);
            }
        }
        // An instruction of this program or of another one, put in between.
        7 => {
            let from = if random.one_in(2) {
                &program.insns
            } else {
                &other.insns
            };
            let list = places(from, |s| {
                !s.is_wide() && !matches!(s.code & op::CLASS_MASK, op::JMP | op::JMP32)
            });
            if let Some(n) = list.len().checked_sub(1) {
                let copy = from[list[random.below(n + 1)]];
                insert(program, random.pick(&basic), copy);
            }
        }
        8 => {
            let at = random.pick(&basic);
            let number = random.pick(&[0, 1, -1, 2, 4, 8, 16, 64, i32::MAX]);
            let register = random.below(10) as u8;
            let set = Slot::new(op::ALU64 | op::MOV, register, 0, 0, number);
            insert(program, at, set);
        }
        _ => *insns = mutate(random, insns),
    }
}

/// A call of the same program, of any kfunc, or of a helper.
fn another_call(random: &mut Random, insns: &[Slot], calls: &[usize], kfuncs: &[i32]) -> Slot {
    match random.below(4) {
        0 | 1 => insns[random.pick(calls)],
        2 => Slot::new(
            op::JMP | op::CALL,
            0,
            op::PSEUDO_KFUNC_CALL,
            0,
            random.pick(kfuncs),
        ),
        _ => Slot::new(
            op::JMP | op::CALL,
            0,
            0,
            0,
            random.pick(HELPERS).cast_signed(),
        ),
    }
}

/// Puts `slot` before the instruction at `at`; jumps and calls lead where they led.
fn insert(program: &mut Program, at: usize, slot: Slot) {
    let moved = |to: i64| to + i64::from(to > at as i64);
    let old = std::mem::take(&mut program.insns);
    for (i, s) in old.iter().enumerate() {
        let mut s = *s;
        if i == at {
            program.insns.push(slot);
        }
        let is_second_half = i > 0 && old[i - 1].is_wide();
        if !is_second_half && let Some(to) = target(s, i) {
            let from = i as i64 + i64::from(i >= at);
            let distance = moved(to) - from - 1;
            let by_imm =
                s.is_wide() || s.code & op::CODE_MASK == op::CALL || s.code == op::JMP32 | op::JA;
            if by_imm {
                s.imm = distance as i32;
            } else {
                s.offset = distance as i16;
            }
        }
        program.insns.push(s);
    }
    for record in &mut program.func_info {
        record.insn += u32::from(record.insn as usize > at);
    }
}
