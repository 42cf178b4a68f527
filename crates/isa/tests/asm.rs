//! What the assembler accepts, makes and refuses.

use skep_isa::asm::{
    Assembly, Binding, Endian, Facts, NoFacts, Options, RelocationKind, RelocationTarget,
    SymbolKind, assemble, assemble_insns,
};
use skep_isa::{Slot, Style, Text, decode, insns};

struct Known;

impl Facts for Known {
    fn helper(&self, name: &str) -> Option<i32> {
        (name == "bpf_ktime_get_ns").then_some(5)
    }

    fn map_type(&self, name: &str) -> Option<u32> {
        (name == "array").then_some(2)
    }
}

fn object(text: &str) -> Assembly {
    let options = Options {
        facts: &Known,
        ..Options::default()
    };
    assemble(text, &options).expect(text)
}

fn source(slots: &[Slot]) -> Vec<String> {
    insns(slots)
        .map(|(_, insn)| insn.expect("valid").to_string())
        .collect()
}

/// What clang writes differently from [`Style::Source`], and shorthands.
const SAME: &[(&str, &str)] = &[
    ("w0 = *(u32 *)(r1 + 4)", "r0 = *(u32 *)(r1 + 4)"),
    ("r0 = *(u8*)(r1-1)", "r0 = *(u8 *)(r1 - 1)"),
    ("r0 = *(u64 *)(r1)", "r0 = *(u64 *)(r1 + 0)"),
    ("*(u32 *)(r10 - 4) = w3", "*(u32 *)(r10 - 4) = r3"),
    ("*(u32 *)(r10 - 4) = 0xffffffff", "*(u32 *)(r10 - 4) = -1"),
    ("lock *(u32 *)(r1 + 0) += r2", "lock *(u32 *)(r1 + 0) += w2"),
    ("w1 = 0xffffffff", "w1 = -1"),
    ("if w1 == 0xffffffff goto +0", "if w1 == -1 goto +0"),
    ("r1 = 0xffffffffffffffff ll", "r1 = -1 ll"),
    ("r1 = w2", "w1 = w2"),
    ("r1 = 010", "r1 = 8"),
    ("r1=0b101", "r1 = 5"),
    ("r1 /* why */ = 5 # because", "r1 = 5"),
    ("r1 s>>=3 // shift", "r1 s>>= 3"),
    ("if r1 s<-5 goto +0x3 <prog+0x28>", "if r1 s< -5 goto +3"),
    ("r0 = *(u16 *)skb[r3]", "r0 = *(u16 *)skb[r3]"),
    ("ld_pseudo\tr1, 0x1, 0x5", "ld_pseudo\tr1, 1, 5"),
];

#[test]
fn other_spellings() {
    for (text, want) in SAME {
        let slots = assemble_insns(text, &NoFacts).expect(text);
        assert_eq!(source(&slots), [*want], "{text}");
    }
}

#[test]
fn labels_jumps_and_calls() {
    let text = "
        r6 = r1
    again:
        if r6 == 0 goto 1f
        r6 += -1; goto again
    1:  call twice
        gotol 1f
        may_goto 1b
    1:  exit
    twice:
        r0 = r1
        r0 += r1
        exit
    ; r0 = 0";
    let want = [
        "r6 = r1",
        "if r6 == 0 goto +2",
        "r6 += -1",
        "goto -3",
        "call pc+3",
        "gotol +1",
        "may_goto -3",
        "exit",
        "r0 = r1",
        "r0 += r1",
        "exit",
    ];
    assert_eq!(source(&assemble_insns(text, &NoFacts).expect(text)), want);
}

/// Text and the error it gets.
const MISTAKES: &[(&str, &str)] = &[
    ("r0 = r11", "1:6: register r11 does not exist"),
    (
        "w0 = r1",
        "1:6: expected w1, found r1: operand widths differ",
    ),
    (
        "\n  r0 += ",
        "2:9: expected a register or a number, found the end of the statement",
    ),
    (
        "r0 = 0xffffffff",
        "1:6: imm 4294967295 is not within -2147483648 to 2147483647",
    ),
    (
        "r1 = *(u32 *)(r2 + 0x8000)",
        "1:18: offset 32768 is not within -32768 to 32767",
    ),
    ("r1 = be16 r2", "1:11: this operand must be r1 again"),
    (
        "r1 = *(u65 *)(r2 + 0)",
        "1:8: expected a type: u8, u16, u32, u64, s8, s16 or s32, found `u65`",
    ),
    (
        "*(u64 *)(r1 + 0) = w2",
        "1:20: expected r2, found w2: operand widths differ",
    ),
    ("bogus r1", "1:1: no instruction starts with `bogus`"),
    (".bogus 1", "1:1: unknown directive `.bogus`"),
    ("goto nowhere", "1:6: `nowhere` is not defined"),
    ("goto 1f", "1:6: `1f` is not defined"),
    ("goto 1b", "1:1: `1b` is not defined"),
    ("a:\na:", "2:1: `a` is already defined"),
    (
        "r1 = 5 r2",
        "1:8: expected the end of the statement, found `r2`",
    ),
    ("r1 = \u{e9}", "1:6: unexpected character 'é'"),
    (
        "r0 = cmpxchg_64(r1 + 8, r1, r2)",
        "1:25: this operand must be r0 again",
    ),
    (
        "r2 = xchg_64(r1 + 8, r3)",
        "1:22: this operand must be r2 again",
    ),
    (
        "lock *(u8 *)(r1 + 0) += r2",
        "1:7: expected `(u32 *)` or `(u64 *)`, found `(`",
    ),
    (
        ".section xdp\nx: exit\n.section tc\ngoto x",
        "4:6: `x` lies in another section",
    ),
    (".data\nexit", "2:1: section `.data` is not executable"),
    (
        ".byte 1\nexit",
        "2:1: instructions start at multiples of 8 bytes",
    ),
    (".byte 256", "1:7: value 256 is not within -128 to 255"),
    (".ascii \"abc", "1:8: the string has no end on this line"),
    (".zero 99999999999", "1:7: the section is too large"),
    (".map m type=bogus", "1:13: unknown map type `bogus`"),
    (".map m colour=1", "1:8: unknown map attribute `colour`"),
];

#[test]
fn errors_have_places() {
    for (text, want) in MISTAKES {
        let errors = assemble(text, &Options::default()).expect_err(text);
        assert_eq!(errors[0].to_string(), *want, "{text}");
    }
}

#[test]
fn far_jumps_are_errors() {
    let text = format!("goto end\n{}end: exit", "exit\n".repeat(32768));
    let errors = assemble_insns(&text, &NoFacts).expect_err("too far");
    let want = "1:6: a distance of 32768 slots is too far for this jump";
    assert_eq!(errors[0].to_string(), want);
    let text = text.replacen("goto", "gotol", 1);
    let slots = assemble_insns(&text, &NoFacts).expect("long");
    assert_eq!(slots[0].imm, 32768);
}

#[test]
fn objects_have_sections_symbols_and_relocations() {
    let object = object(
        "
    .map counts type=array key_size=4 value_size=8 max_entries=1
    .section xdp
    .globl prog
    prog:
        r1 = counts ll
        r2 = .Lvalue+4 ll
        call helper_of_mine
        call bpf_ktime_get_ns
        exit
    .section license; .asciz \"GPL\"
    .rodata
        .long 1
    .Lvalue: .quad 2, prog, .-.Lvalue
    ",
    );
    let names: Vec<&str> = object.sections.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, [".text", ".maps", "xdp", "license", ".rodata"]);
    assert_eq!(object.sections[3].data, b"GPL\0");
    let xdp = &object.sections[2];
    assert!(xdp.is_executable && xdp.is_allocated && !xdp.is_writable);
    let want = ["r1 = 0 ll", "r2 = 8 ll", "call pc-1", "call 5", "exit"];
    assert_eq!(source(&xdp.slots(Endian::Little)), want);
    let found: Vec<_> = xdp
        .relocations
        .iter()
        .map(|r| match r.target {
            RelocationTarget::Symbol(at) => (r.offset, r.kind, object.symbols[at].name.as_str()),
            RelocationTarget::Section(at) => (r.offset, r.kind, names[at]),
        })
        .collect();
    let want = [
        (0, RelocationKind::Wide, "counts"),
        (16, RelocationKind::Wide, ".rodata"),
        (32, RelocationKind::Call, "helper_of_mine"),
    ];
    assert_eq!(found, want);
    let rodata = &object.sections[4];
    assert_eq!(rodata.data[20..], 16u64.to_le_bytes());
    assert_eq!(rodata.relocations[0].kind, RelocationKind::Abs64);
    let prog = &object.symbols[object
        .symbols
        .iter()
        .position(|s| s.name == "prog")
        .expect("prog")];
    assert_eq!(
        (prog.binding, prog.kind, prog.size),
        (Binding::Global, SymbolKind::Function, 56)
    );
    assert!(object.symbols.iter().all(|s| s.name != "bpf_ktime_get_ns"));
    assert_eq!(object.maps[0].attributes.len(), 4);
}

#[test]
fn listings_of_llvm_objdump() {
    let object = object(
        "
t.o:\tfile format elf64-bpf

Disassembly of section .text:

0000000000000000 <foo>:
       0:\t18 03 00 00 00 00 00 00 00 00 00 00 00 00 00 00\tr3 = 0x0 ll
\t\t0000000000000000:  R_BPF_64_64\tx
       2:\t95 00 00 00 00 00 00 00\texit

Disassembly of section xdp:

0000000000000000 <prog>:
; if (a) return foo();
       0:\t16 01 01 00 00 00 00 00\tif w1 == 0x0 goto +0x1 <prog+0x10>
       1:\t85 10 00 00 ff ff ff ff\tcall -0x1
\t\t0000000000000008:  R_BPF_64_32\t.text
       2:\t95 00 00 00 00 00 00 00\texit
",
    );
    let code = |at: usize| source(&object.sections[at].slots(Endian::Little));
    assert_eq!(code(0), ["r3 = 0 ll", "exit"]);
    assert_eq!(code(1), ["if w1 == 0 goto +1", "call pc-1", "exit"]);
    assert_eq!(
        object.sections[1].relocations[0].target,
        RelocationTarget::Section(0)
    );
    assert!(object.symbols.iter().all(|s| s.name != ".text"));
}

#[test]
fn big_endian_objects() {
    let options = Options {
        endian: Endian::Big,
        ..Options::default()
    };
    let object = assemble("r1 = 0x1234\n.long 1", &options).expect("assembles");
    let want = [0xb7, 0x10, 0, 0, 0, 0, 0x12, 0x34, 0, 0, 0, 1];
    assert_eq!(object.sections[0].data, want);
}

/// Names for the places of a program.
struct Labels;

impl skep_isa::Names for Labels {
    fn place(&self, target: i64) -> Option<std::borrow::Cow<'_, str>> {
        Some(format!("L{target}").into())
    }

    fn helper(&self, id: i32) -> Option<std::borrow::Cow<'_, str>> {
        (id == 1).then_some("bpf_map_lookup_elem".into())
    }
}

#[test]
fn names_stand_for_numbers() {
    let slots = assemble_insns("goto +1; call 1; call pc-2", &NoFacts).expect("assembles");
    let text = |at: usize, style| {
        let insn = decode(&slots, at).expect("valid");
        Text::new(&insn, style).named(at, &Labels).to_string()
    };
    assert_eq!(text(0, Style::Objdump), "goto +0x1 <L2>");
    assert_eq!(text(0, Style::Source), "goto L2");
    assert_eq!(text(1, Style::Source), "call bpf_map_lookup_elem");
    assert_eq!(text(2, Style::Source), "call L1");
    assert_eq!(text(2, Style::Objdump), "call -0x2");
}
