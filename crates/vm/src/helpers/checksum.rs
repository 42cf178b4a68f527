//! Internet checksums.

use super::{Args, Row, helpers, skb};
use crate::ctx::SkbCtx;
use skep_abi::Errno;

pub(super) const HELPERS: &[Row] = helpers! {
    10 "bpf_l3_csum_replace" l3_csum_replace;
    11 "bpf_l4_csum_replace" l4_csum_replace;
    28 "bpf_csum_diff" csum_diff;
    40 "bpf_csum_update" csum_update;
    135 "bpf_csum_level" csum_level;
};

/// `BPF_F_HDR_FIELD_MASK`: bytes of the changed field.
const FIELD_MASK: u64 = 0xf;
/// `BPF_F_PSEUDO_HDR`
const PSEUDO_HDR: u64 = 1 << 4;
/// `BPF_F_MARK_MANGLED_0`
const MARK_MANGLED_0: u64 = 1 << 5;
/// `BPF_F_MARK_ENFORCE`
const MARK_ENFORCE: u64 = 1 << 6;
/// `BPF_F_IPV6`
const IPV6: u64 = 1 << 7;
/// `CSUM_MANGLED_0`
const MANGLED_0: u16 = 0xffff;
/// `CHECKSUM_NONE`
const CHECKSUM_NONE: u8 = 0;
/// `CHECKSUM_UNNECESSARY`
const CHECKSUM_UNNECESSARY: u8 = 1;
/// `CHECKSUM_COMPLETE`
const CHECKSUM_COMPLETE: u8 = 2;

/// One's complement sum of 32-bit words.
fn add(a: u32, b: u32) -> u32 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u32::from(carry)
}

fn sub(a: u32, b: u32) -> u32 {
    add(a, !b)
}

fn add16(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

/// Folds to 16 bits and inverts: what goes into a packet.
fn fold(sum: u32) -> u16 {
    let (halves, carry) = (sum & 0xffff_0000).overflowing_add(sum << 16);
    let rounded = halves.wrapping_add(0xffff).wrapping_add(u32::from(carry));
    (!rounded >> 16) as u16
}

/// Folds to 16 bits.
fn from32to16(sum: u32) -> u16 {
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// One's complement sum of the bytes, as native words, and `seed`.
#[must_use]
fn partial(bytes: &[u8], seed: u32) -> u32 {
    let mut sum = u64::from(seed);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let (wrapped, carry) = sum.overflowing_add(u64::from_ne_bytes(word));
        sum = wrapped + u64::from(carry);
    }
    (sum.wrapping_add(sum.rotate_right(32)) >> 32) as u32
}

/// `from`, its size, `to`, its size, seed
fn csum_diff(a: &Args) -> u64 {
    let (from_len, to_len, seed) = (a.get32(2) as usize, a.get32(4) as usize, a.get32(5));
    let (from, to) = (a.bytes(1, from_len), a.bytes(3, to_len));
    let sum = match (from_len != 0, to_len != 0) {
        (true, true) => sub(partial(to, seed), partial(from, 0)),
        (false, true) => partial(to, seed),
        (true, false) => !partial(from, !seed),
        (false, false) => seed,
    };
    u64::from(from32to16(sum))
}

/// The checksum field at `offset` of the packet.
fn field(a: &Args) -> Result<&mut [u8; 2], Errno> {
    let offset = a.get32(2);
    if offset > 0xffff || offset & 1 != 0 {
        return Err(Errno::EFAULT);
    }
    skb::writable(a.skb(1), offset as usize, 2)
        .and_then(|bytes| bytes.try_into().map_err(|_| Errno::EFAULT))
}

/// The sum in `field` after a field of the packet changed from `from` to `to`.
fn replaced(sum: u16, size: u64, from: u64, to: u64) -> Result<u16, Errno> {
    let unfolded = !u32::from(sum);
    match size {
        0 if from != 0 => Err(Errno::EINVAL),
        0 => Ok(fold(add(to as u32, unfolded))),
        4 => Ok(fold(add(sub(unfolded, from as u32), to as u32))),
        _ => Err(Errno::EINVAL),
    }
}

/// skb, `offset`, `from`, `to`, flags
fn l3_csum_replace(a: &Args) -> Result<i64, Errno> {
    let (from, to, flags) = (a.get(3), a.get(4), a.get(5));
    if flags & !FIELD_MASK != 0 {
        return Err(Errno::EINVAL);
    }
    let field = field(a)?;
    let old = u16::from_ne_bytes(*field);
    let new = if flags & FIELD_MASK == 2 {
        !add16(add16(!old, !(from as u16)), to as u16)
    } else {
        replaced(old, flags & FIELD_MASK, from, to)?
    };
    *field = new.to_ne_bytes();
    Ok(0)
}

/// skb, `offset`, `from`, `to`, flags
fn l4_csum_replace(a: &Args) -> Result<i64, Errno> {
    let (from, to, flags) = (a.get(3), a.get(4), a.get(5));
    let known = FIELD_MASK | PSEUDO_HDR | MARK_MANGLED_0 | MARK_ENFORCE | IPV6;
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let field = field(a)?;
    let old = u16::from_ne_bytes(*field);
    let mangled = flags & MARK_MANGLED_0 != 0;
    if mangled && flags & MARK_ENFORCE == 0 && old == 0 {
        return Ok(0);
    }
    let new = match flags & FIELD_MASK {
        2 => replaced(old, 4, from & 0xffff, to & 0xffff)?,
        size => replaced(old, size, from, to)?,
    };
    let new = if mangled && new == 0 { MANGLED_0 } else { new };
    *field = new.to_ne_bytes();
    Ok(0)
}

/// skb, sum
fn csum_update(a: &Args) -> Result<u64, Errno> {
    let skb = a.skb(1);
    if skb.ip_summed != CHECKSUM_COMPLETE {
        return Err(Errno::ENOTSUPP);
    }
    skb.csum = add(skb.csum, a.get32(2));
    Ok(u64::from(skb.csum))
}

/// skb, what to do with the number of checksums that were verified
fn csum_level(a: &Args) -> Result<i64, Errno> {
    const QUERY: u64 = 0;
    const INCREMENT: u64 = 1;
    const DECREMENT: u64 = 2;
    const RESET: u64 = 3;
    /// `SKB_MAX_CSUM_LEVEL`
    const MAX_LEVEL: u8 = 3;
    let skb = a.skb(1);
    let verified = skb.ip_summed == CHECKSUM_UNNECESSARY;
    match (a.get(2), verified) {
        (QUERY, true) => return Ok(i64::from(skb.csum_level)),
        (QUERY, false) => return Err(Errno::EACCES),
        (INCREMENT, true) => skb.csum_level = MAX_LEVEL.min(skb.csum_level + 1),
        (INCREMENT, false) if skb.ip_summed == CHECKSUM_NONE => {
            skb.ip_summed = CHECKSUM_UNNECESSARY;
            skb.csum_level = 0;
        }
        (DECREMENT, true) if skb.csum_level > 0 => skb.csum_level -= 1,
        (DECREMENT | RESET, true) => reset(skb),
        (INCREMENT | DECREMENT | RESET, false) => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// Forgets that checksums were verified.
pub(super) fn reset(skb: &mut SkbCtx) {
    if skb.ip_summed == CHECKSUM_UNNECESSARY {
        skb.ip_summed = CHECKSUM_NONE;
        skb.csum_level = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_its_checksum_sums_to_zero() {
        let mut header = *b"\x45\0\0\x73\0\0\x40\0\x40\x11\0\0\xc0\xa8\0\x01\xc0\xa8\0\xc7";
        let sum = fold(partial(&header, 0));
        header[10..12].copy_from_slice(&sum.to_ne_bytes());
        assert_eq!(sum.to_ne_bytes(), [0xb8, 0x61]);
        assert_eq!(fold(partial(&header, 0)), 0);
    }

    #[test]
    fn replacing_equals_summing_anew() {
        let mut header = *b"\x45\0\0\x73\0\0\x40\0\x40\x11\xb8\x61\xc0\xa8\0\x01\xc0\xa8\0\xc7";
        let old = u32::from_ne_bytes([header[12], header[13], header[14], header[15]]);
        let new = u32::from_ne_bytes([10, 1, 2, 3]);
        let sum = u16::from_ne_bytes([header[10], header[11]]);
        let sum = replaced(sum, 4, u64::from(old), u64::from(new)).unwrap_or(0);
        header[12..16].copy_from_slice(&new.to_ne_bytes());
        header[10..12].copy_from_slice(&sum.to_ne_bytes());
        assert_eq!(fold(partial(&header, 0)), 0);
    }
}
