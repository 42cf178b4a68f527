//! Every case file in every engine: interpreter, JIT, the interpreter checked against the verifier's states, and the
//! kernel where it is allowed.
//!
//! `UPDATE=1` writes what was found into the files: the kernel's result where there is one, else the interpreter's.

use skep::Kernel;
use skep_abi::{AttachType, MapType, ProgType};
use skep_bpf::{Backend, Handle, MapCreate, ProgLoad, TestRun};
use skep_isa::{Call, Imm64, Insn, Reg, Size, Slot, Src, Width, encode};
use skep_tests::case::{Case, Input, Row, result_text};
use skep_tests::need::Need;
use skep_tests::{source_files, workspace_root};
use skep_user::{Options, Universe};
use skep_vm::test_run::{run_memory, run_memory_checked};
use skep_vm::{Engine, Fold, Program, ProgramOptions, Tiers};

/// Results of an engine, one a row.
type Found = Vec<String>;

#[test]
fn cases() {
    let kernel = Need::Bpf.is_met().then(Kernel::new);
    if kernel.is_none() {
        println!("kernel skipped: {}", Need::Bpf.name());
    }
    let updates = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for path in source_files(&workspace_root().join("tests/cases/isa"), &["s"]) {
        let mut case = match Case::read(&path) {
            Ok(case) => case,
            Err(error) => {
                wrong.push(error);
                continue;
            }
        };
        let mut all = vec![
            ("interp", ours(&case, Engine::Interp, Tiers::Adaptive)),
            ("templates", ours(&case, Engine::Jit, Tiers::Templates)),
            ("optimised", ours(&case, Engine::Jit, Tiers::Optimised)),
            ("checked", checked(&case)),
        ];
        if let Some(kernel) = &kernel {
            all.push(("kernel", in_kernel(kernel, &case)));
        }
        if updates {
            let best = match &all[..] {
                // The kernel's refusals have other words: ours say what is expected.
                [_, _, _, (_, found)] if !case.is_rejection() => found,
                [(_, found), ..] => found,
                [] => continue,
            };
            let is_result = |text: &String| text.starts_with("r0 =") || text.starts_with("error ");
            if best.iter().all(is_result) {
                case.update(best).unwrap();
                case = Case::read(&path).unwrap();
            }
        }
        for (engine, found) in &all {
            for (row, found) in case.rows.iter().zip(found) {
                if !agrees(engine, &row.expected, found) {
                    let name = path.file_name().unwrap_or_default().display();
                    let (input, expected) = (&row.input, &row.expected);
                    wrong.push(format!(
                        "{name} {engine} {input:x?}:\n  expected {expected}\n  found    {found}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Of a refusal by the kernel only that it is one counts.
fn agrees(engine: &str, expected: &str, found: &str) -> bool {
    match engine {
        "kernel" if expected.starts_with("error") => found.starts_with("error"),
        _ => expected == found,
    }
}

fn repeat(case: &Case, text: &str) -> Found {
    vec![text.to_owned(); case.rows.len()]
}

/// In one of our engines.
fn ours(case: &Case, engine: Engine, tiers: Tiers) -> Found {
    if let Some(prog_type) = case.prog_type {
        let options = Options {
            engine,
            tiers,
            ..Options::default()
        };
        let universe = Universe::new(options).unwrap();
        return typed(&universe, prog_type, case);
    }
    let bytes = case.rows[0].input.memory().len() as u32;
    let verified = match skep_verifier::verify_memory(&case.insns, "case", bytes) {
        Ok(verified) => verified,
        Err(r) => {
            let at = r.insn.map_or(String::new(), |at| format!(" at {at}"));
            return repeat(case, &format!("error {}{at}: {}", r.code, r.cause));
        }
    };
    if !case.runs {
        return repeat(case, "accepted");
    }
    let mut options = ProgramOptions::from(engine);
    options.code.tiers = tiers;
    let program = match Program::new(&verified, Vec::new(), options) {
        Ok(program) => program,
        Err(error) => return repeat(case, &format!("error: {error}")),
    };
    let run = |row: &Row| {
        let before = row.input.memory();
        let mut after = before.clone();
        match run_memory(&program, &mut after) {
            Ok(r0) => result_text(r0, &before, &after),
            Err(errno) => format!("error: {errno}"),
        }
    };
    case.rows.iter().map(run).collect()
}

/// In the interpreter, with every instruction compared with what the verifier knew there.
fn checked(case: &Case) -> Found {
    if case.is_rejection() || !case.is_checked {
        return Found::new();
    }
    let bytes = case.rows[0].input.memory().len() as u32;
    let traced = skep_verifier::verify_memory_traced(&case.insns, "case", bytes);
    let (Ok((verified, trace)), None) = (traced, case.prog_type) else {
        return Found::new();
    };
    let program = Program::new(&verified, Vec::new(), unfolded());
    let program = match program {
        Ok(program) => program,
        Err(error) => return repeat(case, &format!("error: {error}")),
    };
    let run = |row: &Row| {
        let before = row.input.memory();
        let mut after = before.clone();
        match run_memory_checked(&program, &trace, &mut after) {
            Ok((r0, None)) => result_text(r0, &before, &after),
            Ok((_, Some((at, what)))) => format!("contradiction at {at}: {what}"),
            Err(errno) => format!("error: {errno}"),
        }
    };
    case.rows.iter().map(run).collect()
}

fn load(backend: &dyn Backend, prog_type: ProgType, insns: Vec<Slot>) -> Result<Handle, String> {
    let spec = ProgLoad {
        expected_attach_type: (prog_type == ProgType::Xdp).then_some(AttachType::Xdp),
        license: "Dual MIT/GPL".to_owned(),
        name: "case".to_owned(),
        ..ProgLoad::plain(prog_type, insns)
    };
    let loaded = backend.prog_load(&spec);
    loaded.map_err(|e| format!("error: {e}"))
}

/// A program of a kernel type on packets, in either backend. Its result is the lower half of `r0`.
fn typed(backend: &dyn Backend, prog_type: ProgType, case: &Case) -> Found {
    let program = match load(backend, prog_type, case.insns.clone()) {
        Ok(program) => program,
        Err(error) => return repeat(case, &error),
    };
    let run = |row: &Row| {
        let packet = match &row.input {
            Input::Packet(bytes) => bytes.clone(),
            Input::None | Input::Words(_) => vec![0; 64],
        };
        let run = TestRun {
            data_in: Some(packet),
            ..TestRun::default()
        };
        match backend.prog_test_run(program, &run) {
            Ok(result) => result_text(result.retval.into(), &[], &[]),
            Err(error) => format!("error: {error}"),
        }
    };
    let found = case.rows.iter().map(run).collect();
    backend.close(program);
    found
}

/// In the kernel. Memory is the value of an array map, and `r0` goes to the word behind it, since a test run returns 32
/// bits only.
fn in_kernel(kernel: &Kernel, case: &Case) -> Found {
    if let Some(prog_type) = case.prog_type {
        return typed(kernel, prog_type, case);
    }
    let bytes = case.rows[0].input.memory().len() as u32;
    let map = MapCreate::new(MapType::Array, 4, bytes + 8, 1);
    let map = kernel.map_create(&map).unwrap();
    let mut insns = prologue(map, bytes);
    insns.extend(&case.insns);
    let program = load(kernel, ProgType::Xdp, insns);
    let found = match &program {
        Err(error) => repeat(case, error),
        Ok(_) if !case.runs => repeat(case, "accepted"),
        Ok(program) => {
            let run = |row: &Row| run_in_kernel(kernel, map, *program, row);
            case.rows.iter().map(run).collect()
        }
    };
    if let Ok(program) = program {
        kernel.close(program);
    }
    kernel.close(map);
    found
}

fn run_in_kernel(kernel: &Kernel, map: Handle, program: Handle, row: &Row) -> String {
    let before = row.input.memory();
    let mut value = before.clone();
    value.extend([0; 8]);
    kernel.map_update(map, &[0; 4], &value, 0).unwrap();
    let run = TestRun {
        data_in: Some(vec![0; 64]),
        ..TestRun::default()
    };
    if let Err(error) = kernel.prog_test_run(program, &run) {
        return format!("error: {error}");
    }
    kernel.map_lookup(map, &[0; 4], &mut value, 0).unwrap();
    let r0 = value.split_off(before.len());
    let r0 = u64::from_le_bytes(r0.try_into().unwrap());
    result_text(r0, &before, &value)
}

/// Calls what follows with the map's value in `r1`, and stores its result behind the first `bytes` bytes.
fn prologue(map: Handle, bytes: u32) -> Vec<Slot> {
    let value = |offset| Insn::LoadImm64 {
        dst: Reg::R1,
        imm: Imm64::MapFdValue { fd: map.0, offset },
    };
    let insns = [
        value(0),
        Insn::Call(Call::Subprog(5)),
        value(bytes),
        Insn::Store {
            size: Size::DW,
            dst: Reg::R1,
            src: Src::Reg(Reg::R0),
            offset: 0,
        },
        Insn::Mov {
            width: Width::W64,
            dst: Reg::R0,
            src: Src::Imm(0),
        },
        Insn::Exit,
    ];
    insns.iter().flat_map(encode).collect()
}

/// The interpreter, on the program as written.
fn unfolded() -> ProgramOptions {
    ProgramOptions {
        fold: Fold::Nothing,
        ..Engine::Interp.into()
    }
}
