//! One test binary over the whole workspace.

mod arrows;
mod kernel_backend;
mod map_diff;
mod tidy;
