//! Finds the special fields of a value type by the kernel's rules. Source: Documentation/bpf/btf.rst, Documentation/bpf/graph_ds_impl.rst, behaviour of Linux 6.18.
//!
//! A map whose fields break a rule is still created; only the helpers that need the field then refuse it. A caller who wants
//! the kernel's behaviour takes an error as "no special fields".

use crate::error::{BtfError, BtfProblem};
use crate::parsed::Btf;
use crate::record::{Field, FieldKind, KptrTag, Record};
use crate::types::{Kind, Type};

/// Special fields a value may have (`BTF_FIELDS_MAX`).
const FIELDS_MAX: usize = 11;
/// Structs within structs, and arrays of arrays, that are searched (`MAX_RESOLVE_DEPTH`).
const DEPTH_MAX: usize = 32;

/// How often a kind may be in one value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    Once,
    Many,
}

/// Structs that are special, by name.
struct Special {
    name: &'static str,
    size: u32,
    align: u32,
    count: Count,
    is: Is,
}

/// What a special struct is.
#[derive(Clone, Copy)]
enum Is {
    Plain(fn() -> FieldKind),
    Root {
        node: &'static str,
        make: fn(u32, u32) -> FieldKind,
    },
}

const fn plain(
    name: &'static str,
    size: u32,
    align: u32,
    count: Count,
    make: fn() -> FieldKind,
) -> Special {
    Special {
        name,
        size,
        align,
        count,
        is: Is::Plain(make),
    }
}

/// Source: include/uapi/linux/bpf.h for the sizes.
#[rustfmt::skip] // one struct per line
const SPECIAL: &[Special] = &[
    plain("bpf_spin_lock",     4,  4, Count::Once, || FieldKind::SpinLock),
    plain("bpf_res_spin_lock", 4,  4, Count::Once, || FieldKind::ResSpinLock),
    plain("bpf_timer",         16, 8, Count::Once, || FieldKind::Timer),
    plain("bpf_wq",            16, 8, Count::Once, || FieldKind::Workqueue),
    plain("bpf_task_work",     8,  8, Count::Once, || FieldKind::TaskWork),
    plain("bpf_list_node",     24, 8, Count::Many, || FieldKind::ListNode),
    plain("bpf_rb_node",       32, 8, Count::Many, || FieldKind::RbNode),
    plain("bpf_refcount",      4,  4, Count::Many, || FieldKind::Refcount),
    Special { name: "bpf_list_head", size: 16, align: 8, count: Count::Many, is: Is::Root {
        node: "bpf_list_node", make: |value_type, node_offset| FieldKind::ListHead { value_type, node_offset } } },
    Special { name: "bpf_rb_root", size: 16, align: 8, count: Count::Many, is: Is::Root {
        node: "bpf_rb_node", make: |value_type, node_offset| FieldKind::RbRoot { value_type, node_offset } } },
];

/// Type tags of stored pointers, and what they mean.
type Tags = &'static [(&'static str, KptrTag)];

const KPTR_TAGS: Tags = &[
    ("kptr_untrusted", KptrTag::Untrusted),
    ("kptr", KptrTag::Ref),
    ("percpu_kptr", KptrTag::Percpu),
    ("uptr", KptrTag::User),
];

/// Before Linux 6.4.
const KPTR_TAGS_OLD: Tags = &[("kptr", KptrTag::Untrusted), ("kptr_ref", KptrTag::Ref)];

impl Record {
    /// The special fields of a value of type `value_type_id`: a struct (perhaps behind typedefs) or a data section; other types
    /// have none.
    ///
    /// # Errors
    /// When the fields break the kernel's rules: a lock, timer or their like twice, roots without lock or `contains:` tag,
    /// a stored pointer to something else than a struct, more than 11 fields.
    pub fn of(btf: &Btf, value_type_id: u32) -> Result<Self, BtfError> {
        Self::with_tags(btf, value_type_id, KPTR_TAGS)
    }

    /// As [`Self::of`], for kernels that call stored pointers `kptr` and `kptr_ref`.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn of_old_tags(btf: &Btf, value_type_id: u32) -> Result<Self, BtfError> {
        Self::with_tags(btf, value_type_id, KPTR_TAGS_OLD)
    }

    fn with_tags(btf: &Btf, value_type_id: u32, tags: Tags) -> Result<Self, BtfError> {
        let problem = BtfProblem::TypeId { id: value_type_id };
        let value = btf.resolve(value_type_id).ok_or(problem)?;
        let mut fields = match value.kind() {
            Kind::Struct => in_struct(value, 0, tags)?,
            Kind::Datasec => in_datasec(value, tags)?,
            _ => Vec::new(),
        };
        fields.sort_by_key(|f| f.offset);
        check_together(value, &fields)?;
        Ok(Self { fields })
    }

    /// Whether there are no special fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// A member or variable that may be special.
struct Place<'a> {
    /// What declaration tags of it name: the struct and member index, or the variable and -1.
    tagged: (u32, i32),
    ty: Type<'a>,
    offset: u32,
    /// Bytes it must have, where they are stated.
    size: Option<u32>,
    depth: usize,
    tags: Tags,
}

fn in_struct(ty: Type<'_>, depth: usize, tags: Tags) -> Result<Vec<Field>, BtfError> {
    if depth >= DEPTH_MAX {
        return Err(BtfError::at(ty.id(), BtfProblem::TooDeep));
    }
    let mut found = Vec::new();
    let mut seen = 0;
    for (index, member) in (0i32..).zip(ty.members()) {
        let Some(member_type) = ty.btf().get(member.type_id) else {
            continue;
        };
        if !member.bit_offset.is_multiple_of(8) {
            continue;
        }
        let place = Place {
            tagged: (ty.id(), index),
            ty: member_type,
            offset: member.offset(),
            size: None,
            depth,
            tags,
        };
        add(&mut found, in_place(&place, &mut seen)?, ty.id())?;
    }
    Ok(found)
}

fn in_datasec(section: Type<'_>, tags: Tags) -> Result<Vec<Field>, BtfError> {
    let mut found = Vec::new();
    let mut seen = 0;
    for info in section.vars() {
        let var = section.btf().get(info.type_id);
        let Some(ty) = var.and_then(|v| v.target()) else {
            continue;
        };
        let place = Place {
            tagged: (info.type_id, -1),
            ty,
            offset: info.offset,
            size: Some(info.size),
            depth: 0,
            tags,
        };
        add(&mut found, in_place(&place, &mut seen)?, section.id())?;
    }
    Ok(found)
}

fn add(found: &mut Vec<Field>, more: Vec<Field>, type_id: u32) -> Result<(), BtfError> {
    found.extend(more);
    if found.len() > FIELDS_MAX {
        return Err(BtfError::at(type_id, BtfProblem::TooManyFields));
    }
    Ok(())
}

/// The fields at one place; `seen` has a bit for each row of [`SPECIAL`] met among the place's siblings.
fn in_place(place: &Place<'_>, seen: &mut u32) -> Result<Vec<Field>, BtfError> {
    let (element, count) = flatten(place.ty)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let fits = |size: u32| {
        place
            .size
            .is_none_or(|s| Some(s) == size.checked_mul(count))
    };
    if let Some(row) = SPECIAL.iter().position(|s| s.name == element.name()) {
        let special = &SPECIAL[row];
        if *seen >> row & 1 != 0 && special.count == Count::Once {
            let name = special.name.to_owned();
            return Err(BtfError::at(
                place.tagged.0,
                BtfProblem::FieldTwice { name },
            ));
        }
        *seen |= 1 << row;
        let usable = element.kind() == Kind::Struct && element.size() == Some(special.size);
        if !usable || !fits(special.size) || !place.offset.is_multiple_of(special.align) {
            return Ok(Vec::new());
        }
        let kind = match special.is {
            Is::Plain(make) => make(),
            Is::Root { node, make } => {
                let (value_type, node_offset) = contained(place, node)?;
                make(value_type, node_offset)
            }
        };
        let field = Field {
            kind,
            offset: place.offset,
            size: special.size,
        };
        return repeat(vec![field], count, special.size, element);
    }
    if element.kind() == Kind::Struct {
        let size = element.size().unwrap_or(0);
        if !fits(size) {
            return Ok(Vec::new());
        }
        let mut inside = in_struct(element, place.depth + 1, place.tags)?;
        for field in &mut inside {
            field.offset = field.offset.saturating_add(place.offset);
        }
        return repeat(inside, count, size, element);
    }
    if !fits(8) || !place.offset.is_multiple_of(8) {
        return Ok(Vec::new());
    }
    let Some((tag, target)) = stored_pointer(element, place.tags)? else {
        return Ok(Vec::new());
    };
    let field = Field {
        kind: FieldKind::Kptr {
            tag,
            target: target.name().to_owned(),
            local_type: target.id(),
        },
        offset: place.offset,
        size: 8,
    };
    repeat(vec![field], count, 8, element)
}

/// Goes into arrays: the element that is no array, and how many there are in all.
fn flatten(ty: Type<'_>) -> Result<(Type<'_>, u32), BtfError> {
    let mut at = ty;
    let mut count = 1u32;
    for _ in 0..DEPTH_MAX {
        let Some(array) = at.array() else {
            return Ok((at, count));
        };
        count = count.saturating_mul(array.len);
        let problem = BtfProblem::TypeId { id: array.element };
        at = ty
            .btf()
            .get(array.element)
            .ok_or(BtfError::at(at.id(), problem))?;
    }
    Err(BtfError::at(ty.id(), BtfProblem::TooDeep))
}

/// Fields of all elements of an array, from those of the first.
fn repeat(
    first: Vec<Field>,
    count: u32,
    element_size: u32,
    element: Type<'_>,
) -> Result<Vec<Field>, BtfError> {
    if count == 1 || first.is_empty() {
        return Ok(first);
    }
    let repeatable = |f: &Field| {
        matches!(
            f.kind,
            FieldKind::Kptr { .. } | FieldKind::ListHead { .. } | FieldKind::RbRoot { .. }
        )
    };
    if !first.iter().all(repeatable) {
        let name = element.name().to_owned();
        return Err(BtfError::at(
            element.id(),
            BtfProblem::FieldConflict { name },
        ));
    }
    if first.len().saturating_mul(count as usize) > FIELDS_MAX {
        return Err(BtfError::at(element.id(), BtfProblem::TooManyFields));
    }
    let all = (0..count).flat_map(|i| {
        first.iter().map(move |field| Field {
            offset: field.offset.saturating_add(i * element_size),
            ..field.clone()
        })
    });
    Ok(all.collect())
}

/// The tag and pointee of a stored pointer; `None` for what is no pointer or has no tag.
fn stored_pointer(ty: Type<'_>, tags: Tags) -> Result<Option<(KptrTag, Type<'_>)>, BtfError> {
    let error = || BtfError::at(ty.id(), BtfProblem::Kptr);
    let pointer = match ty.kind() {
        Kind::Volatile => ty.target().ok_or_else(error)?,
        _ => ty,
    };
    if pointer.kind() != Kind::Ptr {
        return Ok(None);
    }
    let tagged = pointer.target().ok_or_else(error)?;
    if tagged.kind() != Kind::TypeTag || tagged.flag() {
        return Ok(None);
    }
    let inner = tagged.target().ok_or_else(error)?;
    if inner.kind() == Kind::TypeTag {
        return Err(error());
    }
    let tag = tags.iter().find(|(text, _)| *text == tagged.name());
    let &(_, tag) = tag.ok_or_else(error)?;
    let target = inner.skip_modifiers();
    if target.kind() != Kind::Struct {
        return Err(error());
    }
    Ok(Some((tag, target)))
}

/// What a root contains by its tag `contains:TYPE:NODE`: the type's id and the node's offset in it.
fn contained(place: &Place<'_>, node_type: &str) -> Result<(u32, u32), BtfError> {
    let btf = place.ty.btf();
    let error = || BtfError::at(place.tagged.0, BtfProblem::Contains);
    let (tagged, component) = place.tagged;
    let mut tags = btf
        .decl_tags(tagged)
        .filter(|&(c, _)| c == component)
        .filter_map(|(_, text)| text.strip_prefix("contains:"));
    let (Some(tag), None) = (tags.next(), tags.next()) else {
        return Err(error());
    };
    let (value, node) = tag.split_once(':').ok_or_else(error)?;
    let value = btf.find(value, Kind::Struct).ok_or_else(|| {
        let name = format!("struct {value}");
        BtfError::at(place.tagged.0, BtfProblem::NotFound { name })
    })?;
    let member = value.members().find(|m| m.name == node).ok_or_else(error)?;
    let ty = btf.get(member.type_id).ok_or_else(error)?;
    let fits = ty.kind() == Kind::Struct && ty.name() == node_type;
    if !fits || member.bit_offset % 64 != 0 {
        return Err(error());
    }
    Ok((value.id(), member.offset()))
}

/// Rules for the fields of one value together.
fn check_together(value: Type<'_>, fields: &[Field]) -> Result<(), BtfError> {
    let has = |test: fn(&FieldKind) -> bool| fields.iter().any(|f| test(&f.kind));
    let conflict = |name: &str| {
        let name = name.to_owned();
        Err(BtfError::at(value.id(), BtfProblem::FieldConflict { name }))
    };
    let ends = value.size().unwrap_or(u32::MAX);
    let mut next = 0;
    for field in fields {
        let end = field.offset.saturating_add(field.size);
        if field.offset < next || end > ends {
            let name = "special field".to_owned();
            return Err(BtfError::at(value.id(), BtfProblem::FieldPlace { name }));
        }
        next = end;
    }
    let spin_lock = has(|k| *k == FieldKind::SpinLock);
    let res_lock = has(|k| *k == FieldKind::ResSpinLock);
    if spin_lock && res_lock {
        return conflict("bpf_res_spin_lock");
    }
    let roots = has(|k| matches!(k, FieldKind::ListHead { .. } | FieldKind::RbRoot { .. }));
    if roots && !spin_lock && !res_lock {
        return conflict("list head or tree root without a lock");
    }
    let list_node = has(|k| *k == FieldKind::ListNode);
    let tree_node = has(|k| *k == FieldKind::RbNode);
    if list_node && tree_node && !has(|k| *k == FieldKind::Refcount) {
        return conflict("bpf_list_node with bpf_rb_node and no bpf_refcount");
    }
    Ok(())
}
