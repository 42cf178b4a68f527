//! Errors beyond the first: the walk goes on behind an error that is known, where that is sound.
//!
//! Behind a refused load or store it goes on as if the missing check had been made, so that one omission is one error;
//! behind any other refusal the path ends and the paths that wait are walked.

use super::record;
use crate::fail::{Check, Fail};
use crate::reg::{Flags, Kind, Reg};
use crate::rejection::{Class, Rejection};
use crate::request::Request;
use crate::verifier::{Flow, Verifier};
use crate::verify::refuse;
use skep_abi::limits::MAX_PACKET_OFF;
use skep_isa::{Insn, Size};

/// Steps that all walks for the explanation of a program may take, some 15 ms.
const MAX_STEPS: u32 = 2 * record::MAX_STEPS;
/// Walks that explain an error (see [`record::failing_path`]).
const WALKS: u32 = 2;
/// Errors of one program.
const MAX_ERRORS: usize = 10;

/// The errors of `req` that are independent of `first`, each with the slots of those before it (see [`super::explain`]).
#[must_use]
pub fn further_errors(req: &Request<'_>, first: &Rejection) -> Vec<(Rejection, Vec<u32>)> {
    let mut found = Vec::new();
    let Some(at) = first.insn.filter(|_| first.class == Class::Safety) else {
        return found;
    };
    let mut known = vec![at];
    let mut lines: Vec<(&str, Option<u32>)> = vec![(first.code, line(req, at))];
    let mut left = MAX_STEPS.saturating_sub(WALKS.saturating_mul(first.insns_processed));
    while known.len() < MAX_ERRORS && left > 0 {
        let Some(next) = refuse(req, &known, left / (1 + WALKS)) else {
            break;
        };
        left = left.saturating_sub(next.insns_processed.saturating_mul(1 + WALKS));
        let Some(at) = next
            .insn
            .filter(|at| next.class == Class::Safety && !known.contains(at))
        else {
            break;
        };
        let place = (next.code, line(req, at));
        if !lines.contains(&place) {
            lines.push(place);
            found.push((next, known.clone()));
        }
        known.push(at);
    }
    found
}

/// The source line of a slot.
fn line(req: &Request<'_>, at: u32) -> Option<u32> {
    let after = req.line_info.partition_point(|r| r.insn <= at);
    Some(req.line_info.get(after.checked_sub(1)?)?.line_col >> 10)
}

impl Verifier<'_> {
    /// Goes on behind the refusal `e` if it is a known one.
    pub(crate) fn survive(&mut self, e: Box<Fail>) -> Check<Flow> {
        let at = self.insn as u32;
        let here = e.insn.is_none() && e.code.class == Class::Safety;
        if !here || !self.known_errors.contains(&at) {
            return Err(e);
        }
        let insn = self.p.insns[self.insn].as_ref().ok().copied();
        match insn {
            Some(Insn::Load { size, dst, src, .. }) if dst.index() != 10 => {
                let base = *self.reg(src.index());
                if !self.assume_checked(&base) || size == Size::DW && base.kind == Kind::Stack {
                    return Ok(Flow::Done);
                }
                *self.reg_mut(dst.index()) = Reg::UNKNOWN;
                Ok(Flow::Next(self.insn + 1))
            }
            Some(Insn::Store { dst, .. }) => {
                let base = *self.reg(dst.index());
                if self.assume_checked(&base) {
                    Ok(Flow::Next(self.insn + 1))
                } else {
                    Ok(Flow::Done)
                }
            }
            _ => Ok(Flow::Done),
        }
    }

    /// As if the check that an access through `base` lacks had been made; false if there is no such check.
    fn assume_checked(&mut self, base: &Reg) -> bool {
        if base.is_nullable() {
            let id = base.id;
            self.cur.for_each_reg(|r| {
                if r.is_nullable() && r.id == id {
                    r.flags = r.flags.without(Flags::NULLABLE);
                }
            });
            return matches!(base.kind, Kind::MapValue | Kind::Mem);
        }
        if base.kind == Kind::Pkt {
            let id = base.id;
            self.cur.for_each_reg(|r| {
                if r.kind == Kind::Pkt && r.id == id {
                    r.aux = MAX_PACKET_OFF;
                }
            });
            return true;
        }
        matches!(base.kind, Kind::MapValue | Kind::Mem | Kind::Stack)
    }
}
