//! The bytes: byte order, header, sizes of type records. Source: Documentation/bpf/btf.rst, include/uapi/linux/btf.h.

use crate::error::{BtfError, BtfProblem};
use crate::types::Kind;

/// `BTF_MAGIC`
pub const MAGIC: u16 = 0xeb9f;
/// `BTF_VERSION`
pub const VERSION: u8 = 1;
/// Bytes of `struct btf_header`.
pub const HEADER_BYTES: usize = 24;
/// Bytes of `struct btf_type`.
pub const TYPE_BYTES: usize = 12;
/// Largest type id (`BTF_MAX_TYPE`).
pub const MAX_TYPE: u32 = 0x000f_ffff;
/// Largest offset of a name (`BTF_MAX_NAME_OFFSET`).
pub const MAX_NAME_OFFSET: u32 = 0x00ff_ffff;
/// Largest number of members, values, parameters (`BTF_MAX_VLEN`).
pub const MAX_VLEN: u32 = 0xffff;
/// Largest blob that `BPF_BTF_LOAD` takes (`BTF_MAX_SIZE`).
pub const MAX_SIZE: usize = 16 * 1024 * 1024;

/// Byte order of a blob.
///
/// ```
/// use skep_btf::Order;
///
/// assert_eq!(Order::Big.u32_bytes(1), [0, 0, 0, 1]);
/// assert_eq!(Order::Little.u16_at(&[1, 0], 0), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl Order {
    /// The order of the machine this runs on.
    pub const HOST: Self = if cfg!(target_endian = "big") {
        Self::Big
    } else {
        Self::Little
    };

    /// Reads 16 bits at `at`; 0 past the end.
    #[must_use]
    pub fn u16_at(self, bytes: &[u8], at: usize) -> u16 {
        let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) else {
            return 0;
        };
        match self {
            Self::Little => u16::from_le_bytes(*word),
            Self::Big => u16::from_be_bytes(*word),
        }
    }

    /// Reads 32 bits at `at`; 0 past the end.
    #[inline]
    #[must_use]
    pub fn u32_at(self, bytes: &[u8], at: usize) -> u32 {
        let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) else {
            return 0;
        };
        match self {
            Self::Little => u32::from_le_bytes(*word),
            Self::Big => u32::from_be_bytes(*word),
        }
    }

    /// Reads 64 bits at `at`; 0 past the end.
    #[must_use]
    pub fn u64_at(self, bytes: &[u8], at: usize) -> u64 {
        let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) else {
            return 0;
        };
        match self {
            Self::Little => u64::from_le_bytes(*word),
            Self::Big => u64::from_be_bytes(*word),
        }
    }

    /// The bytes of `value`.
    #[must_use]
    pub fn u64_bytes(self, value: u64) -> [u8; 8] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    /// The bytes of `value`.
    #[must_use]
    pub fn u32_bytes(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    /// The bytes of `value`.
    #[must_use]
    pub fn u16_bytes(self, value: u16) -> [u8; 2] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }
}

/// `struct btf_header`
///
/// ```
/// use skep_btf::{Btf, Builder, Order};
///
/// # let mut builder = Builder::new(Order::HOST);
/// # let int = builder.add_int("int", 4, 1);
/// # let pair = builder.add_struct("pair", 8, &[("a", int, 0), ("b", int, 32)]);
/// # let btf = Btf::parse(builder.finish())?;
/// let header = btf.header();
/// assert_eq!(header.order, Order::HOST);
/// assert_eq!(header.type_off + header.type_len, header.str_off);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "fields of struct btf_header")]
pub struct Header {
    pub order: Order,
    pub version: u8,
    pub flags: u8,
    pub hdr_len: u32,
    pub type_off: u32,
    pub type_len: u32,
    pub str_off: u32,
    pub str_len: u32,
}

impl Header {
    /// Reads the header.
    ///
    /// # Errors
    /// If `data` is shorter than a header or does not begin with the magic number in either byte order.
    pub fn read(data: &[u8]) -> Result<Self, BtfError> {
        if data.len() < HEADER_BYTES {
            return Err(BtfProblem::HeaderTruncated.into());
        }
        let order = match (Order::Little.u16_at(data, 0), Order::Big.u16_at(data, 0)) {
            (MAGIC, _) => Order::Little,
            (_, MAGIC) => Order::Big,
            (found, _) => return Err(BtfProblem::Magic { found }.into()),
        };
        Ok(Self {
            order,
            version: data[2],
            flags: data[3],
            hdr_len: order.u32_at(data, 4),
            type_off: order.u32_at(data, 8),
            type_len: order.u32_at(data, 12),
            str_off: order.u32_at(data, 16),
            str_len: order.u32_at(data, 20),
        })
    }
}

/// The second word of `struct btf_type`, taken apart.
///
/// ```
/// use skep_btf::Kind;
/// use skep_btf::raw::Info;
///
/// let info = Info::new(Kind::Struct, 2, false);
/// assert_eq!((info.vlen(), info.kind_number()), (2, Kind::Struct as u32));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info(pub u32);

impl Info {
    /// Bits that must be zero.
    pub const RESERVED: u32 = 0x60ff_0000;

    /// Number of the kind, 0 to 31.
    #[must_use]
    pub const fn kind_number(self) -> u32 {
        self.0 >> 24 & 0x1f
    }

    /// Members, values, parameters, variables.
    #[must_use]
    pub const fn vlen(self) -> u32 {
        self.0 & 0xffff
    }

    /// The `kind_flag`.
    #[must_use]
    pub const fn flag(self) -> bool {
        self.0 >> 31 != 0
    }

    /// Puts the word together.
    #[must_use]
    pub const fn new(kind: Kind, vlen: u16, flag: bool) -> Self {
        Self((flag as u32) << 31 | (kind as u32) << 24 | vlen as u32)
    }

    /// Bytes that follow `struct btf_type`; `None` for a kind that does not exist.
    #[must_use]
    pub const fn extra_bytes(self) -> Option<usize> {
        let [fixed, each] = EXTRA_BYTES[self.kind_number() as usize];
        if fixed == NO_KIND {
            return None;
        }
        Some(fixed as usize + each as usize * self.vlen() as usize)
    }
}

const NO_KIND: u8 = u8::MAX;

/// For each kind number the bytes that follow `struct btf_type`: always, and for each of `vlen`.
const EXTRA_BYTES: [[u8; 2]; 32] = {
    let mut table = [[NO_KIND, 0]; 32];
    let mut number = 0;
    while number < 32 {
        if let Some(kind) = Kind::from_number(number) {
            table[number as usize] = match kind {
                Kind::Int | Kind::Var | Kind::DeclTag => [4, 0],
                Kind::Array => [12, 0],
                Kind::Struct | Kind::Union | Kind::Datasec | Kind::Enum64 => [0, 12],
                Kind::Enum | Kind::FuncProto => [0, 8],
                _ => [0, 0],
            };
        }
        number += 1;
    }
    table
};
