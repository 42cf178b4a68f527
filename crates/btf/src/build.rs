//! Writes BTF: from nothing, or by changing what was parsed.

use crate::parsed::Btf;
use crate::raw::{HEADER_BYTES, Info, MAGIC, Order, TYPE_BYTES, VERSION};
use crate::types::Kind;
use std::collections::HashMap;

/// BTF under construction. Ids and string offsets are final as soon as they are given out.
///
/// ```
/// use skep_btf::{Btf, Builder, Order};
///
/// let mut builder = Builder::new(Order::HOST);
/// let int = builder.add_int("int", 4, 1);
/// let pair = builder.add_struct("pair", 8, &[("a", int, 0), ("b", int, 32)]);
/// let btf = Btf::parse(builder.finish())?;
/// btf.validate()?;
/// assert_eq!(btf.size_of(pair)?, 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    order: Order,
    /// Id of the first type: 1, or where the base ends.
    first_id: u32,
    /// Offset of the first string: 0, or where the base ends.
    first_str: u32,
    types: Vec<u8>,
    /// Where each type begins.
    starts: Vec<usize>,
    strings: Vec<u8>,
    known: HashMap<Vec<u8>, u32>,
}

impl Builder {
    /// No types, and the empty string.
    #[must_use]
    pub fn new(order: Order) -> Self {
        Self {
            order,
            first_id: 1,
            first_str: 0,
            types: Vec::new(),
            starts: Vec::new(),
            strings: vec![0],
            known: HashMap::new(),
        }
    }

    /// Split BTF on top of `base`, whose strings are used again.
    #[must_use]
    pub fn split(base: &Btf) -> Self {
        let mut builder = Self::new(base.order());
        builder.first_id = base.type_count();
        builder.first_str = base.str_end();
        builder.strings.clear();
        let mut offset = base.first_str();
        for text in base.strings().split_inclusive(|&b| b == 0) {
            let name = text.strip_suffix(&[0]).unwrap_or(text);
            builder.known.entry(name.to_vec()).or_insert(offset);
            offset = offset.saturating_add(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
        builder
    }

    /// Everything of `btf`, which has no base, under the same ids and offsets.
    #[must_use]
    pub fn of(btf: &Btf) -> Self {
        let mut builder = Self::new(btf.order());
        for ty in btf.own_types() {
            builder.starts.push(builder.types.len());
            builder.types.extend_from_slice(ty.record);
        }
        builder.strings = btf.strings().to_vec();
        if builder.strings.last() != Some(&0) {
            builder.strings.push(0);
        }
        builder
    }

    /// Adds a string, or finds the one that was added before; the empty string is at 0.
    pub fn add_str(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(&at) = self.known.get(text.as_bytes()) {
            return at;
        }
        // Strings beyond 4 GiB cannot be named; validation refuses BTF long before.
        let at = u32::try_from(self.strings.len()).unwrap_or(0);
        let at = self.first_str.saturating_add(at);
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        self.known.insert(text.as_bytes().to_vec(), at);
        at
    }

    /// Adds a type: `third` is its size or type id, `extra` the words that follow `struct btf_type`.
    pub fn add(&mut self, name: &str, info: Info, third: u32, extra: &[u32]) -> u32 {
        let name = self.add_str(name);
        self.starts.push(self.types.len());
        for word in [name, info.0, third].iter().chain(extra) {
            self.types.extend_from_slice(&self.order.u32_bytes(*word));
        }
        self.type_count() - 1
    }

    /// Adds an integer of `bytes` bytes with `BTF_INT_*` encoding.
    pub fn add_int(&mut self, name: &str, bytes: u32, encoding: u32) -> u32 {
        let info = Info::new(Kind::Int, 0, false);
        self.add(name, info, bytes, &[(encoding << 24) | (bytes * 8)])
    }

    /// Adds a type that refers to one other: pointer, typedef, modifier, tag, function.
    pub fn add_ref(&mut self, kind: Kind, name: &str, type_id: u32) -> u32 {
        self.add(name, Info::new(kind, 0, false), type_id, &[])
    }

    /// Adds an array.
    pub fn add_array(&mut self, element: u32, index: u32, len: u32) -> u32 {
        let info = Info::new(Kind::Array, 0, false);
        self.add("", info, 0, &[element, index, len])
    }

    /// Adds a struct of `size` bytes from (name, type id, bit offset).
    pub fn add_struct(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let mut extra = Vec::with_capacity(3 * members.len());
        for &(member, type_id, bit_offset) in members {
            extra.extend([self.add_str(member), type_id, bit_offset]);
        }
        let count = u16::try_from(members.len()).unwrap_or(u16::MAX);
        self.add(name, Info::new(Kind::Struct, count, false), size, &extra)
    }

    /// Word `word` of type `id`'s record; 0 if there is none.
    #[must_use]
    pub fn word(&self, id: u32, word: usize) -> u32 {
        self.place(id, word)
            .map_or(0, |at| self.order.u32_at(&self.types, at))
    }

    /// Changes word `word` of type `id`'s record: 0 name, 1 info, 2 size or type, then the rest. Does nothing if there is none.
    pub fn set_word(&mut self, id: u32, word: usize, value: u32) {
        if let Some(at) = self.place(id, word) {
            self.types[at..at + 4].copy_from_slice(&self.order.u32_bytes(value));
        }
    }

    fn place(&self, id: u32, word: usize) -> Option<usize> {
        let index = id.checked_sub(self.first_id)? as usize;
        let start = *self.starts.get(index)?;
        let end = self.starts.get(index + 1).copied();
        let at = start + 4 * word;
        (at + 4 <= end.unwrap_or(self.types.len())).then_some(at)
    }

    /// One more than the largest id; `void` and the base's types count.
    #[must_use]
    pub fn type_count(&self) -> u32 {
        let own = u32::try_from(self.starts.len()).unwrap_or(u32::MAX);
        self.first_id.saturating_add(own)
    }

    /// The blob.
    #[must_use]
    pub fn finish(&self) -> Vec<u8> {
        let order = self.order;
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let total = HEADER_BYTES + self.types.len() + self.strings.len();
        let mut out = Vec::with_capacity(total);
        out.extend(order.u16_bytes(MAGIC));
        out.extend([VERSION, 0]);
        let header_len = HEADER_BYTES as u32;
        let (types, strings) = (len(&self.types), len(&self.strings));
        for word in [header_len, 0, types, types, strings] {
            out.extend(order.u32_bytes(word));
        }
        out.extend_from_slice(&self.types);
        out.extend_from_slice(&self.strings);
        out
    }
}

/// Words of `struct btf_type` itself; [`Builder::set_word`] counts the rest from here.
pub const RECORD_WORDS: usize = TYPE_BYTES / 4;
