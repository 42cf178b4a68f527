//! The type of event records: ring and perf buffers carry bytes, the program's BTF knows their structure.
//!
//! Which structure is not written anywhere, so it is found in this order:
//! 1. a declaration tag `event:NAME` on the map's variable;
//! 2. a structure named after the map (`opens` → `opens`, `open`, `open_event`, `open_t`) or named `event`, of the record's size;
//! 3. the only named structure of the record's size.
//!
//! A perf sample may be up to 7 bytes longer than its structure.

use crate::value::{self, Value};
use skep_btf::{Btf, Kind, Type};

/// The tag's beginning.
const TAG: &str = "event:";

/// Finds types of records of one map.
#[derive(Debug)]
pub struct Decoder<'a> {
    btf: &'a Btf,
    map: &'a str,
    /// What was found for the last size.
    last: Option<(usize, Option<u32>)>,
}

impl<'a> Decoder<'a> {
    /// A decoder for records of `map`, declared in a program with this BTF.
    #[must_use]
    pub fn new(btf: &'a Btf, map: &'a str) -> Self {
        Self {
            btf,
            map,
            last: None,
        }
    }

    /// Decodes a record; bytes without a known type stay bytes.
    pub fn decode(&mut self, record: &[u8]) -> Value {
        match self.type_of(record.len()) {
            Some(id) => value::decode(self.btf, id, record),
            None => Value::Bytes(record.to_vec()),
        }
    }

    fn type_of(&mut self, size: usize) -> Option<u32> {
        if let Some((known, found)) = self.last
            && known == size
        {
            return found;
        }
        let found = self
            .tagged()
            .or_else(|| self.named(size))
            .or_else(|| self.only(size));
        self.last = Some((size, found));
        found
    }

    /// Structures with a name.
    fn structures(&self) -> impl Iterator<Item = Type<'a>> {
        self.btf
            .types()
            .filter(|t| t.kind() == Kind::Struct && !t.name().is_empty())
    }

    fn tagged(&self) -> Option<u32> {
        let variable = self.btf.find(self.map, Kind::Var)?;
        let tags = self.btf.decl_tags(variable.id());
        let name = tags
            .filter_map(|(_, text)| text.strip_prefix(TAG))
            .next()?
            .to_owned();
        self.structures().find(|t| t.name() == name).map(|t| t.id())
    }

    fn named(&self, size: usize) -> Option<u32> {
        let singular = self.map.strip_suffix('s').unwrap_or(self.map);
        let names = [
            self.map.to_owned(),
            singular.to_owned(),
            format!("{singular}_event"),
            format!("{singular}_t"),
            "event".to_owned(),
        ];
        let fits = |t: &Type<'_>| t.size().is_some_and(|s| padded(s as usize, size));
        names
            .iter()
            .find_map(|name| self.structures().find(|t| t.name() == name && fits(t)))
            .map(|t| t.id())
    }

    fn only(&self, size: usize) -> Option<u32> {
        let fits = |t: &Type<'_>| t.size().is_some_and(|s| padded(s as usize, size));
        let mut fitting = self.structures().filter(fits);
        let first = fitting.next()?;
        fitting.next().is_none().then(|| first.id())
    }
}

/// A record of `size` bytes can hold a structure: exactly, or with the padding of perf samples.
fn padded(structure: usize, size: usize) -> bool {
    size == structure || (size > structure && size - structure < 8)
}
