//! Packet filters at the speed of machine code.
//!
//! ```
//! use skep::filter::{Filter, LinkType, Matcher, PlainPacket, Target};
//! let filter = Filter::compile("tcp port 443", &Target::file(LinkType::ETHERNET))?;
//! let matcher = Matcher::new(filter);
//! assert!(!matcher.matches(&[0; 60], 60));
//!
//! let packets = [PlainPacket::new(&[0; 60], 60), PlainPacket::new(&[0; 4], 60)];
//! let mut results = [9; 2];
//! matcher.run_all(&packets, &mut results);
//! assert_eq!(results, [0, 0]);
//! # Ok::<(), skep::filter::FilterError>(())
//! ```

pub use skep_cbpf::filter::{
    Filter, FilterError, LinkType, Names, SNAPLEN, Source, Span, Target, compile, plain,
};

use skep_cbpf::{LongShift, Packet};
use skep_vm::classic::Native;
pub use skep_vm::classic::PlainPacket;

/// A filter, ready for many packets.
///
/// ```
/// use skep::filter::{Filter, LinkType, Matcher, Target};
///
/// let filter = Filter::compile("arp", &Target::file(LinkType::ETHERNET))?;
/// let matcher = Matcher::new(filter);
/// let mut packet = [0; 60];
/// packet[12..14].copy_from_slice(&[0x08, 0x06]);
/// assert!(matcher.matches(&packet, 60));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Matcher {
    filter: Filter,
    /// Machine code; there is none for loops, and where the machine does not allow any.
    native: Option<Native>,
}

impl Matcher {
    /// Makes a filter ready. What cannot be machine code is interpreted.
    #[must_use]
    pub fn new(filter: Filter) -> Self {
        let native = Native::new(filter.code(), LongShift::Zero).ok();
        Self { filter, native }
    }

    /// Whether a packet is accepted: its captured bytes, and its length on the wire.
    #[inline]
    #[must_use]
    pub fn matches(&self, bytes: &[u8], wire_len: u32) -> bool {
        match &self.native {
            Some(native) => native.run(bytes, wire_len) != 0,
            None => self.filter.matches(bytes, wire_len),
        }
    }

    /// Runs the filter on many packets, one result each: zero for those that are rejected. This is the fast way: the
    /// machine code has the loop.
    ///
    /// # Panics
    /// If there are more packets than results.
    pub fn run_all(&self, packets: &[PlainPacket<'_>], results: &mut [u32]) {
        if let Some(native) = &self.native {
            return native.run_all(packets, results);
        }
        let results = &mut results[..packets.len()];
        for (packet, result) in packets.iter().zip(results) {
            let packet = Packet::of_file(packet.bytes(), packet.wire_len());
            *result = self.filter.program().run(&packet);
        }
    }

    /// The filter.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Whether it runs as machine code.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.native.is_some()
    }
}
