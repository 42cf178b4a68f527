//! Runs of XDP programs that only read, on packets where they lie: no copy, no buffer of the kernel's shape.

use crate::ctx::xdp::XdpCtx;
use crate::program::{Engine, Program, ProgramError, ProgramOptions, Worker};
use crate::test_run::Alone;
use crate::{CodeOptions, Fold, Tiers};
use skep_abi::ProgType;
use skep_isa::Slot;
use skep_isa::opcode::{CALL, JMP, JMP32, ST, STX};
use skep_maps::Runner;
use skep_verifier::Verified;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// Register of the frame.
const FRAME: u8 = 10;

/// An XDP program that reads packets in place.
#[derive(Debug)]
pub struct Reader {
    program: Program,
    worker: Worker,
    ctx: Box<XdpCtx>,
}

// SAFETY: the pointers of the context are set at the start of each run and not read outside of one.
unsafe impl Send for Reader {}

/// Whether an instruction neither writes outside the stack nor calls anything.
fn only_reads(slot: &Slot) -> bool {
    match slot.code & 7 {
        ST | STX => slot.dst() == FRAME,
        JMP | JMP32 => slot.code & 0xf0 != CALL,
        _ => true,
    }
}

impl Reader {
    /// Makes a verified program ready; `None` if it is not of type XDP, or might write to a packet.
    ///
    /// # Errors
    /// If the engine does not take it.
    pub fn new(verified: &Verified) -> Result<Option<Self>, ProgramError> {
        if verified.prog_type() != ProgType::Xdp || !verified.insns().iter().all(only_reads) {
            return Ok(None);
        }
        let options = ProgramOptions {
            engine: Engine::Jit,
            fold: Fold::Facts,
            code: CodeOptions {
                tiers: Tiers::Optimised,
                ..CodeOptions::default()
            },
        };
        let program = Program::new(verified, Vec::new(), options)?;
        let runner = Runner {
            cpu: 0,
            token: skep_sys::task::token(),
        };
        let nowhere = std::ptr::null_mut();
        let ctx = Box::new(XdpCtx {
            image_pointers: [0; 3],
            ingress_ifindex: 1,
            rx_queue_index: 0,
            egress_ifindex: 0,
            data: nowhere,
            data_end: nowhere,
            data_meta: nowhere,
            hard_start: nowhere,
            frame_bytes: 0,
            frags_bytes: 0,
            frags: std::ptr::null_mut(),
        });
        Ok(Some(Self {
            program,
            worker: Worker::new(Arc::new(Alone), runner, Arc::new(AtomicU32::new(0))),
            ctx,
        }))
    }

    /// Runs the program on a packet; `queue` is what it reads as `rx_queue_index`.
    #[inline]
    pub fn run(&mut self, packet: &[u8], queue: u32) -> u32 {
        let range = packet.as_ptr_range();
        self.ctx.data = range.start.cast_mut();
        self.ctx.data_end = range.end.cast_mut();
        self.ctx.data_meta = range.start.cast_mut();
        self.ctx.rx_queue_index = queue;
        let ctx = (&raw mut *self.ctx).cast();
        // SAFETY: `ctx` is an `XdpCtx` whose packet lives during the call. Although its pointers are mutable the program
        // only reads: it was proven to stay within the packet, and `new` found no store but to its stack, and no call.
        // The low half of r0 is what an XDP program returns.
        unsafe { self.worker.run(&self.program, ctx) as u32 }
    }
}
