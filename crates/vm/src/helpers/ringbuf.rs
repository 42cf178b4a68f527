//! Ring buffers and perf event arrays.

use super::dynptr::{Dynptr, Kind};
use super::{Args, Row, helpers};
use skep_abi::Errno;
use skep_maps::RecordEnd;
use std::ops::ControlFlow;

pub(super) const HELPERS: &[Row] = helpers! {
    25 "bpf_perf_event_output" perf_event_output;
    130 "bpf_ringbuf_output" output;
    131 "bpf_ringbuf_reserve" reserve;
    132 "bpf_ringbuf_submit" submit;
    133 "bpf_ringbuf_discard" discard;
    134 "bpf_ringbuf_query" query;
    198 "bpf_ringbuf_reserve_dynptr" reserve_dynptr;
    199 "bpf_ringbuf_submit_dynptr" submit_dynptr;
    200 "bpf_ringbuf_discard_dynptr" discard_dynptr;
    209 "bpf_user_ringbuf_drain" drain [calls_back];
};

fn output(a: &Args) -> i64 {
    let data = a.bytes(2, a.get(3) as usize);
    a.map(1).ringbuf_output(data, a.get(4), a.runner())
}

fn reserve(a: &Args) -> *mut u8 {
    a.map(1).ringbuf_reserve(a.get(2), a.get(3), a.runner())
}

fn submit(a: &Args) {
    // SAFETY: the verifier proved that the record was reserved and not given back yet.
    unsafe { skep_maps::ringbuf_commit(a.ptr(1), a.get(2), RecordEnd::Submit) }
}

fn discard(a: &Args) {
    // SAFETY: as in `submit`.
    unsafe { skep_maps::ringbuf_commit(a.ptr(1), a.get(2), RecordEnd::Discard) }
}

fn query(a: &Args) -> u64 {
    a.map(1).ringbuf_query(a.get(2))
}

fn reserve_dynptr(a: &Args) -> Result<i64, Errno> {
    let size = a.get32(2);
    let made = if a.get(3) != 0 {
        Err(Errno::EINVAL)
    } else if size > Dynptr::MAX_SIZE {
        Err(Errno::E2BIG)
    } else {
        let record = a.map(1).ringbuf_reserve(u64::from(size), 0, a.runner());
        if record.is_null() {
            Err(Errno::EINVAL)
        } else {
            Ok(Dynptr::new(Kind::Ringbuf, record as u64, size))
        }
    };
    Dynptr::store(a, 4, made.unwrap_or_default());
    made.map(|_| 0)
}

/// Gives the record of the dynptr in `r1` back.
fn end_dynptr(a: &Args, end: RecordEnd) {
    let dynptr = Dynptr::load(a, 1);
    if dynptr.is_null() {
        return;
    }
    // SAFETY: the verifier proved that the record was reserved and not given back yet.
    unsafe { skep_maps::ringbuf_commit(dynptr.data as *mut u8, a.get(2), end) }
    Dynptr::store(a, 1, Dynptr::default());
}

fn submit_dynptr(a: &Args) {
    end_dynptr(a, RecordEnd::Submit);
}

fn discard_dynptr(a: &Args) {
    end_dynptr(a, RecordEnd::Discard);
}

/// Arguments: map, callback, its context, flags. Each sample reaches the callback as a dynptr.
fn drain(a: &Args) -> i64 {
    let map = a.map(1);
    map.user_ringbuf_drain(a.get(4), &mut |sample| {
        let len = u32::try_from(sample.len()).unwrap_or(Dynptr::MAX_SIZE);
        let dynptr = Dynptr::new(Kind::Local, sample.as_ptr() as u64, len);
        let stop = a.call(2, [(&raw const dynptr) as u64, a.get(3), 0, 0, 0]);
        if stop != 0 || a.interrupted() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
}

/// `BPF_F_CTXLEN_MASK`: bytes of the packet that follow the sample.
const CTXLEN_MASK: u64 = 0xf_ffff << 32;

fn perf_event_output(a: &Args) -> Result<i64, Errno> {
    let flags = a.get(3);
    let sample = a.bytes(4, a.get(5) as usize);
    let wanted = (flags & CTXLEN_MASK) >> 32;
    if wanted == 0 {
        return Ok(a.map(2).perf_event_output(flags, &[sample], a.runner()));
    }
    let packet = super::xdp::packet_bytes(a, wanted as usize)?;
    let flags = flags & !CTXLEN_MASK;
    Ok(a.map(2)
        .perf_event_output(flags, &[sample, &packet], a.runner()))
}
