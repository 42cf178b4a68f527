//! The program as the walk sees it: decoded instructions, functions, and what is known of each slot before the walk.

use crate::code;
use crate::fail::{Check, errno, fail_at, fail_nowhere};
use skep_abi::limits::{BPF_COMPLEXITY_LIMIT_INSNS, BPF_MAX_SUBPROGS};
use skep_isa::{DecodeError, Imm64, Insn, Slot, decode, opcode as op};

/// Marks of a slot, made before the walk.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Marks {
    /// Paths may join here: states are kept and compared.
    pub prune_point: bool,
    /// The walk back needs to know that this slot was reached by a jump.
    pub jump_point: bool,
    /// A state is kept at every visit.
    pub force_checkpoint: bool,
    /// A helper or kfunc that runs a callback while it works.
    pub calls_callback: bool,
    /// Registers that may be read from here on, one bit each.
    pub live_regs: u16,
    /// Number of the loop (strongly connected component), 0 for none.
    pub scc: u32,
}

/// A function.
#[derive(Clone, Debug, Default)]
pub(crate) struct Func {
    /// First slot.
    pub start: usize,
    /// Slot after the last one.
    pub end: usize,
    /// Bytes of stack its frame uses so far.
    pub stack_bytes: u32,
    /// Stack slots that some path reads before it has written all of them: bit n is slot n.
    pub unwritten: u64,
    /// Makes tail calls.
    pub has_tail_call: bool,
    /// A tail call can be reached from it.
    pub tail_call_reachable: bool,
    /// Loads packets by the legacy instructions.
    pub has_ld_abs: bool,
    /// Is passed to a helper as callback.
    pub is_callback: bool,
    /// Is an async callback.
    pub is_async_callback: bool,
    /// Handles exceptions.
    pub is_exception_callback: bool,
    /// Global linkage: verified on its own.
    pub is_global: bool,
    /// A global function that some path calls.
    pub called: bool,
    /// Calls something that may move packet data.
    pub changes_pkt: bool,
    /// Calls something that may sleep.
    pub might_sleep: bool,
    /// Name, from BTF.
    pub name: Option<String>,
    /// Its `BTF_KIND_FUNC`, 0 for none.
    pub func_type: u32,
}

/// The program with all facts that do not depend on paths.
#[derive(Debug)]
pub(crate) struct Program {
    /// Raw slots.
    pub slots: Vec<Slot>,
    /// Decoded instructions; a malformed one only matters when a path reaches it.
    pub insns: Vec<Result<Insn, DecodeError>>,
    /// Marks of each slot.
    pub marks: Vec<Marks>,
    /// Functions ordered by start; the first is the entry.
    pub funcs: Vec<Func>,
}

impl Program {
    /// Decodes `slots`, finds the functions and checks that jumps stay inside them.
    ///
    /// A function that nothing calls may begin at `uncalled`: the exception callback.
    pub(crate) fn new(slots: &[Slot], uncalled: Option<usize>) -> Check<Self> {
        if slots.is_empty() || slots.len() > BPF_COMPLEXITY_LIMIT_INSNS as usize {
            let message = format!(
                "the program has {} instructions, allowed are 1 to 1000000",
                slots.len()
            );
            return fail_nowhere(code::PROGRAM_SIZE, errno::E2BIG, message);
        }
        let insns = (0..slots.len()).map(|i| decode(slots, i)).collect();
        let mut p = Self {
            slots: slots.to_vec(),
            insns,
            marks: vec![Marks::default(); slots.len()],
            funcs: Vec::new(),
        };
        p.find_functions(uncalled)?;
        p.check_functions()?;
        Ok(p)
    }

    /// Slots in the program.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The operand of the wide instruction at slot `at`, if there is one. Its other fields only matter where a path reaches it.
    pub(crate) fn wide_operand(&self, at: usize) -> Option<Result<Imm64, DecodeError>> {
        let s = self.slots[at];
        if !s.is_wide() {
            return None;
        }
        let Some(&next) = self.slots.get(at + 1) else {
            return Some(Err(DecodeError::Truncated));
        };
        let plain = Slot::new(s.code, 0, s.src(), 0, s.imm);
        match decode(&[plain, next], 0) {
            Ok(Insn::LoadImm64 { imm, .. }) => Some(Ok(imm)),
            Ok(_) => None,
            Err(e) => Some(Err(e)),
        }
    }

    /// Index of the function that starts at slot `at`.
    pub(crate) fn func_at(&self, at: usize) -> Option<usize> {
        self.funcs.binary_search_by_key(&at, |f| f.start).ok()
    }

    fn find_functions(&mut self, uncalled: Option<usize>) -> Check {
        let mut starts = vec![0];
        starts.extend(uncalled.filter(|&at| at < self.len()));
        let mut at = 0;
        while at < self.len() {
            let s = self.slots[at];
            let is_call = s.code == op::JMP | op::CALL && s.src() == op::PSEUDO_CALL;
            if is_call || (s.is_wide() && s.src() == op::PSEUDO_FUNC) {
                let target = at as i64 + 1 + i64::from(s.imm);
                match usize::try_from(target) {
                    Ok(t) if t < self.len() => starts.push(t),
                    _ => {
                        let message =
                            format!("the call leads to slot {target}, outside of the program");
                        return fail_at(code::BAD_CALL_TARGET, errno::EINVAL, at, message);
                    }
                }
            }
            at += 1;
        }
        starts.sort_unstable();
        starts.dedup();
        if starts.len() > BPF_MAX_SUBPROGS {
            let message = format!(
                "the program has {} functions, at most {BPF_MAX_SUBPROGS} are allowed",
                starts.len()
            );
            return fail_nowhere(code::TOO_MANY_SUBPROGS, errno::E2BIG, message);
        }
        let ends = starts.iter().skip(1).copied().chain([self.len()]);
        self.funcs = starts
            .iter()
            .zip(ends)
            .map(|(&start, end)| Func {
                start,
                end,
                ..Func::default()
            })
            .collect();
        Ok(())
    }

    fn check_functions(&mut self) -> Check {
        for f in &mut self.funcs {
            for at in f.start..f.end {
                let s = self.slots[at];
                if s.code == op::JMP | op::CALL && s.src() == 0 && s.imm == HELPER_TAIL_CALL {
                    f.has_tail_call = true;
                    f.tail_call_reachable = true;
                }
                if s.code & op::CLASS_MASK == op::LD
                    && matches!(s.code & op::MODE_MASK, op::ABS | op::IND)
                {
                    f.has_ld_abs = true;
                }
                let Some(target) = jump_target(s, at) else {
                    continue;
                };
                if target < f.start as i64 || target >= f.end as i64 {
                    let message = format!(
                        "the jump to slot {target} leaves its function (slots {} to {})",
                        f.start,
                        f.end - 1
                    );
                    return fail_at(code::JUMP_RANGE, errno::EINVAL, at, message);
                }
            }
            let last = self.slots[f.end - 1].code;
            if last != op::JMP | op::EXIT && last != op::JMP | op::JA && last != op::JMP32 | op::JA
            {
                return fail_at(
                    code::FALL_THROUGH,
                    errno::EINVAL,
                    f.end - 1,
                    "the last instruction of the function is neither an exit nor a jump",
                );
            }
        }
        Ok(())
    }
}

/// Number of `bpf_tail_call`.
pub(crate) const HELPER_TAIL_CALL: i32 = 12;

/// Where the jump at slot `at` leads, if it is one (calls and exits are not).
pub(crate) fn jump_target(s: Slot, at: usize) -> Option<i64> {
    let class = s.code & op::CLASS_MASK;
    if class != op::JMP && class != op::JMP32 {
        return None;
    }
    match s.code & op::CODE_MASK {
        op::CALL | op::EXIT => None,
        op::JA if class == op::JMP32 => Some(at as i64 + 1 + i64::from(s.imm)),
        _ => Some(at as i64 + 1 + i64::from(s.offset)),
    }
}
