//! Access paths: what a CO-RE relocation refers to in the local types, and the same place in the target's.

use super::walk::{Part, Walk};
use super::{CoreError, compat};
use skep_btf::{Btf, Kind, Type, essential_name};

/// Steps of a path (`BPF_CORE_SPEC_MAX_LEN`).
const STEPS_MAX: usize = 64;
/// Anonymous structs within structs that are searched for a member.
const NESTING_MAX: usize = 32;

/// A path, resolved in one BTF.
#[derive(Clone, Debug)]
pub(crate) struct Access<'a> {
    /// The type that the path starts from.
    pub(crate) root: Type<'a>,
    /// Named members and array elements, the first one being the root itself.
    pub(crate) steps: Vec<Step<'a>>,
    /// Offset from the root in bits.
    pub(crate) bit_offset: u64,
    /// What else was looked at: anonymous members on the way, types that were compared.
    pub(crate) beside: Vec<Part<'a>>,
}

/// One step of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    /// The composite with the member, or the type of the array element (the enum, for enum values).
    pub(crate) ty: Type<'a>,
    /// Member, element or value.
    pub(crate) index: u32,
    /// Name of the member or value; empty for elements.
    pub(crate) name: &'a str,
}

fn indexes(path: &str) -> Result<Vec<u32>, CoreError> {
    let bad = || CoreError::Path(path.to_owned());
    let all: Result<Vec<u32>, _> = path.split(':').map(str::parse).collect();
    let all = all.map_err(|_| bad())?;
    if all.len() > STEPS_MAX {
        return Err(bad());
    }
    Ok(all)
}

impl<'a> Access<'a> {
    /// The path of a relocation that concerns the type as a whole.
    pub(crate) fn of_type(root: Type<'a>) -> Self {
        Self {
            root,
            steps: Vec::new(),
            bit_offset: 0,
            beside: Vec::new(),
        }
    }

    /// The path of a relocation that concerns an enum value.
    pub(crate) fn of_enum_value(root: Type<'a>, path: &str) -> Result<Self, CoreError> {
        let ty = root.resolve();
        let bad = || CoreError::Path(path.to_owned());
        let &[index] = indexes(path)?.as_slice() else {
            return Err(bad());
        };
        let value = ty.enum_values().nth(index as usize).ok_or_else(bad)?;
        Ok(Self::of_value(root, ty, index, value.name))
    }

    fn of_value(root: Type<'a>, ty: Type<'a>, index: u32, name: &'a str) -> Self {
        Self {
            root,
            steps: vec![Step { ty, index, name }],
            bit_offset: 0,
            beside: Vec::new(),
        }
    }

    /// The path of a relocation that concerns a field.
    pub(crate) fn of_field(root: Type<'a>, path: &str) -> Result<Self, CoreError> {
        let bad = || CoreError::Path(path.to_owned());
        let indexes = indexes(path)?;
        let (&first, rest) = indexes.split_first().ok_or_else(bad)?;
        let btf = root.btf();
        let mut ty = root.resolve();
        let mut access = Self::of_type(root);
        access.element(ty, first)?;
        for &index in rest {
            if ty.kind().is_composite() {
                let member = ty.member(index).ok_or_else(bad)?;
                access.bit_offset += u64::from(member.bit_offset);
                let name = member.name;
                if !name.is_empty() {
                    access.steps.push(Step { ty, index, name });
                }
                ty = btf.resolve(member.type_id).ok_or_else(bad)?;
            } else {
                let array = ty.array().ok_or_else(bad)?;
                if index >= array.len && !access.ends_flexibly(array.len) {
                    return Err(bad());
                }
                ty = btf.resolve(array.element).ok_or_else(bad)?;
                access.element(ty, index)?;
            }
        }
        Ok(access)
    }

    /// Steps to element `index` of an array of `ty`.
    fn element(&mut self, ty: Type<'a>, index: u32) -> Result<(), CoreError> {
        let size = ty.btf().size_of(ty.id()).map_err(CoreError::Btf);
        // The root of an `exists` check may have no size; then only element 0 makes sense.
        let size = if index == 0 { size.unwrap_or(0) } else { size? };
        let bits = 8 * u64::from(index) * u64::from(size);
        self.bit_offset = self
            .bit_offset
            .checked_add(bits)
            .ok_or_else(|| CoreError::Path("offset too large".to_owned()))?;
        let name = "";
        self.steps.push(Step { ty, index, name });
        Ok(())
    }

    /// An array of length 0 or 1 that is the last member of its struct may be indexed further than it is long.
    fn ends_flexibly(&self, len: u32) -> bool {
        let last = self.steps.last();
        let last = last.filter(|s| !s.name.is_empty() && s.ty.kind() == Kind::Struct);
        len <= 1 && last.is_some_and(|s| s.index + 1 == s.ty.vlen())
    }

    /// The same path in target type `root`, or `None` if there is no such place.
    pub(crate) fn find_field<'t>(&self, root: Type<'t>) -> Result<Option<Access<'t>>, CoreError> {
        let btf: &Btf = root.btf();
        let mut ty = root.resolve();
        let mut access = Access::of_type(root);
        let mut walk = Walk::default();
        for (i, step) in self.steps.iter().enumerate() {
            if !step.name.is_empty() {
                let local = step.ty.member(step.index);
                let local = local.and_then(|m| step.ty.btf().get(m.type_id));
                let Some(local) = local else { return Ok(None) };
                let Some(found) = access.step_into(ty, step.name, NESTING_MAX, &mut walk)? else {
                    return Ok(None);
                };
                if !compat::fields_are_compatible(local, found)? {
                    return Ok(None);
                }
                ty = found.resolve();
                continue;
            }
            if i > 0 {
                let Some(array) = ty.array() else {
                    return Ok(None);
                };
                if step.index >= array.len && !access.ends_flexibly(array.len) {
                    return Ok(None);
                }
                let Some(element) = btf.resolve(array.element) else {
                    return Ok(None);
                };
                ty = element;
            }
            access.element(ty, step.index)?;
        }
        Ok(Some(access))
    }

    /// Steps to the member `name` of `ty`, perhaps inside anonymous members, and gives its type.
    fn step_into(
        &mut self,
        ty: Type<'a>,
        name: &str,
        depth: usize,
        walk: &mut Walk<'a>,
    ) -> Result<Option<Type<'a>>, CoreError> {
        if depth == 0 {
            return Err(CoreError::Path("types are nested too deep".to_owned()));
        }
        let btf = ty.btf();
        for (index, member) in (0..).zip(ty.members()) {
            walk.spend()?;
            if member.name.is_empty() {
                let Some(inner) = btf.resolve(member.type_id) else {
                    continue;
                };
                let before = self.bit_offset;
                self.bit_offset += u64::from(member.bit_offset);
                if let Some(found) = self.step_into(inner, name, depth - 1, walk)? {
                    self.beside.push(Part::Member(ty, index));
                    return Ok(Some(found));
                }
                self.bit_offset = before;
            } else if member.name == name {
                self.bit_offset += u64::from(member.bit_offset);
                let name = member.name;
                self.steps.push(Step { ty, index, name });
                return Ok(btf.get(member.type_id));
            }
        }
        Ok(None)
    }

    /// The same enum value in target type `root`.
    pub(crate) fn find_enum_value<'t>(&self, root: Type<'t>) -> Option<Access<'t>> {
        let wanted = essential_name(self.steps.first()?.name);
        let ty = root.resolve();
        let mut values = (0..).zip(ty.enum_values());
        let (index, value) = values.find(|(_, v)| essential_name(v.name) == wanted)?;
        Some(Access::of_value(root, ty, index, value.name))
    }

    /// The path in words: `struct task_struct::pid`.
    pub(crate) fn describe(&self) -> String {
        let kind = match self.root.kind() {
            Kind::Struct => "struct ",
            Kind::Union => "union ",
            Kind::Enum | Kind::Enum64 => "enum ",
            _ => "",
        };
        let mut text = format!("{kind}{}", self.root.name());
        for (i, step) in self.steps.iter().enumerate() {
            if !step.name.is_empty() {
                let joint = if i <= 1 { "::" } else { "." };
                text.push_str(&format!("{joint}{}", step.name));
            } else if i > 0 {
                text.push_str(&format!("[{}]", step.index));
            }
        }
        text
    }
}
