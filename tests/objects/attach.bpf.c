// SPDX-License-Identifier: MIT OR Apache-2.0
// One program a hook; each counts in its own place of `hits`.
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

enum place {
	TRACEPOINT, RAW_TRACEPOINT, TP_BTF, FENTRY, LSM, UPROBE, URETPROBE, UPROBE_MULTI, KPROBE, PERF_EVENT, ITERATOR,
	XDP, TCX_INGRESS, TCX_EGRESS, CLSACT, NETFILTER, SOCKET, SK_LOOKUP, FLOW_DISSECTOR, SK_MSG, SK_SKB,
	UPROBE_SESSION, KPROBE_MULTI, KPROBE_SESSION, FMOD_RET, WATCHPOINT, XDP_FRAGS, LWT_XMIT, SK_REUSEPORT, SYSCALL,
	NETKIT, USDT,
	FEXIT, KRETPROBE, KSYSCALL, KRETPROBE_MULTI, UPROBE_S, LSM_S, RAW_TRACEPOINT_W,
	ITER_TASK_FILE, ITER_TASK_VMA, ITER_BPF_MAP, ITER_BPF_PROG, ITER_BPF_LINK, ITER_TCP, ITER_UDP, ITER_UNIX,
	ITER_NETLINK, ITER_KSYM, ITER_ELEMENT, ITER_CGROUP,
	LSM_CGROUP,
	CGROUP_INGRESS, CGROUP_EGRESS, SOCK_CREATE, SOCK_RELEASE, CONNECT4, BIND4, POST_BIND4, SENDMSG4, RECVMSG4,
	GETPEERNAME4, GETSOCKNAME4, GETSOCKOPT, SETSOCKOPT, SYSCTL, DEVICE, SOCKOPS,
	CONNECT_UNIX, PLACES,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, __u64);
} hits SEC(".maps");

static __always_inline void hit(__u32 place)
{
	__u64 *count = bpf_map_lookup_elem(&hits, &place);

	if (count)
		__sync_fetch_and_add(count, 1);
}

#define HOOK(section, name, place, result)	\
	SEC(section) int on_##name(void *ctx)	\
	{					\
		hit(place);			\
		return result;			\
	}

HOOK("tracepoint/syscalls/sys_enter_getppid", tracepoint, TRACEPOINT, 0)
HOOK("raw_tp/sys_enter", raw_tracepoint, RAW_TRACEPOINT, 0)
HOOK("tp_btf/sys_enter", tp_btf, TP_BTF, 0)
HOOK("fentry/vfs_read", fentry, FENTRY, 0)
HOOK("lsm/file_open", lsm, LSM, 0)
HOOK("uprobe/libc.so.6:getppid", uprobe, UPROBE, 0)
HOOK("uretprobe/libc.so.6:getppid", uretprobe, URETPROBE, 0)
HOOK("uprobe.multi/libc.so.6:getppid", uprobe_multi, UPROBE_MULTI, 0)
HOOK("kprobe/vfs_read", kprobe, KPROBE, 0)
HOOK("perf_event", perf_event, PERF_EVENT, 0)
HOOK("iter/task", iterator, ITERATOR, 0)
HOOK("xdp", xdp, XDP, XDP_PASS)
HOOK("tcx/ingress", tcx_ingress, TCX_INGRESS, -1)
HOOK("tcx/egress", tcx_egress, TCX_EGRESS, -1)
HOOK("tc", clsact, CLSACT, TC_ACT_OK)
HOOK("netfilter", netfilter, NETFILTER, 1)
HOOK("socket", socket, SOCKET, -1)
HOOK("sk_lookup", sk_lookup, SK_LOOKUP, SK_PASS)
HOOK("flow_dissector", flow_dissector, FLOW_DISSECTOR, BPF_OK)
HOOK("sk_msg", sk_msg, SK_MSG, SK_PASS)
HOOK("sk_skb/stream_verdict", sk_skb, SK_SKB, SK_PASS)
HOOK("uprobe.session/libc.so.6:getppid", uprobe_session, UPROBE_SESSION, 0)
HOOK("kprobe.multi/vfs_read", kprobe_multi, KPROBE_MULTI, 0)
HOOK("kprobe.session/vfs_read", kprobe_session, KPROBE_SESSION, 0)
HOOK("fmod_ret/security_file_open", fmod_ret, FMOD_RET, 0)
HOOK("perf_event", watchpoint, WATCHPOINT, 0)
HOOK("xdp.frags", xdp_frags, XDP_FRAGS, XDP_PASS)
HOOK("lwt_xmit", lwt_xmit, LWT_XMIT, BPF_OK)
HOOK("sk_reuseport", sk_reuseport, SK_REUSEPORT, SK_PASS)
HOOK("syscall", syscall, SYSCALL, 0)
HOOK("netkit/primary", netkit, NETKIT, -1)
HOOK("usdt/skep_usdt:skep:step", usdt, USDT, 0)
HOOK("fexit/vfs_read", fexit, FEXIT, 0)
HOOK("kretprobe/vfs_read", kretprobe, KRETPROBE, 0)
HOOK("ksyscall/getppid", ksyscall, KSYSCALL, 0)
HOOK("kretprobe.multi/vfs_read", kretprobe_multi, KRETPROBE_MULTI, 0)
HOOK("uprobe.s/libc.so.6:getppid", uprobe_s, UPROBE_S, 0)
HOOK("lsm.s/file_open", lsm_s, LSM_S, 0)
HOOK("raw_tp.w/bpf_test_finish", raw_tracepoint_w, RAW_TRACEPOINT_W, 0)
HOOK("iter/task_file", iter_task_file, ITER_TASK_FILE, 0)
HOOK("iter/task_vma", iter_task_vma, ITER_TASK_VMA, 0)
HOOK("iter/bpf_map", iter_bpf_map, ITER_BPF_MAP, 0)
HOOK("iter/bpf_prog", iter_bpf_prog, ITER_BPF_PROG, 0)
HOOK("iter/bpf_link", iter_bpf_link, ITER_BPF_LINK, 0)
HOOK("iter/tcp", iter_tcp, ITER_TCP, 0)
HOOK("iter/udp", iter_udp, ITER_UDP, 0)
HOOK("iter/unix", iter_unix, ITER_UNIX, 0)
HOOK("iter/netlink", iter_netlink, ITER_NETLINK, 0)
HOOK("iter/ksym", iter_ksym, ITER_KSYM, 0)
HOOK("iter/bpf_map_elem", iter_element, ITER_ELEMENT, 0)
HOOK("iter/cgroup", iter_cgroup, ITER_CGROUP, 0)
HOOK("lsm_cgroup/socket_bind", lsm_cgroup, LSM_CGROUP, 1)
HOOK("cgroup_skb/ingress", cgroup_ingress, CGROUP_INGRESS, 1)
HOOK("cgroup_skb/egress", cgroup_egress, CGROUP_EGRESS, 1)
HOOK("cgroup/sock_create", sock_create, SOCK_CREATE, 1)
HOOK("cgroup/sock_release", sock_release, SOCK_RELEASE, 1)
HOOK("cgroup/connect4", connect4, CONNECT4, 1)
HOOK("cgroup/bind4", bind4, BIND4, 1)
HOOK("cgroup/post_bind4", post_bind4, POST_BIND4, 1)
HOOK("cgroup/sendmsg4", sendmsg4, SENDMSG4, 1)
HOOK("cgroup/recvmsg4", recvmsg4, RECVMSG4, 1)
HOOK("cgroup/getpeername4", getpeername4, GETPEERNAME4, 1)
HOOK("cgroup/getsockname4", getsockname4, GETSOCKNAME4, 1)
HOOK("cgroup/getsockopt", getsockopt, GETSOCKOPT, 1)
HOOK("cgroup/setsockopt", setsockopt, SETSOCKOPT, 1)
HOOK("cgroup/sysctl", sysctl, SYSCTL, 1)
HOOK("cgroup/dev", device, DEVICE, 1)
HOOK("sockops", sockops, SOCKOPS, 1)
HOOK("cgroup/connect_unix", connect_unix, CONNECT_UNIX, 1)

char LICENSE[] SEC("license") = "Dual MIT/GPL";
