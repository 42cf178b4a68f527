//! Why a capture cannot be read.

use std::fmt;

/// A capture cannot be read.
///
/// ```
/// use skep_net::capture::read;
/// use skep_net::error::PcapError;
///
/// assert_eq!(read(b"not a capture").unwrap_err(), PcapError::NotPcap);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PcapError {
    /// Neither of the two formats.
    NotPcap,
    /// The file ends inside a packet or block.
    Truncated {
        /// Number of the packet, from 1.
        packet: usize,
    },
    /// A packet or block contradicts the format.
    Damaged {
        /// Number of the packet, from 1.
        packet: usize,
        /// What is wrong.
        what: &'static str,
    },
}

impl fmt::Display for PcapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPcap => f.write_str("not a packet capture (pcap or pcapng)"),
            Self::Truncated { packet } => write!(f, "the capture is cut inside packet {packet}"),
            Self::Damaged { packet, what } => write!(f, "damaged capture: packet {packet}: {what}"),
        }
    }
}

impl std::error::Error for PcapError {}
