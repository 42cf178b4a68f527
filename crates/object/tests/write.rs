//! Objects that we write can be read, by us and, where they are installed, by LLVM and libbpf.

use skep_isa::asm::{Options, assemble};
use skep_object::image::{Image, ImageSymbol, relocation_name};
use skep_object::write::LinuxNames;

const TEXT: &str = r#"
.map counts type=array key_size=4 value_size=8 max_entries=16
.map more type=array, key_size=4, value_size=16, max_entries=16
.section xdp
.globl prog
prog:
    r1 = more ll
    call twice
    if r0 == 0 goto 1f
    call local
1:  exit
local:
    r0 = 0
    exit
.text
twice:
    r0 = 2
    exit
.section license
    .asciz "GPL"
"#;

fn options(endian: skep_isa::asm::Endian) -> Options<'static> {
    Options {
        facts: &LinuxNames,
        endian,
        ..Options::default()
    }
}

#[test]
fn written_objects_read_back() {
    for endian in [skep_isa::asm::Endian::Little, skep_isa::asm::Endian::Big] {
        let assembly = assemble(TEXT, &options(endian)).expect("assembles");
        let bytes = skep_object::write::write(&assembly).expect("writes");
        let image = Image::parse(&bytes).expect("reads");
        let xdp = image.section("xdp").expect("xdp");
        let ours = assembly.sections.iter().find(|s| s.name == "xdp");
        assert_eq!(xdp.data, ours.expect("xdp").data);
        assert!(xdp.is_executable() && !xdp.is_writable());
        let relocations: Vec<_> = xdp
            .relocations
            .iter()
            .map(|r| {
                (
                    r.offset,
                    relocation_name(r.kind),
                    image.symbol_name(r.symbol),
                )
            })
            .collect();
        let want = [(0, "R_BPF_64_64", "more"), (16, "R_BPF_64_32", ".text")];
        assert_eq!(relocations, want);
        let prog = image
            .symbols
            .iter()
            .find(|s| s.name == "prog")
            .expect("prog");
        assert_eq!((prog.kind, prog.size), (ImageSymbol::FUNC, 48));
        let btf = image.section(".BTF").expect(".BTF");
        let btf = skep_btf::Btf::parse(btf.data).expect("valid BTF");
        let maps = btf.find(".maps", skep_btf::Kind::Datasec).expect(".maps");
        let vars: Vec<_> = maps.vars().map(|v| (v.offset, v.size)).collect();
        assert_eq!(vars, [(0, 32), (32, 32)]);
    }
}

#[test]
fn damaged_files_are_errors() {
    let assembly = assemble(TEXT, &options(skep_isa::asm::Endian::Little)).expect("assembles");
    let bytes = skep_object::write::write(&assembly).expect("writes");
    for len in 0..bytes.len() {
        // Any prefix either is refused or has sections that lie within it.
        let _ = Image::parse(&bytes[..len]);
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            let _ = Image::parse(&damaged);
        }
    }
}
