//! Memory that kfuncs read and write: of the size of their parameter's type, or of a size that the next argument says.

use crate::args::CallArgs;
use crate::fail::Check;
use crate::kfunc::KfuncCall;
use crate::kfunc_args::refused;
use crate::reg::Flags;
use crate::verifier::Verifier;
use skep_btf::{Param, Type};

impl Verifier<'_> {
    /// Argument `i` points to a value of type `target`.
    pub(crate) fn typed_memory(&mut self, target: Type<'_>, i: usize) -> Check {
        let Ok(bytes) = target.btf().size_of(target.id()) else {
            return refused(i, "points to something without a size");
        };
        if self.reg(i).is_zero() {
            return Ok(());
        }
        self.check_global_memory(i, bytes)
    }

    /// Argument `i` points to memory, and the next one is its size.
    pub(crate) fn sized_arg(
        &mut self,
        call: &mut KfuncCall<'_>,
        param: Param<'_>,
        size: Param<'_>,
        i: usize,
    ) -> Check {
        let reg = *self.reg(i);
        let optional = param.name.ends_with("__opt") || param.name.ends_with("__nullable");
        if !reg.is_zero() || !optional {
            self.reg_mut(i).flags = reg.flags.without(Flags::NULLABLE);
            let mut check =
                |writes| self.size_arg(i + 1, writes, false, true, &mut CallArgs::default());
            check(false)?;
            check(true)?;
            self.reg_mut(i).flags = reg.flags;
        }
        if size.name.ends_with("__szk") {
            call.constant = Some(self.constant_arg(i + 1)?);
        }
        Ok(())
    }
}
