//! Handshakes: a new connection for each request.

use std::io;
use std::rc::Rc;

use super::tally::Tally;
use super::{Target, Traffic};

/// Connects, asks once, leaves, and again. The answer is read because tickets for the next
/// handshake come with it.
pub(super) async fn repeat(target: Rc<Target>, traffic: Rc<Traffic>, tally: Rc<Tally>) {
    while !tally.stop.get() {
        if let Err(error) = once(&target, &traffic, &tally).await {
            return tally.broke(error);
        }
    }
}

async fn once(target: &Target, traffic: &Traffic, tally: &Tally) -> io::Result<()> {
    let mut connection = target.connect(8 * 1024).await?;
    let call = traffic.call(0);
    let status = connection.exchange(&call.bytes).await?;
    tally.answered(call, status);
    tally.resumed.set(tally.resumed.get() + u64::from(connection.resumed));
    Ok(())
}
