//! `--states`: what both verifiers know of every number at every step, from the kernel's log at level 2.
//!
//! The kernel prints the registers that an instruction changed behind it, and all of them where a waiting path starts. Both
//! walks must go through the same instructions in the same order.

use skep_verifier::{Known, Trace};

/// `r0`–`r9`: the log leaves `r10` out.
const NAMED: u16 = 0x3ff;

/// A register as the log has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Printed {
    /// Exactly this number; its ranges are not printed.
    Constant(u64),
    Range(Known),
    Other,
}

/// The first difference between the walks, in words.
pub(super) fn difference(log: &str, trace: &Trace) -> Option<String> {
    let mut ours = trace.steps();
    let mut fresh: Vec<(usize, Printed)> = Vec::new();
    let mut step = 0;
    if log.contains("reserved fields") {
        // What a malformed instruction reads means nothing.
        return None;
    }
    for line in log.lines() {
        if let Some((insn, theirs)) = live_registers(line) {
            let ours = trace.live_regs(insn);
            if ours.is_some_and(|o| o & NAMED != theirs) {
                return Some(format!(
                    "live registers at {insn}: kernel {theirs:#b}, ours {ours:x?}"
                ));
            }
            continue;
        }
        let Some((place, rest)) = split_place(line) else {
            if let Some(state) = line.strip_prefix("from ") {
                fresh = registers(state);
            }
            continue;
        };
        if !rest.starts_with('(') {
            fresh.extend(registers(rest));
            continue;
        }
        step += 1;
        let Some((insn, known)) = ours.next() else {
            return Some(format!("step {step}: the kernel goes on at {place}"));
        };
        if insn != place {
            return Some(format!(
                "step {step}: the kernel is at {place}, ours at {insn}"
            ));
        }
        for (register, theirs) in fresh.drain(..) {
            if let Some(text) = mismatch(theirs, known[register].as_ref()) {
                return Some(format!(
                    "step {step}, before insn {place}: r{register}: {text}"
                ));
            }
        }
        if let Some((_, after)) = rest.split_once(" ; ") {
            fresh = registers(after);
        }
    }
    None
}

/// `      17: 0.2....... (bf) …` of the table in front: the instruction and its live registers.
fn live_registers(line: &str) -> Option<(usize, u16)> {
    let (place, rest) = line.strip_prefix("  ")?.split_once(": ")?;
    let regs = rest.get(..10)?;
    let mut live = 0;
    for (i, c) in regs.bytes().enumerate() {
        match c {
            b'.' => {}
            c if usize::from(c) == usize::from(b'0') + i => live |= 1 << i,
            _ => return None,
        }
    }
    Some((place.trim().parse().ok()?, live))
}

/// `17: rest` as the place and the rest.
fn split_place(line: &str) -> Option<(u32, &str)> {
    let (place, rest) = line.split_once(": ")?;
    Some((place.parse().ok()?, rest))
}

fn mismatch(theirs: Printed, ours: Option<&Known>) -> Option<String> {
    let fits = match (theirs, ours) {
        (Printed::Other, None) => true,
        (Printed::Constant(value), Some(k)) => k.mask == 0 && k.value == value,
        (Printed::Range(theirs), Some(k)) => theirs == *k,
        _ => false,
    };
    (!fits).then(|| format!("kernel {theirs:x?}\n    ours {ours:x?}"))
}

/// Registers `R0=…` to `R9=…` of a state.
fn registers(text: &str) -> Vec<(usize, Printed)> {
    let mut found = Vec::new();
    for token in tokens(text) {
        let Some((name, value)) = token.strip_prefix('R').and_then(|t| t.split_once('=')) else {
            continue;
        };
        let register: Option<usize> = name.parse().ok();
        if let Some(register) = register.filter(|r| *r < 10) {
            found.push((register, printed(value)));
        }
    }
    found
}

/// Words; spaces within brackets do not separate.
fn tokens(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut depth) = (Vec::new(), 0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ' ' if depth == 0 => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse::<i128>().ok().map(|n| n as u64),
    }
}

fn printed(value: &str) -> Printed {
    let value = value.strip_prefix('P').unwrap_or(value);
    if let Some(constant) = number(value) {
        return Printed::Constant(constant);
    }
    let inner = value
        .strip_prefix("scalar(")
        .and_then(|v| v.strip_suffix(')'));
    match inner.and_then(range) {
        Some(known) => Printed::Range(known),
        None => Printed::Other,
    }
}

/// The inside of `scalar(…)`; what is not printed is not limited.
fn range(inner: &str) -> Option<Known> {
    let mut k = Known {
        value: 0,
        mask: u64::MAX,
        unsigned: (0, u64::MAX),
        signed: (i64::MIN, i64::MAX),
        unsigned32: (0, u32::MAX),
        signed32: (i32::MIN, i32::MAX),
    };
    for item in inner.split(',').filter(|i| !i.is_empty()) {
        let mut parts: Vec<&str> = item.split('=').collect();
        let text = parts.pop()?;
        if parts.contains(&"var_off") {
            let text = text.strip_prefix('(')?.strip_suffix(')')?;
            let (value, mask) = text.split_once("; ")?;
            (k.value, k.mask) = (number(value)?, number(mask)?);
            continue;
        }
        for name in parts {
            let Some(n) = number(text) else { continue };
            match name {
                "umin" => k.unsigned.0 = n,
                "umax" => k.unsigned.1 = n,
                "smin" => k.signed.0 = n.cast_signed(),
                "smax" => k.signed.1 = n.cast_signed(),
                "umin32" => k.unsigned32.0 = n as u32,
                "umax32" => k.unsigned32.1 = n as u32,
                "smin32" => k.signed32.0 = n as i32,
                "smax32" => k.signed32.1 = n as i32,
                _ => {}
            }
        }
    }
    Some(k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read() {
        let text = "frame1: R1=ctx() R5=P-3 R7=scalar(id=1,smin=smin32=-255,smax=smax32=0,var_off=(0x0; 0xff)) fp-8=1";
        let found = registers(text);
        assert_eq!(found[0], (1, Printed::Other));
        assert_eq!(found[1], (5, Printed::Constant(3u64.wrapping_neg())));
        let Printed::Range(k) = found[2].1 else {
            panic!("{found:?}")
        };
        assert_eq!((k.signed, k.signed32, k.mask), ((-255, 0), (-255, 0), 0xff));
        assert_eq!(k.unsigned, (0, u64::MAX));
    }
}
