//! Event streams of the kernel: ring buffers, perf buffers, the trace pipe; and user ring buffers, which go the other way.

use super::Kernel;
use super::convert::failed;
use super::tracefs::Tracefs;
use skep_abi::MapType;
use skep_bpf::{Errno, Error, Event, EventReader, Fill, Handle, Result, SampleWriter};
use skep_sys::bpf_map::Map;
use skep_sys::epoll::Epoll;
use skep_sys::{cpus, perf, ringbuf};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

/// Data pages of a perf buffer, each CPU.
const PERF_PAGES: usize = 64;
/// `O_NONBLOCK`
const NONBLOCK: i32 = 0o4000;
/// Bytes of one read of the trace pipe.
const TRACE_BYTES: usize = 1 << 14;

impl Kernel {
    /// Opens the stream of a ring buffer or perf event array.
    pub(super) fn open_events(&self, map: Handle) -> Result<Box<dyn EventReader>> {
        const WHAT: &str = "events of a map";
        let map = self.map(map, WHAT)?;
        let info = map.info().map_err(|e| failed(WHAT, &e))?;
        match MapType::from_id(info.map_type) {
            Some(MapType::Ringbuf) => {
                let ring = ringbuf::Ringbuf::open(map.as_fd(), info.max_entries);
                Ok(Box::new(RingReader(ring.map_err(|e| failed(WHAT, &e))?)))
            }
            Some(MapType::PerfEventArray) => {
                let reader = PerfReader::open(&map, info.max_entries);
                Ok(Box::new(reader.map_err(|e| failed(WHAT, &e))?))
            }
            _ => Err(Error {
                errno: Errno::EINVAL,
                what: WHAT.to_owned(),
                detail: "neither a ring buffer nor a perf event array".to_owned(),
                log: String::new(),
            }),
        }
    }
}

impl Kernel {
    /// Opens a user ring buffer for writing.
    pub(super) fn open_samples(&self, map: Handle) -> Result<Box<dyn SampleWriter>> {
        const WHAT: &str = "samples for a map";
        let map = self.map(map, WHAT)?;
        let info = map.info().map_err(|e| failed(WHAT, &e))?;
        if MapType::from_id(info.map_type) != Some(MapType::UserRingbuf) {
            return Err(Error {
                errno: Errno::EINVAL,
                what: WHAT.to_owned(),
                detail: "not a user ring buffer".to_owned(),
                log: String::new(),
            });
        }
        let ring = ringbuf::UserRingbuf::open(map.as_fd(), info.max_entries);
        Ok(Box::new(RingWriter(ring.map_err(|e| failed(WHAT, &e))?)))
    }
}

struct RingWriter(ringbuf::UserRingbuf);

impl SampleWriter for RingWriter {
    fn write(&mut self, sample: &[u8]) -> Result<bool> {
        let most = self.0.sample_bytes_max();
        if sample.len() > most {
            return Err(Error {
                errno: Errno::E2BIG,
                what: "sample".to_owned(),
                detail: format!("{} bytes; the buffer has room for {most}", sample.len()),
                log: String::new(),
            });
        }
        Ok(self.0.write(sample))
    }
}

struct RingReader(ringbuf::Ringbuf);

impl EventReader for RingReader {
    fn descriptor(&self) -> Option<RawFd> {
        Some(self.0.descriptor())
    }

    fn drain(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        Ok(self.0.drain(&mut |record| each(Event::Record(record))))
    }

    fn fill(&self) -> Option<Fill> {
        let (bytes, capacity) = self.0.fill();
        Some(Fill { bytes, capacity })
    }
}

struct PerfReader {
    epoll: Epoll,
    buffers: Vec<(u32, perf::Buffer)>,
    lost: u64,
}

impl PerfReader {
    /// One buffer a CPU that is on, entered into the map.
    fn open(map: &Map, max_entries: u32) -> std::io::Result<Self> {
        let epoll = Epoll::new()?;
        let mut buffers = Vec::new();
        for cpu in cpus::online()? {
            if cpu >= max_entries {
                break;
            }
            let buffer = perf::Buffer::open(cpu, PERF_PAGES)?;
            map.update(&cpu.to_ne_bytes(), &buffer.descriptor().to_ne_bytes(), 0)?;
            epoll.add(buffer.descriptor(), u64::from(cpu))?;
            buffers.push((cpu, buffer));
        }
        Ok(Self {
            epoll,
            buffers,
            lost: 0,
        })
    }
}

impl EventReader for PerfReader {
    fn descriptor(&self) -> Option<RawFd> {
        Some(self.epoll.as_fd().as_raw_fd())
    }

    fn drain(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        let Self { buffers, lost, .. } = self;
        let mut count = 0;
        for (cpu, buffer) in buffers {
            let cpu = *cpu;
            count += buffer.drain(&mut |record| {
                each(match record {
                    perf::Record::Sample(data) => Event::Sample { cpu, data },
                    perf::Record::Lost(count) => {
                        *lost += count;
                        Event::Lost { cpu, count }
                    }
                });
            });
        }
        Ok(count)
    }

    fn lost(&self) -> Option<u64> {
        Some(self.lost)
    }
}

/// Lines of `bpf_trace_printk`, all programs of the kernel.
pub(super) struct TraceReader {
    pipe: File,
    /// A line whose end has not come yet.
    rest: Vec<u8>,
}

impl TraceReader {
    pub(super) fn open() -> Result<Self> {
        const WHAT: &str = "trace_pipe";
        let tracefs = Tracefs::open().map_err(|e| failed(WHAT, &e))?;
        let mut options = std::fs::OpenOptions::new();
        let pipe = options
            .read(true)
            .custom_flags(NONBLOCK)
            .open(tracefs.path("trace_pipe"));
        Ok(Self {
            pipe: pipe.map_err(|e| failed(WHAT, &e))?,
            rest: Vec::new(),
        })
    }
}

impl EventReader for TraceReader {
    fn descriptor(&self) -> Option<RawFd> {
        Some(self.pipe.as_raw_fd())
    }

    fn drain(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        let mut count = 0;
        let mut buffer = [0u8; TRACE_BYTES];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return Ok(count),
                Ok(length) => self.rest.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(count),
                Err(error) => return Err(failed("trace_pipe", &error)),
            }
            while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                each(Event::Trace(trace_message(&String::from_utf8_lossy(
                    &line[..end],
                ))));
                count += 1;
            }
        }
    }
}

/// What the program printed, without the columns that the trace pipe puts in front.
fn trace_message(line: &str) -> &str {
    line.split_once("bpf_trace_printk: ")
        .map_or(line, |(_, message)| message)
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_cut_off() {
        let line = "  cat-12 [001] ....1 12.3: bpf_trace_printk: hello: you";
        assert_eq!(super::trace_message(line), "hello: you");
        assert_eq!(
            super::trace_message("CPU:1 [LOST 3 EVENTS]"),
            "CPU:1 [LOST 3 EVENTS]"
        );
    }
}
