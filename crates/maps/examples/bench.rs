//! Times map operations through the function pointers that programs use.

use skep_abi::MapType;
use skep_maps::{Map, MapSpec, Memory, RecordEnd, Runner, ringbuf_commit};
use std::hint::black_box;
use std::time::Instant;

const N: usize = 10_000;

fn key(i: u64) -> u64 {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Nanoseconds of one operation: the least of many samples.
fn time(n: usize, mut op: impl FnMut(usize, u64)) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..30 {
        let mut x = 88_172_645_463_325_252u64;
        let start = Instant::now();
        for i in 0..n {
            x = x
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            op(i, x);
        }
        best = best.min(start.elapsed().as_nanos() as f64 / n as f64);
    }
    best
}

fn random(x: u64, n: u64) -> u64 {
    ((x >> 32) * n) >> 32
}

fn hash(name: &str, map_type: MapType, n: u64, capacity: u32, base: f64) {
    let map = Map::create(
        &MapSpec::new(map_type, 8, 8, capacity, 2),
        &Memory::Anonymous,
    )
    .expect("an anonymous map");
    let who = Runner {
        cpu: 0,
        token: skep_sys::task::token(),
    };
    let h = map.as_ptr();
    // SAFETY: keys and values have 8 bytes.
    unsafe {
        for i in 0..n {
            assert_eq!(
                map.update(
                    key(i).to_ne_bytes().as_ptr(),
                    i.to_ne_bytes().as_ptr(),
                    0,
                    who
                ),
                0
            );
        }
        let mut sum = 0;
        let lookup = time(N, |_, x| {
            let k = key(random(x, n));
            let v = (map.lookup_fn)(black_box(h), (&raw const k).cast(), who);
            if !v.is_null() {
                sum += v.cast::<u64>().read();
            }
        });
        let miss = time(N, |_, x| {
            let k = key(random(x, n) + 0x4000_0000);
            black_box((map.lookup_fn)(black_box(h), (&raw const k).cast(), who));
        });
        let update = time(N, |_, x| {
            let k = key(random(x, n));
            black_box((map.update_fn)(
                black_box(h),
                (&raw const k).cast(),
                (&raw const x).cast(),
                0,
                who,
            ));
        });
        let delete = if n <= N as u64 {
            let mut least = (f64::MAX, f64::MAX);
            for _ in 0..30 {
                let start = Instant::now();
                for i in 0..n {
                    let k = key(i);
                    (map.delete_fn)(black_box(h), (&raw const k).cast(), who);
                }
                least.0 = least.0.min(start.elapsed().as_nanos() as f64 / n as f64);
                let start = Instant::now();
                for i in 0..n {
                    let k = key(i);
                    (map.update_fn)(
                        black_box(h),
                        (&raw const k).cast(),
                        (&raw const k).cast(),
                        0,
                        who,
                    );
                }
                least.1 = least.1.min(start.elapsed().as_nanos() as f64 / n as f64);
            }
            least
        } else {
            (0.0, 0.0)
        };
        black_box(sum);
        println!(
            "{name}: lookup {:.1} miss {:.1} update {:.1} delete {:.1} insert {:.1}",
            lookup - base,
            miss - base,
            update - base,
            delete.0,
            delete.1
        );
    }
}

fn main() {
    let mut sum = 0;
    let base = time(N, |_, x| sum += black_box(key(random(x, 10_000))));
    println!("base {base:.1}");
    hash("hash 10k", MapType::Hash, 10_000, 10_000, base);
    hash("lru 10k", MapType::LruHash, 10_000, 20_000, base);
    hash("percpu 10k", MapType::PercpuHash, 10_000, 10_000, base);
    hash("hash 1m", MapType::Hash, 1_000_000, 1_000_000, base);
    let who = Runner {
        cpu: 0,
        token: skep_sys::task::token(),
    };
    let ring = Map::create(
        &MapSpec::new(MapType::Ringbuf, 0, 0, 1 << 24, 2),
        &Memory::Anonymous,
    )
    .expect("an anonymous map");
    let submit = time(N, |i, x| {
        let e = ring.ringbuf_reserve(64, 0, who);
        if e.is_null() {
            ring.ringbuf_consume(&mut |_| std::ops::ControlFlow::Continue(()));
            return;
        }
        // SAFETY: the record has 64 bytes.
        unsafe {
            e.cast::<u64>().write(i as u64);
            e.cast::<u64>().add(1).write(x);
            ringbuf_commit(e, 1, RecordEnd::Submit);
        }
    });
    println!("ring {:.1}", submit - base);
    let spec = MapSpec::new(MapType::LpmTrie, 8, 8, 16384, 2).with_flags(1);
    let lpm = Map::create(&spec, &Memory::Anonymous).expect("an anonymous map");
    let mut x = 1u64;
    let mut addresses = Vec::new();
    for i in 0..10_000u64 {
        x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let len = 8 + (x >> 60) as u32 + (x >> 50) as u32 % 10;
        let address = (x >> 16) as u32;
        addresses.push(address);
        let k = [len, address.to_be()];
        // SAFETY: keys and values have 8 bytes.
        unsafe { lpm.update((&raw const k).cast(), (&raw const i).cast(), 0, who) };
    }
    let lookup = time(N, |_, x| {
        let k = [32u32, addresses[random(x, 10_000) as usize]];
        // SAFETY: keys have 8 bytes.
        black_box(unsafe { (lpm.lookup_fn)(black_box(lpm.as_ptr()), (&raw const k).cast(), who) });
    });
    println!("lpm {:.1}", lookup - base);
}
