//! Where a shard runs: a glommio executor pinned to one core.
//!
//! The executor's own rings carry no socket: they are where the files of a durable log find their place. The shard's one task never gives the
//! core back. It sleeps in its own ring, where everything that it waits for arrives: completions, wakes of other shards and
//! of ordinary threads, its deadline. To be woken through the executor instead would cost two system calls and a detour through three
//! more rings a sleep (ARCHITECTURE.md has the measurement).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};

use crate::app::App;
use crate::driver::Driver;
use crate::error::FatalError;
use crate::ring::RingDriver;
use crate::shard::{Progress, Shard};

/// Memory that the executor registers for its own files, in bytes.
const IO_MEMORY_BYTES: usize = 64 << 10;

/// Entries of the executor's own rings.
const RING_DEPTH: usize = 64;

/// After how long the executor takes a task queue off the core: in effect never, as a shard has it to itself.
///
/// It is no matter of taste. glommio 0.9 goes to sleep over a task that is ready to run when this timer has expired before it has run
/// the first one (`LocalExecutor::run_task_queues` then answers that nothing ran). Its default is 100 ms, which a thread that
/// waits for its core can easily exceed at that point: on a machine with more shards than cores, some would never begin.
/// The correction is <https://github.com/glommio/glommio/pull/53>; no second task may come to this executor before it is released.
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
        until_stopped(&mut shard)
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

fn until_stopped<A: App>(shard: &mut Shard<RingDriver, A>) -> Result<(), FatalError> {
    let spin_us_max = shard.spin_us_max();
    let mut idle_since_us = None;
    loop {
        match tick(shard)? {
            Progress::Stopped => return Ok(()),
            Progress::Busy => idle_since_us = None,
            Progress::Idle { until_us } => {
                let now_us = shard.driver().clock().monotonic_us;
                let idle_us = now_us - *idle_since_us.get_or_insert(now_us);
                if idle_us < spin_us_max {
                    std::hint::spin_loop();
                    continue;
                }
                idle_since_us = None;
                if shard.fall_asleep(until_us)? {
                    shard.sleep(|driver, completions| driver.wait(completions, None))?;
                }
                shard.awake();
            }
        }
    }
}
