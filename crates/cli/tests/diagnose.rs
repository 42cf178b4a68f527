//! Messages for rejected programs: snapshots of our own cases, and the examples of `skep explain`.

use serde_json::Value as Json;
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
    assert!(reviewed("tests/diagnose/cases", "all") >= 15);
}

/// The same where an object keeps its debug information.
#[test]
fn local_variables_have_the_reviewed_text() {
    assert!(reviewed("tests/diagnose/debug", "bpf") >= 1);
}

/// Compares the text for every object of `folder` with the one beside it; returns how many there are.
fn reviewed(folder: &str, caps: &str) -> usize {
    let folder = root().join(folder);
    let mut seen = 0;
    for entry in fs::read_dir(&folder).expect("the cases").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".bpf.o") else {
            continue;
        };
        seen += 1;
        let text = skep(&folder, &["check", "--caps", caps, &name]);
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
    seen
}

#[test]
fn kernel_logs_have_levels() {
    let folder = root().join("tests/diagnose/cases");
    let log = |level| {
        let object = "signed_index.bpf.o";
        let options = ["check", object, "--log", "kernel", "--log-level", level];
        skep(&folder, &options)
    };
    let (path, paths, statistics) = (log("1"), log("2"), log("4"));
    let mut lines = path.lines();
    assert_eq!(lines.next(), Some("0: R1=ctx() R10=fp0"));
    assert!(
        path.contains("; if (i > 15) @ signed_index.bpf.c:27"),
        "{path}"
    );
    let moved = "4: (07) r2 += -4                      ; R2=fp-4";
    assert!(path.lines().any(|l| l == moved), "{path}");
    let why = "math between map_value pointer and register with unbounded min value is not allowed";
    let last = "processed 14 insns (limit 1000000) max_states_per_insn 0 total_states ";
    let [.., reason, processed] = path.lines().collect::<Vec<_>>()[..] else {
        panic!("{path}");
    };
    assert_eq!(reason, why);
    assert!(processed.starts_with(last), "{path}");
    assert!(paths.lines().count() >= path.lines().count());
    assert!(statistics.starts_with("verification time "), "{statistics}");
    assert_eq!(statistics.lines().count(), 2);
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
    let row = skep(
        &folder,
        &["check", "--json", "--veristat", "return_value.bpf.o"],
    );
    assert!(row.starts_with('{'), "JSON has no table: {row}");
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

/// What in `value` breaks `schema`; as much of JSON Schema as `docs/check.schema.json` uses.
fn breaches(root: &Json, schema: &Json, value: &Json, at: &str, out: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.trim_start_matches("#/$defs/");
        return breaches(root, &root["$defs"][name], value, at, out);
    }
    let fits = |of: &Json| match of.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        other => panic!("type {other:?} is not read here"),
    };
    let types = &schema["type"];
    let typed = match types {
        Json::Null => true,
        Json::Array(any) => any.iter().any(fits),
        one => fits(one),
    };
    let constant = schema.get("const").is_none_or(|c| c == value);
    let listed = schema["enum"].as_array().is_none_or(|e| e.contains(value));
    let high = schema["minimum"]
        .as_i64()
        .is_none_or(|m| value.as_i64() >= Some(m));
    if !(typed && constant && listed && high) {
        out.push(format!("{at}: {value}"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap_or_default()).is_none() {
            out.push(format!("{at}: no {name}"));
        }
    }
    for (name, of) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(inner) => breaches(root, inner, of, &format!("{at}/{name}"), out),
            None => out.push(format!("{at}: {name} is not in the schema")),
        }
    }
    for (i, of) in value.as_array().into_iter().flatten().enumerate() {
        breaches(root, &schema["items"], of, &format!("{at}/{i}"), out);
    }
}

#[test]
fn json_is_as_its_schema_says() {
    let schema = fs::read_to_string(root().join("docs/check.schema.json")).expect("the schema");
    let schema: Json = serde_json::from_str(&schema).expect("JSON");
    let mut found = Vec::new();
    for object in objects() {
        let object = object.display().to_string();
        let rows = skep(&root(), &["check", "--json", "--stats", &object]);
        for row in rows.lines() {
            let row: Json = serde_json::from_str(row).expect("JSON");
            breaches(&schema, &schema, &row, &object, &mut found);
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Objects that are accepted, rejected in all the ways of the cases and the codes, and no objects.
fn objects() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [
        "tests/diagnose/cases",
        "tests/diagnose/debug",
        "tests/objects",
    ] {
        let entries = fs::read_dir(root().join(folder))
            .expect("objects")
            .flatten();
        let objects = entries.map(|e| e.path());
        found.extend(objects.filter(|p| p.extension().is_some_and(|e| e == "o")));
    }
    found.push(root().join("examples/packets.bpf.o"));
    found.push(root().join("Cargo.toml"));
    found.sort();
    found
}

/// CAP_SYS_ADMIN is effective.
fn is_root() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let caps = line.and_then(|l| u64::from_str_radix(l.trim(), 16).ok());
    caps.is_some_and(|caps| caps >> CAP_SYS_ADMIN & 1 == 1)
}

/// What the running kernel refuses is explained as `skep check` does, with the kernel's own words beneath.
#[test]
fn loads_that_the_kernel_refuses_are_explained() {
    if !is_root() {
        println!("skipped: root");
        return;
    }
    let folder = root().join("tests/diagnose/cases");
    let pin = format!("/sys/fs/bpf/skep-diagnose-{}", std::process::id());
    for object in objects().iter().filter(|o| o.starts_with(&folder)) {
        let reviewed = fs::read_to_string(object.with_extension("").with_extension("txt"));
        let reviewed = reviewed.expect("the text");
        let code = reviewed.split(':').next().unwrap_or_default();
        let object = object.display().to_string();
        for arguments in [&["run", &object][..], &["prog", "load", &object, &pin]] {
            let output = Command::new(env!("CARGO_BIN_EXE_skep"))
                .args(arguments)
                .current_dir(&folder)
                .stdin(Stdio::null())
                .output()
                .expect("skep runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
            assert!(
                said.starts_with(&format!("skep: {code}")),
                "{arguments:?}: {said}"
            );
            let last = said.trim_end().lines().last().unwrap_or_default();
            assert!(
                last.starts_with("the kernel says: "),
                "{arguments:?}: {said}"
            );
        }
    }
}

/// A line of `skep check --watch` that contains `wanted`, or a panic after a while.
fn wait_for(lines: &std::sync::mpsc::Receiver<String>, wanted: &str) {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
    let started = std::time::Instant::now();
    while started.elapsed() < PATIENCE {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) if line.contains(wanted) => return,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    panic!("no line with {wanted:?}");
}

/// Sends every line of a stream.
fn send_lines(from: impl std::io::Read + Send + 'static, to: std::sync::mpsc::Sender<String>) {
    use std::io::BufRead;
    std::thread::spawn(move || {
        let lines = std::io::BufReader::new(from).lines().map_while(Result::ok);
        for line in lines {
            if to.send(line).is_err() {
                return; // nobody waits any more
            }
        }
    });
}

#[test]
fn watching_sees_changes_and_removals() {
    let folder = std::env::temp_dir().join(format!("skep-watch-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let object = folder.join("watched.bpf.o");
    let cases = root().join("tests/diagnose/cases");
    fs::copy(cases.join("return_value.bpf.o"), &object).expect("a copy");
    let mut child = Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(["check", "--watch"])
        .arg(&object)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("skep runs");
    let (to, lines) = std::sync::mpsc::channel();
    send_lines(child.stdout.take().expect("piped"), to.clone());
    send_lines(child.stderr.take().expect("piped"), to);
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for(&lines, "error[V0701]");
        fs::copy(cases.join("packet_moved.bpf.o"), &object).expect("a copy");
        wait_for(&lines, "error[V0202]");
        fs::remove_file(&object).expect("removed");
        wait_for(&lines, "no such file");
        fs::copy(root().join("examples/packets.bpf.o"), &object).expect("a copy");
        wait_for(&lines, "accepted");
    }));
    child.kill().expect("it still runs");
    child.wait().expect("it ends");
    // Only copies; nothing depends on their removal.
    let _ = fs::remove_dir_all(&folder);
    seen.expect("every change was seen");
}

/// An example of `docs/codes/codes.md`.
struct Example {
    code: String,
    wrong: bool,
    /// Value of `--caps`.
    caps: &'static str,
    source: String,
}

/// The examples; a section has a wrong and a right one, or none.
fn examples() -> Vec<Example> {
    const MARKS: &[(&str, bool, &str)] = &[
        ("```c wrong\n", true, "all"),
        ("```c wrong bpf\n", true, "bpf"),
        ("```c right\n", false, "all"),
        ("```c right bpf\n", false, "bpf"),
    ];
    let text = fs::read_to_string(root().join("docs/codes/codes.md")).expect("the texts");
    let mut found = Vec::new();
    for section in text.split("\n## ").skip(1) {
        let code = section.lines().next().unwrap_or_default().to_owned();
        let before = found.len();
        for &(mark, wrong, caps) in MARKS {
            let Some(start) = section.find(mark) else {
                continue;
            };
            let source = &section[start + mark.len()..];
            let end = source
                .find("```")
                .unwrap_or_else(|| panic!("{code}: open example"));
            found.push(Example {
                code: code.clone(),
                wrong,
                caps,
                source: source[..end].to_owned(),
            });
        }
        let fences = section.matches("```c").count();
        let kinds: Vec<bool> = found[before..].iter().map(|e: &Example| e.wrong).collect();
        assert_eq!(fences, kinds.len(), "{code}: an example that is not read");
        assert!(
            kinds.is_empty() || kinds == [true, false],
            "{code} has {kinds:?}"
        );
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

/// What `skep explain` lists has a longer text.
#[test]
fn every_code_has_a_text() {
    let rows = skep(&root(), &["explain", "--json"]);
    let rows = rows
        .lines()
        .map(|row| serde_json::from_str(row).expect("JSON"));
    let bare = rows.filter(|row: &Json| !row["more"].is_string());
    let bare: Vec<String> = bare.map(|row| row["code"].to_string()).collect();
    assert!(bare.is_empty(), "{bare:?}");
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
    for example in examples() {
        let Example {
            code,
            wrong,
            caps,
            source,
        } = example;
        let name = format!("{code}-{}", if wrong { "wrong" } else { "right" });
        let license = "char LICENSE[] SEC(\"license\") = \"Dual MIT/GPL\";\n";
        let license = if source.contains("SEC(\"license\")") {
            ""
        } else {
            license
        };
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
        let row = skep(&folder, &["check", "--json", "--caps", caps, &o]);
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
