//! What other kernels than the reference kernel lack: instructions and rules, as their profiles say.

use crate::code;
use crate::fail::{Check, errno, fail, fail_at};
use crate::verifier::Verifier;
use skep_abi::kernel::{Known, Rule};
use skep_isa::Insn;
use skep_isa::insn::{AluOp, EndOp, Extend};

/// The rule that an instruction depends on.
fn needed(insn: &Insn) -> Option<Rule> {
    match insn {
        Insn::Alu {
            op: AluOp::Sdiv | AluOp::Smod,
            ..
        } => Some(Rule::SignedDivision),
        Insn::Movsx { .. } => Some(Rule::MoveSigned),
        Insn::Load {
            extend: Extend::Sign,
            ..
        } => Some(Rule::LoadSigned),
        Insn::End {
            op: EndOp::Bswap, ..
        } => Some(Rule::ByteSwap),
        Insn::MayGoto { .. } => Some(Rule::MayGoto),
        Insn::LoadAcquire { .. } | Insn::StoreRelease { .. } => Some(Rule::LoadAcquire),
        Insn::AddrSpaceCast { .. } => Some(Rule::ArenaCast),
        _ => None,
    }
}

/// Kernels without it do not know its opcode, and refuse it wherever it stands; the others share their opcode with an older
/// instruction and are refused when they are reached.
fn has_own_opcode(rule: Rule) -> bool {
    matches!(rule, Rule::LoadSigned | Rule::ByteSwap | Rule::MayGoto)
}

impl Verifier<'_> {
    /// Before the walk: every opcode is one that this kernel has.
    pub(crate) fn check_known_opcodes(&self) -> Check {
        let Some(kernel) = self.req.kernel else {
            return Ok(());
        };
        for (at, insn) in self.p.insns.iter().enumerate() {
            let rule = insn.as_ref().ok().and_then(needed);
            let Some(rule) = rule.filter(|r| has_own_opcode(*r)) else {
                continue;
            };
            match kernel.rule(rule) {
                Known::Yes => {}
                Known::No => {
                    return fail_at(code::KERNEL_LACKS, errno::EINVAL, at, lacks(rule));
                }
                Known::Unknown => {
                    return fail_at(code::NOT_KNOWN, errno::EOPNOTSUPP, at, silent(rule));
                }
            }
        }
        Ok(())
    }

    /// This kernel has the instruction that is reached.
    pub(crate) fn check_insn_known(&self, insn: &Insn) -> Check {
        let Some(kernel) = self.req.kernel else {
            return Ok(());
        };
        match needed(insn).map(|rule| (rule, kernel.rule(rule))) {
            None | Some((_, Known::Yes)) => Ok(()),
            Some((rule, Known::No)) => fail(code::KERNEL_LACKS, errno::EINVAL, lacks(rule)),
            Some((rule, Known::Unknown)) => fail(code::NOT_KNOWN, errno::EOPNOTSUPP, silent(rule)),
        }
    }
}

fn lacks(rule: Rule) -> String {
    format!("this kernel does not have {}", rule.meaning())
}

fn silent(rule: Rule) -> String {
    format!(
        "the kernel's profile does not say whether it has {}",
        rule.meaning()
    )
}
