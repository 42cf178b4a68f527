//! Types of all files as one set, and the records that name them.

use super::sections::Layout;
use super::symbols::{Shared, Symbols};
use super::{CombineError, File};
use skep_btf::build::Builder;
use skep_btf::dedup::{Deduplicated, Known, copy, dedup};
use skep_btf::ext::SectionInfo;
use skep_btf::raw::Info;
use skep_btf::{Btf, CoreRelo, Ext, FuncInfo, Kind, LineInfo, Linkage, Type};
use std::collections::{BTreeMap, HashMap};

/// Bytes of a slot.
const SLOT_BYTES: u64 = 8;
/// How deep types of a symbol are compared.
const DEPTH_MAX: u32 = 16;

/// `.BTF` and `.BTF.ext` of the whole; empty if no file has any.
pub(super) fn join(
    files: &[File<'_>],
    layout: &Layout,
    symbols: &Symbols,
) -> Result<(Vec<u8>, Vec<u8>), CombineError> {
    let Some(order) = files.iter().find_map(|f| f.btf.as_ref()).map(Btf::order) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let mut joint = Joint {
        files,
        layout,
        symbols,
        builder: Builder::new(order),
        known: Known::default(),
        first: Vec::new(),
        shared: HashMap::new(),
    };
    joint.copy_types();
    joint.share()?;
    joint.data_sections();
    let all = joint.parse()?;
    let mut types = dedup(&all, &joint.known);
    let ext = joint.ext(&mut types)?;
    Ok((types.builder.finish(), ext.write(order)))
}

struct Joint<'f, 'd> {
    files: &'f [File<'d>],
    layout: &'f Layout,
    symbols: &'f Symbols,
    builder: Builder,
    known: Known,
    /// By file, what is added to its type ids.
    first: Vec<u32>,
    /// The functions and variables that stand for shared symbols: file and id in the whole.
    shared: HashMap<&'f str, (usize, u32)>,
}

/// A function or variable that other files may mean by its name.
fn is_shared(ty: Type<'_>) -> bool {
    matches!(ty.kind(), Kind::Func | Kind::Var) && ty.linkage() != Some(Linkage::Static)
}

impl<'f> Joint<'f, '_> {
    fn types(&self, file: usize) -> impl Iterator<Item = Type<'f>> + use<'f> {
        let btf = self.files[file].btf.as_ref();
        btf.into_iter().flat_map(Btf::own_types)
    }

    /// The id in the whole of a type of a file.
    fn id(&self, file: usize, id: u32) -> u32 {
        if id == 0 {
            return 0;
        }
        self.first[file].saturating_add(id)
    }

    fn copy_types(&mut self) {
        for file in 0..self.files.len() {
            self.first.push(self.builder.type_count() - 1);
            for ty in self.types(file) {
                let first = self.first[file];
                let id = |id: u32| if id == 0 { 0 } else { first.saturating_add(id) };
                let id = copy(ty, &mut self.builder, id);
                if ty.kind() == Kind::Datasec {
                    self.known.dropped.push(id); // made anew
                }
            }
        }
    }

    fn parse(&self) -> Result<Btf, CombineError> {
        Btf::parse(self.builder.finish()).map_err(|error| CombineError::Btf {
            file: self.files[0].name.to_owned(),
            error,
        })
    }

    /// Lets the definition of each shared symbol stand for all its declarations.
    fn share(&mut self) -> Result<(), CombineError> {
        let mut found: BTreeMap<&str, Vec<(usize, Type<'f>)>> = BTreeMap::new();
        for file in 0..self.files.len() {
            for ty in self.types(file).filter(|t| is_shared(*t)) {
                if self.symbols.shared.contains_key(ty.name()) {
                    found.entry(ty.name()).or_default().push((file, ty));
                } else if ty.kind() == Kind::Var {
                    // Of a section that all files have, such as the license.
                    self.known.dropped.push(self.id(file, ty.id()));
                }
            }
        }
        for (name, types) in found {
            let symbol: Shared = self.symbols.shared[name];
            let defined = types.iter().find(|(file, _)| *file == symbol.file);
            let Some(&(owner, chosen)) = defined.or(types.first()) else {
                continue;
            };
            let chosen_id = self.id(owner, chosen.id());
            self.shared.insert(name, (owner, chosen_id));
            for &(file, ty) in &types {
                if !are_one(ty, chosen) {
                    let files = [self.files[file].name, self.files[owner].name];
                    return Err(CombineError::Type {
                        symbol: name.to_owned(),
                        files: files.map(str::to_owned),
                    });
                }
                let id = self.id(file, ty.id());
                if id != chosen_id {
                    self.known.replaced.push((id, chosen_id));
                }
            }
        }
        Ok(())
    }

    /// Makes the data sections of the whole.
    fn data_sections(&mut self) {
        let mut sections: Vec<(&str, Vec<[u32; 3]>)> = Vec::new();
        for file in 0..self.files.len() {
            for section in self.types(file).filter(|t| t.kind() == Kind::Datasec) {
                let entries: Vec<[u32; 3]> = section
                    .vars()
                    .filter_map(|var| {
                        let ty = section.btf().get(var.type_id)?;
                        let (id, offset) = self.variable(file, section.name(), ty, var.offset)?;
                        Some([id, offset, var.size])
                    })
                    .collect();
                match sections
                    .iter_mut()
                    .find(|(name, _)| *name == section.name())
                {
                    Some((_, all)) => all.extend(entries),
                    None => sections.push((section.name(), entries)),
                }
            }
        }
        for (name, mut entries) in sections {
            entries.sort_by_key(|[_, offset, _]| *offset);
            let Ok(count) = u16::try_from(entries.len()) else {
                continue; // more than a section's record can count: types are for display there
            };
            let bytes = self.layout.section(name).map_or(0, |s| s.data.len());
            let words: Vec<u32> = entries.concat();
            let info = Info::new(Kind::Datasec, count, false);
            if count > 0 {
                self.builder.add(name, info, bytes as u32, &words);
            }
        }
    }

    /// The id of a section's variable or function and its place there; `None` for one that is another file's.
    fn variable(
        &self,
        file: usize,
        section: &str,
        ty: Type<'_>,
        offset: u32,
    ) -> Option<(u32, u32)> {
        if is_shared(ty) {
            let (owner, id) = *self.shared.get(ty.name())?;
            let symbol = self.symbols.shared.get(ty.name())?;
            if owner != file || id != self.id(file, ty.id()) {
                return None;
            }
            let place = self.symbols.symbols[symbol.at].place;
            return Some((id, place.map_or(0, |(_, value)| value as u32)));
        }
        let image = &self.files[file].image;
        let index = image.sections.iter().position(|s| s.name == section);
        let place = index.and_then(|index| self.layout.place(file, index));
        if place.is_some_and(|p| p.again) {
            return None;
        }
        let shift = place.map_or(0, |p| p.shift as u32);
        Some((self.id(file, ty.id()), offset.saturating_add(shift)))
    }

    /// Functions, lines and relocations of the whole.
    fn ext(&self, types: &mut Deduplicated) -> Result<Ext, CombineError> {
        let mut all = Ext::default();
        for (file, input) in self.files.iter().enumerate() {
            let Some(btf) = &input.btf else { continue };
            self.append(file, &input.ext.funcs, &mut all.funcs, types, |r, types| {
                let type_id = types.id(self.id(file, r.type_id));
                FuncInfo { type_id, ..*r }
            })?;
            self.append(file, &input.ext.lines, &mut all.lines, types, |r, types| {
                let mut text = |at| types.builder.add_str(btf.str(at));
                LineInfo {
                    file: text(r.file),
                    text: text(r.text),
                    ..*r
                }
            })?;
            self.append(file, &input.ext.relos, &mut all.relos, types, |r, types| {
                CoreRelo {
                    type_id: types.id(self.id(file, r.type_id)),
                    access: types.builder.add_str(btf.str(r.access)),
                    ..*r
                }
            })?;
        }
        Ok(all)
    }

    /// Appends the records of a file to those of the sections they moved to.
    fn append<T: Record>(
        &self,
        file: usize,
        from: &[SectionInfo<T>],
        to: &mut Vec<SectionInfo<T>>,
        types: &mut Deduplicated,
        convert: impl Fn(&T, &mut Deduplicated) -> T,
    ) -> Result<(), CombineError> {
        let input = &self.files[file];
        let Some(btf) = &input.btf else { return Ok(()) };
        for info in from {
            let name = btf.str(info.section);
            let sections = &input.image.sections;
            let index = sections.iter().position(|s| s.name == name);
            let Some((index, place)) = index.and_then(|i| Some((i, self.layout.place(file, i)?)))
            else {
                continue; // of a section that is left out
            };
            let outside = |r: &T| u64::from(r.insn()) * SLOT_BYTES >= sections[index].size;
            if info.records.iter().any(outside) {
                return Err(input.section(name, "records of .BTF.ext lie outside of it"));
            }
            let section = types.builder.add_str(name);
            let at = to.iter().position(|s| s.section == section);
            let at = at.unwrap_or_else(|| {
                to.push(SectionInfo {
                    section,
                    records: Vec::new(),
                });
                to.len() - 1
            });
            let shift = (place.shift / SLOT_BYTES) as u32;
            for record in &info.records {
                let moved = convert(record, types);
                to[at].records.push(moved.later(shift));
            }
        }
        Ok(())
    }
}

/// A record of `.BTF.ext`.
trait Record {
    /// The slot it belongs to.
    fn insn(&self) -> u32;
    /// The same, `slots` further on.
    fn later(self, slots: u32) -> Self;
}

macro_rules! records {
    ($($name:ident)*) => {
        $(impl Record for $name {
            fn insn(&self) -> u32 {
                self.insn
            }

            fn later(mut self, slots: u32) -> Self {
                self.insn += slots;
                self
            }
        })*
    };
}

records! { FuncInfo LineInfo CoreRelo }

/// May these functions or variables be one symbol?
fn are_one(one: Type<'_>, other: Type<'_>) -> bool {
    let pair = |a, b| pair_agrees((one.btf(), a), (other.btf(), b), DEPTH_MAX);
    match (one.kind(), other.kind()) {
        (Kind::Var, Kind::Var) => pair(one.size_or_type(), other.size_or_type()),
        (Kind::Func, Kind::Func) => {
            let [a, b] = [one, other].map(|f| f.target().map(Type::resolve));
            let (Some(a), Some(b)) = (a, b) else {
                return a.is_none() && b.is_none();
            };
            let mut params = a.params().zip(b.params());
            a.kind() == b.kind()
                && a.params().len() == b.params().len()
                && pair(a.size_or_type(), b.size_or_type())
                && params.all(|(a, b)| pair(a.type_id, b.type_id))
        }
        _ => false,
    }
}

fn pair_agrees((one, a): (&Btf, u32), (other, b): (&Btf, u32), depth: u32) -> bool {
    match (one.get(a), other.get(b)) {
        (Some(a), Some(b)) => depth > 0 && agree(a, b, depth - 1),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// May these be types of one value? Names of types and sizes must be equal, what pointers point to only by name; an array
/// without a length fits every length. What is compared is a chain, never a tree: it ends soon however types refer to each other.
fn agree(one: Type<'_>, other: Type<'_>, depth: u32) -> bool {
    let (one, other) = (one.resolve(), other.resolve());
    match (one.kind(), other.kind()) {
        (Kind::Int, Kind::Int) => one.size() == other.size() && one.int() == other.int(),
        (Kind::Array, Kind::Array) => match (one.array(), other.array()) {
            (Some(a), Some(b)) => {
                let (a_element, b_element) = ((one.btf(), a.element), (other.btf(), b.element));
                (a.len == b.len || a.len == 0 || b.len == 0)
                    && pair_agrees(a_element, b_element, depth)
            }
            _ => false,
        },
        (Kind::Ptr, Kind::Ptr) => {
            let named = |ty: Type<'_>| ty.target().map(|t| t.resolve().name().to_owned());
            named(one) == named(other)
        }
        (Kind::Fwd, b) if b.is_composite() => one.name() == other.name(),
        (a, Kind::Fwd) if a.is_composite() => one.name() == other.name(),
        (a, b) => a == b && one.name() == other.name() && one.size() == other.size(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_btf::Order;

    #[test]
    fn arrays_without_length_and_pointers_by_name_agree() {
        let mut builder = Builder::new(Order::HOST);
        let int = builder.add_int("int", 4, 1);
        let [three, none] = [3, 0].map(|len| builder.add_array(int, int, len));
        let s = builder.add_struct("s", 4, &[("a", int, 0)]);
        let declared = builder.add("s", Info::new(Kind::Fwd, 0, false), 0, &[]);
        let [a, b, c] = [s, declared, int].map(|t| builder.add_ref(Kind::Ptr, "", t));
        let btf = Btf::parse(builder.finish()).expect("BTF");
        let fits = |a, b| agree(btf.get(a).expect("a"), btf.get(b).expect("b"), DEPTH_MAX);
        assert!(fits(three, none) && fits(a, b) && fits(s, declared));
        assert!(!fits(a, c) && !fits(int, s) && !fits(three, int));
    }

    #[test]
    fn prototypes_that_nest_without_end_are_compared_at_once() {
        let mut builder = Builder::new(Order::HOST);
        let int = builder.add_int("int", 4, 1);
        // Takes a hundred values of its own type, which only a damaged file says.
        let itself = [0, int + 1].repeat(100);
        let info = |count| Info::new(Kind::FuncProto, count, false);
        let endless = builder.add("", info(100), int, &itself);
        let plain = builder.add("", info(1), int, &[0, int]);
        let global = Info::new(Kind::Func, 1, false);
        let [a, b] = [endless, plain].map(|of| builder.add("f", global, of, &[]));
        let btf = Btf::parse(builder.finish()).expect("BTF");
        let one = |a, b| are_one(btf.get(a).expect("a"), btf.get(b).expect("b"));
        assert!(one(a, a) && one(b, b) && !one(a, b));
    }
}
