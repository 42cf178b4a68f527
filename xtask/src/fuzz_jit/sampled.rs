//! Runs in checked mode, of which the instructions are counted.

use super::generate::Generated;
use super::{FUNC_TYPE, MAPS, function_btf};
use skep_abi::{Errno, ProgType};
use skep_isa::{Slot, opcode as op};
use skep_maps::{Map, MapSpec, Memory, Runner};
use skep_verifier::{FuncInfo, MapDesc, Request, verify_traced};
use skep_vm::test_run::{Input, checked_run};
use skep_vm::{Engine, Fold, Host, Program, ProgramOptions, Worker};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// CPUs of the runs.
const CPUS: u32 = 2;

struct Quiet;

impl Host for Quiet {
    fn trace(&self, _: &str) {}
    fn possible_cpus(&self) -> u32 {
        CPUS
    }
    fn send_clone(&self, _: &[u8], _: u32, _: bool) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
}

/// The number of instructions that a run executes; none if the program is not accepted.
///
/// # Errors
/// The first contradiction between the run and what the verifier recorded.
pub(super) fn run(program: &Generated, packet: &[u8]) -> Result<Option<u64>, String> {
    let mut insns = program.insns.clone();
    for slot in &mut insns {
        if slot.code == op::LDDW && slot.src() == op::PSEUDO_MAP_FD {
            *slot = Slot::new(op::LDDW, slot.dst(), op::PSEUDO_MAP_IDX, 0, slot.imm);
        }
    }
    let descs: Vec<MapDesc> = MAPS.iter().map(describe).collect();
    let btf = skep_btf::Btf::parse(function_btf()).map_err(|e| e.to_string())?;
    let func = |&insn: &u32| FuncInfo {
        insn,
        type_id: FUNC_TYPE,
    };
    let funcs: Vec<FuncInfo> = program.starts.iter().map(func).collect();
    let request = Request {
        btf: Some(&btf),
        func_info: &funcs,
        maps: &descs,
        ..Request::plain("fuzz", ProgType::SchedCls, &insns)
    };
    let Ok((verified, trace)) = verify_traced(&request) else {
        return Ok(None);
    };
    if !trace.is_complete() {
        return Ok(None);
    }
    let maps: Result<Vec<Map>, Errno> = descs.iter().map(create).collect();
    let maps = maps.map_err(|e| format!("maps: {e}"))?;
    let options = ProgramOptions {
        fold: Fold::Nothing,
        ..Engine::Interp.into()
    };
    let program = Program::new(&verified, maps, options).map_err(|e| e.to_string())?;
    let runner = Runner { cpu: 0, token: 1 };
    let mut worker = Worker::new(Arc::new(Quiet), runner, Arc::new(AtomicU32::new(0)));
    let input = Input {
        data: Some(packet),
        ..Input::default()
    };
    let (_, report) = checked_run(&mut worker, &program, &input, &trace)
        .map_err(|e| format!("checked run: {e}"))?;
    match report.failure {
        Some((slot, what)) => Err(format!("checked run, insn {slot}: {what}")),
        None => Ok(Some(report.steps)),
    }
}

fn describe(
    &(map_type, key_size, value_size, max_entries): &(skep_abi::MapType, u32, u32, u32),
) -> MapDesc {
    MapDesc {
        name: String::new(),
        map_type,
        key_size,
        value_size,
        max_entries,
        map_flags: 0,
        map_extra: 0,
        record: Arc::default(),
        has_btf: false,
        btf: None,
        inner: None,
        frozen: None,
        owner: None,
    }
}

fn create(d: &MapDesc) -> Result<Map, Errno> {
    let spec = MapSpec::new(d.map_type, d.key_size, d.value_size, d.max_entries, CPUS);
    Map::create(&spec, &Memory::Anonymous)
}
