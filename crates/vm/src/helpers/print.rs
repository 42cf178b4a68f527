//! Text for people: trace output and formatting.

use super::{Args, Row, helpers, packed};
use skep_abi::Errno;
use skep_verifier::printf::MAX_ARGS;

pub(super) const HELPERS: &[Row] = helpers! {
    6 "bpf_trace_printk" trace_printk;
    165 "bpf_snprintf" snprintf;
    177 "bpf_trace_vprintk" trace_vprintk;
};

/// `BPF_TRACE_PRINTK_SIZE`
const LINE_BYTES: usize = 1024;
/// Arguments of `bpf_trace_printk`.
const TRACE_ARGS: usize = 3;

/// Gives a line to the universe; the length that it would have had.
fn trace(a: &Args, format: &[u8], args: &[u64]) -> Result<u64, Errno> {
    let mut line = packed::print(terminated(format)?, args, LINE_BYTES)?;
    line.kept.truncate(LINE_BYTES - 1);
    a.world()
        .host
        .clone()
        .trace(&String::from_utf8_lossy(&line.kept));
    Ok(line.len as u64)
}

/// A format in memory of a program without its end.
fn terminated(format: &[u8]) -> Result<&[u8], Errno> {
    let end = format.iter().position(|&b| b == 0).ok_or(Errno::EINVAL)?;
    Ok(&format[..end])
}

/// format, its size, three arguments
fn trace_printk(a: &Args) -> Result<u64, Errno> {
    let args: [u64; TRACE_ARGS] = [a.get(3), a.get(4), a.get(5)];
    trace(a, a.bytes(1, a.get32(2) as usize), &args)
}

/// The arguments in memory argument `n`, `len` bytes.
fn values(a: &Args, n: usize, len: usize) -> Result<Vec<u64>, Errno> {
    let bad = !len.is_multiple_of(8) || len > MAX_ARGS * 8 || (len != 0 && a.get(n) == 0);
    if bad {
        return Err(Errno::EINVAL);
    }
    let (words, _) = a.bytes(n, len).as_chunks::<8>();
    Ok(words.iter().map(|w| u64::from_ne_bytes(*w)).collect())
}

/// format, its size, arguments, their size
fn trace_vprintk(a: &Args) -> Result<u64, Errno> {
    let args = values(a, 3, a.get32(4) as usize)?;
    trace(a, a.bytes(1, a.get32(2) as usize), &args)
}

/// buffer, its size, format, arguments, their size: the length with its end that it would have had
fn snprintf(a: &Args) -> Result<u64, Errno> {
    const FORMAT_BYTES: usize = 1 << 16;
    let args = values(a, 4, a.get32(5) as usize)?;
    let room = a.get32(2) as usize;
    let mut text = packed::print(a.string(3, FORMAT_BYTES), &args, room)?;
    if room > 0 {
        text.kept.truncate(room - 1);
        text.kept.push(0);
        a.write(1, &text.kept);
    }
    Ok(text.len as u64 + 1)
}
