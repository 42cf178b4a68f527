//! The context of XDP programs, and the buffer behind it.
//!
//! A buffer is one page as the kernel's page pool hands out: 256 bytes of headroom, the packet, 320 bytes of tailroom that
//! belong to the kernel. Longer packets continue in fragments of a page each.

/// Bytes of a buffer.
pub const FRAME_BYTES: usize = 4096;
/// `XDP_PACKET_HEADROOM`
pub const HEADROOM: usize = 256;
/// Bytes at the start of the headroom that stay reserved (`struct xdp_frame`).
pub const FRAME_HEADER_BYTES: usize = 40;
/// Bytes at the end that hold the fragment list (`struct skb_shared_info`).
pub const TAILROOM: usize = 320;
/// Bytes that the linear part can have.
pub const MAX_LINEAR: usize = FRAME_BYTES - HEADROOM - TAILROOM;
/// `MAX_SKB_FRAGS`
pub const MAX_FRAGS: usize = 17;

/// Native `struct xdp_md`.
#[repr(C)]
#[derive(Debug)]
pub struct XdpCtx {
    /// The 32-bit `data`, `data_end` and `data_meta` of the image, never read.
    pub image_pointers: [u32; 3],
    /// `ingress_ifindex`
    pub ingress_ifindex: u32,
    /// `rx_queue_index`
    pub rx_queue_index: u32,
    /// `egress_ifindex`
    pub egress_ifindex: u32,
    /// First byte of the packet.
    pub data: *mut u8,
    /// Byte after the linear part of the packet.
    pub data_end: *mut u8,
    /// First byte of the metadata, which ends at `data`.
    pub data_meta: *mut u8,
    /// First byte of the buffer.
    pub hard_start: *mut u8,
    /// Bytes of the buffer from `hard_start` on that the packet may use.
    pub frame_bytes: u32,
    /// Bytes in fragments.
    pub frags_bytes: u32,
    /// The fragments.
    pub frags: *mut Vec<Vec<u8>>,
}

impl XdpCtx {
    /// Bytes of the linear part.
    #[must_use]
    pub fn linear_len(&self) -> usize {
        self.data_end as usize - self.data as usize
    }

    /// Bytes of the whole packet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.linear_len() + self.frags_bytes as usize
    }

    /// True if the packet has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Address after the last byte that the linear part may take.
    #[must_use]
    pub fn hard_end(&self) -> usize {
        self.hard_start as usize + self.frame_bytes as usize
    }

    /// The fragments.
    pub fn frags(&mut self) -> &mut Vec<Vec<u8>> {
        // SAFETY: `frags` points into the buffer that made this context and outlives it; nobody else holds a reference.
        unsafe { &mut *self.frags }
    }

    /// The pieces of the packet in order.
    #[must_use]
    pub fn pieces(&mut self) -> Vec<&mut [u8]> {
        let (data, len) = (self.data, self.linear_len());
        // SAFETY: `data` to `data_end` is the linear part, within the buffer.
        let linear = unsafe { std::slice::from_raw_parts_mut(data, len) };
        let mut pieces = vec![linear];
        // SAFETY: as in `frags`; the linear part and the fragments are different memory.
        let frags = unsafe { &mut *self.frags };
        pieces.extend(frags.iter_mut().map(Vec::as_mut_slice));
        pieces
    }
}

/// An XDP packet and the context that programs get for it.
#[derive(Debug)]
pub struct XdpBuffer {
    page: Box<[u8; FRAME_BYTES]>,
    #[expect(clippy::box_collection, reason = "the context points to the vector")]
    frags: Box<Vec<Vec<u8>>>,
    ctx: Box<XdpCtx>,
}

impl XdpBuffer {
    /// A packet whose first `meta` bytes are metadata; `linear` bytes of the rest are in the first buffer, at most
    /// [`MAX_LINEAR`]. `None` if it needs more than [`MAX_FRAGS`] fragments.
    #[must_use]
    pub fn new(bytes: &[u8], meta: usize, linear: usize) -> Option<Self> {
        let mut page = Box::new([0; FRAME_BYTES]);
        let start = HEADROOM - meta;
        let (first, rest) = bytes.split_at((meta + linear).min(bytes.len()));
        page[start..start + first.len()].copy_from_slice(first);
        let mut frags: Box<Vec<Vec<u8>>> =
            Box::new(rest.chunks(FRAME_BYTES).map(<[u8]>::to_vec).collect());
        if frags.len() > MAX_FRAGS {
            return None;
        }
        let base = page.as_mut_ptr();
        let data = base.wrapping_add(HEADROOM);
        let ctx = Box::new(XdpCtx {
            image_pointers: [0; 3],
            ingress_ifindex: 1,
            rx_queue_index: 0,
            egress_ifindex: 0,
            data,
            data_end: base.wrapping_add(start + first.len()),
            data_meta: base.wrapping_add(start),
            hard_start: base,
            frame_bytes: (FRAME_BYTES - TAILROOM) as u32,
            frags_bytes: u32::try_from(rest.len()).unwrap_or(u32::MAX),
            frags: &raw mut *frags,
        });
        Some(Self { page, frags, ctx })
    }

    /// What `r1` of the program is to be.
    pub fn ctx(&mut self) -> &mut XdpCtx {
        &mut self.ctx
    }

    /// Bytes of metadata in front of the packet.
    #[must_use]
    pub fn meta_len(&self) -> usize {
        (self.ctx.data as usize).saturating_sub(self.ctx.data_meta as usize)
    }

    /// Metadata and packet as they are now.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let base = self.page.as_ptr() as usize;
        let data = self.ctx.data as usize;
        let from = (self.ctx.data_meta as usize).min(data) - base;
        let mut out = self.page[from..self.ctx.data_end as usize - base].to_vec();
        for frag in self.frags.iter() {
            out.extend_from_slice(frag);
        }
        out
    }
}
