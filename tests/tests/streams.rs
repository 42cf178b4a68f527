//! Readers that do not block a thread, and what readers know of records that had no room.

use crate::attach::needs;
use skep::Kernel;
use skep::load::Loaded;
use skep::stream::Stream;
use skep_bpf::{Backend, Event, EventReader, TestRun};
use skep_tests::objects::loaded;
use skep_user::Universe;
use std::sync::Arc;
use std::time::Duration;

/// Records that a run of `sample` puts into each buffer.
const RECORD_BYTES: usize = 8;
/// Runs that fill a perf buffer of 64 pages with samples of 24 bytes, and more.
const TOO_MANY_RUNS: u32 = 20_000;
/// How often the thread may move to another processor between two runs.
const ROUNDS_MAX: u32 = 20;

fn run(loaded: &Loaded, repeat: u32) {
    let run = TestRun {
        data_in: Some(vec![0; 64]),
        repeat,
        ..TestRun::default()
    };
    let handle = loaded.programs[0].handle;
    loaded.backend().prog_test_run(handle, &run).unwrap();
}

fn reader(loaded: &Loaded, map: &str) -> Box<dyn EventReader> {
    let handle = loaded.map(map).unwrap().handle;
    loaded.backend().events_open(handle).unwrap()
}

fn backends() -> Vec<Arc<dyn Backend>> {
    let user = Universe::new(skep_user::Options::default()).unwrap();
    let mut backends: Vec<Arc<dyn Backend>> = vec![Arc::new(user)];
    if needs() {
        backends.push(Arc::new(Kernel::new()));
    }
    backends
}

#[test]
fn streams_wake_up_for_records() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .unwrap();
    for backend in backends() {
        for map in ["records", "samples"] {
            let loaded = loaded("samples", &backend);
            let mut count = 0;
            runtime.block_on(async {
                let mut stream = Stream::new(reader(&loaded, map)).unwrap();
                for round in 0..3 {
                    // The first one is there already, the others come while the stream waits.
                    let late = async {
                        if round > 0 {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        run(&loaded, 1);
                    };
                    let mut each = |event: Event<'_>| {
                        if let Event::Record(data) | Event::Sample { data, .. } = event {
                            assert!(data.len() >= RECORD_BYTES);
                            count += 1;
                        }
                    };
                    let next =
                        tokio::time::timeout(Duration::from_secs(10), stream.next(&mut each));
                    let (read, ()) = join(next, late).await;
                    read.unwrap().unwrap();
                }
            });
            assert_eq!(count, 3, "{} {map}", backend.kind());
        }
    }
}

/// Both, side by side.
async fn join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    use std::pin::pin;
    use std::task::Poll;
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(move |context| {
        if first.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(context)
        {
            first = Some(value);
        }
        if second.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(context)
        {
            second = Some(value);
        }
        match (first.take(), second.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (first, second) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

#[test]
fn readers_count_what_had_no_room() {
    if !needs() {
        return;
    }
    let backend: Arc<dyn Backend> = Arc::new(Kernel::new());
    let loaded = loaded("samples", &backend);
    let mut samples = reader(&loaded, "samples");
    let records = reader(&loaded, "records");
    assert_eq!(samples.lost(), Some(0));
    assert_eq!(records.lost(), None);
    assert_eq!(records.fill().map(|f| f.bytes), Some(0));
    run(&loaded, TOO_MANY_RUNS);
    // A ring buffer of a page holds no more; the program was told.
    let fill = records.fill().unwrap();
    assert!(
        fill.bytes > fill.capacity / 2 && fill.bytes <= fill.capacity,
        "{fill:?}"
    );
    let mut said = 0;
    // That samples were lost is said in front of the next one of that processor: it is another one's if the thread moved.
    for _ in 0..ROUNDS_MAX {
        samples.drain(&mut |_| {}).unwrap();
        run(&loaded, 1);
        samples
            .drain(&mut |event| {
                if let Event::Lost { count, .. } = event {
                    said += count;
                }
            })
            .unwrap();
        if said > 0 {
            break;
        }
        run(&loaded, TOO_MANY_RUNS);
    }
    assert!(samples.lost() >= Some(said) && said > 0, "{said}");
}
