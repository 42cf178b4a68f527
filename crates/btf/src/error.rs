//! What can be wrong with BTF.

use skep_abi::Errno;

/// BTF was refused: what is wrong, and in which type.
///
/// ```
/// use skep_btf::{Btf, BtfError};
///
/// let error: BtfError = Btf::parse(*b"not BTF, but long enough").err().ok_or("BTF")?;
/// assert_eq!(error.type_id, 0);
/// println!("{error} ({})", error.errno());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BtfError {
    /// The type, 0 for the blob as a whole.
    pub type_id: u32,
    /// What is wrong.
    pub problem: BtfProblem,
}

impl BtfError {
    /// `problem` in type `type_id`.
    #[must_use]
    pub const fn at(type_id: u32, problem: BtfProblem) -> Self {
        Self { type_id, problem }
    }

    /// What `BPF_BTF_LOAD` (or map creation, for special fields) answers.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        self.problem.errno()
    }
}

impl From<BtfProblem> for BtfError {
    fn from(problem: BtfProblem) -> Self {
        Self::at(0, problem)
    }
}

impl std::fmt::Display for BtfError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.type_id != 0 {
            write!(f, "BTF type {}: ", self.type_id)?;
        }
        std::fmt::Display::fmt(&self.problem, f)
    }
}

impl std::error::Error for BtfError {}

macro_rules! problems {
    ($($(#[doc = $doc:literal])+ $name:ident $({ $($field:ident: $type:ty),* })? $errno:ident $text:literal;)*) => {
        /// Kinds of problem, each with the kernel's errno.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        #[expect(missing_docs, reason = "the fields are named in the message")]
        pub enum BtfProblem { $($(#[doc = $doc])+ $name $({ $($field: $type),* })?),* }

        impl BtfProblem {
            /// The kernel's errno.
            #[must_use]
            pub const fn errno(&self) -> Errno {
                match self { $(Self::$name $({ $($field: _),* })? => Errno::$errno),* }
            }
        }

        impl std::fmt::Display for BtfProblem {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self { $(Self::$name $({ $($field),* })? => write!(f, $text)),* }
            }
        }
    };
}

problems! {
    /// Shorter than `struct btf_header`.
    HeaderTruncated EINVAL "BTF is shorter than its header";
    /// More header than is known, and not zero.
    HeaderExtra E2BIG "BTF header has unknown fields that are not zero";
    /// Not BTF.
    Magic { found: u16 } EINVAL "not BTF: magic number is {found:#06x}";
    /// A version that does not exist.
    Version { found: u8 } ENOTSUPP "BTF version {found} is not known";
    /// Flags that do not exist.
    Flags { found: u8 } ENOTSUPP "BTF flags {found:#x} are not known";
    /// A section that leaves the blob, overlaps another or leaves a gap.
    Layout EINVAL "BTF sections do not lie one after the other inside the blob";
    /// The string section does not begin and end with a zero byte.
    Strings EINVAL "BTF strings do not begin and end with a zero byte";
    /// More than the kernel takes.
    TooBig { bytes: usize } E2BIG "BTF has {bytes} bytes, more than the kernel takes";
    /// No types.
    NoTypes EINVAL "BTF has no types";
    /// More types than an id can name.
    TooManyTypes E2BIG "BTF has more types than an id can name";
    /// A record goes on past the end of the type section.
    TypeTruncated EINVAL "record goes on past the end of the types";
    /// A kind that does not exist.
    Kind { kind: u32 } EINVAL "kind {kind} does not exist";
    /// Reserved bits are set.
    Info { info: u32 } EINVAL "reserved bits of info {info:#010x} are set";
    /// The kind flag or vlen is set for a kind that has none.
    InfoNotZero EINVAL "vlen or kind flag is set, which this kind does not have";
    /// An id out of range, or of `void` where that is not possible.
    TypeId { id: u32 } EINVAL "type id {id} is invalid here";
    /// A name that is absent, present without need, or no identifier.
    Name EINVAL "name is invalid";
    /// A size that this kind cannot have.
    Size { size: u32 } EINVAL "size {size} is invalid";
    /// An integer's bits or encoding.
    Int { word: u32 } ENOTSUPP "integer data {word:#010x} is invalid";
    /// An integer's bits do not fit its size.
    IntBits EINVAL "integer's bits do not fit its size";
    /// A member lies outside its struct, out of order or not on a byte.
    Member { member: u32 } EINVAL "member {member} is invalid";
    /// Linkage that does not exist.
    Linkage { linkage: u32 } EINVAL "linkage {linkage} is invalid";
    /// A variable of a data section.
    SecVar { variable: u32 } EINVAL "variable {variable} of the data section is invalid";
    /// A declaration tag's component.
    Component { component: i32 } EINVAL "component {component} is invalid";
    /// A parameter of a function.
    Param { param: u32 } EINVAL "parameter {param} is invalid";
    /// A type tag behind `const` or its like.
    TagOrder EINVAL "a type tag comes after another modifier";
    /// Modifiers and typedefs that each lead to a newer one.
    ChainTooLong ELOOP "modifiers and typedefs follow each other in a chain of more than 32";
    /// Types that contain themselves.
    Loop EEXIST "type contains itself";
    /// Types nested deeper than the kernel follows.
    TooDeep E2BIG "types are nested deeper than 32 levels";
    /// A type without size where one is needed.
    NoSize { id: u32 } EINVAL "type {id} has no size";
    /// A size that does not fit 32 bits.
    SizeOverflow EINVAL "size does not fit 32 bits";
    /// No such type.
    NotFound { name: String } ENOENT "no type {name}";
    /// A special field that may exist once exists twice.
    FieldTwice { name: String } E2BIG "more than one {name} in one value";
    /// More special fields than the kernel takes.
    TooManyFields E2BIG "more special fields than the kernel takes";
    /// A special field at an offset that is not aligned, or of another size than the kernel's.
    FieldPlace { name: String } EINVAL "{name} has a wrong size or alignment";
    /// Special fields that exclude each other.
    FieldConflict { name: String } EINVAL "{name} cannot be where it is";
    /// A list head or tree root without a usable `contains:` tag.
    Contains EINVAL "list head or tree root has no valid `contains:` tag";
    /// A stored pointer that does not point to a struct, or is tagged twice.
    Kptr EINVAL "stored pointer does not point to a struct, or has more than one tag";
}
