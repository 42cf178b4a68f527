//! Linked lists and trees of allocated objects: roots in map values or objects, nodes in objects, all under a lock.

use crate::btf_walk::holds;
use crate::cause::Cause;
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::kfunc::KfuncCall;
use crate::memory::field_name;
use crate::reg::{Flags, Kind, Reg};
use crate::state::{Frame, FrameKind};
use crate::verifier::Verifier;
use skep_btf::{Field, FieldKind};
use std::rc::Rc;

/// A list or tree: the type of its objects, and where the node lies in them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Graph {
    /// BTF of the type.
    pub from: u32,
    /// BTF id of the type.
    pub value_type: u32,
    /// Byte offset of the node.
    pub node_offset: u32,
}

/// Lists or trees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum GraphKind {
    /// `bpf_list_head`, `bpf_list_node`
    List,
    /// `bpf_rb_root`, `bpf_rb_node`
    Tree,
}

fn refused<T>(cause: impl Into<Cause>) -> Check<T> {
    fail(code::GRAPH, errno::EINVAL, cause)
}

impl GraphKind {
    const fn is_root(self, kind: &FieldKind) -> bool {
        match self {
            Self::List => matches!(kind, FieldKind::ListHead { .. }),
            Self::Tree => matches!(kind, FieldKind::RbRoot { .. }),
        }
    }

    const fn is_node(self, kind: &FieldKind) -> bool {
        match self {
            Self::List => matches!(kind, FieldKind::ListNode),
            Self::Tree => matches!(kind, FieldKind::RbNode),
        }
    }

    const fn root_name(self) -> &'static str {
        match self {
            Self::List => "bpf_list_head",
            Self::Tree => "bpf_rb_root",
        }
    }
}

impl Graph {
    /// A pointer to the node of one of its objects.
    pub(crate) fn node(self) -> Reg {
        Reg {
            flags: Flags::ALLOC,
            off: self.node_offset.cast_signed(),
            aux: self.value_type,
            aux2: self.from,
            ..Reg::pointer(Kind::Btf)
        }
    }
}

impl Verifier<'_> {
    fn field_at(&mut self, reg: &Reg, wanted: impl Fn(&FieldKind) -> bool) -> Option<Field> {
        let at = reg.fixed_offset()?;
        let record = self.record_behind(reg);
        record
            .fields
            .iter()
            .find(|f| i64::from(f.offset) == at && wanted(&f.kind))
            .cloned()
    }

    /// Argument `i` is the root of a list or tree.
    pub(crate) fn graph_root(
        &mut self,
        call: &mut KfuncCall<'_>,
        kind: GraphKind,
        i: usize,
    ) -> Check {
        let reg = *self.reg(i);
        let of_map = reg.kind == Kind::MapValue && reg.flags == Flags::NONE;
        let of_object = reg.kind == Kind::Btf && reg.flags == Flags::ALLOC;
        if !of_map && !of_object {
            return refused(Cause::about(
                i,
                format!(
                    "r{i} is {}; a {} lies in a map value or allocated object",
                    reg.describe(),
                    kind.root_name()
                ),
            ));
        }
        if of_object && reg.ref_id == 0 {
            return refused(Cause::about(
                i,
                format!("the object behind r{i} is not the program's own"),
            ));
        }
        let Some(field) = self.field_at(&reg, |k| kind.is_root(k)) else {
            return refused(Cause::about(
                i,
                format!("r{i} does not point to a {}", kind.root_name()),
            ));
        };
        self.check_locked(i, &reg)?;
        let (FieldKind::ListHead {
            value_type,
            node_offset,
        }
        | FieldKind::RbRoot {
            value_type,
            node_offset,
        }) = field.kind
        else {
            return Ok(());
        };
        let from = if of_map {
            self.map_source(reg.aux)
        } else {
            reg.aux2
        };
        call.graph = Some(Graph {
            from,
            value_type,
            node_offset,
        });
        Ok(())
    }

    /// Argument `i` is a node that is inserted, removed or walked from.
    pub(crate) fn graph_node(
        &mut self,
        call: &mut KfuncCall<'_>,
        kind: GraphKind,
        i: usize,
    ) -> Check {
        let reg = *self.reg(i);
        if inserts(call.rules.name) {
            if reg.kind != Kind::Btf || reg.flags != Flags::ALLOC {
                return refused(Cause::about(
                    i,
                    format!("r{i} is {}, no allocated object", reg.describe()),
                ));
            }
            if reg.ref_id == 0 {
                return refused(Cause::about(
                    i,
                    format!("the object behind r{i} is not the program's own"),
                ));
            }
        } else {
            let borrowed = reg.kind == Kind::Btf && reg.flags.has(Flags::NON_OWN_REF);
            if !borrowed && reg.ref_id == 0 {
                return refused(Cause::about(i, format!("r{i} is no node of a tree")));
            }
            if self.in_tree_callback() {
                return refused(format!(
                    "{} is not allowed while a tree compares nodes",
                    call.rules.name
                ));
            }
        }
        let Some(field) = self.field_at(&reg, |k| kind.is_node(k)) else {
            return refused(Cause::about(
                i,
                format!("r{i} does not point to a node of this kind"),
            ));
        };
        let Some(graph) = call.graph else {
            return refused("the call has no list or tree");
        };
        let same = reg.aux2 == graph.from
            && holds(self.pointee(&reg)?, 0, graph.value_type, true)
            && field.offset == graph.node_offset;
        if !same {
            return refused(Cause::about(
                i,
                format!(
                    "the {} at byte {} of the object behind r{i} is not what this list or tree links",
                    field_name(&field.kind),
                    field.offset
                ),
            ));
        }
        call.node_offset = Some(field.offset);
        call.object = Some((reg.aux2, reg.aux));
        Ok(())
    }

    /// The object in `r2` now belongs to a list or tree: pointers to it are only borrowed.
    pub(crate) fn give_to_graph(&mut self) -> Check {
        let id = self.reg(2).ref_id;
        let record = {
            let reg = *self.reg(2);
            self.record_behind(&reg)
        };
        let counted = record.fields.iter().any(|f| f.kind == FieldKind::Refcount);
        self.cur.for_each_reg(|r| {
            if r.ref_id == id {
                r.ref_id = 0;
                borrow(r, counted);
            }
        });
        self.release(id)
    }

    /// A node that a list or tree still owns.
    pub(crate) fn borrowed_node(&mut self, graph: Graph) -> Reg {
        let record = self.record_of(graph.from, graph.value_type);
        let counted = record.fields.iter().any(|f| f.kind == FieldKind::Refcount);
        let mut r = graph.node();
        borrow(&mut r, counted);
        r
    }

    /// `bpf_rbtree_add` compares nodes: its function is walked as if called from here.
    pub(crate) fn enter_tree_callback(&mut self, call: &KfuncCall<'_>) -> Check {
        let (Some(callee), Some(graph)) = (call.callback, call.graph) else {
            return refused("the call has no function that compares nodes");
        };
        let Some(start) = self.p.funcs.get(callee as usize).map(|f| f.start) else {
            return refused("the callback is no function of this program");
        };
        self.p.funcs[callee as usize].is_callback = true;
        let kind = FrameKind::Callback { ret: (0, 1) };
        let mut frame: Frame = self.new_frame(callee as usize, kind)?;
        frame.is_tree_callback = true;
        frame.regs[1] = self.borrowed_node(graph);
        frame.regs[2] = self.borrowed_node(graph);
        self.push_path(start, |state| {
            state.callback_unroll_depth += 1;
            state.frame_mut().callback_depth += 1;
            state.frames.push(Rc::new(frame));
        })?;
        self.cur.frame_mut().callback_depth = 0;
        Ok(())
    }
}

/// A pointer becomes a borrowed one; objects with a reference count may be freed by others, after an RCU grace period.
fn borrow(r: &mut Reg, counted: bool) {
    r.flags = r.flags.with(Flags::NON_OWN_REF);
    if counted {
        r.flags = r.flags.with(Flags::RCU);
    }
}

/// Kfuncs that give an object to a list or tree.
pub(crate) fn inserts(name: &str) -> bool {
    matches!(
        name,
        "bpf_list_push_front_impl" | "bpf_list_push_back_impl" | "bpf_rbtree_add_impl"
    )
}
