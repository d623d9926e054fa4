//! How fast the load master sends: what a bench of the recorder must not be limited by.
//!
//! `cargo bench --bench sim_load [-- EVENTS]` prints events per second over one loopback connection, the server on one
//! thread, a reader that only counts bytes on another; and what rendering costs without the socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use tidegate::clock::{Clock, SystemClock, Timestamp};
use tidegate::demo::load::{AfterLoad, Load, LoadServer, ServerThread};
use tidegate::sim::master::{InstanceSpec, MasterSpec, Reply, Request, SimMaster, Version};
use tidegate::sim::traffic::Traffic;

fn main() -> std::io::Result<()> {
    let events = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(2_000_000);
    load(events)?;
    virtual_day();
    Ok(())
}

fn load(events: u64) -> std::io::Result<()> {
    let thread = ServerThread::start()?;
    let load = Load { version: Version::Go1_14_0, instances: 100, events, per_second: None, then: AfterLoad::End };
    let server = thread.run(|| LoadServer::start(load, Arc::new(SystemClock), 1))?;
    let url = server.url();
    let mut stream = TcpStream::connect((&*url.host, url.port))?;
    let clock = SystemClock;
    let begin = clock.monotonic();
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nX-API-Key: {}\r\n\r\n", server.api_key().reveal())?;
    let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0);
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            read => bytes += read,
        }
    }
    let seconds = (clock.monotonic() - begin).as_secs_f64();
    println!(
        "load: {} events, {:.0} MB in {seconds:.2} s: {:.0} events/s, {:.0} MB/s",
        server.sent()[0],
        bytes as f64 / 1e6,
        events as f64 / seconds,
        bytes as f64 / 1e6 / seconds
    );
    Ok(())
}

/// A virtual day of one master with 10 busy tunnels at 5 s: the master's share of the simulation's budget.
fn virtual_day() {
    let start = Timestamp(1_795_435_200_000_000);
    let mut master = SimMaster::new(MasterSpec::new(Version::Go1_14_0), start, fastrand::Rng::with_seed(1));
    for port in 0..10 {
        let traffic =
            Traffic { seed: u64::from(port), peak_down: 1_000_000, peak_up: 100_000, udp_percent: 5, users_offset_seconds: 0 };
        master.create(InstanceSpec { traffic, ..InstanceSpec::client("x", 10_000 + port) });
    }
    let key = master.api_key().to_owned();
    let Reply::Stream(stream) = master.handle(&Request::get("/api/v1/events", &key)) else { return };
    let (clock, mut chunks, mut bytes, mut events) = (SystemClock, Vec::new(), 0, 0);
    let begin = clock.monotonic();
    while let Some(due) = master.next_due().filter(|due| *due <= start.plus(Duration::from_secs(86_400))) {
        master.advance(due);
        master.poll(stream, &mut chunks);
        bytes += chunks.iter().map(|chunk| chunk.len()).sum::<usize>();
        events += chunks.len();
        chunks.clear();
    }
    println!("virtual day: {events} events, {} MB in {:.2} s", bytes / 1_000_000, (clock.monotonic() - begin).as_secs_f64());
}
