//! Machine code of a loaded program, with where each stretch of it comes from.

use crate::error::Named;
use crate::load::ProgObject;
use crate::universe::Universe;
use skep_bpf::{Errno, Handle, Result};
use skep_isa::Slot;

/// The machine code of a program, as it runs.
///
/// ```
/// use skep_user::listing::Which;
/// use skep_user::{Options, Universe};
/// # use skep_bpf::{Backend, LinkCreate, LinkTarget, ProgLoad};
/// # use skep_abi::{AttachType, ProgType};
/// # use skep_isa::Slot;
/// # let universe = Universe::new(Options::default())?;
/// # // r0 = XDP_PASS; exit
/// # let code = vec![Slot::new(0xb7, 0, 0, 0, 2), Slot::new(0x95, 0, 0, 0, 0)];
/// # let prog = universe.prog_load(&ProgLoad::plain(ProgType::Xdp, code))?;
/// // There is none for programs that are interpreted.
/// if let Ok(listing) = universe.prog_listing(prog, Which::Best) {
///     println!("{} bytes at {:#x}", listing.code.len(), listing.base);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    /// Address of the first byte.
    pub base: u64,
    /// The code.
    pub code: Vec<u8>,
    /// Which slot the code from an offset on was made from, by offset. A slot may come several times.
    pub rows: Vec<Row>,
    /// The functions, by offset.
    pub funcs: Vec<Function>,
    /// The program's instructions.
    pub insns: Vec<Slot>,
    /// The program's source lines, by slot.
    pub lines: Vec<SourceLine>,
}

/// A row of the line table.
///
/// ```
/// use skep_user::listing::Which;
/// use skep_user::{Options, Universe};
/// # use skep_bpf::{Backend, LinkCreate, LinkTarget, ProgLoad};
/// # use skep_abi::{AttachType, ProgType};
/// # use skep_isa::Slot;
/// # let universe = Universe::new(Options::default())?;
/// # // r0 = XDP_PASS; exit
/// # let code = vec![Slot::new(0xb7, 0, 0, 0, 2), Slot::new(0x95, 0, 0, 0, 0)];
/// # let prog = universe.prog_load(&ProgLoad::plain(ProgType::Xdp, code))?;
/// if let Ok(listing) = universe.prog_listing(prog, Which::Best) {
///     for row in &listing.rows {
///         println!("{:#06x} {:?}", row.code, listing.insns[row.slot as usize]);
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Offset into the code.
    pub code: u32,
    /// The slot.
    pub slot: u32,
}

/// A function's code.
///
/// ```
/// use skep_user::listing::Which;
/// use skep_user::{Options, Universe};
/// # use skep_bpf::{Backend, LinkCreate, LinkTarget, ProgLoad};
/// # use skep_abi::{AttachType, ProgType};
/// # use skep_isa::Slot;
/// # let universe = Universe::new(Options::default())?;
/// # // r0 = XDP_PASS; exit
/// # let code = vec![Slot::new(0xb7, 0, 0, 0, 2), Slot::new(0x95, 0, 0, 0, 0)];
/// # let prog = universe.prog_load(&ProgLoad::plain(ProgType::Xdp, code))?;
/// if let Ok(listing) = universe.prog_listing(prog, Which::Best) {
///     for function in &listing.funcs {
///         let code = &listing.code[function.start as usize..function.end as usize];
///         println!("{}: {} bytes", function.name, code.len());
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its name, as profilers see it.
    pub name: String,
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

/// A source line.
///
/// ```
/// use skep_user::listing::Which;
/// use skep_user::{Options, Universe};
/// # use skep_bpf::{Backend, LinkCreate, LinkTarget, ProgLoad};
/// # use skep_abi::{AttachType, ProgType};
/// # use skep_isa::Slot;
/// # let universe = Universe::new(Options::default())?;
/// # // r0 = XDP_PASS; exit
/// # let code = vec![Slot::new(0xb7, 0, 0, 0, 2), Slot::new(0x95, 0, 0, 0, 0)];
/// # let prog = universe.prog_load(&ProgLoad::plain(ProgType::Xdp, code))?;
/// if let Ok(listing) = universe.prog_listing(prog, Which::Best) {
///     for line in &listing.lines {
///         println!("slot {}: {}:{} {}", line.slot, line.file, line.line, line.text);
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceLine {
    /// The first slot that it covers.
    pub slot: u32,
    /// The file.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// The line itself, if the object holds it.
    pub text: String,
}

/// Whether a listing shows the code that runs now, or the code that the program gets when that pays.
///
/// ```
/// use skep_user::listing::Which;
/// use skep_user::{Options, Universe};
/// # use skep_bpf::{Backend, LinkCreate, LinkTarget, ProgLoad};
/// # use skep_abi::{AttachType, ProgType};
/// # use skep_isa::Slot;
/// # let universe = Universe::new(Options::default())?;
/// # // r0 = XDP_PASS; exit
/// # let code = vec![Slot::new(0xb7, 0, 0, 0, 2), Slot::new(0x95, 0, 0, 0, 0)];
/// # let prog = universe.prog_load(&ProgLoad::plain(ProgType::Xdp, code))?;
/// let now = universe.prog_listing(prog, Which::Current);
/// let later = universe.prog_listing(prog, Which::Best);
/// println!("{:?} and {:?} bytes", now.map(|l| l.code.len()), later.map(|l| l.code.len()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// What runs now.
    Current,
    /// The best there is.
    Best,
}

impl Universe {
    /// The machine code of a program.
    ///
    /// # Errors
    /// `EBADF` for handles of other things, `ENOENT` for a program that is interpreted, `ENOMEM`.
    pub fn prog_listing(&self, prog: Handle, which: Which) -> Result<Listing> {
        const WHAT: &str = "listing of machine code";
        let object = self.prog(prog, WHAT)?;
        if which == Which::Best {
            object
                .program
                .optimise()
                .map_err(|_| Errno::ENOMEM)
                .named(WHAT)?;
        }
        object.listing().ok_or(Errno::ENOENT).named(WHAT)
    }
}

impl ProgObject {
    fn listing(&self) -> Option<Listing> {
        let code = self.program.code()?;
        let lowered = self.program.lowered();
        let slot = |op: u32| lowered.slots.get(op as usize).copied();
        let rows = code.lines().iter().filter_map(|l| {
            Some(Row {
                code: l.code,
                slot: slot(l.op)?,
            })
        });
        let funcs = code.funcs().iter().map(|f| Function {
            name: self.names.function(f.func, lowered),
            start: f.start,
            end: f.end,
        });
        Some(Listing {
            base: code.base() as u64,
            code: code.bytes().to_vec(),
            rows: rows.collect(),
            funcs: funcs.collect(),
            insns: lowered.verified.insns().to_vec(),
            lines: self.names.lines.clone(),
        })
    }
}
