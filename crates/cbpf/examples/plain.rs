use skep_cbpf::filter::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let link = LinkType::by_name(&a[1]).unwrap();
    let names = Names::default().with_hosts(&std::fs::read_to_string("/etc/hosts").unwrap()).with_services(&std::fs::read_to_string("/etc/services").unwrap()).with_protocols(&std::fs::read_to_string("/etc/protocols").unwrap_or_default());
    let t = Target { names: &names, ..Target::file(link) };
    match if a.get(3).is_some() { compile(&a[2], &t) } else { plain(&a[2], &t) } { Ok(c) => print!("{}", skep_cbpf::text::print(&c, skep_cbpf::text::Form::Readable)), Err(e) => println!("{e}") }
}
