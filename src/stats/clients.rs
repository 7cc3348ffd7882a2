use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use parking_lot::Mutex;
use serde::Serialize;

use super::{Counter, Gauge};

/// What is known of one connection. Its task writes it, and shares it with
/// nobody else who does.
#[derive(Debug)]
pub struct Client {
    /// Where it comes from.
    pub address: String,
    /// Since when it is connected.
    pub since: SystemTime,
    /// Bytes that it sent.
    pub received_bytes: Counter,
    /// Bytes that it was sent.
    pub sent_bytes: Counter,
    /// Bytes that wait because it does not read.
    pub unsent_bytes: Gauge,
    label: Mutex<Option<String>>,
    storage: OnceLock<String>,
    read_only: AtomicBool,
    stage: AtomicU8,
    cut_off: OnceLock<&'static str>,
}

/// How far a client's transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TransactionStage {
    /// There is none.
    None,
    /// It takes changes.
    Collecting,
    /// It is to be voted, and waits for locks.
    Waiting,
    /// It is voted, and holds its locks.
    Voted,
    /// It is being written.
    Finishing,
}

impl TransactionStage {
    const ALL: [Self; 5] = [
        Self::None,
        Self::Collecting,
        Self::Waiting,
        Self::Voted,
        Self::Finishing,
    ];
}

impl Client {
    /// A client at `address` that has said nothing yet.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            since: SystemTime::now(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            unsent_bytes: Gauge::default(),
            label: Mutex::default(),
            storage: OnceLock::new(),
            read_only: AtomicBool::new(false),
            stage: AtomicU8::new(TransactionStage::None as u8),
            cut_off: OnceLock::new(),
        }
    }

    /// The name that it gave itself.
    pub fn label(&self) -> Option<String> {
        self.label.lock().clone()
    }

    /// It gave itself a name.
    pub fn set_label(&self, label: String) {
        *self.label.lock() = Some(label);
    }

    /// The storage that it chose.
    pub fn storage(&self) -> Option<&str> {
        self.storage.get().map(String::as_str)
    }

    /// May it only read?
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// It chose a storage.
    pub fn note_registered(&self, storage: &str, read_only: bool) {
        self.read_only.store(read_only, Ordering::Relaxed);
        let _ = self.storage.set(storage.to_owned());
    }

    /// How far its transaction is.
    pub fn stage(&self) -> TransactionStage {
        let stage = usize::from(self.stage.load(Ordering::Relaxed));
        let stages = TransactionStage::ALL;
        stages.get(stage).copied().unwrap_or(TransactionStage::None)
    }

    /// Its transaction is so far.
    pub fn set_stage(&self, stage: TransactionStage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// The server ends the connection, for a reason of this name.
    pub fn note_cut_off(&self, reason: &'static str) {
        let _ = self.cut_off.set(reason);
    }

    /// The word.
    pub fn cut_off(&self) -> Option<&'static str> {
        self.cut_off.get().copied()
    }
}

/// All connections, and what those that are gone came to.
#[derive(Debug, Default)]
pub struct Clients {
    /// Connections that were refused.
    pub refused: Counter,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By a number that goes up, which is also that of those accepted.
    connected: HashMap<u64, Arc<Client>>,
    accepted: u64,
    /// Bytes of those that are gone.
    received_bytes: u64,
    sent_bytes: u64,
    cut_off: BTreeMap<&'static str, u64>,
}

/// What connections come to together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Those that are there.
    pub now: u64,
    /// Those that ever were.
    pub accepted: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those that the server ended, by reason.
    pub cut_off: BTreeMap<&'static str, u64>,
    /// Bytes that all ever sent.
    pub received_bytes: u64,
    /// Bytes that all were ever sent.
    pub sent_bytes: u64,
    /// Bytes that wait for clients that do not read.
    pub unsent_bytes: u64,
}

/// A client's place among all, given up when dropped.
#[derive(Debug)]
pub struct Connected {
    clients: Arc<Clients>,
    number: u64,
}

impl Clients {
    /// Counts `client` as long as what is returned lives.
    pub fn enter(self: &Arc<Self>, client: &Arc<Client>) -> Connected {
        let mut state = self.state.lock();
        state.accepted += 1;
        let number = state.accepted;
        state.connected.insert(number, Arc::clone(client));
        Connected {
            clients: Arc::clone(self),
            number,
        }
    }

    /// Those that are there, in the order of their coming.
    pub fn connected(&self) -> Vec<Arc<Client>> {
        let state = self.state.lock();
        let mut clients: Vec<_> = state
            .connected
            .iter()
            .map(|(&number, client)| (number, Arc::clone(client)))
            .collect();
        drop(state);
        clients.sort_unstable_by_key(|&(number, _)| number);
        clients.into_iter().map(|(_, client)| client).collect()
    }

    /// What all come to together.
    pub fn totals(&self) -> Connections {
        let state = self.state.lock();
        let mut totals = Connections {
            now: state.connected.len() as u64,
            accepted: state.accepted,
            refused: self.refused.get(),
            cut_off: state.cut_off.clone(),
            received_bytes: state.received_bytes,
            sent_bytes: state.sent_bytes,
            unsent_bytes: 0,
        };
        for client in state.connected.values() {
            totals.received_bytes += client.received_bytes.get();
            totals.sent_bytes += client.sent_bytes.get();
            totals.unsent_bytes += client.unsent_bytes.get();
        }
        totals
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut state = self.clients.state.lock();
        let Some(client) = state.connected.remove(&self.number) else {
            return;
        };
        state.received_bytes += client.received_bytes.get();
        state.sent_bytes += client.sent_bytes.get();
        if let Some(reason) = client.cut_off() {
            *state.cut_off.entry(reason).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_came_to_stays_when_it_is_gone() {
        let clients = Arc::new(Clients::default());
        let (first, second) = (Arc::new(Client::new("a")), Arc::new(Client::new("b")));
        let connected = clients.enter(&first);
        let _other = clients.enter(&second);
        first.received_bytes.add(10);
        first.sent_bytes.add(20);
        first.unsent_bytes.set(5);
        second.sent_bytes.add(1);
        let expected = Connections {
            now: 2,
            accepted: 2,
            received_bytes: 10,
            sent_bytes: 21,
            unsent_bytes: 5,
            ..Connections::default()
        };
        assert_eq!(clients.totals(), expected);
        first.note_cut_off("rule");
        drop(connected);
        let expected = Connections {
            now: 1,
            unsent_bytes: 0,
            cut_off: BTreeMap::from([("rule", 1)]),
            ..expected
        };
        assert_eq!(clients.totals(), expected);
        let left: Vec<_> = clients.connected();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].address, "b");
    }

    #[test]
    fn a_stage_is_read_as_it_was_set() {
        let client = Client::new("a");
        assert_eq!(client.stage(), TransactionStage::None);
        for stage in TransactionStage::ALL {
            client.set_stage(stage);
            assert_eq!(client.stage(), stage);
        }
    }
}
