//! Bodies of the fuzz targets (`fuzz/`). Each takes any bytes, and panics if a promise is broken.

use skep::filter::{Filter, LinkType, Matcher, Target, plain};
use skep_cbpf::text::{Form, parse, print};
use skep_cbpf::translate::{Access, Options as TranslateOptions, translate};
use skep_cbpf::{LongShift, Packet, Program, check};
use skep_isa::asm::{NoFacts, Options, assemble, assemble_insns};
use skep_isa::{Slot, Style, Text, encode, insns};
use skep_object::image::Image;
use skep_object::sanitize::{BtfLevel, sanitize};
use skep_vm::classic::{Native, PlainPacket};

fn slots(data: &[u8]) -> Vec<Slot> {
    let chunks = data.as_chunks::<8>().0;
    chunks.iter().map(|b| Slot::from_le_bytes(*b)).collect()
}

/// What decodes encodes to the same slots, in either byte order.
///
/// # Panics
/// If it does not.
pub fn decode(data: &[u8]) {
    let slots = slots(data);
    for (at, insn) in insns(&slots) {
        if let Ok(insn) = insn {
            assert_eq!(&*encode(&insn), &slots[at..at + insn.slots()], "{insn:?}");
        }
    }
    for slot in slots {
        assert_eq!(Slot::from_be_bytes(slot.to_be_bytes()), slot);
    }
}

/// The text of what decodes assembles to the same slots; files that are no objects are refused.
///
/// # Panics
/// If it does not, or a damaged file is read out of bounds.
pub fn disasm(data: &[u8]) {
    if let Ok(image) = Image::parse(data) {
        for section in &image.sections {
            for relocation in &section.relocations {
                let _ = image.symbol_name(relocation.symbol);
            }
        }
    }
    let slots = slots(data);
    for (at, insn) in insns(&slots) {
        let Ok(insn) = insn else { continue };
        let text = insn.to_string();
        let again = assemble_insns(&text, &NoFacts);
        let again = again.unwrap_or_else(|errors| panic!("{text}: {}", errors[0]));
        assert_eq!(again, &slots[at..at + insn.slots()], "{text}");
        let _ = Text::new(&insn, Style::Objdump).to_string();
    }
}

/// Text is refused with a place inside it, or becomes an object that can be read.
///
/// # Panics
/// If neither.
pub fn asm(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match assemble(&text, &Options::default()) {
        Ok(assembly) => {
            if let Ok(object) = skep_object::write::write(&assembly) {
                let image = Image::parse(&object);
                assert!(image.is_ok(), "{image:?}");
            }
        }
        Err(errors) => {
            let lines = text.lines().count().max(1);
            let is_inside = |line: u32, column: u32| line as usize <= lines && column > 0;
            assert!(!errors.is_empty() && errors.iter().all(|e| is_inside(e.line, e.column)));
        }
    }
}

/// BTF reads without panic whatever it says; what is valid can be taken apart and put together again.
///
/// # Panics
/// If it cannot.
pub fn btf(data: &[u8]) {
    let _ = skep_btf::Ext::parse(data);
    let Ok(btf) = skep_btf::Btf::parse(data) else {
        return;
    };
    for ty in btf.types() {
        let _ = (ty.name(), ty.resolve(), ty.linkage(), ty.int(), ty.array());
        let counts = (ty.members().len(), ty.params().len(), ty.vars().len());
        let _ = (counts, ty.enum_values().len(), btf.size_of(ty.id()));
        let _ = (
            skep_btf::Record::of(&btf, ty.id()),
            btf.find(ty.name(), ty.kind()),
        );
    }
    let _ = skep_btf::c::declarations(&btf, None);
    for level in [BtfLevel::Linux5_6, BtfLevel::Linux5_0] {
        let older = sanitize(&btf, level);
        assert!(older.is_ok_and(|b| b.type_count() >= btf.type_count()));
    }
    if btf.validate().is_ok() {
        let again = skep_btf::Btf::parse(skep_btf::Builder::of(&btf).finish());
        assert_eq!(again.map(|b| b.type_count()), Ok(btf.type_count()));
    }
}

/// Any slots get a verdict, with either set of capabilities, the same one twice, after no more steps than allowed.
///
/// # Panics
/// If they do not.
pub fn verify(data: &[u8]) {
    use skep_abi::ProgType;
    use skep_abi::limits::BPF_COMPLEXITY_LIMIT_INSNS;
    use skep_verifier::{Caps, Request};
    const TYPES: &[ProgType] = &[
        ProgType::SocketFilter,
        ProgType::Xdp,
        ProgType::SchedCls,
        ProgType::Syscall,
        ProgType::CgroupSockAddr,
        ProgType::RawTracepoint,
    ];
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let insns = slots(rest);
    let caps = if first & 1 == 0 { Caps::All } else { Caps::Bpf };
    let prog_type = TYPES[usize::from(first >> 1) % TYPES.len()];
    let request = Request {
        caps,
        ..Request::plain("fuzz", prog_type, &insns)
    };
    let answer = || match skep_verifier::verify(&request) {
        Ok(verified) => (None, verified.stats().insns_processed),
        Err(r) => {
            assert!(r.insn.is_none_or(|at| (at as usize) < insns.len()), "{r:?}");
            (
                Some((r.code, r.insn, r.cause.to_string())),
                r.insns_processed,
            )
        }
    };
    let (verdict, processed) = answer();
    assert!(processed <= BPF_COMPLEXITY_LIMIT_INSNS + 1);
    if processed < SECOND_ANSWER_MAX {
        assert_eq!(answer(), (verdict, processed));
    }
}

/// Longer verifications are not repeated.
const SECOND_ANSWER_MAX: u32 = 1000;

/// Objects parse and link, or are refused with a sentence.
///
/// # Panics
/// If a place in a linked program lies outside of it.
pub fn object(data: &[u8]) {
    use skep_object::{Object, Options, Target};
    let object = match Object::parse(data, &Options::default()) {
        Ok(object) => object,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let target = Target {
        btf: object.btf().cloned(),
        cpus: 2,
        page_size: 4096,
        ..Target::default()
    };
    let Ok(linked) = object.relocate(&target) else {
        return;
    };
    for program in &linked.programs {
        assert!(program.entry_slots <= program.insns.len());
        let slots = program.insns.len();
        assert!(program.failures.iter().all(|f| f.insn < slots));
    }
    // Bindings are made of whatever BTF says.
    let _ = skep_gen::generate(data, "fuzz.bpf.o", &skep_gen::Options::default());
}

/// Two objects, the length of the first before them: they become one that can be read, or are refused with a sentence.
///
/// # Panics
/// If what was written cannot be read.
pub fn combine(data: &[u8]) {
    use skep_object::combine::{Input, combine};
    let Some((length, data)) = data.split_first_chunk() else {
        return;
    };
    let length = u32::from_le_bytes(*length) as usize;
    let (first, second) = data.split_at(length.min(data.len()));
    let inputs = [("first", first), ("second", second)];
    let inputs = inputs.map(|(name, bytes)| Input { name, bytes });
    match combine(&inputs) {
        Ok(whole) => {
            skep_object::image::Image::parse(&whole).expect("what was written can be read");
            object(&whole);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The notes of statically defined probes are those of a program, or end; every argument is read or refused.
///
/// # Panics
/// If more are found than there is room for.
pub fn usdt(data: &[u8]) {
    let Ok(probes) = skep::attach::usdt_probes(data) else {
        return;
    };
    // Two sizes, a type, a name and three addresses at least.
    assert!(probes.len() <= data.len() / 44);
    assert!(probes.iter().all(|p| p.arguments <= Some(12)));
}

/// Debug information names variables at slots that exist, or nothing.
///
/// # Panics
/// If it names others.
pub fn debug(data: &[u8]) {
    use skep_object::debug::{Debug, Place};
    let Some(debug) = Debug::parse(data) else {
        return;
    };
    for function in debug.functions() {
        for variable in debug.variables(function) {
            assert!(!variable.name.is_empty());
            for (slots, place) in variable.places {
                assert!(slots.start < slots.end && slots.end as usize <= data.len() / 8);
                assert!(matches!(place, Place::Register(0..=9) | Place::Stack(_)));
            }
        }
    }
}

/// Link types by the first byte, an expression up to a zero byte, a packet: the expression is refused with a place inside
/// it, or all forms of its program decide the same.
///
/// # Panics
/// If they do not.
pub fn filter(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let links: Vec<LinkType> = LinkType::all().collect();
    let target = Target::file(links[usize::from(*first) % links.len()]);
    let end = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
    let (text, packet) = rest.split_at(end);
    let text = String::from_utf8_lossy(text);
    let filter = match Filter::compile(&text, &target) {
        Ok(filter) => filter,
        Err(error) => {
            assert!(error.span.start <= error.span.end && error.span.end <= text.len());
            let _ = error.explain(&text);
            return;
        }
    };
    let plain = plain(&text, &target).expect("what compiles has a plain form");
    assert!(filter.code().len() <= plain.len() || check(&plain).is_err());
    let matcher = Matcher::new(filter);
    for packet in [packet, &packet[..packet.len() / 2]] {
        let wire = packet.len() as u32 + 4;
        let ours = matcher.filter().matches(packet, wire);
        assert_eq!(matcher.matches(packet, wire), ours, "{text}");
        if let Ok(plain) = Program::new(&plain, LongShift::Zero) {
            let plain = plain.run(&Packet::of_file(packet, wire)) != 0;
            assert_eq!(plain, ours, "{text}");
        }
    }
}

/// A classic program, eight bytes an instruction: it is refused, or the interpreter and machine code say
/// the same of every packet; it is translated, and survives its text.
///
/// # Panics
/// If not.
pub fn classic(data: &[u8]) {
    let insns: Vec<skep_cbpf::Insn> = data
        .as_chunks::<8>()
        .0
        .iter()
        .map(|b| skep_cbpf::Insn {
            code: u16::from(b[0]),
            jt: b[2],
            jf: b[3],
            k: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        })
        .collect();
    let _ = skep_cbpf::check_seccomp(&insns);
    if check(&insns).is_err() {
        return;
    }
    for long_shift in [LongShift::Modulo, LongShift::Zero] {
        let program = Program::new(&insns, long_shift).expect("it was checked");
        let Ok(native) = Native::new(&insns, long_shift) else {
            continue;
        };
        for end in (0..=data.len()).step_by(1 + data.len() / 16) {
            let packet = &data[..end];
            let expected = program.run(&Packet::of_file(packet, 99));
            assert_eq!(native.run(packet, 99), expected, "{insns:x?}");
            let mut results = [!expected; 2];
            native.run_all(&[PlainPacket::new(packet, 99); 2], &mut results);
            assert_eq!(results, [expected; 2], "{insns:x?}");
        }
    }
    for access in [Access::Socket, Access::Direct] {
        let options = TranslateOptions {
            access,
            long_shift: LongShift::Modulo,
            verdicts: Some((2, 1)),
        };
        let _ = translate(&insns, &options);
    }
    for form in [Form::Readable, Form::C, Form::Decimal] {
        let text = print(&insns, form);
        // Fields that an instruction does not use are not printed.
        let again = parse(&text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert_eq!(print(&again, form), text);
    }
}

/// A capture of either format, damaged: packets up to the damage, then an error. What is read is written and read again.
///
/// # Panics
/// If it is not.
pub fn capture(data: &[u8]) {
    use skep_net::capture::Capture;
    use skep_net::write::Writer;
    let _ = skep_net::capture::read(data);
    let Ok(capture) = Capture::new(data) else {
        return;
    };
    let records: Vec<_> = capture.map_while(Result::ok).collect();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, 1, 262_144);
    for record in &records {
        writer.write(record).expect("memory takes everything");
    }
    writer.finish().expect("memory takes everything");
    assert_eq!(streamed(data), records.len());
    let again = Capture::new(&bytes).expect("a capture was written");
    let lengths = again.map(|r| r.expect("every packet is whole").data.len());
    assert!(lengths.eq(records.iter().map(|r| r.data.len())));
}

/// Packets of a capture that comes a few bytes at a time.
fn streamed(data: &[u8]) -> usize {
    struct Drops<'a>(&'a [u8]);
    impl std::io::Read for Drops<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let count = into.len().min(self.0.len()).min(7);
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }
    let mut count = 0;
    let Ok(mut stream) = skep_net::stream::Stream::new(Drops(data)) else {
        return 0;
    };
    while let Ok(Some(batch)) = stream.batch() {
        count += batch.filter(Result::is_ok).count();
    }
    count
}

/// Profiles of kernels, and the text of their facts, which comes back as it was.
///
/// # Panics
/// If facts change on the way through their text.
pub fn profile(data: &[u8]) {
    let _ = skep_profile::Profile::read("fuzz", data);
    let text = String::from_utf8_lossy(data);
    if let Ok(facts) = text.parse::<skep_abi::kernel::Kernel>() {
        assert_eq!(facts.to_string().parse(), Ok(facts));
    }
}
