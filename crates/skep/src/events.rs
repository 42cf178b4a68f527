//! The type of event records: ring and perf buffers carry bytes, the program's BTF knows their structure.
//!
//! Which structure is not written anywhere, so it is found in this order:
//! 1. a declaration tag `event:NAME` on the map's variable;
//! 2. a structure of the record's size that is named after the map or the end of its name (`new_opens` → `opens`, `open`,
//!    `open_event`, `open_t`), or `event`;
//! 3. the only named structure of the record's size that is no key or value of a map.
//!
//! A perf sample may be up to 7 bytes longer than its structure.

use crate::value::{self, Value};
use skep_abi::MapType;
use skep_btf::{Btf, Kind, Type};
use skep_object::MapSpec;

/// The tag's beginning.
const TAG: &str = "event:";
/// Bytes that a perf sample may have behind its record.
const PERF_PADDING_MAX: usize = 7;

/// Finds types of records of one map.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../tests/objects/emit.bpf.o")?, "emit.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::events::Decoder;
/// use skep_bpf::Event;
///
/// let map = loaded.map("records").ok_or("no such map")?;
/// let mut reader = backend.events_open(map.handle)?;
/// let run = skep_bpf::TestRun { data_in: Some(vec![0; 64]), ..Default::default() };
/// backend.prog_test_run(loaded.programs[0].handle, &run)?;
/// let btf = loaded.btf.as_ref().ok_or("no BTF")?;
/// let mut decoder = Decoder::new(btf, &map.spec, loaded.maps.iter().map(|m| &m.spec));
/// reader.drain(&mut |event| {
///     if let Event::Record(bytes) = event {
///         println!("{:?}", decoder.decode(bytes)); // the C structure's fields
///     }
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Decoder<'a> {
    btf: &'a Btf,
    map: &'a MapSpec,
    /// Structures that are keys and values of maps.
    elements: Vec<u32>,
    /// What was found for the last size.
    last: Option<(usize, Option<u32>)>,
}

impl<'a> Decoder<'a> {
    /// A decoder for records of `map`, one of the `maps` of an object with this BTF.
    pub fn new<'m>(
        btf: &'a Btf,
        map: &'a MapSpec,
        maps: impl IntoIterator<Item = &'m MapSpec>,
    ) -> Self {
        let types = maps
            .into_iter()
            .flat_map(|m| [m.key_type_id, m.value_type_id]);
        let elements = types.filter_map(|id| Some(btf.get(id)?.resolve().id()));
        Self {
            btf,
            map,
            elements: elements.collect(),
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
        let variable = self.btf.find(&self.map.name, Kind::Var)?;
        let tags = self.btf.decl_tags(variable.id());
        let name = tags
            .filter_map(|(_, text)| text.strip_prefix(TAG))
            .next()?
            .to_owned();
        self.structures().find(|t| t.name() == name).map(|t| t.id())
    }

    fn named(&self, size: usize) -> Option<u32> {
        let map = self.map.name.as_str();
        let parts =
            std::iter::once(map).chain(map.match_indices('_').map(|(at, _)| &map[at + 1..]));
        let mut names: Vec<String> = parts
            .flat_map(|part| {
                let singular = part.strip_suffix('s').unwrap_or(part);
                let whole = [part, singular].map(str::to_owned);
                let longer = ["_event", "_t"].map(|end| format!("{singular}{end}"));
                whole.into_iter().chain(longer)
            })
            .collect();
        names.push("event".to_owned());
        names
            .iter()
            .find_map(|name| {
                self.structures()
                    .find(|t| t.name() == name && self.fits(*t, size))
            })
            .map(|t| t.id())
    }

    fn only(&self, size: usize) -> Option<u32> {
        let mut fitting = self
            .structures()
            .filter(|t| self.fits(*t, size) && !self.elements.contains(&t.id()));
        let first = fitting.next()?;
        fitting.next().is_none().then(|| first.id())
    }

    /// A record of `size` bytes can hold the structure: exactly, or with the padding of perf samples.
    fn fits(&self, structure: Type<'_>, size: usize) -> bool {
        let padding = match self.map.map_type {
            MapType::PerfEventArray => PERF_PADDING_MAX,
            _ => 0,
        };
        let bytes = structure.size().map(|s| s as usize);
        bytes.is_some_and(|s| s <= size && size - s <= padding)
    }
}
