//! The kernel's enumerations: program, map and attach types. Source: include/uapi/linux/bpf.h of Linux 6.18.

/// Declares one numbered kernel enumeration with names as libbpf prints them.
macro_rules! kernel_enum {
    ($(#[$doc:meta])* $name:ident { $($id:literal $variant:ident $text:literal)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u32)]
        #[expect(missing_docs, reason = "the names are the kernel's")]
        pub enum $name { $($variant = $id),* }

        impl $name {
            /// Every value, in the kernel's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The value with the kernel's number `id`.
            #[must_use]
            pub const fn from_id(id: u32) -> Option<Self> {
                match id { $($id => Some(Self::$variant),)* _ => None }
            }

            /// The kernel's number.
            #[must_use]
            pub const fn id(self) -> u32 { self as u32 }

            /// The name as libbpf and bpftool print it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// The value that [`Self::name`] calls `name`.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.name() == name)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result { f.write_str(self.name()) }
        }
    };
}

kernel_enum! {
    /// Program types (`enum bpf_prog_type`).
    ProgType {
        0 Unspec "unspec"
        1 SocketFilter "socket_filter"
        2 Kprobe "kprobe"
        3 SchedCls "sched_cls"
        4 SchedAct "sched_act"
        5 Tracepoint "tracepoint"
        6 Xdp "xdp"
        7 PerfEvent "perf_event"
        8 CgroupSkb "cgroup_skb"
        9 CgroupSock "cgroup_sock"
        10 LwtIn "lwt_in"
        11 LwtOut "lwt_out"
        12 LwtXmit "lwt_xmit"
        13 SockOps "sock_ops"
        14 SkSkb "sk_skb"
        15 CgroupDevice "cgroup_device"
        16 SkMsg "sk_msg"
        17 RawTracepoint "raw_tracepoint"
        18 CgroupSockAddr "cgroup_sock_addr"
        19 LwtSeg6local "lwt_seg6local"
        20 LircMode2 "lirc_mode2"
        21 SkReuseport "sk_reuseport"
        22 FlowDissector "flow_dissector"
        23 CgroupSysctl "cgroup_sysctl"
        24 RawTracepointWritable "raw_tracepoint_writable"
        25 CgroupSockopt "cgroup_sockopt"
        26 Tracing "tracing"
        27 StructOps "struct_ops"
        28 Ext "ext"
        29 Lsm "lsm"
        30 SkLookup "sk_lookup"
        31 Syscall "syscall"
        32 Netfilter "netfilter"
    }
}

kernel_enum! {
    /// Map types (`enum bpf_map_type`).
    MapType {
        0 Unspec "unspec"
        1 Hash "hash"
        2 Array "array"
        3 ProgArray "prog_array"
        4 PerfEventArray "perf_event_array"
        5 PercpuHash "percpu_hash"
        6 PercpuArray "percpu_array"
        7 StackTrace "stack_trace"
        8 CgroupArray "cgroup_array"
        9 LruHash "lru_hash"
        10 LruPercpuHash "lru_percpu_hash"
        11 LpmTrie "lpm_trie"
        12 ArrayOfMaps "array_of_maps"
        13 HashOfMaps "hash_of_maps"
        14 Devmap "devmap"
        15 Sockmap "sockmap"
        16 Cpumap "cpumap"
        17 Xskmap "xskmap"
        18 Sockhash "sockhash"
        19 CgroupStorage "cgroup_storage"
        20 ReuseportSockarray "reuseport_sockarray"
        21 PercpuCgroupStorage "percpu_cgroup_storage"
        22 Queue "queue"
        23 Stack "stack"
        24 SkStorage "sk_storage"
        25 DevmapHash "devmap_hash"
        26 StructOps "struct_ops"
        27 Ringbuf "ringbuf"
        28 InodeStorage "inode_storage"
        29 TaskStorage "task_storage"
        30 BloomFilter "bloom_filter"
        31 UserRingbuf "user_ringbuf"
        32 CgrpStorage "cgrp_storage"
        33 Arena "arena"
    }
}

kernel_enum! {
    /// Attach types (`enum bpf_attach_type`).
    AttachType {
        0 CgroupInetIngress "cgroup_inet_ingress"
        1 CgroupInetEgress "cgroup_inet_egress"
        2 CgroupInetSockCreate "cgroup_inet_sock_create"
        3 CgroupSockOps "cgroup_sock_ops"
        4 SkSkbStreamParser "sk_skb_stream_parser"
        5 SkSkbStreamVerdict "sk_skb_stream_verdict"
        6 CgroupDevice "cgroup_device"
        7 SkMsgVerdict "sk_msg_verdict"
        8 CgroupInet4Bind "cgroup_inet4_bind"
        9 CgroupInet6Bind "cgroup_inet6_bind"
        10 CgroupInet4Connect "cgroup_inet4_connect"
        11 CgroupInet6Connect "cgroup_inet6_connect"
        12 CgroupInet4PostBind "cgroup_inet4_post_bind"
        13 CgroupInet6PostBind "cgroup_inet6_post_bind"
        14 CgroupUdp4Sendmsg "cgroup_udp4_sendmsg"
        15 CgroupUdp6Sendmsg "cgroup_udp6_sendmsg"
        16 LircMode2 "lirc_mode2"
        17 FlowDissector "flow_dissector"
        18 CgroupSysctl "cgroup_sysctl"
        19 CgroupUdp4Recvmsg "cgroup_udp4_recvmsg"
        20 CgroupUdp6Recvmsg "cgroup_udp6_recvmsg"
        21 CgroupGetsockopt "cgroup_getsockopt"
        22 CgroupSetsockopt "cgroup_setsockopt"
        23 TraceRawTp "trace_raw_tp"
        24 TraceFentry "trace_fentry"
        25 TraceFexit "trace_fexit"
        26 ModifyReturn "modify_return"
        27 LsmMac "lsm_mac"
        28 TraceIter "trace_iter"
        29 CgroupInet4Getpeername "cgroup_inet4_getpeername"
        30 CgroupInet6Getpeername "cgroup_inet6_getpeername"
        31 CgroupInet4Getsockname "cgroup_inet4_getsockname"
        32 CgroupInet6Getsockname "cgroup_inet6_getsockname"
        33 XdpDevmap "xdp_devmap"
        34 CgroupInetSockRelease "cgroup_inet_sock_release"
        35 XdpCpumap "xdp_cpumap"
        36 SkLookup "sk_lookup"
        37 Xdp "xdp"
        38 SkSkbVerdict "sk_skb_verdict"
        39 SkReuseportSelect "sk_reuseport_select"
        40 SkReuseportSelectOrMigrate "sk_reuseport_select_or_migrate"
        41 PerfEvent "perf_event"
        42 TraceKprobeMulti "trace_kprobe_multi"
        43 LsmCgroup "lsm_cgroup"
        44 StructOps "struct_ops"
        45 Netfilter "netfilter"
        46 TcxIngress "tcx_ingress"
        47 TcxEgress "tcx_egress"
        48 TraceUprobeMulti "trace_uprobe_multi"
        49 CgroupUnixConnect "cgroup_unix_connect"
        50 CgroupUnixSendmsg "cgroup_unix_sendmsg"
        51 CgroupUnixRecvmsg "cgroup_unix_recvmsg"
        52 CgroupUnixGetpeername "cgroup_unix_getpeername"
        53 CgroupUnixGetsockname "cgroup_unix_getsockname"
        54 NetkitPrimary "netkit_primary"
        55 NetkitPeer "netkit_peer"
        56 TraceKprobeSession "trace_kprobe_session"
        57 TraceUprobeSession "trace_uprobe_session"
        58 TraceFsession "trace_fsession"
    }
}
