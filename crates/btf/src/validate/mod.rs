//! What `BPF_BTF_LOAD` checks. Source: Documentation/bpf/btf.rst and the answers of Linux 6.18.
//!
//! In the kernel's order: header and strings, then every record on its own ([`record`]), then what types say of each other
//! ([`relation`]).

mod record;
mod relation;

use crate::error::{BtfError, BtfProblem};
use crate::parsed::Btf;
use crate::raw::{HEADER_BYTES, MAX_NAME_OFFSET, MAX_SIZE};

impl Btf {
    /// Whether the kernel would take this BTF; the error has its errno.
    ///
    /// # Errors
    /// The first problem that the kernel's checks would meet.
    pub fn validate(&self) -> Result<(), BtfError> {
        self.validate_records()?;
        self.validate_relations()
    }

    /// Header, strings, and every record on its own.
    pub(crate) fn validate_records(&self) -> Result<(), BtfError> {
        header(self)?;
        self.own_types().try_for_each(|ty| record::check(self, ty))
    }

    /// What types say of each other.
    pub(crate) fn validate_relations(&self) -> Result<(), BtfError> {
        relation::check(self)
    }
}

fn header(btf: &Btf) -> Result<(), BtfError> {
    let (header, data) = (btf.header(), btf.bytes());
    if data.len() > MAX_SIZE {
        let bytes = data.len();
        return Err(BtfProblem::TooBig { bytes }.into());
    }
    let hdr_len = header.hdr_len as usize;
    if hdr_len < HEADER_BYTES || hdr_len > data.len() {
        return Err(BtfProblem::HeaderTruncated.into());
    }
    let mut sections = [
        (header.type_off, header.type_len),
        (header.str_off, header.str_len),
    ];
    sections.sort_unstable();
    let mut end = 0u32;
    for (start, len) in sections {
        if start != end {
            return Err(BtfProblem::Layout.into());
        }
        end = start.checked_add(len).ok_or(BtfProblem::Layout)?;
    }
    if end as usize != data.len() - hdr_len || header.type_off % 4 != 0 {
        return Err(BtfProblem::Layout.into());
    }
    if header.type_len == 0 && btf.base().is_none() {
        return Err(BtfProblem::NoTypes.into());
    }
    strings(btf)
}

fn strings(btf: &Btf) -> Result<(), BtfError> {
    let strings = btf.strings();
    if strings.is_empty() && btf.base().is_some() {
        return Ok(());
    }
    let starts = btf.base().is_some() || strings.first() == Some(&0);
    let fits = strings.len() <= MAX_NAME_OFFSET as usize + 1;
    if starts && fits && strings.last() == Some(&0) {
        return Ok(());
    }
    Err(BtfProblem::Strings.into())
}

#[cfg(test)]
mod tests {
    use crate::raw::Info;
    use crate::{Btf, BtfProblem, Builder, Kind, Order};

    #[test]
    fn the_first_problem_counts_though_a_later_record_cannot_be_parsed() {
        let mut b = Builder::new(Order::HOST);
        let int = b.add_int("int", 4, 0xd);
        let enumeration = b.add("e", Info::new(Kind::Enum, 0, false), 4, &[]);
        b.set_word(enumeration, 1, Info::new(Kind::Enum, 9, false).0);
        let bytes = b.finish();
        let parsed = Btf::parse(bytes.clone()).unwrap_err();
        assert!(
            matches!(parsed.problem, BtfProblem::TypeTruncated),
            "{parsed}"
        );
        let loaded = Btf::load(bytes).unwrap_err();
        assert!(matches!(loaded.problem, BtfProblem::Int { .. }), "{loaded}");
        assert_eq!(loaded.type_id, int);
    }
}
