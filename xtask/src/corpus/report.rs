//! What the comparison came to, for people and as one JSON line.

use super::compare::{self, Comparison, Relation};
use super::rows::CapSet;
use crate::TaskError;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Groups printed per heading.
const GROUPS_MAX: usize = 60;
/// Single rows printed per heading.
const ROWS_MAX: usize = 200;

/// Prints every row where we differ from the kernel, in the verdict or in the place of a rejection.
pub(super) fn list_differences(all: &[Comparison<'_>]) {
    for c in all
        .iter()
        .filter(|c| c.relation != Relation::Agree || is_misplaced(c))
    {
        println!("{}", describe(c));
    }
}

/// Both reject, at a place that the kernel tells.
fn has_place(c: &Comparison<'_>) -> bool {
    c.relation == Relation::Agree && !c.kernel.accept && c.kernel.fail_insn.is_some()
}

/// Both reject, at different instructions.
fn is_misplaced(c: &Comparison<'_>) -> bool {
    has_place(c) && c.insn.map(u64::from) != c.kernel.fail_insn
}

fn describe(c: &Comparison<'_>) -> String {
    let place = |insn: Option<u64>| insn.map_or_else(String::new, |i| format!(" at {i}"));
    let kernel = if c.kernel.accept {
        "accept".to_owned()
    } else {
        format!(
            "reject{} errno {} \"{}\"",
            place(c.kernel.fail_insn),
            c.kernel.errno,
            c.kernel.log_last
        )
    };
    let ours = format!(
        "{}{} \"{}\"",
        c.code,
        place(c.insn.map(u64::from)),
        c.message
    );
    format!(
        "{:?} [{}] {} {}: kernel {kernel}; ours {ours}",
        c.relation,
        c.caps.name(),
        c.row.object,
        c.row.program
    )
}

/// A share in percent with two decimals.
fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        return 100.0;
    }
    (part as f64 * 10_000.0 / whole as f64).round() / 100.0
}

/// Groups of like comparisons, largest first: (key, count, example).
fn groups<'a, 'c>(
    chosen: impl Iterator<Item = &'c Comparison<'a>>,
    key: impl Fn(&Comparison<'a>) -> String,
) -> Vec<(String, usize, &'c Comparison<'a>)>
where
    'a: 'c,
{
    let mut found: BTreeMap<String, (usize, &Comparison<'a>)> = BTreeMap::new();
    for c in chosen {
        found.entry(key(c)).or_insert((0, c)).0 += 1;
    }
    let mut list: Vec<_> = found.into_iter().map(|(k, (n, c))| (k, n, c)).collect();
    list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    list
}

fn print_groups<'a>(
    all: &[Comparison<'a>],
    relation: Relation,
    key: impl Fn(&Comparison<'a>) -> String,
) {
    let list = groups(all.iter().filter(|c| c.relation == relation), key);
    for (key, count, example) in list.iter().take(GROUPS_MAX) {
        println!("  {count:5}  {key}");
        println!(
            "         e.g. {} {} [{}]",
            example.row.object,
            example.row.program,
            example.caps.name()
        );
    }
    if list.len() > GROUPS_MAX {
        println!("         and {} more groups", list.len() - GROUPS_MAX);
    }
}

fn print_rows(all: &[Comparison<'_>], relation: Relation) {
    for c in all.iter().filter(|c| c.relation == relation).take(ROWS_MAX) {
        println!("  {}", describe(c));
    }
}

/// Figures of one loader.
fn figures(all: &[Comparison<'_>], caps: CapSet) -> Value {
    let of_caps: Vec<_> = all.iter().filter(|c| c.caps == caps).collect();
    let count = |relation| of_caps.iter().filter(|c| c.relation == relation).count();
    let covered: Vec<_> = of_caps.iter().filter(|c| c.covered).collect();
    let covered_agree = covered
        .iter()
        .filter(|c| c.relation == Relation::Agree)
        .count();
    let places: Vec<_> = of_caps.iter().filter(|c| has_place(c)).collect();
    let placed = places.iter().filter(|c| !is_misplaced(c)).count();
    json!({
        "rows": of_caps.len(),
        "agree": count(Relation::Agree),
        "agreement": percent(count(Relation::Agree), of_caps.len()),
        "covered_rows": covered.len(),
        "covered_agree": covered_agree,
        "covered_agreement": percent(covered_agree, covered.len()),
        "false_accepts": count(Relation::FalseAccept),
        "false_rejects": count(Relation::FalseReject),
        "complexity_differences": count(Relation::Complexity),
        "no_verdict": count(Relation::NoVerdict),
        "crashes": count(Relation::Crash),
        "hangs": count(Relation::Hang),
        "fail_insn_rows": places.len(),
        "fail_insn_agreement": percent(placed, places.len()),
    })
}

fn print_figures(caps: CapSet, f: &Value) {
    println!(
        "caps {}: agreement {} % ({} of {}), covered {} % ({} of {})",
        caps.name(),
        f["agreement"],
        f["agree"],
        f["rows"],
        f["covered_agreement"],
        f["covered_agree"],
        f["covered_rows"]
    );
    println!(
        "  false accepts {}, false rejects {}, no verdict {}, crashes {}, hangs {}",
        f["false_accepts"], f["false_rejects"], f["no_verdict"], f["crashes"], f["hangs"]
    );
    println!("  complexity differences {}", f["complexity_differences"]);
    println!(
        "  place of common rejections {} % of {}",
        f["fail_insn_agreement"], f["fail_insn_rows"]
    );
}

/// Prints groups, figures and the JSON line; an error if there is a false accept, a crash or a hang.
pub(super) fn print(all: &[Comparison<'_>], elapsed: Duration) -> Result<(), TaskError> {
    println!("false accepts, by the kernel's reason:");
    print_groups(all, Relation::FalseAccept, |c| {
        compare::shape(&c.kernel.log_last)
    });
    print_rows(all, Relation::FalseAccept);
    println!("false rejects, by our reason:");
    print_groups(all, Relation::FalseReject, |c| {
        format!("{} {}", c.code, compare::shape(&c.message))
    });
    println!("no verdict though the kernel gave one:");
    print_groups(all, Relation::NoVerdict, |c| compare::shape(&c.message));
    println!("complexity differences:");
    print_rows(all, Relation::Complexity);
    println!("crashes and hangs:");
    print_rows(all, Relation::Crash);
    print_rows(all, Relation::Hang);
    let mut last = Map::new();
    last.insert("corpus".to_owned(), json!(compare::objects(all)));
    for caps in CapSet::BOTH {
        let figures = figures(all, caps);
        print_figures(caps, &figures);
        last.insert(caps.name().to_owned(), figures);
    }
    last.insert(
        "seconds".to_owned(),
        json!(percent(elapsed.as_millis() as usize, 100_000)),
    );
    println!("{}", Value::Object(last));
    let count = |relation| all.iter().filter(|c| c.relation == relation).count();
    match [Relation::FalseAccept, Relation::Crash, Relation::Hang].map(count) {
        [0, 0, 0] => Ok(()),
        [accepts, crashes, hangs] => Err(format!(
            "{accepts} false accepts, {crashes} crashes, {hangs} hangs"
        )),
    }
}
