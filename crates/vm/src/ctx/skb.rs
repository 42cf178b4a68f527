//! The context of programs that see a socket buffer.

/// Native `struct __sk_buff`.
#[repr(C)]
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the image's fields are those of struct __sk_buff"
)]
pub struct SkbCtx {
    pub len: u32,
    pub pkt_type: u32,
    pub mark: u32,
    pub queue_mapping: u32,
    pub protocol: u32,
    pub vlan_present: u32,
    pub vlan_tci: u32,
    pub vlan_proto: u32,
    pub priority: u32,
    pub ingress_ifindex: u32,
    pub ifindex: u32,
    pub tc_index: u32,
    pub cb: [u32; 5],
    pub hash: u32,
    pub tc_classid: u32,
    /// The 32-bit `data` and `data_end` of the image, never read.
    pub image_pointers: [u32; 2],
    pub napi_id: u32,
    pub family: u32,
    pub remote_ip4: u32,
    pub local_ip4: u32,
    pub remote_ip6: [u32; 4],
    pub local_ip6: [u32; 4],
    pub remote_port: u32,
    pub local_port: u32,
    /// The 32-bit `data_meta` of the image, never read.
    pub image_data_meta: u32,
    pub flow_keys: *mut u8,
    pub tstamp: u64,
    pub wire_len: u32,
    pub gso_segs: u32,
    pub sk: *mut u8,
    pub gso_size: u32,
    pub tstamp_type: u8,
    pub image_padding: [u8; 3],
    pub hwtstamp: u64,
    /// First byte that programs see.
    pub data: *mut u8,
    /// Byte after the linear part.
    pub data_end: *mut u8,
    /// First byte of the metadata, which ends at `data`.
    pub data_meta: *mut u8,
}
