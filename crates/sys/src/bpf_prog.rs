//! Programs of the kernel: load, test run, information, legacy attach.

use crate::attr::{BindMap, Cmd, ProgAttach, ProgLoad, ProgQuery, TestRun};
use crate::bpf::{self, Info, address, address_mut, address_str};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Bytes of the first log buffer.
const LOG_BYTES_FIRST: usize = 1 << 16;
/// Bytes of the largest log buffer.
const LOG_BYTES_MAX: usize = 1 << 24;

/// The memory that a load reads.
#[derive(Clone, Copy, Debug)]
pub struct LoadData<'a> {
    /// Instructions, 8 bytes each, in the host's byte order.
    pub insns: &'a [u8],
    /// License.
    pub license: &'a CStr,
    /// Records of `rec_size` bytes, of functions.
    pub func_info: (&'a [u8], u32),
    /// Records of `rec_size` bytes, of lines.
    pub line_info: (&'a [u8], u32),
    /// Descriptors that instructions index.
    pub fd_array: &'a [i32],
}

/// A load was refused.
#[derive(Debug)]
pub struct LoadError {
    /// What the call returned.
    pub error: io::Error,
    /// What the verifier said, if anything.
    pub log: String,
}

/// Records in a table of `rec_size` bytes each.
fn records((bytes, rec_size): (&[u8], u32)) -> u32 {
    bytes.len().checked_div(rec_size as usize).unwrap_or(0) as u32
}

/// `attr` with addresses and counts from `data`.
fn complete(attr: &ProgLoad, data: &LoadData<'_>) -> ProgLoad {
    let mut attr = *attr;
    attr.insns = address(data.insns);
    attr.insn_cnt = (data.insns.len() / 8) as u32;
    attr.license = address_str(data.license);
    (attr.func_info, attr.func_info_cnt) = (address(data.func_info.0), records(data.func_info));
    attr.func_info_rec_size = if attr.func_info_cnt > 0 {
        data.func_info.1
    } else {
        0
    };
    (attr.line_info, attr.line_info_cnt) = (address(data.line_info.0), records(data.line_info));
    attr.line_info_rec_size = if attr.line_info_cnt > 0 {
        data.line_info.1
    } else {
        0
    };
    attr.fd_array = address(data.fd_array);
    attr
}

/// Loads a program with statistics in its log, and closes it: the log. `attr.log_level` says what else the log holds.
pub fn load_for_statistics(attr: &ProgLoad, data: &LoadData<'_>) -> Result<String, LoadError> {
    let mut attr = complete(attr, data);
    let bytes = if attr.log_level == 0 {
        LOG_BYTES_FIRST
    } else {
        LOG_BYTES_MAX
    };
    let mut buffer = vec![0u8; bytes];
    attr.log_level |= LOG_STATS;
    (attr.log_buf, attr.log_size) = (address_mut(&mut buffer), bytes as u32);
    // SAFETY: every address with its count was just taken from `data`, and the log buffer is writable for its size.
    let result = unsafe { bpf::bpf_fd(Cmd::ProgLoad, &mut attr) };
    let log = bpf::field_text(&buffer);
    match result {
        Ok(_) => Ok(log),
        Err(error) => Err(LoadError { error, log }),
    }
}

/// `BPF_LOG_STATS`
const LOG_STATS: u32 = 4;

/// `BPF_PROG_LOAD`. `attr` has the numbers; addresses and counts come from `data`. A refused load is repeated with a log.
pub fn load(attr: &ProgLoad, data: &LoadData<'_>) -> Result<OwnedFd, LoadError> {
    let mut attr = complete(attr, data);
    let wanted_level = attr.log_level;
    attr.log_level = 0;
    (attr.log_buf, attr.log_size) = (0, 0);
    // The kernel notes in a refused load what record sizes it knows; it is asked again as it was asked before.
    let asked = attr;
    // SAFETY: every address with its count was just taken from `data`, which outlives the call.
    let first = match unsafe { bpf::bpf_fd(Cmd::ProgLoad, &mut attr) } {
        Ok(fd) => return Ok(fd),
        Err(error) => error,
    };
    let mut bytes = LOG_BYTES_FIRST;
    loop {
        let mut buffer = vec![0u8; bytes];
        attr = asked;
        attr.log_level = wanted_level.max(1);
        (attr.log_buf, attr.log_size) = (address_mut(&mut buffer), bytes as u32);
        // SAFETY: as above; the log buffer is writable for its size.
        match unsafe { bpf::bpf_fd(Cmd::ProgLoad, &mut attr) } {
            Ok(fd) => return Ok(fd), // EAGAIN, or something else changed meanwhile
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && bytes < LOG_BYTES_MAX => {
                bytes *= 16;
            }
            Err(_) => {
                return Err(LoadError {
                    error: first,
                    log: bpf::field_text(&buffer),
                });
            }
        }
    }
}

/// What a test run reads and writes.
#[derive(Debug, Default)]
pub struct RunData<'a> {
    /// Packet before.
    pub data_in: &'a [u8],
    /// Packet afterwards; cut to what was written.
    pub data_out: Vec<u8>,
    /// Context before; programs of type syscall write it.
    pub ctx_in: Vec<u8>,
    /// Context afterwards; cut to what was written.
    pub ctx_out: Vec<u8>,
}

/// `BPF_PROG_TEST_RUN`; `attr` has the numbers and afterwards `retval` and `duration`.
pub fn test_run(
    prog: BorrowedFd<'_>,
    attr: &mut TestRun,
    data: &mut RunData<'_>,
) -> io::Result<()> {
    attr.prog_fd = prog.as_raw_fd().cast_unsigned();
    (attr.data_in, attr.data_size_in) = (address(data.data_in), data.data_in.len() as u32);
    (attr.data_out, attr.data_size_out) =
        (address_mut(&mut data.data_out), data.data_out.len() as u32);
    (attr.ctx_in, attr.ctx_size_in) = (address_mut(&mut data.ctx_in), data.ctx_in.len() as u32);
    (attr.ctx_out, attr.ctx_size_out) = (address_mut(&mut data.ctx_out), data.ctx_out.len() as u32);
    // SAFETY: every address with its size was just taken from `data`.
    unsafe { bpf::bpf(Cmd::ProgTestRun, attr)? };
    data.data_out.truncate(attr.data_size_out as usize);
    data.ctx_out.truncate(attr.ctx_size_out as usize);
    Ok(())
}

/// `BPF_PROG_BIND_MAP`
pub fn bind_map(prog: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = BindMap {
        prog_fd: prog.as_raw_fd().cast_unsigned(),
        map_fd: map.as_raw_fd().cast_unsigned(),
        flags: 0,
    };
    // SAFETY: no address.
    unsafe { bpf::bpf(Cmd::ProgBindMap, &mut attr).map(drop) }
}

/// `struct bpf_prog_info`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub struct ProgInfo {
    pub prog_type: u32,
    pub id: u32,
    pub tag: [u8; 8],
    pub jited_prog_len: u32,
    pub xlated_prog_len: u32,
    pub jited_prog_insns: u64,
    pub xlated_prog_insns: u64,
    pub load_time: u64,
    pub created_by_uid: u32,
    pub nr_map_ids: u32,
    pub map_ids: u64,
    pub name: [u8; 16],
    pub ifindex: u32,
    pub gpl_compatible: u32,
    pub netns_dev: u64,
    pub netns_ino: u64,
    pub nr_jited_ksyms: u32,
    pub nr_jited_func_lens: u32,
    pub jited_ksyms: u64,
    pub jited_func_lens: u64,
    pub btf_id: u32,
    pub func_info_rec_size: u32,
    pub func_info: u64,
    pub nr_func_info: u32,
    pub nr_line_info: u32,
    pub line_info: u64,
    pub jited_line_info: u64,
    pub nr_jited_line_info: u32,
    pub line_info_rec_size: u32,
    pub jited_line_info_rec_size: u32,
    pub nr_prog_tags: u32,
    pub prog_tags: u64,
    pub run_time_ns: u64,
    pub run_cnt: u64,
    pub recursion_misses: u64,
    pub verified_insns: u32,
    pub attach_btf_obj_id: u32,
    pub attach_btf_id: u32,
    pub reserved: u32,
}

// SAFETY: numbers only; 4-byte fields come in pairs before 8-byte ones.
unsafe impl Info for ProgInfo {}

/// The numbers of a program; addresses in the result are zero.
pub fn info(prog: BorrowedFd<'_>) -> io::Result<ProgInfo> {
    let mut info = ProgInfo::default();
    // SAFETY: all addresses are zero with a count of zero.
    unsafe { bpf::info(prog, &mut info)? };
    Ok(info)
}

/// The ids of the maps a program uses.
pub fn map_ids(prog: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let count = info(prog)?.nr_map_ids;
    let mut ids = vec![0u32; count as usize];
    let mut info = ProgInfo {
        nr_map_ids: count,
        map_ids: address_mut(&mut ids),
        ..ProgInfo::default()
    };
    // SAFETY: `map_ids` has room for `nr_map_ids` numbers.
    unsafe { bpf::info(prog, &mut info)? };
    ids.truncate(info.nr_map_ids as usize);
    Ok(ids)
}

/// Which code of a program to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// Instructions after the verifier.
    Xlated,
    /// Machine code.
    Jited,
}

/// The code of a loaded program; zeros where the kernel hides it.
pub fn code(prog: BorrowedFd<'_>, which: Code) -> io::Result<Vec<u8>> {
    let numbers = info(prog)?;
    let mut bytes;
    let mut info = ProgInfo::default();
    match which {
        Code::Xlated => {
            bytes = vec![0u8; numbers.xlated_prog_len as usize];
            info.xlated_prog_len = numbers.xlated_prog_len;
            info.xlated_prog_insns = address_mut(&mut bytes);
        }
        Code::Jited => {
            bytes = vec![0u8; numbers.jited_prog_len as usize];
            info.jited_prog_len = numbers.jited_prog_len;
            info.jited_prog_insns = address_mut(&mut bytes);
        }
    }
    // SAFETY: the one address has room for the length beside it.
    unsafe { bpf::info(prog, &mut info)? };
    Ok(bytes)
}

/// `BPF_PROG_ATTACH`, for hooks older than links.
pub fn attach(attr: &ProgAttach) -> io::Result<()> {
    let mut attr = *attr;
    // SAFETY: no address.
    unsafe { bpf::bpf(Cmd::ProgAttach, &mut attr).map(drop) }
}

/// `BPF_PROG_DETACH`
pub fn detach(attr: &ProgAttach) -> io::Result<()> {
    let mut attr = *attr;
    // SAFETY: no address.
    unsafe { bpf::bpf(Cmd::ProgDetach, &mut attr).map(drop) }
}

/// Programs that one hook can have at most.
const QUERY_MAX: usize = 64;

/// `BPF_PROG_QUERY`: ids of the programs at a hook, and the attach flags.
pub fn query(target: u32, attach_type: u32, query_flags: u32) -> io::Result<(Vec<u32>, u32)> {
    let mut ids = vec![0u32; QUERY_MAX];
    let mut attr = ProgQuery {
        target_fd: target,
        attach_type,
        query_flags,
        prog_ids: address_mut(&mut ids),
        prog_cnt: QUERY_MAX as u32,
        ..ProgQuery::default()
    };
    // SAFETY: `prog_ids` has room for `prog_cnt` numbers.
    unsafe { bpf::bpf(Cmd::ProgQuery, &mut attr)? };
    ids.truncate(attr.prog_cnt as usize);
    Ok((ids, attr.attach_flags))
}

/// BTF id of a program's entry function, from its first record of functions; `None` if it was loaded without.
pub fn entry_function(prog: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let numbers = info(prog)?;
    let size = numbers.func_info_rec_size as usize;
    if numbers.nr_func_info == 0 || size < 8 {
        return Ok(None);
    }
    let mut record = vec![0u8; size];
    let mut info = ProgInfo {
        nr_func_info: 1,
        func_info_rec_size: numbers.func_info_rec_size,
        func_info: address_mut(&mut record),
        ..ProgInfo::default()
    };
    // SAFETY: `func_info` has room for one record of the size beside it.
    unsafe { bpf::info(prog, &mut info)? };
    let id = record.get(4..8).and_then(|b| b.try_into().ok());
    Ok(id.map(u32::from_ne_bytes))
}
