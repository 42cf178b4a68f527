//! A parsed object: everything the file says, nothing of the machine it will run on.

use crate::data;
use crate::elf::{Elf, SectionKind, SymbolKind};
use crate::error::ObjectError;
use crate::externs::{self, Extern, ExternKind};
use crate::fixup;
use crate::function::{self, Function, SLOT_BYTES};
use crate::link;
use crate::mapdef;
use crate::spec::{MapKind, MapSpec};
use crate::struct_ops;
use skep_abi::section;
use skep_abi::{AttachType, MapType, ProgType};
use skep_btf::{Btf, Ext, essential_name};
use skep_isa::opcode::{CALL, JMP, LDDW};

/// What the file itself does not say.
///
/// ```
/// use skep_object::{Object, Options};
///
/// let bytes = std::fs::read("../../tests/objects/emit.bpf.o")?;
/// let object = Object::parse(&bytes, &Options { name: "emit.bpf.o".to_owned() })?;
/// // Maps of global variables are named after the object.
/// assert!(object.maps().iter().all(|m| !m.is_data() || m.kernel_name.starts_with("emit.")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// File name without folders; data maps are named after it.
    pub name: String,
}

/// A parsed object file.
///
/// ```
/// use skep_object::{Object, Options};
///
/// let bytes = std::fs::read("../../examples/packets.bpf.o")?;
/// let object = Object::parse(&bytes, &Options { name: "packets.bpf.o".to_owned() })?;
/// for (program, section) in object.programs() {
///     println!("{program} in {section}");
/// }
/// assert!(object.maps().iter().any(|m| m.name == "services"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Object {
    pub(crate) functions: Vec<Function>,
    pub(crate) maps: Vec<MapSpec>,
    /// For each function its relocations, resolved.
    pub(crate) operands: Vec<Vec<(usize, Operand)>>,
    pub(crate) externs: Vec<Extern>,
    /// As to be loaded.
    pub(crate) btf: Option<Btf>,
    /// As in the file.
    pub(crate) file_btf: Option<Btf>,
    pub(crate) ext: Ext,
    pub(crate) license: String,
    pub(crate) version: u32,
}

/// Variables that lie in the object's arena.
const ARENA_SECTION: &str = ".addr_space.1";

/// Bytes of a page of an arena, the smallest that Linux has.
const ARENA_PAGE_BYTES: u64 = 4096;

/// What a relocated instruction refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operand {
    /// A map.
    Map(usize),
    /// A byte of the only value of a data map.
    Value {
        map: usize,
        offset: u32,
    },
    /// A function by its place.
    Function {
        section: usize,
        slot: i64,
    },
    Extern(usize),
}

/// What relocation needs to know of the target; see [`Object::needs`].
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../examples/packets.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "packets.bpf.o".to_owned() })?;
/// assert!(!object.needs().kernel_btf); // it links without knowing the kernel
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// The kernel's BTF: CO-RE, kfuncs, typed kernel variables, attach targets, struct_ops.
    pub kernel_btf: bool,
    /// In that BTF the functions that tracing programs attach to.
    pub kernel_functions: bool,
    /// The kernel's configuration.
    pub kconfig: bool,
    /// Addresses of these kernel symbols.
    pub addresses: Vec<String>,
    /// Names of functions, variables and types that a module may have where the kernel itself has none.
    pub names: Vec<String>,
}

impl Object {
    /// Parses an object file.
    ///
    /// # Errors
    /// [`ObjectError`] says in one sentence what is wrong with the file.
    pub fn parse(bytes: &[u8], options: &Options) -> Result<Self, ObjectError> {
        let elf = Elf::parse(bytes)?;
        let file_btf = parse_btf(&elf)?;
        let ext = parse_ext(&elf, file_btf.as_ref())?;
        let externs = externs::collect(&elf, file_btf.as_ref())?;
        let btf = match &file_btf {
            Some(btf) => Some(fixup::fix(btf, &elf, &externs).map_err(btf_error(".BTF"))?),
            None => None,
        };
        let mut object = Self {
            functions: function::collect(&elf)?,
            maps: Vec::new(),
            operands: Vec::new(),
            externs,
            btf,
            file_btf,
            ext,
            license: text_section(&elf, "license"),
            version: version(&elf),
        };
        let places = object.collect_maps(&elf, &options.name)?;
        object.operands = object
            .functions
            .iter()
            .map(|f| object.resolve(&elf, f, &places))
            .collect::<Result<_, _>>()?;
        Ok(object)
    }

    fn collect_maps(&mut self, elf: &Elf<'_>, name: &str) -> Result<Places, ObjectError> {
        let btf = self.btf.as_ref();
        let mut places = Places::default();
        let mut declared = mapdef::declared(elf, btf)?;
        mapdef::fill_slots(elf, &mut declared)?;
        declared.extend(mapdef::legacy(elf)?);
        for map in declared {
            places.starts.push((map.section, map.offset, map.size));
            places.maps.push(self.maps.len());
            self.maps.push(map.spec);
        }
        fill_arena(elf, &mut self.maps)?;
        for (section, spec) in data::maps(elf, btf, name)? {
            places.sections.push((section, self.maps.len()));
            self.maps.push(spec);
        }
        for found in struct_ops::collect(elf, btf, &self.functions)? {
            let place = (found.section, found.offset, found.size);
            places.starts.push(place);
            places.maps.push(self.maps.len());
            self.maps.push(found.spec);
        }
        let size = externs::config_bytes(&self.externs);
        if size > 0 {
            let spec = data::data_map(".kconfig", MapKind::Kconfig, size, Vec::new(), btf, name);
            self.maps.push(spec);
        }
        Ok(places)
    }

    fn resolve(
        &self,
        elf: &Elf<'_>,
        function: &Function,
        places: &Places,
    ) -> Result<Vec<(usize, Operand)>, ObjectError> {
        let mut operands = Vec::with_capacity(function.relocs.len());
        for &(slot, symbol) in &function.relocs {
            let operand = self.operand(elf, function, slot, symbol, places);
            let operand = operand.map_err(|what| {
                let what = format!("instruction {slot}: {what}");
                ObjectError::program(&function.name, what)
            })?;
            operands.push((slot, operand));
        }
        Ok(operands)
    }

    fn operand(
        &self,
        elf: &Elf<'_>,
        function: &Function,
        slot: usize,
        symbol: usize,
        places: &Places,
    ) -> Result<Operand, String> {
        let insn = function.insns[slot];
        let symbol = elf
            .symbols
            .get(symbol)
            .ok_or("its relocation names no symbol")?;
        let is_call = insn.code == JMP | CALL;
        if !is_call && insn.code != LDDW {
            return Err("it has a relocation but is no call or 64-bit load".to_owned());
        }
        if !is_call && slot + 1 >= function.insns.len() {
            return Err("a 64-bit load is cut".to_owned());
        }
        let Some(section) = symbol.section else {
            let found = self.externs.iter().position(|e| e.name == symbol.name);
            return found
                .map(Operand::Extern)
                .ok_or_else(|| format!("symbol \"{}\" is not defined", symbol.name));
        };
        let place = i128::from(symbol.value);
        let is_code = elf.sections[section].kind == SectionKind::Code;
        if is_call {
            if !is_code {
                return Err(format!("call of \"{}\", which is no function", symbol.name));
            }
            let target = place / SLOT_BYTES as i128 + i128::from(insn.imm) + 1;
            return function_operand(section, target);
        }
        let with_addend = place + i128::from(insn.imm);
        if is_code {
            return function_operand(section, with_addend / SLOT_BYTES as i128);
        }
        let arena = (elf.sections[section].name == ARENA_SECTION)
            .then(|| self.maps.iter().position(|m| m.map_type == MapType::Arena))
            .flatten()
            .map(|map| (section, map));
        let of_section = places.sections.iter().find(|(s, _)| *s == section);
        if let Some(&(_, map)) = of_section.or(arena.as_ref()) {
            // What lies outside of the section is the verifier's to refuse.
            let start = u32::try_from(symbol.value).map_err(|_| "a symbol lies beyond 4 GiB")?;
            let offset = start.wrapping_add_signed(insn.imm);
            return Ok(Operand::Value { map, offset });
        }
        // Only a section's symbol needs the addend to name a map; libbpf ignores it.
        let place = match symbol.kind {
            SymbolKind::Section => with_addend,
            _ => place,
        };
        let map = places.starts.iter().position(|&(s, start, size)| {
            let start = i128::from(start);
            s == section && place >= start && place < start + i128::from(size).max(1)
        });
        map.map(|at| Operand::Map(places.maps[at])).ok_or_else(|| {
            let what = if symbol.kind == SymbolKind::Section {
                elf.sections[section].name
            } else {
                symbol.name
            };
            format!("\"{what}\" is no map, variable or function")
        })
    }

    /// The object's license, empty if it has none.
    #[must_use]
    pub fn license(&self) -> &str {
        &self.license
    }

    /// Kernel version that section `version` asks for; 0 if it has none.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Its BTF as it is to be loaded.
    #[must_use]
    pub fn btf(&self) -> Option<&Btf> {
        self.btf.as_ref()
    }

    /// Its maps: declared ones, old-style ones, data sections, configuration.
    #[must_use]
    pub fn maps(&self) -> &[MapSpec] {
        &self.maps
    }

    /// Its maps, to change sizes and flags before linking.
    pub fn maps_mut(&mut self) -> &mut [MapSpec] {
        &mut self.maps
    }

    /// Names of its programs and of their sections.
    pub fn programs(&self) -> impl Iterator<Item = (&str, &str)> {
        let programs = self.functions.iter().filter(|f| !f.is_subprog());
        programs.map(|f| (f.name.as_str(), f.section_name.as_str()))
    }

    /// What it expects of the kernel.
    #[must_use]
    pub fn externs(&self) -> &[Extern] {
        &self.externs
    }

    /// What relocation must know of the target.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let mut needs = Needs {
            kernel_btf: !self.ext.relos.is_empty(),
            ..Needs::default()
        };
        if let Some(btf) = &self.file_btf {
            let roots = self.ext.relos.iter().flat_map(|s| &s.records);
            let names = roots.filter_map(|r| Some(essential_name(btf.get(r.type_id)?.name())));
            needs.names.extend(names.map(str::to_owned));
            needs.names.sort_unstable();
            needs.names.dedup();
        }
        for external in &self.externs {
            match external.kind {
                ExternKind::Kfunc { .. } | ExternKind::TypedVar { .. } => {
                    needs.kernel_btf = true;
                    needs.names.push(essential_name(&external.name).to_owned());
                }
                ExternKind::Address => needs.addresses.push(external.name.clone()),
                ExternKind::Config { .. } => needs.kconfig = true,
            }
        }
        for function in self.functions.iter().filter(|f| !f.is_subprog()) {
            let parsed = section::parse(&function.section_name);
            let Some(def) = parsed.def else {
                continue;
            };
            if def.options.attach_btf && def.prog_type != ProgType::Ext {
                needs
                    .names
                    .extend(link::attach_name(def.attach, parsed.target));
            }
            needs.kernel_btf |= def.options.attach_btf || def.prog_type == ProgType::StructOps;
            needs.kernel_functions |= def.options.attach_btf && traces_functions(def.attach);
        }
        needs
    }
}

/// Attach types whose target is any function of the kernel.
fn traces_functions(attach: Option<AttachType>) -> bool {
    matches!(
        attach,
        Some(
            AttachType::TraceFentry
                | AttachType::TraceFexit
                | AttachType::TraceFsession
                | AttachType::ModifyReturn
        )
    )
}

fn function_operand(section: usize, slot: i128) -> Result<Operand, String> {
    let slot = i64::try_from(slot).map_err(|_| "a call leaves its section")?;
    Ok(Operand::Function { section, slot })
}

/// Where maps lie in the file.
#[derive(Default)]
struct Places {
    /// (section, offset, size) of declared and old-style maps and of structures of operations, in their order.
    starts: Vec<(usize, u64, u64)>,
    /// Which map each of them is.
    maps: Vec<usize>,
    /// (section, map) of data sections.
    sections: Vec<(usize, usize)>,
}

fn btf_error(section: &'static str) -> impl Fn(skep_btf::BtfError) -> ObjectError {
    move |error| ObjectError::Btf { section, error }
}

fn parse_btf(elf: &Elf<'_>) -> Result<Option<Btf>, ObjectError> {
    let section = elf.section(".BTF").filter(|(_, s)| !s.data.is_empty());
    section
        .map(|(_, s)| Btf::parse(s.data).map_err(btf_error(".BTF")))
        .transpose()
}

fn parse_ext(elf: &Elf<'_>, btf: Option<&Btf>) -> Result<Ext, ObjectError> {
    let section = elf.section(".BTF.ext").filter(|(_, s)| !s.data.is_empty());
    match (section, btf) {
        (Some((_, s)), Some(_)) => Ext::parse(s.data).map_err(btf_error(".BTF.ext")),
        _ => Ok(Ext::default()),
    }
}

fn text_section(elf: &Elf<'_>, name: &str) -> String {
    let data = elf.section(name).map_or(&[][..], |(_, s)| s.data);
    let len = data.iter().position(|&b| b == 0).unwrap_or(data.len());
    String::from_utf8_lossy(&data[..len]).into_owned()
}

fn version(elf: &Elf<'_>) -> u32 {
    let data = elf.section("version").map_or(&[][..], |(_, s)| s.data);
    skep_btf::Order::HOST.u32_at(data, 0)
}

/// The variables of section `.addr_space.1` are what the object's arena begins with.
fn fill_arena(elf: &Elf<'_>, maps: &mut [MapSpec]) -> Result<(), ObjectError> {
    let Some((_, section)) = elf.section(ARENA_SECTION).filter(|(_, s)| s.size > 0) else {
        return Ok(());
    };
    let arena = maps.iter_mut().find(|m| m.map_type == MapType::Arena);
    let Some(arena) = arena else {
        let what =
            format!("section {ARENA_SECTION} has variables of an arena, but there is no arena");
        return Err(ObjectError::damaged(what));
    };
    let pages = section.size.div_ceil(ARENA_PAGE_BYTES);
    if pages > u64::from(arena.max_entries) {
        let what = format!(
            "it has {} pages, but its variables need {pages}",
            arena.max_entries
        );
        return Err(ObjectError::map(&arena.name, what));
    }
    arena.contents = section.data.to_vec();
    Ok(())
}
