//! Symbols that the kernel provides: configuration values, kernel variables, kfuncs.

use crate::elf::{Elf, SymbolKind};
use crate::error::ObjectError;
use skep_btf::{Btf, Kind, Type};

/// A symbol declared `extern`.
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../tests/objects/corners.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "corners.bpf.o".to_owned() })?;
/// for external in object.externs() {
///     println!("{} ({:?}), weak: {}", external.name, external.kind, external.weak);
/// }
/// assert!(!object.externs().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extern {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ExternKind,
    /// It reads as zero where the kernel does not have it.
    pub weak: bool,
}

/// Kinds of extern symbol.
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../tests/objects/corners.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "corners.bpf.o".to_owned() })?;
/// use skep_object::ExternKind;
///
/// let is_kfunc = |k: &ExternKind| matches!(k, ExternKind::Kfunc { .. });
/// assert!(object.externs().iter().any(|e| is_kfunc(&e.kind)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExternKind {
    /// A kernel function; the local prototype.
    Kfunc {
        /// BTF id of the local `BTF_KIND_FUNC_PROTO`.
        proto: u32,
    },
    /// A kernel variable of known type.
    TypedVar {
        /// BTF id of its local type.
        type_id: u32,
    },
    /// The address of a kernel symbol.
    Address,
    /// A configuration value.
    Config {
        /// How it is stored.
        form: ConfigForm,
        /// Bytes.
        size: u32,
        /// Byte offset in the map `.kconfig`.
        offset: u32,
    },
}

/// How a configuration value is stored.
///
/// ```
/// # use skep_object::{Object, Options};
/// #
/// # let bytes = std::fs::read("../../tests/objects/corners.bpf.o")?;
/// # let object = Object::parse(&bytes, &Options { name: "corners.bpf.o".to_owned() })?;
/// use skep_object::{ConfigForm, ExternKind};
///
/// for external in object.externs() {
///     if let ExternKind::Config { form: ConfigForm::Tristate, .. } = external.kind {
///         println!("{} is y, m or n", external.name);
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigForm {
    /// `_Bool`
    Bool,
    /// `char`: a letter or number
    Char,
    /// `enum libbpf_tristate`
    Tristate,
    /// An integer; whether it is signed.
    Int(bool),
    /// `char[]`
    Text,
}

/// Finds what each undefined symbol is, and lays out `.kconfig`. The order is that of the symbol table, with configuration values
/// by alignment, size and name.
pub(crate) fn collect(elf: &Elf<'_>, btf: Option<&Btf>) -> Result<Vec<Extern>, ObjectError> {
    let mut externs = Vec::new();
    for symbol in &elf.symbols {
        let candidate = symbol.section.is_none() && !symbol.local && !symbol.name.is_empty();
        if !candidate || symbol.kind != SymbolKind::Untyped {
            continue;
        }
        let missing = || {
            let what = "it is declared extern, but not for .kconfig or .ksyms; if another object defines it, link both first: \
                        `skep gen object OUT.o A.o B.o`";
            ObjectError::variable(symbol.name, what)
        };
        let btf = btf.ok_or_else(missing)?;
        let (section, ty) = declaration(btf, symbol.name).ok_or_else(missing)?;
        let kind = match (section, ty.kind()) {
            (".ksyms", Kind::Func) => ExternKind::Kfunc {
                proto: ty.size_or_type(),
            },
            (".ksyms", _) => match ty.target().map(Type::skip_modifiers) {
                Some(t) if t.kind() != Kind::Void => ExternKind::TypedVar { type_id: t.id() },
                _ => ExternKind::Address,
            },
            (".kconfig", Kind::Var) => config(symbol.name, ty)?,
            _ => return Err(missing()),
        };
        externs.push(Extern {
            name: symbol.name.to_owned(),
            kind,
            weak: symbol.weak,
        });
    }
    lay_out(&mut externs);
    Ok(externs)
}

/// The section and declaration of an extern name.
fn declaration<'a>(btf: &'a Btf, name: &'a str) -> Option<(&'a str, Type<'a>)> {
    [".ksyms", ".kconfig"].into_iter().find_map(|section| {
        let datasec = btf.find(section, Kind::Datasec)?;
        let mut declared = datasec.vars().filter_map(|v| btf.get(v.type_id));
        let ty = declared.find(|ty| ty.name() == name)?;
        Some((section, ty))
    })
}

fn config(name: &str, var: Type<'_>) -> Result<ExternKind, ObjectError> {
    let unsupported = || ObjectError::variable(name, "its type cannot hold a configuration value");
    let ty = var.target().ok_or_else(unsupported)?.resolve();
    let size = var.btf().size_of(ty.id()).map_err(|_| unsupported())?;
    let form = match (ty.kind(), ty.int()) {
        (Kind::Int, Some(int)) if int.is_bool() && size == 1 => ConfigForm::Bool,
        (Kind::Int, Some(int)) if int.is_char() && size == 1 => ConfigForm::Char,
        (Kind::Int, Some(int)) if size.is_power_of_two() && size <= 8 => {
            ConfigForm::Int(int.is_signed())
        }
        (Kind::Enum, _) if size == 4 && ty.name() == "libbpf_tristate" => ConfigForm::Tristate,
        (Kind::Array, _) if size > 0 => {
            let element = ty.array().and_then(|a| ty.btf().resolve(a.element));
            let bytes = element.filter(|e| e.kind() == Kind::Int && e.size() == Some(1));
            bytes.ok_or_else(unsupported)?;
            ConfigForm::Text
        }
        _ => return Err(unsupported()),
    };
    Ok(ExternKind::Config {
        form,
        size,
        offset: 0,
    })
}

fn alignment(form: ConfigForm, size: u32) -> u32 {
    match form {
        ConfigForm::Text => 1,
        _ => size,
    }
}

/// Gives configuration values their offsets.
fn lay_out(externs: &mut [Extern]) {
    let mut order: Vec<(u32, u32, usize)> = Vec::new();
    for (i, e) in externs.iter().enumerate() {
        if let ExternKind::Config { form, size, .. } = e.kind {
            order.push((alignment(form, size), size, i));
        }
    }
    order.sort_by(|a, b| {
        let names = || externs[a.2].name.cmp(&externs[b.2].name);
        b.0.cmp(&a.0).then(a.1.cmp(&b.1)).then_with(names)
    });
    let mut end = 0u32;
    for (align, bytes, i) in order {
        if let ExternKind::Config { offset, .. } = &mut externs[i].kind {
            *offset = end.next_multiple_of(align);
            end = offset.saturating_add(bytes);
        }
    }
}

/// Bytes of the map `.kconfig`.
pub(crate) fn config_bytes(externs: &[Extern]) -> u32 {
    let ends = externs.iter().map(|e| match e.kind {
        ExternKind::Config { size, offset, .. } => offset.saturating_add(size),
        _ => 0,
    });
    ends.max().unwrap_or(0)
}
