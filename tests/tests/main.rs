//! One test binary over the whole workspace.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod arena;
mod arrows;
mod attach;
mod attach_more;
mod barriers;
mod c_header;
mod cases;
mod classic;
mod combine;
mod corners;
mod counters;
mod debug_info;
mod deferred;
mod encodings;
mod examples;
mod fuzz;
mod hammer;
mod helpers;
mod kernel_backend;
mod kernel_errors;
mod lifecycle;
mod map_diff;
mod object_rules;
mod opcodes;
mod packet_diff;
mod packets;
mod routes;
mod sockets;
mod streams;
mod tidy;
mod token;
mod typed;
mod unusual;
mod unwritten_stack;
mod verifier_cases;
