//! Test runs of flow dissectors (`bpf_prog_test_run_flow_dissector`).

use super::{Input, Output, Session, ctx_image, is_zero, word};
use crate::ctx::skb::{ETH_HLEN, SkbBuffer, View};
use skep_abi::Errno;

/// Bytes of `struct bpf_flow_keys`, and its fields.
const KEYS_BYTES: usize = 56;
const NHOFF: usize = 0;
const THOFF: usize = 2;
const N_PROTO: usize = 10;
const FLAGS: usize = 48;

/// Keys in memory aligned for their fields.
#[repr(C, align(8))]
struct Keys([u8; KEYS_BYTES]);

pub(super) fn run(session: &mut Session<'_>, input: &Input<'_>) -> Result<Output, Errno> {
    let data = input.data.unwrap_or_default();
    let odd = input.flags != 0 || input.says_cpu_or_batch();
    if odd || data.len() < ETH_HLEN || data.len() > 4096 {
        return Err(Errno::EINVAL);
    }
    let mut flags = 0;
    let image = ctx_image(input, KEYS_BYTES)?;
    if let Some(given) = &image {
        if !is_zero(given, 0, FLAGS) || !is_zero(given, FLAGS + 4, KEYS_BYTES) {
            return Err(Errno::EINVAL);
        }
        flags = word(given, FLAGS);
    }
    let mut keys = Keys([0; KEYS_BYTES]);
    let header = (ETH_HLEN as u16).to_ne_bytes();
    keys.0[NHOFF..NHOFF + 2].copy_from_slice(&header);
    keys.0[THOFF..THOFF + 2].copy_from_slice(&header);
    keys.0[N_PROTO..N_PROTO + 2].copy_from_slice(&data[12..14]);
    keys.0[FLAGS..FLAGS + 4].copy_from_slice(&flags.to_ne_bytes());
    let mut packet = SkbBuffer::new(data, View::Link);
    packet.ctx().flow_keys = keys.0.as_mut_ptr();
    let ctx = std::ptr::from_mut(packet.ctx()).cast();
    // SAFETY: `ctx` is an `SkbCtx`; buffer and keys live until after the run.
    let (retval, duration) = unsafe { session.repeat(ctx, input.repeat) };
    clamp(&mut keys.0, data.len());
    Ok(Output {
        retval,
        data: keys.0.to_vec(),
        ctx: image.unwrap_or_default(),
        duration,
    })
}

/// Offsets that programs leave are forced into the packet.
fn clamp(keys: &mut [u8; KEYS_BYTES], len: usize) {
    let get = |keys: &[u8; KEYS_BYTES], at: usize| u16::from_ne_bytes([keys[at], keys[at + 1]]);
    let len = len as u16;
    let nhoff = get(keys, NHOFF).clamp(ETH_HLEN as u16, len);
    let thoff = get(keys, THOFF).clamp(nhoff, len);
    keys[NHOFF..NHOFF + 2].copy_from_slice(&nhoff.to_ne_bytes());
    keys[THOFF..THOFF + 2].copy_from_slice(&thoff.to_ne_bytes());
}
