//! Executable memory, writable or executable but never both.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a page, of which mappings are made; guard pages are this large.
const PAGE: usize = 4096;

/// Bytes below this program's own code where the region for code ends, and how large that region is: processors may take
/// longer for calls between places that are far from each other.
const NEAR_BYTES: usize = 64 << 20;
const NEAR_REGION: usize = 1 << 30;

/// An address for `bytes` of code near this program's, lower with each call; the system takes it as a hint.
fn near(bytes: usize) -> *mut libc::c_void {
    static USED: AtomicUsize = AtomicUsize::new(0);
    let used = USED.fetch_add(bytes, Ordering::Relaxed) % NEAR_REGION;
    let own = near as *const () as usize & !(PAGE - 1);
    std::ptr::without_provenance_mut(own.saturating_sub(NEAR_BYTES + used + bytes))
}

/// Code in memory of its own, between two guard pages; unmapped on drop.
#[derive(Debug)]
pub struct CodeMapping {
    /// The lower guard page.
    start: NonNull<u8>,
    /// Bytes of the mapping, guard pages included.
    mapped: usize,
    /// Bytes of code.
    len: usize,
}

// SAFETY: the memory is read-only once made.
unsafe impl Send for CodeMapping {}
// SAFETY: as above.
unsafe impl Sync for CodeMapping {}

impl CodeMapping {
    /// Copies `code` to fresh memory and makes it executable.
    ///
    /// # Errors
    /// Those of `mmap` and `mprotect`.
    pub fn new(code: &[u8]) -> io::Result<Self> {
        let body = code.len().max(1).next_multiple_of(PAGE);
        let mapped = body + 2 * PAGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh anonymous mapping; without MAP_FIXED it replaces nothing.
        let p = unsafe { libc::mmap(near(mapped), mapped, libc::PROT_NONE, flags, -1, 0) };
        if p == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(p.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        let made = Self {
            start,
            mapped,
            len: code.len(),
        };
        made.protect(body, libc::PROT_READ | libc::PROT_WRITE)?;
        // SAFETY: `body` bytes behind the guard page are writable, and nobody else knows them yet.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), made.body(), code.len()) };
        made.protect(body, libc::PROT_READ | libc::PROT_EXEC)?;
        Ok(made)
    }

    fn body(&self) -> *mut u8 {
        // SAFETY: the body follows the first guard page of the mapping.
        unsafe { self.start.as_ptr().add(PAGE) }
    }

    fn protect(&self, body: usize, prot: i32) -> io::Result<()> {
        // SAFETY: the range belongs to this mapping alone.
        match unsafe { libc::mprotect(self.body().cast(), body, prot) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Address of the first byte of code.
    #[must_use]
    pub fn base(&self) -> *const u8 {
        self.body()
    }

    /// The code.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes behind the guard page are mapped readable for as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.body(), self.len) }
    }
}

impl Drop for CodeMapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours; whoever ran its code kept `self` alive.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.mapped) };
    }
}
