//! A parsed blob.

use crate::error::{BtfError, BtfProblem};
use crate::index::{Named, Names, Tags};
use crate::raw::{HEADER_BYTES, Header, Info, MAX_TYPE, Order, TYPE_BYTES, VERSION};
use crate::types::{Kind, Type};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Deepest nesting of modifiers, typedefs and arrays that is followed; beyond it BTF counts as a loop (`MAX_RESOLVE_DEPTH` is 32).
const MAX_DEPTH: usize = 64;

/// Parsed BTF; clones share it.
///
/// ```
/// use skep_btf::{Btf, Builder, Kind, Order};
///
/// # let mut builder = Builder::new(Order::HOST);
/// # let int = builder.add_int("int", 4, 1);
/// # let pair = builder.add_struct("pair", 8, &[("a", int, 0), ("b", int, 32)]);
/// # let btf = Btf::parse(builder.finish())?;
/// for ty in btf.types() {
///     println!("{ty:?}");
/// }
/// let found = btf.find("pair", Kind::Struct).ok_or("no such struct")?;
/// assert_eq!((found.id(), btf.size_of(found.id())?), (pair, 8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Btf {
    inner: Arc<Inner>,
}

/// Bytes that somebody else keeps, unchanged for as long as it lives.
pub type Kept = Box<dyn AsRef<[u8]> + Send + Sync>;

/// Where a blob lies.
enum Data {
    Owned(Vec<u8>),
    Kept(Kept),
}

impl std::ops::Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Kept(kept) => (**kept).as_ref(),
        }
    }
}

struct Inner {
    /// The whole blob.
    data: Data,
    header: Header,
    base: Option<Btf>,
    /// First id of this blob; 1 without base.
    first_id: u32,
    /// First string offset of this blob; 0 without base.
    first_str: u32,
    strings: Range<usize>,
    /// Where each type of this blob begins in `data`, then the end of the last.
    starts: Vec<u32>,
    types: OnceLock<Names>,
    functions: OnceLock<Names>,
    tags: OnceLock<Tags>,
}

impl std::fmt::Debug for Btf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Inner { data, first_id, .. } = &*self.inner;
        write!(
            f,
            "Btf({} bytes, types {first_id}..{})",
            data.len(),
            self.type_count()
        )
    }
}

impl Btf {
    /// Parses a blob of either byte order: one pass over the records, nothing is copied.
    ///
    /// # Errors
    /// If the sections do not lie in the blob, or a record has an unknown kind or goes past the end.
    pub fn parse(data: impl Into<Vec<u8>>) -> Result<Self, BtfError> {
        whole(Self::parse_any(Data::Owned(data.into()), None)?)
    }

    /// As [`Self::parse`], and validated as `BPF_BTF_LOAD` does, in the kernel's order.
    ///
    /// # Errors
    /// The first problem that the kernel's checks would meet, with its errno.
    pub fn load(data: impl Into<Vec<u8>>) -> Result<Self, BtfError> {
        let (btf, broken) = Self::parse_any(Data::Owned(data.into()), None)?;
        btf.validate_records()?;
        let btf = whole((btf, broken))?;
        btf.validate_relations()?;
        Ok(btf)
    }

    /// As [`Self::parse`], in place: the kernel's BTF is large, and copying it takes as long as everything else.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_kept(data: Kept) -> Result<Self, BtfError> {
        whole(Self::parse_any(Data::Kept(data), None)?)
    }

    /// Parses split BTF, whose ids and string offsets go on where `base` ends.
    ///
    /// # Errors
    /// As [`Self::parse`]; also if the byte orders differ.
    pub fn parse_split(data: impl Into<Vec<u8>>, base: &Self) -> Result<Self, BtfError> {
        whole(Self::parse_any(
            Data::Owned(data.into()),
            Some(base.clone()),
        )?)
    }

    fn parse_any(data: Data, base: Option<Self>) -> Result<Parsed, BtfError> {
        let header = Header::read(&data)?;
        // No more of a header counts than it says to have: neither magic number nor version.
        match header.hdr_len {
            0 | 1 => return Err(BtfProblem::Magic { found: 0 }.into()),
            2 => return Err(BtfProblem::Version { found: 0 }.into()),
            _ => {}
        }
        let unknown = data.get(HEADER_BYTES..header.hdr_len as usize);
        if unknown.is_some_and(|extra| extra.iter().any(|&b| b != 0)) {
            return Err(BtfProblem::HeaderExtra.into());
        }
        if header.version != VERSION {
            let found = header.version;
            return Err(BtfProblem::Version { found }.into());
        }
        if header.flags != 0 {
            let found = header.flags;
            return Err(BtfProblem::Flags { found }.into());
        }
        let section = |off: u32, len: u32| {
            let start = header.hdr_len as usize + off as usize;
            let range = start..start + len as usize;
            (range.end <= data.len()).then_some(range)
        };
        let layout = || BtfError::from(BtfProblem::Layout);
        let types = section(header.type_off, header.type_len).ok_or_else(layout)?;
        let strings = section(header.str_off, header.str_len).ok_or_else(layout)?;
        let (first_id, first_str) = match &base {
            None => (1, 0),
            Some(base) if base.order() != header.order => return Err(layout()),
            Some(base) => (base.type_count(), base.str_end()),
        };
        let (starts, broken) = index_types(&data, header.order, types, first_id);
        let btf = Self {
            inner: Arc::new(Inner {
                data,
                header,
                base,
                first_id,
                first_str,
                strings,
                starts,
                types: OnceLock::new(),
                functions: OnceLock::new(),
                tags: OnceLock::new(),
            }),
        };
        Ok((btf, broken))
    }

    /// The raw blob.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.inner.data
    }

    /// Its header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.inner.header
    }

    /// Its byte order.
    #[must_use]
    pub fn order(&self) -> Order {
        self.inner.header.order
    }

    /// The BTF this one is split from.
    #[must_use]
    pub fn base(&self) -> Option<&Self> {
        self.inner.base.as_ref()
    }

    /// First id of this blob itself: 1, or the base's [`Self::type_count`].
    #[must_use]
    pub fn first_id(&self) -> u32 {
        self.inner.first_id
    }

    /// One more than the largest id; `void` and the base's types count.
    #[must_use]
    pub fn type_count(&self) -> u32 {
        // `index_types` keeps the sum below MAX_TYPE.
        self.inner.first_id + self.own_count()
    }

    fn own_count(&self) -> u32 {
        u32::try_from(self.inner.starts.len() - 1).unwrap_or(u32::MAX)
    }

    /// First string offset of this blob itself.
    #[must_use]
    pub fn first_str(&self) -> u32 {
        self.inner.first_str
    }

    /// One more than the largest string offset.
    #[must_use]
    pub fn str_end(&self) -> u32 {
        self.inner
            .first_str
            .saturating_add(self.inner.header.str_len)
    }

    /// The string section of this blob itself.
    #[must_use]
    pub fn strings(&self) -> &[u8] {
        let strings = self.inner.data.get(self.inner.strings.clone());
        strings.unwrap_or_default()
    }

    /// The type with `id`; 0 is `void`.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<Type<'_>> {
        let order = self.order();
        if id == 0 {
            return Some(Type {
                btf: self,
                id,
                record: &[],
                order,
            });
        }
        let inner = self.owner(id);
        let index = (id - inner.first_id) as usize;
        let (start, end) = (*inner.starts.get(index)?, *inner.starts.get(index + 1)?);
        Some(Type {
            btf: self,
            id,
            record: inner.data.get(start as usize..end as usize)?,
            order,
        })
    }

    fn owner(&self, id: u32) -> &Inner {
        let mut inner = &*self.inner;
        while let Some(base) = &inner.base
            && id < inner.first_id
        {
            inner = &base.inner;
        }
        inner
    }

    /// Gives the types of this blob itself that belong to an index and have a name, from the last to the first: id, and the
    /// string section from the name on.
    pub(crate) fn for_each_name_backwards<'a>(
        &'a self,
        what: Named,
        each: &mut impl FnMut(u32, &'a [u8]),
    ) {
        let Inner { header, starts, .. } = &*self.inner;
        let (data, strings) = (self.bytes(), self.strings());
        let (order, first_str) = (header.order, self.first_str());
        let functions = what == Named::Functions;
        for id in (self.first_id()..self.type_count()).rev() {
            let start = starts[(id - self.first_id()) as usize] as usize;
            let offset = order.u32_at(data, start);
            let kind = Info(order.u32_at(data, start + 4)).kind_number();
            if offset == 0 || (kind == Kind::Func as u32) != functions {
                continue;
            }
            let own = offset.checked_sub(first_str);
            let text = own.map_or_else(
                || self.str_rest(offset),
                |own| strings.get(own as usize..).unwrap_or_default(),
            );
            each(id, text);
        }
    }

    /// All types but `void`, the base's first.
    pub fn types(&self) -> impl Iterator<Item = Type<'_>> {
        (1..self.type_count()).filter_map(|id| self.get(id))
    }

    /// The types of this blob itself.
    pub fn own_types(&self) -> impl Iterator<Item = Type<'_>> {
        (self.first_id()..self.type_count()).filter_map(|id| self.get(id))
    }

    /// The string section from `offset` on; empty if it is out of range.
    pub(crate) fn str_rest(&self, offset: u32) -> &[u8] {
        let mut inner = &*self.inner;
        while let Some(base) = &inner.base
            && offset < inner.first_str
        {
            inner = &base.inner;
        }
        let strings = inner.data.get(inner.strings.clone());
        strings
            .unwrap_or_default()
            .get((offset - inner.first_str) as usize..)
            .unwrap_or_default()
    }

    /// The string at `offset`; `None` if out of range or not terminated.
    #[must_use]
    pub fn str_bytes(&self, offset: u32) -> Option<&[u8]> {
        let rest = self.str_rest(offset);
        let len = rest.iter().position(|&b| b == 0)?;
        Some(&rest[..len])
    }

    /// The string at `offset`; empty if it is out of range or not UTF-8.
    #[must_use]
    pub fn str(&self, offset: u32) -> &str {
        let bytes = self.str_bytes(offset).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    pub(crate) fn skip<'a>(&'a self, from: Type<'a>, skips: impl Fn(Kind) -> bool) -> Type<'a> {
        let mut at = from;
        for _ in 0..MAX_DEPTH {
            if !skips(at.kind()) {
                return at;
            }
            let Some(next) = at.target() else { break };
            at = next;
        }
        at
    }

    /// The type with `id`, after `const`, `volatile`, `restrict`, type tags and typedefs.
    #[must_use]
    pub fn resolve(&self, id: u32) -> Option<Type<'_>> {
        self.get(id).map(Type::resolve)
    }

    /// Bytes of a value of type `id`, through typedefs, modifiers, arrays and variables; pointers have 8.
    ///
    /// # Errors
    /// [`BtfProblem::NoSize`] for `void`, functions, forward declarations; [`BtfProblem::SizeOverflow`];
    /// [`BtfProblem::Loop`]; [`BtfProblem::TypeId`].
    pub fn size_of(&self, id: u32) -> Result<u32, BtfError> {
        let mut at = id;
        let mut count = 1u32;
        for _ in 0..MAX_DEPTH {
            let problem = BtfProblem::TypeId { id: at };
            let ty = self.get(at).ok_or(BtfError::at(id, problem))?;
            let size = match ty.kind() {
                Kind::Ptr => 8,
                Kind::Array => {
                    let array = ty.array().ok_or(BtfProblem::NoSize { id: at })?;
                    count = count
                        .checked_mul(array.len)
                        .ok_or(BtfError::at(id, BtfProblem::SizeOverflow))?;
                    at = array.element;
                    continue;
                }
                Kind::Typedef | Kind::Var => {
                    at = ty.size_or_type();
                    continue;
                }
                kind if kind.is_modifier() => {
                    at = ty.size_or_type();
                    continue;
                }
                _ => ty
                    .size()
                    .ok_or(BtfError::at(id, BtfProblem::NoSize { id: at }))?,
            };
            return count
                .checked_mul(size)
                .ok_or(BtfError::at(id, BtfProblem::SizeOverflow));
        }
        Err(BtfError::at(id, BtfProblem::Loop))
    }

    fn names(&self, what: Named) -> &Names {
        let index = match what {
            Named::Types => &self.inner.types,
            Named::Functions => &self.inner.functions,
        };
        index.get_or_init(|| Names::build(self, what))
    }

    /// Types of this blob itself (not of its base) that are no functions, and whose name without flavor is that of `name`
    /// without flavor, ascending.
    pub fn find_essential(&self, name: &str) -> impl Iterator<Item = u32> {
        self.names(Named::Types).find(self, name).map(|(id, _)| id)
    }

    /// The first type with this name and kind; those of the base come first.
    #[must_use]
    pub fn find(&self, name: &str, kind: Kind) -> Option<Type<'_>> {
        let what = Named::of(kind);
        let base = self.base().into_iter();
        let base = base.flat_map(|b| b.names(what).find(b, name));
        base.chain(self.names(what).find(self, name))
            .filter(|&(_, found)| found == name)
            .filter_map(|(id, _)| self.get(id))
            .find(|ty| ty.kind() == kind)
    }

    /// Id of the first type with this name and kind (`btf__find_by_name_kind`).
    #[must_use]
    pub fn find_by_name_kind(&self, name: &str, kind: Kind) -> Option<u32> {
        self.find(name, kind).map(|ty| ty.id())
    }

    /// Declaration tags of `type_id`: (component, text), in the order of their ids.
    pub fn decl_tags(&self, type_id: u32) -> impl Iterator<Item = (i32, &str)> {
        let tags = self.inner.tags.get_or_init(|| Tags::build(self));
        let base = self.base().map(|b| b.decl_tag_ids(type_id));
        base.unwrap_or_default()
            .iter()
            .chain(tags.find(type_id))
            .filter_map(|&(_, id)| {
                let tag = self.get(id)?.decl_tag()?;
                Some((tag.component, tag.text))
            })
    }

    fn decl_tag_ids(&self, type_id: u32) -> &[(u32, u32)] {
        let tags = self.inner.tags.get_or_init(|| Tags::build(self));
        tags.find(type_id)
    }
}

/// What could be parsed, and what the first record that could not is.
type Parsed = (Btf, Option<BtfError>);

/// All of it, or the error.
fn whole((btf, broken): Parsed) -> Result<Btf, BtfError> {
    broken.map_or(Ok(btf), Err)
}

/// Finds where each record begins; the last entry is the end, or where the first record begins that is broken.
fn index_types(
    data: &[u8],
    order: Order,
    types: Range<usize>,
    first_id: u32,
) -> (Vec<u32>, Option<BtfError>) {
    let mut starts = Vec::with_capacity(types.len() / 24 + 1);
    let mut at = types.start;
    let mut id = first_id;
    while at < types.end {
        // Data of more than 4 GiB cannot reach here: section offsets are 32 bits and the sum was checked.
        starts.push(at as u32);
        if id > MAX_TYPE {
            return (starts, Some(BtfProblem::TooManyTypes.into()));
        }
        let info = Info(order.u32_at(data, at + 4));
        let extra = info.extra_bytes().filter(|_| info.kind_number() != 0);
        let Some(extra) = extra else {
            let kind = info.kind_number();
            return (starts, Some(BtfError::at(id, BtfProblem::Kind { kind })));
        };
        at += TYPE_BYTES + extra;
        if at > types.end {
            return (starts, Some(BtfError::at(id, BtfProblem::TypeTruncated)));
        }
        id += 1;
    }
    starts.push(at as u32);
    (starts, None)
}
