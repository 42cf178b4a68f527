//! BPF object files: ELF, CO-RE, linking.
#![forbid(unsafe_code)]

pub mod image;
pub mod write;
