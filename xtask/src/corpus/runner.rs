//! Checks all objects on several threads; a panic or a hang costs one answer, not the run.

use super::rows::{self, CapSet, Row};
use skep::check::{CheckOptions, Checker, Verdict};
use skep_verifier::Caps;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Stack of a checking thread.
const STACK_BYTES: usize = 64 << 20;

/// What became of one check.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// We answered.
    Verdict(Verdict),
    /// The object has no such program, or cannot be read.
    Unreadable(String),
    /// We panicked.
    Crash(String),
    /// We took longer than the limit.
    Hang,
}

/// Answers by row and loader.
pub(super) type Answers = BTreeMap<(usize, CapSet), Answer>;

/// One check: row index, program, loader.
type Item = (usize, String, CapSet);

/// Checks every row for both loaders.
pub(super) fn check_all(
    objects: &Path,
    rows: &[Row],
    jobs: usize,
    limit: Duration,
    options: &CheckOptions,
) -> Answers {
    let work: Vec<(PathBuf, Vec<Item>)> = rows::by_object(rows)
        .into_iter()
        .map(|(object, indexes)| {
            let items = indexes
                .iter()
                .flat_map(|i| CapSet::BOTH.map(|caps| (*i, rows[*i].program.clone(), caps)));
            (objects.join(object), items.collect())
        })
        .collect();
    std::panic::set_hook(Box::new(|_| {})); // a panic is an answer here, and is reported as one
    let queue = Mutex::new(work.into_iter());
    let answers = Mutex::new(Answers::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((path, items)) = next else { break };
                    let done = check_object(&path, &items, limit, options);
                    answers
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend(done);
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    answers.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Checks the items of one object. Each hang leaves a thread behind and starts another after the item.
fn check_object(path: &Path, items: &[Item], limit: Duration, options: &CheckOptions) -> Answers {
    let mut answers = Answers::new();
    let items: Arc<[Item]> = items.into();
    let mut from = 0;
    while from < items.len() {
        let (sender, receiver) = channel();
        let (thread_path, thread_items) = (path.to_owned(), Arc::clone(&items));
        let options = options.clone();
        let spawned = std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || check_items(&thread_path, &thread_items[from..], &options, &sender));
        if let Err(error) = spawned {
            answers.insert(
                (items[from].0, items[from].2),
                Answer::Crash(error.to_string()),
            );
            from += 1;
            continue;
        }
        from = collect(&receiver, &items, from, limit, &mut answers);
    }
    answers
}

/// Takes answers until all are there or one does not come; returns where to go on.
fn collect(
    receiver: &Receiver<Answer>,
    items: &[Item],
    mut from: usize,
    limit: Duration,
    answers: &mut Answers,
) -> usize {
    while let Some((row, _, caps)) = items.get(from) {
        let answer = match receiver.recv_timeout(limit) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                answers.insert((*row, *caps), Answer::Hang);
                return from + 1;
            }
            Err(RecvTimeoutError::Disconnected) => Answer::Crash("the thread ended".to_owned()),
        };
        answers.insert((*row, *caps), answer);
        from += 1;
    }
    from
}

fn check_items(path: &Path, items: &[Item], options: &CheckOptions, sender: &Sender<Answer>) {
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
        Checker::open(&bytes, options).map_err(|e| e.to_string())
    }));
    for (_, program, caps) in items {
        let answer = match &opened {
            Ok(Ok(checker)) => check_one(checker, program, *caps),
            Ok(Err(error)) => Answer::Unreadable(error.clone()),
            Err(panic) => Answer::Crash(panic_text(panic.as_ref())),
        };
        if sender.send(answer).is_err() {
            return; // given up as hanging
        }
    }
}

fn check_one(checker: &Checker, program: &str, caps: CapSet) -> Answer {
    let caps = match caps {
        CapSet::All => Caps::All,
        CapSet::Bpf => Caps::Bpf,
    };
    match catch_unwind(AssertUnwindSafe(|| checker.check(program, caps))) {
        Ok(Some(report)) => Answer::Verdict(report.verdict),
        Ok(None) => Answer::Unreadable(format!("no program \"{program}\"")),
        Err(panic) => Answer::Crash(panic_text(panic.as_ref())),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panic")
        .to_owned()
}
