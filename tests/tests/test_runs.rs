//! Which types of programs the kernel runs on request, and which it runs only where they are attached.

use crate::attach::needs;
use skep::Kernel;
use skep::target::running_btf;
use skep::test_run::{Input, run};
use skep_abi::prog_flags::BPF_F_SLEEPABLE;
use skep_abi::{AttachType, ProgType};
use skep_bpf::{Backend, Errno, ProgLoad};
use skep_btf::Kind;
use skep_isa::asm::{NoFacts, assemble_insns};
use skep_tests::table::{refused, works};

/// Bytes of `struct bpf_sk_lookup` that a caller may set, and the family in it.
const SK_LOOKUP_BYTES: usize = 72;
const FAMILY_AT: usize = 8;
const AF_INET: u8 = 2;

/// What a run needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Packet,
    Lookup,
    Nothing,
}

/// A type that can be run: its row, what it returns, and what it is run on.
#[rustfmt::skip] // one type a line
const RUN: &[(&str, ProgType, Option<AttachType>, u32, Needs)] = &[
    ("run_xdp", ProgType::Xdp, None, 2, Needs::Packet),
    ("run_tc", ProgType::SchedCls, None, 2, Needs::Packet),
    ("run_cgroup_skb", ProgType::CgroupSkb, Some(AttachType::CgroupInetEgress), 1, Needs::Packet),
    ("run_socket_filter", ProgType::SocketFilter, None, 7, Needs::Packet),
    ("run_flow_dissector", ProgType::FlowDissector, None, 0, Needs::Packet),
    ("run_lwt_in", ProgType::LwtIn, None, 2, Needs::Packet),
    ("run_lwt_out", ProgType::LwtOut, None, 2, Needs::Packet),
    ("run_lwt_xmit", ProgType::LwtXmit, None, 2, Needs::Packet),
    ("run_raw_tp", ProgType::RawTracepoint, None, 7, Needs::Nothing),
    ("run_syscall", ProgType::Syscall, None, 7, Needs::Nothing),
    ("run_sk_lookup", ProgType::SkLookup, Some(AttachType::SkLookup), 1, Needs::Lookup),
    ("run_netfilter", ProgType::Netfilter, Some(AttachType::Netfilter), 1, Needs::Packet),
];

/// Types that the kernel does not run on request, and what they must return to be loaded.
#[rustfmt::skip] // one type a line
const NOT_RUN: &[(ProgType, Option<AttachType>, u32)] = &[
    (ProgType::SockOps, None, 1),
    (ProgType::CgroupSockAddr, Some(AttachType::CgroupInet4Connect), 1),
    (ProgType::SkMsg, None, 1),
    (ProgType::SkSkb, None, 1),
    (ProgType::Tracepoint, None, 0),
    (ProgType::Kprobe, None, 0),
    (ProgType::PerfEvent, None, 0),
    (ProgType::SkReuseport, Some(AttachType::SkReuseportSelect), 1),
    (ProgType::CgroupDevice, None, 1),
    (ProgType::CgroupSysctl, None, 1),
    (ProgType::CgroupSockopt, Some(AttachType::CgroupGetsockopt), 1),
];

fn returns(prog_type: ProgType, attach_type: Option<AttachType>, value: u32) -> ProgLoad {
    let text = format!("r0 = {value}\nexit");
    ProgLoad {
        expected_attach_type: attach_type,
        prog_flags: if prog_type == ProgType::Syscall {
            BPF_F_SLEEPABLE
        } else {
            0
        },
        ..ProgLoad::plain(prog_type, assemble_insns(&text, &NoFacts).unwrap())
    }
}

fn input(needs: Needs) -> Input {
    let mut lookup = vec![0; SK_LOOKUP_BYTES];
    lookup[FAMILY_AT] = AF_INET;
    // An Ethernet header of IPv4 and the beginning of an IPv4 header.
    let mut packet = vec![0; 64];
    packet[12..15].copy_from_slice(&[8, 0, 0x45]);
    Input {
        data: (needs == Needs::Packet).then_some(packet),
        ctx: (needs == Needs::Lookup).then_some(lookup),
    }
}

#[test]
fn programs_run_on_request() {
    if !needs() {
        return;
    }
    let kernel = Kernel::new();
    for (row, prog_type, attach_type, value, needs) in RUN {
        let handle = match kernel.prog_load(&returns(*prog_type, *attach_type, *value)) {
            Ok(handle) => handle,
            Err(error) => {
                refused(row, &error);
                continue;
            }
        };
        match run(&kernel, handle, *prog_type, &input(*needs), 1) {
            Ok(result) => {
                assert_eq!(result.retval, *value, "{row}");
                works(row);
            }
            Err(error) => refused(row, &error),
        }
        kernel.close(handle);
    }
}

#[test]
fn programs_on_functions_run_on_request() {
    if !needs() {
        return;
    }
    let (kernel, btf) = (Kernel::new(), running_btf().unwrap());
    for (row, attach_type, function) in [
        ("run_fentry", AttachType::TraceFentry, "bpf_fentry_test1"),
        (
            "run_fmod_ret",
            AttachType::ModifyReturn,
            "bpf_modify_return_test",
        ),
    ] {
        let Some(target) = btf.find(function, Kind::Func) else {
            refused(row, &format!("the kernel has no {function}"));
            continue;
        };
        let spec = ProgLoad {
            attach_btf_id: target.id(),
            ..returns(ProgType::Tracing, Some(attach_type), 0)
        };
        let ran = kernel.prog_load(&spec).and_then(|handle| {
            let ran = run(&kernel, handle, ProgType::Tracing, &Input::default(), 1);
            kernel.close(handle);
            ran
        });
        match ran {
            Ok(_) => works(row),
            Err(error) => refused(row, &error),
        }
    }
}

#[test]
fn other_programs_do_not() {
    if !needs() {
        return;
    }
    let kernel = Kernel::new();
    for (prog_type, attach_type, value) in NOT_RUN {
        let handle = kernel
            .prog_load(&returns(*prog_type, *attach_type, *value))
            .unwrap();
        let error = run(&kernel, handle, *prog_type, &input(Needs::Packet), 1).unwrap_err();
        assert_eq!(error.errno, Errno::ENOTSUPP, "{prog_type}: {error}");
        kernel.close(handle);
    }
    works("no_run");
}
