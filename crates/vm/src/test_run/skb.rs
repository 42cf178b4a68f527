//! Test runs of programs that see a socket buffer (`bpf_prog_test_run_skb`).

use super::{Input, Output, Session, ctx_image, is_zero, set_word, word};
use crate::ctx::SkbCtx;
use crate::ctx::skb::{Device, ETH_HLEN, IMAGE_BYTES, SkbBuffer, View, packet_type, protocol};
use skep_abi::{Errno, ProgType};
use std::mem::offset_of;

/// Bytes of a packet at most: a page without `NET_SKB_PAD` and the fragment list.
const MAX_DATA: usize = 4096 - 64 - 320;
/// `GSO_LEGACY_MAX_SIZE`
const MAX_WIRE_LEN: u32 = 65536;
/// The number of the loopback device.
const LOOPBACK: u32 = 1;
/// `GSO_MAX_SEGS`
const MAX_GSO_SEGS: u32 = 65535;

/// Fields that the caller's context may set, as offset and length; all else must be zero.
const SETTABLE: &[(usize, usize)] = &[
    (offset_of!(SkbCtx, mark), 4),
    (offset_of!(SkbCtx, priority), 4),
    (offset_of!(SkbCtx, ingress_ifindex), 4),
    (offset_of!(SkbCtx, ifindex), 4),
    (offset_of!(SkbCtx, cb), 20),
    (offset_of!(SkbCtx, tstamp), 8),
    (offset_of!(SkbCtx, wire_len), 4),
    (offset_of!(SkbCtx, gso_segs), 4),
    (offset_of!(SkbCtx, gso_size), 4),
    (offset_of!(SkbCtx, hwtstamp), 8),
];

pub(super) fn run(session: &mut Session<'_>, input: &Input<'_>) -> Result<Output, Errno> {
    if input.flags != 0 || input.says_cpu_or_batch() {
        return Err(Errno::EINVAL);
    }
    let data = input.data.unwrap_or_default();
    if data.len() < ETH_HLEN || data.len() > MAX_DATA {
        return Err(Errno::EINVAL);
    }
    let view = match session.proof().prog_type() {
        ProgType::SchedCls | ProgType::SchedAct => View::Link,
        _ => View::Network,
    };
    let mut image = ctx_image(input, IMAGE_BYTES)?;
    let ifindex = image
        .as_deref()
        .map_or(0, |image| word(image, offset_of!(SkbCtx, ifindex)));
    let device = device(ifindex)?;
    check_header(data)?;
    let mut packet = SkbBuffer::new(data, view);
    packet.ctx().pkt_type = packet_type(data, &device);
    packet.ctx().ifindex = ifindex.max(LOOPBACK);
    if let Some(image) = &image {
        set_fields(packet.ctx(), image)?;
    }
    let ctx = std::ptr::from_mut(packet.ctx()).cast();
    // SAFETY: `ctx` is an `SkbCtx` whose buffer lives until after the run.
    let (retval, duration) = unsafe { session.repeat(ctx, input.repeat) };
    if let Some(image) = &mut image {
        get_fields(packet.ctx(), image);
    }
    Ok(Output {
        retval,
        data: packet.output(view),
        ctx: image.unwrap_or_default(),
        duration,
    })
}

/// The device with this number, which the packet seems to come from; the loopback device unless another one is asked for.
fn device(ifindex: u32) -> Result<Device, Errno> {
    if ifindex <= LOOPBACK {
        return Ok(Device::default());
    }
    let addresses = skep_sys::socket::device_addresses(ifindex).ok_or(Errno::ENODEV)?;
    let [address, broadcast] = addresses;
    Ok(Device { address, broadcast })
}

/// What says that it is of IP has a whole header.
fn check_header(frame: &[u8]) -> Result<(), Errno> {
    let header = match protocol(frame) {
        0x0800 => 20,
        0x86dd => 40,
        _ => 0,
    };
    if frame.len() < ETH_HLEN + header {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// `convert___skb_to_skb`
fn set_fields(ctx: &mut SkbCtx, image: &[u8]) -> Result<(), Errno> {
    let mut from = 0;
    for &(offset, len) in SETTABLE {
        if !is_zero(image, from, offset) {
            return Err(Errno::EINVAL);
        }
        from = offset + len;
    }
    let at = |offset: usize| word(image, offset);
    let wide = |offset: usize| u64::from(at(offset)) | u64::from(at(offset + 4)) << 32;
    ctx.mark = at(offset_of!(SkbCtx, mark));
    ctx.priority = at(offset_of!(SkbCtx, priority));
    ctx.ingress_ifindex = at(offset_of!(SkbCtx, ingress_ifindex));
    for (i, word) in ctx.cb.iter_mut().enumerate() {
        *word = at(offset_of!(SkbCtx, cb) + 4 * i);
    }
    ctx.tstamp = wide(offset_of!(SkbCtx, tstamp));
    ctx.hwtstamp = wide(offset_of!(SkbCtx, hwtstamp));
    let wire_len = at(offset_of!(SkbCtx, wire_len));
    if wire_len != 0 && (wire_len < ctx.len || wire_len > MAX_WIRE_LEN) {
        return Err(Errno::EINVAL);
    }
    ctx.wire_len = if wire_len == 0 { ctx.len } else { wire_len };
    ctx.gso_segs = at(offset_of!(SkbCtx, gso_segs));
    // The kernel keeps the lower half.
    ctx.gso_size = at(offset_of!(SkbCtx, gso_size)) & 0xffff;
    if ctx.gso_segs > MAX_GSO_SEGS {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// `convert_skb_to___skb`
fn get_fields(ctx: &SkbCtx, image: &mut [u8]) {
    let words = [
        (offset_of!(SkbCtx, mark), ctx.mark),
        (offset_of!(SkbCtx, priority), ctx.priority),
        (offset_of!(SkbCtx, ingress_ifindex), ctx.ingress_ifindex),
        (offset_of!(SkbCtx, ifindex), ctx.ifindex),
        (offset_of!(SkbCtx, tstamp), ctx.tstamp as u32),
        (offset_of!(SkbCtx, tstamp) + 4, (ctx.tstamp >> 32) as u32),
        (offset_of!(SkbCtx, wire_len), ctx.wire_len),
        (offset_of!(SkbCtx, gso_segs), ctx.gso_segs),
        (offset_of!(SkbCtx, hwtstamp), ctx.hwtstamp as u32),
        (
            offset_of!(SkbCtx, hwtstamp) + 4,
            (ctx.hwtstamp >> 32) as u32,
        ),
    ];
    for (offset, value) in words {
        set_word(image, offset, value);
    }
    for (i, &value) in ctx.cb.iter().enumerate() {
        set_word(image, offset_of!(SkbCtx, cb) + 4 * i, value);
    }
}
