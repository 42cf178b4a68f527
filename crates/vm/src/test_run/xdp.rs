//! Test runs of XDP programs (`bpf_prog_test_run_xdp`).

use super::{Input, Output, Session, ctx_image, set_word, word};
use crate::ctx::skb::ETH_HLEN;
use crate::ctx::xdp::{FRAME_HEADER_BYTES, HEADROOM, MAX_LINEAR, XdpBuffer};
use skep_abi::{AttachType, Errno};

/// Bytes of `struct xdp_md`, and its fields.
const XDP_MD_BYTES: usize = 24;
const DATA: usize = 0;
const DATA_END: usize = 4;
const DATA_META: usize = 8;
const INGRESS_IFINDEX: usize = 12;
const RX_QUEUE_INDEX: usize = 16;
const EGRESS_IFINDEX: usize = 20;
/// Metadata is at most this long: the rest of the headroom is the kernel's.
const MAX_META: u32 = (HEADROOM - FRAME_HEADER_BYTES) as u32;

pub(super) fn run(session: &mut Session<'_>, input: &Input<'_>) -> Result<Output, Errno> {
    // Programs of devmaps and cpumaps run behind a redirect only.
    let behind = matches!(
        session.proof().attach(),
        Some(AttachType::XdpDevmap | AttachType::XdpCpumap)
    );
    if input.flags != 0 || input.batch_size != 0 || behind {
        return Err(Errno::EINVAL);
    }
    let data = input.data.unwrap_or_default();
    let mut image = ctx_image(input, XDP_MD_BYTES)?;
    let (meta, end) = match &image {
        Some(image) => check_ctx(image, data.len())?,
        None => (0, data.len()),
    };
    if data.len() < meta + ETH_HLEN {
        return Err(Errno::EINVAL);
    }
    if let Some(image) = &image {
        check_device(image)?;
    }
    let linear = (end - meta).min(MAX_LINEAR);
    let mut packet = XdpBuffer::new(data, meta, linear).ok_or(Errno::ENOMEM)?;
    if let Some(image) = &image {
        let ctx = packet.ctx();
        if word(image, INGRESS_IFINDEX) != 0 {
            ctx.ingress_ifindex = word(image, INGRESS_IFINDEX);
            ctx.rx_queue_index = word(image, RX_QUEUE_INDEX);
        }
    }
    let ctx = std::ptr::from_mut(packet.ctx()).cast();
    // SAFETY: `ctx` is an `XdpCtx` whose buffer lives until after the run.
    let (retval, duration) = unsafe { session.repeat(ctx, input.repeat) };
    let bytes = packet.bytes();
    if let Some(image) = &mut image {
        let meta_len = packet.meta_len() as u32;
        set_word(image, DATA, meta_len);
        // What follows the first buffer does not count.
        let linear = meta_len + packet.ctx().linear_len() as u32;
        set_word(image, DATA_END, linear);
        set_word(image, DATA_META, 0);
    }
    Ok(Output {
        retval,
        data: bytes,
        ctx: image.unwrap_or_default(),
        duration,
    })
}

/// Checks the caller's `struct xdp_md`: the bytes of metadata, and the bytes with these that are in the first buffer.
fn check_ctx(image: &[u8], size: usize) -> Result<(usize, usize), Errno> {
    let (data, data_end) = (word(image, DATA), word(image, DATA_END));
    let bad_range = word(image, DATA_META) != 0
        || data_end as usize > size
        || data > data_end
        || !data.is_multiple_of(4)
        || data > MAX_META;
    if bad_range {
        return Err(Errno::EINVAL);
    }
    Ok((data as usize, data_end as usize))
}

/// Checks where the packet seems to come from: the loopback device, or nowhere.
fn check_device(image: &[u8]) -> Result<(), Errno> {
    if word(image, EGRESS_IFINDEX) != 0 {
        return Err(Errno::EINVAL);
    }
    match word(image, INGRESS_IFINDEX) {
        0 | 1 if word(image, RX_QUEUE_INDEX) == 0 => Ok(()),
        0 | 1 => Err(Errno::EINVAL),
        _ => Err(Errno::ENODEV),
    }
}
