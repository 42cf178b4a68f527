//! Are repaired sources right? They are if the live kernel accepts them and they do what a correct source does.

use super::outcome::Bench;
use super::{Set, trial};
use crate::TaskError;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// Outputs that count as right, by program: alternatives, each with a line a run.
type Expected = BTreeMap<String, Vec<Vec<String>>>;

/// Head of `outputs.txt`.
const HEAD: &str = "\
# What the correct sources beside this file do on the four inputs of the dev corpus, on Linux 6.18.
# NAME[.ALTERNATIVE]  INPUT  return value, bytes of output, start of their sha256 | no-run | * (whatever it is)
# A repair is right if it does what one alternative does. Lines with an alternative are written by hand, where the
# source leaves open what was meant; the others are recorded (`cargo xtask diagnose --record`).
";

/// Reads `outputs.txt`.
fn expected(set: &Set) -> Result<Expected, TaskError> {
    let path = set.repaired.join("outputs.txt");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let mut words = line.splitn(3, ' ');
        let (Some(name), Some(_), Some(what)) = (words.next(), words.next(), words.next()) else {
            return Err(format!("{}: no three fields: {line}", path.display()));
        };
        by_name.entry(name).or_default().push(what.to_owned());
    }
    let mut expected = Expected::new();
    for (name, runs) in by_name {
        let base = name.split('.').next().unwrap_or_default();
        expected.entry(base.to_owned()).or_default().push(runs);
    }
    Ok(expected)
}

fn matches(expected: &[String], found: &[String]) -> bool {
    expected.len() == found.len() && expected.iter().zip(found).all(|(e, f)| e == "*" || e == f)
}

/// Says which of the repaired sources in `repaired` are right.
pub(super) fn judge(dir: &Path, set: &Set, repaired: &Path) -> Result<(), TaskError> {
    let bench = Bench::new(dir)?;
    let expected = expected(set)?;
    let names = trial::names(dir, set)?;
    let mut right = 0;
    for name in &names {
        let source = repaired.join(format!("{name}.c"));
        let verdict = match bench.outcome(&source) {
            Ok(found) => {
                let alternatives = expected.get(name).map(Vec::as_slice).unwrap_or_default();
                if alternatives.iter().any(|e| matches(e, &found)) {
                    right += 1;
                    "right".to_owned()
                } else {
                    format!("wrong: does {found:?}, expected {alternatives:?}")
                }
            }
            Err(why) => format!("wrong: {why}"),
        };
        println!("{name}: {verdict}");
    }
    println!("{}", json!({"repair_trial": names.len(), "right": right}));
    Ok(())
}

/// Records what the correct sources do; lines of alternatives stay.
pub(super) fn record(dir: &Path, set: &Set) -> Result<(), TaskError> {
    let bench = Bench::new(dir)?;
    let path = set.repaired.join("outputs.txt");
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    let mut lines: Vec<String> = Vec::new();
    for name in trial::names(dir, set)? {
        let by_hand = old
            .lines()
            .filter(|l| l.starts_with(&format!("{name}.")))
            .map(str::to_owned);
        lines.extend(by_hand);
        let found = bench
            .outcome(&set.repaired.join(format!("{name}.c")))
            .map_err(|e| format!("{name}: {e}"))?;
        let recorded = found
            .iter()
            .enumerate()
            .map(|(at, what)| format!("{name} {at} {what}"));
        lines.extend(recorded);
    }
    lines.sort();
    let text = format!("{HEAD}{}\n", lines.join("\n"));
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
}
