//! What the kernel promises of typed pointers that programs find: fields whose pointers stay good, arguments that may be NULL.
//!
//! Source: the `…__safe_…` types in the BTF of Linux 6.18 (kernel/bpf/verifier.c), its table of tracepoint arguments
//! (`raw_tp_null_args`, kernel/bpf/btf.c) as the running kernel holds it, and loads of one program for each argument of each
//! iterator (`bpf_iter_reg`).

/// How far a pointer in a field can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// Good inside an RCU read section, never NULL (`BTF_TYPE_SAFE_RCU`).
    Rcu,
    /// Good inside an RCU read section, or NULL (`BTF_TYPE_SAFE_RCU_OR_NULL`).
    RcuOrNull,
    /// Good while the structure is trusted, never NULL (`BTF_TYPE_SAFE_TRUSTED`).
    Trusted,
    /// Good while the structure is trusted, or NULL (`BTF_TYPE_SAFE_TRUSTED_OR_NULL`).
    TrustedOrNull,
}

/// Structures, their fields with good pointers, and how good; besides fields tagged `rcu`. Ordered by structure.
#[rustfmt::skip] // one structure per line
pub const SAFE_FIELDS: &[(&str, &[&str], Trust)] = &[
    ("bpf_iter__task", &["meta", "task"], Trust::Trusted),
    ("bpf_iter_meta", &["seq"], Trust::Trusted),
    ("cgroup", &["kn"], Trust::Rcu),
    ("cgroup_subsys_state", &["cgroup"], Trust::Rcu),
    ("css_set", &["dfl_cgrp"], Trust::Rcu),
    ("dentry", &["d_inode"], Trust::TrustedOrNull),
    ("file", &["f_inode"], Trust::Trusted),
    ("linux_binprm", &["file"], Trust::Trusted),
    ("mm_struct", &["exe_file"], Trust::RcuOrNull),
    ("request_sock", &["sk"], Trust::RcuOrNull),
    ("sk_buff", &["sk"], Trust::RcuOrNull),
    ("socket", &["sk"], Trust::TrustedOrNull),
    ("task_struct", &["cpus_ptr", "cgroups", "real_parent", "group_leader"], Trust::Rcu),
];

/// How good the pointer in `field` of `structure` is, if the kernel promises anything.
#[must_use]
pub fn field(structure: &str, field: &str) -> Option<Trust> {
    let (_, _, trust) = SAFE_FIELDS
        .iter()
        .find(|(name, fields, _)| *name == structure && fields.contains(&field))?;
    Some(*trust)
}

/// Structures whose kptrs are protected by RCU (`rcu_protected_types`).
pub const RCU_PROTECTED: &[&str] = &[
    "bpf_cpumask",
    "bpf_crypto_ctx",
    "cgroup",
    "prog_test_ref_kfunc",
    "task_struct",
];

/// Is `structure` one of the kernel's whose objects programs make themselves, as their own (`bpf_cpumask_create`)? Of the other
/// ones programs have only what the kernel made.
#[must_use]
pub fn is_made_by_programs(structure: &str) -> bool {
    structure == "bpf_cpumask"
}

/// What an argument of a tracepoint may be instead of a good pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MayBe {
    /// NULL.
    Null,
    /// An error number: programs see a scalar.
    Error,
}

/// Tracepoints whose arguments (counted from 0) are not always good pointers; ordered by name.
#[rustfmt::skip] // one tracepoint per line
pub const TRACEPOINT_ARGS: &[(&str, &[(u8, MayBe)])] = &[
    ("afs_flock_ev", &[(1, MayBe::Null)]),
    ("afs_make_fs_call", &[(1, MayBe::Null)]),
    ("afs_make_fs_call1", &[(1, MayBe::Null)]),
    ("afs_make_fs_call2", &[(1, MayBe::Null)]),
    ("afs_make_fs_calli", &[(1, MayBe::Null)]),
    ("afs_protocol_error", &[(0, MayBe::Null)]),
    ("amdgpu_vm_bo_map", &[(0, MayBe::Null)]),
    ("amdgpu_vm_bo_unmap", &[(0, MayBe::Null)]),
    ("amdtp_packet", &[(2, MayBe::Null)]),
    ("binder_transaction", &[(2, MayBe::Null)]),
    ("break_lease_block", &[(1, MayBe::Null)]),
    ("break_lease_noblock", &[(1, MayBe::Null)]),
    ("break_lease_unblock", &[(1, MayBe::Null)]),
    ("btree_path_free", &[(2, MayBe::Null)]),
    ("cachefiles_io_error", &[(0, MayBe::Null)]),
    ("cachefiles_lookup", &[(0, MayBe::Null), (2, MayBe::Error)]),
    ("cachefiles_mark_active", &[(0, MayBe::Null)]),
    ("cachefiles_mark_failed", &[(0, MayBe::Null)]),
    ("cachefiles_mark_inactive", &[(0, MayBe::Null)]),
    ("cachefiles_ondemand_close", &[(0, MayBe::Null)]),
    ("cachefiles_ondemand_copen", &[(0, MayBe::Null)]),
    ("cachefiles_ondemand_cread", &[(0, MayBe::Null)]),
    ("cachefiles_ondemand_fd_release", &[(0, MayBe::Null)]),
    ("cachefiles_ondemand_fd_write", &[(0, MayBe::Null)]),
    ("cachefiles_ondemand_open", &[(0, MayBe::Null)]),
    ("cachefiles_ondemand_read", &[(0, MayBe::Null)]),
    ("cachefiles_prep_read", &[(0, MayBe::Null)]),
    ("cachefiles_rename", &[(0, MayBe::Null)]),
    ("cachefiles_unlink", &[(0, MayBe::Null)]),
    ("cachefiles_vfs_error", &[(0, MayBe::Null)]),
    ("cfg80211_inform_bss_frame", &[(2, MayBe::Null)]),
    ("cfg80211_michael_mic_failure", &[(4, MayBe::Null)]),
    ("cfg80211_report_wowlan_wakeup", &[(2, MayBe::Null)]),
    ("cfg80211_scan_done", &[(0, MayBe::Null), (1, MayBe::Null)]),
    ("coda_dec_pic_done", &[(1, MayBe::Null)]),
    ("coda_dec_pic_run", &[(1, MayBe::Null)]),
    ("device_pm_callback_start", &[(1, MayBe::Null)]),
    ("dpu_crtc_setup_mixer", &[(2, MayBe::Null)]),
    ("ext4_mballoc_discard", &[(1, MayBe::Null)]),
    ("ext4_mballoc_free", &[(1, MayBe::Null)]),
    ("fcntl_setlk", &[(1, MayBe::Null)]),
    ("fib_table_lookup", &[(2, MayBe::Null)]),
    ("flock_lock_inode", &[(1, MayBe::Null)]),
    ("folio_wait_writeback", &[(1, MayBe::Null)]),
    ("generic_delete_lease", &[(1, MayBe::Null)]),
    ("hfi1_sdma_progress", &[(3, MayBe::Null)]),
    ("host1x_cdma_push_gather", &[(4, MayBe::Null)]),
    ("hugetlbfs_alloc_inode", &[(1, MayBe::Null)]),
    ("iptfs_ingress_postq_event", &[(3, MayBe::Null)]),
    ("kfree_skb", &[(3, MayBe::Null)]),
    ("kvm_page_fault_enter", &[(2, MayBe::Null)]),
    ("locks_remove_posix", &[(1, MayBe::Null)]),
    ("mm_collapse_huge_page_isolate", &[(0, MayBe::Null)]),
    ("mm_khugepaged_collapse_file", &[(1, MayBe::Null)]),
    ("mm_khugepaged_scan_file", &[(1, MayBe::Null)]),
    ("mm_khugepaged_scan_pmd", &[(1, MayBe::Null)]),
    ("mm_page_alloc", &[(0, MayBe::Null)]),
    ("mm_page_alloc_zone_locked", &[(0, MayBe::Null)]),
    ("mm_page_pcpu_drain", &[(0, MayBe::Null)]),
    ("mr_integ_alloc", &[(3, MayBe::Error)]),
    ("neigh_update", &[(1, MayBe::Null)]),
    ("netfs_failure", &[(1, MayBe::Null)]),
    ("netfs_folioq", &[(0, MayBe::Null)]),
    ("nfs4_inode_callback_event", &[(2, MayBe::Error)]),
    ("nfs4_inode_stateid_callback_event", &[(2, MayBe::Error)]),
    ("nfs4_setup_sequence", &[(0, MayBe::Null)]),
    ("nfsd_dirent", &[(0, MayBe::Null)]),
    ("nfsd_file_acquire", &[(0, MayBe::Null), (3, MayBe::Null)]),
    ("nfsd_file_cons_err", &[(0, MayBe::Null)]),
    ("nfsd_file_insert_err", &[(0, MayBe::Null)]),
    ("pnfs_mds_fallback_pg_get_mirror_count", &[(4, MayBe::Null)]),
    ("pnfs_mds_fallback_pg_init_read", &[(4, MayBe::Null)]),
    ("pnfs_mds_fallback_pg_init_write", &[(4, MayBe::Null)]),
    ("pnfs_mds_fallback_read_done", &[(4, MayBe::Null)]),
    ("pnfs_mds_fallback_read_pagelist", &[(4, MayBe::Null)]),
    ("pnfs_mds_fallback_write_done", &[(4, MayBe::Null)]),
    ("pnfs_mds_fallback_write_pagelist", &[(4, MayBe::Null)]),
    ("pnfs_update_layout", &[(4, MayBe::Null)]),
    ("posix_lock_inode", &[(1, MayBe::Null)]),
    ("qdisc_dequeue", &[(3, MayBe::Null)]),
    ("rdev_set_coalesce", &[(1, MayBe::Null)]),
    ("rxrpc_client", &[(0, MayBe::Null)]),
    ("rxrpc_recvdata", &[(0, MayBe::Null)]),
    ("rxrpc_resend", &[(1, MayBe::Null)]),
    ("rxrpc_tq", &[(1, MayBe::Null)]),
    ("sched_pi_setprio", &[(1, MayBe::Null)]),
    ("sched_stick_numa", &[(2, MayBe::Null)]),
    ("sched_swap_numa", &[(2, MayBe::Null)]),
    ("spufs_context", &[(1, MayBe::Null)]),
    ("tcp_send_reset", &[(0, MayBe::Null), (1, MayBe::Null)]),
    ("tcp_sendmsg_locked", &[(2, MayBe::Null)]),
    ("tegra_dma_tx_status", &[(2, MayBe::Null)]),
    ("time_out_leases", &[(1, MayBe::Null)]),
    ("tmigr_update_events", &[(0, MayBe::Null)]),
    ("wiphy_work_cancel", &[(1, MayBe::Null)]),
    ("wiphy_work_flush", &[(1, MayBe::Null)]),
    ("wiphy_work_queue", &[(1, MayBe::Null)]),
    ("wiphy_work_run", &[(1, MayBe::Null)]),
    ("writeback_dirty_folio", &[(1, MayBe::Null)]),
    ("xchk_metapath_lookup", &[(2, MayBe::Null)]),
    ("xchk_nlinks_live_update", &[(1, MayBe::Null)]),
    ("xfs_blockgc_flush_all", &[(0, MayBe::Null)]),
    ("xfs_blockgc_free_space", &[(1, MayBe::Null)]),
    ("xfs_blockgc_start", &[(0, MayBe::Null)]),
    ("xfs_blockgc_stop", &[(0, MayBe::Null)]),
    ("xfs_blockgc_worker", &[(0, MayBe::Null)]),
    ("xfs_btree_overlapped_query_range", &[(2, MayBe::Null)]),
    ("xfs_btree_updkeys", &[(2, MayBe::Null)]),
    ("xfs_defer_add_item", &[(0, MayBe::Null)]),
    ("xfs_defer_cancel_item", &[(0, MayBe::Null)]),
    ("xfs_defer_cancel_list", &[(0, MayBe::Null)]),
    ("xfs_defer_create_intent", &[(0, MayBe::Null)]),
    ("xfs_defer_finish_item", &[(0, MayBe::Null)]),
    ("xfs_defer_isolate_paused", &[(0, MayBe::Null)]),
    ("xfs_defer_item_pause", &[(0, MayBe::Null)]),
    ("xfs_defer_item_unpause", &[(0, MayBe::Null)]),
    ("xfs_defer_pending_abort", &[(0, MayBe::Null)]),
    ("xfs_defer_pending_finish", &[(0, MayBe::Null)]),
    ("xfs_defer_relog_intent", &[(0, MayBe::Null)]),
    ("xfs_fs_sync_fs", &[(0, MayBe::Null)]),
    ("xfs_inodegc_flush", &[(0, MayBe::Null)]),
    ("xfs_inodegc_push", &[(0, MayBe::Null)]),
    ("xfs_inodegc_queue", &[(0, MayBe::Null)]),
    ("xfs_inodegc_start", &[(0, MayBe::Null)]),
    ("xfs_inodegc_stop", &[(0, MayBe::Null)]),
    ("xfs_inodegc_throttle", &[(0, MayBe::Null)]),
    ("xfs_ioc_free_eofblocks", &[(1, MayBe::Null)]),
    ("xfs_iomap_alloc", &[(3, MayBe::Null)]),
    ("xfs_iomap_found", &[(3, MayBe::Null)]),
    ("xfs_map_blocks_alloc", &[(4, MayBe::Null)]),
    ("xfs_map_blocks_found", &[(4, MayBe::Null)]),
    ("xprt_get_cong", &[(1, MayBe::Null)]),
    ("xprt_put_cong", &[(1, MayBe::Null)]),
    ("xprt_release_cong", &[(1, MayBe::Null)]),
    ("xprt_reserve_cong", &[(1, MayBe::Null)]),
    ("xs_stream_read_data", &[(0, MayBe::Null)]),
];

/// What argument `arg` (from 0) of `tracepoint` may be instead of a good pointer; `None` if it is always good.
#[must_use]
pub fn tracepoint_arg(tracepoint: &str, arg: u8) -> Option<MayBe> {
    let at = TRACEPOINT_ARGS
        .binary_search_by(|(name, _)| (*name).cmp(tracepoint))
        .ok()?;
    let (_, args) = TRACEPOINT_ARGS.get(at)?;
    args.iter()
        .find(|(index, _)| *index == arg)
        .map(|(_, may_be)| *may_be)
}

/// What an argument of an iterator is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IterArg {
    /// A trusted pointer to its type, never NULL (the default).
    Trusted,
    /// A trusted pointer to its type, or NULL.
    TrustedOrNull,
    /// An untrusted pointer to its type, or NULL.
    PtrOrNull,
    /// The key of an element, read-only, or NULL.
    RdonlyBufOrNull,
    /// The value of an element, or NULL.
    BufOrNull,
}

/// Arguments (counted from 0) of iterators that are not [`IterArg::Trusted`] pointers; ordered by name.
#[rustfmt::skip] // one iterator per line
pub const ITER_ARGS: &[(&str, &[(u8, IterArg)])] = &[
    ("bpf_link", &[(1, IterArg::PtrOrNull)]),
    ("bpf_map", &[(1, IterArg::TrustedOrNull)]),
    ("bpf_map_elem", &[(2, IterArg::RdonlyBufOrNull), (3, IterArg::BufOrNull)]),
    ("bpf_prog", &[(1, IterArg::PtrOrNull)]),
    ("bpf_sk_storage_map", &[(2, IterArg::PtrOrNull), (3, IterArg::BufOrNull)]),
    ("cgroup", &[(1, IterArg::TrustedOrNull)]),
    ("dmabuf", &[(1, IterArg::PtrOrNull)]),
    ("ipv6_route", &[(1, IterArg::PtrOrNull)]),
    ("kmem_cache", &[(1, IterArg::TrustedOrNull)]),
    ("ksym", &[(1, IterArg::PtrOrNull)]),
    ("netlink", &[(1, IterArg::PtrOrNull)]),
    ("sockmap", &[(2, IterArg::RdonlyBufOrNull), (3, IterArg::PtrOrNull)]),
    ("task", &[(1, IterArg::TrustedOrNull)]),
    ("task_file", &[(1, IterArg::PtrOrNull), (3, IterArg::PtrOrNull)]),
    ("task_vma", &[(1, IterArg::PtrOrNull), (2, IterArg::PtrOrNull)]),
    ("tcp", &[(1, IterArg::TrustedOrNull)]),
    ("udp", &[(1, IterArg::TrustedOrNull)]),
    ("unix", &[(1, IterArg::PtrOrNull)]),
];

/// What pointer argument `arg` (from 0) of iterator `target` (`task`, without `bpf_iter_`) is.
#[must_use]
pub fn iter_arg(target: &str, arg: u8) -> IterArg {
    let Some((_, args)) = ITER_ARGS.iter().find(|(name, _)| *name == target) else {
        return IterArg::Trusted;
    };
    args.iter()
        .find(|(index, _)| *index == arg)
        .map_or(IterArg::Trusted, |(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_ordered() {
        assert!(SAFE_FIELDS.is_sorted_by_key(|row| row.0));
        assert!(TRACEPOINT_ARGS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(ITER_ARGS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn known_cells() {
        assert_eq!(field("task_struct", "real_parent"), Some(Trust::Rcu));
        assert_eq!(field("task_struct", "mm"), None);
        assert_eq!(tracepoint_arg("kfree_skb", 3), Some(MayBe::Null));
        assert_eq!(tracepoint_arg("kfree_skb", 0), None);
        assert_eq!(tracepoint_arg("sys_enter", 0), None);
        assert_eq!(iter_arg("task", 0), IterArg::Trusted);
        assert_eq!(iter_arg("task_vma", 2), IterArg::PtrOrNull);
    }
}
