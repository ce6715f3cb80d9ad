//! The client's one task: connects, reads, and connects again.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use crate::event_kind::EventKind;
use crate::frame::{FrameReader, framed};
use crate::invocation::InvocationKind;
use crate::message::{CorrelationId, Decoded, Message, decode, is_event};
use crate::request::Request;
use crate::response::Response;

use super::Shared;
use super::counters::count;
use super::inbox::{Inbox, MAX_EVENT};
use super::invocation::{Invocation, answer_frame};
use super::link::{Link, write_all};
use super::options::Incoming;
use super::registrar::Registrar;

/// How long the node may take to greet us before that is told. The published node serves one connection at a time and
/// greets nobody else. It is waited for all the same, on this connection: a node that comes to greet one that was closed
/// meanwhile fails at it and serves nobody any more.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a second connection may take to be greeted before the node counts as one with a single place.
const SECOND_PLACE: Duration = Duration::from_secs(1);

/// The first wait before connecting again. Not shorter: a node cleans up after a lost connection by the module's name, and must
/// be done before we subscribe again under it.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// The longest wait before connecting again.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// A connection that lived so long was a good one: the waits begin anew.
const GOOD: Duration = Duration::from_secs(10);

type Frames = FrameReader<tokio::net::unix::OwnedReadHalf>;

/// How a connection ended.
enum End {
    Stopped,
    NotReached(String),
    OnlyPlace,
    Lost { reason: String, lived: Duration },
}

/// Keeps the conversation up until stopped.
pub(super) async fn run(shared: Arc<Shared>, mut inbox: Inbox) {
    let mut registrar = Registrar::new(&shared.options);
    let mut stop = shared.stop.subscribe();
    let mut wait = FIRST_WAIT;
    let mut told = false;
    loop {
        let end = one_connection(&shared, &mut inbox, &mut registrar, &mut stop, &mut told).await;
        let reason = match end {
            End::Stopped => return,
            End::OnlyPlace => {
                wait = LONGEST_WAIT;
                "the node serves one connection only and needs it for itself".to_owned()
            }
            End::NotReached(reason) => {
                count(&shared.counters.failed_attempts);
                reason
            }
            End::Lost { reason, lived } => {
                count(&shared.counters.disconnects);
                (wait, told) = (if lived >= GOOD { FIRST_WAIT } else { wait }, false);
                reason
            }
        };
        tell(&mut told, &mut inbox, reason);
        if pause(wait, &mut inbox, &mut stop).await {
            return;
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Tells that there is no connection, once.
fn tell(told: &mut bool, inbox: &mut Inbox, reason: String) {
    if !std::mem::replace(told, true) {
        tracing::info!(reason, "not connected to the node; trying again");
        inbox.state(Incoming::Disconnected { reason });
    }
}

/// Waits, while the module is still handed what came; `true` when stopped.
async fn pause(wait: Duration, inbox: &mut Inbox, stop: &mut watch::Receiver<bool>) -> bool {
    let over = tokio::time::sleep(wait);
    tokio::pin!(over);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return true,
            () = &mut over => return false,
            () = inbox.deliver() => {}
        }
    }
}

async fn one_connection(
    shared: &Shared,
    inbox: &mut Inbox,
    registrar: &mut Registrar,
    stop: &mut watch::Receiver<bool>,
    told: &mut bool,
) -> End {
    let greeted = tokio::select! {
        _ = stop.wait_for(|stop| *stop) => return End::Stopped,
        greeted = greeting(shared, inbox, told) => greeted,
    };
    let (frames, socket, node_version) = match greeted {
        Ok(connected) => connected,
        Err(reason) => return End::NotReached(reason),
    };
    if shared.options.leave_the_only_place {
        let second = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return End::Stopped,
            second = second_place(shared) => second,
        };
        if let Err(waiting) = second {
            // In this order: the place must be free before the second can be greeted, and greeted before it goes.
            drop((frames, socket));
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return End::Stopped,
                _greeted_or_refused = waiting => return End::OnlyPlace,
            }
        }
    }
    count(&shared.counters.connects);
    registrar.connected(&node_version);
    inbox.state(Incoming::Connected { node_version });

    let born = Instant::now();
    let (link, queues) = Link::new(shared.budget_size());
    let (finish, finished) = oneshot::channel();
    let mut writer = tokio::spawn(write_all(socket, queues, finished));
    shared.set_link(Some(link.clone()));
    let reason = tokio::select! {
        _ = stop.wait_for(|stop| *stop) => None,
        reason = read_all(shared, &link, frames, inbox, registrar) => Some(reason),
        written = &mut writer => Some(written_reason(written)),
    };
    shared.set_link(None);
    link.close(reason.as_deref().unwrap_or("the client was stopped"));
    shared.budget.all_counted();
    match reason {
        Some(reason) => {
            writer.abort();
            registrar.disconnected(shared, &reason);
            End::Lost {
                reason,
                lived: born.elapsed(),
            }
        }
        None => {
            let _ = finish.send(());
            let _ = writer.await;
            End::Stopped
        }
    }
}

fn written_reason(written: Result<std::io::Result<()>, tokio::task::JoinError>) -> String {
    match written {
        Ok(Ok(())) => "the writer ended".to_owned(),
        Ok(Err(error)) => format!("writing failed: {error}"),
        Err(error) => format!("the writer died: {error}"),
    }
}

/// A connection on which the node has greeted us, and the node's version.
type Greeted = (Frames, tokio::net::unix::OwnedWriteHalf, String);

/// Connects and waits to be greeted, however long that takes; tells when it takes long.
async fn greeting(shared: &Shared, inbox: &mut Inbox, told: &mut bool) -> Result<Greeted, String> {
    let greeting = connect(shared, shared.options.module_name.clone());
    tokio::pin!(greeting);
    let long = tokio::time::sleep(HANDSHAKE);
    tokio::pin!(long);
    loop {
        tokio::select! {
            greeted = &mut greeting => return greeted,
            () = inbox.deliver() => {}
            () = &mut long, if !*told => {
                let reason = format!("the node has not answered the handshake for {HANDSHAKE:?}; waiting for it");
                tell(told, inbox, reason);
            }
        }
    }
}

/// Whether the node greets a second connection beside the first. If not in time, that connection's further fate.
async fn second_place(
    shared: &Shared,
) -> Result<(), std::pin::Pin<Box<dyn Future<Output = Result<Greeted, String>> + Send + '_>>> {
    let mut second = Box::pin(connect(shared, format!("{}#probe", shared.options.module_name)));
    match tokio::time::timeout(SECOND_PLACE, &mut second).await {
        // What it is refused with does not matter: it was spoken to.
        Ok(_spoken_to) => Ok(()),
        Err(_) => Err(second),
    }
}

/// Connects and says who we are.
async fn connect(shared: &Shared, module_id: String) -> Result<Greeted, String> {
    use tokio::io::AsyncWriteExt;

    let options = &shared.options;
    let stream = UnixStream::connect(&options.socket_path)
        .await
        .map_err(|error| format!("cannot connect to {}: {error}", options.socket_path.display()))?;
    let (read, mut write) = stream.into_split();
    let mut frames = FrameReader::new(read);
    let id = shared.next_id();
    let handshake = Request::Handshake {
        module_id,
        module_name: options.module_name.clone(),
        version: options.version.clone(),
    };
    let frame = framed(&Message::Request(id, handshake)).ok_or("the module's name is too long")?;
    write
        .write_all(&frame)
        .await
        .map_err(|error| format!("cannot send the handshake: {error}"))?;
    let answer = frames
        .next()
        .await
        .map_err(|error| format!("no answer to the handshake: {error}"))?;
    match decode(&answer) {
        Ok(Decoded::Known(Message::Response(to, Ok(Response::HandshakeAck { node_version }))))
            if to == id =>
        {
            Ok((frames, write, node_version))
        }
        Ok(Decoded::Known(Message::Response(_, Err(reason)))) => {
            Err(format!("the node refuses us: {reason}"))
        }
        _ => Err("what answers at the socket is not a node: no acknowledgement of the handshake".to_owned()),
    }
}

/// Reads until the connection ends, registers beside it, and hands on what came; returns the reason of the end.
async fn read_all(
    shared: &Shared,
    link: &Arc<Link>,
    mut frames: Frames,
    inbox: &mut Inbox,
    registrar: &mut Registrar,
) -> String {
    let started = Notify::new();
    let registering = registrar.run(shared, link, &started);
    tokio::pin!(registering);
    let mut registered = false;
    loop {
        tokio::select! {
            () = inbox.deliver() => {}
            () = &mut registering, if !registered => registered = true,
            frame = frames.next() => match frame {
                Ok(frame) => on_frame(shared, link, inbox, &started, &frame),
                Err(error) => return error.to_string(),
            },
        }
    }
}

fn on_frame(shared: &Shared, link: &Link, inbox: &mut Inbox, started: &Notify, frame: &[u8]) {
    let counters = &shared.counters;
    // Before it is read: a list of empty texts takes several times its bytes, and any module can publish one.
    if frame.len() > MAX_EVENT && is_event(frame) {
        return count(&counters.events_too_long);
    }
    match decode(frame) {
        Ok(Decoded::Known(Message::Response(id, answer))) => on_answer(shared, link, id, Ok(answer)),
        Ok(Decoded::UnreadableResponse(id, error)) => {
            count(&counters.unreadable_answers);
            on_answer(shared, link, id, Err(error));
        }
        Ok(Decoded::Known(Message::Event(event))) => {
            if event.kind == EventKind::NodeStartupCompleted {
                started.notify_one();
            }
            if shared.options.subscriptions.contains(&event.kind) {
                inbox.event(event, frame.len());
            }
        }
        Ok(Decoded::Known(Message::Invocation(id, kind))) => {
            on_invocation(shared, link, inbox, id, kind, frame.len())
        }
        Ok(Decoded::UnreadableInvocation(id, error)) => refuse(shared, link, id, error.to_string()),
        Ok(Decoded::UnknownEvent(_)) => count(&counters.unknown_events),
        // Requests, log lines and results are what modules say, not nodes.
        Ok(Decoded::UnknownMessage(_) | Decoded::Known(_)) => count(&counters.unknown_messages),
        Err(error) => {
            count(&counters.unreadable_frames);
            tracing::debug!(%error, bytes = frame.len(), "a frame of the node cannot be read; skipped");
        }
    }
}

fn on_answer(shared: &Shared, link: &Link, id: CorrelationId, told: super::link::Told) {
    shared.budget.counted_up_to(id);
    if !link.answered(id, told) {
        count(&shared.counters.late_answers);
    }
}

fn on_invocation(
    shared: &Shared,
    link: &Link,
    inbox: &mut Inbox,
    id: CorrelationId,
    kind: InvocationKind,
    bytes: usize,
) {
    let place = link.invocations.clone().try_acquire_owned();
    let room = u32::try_from(bytes)
        .ok()
        .and_then(|bytes| link.invocation_bytes.clone().try_acquire_many_owned(bytes).ok());
    let (Ok(place), Some(room)) = (place, room) else {
        return refuse(
            shared,
            link,
            id,
            "the module has too many calls under way, try again".to_owned(),
        );
    };
    count(&shared.counters.invocations);
    let invocation = Invocation::new(kind, id, link.answers.clone(), place, room);
    inbox.invocation(Incoming::Invocation(invocation));
}

fn refuse(shared: &Shared, link: &Link, id: CorrelationId, reason: String) {
    count(&shared.counters.invocations_refused);
    // A node that does not read its refusals waits for its own deadline.
    let _ = link.refusals.try_send(answer_frame(id, Err(reason)));
}
