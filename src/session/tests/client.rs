//! A client's end of a session: requests by name, and what arrives, decoded.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::session::{DatabaseMap, Outbox, Outcome, Session};
use crate::transaction::Inline;
use crate::types::{Oid, Tid};
use crate::wire::{
    self, Format, FrameStep, Message, MessageId, Request, TransactionKey, Value, next_frame,
};

/// How long what another thread does may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client reads from its wire.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Reply(i64, Value<'static>),
    Error(i64, Raised),
    Call(String, Value<'static>),
}

/// An exception: its class, and its attributes or arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Raised {
    pub class: String,
    pub state: Value<'static>,
}

impl Raised {
    /// The class without its module.
    pub fn name(&self) -> &str {
        self.class.rsplit('.').next().unwrap()
    }

    /// All that it says.
    pub fn text(&self) -> String {
        format!("{:?}", self.state)
    }
}

pub type Answer = Result<Value<'static>, Raised>;

pub fn oid(number: u64) -> Oid {
    Oid::from_u64(number)
}

pub fn key(number: i128) -> TransactionKey {
    TransactionKey::Int(number)
}

/// The tid in a value.
pub fn tid(value: &Value<'_>) -> Tid {
    Tid::from_slice(value.as_bytes().unwrap()).unwrap()
}

/// The oids in a list.
pub fn oids(value: &Value<'_>) -> Vec<Oid> {
    let items = value.as_items().unwrap().iter();
    items
        .map(|item| Oid::from_slice(item.as_bytes().unwrap()).unwrap())
        .collect()
}

pub struct Client {
    pub session: Session,
    pub outbox: Outbox,
    last_id: i64,
    /// What arrived and no test has looked at.
    pub events: VecDeque<Event>,
    /// Why the server closed the connection.
    pub closed: Option<String>,
}

impl Client {
    pub fn new(databases: Arc<DatabaseMap>) -> Self {
        Self {
            session: Session::new(databases, "test"),
            outbox: Outbox::new(Format::Pickle),
            last_id: 0,
            events: VecDeque::new(),
            closed: None,
        }
    }

    /// As the connection does: deliver, handle, put. Returns the message's id.
    pub fn send(&mut self, request: Request<'_>) -> i64 {
        self.deliver();
        self.last_id += 1;
        let id = message_id(self.last_id);
        let one_way = is_one_way(&request);
        let result = self
            .session
            .answer(&id, one_way, request, &mut self.outbox, &Inline);
        self.note(result);
        self.last_id
    }

    /// Only handles, and leaves it to the test when to put the outcome.
    pub fn handle<'s>(&'s mut self, request: Request<'_>) -> (MessageId<'static>, Outcome<'s>) {
        self.last_id += 1;
        let id = message_id(self.last_id);
        let outcome = self.session.handle(&id, request, &Inline);
        (id, outcome)
    }

    /// Puts what waits in the inbox behind what is there, and decodes all.
    pub fn deliver(&mut self) {
        let result = self.session.deliver(&mut self.outbox, &Inline);
        self.note(result);
        self.decode();
    }

    fn note(&mut self, result: Result<(), String>) {
        if let Err(why) = result {
            self.closed.get_or_insert(why);
        }
    }

    fn decode(&mut self) {
        while let Ok(FrameStep::Complete { payload }) = next_frame(self.outbox.unsent(), 1 << 30) {
            let value = wire::read_value(&self.outbox.unsent()[payload.clone()]).unwrap();
            let Value::Tuple(items) = value.into_owned() else {
                panic!("a message is a tuple");
            };
            let [id, flag, method, arguments] = <[Value<'static>; 4]>::try_from(items).unwrap();
            let event = match (method.as_str().unwrap(), flag.as_int().unwrap()) {
                (".reply", 0) => Event::Reply(id.as_int().unwrap(), arguments),
                (".reply", 2) => Event::Error(id.as_int().unwrap(), raised(&arguments)),
                (method, _) => Event::Call(method.to_owned(), arguments),
            };
            self.events.push_back(event);
            self.outbox.note_sent(payload.end);
        }
    }

    /// The answer to `id`, which must have arrived; what arrived before stays.
    pub fn answer(&mut self, id: i64) -> Option<Answer> {
        self.deliver();
        let is_it = |event: &Event| match event {
            Event::Reply(other, _) | Event::Error(other, _) => *other == id,
            Event::Call(..) => false,
        };
        let place = self.events.iter().position(is_it)?;
        match self.events.remove(place)? {
            Event::Reply(_, value) => Some(Ok(value)),
            Event::Error(_, raised) => Some(Err(raised)),
            Event::Call(..) => None,
        }
    }

    /// Asks, and waits for the answer.
    pub fn call(&mut self, request: Request<'_>) -> Answer {
        let id = self.send(request);
        self.wait_for(id)
    }

    pub fn wait_for(&mut self, id: i64) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.answer(id) {
                return answer;
            }
            assert!(self.closed.is_none(), "closed: {:?}", self.closed);
            assert!(Instant::now() < deadline, "no answer");
            std::thread::yield_now();
        }
    }

    /// Everything that has arrived.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.deliver();
        self.events.drain(..).collect()
    }

    /// The invalidations that have arrived: tid and oids, in order.
    pub fn invalidations(&mut self) -> Vec<(Tid, Vec<Oid>)> {
        let events = self.take_events();
        events.iter().filter_map(invalidation).collect()
    }

    pub fn register(&mut self, storage: &str, read_only: bool) -> Answer {
        let storage = Cow::Borrowed(storage);
        self.call(Request::Register { storage, read_only })
    }

    pub fn last_transaction(&mut self) -> Tid {
        tid(&self.call(Request::LastTransaction).unwrap())
    }

    pub fn begin(&mut self, transaction: i128) {
        self.begin_at(transaction, None).unwrap();
    }

    /// Begins a transaction with a prescribed tid.
    pub fn begin_at(&mut self, transaction: i128, tid: Option<Tid>) -> Answer {
        self.call(Request::TpcBegin {
            transaction: key(transaction),
            user: Cow::Borrowed(b"user"),
            description: Cow::Borrowed(b"description"),
            extension: Vec::new(),
            tid,
            status: b' ',
        })
    }

    pub fn store(&mut self, transaction: i128, number: u64, serial: Tid, data: &[u8]) {
        self.send(Request::Store {
            oid: oid(number),
            serial,
            data: Cow::Borrowed(data),
            transaction: key(transaction),
        });
    }

    pub fn send_vote(&mut self, transaction: i128) -> i64 {
        let transaction = key(transaction);
        self.send(Request::Vote { transaction })
    }

    pub fn vote(&mut self, transaction: i128) -> Answer {
        let transaction = key(transaction);
        self.call(Request::Vote { transaction })
    }

    pub fn send_finish(&mut self, transaction: i128) -> i64 {
        let transaction = key(transaction);
        self.send(Request::TpcFinish { transaction })
    }

    pub fn finish(&mut self, transaction: i128) -> Answer {
        let transaction = key(transaction);
        self.call(Request::TpcFinish { transaction })
    }

    pub fn abort(&mut self, transaction: i128) -> Answer {
        let transaction = key(transaction);
        self.call(Request::TpcAbort { transaction })
    }

    /// Begins a transaction, stores one object and votes.
    pub fn vote_store(&mut self, transaction: i128, number: u64, serial: Tid) -> i64 {
        self.begin(transaction);
        self.store(transaction, number, serial, b"data");
        self.send_vote(transaction)
    }

    /// A whole transaction.
    pub fn commit(&mut self, stores: &[(u64, Tid, &[u8])]) -> Tid {
        self.begin(-1);
        for &(number, serial, data) in stores {
            self.store(-1, number, serial, data);
        }
        assert_eq!(self.vote(-1), Ok(Value::List(Vec::new())));
        tid(&self.finish(-1).unwrap())
    }

    /// The current data of an object and its serial.
    pub fn load(&mut self, number: u64) -> Result<(Vec<u8>, Tid), Raised> {
        let loaded = self.call(load(number, Tid::MAX))?;
        let items = loaded.as_items().unwrap();
        Ok((items[0].as_bytes().unwrap().to_vec(), tid(&items[1])))
    }
}

/// The request for the revision before `tid`.
pub fn load(number: u64, tid: Tid) -> Request<'static> {
    let oid = oid(number);
    Request::LoadBefore { oid, tid }
}

pub fn invalidation(event: &Event) -> Option<(Tid, Vec<Oid>)> {
    match event {
        Event::Call(method, arguments) if method == "invalidateTransaction" => {
            let arguments = arguments.as_items().unwrap();
            Some((tid(&arguments[0]), oids(&arguments[1])))
        }
        _ => None,
    }
}

/// What clients send without waiting for an answer.
fn is_one_way(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::Store { .. }
            | Request::Restore { .. }
            | Request::DeleteObject { .. }
            | Request::CheckCurrentSerial { .. }
            | Request::Undo { .. }
            | Request::StoreBlobStart
            | Request::StoreBlobChunk { .. }
            | Request::StoreBlobEnd { .. }
            | Request::StoreBlobShared { .. }
    )
}

fn raised(arguments: &Value<'static>) -> Raised {
    let [class, state] = arguments.as_items().unwrap() else {
        panic!("an error is a pair");
    };
    Raised {
        class: class.as_str().unwrap().to_owned(),
        state: state.clone(),
    }
}

fn message_id(number: i64) -> MessageId<'static> {
    let message = Value::Tuple(vec![
        Value::Int(number),
        Value::Int(0),
        "ping".into(),
        Value::Tuple(Vec::new()),
    ]);
    let mut payload = Vec::new();
    wire::write_value(&mut payload, &message).unwrap();
    match wire::decode(Format::Pickle, &payload) {
        Ok(Message::Call { id, .. }) => id.into_owned(),
        other => panic!("{other:?}"),
    }
}
