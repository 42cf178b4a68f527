//! Code with jumps inside: the walk along a chain of headers, and the way to the payload of an 802.11 frame.

use crate::filter::draft::code;
use crate::filter::link::LinkType;
use crate::insn::{AluOp, Insn, MISC, MSH, Relation, Size, TAX};
use alloc::vec::Vec;
use skep_isa::opcode::{ABS, ADD, ALU, IMM, IND, JA, JMP, K, LD, LDX, MEM, MUL, ST, X};

/// Walks the headers from IPv4 or IPv6 at `at` on; leaves the protocol of the last one in A. Jumps go backward.
pub(super) fn chain_code(six: bool, at: u32, protocol: u32, word: u32) -> Vec<Insn> {
    const NO_NEXT_HEADER: u32 = 59;
    const AUTHENTICATION: u32 = 51;
    /// Hop-by-hop, destination options, routing, fragment.
    const OPTIONS: [u32; 4] = [0, 60, 43, 44];
    let load = |k| Insn::new(LD | IND | Size::B.code(), k);
    let jeq = |k, jt, jf| Insn::jump(JMP | Relation::Eq.code() | K, k, jt, jf);
    // From after the tests: next header into the word, then X to the header after this one.
    let authentication = [
        load(at),
        Insn::new(ST, word),
        load(at.wrapping_add(1)),
        Insn::new(ALU | ADD | K, 2),
        Insn::new(ALU | MUL | K, 4),
        Insn::new(MISC | TAX, 0),
        Insn::new(LD | MEM, word),
    ];
    let mut code = Vec::with_capacity(32);
    if six {
        code.push(Insn::new(LD | ABS | Size::B.code(), at.wrapping_add(6)));
        code.push(Insn::new(LDX | IMM, 40));
    } else {
        code.push(Insn::new(LD | ABS | Size::B.code(), at.wrapping_add(9)));
        code.push(Insn::new(LDX | MSH | Size::B.code(), at));
    }
    let top = code.len();
    let options = [
        load(at),
        Insn::new(ST, word),
        load(at.wrapping_add(1)),
        Insn::new(ALU | ADD | K, 1),
        Insn::new(ALU | MUL | K, 8),
        Insn::new(ALU | ADD | X, 0),
        Insn::new(MISC | TAX, 0),
        Insn::new(LD | MEM, word),
    ];
    let back = |code: &Vec<Insn>| {
        let distance = code.len() + 1 - top;
        Insn::new(JMP | JA, (distance as u32).wrapping_neg())
    };
    // Jumps to the end are at most the whole body away, which is far below 255.
    let options_length = if six { options.len() + 1 } else { 0 };
    let authentication_length = authentication.len() + 1;
    let option_tests = if six { OPTIONS.len() } else { 0 };
    let rest = (option_tests + 1 + options_length + authentication_length) as u8;
    code.push(jeq(protocol, rest + 1, 0));
    code.push(jeq(NO_NEXT_HEADER, rest, 0));
    if six {
        for (i, option) in OPTIONS.iter().enumerate() {
            let to_options = (OPTIONS.len() - i) as u8;
            code.push(jeq(*option, to_options, 0));
        }
    }
    code.push(jeq(
        AUTHENTICATION,
        options_length as u8,
        (options_length + authentication_length) as u8,
    ));
    if six {
        code.extend(options);
        code.push(back(&code));
    }
    code.extend(authentication);
    code.push(back(&code));
    code
}

/// Puts the length of the header before an 802.11 frame into X, and keeps it in a word.
pub(super) fn header_length(link: LinkType, word: u32) -> Vec<Insn> {
    let mut code = match link {
        LinkType::IEEE802_11_AVS => alloc::vec![code::load(Size::W, 4)],
        // Either an AVS header or one of fixed length.
        LinkType::PRISM => alloc::vec![
            code::load(Size::W, 0),
            code::alu(AluOp::And, 0xffff_f000),
            code::jump(Relation::Eq, 0x8021_1000, 0, 2),
            code::load(Size::W, 4),
            Insn::new(JMP | JA, 1),
            code::constant(144),
        ],
        // Radiotap, and per-packet information: two bytes, little-endian.
        _ => alloc::vec![
            code::load(Size::B, 3),
            code::alu(AluOp::Lsh, 8),
            code::tax(),
            code::load(Size::B, 2),
            code::alu_x(AluOp::Or),
        ],
    };
    code.extend([code::store(word), code::tax()]);
    code
}

/// Puts the length of a pflog header, padded to a multiple of four, into X, and keeps it in a word.
pub(super) fn pflog_length(word: u32) -> [Insn; 5] {
    [
        code::load(Size::B, 0),
        code::alu(AluOp::Add, 3),
        code::alu(AluOp::And, 0xffff_fffc),
        code::store(word),
        code::tax(),
    ]
}

/// Keeps the offset after the 802.11 header at X in a word; data frames may have more than 24 bytes, and may be padded
/// to a multiple of four if a radiotap header says so.
pub(crate) fn wlan_payload(word: u32, radiotap: bool) -> Vec<Insn> {
    const DATA: u32 = 0x08;
    const CONTROL: u32 = 0x04;
    const QUALITY: u32 = 0x80;
    const TIMESTAMP: u32 = 0x0100_0000;
    const FLAGS: u32 = 0x0200_0000;
    const MORE_WORDS: u32 = 0x0000_0080;
    const PADDED: u32 = 0x20;
    // Instructions of the part about padding, which all other ways skip.
    let padding: u8 = if radiotap { 12 } else { 0 };
    let jump = |k, jt, jf| code::jump(Relation::Set, k, jt, jf);
    let mut all = alloc::vec![
        code::txa(),
        code::alu(AluOp::Add, 24),
        code::store(word),
        code::load_at_x(Size::B, 0),
        jump(DATA, 0, 5 + padding),
        jump(CONTROL, 4 + padding, 0),
        jump(QUALITY, 0, 3),
        code::word(word),
        code::alu(AluOp::Add, 2),
        code::store(word),
    ];
    if radiotap {
        all.extend([
            code::load(Size::W, 4),
            jump(FLAGS, 0, 10),
            jump(MORE_WORDS, 9, 0),
            jump(TIMESTAMP, 0, 2),
            code::load(Size::B, 16),
            jump(PADDED, 2, 6),
            code::load(Size::B, 8),
            jump(PADDED, 0, 4),
            code::word(word),
            code::alu(AluOp::Add, 3),
            code::alu(AluOp::And, 0xffff_fffc),
            code::store(word),
        ]);
    }
    all
}
