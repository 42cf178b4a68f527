//! Case files of the verifier: a program with its maps, and the verdict on it.
//!
//! The file is assembly text of a whole object, in the section that its first directive names. Lines that start with `;`:
//!
//! ```text
//! ; test: verify                 source: what the case is named after
//! ; section: syscall
//! ; caps: bpf                    the loader has CAP_BPF and CAP_NET_ADMIN only; else everything
//! ; kernel: accepts wrongly      the kernel's verdict is an error of the kernel (see docs/kernels.md); or: refuses wrongly
//! ; accept
//! ; error V0101 at 2: r1 is read but was never written on this path
//! ```
//!
//! The last two are verdicts; the kernel's must be the same, in its own words, unless the case says that it errs.

use skep_isa::asm::{Options, assemble};
use skep_object::write::LinuxNames;
use skep_verifier::Caps;
use std::path::Path;

/// A case.
#[derive(Clone, Debug)]
pub struct VerifierCase {
    lines: Vec<String>,
    /// Line of the verdict.
    verdict: usize,
    /// What the loader may do.
    pub caps: Caps,
    /// The kernel's verdict is the other one, and wrong.
    pub kernel_errs: bool,
    /// The object.
    pub object: Vec<u8>,
}

/// Name of the program in a case without a label.
const PROGRAM: &str = "case";

impl VerifierCase {
    /// Reads a case file.
    ///
    /// # Errors
    /// What is wrong with it, with its place.
    pub fn read(path: &Path) -> Result<Self, String> {
        let place = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| format!("{place}: {e}"))?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let directive = |name: &str| {
            lines
                .iter()
                .filter_map(|l| l.strip_prefix("; "))
                .find_map(|l| l.strip_prefix(name))
                .map(str::trim)
        };
        let section = directive("section:").ok_or(format!("{place}: no section"))?;
        let caps = match directive("caps:") {
            None | Some("all") => Caps::All,
            Some("bpf") => Caps::Bpf,
            Some(other) => return Err(format!("{place}: no capabilities {other}")),
        };
        let kernel_errs = match directive("kernel:") {
            None => false,
            Some("accepts wrongly" | "refuses wrongly") => true,
            Some(other) => return Err(format!("{place}: kernel: {other} has no meaning")),
        };
        let is_verdict = |l: &String| l == "; accept" || l.starts_with("; error");
        let verdict = lines.iter().position(is_verdict);
        let verdict = verdict.ok_or(format!("{place}: no verdict"))?;
        let options = Options {
            facts: &LinuxNames,
            section,
            ..Options::default()
        };
        let source = format!(
            ".globl {PROGRAM}\n.type {PROGRAM}, @function\n{PROGRAM}:\n{text}\n.section license\n.asciz \"GPL\"\n"
        );
        let assembly =
            assemble(&source, &options).map_err(|errors| format!("{place}: {}", errors[0]))?;
        let object = skep_object::write::write(&assembly).map_err(|e| format!("{place}: {e}"))?;
        Ok(Self {
            lines,
            verdict,
            caps,
            kernel_errs,
            object,
        })
    }

    /// The verdict that is expected.
    #[must_use]
    pub fn expected(&self) -> &str {
        self.lines[self.verdict].trim_start_matches("; ")
    }

    /// The file's text with another verdict.
    #[must_use]
    pub fn with_verdict(&self, verdict: &str) -> String {
        let mut lines = self.lines.clone();
        lines[self.verdict] = format!("; {verdict}");
        lines.join("\n") + "\n"
    }
}
