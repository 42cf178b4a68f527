//! `union bpf_attr`, one structure a command. Source: include/uapi/linux/bpf.h of Linux 6.18.
//!
//! Fields have the kernel's names and types; pointers are addresses. Every structure is plain numbers without padding that
//! the compiler could leave unset, so its bytes are always initialised.
#![expect(missing_docs, reason = "the names are the kernel's")]

/// A structure of `union bpf_attr`.
///
/// # Safety
/// `repr(C)`, no padding, every bit pattern valid.
pub unsafe trait Attr: Default {}

/// Declares structures of the union.
macro_rules! attrs {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $ty:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default)]
            #[repr(C)]
            pub struct $name { $(pub $field: $ty),* }

            // SAFETY: numbers only; the test below shows that the fields fill the structure.
            unsafe impl Attr for $name {}
        )*

        #[cfg(test)]
        mod tests {
            use super::LinkExtra;

            #[test]
            fn structures_have_no_padding() {
                $(
                    let fields = 0 $(+ size_of::<$ty>())*;
                    assert_eq!(fields, size_of::<super::$name>(), stringify!($name));
                )*
            }
        }
    };
}

attrs! {
    /// `BPF_MAP_CREATE`
    MapCreate {
        map_type: u32, key_size: u32, value_size: u32, max_entries: u32, map_flags: u32, inner_map_fd: u32,
        numa_node: u32, map_name: [u8; 16], map_ifindex: u32, btf_fd: u32, btf_key_type_id: u32,
        btf_value_type_id: u32, btf_vmlinux_value_type_id: u32, map_extra: u64, value_type_btf_obj_fd: i32,
        map_token_fd: i32,
    }
    /// `BPF_MAP_*_ELEM`, `BPF_MAP_GET_NEXT_KEY`, `BPF_MAP_FREEZE`
    MapElem { map_fd: u32, reserved: u32, key: u64, value: u64, flags: u64 }
    /// `BPF_MAP_*_BATCH`
    MapBatch {
        in_batch: u64, out_batch: u64, keys: u64, values: u64, count: u32, map_fd: u32, elem_flags: u64, flags: u64,
    }
    /// `BPF_PROG_LOAD`
    ProgLoad {
        prog_type: u32, insn_cnt: u32, insns: u64, license: u64, log_level: u32, log_size: u32, log_buf: u64,
        kern_version: u32, prog_flags: u32, prog_name: [u8; 16], prog_ifindex: u32, expected_attach_type: u32,
        prog_btf_fd: u32, func_info_rec_size: u32, func_info: u64, func_info_cnt: u32, line_info_rec_size: u32,
        line_info: u64, line_info_cnt: u32, attach_btf_id: u32, attach_prog_fd: u32, core_relo_cnt: u32,
        fd_array: u64, core_relos: u64, core_relo_rec_size: u32, log_true_size: u32, prog_token_fd: i32,
        fd_array_cnt: u32,
    }
    /// `BPF_OBJ_PIN`, `BPF_OBJ_GET`
    Obj { pathname: u64, bpf_fd: u32, file_flags: u32, path_fd: i32, reserved: u32 }
    /// `BPF_PROG_ATTACH`, `BPF_PROG_DETACH`
    ProgAttach {
        target_fd: u32, attach_bpf_fd: u32, attach_type: u32, attach_flags: u32, replace_bpf_fd: u32,
        relative_fd: u32, expected_revision: u64,
    }
    /// `BPF_PROG_QUERY`
    ProgQuery {
        target_fd: u32, attach_type: u32, query_flags: u32, attach_flags: u32, prog_ids: u64, prog_cnt: u32,
        reserved: u32, prog_attach_flags: u64, link_ids: u64, link_attach_flags: u64, revision: u64,
    }
    /// `BPF_PROG_TEST_RUN`
    TestRun {
        prog_fd: u32, retval: u32, data_size_in: u32, data_size_out: u32, data_in: u64, data_out: u64, repeat: u32,
        duration: u32, ctx_size_in: u32, ctx_size_out: u32, ctx_in: u64, ctx_out: u64, flags: u32, cpu: u32,
        batch_size: u32, reserved: u32,
    }
    /// `BPF_*_GET_NEXT_ID`, `BPF_*_GET_FD_BY_ID`
    Id { id: u32, next_id: u32, open_flags: u32 }
    /// `BPF_OBJ_GET_INFO_BY_FD`
    Info { bpf_fd: u32, info_len: u32, info: u64 }
    /// `BPF_RAW_TRACEPOINT_OPEN`
    RawTracepoint { name: u64, prog_fd: u32, reserved: u32, cookie: u64 }
    /// `BPF_BTF_LOAD`
    BtfLoad {
        btf: u64, btf_log_buf: u64, btf_size: u32, btf_log_size: u32, btf_log_level: u32, btf_log_true_size: u32,
        btf_flags: u32, btf_token_fd: i32,
    }
    /// `BPF_LINK_CREATE` up to its union.
    LinkCreate { prog_fd: u32, target_fd: u32, attach_type: u32, flags: u32, extra: LinkExtra }
    /// `BPF_LINK_UPDATE`
    LinkUpdate { link_fd: u32, new_prog_fd: u32, flags: u32, old_prog_fd: u32 }
    /// `BPF_LINK_DETACH`, `BPF_ENABLE_STATS`: one number.
    One { value: u32 }
    /// `BPF_ITER_CREATE`, `BPF_TOKEN_CREATE`: two numbers.
    Two { first: u32, second: u32 }
    /// `BPF_PROG_BIND_MAP`
    BindMap { prog_fd: u32, map_fd: u32, flags: u32 }
    /// `BPF_TASK_FD_QUERY`
    TaskFdQuery {
        pid: u32, fd: u32, flags: u32, buf_len: u32, buf: u64, prog_id: u32, fd_type: u32, probe_offset: u64,
        probe_addr: u64,
    }
}

/// `BPF_F_TOKEN_FD`: the command has a token.
pub const BPF_F_TOKEN_FD: u32 = 1 << 16;

/// The union in `BPF_LINK_CREATE`: 64-bit words, filled by the functions below.
pub type LinkExtra = [u64; 6];

/// Two 32-bit fields of one word, the lower address first.
#[must_use]
pub const fn word(first: u32, second: u32) -> u64 {
    let (a, b) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]])
}

/// `enum bpf_cmd`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Cmd {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapGetNextKey = 4,
    ProgLoad = 5,
    ObjPin = 6,
    ObjGet = 7,
    ProgAttach = 8,
    ProgDetach = 9,
    ProgTestRun = 10,
    ProgGetNextId = 11,
    MapGetNextId = 12,
    ProgGetFdById = 13,
    MapGetFdById = 14,
    ObjGetInfoByFd = 15,
    ProgQuery = 16,
    RawTracepointOpen = 17,
    BtfLoad = 18,
    BtfGetFdById = 19,
    TaskFdQuery = 20,
    MapLookupAndDelete = 21,
    MapFreeze = 22,
    BtfGetNextId = 23,
    MapLookupBatch = 24,
    MapLookupAndDeleteBatch = 25,
    MapUpdateBatch = 26,
    MapDeleteBatch = 27,
    LinkCreate = 28,
    LinkUpdate = 29,
    LinkGetFdById = 30,
    LinkGetNextId = 31,
    EnableStats = 32,
    IterCreate = 33,
    LinkDetach = 34,
    ProgBindMap = 35,
    TokenCreate = 36,
}
