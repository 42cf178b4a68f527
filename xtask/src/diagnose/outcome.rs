//! What a source does on the live kernel: it is compiled, loaded and run on the four inputs of the corpus.

use crate::TaskError;
use crate::corpus::run::{Inputs, hex, link};
use sha2::{Digest, Sha256};
use skep::load::{LoadOptions, load};
use skep_abi::ProgType;
use skep_bpf::{Backend, TestRun, TestRunResult};
use skep_btf::Btf;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Test runs a program gets.
const RUNS: usize = 4;

/// What is needed to try sources.
pub(super) struct Bench {
    headers: PathBuf,
    scratch: PathBuf,
    inputs: Inputs,
    kernel_btf: Arc<Btf>,
}

impl Bench {
    /// Prepares to try sources with the headers and inputs of the corpus `dir`.
    pub(super) fn new(dir: &Path) -> Result<Self, TaskError> {
        let scratch = crate::target_dir().join("diagnose");
        std::fs::create_dir_all(&scratch).map_err(|e| format!("{}: {e}", scratch.display()))?;
        Ok(Self {
            headers: std::path::absolute(dir.join("src")).map_err(|e| e.to_string())?,
            scratch,
            inputs: Inputs::read(dir)?,
            kernel_btf: Arc::new(skep::target::running_btf().map_err(|e| e.to_string())?),
        })
    }

    /// Compiles `source` as the corpus was compiled.
    fn compile(&self, source: &Path) -> Result<PathBuf, TaskError> {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let object = self.scratch.join(format!("{stem}.o"));
        let output = Command::new("clang-19")
            .args([
                "-O2",
                "-g",
                "-target",
                "bpf",
                "-mcpu=v3",
                "-w",
                "-idirafter",
            ])
            .arg("/usr/include/x86_64-linux-gnu")
            .arg("-I")
            .arg(&self.headers)
            .arg("-c")
            .arg(source)
            .arg("-o")
            .arg(&object)
            .output()
            .map_err(|e| format!("cannot run clang-19: {e}"))?;
        if output.status.success() {
            return Ok(object);
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "does not compile: {}",
            text.lines().next().unwrap_or_default()
        ))
    }

    /// What the program of `source` does with each input, one line a run.
    pub(super) fn outcome(&self, source: &Path) -> Result<Vec<String>, TaskError> {
        let object = self.compile(source)?;
        let linked = link(&object, &self.kernel_btf)?;
        let backend: Arc<dyn Backend> = Arc::new(skep::Kernel::new());
        let loaded = load(&linked, &backend, &LoadOptions::default()).map_err(|e| {
            let text = e.to_string();
            format!("the kernel refuses it: {}", text.trim())
        })?;
        let [program] = loaded.programs.as_slice() else {
            return Err("there must be one program".to_owned());
        };
        let prog_type = program.spec.prog_type;
        let lines = (0..RUNS).map(|at| {
            // The kernel changes the context of system call programs in place and takes no second buffer.
            let run = TestRun {
                ctx_size_out: 0,
                ..self.inputs.test_run(prog_type, at)
            };
            match backend.prog_test_run(program.handle, &run) {
                Ok(result) => describe(prog_type, &result),
                Err(_) => "no-run".to_owned(),
            }
        });
        Ok(lines.collect())
    }
}

/// Return value and output of a run.
fn describe(prog_type: ProgType, result: &TestRunResult) -> String {
    let out = match prog_type {
        ProgType::RawTracepoint => &[][..],
        ProgType::Syscall => &result.ctx_out,
        _ => &result.data_out,
    };
    let hash = hex(&Sha256::digest(out)[..8]);
    format!("{} {} {hash}", result.retval, out.len())
}
