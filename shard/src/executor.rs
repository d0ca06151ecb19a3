//! Where a shard runs: a glommio executor pinned to one core.
//!
//! The executor's own ring carries no socket. It only waits for the eventfd of the shard's ring,
//! which the kernel signals when a completion is ready, and it is where timers and the files of a
//! durable log find their place.

use std::any::Any;
use std::io::ErrorKind;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use glommio::io::BufferedFile;
use glommio::{LocalExecutorBuilder, Placement};

use crate::app::App;
use crate::error::FatalError;
use crate::ring::RingDriver;
use crate::shard::{Progress, Shard};

/// Memory that the executor registers for its own files, in bytes. It reads 8 at a time from an eventfd.
const IO_MEMORY_BYTES: usize = 64 << 10;

/// Entries of the executor's own rings.
const RING_DEPTH: usize = 64;

/// After how long the executor takes a task queue off the core: in effect never, as a shard has it to itself.
///
/// It is no matter of taste. glommio 0.9 goes to sleep over a task that is ready to run when this timer has expired before it has run
/// the first one (`LocalExecutor::run_task_queues` then answers that nothing ran). Its default is 100 ms, which a thread that
/// waits for its core can easily exceed at that point: on a machine with more shards than cores, one after the other fell asleep for
/// good, and with them all who had mail for them.
///
/// The same happens on any other completion in glommio's latency ring at that point: a wake from another thread (its blocking pool,
/// its channels between executors), a socket of its own, or [`RING_DEPTH`] completions of files between two looks at them. A shard causes none of
/// these, and none may come to its executor before it has the correction, <https://github.com/glommio/glommio/pull/53>.
const PREEMPTION: Duration = Duration::from_secs(24 * 3600);

/// Runs a shard on the calling thread, pinned to `core`, until it is told to stop. `make` is called on the thread, because a ring belongs
/// to the thread that made it; `started` is called after the first pass, when the shard accepts.
///
/// # Errors
/// The executor or the ring could not be set up, the ring failed, or the shard panicked. Its connections are gone.
pub fn run<A: App>(
    core: usize,
    make: impl FnOnce() -> Result<Shard<RingDriver, A>, FatalError>,
    started: impl FnOnce(),
) -> Result<(), FatalError> {
    caught(|| run_on(core, make, started))
}

fn run_on<A: App>(
    core: usize,
    make: impl FnOnce() -> Result<Shard<RingDriver, A>, FatalError>,
    started: impl FnOnce(),
) -> Result<(), FatalError> {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core))
        .name(&format!("core-{core}"))
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPTION)
        .make()
        .map_err(|error| FatalError::Executor {
            core,
            message: error.to_string(),
        })?;
    executor.run(async move {
        let mut shard = caught(make)?;
        tick(&mut shard)?;
        started();
        drive(&mut shard, core).await
    })
}

/// One pass. A panic in it is the shard's end, not the process's.
fn tick<A: App>(shard: &mut Shard<RingDriver, A>) -> Result<Progress, FatalError> {
    caught(|| shard.tick())
}

/// A panic as an error: whoever waits for the shard hears of each of its ends.
fn caught<T>(call: impl FnOnce() -> Result<T, FatalError>) -> Result<T, FatalError> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(FatalError::Panic(panic_message(&*panic))))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

async fn drive<A: App>(shard: &mut Shard<RingDriver, A>, core: usize) -> Result<(), FatalError> {
    let bell = bell(shard.driver().eventfd()).map_err(|source| FatalError::RingSetup {
        step: "sharing the eventfd with the executor",
        source,
        remedy: "Raise the limit of open files (ulimit -n).".to_owned(),
    })?;
    let result = until_stopped(shard, &bell, core).await;
    // The descriptor is given back by the executor; there is nothing to do about a failure.
    let _: Result<(), glommio::GlommioError<()>> = bell.close().await;
    result
}

async fn until_stopped<A: App>(
    shard: &mut Shard<RingDriver, A>,
    bell: &BufferedFile,
    core: usize,
) -> Result<(), FatalError> {
    loop {
        match tick(shard)? {
            Progress::Stopped => return Ok(()),
            // The executor has no other task that would need a turn.
            Progress::Busy => {}
            Progress::Idle { until_us } => {
                if shard.fall_asleep(until_us)? {
                    wait(bell, core).await?;
                }
                shard.awake();
            }
        }
    }
}

/// Waits until the eventfd is signalled, and takes the signal.
async fn wait(bell: &BufferedFile, core: usize) -> Result<(), FatalError> {
    match bell.read_at(0, 8).await {
        Ok(_) => Ok(()),
        Err(
            glommio::GlommioError::IoError(error)
            | glommio::GlommioError::EnhancedIoError { source: error, .. },
        ) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => Ok(()),
        Err(error) => Err(FatalError::Executor {
            core,
            message: format!("waiting for the ring: {error}"),
        }),
    }
}

/// The eventfd as a file that the executor can wait for. The executor closes it, so it is given a descriptor of its own.
#[expect(
    unsafe_code,
    reason = "glommio takes a foreign descriptor only this way"
)]
fn bell(eventfd: BorrowedFd<'_>) -> std::io::Result<BufferedFile> {
    let own = eventfd.try_clone_to_owned()?;
    // SAFETY: the descriptor is open, and its ownership is given away here.
    Ok(unsafe { BufferedFile::from_raw_fd(own.into_raw_fd()) })
}
