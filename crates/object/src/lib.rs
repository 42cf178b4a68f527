//! BPF object files: ELF, CO-RE, linking.
#![forbid(unsafe_code)]
