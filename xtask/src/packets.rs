//! `cargo xtask packets [PROGRAMS] [SEED]`: programs that change packets and contexts, ours against the kernel's.

use crate::TaskError;
use skep::Kernel;
use skep_tests::ENGINES;
use skep_tests::packet_diff::Case;
use skep_tests::random::Random;
use skep_user::{Options, Universe};

/// Programs unless told otherwise.
const PROGRAMS: u64 = 20_000;
/// Differences that are printed.
const SHOWN: usize = 20;

pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let number = |at: usize, default: u64| match arguments.get(at) {
        Some(n) => n.parse().map_err(|e| format!("{n}: {e}")),
        None => Ok(default),
    };
    let (programs, seed) = (number(0, PROGRAMS)?, number(1, 1)?);
    let user = |(engine, tiers)| {
        let options = Options {
            engine,
            tiers,
            ..Options::default()
        };
        Universe::new(options).map_err(|e| e.to_string())
    };
    let engines: Vec<Universe> = ENGINES.into_iter().map(user).collect::<Result<_, _>>()?;
    let kernel = Kernel::new();
    let (mut runs, mut different) = (0, 0);
    for (n, user) in (0..programs).zip(engines.iter().cycle()) {
        let case = Case::random(&mut Random::new(seed << 32 | n));
        runs += case.runs();
        let Some(difference) = case.smallest_difference(user, &kernel) else {
            continue;
        };
        different += 1;
        if different <= SHOWN {
            println!("program {n}: {difference}");
        }
    }
    println!(
        "{{\"task\":\"packets\",\"programs\":{programs},\"runs\":{runs},\"seed\":{seed},\"different\":{different}}}"
    );
    if different == 0 {
        Ok(())
    } else {
        Err(format!("{different} programs differ"))
    }
}
