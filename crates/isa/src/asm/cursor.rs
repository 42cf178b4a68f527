//! A position in the tokens of one statement.

use alloc::format;
use alloc::string::{String, ToString};

use super::error::{Located, Problem};
use super::lex::{Tok, Token};
use crate::insn::{Reg, Width};

/// A register as written: which, and whether `r` or `w`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct WrittenReg {
    pub(super) width: Width,
    pub(super) reg: Reg,
}

impl core::fmt::Display for WrittenReg {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let letter = match self.width {
            Width::W32 => 'w',
            Width::W64 => 'r',
        };
        write!(f, "{letter}{}", self.reg.number())
    }
}

pub(super) struct Cursor<'t, 'a> {
    /// Never empty: the last token ends the line.
    tokens: &'t [Token<'a>],
    at: usize,
}

const END: Tok<'static> = Tok::End;

impl<'t, 'a> Cursor<'t, 'a> {
    pub(super) fn new(tokens: &'t [Token<'a>]) -> Self {
        Self { tokens, at: 0 }
    }

    fn token(&self, ahead: usize) -> Option<&'t Token<'a>> {
        self.tokens.get(self.at + ahead)
    }

    pub(super) fn peek(&self) -> &'t Tok<'a> {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> &'t Tok<'a> {
        self.token(ahead).map_or(&END, |token| &token.tok)
    }

    pub(super) fn column(&self) -> u32 {
        let token = self.token(0).or(self.tokens.last());
        token.map_or(1, |token| token.column)
    }

    pub(super) fn bump(&mut self) -> &'t Tok<'a> {
        let tok = self.peek();
        if *tok != Tok::End {
            self.at += 1;
        }
        tok
    }

    pub(super) fn is_done(&self) -> bool {
        *self.peek() == Tok::End
    }

    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = match self.peek() {
            Tok::Punct(punct) => *punct == text,
            Tok::Name(name) => *name == text,
            _ => false,
        };
        if found {
            self.bump();
        }
        found
    }

    /// Fails at the current token.
    pub(super) fn expected<T>(&self, what: &'static str) -> Located<T> {
        let found = self.peek().quote();
        Err((self.column(), Problem::Expected { what, found }))
    }

    pub(super) fn expect(&mut self, text: &'static str, what: &'static str) -> Located<()> {
        if self.eat(text) {
            Ok(())
        } else {
            self.expected(what)
        }
    }

    pub(super) fn name(&mut self, what: &'static str) -> Located<&'a str> {
        match *self.peek() {
            Tok::Name(name) => {
                self.bump();
                Ok(name)
            }
            _ => self.expected(what),
        }
    }

    /// A name, which may be quoted.
    pub(super) fn quoted_name(&mut self, what: &'static str) -> Located<String> {
        if let Tok::Str(bytes) = self.peek() {
            let column = self.column();
            self.bump();
            let name = String::from_utf8(bytes.clone());
            return name.map_err(|_| (column, Problem::UnexpectedCharacter('\u{fffd}')));
        }
        self.name(what).map(ToString::to_string)
    }

    /// The register at the current token, if it is one.
    pub(super) fn try_reg(&mut self) -> Located<Option<WrittenReg>> {
        let Tok::Name(name) = *self.peek() else {
            return Ok(None);
        };
        let (width, digits) = if let Some(digits) = name.strip_prefix('r') {
            (Width::W64, digits)
        } else if let Some(digits) = name.strip_prefix('w') {
            (Width::W32, digits)
        } else {
            return Ok(None);
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(None);
        }
        let reg = digits.parse().ok().and_then(Reg::new);
        let Some(reg) = reg else {
            return Err((self.column(), Problem::InvalidRegister(name.to_string())));
        };
        self.bump();
        Ok(Some(WrittenReg { width, reg }))
    }

    pub(super) fn any_reg(&mut self) -> Located<WrittenReg> {
        match self.try_reg()? {
            Some(reg) => Ok(reg),
            None => self.expected("a register"),
        }
    }

    /// A register of the given width.
    pub(super) fn reg(&mut self, width: Width) -> Located<Reg> {
        let column = self.column();
        let found = self.any_reg()?;
        if found.width == width {
            return Ok(found.reg);
        }
        let wanted = WrittenReg {
            width,
            reg: found.reg,
        };
        let problem = Problem::WidthMismatch {
            found: found.to_string(),
            wanted: wanted.to_string(),
        };
        Err((column, problem))
    }

    /// The same register again.
    pub(super) fn repeat(&mut self, reg: WrittenReg) -> Located<()> {
        let column = self.column();
        if self.try_reg()? == Some(reg) {
            Ok(())
        } else {
            Err((column, Problem::MustRepeat(format!("{reg}"))))
        }
    }

    pub(super) fn at_int(&self) -> bool {
        match self.peek() {
            Tok::Int(_) => true,
            Tok::Punct("+" | "-") => matches!(self.peek_at(1), Tok::Int(_)),
            _ => false,
        }
    }

    /// A number with an optional sign.
    pub(super) fn int(&mut self) -> Located<i128> {
        let negative = match self.peek() {
            Tok::Punct(sign @ ("+" | "-")) => {
                self.bump();
                *sign == "-"
            }
            _ => false,
        };
        match *self.peek() {
            Tok::Int(value) => {
                self.bump();
                let value = i128::from(value);
                Ok(if negative { -value } else { value })
            }
            _ => self.expected("a number"),
        }
    }

    /// A number that `field` of type `T` can hold.
    pub(super) fn field<T: Field>(&mut self, field: &'static str) -> Located<T> {
        let column = self.column();
        let value = self.int()?;
        fit(value, field).map_err(|problem| (column, problem))
    }

    pub(super) fn end(&mut self) -> Located<()> {
        if self.is_done() {
            Ok(())
        } else {
            self.expected("the end of the statement")
        }
    }
}

/// An integer type of a field.
pub(super) trait Field: TryFrom<i128> {
    const MIN: i128;
    const MAX: i128;
}

macro_rules! fields {
    ($($ty:ty),*) => { $(impl Field for $ty {
        const MIN: i128 = <$ty>::MIN as i128;
        const MAX: i128 = <$ty>::MAX as i128;
    })* };
}

fields!(u8, u16, u32, u64, i16, i32, i64);

/// `value` as a `T`.
pub(super) fn fit<T: Field>(value: i128, field: &'static str) -> Result<T, Problem> {
    T::try_from(value).map_err(|_| Problem::OutOfRange {
        field,
        value,
        min: T::MIN,
        max: T::MAX,
    })
}
