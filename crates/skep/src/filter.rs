//! Packet filters at the speed of machine code.
//!
//! ```
//! use skep::filter::{Filter, LinkType, Matcher, Target};
//! let filter = Filter::compile("tcp port 443", &Target::file(LinkType::ETHERNET))?;
//! let matcher = Matcher::new(filter);
//! assert!(!matcher.matches(&[0; 60], 60));
//! # Ok::<(), skep::filter::FilterError>(())
//! ```

pub use skep_cbpf::filter::{
    Filter, FilterError, LinkType, Names, SNAPLEN, Source, Span, Target, compile, plain,
};

use skep_cbpf::LongShift;
use skep_vm::classic::Native;

/// A filter, ready for many packets.
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
