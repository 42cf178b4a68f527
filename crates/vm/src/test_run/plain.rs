//! Test runs of programs whose context is plain memory: syscall, raw tracepoint, socket lookup.

use super::{Input, Output, Session, ctx_image, is_zero, word};
use crate::proof::Proof;
use skep_abi::Errno;
use skep_isa::Insn;
use skep_verifier::{InsnFact, Region};

/// Bytes of a syscall program's context at most.
const MAX_CTX: usize = u16::MAX as usize;
/// Bytes of a raw tracepoint's arguments at most (`MAX_BPF_FUNC_ARGS` words).
const MAX_ARGS: usize = 12 * 8;
/// `BPF_F_TEST_RUN_ON_CPU`
const RUN_ON_CPU: u32 = 1;

/// Bytes of the context that the program touches (`max_ctx_offset`).
fn max_ctx_offset(proof: &Proof) -> usize {
    let end = |(slot, fact): (usize, &InsnFact)| {
        let access = fact.access.filter(|_| fact.reached)?;
        let Region::Ctx(field) = access.region else {
            return None;
        };
        let size = match skep_isa::decode(proof.insns(), slot).ok()? {
            Insn::Load { size, .. } | Insn::Store { size, .. } => size.bytes(),
            _ => 8,
        };
        let offset = access.offset.and_then(|o| u32::try_from(o).ok());
        Some((offset.unwrap_or(field.offset) + size) as usize)
    };
    let ends = proof.facts().iter().enumerate().filter_map(end);
    ends.max().unwrap_or(0)
}

/// A copy of bytes in memory aligned for 64-bit words.
fn aligned(bytes: &[u8], room: usize) -> Vec<u64> {
    let mut words = vec![0; room.max(bytes.len()).div_ceil(8)];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut le = [0; 8];
        le[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_ne_bytes(le);
    }
    words
}

/// `bpf_prog_test_run_raw_tp`
pub(super) fn raw_tracepoint(
    session: &mut Session<'_>,
    input: &Input<'_>,
) -> Result<Output, Errno> {
    let ctx = input.ctx.unwrap_or_default();
    let bad_cpu = input.flags & RUN_ON_CPU == 0 && input.cpu != 0;
    if input.has_packet()
        || input.wants_ctx
        || input.repeat != 0
        || input.batch_size != 0
        || bad_cpu
        || ctx.len() > MAX_ARGS
        || ctx.len() < max_ctx_offset(session.proof())
    {
        return Err(Errno::EINVAL);
    }
    if input.lacks_cpu {
        return Err(Errno::ENXIO);
    }
    let mut args = aligned(ctx, MAX_ARGS);
    // SAFETY: programs access at most `max_ctx_offset` bytes, which were given.
    let (retval, duration) = unsafe { session.repeat(args.as_mut_ptr().cast(), 1) };
    Ok(Output {
        retval,
        duration,
        ..Output::default()
    })
}

/// `bpf_prog_test_run_syscall`
pub(super) fn syscall(session: &mut Session<'_>, input: &Input<'_>) -> Result<Output, Errno> {
    let ctx = input.ctx.unwrap_or_default();
    let needs = max_ctx_offset(session.proof());
    if input.has_packet()
        || input.wants_ctx
        || input.repeat != 0
        || input.batch_size != 0
        || input.flags != 0
        || ctx.len() > MAX_CTX
        || ctx.len() < needs
    {
        return Err(Errno::EINVAL);
    }
    let mut words = aligned(ctx, needs);
    // SAFETY: programs access at most `max_ctx_offset` bytes, which were given.
    let (retval, duration) = unsafe { session.repeat(words.as_mut_ptr().cast(), 1) };
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    Ok(Output {
        retval,
        ctx: bytes[..ctx.len()].to_vec(),
        duration,
        ..Output::default()
    })
}

/// Bytes of `struct bpf_sk_lookup`, and its fields.
const SK_LOOKUP_BYTES: usize = 72;
const COOKIE: usize = 0;
const FAMILY: usize = 8;
const LOCAL_PORT: usize = 60;
/// Families of addresses.
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// `bpf_prog_test_run_sk_lookup`: the context goes in only; the cookie of the selected socket comes out.
pub(super) fn sk_lookup(session: &mut Session<'_>, input: &Input<'_>) -> Result<Output, Errno> {
    if input.flags != 0 || input.has_packet() || input.says_cpu_or_batch() {
        return Err(Errno::EINVAL);
    }
    let image = ctx_image(input, SK_LOOKUP_BYTES)?.ok_or(Errno::EINVAL)?;
    let family = word(&image, FAMILY);
    let is_free =
        is_zero(&image, COOKIE, COOKIE + 8) && is_zero(&image, LOCAL_PORT + 4, SK_LOOKUP_BYTES);
    if !is_free {
        return Err(Errno::EINVAL);
    }
    if word(&image, LOCAL_PORT) > u32::from(u16::MAX) {
        return Err(Errno::ERANGE);
    }
    if !matches!(family, AF_INET | AF_INET6) {
        return Err(Errno::EAFNOSUPPORT);
    }
    let mut words = aligned(&image, SK_LOOKUP_BYTES);
    // SAFETY: the context has the size of `struct bpf_sk_lookup`.
    let (retval, duration) = unsafe { session.repeat(words.as_mut_ptr().cast(), input.repeat) };
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    Ok(Output {
        retval,
        ctx: bytes,
        duration,
        ..Output::default()
    })
}
