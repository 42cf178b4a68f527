//! Messages for rejected programs: snapshots of our own cases, and the examples of `skep explain`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .ancestors()
        .nth(2)
        .expect("the workspace")
        .to_owned()
}

/// What `skep` prints, run in `folder`.
fn skep(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("skep runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Each case beats a message of the kernel, which its first comment quotes; the text beside it was reviewed.
#[test]
fn cases_have_the_reviewed_text() {
    let folder = root().join("tests/diagnose/cases");
    let mut seen = 0;
    for entry in fs::read_dir(&folder).expect("the cases").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".bpf.o") else {
            continue;
        };
        seen += 1;
        let text = skep(&folder, &["check", &name]);
        assert!(text.starts_with("error["), "{stem} is not rejected: {text}");
        let path = folder.join(format!("{stem}.txt"));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &text).expect("writable");
        }
        let reviewed = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            text, reviewed,
            "{stem}: UPDATE=1 rewrites; read the diff as code"
        );
    }
    assert!(seen >= 15, "{seen} cases");
}

#[test]
fn kernel_logs_have_levels() {
    let folder = root().join("tests/diagnose/cases");
    let log = |level| {
        skep(
            &folder,
            &[
                "check",
                "signed_index.bpf.o",
                "--log",
                "kernel",
                "--log-level",
                level,
            ],
        )
    };
    let statistics = "processed 14 insns (limit 1000000)";
    assert!(log("1").contains("0: R1=ctx() R10=fp0"), "{}", log("1"));
    assert!(
        log("1").contains("; if (i > 15) @ signed_index.bpf.c:"),
        "{}",
        log("1")
    );
    assert!(log("2").lines().count() == log("1").lines().count());
    assert!(log("2").len() > log("1").len());
    assert!(log("4").trim_end().ends_with(statistics), "{}", log("4"));
    assert!(!log("4").contains("R10=fp0"));
}

#[test]
fn reports_for_other_programs() {
    let folder = root().join("tests/diagnose/cases");
    let annotation = skep(&folder, &["check", "--github", "return_value.bpf.o"]);
    assert!(annotation.starts_with("::error file="), "{annotation}");
    assert!(
        annotation.contains(",line=11,col=2,title=skep V0701::return_value: "),
        "{annotation}"
    );
    let table = skep(&folder, &["check", "--veristat", "return_value.bpf.o"]);
    assert!(
        table.contains("\nreturn_value.bpf.o,return_value,failure,"),
        "{table}"
    );
    let sarif = skep(&folder, &["check", "--sarif", "two_errors.bpf.o"]);
    let sarif: serde_json::Value = serde_json::from_str(&sarif).expect("JSON");
    assert_eq!(sarif["version"], "2.1.0");
    let results = sarif["runs"][0]["results"].as_array().expect("results");
    assert_eq!(results.len(), 2, "both errors");
    let rules = sarif["runs"][0]["tool"]["driver"]["rules"]
        .as_array()
        .expect("rules");
    for result in results {
        assert!(result["message"]["text"].is_string());
        assert!(rules.iter().any(|r| r["id"] == result["ruleId"]));
        let physical = &result["locations"][0]["physicalLocation"];
        let uri = physical["artifactLocation"]["uri"].as_str().expect("a URI");
        assert!(!uri.contains(' '));
        assert!(physical["region"]["startLine"].as_u64() >= Some(1));
        assert!(physical["region"]["startColumn"].as_u64() >= Some(1));
    }
}

#[test]
fn json_names_what_led_there() {
    let folder = root().join("tests/diagnose/cases");
    let row = skep(&folder, &["check", "--json", "--stats", "two_errors.bpf.o"]);
    let row: serde_json::Value = serde_json::from_str(&row).expect("JSON");
    assert_eq!(row["schema"], 1);
    assert_eq!(row["code"], "V0209");
    assert_eq!(row["further"][0]["code"], "V0203");
    assert_eq!(row["notes"][0]["line"], 17);
    assert!(row["lines"][0]["steps"].as_u64() >= Some(1));
}

/// The examples of one code: (is it the wrong one, source).
fn examples() -> Vec<(String, bool, String)> {
    let text = fs::read_to_string(root().join("docs/codes/codes.md")).expect("the texts");
    let mut found = Vec::new();
    for section in text.split("\n## ").skip(1) {
        let code = section.lines().next().unwrap_or_default().to_owned();
        for (mark, wrong) in [("```c wrong\n", true), ("```c right\n", false)] {
            let start = section
                .find(mark)
                .unwrap_or_else(|| panic!("{code} lacks {mark}"));
            let source = &section[start + mark.len()..];
            let end = source
                .find("```")
                .unwrap_or_else(|| panic!("{code}: open example"));
            found.push((code.clone(), wrong, source[..end].to_owned()));
        }
    }
    found
}

fn has_clang() -> bool {
    let quiet = |name: &str| {
        let mut command = Command::new(name);
        command
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|s| s.success())
    };
    quiet("clang-19") && Path::new("/usr/include/bpf/bpf_helpers.h").exists()
}

#[test]
fn examples_of_explain_are_what_they_say() {
    if !has_clang() {
        println!("skipped: clang");
        return;
    }
    let folder = std::env::temp_dir().join(format!("skep-codes-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let prelude = root().join("docs/codes/prelude.h");
    let mut faults = Vec::new();
    for (code, wrong, source) in examples() {
        let name = format!("{code}-{}", if wrong { "wrong" } else { "right" });
        let license = "char LICENSE[] SEC(\"license\") = \"Dual MIT/GPL\";\n";
        let whole = format!("#include \"{}\"\n{source}\n{license}", prelude.display());
        let (c, o) = (format!("{name}.bpf.c"), format!("{name}.bpf.o"));
        fs::write(folder.join(&c), whole).expect("writable");
        let built = Command::new("clang-19")
            .args([
                "-O2",
                "-g",
                "-target",
                "bpf",
                "-mcpu=v3",
                "-w",
                "-idirafter",
                "/usr/include/x86_64-linux-gnu",
                "-c",
            ])
            .args([&c, "-o", &o])
            .current_dir(&folder)
            .status();
        assert!(built.is_ok_and(|s| s.success()), "{name} does not compile");
        let row = skep(&folder, &["check", "--json", &o]);
        let row: serde_json::Value = serde_json::from_str(&row).expect("JSON");
        let fits = if wrong {
            row["code"] == code.as_str()
        } else {
            row["verdict"] == "accept"
        };
        if !fits {
            faults.push(format!(
                "{name}: {} {} {}",
                row["verdict"], row["code"], row["message"]
            ));
        }
    }
    // Only copies; nothing depends on their removal.
    let _ = fs::remove_dir_all(&folder);
    assert!(faults.is_empty(), "{faults:#?}");
}
