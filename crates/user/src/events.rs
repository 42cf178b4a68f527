//! Streams of what programs emit, and of what they take.

use crate::error::{Named, refused};
use crate::host::TraceQueue;
use crate::map_object::MapObject;
use crate::universe::{Shared, lock};
use skep_abi::{Errno, MapType};
use skep_bpf::{Event, EventReader, MapCreate, Result, SampleWriter};
use std::ops::ControlFlow;
use std::os::fd::RawFd;
use std::sync::Arc;

/// Bytes of the ring behind each CPU of a perf event array.
const PERF_RING_BYTES: u32 = 64 * 4096;
const WHAT: &str = "events of a map";
/// Bytes of a user ring buffer that no sample can have: its header, and as much between the newest and the oldest.
const RECORDS_OVERHEAD: usize = 16;

impl Shared {
    /// Opens the stream of a ring buffer or perf event array.
    pub(crate) fn events_open(
        self: &Arc<Self>,
        map: &Arc<MapObject>,
    ) -> Result<Box<dyn EventReader>> {
        match map.map.map_type {
            MapType::Ringbuf => Ok(Box::new(RingReader(Arc::clone(map)))),
            MapType::PerfEventArray => Ok(Box::new(self.perf_reader(map)?)),
            _ => Err(refused(
                Errno::EINVAL,
                WHAT,
                "neither a ring buffer nor a perf event array",
            )),
        }
    }

    fn perf_reader(self: &Arc<Self>, map: &Arc<MapObject>) -> Result<PerfReader> {
        let mut rings = Vec::new();
        for cpu in 0..self.options.cpus.min(map.map.max_entries) {
            let ring = self.make_map(
                &MapCreate::new(MapType::Ringbuf, 0, 0, PERF_RING_BYTES),
                WHAT,
            )?;
            let reference = Arc::clone(&ring) as crate::universe::Reference;
            map.hold(self, &cpu.to_ne_bytes(), ring.id, reference, 0)
                .named(WHAT)?;
            rings.push(ring);
        }
        Ok(PerfReader {
            rings,
            map: Arc::clone(map),
            shared: Arc::clone(self),
        })
    }

    /// Opens a user ring buffer for writing.
    pub(crate) fn samples_open(
        self: &Arc<Self>,
        map: &Arc<MapObject>,
    ) -> Result<Box<dyn SampleWriter>> {
        if map.map.map_type != MapType::UserRingbuf {
            return Err(refused(
                Errno::EINVAL,
                "samples for a map",
                "not a user ring buffer",
            ));
        }
        Ok(Box::new(RingWriter {
            map: Arc::clone(map),
            shared: Arc::clone(self),
        }))
    }

    /// Opens the stream of trace lines.
    pub(crate) fn trace_open(&self) -> Box<dyn EventReader> {
        Box::new(TraceReader(self.host.subscribe()))
    }
}

struct RingWriter {
    map: Arc<MapObject>,
    shared: Arc<Shared>,
}

impl SampleWriter for RingWriter {
    fn write(&mut self, sample: &[u8]) -> Result<bool> {
        let most = (self.map.map.max_entries as usize).saturating_sub(RECORDS_OVERHEAD);
        if sample.len() > most {
            let detail = format!("{} bytes; the buffer has room for {most}", sample.len());
            return Err(refused(Errno::E2BIG, "sample", &detail));
        }
        let lease = self.shared.user_lease();
        match self.map.map.ringbuf_output(sample, 0, lease.runner()) {
            0 => Ok(true),
            _ => Ok(false),
        }
    }
}

struct RingReader(Arc<MapObject>);

impl EventReader for RingReader {
    fn descriptor(&self) -> Option<RawFd> {
        None
    }

    fn drain(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        Ok(self.0.map.ringbuf_consume(&mut |record| {
            each(Event::Record(record));
            ControlFlow::Continue(())
        }))
    }
}

struct PerfReader {
    rings: Vec<Arc<MapObject>>,
    map: Arc<MapObject>,
    shared: Arc<Shared>,
}

impl EventReader for PerfReader {
    fn descriptor(&self) -> Option<RawFd> {
        None
    }

    fn drain(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        let mut count = 0;
        for (cpu, ring) in (0u32..).zip(&self.rings) {
            count += ring.map.ringbuf_consume(&mut |data| {
                each(Event::Sample { cpu, data });
                ControlFlow::Continue(())
            });
        }
        Ok(count)
    }
}

impl Drop for PerfReader {
    fn drop(&mut self) {
        for cpu in (0u32..).take(self.rings.len()) {
            let _replaced = self.map.remove_object(&self.shared, &cpu.to_ne_bytes());
        }
    }
}

struct TraceReader(TraceQueue);

impl EventReader for TraceReader {
    fn descriptor(&self) -> Option<RawFd> {
        None
    }

    fn drain(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        let lines = std::mem::take(&mut *lock(&self.0));
        for line in &lines {
            each(Event::Trace(line));
        }
        Ok(lines.len())
    }
}
