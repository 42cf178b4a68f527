//! The eBPF verifier: [`Request`] → [`Verified`] or [`Rejection`], with the verdict of Linux.
//!
//! No OS, no I/O, no ELF: programs arrive as instructions, BTF and map descriptors. A [`Verified`] can only be made by
//! [`verify`]; engines rest on it.
#![forbid(unsafe_code)]

mod args;
mod atomic;
mod btf_access;
mod btf_walk;
mod call;
mod cause;
mod cfg;
mod check_alu;
mod code;
mod domain;
mod dynptr;
mod equal;
mod exception;
mod exit;
mod explain;
mod facts;
mod fail;
mod format;
mod global;
mod graph;
mod helper;
mod imm64;
mod iter;
mod jump;
mod kept;
mod kernel;
mod kfunc;
mod kfunc_args;
mod kfunc_kind;
mod kfunc_memory;
mod kfunc_struct;
mod kptr;
mod ksym;
#[cfg(test)]
mod limits;
mod live_regs;
mod live_stack;
mod lock;
mod loops;
mod memory;
mod object;
mod owner;
mod pointer_alu;
mod precision;
pub mod printf;
mod program;
mod prune;
mod refs;
mod reg;
mod rejection;
mod request;
mod rules;
mod sections;
mod sentence;
mod special;
mod stack;
mod stack_depth;
mod state;
mod target;
mod trace;
mod verified;
mod verifier;
mod verify;

pub use cause::{Cause, Interval, Reach, Returned, Section, SizeFault};
pub use code::{CODES, Code, find as find_code};
pub use explain::{
    Cost, Explanation, Locals, LogLevel, NoLocals, Note, Part, StackVariable, costs, costs_until,
    explain, expression_at, further_errors, general_help, instruction_text, kernel_log, statistics,
};
pub use owner::{MapOwner, has_owner};
pub use rejection::{Class, Rejection};
pub use request::{Caps, FuncInfo, LineInfo, MapDesc, Request};
pub use trace::{ConcreteFrame, Known, Trace, verify_recorded, verify_traced};
pub use verified::{
    AccessFact, Branch, CallFact, InsnFact, MapField, Often, PointerLimit, Region, SockKind, Stats,
    Subprog, Verified,
};
pub use verify::{verify, verify_memory, verify_memory_traced};

/// Code of the answer to a request without the kernel's BTF that turns out to need it.
pub const NEEDS_KERNEL_BTF: &str = code::NEEDS_KERNEL_BTF.id;
