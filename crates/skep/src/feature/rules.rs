//! Asks the running kernel which rules it follows: for each, a program that only kernels with the rule load, or only they refuse.

use super::ask::Subject;
use crate::assembly::slots;
use crate::kernel::Kernel;
use skep_abi::kernel::Rule;
use skep_abi::{AttachType, MapType, ProgType};
use skep_bpf::{Backend, Handle, MapCreate, ProgLoad};
use skep_btf::{Btf, Builder, Kind, Order};

/// What it means that a kernel has a rule.
#[derive(Clone, Copy, Debug)]
enum Says {
    /// The program loads.
    Loads,
    /// It loads, or is refused only for want of what is named.
    LoadsBut(&'static str),
    /// It is refused with these words, where other kernels load it.
    Refuses(&'static str),
}

/// A program, and what a kernel with the rule says of it. It may name the maps of [`MAPS`].
struct Trial {
    rule: Rule,
    prog_type: ProgType,
    text: &'static str,
    says: Says,
}

const fn trial(rule: Rule, text: &'static str, says: Says) -> Trial {
    Trial {
        rule,
        prog_type: ProgType::SocketFilter,
        text,
        says,
    }
}

/// An array, a ring buffer, and an array of values that are a lock.
const MAPS: [&str; 3] = ["array", "ringbuf", "locked"];

/// A program for each rule, but for [`Rule::GplStructures`] and those that come with a release.
const TRIALS: &[Trial] = &[
    trial(Rule::SignedDivision, "r0 = 4; r0 s/= r0; exit", Says::Loads),
    trial(Rule::MoveSigned, "r0 = 4; r0 = (s8)r0; exit", Says::Loads),
    trial(
        Rule::LoadSigned,
        "*(u64 *)(r10 - 8) = 0; r0 = *(s32 *)(r10 - 8); exit",
        Says::Loads,
    ),
    trial(Rule::ByteSwap, "r0 = 4; r0 = bswap32 r0; exit", Says::Loads),
    trial(Rule::LongJump, "r0 = 4; gotol 1f; 1: exit", Says::Loads),
    trial(
        Rule::MayGoto,
        "r0 = 4; may_goto 1f; r0 = 5; 1: exit",
        Says::Loads,
    ),
    trial(
        Rule::LoadAcquire,
        "*(u64 *)(r10 - 8) = 0; r0 = load_acquire((u64 *)(r10 - 8)); exit",
        Says::Loads,
    ),
    trial(
        Rule::ArenaCast,
        "r0 = 4; r0 = addr_space_cast(r0, 0, 1); exit",
        Says::LoadsBut("arena"),
    ),
    trial(
        Rule::UninitStack,
        "r0 = *(u64 *)(r10 - 8); r0 = 0; exit",
        Says::Loads,
    ),
    trial(Rule::KnownKeys, FIRST_ELEMENT, Says::Loads),
    trial(Rule::UnequalEnds, NOT_THE_LAST, Says::Loads),
    trial(Rule::RegisterComparison, BELOW_A_REGISTER, Says::Loads),
    trial(Rule::EqualPointers, EQUAL_ELEMENTS, Says::Loads),
    trial(Rule::MapMemory, KEY_IN_A_RECORD, Says::Loads),
    Trial {
        rule: Rule::CallsUnderLock,
        prog_type: ProgType::SchedCls,
        text: CALL_UNDER_LOCK,
        says: Says::Loads,
    },
    trial(Rule::FrameRounding, SIX_FRAMES, Says::Loads),
    Trial {
        rule: Rule::PrivateStack,
        prog_type: ProgType::Tracepoint,
        text: FIVE_FRAMES,
        says: Says::Loads,
    },
    trial(
        Rule::DynptrEnds,
        SLICE_WITHOUT_DYNPTR,
        Says::Refuses("invalid mem access"),
    ),
];

/// The first element of an array, without a check that it is there.
const FIRST_ELEMENT: &str = "
    *(u64 *)(r10 - 8) = 0
    r2 = r10
    r2 += -8
    r1 = array ll
    call bpf_map_lookup_elem
    r0 = *(u32 *)(r0 + 0)
    exit
";

/// One byte of the stack, at an offset of at most 8 that is not 8.
const NOT_THE_LAST: &str = "
    *(u64 *)(r10 - 8) = 0
    r6 = *(u32 *)(r1 + 0)
    r0 = 0
    if r6 > 8 goto 1f
    if r6 == 8 goto 1f
    r1 = r10
    r1 += -8
    r1 += r6
    r0 = *(u8 *)(r1 + 0)
1:  exit
";

/// One byte of the stack, at an offset that is not above another one that is below 8.
const BELOW_A_REGISTER: &str = "
    *(u64 *)(r10 - 8) = 0
    r6 = *(u32 *)(r1 + 0)
    r7 = *(u32 *)(r1 + 4)
    r0 = 0
    if r7 > 7 goto 1f
    if r6 > r7 goto 1f
    r1 = r10
    r1 += -8
    r1 += r6
    r0 = *(u8 *)(r1 + 0)
1:  exit
";

/// Two elements of an array at an unknown key: one is there, the other equals it.
const EQUAL_ELEMENTS: &str = "
    r7 = *(u32 *)(r1 + 0)
    *(u32 *)(r10 - 8) = r7
    r2 = r10
    r2 += -8
    r1 = array ll
    call bpf_map_lookup_elem
    r6 = r0
    r2 = r10
    r2 += -8
    r1 = array ll
    call bpf_map_lookup_elem
    if r0 == 0 goto 1f
    if r6 != r0 goto 1f
    r1 = *(u32 *)(r6 + 0)
1:  r0 = 0
    exit
";

/// A key in a record of a ring buffer.
const KEY_IN_A_RECORD: &str = "
    r1 = ringbuf ll
    r2 = 8
    r3 = 0
    call bpf_ringbuf_reserve
    if r0 == 0 goto 1f
    r6 = r0
    r2 = r6
    r1 = array ll
    call bpf_map_lookup_elem
    r1 = r6
    r2 = 0
    call bpf_ringbuf_discard
1:  r0 = 0
    exit
";

/// A function between taking and giving back a lock.
const CALL_UNDER_LOCK: &str = "
    *(u64 *)(r10 - 8) = 0
    r2 = r10
    r2 += -8
    r1 = locked ll
    call bpf_map_lookup_elem
    if r0 == 0 goto 1f
    r6 = r0
    r1 = r6
    call bpf_spin_lock
    call function
    r1 = r6
    call bpf_spin_unlock
1:  r0 = 0
    exit
function:
    r0 = 0
    exit
";

/// Frames of 80 bytes: 480 together, 576 if each is 96.
const SIX_FRAMES: &str = "
       *(u64 *)(r10 - 80) = 0; call second; exit
second: *(u64 *)(r10 - 80) = 0; call third; exit
third: *(u64 *)(r10 - 80) = 0; call fourth; exit
fourth: *(u64 *)(r10 - 80) = 0; call fifth; exit
fifth: *(u64 *)(r10 - 80) = 0; call sixth; exit
sixth: *(u64 *)(r10 - 80) = 0; r0 = 0; exit
";

/// Frames of 144 bytes.
const FIVE_FRAMES: &str = "
       *(u64 *)(r10 - 144) = 0; call second; exit
second: *(u64 *)(r10 - 144) = 0; call third; exit
third: *(u64 *)(r10 - 144) = 0; call fourth; exit
fourth: *(u64 *)(r10 - 144) = 0; call fifth; exit
fifth: *(u64 *)(r10 - 144) = 0; r0 = 0; exit
";

/// What `bpf_dynptr_data` gave is read when the dynptr is no more.
const SLICE_WITHOUT_DYNPTR: &str = "
    r7 = *(u32 *)(r1 + 0)
    *(u32 *)(r10 - 8) = r7
    r2 = r10
    r2 += -8
    r1 = array ll
    call bpf_map_lookup_elem
    if r0 == 0 goto 1f
    r1 = r0
    r2 = 4
    r3 = 0
    r4 = r10
    r4 += -24
    call bpf_dynptr_from_mem
    r1 = r10
    r1 += -24
    r2 = 0
    r3 = 4
    call bpf_dynptr_data
    if r0 == 0 goto 1f
    *(u64 *)(r10 - 24) = 0
    r1 = *(u8 *)(r0 + 0)
1:  r0 = 0
    exit
";

/// BTF of `struct { struct bpf_spin_lock lock; }`: the blob, and the ids of a key and of it.
fn values() -> (Vec<u8>, u32, u32) {
    let mut b = Builder::new(Order::HOST);
    let int = b.add_int("int", 4, 1);
    let lock = b.add_struct("bpf_spin_lock", 4, &[("val", int, 0)]);
    let locked = b.add_struct("locked", 4, &[("lock", lock, 0)]);
    (b.finish(), int, locked)
}

/// Which rules the kernel has; those are missing that it cannot be asked about.
pub(super) fn rules(kernel: &Kernel, btf: &Btf) -> Vec<(Rule, bool)> {
    let (blob, key, locked) = values();
    let types = kernel.btf_load(&blob);
    let lock = types.as_ref().ok().map(|types| MapCreate {
        btf: Some(*types),
        btf_key_type_id: key,
        btf_value_type_id: locked,
        ..MapCreate::new(MapType::Array, 4, 4, 1)
    });
    let specs = [
        Some(MapCreate::new(MapType::Array, 4, 4, 1)),
        Some(MapCreate::new(MapType::Ringbuf, 0, 0, 4096)),
        lock,
    ];
    let made = MAPS.iter().copied().zip(specs);
    let maps: Vec<(&str, Handle)> = made
        .filter_map(|(name, spec)| Some((name, kernel.map_create(&spec?).ok()?)))
        .collect();
    let mut answers: Vec<(Rule, bool)> = TRIALS
        .iter()
        .filter_map(|t| Some((t.rule, t.ask(kernel, &maps)?)))
        .collect();
    answers.extend(gpl_structures(kernel, btf).map(|yes| (Rule::GplStructures, yes)));
    if let Ok(types) = types {
        kernel.close(types);
    }
    maps.iter().for_each(|(_, map)| kernel.close(*map));
    answers
}

impl Trial {
    /// Whether the kernel has the rule; `None` if it refuses the program for something else, or a map.
    fn ask(&self, kernel: &Kernel, maps: &[(&str, Handle)]) -> Option<bool> {
        let insns = slots(self.text, maps)?;
        let subject = Subject {
            prog_type: self.prog_type,
            attach: None,
            prog_flags: 0,
            target: (0, String::new()),
        };
        let loaded = subject.load(kernel, &insns);
        match (self.says, loaded) {
            (Says::Loads | Says::LoadsBut(_), Ok(())) => Some(true),
            (Says::Loads, Err(_)) => Some(false),
            (Says::LoadsBut(words), Err(e)) => Some(e.log.contains(words)),
            (Says::Refuses(_), Ok(())) => Some(false),
            (Says::Refuses(words), Err(e)) => e.log.contains(words).then_some(true),
        }
    }
}

/// A typed tracepoint that reads a field of its argument, without the GPL.
fn gpl_structures(kernel: &Kernel, btf: &Btf) -> Option<bool> {
    let id = btf.find_by_name_kind("btf_trace_sys_enter", Kind::Typedef)?;
    let text = "r1 = *(u64 *)(r1 + 0); r1 = *(u64 *)(r1 + 0); r0 = 0; exit";
    let spec = ProgLoad {
        expected_attach_type: Some(AttachType::TraceRawTp),
        license: "none".to_owned(),
        attach_btf_id: id,
        log_level: 1,
        ..ProgLoad::plain(ProgType::Tracing, slots(text, &[])?)
    };
    match kernel.prog_load(&spec) {
        Ok(handle) => {
            kernel.close(handle);
            Some(false)
        }
        Err(e) => e.log.contains("non-GPL").then_some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_abi::kernel::{Kernel as Facts, Subject as Row};
    use skep_abi::since;

    #[test]
    fn every_rule_is_asked_about() {
        let mut asked: Vec<Rule> = TRIALS.iter().map(|t| t.rule).collect();
        asked.push(Rule::GplStructures);
        let dated = Rule::ALL.iter().filter(|r| since::rule(**r).is_some());
        asked.extend(dated);
        assert_eq!(asked, Rule::ALL);
    }

    #[test]
    fn every_trial_is_a_program() {
        let maps = MAPS.map(|name| (name, Handle(3)));
        for t in TRIALS {
            assert!(slots(t.text, &maps).is_some(), "{}", t.rule.name());
        }
    }

    /// Our own verifier follows the rules of the reference kernel.
    #[test]
    fn the_reference_kernel_has_all_rules() {
        for t in TRIALS {
            let (Says::Loads, Some(insns)) = (t.says, slots(t.text, &[])) else {
                continue; // maps and arenas are not at hand here
            };
            let request = skep_verifier::Request::plain("rule", t.prog_type, &insns);
            let answer = skep_verifier::verify(&request);
            assert!(answer.is_ok(), "{}: {:?}", t.rule.name(), answer.err());
            let facts = Facts {
                rules: vec![(t.rule, false)],
                subjects: vec![(
                    t.prog_type,
                    Row {
                        loads: true,
                        ..Row::default()
                    },
                )],
                ..Facts::default()
            };
            let without = skep_verifier::Request {
                kernel: Some(&facts),
                ..request
            };
            let refused = skep_verifier::verify(&without).is_err();
            let is_old = t.rule == Rule::LongJump; // every kernel that has a profile has them
            assert!(refused || is_old, "{}", t.rule.name());
        }
    }
}
