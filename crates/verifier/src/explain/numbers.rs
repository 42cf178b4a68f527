//! Arithmetic, and the numbers that programs return.

use super::access::history;
use super::scene::{Scene, range};
use super::slice::What;
use super::{Explanation, Note};
use crate::cause::Cause;
use crate::reg::Reg;
use skep_isa::{AluOp, Insn, Src};

/// Explains a refused operation or return value.
pub(super) fn explain(scene: &Scene<'_>) -> Explanation {
    match scene.rejection.code {
        "V0101" => unwritten(scene),
        "V0102" => with_help(
            "r10 always holds the address of the stack frame: put the value into another register (r6 to r9 keep theirs over calls); for an address in the stack copy r10 and change the copy",
        ),
        "V0103" | "V0109" => pointer_arithmetic(scene),
        "V0105" => with_help("compare pointers of the same kind only, or compare with NULL"),
        "V0106" => with_help(
            "a loader with CAP_PERFMON may load it; otherwise keep pointers out of maps, packets and return values",
        ),
        "V0107" => with_help("test the divisor, or divide by a constant other than 0"),
        "V0108" => with_help(
            "shift by 0 to 63 in 64-bit operations and 0 to 31 in 32-bit ones; mask a variable distance: `n & 63`",
        ),
        "V0110" => nullable_arithmetic(scene),
        "V0701" | "V0703" => returned(scene),
        "V0702" => {
            with_help("return a number; what is at the address can be returned, the address cannot")
        }
        _ => Explanation::default(),
    }
}

fn with_help(help: &str) -> Explanation {
    Explanation {
        help: vec![help.to_owned()],
        ..Explanation::default()
    }
}

/// A register without a value.
fn unwritten(scene: &Scene<'_>) -> Explanation {
    let Some(register) = scene.named_register() else {
        return Explanation::default();
    };
    let life = scene.life(register);
    let clobbered = life
        .iter()
        .find(|e| e.what == What::Made && matches!(scene.path.insn(e.step), Some(Insn::Call(_))));
    let note = clobbered.map(|e| {
        let callee = scene
            .slot(e.step)
            .and_then(|s| scene.callee(s as usize))
            .unwrap_or_else(|| "this call".to_owned());
        scene.note(
            e.step,
            format!("{callee} leaves nothing in r{register}: a call keeps r6 to r10 only"),
        )
    });
    let help = if register == 0 {
        "return a value on every path".to_owned()
    } else if note.is_some() {
        "assign the variable again after the call, or keep it in a local variable".to_owned()
    } else {
        "initialise the variable where it is declared".to_owned()
    };
    Explanation {
        notes: note.into_iter().collect(),
        help: vec![help],
        ..Explanation::default()
    }
}

/// Arithmetic that pointers do not allow.
fn pointer_arithmetic(scene: &Scene<'_>) -> Explanation {
    let Some(Insn::Alu { op, dst, src, .. }) = scene.insn() else {
        return with_help("pointers may only be moved by adding or subtracting a 64-bit number");
    };
    let expression = scene.at().and_then(|at| scene.expression(at));
    let name = expression.map_or_else(|| format!("r{}", dst.index()), |e| format!("`{e}`"));
    let other = if let Src::Reg(src) = src {
        scene.reg(src.index())
    } else {
        None
    };
    let here = scene.reg(dst.index());
    let mut notes: Vec<Note> = scene.origin(&scene.life(dst.index())).into_iter().collect();
    if let Src::Reg(src) = src {
        notes.extend(scene.origin(&scene.life(src.index())));
    }
    let pointers = here
        .zip(other)
        .filter(|(a, b)| a.is_pointer() && b.is_pointer());
    let (headline, help) = match (pointers, op) {
        (Some((a, b)), _) => (
            format!("{name} adds two pointers: one is {}, the other {}", scene.target(&a), scene.target(&b)),
            "add what the pointers point to: load the values first (`*p + c->field`), then use the sum as a number".to_owned(),
        ),
        (None, AluOp::Add | AluOp::Sub) => return with_help("pointers may only be moved by a 64-bit number within their memory"),
        (None, _) => {
            let pointer = here.filter(Reg::is_pointer).map_or_else(|| "a pointer".to_owned(), |r| format!("a pointer to {}", scene.target(&r)));
            (
                format!("{name} is arithmetic on {pointer}: only adding and subtracting numbers is allowed"),
                "leave the operation out: pointers from lookups are aligned to 8 bytes already; for other alignment compute on an offset, and add that to the pointer".to_owned(),
            )
        }
    };
    Explanation {
        headline: Some(headline),
        notes,
        help: vec![help],
        ..Explanation::default()
    }
}

/// A pointer is moved before it was checked for NULL.
fn nullable_arithmetic(scene: &Scene<'_>) -> Explanation {
    let register = match scene.insn() {
        Some(Insn::Alu { dst, .. }) => dst.index(),
        _ => return Explanation::default(),
    };
    let life = scene.life(register);
    let made = life
        .iter()
        .find(|e| e.what == What::Made)
        .and_then(|e| scene.slot(e.step));
    let receiver = made
        .and_then(|at| scene.receiver(at as usize))
        .unwrap_or("p");
    Explanation {
        notes: scene.origin(&life).into_iter().collect(),
        help: vec![format!("check it first: `if (!{receiver}) return 0;`")],
        ..Explanation::default()
    }
}

/// A return value outside of what is allowed.
fn returned(scene: &Scene<'_>) -> Explanation {
    let life = scene.life(0);
    let value = scene.reg(0);
    let Cause::Returned {
        allowed: (least, most),
        ..
    } = *scene.rejection.cause
    else {
        return Explanation::default();
    };
    let allowed = if least == most {
        least.to_string()
    } else {
        format!("{least} to {most}")
    };
    let line = scene.at().and_then(|at| scene.line(at));
    let returned = line
        .and_then(|l| {
            l.text
                .trim()
                .strip_prefix("return")?
                .trim()
                .strip_suffix(';')
        })
        .map(str::trim)
        .filter(|r| !r.is_empty());
    let name = returned.map_or_else(|| "the return value".to_owned(), |r| format!("`{r}`"));
    let who = match scene.rejection.code {
        "V0703" => "a callback".to_owned(),
        _ => format!("a {} program", scene.req.prog_type),
    };
    let values = value
        .filter(Reg::is_scalar)
        .map_or_else(|| "a pointer".to_owned(), |v| range(&v.var));
    let help = if scene.rejection.code == "V0703" {
        "return 0 to go on and 1 to stop; hand results over through the context argument".to_owned()
    } else {
        if least == most {
            format!("return {least}")
        } else {
            format!("return a constant from {allowed}, or bound the value first")
        }
    };
    Explanation {
        headline: Some(format!(
            "{name} may be {values}, but {who} may only return {allowed}"
        )),
        notes: history(scene, &life, returned),
        help: vec![help],
        ..Explanation::default()
    }
}
