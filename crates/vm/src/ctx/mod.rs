//! Native context structures: what `r1` points to when a program starts.
//!
//! Each begins with the image of the structure that programs see (`struct xdp_md`, `struct __sk_buff`, …), byte for byte, so
//! that an access to a scalar field is the same load or store here. Pointers that programs see as 32-bit fields live
//! behind the image, 64 bits wide; [`native_pointer`] says where.

pub mod skb;
mod sock;
pub mod xdp;

pub use skb::SkbCtx;
pub use sock::SockImage;
pub use xdp::XdpCtx;

use skep_abi::ProgType;
use skep_abi::ctx::{CtxAccess, Yields};
use std::mem::offset_of;

/// Where the 64-bit form of a pointer field lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NativePointer {
    /// What to add to the offset of the field that programs see.
    pub delta: i32,
}

/// How a program type's context looks natively.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layout {
    /// [`XdpCtx`]
    Xdp,
    /// [`SkbCtx`]
    Skb,
    /// Byte for byte as programs see it.
    Same,
}

fn layout(prog_type: ProgType) -> Layout {
    match prog_type {
        ProgType::Xdp => Layout::Xdp,
        ProgType::SocketFilter
        | ProgType::SchedCls
        | ProgType::SchedAct
        | ProgType::CgroupSkb
        | ProgType::LwtIn
        | ProgType::LwtOut
        | ProgType::LwtXmit
        | ProgType::LwtSeg6local
        | ProgType::SkSkb
        | ProgType::FlowDissector => Layout::Skb,
        _ => Layout::Same,
    }
}

/// Programs of this type get a [`SkbCtx`].
#[must_use]
pub fn has_skb(prog_type: ProgType) -> bool {
    layout(prog_type) == Layout::Skb
}

/// Programs of this type may write packet data (`may_access_direct_pkt_data`).
#[must_use]
pub fn packet_is_writable(prog_type: ProgType) -> bool {
    matches!(
        prog_type,
        ProgType::SchedCls
            | ProgType::SchedAct
            | ProgType::Xdp
            | ProgType::LwtXmit
            | ProgType::SkSkb
            | ProgType::SkMsg
    )
}

/// How a store to a field that programs see as 32 bits wide ends in the kernel's structure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stored {
    /// As a 16-bit field: the rest is cut off.
    Cut,
    /// As a 16-bit field, and only if it is below this: [`NO_QUEUE_MAPPING`].
    CutBelow(u16),
}

/// `NO_QUEUE_MAPPING`: the value that stands for none, which programs cannot store.
const NO_QUEUE_MAPPING: u16 = u16::MAX;

/// How stores to a field differ from stores to the image; `None` if they do not.
#[must_use]
pub fn stored(prog_type: ProgType, field: &CtxAccess) -> Option<Stored> {
    if layout(prog_type) != Layout::Skb {
        return None;
    }
    match usize::try_from(field.offset).ok()? {
        at if at == offset_of!(SkbCtx, tc_index) || at == offset_of!(SkbCtx, tc_classid) => {
            Some(Stored::Cut)
        }
        at if at == offset_of!(SkbCtx, queue_mapping) => Some(Stored::CutBelow(NO_QUEUE_MAPPING)),
        _ => None,
    }
}

/// Where to load the pointer that a 32-bit context field stands for; `None` if the field is loaded as it is.
#[must_use]
pub fn native_pointer(prog_type: ProgType, field: &CtxAccess) -> Option<NativePointer> {
    let native = match (layout(prog_type), field.yields) {
        (Layout::Xdp, Yields::PktData) => offset_of!(XdpCtx, data),
        (Layout::Xdp, Yields::PktEnd) => offset_of!(XdpCtx, data_end),
        (Layout::Xdp, Yields::PktMeta) => offset_of!(XdpCtx, data_meta),
        (Layout::Skb, Yields::PktData) => offset_of!(SkbCtx, data),
        (Layout::Skb, Yields::PktEnd) => offset_of!(SkbCtx, data_end),
        (Layout::Skb, Yields::PktMeta) => offset_of!(SkbCtx, data_meta),
        _ => return None,
    };
    let native = i32::try_from(native).ok()?;
    Some(NativePointer {
        delta: native - i32::try_from(field.offset).ok()?,
    })
}
