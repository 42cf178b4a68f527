//! Whether looking at the values of blocks can be worth it: most filters load every value once and compare it with a
//! constant that it may have, and of these no shorter program is known than that of the blocks.

use super::blocks::{BlockId, Blocks, NONE, NOP};
use crate::insn::{AluOp, Insn, Op, Relation};

/// Loads that are told apart; with more, some is taken to be repeated.
const LOADS_MAX: usize = 48;

/// The loads seen so far, in an open-addressed table.
struct Seen {
    table: [(u16, u32); 64],
    count: usize,
}

impl Seen {
    /// Adds a load; false if it was there, or there is no room.
    fn insert(&mut self, insn: Insn) -> bool {
        const EMPTY: u16 = 0;
        let key = (insn.code, insn.k);
        let hash =
            insn.k.wrapping_mul(0x9e37_79b1) ^ u32::from(insn.code).wrapping_mul(0x85eb_ca6b);
        let mut at = (hash >> 26) as usize;
        while self.table[at].0 != EMPTY {
            if self.table[at] == key {
                return false;
            }
            at = (at + 1) % self.table.len();
        }
        self.table[at] = key;
        self.count += 1;
        self.count <= LOADS_MAX
    }
}

/// Whether a program of the values of these blocks might be shorter than that of the blocks.
pub(super) fn may_shrink(blocks: &Blocks, order: &[BlockId]) -> bool {
    let mut seen = Seen {
        table: [(0, 0); 64],
        count: 0,
    };
    order.iter().any(|id| !is_plain(blocks, *id, &mut seen))
}

/// Whether a block only loads what no other does, and compares it in a way that packets decide.
fn is_plain(blocks: &Blocks, id: BlockId, seen: &mut Seen) -> bool {
    let block = blocks.block(id);
    if block.yes == NONE {
        return true;
    }
    let mut greatest = u32::MAX;
    let mut mask = None;
    for insn in blocks.insns_of(id) {
        match insn.op() {
            Some(Op::LoadAbs(size) | Op::LoadInd(size)) => greatest = size.max(),
            Some(Op::LoadXMsh | Op::LoadLen) => {}
            // Of a mask before the comparison.
            Some(Op::AluK(AluOp::And)) if mask.is_none() => {
                mask = Some(insn.k);
                continue;
            }
            _ if insn.code == NOP => continue,
            _ => return false,
        }
        if mask.is_some() || !seen.insert(*insn) {
            return false;
        }
    }
    let comparison = Insn::new(block.code, block.k).op();
    match (comparison, mask) {
        (Some(Op::JumpK(Relation::Eq)), Some(mask)) => is_plain_mask(block.k, mask, greatest),
        (_, Some(_)) => false,
        (Some(Op::JumpK(Relation::Eq)), None) => block.k <= greatest,
        (Some(Op::JumpK(Relation::Ge)), None) => block.k != 0 && block.k <= greatest,
        (Some(Op::JumpK(Relation::Gt)), None) => block.k < greatest,
        (Some(Op::JumpK(Relation::Set)), None) => block.k & greatest != 0,
        _ => false,
    }
}

/// Whether a masked value that is compared with `k` can be `k` and else, and is no single bit and no end of a range.
fn is_plain_mask(k: u32, mask: u32, greatest: u32) -> bool {
    let mask = mask & greatest;
    k & !mask == 0
        && k != 0
        && !(k == mask && mask.is_power_of_two())
        && k | (greatest & !mask) != greatest
        && mask != greatest
}

#[cfg(test)]
mod tests {
    use super::may_shrink;
    use crate::filter::{LinkType, Target, drafted, line_up};

    #[rustfmt::skip] // several a line
    const EXPRESSIONS: &[&str] = &[
        "ip", "ip6", "arp", "tcp", "not ip", "ip or arp", "udp port 53", "src port 80", "host 10.0.0.1", "net 10.0.0.0/8",
        "tcp and net 10.0.0.0/12", "ether host 02:00:00:00:00:01", "ether broadcast", "ether multicast", "ip multicast",
        "ip[0] & 0xf = 5", "ip[6:2] & 0x1fff = 0", "tcp[13] & 2 != 0", "tcp[13] & 18 = 2", "ether[0] & 1 = 0",
        "ether[12:2] > 0x600", "ether[0] >= 0", "ether[0] > 255", "ether[0] = 256", "ip[2:2] & 0xff00 = 0x100",
        "len > 100", "greater 100 and udp", "portrange 80-90", "vlan 5 and ip", "mpls", "ip and ip[8] < 5", "icmp or icmp6",
    ];

    /// What is called plain is as short as the values make it.
    #[test]
    fn plain_filters_cannot_be_shortened() {
        const SNAPLEN: u32 = 262_144;
        let (mut plain, mut others) = (0, 0);
        for expression in EXPRESSIONS {
            let drafted = drafted(expression, &Target::file(LinkType::ETHERNET));
            let mut drafted = drafted.unwrap().unwrap();
            let order = line_up::order(&drafted.blocks, &mut drafted.walker);
            let length = line_up::line_up(&drafted.blocks, order).len();
            if may_shrink(&drafted.blocks, order) {
                others += 1;
                continue;
            }
            plain += 1;
            let shortest = drafted.of_values(SNAPLEN).map_or(length, |code| code.len());
            assert!(length <= shortest, "{expression}: {length} > {shortest}");
        }
        assert!(plain > 0 && others > 0, "{plain} plain, {others} others");
    }
}
