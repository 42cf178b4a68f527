//! Makes the bindings: `packets` for the example, `typed` for its tests.

fn main() -> Result<(), skep_gen::GenError> {
    skep_gen::Builder::new("../packets.bpf.o")
        .with_type("flow")
        .build()?;
    skep_gen::Builder::new("../../tests/objects/typed.bpf.o").build()?;
    Ok(())
}
