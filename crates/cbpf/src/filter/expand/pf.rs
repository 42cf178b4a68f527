//! Fields of the header that OpenBSD's pf(4) puts before what it logs.

use super::{Expanded, Expander, Offset};
use crate::filter::lexer::Pf;
use crate::filter::link::LinkType;
use crate::filter::parse::Word;
use crate::insn::Size;
use alloc::format;

const ACTION: u32 = 2;
const REASON: u32 = 3;
const INTERFACE: u32 = 4;
const RULE_SET: u32 = 20;
const RULE: u32 = 36;
const SUB_RULE: u32 = 40;
/// Longest name of an interface or a rule set, which a zero follows.
const NAME_MAX: usize = 15;

#[rustfmt::skip] // several a line
const REASONS: &[&str] = &[
    "match", "bad-offset", "fragment", "short", "normalize", "memory", "bad-timestamp", "congestion", "ip-option",
    "proto-cksum", "state-mismatch", "state-insert", "state-limit", "src-limit", "synproxy",
];

#[rustfmt::skip] // several a line
const ACTIONS: &[(&str, u32)] = &[
    ("pass", 0), ("accept", 0), ("drop", 1), ("block", 1), ("scrub", 2), ("noscrub", 3), ("nat", 4), ("nonat", 5),
    ("binat", 6), ("nobinat", 7), ("rdr", 8), ("nordr", 9), ("synproxy-drop", 10),
];

impl Expander<'_> {
    pub(super) fn pf(&mut self, field: Pf, word: Word<'_>) -> Expanded {
        if self.layer.link != LinkType::PFLOG {
            return self.error("this is a field of packets logged by pf(4) only");
        }
        let at = |offset| Offset::HEADER.plus(offset);
        match (field, word) {
            (Pf::Interface, Word::Name(name)) => self.pf_name(INTERFACE, name),
            (Pf::RuleSet, Word::Name(name)) => self.pf_name(RULE_SET, name),
            (Pf::Rule, Word::Number(number)) => self.field(at(RULE), Size::W, number),
            (Pf::SubRule, Word::Number(number)) => self.field(at(SUB_RULE), Size::W, number),
            (Pf::Reason, Word::Number(number)) => self.field(at(REASON), Size::B, number),
            (Pf::Reason, Word::Name(name)) => match REASONS.iter().position(|r| *r == name) {
                Some(number) => self.field(at(REASON), Size::B, number as u32),
                None => self.error(format!("pf(4) has no reason {name:?}")),
            },
            (Pf::Action, Word::Name(name)) => match ACTIONS.iter().find(|(n, _)| *n == name) {
                Some((_, number)) => self.field(at(ACTION), Size::B, *number),
                None => self.error(format!("pf(4) has no action {name:?}")),
            },
            _ => self.error("this field of pf(4) is compared with something else"),
        }
    }

    /// A name begins with these bytes.
    fn pf_name(&mut self, offset: u32, name: &str) -> Expanded {
        if name.len() > NAME_MAX {
            return self.error("this name has at most 15 characters");
        }
        self.bytes(Offset::HEADER.plus(offset), name.as_bytes())
    }
}
