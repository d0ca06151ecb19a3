//! The HdrHistogram interval log of a run: the format that the HdrHistogram tools of every language read and plot.
//! <https://github.com/HdrHistogram/HdrHistogram>, `HistogramLogWriter`.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::interval_log::{
    IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};
use hdrhistogram::serialization::{V2DeflateSerializeError, V2DeflateSerializer};
use thiserror::Error;

use crate::latency::Recording;

/// Recorded values are nanoseconds; the log's own column of maxima is in milliseconds, as its readers expect.
const NANOSECONDS_PER_MILLISECOND: f64 = 1e6;

/// What was recorded in one stretch of time.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    /// When it began, since the log's start.
    pub start: Duration,
    /// How long it was.
    pub length: Duration,
    /// Which latency it holds, such as `delivery`; spaces and commas become `-`, as the format has no room for them.
    pub tag: Option<&'a str>,
    /// What was recorded.
    pub recording: &'a Recording,
}

/// The log could not be written.
#[derive(Debug, Error)]
pub enum HdrLogError {
    /// The file cannot be written.
    #[error("the HdrHistogram log could not be written: {0}")]
    Write(#[from] io::Error),
    /// A histogram cannot be encoded.
    #[error("a histogram could not be encoded: {0}")]
    Encode(V2DeflateSerializeError),
}

/// Writes a log that began at `started`, with a comment at its head such as the command line.
///
/// # Errors
///
/// The writer's, or that a histogram cannot be encoded.
pub fn write_hdr_log<'a, W: Write>(
    writer: &mut W,
    started: SystemTime,
    comment: &str,
    intervals: impl IntoIterator<Item = Interval<'a>>,
) -> Result<(), HdrLogError> {
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    for line in comment.lines() {
        builder.add_comment(line);
    }
    let mut log = builder
        .with_start_time(started)
        // Offsets count from the same moment.
        .with_base_time(started)
        .with_max_value_divisor(NANOSECONDS_PER_MILLISECOND)
        .begin_log_with(&mut *writer, &mut serializer)?;
    for interval in intervals {
        let tag = interval
            .tag
            .map(|tag| tag.replace(|found: char| found == ',' || found.is_whitespace(), "-"));
        log.write_histogram(
            interval.recording,
            interval.start,
            interval.length,
            tag.as_deref().and_then(Tag::new),
        )
        .map_err(|error| match error {
            IntervalLogWriterError::SerializeError(error) => HdrLogError::Encode(error),
            IntervalLogWriterError::IoError(error) => HdrLogError::Write(error),
        })?;
    }
    writer.flush()?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use base64::Engine as _;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::latency::{record, recording};

    #[test]
    fn the_log_reads_back() {
        let mut first = recording();
        (1..=1_000).for_each(|microseconds| record(&mut first, microseconds * 1_000));
        let mut second = recording();
        record(&mut second, 5_000_000);
        let of = |second: u64, tag, recording| Interval {
            start: Duration::from_secs(second),
            length: Duration::from_secs(1),
            tag,
            recording,
        };
        let intervals = [of(0, Some("last receiver"), &first), of(1, None, &second)];
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let mut log = Vec::new();
        write_hdr_log(
            &mut log,
            started,
            "shardcast-bench rooms\nsecond line",
            intervals,
        )
        .unwrap();

        assert!(log.starts_with(b"#shardcast-bench rooms\n#second line\n"));
        let entries: Vec<LogEntry<'_>> = IntervalLogIterator::new(&log)
            .collect::<Result<_, _>>()
            .unwrap();
        let mut read = Vec::new();
        let mut began = None;
        for entry in entries {
            match entry {
                LogEntry::StartTime(time) => began = Some(time),
                LogEntry::BaseTime(time) => assert_eq!(Some(time), began),
                LogEntry::Interval(interval) => read.push(interval),
            }
        }
        assert_eq!(began, Some(Duration::from_secs(1_767_225_600)));
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].tag().unwrap().as_str(), "last-receiver");
        assert!(read[1].tag().is_none());
        assert_eq!(read[1].start_timestamp(), Duration::from_secs(1));
        assert_eq!(read[1].duration(), Duration::from_secs(1));
        assert!((read[1].max() - 5.0).abs() < 0.01);

        let bytes = base64::engine::general_purpose::STANDARD
            .decode(read[0].encoded_histogram())
            .unwrap();
        let decoded: Recording = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .unwrap();
        assert_eq!(decoded.len(), 1_000);
        assert_eq!(
            decoded.value_at_quantile(0.99),
            first.value_at_quantile(0.99)
        );
    }

    #[test]
    fn a_writer_that_fails_is_an_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let found = write_hdr_log(&mut Full, SystemTime::UNIX_EPOCH, "comment", []);
        assert!(matches!(found, Err(HdrLogError::Write(_))));
    }
}
