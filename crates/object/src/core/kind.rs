//! Kinds of CO-RE relocation.

/// `enum bpf_core_relo_kind`
///
/// ```
/// use skep_object::RelocKind;
///
/// let kind = RelocKind::from_number(2).ok_or("no such kind")?;
/// assert_eq!((kind, kind.name()), (RelocKind::FieldExists, "field_exists"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RelocKind {
    /// Byte offset of a field.
    FieldOffset,
    /// Bytes of a field.
    FieldSize,
    /// Whether a field exists.
    FieldExists,
    /// Whether a field is signed.
    FieldSigned,
    /// Left shift that brings a bitfield to the top of 64 bits.
    FieldLeftShift,
    /// Right shift that brings it down again.
    FieldRightShift,
    /// Type id in the program's BTF.
    TypeIdLocal,
    /// Type id in the kernel's BTF.
    TypeIdTarget,
    /// Whether a type exists.
    TypeExists,
    /// Bytes of a type.
    TypeSize,
    /// Whether an enum value exists.
    EnumValueExists,
    /// An enum value.
    EnumValue,
    /// Whether a type has everything that the local one declares.
    TypeMatches,
}

/// Every kind in the kernel's order, with libbpf's name.
const KINDS: &[(RelocKind, &str)] = &[
    (RelocKind::FieldOffset, "byte_off"),
    (RelocKind::FieldSize, "byte_sz"),
    (RelocKind::FieldExists, "field_exists"),
    (RelocKind::FieldSigned, "signed"),
    (RelocKind::FieldLeftShift, "lshift_u64"),
    (RelocKind::FieldRightShift, "rshift_u64"),
    (RelocKind::TypeIdLocal, "local_type_id"),
    (RelocKind::TypeIdTarget, "target_type_id"),
    (RelocKind::TypeExists, "type_exists"),
    (RelocKind::TypeSize, "type_size"),
    (RelocKind::EnumValueExists, "enumval_exists"),
    (RelocKind::EnumValue, "enumval_value"),
    (RelocKind::TypeMatches, "type_matches"),
];

/// What a relocation looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Subject {
    Field,
    Type,
    EnumValue,
}

impl RelocKind {
    /// The kind with the kernel's number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        KINDS.get(number as usize).map(|&(kind, _)| kind)
    }

    /// libbpf's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let row = KINDS.iter().find(|(kind, _)| *kind == self);
        row.map_or("", |&(_, name)| name)
    }

    pub(crate) fn subject(self) -> Subject {
        match self {
            Self::TypeIdLocal
            | Self::TypeIdTarget
            | Self::TypeExists
            | Self::TypeSize
            | Self::TypeMatches => Subject::Type,
            Self::EnumValueExists | Self::EnumValue => Subject::EnumValue,
            _ => Subject::Field,
        }
    }
}
