//! Code for x86-64.

pub(crate) mod asm;
pub(crate) mod baseline;
mod dispatch;
pub mod eh_frame;
mod emit;
mod frame;
mod mach;
mod placement;
mod regalloc;
mod select;
mod vector;

use super::image::{CodeImage, Tier};
use super::ir::build;
use super::opt;
use super::source::Source;
use crate::lowered::Op;

/// What the processor can do beyond the base instruction set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cpu {
    /// Shifts and rotates with three operands.
    bmi2: bool,
    /// 256-bit integer vectors (and counting of trailing zeros).
    avx2: bool,
}

impl Cpu {
    /// The processor this runs on.
    fn here() -> Self {
        Self {
            bmi2: std::arch::is_x86_feature_detected!("bmi2"),
            avx2: std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("bmi1"),
        }
    }
}

/// Ops of a program that the optimising compiler still takes on.
const MAX_OPTIMISED_OPS: usize = 8000;

/// Compiles with all optimisations; a program too large for that gets templates.
pub(crate) fn optimise(src: Source<'_>) -> CodeImage {
    if src.ops.len() > MAX_OPTIMISED_OPS {
        return baseline::compile(src, None);
    }
    let cpu = Cpu::here();
    let mut ready = Vec::new();
    for func in 0..src.funcs.len() as u32 {
        if !is_emitted(src, func) {
            continue;
        }
        let mut graph = build::build(src, func);
        opt::run(&mut graph, src, cpu.avx2);
        let mut code = select::select(&graph, cpu);
        match regalloc::allocate(&mut code) {
            Ok(colours) => ready.push(emit::Ready {
                func,
                code,
                colours,
            }),
            Err(regalloc::TooLarge) => return baseline::compile(src, None),
        }
    }
    let shared = emit::Shared {
        cpu,
        throws: src.throws,
        exception_callback: src.exception_callback,
    };
    let (asm, tables) = emit::emit(&ready, src.funcs.len(), shared);
    CodeImage {
        code: asm.code,
        relocs: asm.relocs,
        funcs: tables.funcs,
        lines: tables.lines,
        faults: tables.faults,
        tier: Tier::Optimised,
    }
}

/// True if a function needs code of its own: it may be reached other than by calls that are inlined.
fn is_emitted(src: Source<'_>, func: u32) -> bool {
    let called = src.ops.iter().any(|op| match *op {
        Op::CallFunc { func: f } => f == func,
        Op::FuncAddr { func: f, .. } => f == func,
        _ => false,
    });
    func == 0 || src.exception_callback == Some(func) || called
}
