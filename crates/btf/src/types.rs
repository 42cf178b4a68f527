//! A view of one type.

use crate::parsed::Btf;
use crate::raw::{Info, Order, TYPE_BYTES};

macro_rules! kinds {
    ($($number:literal $name:ident $text:literal)*) => {
        /// Kinds of type (`BTF_KIND_*`).
        ///
        /// ```
        /// use skep_btf::Kind;
        ///
        /// assert_eq!(Kind::from_number(4), Some(Kind::Struct));
        /// assert!(Kind::Const.is_modifier() && Kind::Union.is_composite());
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u32)]
        #[expect(missing_docs, reason = "the names are the kernel's")]
        pub enum Kind { $($name = $number),* }

        impl Kind {
            /// Every kind, in the kernel's order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The kind with the kernel's number; `Void` has 0.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// The name as bpftool prints it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

kinds! {
    0 Void "UNKN"
    1 Int "INT"
    2 Ptr "PTR"
    3 Array "ARRAY"
    4 Struct "STRUCT"
    5 Union "UNION"
    6 Enum "ENUM"
    7 Fwd "FWD"
    8 Typedef "TYPEDEF"
    9 Volatile "VOLATILE"
    10 Const "CONST"
    11 Restrict "RESTRICT"
    12 Func "FUNC"
    13 FuncProto "FUNC_PROTO"
    14 Var "VAR"
    15 Datasec "DATASEC"
    16 Float "FLOAT"
    17 DeclTag "DECL_TAG"
    18 TypeTag "TYPE_TAG"
    19 Enum64 "ENUM64"
}

impl Kind {
    /// `const`, `volatile`, `restrict` or a type tag.
    #[must_use]
    pub const fn is_modifier(self) -> bool {
        matches!(
            self,
            Self::Const | Self::Volatile | Self::Restrict | Self::TypeTag
        )
    }

    /// A struct or union.
    #[must_use]
    pub const fn is_composite(self) -> bool {
        matches!(self, Self::Struct | Self::Union)
    }

    /// An enum of either width.
    #[must_use]
    pub const fn is_enum(self) -> bool {
        matches!(self, Self::Enum | Self::Enum64)
    }

    /// The third word of the record is a size (else a type id, or nothing).
    #[must_use]
    pub const fn has_size(self) -> bool {
        matches!(
            self,
            Self::Int
                | Self::Struct
                | Self::Union
                | Self::Enum
                | Self::Enum64
                | Self::Float
                | Self::Datasec
        )
    }

    /// The third word of the record is a type id.
    #[must_use]
    pub const fn has_type(self) -> bool {
        matches!(
            self,
            Self::Ptr
                | Self::Typedef
                | Self::Volatile
                | Self::Const
                | Self::Restrict
                | Self::Func
                | Self::FuncProto
                | Self::Var
                | Self::DeclTag
                | Self::TypeTag
        )
    }
}

/// A view of one type; cheap to copy.
///
/// ```
/// use skep_btf::{Btf, Builder, Order};
///
/// # let mut builder = Builder::new(Order::HOST);
/// # let int = builder.add_int("int", 4, 1);
/// # let pair = builder.add_struct("pair", 8, &[("a", int, 0), ("b", int, 32)]);
/// # let btf = Btf::parse(builder.finish())?;
/// let ty = btf.get(pair).ok_or("no such type")?;
/// assert_eq!((ty.name(), ty.size(), ty.members().len()), ("pair", Some(8), 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Type<'a> {
    pub(crate) btf: &'a Btf,
    pub(crate) id: u32,
    /// From the record's `struct btf_type` to its end; empty for `void`.
    pub(crate) record: &'a [u8],
    pub(crate) order: Order,
}

impl std::fmt::Debug for Type<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] {} '{}'", self.id, self.kind().name(), self.name())
    }
}

impl<'a> Type<'a> {
    fn word(&self, at: usize) -> u32 {
        self.order.u32_at(self.record, at)
    }

    /// Word `word` of what follows `struct btf_type`; 0 past the end.
    #[must_use]
    pub fn extra(&self, word: usize) -> u32 {
        self.word(TYPE_BYTES + 4 * word)
    }

    /// The BTF it is seen through (which may be split BTF while the type lies in its base).
    #[must_use]
    pub const fn btf(&self) -> &'a Btf {
        self.btf
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::from_number(self.info().kind_number()).unwrap_or(Kind::Void)
    }

    /// The info word.
    #[must_use]
    pub fn info(&self) -> Info {
        Info(self.word(4))
    }

    /// Its name; empty if it has none.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.btf.str(self.name_off())
    }

    /// String offset of its name.
    #[must_use]
    pub fn name_off(&self) -> u32 {
        self.word(0)
    }

    /// Members, values, parameters, variables.
    #[must_use]
    pub fn vlen(&self) -> u32 {
        self.info().vlen()
    }

    /// The words of its record: name, info, size or type, then what the kind adds.
    pub fn words(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        let (record, order) = (self.record, self.order);
        (0..record.len() / 4).map(move |at| order.u32_at(record, 4 * at))
    }

    /// Which of its words are string offsets.
    pub fn name_words(&self) -> impl Iterator<Item = usize> + use<> {
        let step = match self.kind() {
            Kind::Struct | Kind::Union | Kind::Enum64 => 3,
            Kind::Enum | Kind::FuncProto => 2,
            _ => 0,
        };
        let count = if step == 0 { 0 } else { self.vlen() as usize };
        std::iter::once(0).chain((0..count).map(move |at| TYPE_BYTES / 4 + step * at))
    }

    /// Which of its words are type ids.
    pub fn type_words(&self) -> impl Iterator<Item = usize> + use<> {
        const FIRST: usize = TYPE_BYTES / 4;
        let kind = self.kind();
        // The first such word, from one to the next, and how many.
        let (first, step, count) = match kind {
            Kind::Array => (FIRST, 1, 2),
            Kind::Struct | Kind::Union => (FIRST + 1, 3, self.vlen() as usize),
            Kind::FuncProto => (FIRST + 1, 2, self.vlen() as usize),
            Kind::Datasec => (FIRST, 3, self.vlen() as usize),
            _ => (FIRST, 1, 0),
        };
        let third = kind.has_type().then_some(2);
        third
            .into_iter()
            .chain((0..count).map(move |at| first + step * at))
    }

    /// The `kind_flag`: a struct with bitfields, a signed enum, a forward-declared union.
    #[must_use]
    pub fn flag(&self) -> bool {
        self.info().flag()
    }

    /// The third word of the record: size or type id.
    #[must_use]
    pub fn size_or_type(&self) -> u32 {
        self.word(8)
    }

    /// The size that the record states, in bytes: integers, structs, unions, enums, floats, data sections. See [`Btf::size_of`] for the rest.
    #[must_use]
    pub fn size(&self) -> Option<u32> {
        self.kind().has_size().then(|| self.size_or_type())
    }

    /// The id it refers to: pointee, typedef'd or modified type, prototype of a function, return type, tagged type.
    #[must_use]
    pub fn type_id(&self) -> Option<u32> {
        self.kind().has_type().then(|| self.size_or_type())
    }

    /// The type it refers to, see [`Self::type_id`].
    #[must_use]
    pub fn target(&self) -> Option<Type<'a>> {
        self.btf.get(self.type_id()?)
    }

    /// Skips `const`, `volatile`, `restrict`, type tags and typedefs.
    #[must_use]
    pub fn resolve(self) -> Type<'a> {
        self.btf
            .skip(self, |k| k.is_modifier() || k == Kind::Typedef)
    }

    /// Skips `const`, `volatile`, `restrict` and type tags.
    #[must_use]
    pub fn skip_modifiers(self) -> Type<'a> {
        self.btf.skip(self, Kind::is_modifier)
    }

    /// What an integer is.
    #[must_use]
    pub fn int(&self) -> Option<Int> {
        (self.kind() == Kind::Int).then(|| Int {
            word: self.extra(0),
        })
    }

    /// What an array is.
    #[must_use]
    pub fn array(&self) -> Option<Array> {
        (self.kind() == Kind::Array).then(|| Array {
            element: self.extra(0),
            index: self.extra(1),
            len: self.extra(2),
        })
    }

    /// Members of a struct or union; none for other kinds.
    pub fn members(&self) -> impl ExactSizeIterator<Item = Member<'a>> + use<'a> {
        let this = *self;
        let count = if self.kind().is_composite() {
            self.vlen()
        } else {
            0
        };
        let flag = self.flag();
        (0..count as usize).map(move |i| {
            let place = this.extra(3 * i + 2);
            let (bit_offset, bit_size) = if flag {
                (place & 0x00ff_ffff, place >> 24)
            } else {
                (place, 0)
            };
            Member {
                name: this.btf.str(this.extra(3 * i)),
                name_off: this.extra(3 * i),
                type_id: this.extra(3 * i + 1),
                bit_offset,
                bit_size,
            }
        })
    }

    /// Member `index` of a struct or union.
    #[must_use]
    pub fn member(&self, index: u32) -> Option<Member<'a>> {
        self.members().nth(index as usize)
    }

    /// Values of an enum of either width; none for other kinds.
    pub fn enum_values(&self) -> impl ExactSizeIterator<Item = EnumValue<'a>> + use<'a> {
        let this = *self;
        let kind = self.kind();
        let signed = self.flag();
        let count = if kind.is_enum() { self.vlen() } else { 0 };
        (0..count as usize).map(move |i| {
            let (name_off, value) = if kind == Kind::Enum64 {
                let low = u64::from(this.extra(3 * i + 1));
                let high = u64::from(this.extra(3 * i + 2));
                (this.extra(3 * i), (high << 32 | low).cast_signed())
            } else {
                let bits = this.extra(2 * i + 1);
                let value = if signed {
                    i64::from(bits.cast_signed())
                } else {
                    i64::from(bits)
                };
                (this.extra(2 * i), value)
            };
            EnumValue {
                name: this.btf.str(name_off),
                name_off,
                value,
            }
        })
    }

    /// Parameters of a function prototype; none for other kinds. A last one without name and type means "and more".
    pub fn params(&self) -> impl ExactSizeIterator<Item = Param<'a>> + use<'a> {
        let this = *self;
        let count = if self.kind() == Kind::FuncProto {
            self.vlen()
        } else {
            0
        };
        (0..count as usize).map(move |i| Param {
            name: this.btf.str(this.extra(2 * i)),
            name_off: this.extra(2 * i),
            type_id: this.extra(2 * i + 1),
        })
    }

    /// Variables of a data section; none for other kinds.
    pub fn vars(&self) -> impl ExactSizeIterator<Item = VarSecInfo> + use<'a> {
        let this = *self;
        let count = if self.kind() == Kind::Datasec {
            self.vlen()
        } else {
            0
        };
        (0..count as usize).map(move |i| VarSecInfo {
            type_id: this.extra(3 * i),
            offset: this.extra(3 * i + 1),
            size: this.extra(3 * i + 2),
        })
    }

    /// Linkage of a function or variable.
    #[must_use]
    pub fn linkage(&self) -> Option<Linkage> {
        match self.kind() {
            Kind::Func => Linkage::from_number(self.vlen()),
            Kind::Var => Linkage::from_number(self.extra(0)),
            _ => None,
        }
    }

    /// What a declaration tag tags.
    #[must_use]
    pub fn decl_tag(&self) -> Option<DeclTag<'a>> {
        (self.kind() == Kind::DeclTag).then(|| DeclTag {
            text: self.name(),
            type_id: self.size_or_type(),
            component: self.extra(0).cast_signed(),
        })
    }
}

/// The data word of an integer.
///
/// ```
/// use skep_btf::{Btf, Builder, Order};
///
/// # let mut builder = Builder::new(Order::HOST);
/// # let int = builder.add_int("int", 4, 1);
/// # let pair = builder.add_struct("pair", 8, &[("a", int, 0), ("b", int, 32)]);
/// # let btf = Btf::parse(builder.finish())?;
/// let ty = btf.get(int).and_then(|t| t.int()).ok_or("no integer")?;
/// assert_eq!((ty.is_signed(), ty.bits()), (true, 32));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Int {
    /// As in the record.
    pub word: u32,
}

impl Int {
    /// `BTF_INT_SIGNED`
    pub const SIGNED: u32 = 1;
    /// `BTF_INT_CHAR`
    pub const CHAR: u32 = 2;
    /// `BTF_INT_BOOL`
    pub const BOOL: u32 = 4;

    /// `BTF_INT_*` encoding.
    #[must_use]
    pub const fn encoding(self) -> u32 {
        self.word >> 24 & 0xf
    }

    /// Bit offset of the value in its bytes.
    #[must_use]
    pub const fn bit_offset(self) -> u32 {
        self.word >> 16 & 0xff
    }

    /// Bits of the value.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.word & 0xff
    }

    /// It has a sign.
    #[must_use]
    pub const fn is_signed(self) -> bool {
        self.encoding() & Self::SIGNED != 0
    }

    /// It is a `bool`.
    #[must_use]
    pub const fn is_bool(self) -> bool {
        self.encoding() & Self::BOOL != 0
    }

    /// It is a character.
    #[must_use]
    pub const fn is_char(self) -> bool {
        self.encoding() & Self::CHAR != 0
    }
}

/// Element type, index type and length of an array.
///
/// ```
/// use skep_btf::{Array, Btf, Builder, Order};
///
/// let mut builder = Builder::new(Order::HOST);
/// let int = builder.add_int("int", 4, 1);
/// let array = builder.add_array(int, int, 16);
/// let btf = Btf::parse(builder.finish())?;
/// let found = btf.get(array).and_then(|t| t.array());
/// assert_eq!(found, Some(Array { element: int, index: int, len: 16 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields of struct btf_array")]
pub struct Array {
    pub element: u32,
    pub index: u32,
    pub len: u32,
}

/// A member of a struct or union.
///
/// ```
/// use skep_btf::{Btf, Builder, Order};
///
/// # let mut builder = Builder::new(Order::HOST);
/// # let int = builder.add_int("int", 4, 1);
/// # let pair = builder.add_struct("pair", 8, &[("a", int, 0), ("b", int, 32)]);
/// # let btf = Btf::parse(builder.finish())?;
/// let b = btf.get(pair).and_then(|t| t.member(1)).ok_or("no such member")?;
/// assert_eq!((b.name, b.offset(), b.type_id), ("b", 4, int));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member<'a> {
    /// Name; empty if anonymous.
    pub name: &'a str,
    /// String offset of the name.
    pub name_off: u32,
    /// Its type.
    pub type_id: u32,
    /// Offset from the start of the struct in bits.
    pub bit_offset: u32,
    /// Bits of a bitfield, 0 for ordinary members.
    pub bit_size: u32,
}

impl Member<'_> {
    /// Offset in bytes (rounded down for bitfields).
    #[must_use]
    pub const fn offset(&self) -> u32 {
        self.bit_offset / 8
    }
}

/// A value of an enum.
///
/// ```
/// use skep_btf::raw::Info;
/// use skep_btf::{Btf, Builder, Kind, Order};
///
/// let mut builder = Builder::new(Order::HOST);
/// let name = builder.add_str("XDP_PASS");
/// let action = builder.add("xdp_action", Info::new(Kind::Enum, 1, false), 4, &[name, 2]);
/// let btf = Btf::parse(builder.finish())?;
/// let values = btf.get(action).ok_or("no enum")?.enum_values();
/// assert_eq!(values.map(|v| (v.name, v.value)).collect::<Vec<_>>(), [("XDP_PASS", 2)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EnumValue<'a> {
    /// Its name.
    pub name: &'a str,
    /// String offset of the name.
    pub name_off: u32,
    /// The value; of unsigned 64-bit enums the same bits.
    pub value: i64,
}

/// A parameter of a function prototype.
///
/// ```
/// use skep_btf::raw::Info;
/// use skep_btf::{Btf, Builder, Kind, Order};
///
/// let mut builder = Builder::new(Order::HOST);
/// let int = builder.add_int("int", 4, 1);
/// let name = builder.add_str("count");
/// let proto = builder.add("", Info::new(Kind::FuncProto, 1, false), int, &[name, int]);
/// let btf = Btf::parse(builder.finish())?;
/// let param = btf.get(proto).and_then(|t| t.params().next()).ok_or("none")?;
/// assert_eq!((param.name, param.type_id), ("count", int));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Param<'a> {
    /// Its name; may be empty.
    pub name: &'a str,
    /// String offset of the name.
    pub name_off: u32,
    /// Its type; 0 in the last place means "and more".
    pub type_id: u32,
}

/// A variable of a data section.
///
/// ```
/// use skep_btf::raw::Info;
/// use skep_btf::{Btf, Builder, Kind, Linkage, Order, VarSecInfo};
///
/// let mut builder = Builder::new(Order::HOST);
/// let int = builder.add_int("int", 4, 1);
/// let info = Info::new(Kind::Var, 0, false);
/// let var = builder.add("runs", info, int, &[Linkage::Global as u32]);
/// let section = builder.add(".bss", Info::new(Kind::Datasec, 1, false), 4, &[var, 0, 4]);
/// let btf = Btf::parse(builder.finish())?;
/// let found = btf.get(section).and_then(|t| t.vars().next());
/// assert_eq!(found, Some(VarSecInfo { type_id: var, offset: 0, size: 4 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VarSecInfo {
    /// The variable (or function, in `.ksyms`).
    pub type_id: u32,
    /// Byte offset in the section.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

/// A declaration tag.
///
/// ```
/// use skep_btf::raw::Info;
/// use skep_btf::{Btf, Builder, Kind, Order};
///
/// let mut builder = Builder::new(Order::HOST);
/// let int = builder.add_int("int", 4, 1);
/// let node = builder.add_struct("node", 4, &[("value", int, 0)]);
/// let info = Info::new(Kind::DeclTag, 0, false);
/// let tag = builder.add("contains:node", info, node, &[0]);
/// let btf = Btf::parse(builder.finish())?;
/// let found = btf.get(tag).and_then(|t| t.decl_tag()).ok_or("no tag")?;
/// assert_eq!((found.text, found.type_id, found.component), ("contains:node", node, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeclTag<'a> {
    /// The tag.
    pub text: &'a str,
    /// What it tags.
    pub type_id: u32,
    /// Index of the tagged member or parameter, -1 for the whole.
    pub component: i32,
}

/// Linkage of functions and variables.
///
/// ```
/// use skep_btf::Linkage;
///
/// assert_eq!(Linkage::from_number(1), Some(Linkage::Global));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Linkage {
    /// Of this object only.
    Static = 0,
    /// Defined here, visible elsewhere.
    Global = 1,
    /// Defined elsewhere.
    Extern = 2,
}

impl Linkage {
    /// The linkage with the kernel's number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Static),
            1 => Some(Self::Global),
            2 => Some(Self::Extern),
            _ => None,
        }
    }
}
