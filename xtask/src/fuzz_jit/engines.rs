//! skep's side: a program is verified once and runs in every engine.

use super::FUNC_TYPE;
use super::generate::{ARENA, Generated, TARGETS, targets};
use super::state::{
    ARENA_BYTES, ARENA_START, Elements, End, MAPS, Maps, Named, Start, extra, flags, name_operands,
};
use crate::TaskError;
use crate::corpus::checked::{Quiet, unfolded};
use skep_abi::MapType;
use skep_btf::Btf;
use skep_isa::{Slot, opcode as op};
use skep_maps::{Map, MapSpec, Memory, ObjectTable, Runner};
use skep_verifier::{
    Caps, FuncInfo, MapDesc, Rejection, Request, Trace, Verified, verify, verify_traced,
};
use skep_vm::test_run::{Input, checked_run, test_run};
use skep_vm::{CodeOptions, Engine, Fold, Program, ProgramOptions, Tiers, Worker};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// Who runs our programs.
const RUNNER: Runner = Runner { cpu: 0, token: 1 };
/// The engines, the first ones for every program; templates once more with blinded constants.
#[rustfmt::skip] // one engine a line
const ENGINES: &[(&str, Engine, Tiers, bool)] = &[
    ("interp", Engine::Interp, Tiers::Adaptive, false),
    ("templates", Engine::Jit, Tiers::Templates, false),
    ("optimised", Engine::Jit, Tiers::Optimised, false),
    ("blinded", Engine::Jit, Tiers::Templates, true),
];
/// How many of them run every program.
pub(super) const ALWAYS: usize = 3;

/// skep's engines with the maps of the programs.
pub(super) struct Engines {
    worker: Worker,
    maps: Maps<OurMaps>,
    handles: Vec<Map>,
    descs: Vec<MapDesc>,
    btf: Btf,
    kernel_btf: Arc<Btf>,
    /// BTF id of `bpf_throw`.
    throw: u32,
    /// What the ids in the prog array mean: the targets, as programs of the engine that runs.
    table: Arc<ObjectTable>,
    /// The targets, by engine.
    targets: Vec<Vec<Program>>,
}

struct OurMaps(Vec<Map>);

impl Engines {
    /// Makes the maps, for as many CPUs as the kernel has.
    pub(super) fn new(cpus: usize, kernel_btf: Arc<Btf>, throw: u32) -> Result<Self, TaskError> {
        let count = u32::try_from(cpus).map_err(|e| e.to_string())?;
        let create = |&(map_type, key, value, entries): &(MapType, u32, u32, u32)| {
            let spec = MapSpec {
                map_flags: flags(map_type),
                map_extra: extra(map_type),
                ..MapSpec::new(map_type, key, value, entries, count)
            };
            Map::create(&spec, &Memory::Anonymous).map_err(|e| format!("maps: {e}"))
        };
        let handles: Vec<Map> = MAPS.iter().map(create).collect::<Result<_, _>>()?;
        let page = [0; ARENA_START + ARENA_BYTES];
        let filled = handles[ARENA as usize].arena_init(&page, RUNNER);
        filled.map_err(|e| format!("arena: {e}"))?;
        let table = Arc::new(ObjectTable::default());
        let array = &handles[TARGETS as usize];
        array.set_objects(Arc::clone(&table));
        for key in 0..targets().len() as u32 {
            let set = array.set_object(&key.to_ne_bytes(), key + 1, 0, RUNNER);
            set.map_err(|e| format!("prog array: {e}"))?;
        }
        let mut side = Self {
            worker: Worker::new(Arc::new(Quiet(count)), RUNNER, Arc::new(AtomicU32::new(0))),
            maps: Maps::new(OurMaps(handles.clone()), cpus),
            handles,
            descs: MAPS.iter().map(describe).collect(),
            btf: Btf::parse(super::function_btf()).map_err(|e| e.to_string())?,
            kernel_btf,
            throw,
            table,
            targets: Vec::new(),
        };
        for engine in 0..ENGINES.len() {
            let compile = |target: Generated| {
                let verified = side.verify(&target).map_err(|r| r.message())?;
                side.compile(&verified, engine)
            };
            let compiled = targets()
                .into_iter()
                .map(compile)
                .collect::<Result<_, _>>()?;
            side.targets.push(compiled);
        }
        Ok(side)
    }

    /// Our verdict.
    pub(super) fn verify(&self, program: &Generated) -> Result<Verified, Box<Rejection>> {
        self.request(program, |request| verify(request).map_err(Box::new))
    }

    /// The proof for a loader without CAP_PERFMON, whose code has barriers, if there is one.
    pub(super) fn verify_restricted(&self, program: &Generated) -> Option<Verified> {
        self.request(program, |request| {
            let caps = Caps::Bpf;
            verify(&Request { caps, ..*request }).ok()
        })
    }

    fn request<T>(&self, program: &Generated, then: impl FnOnce(&Request<'_>) -> T) -> T {
        let mut insns = program.insns.clone();
        name_operands(&mut insns, self.throw, |map| {
            Slot::new(0, 0, op::PSEUDO_MAP_IDX, 0, map)
        });
        let func = |&insn: &u32| FuncInfo {
            insn,
            type_id: FUNC_TYPE,
        };
        let funcs: Vec<FuncInfo> = program.starts.iter().map(func).collect();
        then(&Request {
            btf: Some(&self.btf),
            func_info: &funcs,
            maps: &self.descs,
            kernel_btf: Some(&self.kernel_btf),
            ..Request::plain("fuzz", skep_abi::ProgType::SchedCls, &insns)
        })
    }

    /// Calls `each` with the name of an engine and what every start leaves there, until it returns false.
    pub(super) fn run(
        &mut self,
        verified: &Verified,
        starts: &[Start],
        named: Named,
        engines: usize,
        mut each: impl FnMut(&'static str, Vec<End>) -> bool,
    ) -> Result<(), TaskError> {
        for (engine, &(name, ..)) in ENGINES[..engines].iter().enumerate() {
            let program = self.compile(verified, engine)?;
            for (id, target) in (1u32..).zip(&self.targets[engine]) {
                let pointer = std::ptr::from_ref(target).cast_mut().cast();
                let set = self.table.set(id, pointer);
                set.map_err(|e| format!("{name}: {e}"))?;
            }
            let ends = starts.iter().map(|s| self.once(&program, s, named));
            let ends = ends.collect::<Result<_, _>>();
            if !each(name, ends.map_err(|e| format!("{name}: {e}"))?) {
                break;
            }
        }
        Ok(())
    }

    /// The program in an engine.
    fn compile(&self, verified: &Verified, engine: usize) -> Result<Program, TaskError> {
        let (name, engine, tiers, blinding) = ENGINES[engine];
        let options = ProgramOptions {
            engine,
            fold: Fold::Facts,
            code: CodeOptions {
                tiers,
                blinding,
                observer: None,
            },
            btf: None,
            heap: None,
        };
        let program = Program::new(verified, self.handles.clone(), options);
        program.map_err(|e| format!("{name}: {e}"))
    }

    fn once(&mut self, program: &Program, start: &Start, named: Named) -> Result<End, TaskError> {
        self.maps.reset(&start.maps, named)?;
        let input = Input {
            data: Some(&start.packet),
            wants_ctx: true,
            ..Input::default()
        };
        let output =
            test_run(&mut self.worker, program, &input).map_err(|e| format!("test run: {e}"))?;
        Ok(End {
            retval: output.retval,
            packet: output.data,
            ctx: output.ctx,
            maps: self.maps.read(named)?,
        })
    }

    /// The number of instructions that a run executes; none if the walk was too long to be recorded.
    ///
    /// # Errors
    /// The first contradiction between the run and what the verifier recorded.
    pub(super) fn checked(
        &mut self,
        program: &Generated,
        start: &Start,
        named: Named,
    ) -> Result<Option<u64>, String> {
        let Ok((verified, trace)) = self.request(program, verify_traced) else {
            return Ok(None);
        };
        if !trace.is_complete() {
            return Ok(None);
        }
        self.maps.reset(&start.maps, named)?;
        let steps = self.checked_steps(&verified, &trace, &start.packet);
        self.maps.read(named)?;
        steps.map(Some)
    }

    fn checked_steps(
        &mut self,
        verified: &Verified,
        trace: &Trace,
        packet: &[u8],
    ) -> Result<u64, String> {
        let program =
            Program::new(verified, self.handles.clone(), unfolded()).map_err(|e| e.to_string())?;
        let input = Input {
            data: Some(packet),
            ..Input::default()
        };
        let (_, report) = checked_run(&mut self.worker, &program, &input, trace)
            .map_err(|e| format!("checked run: {e}"))?;
        match report.failure {
            Some((slot, what)) => Err(format!("checked run, insn {slot}: {what}")),
            None => Ok(report.steps),
        }
    }
}

impl Elements for OurMaps {
    fn lookup(&self, map: i32, key: &[u8], value: &mut [u8]) -> Result<(), String> {
        let done = self.0[map as usize].lookup_elem(key, value, 0, RUNNER);
        done.map_err(|e| format!("look-up: {e}"))
    }

    fn update(&self, map: i32, key: &[u8], value: &[u8]) -> Result<(), String> {
        let done = self.0[map as usize].update_elem(key, value, 0, RUNNER);
        done.map_err(|e| format!("update: {e}"))
    }

    fn delete(&self, map: i32, key: &[u8]) -> Result<(), String> {
        let done = self.0[map as usize].delete_elem(key, RUNNER);
        done.map_err(|e| format!("delete: {e}"))
    }

    fn arena(&self) -> *mut u8 {
        self.0[ARENA as usize].data
    }
}

fn describe(&(map_type, key_size, value_size, max_entries): &(MapType, u32, u32, u32)) -> MapDesc {
    MapDesc {
        name: String::new(),
        map_type,
        key_size,
        value_size,
        max_entries,
        map_flags: flags(map_type),
        map_extra: extra(map_type),
        record: Arc::default(),
        has_btf: false,
        btf: None,
        inner: None,
        frozen: None,
        owner: None,
        id: 0,
    }
}
