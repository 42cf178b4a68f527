//! `.eh_frame` and `.eh_frame_hdr` of compiled functions, for unwinders. Source: Linux Standard Base 5.0, core, chapter 10.6.

use crate::jit::image::FuncCode;

/// Call frame instructions (DWARF 5, section 6.4.2).
const DW_CFA_DEF_CFA: u8 = 0x0c;
const DW_CFA_DEF_CFA_OFFSET: u8 = 0x0e;
const DW_CFA_ADVANCE_LOC4: u8 = 0x04;
const DW_CFA_OFFSET: u8 = 0x80;
const DW_CFA_NOP: u8 = 0;
/// Encodings of pointers.
const PCREL_SDATA4: u8 = 0x1b;
const UDATA4: u8 = 0x03;
const DATAREL_SDATA4: u8 = 0x3b;
/// DWARF numbers (System V ABI, AMD64 supplement, figure 3.36).
const RSP: u8 = 7;
const RETURN_ADDRESS: u8 = 16;
/// Saved registers are at multiples of this below the frame's address.
const DATA_ALIGN: u32 = 8;

/// The tables of one function. The code is taken to precede `table`, rounded up to 8 bytes, as perf lays it out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tables {
    /// `.eh_frame`
    pub table: Vec<u8>,
    /// `.eh_frame_hdr`, which follows it.
    pub header: Vec<u8>,
}

/// The tables of `f` alone.
#[must_use]
pub fn of(f: &FuncCode) -> Tables {
    let code_bytes = (f.end - f.start).next_multiple_of(8).cast_signed();
    let table = table(std::slice::from_ref(f), code_bytes + f.start.cast_signed());
    let header = header(table.len(), entry(0, &common()).len(), code_bytes);
    Tables { table, header }
}

/// `.eh_frame` of all `funcs`, to be placed `distance` bytes behind the start of the code that they are part of.
#[must_use]
pub fn table(funcs: &[FuncCode], distance: i32) -> Vec<u8> {
    let mut table = entry(0, &common());
    for f in funcs {
        let fde_at = table.len();
        let mut fde = Vec::new();
        let field_at = i32::try_from(fde_at + 8).unwrap_or(0);
        fde.extend_from_slice(&(f.start.cast_signed() - distance - field_at).to_le_bytes());
        fde.extend_from_slice(&(f.end - f.start).to_le_bytes());
        fde.push(0);
        rules(f, &mut fde);
        table.extend(entry(u32::try_from(fde_at + 4).unwrap_or(0), &fde));
    }
    table.extend_from_slice(&0u32.to_le_bytes());
    table.resize(table.len().next_multiple_of(8), 0);
    table
}

/// What all functions share: the frame's address is `rsp + 8` at the entry, the return address 8 below it.
fn common() -> Vec<u8> {
    let mut c = vec![1];
    c.extend_from_slice(b"zR\0");
    c.push(1);
    // -8 as SLEB128.
    c.push(0x78);
    c.extend_from_slice(&[RETURN_ADDRESS, 1, PCREL_SDATA4]);
    c.extend_from_slice(&[DW_CFA_DEF_CFA, RSP, 8, DW_CFA_OFFSET | RETURN_ADDRESS, 1]);
    c
}

/// The steps of the prologue.
fn rules(f: &FuncCode, out: &mut Vec<u8>) {
    let mut at = f.start;
    for step in &f.unwind {
        out.push(DW_CFA_ADVANCE_LOC4);
        out.extend_from_slice(&(step.code - at).to_le_bytes());
        at = step.code;
        out.push(DW_CFA_DEF_CFA_OFFSET);
        uleb(step.frame_bytes, out);
        if let Some(register) = step.saved {
            out.push(DW_CFA_OFFSET | register);
            uleb(step.frame_bytes / DATA_ALIGN, out);
        }
    }
}

fn uleb(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// An entry with its length, padded to 8 bytes.
fn entry(id: u32, body: &[u8]) -> Vec<u8> {
    let bytes = (body.len() + 8).next_multiple_of(8);
    let mut e = Vec::new();
    e.extend_from_slice(&u32::try_from(bytes - 4).unwrap_or(0).to_le_bytes());
    e.extend_from_slice(&id.to_le_bytes());
    e.extend_from_slice(body);
    e.resize(bytes, DW_CFA_NOP);
    e
}

/// The search table: one function. It follows the table.
fn header(table_bytes: usize, fde_at: usize, code_bytes: i32) -> Vec<u8> {
    let table_bytes = i32::try_from(table_bytes).unwrap_or(0);
    let fde_at = i32::try_from(fde_at).unwrap_or(0);
    let mut h = vec![1, PCREL_SDATA4, UDATA4, DATAREL_SDATA4];
    h.extend_from_slice(&(-table_bytes - 4).to_le_bytes());
    h.extend_from_slice(&1u32.to_le_bytes());
    h.extend_from_slice(&(-table_bytes - code_bytes).to_le_bytes());
    h.extend_from_slice(&(fde_at - table_bytes).to_le_bytes());
    h.resize(h.len().next_multiple_of(8), 0);
    h
}
