//! One test binary over the whole workspace.

mod arrows;
mod tidy;
