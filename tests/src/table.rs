//! The tables of docs/attach.md, and what tests say about their rows while they run.
//!
//! A test prints, for each thing by its name, that it works in the running kernel or why it is refused. `cargo xtask kernels`
//! collects the lines of all kernels and compares them with the tables.

use std::collections::BTreeMap;
use std::fmt::Display;

/// The document, from the workspace.
pub const DOCUMENT: &str = "docs/attach.md";
/// Versions that the columns behind the last text column are about, in their order.
pub const VERSIONS: &[&str] = &["6.18", "6.12", "6.1"];
/// What begins a line about a row.
const MARK: &str = "[row] ";
/// What is said of something that works.
const YES: &str = "yes";
/// How a cell begins of a row that does not.
const NO: &str = "no";

/// Rows by the text of their first cell, in the order of the document, and the names under which tests speak of them.
#[rustfmt::skip] // one row a line
pub const ROWS: &[(&str, &[&str])] = &[
    ("tracepoint", &["tracepoint"]),
    ("raw tracepoint", &["raw_tracepoint"]),
    ("raw tracepoint that may write its context", &["raw_tracepoint_w"]),
    ("typed tracepoint", &["tp_btf"]),
    ("function entry and exit", &["fentry", "fexit"]),
    ("function result", &["fmod_ret", "fmod_ret_denies"]),
    ("LSM", &["lsm", "lsm_s", "lsm_denies"]),
    ("LSM of a control group", &["lsm_cgroup"]),
    ("function of a program", &["freplace"]),
    ("kprobe, kretprobe, system call", &["kprobe", "kretprobe", "ksyscall"]),
    ("uprobe, uretprobe", &["uprobe", "uprobe_s", "uretprobe"]),
    ("several kprobes, one link", &["kprobe_multi", "kretprobe_multi"]),
    ("kprobe session", &["kprobe_session"]),
    ("several uprobes, one link", &["uprobe_multi"]),
    ("uprobe session", &["uprobe_session"]),
    ("statically defined probe", &["usdt"]),
    ("watchpoint", &["watchpoint"]),
    ("sampling", &["perf_event", "task_clock"]),
    ("iterator", &["iterator", "iter_task_file", "iter_task_vma", "iter_bpf_map", "iter_bpf_prog", "iter_bpf_link", "iter_tcp",
        "iter_udp", "iter_unix", "iter_netlink", "iter_ksym", "iter_element", "iter_cgroup"]),
    ("XDP", &["xdp", "xdp_frags"]),
    ("XDP of a veth pair, run by the driver and by the stack", &["xdp_native", "xdp_generic", "xdp_parts"]),
    ("XDP redirect to a device, devmap, cpumap", &["xdp_redirect", "xdp_devmap", "xdp_cpumap"]),
    ("AF_XDP socket of a veth pair, by the driver and by the stack", &["xsk_native", "xsk_generic"]),
    ("tcx", &["tcx_ingress", "tcx_egress"]),
    ("netkit", &["netkit"]),
    ("route", &["lwt_xmit"]),
    ("clsact filter", &["clsact"]),
    ("netfilter", &["netfilter"]),
    ("socket filter", &["socket"]),
    ("classic socket filter", &["classic"]),
    ("reuseport group", &["sk_reuseport", "reuseport_classic"]),
    ("socket lookup", &["sk_lookup"]),
    ("flow dissector (attached only)", &["flow_dissector"]),
    ("sockmap and sockhash: messages, streams", &["sk_msg", "sk_skb"]),
    ("control group: packets", &["cgroup_ingress", "cgroup_egress"]),
    ("control group: sockets", &["sock_create", "sock_release", "post_bind4"]),
    ("control group: addresses", &["connect4", "connect4_elsewhere", "bind4", "sendmsg4", "recvmsg4", "getpeername4", "getsockname4"]),
    ("control group: options", &["getsockopt", "setsockopt"]),
    ("control group: sysctl, devices", &["sysctl", "device"]),
    ("control group: unix sockets", &["connect_unix"]),
    ("socket operations", &["sockops"]),
    ("structure of operations", &["struct_ops"]),
    ("the same, by a link", &["struct_ops_link"]),
    ("system call program (run, not attached)", &["syscall"]),
    ("counters of a program's runs (`prog profile`)", &["counters"]),
    ("memory of the kernel and of processes is read", &["probe_read_kernel", "copy_from_user"]),
    ("memory of processes is written", &["probe_write_user"]),
    ("signals are sent", &["send_signal"]),
    ("stacks are taken", &["kernel_stack", "user_stack"]),
    ("routes are looked up", &["fib_lookup"]),
    ("storage of tasks and sockets", &["task_storage", "sk_storage"]),
    ("storage of control groups", &["cgrp_storage"]),
    ("storage of files", &["inode_storage"]),
    ("ring buffer, perf buffer, trace lines", &["ringbuf", "perf_buffer", "trace_printk"]),
    ("samples from user space", &["user_ringbuf"]),
    ("timers", &["timer"]),
    ("arena", &["arena"]),
    ("open-coded iterators, packets as dynptr", &["bpf_for", "dynptr_from_xdp"]),
    ("functions, callbacks, fetching atomics, frames of 480 bytes", &["functions", "callbacks", "fetches", "frames"]),
    ("signed division, sign extension, byte swap, `may_goto`", &["sdiv", "movsx", "ldsx", "bswap", "may_goto"]),
    ("far jump", &["gotol"]),
    ("ordered loads and stores", &["ordered", "arena_order"]),
    ("map types of its age, and no younger ones", &["map_types"]),
    ("batches, freezing", &["batch", "freeze"]),
    ("pins of maps and programs", &["pin_map", "pin_prog"]),
    ("run statistics, code after the verifier and as machine code", &["stats", "xlated", "jited"]),
    ("token", &["token"]),
    ("test runs of packets, contexts and system call programs", &["run_xdp", "run_tc", "run_cgroup_skb", "run_socket_filter",
        "run_flow_dissector", "run_lwt_in", "run_lwt_out", "run_lwt_xmit", "run_raw_tp", "run_syscall", "run_sk_lookup"]),
    ("test runs of netfilter", &["run_netfilter"]),
    ("test runs of function entries", &["run_fentry"]),
    ("test runs of function results", &["run_fmod_ret"]),
    ("no test runs of what has to be attached", &["no_run"]),
];

/// Says that something works in the running kernel.
pub fn works(name: &str) {
    println!("{MARK}{name}: {YES}");
}

/// Says that the running kernel refuses something, and why.
pub fn refused(name: &str, why: &dyn Display) {
    let why = why.to_string();
    println!(
        "{MARK}{name}: no: {}",
        why.lines().next().unwrap_or_default()
    );
}

/// A row: the text of its first cell, and of the last ones.
type Row<'a> = (&'a str, Vec<&'a str>);

/// The rows of the document's tables.
#[must_use]
pub fn rows(document: &str) -> Vec<Row<'_>> {
    let rows = document.lines().filter_map(|line| {
        let cells: Vec<&str> = line
            .strip_prefix('|')?
            .strip_suffix('|')?
            .split('|')
            .map(str::trim)
            .collect();
        let kernels = cells.len().checked_sub(VERSIONS.len())?;
        let is_head = cells[kernels..] == *VERSIONS || cells[0].starts_with('-');
        (!is_head).then(|| (cells[0], cells[kernels..].to_vec()))
    });
    rows.collect()
}

/// What differs between the document and what the tests of a kernel of this version printed.
#[must_use]
pub fn differences(document: &str, version: &str, printed: &str) -> Vec<String> {
    let Some(column) = VERSIONS.iter().position(|v| *v == version) else {
        return vec![format!("the tables have no column for {version}")];
    };
    let mut said: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in printed.lines() {
        let row = line
            .split_once(MARK)
            .and_then(|(_, row)| row.split_once(": "));
        if let Some((name, answer)) = row {
            said.entry(name).or_default().push(answer.trim());
        }
    }
    let mut different = Vec::new();
    for (first, cells) in rows(document) {
        let names = ROWS
            .iter()
            .find(|(row, _)| *row == first)
            .map_or(&[][..], |(_, names)| names);
        let works = !cells[column].starts_with(NO);
        for name in names {
            let Some(answers) = said.get(name) else {
                different.push(format!("{first}: no test said anything of {name}"));
                continue;
            };
            let no = answers.iter().find(|a| **a != YES);
            if no.is_none() != works {
                let (cell, found) = (cells[column], no.unwrap_or(&YES));
                different.push(format!(
                    "{first}: the table says \"{cell}\", {name}: \"{found}\""
                ));
            }
        }
    }
    let known: Vec<&str> = ROWS.iter().flat_map(|(_, names)| *names).copied().collect();
    let strange = said.keys().filter(|name| !known.contains(name));
    different.extend(strange.map(|name| format!("{name} is in no row")));
    different
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "\
| hook | section name | 6.18 | 6.12 | 6.1 |
|---|---|---|---|---|
| tracepoint | `tracepoint/NAME` | yes | yes | no: too old |
| clsact filter | `tc` | yes | yes | yes |
";

    #[test]
    fn cells_are_found() {
        let found = rows(SMALL);
        assert_eq!(found[0], ("tracepoint", vec!["yes", "yes", "no: too old"]));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn differences_are_told() {
        let printed = "test a ... [row] tracepoint: yes\nx\n[row] clsact: yes\n[row] clsact: no: EINVAL\r\n[row] other: yes\n";
        let found = differences(SMALL, "6.1", printed);
        let expected = [
            "tracepoint: the table says \"no: too old\", tracepoint: \"yes\"",
            "clsact filter: the table says \"yes\", clsact: \"no: EINVAL\"",
            "other is in no row",
        ];
        assert_eq!(found, expected);
        let nothing = differences(SMALL, "6.18", "");
        assert_eq!(
            nothing[0],
            "tracepoint: no test said anything of tracepoint"
        );
        assert_eq!(differences(SMALL, "7.0", "").len(), 1);
    }
}
