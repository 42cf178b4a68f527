//! Expressions in a line of C, found by the column that line information gives.
//!
//! A compiler gives an instruction the place of an operator, a member, or the start of an expression. From there the
//! whole expression is read off the text: nothing is guessed, an odd line just has no expression.

use std::ops::Range;

/// A token: its bytes in the line, and whether it is a word or number.
#[derive(Clone, Debug)]
struct Token {
    at: Range<usize>,
    word: bool,
}

/// A line cut into tokens.
struct Line<'a> {
    text: &'a str,
    tokens: Vec<Token>,
}

/// Operators of more than one character, longest first.
const OPERATORS: &[&str] = &[
    "<<=", ">>=", "...", "->", "++", "--", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "+=",
    "-=", "*=", "/=", "%=", "&=", "|=", "^=",
];

/// Operators that assign.
const ASSIGNMENTS: &[&str] = &[
    "=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>=",
];

/// How strongly a binary operator binds (C17 6.5); `None` for other tokens.
fn precedence(operator: &str) -> Option<u8> {
    Some(match operator {
        "*" | "/" | "%" => 10,
        "+" | "-" => 9,
        "<<" | ">>" => 8,
        "<" | ">" | "<=" | ">=" => 7,
        "==" | "!=" => 6,
        "&" => 5,
        "^" => 4,
        "|" => 3,
        "&&" => 2,
        "||" => 1,
        _ => return None,
    })
}

/// Words after which an operand starts.
const KEYWORDS: &[&str] = &[
    "return", "if", "while", "for", "else", "do", "case", "switch", "goto",
];

impl<'a> Line<'a> {
    fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let mut tokens = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let start = at;
            if bytes[at].is_ascii_whitespace() || !bytes[at].is_ascii() {
                at += 1;
                continue;
            }
            let word = is_word(bytes[at]);
            if word {
                while at < bytes.len() && is_word(bytes[at]) {
                    at += 1;
                }
            } else if bytes[at] == b'"' {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += 1 + usize::from(bytes[at] == b'\\');
                }
                at = (at + 1).min(bytes.len());
            } else {
                let rest = &bytes[at..];
                let operator = OPERATORS.iter().find(|o| rest.starts_with(o.as_bytes()));
                at += operator.map_or(1, |o| o.len());
            }
            tokens.push(Token {
                at: start..at,
                word,
            });
        }
        Self { text, tokens }
    }

    /// The text of token `i`; empty past either end.
    fn token(&self, i: usize) -> &'a str {
        self.tokens
            .get(i)
            .and_then(|t| self.text.get(t.at.clone()))
            .unwrap_or("")
    }

    fn is_operand_word(&self, i: usize) -> bool {
        self.tokens.get(i).is_some_and(|t| t.word) && !KEYWORDS.contains(&self.token(i))
    }

    /// The index of the token that contains byte `at`.
    fn find(&self, at: usize) -> Option<usize> {
        self.tokens.iter().position(|t| t.at.contains(&at))
    }

    /// The bracket that closes the one at `i`.
    fn closing(&self, i: usize) -> Option<usize> {
        let mut depth = 0usize;
        for at in i..self.tokens.len() {
            match self.token(at) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// The bracket that opens the one at `i`.
    fn opening(&self, i: usize) -> Option<usize> {
        let mut depth = 0usize;
        for at in (0..=i).rev() {
            match self.token(at) {
                ")" | "]" | "}" => depth += 1,
                "(" | "[" | "{" => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// From an operand at `i`, over what follows it: subscripts, calls, members. Returns the last token.
    fn postfix(&self, mut i: usize) -> usize {
        loop {
            match self.token(i + 1) {
                "[" | "(" => match self.closing(i + 1) {
                    Some(end) => i = end,
                    None => return i,
                },
                "." | "->" if self.is_operand_word(i + 2) => i += 2,
                _ => return i,
            }
        }
    }

    /// An operand with its prefix operators and casts, from `i` on. Returns the last token.
    fn unary(&self, i: usize) -> Option<usize> {
        match self.token(i) {
            "*" | "&" | "!" | "~" | "-" | "+" | "++" | "--" => self.unary(i + 1),
            "(" => {
                let end = self.closing(i)?;
                let next = self.token(end + 1);
                let is_cast = self.is_operand_word(end + 1)
                    || matches!(next, "(" | "~" | "!")
                    || (matches!(next, "*" | "&" | "-") && self.is_type(i + 1, end));
                if is_cast {
                    self.unary(end + 1)
                } else {
                    Some(self.postfix(end))
                }
            }
            _ if self.is_operand_word(i) => Some(self.postfix(i)),
            _ => None,
        }
    }

    /// Token `i` is the last one of an operand.
    fn ends_operand(&self, i: usize) -> bool {
        match self.token(i) {
            "]" => true,
            ")" => !self.opening(i).is_some_and(|open| {
                let names_pointer = (open..i).any(|t| self.token(t) == "*");
                names_pointer && self.is_type(open + 1, i)
            }),
            _ => self.is_operand_word(i),
        }
    }

    /// Only words and stars: what a cast has between its brackets.
    fn is_type(&self, from: usize, to: usize) -> bool {
        (from..to).all(|i| self.tokens[i].word || self.token(i) == "*")
    }

    /// The first token of the operand that ends at `i`.
    fn operand_start(&self, mut i: usize) -> Option<usize> {
        loop {
            i = match self.token(i) {
                "]" | ")" => self.opening(i)?,
                _ if self.is_operand_word(i) => i,
                _ => return None,
            };
            if i == 0 {
                return Some(0);
            }
            let bracket = matches!(self.token(i), "[" | "(");
            match self.token(i - 1) {
                "." | "->" if i >= 2 => i -= 2,
                "]" | ")" if bracket => i -= 1,
                _ if bracket && self.is_operand_word(i - 1) => i -= 1,
                _ => return Some(i),
            }
        }
    }

    /// The prefix operators and casts before token `i` belong to its operand.
    fn with_prefixes(&self, mut i: usize) -> usize {
        while i > 0 {
            let before = i - 1;
            let prefix = matches!(self.token(before), "*" | "&" | "!" | "~" | "++" | "--");
            let starts = before == 0
                || (!self.is_operand_word(before - 1)
                    && !matches!(self.token(before - 1), ")" | "]"));
            if prefix && starts {
                i = before;
                continue;
            }
            match self.opening(before) {
                Some(open)
                    if self.token(before) == ")"
                        && self.is_type(open + 1, before)
                        && open + 1 < before =>
                {
                    let cast = open == 0 || !self.is_operand_word(open - 1);
                    if !cast {
                        return i;
                    }
                    i = open;
                }
                _ => return i,
            }
        }
        i
    }

    fn span(&self, first: usize, last: usize) -> Option<Range<usize>> {
        Some(self.tokens.get(first)?.at.start..self.tokens.get(last)?.at.end)
    }

    /// The expression that token `i` is the place of.
    fn expression(&self, i: usize) -> Option<Range<usize>> {
        let text = self.token(i);
        if self.is_operand_word(i) {
            let is_member = i >= 2 && matches!(self.token(i - 1), "." | "->");
            let first = if is_member { self.operand_start(i)? } else { i };
            return self.span(first, self.postfix(i));
        }
        let after_operand = i > 0 && self.ends_operand(i - 1);
        match text {
            "++" | "--" if after_operand => {
                let first = self.with_prefixes(self.operand_start(i - 1)?);
                self.span(first, i - 1)
            }
            "++" | "--" => self.span(i + 1, self.unary(i + 1)?),
            _ if ASSIGNMENTS.contains(&text) => {
                let first = self.with_prefixes(self.operand_start(i.checked_sub(1)?)?);
                self.span(first, i - 1)
            }
            "(" => self.span(i, self.unary(i)?),
            "*" | "&" | "!" | "~" | "-" | "+" if !after_operand => self.span(i, self.unary(i)?),
            _ if after_operand => {
                let first = self.left_operand(i)?;
                self.span(first, self.right_operand(i)?)
            }
            _ => None,
        }
    }

    /// The first token of what stands before the binary operator at `i`: operators that bind as much belong to it.
    fn left_operand(&self, i: usize) -> Option<usize> {
        let mine = precedence(self.token(i));
        let mut first = self.with_prefixes(self.operand_start(i.checked_sub(1)?)?);
        while first >= 2
            && self.ends_operand(first - 2)
            && mine.is_some_and(|p| precedence(self.token(first - 1)) >= Some(p))
        {
            first = self.with_prefixes(self.operand_start(first - 2)?);
        }
        Some(first)
    }

    /// The last token of what stands behind the binary operator at `i`: operators that bind more belong to it.
    fn right_operand(&self, i: usize) -> Option<usize> {
        let mine = precedence(self.token(i));
        let mut last = self.unary(i + 1)?;
        while mine.is_some() && precedence(self.token(last + 1)) > mine {
            match self.unary(last + 2) {
                Some(next) => last = next,
                None => break,
            }
        }
        Some(last)
    }
}

/// The bytes of `line` that hold the expression at `column` (from 1), if the text there is one.
#[must_use]
pub fn expression_at(line: &str, column: u32) -> Option<Range<usize>> {
    let at = usize::try_from(column).ok()?.checked_sub(1)?;
    let line = Line::new(line);
    line.expression(line.find(at)?)
}

/// The condition that a branch at `column` tests: up to the next `&&`, `||`, `?` or the end of its brackets.
pub(super) fn condition_at(text: &str, column: u32) -> Option<&str> {
    let at = usize::try_from(column).ok()?.checked_sub(1)?;
    let line = Line::new(text);
    let mut first = line.find(at)?;
    if matches!(line.token(first), "if" | "while") && line.token(first + 1) == "(" {
        let end = line.closing(first + 1)?;
        return text.get(line.span(first + 2, end.checked_sub(1)?)?);
    }
    // An operator in the middle: the comparison it belongs to starts behind the bracket or connective before it.
    let mut depth = 0usize;
    while first > 0 {
        match line.token(first - 1) {
            ")" | "]" => depth += 1,
            "(" | "[" if depth == 0 => break,
            "(" | "[" => depth -= 1,
            "&&" | "||" | "?" | ":" | ";" | "=" | "return" | "{" if depth == 0 => break,
            _ => {}
        }
        first -= 1;
    }
    let (mut last, mut depth) = (first, 0usize);
    while last + 1 < line.tokens.len() {
        match line.token(last) {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        let next = line.token(last + 1);
        if depth == 0 && matches!(next, "&&" | "||" | "?" | ";" | ")" | "]" | ":" | ",") {
            break;
        }
        last += 1;
    }
    text.get(line.span(first, last)?)
}

/// What an expression reads through and at which index: `b->n[i]` is `b->n` and `i`, `*(u16 *)(p + 12)` is `p + 12`.
pub(super) fn pointer_and_index(expression: &str) -> (Option<&str>, Option<&str>) {
    let line = Line::new(expression);
    let last = line.tokens.len().wrapping_sub(1);
    if line.token(last) == "]"
        && let Some(open) = line.opening(last)
        && open > 0
    {
        let base = line.span(0, open - 1).and_then(|r| expression.get(r));
        let index = line
            .span(open + 1, last - 1)
            .and_then(|r| expression.get(r));
        return (base, index);
    }
    if line.token(0) == "*" {
        let mut first = 1;
        while line.token(first) == "("
            && let Some(end) = line.closing(first)
        {
            if end == last {
                let inner = line
                    .span(first + 1, last - 1)
                    .and_then(|r| expression.get(r));
                return (inner, None);
            }
            first = end + 1;
        }
        return (line.span(first, last).and_then(|r| expression.get(r)), None);
    }
    let member = (1..line.tokens.len())
        .rev()
        .find(|&i| line.token(i) == "->");
    let base = member
        .and_then(|i| line.span(0, i - 1))
        .and_then(|r| expression.get(r));
    (base, None)
}

/// The arguments of a call.
pub(super) fn arguments(call: &str) -> Vec<&str> {
    let line = Line::new(call);
    let Some(open) = (0..line.tokens.len()).find(|&i| line.token(i) == "(") else {
        return Vec::new();
    };
    let Some(end) = line.closing(open) else {
        return Vec::new();
    };
    let (mut found, mut first, mut depth) = (Vec::new(), open + 1, 0usize);
    for i in open + 1..=end {
        match line.token(i) {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if i < end => depth = depth.saturating_sub(1),
            _ => {}
        }
        if i == end || (depth == 0 && line.token(i) == ",") {
            if i > first {
                found.extend(line.span(first, i - 1).and_then(|r| call.get(r)));
            }
            first = i + 1;
        }
    }
    found
}

/// What the expression at `column` is assigned to: `v` in `v = f(x);`, `u64 *v = (u64 *)f(x);`.
pub(super) fn assigned_to(text: &str, column: u32) -> Option<&str> {
    let at = usize::try_from(column).ok()?.checked_sub(1)?;
    let line = Line::new(text);
    let mut i = line.find(at)?;
    if !ASSIGNMENTS.contains(&line.token(i)) {
        let start = line.expression(i)?.start;
        i = line.find(start)?.checked_sub(1)?;
        while i > 0 && line.token(i) == ")" {
            i = line.opening(i)?.checked_sub(1)?;
        }
    }
    let last = i.checked_sub(1).filter(|_| line.token(i) == "=")?;
    let first = line.operand_start(last)?;
    text.get(line.span(first, last)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_expression_at_a_column() {
        const CASES: &[(&str, u32, &str)] = &[
            ("\t\tb->n[i]++;", 10, "b->n[i]"),
            ("\t*e = skb->len;", 5, "*e"),
            ("\treturn p ? *p : 0;", 13, "*p"),
            ("\treturn *(u16 *)(p + 12) == 8;", 9, "*(u16 *)(p + 12)"),
            ("\treturn p[12] == 8;", 9, "p[12]"),
            ("\treturn eth->h_proto == 8;", 14, "eth->h_proto"),
            (
                "\tu64 *v = bpf_map_lookup_elem(&state, &zero);",
                11,
                "bpf_map_lookup_elem(&state, &zero)",
            ),
            (
                "\tg->at[row * COLS + col] += 1;",
                26,
                "g->at[row * COLS + col]",
            ),
            ("\t*(u64 *)p = 1;", 12, "*(u64 *)p"),
            ("\treturn *(u8 *)*slot;", 16, "*slot"),
            ("\tif (i <= 10)", 8, "i <= 10"),
            ("\tsum = (u64)v + (u64)c;", 15, "(u64)v + (u64)c"),
            (
                "\topts = ip->ihl * 4 - sizeof(*ip);",
                21,
                "ip->ihl * 4 - sizeof(*ip)",
            ),
            ("\tx = a + b * c;", 8, "a + b * c"),
            ("\tx = a * b + c;", 8, "a * b"),
            ("\tif (a & 1 && b)", 8, "a & 1"),
            ("\t}", 2, ""),
            ("", 1, ""),
        ];
        for &(line, column, expected) in CASES {
            let found = expression_at(line, column)
                .and_then(|r| line.get(r))
                .unwrap_or("");
            assert_eq!(found, expected, "{line:?} at {column}");
        }
    }

    #[test]
    fn finds_the_condition_of_a_branch() {
        const CASES: &[(&str, u32, &str)] = &[
            ("\tif (skb->len > 1000)", 6, "skb->len > 1000"),
            ("\tif (!slot || data + 14 > end)", 25, "data + 14 > end"),
            ("\twhile ((v = next(&it))) {", 2, "(v = next(&it))"),
            ("\treturn p + 1 > end ? 0 : *p;", 9, "p + 1 > end"),
            ("\tfor (i = 0; i < 10; i++)", 14, "i < 10"),
        ];
        for &(line, column, expected) in CASES {
            assert_eq!(
                condition_at(line, column).unwrap_or(""),
                expected,
                "{line:?} at {column}"
            );
        }
    }

    #[test]
    fn takes_expressions_apart() {
        assert_eq!(pointer_and_index("b->n[i]"), (Some("b->n"), Some("i")));
        assert_eq!(
            pointer_and_index("*(u16 *)(p + 12)"),
            (Some("p + 12"), None)
        );
        assert_eq!(pointer_and_index("*(u64 *)p"), (Some("p"), None));
        assert_eq!(pointer_and_index("eth->h_proto"), (Some("eth"), None));
        assert_eq!(
            arguments("f(&t, sizeof(t.ipv4), 0)"),
            ["&t", "sizeof(t.ipv4)", "0"]
        );
        assert_eq!(arguments("f()"), [""; 0]);
        assert_eq!(assigned_to("\tu64 *v = lookup(&m, &k);", 11), Some("v"));
        assert_eq!(assigned_to("\tsk = lookup(&m);", 7), Some("sk"));
        assert_eq!(
            assigned_to("\tx->y = (void *)lookup(&m);", 17),
            Some("x->y")
        );
        assert_eq!(assigned_to("\tlookup(&m);", 2), None);
        assert_eq!(
            assigned_to("\tu8 *p = (void *)(long)ctx->data;", 29),
            Some("p")
        );
    }
}
