//! `skep prog attach|detach PROGRAM TYPE [MAP]`: hooks without links.

use crate::cmd::noun::{self, Selector};
use crate::error::{CliError, io_text};
use skep_abi::AttachType;
use skep_bpf::ObjKind;
use skep_sys::attr::ProgAttach;

/// Attach types that bpftool calls otherwise.
const SHORT: &[(&str, AttachType)] = &[
    ("msg_verdict", AttachType::SkMsgVerdict),
    ("skb_verdict", AttachType::SkSkbVerdict),
    ("stream_verdict", AttachType::SkSkbStreamVerdict),
    ("stream_parser", AttachType::SkSkbStreamParser),
];

/// Attaches or detaches, as `command` does.
pub(super) fn run(
    words: &[String],
    command: fn(&ProgAttach) -> std::io::Result<()>,
) -> Result<(), CliError> {
    let kernel = noun::kernel();
    let usage = "usage: id N | pinned PATH | name NAME, then an attach type, then the map";
    let [kind, value, attach_type, map @ ..] = words else {
        return Err(CliError::usage(usage));
    };
    let one = |object, words: &[String]| {
        let selector = Selector::parse(words)?.ok_or_else(|| CliError::usage(usage))?;
        noun::select_one(&kernel, object, &selector)
    };
    let short = SHORT.iter().find(|(name, _)| name == attach_type);
    let attach_type = short
        .map(|(_, t)| *t)
        .or_else(|| AttachType::from_name(attach_type))
        .ok_or_else(|| CliError::usage(format!("\"{attach_type}\" is no attach type")))?;
    let program = one(ObjKind::Prog, &[kind.clone(), value.clone()])?;
    let map = match map {
        [] => None,
        words => Some(one(ObjKind::Map, words)?),
    };
    let attr = ProgAttach {
        target_fd: map.as_ref().map_or(0, |m| m.handle.0.cast_unsigned()),
        attach_bpf_fd: program.handle.0.cast_unsigned(),
        attach_type: attach_type.id(),
        ..ProgAttach::default()
    };
    command(&attr).map_err(|e| CliError::environment(format!("{attach_type}: {}", io_text(&e))))
}
