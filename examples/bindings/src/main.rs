//! Counts the packets of a capture with `examples/packets.bpf.c` and prints the busiest services: maps and events have the
//! types of the C source.
//!
//! `cargo run -p skep-example-bindings examples/web.pcap`; no root, since it uses the user backend.

use skep::test_run::Input;
use skep::typed::TypedEvent;
use skep_bpf::Backend;
use skep_net::capture;
use skep_user::{Options, Universe};
use std::error::Error;
use std::sync::Arc;

skep::bindings!(packets);

use packets::types::flow;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("usage: skep-example-bindings CAPTURE")?;
    let backend: Arc<dyn Backend> = Arc::new(Universe::new(Options::default())?);
    let loaded = packets::open()?.load(&backend)?;
    let program = loaded
        .programs()
        .packets()
        .ok_or("program packets is not loaded")?;
    let new_flows = loaded
        .maps()
        .new_flows::<flow>()
        .ok_or("no map new_flows")?;
    let mut new_flows = new_flows.open()?;
    let mut flows = 0;
    for packet in capture::read(&std::fs::read(path)?)? {
        let input = Input {
            data: Some(packet.data.to_vec()),
            ctx: None,
        };
        program.test_run(&input)?;
        new_flows.drain(|event| {
            if let TypedEvent::Record(..) = event {
                flows += 1;
            }
        })?;
    }
    let services = loaded.maps().services().ok_or("no map services")?;
    let mut busiest = services.iter().collect::<Result<Vec<_>, _>>()?;
    busiest.sort_by_key(|(_, traffic)| std::cmp::Reverse(traffic.bytes));
    println!("{flows} flows");
    for (service, traffic) in busiest.iter().take(5) {
        println!(
            "protocol {} port {}: {} packets, {} bytes",
            service.protocol, service.port, traffic.packets, traffic.bytes
        );
    }
    Ok(())
}
