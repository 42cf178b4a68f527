//! Owners of local storage: descriptors that both backends understand, and some that they refuse.

use skep::cgroup::Group;
use skep_abi::MapType;
use skep_bpf::{Backend, Handle, MapCreate};
use skep_btf::{Builder, Order};
use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::OnceLock;

/// Owners of each kind.
const OWNERS: usize = 3;
/// `BTF_INT_SIGNED` is absent: an unsigned number.
const UNSIGNED: u32 = 0;

/// Descriptors by kind; open as long as the process lives.
#[derive(Debug, Default)]
struct Owners {
    tasks: Vec<RawFd>,
    sockets: Vec<RawFd>,
    files: Vec<RawFd>,
    /// Control groups that were removed.
    groups: Vec<RawFd>,
}

/// A control group of our own, as long as it lives.
#[derive(Debug)]
pub(super) struct Open {
    folder: File,
    /// Closed before the group goes.
    _group: Group,
}

impl Open {
    fn create() -> Option<Self> {
        let group = Group::create().ok()?;
        let folder = File::open(group.path()).ok()?;
        Some(Self {
            folder,
            _group: group,
        })
    }
}

fn owners() -> &'static Owners {
    static ALL: OnceLock<Owners> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = Owners::default();
        for _ in 0..OWNERS {
            all.tasks.extend(parked_thread());
            all.sockets
                .extend(UdpSocket::bind("127.0.0.1:0").map(IntoRawFd::into_raw_fd));
            let file = skep_sys::mem::anonymous_file(c"owner", 1);
            all.files.extend(file.map(IntoRawFd::into_raw_fd));
            let group = Open::create().and_then(|group| group.folder.try_clone().ok());
            all.groups.extend(group.map(IntoRawFd::into_raw_fd));
        }
        all
    })
}

/// A thread that does nothing as long as the process lives.
fn parked_thread() -> Option<RawFd> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _nobody_left = tell.send(skep_sys::task::thread_id());
        loop {
            std::thread::park();
        }
    });
    let thread = skep_sys::owner::open_thread(told.recv().ok()?);
    thread.ok().map(IntoRawFd::into_raw_fd)
}

/// Descriptors that keys of this type can be: owners, some that are none, and one that was; and the groups among them.
pub(super) fn keys(map_type: MapType) -> Option<(Vec<RawFd>, Vec<Open>)> {
    let all = owners();
    let mut groups = Vec::new();
    let (own, other) = match map_type {
        MapType::TaskStorage => (&all.tasks, all.files.first()),
        MapType::SkStorage => (&all.sockets, all.files.first()),
        MapType::InodeStorage => (&all.files, None),
        MapType::CgrpStorage => {
            groups.extend((0..OWNERS).filter_map(|_| Open::create()));
            (&all.groups, all.files.first())
        }
        _ => return None,
    };
    let mut keys = own.clone();
    keys.extend([-1, RawFd::MAX]);
    keys.extend(other);
    keys.extend(groups.iter().map(|group| group.folder.as_raw_fd()));
    Some((keys, groups))
}

/// Descriptors that elements of arrays of groups can be: the first group, those of other hierarchies, removed ones, a file.
pub(super) fn elements() -> &'static [RawFd] {
    static ALL: OnceLock<Vec<RawFd>> = OnceLock::new();
    ALL.get_or_init(|| {
        let root = skep::cgroup::mount_point().and_then(File::open);
        let other = File::open("/sys/fs/cgroup/cpu");
        let mut all = vec![-1, RawFd::MAX];
        all.extend(root.into_iter().chain(other).map(IntoRawFd::into_raw_fd));
        all.extend(owners().groups.iter().chain(&owners().files));
        all
    })
}

/// A socket's descriptor.
pub(super) fn socket() -> RawFd {
    owners().sockets.first().map_or(-1, AsRawFd::as_raw_fd)
}

/// Loads BTF for the keys and values of `spec`, which it notes there.
pub(super) fn add_btf(backend: &dyn Backend, spec: &mut MapCreate) -> Result<Handle, String> {
    let mut builder = Builder::new(Order::HOST);
    let int = builder.add_int("int", 4, UNSIGNED);
    let byte = builder.add_int("char", 1, UNSIGNED);
    let bytes = builder.add_array(byte, int, spec.value_size);
    let value = builder.add_struct("value", spec.value_size, &[("bytes", bytes, 0)]);
    let btf = backend
        .btf_load(&builder.finish())
        .map_err(|e| e.to_string())?;
    spec.btf = Some(btf);
    spec.btf_key_type_id = int;
    spec.btf_value_type_id = value;
    Ok(btf)
}
