//! Equal types as one: what a linker does to the BTF of several files.
//!
//! Two types are equal if nothing that can be read from them tells them apart: same kind, name, size and values, and equal types
//! where they refer to some. That is the coarsest partition of the types which agrees with itself, found as for finite automata:
//! begin with what each record says on its own, then split classes whose members refer to different classes, until none splits.
//! A forward declaration is equal to the only complete type of its name, if there is exactly one.
//!
//! Functions, variables and data sections name something and are never equal to others; who knows that two of them name the same
//! thing says so.

use crate::build::{Builder, RECORD_WORDS};
use crate::parsed::Btf;
use crate::raw::Info;
use crate::types::{Kind, Type};
use std::collections::{HashMap, HashSet};

/// What the caller knows and types do not say.
///
/// ```
/// use skep_btf::dedup::{Known, dedup};
/// use skep_btf::{Btf, Builder, Order};
///
/// # let mut builder = Builder::new(Order::HOST);
/// # let (one, two) = (builder.add_int("int", 4, 1), builder.add_int("int", 4, 1));
/// # let btf = Btf::parse(builder.finish())?;
/// let known = Known { dropped: vec![two], ..Known::default() };
/// assert_eq!(dedup(&btf, &known).id(two), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Types, and those that stand for them.
    pub replaced: Vec<(u32, u32)>,
    /// Types to which nothing refers and that are left out.
    pub dropped: Vec<u32>,
}

/// BTF without equal types.
///
/// ```
/// use skep_btf::dedup::{Known, dedup};
/// use skep_btf::{Btf, Builder, Order};
///
/// let mut builder = Builder::new(Order::HOST);
/// let (one, two) = (builder.add_int("int", 4, 1), builder.add_int("int", 4, 1));
/// let btf = Btf::parse(builder.finish())?;
/// let joined = dedup(&btf, &Known::default());
/// assert_eq!(joined.id(one), joined.id(two));
/// assert_eq!(Btf::parse(joined.builder.finish())?.type_count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Deduplicated {
    /// The types; strings may still be added.
    pub builder: Builder,
    /// The new id of every old one; 0 for types that were left out.
    pub ids: Vec<u32>,
}

impl Deduplicated {
    /// The new id of a type.
    #[must_use]
    pub fn id(&self, old: u32) -> u32 {
        self.ids.get(old as usize).copied().unwrap_or(0)
    }
}

/// Joins the equal types of `btf`, which has no base.
#[must_use]
pub fn dedup(btf: &Btf, known: &Known) -> Deduplicated {
    let mut partition = Partition::new(btf, known);
    partition.refine();
    while partition.resolve_forwards() {
        partition.refine();
    }
    partition.write(known)
}

/// Types that stand for something by name.
fn is_unique(kind: Kind) -> bool {
    matches!(kind, Kind::Func | Kind::Var | Kind::Datasec)
}

/// Who refers to each type: at which of its places, and which type.
struct References {
    /// Where the references to each type begin, and the end of all.
    starts: Vec<usize>,
    all: Vec<(u32, u32)>,
}

impl References {
    fn new(partition: &Partition<'_>) -> Self {
        let count = partition.own.len();
        let mut found: Vec<(u32, (u32, u32))> = Vec::new();
        for ty in partition.btf.own_types() {
            let words: Vec<u32> = ty.words().collect();
            for (place, at) in (0..).zip(ty.type_words()) {
                let target = partition.of(words[at]);
                // What does not exist reads as `void`.
                let target = if (target as usize) < count { target } else { 0 };
                found.push((target, (place, ty.id())));
            }
        }
        found.sort_unstable();
        let starts = (0..=count as u32).map(|id| found.partition_point(|f| f.0 < id));
        Self {
            starts: starts.collect(),
            all: found.into_iter().map(|(_, reference)| reference).collect(),
        }
    }

    fn to(&self, id: u32) -> &[(u32, u32)] {
        let id = id as usize;
        &self.all[self.starts[id]..self.starts[id + 1]]
    }
}

/// Classes of types that can be split.
struct Classes {
    /// The class of each type.
    of: Vec<u32>,
    /// The types of each class; those that are marked stand at its end.
    members: Vec<Vec<u32>>,
    /// Where each type stands in its class.
    place: Vec<usize>,
    /// How many of each class are marked.
    marked: Vec<usize>,
}

impl Classes {
    /// `own` numbers the classes without a gap.
    fn new(own: &[u32]) -> Self {
        let count = own.iter().max().map_or(0, |last| *last as usize + 1);
        let mut classes = Self {
            of: own.to_vec(),
            members: vec![Vec::new(); count],
            place: vec![0; own.len()],
            marked: vec![0; count],
        };
        for (id, class) in (0..).zip(own) {
            let members = &mut classes.members[*class as usize];
            classes.place[id as usize] = members.len();
            members.push(id);
        }
        classes
    }

    /// Marks a type, which is not marked yet; `touched` gets its class if it is the first of it.
    fn mark(&mut self, id: u32, touched: &mut Vec<u32>) {
        let class = self.of[id as usize] as usize;
        let members = &mut self.members[class];
        if self.marked[class] == 0 {
            touched.push(class as u32);
        }
        self.marked[class] += 1;
        let (from, to) = (self.place[id as usize], members.len() - self.marked[class]);
        let other = members[to];
        members.swap(from, to);
        self.place[id as usize] = to;
        self.place[other as usize] = from;
    }

    /// Makes the marked types of a class one of their own, unless they all are; nothing is marked then.
    fn split(&mut self, class: u32) -> Option<u32> {
        let count = std::mem::take(&mut self.marked[class as usize]);
        let members = &mut self.members[class as usize];
        if count == members.len() {
            return None;
        }
        let split = members.split_off(members.len() - count);
        let new = self.members.len() as u32;
        for (place, id) in split.iter().enumerate() {
            self.of[*id as usize] = new;
            self.place[*id as usize] = place;
        }
        self.members.push(split);
        self.marked.push(0);
        Some(new)
    }
}

struct Partition<'b> {
    btf: &'b Btf,
    /// The type that stands for each one, itself at first.
    stands: Vec<u32>,
    /// What each record says on its own, as a number.
    own: Vec<u32>,
    /// The class of each type.
    class: Vec<u32>,
}

impl<'b> Partition<'b> {
    fn new(btf: &'b Btf, known: &Known) -> Self {
        let mut stands: Vec<u32> = (0..btf.type_count()).collect();
        for &(old, new) in &known.replaced {
            if let Some(place) = stands.get_mut(old as usize) {
                *place = new;
            }
        }
        let mut names: HashMap<&str, u32> = HashMap::new();
        let mut records: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut own = vec![0];
        for ty in btf.own_types() {
            let mut words: Vec<u32> = ty.words().collect();
            for at in ty.name_words() {
                let next = names.len() as u32;
                words[at] = *names.entry(btf.str(words[at])).or_insert(next);
            }
            for at in ty.type_words() {
                words[at] = 0;
            }
            if is_unique(ty.kind()) {
                words.push(ty.id());
            }
            let next = records.len() as u32 + 1;
            own.push(*records.entry(words).or_insert(next));
        }
        let class = own.clone();
        Self {
            btf,
            stands,
            own,
            class,
        }
    }

    /// The type that stands for one.
    fn of(&self, id: u32) -> u32 {
        self.stands.get(id as usize).copied().unwrap_or(0)
    }

    /// Splits classes until they agree with themselves, as Hopcroft's algorithm does: a class that was split makes classes split
    /// whose members refer to it, and of its two parts only the smaller one has to be looked at.
    fn refine(&mut self) {
        let references = References::new(self);
        let mut classes = Classes::new(&self.own);
        let mut waiting: Vec<u32> = (0..classes.members.len() as u32).collect();
        let mut is_waiting = vec![true; waiting.len()];
        let (mut into, mut touched) = (Vec::new(), Vec::new());
        while let Some(class) = waiting.pop() {
            is_waiting[class as usize] = false;
            into.clear();
            for ty in &classes.members[class as usize] {
                into.extend_from_slice(references.to(*ty));
            }
            into.sort_unstable();
            for same_place in into.chunk_by(|a, b| a.0 == b.0) {
                for (_, source) in same_place {
                    classes.mark(*source, &mut touched);
                }
                for old in touched.drain(..) {
                    let Some(new) = classes.split(old) else {
                        continue;
                    };
                    let size = |class: u32| classes.members[class as usize].len();
                    let takes_new = is_waiting[old as usize] || size(new) <= size(old);
                    is_waiting.push(takes_new);
                    if takes_new {
                        waiting.push(new);
                    } else {
                        is_waiting[old as usize] = true;
                        waiting.push(old);
                    }
                }
            }
        }
        self.class = classes.of;
    }

    /// Lets complete types stand for forward declarations; tells whether there was one more.
    fn resolve_forwards(&mut self) -> bool {
        let mut complete: HashMap<(&str, Kind), Option<u32>> = HashMap::new();
        for ty in self.btf.own_types().filter(|t| t.kind().is_composite()) {
            let found = complete.entry((ty.name(), ty.kind()));
            let found = found.or_insert(Some(ty.id()));
            let class = |id: u32| self.class[id as usize];
            if found.is_some_and(|id| class(id) != class(ty.id())) {
                *found = None;
            }
        }
        let mut any = false;
        for ty in self.btf.own_types().filter(|t| t.kind() == Kind::Fwd) {
            let kind = if ty.flag() { Kind::Union } else { Kind::Struct };
            let found = complete.get(&(ty.name(), kind)).copied().flatten();
            if let Some(id) = found.filter(|_| self.of(ty.id()) == ty.id()) {
                self.stands[ty.id() as usize] = id;
                any = true;
            }
        }
        any
    }

    fn write(&self, known: &Known) -> Deduplicated {
        // The first of each class is written.
        let mut first: HashMap<u32, u32> = HashMap::new();
        let mut written = Vec::new();
        let dropped: HashSet<u32> = known.dropped.iter().copied().collect();
        let is_dropped = |id: u32| dropped.contains(&id);
        for ty in self.btf.own_types() {
            if self.of(ty.id()) == ty.id() && !is_dropped(ty.id()) {
                let class = self.class[ty.id() as usize];
                first.entry(class).or_insert_with(|| {
                    written.push(ty);
                    written.len() as u32
                });
            }
        }
        let mut ids = vec![0];
        for ty in self.btf.own_types() {
            let class = self.class.get(self.of(ty.id()) as usize);
            let id = class.and_then(|c| first.get(c)).copied().unwrap_or(0);
            ids.push(if is_dropped(ty.id()) { 0 } else { id });
        }
        let mut builder = Builder::new(self.btf.order());
        for ty in written {
            copy(ty, &mut builder, |id| {
                ids.get(id as usize).copied().unwrap_or(0)
            });
        }
        Deduplicated { builder, ids }
    }
}

/// Adds a type of another BTF, with its strings; `id` gives the place of each type that it refers to.
pub fn copy(ty: Type<'_>, builder: &mut Builder, id: impl Fn(u32) -> u32) -> u32 {
    let mut words: Vec<u32> = ty.words().collect();
    for at in ty.type_words() {
        words[at] = id(words[at]);
    }
    for at in ty.name_words().filter(|at| *at != 0) {
        words[at] = builder.add_str(ty.btf().str(words[at]));
    }
    builder.add(ty.name(), Info(words[1]), words[2], &words[RECORD_WORDS..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Order;

    /// `struct NAME { struct NAME *next; TYPE value; }`, twice with `int`, once with `long`.
    fn lists() -> Btf {
        let mut builder = Builder::new(Order::HOST);
        for (name, bytes) in [("int", 4), ("int", 4), ("long", 8)] {
            let value = builder.add_int(name, bytes, 1);
            let list = value + 2;
            builder.add_ref(Kind::Ptr, "", list);
            builder.add_struct("list", 16, &[("next", value + 1, 0), ("value", value, 64)]);
        }
        Btf::parse(builder.finish()).unwrap()
    }

    #[test]
    fn types_that_refer_to_themselves_are_equal_if_all_of_them_is() {
        let found = dedup(&lists(), &Known::default());
        assert_eq!(found.ids, [0, 1, 2, 3, 1, 2, 3, 4, 5, 6]);
        let btf = Btf::parse(found.builder.finish()).unwrap();
        btf.validate().unwrap();
        assert_eq!(btf.type_count(), 7);
    }

    /// Pointers of pointers, so many deep, to `int` of so many bytes.
    const DEPTH: u32 = 50_000;

    #[test]
    fn long_chains_take_no_longer_than_their_length() {
        let mut builder = Builder::new(Order::HOST);
        for bytes in [4, 4, 8] {
            let mut id = builder.add_int("int", bytes, 1);
            for _ in 0..DEPTH {
                id = builder.add_ref(Kind::Ptr, "", id);
            }
        }
        let btf = Btf::parse(builder.finish()).unwrap();
        let start = std::time::Instant::now();
        let found = dedup(&btf, &Known::default());
        // Round after round over all types it takes minutes.
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
        assert_eq!(found.builder.type_count(), 1 + 2 * (DEPTH + 1));
        assert_eq!(found.id(DEPTH + 1), found.id(2 * DEPTH + 2));
    }

    /// The classes as they are found round after round.
    fn by_rounds(partition: &Partition<'_>) -> Vec<u32> {
        let (mut class, mut count) = (partition.own.clone(), 0);
        loop {
            let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
            let mut next = vec![0];
            for ty in partition.btf.own_types() {
                let words: Vec<u32> = ty.words().collect();
                let targets = ty.type_words().map(|at| partition.of(words[at]));
                let targets = targets.map(|t| class.get(t as usize).copied().unwrap_or(0));
                let own = class[ty.id() as usize];
                let key: Vec<u32> = std::iter::once(own).chain(targets).collect();
                let number = known.len() as u32 + 1;
                next.push(*known.entry(key).or_insert(number));
            }
            class = next;
            if known.len() == count {
                return class;
            }
            count = known.len();
        }
    }

    #[test]
    fn classes_are_those_that_rounds_find() {
        let mut state = 1u32;
        let mut below = |n: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % n
        };
        for _ in 0..500 {
            let mut builder = Builder::new(Order::HOST);
            let count = 1 + below(30);
            for _ in 0..count {
                // Some refer to nothing that exists.
                let (one, two) = (below(count + 2), below(count + 2));
                match below(4) {
                    0 => builder.add_int("int", 4 << below(2), 1),
                    1 => builder.add_ref(Kind::Ptr, "", one),
                    2 => builder.add_array(one, two, below(2)),
                    _ => builder.add_struct("s", 16, &[("a", one, 0), ("b", two, 64)]),
                };
            }
            let btf = Btf::parse(builder.finish()).unwrap();
            let known = Known {
                replaced: vec![(1 + below(count), 1 + below(count))],
                dropped: Vec::new(),
            };
            let mut partition = Partition::new(&btf, &known);
            partition.refine();
            let expected = by_rounds(&partition);
            let found = &partition.class;
            for (a, b) in (0..found.len()).flat_map(|a| (0..a).map(move |b| (a, b))) {
                let same = (found[a] == found[b], expected[a] == expected[b]);
                assert_eq!(same.0, same.1, "{a} and {b} of {btf:?}");
            }
        }
    }

    #[test]
    fn a_forward_declaration_is_its_complete_type() {
        let mut builder = Builder::new(Order::HOST);
        let int = builder.add_int("int", 4, 1);
        let complete = builder.add_struct("s", 4, &[("a", int, 0)]);
        let pointer = builder.add_ref(Kind::Ptr, "", complete);
        let declared = builder.add("s", Info::new(Kind::Fwd, 0, false), 0, &[]);
        let other = builder.add_ref(Kind::Ptr, "", declared);
        let union = builder.add("s", Info::new(Kind::Fwd, 0, true), 0, &[]);
        let btf = Btf::parse(builder.finish()).unwrap();
        let found = dedup(&btf, &Known::default());
        assert_eq!(found.id(declared), found.id(complete));
        assert_eq!(found.id(other), found.id(pointer));
        assert_ne!(found.id(union), found.id(complete));
    }

    #[test]
    fn two_complete_types_of_one_name_leave_a_declaration_alone() {
        let mut builder = Builder::new(Order::HOST);
        let int = builder.add_int("int", 4, 1);
        let one = builder.add_struct("s", 4, &[("a", int, 0)]);
        let two = builder.add_struct("s", 4, &[("b", int, 0)]);
        let declared = builder.add("s", Info::new(Kind::Fwd, 0, false), 0, &[]);
        let btf = Btf::parse(builder.finish()).unwrap();
        let found = dedup(&btf, &Known::default());
        assert_ne!(found.id(one), found.id(two));
        assert!(![found.id(one), found.id(two)].contains(&found.id(declared)));
    }

    #[test]
    fn functions_are_equal_only_where_that_is_known() {
        let mut builder = Builder::new(Order::HOST);
        let int = builder.add_int("int", 4, 1);
        let proto = builder.add("", Info::new(Kind::FuncProto, 0, false), int, &[]);
        let one = builder.add("f", Info::new(Kind::Func, 1, false), proto, &[]);
        let two = builder.add("f", Info::new(Kind::Func, 2, false), proto, &[]);
        let tag = builder.add("t", Info::new(Kind::DeclTag, 0, false), two, &[u32::MAX]);
        let gone = builder.add("g", Info::new(Kind::Func, 1, false), proto, &[]);
        let btf = Btf::parse(builder.finish()).unwrap();
        let apart = dedup(&btf, &Known::default());
        assert_ne!(apart.id(one), apart.id(two));
        let known = Known {
            replaced: vec![(two, one)],
            dropped: vec![gone],
        };
        let found = dedup(&btf, &known);
        assert_eq!(found.id(one), found.id(two));
        assert_eq!(found.id(gone), 0);
        let btf = Btf::parse(found.builder.finish()).unwrap();
        assert_eq!(
            btf.get(found.id(tag)).unwrap().type_id(),
            Some(found.id(one))
        );
    }
}
