//! libpcap's answers, by a small C program that is built when needed.

use super::packets::{Packet, write_for_oracle};
use super::work_folder;
use crate::TaskError;
use skep_cbpf::Insn;
use skep_cbpf::filter::LinkType;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Bytes a filter keeps, as in `tcpdump -d`.
const SNAPLEN: &str = "262144";

/// What libpcap says of an expression.
pub(crate) enum Answer {
    /// It is refused; why.
    Refused(String),
    /// libpcap does not end.
    Endless,
    /// It is compiled: instructions, and for each packet whether it is accepted.
    Code {
        /// Instructions.
        code: Vec<Insn>,
        /// By packet.
        accepted: Vec<bool>,
    },
}

/// The built program.
pub(crate) struct Oracle {
    program: PathBuf,
}

impl Oracle {
    /// Builds it with `cc`; libpcap's headers must be there.
    pub(crate) fn build() -> Result<Self, TaskError> {
        let folder = work_folder()?;
        let (source, program) = (folder.join("oracle.c"), folder.join("oracle"));
        fs::write(&source, include_str!("oracle.c")).map_err(|e| e.to_string())?;
        let status = Command::new("cc")
            .args(["-O2", "-o"])
            .arg(&program)
            .arg(&source)
            .arg("-lpcap")
            .status()
            .map_err(|e| format!("cc: {e}"))?;
        if !status.success() {
            return Err("cc cannot build against libpcap (libpcap-dev)".to_owned());
        }
        Ok(Self { program })
    }

    fn ask(&self, mode: &str, link: LinkType, rest: &[&str]) -> Result<String, TaskError> {
        let output = Command::new(&self.program)
            .args([mode, &dlt(link).to_string(), SNAPLEN])
            .args(rest)
            .output()
            .map_err(|e| format!("oracle: {e}"))?;
        if !output.status.success() {
            return Err(format!(
                "oracle: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn expressions(expressions: &[String]) -> Result<String, TaskError> {
        let path = work_folder()?.join("expressions");
        fs::write(&path, expressions.join("\n") + "\n").map_err(|e| e.to_string())?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn packets(packets: &[Packet]) -> Result<String, TaskError> {
        let path = work_folder()?.join("packets");
        fs::write(&path, write_for_oracle(packets)).map_err(|e| e.to_string())?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// What libpcap does with each expression and packet.
    pub(crate) fn run(
        &self,
        link: LinkType,
        expressions: &[String],
        packets: &[Packet],
    ) -> Result<Vec<Answer>, TaskError> {
        let text = self.ask(
            "run",
            link,
            &[&Self::expressions(expressions)?, &Self::packets(packets)?],
        )?;
        let answers: Vec<Answer> = text.lines().map(|l| answer(l, packets.len())).collect();
        if answers.len() != expressions.len() {
            return Err(format!(
                "oracle: {} answers to {} expressions",
                answers.len(),
                expressions.len()
            ));
        }
        Ok(answers)
    }

    /// Nanoseconds of one compilation of each expression.
    pub(crate) fn compile_ns(
        &self,
        link: LinkType,
        expressions: &[String],
        rounds: u32,
    ) -> Result<Vec<f64>, TaskError> {
        let text = self.ask(
            "compile",
            link,
            &[&Self::expressions(expressions)?, &rounds.to_string()],
        )?;
        Ok(text.lines().filter_map(|l| l.parse().ok()).collect())
    }

    /// Nanoseconds of one match of each expression.
    pub(crate) fn match_ns(
        &self,
        link: LinkType,
        expressions: &[String],
        packets: &[Packet],
        rounds: u32,
    ) -> Result<Vec<f64>, TaskError> {
        let text = self.ask(
            "match",
            link,
            &[
                &Self::expressions(expressions)?,
                &Self::packets(packets)?,
                &rounds.to_string(),
            ],
        )?;
        let first = |l: &str| l.split(' ').next().and_then(|n| n.parse().ok());
        Ok(text.lines().filter_map(first).collect())
    }
}

/// The number libpcap knows a link type by, where it is not that of files.
const DLTS: &[(u16, u16)] = &[(100, 11), (101, 12), (102, 15), (103, 16), (106, 19)];

fn dlt(LinkType(number): LinkType) -> u16 {
    let row = DLTS.iter().find(|(file, _)| *file == number);
    row.map_or(number, |(_, dlt)| *dlt)
}

fn answer(line: &str, packets: usize) -> Answer {
    if let Some(why) = line.strip_prefix("refused ") {
        return Answer::Refused(why.to_owned());
    }
    if line == "endless" {
        return Answer::Endless;
    }
    let (code, digits) = line.split_once(' ').unwrap_or((line, ""));
    let digit = |i: usize| {
        digits
            .as_bytes()
            .get(i / 4)
            .and_then(|d| char::from(*d).to_digit(16))
            .unwrap_or(0)
    };
    Answer::Code {
        code: code.split(',').map(insn).collect(),
        accepted: (0..packets).map(|i| digit(i) >> (i % 4) & 1 == 1).collect(),
    }
}

/// An instruction as the oracle prints it: four numbers in base 16.
fn insn(text: &str) -> Insn {
    let mut fields = text
        .split('.')
        .map(|field| u32::from_str_radix(field, 16).unwrap_or(0));
    let mut next = || fields.next().unwrap_or(0);
    Insn {
        code: next() as u16,
        jt: next() as u8,
        jf: next() as u8,
        k: next(),
    }
}
