//! The smallest program with statically defined probes: its first instruction is the place of all of them, then it ends.

/// Where the program is mapped.
const ADDRESS: u64 = 0x40_0000;
const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
const SECTION_BYTES: usize = 64;
const CODE_AT: usize = HEADER_BYTES + SEGMENT_BYTES;

/// `nop; xor edi, edi; mov eax, 60; syscall`, and `e_machine`.
#[cfg(target_arch = "x86_64")]
const CODE: (&[u8], u16) = (&[0x90, 0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05, 0, 0], 62);
/// `nop; mov x0, 0; mov x8, 93; svc 0`, and `e_machine`.
#[cfg(target_arch = "aarch64")]
#[rustfmt::skip] // one instruction per row
const CODE: (&[u8], u16) = (
    &[
        0x1f, 0x20, 0x03, 0xd5,
        0x00, 0x00, 0x80, 0xd2,
        0xa8, 0x0b, 0x80, 0xd2,
        0x01, 0x00, 0x00, 0xd4,
    ],
    183,
);

/// The note of probe `skep:step`, whose arguments lie where `arguments` says.
#[must_use]
pub fn note(arguments: &str) -> Vec<u8> {
    let mut body = (ADDRESS + CODE_AT as u64).to_le_bytes().to_vec();
    body.extend([0; 16]); // no address of a base, no semaphore
    body.extend(b"skep\0step\0");
    body.extend(arguments.as_bytes());
    body.push(0);
    let mut note = Vec::new();
    for word in [8, body.len() as u32, 3] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"stapsdt\0");
    note.extend(&body);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

/// A program with these bytes as its notes.
#[must_use]
pub fn program(notes: &[u8]) -> Vec<u8> {
    const NAMES: &[u8] = b"\0.note.stapsdt\0.shstrtab\0";
    let (code, machine) = CODE;
    let notes_at = CODE_AT + code.len();
    let names_at = notes_at + notes.len();
    let table = (names_at + NAMES.len()).next_multiple_of(8);
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // ET_EXEC, machine, version
    file.extend([2u16, machine, 1, 0].iter().flat_map(|f| f.to_le_bytes()));
    let entry = ADDRESS + CODE_AT as u64;
    for field in [entry, HEADER_BYTES as u64, table as u64] {
        file.extend(field.to_le_bytes());
    }
    file.extend([0; 4]);
    // Sizes and counts: header, segments, sections; which section has the names.
    for size in [HEADER_BYTES, SEGMENT_BYTES, 1, SECTION_BYTES, 3, 2] {
        file.extend((size as u16).to_le_bytes());
    }
    // PT_LOAD, readable and executable: the whole file.
    file.extend([1u32, 5].iter().flat_map(|f| f.to_le_bytes()));
    for field in [0, ADDRESS, ADDRESS, table as u64, table as u64, 0x1000] {
        file.extend(field.to_le_bytes());
    }
    file.extend(code);
    file.extend(notes);
    file.extend(NAMES);
    file.resize(table, 0);
    // Name, type, place and size: none, SHT_NOTE, SHT_STRTAB.
    let sections = [
        (0, 0, 0, 0),
        (1u32, 7u32, notes_at, notes.len()),
        (15, 3, names_at, NAMES.len()),
    ];
    for (name, kind, offset, size) in sections {
        file.extend(name.to_le_bytes());
        file.extend(kind.to_le_bytes());
        for field in [0, 0, offset as u64, size as u64, 0, 1, 0] {
            file.extend(field.to_le_bytes());
        }
    }
    file
}
