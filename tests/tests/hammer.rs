//! Processes that share maps, one of which is killed again and again. `cargo xtask hammer` does the same for longer.

use skep_tests::hammer;
use std::time::Duration;

/// How long it goes on.
const LENGTH: Duration = Duration::from_millis(1500);

#[test]
fn maps_survive_the_death_of_processes() {
    let this = std::env::current_exe().unwrap();
    let command = [
        this.to_str().unwrap(),
        "--exact",
        "hammer::one_process",
        "--ignored",
        "--nocapture",
    ]
    .map(str::to_owned);
    let report = hammer::hammer(&command, LENGTH).unwrap();
    assert!(report.breaches.is_empty(), "{report:?}");
    assert!(report.killed > 0 && report.operations > 0, "{report:?}");
}

/// One of the processes; [`maps_survive_the_death_of_processes`] starts it.
#[test]
#[ignore = "a part of the test above"]
fn one_process() {
    let Ok(words) = std::env::var(hammer::WORDS) else {
        return;
    };
    let words: Vec<String> = words.split('\n').map(str::to_owned).collect();
    hammer::worker(&words).unwrap();
}
