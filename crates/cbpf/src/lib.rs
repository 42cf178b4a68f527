//! Classic BPF: check, translate, compile filters.
#![forbid(unsafe_code)]
