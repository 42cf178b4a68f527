//! Where the objects of this universe's programs are.
//!
//! Processes with one pin directory have one heap: the file [`OBJECTS`] in it. A universe that needs a heap takes that one if
//! it is there. Otherwise it makes its own, beside the pin directory, and names it so when the first map is pinned whose
//! values own objects.

use crate::pin;
use crate::universe::Shared;
use skep_abi::Errno;
use skep_maps::Heap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Name of the file in the pin directory.
const OBJECTS: &str = ".objects";
/// Room that a file system must have for a heap: it holds a part of it at first.
const ROOM_BYTES: u64 = 1 << 30;

impl Shared {
    /// The heap, made when it is first needed; `None` if there is no memory for it.
    pub(crate) fn heap(&self) -> Option<&Arc<Heap>> {
        let heap = self.heap.get_or_init(|| match self.named_heap() {
            Ok(heap) => Some(heap),
            Err(_) => Heap::new(&self.memory(ROOM_BYTES)).ok().map(Arc::new),
        });
        heap.as_ref()
    }

    /// The heap in the pin directory.
    fn named_heap(&self) -> Result<Arc<Heap>, Errno> {
        let dir = self.pin_dir();
        let file = pin::open_own(&dir.join(OBJECTS))?;
        pin::make_own(&dir)?;
        self.share_leases(&dir)?;
        Heap::open(file).map(Arc::new)
    }

    /// Makes the objects of this universe those of all that use `dir`.
    ///
    /// # Errors
    /// `EBUSY` if others there have another heap and this universe has objects of its own.
    pub(crate) fn share_heap(&self, dir: &Path) -> Result<(), Errno> {
        let heap = self.heap().ok_or(Errno::ENOMEM)?;
        let path = dir.join(OBJECTS);
        match skep_sys::mem::link_file(heap.file(), &path) {
            Ok(()) => Ok(()),
            Err(e) if e.raw_os_error() == Some(Errno::EEXIST.0) => {
                let there: File = pin::open_own(&path)?;
                match pin::file_id(&there)? == pin::file_id(heap.file())? {
                    true => Ok(()),
                    false => Err(Errno::EBUSY),
                }
            }
            Err(e) => Err(e.raw_os_error().map_or(Errno::EIO, Errno)),
        }
    }
}
