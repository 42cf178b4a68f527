//! The part of a kernel's BTF that the CO-RE relocations of objects need.
//!
//! A relocation is resolved against the whole BTF, and what its answer stands on is kept: of structs the members on its path, of
//! enums the value, of pointers that nobody follows only that they are pointers. Typedefs and modifiers between them are left
//! out, as relocation looks through them. Whoever relocates against the result gets the same instructions; that is checked
//! before it is given out.
//!
//! ```
//! use skep_btf::{Btf, Builder, Order};
//! use skep_object::{Object, Options, reduce::reduce};
//!
//! let bytes = std::fs::read("../../tests/objects/relocations.bpf.o")?;
//! let object = Object::parse(&bytes, &Options::default())?;
//! let mut kernel = Builder::new(Order::HOST);
//! kernel.add_int("int", 4, 1);
//! let kernel = Btf::parse(kernel.finish())?;
//! let reduced = reduce(&kernel, &[object]).unwrap();
//! // Nothing in this kernel is asked for.
//! assert_eq!(Btf::parse(reduced.btf)?.type_count(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::access::Access;
use super::kind::{RelocKind, Subject};
use super::walk::Part;
use super::{Core, CoreError};
use crate::object::Object;
use skep_btf::build::RECORD_WORDS;
use skep_btf::raw::Info;
use skep_btf::{Btf, Builder, CoreRelo, Kind, Type};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A flexible array is at most this long; it may be indexed further if it ends its struct.
const FLEXIBLE_LEN_MAX: u32 = 1;

/// Reduced BTF.
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../tests/objects/relocations.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "relocations.bpf.o".to_owned() })?;
/// use skep_btf::{Btf, Builder, Order};
/// use skep_object::reduce::reduce;
///
/// let mut kernel = Builder::new(Order::HOST);
/// let int = kernel.add_int("int", 4, 1);
/// kernel.add_struct("net_device", 8, &[("mtu", int, 0), ("ifindex", int, 32)]);
/// let kernel = Btf::parse(kernel.finish())?;
/// let reduced = reduce(&kernel, &[object])?;
/// assert!(reduced.renumbered.is_empty());
/// let btf = Btf::parse(reduced.btf)?;
/// assert!(btf.types().flat_map(|t| t.members()).all(|m| m.name == "ifindex"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reduced {
    /// The types, without base.
    pub btf: Vec<u8>,
    /// Types whose id in the kernel's BTF the objects ask for (`bpf_core_type_id_kernel`): they have other ids here, as types
    /// are numbered without gaps.
    pub renumbered: Vec<String>,
}

/// A relocation would be answered differently by the reduced BTF, because the whole BTF contradicts itself.
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../tests/objects/relocations.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "relocations.bpf.o".to_owned() })?;
/// # use skep_btf::{Btf, Builder, Order};
/// # use skep_object::reduce::reduce;
/// #
/// # let mut kernel = Builder::new(Order::HOST);
/// # let int = kernel.add_int("int", 4, 1);
/// # kernel.add_struct("net_device", 8, &[("mtu", int, 0), ("ifindex", int, 32)]);
/// # let kernel = Btf::parse(kernel.finish())?;
/// match reduce(&kernel, &[object]) {
///     Ok(reduced) => println!("{} bytes", reduced.btf.len()),
///     Err(error) => println!("object {}: {error}", error.object),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReduceError {
    /// Which of the objects.
    pub object: usize,
    /// The relocation's section and instruction.
    pub place: String,
}

impl std::fmt::Display for ReduceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: the types that this relocation needs contradict themselves; use the whole BTF",
            self.place
        )
    }
}

impl std::error::Error for ReduceError {}

/// Reduces `full`, the BTF of a kernel, to what the CO-RE relocations of `objects` need of it.
///
/// # Errors
/// [`ReduceError`] if the BTF contradicts itself so that no part of it gives the same answers.
pub fn reduce(full: &Btf, objects: &[Object]) -> Result<Reduced, ReduceError> {
    let mut kept = Kept::default();
    for object in objects {
        kept.add_object(full, object);
    }
    let (btf, ids) = kept.write(full);
    // Parsing what the builder wrote cannot fail; if it did, no relocation would have its answer.
    let reduced = Btf::parse(btf.as_slice()).ok();
    let reduced: Vec<&Btf> = reduced.iter().collect();
    let mut renumbered = BTreeSet::new();
    for (index, object) in objects.iter().enumerate() {
        let Some(local) = &object.file_btf else {
            continue;
        };
        let mut before = Core::new(local, vec![full]);
        let mut after = Core::new(local, reduced.clone());
        for (section, relo) in relocations(object) {
            let mut expected = answer(&mut before, relo);
            if let Ok(Some(Answer { id: Some(id), .. })) = &mut expected {
                let old = full.get(*id).map_or("", |ty| ty.name());
                renumbered.insert(old.to_owned());
                *id = ids.get(id).copied().unwrap_or(0);
            }
            if answer(&mut after, relo) != expected {
                return Err(ReduceError {
                    object: index,
                    place: format!("section {section}, instruction {}", relo.insn),
                });
            }
        }
    }
    Ok(Reduced {
        btf,
        renumbered: renumbered.into_iter().collect(),
    })
}

/// The relocations of an object, with the names of their sections.
fn relocations(object: &Object) -> impl Iterator<Item = (&str, &CoreRelo)> {
    let local = object.file_btf.iter();
    local.flat_map(move |local| {
        let sections = object.ext.relos.iter();
        sections.flat_map(move |s| s.records.iter().map(|r| (local.str(s.section), r)))
    })
}

/// What a relocation does to an instruction.
#[derive(PartialEq, Eq, Debug)]
struct Answer {
    /// The type's id, if that is the answer.
    id: Option<u32>,
    /// The number otherwise.
    number: u64,
    checked: bool,
    /// Whether a field is a pointer or an unsigned number, and its bytes: whether a load of it may change its size.
    field: Option<(bool, bool, u32)>,
}

/// `Ok(None)` for an instruction that must not be reached.
fn answer(core: &mut Core<'_>, relo: &CoreRelo) -> Result<Option<Answer>, CoreError> {
    let resolved = core.resolve(relo)?;
    Ok(resolved.target.map(|value| {
        let is_id = resolved.kind == RelocKind::TypeIdTarget && value.number != 0;
        let field = value.field.map(|(ty, bytes)| {
            let unsigned = ty.int().is_some_and(|i| !i.is_signed());
            (ty.kind() == Kind::Ptr, unsigned, bytes)
        });
        Answer {
            id: is_id.then(|| u32::try_from(value.number).unwrap_or(0)),
            number: if is_id { 0 } else { value.number },
            checked: value.checked,
            field,
        }
    }))
}

/// What is kept of a type besides its kind, name and size.
#[derive(Default)]
struct Contents {
    /// Members of a composite, values of an enum.
    entries: BTreeSet<u32>,
    /// What a pointer or prototype refers to.
    references: bool,
}

/// What is kept, by type id.
#[derive(Default)]
struct Kept(BTreeMap<u32, Contents>);

impl Kept {
    fn add_object(&mut self, full: &Btf, object: &Object) {
        let Some(local) = &object.file_btf else {
            return;
        };
        let mut core = Core::new(local, vec![full]);
        for (_, relo) in relocations(object) {
            let mut found = Vec::new();
            let resolved = core.resolve_telling(relo, &mut |access| found.push(access));
            // Where they all agree one is enough; a disagreement stays one.
            let enough = if resolved.is_ok() { 1 } else { found.len() };
            let subject = RelocKind::from_number(relo.kind).map(RelocKind::subject);
            for access in found.iter().take(enough) {
                self.add_access(access, subject);
            }
        }
    }

    fn add_access(&mut self, access: &Access<'_>, subject: Option<Subject>) {
        self.add(Part::Shell(access.root));
        self.add(Part::Shell(access.root.resolve()));
        for step in &access.steps {
            self.add(match subject {
                Some(Subject::EnumValue) => Part::Value(step.ty, step.index),
                _ if step.name.is_empty() => Part::Shell(step.ty),
                _ => Part::Member(step.ty, step.index),
            });
        }
        for part in &access.beside {
            self.add(*part);
        }
    }

    fn add(&mut self, part: Part<'_>) {
        match part {
            Part::Shell(ty) => self.add_shell(ty),
            Part::Value(ty, index) => self.add_entry(ty, index),
            Part::Member(ty, index) => self.add_member(ty, index),
            Part::References(ty) => {
                self.add_shell(ty);
                self.0.entry(ty.id()).or_default().references = true;
            }
        }
    }

    fn add_entry(&mut self, ty: Type<'_>, index: u32) {
        self.add_shell(ty);
        self.0.entry(ty.id()).or_default().entries.insert(index);
    }

    fn add_member(&mut self, ty: Type<'_>, index: u32) {
        self.add_entry(ty, index);
        let target = |index| ty.member(index).and_then(|m| ty.btf().resolve(m.type_id));
        let Some(member) = target(index) else { return };
        self.add_shell(member);
        // An array that does not end its struct must not come to end what is left of it.
        let could_be_flexible = member.array().is_some_and(|a| a.len <= FLEXIBLE_LEN_MAX);
        let last = ty.vlen().saturating_sub(1);
        if could_be_flexible && index != last {
            self.add_entry(ty, last);
            if let Some(member) = target(last) {
                self.add_shell(member);
            }
        }
    }

    /// Keeps a type and what its size depends on.
    fn add_shell(&mut self, ty: Type<'_>) {
        let mut waiting = vec![ty];
        while let Some(ty) = waiting.pop() {
            if ty.kind() == Kind::Void || self.0.contains_key(&ty.id()) {
                continue;
            }
            self.0.insert(ty.id(), Contents::default());
            if let Some(array) = ty.array() {
                let inner = [array.element, array.index].into_iter();
                waiting.extend(inner.filter_map(|id| ty.btf().resolve(id)));
            } else if is_passed_through(ty.kind()) {
                waiting.push(ty.resolve());
            }
        }
    }

    /// BTF of what is kept, and the new id of every kept type.
    fn write(&self, full: &Btf) -> (Vec<u8>, HashMap<u32, u32>) {
        let mut ids = HashMap::new();
        let mut written = Vec::new();
        let mut pointer = None;
        for (&id, contents) in &self.0 {
            let Some(ty) = full.get(id) else { continue };
            let next = written.len() as u32 + 1;
            // All pointers that nobody follows are one.
            let is_bare = ty.kind() == Kind::Ptr && !contents.references;
            let new = if is_bare {
                *pointer.get_or_insert(next)
            } else {
                next
            };
            ids.insert(id, new);
            if new == next {
                written.push((ty, contents));
            }
        }
        let mut builder = Builder::new(full.order());
        for (ty, contents) in written {
            write(ty, contents, &ids, &mut builder);
        }
        (builder.finish(), ids)
    }
}

/// Relocation looks through these.
fn is_passed_through(kind: Kind) -> bool {
    kind.is_modifier() || kind == Kind::Typedef
}

/// Writes what is kept of a type.
fn write(ty: Type<'_>, contents: &Contents, ids: &HashMap<u32, u32>, builder: &mut Builder) {
    // A reference leads to the type itself or, where only that was kept, past what relocation looks through.
    let new = |id: u32| {
        let resolved = || ids.get(&ty.btf().resolve(id)?.id());
        ids.get(&id).or_else(resolved).copied().unwrap_or(0)
    };
    let kind = ty.kind();
    let words: Vec<u32> = ty.words().collect();
    let mut third = words[RECORD_WORDS - 1];
    let mut extra = words[RECORD_WORDS..].to_vec();
    let mut info = ty.info();
    match kind {
        Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 => {
            let each = if kind == Kind::Enum { 2 } else { 3 };
            let entries = contents.entries.iter().map(|index| *index as usize);
            extra = entries
                .filter_map(|index| words.get(RECORD_WORDS + each * index..)?.get(..each))
                .flat_map(|entry| {
                    let mut entry = entry.to_vec();
                    entry[0] = builder.add_str(ty.btf().str(entry[0]));
                    if kind.is_composite() {
                        entry[1] = new(entry[1]);
                    }
                    entry
                })
                .collect();
            // No more than there were.
            info = Info::new(kind, (extra.len() / each) as u16, ty.flag());
        }
        Kind::Array => extra[..2].iter_mut().for_each(|id| *id = new(*id)),
        Kind::Ptr | Kind::FuncProto if !contents.references => third = 0,
        Kind::FuncProto => {
            third = new(third);
            for param in extra.chunks_mut(2) {
                // Nobody asks for names of parameters.
                param[0] = 0;
                param[1] = new(param[1]);
            }
        }
        _ if kind.has_type() => third = new(third),
        _ => {}
    }
    builder.add(ty.name(), info, third, &extra);
}
