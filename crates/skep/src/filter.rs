//! Packet filters at the speed of native code: translated to eBPF, verified, compiled.
//!
//! ```
//! use skep::filter::{Filter, LinkType, Matcher, Target};
//! let filter = Filter::compile("tcp port 443", &Target::file(LinkType::ETHERNET))?;
//! let mut matcher = Matcher::new(filter);
//! assert!(!matcher.matches(&[0; 60], 60));
//! # Ok::<(), skep::filter::FilterError>(())
//! ```

pub use skep_cbpf::filter::{
    Filter, FilterError, LinkType, Names, SNAPLEN, Source, Span, Target, compile, plain,
};

use skep_abi::ProgType;
use skep_cbpf::LongShift;
use skep_cbpf::translate::{Access, INDEX_MAX, Options, translate};
use skep_verifier::{Request, verify};
use skep_vm::reader::Reader;

/// Field of `struct xdp_md` that carries the bytes on the wire: `rx_queue_index`.
const WIRE_LENGTH_AT: i16 = 16;

/// A filter, ready for many packets.
#[derive(Debug)]
pub struct Matcher {
    filter: Filter,
    /// Native code; there is none for loops, and where the machine does not allow any.
    native: Option<Reader>,
}

impl Matcher {
    /// Makes a filter ready. What cannot be native code is interpreted.
    #[must_use]
    pub fn new(filter: Filter) -> Self {
        let native = native(&filter);
        Self { filter, native }
    }

    /// Whether a packet is accepted: its captured bytes, and its length on the wire.
    #[inline]
    pub fn matches(&mut self, bytes: &[u8], wire_len: u32) -> bool {
        match &mut self.native {
            Some(reader) if bytes.len() <= INDEX_MAX as usize => reader.run(bytes, wire_len) != 0,
            _ => self.filter.matches(bytes, wire_len),
        }
    }

    /// The filter.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Whether it runs as native code.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.native.is_some()
    }
}

fn native(filter: &Filter) -> Option<Reader> {
    let options = Options {
        access: Access::Direct,
        long_shift: LongShift::Zero,
        verdicts: None,
        wire_length: Some(WIRE_LENGTH_AT),
    };
    let insns = translate(filter.code(), &options).ok()?;
    let request = Request::plain("filter", ProgType::Xdp, &insns);
    let verified = verify(&request).ok()?;
    Reader::new(&verified).ok().flatten()
}
