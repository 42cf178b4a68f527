//! What needs the kernel's BTF or objects beyond the core: typed pointers, kptrs, allocated objects.
//!
//! These are refused as not supported yet, never guessed.

use crate::args::CallArgs;
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::kfunc::KfuncCall;
use crate::memory::MemAccess;
use crate::reg::{Flags, Reg};
use crate::rules::no_fields;
use crate::verifier::Verifier;
use skep_abi::ctx::{Access, CtxAccess};
use skep_abi::prog::TargetReturns;
use skep_btf::{Record, Type};
use std::sync::Arc;

pub(crate) fn unsupported<T>(what: &str) -> Check<T> {
    fail(
        code::NOT_SUPPORTED,
        errno::EOPNOTSUPP,
        format!("{what} are not supported yet"),
    )
}

impl Verifier<'_> {
    pub(crate) fn access_btf(&mut self, _a: &MemAccess, _reg: &Reg, _off: i64) -> Check<Reg> {
        unsupported("typed kernel pointers")
    }

    pub(crate) fn access_map_struct(
        &mut self,
        _a: &MemAccess,
        _reg: &Reg,
        _off: i64,
    ) -> Check<Reg> {
        unsupported("fields of map structures")
    }

    pub(crate) fn access_kptr(&mut self, _a: &MemAccess, _reg: &Reg, _field: usize) -> Check<Reg> {
        unsupported("kptrs")
    }

    pub(crate) fn ctx_btf_pointer(&mut self, _name: &str) -> Check<Reg> {
        unsupported("typed kernel pointers in the context")
    }

    pub(crate) fn ctx_access_btf(
        &mut self,
        _off: i32,
        _size: u32,
        _kind: Access,
    ) -> Check<CtxAccess> {
        unsupported("contexts typed by the attach target")
    }

    pub(crate) fn target_returns(&self) -> TargetReturns {
        TargetReturns::Value
    }

    pub(crate) fn kernel_struct(&mut self, _name: &str) -> Check<Reg> {
        unsupported("typed kernel pointers")
    }

    pub(crate) fn kernel_variable(&mut self, _id: i32, _fd: i32) -> Check<Reg> {
        unsupported("kernel variables")
    }

    pub(crate) fn is_btf_struct(&self, _reg: &Reg, _flags: Flags, _name: &str) -> bool {
        false
    }

    pub(crate) fn btf_memory_arg(&mut self, _i: usize, _size: u32) -> Check {
        unsupported("typed kernel pointers as memory")
    }

    pub(crate) fn btf_result(
        &mut self,
        _name: &str,
        _flags: Flags,
        _args: &CallArgs,
    ) -> Check<Reg> {
        unsupported("typed kernel pointers")
    }

    pub(crate) fn percpu_result(&mut self, _args: &CallArgs, _flags: Flags) -> Check<Reg> {
        unsupported("per-CPU kernel variables")
    }

    pub(crate) fn kptr_arg(&mut self, _i: usize, _args: &mut CallArgs) -> Check {
        unsupported("kptrs")
    }

    pub(crate) fn release_into_kptr(&mut self, _args: &CallArgs) -> Check {
        unsupported("kptrs")
    }

    pub(crate) fn object_record(&self, _reg: &Reg) -> Arc<Record> {
        no_fields()
    }

    pub(crate) fn kfunc_struct(&mut self, _call: &KfuncCall<'_>, _target: Type<'_>) -> Check<Reg> {
        unsupported("kfuncs that return kernel structures")
    }

    pub(crate) fn kfunc_struct_arg(
        &mut self,
        _call: &mut KfuncCall<'_>,
        _target: Type<'_>,
        _i: usize,
    ) -> Check {
        unsupported("kfuncs that take kernel structures")
    }

    pub(crate) fn release_kfunc_arg(&mut self, _call: &KfuncCall<'_>) -> Check {
        unsupported("kfuncs that release kernel structures")
    }
}
