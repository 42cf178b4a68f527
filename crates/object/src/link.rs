//! Relocation against a target: CO-RE, extern symbols, maps, and programs with the subprogs they call.

use crate::core::{self, Core};
use crate::error::ObjectError;
use crate::externs::{Extern, ExternKind};
use crate::function::Function;
use crate::kconfig;
use crate::linked::{AttachBtf, Failure, FailureCause, Linked, Program};
use crate::object::{Object, Operand};
use crate::resolve::Externs;
use crate::spec::{MapKind, MapSpec};
use crate::struct_ops::{self, Operation};
use crate::target::Target;
use skep_abi::prog_flags::{BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS};
use skep_abi::section::{self, SectionName};
use skep_abi::{AttachType, MapType, ProgType};
use skep_btf::{Btf, FuncInfo, Kind, LineInfo};
use skep_isa::Slot;
use skep_isa::opcode::{
    CALL, JMP, LDDW, PSEUDO_CALL, PSEUDO_FUNC, PSEUDO_MAP_FD, PSEUDO_MAP_IDX, PSEUDO_MAP_IDX_VALUE,
    PSEUDO_MAP_VALUE,
};
use std::collections::HashMap;
use std::ops::Range;

/// Every `src` of a wide instruction that names a map.
const MAP_OPERANDS: [u8; 4] = [
    PSEUDO_MAP_FD,
    PSEUDO_MAP_VALUE,
    PSEUDO_MAP_IDX,
    PSEUDO_MAP_IDX_VALUE,
];
/// No place in [`Linked::maps`], and no file descriptor either.
const NO_MAP: i32 = -1;
/// Slots of one linked program; the kernel's limit is the same number of instructions.
const SLOTS_MAX: usize = 1_000_000;
/// Tag of an entry function that names its exception callback.
const EXCEPTION_TAG: &str = "exception_callback:";

impl Object {
    /// Links the object for `target`.
    ///
    /// # Errors
    /// For what concerns the whole object or contradicts itself. What only the target lacks is a [`Failure`] of the program.
    pub fn relocate(&self, target: &Target) -> Result<Linked, ObjectError> {
        let (config, config_errors) = kconfig::contents(&self.externs, target);
        let externs = Externs::resolve(self, target);
        let code = self.patched(target);
        let info = self.info_by_function();
        let (maps, operations) = self.target_maps(target, &config)?;
        let mut programs = Vec::new();
        for (entry, function) in self.functions.iter().enumerate() {
            if function.is_subprog() {
                continue;
            }
            let mut linker = Linker {
                object: self,
                externs: &externs,
                code: &code,
                info: &info,
                config_errors: &config_errors,
                places: HashMap::new(),
                order: Vec::new(),
                insns: Vec::new(),
                failures: Vec::new(),
            };
            linker.append(entry)?;
            linker.walk(entry)?;
            linker.exception_callback(entry)?;
            let mut program = linker.finish(entry, target);
            become_operation(&mut program, &operations);
            programs.push(program);
        }
        Ok(Linked {
            programs,
            maps,
            modules: target
                .modules
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
            btf: self.btf.clone(),
            license: self.license.clone(),
            version: self.version,
        })
    }

    /// The maps with the sizes that depend on the target, and which programs are operations of the kernel's structures.
    fn target_maps(
        &self,
        target: &Target,
        config: &[u8],
    ) -> Result<(Vec<MapSpec>, Vec<Operation>), ObjectError> {
        let mut maps = self.maps.clone();
        let mut operations = Vec::new();
        for map in &mut maps {
            if let (MapKind::StructOps, Some(btf)) = (map.kind, &self.btf) {
                operations.extend(struct_ops::link(map, btf, target)?);
            }
            fit_to_target(map, target);
            if let Some(inner) = &mut map.inner {
                fit_to_target(inner, target);
            }
            if map.kind == MapKind::Kconfig {
                map.contents = config.to_vec();
            }
        }
        Ok((maps, operations))
    }

    /// Every function's instructions with CO-RE relocations done, and those that failed.
    fn patched(&self, target: &Target) -> Vec<Patched> {
        let mut all: Vec<Patched> = self
            .functions
            .iter()
            .map(|f| Patched {
                insns: f.insns.clone(),
                failures: Vec::new(),
            })
            .collect();
        let Some(local) = &self.file_btf else {
            return all;
        };
        let modules = target.modules.iter().map(|(_, btf)| btf);
        let targets = match &target.core_btf {
            Some(custom) => vec![custom],
            None => target.btf.iter().chain(modules).collect(),
        };
        let mut core = Core::new(local, targets);
        for section in &self.ext.relos {
            let functions = self.functions_of(local.str(section.section));
            for relo in &section.records {
                let slot = relo.insn as usize;
                let Some(index) = self.function_at(functions.clone(), slot) else {
                    continue;
                };
                let at = slot - self.functions[index].start;
                let failure = core_failure(&mut core, relo, &mut all[index].insns, at);
                all[index].failures.extend(failure.map(|cause| (at, cause)));
            }
        }
        all
    }

    /// The functions of a section; they stand together, ordered by place.
    fn functions_of(&self, section: &str) -> Range<usize> {
        let inside = |f: &Function| f.section_name == section;
        let first = self.functions.iter().position(inside).unwrap_or(0);
        let count = self.functions[first..]
            .iter()
            .take_while(|f| inside(f))
            .count();
        first..first + count
    }

    /// Which of `functions` has slot `slot` of their section.
    fn function_at(&self, functions: Range<usize>, slot: usize) -> Option<usize> {
        let all = self.functions.get(functions.clone())?;
        let index = all.partition_point(|f| f.start <= slot).checked_sub(1)?;
        let function = &all[index];
        (slot - function.start < function.insns.len()).then_some(functions.start + index)
    }

    /// Function and line records of each function, relative to its start.
    fn info_by_function(&self) -> Vec<(Vec<FuncInfo>, Vec<LineInfo>)> {
        let mut all = vec![(Vec::new(), Vec::new()); self.functions.len()];
        let Some(btf) = &self.file_btf else {
            return all;
        };
        let relative = |functions: &Range<usize>, insn: u32| {
            let index = self.function_at(functions.clone(), insn as usize)?;
            let start = u32::try_from(self.functions[index].start).ok()?;
            Some((index, insn - start))
        };
        for section in &self.ext.funcs {
            let functions = self.functions_of(btf.str(section.section));
            for record in &section.records {
                if let Some((index, insn)) = relative(&functions, record.insn) {
                    all[index].0.push(FuncInfo { insn, ..*record });
                }
            }
        }
        for section in &self.ext.lines {
            let functions = self.functions_of(btf.str(section.section));
            for record in &section.records {
                if let Some((index, insn)) = relative(&functions, record.insn) {
                    all[index].1.push(LineInfo { insn, ..*record });
                }
            }
        }
        all
    }
}

/// Makes a program the operation that a structure says it is.
fn become_operation(program: &mut Program, operations: &[Operation]) {
    let Some(operation) = operations.iter().find(|o| o.program == program.name) else {
        return;
    };
    if program.prog_type != ProgType::StructOps {
        return;
    }
    program.attach = AttachType::from_id(operation.member);
    program.attach_btf = Some(AttachBtf {
        name: operation.structure.clone(),
        id: Some(operation.structure_id),
        module: None,
    });
}

/// A function's instructions after CO-RE, and what failed: (slot, cause).
struct Patched {
    insns: Vec<Slot>,
    failures: Vec<(usize, FailureCause)>,
}

fn core_failure(
    core: &mut Core<'_>,
    relo: &skep_btf::CoreRelo,
    insns: &mut [Slot],
    at: usize,
) -> Option<FailureCause> {
    let resolved = match core.resolve(relo) {
        Ok(resolved) => resolved,
        Err(error) => {
            let place = String::new();
            return Some(FailureCause::Core { place, error });
        }
    };
    let place = resolved.place.clone();
    match core::patch(insns, at, &resolved) {
        Ok(false) => None,
        Ok(true) => Some(FailureCause::Poisoned {
            kind: resolved.kind,
            place,
        }),
        Err(error) => Some(FailureCause::Core { place, error }),
    }
}

/// Bytes of a ring buffer: the next power of two of pages.
fn ring_bytes(wanted: u32, page_size: u32) -> u32 {
    if wanted == 0 || page_size == 0 {
        return wanted;
    }
    let pages = wanted.div_ceil(page_size).checked_next_power_of_two();
    pages
        .and_then(|p| p.checked_mul(page_size))
        .unwrap_or(wanted)
}

/// Sizes that depend on the target.
fn fit_to_target(map: &mut MapSpec, target: &Target) {
    match map.map_type {
        MapType::PerfEventArray if map.max_entries == 0 => map.max_entries = target.cpus,
        MapType::Ringbuf | MapType::UserRingbuf => {
            map.max_entries = ring_bytes(map.max_entries, target.page_size);
        }
        _ => {}
    }
}

/// One program under construction.
struct Linker<'a> {
    object: &'a Object,
    externs: &'a Externs,
    code: &'a [Patched],
    info: &'a [(Vec<FuncInfo>, Vec<LineInfo>)],
    config_errors: &'a [ObjectError],
    /// Function → first slot.
    places: HashMap<usize, usize>,
    order: Vec<usize>,
    insns: Vec<Slot>,
    failures: Vec<Failure>,
}

impl<'a> Linker<'a> {
    /// Puts a function behind what is there.
    fn append(&mut self, index: usize) -> Result<(), ObjectError> {
        let base = self.insns.len();
        let patched = &self.code[index];
        if base + patched.insns.len() > SLOTS_MAX {
            let name = &self.object.functions[index].name;
            let what = "it and what it calls have more than a million slots";
            return Err(ObjectError::program(name, what));
        }
        self.places.insert(index, base);
        self.order.push(index);
        self.insns.extend_from_slice(&patched.insns);
        let failures = patched.failures.iter().map(|(at, cause)| Failure {
            insn: base + at,
            cause: cause.clone(),
        });
        self.failures.extend(failures);
        Ok(())
    }

    /// Relocates a function that was appended; a function that it meets first is appended and walked before it goes on.
    fn walk(&mut self, first: usize) -> Result<(), ObjectError> {
        let mut waiting = vec![(first, 0usize)];
        while let Some((index, slot)) = waiting.pop() {
            let mut slot = slot;
            let len = self.object.functions[index].insns.len();
            while slot < len {
                if let Some(called) = self.relocate_insn(index, slot)? {
                    // The same instruction once more, when the callee has its place.
                    waiting.push((index, slot));
                    self.append(called)?;
                    waiting.push((called, 0));
                    break;
                }
                let wide = self.object.functions[index].insns[slot].code == LDDW;
                slot += if wide { 2 } else { 1 };
            }
        }
        Ok(())
    }

    /// Relocates one instruction; or gives the function that must be appended first.
    fn relocate_insn(&mut self, index: usize, slot: usize) -> Result<Option<usize>, ObjectError> {
        let function = &self.object.functions[index];
        let insn = function.insns[slot];
        let operands = &self.object.operands[index];
        let found = operands.binary_search_by_key(&slot, |&(s, _)| s);
        let at = self.places[&index] + slot;
        let here = function.start + slot;
        let is_local_call = insn.code == JMP | CALL && insn.src() == PSEUDO_CALL;
        let is_local_load = insn.code == LDDW && insn.src() == PSEUDO_FUNC;
        match found.ok().map(|i| operands[i].1) {
            Some(Operand::Map(map)) => self.set_wide(at, PSEUDO_MAP_FD, index_imm(map), 0),
            Some(Operand::Value { map, offset }) => {
                self.set_wide(at, PSEUDO_MAP_VALUE, index_imm(map), offset.cast_signed());
            }
            Some(Operand::Extern(external)) => self.set_extern(at, external),
            Some(Operand::Function { section, slot }) => {
                let target = usize::try_from(slot).ok();
                return self.set_function(index, at, section, target);
            }
            None if is_local_call || is_local_load => {
                let target = i64::try_from(here).unwrap_or(0) + i64::from(insn.imm) + 1;
                let target = usize::try_from(target).ok();
                return self.set_function(index, at, function.section, target);
            }
            None if insn.code == LDDW && MAP_OPERANDS.contains(&insn.src()) => {
                // Written as a file descriptor: it is none of this object's maps, and means nothing to whoever loads it.
                self.insns[at].imm = NO_MAP;
            }
            None => {}
        }
        Ok(None)
    }

    fn set_wide(&mut self, at: usize, src: u8, imm: i32, next_imm: i32) {
        let dst = self.insns[at].dst();
        self.insns[at] = Slot::new(LDDW, dst, src, 0, imm);
        if let Some(second) = self.insns.get_mut(at + 1) {
            *second = Slot::new(0, 0, 0, 0, next_imm);
        }
    }

    /// Points a call or function load at the function that begins at slot `target` of `section`.
    fn set_function(
        &mut self,
        from: usize,
        at: usize,
        section: usize,
        target: Option<usize>,
    ) -> Result<Option<usize>, ObjectError> {
        let functions = &self.object.functions;
        let starts = |f: &Function| f.section == section && Some(f.start) == target;
        let caller = &functions[from];
        let base = self.places[&from];
        let place = match functions.iter().position(starts) {
            Some(callee) => match self.places.get(&callee) {
                Some(&place) => place,
                None => return Ok(Some(callee)),
            },
            // A function without symbol inside its caller.
            None => match target.and_then(|t| t.checked_sub(caller.start)) {
                Some(inside) if section == caller.section && inside < caller.insns.len() => {
                    base + inside
                }
                _ => {
                    let what = format!(
                        "instruction {}: no function begins where it calls",
                        at - base
                    );
                    return Err(ObjectError::program(&caller.name, what));
                }
            },
        };
        let distance = i64::try_from(place).unwrap_or(0) - i64::try_from(at).unwrap_or(0) - 1;
        // Programs have at most a million slots.
        let distance = i32::try_from(distance).unwrap_or(0);
        if self.insns[at].code == LDDW {
            self.set_wide(at, PSEUDO_FUNC, distance, 0);
        } else {
            self.insns[at] = Slot::new(JMP | CALL, 0, PSEUDO_CALL, 0, distance);
        }
        Ok(None)
    }

    fn set_extern(&mut self, at: usize, index: usize) {
        let external: &Extern = &self.object.externs[index];
        if let ExternKind::Config { offset, .. } = external.kind {
            let is_config = |m: &MapSpec| m.kind == MapKind::Kconfig;
            let map = self.object.maps.iter().position(is_config).unwrap_or(0);
            self.set_wide(at, PSEUDO_MAP_VALUE, index_imm(map), offset.cast_signed());
            let name = &external.name;
            let error = self
                .config_errors
                .iter()
                .find(|e| matches!(e, ObjectError::Variable { name: n, .. } if n == name));
            self.failures.extend(error.map(|e| Failure {
                insn: at,
                cause: FailureCause::Config(e.clone()),
            }));
            return;
        }
        let code = self.insns[at].code;
        if let Some(cause) = self
            .externs
            .apply(index, external, &mut self.insns[at..], code)
        {
            self.failures.push(Failure { insn: at, cause });
        }
    }

    /// Appends the function that the entry's tag names as its exception callback.
    fn exception_callback(&mut self, entry: usize) -> Result<(), ObjectError> {
        let Some(btf) = &self.object.file_btf else {
            return Ok(());
        };
        let function = &self.object.functions[entry];
        let Some(id) = btf.find_by_name_kind(&function.name, Kind::Func) else {
            return Ok(());
        };
        let tag = btf
            .decl_tags(id)
            .find_map(|(_, text)| text.strip_prefix(EXCEPTION_TAG));
        let Some(name) = tag else { return Ok(()) };
        let functions = &self.object.functions;
        let callback = functions.iter().position(|f| f.name == name);
        let callback = callback.ok_or_else(|| {
            let what = format!("its exception callback \"{name}\" does not exist");
            ObjectError::program(&function.name, what)
        })?;
        if !self.places.contains_key(&callback) {
            self.append(callback)?;
            self.walk(callback)?;
        }
        Ok(())
    }

    fn finish(self, entry: usize, target: &Target) -> Program {
        let function = &self.object.functions[entry];
        let SectionName {
            def,
            target: attach_target,
            autoload,
        } = section::parse(&function.section_name);
        let options = def.map(|d| d.options).unwrap_or_default();
        let mut prog_flags = 0;
        if options.sleepable {
            prog_flags |= BPF_F_SLEEPABLE;
        }
        if options.xdp_frags {
            prog_flags |= BPF_F_XDP_HAS_FRAGS;
        }
        let (func_info, line_info) = self.records(entry);
        let functions = &self.object.functions;
        let mut failures = self.failures;
        failures.sort_by_key(|f| f.insn);
        Program {
            name: function.name.clone(),
            section: function.section_name.clone(),
            prog_type: def.map_or(ProgType::Unspec, |d| d.prog_type),
            attach: def.and_then(|d| d.attach),
            target: attach_target.to_owned(),
            options,
            prog_flags,
            autoload,
            entry_slots: function.insns.len(),
            functions: self
                .order
                .iter()
                .map(|i| (slot_u32(self.places[i]), functions[*i].name.clone()))
                .collect(),
            insns: self.insns,
            func_info,
            line_info,
            attach_btf: def
                .filter(|d| d.options.attach_btf && d.prog_type != ProgType::Ext)
                .and_then(|d| attach_btf(d.attach, attach_target, target)),
            failures,
        }
    }

    /// The records of all functions, if the entry has any.
    fn records(&self, entry: usize) -> (Vec<FuncInfo>, Vec<LineInfo>) {
        let mut funcs = Vec::new();
        let mut lines = Vec::new();
        let (with_funcs, with_lines) = (
            !self.info[entry].0.is_empty(),
            !self.info[entry].1.is_empty(),
        );
        for index in &self.order {
            let base = slot_u32(self.places[index]);
            let (f, l) = &self.info[*index];
            if with_funcs {
                funcs.extend(f.iter().map(|r| FuncInfo {
                    insn: base + r.insn,
                    ..*r
                }));
            }
            if with_lines {
                lines.extend(l.iter().map(|r| LineInfo {
                    insn: base + r.insn,
                    ..*r
                }));
            }
        }
        (funcs, lines)
    }
}

/// Programs have at most a million slots.
fn slot_u32(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(u32::MAX)
}

/// A place in a list of at most as many maps as the file has sections and symbols.
fn index_imm(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

/// Attach types whose targets have another name or kind in BTF.
const ATTACH_NAMES: &[(AttachType, &str, Kind)] = &[
    (AttachType::TraceRawTp, "btf_trace_", Kind::Typedef),
    (AttachType::LsmMac, "bpf_lsm_", Kind::Func),
    (AttachType::LsmCgroup, "bpf_lsm_", Kind::Func),
    (AttachType::TraceIter, "bpf_iter_", Kind::Func),
];

/// The module that a target names, if it names one, and the target's name.
fn split_module(target: &str) -> (Option<&str>, &str) {
    match target.split_once(':') {
        Some((module, name)) => (Some(module), name),
        None => (None, target),
    }
}

/// Name in BTF and kind of an attach target.
fn named(attach: Option<AttachType>, name: &str) -> (String, Kind) {
    let row = ATTACH_NAMES.iter().find(|row| Some(row.0) == attach);
    let (prefix, kind) = row.map_or(("", Kind::Func), |&(_, prefix, kind)| (prefix, kind));
    (format!("{prefix}{name}"), kind)
}

/// Name in BTF of an attach target; `None` if the section names none.
pub(crate) fn attach_name(attach: Option<AttachType>, target: &str) -> Option<String> {
    let (_, name) = split_module(target);
    (!name.is_empty()).then(|| named(attach, name).0)
}

/// Finds the target `name`, or `module:name`.
fn attach_btf(attach: Option<AttachType>, name: &str, target: &Target) -> Option<AttachBtf> {
    if name.is_empty() {
        return None;
    }
    let (wanted_module, name) = split_module(name);
    let (name, kind) = named(attach, name);
    let find = |btf: &Btf| btf.find_by_name_kind(&name, kind);
    let kernel = wanted_module.is_none_or(|m| m == "vmlinux");
    let mut id = target.btf.as_ref().filter(|_| kernel).and_then(find);
    let mut module = None;
    if id.is_none() {
        let mut modules = target.modules.iter().enumerate();
        let wanted = |n: &str| wanted_module.is_none_or(|m| m == n);
        let found = modules.find_map(|(i, (n, btf))| {
            let id = wanted(n).then(|| find(btf)).flatten()?;
            Some((i, id))
        });
        id = found.map(|(_, id)| id);
        module = found.map(|(i, _)| i);
    }
    Some(AttachBtf { name, id, module })
}
