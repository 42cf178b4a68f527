//! Types of BTF, field by field as bpftool prints them.

use serde_json::{Map, Value as Json, json};
use skep_btf::{Int, Kind, Linkage, Type};
use std::fmt::Write;

/// A name, or the word for none.
fn name(text: &str) -> &str {
    if text.is_empty() { "(anon)" } else { text }
}

fn encoding(int: Int) -> &'static str {
    match (int.is_signed(), int.is_char(), int.is_bool()) {
        (true, _, _) => "SIGNED",
        (_, true, _) => "CHAR",
        (_, _, true) => "BOOL",
        _ => "(none)",
    }
}

fn linkage(linkage: Option<Linkage>) -> &'static str {
    match linkage {
        Some(Linkage::Static) => "static",
        Some(Linkage::Global) => "global",
        Some(Linkage::Extern) => "extern",
        None => "(unknown)",
    }
}

/// One type.
pub(crate) fn json(ty: Type<'_>) -> Json {
    let mut row = Map::new();
    let mut set = |key: &str, value: Json| {
        row.insert(key.to_owned(), value);
    };
    set("id", json!(ty.id()));
    set("kind", json!(ty.kind().name().to_ascii_uppercase()));
    set("name", json!(name(ty.name())));
    let size_or_type = ty.size_or_type();
    match ty.kind() {
        Kind::Int => {
            set("size", json!(size_or_type));
            if let Some(int) = ty.int() {
                set("bits_offset", json!(int.bit_offset()));
                set("nr_bits", json!(int.bits()));
                set("encoding", json!(encoding(int)));
            }
        }
        Kind::Float => set("size", json!(size_or_type)),
        Kind::Array => {
            if let Some(array) = ty.array() {
                set("type_id", json!(array.element));
                set("index_type_id", json!(array.index));
                set("nr_elems", json!(array.len));
            }
        }
        Kind::Struct | Kind::Union => {
            set("size", json!(size_or_type));
            set("vlen", json!(ty.vlen()));
            set("members", members(ty));
        }
        Kind::Enum | Kind::Enum64 => {
            set(
                "encoding",
                json!(if ty.flag() { "SIGNED" } else { "UNSIGNED" }),
            );
            set("size", json!(size_or_type));
            set("vlen", json!(ty.vlen()));
            let value = |value: i64| match ty.flag() {
                true => json!(value),
                false => json!(value.cast_unsigned()),
            };
            let values = ty
                .enum_values()
                .map(|v| json!({"name": name(v.name), "val": value(v.value)}));
            set("values", values.collect());
        }
        Kind::Fwd => set(
            "fwd_kind",
            json!(if ty.flag() { "union" } else { "struct" }),
        ),
        Kind::FuncProto => {
            set("ret_type_id", json!(size_or_type));
            set("vlen", json!(ty.vlen()));
            let params = ty
                .params()
                .map(|p| json!({"name": name(p.name), "type_id": p.type_id}));
            set("params", params.collect());
        }
        Kind::Func | Kind::Var => {
            set("type_id", json!(size_or_type));
            set("linkage", json!(linkage(ty.linkage())));
        }
        Kind::Datasec => {
            set("size", json!(size_or_type));
            set("vlen", json!(ty.vlen()));
            let vars = ty
                .vars()
                .map(|v| json!({"type_id": v.type_id, "offset": v.offset, "size": v.size}));
            set("vars", vars.collect());
        }
        Kind::DeclTag => {
            set("type_id", json!(size_or_type));
            set("component_idx", json!(ty.decl_tag().map(|t| t.component)));
        }
        _ => set("type_id", json!(size_or_type)),
    }
    Json::Object(row)
}

fn members(ty: Type<'_>) -> Json {
    let row = |m: skep_btf::Member<'_>| {
        let mut row =
            json!({"name": name(m.name), "type_id": m.type_id, "bits_offset": m.bit_offset});
        if m.bit_size != 0 {
            row["bitfield_size"] = json!(m.bit_size);
        }
        row
    };
    ty.members().map(row).collect()
}

/// As bpftool prints a type.
pub(crate) fn text(ty: Type<'_>) -> String {
    let row = json(ty);
    let word = |key: &str| row[key].as_str().unwrap_or_default();
    let mut text = format!("[{}] {} '{}'", row["id"], word("kind"), word("name"));
    let mut below = String::new();
    for (key, value) in row.as_object().into_iter().flatten() {
        match value {
            _ if matches!(key.as_str(), "id" | "kind" | "name") => {}
            Json::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    below += &member(item);
                    below += &note(ty, at);
                }
            }
            value => {
                // As bpftool: a comma, but only there.
                let comma = if ty.kind() == Kind::Var && key == "linkage" {
                    ","
                } else {
                    ""
                };
                // Writing to a string cannot fail.
                let _ = write!(text, "{comma} {key}={}", plain(value));
            }
        }
    }
    text + &below
}

/// What bpftool's text says of a member beyond its JSON.
fn note(ty: Type<'_>, at: usize) -> String {
    match ty.kind() {
        Kind::Enum64 if ty.flag() => "LL".to_owned(),
        Kind::Enum64 => "ULL".to_owned(),
        Kind::Datasec => {
            let var = ty.vars().nth(at).and_then(|v| ty.btf().get(v.type_id));
            let named = |v: Type<'_>| format!(" ({} '{}')", v.kind().name(), v.name());
            var.map_or_else(String::new, named)
        }
        _ => String::new(),
    }
}

/// A value without quotes.
fn plain(value: &Json) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn member(item: &Json) -> String {
    let mut text = String::from("\n\t");
    let mut parts = Vec::new();
    for (key, value) in item.as_object().into_iter().flatten() {
        parts.push(if key == "name" {
            format!("'{}'", plain(value))
        } else {
            format!("{key}={}", plain(value))
        });
    }
    text += &parts.join(" ");
    text
}
