//! System call policies as classic programs for seccomp(2).
//!
//! A policy is text, one rule a line, the first that fits decides:
//!
//! ```text
//! # comment
//! arch x86_64                     # and perhaps more; others get the action after "other"
//! other kill
//! default errno EPERM
//! allow read write exit_group
//! errno EACCES openat if arg1 == 0 and arg2 & 3 == 1
//! kill ptrace
//! ```
//!
//! Actions: `allow`, `log`, `trace N`, `errno NAME|N`, `trap`, `kill` (the process), `kill-thread`, `notify`.

mod compile;
mod explain;
mod policy;
mod syscalls;

pub use compile::compile;
pub use explain::{Case, Computed, Condition, Ending, Explained, explain};
pub use policy::{Action, Arch, Argument, Comparison, Policy, PolicyError, Rule};
