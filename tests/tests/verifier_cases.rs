//! Every case file of the verifier: our verdict, and the kernel's where it is allowed. `UPDATE=1` writes ours.

use skep::Kernel;
use skep::check::{CheckOptions, Checker, Verdict};
use skep::load::{LoadOptions, command, load};
use skep_bpf::Backend;
use skep_tests::need::Need;
use skep_tests::verifier_case::VerifierCase;
use skep_tests::{source_files, workspace_root};
use skep_verifier::Caps;
use std::sync::Arc;

/// Our verdict in the form of case files.
fn ours(checker: &Checker, caps: Caps) -> Result<String, String> {
    let program = checker.programs().next().ok_or("no program")?.to_owned();
    let report = checker.check(&program, caps).ok_or("no program")?;
    Ok(match report.verdict {
        Verdict::Accept(_) => "accept".to_owned(),
        Verdict::Reject(r) => {
            let at = r.insn.map_or(String::new(), |at| format!(" at {at}"));
            format!("error {}{at}: {}", r.code, r.cause)
        }
        Verdict::Error(why) => return Err(why),
        unknown @ Verdict::Unknown(_) => return Err(format!("{unknown:?}")),
    })
}

/// Does the kernel accept it, asked with all capabilities?
fn kernel_accepts(kernel: &Arc<Kernel>, checker: &Checker) -> Result<bool, String> {
    let mut linked = checker.linked().clone();
    let program = linked.programs.first().cloned().ok_or("no program")?;
    linked.programs.clear();
    let backend: Arc<dyn Backend> = Arc::<Kernel>::clone(kernel);
    let options = LoadOptions::default();
    let loaded = load(&linked, &backend, &options).map_err(|e| e.to_string())?;
    let load = command(&program, checker.linked(), &loaded, &options).map_err(|e| e.to_string())?;
    Ok(kernel.verifier_statistics(&load).is_ok())
}

#[test]
fn verifier_cases() {
    let kernel = Need::Bpf.is_met().then(|| Arc::new(Kernel::new()));
    if kernel.is_none() {
        println!("kernel skipped: {}", Need::Bpf.name());
    }
    let updates = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for path in source_files(&workspace_root().join("tests/cases/verifier"), &["s"]) {
        let name = path.file_name().unwrap_or_default().display().to_string();
        let opened = VerifierCase::read(&path).and_then(|case| {
            let checker = Checker::open(&case.object, &CheckOptions::default());
            let checker = checker.map_err(|e| format!("{name}: {e}"))?;
            Ok((case, checker))
        });
        let (case, checker) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                wrong.push(error);
                continue;
            }
        };
        let found = ours(&checker, case.caps).unwrap_or_else(|e| format!("no verdict: {e}"));
        if found != case.expected() {
            if updates {
                std::fs::write(&path, case.with_verdict(&found)).unwrap();
            } else {
                wrong.push(format!(
                    "{name}:\n  expected {}\n  found    {found}",
                    case.expected()
                ));
            }
        }
        // Without its privileges a process could not make the maps; `cargo xtask corpus` compares verdicts on such loaders.
        if let (Some(kernel), Caps::All) = (&kernel, case.caps) {
            let accepts = kernel_accepts(kernel, &checker);
            if accepts != Ok((found == "accept") != case.kernel_errs) {
                wrong.push(format!(
                    "{name}: ours {found}, the kernel accepts: {accepts:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
