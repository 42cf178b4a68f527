//! Words to a tree.
//!
//! The language has three traits that surprise: `and` and `or` have equal precedence and associate to the left; a bare
//! name after them repeats the qualifiers of the primitive before (`port 80 or 443`); `%` and `^` take everything to
//! their right as their operand (`5 % 3 + 1` is `5 % (3 + 1)`).

use super::error::{FilterError, Span};
use super::lexer::{
    Atm, AtmField, Keyword, Mtp, MtpField, Pf, Protocol, Sign, Speed, Token, describe, tokens,
};
use crate::insn::{AluOp, Relation};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

/// Deepest nesting of an expression.
const DEPTH_MAX: usize = 128;

/// Transfer direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[rustfmt::skip] // families
pub(crate) enum Dir {
    #[default] Default,
    Src, Dst, SrcOrDst, SrcAndDst,
    Addr1, Addr2, Addr3, Addr4, Ra, Ta,
}

/// What kind of thing a name or number is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[rustfmt::skip] // families
pub(crate) enum Kind {
    #[default] Default,
    Host, Net, Port, PortRange, Gateway, Proto, ProtoChain,
}

/// The qualifiers of a primitive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Qualifiers {
    pub(crate) proto: Option<Protocol>,
    pub(crate) dir: Dir,
    pub(crate) kind: Kind,
}

/// A name, number or address that a primitive is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Id<'a> {
    Name(&'a str),
    Number(u32),
    Dotted(&'a str),
    /// An IPv4 net with the length of its prefix.
    Prefix(&'a str, u32),
    /// An IPv4 net with its mask.
    Mask(&'a str, &'a str),
    Ipv6(Ipv6Addr),
    Ipv6Prefix(Ipv6Addr, u32),
    Mac([u8; 6]),
}

/// A word or a number, where both are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Word<'a> {
    Name(&'a str),
    Number(u32),
}

/// A relation of an arithmetic comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Comparison {
    pub(crate) relation: Relation,
    pub(crate) negated: bool,
}

/// What a field is compared with: one number, or several of which it equals one.
#[derive(Debug)]
pub(crate) struct Values {
    pub(crate) comparison: Comparison,
    pub(crate) numbers: Vec<u32>,
}

/// An arithmetic expression.
#[derive(Debug)]
pub(crate) enum Arith {
    Number(u32),
    Len,
    Load {
        proto: Protocol,
        index: Box<Arith>,
        size: u32,
        span: Span,
    },
    Bin(AluOp, Box<Arith>, Box<Arith>, Span),
    Neg(Box<Arith>),
}

/// How a node is joined to the one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Join {
    And,
    Or,
}

/// A node of the tree, with the words it came from.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(crate) what: What<'a>,
    pub(crate) span: Span,
}

/// What a node says.
#[derive(Debug)]
pub(crate) enum What<'a> {
    /// Nodes joined from left to right; the first join is void.
    List(Vec<(Join, Node<'a>)>),
    Not(Box<Node<'a>>),
    Id(Id<'a>, Qualifiers),
    Protocol(Protocol),
    Compare(Comparison, Arith, Arith),
    Broadcast(Option<Protocol>),
    Multicast(Option<Protocol>),
    Less(u32),
    Greater(u32),
    Byte(u32, Sign, u32),
    Inbound,
    Outbound,
    IfIndex(u32),
    Vlan(Option<u32>),
    Mpls(Option<u32>),
    Pppoed,
    Pppoes(Option<u32>),
    Geneve(Option<u32>),
    Llc(Option<&'a str>),
    WlanType(Word<'a>, Option<Word<'a>>),
    WlanSubtype(&'a str),
    WlanDir(Word<'a>),
    Pf(Pf, Word<'a>),
    Atm(Atm),
    AtmField(AtmField, Values),
    Mtp(Mtp, Speed),
    MtpField(MtpField, Speed, Values),
}

/// The qualifiers that a bare name after a node repeats; `None` if the node had none.
type Inherited = Option<Qualifiers>;

struct Parser<'a> {
    tokens: Vec<(Token<'a>, Span)>,
    at: usize,
    depth: usize,
}

/// Reads an expression; `None` for an empty one.
pub(crate) fn parse(text: &str) -> Result<Option<Node<'_>>, FilterError> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
    };
    if parser.peek() == Token::End {
        return Ok(None);
    }
    let (node, _) = parser.expression()?;
    if parser.peek() != Token::End {
        return Err(parser.expected("\"and\", \"or\" or the end"));
    }
    Ok(Some(node))
}

type Parsed<'a> = Result<(Node<'a>, Inherited), FilterError>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.peek_at(0)
    }

    /// The word `ahead` words on; the last word is [`Token::End`], which goes on for ever.
    fn peek_at(&self, ahead: usize) -> Token<'a> {
        self.tokens
            .get(self.at + ahead)
            .map_or(Token::End, |(token, _)| *token)
    }

    fn span(&self) -> Span {
        self.tokens
            .get(self.at)
            .or(self.tokens.last())
            .map_or(Span::default(), |(_, span)| *span)
    }

    fn advance(&mut self) {
        self.at += 1;
    }

    /// From the start of `start` to the end of the last word taken.
    fn since(&self, start: Span) -> Span {
        let end = self
            .at
            .checked_sub(1)
            .and_then(|i| self.tokens.get(i))
            .map_or(start.end, |(_, s)| s.end);
        Span::new(start.start, end.max(start.start))
    }

    fn take(&mut self, sign: Sign) -> bool {
        let found = self.peek() == Token::Sign(sign);
        if found {
            self.advance();
        }
        found
    }

    fn take_keyword(&mut self, keyword: Keyword) -> bool {
        let found = self.peek() == Token::Keyword(keyword);
        if found {
            self.advance();
        }
        found
    }

    fn require(&mut self, sign: Sign, text: &str) -> Result<(), FilterError> {
        if self.take(sign) {
            return Ok(());
        }
        Err(self.expected(text))
    }

    fn expected(&self, what: &str) -> FilterError {
        FilterError::new(
            self.span(),
            format!("expected {what}, found {}", describe(self.peek())),
        )
    }

    /// Counts a level of nesting.
    fn deeper<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, FilterError>,
    ) -> Result<T, FilterError> {
        if self.depth == DEPTH_MAX {
            return Err(FilterError::new(
                self.span(),
                "the expression is nested deeper than 128 levels",
            ));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn join(&mut self) -> Option<Join> {
        let join = match self.peek() {
            Token::Sign(Sign::And) => Join::And,
            Token::Sign(Sign::Or) => Join::Or,
            _ => return None,
        };
        self.advance();
        Some(join)
    }

    /// `term { and|or (term | id) }`.
    fn expression(&mut self) -> Parsed<'a> {
        let start = self.span();
        let (first, mut inherited) = self.deeper(Self::term)?;
        let Some(mut join) = self.join() else {
            return Ok((first, inherited));
        };
        let mut list = Vec::with_capacity(4);
        list.push((Join::And, first));
        loop {
            let (node, next) = if self.is_id() {
                self.deeper(|p| p.id(inherited))?
            } else {
                self.deeper(Self::term)?
            };
            inherited = next;
            list.push((join, node));
            match self.join() {
                Some(next) => join = next,
                None => return Ok((self.list(list, start), inherited)),
            }
        }
    }

    fn list(&self, mut list: Vec<(Join, Node<'a>)>, start: Span) -> Node<'a> {
        match list.pop() {
            Some((_, only)) if list.is_empty() => only,
            last => {
                list.extend(last);
                Node {
                    what: What::List(list),
                    span: self.since(start),
                }
            }
        }
    }

    /// Whether a bare name follows, rather than a primitive: decided by the first word after `(` and `not`.
    fn is_id(&self) -> bool {
        let mut ahead = 0;
        let mut open = 0;
        loop {
            match self.peek_at(ahead) {
                Token::Sign(Sign::Open) => open += 1,
                Token::Sign(Sign::Not) => {}
                Token::Name(_) | Token::Dotted(_) | Token::Ipv6(_) | Token::Mac(_) => return true,
                Token::Number(_) => break,
                _ => return false,
            }
            ahead += 1;
        }
        // A number, perhaps in parentheses: part of a comparison if an operator follows.
        ahead += 1;
        while open > 0 && self.peek_at(ahead) == Token::Sign(Sign::Close) {
            open -= 1;
            ahead += 1;
        }
        match self.peek_at(ahead) {
            Token::Sign(sign) => arithmetic(sign).is_none() && comparison(sign).is_none(),
            _ => true,
        }
    }

    /// A name, number or address, alone or as a list in parentheses, with the qualifiers of what came before.
    fn id(&mut self, inherited: Inherited) -> Parsed<'a> {
        let start = self.span();
        if self.take(Sign::Not) {
            let (node, q) = self.deeper(|p| p.id(inherited))?;
            return Ok((self.negated(node, start), q));
        }
        if self.take(Sign::Open) {
            let (first, mut last) = self.deeper(|p| p.id(inherited))?;
            let mut list = alloc::vec![(Join::And, first)];
            while let Some(join) = self.join() {
                let (node, next) = self.deeper(|p| p.id(last))?;
                last = next;
                list.push((join, node));
            }
            self.require(Sign::Close, "\")\"")?;
            return Ok((self.list(list, start), last));
        }
        let id = self.plain_id()?;
        let Some(qualifiers) = inherited else {
            return Err(FilterError::new(
                self.since(start),
                "this has no qualifier, and there is none before it to repeat",
            ));
        };
        let node = Node {
            what: What::Id(id, qualifiers),
            span: self.since(start),
        };
        Ok((node, inherited))
    }

    fn plain_id(&mut self) -> Result<Id<'a>, FilterError> {
        let id = match self.peek() {
            Token::Name(name) => Id::Name(name),
            Token::Number(number) => Id::Number(number),
            Token::Mac(mac) => Id::Mac(mac),
            Token::Dotted(text) => {
                self.advance();
                if self.take(Sign::Slash) {
                    return Ok(Id::Prefix(text, self.number("the length of the prefix")?));
                }
                if self.take_keyword(Keyword::Mask) {
                    let Token::Dotted(mask) = self.peek() else {
                        return Err(self.expected("a mask such as 255.255.255.0"));
                    };
                    self.advance();
                    return Ok(Id::Mask(text, mask));
                }
                return Ok(Id::Dotted(text));
            }
            Token::Ipv6(address) => {
                self.advance();
                if self.take(Sign::Slash) {
                    let length = self.number("the length of the prefix")?;
                    return Ok(Id::Ipv6Prefix(address, length));
                }
                return Ok(Id::Ipv6(address));
            }
            _ => return Err(self.expected("a name, a number or an address")),
        };
        self.advance();
        Ok(id)
    }

    fn negated(&self, node: Node<'a>, start: Span) -> Node<'a> {
        Node {
            what: What::Not(Box::new(node)),
            span: self.since(start),
        }
    }

    fn number(&mut self, what: &str) -> Result<u32, FilterError> {
        match self.peek() {
            Token::Number(number) => {
                self.advance();
                Ok(number)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A number, which may stand in parentheses; `None` if neither follows.
    fn optional_number(&mut self) -> Result<Option<u32>, FilterError> {
        if self.take(Sign::Open) {
            let inner = self.deeper(Self::optional_number)?;
            if inner.is_none() {
                return Err(self.expected("a number"));
            }
            self.require(Sign::Close, "\")\"")?;
            return Ok(inner);
        }
        if let Token::Number(number) = self.peek() {
            self.advance();
            return Ok(Some(number));
        }
        Ok(None)
    }

    /// A primitive, negated or not, or an expression in parentheses.
    fn term(&mut self) -> Parsed<'a> {
        let start = self.span();
        if self.take(Sign::Not) {
            let (node, inherited) = self.deeper(Self::term)?;
            return Ok((self.negated(node, start), inherited));
        }
        if self.starts_arithmetic() {
            let before = self.at;
            match self.relation() {
                Ok(node) => return Ok((node, None)),
                Err(error) if self.tokens[before].0 != Token::Sign(Sign::Open) => {
                    return Err(error);
                }
                // A parenthesis may open an expression as well.
                Err(_) => self.at = before,
            }
        }
        if self.take(Sign::Open) {
            let (node, inherited) = self.deeper(Self::expression)?;
            self.require(Sign::Close, "\")\"")?;
            return Ok((node, inherited));
        }
        self.primitive()
    }

    fn starts_arithmetic(&self) -> bool {
        match self.peek() {
            Token::Number(_)
            | Token::Keyword(Keyword::Len)
            | Token::Sign(Sign::Minus | Sign::Open) => true,
            Token::Keyword(Keyword::Protocol(_)) => {
                self.peek_at(1) == Token::Sign(Sign::OpenBracket)
            }
            _ => false,
        }
    }

    /// `arith relop arith`.
    fn relation(&mut self) -> Result<Node<'a>, FilterError> {
        let start = self.span();
        let left = self.deeper(|p| p.arith(0))?;
        let relation = match self.peek() {
            Token::Sign(sign) => comparison(sign),
            _ => None,
        };
        let Some(relation) = relation else {
            return Err(self.expected("a comparison: =, !=, <, <=, > or >="));
        };
        self.advance();
        let right = self.deeper(|p| p.arith(0))?;
        Ok(Node {
            what: What::Compare(relation, left, right),
            span: self.since(start),
        })
    }

    /// An arithmetic expression of operators that bind at least as strongly as `floor`.
    fn arith(&mut self, floor: u8) -> Result<Arith, FilterError> {
        let start = self.span();
        let mut left = self.operand()?;
        while let Token::Sign(sign) = self.peek() {
            let Some((op, strength)) = arithmetic(sign) else {
                break;
            };
            if strength.is_some_and(|s| s < floor) {
                break;
            }
            self.advance();
            let right = self.deeper(|p| p.arith(strength.map_or(0, |s| s + 1)))?;
            left = Arith::Bin(op, Box::new(left), Box::new(right), self.since(start));
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Arith, FilterError> {
        let start = self.span();
        match self.peek() {
            Token::Number(number) => {
                self.advance();
                Ok(Arith::Number(number))
            }
            Token::Keyword(Keyword::Len) => {
                self.advance();
                Ok(Arith::Len)
            }
            Token::Sign(Sign::Minus) => {
                self.advance();
                // Only `%` and `^` reach into the operand of a minus.
                let inner = self.deeper(|p| p.arith(u8::MAX))?;
                Ok(Arith::Neg(Box::new(inner)))
            }
            Token::Sign(Sign::Open) => {
                self.advance();
                let inner = self.deeper(|p| p.arith(0))?;
                self.require(Sign::Close, "\")\"")?;
                Ok(inner)
            }
            Token::Keyword(Keyword::Protocol(proto)) => {
                self.advance();
                self.require(Sign::OpenBracket, "\"[\"")?;
                let index = Box::new(self.deeper(|p| p.arith(0))?);
                let mut size = 1;
                if self.take(Sign::Colon) {
                    size = self.number("1, 2 or 4")?;
                }
                self.require(Sign::CloseBracket, "\"]\"")?;
                let span = self.since(start);
                Ok(Arith::Load {
                    proto,
                    index,
                    size,
                    span,
                })
            }
            _ => Err(self.expected("a number, \"len\" or PROTOCOL[...]")),
        }
    }

    fn primitive(&mut self) -> Parsed<'a> {
        let start = self.span();
        let mut proto = None;
        if let Token::Keyword(Keyword::Protocol(p)) = self.peek() {
            self.advance();
            proto = Some(p);
        }
        if let Some(qualifiers) = self.head(proto)? {
            let (node, inherited) = self.deeper(|p| p.id(Some(qualifiers)))?;
            let span = self.since(start);
            return Ok((Node { span, ..node }, inherited));
        }
        let what = match (self.qualified(proto)?, proto) {
            (Some(what), _) => what,
            (None, Some(protocol)) => What::Protocol(protocol),
            (None, None) => self.plain()?,
        };
        let span = self.since(start);
        Ok((Node { what, span }, None))
    }

    /// Direction and type qualifiers, if any follow.
    fn head(&mut self, proto: Option<Protocol>) -> Result<Option<Qualifiers>, FilterError> {
        let dir = self.direction()?;
        let kind = match self.peek() {
            Token::Keyword(Keyword::Host) => Kind::Host,
            Token::Keyword(Keyword::Net) => Kind::Net,
            Token::Keyword(Keyword::Port) => Kind::Port,
            Token::Keyword(Keyword::PortRange) => Kind::PortRange,
            Token::Keyword(Keyword::Gateway) if dir.is_none() => Kind::Gateway,
            Token::Keyword(Keyword::Proto) if dir.is_none() => Kind::Proto,
            Token::Keyword(Keyword::ProtoChain) if dir.is_none() => Kind::ProtoChain,
            _ => {
                return Ok(dir.map(|dir| Qualifiers {
                    proto,
                    dir,
                    kind: Kind::Default,
                }));
            }
        };
        self.advance();
        Ok(Some(Qualifiers {
            proto,
            dir: dir.unwrap_or_default(),
            kind,
        }))
    }

    fn direction(&mut self) -> Result<Option<Dir>, FilterError> {
        let Token::Keyword(keyword) = self.peek() else {
            return Ok(None);
        };
        let dir = match keyword {
            Keyword::Src | Keyword::Dst => {
                self.advance();
                return self.both(keyword).map(Some);
            }
            Keyword::Addr1 => Dir::Addr1,
            Keyword::Addr2 => Dir::Addr2,
            Keyword::Addr3 => Dir::Addr3,
            Keyword::Addr4 => Dir::Addr4,
            Keyword::Ra => Dir::Ra,
            Keyword::Ta => Dir::Ta,
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some(dir))
    }

    /// After `src` or `dst`: perhaps the other of the two.
    fn both(&mut self, first: Keyword) -> Result<Dir, FilterError> {
        let (alone, other, name) = match first {
            Keyword::Src => (Dir::Src, Keyword::Dst, "\"dst\""),
            _ => (Dir::Dst, Keyword::Src, "\"src\""),
        };
        let Some(join) = self.join() else {
            return Ok(alone);
        };
        if !self.take_keyword(other) {
            return Err(self.expected(name));
        }
        Ok(match join {
            Join::And => Dir::SrcAndDst,
            Join::Or => Dir::SrcOrDst,
        })
    }

    /// Primitives that may have a protocol before them.
    fn qualified(&mut self, proto: Option<Protocol>) -> Result<Option<What<'a>>, FilterError> {
        let Token::Keyword(keyword) = self.peek() else {
            return Ok(None);
        };
        let what = match keyword {
            Keyword::Broadcast => What::Broadcast(proto),
            Keyword::Multicast => What::Multicast(proto),
            Keyword::Type => {
                self.advance();
                let kind = self.word("a frame type: mgt, ctl or data")?;
                let subtype = if self.take_keyword(Keyword::Subtype) {
                    Some(self.word("a frame subtype")?)
                } else {
                    None
                };
                return Ok(Some(What::WlanType(kind, subtype)));
            }
            Keyword::Subtype => {
                self.advance();
                let Word::Name(name) = self.word("a frame subtype")? else {
                    self.at -= 1;
                    return Err(self.expected("a frame subtype by name"));
                };
                return Ok(Some(What::WlanSubtype(name)));
            }
            Keyword::Dir => {
                self.advance();
                let dir = self.word("nods, tods, fromds, dstods or a number")?;
                return Ok(Some(What::WlanDir(dir)));
            }
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some(what))
    }

    fn word(&mut self, what: &str) -> Result<Word<'a>, FilterError> {
        if let Token::Name(name) = self.peek() {
            self.advance();
            return Ok(Word::Name(name));
        }
        match self.optional_number()? {
            Some(number) => Ok(Word::Number(number)),
            None => Err(self.expected(what)),
        }
    }

    /// Primitives without qualifiers.
    fn plain(&mut self) -> Result<What<'a>, FilterError> {
        let Token::Keyword(keyword) = self.peek() else {
            return Err(self.expected("a primitive such as \"host\", \"port\" or \"tcp\""));
        };
        let before = self.at;
        self.advance();
        Ok(match keyword {
            Keyword::Less => What::Less(self.number("a length in bytes")?),
            Keyword::Greater => What::Greater(self.number("a length in bytes")?),
            Keyword::Byte => self.byte()?,
            Keyword::Inbound => What::Inbound,
            Keyword::Outbound => What::Outbound,
            Keyword::IfIndex => What::IfIndex(self.number("the index of an interface")?),
            Keyword::Vlan => What::Vlan(self.optional_number()?),
            Keyword::Mpls => What::Mpls(self.optional_number()?),
            Keyword::Pppoed => What::Pppoed,
            Keyword::Pppoes => What::Pppoes(self.optional_number()?),
            Keyword::Geneve => What::Geneve(self.optional_number()?),
            Keyword::Llc => What::Llc(self.llc_type()),
            Keyword::Rnr => self.pf(Pf::Rule)?,
            Keyword::Pf(field) => self.pf(field)?,
            Keyword::Atm(kind) => What::Atm(kind),
            Keyword::AtmField(field) => What::AtmField(field, self.values()?),
            Keyword::Mtp(kind, speed) => What::Mtp(kind, speed),
            Keyword::MtpField(field, speed) => What::MtpField(field, speed, self.values()?),
            _ => {
                self.at = before;
                return Err(self.expected("a primitive such as \"host\", \"port\" or \"tcp\""));
            }
        })
    }

    /// What a field of a packet logged by pf(4) is compared with.
    fn pf(&mut self, field: Pf) -> Result<What<'a>, FilterError> {
        let wanted = match field {
            Pf::Rule | Pf::SubRule => {
                let number = self.number("the number of a rule")?;
                return Ok(What::Pf(field, Word::Number(number)));
            }
            Pf::Interface => "the name of an interface",
            Pf::RuleSet => "the name of a rule set",
            Pf::Action => "an action such as pass or block",
            Pf::Reason => "a reason by name or number",
        };
        let word = match self.peek() {
            Token::Name(name) => Word::Name(name),
            Token::Number(number) if field == Pf::Reason => Word::Number(number),
            _ => return Err(self.expected(wanted)),
        };
        self.advance();
        Ok(What::Pf(field, word))
    }

    /// What a field is compared with: a number, perhaps after a comparison, or a list such as `(1 or 2)`.
    fn values(&mut self) -> Result<Values, FilterError> {
        let equal = Comparison {
            relation: Relation::Eq,
            negated: false,
        };
        if self.take(Sign::Open) {
            let mut numbers = alloc::vec![self.number("a number")?];
            while self.take(Sign::Or) {
                numbers.push(self.number("a number")?);
            }
            self.require(Sign::Close, "\")\" or \"or\"")?;
            return Ok(Values {
                comparison: equal,
                numbers,
            });
        }
        let asked = match self.peek() {
            Token::Sign(sign) => comparison(sign),
            _ => None,
        };
        if asked.is_some() {
            self.advance();
        }
        Ok(Values {
            comparison: asked.unwrap_or(equal),
            numbers: alloc::vec![self.number("a number")?],
        })
    }

    fn llc_type(&mut self) -> Option<&'a str> {
        let name = match self.peek() {
            Token::Name(name) => name,
            Token::Keyword(Keyword::Rnr) => "rnr",
            _ => return None,
        };
        self.advance();
        Some(name)
    }

    /// `byte OFFSET OPERATOR VALUE`.
    fn byte(&mut self) -> Result<What<'a>, FilterError> {
        let offset = self.number("an offset in bytes")?;
        let sign = match self.peek() {
            Token::Sign(
                sign @ (Sign::Equal | Sign::Less | Sign::Greater | Sign::Ampersand | Sign::Bar),
            ) => sign,
            _ => return Err(self.expected("one of = < > & |")),
        };
        self.advance();
        Ok(What::Byte(offset, sign, self.number("a value")?))
    }
}

/// An arithmetic operator and how strongly it binds; `None` for those that take all to their right.
fn arithmetic(sign: Sign) -> Option<(AluOp, Option<u8>)> {
    Some(match sign {
        Sign::Bar => (AluOp::Or, Some(1)),
        Sign::Ampersand => (AluOp::And, Some(2)),
        Sign::ShiftLeft => (AluOp::Lsh, Some(3)),
        Sign::ShiftRight => (AluOp::Rsh, Some(3)),
        Sign::Plus => (AluOp::Add, Some(4)),
        Sign::Minus => (AluOp::Sub, Some(4)),
        Sign::Times => (AluOp::Mul, Some(5)),
        Sign::Slash => (AluOp::Div, Some(5)),
        Sign::Percent => (AluOp::Mod, None),
        Sign::Caret => (AluOp::Xor, None),
        _ => return None,
    })
}

fn comparison(sign: Sign) -> Option<Comparison> {
    let (relation, negated) = match sign {
        Sign::Equal => (Relation::Eq, false),
        Sign::NotEqual => (Relation::Eq, true),
        Sign::Greater => (Relation::Gt, false),
        Sign::GreaterEqual => (Relation::Ge, false),
        Sign::Less => (Relation::Ge, true),
        Sign::LessEqual => (Relation::Gt, true),
        _ => return None,
    };
    Some(Comparison { relation, negated })
}
