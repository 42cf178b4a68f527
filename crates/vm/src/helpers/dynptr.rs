//! Dynptrs: memory whose bounds are checked at run time.

use super::{Args, Row, helpers, skb, xdp};
use skep_abi::Errno;

pub(super) const HELPERS: &[Row] = helpers! {
    197 "bpf_dynptr_from_mem" from_mem;
    201 "bpf_dynptr_read" read;
    202 "bpf_dynptr_write" write;
    203 "bpf_dynptr_data" data;
};

pub(super) const KFUNCS: &[Row] = helpers! {
    0 "bpf_dynptr_from_skb" from_skb;
    0 "bpf_dynptr_from_xdp" from_xdp;
    0 "bpf_dynptr_slice" slice;
    0 "bpf_dynptr_slice_rdwr" slice_rdwr;
    0 "bpf_dynptr_adjust" adjust;
    0 "bpf_dynptr_is_null" is_null;
    0 "bpf_dynptr_is_rdonly" is_rdonly;
    0 "bpf_dynptr_size" size;
    0 "bpf_dynptr_clone" clone;
    0 "bpf_dynptr_copy" copy;
    0 "bpf_dynptr_memset" memset;
};

/// What a dynptr points into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    /// Memory of the program.
    Local = 1,
    /// A ring buffer record.
    Ringbuf = 2,
    /// The packet of a socket buffer.
    Skb = 3,
    /// The packet of an XDP buffer.
    Xdp = 4,
}

/// A dynptr as it lies on the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub(super) struct Dynptr {
    /// Start of the memory, or the packet's context; 0 if the dynptr is null.
    pub(super) data: u64,
    /// Size, kind and [`Self::RDONLY`].
    size: u32,
    /// Bytes to skip.
    offset: u32,
}

impl Dynptr {
    /// `DYNPTR_MAX_SIZE`
    pub(super) const MAX_SIZE: u32 = (1 << 24) - 1;
    const RDONLY: u32 = 1 << 31;
    const KIND_SHIFT: u32 = 28;

    pub(super) fn new(kind: Kind, data: u64, size: u32) -> Self {
        Self {
            data,
            size: size | (kind as u32) << Self::KIND_SHIFT,
            offset: 0,
        }
    }

    fn read_only(mut self) -> Self {
        self.size |= Self::RDONLY;
        self
    }

    fn kind(self) -> Kind {
        match (self.size & !Self::RDONLY) >> Self::KIND_SHIFT {
            2 => Kind::Ringbuf,
            3 => Kind::Skb,
            4 => Kind::Xdp,
            _ => Kind::Local,
        }
    }

    fn len(self) -> u32 {
        self.size & Self::MAX_SIZE
    }

    fn set_len(&mut self, len: u32) {
        self.size = self.size & !Self::MAX_SIZE | len;
    }

    pub(super) fn is_null(self) -> bool {
        self.data == 0
    }

    fn is_rdonly(self) -> bool {
        self.size & Self::RDONLY != 0
    }

    /// The dynptr that argument `n` points to.
    pub(super) fn load(a: &Args, n: usize) -> Self {
        // SAFETY: the verifier proved an initialised dynptr.
        unsafe { (a.ptr(n) as *const Self).read_unaligned() }
    }

    /// Writes the dynptr that argument `n` points to.
    pub(super) fn store(a: &Args, n: usize, dynptr: Self) {
        // SAFETY: the verifier proved stack memory for a dynptr.
        unsafe { a.ptr(n).cast::<Self>().write_unaligned(dynptr) }
    }

    /// `bpf_dynptr_check_off_len`
    fn check(self, offset: u32, len: u32) -> Result<(), Errno> {
        if len > self.len() || offset > self.len() - len {
            Err(Errno::E2BIG)
        } else {
            Ok(())
        }
    }

    /// Address of byte `offset` of plain memory.
    fn address(self, offset: u32) -> *mut u8 {
        (self.data + u64::from(self.offset) + u64::from(offset)) as *mut u8
    }

    /// Copies `to.len()` bytes from `offset`.
    fn read_at(self, a: &Args, offset: u32, to: &mut [u8]) -> Result<(), Errno> {
        let offset_in_packet = (self.offset + offset) as usize;
        match self.kind() {
            Kind::Local | Kind::Ringbuf => {
                // SAFETY: the range was checked; the memory lives as long as the dynptr (proven by the verifier).
                unsafe { std::ptr::copy(self.address(offset), to.as_mut_ptr(), to.len()) };
                Ok(())
            }
            Kind::Skb => skb::read(a.skb_at(self.data), offset_in_packet, to),
            Kind::Xdp => xdp::read(a.xdp_at(self.data), offset_in_packet, to),
        }
    }

    /// Copies `from` to `offset`.
    fn write_at(self, a: &Args, offset: u32, from: &[u8], flags: u64) -> Result<(), Errno> {
        let offset_in_packet = (self.offset + offset) as usize;
        match self.kind() {
            Kind::Skb => skb::store(a.skb_at(self.data), offset_in_packet, from, flags),
            _ if flags != 0 => Err(Errno::EINVAL),
            Kind::Xdp => xdp::write(a.xdp_at(self.data), offset_in_packet, from),
            Kind::Local | Kind::Ringbuf => {
                // SAFETY: as in `read_at`.
                unsafe { std::ptr::copy(from.as_ptr(), self.address(offset), from.len()) };
                Ok(())
            }
        }
    }

    /// Address of `len` bytes at `offset` if they lie in one piece.
    fn direct(self, a: &Args, offset: u32, len: u32) -> Option<*mut u8> {
        let offset_in_packet = (self.offset + offset) as usize;
        match self.kind() {
            Kind::Local | Kind::Ringbuf => Some(self.address(offset)),
            Kind::Skb => a
                .skb_at(self.data)
                .bytes_at(offset_in_packet, len as usize)
                .map(<[u8]>::as_mut_ptr),
            Kind::Xdp => xdp::direct(a.xdp_at(self.data), offset_in_packet, len as usize),
        }
    }
}

fn from_mem(a: &Args) -> Result<i64, Errno> {
    let made = if a.get32(2) > Dynptr::MAX_SIZE {
        Err(Errno::E2BIG)
    } else if a.get(3) != 0 {
        Err(Errno::EINVAL)
    } else {
        Ok(Dynptr::new(Kind::Local, a.get(1), a.get32(2)))
    };
    Dynptr::store(a, 4, made.unwrap_or_default());
    made.map(|_| 0)
}

/// `dst`, `len`, dynptr, `offset`, flags
fn read(a: &Args) -> Result<i64, Errno> {
    let dynptr = Dynptr::load(a, 3);
    if dynptr.is_null() || a.get(5) != 0 {
        return Err(Errno::EINVAL);
    }
    let len = a.get32(2);
    dynptr.check(a.get32(4), len)?;
    let mut bytes = vec![0; len as usize];
    dynptr.read_at(a, a.get32(4), &mut bytes)?;
    a.write(1, &bytes);
    Ok(0)
}

/// dynptr, `offset`, `src`, `len`, flags
fn write(a: &Args) -> Result<i64, Errno> {
    let dynptr = Dynptr::load(a, 1);
    if dynptr.is_null() || dynptr.is_rdonly() {
        return Err(Errno::EINVAL);
    }
    let len = a.get32(4);
    dynptr.check(a.get32(2), len)?;
    dynptr.write_at(a, a.get32(2), a.bytes(3, len as usize), a.get(5))?;
    Ok(0)
}

/// dynptr, `offset`, `len`: direct access, which packets do not give
fn data(a: &Args) -> *mut u8 {
    let dynptr = Dynptr::load(a, 1);
    let fits = dynptr.check(a.get32(2), a.get32(3)).is_ok();
    if dynptr.is_null() || dynptr.is_rdonly() || !fits {
        return std::ptr::null_mut();
    }
    match dynptr.kind() {
        Kind::Local | Kind::Ringbuf => dynptr.address(a.get32(2)),
        Kind::Skb | Kind::Xdp => std::ptr::null_mut(),
    }
}

fn from_skb(a: &Args) -> Result<i64, Errno> {
    if a.get(2) != 0 {
        Dynptr::store(a, 3, Dynptr::default());
        return Err(Errno::EINVAL);
    }
    let dynptr = Dynptr::new(Kind::Skb, a.get(1), a.skb(1).len);
    let writable = crate::ctx::packet_is_writable(a.prog_type());
    let dynptr = if writable { dynptr } else { dynptr.read_only() };
    Dynptr::store(a, 3, dynptr);
    Ok(0)
}

fn from_xdp(a: &Args) -> Result<i64, Errno> {
    if a.get(2) != 0 {
        Dynptr::store(a, 3, Dynptr::default());
        return Err(Errno::EINVAL);
    }
    let len = u32::try_from(a.xdp(1).len()).map_err(|_| Errno::EINVAL)?;
    Dynptr::store(a, 3, Dynptr::new(Kind::Xdp, a.get(1), len));
    Ok(0)
}

/// dynptr, `offset`, buffer or NULL, its size: direct access, or a copy in the buffer
fn slice(a: &Args) -> *mut u8 {
    let dynptr = Dynptr::load(a, 1);
    let (offset, len) = (a.get32(2), a.get32(4));
    if dynptr.is_null() || dynptr.check(offset, len).is_err() {
        return std::ptr::null_mut();
    }
    if let Some(direct) = dynptr.direct(a, offset, len) {
        return direct;
    }
    let mut copy = vec![0; len as usize];
    if a.get(3) == 0 || dynptr.read_at(a, offset, &mut copy).is_err() {
        return std::ptr::null_mut();
    }
    a.write(3, &copy);
    a.ptr(3)
}

fn slice_rdwr(a: &Args) -> *mut u8 {
    if Dynptr::load(a, 1).is_rdonly() {
        return std::ptr::null_mut();
    }
    slice(a)
}

/// dynptr, `start`, `end`
fn adjust(a: &Args) -> Result<i64, Errno> {
    let mut dynptr = Dynptr::load(a, 1);
    let (start, end) = (a.get32(2), a.get32(3));
    if dynptr.is_null() || start > end {
        return Err(Errno::EINVAL);
    }
    if start > dynptr.len() || end > dynptr.len() {
        return Err(Errno::ERANGE);
    }
    dynptr.offset += start;
    dynptr.set_len(end - start);
    Dynptr::store(a, 1, dynptr);
    Ok(0)
}

fn is_null(a: &Args) -> u64 {
    u64::from(Dynptr::load(a, 1).is_null())
}

fn is_rdonly(a: &Args) -> u64 {
    let dynptr = Dynptr::load(a, 1);
    u64::from(!dynptr.is_null() && dynptr.is_rdonly())
}

fn size(a: &Args) -> Result<u64, Errno> {
    let dynptr = Dynptr::load(a, 1);
    if dynptr.is_null() {
        return Err(Errno::EINVAL);
    }
    Ok(u64::from(dynptr.len()))
}

fn clone(a: &Args) -> Result<i64, Errno> {
    let dynptr = Dynptr::load(a, 1);
    Dynptr::store(a, 2, dynptr);
    if dynptr.is_null() {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}

/// destination, its offset, source, its offset, size
fn copy(a: &Args) -> Result<i64, Errno> {
    let (to, from) = (Dynptr::load(a, 1), Dynptr::load(a, 3));
    let (to_at, from_at, len) = (a.get32(2), a.get32(4), a.get32(5));
    let is_piece = |dynptr: Dynptr, at| {
        !dynptr.is_null() && dynptr.check(at, len).is_ok() && dynptr.direct(a, at, len).is_some()
    };
    // The kernel looks at the range first if neither lies in one piece.
    let to_is_piece = !to.is_rdonly() && is_piece(to, to_at);
    if !to_is_piece && !is_piece(from, from_at) {
        to.check(to_at, len)?;
        from.check(from_at, len)?;
        if len == 0 {
            return Ok(0);
        }
    }
    if to.is_null() || from.is_null() || to.is_rdonly() {
        return Err(Errno::EINVAL);
    }
    to.check(to_at, len)?;
    from.check(from_at, len)?;
    let mut bytes = vec![0; len as usize];
    from.read_at(a, from_at, &mut bytes)?;
    to.write_at(a, to_at, &bytes, 0)?;
    Ok(0)
}

/// dynptr, `offset`, size, byte
fn memset(a: &Args) -> Result<i64, Errno> {
    let dynptr = Dynptr::load(a, 1);
    if dynptr.is_rdonly() {
        return Err(Errno::EINVAL);
    }
    let len = a.get32(3);
    // One of nothing has no bytes.
    dynptr.check(a.get32(2), len)?;
    if dynptr.is_null() {
        return Ok(0);
    }
    dynptr.write_at(a, a.get32(2), &vec![a.get(4) as u8; len as usize], 0)?;
    Ok(0)
}
