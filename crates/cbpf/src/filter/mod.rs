//! The packet filter language: from an expression to classic code.
//!
//! `lexer` → `parse` (a tree) → `expand` (a `draft` of small blocks, for one link type) → `blocks` → `reduce` gives
//! the program that libpcap makes, and with it the meaning: which loads are made before each decision. From there `lift`
//! → `simplify` → `emit` → `layout` make a shorter program of the same meaning; the shorter of both is taken. `worth` says when
//! that can be left out.

mod blocks;
mod draft;
mod emit;
mod error;
mod expand;
mod expr;
mod facts;
mod graph;
mod layout;
mod lexer;
mod lift;
mod line_up;
mod link;
mod names;
mod parse;
mod reduce;
mod simplify;
mod worth;

pub use error::{FilterError, Span};
pub use link::LinkType;
pub use names::{Names, Transport};

use crate::check::unset_words;
use crate::insn::{BPF_MAXINSNS, BPF_MEMWORDS, Insn, RET};
use crate::interp::{LongShift, Packet, Program};
use alloc::vec::Vec;
use blocks::{Blocks, Walker};
use expand::Expander;
use graph::{ACCEPT, REJECT};
use lift::Prologue;
use reduce::{BLOCKS_MAX, ReduceError, reduce};
use skep_isa::opcode::ST;

/// Where packets come from.
///
/// ```
/// use skep_cbpf::filter::{LinkType, Source, Target, compile};
///
/// // The kernel takes VLAN tags out of packets: a filter of a socket has to ask for them.
/// let file = Target::file(LinkType::ETHERNET);
/// let live = Target { source: Source::Live, ..file };
/// assert!(compile("vlan 7", &live)?.iter().any(|insn| insn.ancillary().is_some()));
/// assert!(compile("vlan 7", &file)?.iter().all(|insn| insn.ancillary().is_none()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A capture file, in the byte order of the host that wrote it.
    File {
        /// Whether that host was big-endian.
        big_endian: bool,
    },
    /// A packet socket: the kernel knows direction, interface and VLAN tag.
    Live,
    /// Nowhere yet: the code is for a packet socket, but VLAN tags are looked for in the packet.
    Unknown,
}

/// What a filter is compiled for.
///
/// ```
/// use skep_cbpf::filter::{LinkType, Names, Source, Target, compile};
///
/// // A filter for SO_ATTACH_FILTER that keeps 96 bytes, with the names of a host.
/// let names = Names::empty().with_hosts("192.0.2.1 router");
/// let target = Target {
///     source: Source::Live,
///     snaplen: 96,
///     names: &names,
///     ..Target::file(LinkType::ETHERNET)
/// };
/// skep_cbpf::check(&compile("host router", &target)?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// use skep_cbpf::filter::{Filter, LinkType, Target};
/// use skep_cbpf::text::{Form, print};
///
/// let filter = Filter::compile("icmp", &Target::file(LinkType::RAW))?;
/// let mut packet = [0; 28];
/// (packet[0], packet[9]) = (0x45, 1);
/// assert!(filter.matches(&packet, 28));
/// assert!(print(filter.code(), Form::Readable).starts_with("(000) ldb      [0]"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    let code = match drafted(expression, target)? {
        None => alloc::vec![Insn::new(RET, target.snaplen)],
        Some(mut drafted) => drafted.shortest(target.snaplen),
    };
    if code.len() > BPF_MAXINSNS {
        return Err(FilterError::new(
            Span::new(0, expression.len()),
            "the program is longer than 4096 instructions",
        ));
    }
    Ok(code)
}

/// Compiles an expression to the code that libpcap 1.10 makes of it: with the same meaning as that of [`compile`], and
/// as long or longer.
///
/// # Errors
/// As [`Filter::compile`].
pub fn plain(expression: &str, target: &Target<'_>) -> Result<Vec<Insn>, FilterError> {
    Ok(match drafted(expression, target)? {
        None => alloc::vec![Insn::new(RET, target.snaplen)],
        Some(mut drafted) => {
            let order = line_up::order(&drafted.blocks, &mut drafted.walker);
            line_up::line_up(&drafted.blocks, order)
        }
    })
}

/// An expression as blocks.
struct Drafted {
    blocks: Blocks,
    walker: Walker,
    prologue: Prologue,
    /// Whether the blocks are left as they are.
    as_is: bool,
    /// Whether values can be told from the blocks.
    clear: bool,
}

/// The blocks of an expression; `None` for an empty one, which accepts everything.
fn drafted(expression: &str, target: &Target<'_>) -> Result<Option<Drafted>, FilterError> {
    let whole = |message: &str| FilterError::new(Span::new(0, expression.len()), message);
    let mut expander = Expander::new(target)?;
    let Some(tree) = parse::parse(expression)? else {
        return Ok(None);
    };
    let cond = expander.expand(&tree)?;
    let (insns, prologue) = expander.prologue()?;
    let gate = expander.gate()?;
    let mut blocks = Blocks::of_cond(&mut expander.draft, gate, cond, &insns, target.snaplen);
    let mut walker = Walker::default();
    if !expander.unoptimised && blocks.list.len() <= BLOCKS_MAX {
        blocks = reduce(blocks, &mut walker).map_err(|e| match e {
            ReduceError::DivisionByZero => whole("division by zero"),
            ReduceError::LongShift => whole("a shift is by at most 31 bits"),
        })?;
        if blocks.root == blocks::REJECT {
            return Err(whole("this accepts no packet at all"));
        }
    }
    Ok(Some(Drafted {
        as_is: expander.as_is,
        clear: prologue.payload.is_none() || !expander.unchecked,
        prologue,
        blocks,
        walker,
    }))
}

impl Drafted {
    /// The shorter of the blocks and of what is made of their values.
    fn shortest(&mut self, snaplen: u32) -> Vec<Insn> {
        let order = line_up::order(&self.blocks, &mut self.walker);
        let plain = line_up::line_up(&self.blocks, order);
        if self.as_is {
            return with_zeroed_words(plain);
        }
        let worth = self.clear && worth::may_shrink(&self.blocks, order);
        let better = worth.then(|| self.of_values(snaplen)).flatten();
        match better {
            Some(better) if better.len() <= plain.len() => better,
            _ => plain,
        }
    }

    fn of_values(&mut self, snaplen: u32) -> Option<Vec<Insn>> {
        let prologue = match self.blocks.list.len() {
            0 => return None,
            _ => self.prologue,
        };
        let (arena, graph) = lift::lift(&self.blocks, prologue, &mut self.walker)?;
        let graph = simplify::simplify(&arena, graph);
        match graph.root {
            ACCEPT => Some(alloc::vec![Insn::new(RET, snaplen)]),
            REJECT => Some(alloc::vec![Insn::new(RET, 0)]),
            _ => emit::compile(&arena, &graph, snaplen).ok(),
        }
    }
}

/// The program with zeros in the scratch words that it may read before it sets them, as after `geneve` in an
/// alternative: the kernel refuses it otherwise.
fn with_zeroed_words(code: Vec<Insn>) -> Vec<Insn> {
    let mut words = 0u16;
    unset_words(&code, |_, k| words |= 1 << (k & 15));
    if words == 0 {
        return code;
    }
    let zeroed = (0..BPF_MEMWORDS).filter(|word| words & (1 << word) != 0);
    // A is zero at the start.
    zeroed.map(|word| Insn::new(ST, word)).chain(code).collect()
}
