//! Cross-crate tests: ours against the kernel, engine against engine.
