//! What a loader creates: maps and programs as plain data.

use skep_abi::MapType;

/// A map to create.
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../examples/packets.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "packets.bpf.o".to_owned() })?;
/// // Sizes can be changed before loading.
/// let mut object = object;
/// let services = object.maps_mut().iter_mut().find(|m| m.name == "services");
/// services.ok_or("no such map")?.max_entries = 16;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapSpec {
    /// Name in the source; of data maps the section's name.
    pub name: String,
    /// Name to create it with (at most 15 bytes, data maps begin with the object's name).
    pub kernel_name: String,
    /// Where it comes from.
    pub kind: MapKind,
    /// Map type.
    pub map_type: MapType,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Maximal number of elements (bytes of a ring buffer, pages of an arena).
    pub max_entries: u32,
    /// `BPF_F_*` of the creation.
    pub map_flags: u32,
    /// NUMA node, with `BPF_F_NUMA_NODE`.
    pub numa_node: Option<u32>,
    /// `map_extra` of the creation.
    pub map_extra: u64,
    /// To be pinned under its name, and reused if it is pinned already.
    pub pin_by_name: bool,
    /// BTF id of the key type, 0 if there is none.
    pub key_type_id: u32,
    /// BTF id of the value type, 0 if there is none; of data maps the data section.
    pub value_type_id: u32,
    /// BTF id in the kernel's BTF of the wrapper struct, for struct_ops maps.
    pub vmlinux_value_type_id: u32,
    /// Template of inner maps.
    pub inner: Option<Box<MapSpec>>,
    /// First and only value of a data map or structure of operations, or what an arena begins with; shorter means zeroes follow.
    pub contents: Vec<u8>,
    /// Elements to set before programs run; of structures of operations the bytes where pointers to programs stand.
    pub slots: Vec<(u32, SlotInit)>,
}

/// Where a map comes from.
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../examples/packets.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "packets.bpf.o".to_owned() })?;
/// use skep_object::MapKind;
///
/// let declared = object.maps().iter().filter(|m| m.kind == MapKind::Declared);
/// assert_eq!(declared.count(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    /// Section `.maps`.
    Declared,
    /// Section `maps`.
    Legacy,
    /// Sections `.data` and `.data.*`.
    Data,
    /// Sections `.rodata` and `.rodata.*`: frozen once filled.
    Rodata,
    /// Sections `.bss` and `.bss.*`.
    Bss,
    /// Configuration of the kernel: frozen once filled.
    Kconfig,
    /// Sections `.struct_ops` and `.struct_ops.link`.
    StructOps,
}

/// What an element of a map of maps or programs is set to.
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../tests/objects/objects.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "objects.bpf.o".to_owned() })?;
/// use skep_object::SlotInit;
///
/// for (index, slot) in object.maps().iter().flat_map(|m| &m.slots) {
///     match slot {
///         SlotInit::Map(map) => println!("{index}: map {}", object.maps()[*map].name),
///         SlotInit::Program(name) => println!("{index}: program {name}"),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SlotInit {
    /// A map, by its place in the list of maps.
    Map(usize),
    /// A program, by its name.
    Program(String),
}

/// Map types that are created without BTF ids (libbpf leaves them out for these).
const WITHOUT_BTF: &[MapType] = &[
    MapType::PerfEventArray,
    MapType::CgroupArray,
    MapType::StackTrace,
    MapType::ArrayOfMaps,
    MapType::HashOfMaps,
    MapType::Devmap,
    MapType::DevmapHash,
    MapType::Cpumap,
    MapType::Xskmap,
    MapType::Sockmap,
    MapType::Sockhash,
    MapType::Queue,
    MapType::Stack,
    MapType::Arena,
    MapType::StructOps,
];

impl MapSpec {
    /// A map of this type and everything else zero.
    #[must_use]
    pub fn new(name: &str, kind: MapKind, map_type: MapType) -> Self {
        Self {
            name: name.to_owned(),
            kernel_name: kernel_name(name),
            kind,
            map_type,
            key_size: 0,
            value_size: 0,
            max_entries: 0,
            map_flags: 0,
            numa_node: None,
            map_extra: 0,
            pin_by_name: false,
            key_type_id: 0,
            value_type_id: 0,
            vmlinux_value_type_id: 0,
            inner: None,
            contents: Vec::new(),
            slots: Vec::new(),
        }
    }

    /// The BTF ids of key and value to create it with; both 0 for map types that take none.
    #[must_use]
    pub fn btf_ids(&self) -> (u32, u32) {
        if WITHOUT_BTF.contains(&self.map_type) {
            return (0, 0);
        }
        (self.key_type_id, self.value_type_id)
    }

    /// Its only element is set to [`Self::contents`] before programs run.
    #[must_use]
    pub fn is_data(&self) -> bool {
        matches!(
            self.kind,
            MapKind::Data | MapKind::Rodata | MapKind::Bss | MapKind::Kconfig
        )
    }

    /// It is frozen (`BPF_MAP_FREEZE`) once it is filled.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        matches!(self.kind, MapKind::Rodata | MapKind::Kconfig)
    }
}

/// Bytes of an object name without the terminating zero (`BPF_OBJ_NAME_LEN` - 1).
const NAME_BYTES: usize = skep_abi::limits::BPF_OBJ_NAME_LEN - 1;

/// `name` as the kernel takes it: cut, and other characters than letters, digits, `_` and `.` replaced.
#[must_use]
pub fn kernel_name(name: &str) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' || c == '.' {
            c
        } else {
            '_'
        }
    };
    name.chars().map(keep).take(NAME_BYTES).collect()
}

/// Bytes that a section's name gets at least.
const SECTION_BYTES_MIN: usize = 7;

/// Name of a data map, as libbpf makes it: the object's name and the section's; `.data.custom` stands alone.
pub(crate) fn data_map_name(object: &str, section: &str) -> String {
    let suffix = kernel_name(section);
    let custom = section.get(1..).is_some_and(|rest| rest.contains('.'));
    let room = if custom {
        0
    } else {
        NAME_BYTES - suffix.len().max(SECTION_BYTES_MIN)
    };
    let object = kernel_name(object.split('.').next().unwrap_or_default());
    object.chars().take(room).chain(suffix.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_maps_are_named_as_libbpf_names_them() {
        const CASES: &[(&str, &str, &str)] = &[
            ("packets.bpf.o", ".rodata", "packets.rodata"),
            ("a_long_object_name.o", ".bss", "a_long_o.bss"),
            ("packets.bpf.o", ".data.custom", ".data.custom"),
            ("", ".data", ".data"),
        ];
        for &(object, section, name) in CASES {
            assert_eq!(data_map_name(object, section), name);
        }
    }
}
