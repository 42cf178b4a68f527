//! `BPF_PROG_TEST_RUN`.

use crate::error::Named;
use crate::load::ProgObject;
use crate::universe::{Shared, thread_token};
use skep_abi::Errno;
use skep_bpf::{Result, TestRun, TestRunResult};
use skep_vm::test_run::{Input, test_run};
use std::sync::atomic::Ordering;

/// `BPF_F_TEST_RUN_ON_CPU`
const ON_CPU: u32 = 1;

impl Shared {
    /// Runs a program as a test.
    pub(crate) fn prog_test_run(&self, prog: &ProgObject, run: &TestRun) -> Result<TestRunResult> {
        const WHAT: &str = "BPF_PROG_TEST_RUN";
        let token = thread_token();
        let lease = if run.flags & ON_CPU == 0 {
            self.leases().cpu(token)
        } else {
            self.leases().this_cpu(run.cpu, token).named(WHAT)?
        };
        let input = Input {
            data: run.data_in.as_deref(),
            ctx: run.ctx_in.as_deref(),
            wants_ctx: run.ctx_size_out != 0,
            repeat: run.repeat,
            flags: run.flags,
            cpu: run.cpu,
        };
        let output = self
            .with_worker(&lease, |worker| test_run(worker, &prog.program, &input))
            .named(WHAT)?;
        if self.stats.load(Ordering::Relaxed) != 0 {
            let repeat = u64::from(run.repeat.max(1));
            let mean_ns = u64::try_from(output.duration.as_nanos()).unwrap_or(u64::MAX);
            prog.run_cnt.fetch_add(repeat, Ordering::Relaxed);
            prog.run_time_ns
                .fetch_add(mean_ns.saturating_mul(repeat), Ordering::Relaxed);
        }
        let fits = |len: usize, room: u32| room == 0 || len <= room as usize;
        if !fits(output.data.len(), run.data_size_out) || !fits(output.ctx.len(), run.ctx_size_out)
        {
            return Err(crate::error::refused(
                Errno::ENOSPC,
                WHAT,
                "the output is longer than the room for it",
            ));
        }
        Ok(TestRunResult {
            retval: output.retval,
            data_out: if run.data_size_out == 0 {
                Vec::new()
            } else {
                output.data
            },
            // Also without room for it: programs of type syscall write their context in place.
            ctx_out: output.ctx,
            duration: output.duration,
        })
    }
}
