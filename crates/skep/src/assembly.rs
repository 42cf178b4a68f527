//! Programs that this crate loads itself, as assembly text.

use skep_bpf::Handle;
use skep_isa::Slot;
use skep_isa::asm::{Options, RelocationTarget, assemble};
use skep_isa::opcode::PSEUDO_MAP_FD;
use skep_object::write::LinuxNames;

/// The program that `text` is, with handles for the names of maps. `None` if it names another, or has mistakes.
pub(crate) fn slots(text: &str, maps: &[(&str, Handle)]) -> Option<Vec<Slot>> {
    let options = Options {
        facts: &LinuxNames,
        ..Options::default()
    };
    let assembly = assemble(text, &options).ok()?;
    let section = assembly.sections.iter().find(|s| s.name == ".text")?;
    let mut slots = section.slots(assembly.endian);
    for relocation in &section.relocations {
        let RelocationTarget::Symbol(symbol) = relocation.target else {
            return None;
        };
        let name = &assembly.symbols.get(symbol)?.name;
        let (_, map) = maps.iter().find(|(known, _)| known == name)?;
        let slot = slots.get_mut((relocation.offset / 8) as usize)?;
        *slot = Slot::new(slot.code, slot.dst(), PSEUDO_MAP_FD, 0, map.0);
    }
    Some(slots)
}
