//! Images become code: copied, relocated, made executable.

use super::fault;
use super::image::{CodeImage, FuncCode, Line, Runtime, Symbol, Tier};
use super::runtime;
use crate::program::EntryFn;
use skep_sys::exec::CodeMapping;
use std::io;

/// Why an image could not be linked.
#[derive(Debug)]
pub enum LinkError {
    /// The image names something that this program does not have.
    Unresolved(Symbol),
    /// The image's tables do not fit its code.
    Malformed,
    /// No executable memory.
    Memory(io::Error),
}

impl std::fmt::Display for LinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unresolved(symbol) => write!(f, "code names {symbol:?}, which does not exist"),
            Self::Malformed => f.write_str("relocation outside the code"),
            Self::Memory(e) => write!(f, "executable memory: {e}"),
        }
    }
}

impl std::error::Error for LinkError {}

/// Executable code. Dropping it unmaps it: whoever runs it must keep it alive.
#[derive(Debug)]
pub struct Code {
    /// Withdrawn before the code is unmapped.
    _faults: Option<fault::Registration>,
    mapping: CodeMapping,
    lines: Vec<Line>,
    funcs: Vec<FuncCode>,
    tier: Tier,
}

impl Code {
    /// Copies `image` into memory of its own. `resolve` gives the addresses of callees and maps.
    ///
    /// The memory is written before it becomes executable, and never writable again.
    ///
    /// # Errors
    /// If a symbol cannot be resolved or there is no memory.
    pub fn link(
        image: &CodeImage,
        resolve: impl Fn(Symbol) -> Option<u64>,
    ) -> Result<Self, LinkError> {
        let mut bytes = image.code.clone();
        for r in &image.relocs {
            let address = match r.symbol {
                Symbol::Runtime(f) => runtime_address(f),
                other => resolve(other).ok_or(LinkError::Unresolved(other))?,
            };
            let at = r.at as usize;
            bytes
                .get_mut(at..at + 8)
                .ok_or(LinkError::Malformed)?
                .copy_from_slice(&address.to_le_bytes());
        }
        let mapping = CodeMapping::new(&bytes).map_err(LinkError::Memory)?;
        let base = mapping.base() as usize;
        Ok(Self {
            _faults: fault::register(base, bytes.len(), &image.faults),
            mapping,
            lines: image.lines.clone(),
            funcs: image.funcs.clone(),
            tier: image.tier,
        })
    }

    /// The entry of the program.
    #[must_use]
    pub fn entry(&self) -> EntryFn {
        // SAFETY: the image was compiled from a lowered program whose entry is at offset 0 and has this signature.
        unsafe { std::mem::transmute::<*const u8, EntryFn>(self.mapping.base()) }
    }

    /// The machine code, as mapped.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.mapping.bytes()
    }

    /// Address of the first byte.
    #[must_use]
    pub fn base(&self) -> *const u8 {
        self.mapping.base()
    }

    /// Who made it.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The functions, by offset.
    #[must_use]
    pub fn funcs(&self) -> &[FuncCode] {
        &self.funcs
    }

    /// Which op each stretch of code comes from.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}

/// Address of a function of the engine's run time.
fn runtime_address(f: Runtime) -> u64 {
    let address = match f {
        Runtime::LoadPacket => crate::helpers::load_packet as *const () as usize,
        Runtime::TailCallEntry => runtime::tail_call_entry as *const () as usize,
        Runtime::MakeCurrent => runtime::make_current as *const () as usize,
        Runtime::KtimeGetNs => runtime::ktime_get_ns as *const () as usize,
    };
    address as u64
}
