//! Lines to tokens.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::error::{Located, Problem};

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Tok<'a> {
    /// A register, mnemonic, directive, label or symbol.
    Name(&'a str),
    /// A string literal, unescaped.
    Str(Vec<u8>),
    Int(u64),
    /// `1f` and `1b`: the nearest numeric label forward or backward.
    Local {
        number: u32,
        forward: bool,
    },
    Punct(&'static str),
    End,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Token<'a> {
    pub(super) tok: Tok<'a>,
    pub(super) column: u32,
}

/// Longest first.
#[rustfmt::skip] // by length
const PUNCTUATION: &[&str] = &[
    "<<=", ">>=",
    "<<", ">>", "<=", ">=", "==", "!=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=",
    "+", "-", "*", "/", "%", "&", "|", "^", "<", ">", "=", "(", ")", "[", "]", ",", ":", ";",
];

impl Tok<'_> {
    /// The token as an error message quotes it.
    pub(super) fn quote(&self) -> String {
        match self {
            Self::Name(name) => format!("`{name}`"),
            Self::Str(_) => "a string".to_string(),
            Self::Int(value) => format!("`{value}`"),
            Self::Local { number, forward } => {
                format!("`{number}{}`", if *forward { 'f' } else { 'b' })
            }
            Self::Punct(text) => format!("`{text}`"),
            Self::End => "the end of the statement".to_string(),
        }
    }
}

/// The tokens of one line, ended by [`Tok::End`]. Comments are `#`, `//`, `/* */`, and `;` at the start of the line.
pub(super) fn tokens(line: &str) -> Located<Vec<Token<'_>>> {
    let mut lexer = Lexer {
        line,
        at: 0,
        column: 1,
    };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank()?;
        let column = lexer.column;
        let tok = match lexer.rest().chars().next() {
            None | Some('#') => Tok::End,
            Some(';') if tokens.is_empty() => Tok::End,
            Some(_) if lexer.rest().starts_with("//") => Tok::End,
            Some(c) => lexer.token(c)?,
        };
        let is_end = tok == Tok::End;
        tokens.push(Token { tok, column });
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    line: &'a str,
    /// Byte position.
    at: usize,
    column: u32,
}

fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '_' | '.' | '$' | '@')
}

fn continues_name(c: char) -> bool {
    starts_name(c) || c.is_ascii_digit()
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let text = &self.rest()[..bytes];
        self.at += bytes;
        let columns = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        self.column = self.column.saturating_add(columns);
        text
    }

    fn skip_blank(&mut self) -> Located<()> {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            self.advance(blank);
            if !self.rest().starts_with("/*") {
                return Ok(());
            }
            let Some(end) = self.rest()[2..].find("*/") else {
                return Err((self.column, Problem::Unterminated("the comment")));
            };
            self.advance(end + 4);
        }
    }

    fn token(&mut self, first: char) -> Located<Tok<'a>> {
        if first.is_ascii_digit() {
            return self.number();
        }
        if starts_name(first) {
            let rest = self.rest();
            let len = rest.find(|c| !continues_name(c)).unwrap_or(rest.len());
            return Ok(Tok::Name(self.advance(len)));
        }
        if first == '"' {
            return self.string();
        }
        for &text in PUNCTUATION {
            if self.rest().starts_with(text) {
                self.advance(text.len());
                return Ok(Tok::Punct(text));
            }
        }
        Err((self.column, Problem::UnexpectedCharacter(first)))
    }

    /// Decimal, `0x`, `0b`, octal with a leading zero, or a reference to a numeric label.
    fn number(&mut self) -> Located<Tok<'a>> {
        let column = self.column;
        let rest = self.rest();
        let len = rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len());
        let text = self.advance(len);
        let invalid = || (column, Problem::InvalidNumber(text.to_string()));
        if let Some(digits) = text.strip_suffix(['f', 'b'])
            && digits.chars().all(|c| c.is_ascii_digit())
        {
            let number = digits.parse().map_err(|_| invalid())?;
            let forward = text.ends_with('f');
            return Ok(Tok::Local { number, forward });
        }
        let lower = text.to_ascii_lowercase();
        let (digits, radix) = if let Some(digits) = lower.strip_prefix("0x") {
            (digits, 16)
        } else if let Some(digits) = lower.strip_prefix("0b") {
            (digits, 2)
        } else if lower.len() > 1 && lower.starts_with('0') {
            (&lower[1..], 8)
        } else {
            (lower.as_str(), 10)
        };
        u64::from_str_radix(digits, radix)
            .map(Tok::Int)
            .map_err(|_| invalid())
    }

    fn string(&mut self) -> Located<Tok<'a>> {
        let unterminated = (self.column, Problem::Unterminated("the string"));
        self.advance(1);
        let mut bytes = Vec::new();
        loop {
            let Some(c) = self.rest().chars().next() else {
                return Err(unterminated);
            };
            let text = self.advance(c.len_utf8());
            match c {
                '"' => return Ok(Tok::Str(bytes)),
                '\\' => bytes.push(self.escape()?),
                _ => bytes.extend_from_slice(text.as_bytes()),
            }
        }
    }

    /// The byte after a backslash: a letter, up to three octal digits, or `x` and hexadecimal ones.
    fn escape(&mut self) -> Located<u8> {
        let column = self.column;
        let rest = self.rest();
        let Some(c) = rest.chars().next() else {
            return Err((column, Problem::Unterminated("the string")));
        };
        let digits = |text: &str, radix: u32, most: usize| {
            text.chars()
                .take(most)
                .take_while(|c| c.is_digit(radix))
                .count()
        };
        let (skip, len, radix) = match c {
            '0'..='7' => (0, digits(rest, 8, 3), 8),
            'x' | 'X' => (1, digits(&rest[1..], 16, 2), 16),
            _ => {
                self.advance(c.len_utf8());
                return match c {
                    'b' => Ok(8),
                    't' => Ok(b'\t'),
                    'n' => Ok(b'\n'),
                    'f' => Ok(12),
                    'r' => Ok(b'\r'),
                    '"' | '\\' => Ok(c as u8),
                    _ => Err((column, Problem::UnexpectedCharacter(c))),
                };
            }
        };
        let text = &self.advance(skip + len)[skip..];
        u8::from_str_radix(text, radix)
            .map_err(|_| (column, Problem::InvalidNumber(text.to_string())))
    }
}
