//! `lddw` and the legacy packet loads.

use crate::code;
use crate::fail::{Check, errno, fail};
use crate::reg::{Kind, Reg};
use crate::verifier::{Flow, Verifier};
use skep_abi::MapType;
use skep_abi::prog::facts;
use skep_isa::{Imm64, Reg as R};

impl Verifier<'_> {
    /// `dst = imm64 ll`. Map operands were checked before the walk.
    pub(crate) fn check_load_imm64(&mut self, dst: R, imm: Imm64) -> Check {
        self.check_writable(dst.index())?;
        let r = match imm {
            Imm64::Value(value) => Reg::constant(value),
            Imm64::MapFd(map) | Imm64::MapIdx(map) => Reg {
                aux: map.cast_unsigned(),
                ..Reg::pointer(Kind::ConstMap)
            },
            Imm64::MapFdValue { fd: map, offset } | Imm64::MapIdxValue { index: map, offset } => {
                self.direct_value(map.cast_unsigned(), offset)
            }
            Imm64::Func(offset) => self.function_pointer(offset)?,
            Imm64::BtfId { id, fd } => self.kernel_variable(id, fd)?,
        };
        *self.reg_mut(dst.index()) = r;
        Ok(())
    }

    fn direct_value(&mut self, map: u32, offset: u32) -> Reg {
        let desc = self.map_at(map);
        if desc.map_type == MapType::Arena {
            // An address of the arena's own space; a cast makes it a pointer.
            return Reg::UNKNOWN;
        }
        // There is one value only: all its addresses are of the same lock, so none has an id.
        Reg {
            aux: map,
            off: offset.cast_signed(),
            ..Reg::pointer(Kind::MapValue)
        }
    }

    fn function_pointer(&mut self, offset: i32) -> Check<Reg> {
        let target = (self.insn + 1).wrapping_add_signed(offset as isize);
        let Some(f) = self.p.func_at(target) else {
            return fail(
                code::BAD_CALL_TARGET,
                errno::EINVAL,
                format!("no function starts at slot {target}"),
            );
        };
        if self.p.funcs[f].func_type == 0 {
            let message = format!("the callback {} has no BTF", self.func_name(f));
            return fail(code::NO_BTF, errno::EINVAL, message);
        }
        if self.p.funcs[f].is_global {
            let message = format!("the callback {} is not static", self.func_name(f));
            return fail(code::ARG_CALLBACK, errno::EINVAL, message);
        }
        Ok(Reg {
            aux: f as u32,
            ..Reg::pointer(Kind::Func)
        })
    }

    /// `r0 = *(size *)skb[…]`: needs the packet in r6 and ends the program if it is too short.
    pub(crate) fn check_legacy_load(&mut self, src: Option<R>) -> Check<Flow> {
        if !facts(self.env.prog_type).ld_abs {
            let message = format!(
                "{} programs have no legacy packet loads",
                self.env.prog_type
            );
            return fail(code::LEGACY_LOAD, errno::EINVAL, message);
        }
        self.check_readable(6)?;
        self.check_nothing_held("a legacy packet load")?;
        if self.reg(6).kind != Kind::Ctx {
            let message = format!(
                "r6 is {}; a legacy packet load needs the context there",
                self.reg(6).describe()
            );
            return fail(code::LEGACY_LOAD, errno::EINVAL, message);
        }
        if let Some(src) = src {
            self.check_readable(src.index())?;
        }
        self.check_unmoved(6, false)?;
        let regs = &mut self.cur.frame_mut().regs;
        regs[1..=5].fill(Reg::NOT_INIT);
        regs[0] = Reg::UNKNOWN;
        // Past the end of the packet the function returns 0.
        self.leave_early(Reg::constant(0))
    }
}
