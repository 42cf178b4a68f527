//! Variables and functions of the kernel whose address a program takes (`__ksym`), and per-CPU variables.

use crate::args::CallArgs;
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::reg::{Flags, Kind, Reg, source};
use crate::verifier::Verifier;
use skep_btf::{Btf, Kind as BtfKind, Type};
use skep_isa::{Imm64, Insn};

/// Section of per-CPU variables in the kernel's BTF.
const PERCPU_SECTION: &str = ".data..percpu";

impl<'a> Verifier<'a> {
    /// Before the walk: what the kernel demands of every address it fills in, reached or not.
    pub(crate) fn check_kernel_variables(&self) -> Check {
        for at in 0..self.p.len() {
            let Ok(Insn::LoadImm64 { imm, .. }) = self.p.insns[at] else {
                continue;
            };
            if let Imm64::BtfId { id, fd } = imm {
                self.variable(id, fd).map_err(|mut e| {
                    e.insn = Some(Some(at as u32));
                    e
                })?;
            }
        }
        Ok(())
    }

    /// `dst = &variable`
    pub(crate) fn kernel_variable(&mut self, id: i32, fd: i32) -> Check<Reg> {
        let (btf, t) = self.variable(id, fd)?;
        let memory = |size: u32| Reg {
            flags: Flags::RDONLY,
            aux: size,
            ..Reg::pointer(Kind::Mem)
        };
        if t.kind() == BtfKind::Func {
            return Ok(memory(0));
        }
        let Some(content) = t.target() else {
            return fail(code::BAD_BTF_REF, errno::EINVAL, "a variable without type");
        };
        let typed = |flags: Flags| Reg {
            flags,
            aux: content.id(),
            aux2: source::KERNEL,
            ..Reg::pointer(Kind::Btf)
        };
        if is_percpu(btf, t.id()) {
            return Ok(typed(Flags::PERCPU));
        }
        if content.resolve().kind().is_composite() {
            return Ok(typed(Flags::NONE));
        }
        match btf.size_of(content.id()) {
            Ok(size) => Ok(memory(size)),
            Err(_) => {
                let message = format!("the variable {} has no size", t.name());
                fail(code::BAD_BTF_REF, errno::EINVAL, message)
            }
        }
    }

    fn variable(&self, id: i32, fd: i32) -> Check<(&'a Btf, Type<'a>)> {
        if fd != 0 {
            let message = "variables of modules are not known";
            return fail(code::BAD_BTF_REF, errno::EINVAL, message);
        }
        let btf = self.kernel_btf()?;
        let Some(t) = u32::try_from(id).ok().and_then(|id| btf.get(id)) else {
            let message = format!("BTF id {id} does not exist in this kernel");
            return fail(code::BAD_BTF_REF, errno::ENOENT, message);
        };
        if !matches!(t.kind(), BtfKind::Var | BtfKind::Func) {
            let message = format!("BTF id {id} is no variable or function of the kernel");
            return fail(code::BAD_BTF_REF, errno::EINVAL, message);
        }
        if t.kind() == BtfKind::Var && !self.req.kernel_variables {
            let message = format!(
                "this kernel does not tell the address of its variable {}",
                t.name()
            );
            return fail(code::BAD_BTF_REF, errno::ENOENT, message);
        }
        Ok((btf, t))
    }

    /// What `bpf_per_cpu_ptr` and `bpf_this_cpu_ptr` return.
    pub(crate) fn percpu_result(&mut self, args: &CallArgs, flags: Flags) -> Check<Reg> {
        let Some((id, from, protected)) = args.btf else {
            return fail(code::ARG_TYPE, errno::EINVAL, "the call has no variable");
        };
        let nullable = flags.has(Flags::NULLABLE);
        let content = self.btf_of(from).and_then(|b| b.get(id));
        let Some(content) = content else {
            return fail(code::BAD_BTF_REF, errno::EINVAL, "the variable has no type");
        };
        let fresh = if nullable { self.new_id() } else { 0 };
        let t = content.resolve();
        if t.kind().is_composite() {
            let flags = if protected {
                Flags::ALLOC.with(Flags::RCU).with(flags)
            } else {
                flags
            };
            return Ok(Reg {
                flags,
                aux: t.id(),
                aux2: from,
                id: fresh,
                ..Reg::pointer(Kind::Btf)
            });
        }
        match content.btf().size_of(id) {
            Ok(size) => Ok(Reg {
                flags: flags.with(Flags::RDONLY),
                aux: size,
                id: fresh,
                ..Reg::pointer(Kind::Mem)
            }),
            Err(_) => fail(code::BAD_BTF_REF, errno::EINVAL, "the variable has no size"),
        }
    }
}

/// Is the variable with this id one for each CPU?
fn is_percpu(btf: &Btf, variable: u32) -> bool {
    let section = btf.find(PERCPU_SECTION, BtfKind::Datasec);
    section.is_some_and(|s| s.vars().any(|v| v.type_id == variable))
}
