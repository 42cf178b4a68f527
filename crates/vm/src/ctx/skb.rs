//! The context of programs that see a socket buffer, and the buffer behind it.
//!
//! The kernel reallocates when a packet outgrows its buffer. Here a buffer is made so large that every packet fits; one that
//! reaches an end of it is moved inside ([`SkbCtx::reserve`]): pointers change, memory stays.

use super::sock::SockImage;
use skep_abi::Errno;

/// Room before the packet: what `bpf_skb_change_head` and `bpf_skb_adjust_room` can take.
const HEAD_BYTES: usize = 20 * 1024;
/// `SKB_MAX_ALLOC`: bytes a packet can grow to.
pub const MAX_LEN: usize = 16 * 1024 - 320;
/// Bytes of a buffer.
const BUFFER_BYTES: usize = HEAD_BYTES + 4 * MAX_LEN;
/// Bytes of `struct bpf_tunnel_key`.
pub const TUNNEL_KEY_BYTES: usize = 44;
/// Bytes of an Ethernet header.
pub const ETH_HLEN: usize = 14;
/// Bytes of the image: `struct __sk_buff`.
pub const IMAGE_BYTES: usize = std::mem::offset_of!(SkbCtx, data);

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
    pub sk: *mut SockImage,
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
    /// First byte of the buffer.
    pub head: *mut u8,
    /// Byte after the buffer.
    pub end: *mut u8,
    /// The link-layer header.
    pub mac: *mut u8,
    /// The network header.
    pub network: *mut u8,
    /// What the kernel's buffer would be like.
    pub kernel: KernelBuffer,
    /// `ip_summed` is `CHECKSUM_COMPLETE`, and this the sum; else unused.
    pub csum: u32,
    /// `CHECKSUM_*`
    pub ip_summed: u8,
    /// Checksums after the first that were verified.
    pub csum_level: u8,
    /// The hash was set by a program.
    pub sw_hash: bool,
    /// Hardware made the VLAN tag (it is not in the packet).
    pub vlan_proto_set: bool,
    /// The tunnel metadata that a program set, as `struct bpf_tunnel_key`, and its `BPF_F_TUNINFO_IPV6`.
    pub tunnel: Option<([u8; TUNNEL_KEY_BYTES], bool)>,
}

/// The kernel's buffer as far as results of helpers depend on it: where it is reallocated, and what that does to the
/// transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct KernelBuffer {
    /// Bytes before the packet.
    headroom: u32,
    /// Offset of the transport header from the start of the buffer, [`NO_HEADER`] if there is none.
    transport: u16,
    /// Bytes of the link-layer header as far as the kernel noted them: 0 until a helper does.
    pub mac_len: u16,
    /// The packet is inside of another one that a program put around it.
    pub encapsulated: bool,
}

/// `skb_transport_header_was_set` is false.
const NO_HEADER: u16 = u16::MAX;
/// `NET_SKB_PAD`: room before the frame in test runs; buffers grow by multiples of it.
const PAD_BYTES: u32 = 64;

impl KernelBuffer {
    /// The buffer of a test run's frame, whose first `hidden` bytes the program does not see.
    fn new(hidden: usize) -> Self {
        Self {
            headroom: PAD_BYTES + hidden as u32,
            transport: NO_HEADER,
            mac_len: 0,
            encapsulated: false,
        }
    }

    /// Room for `len` bytes in front; a header that was never set moves as well, and then looks as if it had been.
    pub fn make_room(&mut self, len: u32) {
        if len > self.headroom {
            let more = (len - self.headroom).next_multiple_of(PAD_BYTES);
            self.headroom += more;
            self.transport = self.transport.wrapping_add(more as u16);
        }
    }

    /// The start of the packet moved by `delta` bytes (negative: the packet grows).
    fn moved(&mut self, delta: isize) {
        let len = u32::try_from(delta.unsigned_abs()).unwrap_or(u32::MAX);
        if delta < 0 {
            self.make_room(len);
            self.headroom -= len;
        } else {
            self.headroom = self.headroom.saturating_add(len);
        }
    }

    /// Bytes from the start of the packet to the transport header, if that is set.
    #[must_use]
    pub fn transport_offset(&self) -> Option<i64> {
        (self.transport != NO_HEADER).then(|| i64::from(self.transport) - i64::from(self.headroom))
    }

    /// Puts the transport header so many bytes behind the start of the packet.
    pub fn set_transport(&mut self, offset: u32) {
        self.transport = self.headroom.wrapping_add(offset) as u16;
    }
}

impl SkbCtx {
    /// Sees to it that there are `front` bytes before and `back` bytes behind the packet.
    ///
    /// # Errors
    /// `ENOMEM` if that is more than the buffer has.
    pub fn reserve(&mut self, front: usize, back: usize) -> Result<(), Errno> {
        let (first, last) = (self.head as usize, self.end as usize);
        let low = match self.mac as usize {
            mac if mac >= first => mac.min(self.data as usize),
            _ => self.data as usize,
        };
        let end = self.data_end as usize;
        if low - first >= front && last - end >= back {
            return Ok(());
        }
        let len = end - low;
        let needed = front.checked_add(len).and_then(|n| n.checked_add(back));
        let spare = needed.and_then(|n| (last - first).checked_sub(n));
        let at = front + spare.ok_or(Errno::ENOMEM)? / 2;
        // SAFETY: both ranges lie within the buffer: `at` and what follows was just compared with its size.
        unsafe { self.head.add(at).copy_from(self.head.add(low - first), len) };
        let distance = at.wrapping_sub(low - first).cast_signed();
        for pointer in [
            &mut self.data,
            &mut self.data_end,
            &mut self.data_meta,
            &mut self.mac,
            &mut self.network,
        ] {
            *pointer = pointer.wrapping_offset(distance);
        }
        Ok(())
    }

    /// Moves the start of the packet by `delta` bytes (negative: the packet grows, into room that [`Self::reserve`] made).
    pub fn move_start(&mut self, delta: isize) {
        self.kernel.moved(delta);
        self.data = self.data.wrapping_offset(delta);
        self.data_meta = self.data;
        self.len = (self.data_end as usize - self.data as usize) as u32;
    }

    /// Moves the end of the packet to `len` bytes after its start, as far as [`Self::reserve`] made room.
    pub fn set_len(&mut self, len: usize) {
        self.data_end = self.data.wrapping_add(len);
        self.len = len as u32;
    }

    /// Bytes before the packet.
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.data as usize - self.head as usize
    }

    /// The packet.
    pub fn packet(&mut self) -> &mut [u8] {
        let len = self.data_end as usize - self.data as usize;
        // SAFETY: `data` to `data_end` lies within the buffer, which outlives the context.
        unsafe { std::slice::from_raw_parts_mut(self.data, len) }
    }

    /// Bytes from the start of the packet to the network header (negative if it is before).
    #[must_use]
    pub fn network_offset(&self) -> isize {
        (self.network as isize).wrapping_sub(self.data as isize)
    }

    /// The bytes of the packet from `offset` on, if there are `len`.
    pub fn bytes_at(&mut self, offset: usize, len: usize) -> Option<&mut [u8]> {
        self.packet().get_mut(offset..offset.checked_add(len)?)
    }
}

/// Which part of the frame a program sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// From the Ethernet header on.
    Link,
    /// From the network header on.
    Network,
}

/// A packet and the context that programs get for it.
#[derive(Debug)]
pub struct SkbBuffer {
    buffer: Box<[u8]>,
    ctx: Box<SkbCtx>,
    sock: Box<SockImage>,
}

impl SkbBuffer {
    /// A packet as a test run makes it from an Ethernet frame of at least [`ETH_HLEN`] bytes and at most [`MAX_LEN`].
    #[must_use]
    pub fn new(frame: &[u8], view: View) -> Self {
        let mut buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        let len = frame.len().min(MAX_LEN);
        buffer[HEAD_BYTES..HEAD_BYTES + len].copy_from_slice(&frame[..len]);
        let head = buffer.as_mut_ptr();
        let mac = head.wrapping_add(HEAD_BYTES);
        let network = mac.wrapping_add(ETH_HLEN);
        let data = match view {
            View::Link => mac,
            View::Network => network,
        };
        let data_end = mac.wrapping_add(len);
        let mut sock = Box::new(test_socket(&frame[..len]));
        // SAFETY: every field of the context is an integer, a raw pointer or an `Option`; zero is valid for the first two,
        // and the option is written before anybody reads it.
        let mut ctx: Box<SkbCtx> = Box::new(unsafe {
            let mut zeroed = std::mem::MaybeUninit::<SkbCtx>::zeroed();
            (&raw mut (*zeroed.as_mut_ptr()).tunnel).write(None);
            zeroed.assume_init()
        });
        ctx.data = data;
        ctx.data_end = data_end;
        ctx.data_meta = data;
        ctx.len = (data_end as usize - data as usize) as u32;
        ctx.head = head;
        ctx.end = head.wrapping_add(BUFFER_BYTES);
        ctx.mac = mac;
        ctx.network = network;
        ctx.kernel = KernelBuffer::new(data as usize - mac as usize);
        ctx.pkt_type = packet_type(frame, &Device::default());
        ctx.protocol = u32::from(protocol(frame).to_be());
        ctx.ifindex = 1;
        ctx.family = sock.family;
        ctx.remote_ip4 = sock.dst_ip4;
        ctx.local_ip4 = sock.src_ip4;
        ctx.remote_ip6 = sock.dst_ip6;
        ctx.local_ip6 = sock.src_ip6;
        ctx.sk = &raw mut *sock;
        Self { buffer, ctx, sock }
    }

    /// What `r1` of the program is to be.
    pub fn ctx(&mut self) -> &mut SkbCtx {
        &mut self.ctx
    }

    /// The socket that the packet belongs to.
    #[must_use]
    pub fn sock(&self) -> &SockImage {
        &self.sock
    }

    /// What a test run gives out: the packet, with zeros in place of the Ethernet header if the program did not see it.
    #[must_use]
    pub fn output(&self, view: View) -> Vec<u8> {
        let mut out = match view {
            View::Link => Vec::new(),
            View::Network => vec![0; ETH_HLEN],
        };
        let from = self.ctx.data as usize - self.buffer.as_ptr() as usize;
        out.extend_from_slice(&self.buffer[from..from + self.ctx.len as usize]);
        out
    }
}

/// Addresses of the device that a packet seems to come from: its own, and the one that means all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Device {
    /// Its own address.
    pub address: [u8; 6],
    /// The address that means all; zeros of the loopback device.
    pub broadcast: [u8; 6],
}

/// `eth_type_trans`
#[must_use]
pub fn packet_type(frame: &[u8], device: &Device) -> u32 {
    const PACKET_HOST: u32 = 0;
    const PACKET_BROADCAST: u32 = 1;
    const PACKET_MULTICAST: u32 = 2;
    const PACKET_OTHERHOST: u32 = 3;
    match &frame[..6] {
        to if to == device.address => PACKET_HOST,
        to if to[0] & 1 == 0 => PACKET_OTHERHOST,
        to if to == device.broadcast => PACKET_BROADCAST,
        _ => PACKET_MULTICAST,
    }
}

/// The protocol that `eth_type_trans` finds.
#[must_use]
pub fn protocol(frame: &[u8]) -> u16 {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let follows = if frame.len() >= 16 { word(14) } else { 0 };
    ethertype(word(12), follows)
}

/// The protocol that a type or length field and the two bytes behind it mean.
#[must_use]
pub fn ethertype(field: u16, follows: u16) -> u16 {
    const ETH_P_802_3_MIN: u16 = 0x0600;
    const ETH_P_802_3: u16 = 0x0001;
    const ETH_P_802_2: u16 = 0x0004;
    match field {
        ethertype if ethertype >= ETH_P_802_3_MIN => ethertype,
        _ if follows == 0xffff => ETH_P_802_3,
        _ => ETH_P_802_2,
    }
}

/// The socket of a test run: closed, unconnected, with the packet's addresses.
fn test_socket(frame: &[u8]) -> SockImage {
    const TCP_CLOSE: u32 = 7;
    const AF_INET: u32 = 2;
    const AF_INET6: u32 = 10;
    let mut sock = SockImage {
        state: TCP_CLOSE,
        rx_queue_mapping: -1,
        cookie: 1,
        ..SockImage::default()
    };
    let ip = &frame[ETH_HLEN..];
    let word = |at: usize| u32::from_ne_bytes([ip[at], ip[at + 1], ip[at + 2], ip[at + 3]]);
    match protocol(frame) {
        0x0800 => {
            sock.family = AF_INET;
            if ip.len() >= 20 {
                sock.src_ip4 = word(12);
                sock.dst_ip4 = word(16);
            }
        }
        0x86dd => {
            sock.family = AF_INET6;
            if ip.len() >= 40 {
                for i in 0..4 {
                    sock.src_ip6[i] = word(8 + 4 * i);
                    sock.dst_ip6[i] = word(24 + 4 * i);
                }
            }
        }
        _ => {}
    }
    sock
}
