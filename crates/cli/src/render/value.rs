//! Decoded values as JSON and as one line of text.

use serde_json::{Value as Json, json};
use skep::value::Value;
use std::fmt::Write;

/// As JSON: structures are objects, untyped bytes lists of hexadecimal strings as bpftool prints them.
pub(crate) fn json(value: &Value) -> Json {
    match value {
        Value::Unsigned(n) => json!(n),
        Value::Signed(n) => json!(n),
        Value::Float(n) => json!(n),
        Value::Bool(b) => json!(b),
        Value::Pointer(p) => json!(format!("{p:#x}")),
        Value::Text(text) => json!(text),
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Fields(fields) => Json::Object(
            fields
                .iter()
                .map(|(name, v)| (name.clone(), json(v)))
                .collect(),
        ),
        Value::Bytes(bytes) => hex_list(bytes),
    }
}

/// Bytes as bpftool lists them.
pub(crate) fn hex_list(bytes: &[u8]) -> Json {
    Json::Array(bytes.iter().map(|b| json!(format!("{b:#04x}"))).collect())
}

/// Bytes as one word.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// As one line: `name=value` of a structure's members, side by side.
pub(crate) fn line(value: &Value) -> String {
    match value {
        Value::Fields(fields) => {
            let parts: Vec<String> = fields
                .iter()
                .map(|(name, v)| format!("{name}={}", text(v)))
                .collect();
            parts.join(" ")
        }
        other => text(other),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Unsigned(n) => n.to_string(),
        Value::Signed(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Pointer(p) => format!("{p:#x}"),
        Value::Text(text) if text.contains(char::is_whitespace) || text.is_empty() => {
            format!("{text:?}")
        }
        Value::Text(text) => text.clone(),
        Value::List(items) => {
            let end = items
                .iter()
                .rposition(|v| *v != Value::Unsigned(0))
                .map_or(0, |i| i + 1);
            let shown: Vec<String> = items[..end].iter().map(text).collect();
            let rest = if end < items.len() { ", 0…" } else { "" };
            let rest = if end == 0 { "0…" } else { rest };
            format!("[{}{rest}]", shown.join(", "))
        }
        Value::Fields(_) => format!("{{{}}}", line(value)),
        Value::Bytes(bytes) => hex(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::{json, line};
    use skep::value::Value;

    #[test]
    fn structures_read_well() {
        let value = Value::Fields(vec![
            ("comm".into(), Value::Text("my cat".into())),
            ("pid".into(), Value::Unsigned(7)),
            (
                "slots".into(),
                Value::List(vec![Value::Unsigned(1), Value::Unsigned(0)]),
            ),
        ]);
        assert_eq!(line(&value), "comm=\"my cat\" pid=7 slots=[1, 0…]");
        assert_eq!(
            json(&value).to_string(),
            r#"{"comm":"my cat","pid":7,"slots":[1,0]}"#
        );
        assert_eq!(
            json(&Value::Bytes(vec![1, 255])).to_string(),
            r#"["0x01","0xff"]"#
        );
    }
}
