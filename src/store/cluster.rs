//! A cluster: which server has which slot, and a link to each.
//!
//! The table of slots is asked for when it is needed: at the start, when a server says that a slot
//! is elsewhere, and when one does not answer, since another may have taken its place.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout_at};

use super::Address;
use super::server::{CommandError, ServerLink};
use super::shared::{SharedStore, Wait};
use super::slots::slot;

/// The table is not asked for more often.
const PAUSE: Duration = Duration::from_millis(200);

/// As many servers may send a request on to another before it is given up.
const REDIRECTS: usize = 3;

/// The links to the servers of a cluster.
pub(super) struct Cluster {
    map: Rc<Map>,
    keeper: AbortHandle,
}

struct Map {
    shared: Arc<SharedStore>,
    links: RefCell<HashMap<Address, Rc<ServerLink>>>,
    /// The last slot of each range and who has it, in order; empty until it is known.
    slots: RefCell<Vec<(u16, Address)>>,
    /// Slots that have moved since.
    moved: RefCell<HashMap<u16, Address>>,
    /// No server says what the slots are.
    lost: Cell<bool>,
    changed: Notify,
    doubtful: Notify,
}

impl Cluster {
    pub(super) fn open(shared: &Arc<SharedStore>) -> Self {
        let map = Rc::new(Map {
            shared: Arc::clone(shared),
            links: RefCell::default(),
            slots: RefCell::default(),
            moved: RefCell::default(),
            lost: Cell::new(false),
            changed: Notify::new(),
            doubtful: Notify::new(),
        });
        let keeper = spawn_local(Rc::clone(&map).keep()).abort_handle();
        Self { map, keeper }
    }

    /// Sends a command about a key to the server that has it.
    pub(super) async fn send(
        &self,
        key: &str,
        command: &Cmd,
        wait: Wait<'_>,
    ) -> Result<Value, CommandError> {
        let map = &*self.map;
        let mut link = map.link_for(slot(key), wait.deadline).await?;
        let mut asking = false;
        for _ in 0..REDIRECTS {
            match link.send(command, asking, wait).await {
                Err(CommandError::Elsewhere { slot, address, asking: moving }) => {
                    let Some(address) = Address::parsed(&address) else {
                        return Err(CommandError::Failed("an odd redirection".to_owned()));
                    };
                    if !moving {
                        map.moved(slot, &address);
                    }
                    link = map.link_to(&address);
                    asking = moving;
                }
                Err(
                    fault @ (CommandError::Down | CommandError::Late | CommandError::Failed(_)),
                ) => {
                    map.doubtful.notify_one();
                    return Err(fault);
                }
                answered => return answered,
            }
        }
        Err(CommandError::Failed("sent from one server to the next".to_owned()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.keeper.abort();
        if self.map.lost.get() {
            self.map.shared.status.gone();
        }
    }
}

impl Map {
    async fn link_for(&self, slot: u16, deadline: Instant) -> Result<Rc<ServerLink>, CommandError> {
        loop {
            let changed = self.changed.notified();
            let known = !self.slots.borrow().is_empty();
            if known {
                let address = self.owner(slot).ok_or(CommandError::Down)?;
                return Ok(self.link_to(&address));
            }
            if self.lost.get() {
                return Err(CommandError::Down);
            }
            timeout_at(deadline, changed).await.map_err(|_| CommandError::Late)?;
        }
    }

    fn owner(&self, slot: u16) -> Option<Address> {
        if let Some(address) = self.moved.borrow().get(&slot) {
            return Some(address.clone());
        }
        let slots = self.slots.borrow();
        let place = slots.partition_point(|(last, _)| *last < slot);
        slots.get(place).map(|(_, address)| address.clone())
    }

    fn link_to(&self, address: &Address) -> Rc<ServerLink> {
        let mut links = self.links.borrow_mut();
        if let Some(link) = links.get(address) {
            return Rc::clone(link);
        }
        let link = Rc::new(ServerLink::open(&self.shared, Some(address.clone())));
        links.insert(address.clone(), Rc::clone(&link));
        link
    }

    /// A slot is elsewhere; until the table was asked for anew, that is known of this slot alone.
    fn moved(&self, slot: u16, address: &Address) {
        self.moved.borrow_mut().insert(slot, address.clone());
        self.doubtful.notify_one();
    }

    async fn keep(self: Rc<Self>) {
        loop {
            let known: Vec<Address> = self.links.borrow().keys().cloned().collect();
            let SharedStore { settings, connector, status, .. } = &*self.shared;
            match connector.slots(settings, &known).await {
                Ok(slots) => {
                    self.links
                        .borrow_mut()
                        .retain(|known, _| slots.iter().any(|(_, address)| address == known));
                    for (_, address) in &slots {
                        self.link_to(address);
                    }
                    *self.slots.borrow_mut() = slots;
                    self.moved.borrow_mut().clear();
                    if self.lost.replace(false) {
                        status.up();
                    }
                    self.changed.notify_waiters();
                    self.doubtful.notified().await;
                }
                Err(error) => {
                    if !self.lost.replace(true) {
                        status.down(&format!("no server says which has which keys: {error}"));
                    }
                    self.changed.notify_waiters();
                }
            }
            sleep(PAUSE).await;
        }
    }
}
