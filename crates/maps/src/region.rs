//! The file of a map and its mapping.

use crate::heap::place;
use crate::spec::MapSpec;
use skep_abi::Errno;
use skep_sys::mem::{self, Access, Mapping, PAGE};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// Where the memory of maps comes from.
#[derive(Clone, Debug)]
pub enum Memory {
    /// An anonymous file: gone with the last process that holds it.
    Anonymous,
    /// An unnamed file in this directory's filesystem, which can be linked there later.
    Directory(PathBuf),
    /// The file of a map that exists (see [`crate::Map::described_in`]).
    Existing(Arc<File>),
}

/// Sizes of the parts of a map's file. A pure function of the [`MapSpec`]; every process computes its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    /// Bytes of data, a multiple of the page.
    pub(crate) data: usize,
    /// Bytes of control words, a multiple of the page.
    pub(crate) control: usize,
    /// Map the data from this offset to its end a second time behind itself (ring buffers).
    pub(crate) twice_from: Option<usize>,
    /// Leave room for the data at this offset of a window of 4 GiB; pages of it are shown one by one (arenas).
    pub(crate) window_at: Option<usize>,
    /// Bytes of the creator's notes, a multiple of the page.
    notes: usize,
}

/// Offset of the word in the describing page that says whether the map is frozen.
const FROZEN_AT: usize = 64;
/// Offset of the word there with the address that the map has in every process, 0 if it may lie anywhere.
const PLACE_AT: usize = 72;
/// What such addresses are multiples of.
const PLACE_ALIGN: usize = 1 << 21;
/// Bytes that the 32 bits of an arena's addresses reach, and those that an instruction's offset reaches beyond.
pub(crate) const WINDOW_BYTES: usize = 1 << 32;
const GUARD_BYTES: usize = 1 << 16;
/// Most bytes of one map's file.
pub(crate) const FILE_BYTES_MAX: usize = 1 << 40;

impl Layout {
    /// A layout of `data` and `control` bytes, rounded up to pages.
    pub(crate) fn new(data: Option<usize>, control: Option<usize>) -> Result<Self, Errno> {
        let fits = |n: Option<usize>| n.filter(|n| *n <= FILE_BYTES_MAX).ok_or(Errno::ENOMEM);
        Ok(Self {
            data: fits(data)?.next_multiple_of(PAGE),
            control: fits(control)?.next_multiple_of(PAGE),
            twice_from: None,
            window_at: None,
            notes: 0,
        })
    }

    /// Bytes of the file: data, control, notes, the describing page.
    pub(crate) fn file_bytes(self) -> usize {
        self.data + self.control + self.notes + PAGE
    }

    /// Bytes of address space.
    fn mapped_bytes(self) -> usize {
        self.file_bytes() + self.second_bytes()
    }

    fn second_bytes(self) -> usize {
        self.twice_from.map_or(0, |from| self.data - from)
    }
}

/// The mapped file of a map.
#[derive(Debug)]
pub(crate) struct Region {
    file: File,
    mapping: Mapping,
    /// Where in the mapping the data and the control words begin.
    data_at: usize,
    control_at: usize,
    layout: Layout,
    fresh: bool,
}

/// The number of an error of the system.
pub(crate) fn errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::ENOMEM, Errno)
}

impl Region {
    /// The memory of the map `spec`: new zero bytes, described by it, or an existing file.
    pub(crate) fn create(
        spec: &MapSpec,
        mut layout: Layout,
        memory: &Memory,
    ) -> Result<Self, Errno> {
        layout.notes = spec.notes.len().next_multiple_of(PAGE);
        let len = layout.file_bytes() as u64;
        let file = match memory {
            Memory::Anonymous => mem::anonymous_file(c"skep-map", len),
            Memory::Directory(dir) => mem::unnamed_file_in(dir, len),
            Memory::Existing(file) => return Self::open(file, spec, layout),
        }
        .map_err(|e| errno(&e))?;
        let region = if spec.record.owns_objects() {
            Self::map_somewhere(file, layout)?
        } else {
            Self::map(file, layout, true)?
        };
        // SAFETY: the file is new, its pages of notes are as long as the notes.
        unsafe {
            let notes = region.control().add(layout.control);
            notes.copy_from_nonoverlapping(spec.notes.as_ptr(), spec.notes.len());
        }
        spec.write_to(region.describing_page());
        Ok(region)
    }

    fn open(file: &File, spec: &MapSpec, layout: Layout) -> Result<Self, Errno> {
        let file = file.try_clone().map_err(|e| errno(&e))?;
        let len = file.metadata().map_err(|e| errno(&e))?.len();
        if len != layout.file_bytes() as u64 {
            return Err(Errno::EINVAL);
        }
        if !spec.record.owns_objects() {
            return Self::map(file, layout, false);
        }
        let mut place = [0; 8];
        let at = len - PAGE as u64 + PLACE_AT as u64;
        file.read_exact_at(&mut place, at).map_err(|e| errno(&e))?;
        let at = usize::try_from(u64::from_ne_bytes(place)).map_err(|_| Errno::EINVAL)?;
        if !place::is_allowed(at, layout.file_bytes()) || !at.is_multiple_of(PLACE_ALIGN) {
            return Err(Errno::EINVAL);
        }
        let mapping = Mapping::of_file_at(&file, at, layout.file_bytes()).map_err(|e| errno(&e))?;
        Ok(Self::plain(file, mapping, layout, false))
    }

    /// Maps a new file at an address that it can have in every process.
    fn map_somewhere(file: File, layout: Layout) -> Result<Self, Errno> {
        let len = layout.file_bytes();
        let mapping = place::somewhere(PLACE_ALIGN, |at| Mapping::of_file_at(&file, at, len))?;
        let at = mapping.base() as u64;
        let region = Self::plain(file, mapping, layout, true);
        // SAFETY: a word of the describing page, aligned, of a file that nobody else has yet.
        unsafe {
            let page = region.describing_page().cast::<u8>();
            page.add(PLACE_AT).cast::<u64>().write(at);
        }
        Ok(region)
    }

    /// A file that is mapped once, from its start.
    fn plain(file: File, mapping: Mapping, layout: Layout, fresh: bool) -> Self {
        Self {
            file,
            mapping,
            data_at: 0,
            control_at: layout.data,
            layout,
            fresh,
        }
    }

    /// The memory was made just now: nobody else has it, and it has to be set up.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Not 0 once the map was frozen, by whichever process.
    pub(crate) fn frozen(&self) -> &AtomicU32 {
        // SAFETY: a word of the describing page, aligned.
        unsafe {
            &*self
                .describing_page()
                .cast::<u8>()
                .add(FROZEN_AT)
                .cast::<AtomicU32>()
        }
    }

    /// As [`Self::map`], with room for the data inside a window that begins at a multiple of its size. A program may access any
    /// address of the window and a little beyond: all of it faults until [`Self::show`] puts data there.
    fn map_window(file: File, layout: Layout, at: usize, fresh: bool) -> std::io::Result<Self> {
        let rest = layout.file_bytes() - layout.data;
        let mut mapping = Mapping::reserve(2 * WINDOW_BYTES + 2 * GUARD_BYTES + rest)?;
        let base = mapping.base() as usize;
        let window = (base + GUARD_BYTES).next_multiple_of(WINDOW_BYTES) - base;
        let end = window + WINDOW_BYTES + GUARD_BYTES;
        mapping.overlay(end, &file, layout.data as u64, rest, Access::ReadWrite)?;
        Ok(Self {
            file,
            mapping,
            data_at: window + at,
            control_at: end,
            layout,
            fresh,
        })
    }

    fn map(file: File, layout: Layout, fresh: bool) -> Result<Self, Errno> {
        if let Some(at) = layout.window_at {
            return Self::map_window(file, layout, at, fresh).map_err(|e| errno(&e));
        }
        let rw = Access::ReadWrite;
        let inner = || -> std::io::Result<Mapping> {
            let Some(from) = layout.twice_from else {
                return Mapping::of_file(&file, 0, layout.file_bytes(), rw);
            };
            let mut all = Mapping::reserve(layout.mapped_bytes())?;
            all.overlay(0, &file, 0, layout.data, rw)?;
            all.overlay(layout.data, &file, from as u64, layout.second_bytes(), rw)?;
            let rest = layout.file_bytes() - layout.data;
            all.overlay(
                layout.data + layout.second_bytes(),
                &file,
                layout.data as u64,
                rest,
                rw,
            )?;
            Ok(all)
        };
        let mapping = inner().map_err(|e| errno(&e))?;
        Ok(Self {
            file,
            mapping,
            data_at: 0,
            control_at: layout.data + layout.second_bytes(),
            layout,
            fresh,
        })
    }

    /// Shows `len` bytes of the data of a window, from `at` on; both are whole pages.
    pub(crate) fn show(&self, at: usize, len: usize) -> std::io::Result<()> {
        self.mapping
            .show(self.data_at + at, &self.file, at as u64, len)
    }

    /// Hides them again and gives their memory back.
    pub(crate) fn hide(&self, at: usize, len: usize) {
        let _still_there = self.mapping.hide(self.data_at + at, len);
        let _still_there = mem::punch(&self.file, at as u64, len as u64);
    }

    /// Puts zeros that are not the map's at an address of the window. False if that is not possible.
    pub(crate) fn blank(&self, address: usize) -> bool {
        let at = (address - self.mapping.base() as usize) / PAGE * PAGE;
        self.mapping.blank(at, PAGE).is_ok()
    }

    /// First byte of the data.
    pub(crate) fn data(&self) -> *mut u8 {
        self.mapping.base().wrapping_add(self.data_at)
    }

    /// First byte of the control words.
    pub(crate) fn control(&self) -> *mut u8 {
        self.mapping.base().wrapping_add(self.control_at)
    }

    fn describing_page(&self) -> *mut [u8; PAGE] {
        let at = self.layout.control + self.layout.notes;
        self.control().wrapping_add(at).cast()
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}
