//! Digests as text.

use sha2::{Digest, Sha256};

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    super::value::hex(&Sha256::digest(bytes))
}
