//! Values of maps in this process's memory.

/// What a mapping is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapAccess {
    /// Loads.
    Read,
    /// Loads and stores. As long as it is there the map cannot be frozen.
    ReadWrite,
}

/// Memory of a map, mapped until it is dropped. Programs and other processes load and store there at the same time.
pub trait MapMemory: Send + Sync {
    /// The first byte.
    fn base(&self) -> *mut u8;
    /// Bytes.
    fn len(&self) -> usize;
    /// True if there is nothing, which cannot be.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
