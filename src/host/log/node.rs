//! What the node shall see of our log, through its own.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::handle::lock;

/// Lines that the node is told in a second; all of them are in the file.
const LINES_PER_SECOND: u32 = 20;

/// Longest line that the node is told, in bytes.
const MAX_LINE_BYTES: usize = 1024;

/// Takes a line, and never waits.
type Tell = Box<dyn Fn(Level, &str, &str) + Send + Sync>;

/// Lines of level INFO and above, to whomever [`NodeLog::tell_through`] names.
#[derive(Clone, Default)]
pub(in crate::host) struct NodeLog {
    tell: Arc<OnceLock<Tell>>,
    said: Arc<Mutex<Said>>,
}

/// What was said in the current second.
#[derive(Default)]
struct Said {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Said {
    /// Whether one more line may be said now, and how many were left out since the last.
    fn another(&mut self, now: Instant) -> Option<u64> {
        let of_this_second = |since: &Instant| now.duration_since(*since) < Duration::from_secs(1);
        if !self.since.as_ref().is_some_and(of_this_second) {
            self.since = Some(now);
            self.lines = 0;
        }
        if self.lines == LINES_PER_SECOND {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl NodeLog {
    /// From now on lines go this way; the first one named is kept.
    pub(in crate::host) fn tell_through(&self, tell: impl Fn(Level, &str, &str) + Send + Sync + 'static) {
        // Named twice is named once: the client lives as long as the process.
        let _ = self.tell.set(Box::new(tell));
    }
}

impl<S: Subscriber> Layer<S> for NodeLog {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let about = event.metadata();
        // What the client says of the conversation with the node would go round in circles.
        if *about.level() > Level::INFO || about.target().starts_with("node_ipc") {
            return;
        }
        let Some(tell) = self.tell.get() else { return };
        let Some(left_out) = lock(&self.said).another(Instant::now()) else {
            return;
        };
        let mut line = Line::default();
        event.record(&mut line);
        if left_out > 0 {
            line.add(format_args!(
                " ({left_out} lines before this are only in the module's own log)"
            ));
        }
        tell(*about.level(), about.target(), &line.0);
    }
}

/// The message and then the fields, as far as they fit.
#[derive(Default)]
struct Line(String);

impl Line {
    fn add(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a text does not fail.
        let _ = self.0.write_fmt(text);
        if self.0.len() > MAX_LINE_BYTES {
            let end = (0..=MAX_LINE_BYTES)
                .rev()
                .find(|end| self.0.is_char_boundary(*end));
            self.0.truncate(end.unwrap_or_default());
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => {
                let fields = std::mem::take(&mut self.0);
                self.add(format_args!("{value:?}{fields}"));
            }
            name => self.add(format_args!(" {name}={value:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    fn heard(speak: impl FnOnce()) -> Vec<(Level, String)> {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = NodeLog::default();
        let ear = heard.clone();
        log.tell_through(move |level, _, line| ear.lock().unwrap().push((level, line.to_owned())));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log), speak);
        let heard = heard.lock().unwrap();
        heard.clone()
    }

    #[test]
    fn the_node_is_told_information_and_above_with_its_fields() {
        let heard = heard(|| {
            tracing::debug!("not this");
            tracing::info!(peers = 3, name = %"x", "links are up");
            tracing::error!("broken");
            tracing::error!(target: "node_ipc::client", "in circles");
        });
        let wanted = [
            (Level::INFO, "links are up peers=3 name=x".to_owned()),
            (Level::ERROR, "broken".to_owned()),
        ];
        assert_eq!(heard, wanted);
    }

    #[test]
    fn a_flood_is_cut_and_what_was_left_out_is_counted() {
        let start = Instant::now();
        let mut said = Said::default();
        let told = (0..100).filter(|_| said.another(start).is_some()).count();
        assert_eq!(told, LINES_PER_SECOND as usize);
        assert_eq!(said.another(start + Duration::from_secs(1)), Some(80));
        assert_eq!(said.another(start + Duration::from_secs(1)), Some(0));
    }

    #[test]
    fn an_endless_line_is_cut_between_characters() {
        let heard = heard(|| tracing::info!("{}", "é".repeat(5000)));
        assert_eq!(heard[0].1.len(), MAX_LINE_BYTES);
    }

    #[test]
    fn before_the_node_is_there_nothing_is_told_and_nothing_waits() {
        let log = NodeLog::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log), || {
            tracing::info!("unheard");
        });
    }
}
