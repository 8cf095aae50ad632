//! The delivery to an output stream.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use bridge_core::outbound::{self, Tally};
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Sink, SinkError, SinkErrorKind};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::config::{ConsoleConfig, Format};
use crate::encode::Encoder;
use crate::error;
use crate::style::Style;

/// Prints records to the standard output, or to any writer.
///
/// A batch is written at once and flushed before it counts as delivered. A terminal or a pipe does not report what its
/// reader has stored, so delivered means written. If the reader of a pipe has ended, the sink halts
/// ([`SinkErrorKind::Ended`]).
pub struct ConsoleSink {
    output: Arc<Mutex<Box<dyn Write + Send>>>,
    encoder: Encoder,
}

impl ConsoleSink {
    /// Prints to the standard output of this process.
    pub fn new(config: &ConsoleConfig) -> ConsoleSink {
        let style = Style::for_stdout(config.color);
        ConsoleSink::with_writer(config.format, style, Box::new(std::io::stdout()))
    }

    /// Prints elsewhere.
    pub fn with_writer(format: Format, style: Style, output: Box<dyn Write + Send>) -> ConsoleSink {
        ConsoleSink {
            output: Arc::new(Mutex::new(output)),
            encoder: Encoder { format, style },
        }
    }

    /// A reader that does not read blocks a write, so it is done off the runtime's threads.
    async fn print(&self, records: Vec<Arc<Record>>) -> Result<Tally, SinkError> {
        let output = Arc::clone(&self.output);
        let encoder = self.encoder;
        let printed = tokio::task::spawn_blocking(move || {
            let (text, tally) = outbound::lines(&encoder, &records);
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            let written = output.write_all(&text).and_then(|()| output.flush());
            written.map(|()| tally)
        });
        match printed.await {
            Ok(result) => result.map_err(error::of_write),
            Err(ended) => {
                Err(SinkError::new(SinkErrorKind::Broken, "the thread that prints ended").because(ended))
            }
        }
    }
}

impl Sink for ConsoleSink {
    /// There is nothing to prove: a closed output shows with the first write.
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        async move {
            match self.print(batch.records.clone()).await {
                Ok(tally) => tally.ended(),
                Err(error) => Err(DeliverError::after(0, error)),
            }
        }
        .boxed()
    }

    /// Every batch was flushed.
    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }
}
