//! What is in the maps after test runs: everything, or a form that is the same on every machine.

use crate::element::{elements, is_per_cpu, per_cpu};
use skep_abi::MapType;
use skep_bpf::{Backend, Handle, MapInfo, Result};

/// Elements taken from a queue at most.
const QUEUE_MAX: usize = 1 << 20;

/// How maps are listed.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../examples/packets.bpf.o")?, "packets.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::dump::{Form, contents};
///
/// let services = loaded.map("services").ok_or("no such map")?.handle;
/// backend.map_update(services, &[7; 4], &[0; 16], 0)?;
/// let raw = contents(backend.as_ref(), services, Form::Raw)?;
/// assert!(raw.is_some()); // every element; `Canonical` is the same for maps that mean the same
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Every element and every CPU.
    Raw,
    /// Sorted by key, per-CPU values summed up as 64-bit words, zero elements of arrays left out.
    Canonical,
}

/// What a map holds.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../examples/packets.bpf.o")?, "packets.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::dump::{Contents, Form, contents};
///
/// let services = loaded.map("services").ok_or("no such map")?.handle;
/// match contents(backend.as_ref(), services, Form::Canonical)? {
///     Some(Contents::Elements(all)) => assert!(all.is_empty()),
///     Some(Contents::Queue(values)) => println!("{} values", values.len()),
///     None => println!("nothing that user space can read"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Contents {
    /// Keys and values.
    Elements(Vec<(Vec<u8>, Vec<u8>)>),
    /// Values in the order of removal.
    Queue(Vec<Vec<u8>>),
}

/// Map types with contents to show.
const SHOWN: &[MapType] = &[
    MapType::Array,
    MapType::PercpuArray,
    MapType::Hash,
    MapType::PercpuHash,
    MapType::LruHash,
    MapType::LruPercpuHash,
    MapType::LpmTrie,
    MapType::Queue,
    MapType::Stack,
];

/// Lists a map; `None` for types whose contents are references or streams. Queues and stacks are emptied.
///
/// # Errors
/// Those of the backend.
pub fn contents(backend: &dyn Backend, map: Handle, form: Form) -> Result<Option<Contents>> {
    let info = backend.map_info(map)?;
    if !SHOWN.contains(&info.map_type) {
        return Ok(None);
    }
    if matches!(info.map_type, MapType::Queue | MapType::Stack) {
        return Ok(Some(Contents::Queue(drain(backend, map, &info))));
    }
    let found = elements(backend, map, &info)?;
    let mut list: Vec<_> = found.into_iter().map(|e| (e.key, e.value)).collect();
    if form == Form::Canonical {
        for (_, value) in &mut list {
            if is_per_cpu(info.map_type) {
                *value = summed(&info, value);
            }
        }
        let is_array = matches!(info.map_type, MapType::Array | MapType::PercpuArray);
        list.retain(|(_, value)| !is_array || value.iter().any(|b| *b != 0));
        list.sort();
    }
    Ok(Some(Contents::Elements(list)))
}

fn drain(backend: &dyn Backend, map: Handle, info: &MapInfo) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    let mut value = vec![0u8; info.value_size as usize];
    while values.len() < QUEUE_MAX
        && backend
            .map_lookup_and_delete(map, &[], &mut value, 0)
            .is_ok()
    {
        values.push(value.clone());
    }
    values
}

/// The sum over all CPUs, word by word, without carry from word to word.
fn summed(info: &MapInfo, value: &[u8]) -> Vec<u8> {
    let size = info.value_size as usize;
    let mut sum = vec![0u64; size.div_ceil(8)];
    for (_, part) in per_cpu(info, value) {
        for (total, chunk) in sum.iter_mut().zip(part.chunks(8)) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            *total = total.wrapping_add(u64::from_le_bytes(word));
        }
    }
    let mut bytes: Vec<u8> = sum.iter().flat_map(|w| w.to_le_bytes()).collect();
    bytes.truncate(size);
    bytes
}
