//! Rules of `BPF_BTF_LOAD`, one row each.

use skep_abi::Errno;
use skep_btf::build::Builder;
use skep_btf::raw::Info;
use skep_btf::{Btf, Int, Kind, Order};

/// An integer (1), a pointer to it (2), a struct with both (3), a prototype (4), a function (5), a variable (6) and its section (7).
fn sample() -> Builder {
    let mut b = Builder::new(Order::HOST);
    let int = b.add_int("int", 4, Int::SIGNED);
    let pointer = b.add_ref(Kind::Ptr, "", int);
    b.add_struct("pair", 16, &[("a", int, 0), ("b", pointer, 64)]);
    let name = b.add_str("x");
    let proto = b.add("", Info::new(Kind::FuncProto, 1, false), int, &[name, int]);
    b.add("f", Info::new(Kind::Func, 1, false), proto, &[]);
    let var = b.add("v", Info::new(Kind::Var, 0, false), int, &[1]);
    b.add(".data", Info::new(Kind::Datasec, 1, false), 4, &[var, 0, 4]);
    b
}

fn errno(builder: &Builder) -> Option<Errno> {
    let parsed = Btf::parse(builder.finish());
    parsed.and_then(|b| b.validate()).err().map(|e| e.errno())
}

#[test]
fn the_sample_is_valid() {
    assert_eq!(errno(&sample()), None);
}

#[test]
fn each_change_is_refused() {
    #[rustfmt::skip]
    const CASES: &[(&str, u32, usize, u32, Errno)] = &[
        // what                          type word value           errno
        ("int with unknown encoding",    1,   3,   0x0300_0020,    Errno::ENOTSUPP),
        ("int wider than its size",      1,   3,   0x0100_0040,    Errno::EINVAL),
        ("name out of range",            1,   0,   0xffff,         Errno::EINVAL),
        ("pointer to itself",            2,   2,   2,              Errno::EEXIST),
        ("pointer to nothing known",     2,   2,   99,             Errno::EINVAL),
        ("pointer with a name",          2,   0,   1,              Errno::EINVAL),
        ("struct inside itself",         3,   4,   3,              Errno::EEXIST),
        ("member past the end",          3,   8,   96,             Errno::EINVAL),
        ("member before its forerunner", 3,   5,   96,             Errno::EINVAL),
        ("void member",                  3,   4,   0,              Errno::EINVAL),
        ("parameter without name",       4,   3,   0,              Errno::EINVAL),
        ("function of no prototype",     5,   2,   1,              Errno::EINVAL),
        ("extern function",              5,   1,   0x0c00_0002,    Errno::EINVAL),
        ("void variable",                6,   2,   0,              Errno::EINVAL),
        ("extern variable",              6,   3,   2,              Errno::EINVAL),
        ("empty section",                7,   2,   0,              Errno::EINVAL),
        ("section of a function",        7,   3,   5,              Errno::EINVAL),
        ("variable larger than section", 7,   5,   8,              Errno::EINVAL),
    ];
    for &(what, id, word, value, expected) in CASES {
        let mut builder = sample();
        builder.set_word(id, word, value);
        assert_eq!(errno(&builder), Some(expected), "{what}");
    }
}

#[test]
fn split_btf_goes_on_where_its_base_ends() {
    let base = Btf::parse(sample().finish()).unwrap();
    let mut split = Builder::split(&base);
    let typedef = split.add_ref(Kind::Typedef, "pair", 3);
    assert_eq!(typedef, base.type_count());
    let split = Btf::parse_split(split.finish(), &base).unwrap();
    assert_eq!(split.validate(), Ok(()));
    assert_eq!(
        split
            .find("pair", Kind::Typedef)
            .unwrap()
            .target()
            .unwrap()
            .name(),
        "pair"
    );
    assert_eq!(split.size_of(typedef), Ok(16));
}

/// Declarations are also made of BTF that nobody validated.
#[test]
fn a_number_of_any_size_has_an_alignment() {
    let mut builder = sample();
    builder.set_word(1, 2, u32::MAX);
    let btf = Btf::parse(builder.finish()).expect("the sizes of numbers are not read yet");
    assert!(!skep_btf::c::declarations(&btf, None).is_empty());
}

#[test]
fn a_tag_comes_before_typedefs_as_before_modifiers() {
    let chain = |outer: (Kind, &str), inner: (Kind, &str)| {
        let mut b = sample();
        let inner = b.add_ref(inner.0, inner.1, 1);
        b.add_ref(outer.0, outer.1, inner);
        errno(&b)
    };
    let (tag, alias) = ((Kind::TypeTag, "t"), (Kind::Typedef, "alias"));
    assert_eq!(chain(alias, tag), Some(Errno::EINVAL));
    assert_eq!(chain((Kind::Const, ""), tag), Some(Errno::EINVAL));
    assert_eq!(chain(tag, alias), None);
    assert_eq!(chain(tag, tag), None);
}

#[test]
fn chains_of_typedefs_may_be_long_if_each_names_an_older_one() {
    let mut b = sample();
    let mut last = 1;
    for _ in 0..200 {
        last = b.add_ref(Kind::Typedef, "alias", last);
    }
    assert_eq!(errno(&b), None);
    b.add_ref(Kind::Const, "", last);
    assert_eq!(errno(&b), None);
}

#[test]
fn chains_of_newer_types_end_after_32_links() {
    // Two ways into the chain come first, so that no type is nested too deep when it is resolved.
    let chain = |links: u32, older: u32| {
        let mut b = sample();
        let int = 1;
        let mut end = int;
        for _ in 0..older {
            end = b.add_ref(Kind::Const, "", end);
        }
        let first = end.max(7) + 3;
        for distance in [20, 10] {
            b.add_ref(Kind::Const, "", first + links - distance);
        }
        for link in 1..links {
            b.add_ref(Kind::Const, "", first + link);
        }
        b.add_ref(Kind::Const, "", end);
        errno(&b)
    };
    assert_eq!(chain(32, 0), None);
    assert_eq!(chain(33, 0), Some(Errno::ELOOP));
    assert_eq!(chain(31, 1), None);
    assert_eq!(chain(32, 1), Some(Errno::ELOOP));
    assert_eq!(chain(31, 40), None);
}
