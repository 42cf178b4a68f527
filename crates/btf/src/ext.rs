//! `.BTF.ext`: functions, source lines and CO-RE relocations of code sections. Source: Documentation/bpf/btf.rst.

use crate::error::{BtfError, BtfProblem};
use crate::raw::{MAGIC, Order};

/// Where a function begins (`struct bpf_func_info`).
///
/// ```
/// use skep_btf::{Ext, FuncInfo};
/// # use skep_btf::ext::SectionInfo;
/// # use skep_btf::Order;
///
/// # let mut ext = Ext::default();
/// # ext.funcs.push(SectionInfo { section: 1, records: vec![FuncInfo { insn: 0, type_id: 3 }] });
/// let ext = Ext::parse(&ext.write(Order::HOST))?;
/// let FuncInfo { insn, type_id } = ext.funcs[0].records[0];
/// assert_eq!((insn, type_id), (0, 3)); // the function that begins at instruction 0
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FuncInfo {
    /// First slot.
    pub insn: u32,
    /// BTF id of its `BTF_KIND_FUNC`.
    pub type_id: u32,
}

/// Where a source line begins (`struct bpf_line_info`).
///
/// ```
/// use skep_btf::LineInfo;
///
/// let info = LineInfo { insn: 0, file: 1, text: 9, line_col: 41 << 10 | 12 };
/// assert_eq!((info.line(), info.column()), (41, 12));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineInfo {
    /// First slot that the line covers.
    pub insn: u32,
    /// String offset of the file name.
    pub file: u32,
    /// String offset of the line's text.
    pub text: u32,
    /// Line number in the upper 22 bits, column in the lower 10.
    pub line_col: u32,
}

impl LineInfo {
    /// Line number.
    #[must_use]
    pub const fn line(&self) -> u32 {
        self.line_col >> 10
    }

    /// Column.
    #[must_use]
    pub const fn column(&self) -> u32 {
        self.line_col & 0x3ff
    }
}

/// A CO-RE relocation (`struct bpf_core_relo`).
///
/// ```
/// use skep_btf::{CoreRelo, Ext};
///
/// // With an object's BTF: `btf.str(relo.access)` is its path, "0:1".
/// fn paths(ext: &Ext) -> Vec<(u32, u32)> {
///     let records = ext.relos.iter().flat_map(|s| &s.records);
///     records.map(|relo: &CoreRelo| (relo.insn, relo.access)).collect()
/// }
/// assert!(paths(&Ext::default()).is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoreRelo {
    /// The slot to patch.
    pub insn: u32,
    /// Local type that the access starts from.
    pub type_id: u32,
    /// String offset of the access path, `0:1:2`.
    pub access: u32,
    /// `enum bpf_core_relo_kind`
    pub kind: u32,
}

/// Records of one code section; slots count from the section's start.
///
/// ```
/// use skep_btf::ext::SectionInfo;
/// use skep_btf::{Ext, FuncInfo};
///
/// let records = vec![FuncInfo { insn: 0, type_id: 3 }];
/// let section = SectionInfo { section: 1, records };
/// let ext = Ext { funcs: vec![section], ..Ext::default() };
/// assert_eq!(ext.funcs[0].records.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SectionInfo<T> {
    /// String offset of the section's name.
    pub section: u32,
    /// The records, in the file's order.
    pub records: Vec<T>,
}

/// A parsed `.BTF.ext` section.
///
/// ```
/// use skep_btf::{Ext, Order};
///
/// let ext = Ext::parse(&Ext::default().write(Order::HOST))?;
/// assert!(ext.funcs.is_empty() && ext.lines.is_empty() && ext.relos.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ext {
    /// Functions.
    pub funcs: Vec<SectionInfo<FuncInfo>>,
    /// Source lines.
    pub lines: Vec<SectionInfo<LineInfo>>,
    /// CO-RE relocations.
    pub relos: Vec<SectionInfo<CoreRelo>>,
}

/// Bytes of the header without CO-RE relocations.
const HEADER_BYTES_MIN: u32 = 24;
/// Bytes of the header with them.
const HEADER_BYTES_CORE: u32 = 32;
/// Bytes of an instruction slot, the unit of the file's offsets.
const SLOT_BYTES: u32 = 8;

impl Ext {
    /// Parses the section's bytes.
    ///
    /// # Errors
    /// If the header, a table or a record leaves the section, or an instruction offset is no multiple of 8.
    pub fn parse(data: &[u8]) -> Result<Self, BtfError> {
        if data.len() < HEADER_BYTES_MIN as usize {
            return Err(BtfProblem::HeaderTruncated.into());
        }
        let order = match (Order::Little.u16_at(data, 0), Order::Big.u16_at(data, 0)) {
            (MAGIC, _) => Order::Little,
            (_, MAGIC) => Order::Big,
            (found, _) => return Err(BtfProblem::Magic { found }.into()),
        };
        let header_len = order.u32_at(data, 4);
        let body = data
            .get(header_len as usize..)
            .ok_or(BtfProblem::HeaderTruncated)?;
        let table = |field: usize| {
            let (off, len) = (order.u32_at(data, field), order.u32_at(data, field + 4));
            let end = (off as usize).checked_add(len as usize);
            end.and_then(|end| body.get(off as usize..end))
                .ok_or(BtfError::from(BtfProblem::Layout))
        };
        let reader = |field, record_bytes| {
            let data = table(field)?;
            Ok::<_, BtfError>(Table {
                data,
                order,
                record_bytes,
            })
        };
        let mut ext = Self {
            funcs: reader(8, 8)?.read(|w| FuncInfo {
                insn: w(0) / SLOT_BYTES,
                type_id: w(1),
            })?,
            lines: reader(16, 16)?.read(|w| LineInfo {
                insn: w(0) / SLOT_BYTES,
                file: w(1),
                text: w(2),
                line_col: w(3),
            })?,
            relos: Vec::new(),
        };
        if header_len >= HEADER_BYTES_CORE {
            ext.relos = reader(24, 16)?.read(|w| CoreRelo {
                insn: w(0) / SLOT_BYTES,
                type_id: w(1),
                access: w(2),
                kind: w(3),
            })?;
        }
        Ok(ext)
    }
}

impl Ext {
    /// The section's bytes.
    #[must_use]
    pub fn write(&self, order: Order) -> Vec<u8> {
        let funcs = table(order, &self.funcs, |r| [r.insn * SLOT_BYTES, r.type_id]);
        let lines = table(order, &self.lines, |r| {
            [r.insn * SLOT_BYTES, r.file, r.text, r.line_col]
        });
        let relos = table(order, &self.relos, |r| {
            [r.insn * SLOT_BYTES, r.type_id, r.access, r.kind]
        });
        let mut out = Vec::new();
        out.extend(order.u16_bytes(MAGIC));
        out.extend([1, 0]);
        out.extend(order.u32_bytes(HEADER_BYTES_CORE));
        let mut at = 0;
        for table in [&funcs, &lines, &relos] {
            let bytes = u32::try_from(table.len()).unwrap_or(u32::MAX);
            out.extend(order.u32_bytes(at));
            out.extend(order.u32_bytes(bytes));
            at += bytes;
        }
        out.extend(funcs.into_iter().chain(lines).chain(relos));
        out
    }
}

/// A table of records of `N` words.
fn table<T, const N: usize>(
    order: Order,
    sections: &[SectionInfo<T>],
    words: impl Fn(&T) -> [u32; N],
) -> Vec<u8> {
    if sections.is_empty() {
        return Vec::new();
    }
    let mut all = vec![4 * N as u32];
    for section in sections {
        all.extend([section.section, section.records.len() as u32]);
        all.extend(section.records.iter().flat_map(&words));
    }
    all.into_iter().flat_map(|w| order.u32_bytes(w)).collect()
}

/// One of the three tables.
struct Table<'a> {
    data: &'a [u8],
    order: Order,
    /// Smallest size of a record; files may have larger ones.
    record_bytes: usize,
}

impl Table<'_> {
    fn read<T>(
        &self,
        record: impl Fn(&dyn Fn(usize) -> u32) -> T,
    ) -> Result<Vec<SectionInfo<T>>, BtfError> {
        let layout = || BtfError::from(BtfProblem::Layout);
        let mut sections = Vec::new();
        if self.data.is_empty() {
            return Ok(sections);
        }
        let size = self.order.u32_at(self.data, 0) as usize;
        if size < self.record_bytes || !size.is_multiple_of(4) {
            return Err(layout());
        }
        let mut at = 4;
        while at < self.data.len() {
            let header = self.data.get(at..at + 8).ok_or_else(layout)?;
            let section = self.order.u32_at(header, 0);
            let count = self.order.u32_at(header, 4) as usize;
            at += 8;
            let bytes = count.checked_mul(size).ok_or_else(layout)?;
            let end = at.checked_add(bytes).ok_or_else(layout)?;
            let data = self.data.get(at..end).ok_or_else(layout)?;
            let mut records = Vec::with_capacity(count);
            for raw in data.chunks_exact(size) {
                if !self.order.u32_at(raw, 0).is_multiple_of(SLOT_BYTES) {
                    return Err(layout());
                }
                records.push(record(&|word| self.order.u32_at(raw, 4 * word)));
            }
            sections.push(SectionInfo { section, records });
            at = end;
        }
        Ok(sections)
    }
}
