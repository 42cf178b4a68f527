//! Bodies of the fuzz targets (`fuzz/`). Each takes any bytes, and panics if a promise is broken.

use skep_isa::asm::{NoFacts, Options, assemble, assemble_insns};
use skep_isa::{Slot, Style, Text, encode, insns};
use skep_object::image::Image;
use skep_object::sanitize::{BtfLevel, sanitize};

fn slots(data: &[u8]) -> Vec<Slot> {
    let chunks = data.as_chunks::<8>().0;
    chunks.iter().map(|b| Slot::from_le_bytes(*b)).collect()
}

/// What decodes encodes to the same slots, in either byte order.
///
/// # Panics
/// If it does not.
pub fn decode(data: &[u8]) {
    let slots = slots(data);
    for (at, insn) in insns(&slots) {
        if let Ok(insn) = insn {
            assert_eq!(&*encode(&insn), &slots[at..at + insn.slots()], "{insn:?}");
        }
    }
    for slot in slots {
        assert_eq!(Slot::from_be_bytes(slot.to_be_bytes()), slot);
    }
}

/// The text of what decodes assembles to the same slots; files that are no objects are refused.
///
/// # Panics
/// If it does not, or a damaged file is read out of bounds.
pub fn disasm(data: &[u8]) {
    if let Ok(image) = Image::parse(data) {
        for section in &image.sections {
            for relocation in &section.relocations {
                let _ = image.symbol_name(relocation.symbol);
            }
        }
    }
    let slots = slots(data);
    for (at, insn) in insns(&slots) {
        let Ok(insn) = insn else { continue };
        let text = insn.to_string();
        let again = assemble_insns(&text, &NoFacts);
        let again = again.unwrap_or_else(|errors| panic!("{text}: {}", errors[0]));
        assert_eq!(again, &slots[at..at + insn.slots()], "{text}");
        let _ = Text::new(&insn, Style::Objdump).to_string();
    }
}

/// Text is refused with a place inside it, or becomes an object that can be read.
///
/// # Panics
/// If neither.
pub fn asm(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match assemble(&text, &Options::default()) {
        Ok(assembly) => {
            if let Ok(object) = skep_object::write::write(&assembly) {
                let image = Image::parse(&object);
                assert!(image.is_ok(), "{image:?}");
            }
        }
        Err(errors) => {
            let lines = text.lines().count().max(1);
            let is_inside = |line: u32, column: u32| line as usize <= lines && column > 0;
            assert!(!errors.is_empty() && errors.iter().all(|e| is_inside(e.line, e.column)));
        }
    }
}

/// BTF reads without panic whatever it says; what is valid can be taken apart and put together again.
///
/// # Panics
/// If it cannot.
pub fn btf(data: &[u8]) {
    let _ = skep_btf::Ext::parse(data);
    let Ok(btf) = skep_btf::Btf::parse(data) else {
        return;
    };
    for ty in btf.types() {
        let _ = (ty.name(), ty.resolve(), ty.linkage(), ty.int(), ty.array());
        let counts = (ty.members().len(), ty.params().len(), ty.vars().len());
        let _ = (counts, ty.enum_values().len(), btf.size_of(ty.id()));
        let _ = (
            skep_btf::Record::of(&btf, ty.id()),
            btf.find(ty.name(), ty.kind()),
        );
    }
    let _ = skep_btf::c::declarations(&btf, None);
    for level in [BtfLevel::Linux5_6, BtfLevel::Linux5_0] {
        let older = sanitize(&btf, level);
        assert!(older.is_ok_and(|b| b.type_count() >= btf.type_count()));
    }
    if btf.validate().is_ok() {
        let again = skep_btf::Btf::parse(skep_btf::Builder::of(&btf).finish());
        assert_eq!(again.map(|b| b.type_count()), Ok(btf.type_count()));
    }
}

/// Objects parse and link, or are refused with a sentence.
///
/// # Panics
/// If a place in a linked program lies outside of it.
pub fn object(data: &[u8]) {
    use skep_object::{Object, Options, Target};
    let object = match Object::parse(data, &Options::default()) {
        Ok(object) => object,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let target = Target {
        btf: object.btf().cloned(),
        cpus: 2,
        page_size: 4096,
        ..Target::default()
    };
    let Ok(linked) = object.relocate(&target) else {
        return;
    };
    for program in &linked.programs {
        assert!(program.entry_slots <= program.insns.len());
        let slots = program.insns.len();
        assert!(program.failures.iter().all(|f| f.insn < slots));
    }
    // Bindings are made of whatever BTF says.
    let _ = skep_gen::generate(data, "fuzz.bpf.o", &skep_gen::Options::default());
}
