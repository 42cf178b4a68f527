//! Names of a program's local variables, from the debug information of its object. It is read when the first name is asked for.

use skep_object::Program;
use skep_object::debug::{Debug, Place, Shape, Variable};
use skep_verifier::{Locals, Part, StackVariable};
use std::cell::OnceCell;

/// The variables of a linked program.
pub(crate) struct DebugLocals<'d> {
    file: &'d [u8],
    /// Its debug information, once somebody asked; `None` if it has none.
    debug: OnceCell<Option<Debug<'d>>>,
    /// First slot and name of each function, ordered by slot, and its variables once somebody asked.
    functions: Vec<(u32, &'d str, OnceCell<Vec<Variable>>)>,
}

impl<'d> DebugLocals<'d> {
    /// The variables of `program` by the object `file`.
    pub(crate) fn new(file: &'d [u8], program: Option<&'d Program>) -> Self {
        let functions = program.map_or(&[][..], |p| &p.functions);
        let mut functions: Vec<_> = functions
            .iter()
            .map(|(start, name)| (*start, name.as_str(), OnceCell::new()))
            .collect();
        functions.sort_by_key(|f| f.0);
        Self {
            file,
            debug: OnceCell::new(),
            functions,
        }
    }

    /// The variables that are where `wanted` says at a slot; the innermost is the last one.
    fn at<T>(
        &self,
        insn: u32,
        wanted: impl Fn(&Variable, Place) -> Option<T>,
    ) -> Option<(&Variable, T)> {
        let debug = self
            .debug
            .get_or_init(|| Debug::parse(self.file))
            .as_ref()?;
        let after = self.functions.partition_point(|f| f.0 <= insn);
        let (start, name, variables) = self.functions.get(after.checked_sub(1)?)?;
        let slot = insn - start;
        let here = |variable: &Variable| {
            let mut places = variable.places.iter();
            places.find_map(|(slots, place)| {
                let found = slots.contains(&slot).then(|| wanted(variable, *place));
                found.flatten()
            })
        };
        let variables = variables.get_or_init(|| debug.variables(name));
        variables
            .iter()
            .filter_map(|v| Some((v, here(v)?)))
            .max_by_key(|(v, _)| v.depth)
    }
}

impl Locals for DebugLocals<'_> {
    fn in_register(&self, insn: u32, reg: u8) -> Option<&str> {
        let wanted = |_: &Variable, place| (place == Place::Register(reg)).then_some(());
        let (variable, ()) = self.at(insn, wanted)?;
        Some(&variable.name)
    }

    fn on_stack(&self, insn: u32, offset: i64) -> Option<StackVariable> {
        let wanted = |variable: &Variable, place| {
            let (Place::Stack(start), Some(shape)) = (place, &variable.shape) else {
                return None;
            };
            let byte = u64::try_from(offset.checked_sub(start)?).ok()?;
            (byte < shape.bytes).then(|| (start, shape.clone(), byte))
        };
        let (variable, (start, shape, byte)) = self.at(insn, wanted)?;
        Some(StackVariable {
            name: variable.name.clone(),
            start,
            bytes: shape.bytes,
            part: part(&shape, byte),
        })
    }
}

/// What a byte of a structure is.
fn part(shape: &Shape, byte: u64) -> Option<Part> {
    if shape.members.is_empty() {
        return None;
    }
    let mut members = shape.members.iter();
    let member = members.find(|m| m.offset <= byte && byte - m.offset < m.bytes);
    Some(member.map_or(Part::Padding, |m| Part::Member(m.path.clone())))
}
