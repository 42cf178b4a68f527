//! Special fields inside a value type: what `struct btf_record` is in the kernel.

/// The special fields of a map value or allocated object, ordered by offset.
///
/// ```
/// use skep_btf::{Btf, Builder, Order, Record};
///
/// let mut builder = Builder::new(Order::HOST);
/// let int = builder.add_int("int", 4, 1);
/// let lock = builder.add_struct("bpf_spin_lock", 4, &[("val", int, 0)]);
/// let value = builder.add_struct("value", 8, &[("lock", lock, 0), ("count", int, 32)]);
/// let btf = Btf::parse(builder.finish())?;
/// let record = Record::of(&btf, value)?;
/// assert_eq!(record.fields.len(), 1); // the lock
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// Fields, ordered by offset, none overlapping.
    pub fields: Vec<Field>,
}

impl Record {
    /// Do values own objects: pointers to them, lists, trees?
    #[must_use]
    pub fn owns_objects(&self) -> bool {
        self.fields.iter().any(|f| {
            matches!(
                f.kind,
                FieldKind::Kptr { .. } | FieldKind::ListHead { .. } | FieldKind::RbRoot { .. }
            )
        })
    }
}

/// One special field.
///
/// ```
/// use skep_btf::{Btf, Builder, Field, Order, Record};
///
/// # let mut builder = Builder::new(Order::HOST);
/// # let int = builder.add_int("int", 4, 1);
/// # let lock = builder.add_struct("bpf_spin_lock", 4, &[("val", int, 0)]);
/// # let value = builder.add_struct("value", 8, &[("lock", lock, 0), ("count", int, 32)]);
/// # let btf = Btf::parse(builder.finish())?;
/// let Field { offset, size, .. } = Record::of(&btf, value)?.fields[0];
/// assert_eq!((offset, size), (0, 4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// What it is.
    pub kind: FieldKind,
    /// Byte offset in the value.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
}

/// Kinds of special field.
///
/// ```
/// use skep_btf::{Btf, Builder, FieldKind, Order, Record};
///
/// # let mut builder = Builder::new(Order::HOST);
/// # let int = builder.add_int("int", 4, 1);
/// # let lock = builder.add_struct("bpf_spin_lock", 4, &[("val", int, 0)]);
/// # let value = builder.add_struct("value", 8, &[("lock", lock, 0), ("count", int, 32)]);
/// # let btf = Btf::parse(builder.finish())?;
/// assert_eq!(Record::of(&btf, value)?.fields[0].kind, FieldKind::SpinLock);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FieldKind {
    /// `struct bpf_spin_lock`
    SpinLock,
    /// `struct bpf_res_spin_lock`
    ResSpinLock,
    /// `struct bpf_timer`
    Timer,
    /// `struct bpf_wq`
    Workqueue,
    /// `struct bpf_task_work`
    TaskWork,
    /// A pointer tagged `__kptr` and its relatives.
    Kptr {
        /// Which tag it has.
        tag: KptrTag,
        /// Name of the struct it points to; the target BTF is searched for it, then the program's.
        target: String,
        /// BTF id of that struct in the program's own BTF.
        local_type: u32,
    },
    /// `struct bpf_list_head __contains(T, node)`
    ListHead {
        /// BTF id of `T` in the program's BTF.
        value_type: u32,
        /// Offset of `node` in `T`.
        node_offset: u32,
    },
    /// `struct bpf_list_node`
    ListNode,
    /// `struct bpf_rb_root __contains(T, node)`
    RbRoot {
        /// BTF id of `T` in the program's BTF.
        value_type: u32,
        /// Offset of `node` in `T`.
        node_offset: u32,
    },
    /// `struct bpf_rb_node`
    RbNode,
    /// `struct bpf_refcount`
    Refcount,
}

/// Tags of stored pointers.
///
/// ```
/// use skep_btf::{FieldKind, KptrTag, Record};
///
/// fn owns_objects(record: &Record) -> bool {
///     let owned = |k: &FieldKind| matches!(k, FieldKind::Kptr { tag: KptrTag::Ref, .. });
///     record.fields.iter().any(|f| owned(&f.kind))
/// }
/// assert!(!owns_objects(&Record::default()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KptrTag {
    /// `__kptr_untrusted`
    Untrusted,
    /// `__kptr`
    Ref,
    /// `__percpu_kptr`
    Percpu,
    /// `__uptr`
    User,
}
