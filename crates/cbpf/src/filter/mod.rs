//! The packet filter language: from an expression to classic code.
//!
//! `lexer` → `parse` (a tree) → `expand` (conditions on bytes, for one link type) → `graph` → `simplify` → `emit` →
//! `layout`. The language is that of pcap-filter(7) with libpcap's answers; the code is our own, and shorter.

mod blocks;
mod draft;
mod error;
mod expand;
mod lexer;
mod line_up;
mod link;
mod names;
mod parse;
mod reduce;

pub use error::{FilterError, Span};
pub use link::LinkType;
pub use names::{Names, Transport};

use crate::insn::{Insn, RET};
use crate::interp::{LongShift, Packet, Program};
use alloc::vec::Vec;
use blocks::Blocks;
use expand::Expander;
use reduce::{BLOCKS_MAX, ReduceError, reduce};

/// Where packets come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A capture file, in the byte order of the host that wrote it.
    File {
        /// Whether that host was big-endian.
        big_endian: bool,
    },
    /// A packet socket: the kernel knows direction, interface and VLAN tag.
    Live,
}

/// What a filter is compiled for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'n> {
    /// Link type of the packets.
    pub link: LinkType,
    /// Where they come from.
    pub source: Source,
    /// What an accepting program returns: bytes to keep.
    pub snaplen: u32,
    /// Netmask of the interface, for `ip broadcast`.
    pub netmask: Option<u32>,
    /// Names of hosts, nets, ports and protocols.
    pub names: &'n Names,
}

/// Bytes kept of a packet unless told otherwise, as tcpdump has it.
pub const SNAPLEN: u32 = 262_144;

static NO_NAMES: Names = Names::empty();

impl Target<'static> {
    /// For packets of a little-endian capture file, without names.
    #[must_use]
    pub fn file(link: LinkType) -> Self {
        Self {
            link,
            source: Source::File { big_endian: false },
            snaplen: SNAPLEN,
            netmask: Some(0),
            names: &NO_NAMES,
        }
    }
}

/// A compiled filter: compile once, match many.
#[derive(Clone, Debug)]
pub struct Filter {
    code: Vec<Insn>,
    program: Program,
    loops: bool,
}

impl Filter {
    /// Compiles an expression; an empty one accepts everything.
    ///
    /// # Errors
    /// [`FilterError`]: the expression is not understood, means nothing on this link type, or accepts no packet.
    pub fn compile(expression: &str, target: &Target<'_>) -> Result<Self, FilterError> {
        let code = compile(expression, target)?;
        let loops = code
            .iter()
            .any(|i| i.op() == Some(crate::insn::Op::Jump) && i.k.cast_signed() < 0);
        let program = Program::decoded(&code, LongShift::Zero);
        Ok(Self {
            code,
            program,
            loops,
        })
    }

    /// Whether a packet of a file is accepted: its captured bytes, and its length on the wire.
    #[must_use]
    pub fn matches(&self, bytes: &[u8], wire_len: u32) -> bool {
        self.program.run(&Packet::of_file(bytes, wire_len)) != 0
    }

    /// The classic program.
    #[must_use]
    pub fn code(&self) -> &[Insn] {
        &self.code
    }

    /// The program, ready to run on any packet.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Whether the program jumps backward, as `protochain` needs: the kernel does not take it.
    #[must_use]
    pub fn has_loops(&self) -> bool {
        self.loops
    }
}

/// Compiles an expression to classic code.
///
/// # Errors
/// As [`Filter::compile`].
pub fn compile(expression: &str, target: &Target<'_>) -> Result<Vec<Insn>, FilterError> {
    let plain = plain(expression, target)?;
    Ok(plain)
}

/// Compiles an expression to the code that libpcap 1.10 makes of it: with the same meaning as that of [`compile`], and
/// as long or longer.
///
/// # Errors
/// As [`Filter::compile`].
pub fn plain(expression: &str, target: &Target<'_>) -> Result<Vec<Insn>, FilterError> {
    let whole = |message: &str| FilterError::new(Span::new(0, expression.len()), message);
    let mut expander = Expander::new(target)?;
    let Some(tree) = parse::parse(expression)? else {
        return Ok(alloc::vec![Insn::new(RET, target.snaplen)]);
    };
    let cond = expander.expand(&tree)?;
    let prologue = expander.prologue()?;
    let mut blocks = Blocks::of_cond(&expander.draft, cond, &prologue, target.snaplen);
    if !expander.unoptimised && blocks.list.len() <= BLOCKS_MAX {
        blocks = reduce(blocks).map_err(|e| match e {
            ReduceError::DivisionByZero => whole("division by zero"),
            ReduceError::LongShift => whole("a shift is by at most 31 bits"),
        })?;
        if blocks.root == blocks::REJECT {
            return Err(whole("this accepts no packet at all"));
        }
    }
    Ok(blocks.program())
}
