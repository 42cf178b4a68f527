//! XDP packets.

use super::{Args, Row, helpers};
use crate::ctx::skb::ETH_HLEN;
use crate::ctx::xdp::{FRAME_BYTES, FRAME_HEADER_BYTES};
use crate::ctx::{XdpCtx, has_skb};
use skep_abi::{Errno, ProgType};

pub(super) const HELPERS: &[Row] = helpers! {
    44 "bpf_xdp_adjust_head" adjust_head;
    54 "bpf_xdp_adjust_meta" adjust_meta;
    65 "bpf_xdp_adjust_tail" adjust_tail;
    188 "bpf_xdp_get_buff_len" get_buff_len;
    189 "bpf_xdp_load_bytes" load_bytes;
    190 "bpf_xdp_store_bytes" store_bytes;
};

/// Offsets and lengths above this are refused.
const MAX_OFFSET: u32 = 0xffff;
/// Metadata is at most this long, in steps of 4.
const MAX_META: usize = 255;

fn meta_len(xdp: &XdpCtx) -> usize {
    (xdp.data as usize).saturating_sub(xdp.data_meta as usize)
}

/// xdp, bytes (negative: the packet grows)
fn adjust_head(a: &Args) -> Result<i64, Errno> {
    let delta = a.get32(2).cast_signed() as isize;
    let xdp = a.xdp(1);
    let meta = meta_len(xdp);
    let lowest = xdp.hard_start as usize + FRAME_HEADER_BYTES + meta;
    let data = (xdp.data as usize).wrapping_add_signed(delta);
    if data < lowest || data > xdp.data_end as usize - ETH_HLEN {
        return Err(Errno::EINVAL);
    }
    let new_meta = xdp.data_meta.wrapping_offset(delta);
    if meta != 0 {
        // SAFETY: old and new metadata lie in the headroom or the packet.
        unsafe { std::ptr::copy(xdp.data_meta, new_meta, meta) };
    }
    xdp.data_meta = new_meta;
    xdp.data = xdp.data.wrapping_offset(delta);
    Ok(0)
}

/// xdp, bytes (negative: the metadata grows)
fn adjust_meta(a: &Args) -> Result<i64, Errno> {
    let xdp = a.xdp(1);
    let delta = a.get32(2).cast_signed() as isize;
    let meta = (xdp.data_meta as usize).wrapping_add_signed(delta);
    let lowest = xdp.hard_start as usize + FRAME_HEADER_BYTES;
    if meta < lowest || meta > xdp.data as usize {
        return Err(Errno::EINVAL);
    }
    let len = xdp.data as usize - meta;
    if !len.is_multiple_of(4) || len > MAX_META {
        return Err(Errno::EACCES);
    }
    xdp.data_meta = xdp.data_meta.wrapping_offset(delta);
    Ok(0)
}

/// xdp, bytes (negative: the packet shrinks)
fn adjust_tail(a: &Args) -> Result<i64, Errno> {
    let xdp = a.xdp(1);
    let delta = a.get32(2).cast_signed();
    if xdp.frags_bytes != 0 {
        return adjust_frags(xdp, delta as isize);
    }
    let end = (xdp.data_end as usize).wrapping_add_signed(delta as isize);
    if end > xdp.hard_end() || end < xdp.data as usize + ETH_HLEN {
        return Err(Errno::EINVAL);
    }
    if delta > 0 {
        // SAFETY: the new bytes end before the tailroom does.
        unsafe { std::ptr::write_bytes(xdp.data_end, 0, delta as usize) };
    }
    xdp.data_end = xdp.data_end.wrapping_offset(delta as isize);
    Ok(0)
}

/// The last fragment grows up to its page; shrinking drops fragments, then bytes of the linear part.
fn adjust_frags(xdp: &mut XdpCtx, delta: isize) -> Result<i64, Errno> {
    let count = delta.unsigned_abs();
    if delta >= 0 {
        let last = xdp.frags().last_mut().ok_or(Errno::EINVAL)?;
        if last.len() + count > FRAME_BYTES {
            return Err(Errno::EINVAL);
        }
        last.resize(last.len() + count, 0);
        xdp.frags_bytes += count as u32;
        return Ok(0);
    }
    if count > xdp.len() - ETH_HLEN {
        return Err(Errno::EINVAL);
    }
    let mut left = count;
    while left > 0 {
        let Some(last) = xdp.frags().last_mut() else {
            break;
        };
        let cut = left.min(last.len());
        last.truncate(last.len() - cut);
        if last.is_empty() {
            xdp.frags().pop();
        }
        xdp.frags_bytes -= cut as u32;
        left -= cut;
    }
    xdp.data_end = xdp.data_end.wrapping_sub(left);
    Ok(0)
}

fn get_buff_len(a: &Args) -> u64 {
    a.xdp(1).len() as u64
}

/// Copies between `buffer` and the packet at `offset`, piece by piece.
fn transfer(
    xdp: &mut XdpCtx,
    offset: usize,
    len: usize,
    mut copy: impl FnMut(usize, &mut [u8]),
) -> Result<(), Errno> {
    if offset + len > xdp.len() {
        return Err(Errno::EINVAL);
    }
    let (mut skip, mut done) = (offset, 0);
    for piece in xdp.pieces() {
        if skip >= piece.len() {
            skip -= piece.len();
            continue;
        }
        let count = (piece.len() - skip).min(len - done);
        copy(done, &mut piece[skip..skip + count]);
        done += count;
        skip = 0;
    }
    Ok(())
}

/// Copies bytes of the packet.
pub(super) fn read(xdp: &mut XdpCtx, offset: usize, to: &mut [u8]) -> Result<(), Errno> {
    let len = to.len();
    transfer(xdp, offset, len, |at, piece| {
        to[at..at + piece.len()].copy_from_slice(piece);
    })
}

/// Copies bytes into the packet.
pub(super) fn write(xdp: &mut XdpCtx, offset: usize, from: &[u8]) -> Result<(), Errno> {
    transfer(xdp, offset, from.len(), |at, piece| {
        piece.copy_from_slice(&from[at..at + piece.len()]);
    })
}

/// Address of `len` bytes at `offset` if they lie in one piece.
pub(super) fn direct(xdp: &mut XdpCtx, offset: usize, len: usize) -> Option<*mut u8> {
    let mut skip = offset;
    for piece in xdp.pieces() {
        if skip < piece.len() {
            return piece.get_mut(skip..skip + len).map(<[u8]>::as_mut_ptr);
        }
        skip -= piece.len();
    }
    None
}

fn checked(a: &Args) -> Result<(usize, usize), Errno> {
    let (offset, len) = (a.get32(2), a.get32(4));
    if offset > MAX_OFFSET || len > MAX_OFFSET {
        return Err(Errno::EFAULT);
    }
    Ok((offset as usize, len as usize))
}

/// xdp, `offset`, to, its length
fn load_bytes(a: &Args) -> Result<i64, Errno> {
    let (offset, len) = checked(a)?;
    let mut bytes = vec![0; len];
    read(a.xdp(1), offset, &mut bytes)?;
    a.write(3, &bytes);
    Ok(0)
}

/// xdp, `offset`, from, its length
fn store_bytes(a: &Args) -> Result<i64, Errno> {
    let (offset, len) = checked(a)?;
    write(a.xdp(1), offset, a.bytes(3, len))?;
    Ok(0)
}

/// The first `len` bytes of the packet whose context is in `r1`, of either kind.
///
/// # Errors
/// `EINVAL` if the program has no packet, `EFAULT` if it has fewer.
pub(super) fn packet_bytes(a: &Args, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len];
    match a.prog_type() {
        ProgType::Xdp => read(a.xdp(1), 0, &mut bytes).map_err(|_| Errno::EFAULT)?,
        with_skb if has_skb(with_skb) => super::skb::read(a.skb(1), 0, &mut bytes)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(bytes)
}
