//! `cargo xtask bench btf`: reading and indexing the running kernel's BTF, unpacking the reference kernel's, looking up names.

use crate::TaskError;
use skep_btf::{Btf, Kind};
use skep_profile::Profile;
use std::hint::black_box;
use std::time::{Duration, Instant};

const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
const SAMPLES: usize = 20;

/// Shortest time of `SAMPLES` calls.
fn shortest<T>(mut work: impl FnMut() -> T) -> Duration {
    let sample = |_| {
        let start = Instant::now();
        black_box(work());
        start.elapsed()
    };
    (0..SAMPLES).map(sample).min().unwrap_or_default()
}

/// Runs the bench.
pub(crate) fn run(_: &[String]) -> Result<(), TaskError> {
    let bytes = std::fs::read(KERNEL_BTF).map_err(|e| format!("{KERNEL_BTF}: {e}"))?;
    let parsed = Btf::parse(bytes.clone()).map_err(|e| format!("{KERNEL_BTF}: {e}"))?;
    let read = shortest(|| std::fs::read(KERNEL_BTF));
    // The copy that `parse` owns is part of the time; reading makes it as well.
    let copied = shortest(|| bytes.clone());
    let parse = shortest(|| Btf::parse(bytes.clone())).saturating_sub(copied);
    let lookup = shortest(|| {
        let fresh = Btf::parse(bytes.clone());
        fresh.map(|btf| btf.find_by_name_kind("task_struct", Kind::Struct))
    });
    let lookup = lookup.saturating_sub(parse + copied);
    let functions = shortest(|| {
        let fresh = Btf::parse(bytes.clone());
        fresh.map(|btf| btf.find_by_name_kind("vfs_read", Kind::Func))
    });
    let functions = functions.saturating_sub(parse + copied);
    let types = shortest(|| Profile::linux_6_18().btf().type_count());
    let all = shortest(|| Profile::linux_6_18().btf_with_functions().type_count());
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    println!("{} types in {} bytes", parsed.type_count(), bytes.len());
    println!("read {:.2} ms, index {:.2} ms", ms(read), ms(parse));
    println!(
        "first lookup of a type (builds the index of their names) {:.2} ms, of a function {:.2} ms",
        ms(lookup),
        ms(functions)
    );
    println!(
        "reference kernel: types {:.2} ms, with functions {:.2} ms",
        ms(types),
        ms(all)
    );
    println!(
        "{{\"bench\":\"btf\",\"read_ms\":{:.3},\"index_ms\":{:.3},\"first_lookup_ms\":{:.3},\"first_function_ms\":{:.3},\"total_ms\":{:.3},\"profile_types_ms\":{:.3},\"profile_all_ms\":{:.3}}}",
        ms(read),
        ms(parse),
        ms(lookup),
        ms(functions),
        ms(read + parse + lookup),
        ms(types),
        ms(all)
    );
    Ok(())
}
