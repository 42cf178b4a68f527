//! The filter compiler without the standard library: were it linked, this crate's panic handler would be the second.
//!
//! `cargo rustc --package skep-cbpf --example bare --features bare -- -C panic=abort` builds it.

#![no_std]

extern crate alloc;

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;
use skep_cbpf::filter::{Filter, LinkType, Target};

/// A heap without any memory.
struct NoHeap;

// SAFETY: a null pointer says that there is no memory, and no block is ever given back.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: NoHeap = NoHeap;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Whether an empty packet passes a filter.
#[unsafe(no_mangle)]
pub extern "C" fn skep_bare_filter() -> bool {
    let target = Target::file(LinkType::ETHERNET);
    Filter::compile("less 1", &target).is_ok_and(|filter| filter.matches(&[], 0))
}
