//! The context of XDP programs.

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
}
