//! Map elements, raw and typed.

use super::value;
use serde_json::{Map, Value as Json, json};
use skep::element::{self, Element};
use skep::value::{Value, decode};
use skep_bpf::MapInfo;
use skep_btf::Btf;

/// A map with the types of its keys and values.
pub(crate) struct Typed<'a> {
    /// Sizes and types.
    pub(crate) info: &'a MapInfo,
    /// Where the types are, if the map has any.
    pub(crate) btf: Option<&'a Btf>,
}

impl Typed<'_> {
    fn decode(&self, type_id: u32, bytes: &[u8]) -> Option<Value> {
        let btf = self.btf.filter(|_| type_id != 0)?;
        Some(decode(btf, type_id, bytes))
    }

    fn key(&self, bytes: &[u8]) -> Option<Value> {
        self.decode(self.info.btf_key_type_id, bytes)
    }

    fn value(&self, bytes: &[u8]) -> Option<Value> {
        self.decode(self.info.btf_value_type_id, bytes)
    }

    /// As bpftool prints an element: bytes, and `formatted` where types are known.
    pub(crate) fn json(&self, element: &Element) -> Json {
        let mut object = Map::new();
        object.insert("key".to_owned(), value::hex_list(&element.key));
        let mut formatted = Map::new();
        if let Some(key) = self.key(&element.key) {
            formatted.insert("key".to_owned(), value::json(&key));
        }
        if element::is_per_cpu(self.info.map_type) {
            let parts = element::per_cpu(self.info, &element.value);
            let raw = parts
                .iter()
                .map(|(cpu, v)| json!({"cpu": cpu, "value": value::hex_list(v)}));
            object.insert("values".to_owned(), raw.collect());
            let typed = parts.iter().filter_map(|(cpu, v)| {
                self.value(v)
                    .map(|v| json!({"cpu": cpu, "value": value::json(&v)}))
            });
            formatted.insert("values".to_owned(), typed.collect());
        } else {
            object.insert("value".to_owned(), value::hex_list(&element.value));
            if let Some(typed) = self.value(&element.value) {
                formatted.insert("value".to_owned(), value::json(&typed));
            }
        }
        if self.btf.is_some() && self.info.btf_value_type_id != 0 {
            object.insert("formatted".to_owned(), Json::Object(formatted));
        }
        Json::Object(object)
    }

    /// The value alone as a line.
    pub(crate) fn value_line(&self, element: &Element) -> String {
        let typed = self.value(&element.value);
        typed.map_or_else(|| value::hex(&element.value), |v| value::line(&v))
    }

    /// As a line; per-CPU values follow each other.
    pub(crate) fn line(&self, element: &Element) -> String {
        let text = |typed: Option<Value>, bytes: &[u8]| {
            typed.map_or_else(|| value::hex(bytes), |v| value::line(&v))
        };
        let key = text(self.key(&element.key), &element.key);
        if !element::is_per_cpu(self.info.map_type) {
            return format!(
                "{key}: {}",
                text(self.value(&element.value), &element.value)
            );
        }
        let parts = element::per_cpu(self.info, &element.value);
        let parts = parts
            .iter()
            .map(|(cpu, v)| format!("cpu {cpu}: {}", text(self.value(v), v)));
        format!("{key}: {}", parts.collect::<Vec<_>>().join("; "))
    }
}
