//! `BPF_PROG_TEST_RUN`.

use crate::error::Named;
use crate::load::ProgObject;
use crate::universe::{Shared, thread_token};
use skep_abi::{Errno, ProgType};
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
        let on_cpu = run.flags & ON_CPU != 0 && prog.loaded.prog_type == ProgType::RawTracepoint;
        let lease = if on_cpu {
            self.leases().this_cpu(run.cpu, token).ok()
        } else {
            None
        };
        let lacks_cpu = on_cpu && lease.is_none();
        let lease = lease.unwrap_or_else(|| self.leases().cpu(token));
        let input = Input {
            data: run.data_in.as_deref(),
            ctx: run.ctx_in.as_deref(),
            wants_data: run.data_size_out != 0,
            wants_ctx: run.ctx_size_out != 0,
            repeat: run.repeat,
            flags: run.flags,
            cpu: run.cpu,
            lacks_cpu,
            batch_size: run.batch_size,
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
            // Programs of type syscall write their context in place; others leave it as it is where there is no room.
            ctx_out: if run.ctx_size_out == 0 && prog.loaded.prog_type != ProgType::Syscall {
                run.ctx_in.clone().unwrap_or_default()
            } else {
                output.ctx
            },
            duration: output.duration,
        })
    }
}
