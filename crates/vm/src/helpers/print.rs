//! Text for people: trace output and formatting.

use super::{Args, Row, format, helpers};
use skep_abi::Errno;

pub(super) const HELPERS: &[Row] = helpers! {
    6 "bpf_trace_printk" trace_printk;
    165 "bpf_snprintf" snprintf;
    177 "bpf_trace_vprintk" trace_vprintk;
};

/// `BPF_TRACE_PRINTK_SIZE`
const LINE_BYTES: usize = 1024;
/// Arguments of `bpf_trace_printk`.
const TRACE_ARGS: usize = 3;

/// Cuts a line to the trace buffer and gives it to the universe; the length that it would have had.
fn trace(a: &Args, line: &[u8]) -> u64 {
    let kept = &line[..line.len().min(LINE_BYTES - 1)];
    a.world().host.clone().trace(&String::from_utf8_lossy(kept));
    line.len() as u64
}

/// The format in argument `n`, without its end; its size is `size`, or the string's own.
fn checked_format(text: &[u8], args: usize) -> Result<format::Format, Errno> {
    let end = text.iter().position(|&b| b == 0).ok_or(Errno::EINVAL)?;
    format::parse(&text[..end], args)
}

/// format, its size, three arguments
fn trace_printk(a: &Args) -> Result<u64, Errno> {
    let format = checked_format(a.bytes(1, a.get32(2) as usize), TRACE_ARGS)?;
    let line = format.render(&[a.get(3), a.get(4), a.get(5)]);
    Ok(trace(a, &line))
}

/// The arguments in memory argument `n`, `len` bytes.
fn values(a: &Args, n: usize, len: usize) -> Result<Vec<u64>, Errno> {
    let bad = !len.is_multiple_of(8) || len > format::MAX_ARGS * 8 || (len != 0 && a.get(n) == 0);
    if bad {
        return Err(Errno::EINVAL);
    }
    let (words, _) = a.bytes(n, len).as_chunks::<8>();
    Ok(words.iter().map(|w| u64::from_ne_bytes(*w)).collect())
}

/// format, its size, arguments, their size
fn trace_vprintk(a: &Args) -> Result<u64, Errno> {
    let args = values(a, 3, a.get32(4) as usize)?;
    let format = checked_format(a.bytes(1, a.get32(2) as usize), args.len())?;
    Ok(trace(a, &format.render(&args)))
}

/// buffer, its size, format, arguments, their size: the length with its end that it would have had
fn snprintf(a: &Args) -> Result<u64, Errno> {
    const FORMAT_BYTES: usize = 1 << 16;
    let args = values(a, 4, a.get32(5) as usize)?;
    let format = format::parse(a.string(3, FORMAT_BYTES), args.len())?;
    let text = format.render(&args);
    let room = a.get32(2) as usize;
    if room > 0 {
        let kept = text.len().min(room - 1);
        a.write(1, &text[..kept]);
        a.write_at(1, kept, &[0]);
    }
    Ok(text.len() as u64 + 1)
}
