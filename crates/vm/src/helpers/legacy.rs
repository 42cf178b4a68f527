//! Legacy packet loads (`LD_ABS`, `LD_IND`).

use crate::ctx::SkbCtx;
use crate::env::RunEnv;

/// Offsets from here on count from the network header.
const SKF_NET_OFF: i32 = -0x10_0000;
/// Offsets from here on count from the link-layer header.
const SKF_LL_OFF: i32 = -0x20_0000;

/// Legacy packet load: the value of `bytes` big-endian bytes at `offset` (a sign-extended `i32`) of the packet of `ctx`,
/// or -1 if they are not all in the packet.
///
/// # Safety
/// `ctx` must be the context of the run, a [`SkbCtx`].
pub unsafe extern "C" fn load_packet(_env: *mut RunEnv, ctx: u64, offset: u64, bytes: u64) -> i64 {
    // SAFETY: promised by the caller.
    let ctx = unsafe { &*(ctx as *const SkbCtx) };
    let offset = offset as i32;
    let (base, delta, lowest) = if offset >= 0 {
        (ctx.data, offset, ctx.data)
    } else if offset >= SKF_NET_OFF {
        (ctx.network, offset - SKF_NET_OFF, ctx.head)
    } else if offset >= SKF_LL_OFF {
        (ctx.mac, offset - SKF_LL_OFF, ctx.head)
    } else {
        return -1;
    };
    let from = (base as i64) + i64::from(delta);
    let inside = from >= lowest as i64 && from + bytes as i64 <= ctx.data_end as i64;
    if !inside || bytes > 4 {
        return -1;
    }
    (0..bytes as i64).fold(0, |value, i| {
        // SAFETY: the bytes lie between the start of the buffer and the end of the packet.
        let byte = unsafe { *((from + i) as *const u8) };
        value << 8 | i64::from(byte)
    })
}
