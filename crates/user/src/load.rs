//! `BPF_PROG_LOAD`: handles to descriptors, verifier, engine.

use crate::error::{Named as _, refused};
use crate::map_object::{MapObject, NAME_BYTES_MAX, check_name};
use crate::names::Names;
use crate::objects::{BtfObject, Object};
use crate::profile::Named;
use crate::state::Mode;
use crate::tag;
use crate::universe::Shared;
use skep_abi::Errno;
use skep_bpf::{Error, Handle, ProgInfo, ProgLoad, Result};
use skep_isa::Slot;
use skep_isa::opcode as op;
use skep_verifier::{FuncInfo, LineInfo, MapDesc, MapOwner, Rejection, Request, Verified};
use skep_vm::jit::CodeObserver;
use skep_vm::{CodeOptions, Host, Program, ProgramOptions, WhyNot, needs_heap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// Instructions of one program, for a privileged loader (`BPF_COMPLEXITY_LIMIT_INSNS`).
const INSNS_MAX: usize = skep_abi::limits::BPF_COMPLEXITY_LIMIT_INSNS as usize;
/// Shortest record of `func_info` and of `line_info`.
const FUNC_INFO_BYTES: usize = 8;
const LINE_INFO_BYTES: usize = 16;
/// Licenses that make a program GPL-compatible (`license_is_gpl_compatible`).
const GPL_COMPATIBLE: &[&str] = &[
    "GPL",
    "GPL v2",
    "GPL and additional rights",
    "Dual BSD/GPL",
    "Dual MIT/GPL",
    "Dual MPL/GPL",
];

/// A program of a universe.
#[derive(Debug)]
pub(crate) struct ProgObject {
    pub(crate) id: u32,
    pub(crate) program: Program,
    pub(crate) loaded: ProgLoad,
    pub(crate) maps: Mutex<Vec<Arc<MapObject>>>,
    btf: Option<Arc<BtfObject>>,
    tag: [u8; 8],
    /// What it has in common with other programs of one map.
    pub(crate) class: MapOwner,
    pub(crate) names: Arc<Names>,
    load_time_ns: u64,
    verified_insns: u32,
    pub(crate) run_cnt: AtomicU64,
    pub(crate) run_time_ns: AtomicU64,
    shared: Weak<Shared>,
}

impl Drop for ProgObject {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.prog_table.clear(self.id);
            shared.state().progs.free(self.id);
        }
    }
}

impl ProgObject {
    /// `BPF_OBJ_GET_INFO_BY_FD`
    pub(crate) fn info(&self) -> ProgInfo {
        let p = &self.loaded;
        ProgInfo {
            prog_type: p.prog_type,
            id: self.id,
            tag: self.tag,
            name: p.name.clone(),
            gpl_compatible: is_gpl_compatible(&p.license),
            load_time_ns: self.load_time_ns,
            created_by_uid: skep_sys::process::user_id(),
            map_ids: crate::universe::lock(&self.maps)
                .iter()
                .map(|m| m.id)
                .collect(),
            btf_id: self.btf.as_ref().map_or(0, |b| b.id),
            jited_len: self
                .program
                .code()
                .map_or(0, |c| u32::try_from(c.bytes().len()).unwrap_or(u32::MAX)),
            xlated_len: u32::try_from(p.insns.len() * 8).unwrap_or(u32::MAX),
            run_cnt: self.run_cnt.load(Ordering::Relaxed),
            run_time_ns: self.run_time_ns.load(Ordering::Relaxed),
            recursion_misses: 0,
            verified_insns: self.verified_insns,
            bytes_memlock: 0,
        }
    }
}

fn is_gpl_compatible(license: &str) -> bool {
    GPL_COMPATIBLE.contains(&license)
}

/// What is worked out of a program when it is loaded.
struct Facts {
    tag: [u8; 8],
    class: MapOwner,
    names: Arc<Names>,
    verified_insns: u32,
}

/// The program's instructions with maps by index, and these maps.
struct Resolved {
    insns: Vec<Slot>,
    maps: Vec<Arc<MapObject>>,
}

impl Shared {
    /// `BPF_PROG_LOAD`
    pub(crate) fn prog_load(self: &Arc<Self>, spec: &ProgLoad) -> Result<Handle> {
        let what = format!("BPF_PROG_LOAD for program \"{}\"", spec.name);
        let object = self.make_prog(spec, &what)?;
        self.open(Object::Prog(object), Mode::FULL).named(&what)
    }

    fn make_prog(self: &Arc<Self>, spec: &ProgLoad, what: &str) -> Result<Arc<ProgObject>> {
        // As in libbpf: a name is cut to what the kernel's structures hold.
        let cut: String = spec.name.chars().take(NAME_BYTES_MAX).collect();
        check_name(&cut).named(what)?;
        let spec = &ProgLoad {
            name: cut,
            ..spec.clone()
        };
        if spec.insns.is_empty() || spec.insns.len() > INSNS_MAX {
            return Err(refused(
                Errno::E2BIG,
                what,
                "no instructions, or more than a million",
            ));
        }
        let resolved = self.resolve_maps(spec).named(what)?;
        let btf = self.prog_btf(spec).named(what)?;
        let func_info = func_info(spec).named(what)?;
        let line_info = line_info(spec).named(what)?;
        let descs: Vec<MapDesc> = resolved.maps.iter().map(|m| m.describe()).collect();
        let request = Request {
            insns: &resolved.insns,
            prog_type: spec.prog_type,
            attach: spec.expected_attach_type,
            attach_btf_id: spec.attach_btf_id,
            attach_member: None,
            prog_flags: spec.prog_flags,
            gpl_compatible: is_gpl_compatible(&spec.license),
            name: &spec.name,
            btf: btf.as_ref().map(|b| &*b.btf),
            func_info: &func_info,
            line_info: &line_info,
            maps: &descs,
            caps: self.options.caps,
            kernel_variables: true,
            kernel_btf: self.options.kernel_btf.as_deref(),
            kernel: None,
        };
        let verified = skep_verifier::verify(&request).map_err(|no| rejected(&no, what))?;
        let kernel_btf = self.options.kernel_btf.as_deref();
        skep_vm::keeps_what_stays(&verified, kernel_btf)
            .and_then(|()| skep_vm::reads_what_is_known(&verified, kernel_btf))
            .map_err(|why| no_user(&why, what))?;
        if let (Some(btf), Some(layout)) = (kernel_btf, self.host.task_layout()) {
            layout.note(&verified, btf);
        }
        let verified_insns = verified.stats().insns_processed;
        let class = MapOwner::of(
            spec.prog_type,
            spec.expected_attach_type,
            spec.attach_btf_id,
            spec.prog_flags,
            &descs,
        );
        for map in resolved
            .maps
            .iter()
            .filter(|m| skep_verifier::has_owner(m.map.map_type))
        {
            map.admit(&class).named(what)?;
        }
        let maps = resolved.maps.iter().map(|m| m.map.clone()).collect();
        let tag = tag::of(&spec.insns);
        let btf_data = btf.as_ref().map(|b| &*b.btf);
        let names = Arc::new(Names::new(
            &spec.name, tag, btf_data, &func_info, &line_info,
        ));
        let program = Program::new(
            &verified,
            maps,
            self.program_options(&verified, &names, btf.as_ref()),
        )
        .map_err(|e| {
            match skep_vm::runs_in_user(&verified, self.options.kernel_btf.as_deref()) {
                Err(why) => no_user(&why, what),
                Ok(()) => refused(Errno::EOPNOTSUPP, what, &e.to_string()),
            }
        })?;
        let facts = Facts {
            tag,
            class,
            names,
            verified_insns,
        };
        self.register_prog(spec, program, resolved.maps, btf, facts)
            .named(what)
    }

    /// How this universe makes programs runnable.
    fn program_options(
        &self,
        verified: &Verified,
        names: &Arc<Names>,
        btf: Option<&Arc<BtfObject>>,
    ) -> ProgramOptions {
        let o = &self.options;
        let observer = o.profile.as_ref().map(|profile| {
            Arc::new(Named {
                profile: Arc::clone(profile),
                names: Arc::clone(names),
            }) as Arc<dyn CodeObserver>
        });
        ProgramOptions {
            code: CodeOptions {
                tiers: o.tiers,
                blinding: o.blinding,
                observer,
            },
            btf: btf.map(|object| Arc::clone(&object.btf)),
            heap: needs_heap(verified).then(|| self.heap().cloned()).flatten(),
            ..o.engine.into()
        }
    }

    fn register_prog(
        self: &Arc<Self>,
        spec: &ProgLoad,
        program: Program,
        maps: Vec<Arc<MapObject>>,
        btf: Option<Arc<BtfObject>>,
        facts: Facts,
    ) -> std::result::Result<Arc<ProgObject>, Errno> {
        let id = self.state().progs.allocate()?;
        program.id.store(id, Ordering::Relaxed);
        let object = Arc::new(ProgObject {
            id,
            program,
            tag: facts.tag,
            class: facts.class,
            names: facts.names,
            loaded: spec.clone(),
            maps: Mutex::new(maps),
            btf,
            load_time_ns: skep_sys::clock::since_boot_ns(),
            verified_insns: facts.verified_insns,
            run_cnt: AtomicU64::new(0),
            run_time_ns: AtomicU64::new(0),
            shared: Arc::downgrade(self),
        });
        let program: *const Program = &raw const object.program;
        self.prog_table.set(id, program.cast_mut().cast())?;
        self.state().progs.set(id, Arc::downgrade(&object));
        Ok(object)
    }

    /// Replaces the handles in map operands by indexes into the maps found.
    fn resolve_maps(&self, spec: &ProgLoad) -> std::result::Result<Resolved, Errno> {
        let mut insns = spec.insns.clone();
        let mut maps: Vec<Arc<MapObject>> = Vec::new();
        let mut at = 0;
        while at < insns.len() {
            let slot = insns[at];
            let wide = slot.code == op::LDDW;
            if wide && let Some(handle) = map_operand(slot, spec)? {
                let Object::Map(map) = self.state().entry(handle)?.object else {
                    return Err(Errno::EINVAL);
                };
                let known = maps.iter().position(|m| m.id == map.id);
                let index = known.unwrap_or(maps.len());
                if known.is_none() {
                    maps.push(map);
                }
                if maps.len() > skep_abi::limits::MAX_USED_MAPS {
                    return Err(Errno::E2BIG);
                }
                insns[at].imm = i32::try_from(index).map_err(|_| Errno::E2BIG)?;
            }
            at += if wide { 2 } else { 1 };
        }
        Ok(Resolved { insns, maps })
    }

    fn prog_btf(&self, spec: &ProgLoad) -> std::result::Result<Option<Arc<BtfObject>>, Errno> {
        match spec.btf {
            None => Ok(None),
            Some(handle) => match self.state().entry(handle)?.object {
                Object::Btf(btf) => Ok(Some(btf)),
                _ => Err(Errno::EINVAL),
            },
        }
    }
}

/// The handle that a wide load's map operand names.
fn map_operand(slot: Slot, spec: &ProgLoad) -> std::result::Result<Option<Handle>, Errno> {
    match slot.src() {
        op::PSEUDO_MAP_FD | op::PSEUDO_MAP_VALUE => Ok(Some(Handle(slot.imm))),
        op::PSEUDO_MAP_IDX | op::PSEUDO_MAP_IDX_VALUE => {
            let index = usize::try_from(slot.imm).map_err(|_| Errno::EPROTO)?;
            spec.fd_array
                .get(index)
                .map(|h| Some(*h))
                .ok_or(Errno::EPROTO)
        }
        _ => Ok(None),
    }
}

fn word(record: &[u8], index: usize) -> u32 {
    let bytes = record
        .get(index * 4..index * 4 + 4)
        .and_then(|b| b.try_into().ok());
    bytes.map_or(0, u32::from_ne_bytes)
}

/// Longest record of a function or line (`MAX_FUNCINFO_REC_SIZE`).
const INFO_RECORD_BYTES_MAX: usize = 252;

/// Cuts raw records of `size` bytes, of which `least` are known; what follows these must be zero. Less than one record is none,
/// whatever its size.
fn records(
    raw: &[u8],
    size: u32,
    least: usize,
) -> std::result::Result<std::slice::ChunksExact<'_, u8>, Errno> {
    let count = raw.len().checked_div(size as usize).unwrap_or(0);
    let size = if count == 0 { least } else { size as usize };
    if !(least..=INFO_RECORD_BYTES_MAX).contains(&size) || !size.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let records = raw[..count * size].chunks_exact(size);
    let is_known = |record: &[u8]| record[least..].iter().all(|&b| b == 0);
    if records.clone().all(is_known) {
        Ok(records)
    } else {
        Err(Errno::E2BIG)
    }
}

fn func_info(spec: &ProgLoad) -> std::result::Result<Vec<FuncInfo>, Errno> {
    let records = records(&spec.func_info, spec.func_info_rec_size, FUNC_INFO_BYTES)?;
    Ok(records
        .map(|r| FuncInfo {
            insn: word(r, 0),
            type_id: word(r, 1),
        })
        .collect())
}

fn line_info(spec: &ProgLoad) -> std::result::Result<Vec<LineInfo>, Errno> {
    let records = records(&spec.line_info, spec.line_info_rec_size, LINE_INFO_BYTES)?;
    let line = |r: &[u8]| LineInfo {
        insn: word(r, 0),
        file: word(r, 1),
        text: word(r, 2),
        line_col: word(r, 3),
    };
    Ok(records.map(line).collect())
}

/// The refusal of a program that only a kernel can run.
fn no_user(why: &WhyNot, what: &str) -> Error {
    refused(Errno::EOPNOTSUPP, what, &format!("{}: {why}", why.code()))
}

/// A rejection as the refusal of the command.
fn rejected(no: &Rejection, what: &str) -> Error {
    let place = no
        .insn
        .map_or(String::new(), |insn| format!(" at insn {insn}"));
    Error {
        errno: Errno(no.errno),
        what: what.to_owned(),
        detail: format!("{}{place}: {}", no.code, no.cause),
        log: format!(
            "{}{place}: {}\nprocessed {} insns\n",
            no.code, no.cause, no.insns_processed
        ),
    }
}
