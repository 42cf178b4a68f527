//! Sockets as programs see them.

/// Native `struct bpf_sock`: what `sk` pointers of packet programs point to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "fields of struct bpf_sock")]
pub struct SockImage {
    pub bound_dev_if: u32,
    pub family: u32,
    pub sock_type: u32,
    pub protocol: u32,
    pub mark: u32,
    pub priority: u32,
    pub src_ip4: u32,
    pub src_ip6: [u32; 4],
    pub src_port: u32,
    pub dst_port: u16,
    pub padding: u16,
    pub dst_ip4: u32,
    pub dst_ip6: [u32; 4],
    pub state: u32,
    pub rx_queue_mapping: i32,
    /// `bpf_get_socket_cookie`: unique while the program lives.
    pub cookie: u64,
}
