//! The filter compiler without the standard library: were it among what is linked here, this crate's panic handler would
//! be the second, and the build would fail.
//!
//! `cargo rustc --package skep-cbpf --example bare --features bare -- -C panic=abort` builds it.
#![forbid(unsafe_code)]
#![no_std]

use core::panic::PanicInfo;
use skep_cbpf::filter::{Filter, LinkType, Target};

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Whether an empty packet passes a filter.
#[must_use]
pub fn passes_nothing() -> bool {
    let target = Target::file(LinkType::ETHERNET);
    Filter::compile("less 1", &target).is_ok_and(|filter| filter.matches(&[], 0))
}
