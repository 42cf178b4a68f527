//! Does the message point at the line that is at fault? `tests/diagnose/faults.txt` says which line that is.

use crate::TaskError;
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A row of the table.
struct Fault {
    name: String,
    /// Lines of the statement that breaks a rule.
    broken: RangeInclusive<u64>,
    /// Line that one would change, if it is another.
    mistake: Option<u64>,
}

fn table() -> Result<Vec<Fault>, TaskError> {
    let path = crate::workspace_root().join("tests/diagnose/faults.txt");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let rows = text.lines().filter(|l| !l.starts_with('#'));
    rows.map(|line| row(line).ok_or_else(|| format!("{}: invalid row: {line}", path.display())))
        .collect()
}

fn row(line: &str) -> Option<Fault> {
    let mut words = line.split_whitespace();
    let name = words.next()?.to_owned();
    let broken = words.next()?;
    let (first, last) = broken.split_once('-').unwrap_or((broken, broken));
    Some(Fault {
        name,
        broken: first.parse().ok()?..=last.parse().ok()?,
        mistake: words.next()?.parse().ok(),
    })
}

/// Builds the binary; where it is.
pub(super) fn skep() -> Result<PathBuf, TaskError> {
    let status = Command::new("cargo")
        .args(["build", "--release", "--quiet", "-p", "skep-cli"])
        .current_dir(crate::workspace_root())
        .status()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    if status.success() {
        Ok(crate::target_dir().join("release/skep"))
    } else {
        Err("skep does not build".to_owned())
    }
}

/// What `skep check` says of an object.
pub(super) fn check(skep: &Path, object: &Path, options: &[&str]) -> Result<Vec<u8>, TaskError> {
    let output = Command::new(skep)
        .arg("check")
        .args(options)
        .arg(object)
        .output();
    output
        .map(|o| o.stdout)
        .map_err(|e| format!("cannot run {}: {e}", skep.display()))
}

/// The message as text, without the folder of the objects.
fn message(skep: &Path, object: &Path) -> Result<String, TaskError> {
    let said = check(skep, object, &[])?;
    let folder = object.parent().unwrap_or(object).display().to_string();
    Ok(String::from_utf8_lossy(&said).replace(&format!("{folder}/"), ""))
}

/// Compares a message with the reviewed one; with `UPDATE=1` it becomes the reviewed one.
fn is_as_reviewed(name: &str, message: &str) -> Result<bool, TaskError> {
    let folder = crate::workspace_root().join("tests/diagnose/corpus");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&path, message))
            .map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(std::fs::read_to_string(&path).is_ok_and(|reviewed| reviewed == message))
}

/// Compares the places of all messages with the table.
pub(super) fn measure(dir: &Path) -> Result<(), TaskError> {
    let objects = crate::corpus::objects_dir(dir)?.join("base");
    let skep = skep()?;
    let table = table()?;
    let (mut right, mut named, mut to_name, mut other) = (0, 0, 0, 0);
    for fault in &table {
        let object = objects.join(format!("{}.o", fault.name));
        let text = message(&skep, &object)?;
        if !is_as_reviewed(&fault.name, &text)? {
            println!("{}: another text than the reviewed one", fault.name);
            other += 1;
        }
        let said = check(&skep, &object, &["--json"])?;
        let text = String::from_utf8_lossy(&said);
        let answers = text
            .lines()
            .filter_map(|l| serde_json::from_str::<Value>(l).ok());
        let Some(answer) = answers.into_iter().find(|a| a["verdict"] == "reject") else {
            println!("{}: not rejected", fault.name);
            continue;
        };
        let line = answer["line"].as_u64();
        if line.is_some_and(|l| fault.broken.contains(&l)) {
            right += 1;
        } else {
            println!(
                "{}: line {line:?} instead of {:?}",
                fault.name, fault.broken
            );
        }
        let Some(mistake) = fault.mistake else {
            continue;
        };
        to_name += 1;
        let notes = answer["notes"].as_array().into_iter().flatten();
        if notes
            .map(|n| n["line"].as_u64())
            .any(|l| l == Some(mistake))
        {
            named += 1;
        } else {
            println!("{}: no note about line {mistake}", fault.name);
        }
    }
    println!(
        "{}",
        json!({"diagnose": table.len(), "line_right": right, "mistakes": to_name, "mistake_named": named, "other_text": other})
    );
    if other > 0 {
        return Err(format!(
            "{other} messages are not the reviewed ones; UPDATE=1 takes them over, to be read as code"
        ));
    }
    if right * 100 >= table.len() * 95 {
        Ok(())
    } else {
        Err("fewer than 95 % of the messages point at the faulty line".to_owned())
    }
}
