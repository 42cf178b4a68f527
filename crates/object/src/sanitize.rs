//! BTF for kernels that do not know all of its kinds: the same ids, with newer kinds told in older ones. What is lost is
//! how values are displayed.

use skep_btf::build::{Builder, RECORD_WORDS};
use skep_btf::raw::Info;
use skep_btf::{Btf, BtfError, Kind, Linkage, Type};

/// Which kinds the kernel knows.
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../examples/packets.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "packets.bpf.o".to_owned() })?;
/// use skep_object::sanitize::{BtfLevel, sanitize};
///
/// let older = sanitize(object.btf().ok_or("no BTF")?, BtfLevel::Linux5_0)?;
/// println!("{} types", older.type_count());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BtfLevel {
    /// No floats, tags, 64-bit enums: what Linux 5.6 knows.
    Linux5_6,
    /// Nor variables, data sections and global functions: what Linux 5.0 knows.
    Linux5_0,
}

/// Bits of a byte.
const BYTE: u32 = 8;

/// `btf` with the kinds of `level` only.
///
/// # Errors
/// If the result is too large to be BTF.
pub fn sanitize(btf: &Btf, level: BtfLevel) -> Result<Btf, BtfError> {
    let mut rewriter = Rewriter {
        builder: Builder::of(btf),
        level,
        wide: None,
    };
    for ty in btf.own_types() {
        rewriter.rewrite(ty);
    }
    Btf::parse(rewriter.builder.finish())
}

struct Rewriter {
    builder: Builder,
    level: BtfLevel,
    /// An integer of 8 bytes.
    wide: Option<u32>,
}

impl Rewriter {
    fn set(&mut self, ty: Type<'_>, kind: Kind, vlen: u16, third: u32) {
        self.builder
            .set_word(ty.id(), 1, Info::new(kind, vlen, false).0);
        self.builder.set_word(ty.id(), 2, third);
    }

    fn no_name(&mut self, ty: Type<'_>) {
        self.builder.set_word(ty.id(), 0, 0);
    }

    /// A byte without meaning.
    fn byte(&mut self, ty: Type<'_>) {
        self.set(ty, Kind::Int, 0, 1);
        self.builder.set_word(ty.id(), RECORD_WORDS, BYTE);
    }

    fn rewrite(&mut self, ty: Type<'_>) {
        let old = self.level == BtfLevel::Linux5_0;
        match ty.kind() {
            Kind::Float => {
                self.set(ty, Kind::Struct, 0, ty.size_or_type());
                self.no_name(ty);
            }
            Kind::TypeTag => {
                self.set(ty, Kind::Const, 0, ty.size_or_type());
                self.no_name(ty);
            }
            Kind::DeclTag => self.byte(ty),
            Kind::Enum64 => self.enum64(ty),
            // Whether an enum is signed is newer than enums.
            Kind::Enum if ty.flag() => {
                let vlen = ty.info().vlen() as u16;
                self.set(ty, Kind::Enum, vlen, ty.size_or_type());
            }
            Kind::Var if old => self.byte(ty),
            Kind::Datasec if old => self.datasec(ty),
            Kind::Func if old && ty.linkage() != Some(Linkage::Static) => {
                self.set(ty, Kind::Func, 0, ty.size_or_type());
            }
            _ => {}
        }
    }

    /// A union of as many members; both have three words a member.
    fn enum64(&mut self, ty: Type<'_>) {
        let builder = &mut self.builder;
        let wide = *self
            .wide
            .get_or_insert_with(|| builder.add_int("__u64", 8, 0));
        let vlen = ty.info().vlen() as u16;
        self.set(ty, Kind::Union, vlen, ty.size_or_type());
        for at in 0..usize::from(vlen) {
            let first = RECORD_WORDS + 3 * at;
            self.builder.set_word(ty.id(), first + 1, wide);
            self.builder.set_word(ty.id(), first + 2, 0);
        }
    }

    /// A structure of the variables.
    fn datasec(&mut self, ty: Type<'_>) {
        let name = ty.name().replace('.', "_");
        let name = self.builder.add_str(&name);
        self.builder.set_word(ty.id(), 0, name);
        let vlen = ty.info().vlen() as u16;
        self.set(ty, Kind::Struct, vlen, ty.size_or_type());
        for (at, var) in ty.vars().enumerate() {
            let first = RECORD_WORDS + 3 * at;
            let name = ty.btf().get(var.type_id).map_or(0, |v| v.name_off());
            let words = [name, var.type_id, var.offset.saturating_mul(BYTE)];
            for (word, value) in (first..).zip(words) {
                self.builder.set_word(ty.id(), word, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_btf::Order;

    #[test]
    fn newer_kinds_become_older_ones_under_the_same_ids() {
        let mut builder = Builder::new(Order::HOST);
        let int = builder.add_int("int", 4, 1);
        let float = builder.add("double", Info::new(Kind::Float, 0, false), 8, &[]);
        let tag = builder.add("user", Info::new(Kind::TypeTag, 0, false), int, &[]);
        let value = builder.add_str("A");
        let wide = builder.add("e", Info::new(Kind::Enum64, 1, false), 8, &[value, 1, 1]);
        let var = builder.add("v", Info::new(Kind::Var, 0, false), int, &[1]);
        let section = builder.add(".data", Info::new(Kind::Datasec, 1, false), 4, &[var, 0, 4]);
        let btf = Btf::parse(builder.finish()).unwrap();
        let kinds = |btf: &Btf, ids: &[u32]| {
            ids.iter()
                .map(|id| btf.get(*id).unwrap().kind())
                .collect::<Vec<_>>()
        };
        let ids = [float, tag, wide, var, section];
        let newer = sanitize(&btf, BtfLevel::Linux5_6).unwrap();
        assert_eq!(
            kinds(&newer, &ids),
            [
                Kind::Struct,
                Kind::Const,
                Kind::Union,
                Kind::Var,
                Kind::Datasec
            ]
        );
        let older = sanitize(&btf, BtfLevel::Linux5_0).unwrap();
        assert_eq!(
            kinds(&older, &ids),
            [
                Kind::Struct,
                Kind::Const,
                Kind::Union,
                Kind::Int,
                Kind::Struct
            ]
        );
        assert_eq!(older.get(wide).unwrap().members().count(), 1);
        assert_eq!(older.get(section).unwrap().name(), "_data");
        assert_eq!(newer.size_of(float).unwrap(), 8);
    }
}
