//! The command `skep`.

fn main() {}
