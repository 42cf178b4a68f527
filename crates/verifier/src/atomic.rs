//! Atomic operations on memory.

use crate::cause::Cause;
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::memory::MemAccess;
use crate::reg::Kind;
use crate::verifier::Verifier;
use skep_abi::ctx::Access;
use skep_isa::{AtomicOp, Extend, Reg as R, Size};

impl Verifier<'_> {
    /// `lock *(size *)(dst + offset) op= src`
    pub(crate) fn check_atomic(
        &mut self,
        size: Size,
        op: AtomicOp,
        dst: R,
        src: R,
        offset: i16,
    ) -> Check {
        self.check_readable(src.index())?;
        self.check_readable(dst.index())?;
        if op == AtomicOp::Cmpxchg {
            self.check_readable(0)?;
            self.check_no_pointer(0)?;
        }
        self.check_no_pointer(src.index())?;
        self.check_atomic_memory(dst.index())?;
        self.check_arena_atomic(dst.index(), op)?;
        let fetched = match op {
            AtomicOp::Cmpxchg => Some(0),
            op if op.fetches() => Some(src.index()),
            _ => None,
        };
        if let Some(fetched) = fetched {
            self.check_writable(fetched)?;
        }
        let pointer = *self.reg(dst.index());
        // The old value is read first: what it is, is only known if memory holds a spilled scalar.
        let mut read = MemAccess {
            base: dst.index(),
            offset,
            size,
            kind: Access::Read,
            value: None,
            extend: Extend::Zero,
            aligned: true,
            imm: None,
        };
        self.check_access(&read)?;
        if let Some(fetched) = fetched {
            read.value = Some(fetched);
            // The address register may be overwritten by the fetch: memory is written through a copy of it.
            let base = *self.reg(dst.index());
            self.check_access(&read)?;
            let loaded = *self.reg(fetched);
            *self.reg_mut(dst.index()) = base;
            self.write_atomic(&read)?;
            *self.reg_mut(fetched) = loaded;
        } else {
            self.write_atomic(&read)?;
        }
        self.rec.pointer_kind(self.insn, &pointer, Access::Write)
    }

    fn write_atomic(&mut self, read: &MemAccess) -> Check {
        self.check_access(&MemAccess {
            kind: Access::Write,
            value: None,
            ..*read
        })
    }

    fn check_no_pointer(&self, i: usize) -> Check {
        if self.is_secret_pointer(i) {
            return fail(
                code::POINTER_LEAK,
                errno::EACCES,
                Cause::about(
                    i,
                    format!("the pointer in r{i} would be stored as a number"),
                ),
            );
        }
        Ok(())
    }

    /// In an arena the kernel's JIT for x86 has no operations that it makes of a loop of instructions.
    fn check_arena_atomic(&self, i: usize, op: AtomicOp) -> Check {
        let looped = matches!(
            op,
            AtomicOp::Or { fetch: true }
                | AtomicOp::And { fetch: true }
                | AtomicOp::Xor { fetch: true }
        );
        if !looped || self.reg(i).kind != Kind::Arena {
            return Ok(());
        }
        let message = Cause::about(
            i,
            format!(
                "r{i} points into an arena, where an atomic and, or, xor cannot return the old value"
            ),
        );
        fail(code::ATOMIC_TARGET, errno::EACCES, message)
    }

    /// Atomic access needs plain memory.
    pub(crate) fn check_atomic_memory(&self, i: usize) -> Check {
        let kind = self.reg(i).kind;
        let forbidden = matches!(
            kind,
            Kind::Ctx
                | Kind::Pkt
                | Kind::PktMeta
                | Kind::FlowKeys
                | Kind::Socket
                | Kind::SockCommon
                | Kind::TcpSock
                | Kind::XdpSock
        );
        if forbidden {
            let message = Cause::about(
                i,
                format!(
                    "r{i} is {}: atomic access to it is not allowed",
                    self.reg(i).describe()
                ),
            );
            return fail(code::ATOMIC_TARGET, errno::EACCES, message);
        }
        Ok(())
    }
}
