//! What compilers leave open in BTF and only the ELF file knows: sizes and offsets of data sections, linkage, and the
//! sections of extern symbols, which the kernel takes only in the form of ordinary variables. libbpf does the same.

use crate::elf::{Elf, SymbolKind};
use crate::externs::{Extern, ExternKind};
use crate::function::TEXT;
use skep_btf::build::{Builder, RECORD_WORDS};
use skep_btf::raw::Info;
use skep_btf::{Btf, BtfError, Kind, Linkage, Type, VarSecInfo};

/// Name of the variable that stands for functions in `.ksyms`.
const DUMMY: &str = "dummy_ksym";
/// Bytes of each variable in `.ksyms`.
const KSYM_BYTES: u32 = 4;

/// The BTF to load, under the same type ids.
pub(crate) fn fix(btf: &Btf, elf: &Elf<'_>, externs: &[Extern]) -> Result<Btf, BtfError> {
    let mut fix = Fix {
        btf,
        elf,
        externs,
        builder: Builder::of(btf),
    };
    for ty in btf.own_types() {
        match ty.kind() {
            Kind::Datasec if ty.name() == ".ksyms" => fix.ksyms(ty),
            Kind::Datasec if ty.name() == ".kconfig" => fix.kconfig(ty),
            Kind::Datasec => fix.datasec(ty),
            Kind::Func if ty.linkage() == Some(Linkage::Global) => fix.function(ty),
            _ => {}
        }
    }
    Btf::parse(fix.builder.finish())
}

struct Fix<'a, 'e> {
    btf: &'a Btf,
    elf: &'a Elf<'e>,
    externs: &'a [Extern],
    builder: Builder,
}

impl Fix<'_, '_> {
    fn datasec(&mut self, section: Type<'_>) {
        let mut vars: Vec<VarSecInfo> = section.vars().collect();
        let found = self.elf.section(section.name());
        if let Some((index, elf_section)) = found.filter(|_| section.size() == Some(0)) {
            // A section that is too long for BTF is refused with its map.
            let size = u32::try_from(elf_section.size).unwrap_or(u32::MAX);
            self.builder.set_word(section.id(), 2, size);
            for info in &mut vars {
                let Some(var) = self.btf.get(info.type_id) else {
                    continue;
                };
                if var.linkage() == Some(Linkage::Static) {
                    continue;
                }
                let Some(symbol) = self.elf.variable(index, var.name()) else {
                    continue;
                };
                info.offset = u32::try_from(symbol.value).unwrap_or(info.offset);
                if symbol.hidden && var.kind() == Kind::Var {
                    let linkage = Linkage::Static as u32;
                    self.builder.set_word(var.id(), RECORD_WORDS, linkage);
                }
            }
        }
        self.write_vars(section, vars);
    }

    /// Writes the variables of a section back, ordered by offset.
    fn write_vars(&mut self, section: Type<'_>, mut vars: Vec<VarSecInfo>) {
        vars.sort_by_key(|v| v.offset);
        for (i, info) in vars.iter().enumerate() {
            let first = RECORD_WORDS + 3 * i;
            for (word, value) in (first..).zip([info.type_id, info.offset, info.size]) {
                self.builder.set_word(section.id(), word, value);
            }
        }
    }

    /// A function of `.text` that no other object sees counts as static, so that the verifier need not check it on its own.
    fn function(&mut self, function: Type<'_>) {
        let hidden = self.elf.symbols.iter().any(|s| {
            s.kind == SymbolKind::Function
                && s.hidden
                && s.name == function.name()
                && s.section.is_some_and(|i| self.elf.sections[i].name == TEXT)
        });
        if hidden {
            let info = Info::new(Kind::Func, Linkage::Static as u16, false);
            self.builder.set_word(function.id(), 1, info.0);
        }
    }

    fn kconfig(&mut self, section: Type<'_>) {
        let mut vars: Vec<VarSecInfo> = section.vars().collect();
        for info in &mut vars {
            let Some(var) = self.btf.get(info.type_id) else {
                continue;
            };
            let external = self.externs.iter().find(|e| e.name == var.name());
            if let Some(ExternKind::Config { size, offset, .. }) = external.map(|e| &e.kind) {
                (info.offset, info.size) = (*offset, *size);
            }
            let linkage = Linkage::Global as u32;
            self.builder.set_word(var.id(), RECORD_WORDS, linkage);
        }
        let size = crate::externs::config_bytes(self.externs);
        self.builder.set_word(section.id(), 2, size);
        self.write_vars(section, vars);
    }

    fn ksyms(&mut self, section: Type<'_>) {
        let int = self.int();
        let mut dummy = None;
        let mut vars: Vec<VarSecInfo> = section.vars().collect();
        for (i, info) in (0u32..).zip(vars.iter_mut()) {
            (info.offset, info.size) = (i * KSYM_BYTES, KSYM_BYTES);
            let Some(ty) = self.btf.get(info.type_id) else {
                continue;
            };
            if ty.kind() == Kind::Func {
                let dummy = *dummy.get_or_insert_with(|| {
                    let variable = Info::new(Kind::Var, 0, false);
                    let linkage = Linkage::Global as u32;
                    self.builder.add(DUMMY, variable, int, &[linkage])
                });
                self.name_params(ty);
                let global = Info::new(Kind::Func, Linkage::Global as u16, false);
                self.builder.set_word(ty.id(), 1, global.0);
                info.type_id = dummy;
            } else {
                self.builder.set_word(ty.id(), 2, int);
                let linkage = Linkage::Global as u32;
                self.builder.set_word(ty.id(), RECORD_WORDS, linkage);
            }
        }
        let size = KSYM_BYTES.saturating_mul(section.vlen());
        self.builder.set_word(section.id(), 2, size);
        self.write_vars(section, vars);
    }

    /// The kernel wants parameters of functions to have names.
    fn name_params(&mut self, function: Type<'_>) {
        let Some(proto) = function.target() else {
            return;
        };
        let name = self.builder.add_str(DUMMY);
        for (i, param) in proto.params().enumerate() {
            if param.type_id != 0 && param.name_off == 0 {
                let word = RECORD_WORDS + 2 * i;
                self.builder.set_word(proto.id(), word, name);
            }
        }
    }

    /// A 32-bit integer of the BTF, or a new one.
    fn int(&mut self) -> u32 {
        let is_int = |ty: &Type<'_>| ty.int().is_some_and(|i| i.bits() == 32);
        let found = self.btf.own_types().find(is_int).map(|ty| ty.id());
        let signed = skep_btf::Int::SIGNED;
        found.unwrap_or_else(|| self.builder.add_int("int", 4, signed))
    }
}
