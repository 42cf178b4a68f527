//! Values of maps in this process's memory.

/// What a mapping is for.
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend, map: Handle) -> Result<()> {
///     let memory = backend.map_memory(map, MapAccess::Read)?;
///     println!("{} bytes", memory.len());
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapAccess {
    /// Loads.
    Read,
    /// Loads and stores. As long as it is there the map cannot be frozen.
    ReadWrite,
}

/// Memory of a map, mapped until it is dropped. Programs and other processes load and store there at the same time.
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend, map: Handle) -> Result<()> {
///     let memory: Box<dyn MapMemory> = backend.map_memory(map, MapAccess::ReadWrite)?;
///     println!("{} bytes at {:p}", memory.len(), memory.base());
///     Ok(())
/// }
/// ```
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
