//! Names of local variables, where somebody knows them: the verifier sees registers and stack only.

/// What is known about the local variables of a program.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Locals, Request, StackVariable, explain, verify};
///
/// struct Verdict;
/// impl Locals for Verdict {
///     fn in_register(&self, _insn: u32, reg: u8) -> Option<&str> {
///         (reg == 3).then_some("verdict")
///     }
///
///     fn on_stack(&self, _insn: u32, _offset: i64) -> Option<StackVariable> {
///         None
///     }
/// }
///
/// let insns = assemble_insns("r0 = r3\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let request = Request::plain("pass", ProgType::Xdp, &insns);
/// let rejection = verify(&request).unwrap_err();
/// let explanation = explain(&request, &rejection, &[], &Verdict);
/// assert_eq!(explanation.label.as_deref(), Some("r3 holds `verdict`"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Locals {
    /// The variable that register `reg` holds before the instruction at slot `insn`.
    fn in_register(&self, insn: u32, reg: u8) -> Option<&str>;

    /// The variable that lies at byte `offset` from r10 (a negative number) at slot `insn`.
    fn on_stack(&self, insn: u32, offset: i64) -> Option<StackVariable>;
}

/// A variable on the stack.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Caps, Locals, Request, StackVariable, explain, verify};
///
/// // u64 count;
/// struct Count;
/// impl Locals for Count {
///     fn in_register(&self, _insn: u32, _reg: u8) -> Option<&str> {
///         None
///     }
///
///     fn on_stack(&self, _insn: u32, offset: i64) -> Option<StackVariable> {
///         (-8..0).contains(&offset).then(|| StackVariable {
///             name: "count".to_owned(),
///             start: -8,
///             bytes: 8,
///             part: None,
///         })
///     }
/// }
///
/// // Four bytes of it are written, eight are read.
/// let text = "*(u32 *)(r10 - 8) = 0\nr0 = *(u64 *)(r10 - 8)\nexit";
/// let insns = assemble_insns(text, &NoFacts).map_err(|e| e[0].to_string())?;
/// let request = Request {
///     caps: Caps::Bpf,
///     ..Request::plain("count", ProgType::SocketFilter, &insns)
/// };
/// let rejection = verify(&request).unwrap_err();
/// let label = explain(&request, &rejection, &[], &Count).label;
/// assert_eq!(label.as_deref(), Some("byte 4 of `count` was not written"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StackVariable {
    /// Its name.
    pub name: String,
    /// Where it starts, in bytes from r10.
    pub start: i64,
    /// Bytes.
    pub bytes: u64,
    /// What the byte that was asked for is, if the variable is a structure.
    pub part: Option<Part>,
}

/// Part of a structure.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Caps, Locals, Part, Request, StackVariable, explain, verify};
///
/// // struct key { u32 a; u8 b; } key;
/// struct Key;
/// impl Locals for Key {
///     fn in_register(&self, _insn: u32, _reg: u8) -> Option<&str> {
///         None
///     }
///
///     fn on_stack(&self, _insn: u32, offset: i64) -> Option<StackVariable> {
///         (-8..0).contains(&offset).then(|| StackVariable {
///             name: "key".to_owned(),
///             start: -8,
///             bytes: 8,
///             part: (offset >= -3).then_some(Part::Padding),
///         })
///     }
/// }
///
/// let text = "*(u32 *)(r10 - 8) = 0\n*(u8 *)(r10 - 4) = 0\nr0 = *(u64 *)(r10 - 8)\nr0 = 0\nexit";
/// let insns = assemble_insns(text, &NoFacts).map_err(|e| e[0].to_string())?;
/// let request = Request {
///     caps: Caps::Bpf,
///     ..Request::plain("key", ProgType::SocketFilter, &insns)
/// };
/// let rejection = verify(&request).unwrap_err();
/// let label = explain(&request, &rejection, &[], &Key).label;
/// assert_eq!(label.as_deref(), Some("byte 5 of `key`, padding between its members, was not written"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// A member, with its path.
    Member(String),
    /// No member's: the compiler leaves it so that the next one is aligned.
    Padding,
}

/// Nothing is known.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{NoLocals, Request, explain, verify};
///
/// let insns = assemble_insns("r0 = r3\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let request = Request::plain("pass", ProgType::Xdp, &insns);
/// let rejection = verify(&request).unwrap_err();
/// let explanation = explain(&request, &rejection, &[], &NoLocals);
/// assert_eq!(explanation.help, ["initialise the variable where it is declared"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLocals;

impl Locals for NoLocals {
    fn in_register(&self, _: u32, _: u8) -> Option<&str> {
        None
    }

    fn on_stack(&self, _: u32, _: i64) -> Option<StackVariable> {
        None
    }
}
