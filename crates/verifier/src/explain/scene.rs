//! What sentences are made of: the failing instruction, its source, and the names of what it touches.

use super::Note;
use super::cexpr;
use super::locals::{Locals, StackVariable};
use super::names;
use super::record::PathStep;
use super::slice::{Event, Path, What};
use crate::domain::Scalar;
use crate::program::Program;
use crate::reg::{Flags, Kind, Reg};
use crate::rejection::Rejection;
use crate::request::{LineInfo, MapDesc, Request};
use skep_abi::helper;
use skep_isa::{Call, Insn};

/// A refusal with everything that is known around it.
pub(super) struct Scene<'a> {
    pub req: &'a Request<'a>,
    pub rejection: &'a Rejection,
    pub path: Path<'a>,
    locals: &'a dyn Locals,
}

/// A line of the source.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub text: &'a str,
    pub number: u32,
    pub column: u32,
}

impl<'a> Scene<'a> {
    pub(super) fn new(
        req: &'a Request<'a>,
        rejection: &'a Rejection,
        (program, steps): (&'a Program, &'a [PathStep]),
        locals: &'a dyn Locals,
    ) -> Self {
        Self {
            req,
            rejection,
            path: Path { program, steps },
            locals,
        }
    }

    /// Slot of the refused instruction.
    pub(super) fn at(&self) -> Option<usize> {
        self.rejection.insn.map(|i| i as usize)
    }

    /// Index of the refused instruction's step, if the path ends there.
    pub(super) fn end(&self) -> Option<usize> {
        let last = self.path.steps.len().checked_sub(1)?;
        (Some(self.path.steps[last].insn) == self.at()).then_some(last)
    }

    /// The refused instruction.
    pub(super) fn insn(&self) -> Option<&Insn> {
        self.path.program.insns.get(self.at()?)?.as_ref().ok()
    }

    /// Register `i` before the refused instruction.
    pub(super) fn reg(&self, i: usize) -> Option<Reg> {
        self.path.reg(self.end()?, i)
    }

    /// Events of register `i` up to the refused instruction, the latest first.
    pub(super) fn life(&self, i: usize) -> Vec<Event> {
        self.end()
            .map_or_else(Vec::new, |end| self.path.life(end, i))
    }

    /// Slot of the instruction of a step.
    pub(super) fn slot(&self, step: usize) -> Option<u32> {
        self.path.steps.get(step).map(|s| s.insn as u32)
    }

    /// The register that the refusal is about: the one its message names, or the one an access goes through.
    pub(super) fn subject(&self) -> Option<usize> {
        match self.insn()? {
            Insn::Load { src, .. } | Insn::LoadAcquire { src, .. } => Some(src.index()),
            Insn::Store { dst, .. } | Insn::StoreRelease { dst, .. } | Insn::Atomic { dst, .. } => {
                Some(dst.index())
            }
            _ => self.named_register(),
        }
    }

    /// The register that the refusal names.
    pub(super) fn named_register(&self) -> Option<usize> {
        self.rejection.cause.reg().filter(|i| *i <= 10)
    }

    fn record(&self, insn: usize) -> Option<&'a LineInfo> {
        let records = self.req.line_info;
        let after = records.partition_point(|r| r.insn as usize <= insn);
        records.get(after.checked_sub(1)?)
    }

    /// The source line of an instruction.
    pub(super) fn line(&self, insn: usize) -> Option<Line<'a>> {
        let record = self.record(insn)?;
        Some(Line {
            text: self.req.btf?.str(record.text),
            number: record.line_col >> 10,
            column: record.line_col & 0x3ff,
        })
    }

    /// Name of the source file of an instruction, without folders.
    pub(super) fn file(&self, insn: usize) -> Option<&'a str> {
        let path = self.req.btf?.str(self.record(insn)?.file);
        path.rsplit('/').next()
    }

    /// The C expression that an instruction comes from.
    pub(super) fn expression(&self, insn: usize) -> Option<&'a str> {
        let line = self.line(insn)?;
        let expression = line
            .text
            .get(cexpr::expression_at(line.text, line.column)?)?;
        // Inline assembly is no expression: the instruction beneath says what it does.
        let is_asm = expression.starts_with("asm") || expression.starts_with("__asm");
        (!is_asm).then_some(expression)
    }

    /// The condition in C that a branch tests.
    pub(super) fn condition(&self, insn: usize) -> Option<&'a str> {
        let line = self.line(insn)?;
        cexpr::condition_at(line.text, line.column)
    }

    /// The C variable that receives what an instruction makes.
    pub(super) fn receiver(&self, insn: usize) -> Option<&'a str> {
        let line = self.line(insn)?;
        cexpr::assigned_to(line.text, line.column).or_else(|| self.written_local(insn))
    }

    /// The local variable that the register which an instruction writes holds from then on.
    fn written_local(&self, insn: usize) -> Option<&'a str> {
        let decoded = self.path.program.insns.get(insn)?.as_ref().ok()?;
        self.local(insn + decoded.slots(), written_register(decoded)?)
    }

    /// The local variable that a register holds before an instruction.
    pub(super) fn local(&self, insn: usize, register: usize) -> Option<&'a str> {
        let reg = u8::try_from(register).ok()?;
        let name_at = |at: usize| self.locals.in_register(u32::try_from(at).ok()?, reg);
        let name = name_at(insn)?;
        // To the compiler inline assembly is one instruction: what it writes inside still counts as the old variable.
        let start = self.record(insn).map_or(insn, |r| r.insn as usize);
        let insns = self.path.program.insns.get(start..insn)?;
        let written = insns
            .iter()
            .flatten()
            .any(|i| written_register(i) == Some(register));
        (!written || name_at(start) != Some(name)).then_some(name)
    }

    /// The local variable at a byte of the stack frame of the refused instruction.
    pub(super) fn stack_variable(&self, offset: i64) -> Option<StackVariable> {
        let at = u32::try_from(self.at()?).ok()?;
        self.locals.on_stack(at, offset)
    }

    /// Words that say which local variable the register of the refusal holds, if `said` and the source do not.
    pub(super) fn holder(&self, said: Option<&str>, place: Option<u32>) -> Option<String> {
        let (at, register) = (self.at()?, self.subject()?);
        if place.is_some_and(|p| p as usize != at) {
            return None;
        }
        let local = self.local(at, register)?;
        let expression = self.expression(at).unwrap_or_default();
        let named = |text: &str| {
            let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            words.any(|w| w == local)
        };
        let known = said.is_some_and(named) || named(expression);
        (!known).then(|| format!("r{register} holds `{local}`"))
    }

    /// The expression of the refused instruction, in backquotes; else the register.
    pub(super) fn subject_name(&self) -> String {
        let expression = self.at().and_then(|at| self.expression(at));
        match (expression, self.subject()) {
            (Some(e), _) => format!("`{e}`"),
            (None, Some(reg)) => match self.at().and_then(|at| self.local(at, reg)) {
                Some(local) => format!("this access through `{local}`"),
                None => format!("this access through r{reg}"),
            },
            (None, None) => "this access".to_owned(),
        }
    }

    /// Name of what an instruction calls.
    pub(super) fn callee(&self, insn: usize) -> Option<String> {
        match self.path.program.insns.get(insn)?.as_ref().ok()? {
            Insn::Call(Call::Helper(number)) => {
                let id = u32::try_from(*number).ok()?;
                helper::by_id(id).map(|h| h.name.to_owned())
            }
            Insn::Call(Call::Kfunc { id, .. }) => {
                let func = self.req.kernel_btf?.get(u32::try_from(*id).ok()?)?;
                Some(func.name().to_owned())
            }
            Insn::Call(Call::Subprog(offset)) => {
                let target = (insn + 1).wrapping_add_signed(*offset as isize);
                let f = self.path.program.func_at(target)?;
                self.path.program.funcs[f].name.clone()
            }
            _ => None,
        }
    }

    /// The map that a pointer belongs to.
    pub(super) fn map(&self, reg: &Reg) -> Option<&'a MapDesc> {
        matches!(reg.kind, Kind::MapValue | Kind::MapKey | Kind::ConstMap)
            .then(|| self.req.maps.get(reg.aux as usize))
            .flatten()
    }

    /// Bytes that a pointer's memory has.
    pub(super) fn limit(&self, reg: &Reg) -> Option<u32> {
        match reg.kind {
            Kind::MapValue => self.map(reg).map(|m| m.value_size),
            Kind::MapKey => self.map(reg).map(|m| m.key_size),
            Kind::Mem => Some(reg.aux),
            _ => None,
        }
    }

    /// What a pointer points to, with its name.
    pub(super) fn target(&self, reg: &Reg) -> String {
        match reg.kind {
            Kind::MapValue => self
                .map(reg)
                .map_or_else(|| "a map value".to_owned(), |m| self.value_of(m, reg)),
            Kind::MapKey => self.map(reg).map_or_else(
                || "a map key".to_owned(),
                |m| format!("the key of map \"{}\"", m.name),
            ),
            Kind::Mem if reg.flags.has(Flags::RINGBUF) => "the ring buffer record".to_owned(),
            Kind::Mem => "the memory".to_owned(),
            Kind::Pkt => "the packet".to_owned(),
            Kind::Ctx => "the context".to_owned(),
            Kind::Stack => "the stack".to_owned(),
            _ => reg.describe().to_owned(),
        }
    }

    fn value_of(&self, map: &MapDesc, reg: &Reg) -> String {
        if let Some(section) = names::section_of(map) {
            let offset = u32::try_from(reg.off).unwrap_or(0);
            let variable = self
                .req
                .btf
                .and_then(|b| names::variable(b, section, offset));
            return match variable {
                Some(variable) => format!("the global `{}`", variable.name),
                None => format!("the section {section}"),
            };
        }
        format!("the value of map \"{}\"", map.name)
    }

    /// A note at a step.
    pub(super) fn note(&self, step: usize, text: impl Into<String>) -> Note {
        Note {
            insn: self.slot(step),
            text: text.into(),
        }
    }

    /// Where a pointer comes from, as a note.
    pub(super) fn origin(&self, life: &[Event]) -> Option<Note> {
        let made = life.iter().find(|e| e.what == What::Made)?;
        let at = self.slot(made.step)? as usize;
        let receiver = self
            .receiver(at)
            .map_or_else(|| "it".to_owned(), |r| format!("`{r}`"));
        let reg = &made.after;
        let or_null = if reg.is_nullable() { ", or NULL" } else { "" };
        let text = match (self.callee(at), self.limit(reg)) {
            (Some(callee), Some(bytes)) => {
                let bytes = self.sized(reg, bytes);
                format!(
                    "{receiver} comes from {callee}: {} ({bytes}){or_null}",
                    self.target(reg)
                )
            }
            (Some(callee), None) if reg.is_pointer() => {
                format!("{receiver} comes from {callee}: {}", reg.describe())
            }
            (Some(callee), None) => format!("{receiver} comes from {callee}"),
            (None, _) => self.loaded(made)?,
        };
        Some(self.note(made.step, text))
    }

    /// Size of a region in words.
    fn sized(&self, reg: &Reg, bytes: u32) -> String {
        let map = self.map(reg).filter(|_| reg.kind == Kind::MapValue);
        let type_name = map
            .and_then(|m| names::value_type(self.req, &m.name))
            .and_then(names::type_name);
        match type_name {
            Some(name) => format!("{name}, {}", plural(bytes, "byte")),
            None => plural(bytes, "byte"),
        }
    }

    /// What a load reads from.
    pub(super) fn loaded(&self, made: &Event) -> Option<String> {
        let at = self.slot(made.step)? as usize;
        let name = self.receiver(at).or_else(|| self.expression(at));
        let name = name.map_or_else(|| "it".to_owned(), |n| format!("`{n}`"));
        let base = match self.path.insn(made.step)? {
            Insn::Load { src, .. } => self.path.reg(made.step, src.index())?,
            Insn::Atomic { .. } => {
                return Some(format!(
                    "{name} is the number that the atomic operation found in memory"
                ));
            }
            Insn::LoadImm64 { .. } if made.after.is_pointer() => {
                return Some(format!(
                    "this is the address of {}",
                    self.target(&made.after)
                ));
            }
            _ => return None,
        };
        let what = if made.after.is_pointer() {
            made.after.describe()
        } else {
            "a number"
        };
        Some(format!("{name} is {what} read from {}", self.target(&base)))
    }
}

/// The register that an instruction writes.
fn written_register(insn: &Insn) -> Option<usize> {
    match *insn {
        Insn::Mov { dst, .. }
        | Insn::Movsx { dst, .. }
        | Insn::Alu { dst, .. }
        | Insn::Neg { dst, .. }
        | Insn::End { dst, .. }
        | Insn::Load { dst, .. }
        | Insn::LoadAcquire { dst, .. }
        | Insn::LoadImm64 { dst, .. } => Some(dst.index()),
        Insn::Call(_) => Some(0),
        _ => None,
    }
}

/// `1 byte`, `4 bytes`.
pub(super) fn plural(n: impl Into<i128>, what: &str) -> String {
    let n = n.into();
    if n == 1 {
        format!("1 {what}")
    } else {
        format!("{n} {what}s")
    }
}

/// The range of a number in words.
pub(super) fn range(s: &Scalar) -> String {
    if let Some(value) = s.as_const() {
        return value.cast_signed().to_string();
    }
    let signed = s.smin < 0;
    match (
        signed,
        s.smin == i64::MIN && s.smax == i64::MAX,
        s.umax == u64::MAX,
    ) {
        (_, true, true) => "any number".to_owned(),
        (true, _, _) if s.smin == i64::MIN => format!("anything up to {}", s.smax),
        (true, _, _) => format!("{} to {}", s.smin, s.smax),
        (false, _, _) => format!("{} to {}", s.umin, s.umax),
    }
}
