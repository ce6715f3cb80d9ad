//! A frame's contents: one message, either way.

use crate::codec::{DecodeError, Reader, Wire};
use crate::event::{Event, EventPayload};
use crate::event_kind::EventKind;
use crate::info::LogLine;
use crate::invocation::{InvocationAnswer, InvocationKind};
use crate::request::Request;
use crate::response::Response;

/// Which request an answer belongs to. Whoever asks chooses it.
pub type CorrelationId = u64;

/// A message of the protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Module to node.
    Request(CorrelationId, Request),
    /// Node to module: the answer, or the node's words for why there is none.
    Response(CorrelationId, Result<Response, String>),
    /// Node to module.
    Event(Event),
    /// Module to node.
    Log(LogLine),
    /// Node to module.
    Invocation(CorrelationId, InvocationKind),
    /// Module to node: the answer, or why there is none.
    InvocationResult(CorrelationId, Result<InvocationAnswer, String>),
}

const REQUEST: u32 = 0;
const RESPONSE: u32 = 1;
const EVENT: u32 = 2;

/// Whether a frame says that it is an event; the rest is not looked at.
pub(crate) fn is_event(frame: &[u8]) -> bool {
    frame
        .first_chunk()
        .is_some_and(|head| u32::from_le_bytes(*head) == EVENT)
}
const LOG: u32 = 3;
const INVOCATION: u32 = 4;
const INVOCATION_RESULT: u32 = 5;

/// What a frame turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// A message.
    Known(Message),
    /// A message of a kind that only a newer node knows.
    UnknownMessage(u32),
    /// An event of a kind that only a newer node knows.
    UnknownEvent(u32),
    /// An answer that we cannot read, to a request that must be told so.
    UnreadableResponse(CorrelationId, DecodeError),
    /// A call that we cannot read, whose caller must be told so.
    UnreadableInvocation(CorrelationId, DecodeError),
}

/// Writes a message, without the frame's length.
pub fn encode(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    put(message, &mut out);
    out
}

/// Appends a message.
pub(crate) fn put(message: &Message, out: &mut Vec<u8>) {
    match message {
        Message::Request(id, request) => {
            put_head(REQUEST, *id, out);
            request.put_typed(out);
        }
        Message::Response(id, answer) => {
            put_head(RESPONSE, *id, out);
            put_answer(answer, out);
        }
        Message::Event(event) => {
            EVENT.put(out);
            event.kind.put(out);
            if let Some(payload) = &event.payload {
                payload.put(out);
            }
        }
        Message::Log(line) => {
            LOG.put(out);
            line.put(out);
        }
        Message::Invocation(id, kind) => {
            put_head(INVOCATION, *id, out);
            kind.put(out);
        }
        Message::InvocationResult(id, answer) => {
            put_head(INVOCATION_RESULT, *id, out);
            put_answer(answer, out);
        }
    }
}

/// Reads what a frame holds. Bytes after the message are left alone: a newer node may append fields.
///
/// # Errors
/// [`DecodeError`] for bytes that are no message and that nobody waits for.
pub fn decode(frame: &[u8]) -> Result<Decoded, DecodeError> {
    let mut input = Reader::new(frame);
    let message = match u32::take(&mut input)? {
        REQUEST => {
            let id = u64::take(&mut input)?;
            Message::Request(id, Request::take_typed(&mut input)?)
        }
        RESPONSE => {
            let id = u64::take(&mut input)?;
            match take_answer(&mut input) {
                Ok(answer) => Message::Response(id, answer),
                Err(error) => return Ok(Decoded::UnreadableResponse(id, error)),
            }
        }
        EVENT => match take_event(&mut input)? {
            Ok(event) => Message::Event(event),
            Err(number) => return Ok(Decoded::UnknownEvent(number)),
        },
        LOG => Message::Log(LogLine::take(&mut input)?),
        INVOCATION => {
            let id = u64::take(&mut input)?;
            match InvocationKind::take(&mut input) {
                Ok(kind) => Message::Invocation(id, kind),
                Err(error) => return Ok(Decoded::UnreadableInvocation(id, error)),
            }
        }
        INVOCATION_RESULT => {
            let id = u64::take(&mut input)?;
            Message::InvocationResult(id, take_answer(&mut input)?)
        }
        number => return Ok(Decoded::UnknownMessage(number)),
    };
    Ok(Decoded::Known(message))
}

fn put_head(message: u32, id: CorrelationId, out: &mut Vec<u8>) {
    message.put(out);
    id.put(out);
}

/// Answers of both directions have one shape: success, contents, error.
fn put_answer<T: Wire>(answer: &Result<T, String>, out: &mut Vec<u8>) {
    const NONE: u8 = 0;
    const SOME: u8 = 1;
    answer.is_ok().put(out);
    match answer {
        Ok(contents) => {
            SOME.put(out);
            contents.put(out);
            NONE.put(out);
        }
        Err(error) => {
            NONE.put(out);
            SOME.put(out);
            error.put(out);
        }
    }
}

fn take_answer<T: Wire>(input: &mut Reader<'_>) -> Result<Result<T, String>, DecodeError> {
    let success = bool::take(input)?;
    let contents = <Option<T> as Wire>::take(input)?;
    let error = <Option<String> as Wire>::take(input)?;
    Ok(match contents {
        Some(contents) if success => Ok(contents),
        None if success => Err("success without contents".to_owned()),
        _ => Err(error.unwrap_or_else(|| "a failure without a reason".to_owned())),
    })
}

/// The event; or the number of its kind, when that is unknown.
fn take_event(input: &mut Reader<'_>) -> Result<Result<Event, u32>, DecodeError> {
    let number = u32::take(input)?;
    let Some(kind) = EventKind::from_number(number) else {
        return Ok(Err(number));
    };
    let payload = match EventPayload::take(input) {
        Ok(payload) if payload.kind() == kind => Some(payload),
        Ok(payload) => {
            return Err(DecodeError::WrongPayload {
                kind: number,
                payload: payload.kind().number(),
            });
        }
        Err(DecodeError::UnknownNumber { .. }) if !EventPayload::KINDS.contains(&kind) => None,
        Err(error) => return Err(error),
    };
    Ok(Ok(Event { kind, payload }))
}
