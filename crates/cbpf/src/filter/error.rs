//! What is wrong with an expression, and where.

use alloc::string::String;
use core::fmt;

/// A part of the text, in bytes.
///
/// ```
/// use skep_cbpf::filter::{Filter, LinkType, Target};
///
/// let text = "tcp and prot 80";
/// let error = Filter::compile(text, &Target::file(LinkType::ETHERNET)).unwrap_err();
/// assert_eq!(&text[error.span.start..error.span.end], "prot");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

impl Span {
    /// The bytes from `start` to before `end`.
    #[must_use]
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }
}

/// Why an expression is refused.
///
/// ```
/// use skep_cbpf::filter::{Filter, LinkType, Target};
///
/// let text = "tcp and prot 80";
/// let error = Filter::compile(text, &Target::file(LinkType::ETHERNET)).unwrap_err();
/// assert!(error.explain(text).ends_with("tcp and prot 80\n          ^^^^"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilterError {
    /// The words at fault.
    pub span: Span,
    /// The fact.
    pub message: String,
}

impl FilterError {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
        }
    }

    /// The message under the expression, with the words marked. Long expressions are shown in part.
    #[must_use]
    pub fn explain(&self, text: &str) -> String {
        let before: String = text
            .get(..self.span.start)
            .unwrap_or(text)
            .replace(['\n', '\t'], " ");
        let marked = text.get(self.span.start..self.span.end).unwrap_or("");
        let after = text
            .get(self.span.end..)
            .unwrap_or("")
            .replace(['\n', '\t'], " ");
        let skipped = before.chars().count().saturating_sub(CONTEXT_CHARS);
        let (dots, before) = if skipped > 0 {
            ("… ", before.chars().skip(skipped).collect())
        } else {
            ("", before)
        };
        let after: String = after.chars().take(CONTEXT_CHARS).collect();
        let indent = " ".repeat(dots.chars().count() + before.chars().count());
        let carets = "^".repeat(marked.chars().count().max(1));
        alloc::format!(
            "{}\n  {dots}{before}{marked}{after}\n  {indent}{carets}",
            self.message
        )
    }
}

/// Characters of the expression shown on either side of the words at fault.
const CONTEXT_CHARS: usize = 60;

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at character {})", self.message, self.span.start + 1)
    }
}

impl core::error::Error for FilterError {}
