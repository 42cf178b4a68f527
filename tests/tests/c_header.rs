//! C headers made from BTF compile, and the compiler lays structs out as BTF says.

use skep_btf::{Btf, Kind, Type, c};
use skep_object::Needs;
use skep_tests::need::{Need, met};
use std::collections::HashMap;
use std::fmt::Write;
use std::process::Command;

/// Structs within each other that are looked into for offsets.
const DEPTH_MAX: usize = 8;

/// Members with their bytes, also those of anonymous structs; not bitfields.
fn members(ty: Type<'_>, base: u32, depth: usize, found: &mut Vec<(String, u32)>) {
    for member in ty.members() {
        let bits = base + member.bit_offset;
        let inner = ty.btf().resolve(member.type_id).unwrap();
        if member.name.is_empty() && inner.kind().is_composite() {
            if depth > 0 {
                members(inner, bits, depth - 1, found);
            }
        } else if member.bit_size == 0 && bits.is_multiple_of(8) {
            found.push((member.name.to_owned(), bits / 8));
        }
    }
}

/// What BTF says of sizes and offsets, as assertions. Names that several types have are left out.
fn assertions(btf: &Btf) -> String {
    let mut tags: HashMap<&str, u32> = HashMap::new();
    for ty in btf
        .types()
        .filter(|t| t.kind().is_composite() || t.kind().is_enum())
    {
        *tags.entry(ty.name()).or_default() += 1;
    }
    let mut text =
        String::from("#undef offsetof\n#define offsetof(t, m) __builtin_offsetof(t, m)\n");
    for ty in btf.types().filter(|t| t.kind().is_composite()) {
        // What va_list is made of is the machine's affair.
        if ty.name().is_empty() || tags[ty.name()] > 1 || ty.name() == "warn_args" {
            continue;
        }
        let word = if ty.kind() == Kind::Union {
            "union"
        } else {
            "struct"
        };
        let (name, size) = (ty.name(), ty.size().unwrap());
        let _ = writeln!(
            text,
            "_Static_assert(sizeof({word} {name}) == {size}, \"{name}\");"
        );
        let mut found = Vec::new();
        members(ty, 0, DEPTH_MAX, &mut found);
        for (member, at) in found {
            let _ = writeln!(
                text,
                "_Static_assert(offsetof({word} {name}, {member}) == {at}, \"{name}.{member}\");"
            );
        }
    }
    text
}

#[test]
fn headers_compile_to_the_layout_of_their_types() {
    if !met(&[Need::Clang]) {
        return;
    }
    let needs = Needs {
        kernel_btf: true,
        ..Needs::default()
    };
    let btf = skep::target::reference_btf(&needs);
    let folder = std::env::temp_dir().join(format!("skep-header-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let source = folder.join("types.c");
    std::fs::write(&source, c::header(&btf, None) + &assertions(&btf)).unwrap();
    let run = Command::new("clang-19")
        .args(["-target", "bpf", "-std=gnu11", "-w", "-fsyntax-only"])
        .arg(&source)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(
        run.status.success(),
        "{}",
        errors.lines().take(20).collect::<Vec<_>>().join("\n")
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn roots_bring_what_they_need_and_no_more() {
    let needs = Needs {
        kernel_btf: true,
        ..Needs::default()
    };
    let btf = skep::target::reference_btf(&needs);
    let id = btf.find_by_name_kind("list_head", Kind::Struct).unwrap();
    assert_eq!(
        c::declarations(&btf, Some(&[id])),
        "struct list_head {\n\tstruct list_head *next;\n\tstruct list_head *prev;\n};\n\n"
    );
}
