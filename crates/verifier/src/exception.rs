//! Exceptions: `bpf_throw` leaves every frame at once; a function that the program names may make the return value.

use crate::code;
use crate::fail::{Check, errno, fail, fail_nowhere};
use crate::request::Request;
use crate::verifier::{Flow, Verifier};
use skep_btf::{Kind as BtfKind, Linkage, Type};
use skep_isa::{Call, Insn};

/// Tag of the main program that names the function which makes the return value.
const CALLBACK_TAG: &str = "exception_callback:";

/// Slot where the function that the main program's tag names begins.
pub(crate) fn callback_start(req: &Request<'_>) -> Option<usize> {
    let btf = req.btf?;
    let entry = req.func_info.first().filter(|f| f.insn == 0)?;
    let name = btf
        .decl_tags(entry.type_id)
        .find_map(|(_, text)| text.strip_prefix(CALLBACK_TAG))?;
    let func = btf.find(name, BtfKind::Func)?;
    let record = req.func_info.iter().find(|f| f.type_id == func.id())?;
    Some(record.insn as usize)
}

impl Verifier<'_> {
    /// Before the walk: finds the function that runs when an exception is thrown.
    pub(crate) fn find_exception_callback(&mut self) -> Check {
        let Some(btf) = self.req.btf else {
            return Ok(());
        };
        let entry = self.p.funcs[0].func_type;
        let mut tags = btf
            .decl_tags(entry)
            .filter(|&(component, text)| component == -1 && text.starts_with(CALLBACK_TAG))
            .map(|(_, text)| &text[CALLBACK_TAG.len()..]);
        let Some(name) = tags.next().filter(|_| entry != 0) else {
            return Ok(());
        };
        let bad = |why: &str| {
            let message = format!("the exception callback {name} {why}");
            fail_nowhere(code::EXCEPTION, errno::EINVAL, message)
        };
        if tags.next().is_some() {
            return bad("is not the only one");
        }
        let Some(func) = btf.find(name, BtfKind::Func) else {
            return bad("is not in the program's BTF");
        };
        if func.linkage() != Some(Linkage::Global) {
            return bad("is not global");
        }
        let found = self.p.funcs.iter().position(|f| f.func_type == func.id());
        let Some(found) = found.filter(|&f| f > 0) else {
            return bad("is no function of the program");
        };
        self.p.funcs[found].is_exception_callback = true;
        self.exception_callback = Some(found);
        self.check_not_called(found)
    }

    fn check_not_called(&self, callback: usize) -> Check {
        for (at, insn) in self.p.insns.iter().enumerate() {
            if let Ok(Insn::Call(Call::Subprog(offset))) = insn {
                let target = (at + 1).wrapping_add_signed(*offset as isize);
                if self.p.func_at(target) == Some(callback) {
                    let message = "the exception callback is called like any function";
                    return crate::fail::fail_at(code::EXCEPTION, errno::EINVAL, at, message);
                }
            }
        }
        Ok(())
    }

    /// The exception callback takes one number.
    pub(crate) fn check_exception_prototype(&self, f: usize) -> Check {
        let func = self.req.btf.and_then(|b| b.get(self.p.funcs[f].func_type));
        let proto = func.and_then(|t| t.target());
        let number =
            |t: Type<'_>| matches!(t.kind(), BtfKind::Int | BtfKind::Enum | BtfKind::Enum64);
        let fits = proto.is_some_and(|p| {
            p.vlen() == 1
                && p.params()
                    .all(|a| p.btf().resolve(a.type_id).is_some_and(number))
        });
        if fits {
            return Ok(());
        }
        fail(
            code::EXCEPTION,
            errno::EINVAL,
            "the exception callback must take one number",
        )
    }

    /// Is there a call of `bpf_throw` at this slot?
    pub(crate) fn throws_at(&self, at: usize) -> bool {
        match &self.p.insns[at] {
            Ok(Insn::Call(Call::Kfunc { id, module: 0 })) => {
                self.kfunc_name(*id) == Some("bpf_throw")
            }
            _ => false,
        }
    }

    /// `bpf_throw`: every frame is left at once. Without a callback the cookie becomes the program's return value.
    pub(crate) fn throw(&mut self) -> Check<Flow> {
        if self.exception_callback.is_none() {
            self.check_returned(1)?;
        }
        self.check_nothing_held("bpf_throw")?;
        Ok(Flow::Done)
    }
}
