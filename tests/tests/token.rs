//! BPF tokens: a process without any privilege outside of its user namespace loads what the namespace's owner lets it.
//!
//! The test starts itself in a new user namespace, takes the filesystem that the child has begun there, delegates commands to
//! it, and gives it back.

use crate::attach::needs;
use skep::Kernel;
use skep_abi::{MapType, ProgType};
use skep_bpf::{Backend, Errno, MapCreate, ProgLoad};
use skep_isa::Slot;
use skep_sys::mount::Context;
use skep_sys::process::take_descriptor;
use skep_tests::table::{refused, works};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};

/// Says to the child that it is one.
const CHILD: &str = "SKEP_TEST_TOKEN_CHILD";
/// What is delegated.
const DELEGATED: &[(&std::ffi::CStr, &std::ffi::CStr)] = &[
    (c"delegate_cmds", c"any"),
    (c"delegate_maps", c"any"),
    (c"delegate_progs", c"any"),
    (c"delegate_attachs", c"any"),
];

/// A map and an XDP program, which neither `CAP_BPF` in a user namespace nor anything else but a token allows there.
fn load(kernel: &Kernel) -> skep_bpf::Result<()> {
    kernel.map_create(&MapCreate::new(MapType::Hash, 4, 4, 1))?;
    let code = vec![Slot::new(0xb7, 0, 0, 0, 2), Slot::new(0x95, 0, 0, 0, 0)];
    kernel.prog_load(&ProgLoad::plain(ProgType::Xdp, code))?;
    Ok(())
}

/// The child's part; in an ordinary run there is nothing to do.
#[test]
fn in_a_user_namespace() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let refused = load(&Kernel::new()).unwrap_err();
    assert_eq!(refused.errno, Errno::EPERM);
    assert!(refused.to_string().contains("token"), "{refused}");
    let context = Context::open(c"bpf").unwrap();
    println!("descriptor {}", context.as_fd().as_raw_fd());
    std::io::stdout().flush().unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let mount = context.mount().unwrap();
    let root = File::open(format!("/proc/self/fd/{}", mount.as_raw_fd())).unwrap();
    load(&Kernel::with_token_of(root.as_fd()).unwrap()).unwrap();
    println!("loaded");
}

#[test]
fn a_token_lets_a_user_namespace_load() {
    if !needs() {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["-U", "-r", "-m", "-n"]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "token::in_a_user_namespace"]);
    command.env(CHILD, "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        refused("token", &"unshare cannot be run");
        return;
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let number = lines.find_map(|line| {
        let line = line.ok()?;
        line.split_once("descriptor ")?.1.parse().ok()
    });
    let Some(number) = number else {
        // A test that fails exits with 101.
        assert_ne!(child.wait().unwrap().code(), Some(101));
        refused("token", &"no user namespace, or no filesystem of its own");
        return;
    };
    let context = Context::from(take_descriptor(child.id(), number).unwrap());
    let delegated = DELEGATED.iter().try_for_each(|(k, v)| context.set(k, v));
    if let Err(error) = delegated {
        // Before Linux 6.9.
        assert_eq!(error.raw_os_error(), Some(Errno::EINVAL.0), "{error}");
        refused("token", &"nothing can be delegated");
        child.kill().unwrap();
        child.wait().unwrap();
        return;
    }
    if let Err(error) = context.create() {
        // Older kernels take any option, and let no user namespace have the filesystem.
        assert_eq!(error.raw_os_error(), Some(Errno::EPERM.0), "{error}");
        refused("token", &error);
        child.kill().unwrap();
        child.wait().unwrap();
        return;
    }
    child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
    assert!(rest.iter().any(|l| l.contains("loaded")), "{rest:?}");
    works("token");
}
