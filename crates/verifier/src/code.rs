//! The stable codes of rejections.

use crate::rejection::Class;

/// One kind of rejection.
///
/// ```
/// let code = skep_verifier::find_code("V0101").ok_or("no such code")?;
/// assert_eq!(code.title, "a register is read before it is written");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `V0201`
    pub id: &'static str,
    /// Safety, complexity or environment.
    pub class: Class,
    /// The rule in one line.
    pub title: &'static str,
}

macro_rules! codes {
    ($($name:ident $id:literal $class:ident $title:literal)*) => {
        $(pub(crate) const $name: &Code = &Code { id: $id, class: Class::$class, title: $title };)*

        /// Every code, ordered by id within its class.
        pub const CODES: &[&Code] = &[$($name),*];
    };
}

codes! {
    MALFORMED            "V0001" Safety "an instruction is malformed"
    JUMP_RANGE           "V0002" Safety "a jump leaves its function"
    FALL_THROUGH         "V0003" Safety "a function does not end with exit or a jump"
    UNREACHABLE          "V0004" Safety "an instruction cannot be reached"
    JUMP_INTO_WIDE       "V0005" Safety "a jump leads into the middle of a wide instruction"
    BAD_CALL_TARGET      "V0006" Safety "a call leads outside the program"
    PROGRAM_SIZE         "V0007" Safety "the program is empty or too long"
    BAD_FUNC_INFO        "V0008" Safety "function or line information does not fit the program"
    BAD_MAP_REF          "V0009" Safety "an instruction names a map that does not exist"
    BAD_DIRECT_VALUE     "V0010" Safety "a direct map value address is out of range or not supported"
    BAD_BTF_REF          "V0011" Safety "a BTF id does not fit its use"

    UNINIT_REG           "V0101" Safety "a register is read before it is written"
    FRAME_POINTER_WRITE  "V0102" Safety "the frame pointer is read-only"
    POINTER_ARITHMETIC   "V0103" Safety "this arithmetic is not allowed on pointers"
    POINTER_BOUNDS       "V0104" Safety "a pointer's offset may leave the range that is tracked"
    POINTER_COMPARISON   "V0105" Safety "this comparison of pointers is not allowed"
    POINTER_LEAK         "V0106" Safety "a pointer would become visible as a number"
    DIV_BY_ZERO          "V0107" Safety "division by the constant zero"
    BAD_SHIFT            "V0108" Safety "the shift is at least as wide as the operand"
    PARTIAL_POINTER      "V0109" Safety "part of a pointer is used as a pointer"
    NULLABLE_ARITHMETIC  "V0110" Safety "arithmetic on a pointer before it was checked for NULL"

    OUT_OF_BOUNDS        "V0201" Safety "an access may leave its memory"
    NOT_A_POINTER        "V0202" Safety "memory is accessed through something that is no pointer"
    NULL_DEREFERENCE     "V0203" Safety "memory is accessed through a pointer that may be NULL"
    NEGATIVE_OFFSET      "V0204" Safety "an offset may be negative"
    UNBOUNDED_OFFSET     "V0205" Safety "an offset has no upper bound"
    MISALIGNED           "V0206" Safety "an access is misaligned"
    READ_ONLY            "V0207" Safety "memory that must not be written is written"
    WRITE_ONLY           "V0208" Safety "memory that must not be read is read"
    PACKET_BOUNDS        "V0209" Safety "a packet access is not covered by a check against data_end"
    PACKET_FORBIDDEN     "V0210" Safety "this program type may not access the packet directly"
    MODIFIED_POINTER     "V0211" Safety "a pointer that must be used as it is has been moved"
    SPECIAL_FIELD        "V0212" Safety "a special field of a map value is accessed directly"
    ATOMIC_TARGET        "V0213" Safety "atomic access to memory of this kind is not allowed"
    MIXED_POINTERS       "V0214" Safety "one instruction accesses different kinds of memory"
    LEGACY_LOAD          "V0215" Safety "a legacy packet load is not allowed here"

    STACK_BOUNDS         "V0301" Safety "a stack access leaves the frame"
    STACK_UNINIT         "V0302" Safety "stack is read before it is written"
    STACK_SPILL_SIZE     "V0303" Safety "a pointer is spilled with less than eight bytes"
    STACK_CORRUPTS_SPILL "V0304" Safety "a spilled pointer would be partly overwritten"
    STACK_VARIABLE       "V0305" Safety "a stack access at a variable offset is not allowed here"
    STACK_DEPTH          "V0306" Safety "the frames of a call chain are too large"
    STACK_SPECIAL        "V0307" Safety "stack that holds a special object is accessed directly"
    CALL_DEPTH           "V0308" Safety "the call chain is too deep"

    CTX_ACCESS           "V0401" Safety "this access to the context is not allowed"
    CTX_VARIABLE         "V0402" Safety "the context is accessed at a variable offset"
    SOCK_ACCESS          "V0403" Safety "this access to a socket is not allowed"
    BTF_ACCESS           "V0404" Safety "this access to a kernel structure is not allowed"

    ARG_TYPE             "V0501" Safety "an argument has the wrong type"
    ARG_SIZE             "V0502" Safety "a size argument is out of range"
    ARG_NULL             "V0503" Safety "an argument may be NULL"
    ARG_CONSTANT         "V0504" Safety "an argument must be a known constant"
    MAP_HELPER_MISMATCH  "V0505" Safety "this helper does not work on this type of map"
    ARG_STRING           "V0506" Safety "a string argument is not constant or not terminated"
    ARG_FORMAT           "V0507" Safety "a format string is not valid"
    ARG_CALLBACK         "V0508" Safety "a callback does not fit"
    ARG_REFERENCE        "V0509" Safety "an argument must be an acquired reference"
    GLOBAL_ARGS          "V0510" Safety "arguments do not fit the prototype of a global function"
    TAIL_CALL            "V0511" Safety "a tail call is not allowed here"
    MAP_PROGRAM_MISMATCH "V0512" Safety "this program may not use this map"
    LEAK_TO_HELPER       "V0513" Safety "a pointer is passed where a number is expected"
    ARG_FLAGS            "V0515" Safety "a flags argument has a value that is not allowed"

    REFERENCE_LEAK       "V0601" Safety "a reference is not released on every path"
    NOT_ACQUIRED         "V0602" Safety "something is released that was not acquired"
    LOCK_STATE           "V0603" Safety "a lock is not held, or held where it must not be"
    LOCK_CALL            "V0604" Safety "this call is not allowed while a lock is held"
    RCU_STATE            "V0605" Safety "an RCU, preemption or interrupt section is not balanced"
    SLEEP                "V0606" Safety "a call that may sleep is not allowed here"
    KPTR                 "V0607" Safety "this use of a kptr is not allowed"

    RETURN_VALUE         "V0701" Safety "the return value is outside of what the hook allows"
    RETURN_POINTER       "V0702" Safety "a pointer would be returned"
    CALLBACK_RETURN      "V0703" Safety "the return value of a callback is outside of what is allowed"
    EXCEPTION            "V0704" Safety "exceptions are not allowed here"

    DYNPTR               "V0801" Safety "a dynptr is not in the state this use needs"
    ITERATOR             "V0802" Safety "an iterator is not in the state this use needs"
    IRQ_FLAG             "V0803" Safety "an irq flag is not in the state this use needs"
    KFUNC_ARG            "V0804" Safety "an argument of a kfunc has the wrong type"
    TRUSTED_ARG          "V0805" Safety "a kfunc needs a trusted pointer"
    GRAPH                "V0806" Safety "this use of a list or tree is not allowed"

    INFINITE_LOOP        "C0101" Complexity "a loop makes no progress"
    TOO_LARGE            "C0102" Complexity "the program has too many paths to explore"
    TOO_MANY_BRANCHES    "C0103" Complexity "too many branches wait for exploration"
    TOO_MANY_SUBPROGS    "C0104" Complexity "the program has too many functions"
    TOO_MANY_MAPS        "C0105" Complexity "the program uses too many maps"
    TOO_MANY_STATES      "C0106" Complexity "too many states wait for their paths to end"

    UNKNOWN_HELPER       "E0101" Environment "no such helper"
    HELPER_NOT_ALLOWED   "E0102" Environment "this program type cannot use this helper"
    GPL_ONLY             "E0103" Environment "only GPL-compatible programs may call this function"
    NEEDS_CAPABILITY     "E0104" Environment "the loader lacks a capability"
    FAILED_RELOCATION    "E0105" Environment "a CO-RE relocation failed and its instruction is reached"
    UNKNOWN_KFUNC        "E0106" Environment "no such kfunc, or not for this program type"
    MAP_NOT_ALLOWED      "E0107" Environment "this program type cannot use this type of map"
    ATTACH_TYPE          "E0108" Environment "the attach type does not fit the program type"
    NO_BTF               "E0109" Environment "BTF is missing"
    ATTACH_TARGET        "E0110" Environment "the attach target does not exist or is not allowed"
    KERNEL_LACKS         "E0111" Environment "the kernel that is meant lacks something"
    NOT_KNOWN            "E0112" Environment "the profile of the kernel that is meant does not say"
    MAP_OWNER            "E0113" Environment "a map belongs to another kind of programs"

    NEEDS_KERNEL_BTF     "E0111" Environment "the kernel's BTF is needed and was not given"

    NOT_SUPPORTED        "V0999" Safety "the verifier cannot prove this yet"
}

/// The code named `id`.
#[must_use]
pub fn find(id: &str) -> Option<&'static Code> {
    CODES.iter().copied().find(|c| c.id == id)
}
