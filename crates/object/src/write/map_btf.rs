//! BTF that defines maps, as libbpf reads it: a variable in the data section `.maps` for each map, of an anonymous
//! struct whose members say `name: pointer to an array of N ints`, which means `name = N`.

use skep_btf::{Kind, Order};
use skep_isa::asm::{Assembly, Endian, MapDef, Section};
use std::collections::BTreeMap;

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
const HEADER_BYTES: u32 = 24;
/// `BTF_VAR_GLOBAL_ALLOCATED`
const VAR_GLOBAL: u32 = 1;
const INT_BITS: u32 = 32;
/// Signed, offset 0, 32 bits.
const INT_SIGNED: u32 = 1 << 24 | INT_BITS;
/// Each member is a pointer.
const MEMBER_BYTES: u32 = 8;

/// The section `.BTF` for the maps of an assembled file.
pub(super) fn section(assembly: &Assembly) -> Section {
    let order = match assembly.endian {
        Endian::Little => Order::Little,
        Endian::Big => Order::Big,
    };
    let mut builder = Builder {
        order,
        types: Vec::new(),
        count: 0,
        strings: vec![0],
        values: BTreeMap::new(),
    };
    builder.all(assembly);
    Section {
        name: ".BTF".to_owned(),
        align: 4,
        data: builder.finish(),
        ..Section::default()
    }
}

struct Builder {
    order: Order,
    types: Vec<u8>,
    count: u32,
    strings: Vec<u8>,
    /// Type ids of `int (*)[N]`, by `N`.
    values: BTreeMap<u32, u32>,
}

impl Builder {
    fn word(&mut self, value: u32) {
        self.types.extend(self.order.u32_bytes(value));
    }

    fn string(&mut self, text: &str) -> u32 {
        let at = self.strings.len() as u32;
        self.strings.extend(text.bytes());
        self.strings.push(0);
        at
    }

    /// Starts a type and returns its id; what its kind needs more follows.
    fn begin(&mut self, kind: Kind, name: &str, vlen: usize, size_or_type: u32) -> u32 {
        let name = if name.is_empty() {
            0
        } else {
            self.string(name)
        };
        self.word(name);
        self.word((kind as u32) << 24 | vlen as u32);
        self.word(size_or_type);
        self.count += 1;
        self.count
    }

    /// All types. `int` has id 1.
    fn all(&mut self, assembly: &Assembly) {
        let int = self.begin(Kind::Int, "int", 0, INT_BITS / 8);
        self.word(INT_SIGNED);
        let mut vars = Vec::new();
        for map in &assembly.maps {
            let structure = self.structure(int, map);
            let var = self.begin(Kind::Var, &map.name, 0, structure);
            self.word(VAR_GLOBAL);
            let symbol = assembly.symbols.iter().find(|s| s.name == map.name);
            let offset = symbol.and_then(|s| s.place).map_or(0, |(_, offset)| offset);
            vars.push((var, offset as u32, struct_bytes(map)));
        }
        let size = vars.iter().map(|(_, offset, size)| offset + size).max();
        self.begin(Kind::Datasec, ".maps", vars.len(), size.unwrap_or(0));
        for (var, offset, size) in vars {
            self.word(var);
            self.word(offset);
            self.word(size);
        }
    }

    fn structure(&mut self, int: u32, map: &MapDef) -> u32 {
        let members: Vec<(&str, u32)> = map
            .attributes
            .iter()
            .map(|attribute| (attribute.name, self.value(int, attribute.value)))
            .collect();
        let structure = self.begin(Kind::Struct, "", members.len(), struct_bytes(map));
        for (at, (name, kind)) in members.into_iter().enumerate() {
            let name = self.string(name);
            self.word(name);
            self.word(kind);
            self.word(at as u32 * MEMBER_BYTES * 8);
        }
        structure
    }

    /// The type `int (*)[value]`.
    fn value(&mut self, int: u32, value: u32) -> u32 {
        if let Some(&id) = self.values.get(&value) {
            return id;
        }
        let array = self.begin(Kind::Array, "", 0, 0);
        self.word(int);
        self.word(int);
        self.word(value);
        let pointer = self.begin(Kind::Ptr, "", 0, array);
        self.values.insert(value, pointer);
        pointer
    }

    fn finish(self) -> Vec<u8> {
        let types_len = self.types.len() as u32;
        let mut out = Vec::new();
        out.extend(self.order.u16_bytes(MAGIC));
        out.extend([VERSION, 0]);
        for word in [
            HEADER_BYTES,
            0,
            types_len,
            types_len,
            self.strings.len() as u32,
        ] {
            out.extend(self.order.u32_bytes(word));
        }
        out.extend(self.types);
        out.extend(self.strings);
        out
    }
}

fn struct_bytes(map: &MapDef) -> u32 {
    map.attributes.len() as u32 * MEMBER_BYTES
}
