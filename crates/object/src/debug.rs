//! Local variables by the debug information (DWARF) that `clang -g` leaves in an object: which of them is in a register or on
//! the stack at an instruction.
//!
//! Only places that say so plainly count: a variable that is computed from a register, or split over several, is not named.
//! Objects are untrusted; what cannot be read has no variables, and every walk has a limit.

mod frame;
mod shape;

use crate::image::{Image, ImageSection, ImageSymbol, add_at};
use gimli::{
    AttributeValue, DebuggingInformationEntry, Dwarf, EndianSlice, Expression, Operation,
    RunTimeEndian, Unit, UnitOffset,
};
pub use shape::{Member, Shape};
use skep_btf::Order;
use skep_isa::asm::RelocationKind;
use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;

/// Entries and ranges that a search looks at; a large program of the kernel's selftests has some 20,000.
const MAX_ENTRIES: usize = 1_000_000;
/// Variables of a function.
const MAX_VARIABLES: usize = 4096;
/// Places of a variable, and ranges of a block.
const MAX_PLACES: usize = 1024;
/// Operations of a place.
const MAX_OPERATIONS: usize = 8;
/// Number of the register that holds the address of the stack frame.
const FRAME_POINTER: u16 = 10;
/// Code sections all begin at address 0; this moves the section of index `i` to address `i << 32`.
const SECTION_SHIFT: u32 = 32;
/// Bytes of a slot.
const SLOT_BYTES: u64 = 8;
/// `SHF_COMPRESSED`
const COMPRESSED: u64 = 1 << 11;

type Slice<'a> = EndianSlice<'a, RunTimeEndian>;
type Entry<'a> = DebuggingInformationEntry<Slice<'a>>;

/// A local variable or parameter.
///
/// ```
/// # use skep_object::debug::Debug;
/// #
/// # let file = std::fs::read("../../tests/diagnose/debug/locals.bpf.o")?;
/// # let debug = Debug::parse(&file).ok_or("built without -g")?;
/// for function in debug.functions() {
///     for variable in debug.variables(function) {
///         println!("{} at {:?}", variable.name, variable.places);
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// How many blocks and inlined functions it stands in: the innermost has most to do with an instruction.
    pub depth: usize,
    /// Where it is, and when: ranges of slots, counted from the first one of the function.
    pub places: Vec<(Range<u32>, Place)>,
    /// Its type, if it may lie on the stack.
    pub shape: Option<Shape>,
}

/// Where a variable is.
///
/// ```
/// use skep_object::debug::Place;
/// # use skep_object::debug::Debug;
/// #
/// # let file = std::fs::read("../../tests/diagnose/debug/locals.bpf.o")?;
/// # let debug = Debug::parse(&file).ok_or("built without -g")?;
/// for function in debug.functions() {
///     for variable in debug.variables(function) {
///         for (insns, place) in variable.places {
///             match place {
///                 Place::Register(r) => println!("{insns:?}: r{r}"),
///                 Place::Stack(offset) => println!("{insns:?}: r10{offset:+}"),
///             }
///         }
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In this register.
    Register(u8),
    /// On the stack, that many bytes from r10.
    Stack(i64),
}

/// The debug information of an object.
///
/// ```
/// use skep_object::debug::Debug;
///
/// let file = std::fs::read("../../tests/diagnose/debug/locals.bpf.o")?;
/// let debug = Debug::parse(&file).ok_or("built without -g")?;
/// for function in debug.functions() {
///     for variable in debug.variables(function) {
///         println!("{function}: {}", variable.name);
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Debug<'d> {
    /// Sections by name, with relocations applied.
    sections: Vec<(&'d str, Cow<'d, [u8]>)>,
    endian: RunTimeEndian,
    functions: Vec<Function<'d>>,
}

/// A function of the object.
#[derive(Debug)]
struct Function<'d> {
    name: &'d str,
    /// Its addresses.
    range: Range<u64>,
    /// Its instructions.
    code: &'d [u8],
}

impl<'d> Debug<'d> {
    /// Reads an object; `None` if it has no debug information.
    #[must_use]
    pub fn parse(file: &'d [u8]) -> Option<Self> {
        let image = Image::parse(file).ok()?;
        image.section(".debug_info")?;
        let endian = match image.order {
            Order::Big => RunTimeEndian::Big,
            Order::Little => RunTimeEndian::Little,
        };
        let is_debug =
            |s: &&ImageSection<'d>| s.name.starts_with(".debug_") && s.flags & COMPRESSED == 0;
        let relocated = |s: &ImageSection<'d>| (s.name, relocated(s, &image));
        let function = |s: &ImageSymbol<'d>| {
            let start = address(s, &image).filter(|_| s.kind == ImageSymbol::FUNC)?;
            let from = usize::try_from(s.value).ok()?;
            let to = from.checked_add(usize::try_from(s.size).ok()?)?;
            Some(Function {
                name: s.name,
                range: start..start.checked_add(s.size)?,
                code: image
                    .sections
                    .get(usize::from(s.section))?
                    .data
                    .get(from..to)?,
            })
        };
        Some(Self {
            sections: image
                .sections
                .iter()
                .filter(is_debug)
                .map(relocated)
                .collect(),
            endian,
            functions: image.symbols.iter().filter_map(function).collect(),
        })
    }

    /// Names of the functions.
    pub fn functions(&self) -> impl Iterator<Item = &'d str> {
        self.functions.iter().map(|f| f.name)
    }

    /// The variables of `function`; none if two functions of the object have this name.
    #[must_use]
    pub fn variables(&self, function: &str) -> Vec<Variable> {
        let mut named = self.functions.iter().filter(|f| f.name == function);
        let (Some(function), None) = (named.next(), named.next()) else {
            return Vec::new();
        };
        let mut variables = self.search(&function.range).unwrap_or_default();
        frame::settle(&mut variables, function.code);
        variables
    }

    fn search(&self, code: &Range<u64>) -> gimli::Result<Vec<Variable>> {
        let section = |id: gimli::SectionId| -> gimli::Result<Slice<'_>> {
            let found = self.sections.iter().find(|(name, _)| *name == id.name());
            Ok(EndianSlice::new(
                found.map_or(&[], |(_, data)| data),
                self.endian,
            ))
        };
        let dwarf = Dwarf::load(section)?;
        let budget = Budget(Cell::new(MAX_ENTRIES));
        let mut units = dwarf.units();
        while let Some(header) = units.next()? {
            let unit = dwarf.unit(header)?;
            let mut entries = unit.entries();
            while let Some(entry) = entries.next_dfs()? {
                if !budget.spend() {
                    return Ok(Vec::new());
                }
                if entry.tag() != gimli::DW_TAG_subprogram {
                    continue;
                }
                let low = entry.attr_value(gimli::DW_AT_low_pc);
                let low = low.map(|v| dwarf.attr_address(&unit, v)).transpose()?;
                if low.flatten() == Some(code.start) {
                    let function = entry.offset();
                    let walk = Walk {
                        dwarf: &dwarf,
                        unit: &unit,
                        code,
                        budget: &budget,
                    };
                    return walk.variables(function);
                }
            }
        }
        Ok(Vec::new())
    }
}

/// Address of what a symbol names: places in code sections are moved apart.
fn address(symbol: &ImageSymbol<'_>, image: &Image<'_>) -> Option<u64> {
    let index = usize::from(symbol.section);
    let section = image.sections.get(index).filter(|_| index > 0)?;
    let base = if section.is_executable() {
        u64::from(symbol.section) << SECTION_SHIFT
    } else {
        0
    };
    base.checked_add(symbol.value)
}

/// Contents of a section with its relocations applied. What they add stands in place.
fn relocated<'d>(section: &ImageSection<'d>, image: &Image<'d>) -> Cow<'d, [u8]> {
    /// All others are 4 bytes wide.
    const WIDE: [u32; 2] = [RelocationKind::Wide as u32, RelocationKind::Abs64 as u32];
    let mut data = Cow::Borrowed(section.data);
    for relocation in &section.relocations {
        let symbol = image.symbols.get(relocation.symbol as usize);
        let Some(moved) = symbol.and_then(|s| address(s, image)).filter(|a| *a > 0) else {
            continue;
        };
        let Ok(at) = usize::try_from(relocation.offset) else {
            continue;
        };
        let is_wide = WIDE.contains(&relocation.kind);
        // A narrow place is one in a debug section: those are smaller than 4 GiB. One that lies outside stays as it is.
        let _ = add_at(data.to_mut(), at, is_wide, image.order, moved);
    }
    data
}

/// What a search may still look at.
struct Budget(Cell<usize>);

impl Budget {
    /// False once everything is spent.
    fn spend(&self) -> bool {
        self.0.set(self.0.get().saturating_sub(1));
        self.0.get() > 0
    }
}

/// The walk over a function's entries.
struct Walk<'w, 'a> {
    dwarf: &'w Dwarf<Slice<'a>>,
    unit: &'w Unit<Slice<'a>>,
    /// Addresses of the function.
    code: &'w Range<u64>,
    budget: &'w Budget,
}

impl<'a> Walk<'_, 'a> {
    fn variables(&self, function: UnitOffset) -> gimli::Result<Vec<Variable>> {
        let mut found = Vec::new();
        // Blocks around the current entry: their depth, and where their code is.
        let mut blocks: Vec<(isize, Vec<Range<u64>>)> = Vec::new();
        let mut entries = self.unit.entries_at_offset(function)?;
        let mut top = None;
        while let Some(entry) = entries.next_dfs()? {
            let depth = entry.depth();
            let top = *top.get_or_insert(depth);
            let is_behind = depth <= top && !blocks.is_empty();
            if is_behind || !self.budget.spend() || found.len() >= MAX_VARIABLES {
                break;
            }
            while blocks.last().is_some_and(|(of, _)| *of >= depth) {
                blocks.pop();
            }
            match entry.tag() {
                gimli::DW_TAG_subprogram if depth == top => {
                    blocks.push((depth, vec![self.code.clone()]));
                }
                gimli::DW_TAG_lexical_block | gimli::DW_TAG_inlined_subroutine => {
                    blocks.push((depth, self.ranges(entry)?));
                }
                gimli::DW_TAG_variable | gimli::DW_TAG_formal_parameter => {
                    let around = blocks.last().map_or(&[][..], |(_, ranges)| ranges);
                    found.extend(self.variable(entry, around, blocks.len())?);
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Where the code of a block is.
    fn ranges(&self, entry: &Entry<'a>) -> gimli::Result<Vec<Range<u64>>> {
        if let Some(value) = entry.attr_value(gimli::DW_AT_ranges) {
            let mut ranges = Vec::new();
            if let Some(mut all) = self.dwarf.attr_ranges(self.unit, value)? {
                while let Some(range) = all.next()?
                    && ranges.len() < MAX_PLACES
                    && self.budget.spend()
                {
                    ranges.push(range.begin..range.end);
                }
            }
            return Ok(ranges);
        }
        let address = |value| self.dwarf.attr_address(self.unit, value);
        let low = entry
            .attr_value(gimli::DW_AT_low_pc)
            .map(address)
            .transpose()?
            .flatten();
        let Some(low) = low else {
            return Ok(Vec::new());
        };
        let high = match entry.attr_value(gimli::DW_AT_high_pc) {
            Some(AttributeValue::Udata(bytes)) => low.checked_add(bytes),
            Some(value) => address(value)?,
            None => None,
        };
        Ok(high.map(|high| low..high).into_iter().collect())
    }

    fn variable(
        &self,
        entry: &Entry<'a>,
        around: &[Range<u64>],
        depth: usize,
    ) -> gimli::Result<Option<Variable>> {
        let mut places = Vec::new();
        match entry.attr_value(gimli::DW_AT_location) {
            Some(AttributeValue::Exprloc(expression)) => {
                let place = self.place(expression);
                let ranges = around.iter().filter_map(|r| self.slots(r));
                places.extend(
                    place
                        .into_iter()
                        .flat_map(|p| ranges.clone().map(move |r| (r, p))),
                );
            }
            Some(list) => {
                let Some(mut all) = self.dwarf.attr_locations(self.unit, list)? else {
                    return Ok(None);
                };
                while let Some(location) = all.next()?
                    && places.len() < MAX_PLACES
                    && self.budget.spend()
                {
                    let range = self.slots(&(location.range.begin..location.range.end));
                    places.extend(range.zip(self.place(location.data)));
                }
            }
            None => {}
        }
        if places.is_empty() {
            return Ok(None);
        }
        let Some((name, type_of)) = self.declaration(entry)? else {
            return Ok(None);
        };
        let on_stack = places.iter().any(|(_, p)| matches!(p, Place::Stack(_)));
        let shape = type_of.filter(|_| on_stack);
        let shape = shape.and_then(|t| shape::of((self.dwarf, self.unit), t, self.budget));
        Ok(Some(Variable {
            name,
            depth,
            places,
            shape,
        }))
    }

    /// Name and type: those of an inlined function's variables stand at its abstract form.
    fn declaration(
        &self,
        entry: &Entry<'a>,
    ) -> gimli::Result<Option<(String, Option<UnitOffset>)>> {
        let origin = match entry.attr_value(gimli::DW_AT_abstract_origin) {
            Some(AttributeValue::UnitRef(at)) => Some(self.unit.entry(at)?),
            _ => None,
        };
        let entry = origin.as_ref().unwrap_or(entry);
        let Some(name) = entry.attr_value(gimli::DW_AT_name) else {
            return Ok(None);
        };
        let name = self
            .dwarf
            .attr_string(self.unit, name)?
            .to_string_lossy()
            .into_owned();
        let type_of = match entry.attr_value(gimli::DW_AT_type) {
            Some(AttributeValue::UnitRef(at)) => Some(at),
            _ => None,
        };
        Ok(Some((name, type_of)).filter(|(name, _)| !name.is_empty()))
    }

    /// Slots of a range of addresses, counted from the function's start.
    fn slots(&self, range: &Range<u64>) -> Option<Range<u32>> {
        let slot = |at: u64| {
            let at = at.clamp(self.code.start, self.code.end) - self.code.start;
            u32::try_from(at / SLOT_BYTES).ok()
        };
        let slots = slot(range.start)?..slot(range.end)?;
        (!slots.is_empty()).then_some(slots)
    }

    /// The place that an expression names, if it is a plain one.
    fn place(&self, expression: Expression<Slice<'a>>) -> Option<Place> {
        let mut all = expression.operations(self.unit.encoding());
        let mut operations = Vec::new();
        while let Some(operation) = all.next().ok()? {
            if operations.len() == MAX_OPERATIONS {
                return None;
            }
            operations.push(operation);
        }
        let register = |r: gimli::Register| u8::try_from(r.0).ok().filter(|r| *r <= 9);
        match operations.as_slice() {
            [Operation::Register { register: r }] => register(*r).map(Place::Register),
            [Operation::FrameOffset { offset }] => Some(Place::Stack(*offset)),
            [
                Operation::RegisterOffset {
                    register: r,
                    offset,
                    ..
                },
            ] if r.0 == FRAME_POINTER => Some(Place::Stack(*offset)),
            // The register itself, perhaps cut to the width of the variable.
            [
                Operation::RegisterOffset {
                    register: r,
                    offset: 0,
                    ..
                },
                rest @ ..,
                Operation::StackValue,
            ] if rest.iter().all(only_narrows) => register(*r).map(Place::Register),
            _ => None,
        }
    }
}

/// The operation cuts a value to fewer bits.
fn only_narrows(operation: &Operation<Slice<'_>>) -> bool {
    matches!(
        operation,
        Operation::Convert { .. } | Operation::And | Operation::UnsignedConstant { .. }
    )
}
