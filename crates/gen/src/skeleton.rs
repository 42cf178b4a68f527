//! The module of an object: its bytes, its types, and what is done with it open and loaded.

use crate::GenError;
use crate::names::{Scope, part};
use crate::types::Types;
use skep_abi::MapType;
use skep_btf::Btf;
use skep_object::{MapSpec, Object};
use std::fmt::Write as _;

/// What the module is made from.
pub(crate) struct Skeleton<'a> {
    pub(crate) object: &'a Object,
    pub(crate) btf: &'a Btf,
    /// File name of the object.
    pub(crate) file: &'a str,
    /// Rust expression of its bytes.
    pub(crate) source: &'a str,
}

/// Global variables of one data section.
struct Section {
    /// Name of the section, `.rodata`.
    section: String,
    /// Field of `Open`.
    field: String,
    /// Type in module `types`.
    ty: String,
}

/// How values of a map are reached.
enum Access {
    /// `typed::Map<K, V>` or `typed::PerCpuMap<K, V>`.
    Keyed {
        of: &'static str,
        key: String,
        value: String,
    },
    /// `typed::Queue<V>`
    Queue(String),
    /// `typed::Events<T>`
    Events,
    /// `typed::Samples<T>`
    Samples,
    /// `typed::Global<V>`
    Global(String),
    /// Only its handle.
    Raw,
}

impl<'a> Skeleton<'a> {
    /// The text of the module.
    pub(crate) fn module(&self, name: &str, mut types: Types<'a>) -> Result<String, GenError> {
        let sections = self.sections(&mut types)?;
        let maps = self.maps(&sections, &mut types)?;
        let mut text = String::new();
        let _ = writeln!(
            text,
            "// Made by skep gen from {file}.\n\n/// Bindings of the BPF object `{file}`.\n#[allow(\n    \
             non_camel_case_types,\n    non_snake_case,\n    non_upper_case_globals,\n    dead_code,\n    clippy::all,\n    clippy::pedantic,\n    \
             clippy::restriction,\n    \
             reason = \"names are those of the C source\"\n)]\npub mod {name} {{\n\
             /// The object file.\npub const OBJECT: &[u8] = {source};\n\n\
             /// Types of the C source.\npub mod types {{\n{types}}}\n",
            file = self.file,
            source = self.source,
            types = types.text(),
        );
        text.push_str(&self.open(&sections));
        text.push_str(&self.programs());
        text.push_str(&maps);
        text.push_str("}\n");
        Ok(text)
    }

    fn sections(&self, types: &mut Types<'a>) -> Result<Vec<Section>, GenError> {
        let mut found = Vec::new();
        let mut fields = Scope::with(&["object"]);
        for map in self.object.maps().iter().filter(|m| m.is_data()) {
            let Some(ty) = self.btf.get(map.value_type_id) else {
                continue;
            };
            let plain = part(map.name.trim_start_matches('.'));
            if let Some(ty) = types.section(ty, map.value_size, &plain)? {
                found.push(Section {
                    section: map.name.clone(),
                    field: fields.take(&plain),
                    ty: ty.text,
                });
            }
        }
        Ok(found)
    }

    fn open(&self, sections: &[Section]) -> String {
        let (mut fields, mut read, mut write) = (String::new(), String::new(), String::new());
        for Section { section, field, ty } in sections {
            let _ = writeln!(
                fields,
                "    /// Variables of section `{section}`.\n    pub {field}: types::{ty},"
            );
            let _ = writeln!(
                read,
                "        {field}: skep::typed::section(&object, {section:?})?,"
            );
            let _ = writeln!(
                write,
                "        skep::typed::set_section(&mut self.object, {section:?}, &self.{field})?;"
            );
        }
        format!(
            "/// The object, not loaded yet: its variables can be set.\n#[derive(Debug)]\npub struct Open {{\n{fields}    \
             /// The parsed object: sizes and flags of maps can be changed.\n    pub object: skep::typed::Object,\n}}\n\n\
             /// Opens the object.\n///\n/// # Errors\n/// If it cannot be parsed.\n\
             pub fn open() -> Result<Open, skep::typed::BindingError> {{\n    \
             let object = skep::typed::open(OBJECT, {file:?})?;\n    Ok(Open {{\n{read}        object,\n    }})\n}}\n\n\
             impl Open {{\n    /// Loads it through a backend.\n    ///\n    /// # Errors\n    /// What the backend refuses.\n    \
             pub fn load({receiver}, backend: &std::sync::Arc<dyn skep::typed::Backend>) -> Result<Loaded, skep::typed::BindingError> {{\n\
             {write}        Ok(Loaded {{ inner: skep::typed::load(&self.object, backend)? }})\n    }}\n}}\n\n\
             /// The object, loaded; dropping it closes everything.\n#[derive(Debug)]\npub struct Loaded {{\n    inner: skep::load::Loaded,\n}}\n\n\
             impl Loaded {{\n    /// Its maps.\n    #[must_use]\n    pub fn maps(&self) -> Maps<'_> {{\n        Maps(&self.inner)\n    }}\n\n    \
             /// Its programs.\n    #[must_use]\n    pub fn programs(&self) -> Programs<'_> {{\n        Programs(&self.inner)\n    }}\n\n    \
             /// Everything that was loaded, by name.\n    #[must_use]\n    pub fn inner(&self) -> &skep::load::Loaded {{\n        &self.inner\n    }}\n}}\n\n",
            file = self.file,
            receiver = if sections.is_empty() {
                "self"
            } else {
                "mut self"
            },
        )
    }

    fn programs(&self) -> String {
        let mut text = "/// The programs of the object.\n#[derive(Clone, Copy, Debug)]\npub struct Programs<'a>(&'a skep::load::Loaded);\n\n\
                        impl<'a> Programs<'a> {\n"
            .to_owned();
        let mut scope = Scope::default();
        for (name, section) in self.object.programs() {
            let method = scope.take(name);
            let _ = writeln!(
                text,
                "    /// Program `{name}` of section `{section}`; `None` if it was not loaded.\n    #[must_use]\n    \
                 pub fn {method}(&self) -> Option<skep::typed::Program<'a>> {{\n        skep::typed::Program::of(self.0, {name:?})\n    }}\n"
            );
        }
        text.push_str("}\n\n");
        text
    }

    fn maps(&self, sections: &[Section], types: &mut Types<'a>) -> Result<String, GenError> {
        let mut text = "/// The maps of the object.\n#[derive(Clone, Copy, Debug)]\npub struct Maps<'a>(&'a skep::load::Loaded);\n\n\
                        impl<'a> Maps<'a> {\n"
            .to_owned();
        let mut scope = Scope::default();
        for map in self.object.maps() {
            let method = scope.take(map.name.trim_start_matches('.'));
            let (generic, ty) = match self.access(map, sections, types)? {
                Access::Keyed { of, key, value } => {
                    ("", format!("skep::typed::{of}<'a, {key}, {value}>"))
                }
                Access::Queue(value) => ("", format!("skep::typed::Queue<'a, {value}>")),
                Access::Events => (
                    "<T: skep::typed::Plain>",
                    "skep::typed::Events<'a, T>".to_owned(),
                ),
                Access::Samples => (
                    "<T: skep::typed::Plain>",
                    "skep::typed::Samples<'a, T>".to_owned(),
                ),
                Access::Global(value) => ("", format!("skep::typed::Global<'a, {value}>")),
                Access::Raw => ("", "skep::typed::RawMap<'a>".to_owned()),
            };
            let _ = writeln!(
                text,
                "    /// Map `{name}`; `None` if it was not created.\n    #[must_use]\n    \
                 pub fn {method}{generic}(&self) -> Option<{ty}> {{\n        skep::typed::map(self.0, {name:?})\n    }}\n",
                name = map.name
            );
        }
        text.push_str("}\n");
        Ok(text)
    }

    fn access(
        &self,
        map: &MapSpec,
        sections: &[Section],
        types: &mut Types<'a>,
    ) -> Result<Access, GenError> {
        if let Some(section) = sections
            .iter()
            .find(|s| map.is_data() && s.section == map.name)
        {
            return Ok(Access::Global(format!("types::{}", section.ty)));
        }
        let keyed = |types: &mut Types<'a>, of| -> Result<Access, GenError> {
            Ok(Access::Keyed {
                of,
                key: element(
                    types,
                    map.key_type_id,
                    map.key_size,
                    &format!("{}_key", map.name),
                )?,
                value: element(
                    types,
                    map.value_type_id,
                    map.value_size,
                    &format!("{}_value", map.name),
                )?,
            })
        };
        match map.map_type {
            MapType::Hash | MapType::LruHash | MapType::Array | MapType::LpmTrie => {
                keyed(types, "Map")
            }
            MapType::PercpuHash | MapType::PercpuArray | MapType::LruPercpuHash => {
                keyed(types, "PerCpuMap")
            }
            MapType::Queue | MapType::Stack => {
                let hint = format!("{}_value", map.name);
                Ok(Access::Queue(element(
                    types,
                    map.value_type_id,
                    map.value_size,
                    &hint,
                )?))
            }
            MapType::Ringbuf | MapType::PerfEventArray => Ok(Access::Events),
            MapType::UserRingbuf => Ok(Access::Samples),
            _ => Ok(Access::Raw),
        }
    }
}

/// The type of a key or value; bytes where BTF says nothing, or something else than the map's size.
fn element(types: &mut Types<'_>, id: u32, size: u32, hint: &str) -> Result<String, GenError> {
    if id == 0 {
        return Ok(format!("[u8; {size}]"));
    }
    let ty = types.of(id, hint)?;
    Ok(if ty.size == size {
        qualified(&ty.text)
    } else {
        format!("[u8; {size}]")
    })
}

/// A type as it is written outside of module `types`.
fn qualified(text: &str) -> String {
    const PLAIN: &[&str] = &[
        "u8", "u16", "u32", "u64", "u128", "i8", "i16", "i32", "i64", "i128", "f32", "f64",
    ];
    if let Some(inner) = text.strip_prefix('[') {
        return format!("[{}", qualified(inner));
    }
    let head = text.split(';').next().unwrap_or(text).trim_end_matches(']');
    if PLAIN.contains(&head) || head.starts_with("skep::") {
        text.to_owned()
    } else {
        format!("types::{text}")
    }
}
