//! Rooms whose publishers send at a steady rate.

use super::RoomOptions;
use crate::options::Common;
use crate::run::{Finished, Run, RunError};

/// Runs it.
///
/// # Errors
/// The run could not be made.
pub fn run(common: &Common, options: &RoomOptions) -> Result<Finished, RunError> {
    let mut run = Run::start("rooms", common, options.connections.into(), options.facts())?;
    let group = options.group(&run, "rooms")?;
    let group = super::open_steady(&mut run, group, false)?;
    let measured = run.measure(group, options.load(common), "measuring", |_| Ok(()))?;
    run.report(measured, "");
    run.fail_on_lost();
    Ok(run.finish())
}
